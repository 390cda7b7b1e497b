"""Actions on a workload: scale, roll back, suspend, resume, delete. A dialog explains each one before it runs.

Unavailable actions are offered too, with the reason: a read-only server, a missing permission, or an unsupported kind of
object. The API server has the final say; these checks only avoid requests that it would reject.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import REVISION, Kind, kind_of
from ebbtide.cluster.write import revisions
from ebbtide.cluster.write.apply import SCALED
from ebbtide.cluster.write.removal import removal
from ebbtide.web.errors import PageError, told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.responses import Response

    from ebbtide.cluster.read.inventory import Live
    from ebbtide.web.frame import Visit


@dataclass(frozen=True, slots=True)
class Offer:
    """One action, and the reason why it is unavailable; empty if it is available."""

    name: str
    label: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """One action: its label, the verb and kind that need permission, its preconditions, and its effect.

    ``show`` returns the context of its dialog; ``do`` performs it.
    """

    label: str
    verb: str
    kind: Callable[[Live], Kind]
    why_not: Callable[[Live], str]
    show: Callable[[Visit, Live], dict[str, Any]]
    do: Callable[[Visit, Live], object]


FIELDS: Final = {"minReplicas": "min", "maxReplicas": "max", "metricThreshold": "target"}
#: Nine digits, more than any replica count or target needs.
WHOLE: Final = re.compile(r"[0-9]{1,9}")
FRACTION: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


def _top(live: Live) -> Kind:
    return kind_of(live.top)


def _ref(live: Live) -> tuple[str, str]:
    return live.namespace, live.name


def _no_stop(live: Live) -> str:
    return revisions.no_stop(live.top)


def offers(visit: Visit, live: Live) -> list[Offer]:
    """Return the actions for a workload, each with the reason if it is unavailable."""
    stopped = at(live.top, "metadata", "annotations", keys.STOP) == "true"
    hidden = "suspend" if stopped else "resume"
    return [
        Offer(name, action.label, against(visit, live, action)) for name, action in ACTIONS.items() if name != hidden
    ]


def against(visit: Visit, live: Live, action: Action) -> str:
    """Return why an action is unavailable, or an empty string."""
    if visit.backend.read_only:
        return "this server is read-only"
    if "deletionTimestamp" in live.top["metadata"]:
        return f"{live.name} is already being deleted"
    kind = action.kind(live)
    if not visit.backend.allowed(visit.user, action.verb, kind, live.namespace):
        return f"your account is not allowed to {action.verb} {kind.plural} in {live.namespace}"
    return action.why_not(live)


# Scale.


def _scale_form(_visit: Visit, live: Live) -> dict[str, Any]:
    newest = live.revisions[-1] if live.revisions else None
    annotations = at(newest, "metadata", "annotations", default={})
    return {
        "current": {name: str(annotations.get(SCALED[field], "")) for field, name in FIELDS.items()},
        "revisions": revisions.scaled(live),
    }


def given(form: Mapping[str, str], current: Mapping[str, str]) -> dict[str, float]:
    """Return the scale fields that a form changes.

    Raises:
        PageError: a field is not a valid number.

    """
    changes: dict[str, float] = {}
    for field, name in FIELDS.items():
        text = form.get(name, "").strip()
        if not text or text == current[name]:
            continue
        pattern = FRACTION if name == "target" else WHOLE
        if pattern.fullmatch(text) is None:
            valid = "a number" if name == "target" else "a whole number"
            message = f"Invalid {field} “{text[:40]}”: must be {valid} of at most nine digits."
            raise PageError(422, f"Invalid {field}", message)
        changes[field] = float(text)
    return changes


def _scale(visit: Visit, live: Live) -> None:
    if visit.form.get("reset"):
        visit.backend.scale(visit.user, *_ref(live))
        return
    values = given(visit.form, _scale_form(visit, live)["current"])
    if not values:
        raise PageError(422, "Nothing to change", "These values are already set.")
    visit.backend.scale(visit.user, *_ref(live), values)


# The other actions.


def _rollback_form(visit: Visit, live: Live) -> dict[str, Any]:
    revision = visit.query("to") or visit.form.get("to", "") or None
    why = revisions.no_rollback(live, revision)
    return {
        "target": "" if why else revisions.rollback_target(live, revision),
        "serving": revisions.serving(live),
        "why": why,
    }


def _delete_form(visit: Visit, live: Live) -> dict[str, Any]:
    planned = removal(visit.backend.as_caller(visit.user), live.name, live.namespace, data=False)
    return {"items": [_named(obj) for obj in planned.items], "claims": [_named(obj) for obj in planned.kept]}


def _named(obj: dict[str, Any]) -> str:
    return f"{obj['kind']} {obj['metadata']['name']}"


def _delete(visit: Visit, live: Live) -> None:
    if visit.form.get("typed", "").strip() != live.name:
        raise PageError(422, "The name does not match", f"Type {live.name} to confirm.")
    visit.backend.delete(visit.user, *_ref(live), data=bool(visit.form.get("data")))


ACTIONS: Final[dict[str, Action]] = {
    "scale": Action(
        "Scale", "patch", lambda _live: REVISION, lambda live: revisions.no_scale(live, {}), _scale_form, _scale
    ),
    "rollback": Action(
        "Roll back",
        "patch",
        _top,
        lambda live: revisions.no_rollback(live, None),
        _rollback_form,
        lambda visit, live: visit.backend.rollback(visit.user, *_ref(live), visit.form.get("to") or None),
    ),
    "suspend": Action(
        "Suspend",
        "patch",
        _top,
        _no_stop,
        lambda *_: {},
        lambda visit, live: visit.backend.suspend(visit.user, *_ref(live)),
    ),
    "resume": Action(
        "Resume",
        "patch",
        _top,
        _no_stop,
        lambda *_: {},
        lambda visit, live: visit.backend.resume(visit.user, *_ref(live)),
    ),
    "delete": Action("Delete", "delete", _top, lambda _live: "", _delete_form, _delete),
}


def _asked(visit: Visit) -> tuple[str, Action, Live]:
    name = visit.path_parameter("action")
    action = ACTIONS.get(name)
    if action is None:
        raise PageError(404, "Page not found", "Check the address for typing errors.")
    return (
        name,
        action,
        visit.backend.workload(visit.user, visit.path_parameter("namespace"), visit.path_parameter("name")).value,
    )


def ask(visit: Visit) -> Response:
    """Show the dialog of an action."""
    name, action, live = _asked(visit)
    return _shown(visit, name, action, live)


def _shown(visit: Visit, name: str, action: Action, live: Live, message: str = "", status: int = 200) -> Response:
    why = against(visit, live, action)
    context = action.show(visit, live) if name != "rollback" or not why else {"target": "", "serving": [], "why": why}
    return visit.render(
        "comp_action.html" if visit.is_partial else "page_action.html",
        status,
        page="workloads",
        action=name,
        label=action.label,
        live=live,
        why_not=why or context.pop("why", ""),
        message=message,
        values=visit.form,
        **{key: value for key, value in context.items() if key != "why"},
    )


def do(visit: Visit) -> Response:
    """Perform an action; on an error, show the dialog again with the reason."""
    name, action, live = _asked(visit)
    if why := against(visit, live, action):
        return _shown(visit, name, action, live, why, 422)
    if name == "scale" and not visit.form.get("confirm") and not visit.form.get("reset"):
        return _review(visit, action, live)
    try:
        action.do(visit, live)
    except Exception as error:
        page = told(error)
        if page.status in {401, 500}:
            raise
        return _shown(visit, name, action, live, page.text, 422)
    if name == "delete":
        return visit.redirect("/workloads?told=deleted")
    outcome = "reset" if name == "scale" and visit.form.get("reset") else name
    return visit.redirect(f"{visit.request.url.path.rpartition('/do/')[0]}?told={outcome}")


def _review(visit: Visit, action: Action, live: Live) -> Response:
    """Show the changes of a scale before they are applied."""
    form = _scale_form(visit, live)
    try:
        values = given(visit.form, form["current"])
    except PageError as error:
        return _shown(visit, "scale", action, live, error.text, 422)
    message = revisions.no_scale(live, values) if values else "These values are already set."
    if message:
        return _shown(visit, "scale", action, live, message, 422)
    changes = [(field, form["current"][FIELDS[field]] or "none", f"{value:g}") for field, value in values.items()]
    return visit.render(
        "comp_review.html" if visit.is_partial else "page_review.html",
        page="workloads",
        live=live,
        changes=changes,
        values={FIELDS[field]: f"{value:g}" for field, value in values.items()},
        revisions=form["revisions"],
    )
