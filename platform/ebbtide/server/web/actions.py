"""Actions on a workload: scale, roll back, suspend, resume, delete, and those on its canary. A dialog explains each one before it runs.

Unavailable actions are offered too, with the reason: a read-only server, a missing permission, or an unsupported kind of
object. The API server has the final say; these checks only avoid requests that it would reject.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response

from ebbtide.cluster.client.protocol import LLM, REVISION, Kind, kind_of
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.records import SCALED, scaled_revisions, serving_revisions
from ebbtide.cluster.write import revisions
from ebbtide.cluster.write.removal import plan_removal
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.server.web import canary
from ebbtide.server.web.errors import PageError, make_missing_page_error, make_page_error
from ebbtide.server.web.frame import PageVisit


@dataclass(frozen=True, slots=True)
class ActionOffer:
    """One action, and the reason why it is unavailable; empty if it is available."""

    name: str
    label: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """One action: its label, the verb and kind that need permission, its preconditions, and its effect.

    ``show`` returns the context of the dialog of an available action; ``do`` performs it.
    """

    label: str
    do: Callable[[PageVisit, LiveWorkload], object]
    why_not: Callable[[PageVisit, LiveWorkload], str] = lambda *_: ""
    show: Callable[[PageVisit, LiveWorkload], dict[str, Any]] = lambda *_: {}
    verb: str = "patch"
    kind: Callable[[LiveWorkload], Kind] = lambda live: kind_of(live.top)
    #: True for an action on a canary, which is offered with its revisions.
    canary: bool = False


FIELDS: Final = {"minReplicas": "min", "maxReplicas": "max", "metricThreshold": "target"}
#: Nine digits, more than any replica count or target needs.
WHOLE: Final = re.compile(r"[0-9]{1,9}")
FRACTION: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


def _no_stop(_visit: PageVisit, live: LiveWorkload) -> str:
    return revisions.explain_no_suspend(live.top)


def list_offers(visit: PageVisit, live: LiveWorkload, *, of_canary: bool = False) -> list[ActionOffer]:
    """Return the actions for a workload, or for its canary, each with the reason if it is unavailable.

    Actions that a workload of this kind never has are not among them.
    """
    stopped = get_at(live.top, "metadata", "annotations", keys.STOP) == "true"
    hidden = {"suspend" if stopped else "resume"}
    if revisions.explain_no_suspend(live.top):
        hidden |= {"suspend", "resume"}
    if live.top["kind"] == LLM.name:
        hidden |= {"scale", "rollback"}
    return [
        ActionOffer(name, action.label, _explain_unavailable(visit, live, action))
        for name, action in ACTIONS.items()
        if name not in hidden and action.canary == of_canary
    ]


def _explain_unavailable(visit: PageVisit, live: LiveWorkload, action: Action) -> str:
    """Return why an action is unavailable, or an empty string."""
    if visit.backend.read_only:
        return "this server is read-only"
    if "deletionTimestamp" in live.top["metadata"]:
        return f"{live.name} is already being deleted"
    kind = action.kind(live)
    if not visit.backend.allowed(visit.user, action.verb, kind, live.namespace):
        return f"your account is not allowed to {action.verb} {kind.plural} in {live.namespace}"
    return action.why_not(visit, live)


# Scale.


def _scale_form(_visit: PageVisit, live: LiveWorkload) -> dict[str, Any]:
    newest = live.revisions[-1] if live.revisions else None
    annotations = get_at(newest, "metadata", "annotations", default={})
    return {
        "current": {name: str(annotations.get(SCALED[field], "")) for field, name in FIELDS.items()},
        "revisions": scaled_revisions(live),
    }


def parse_scale(form: Mapping[str, str], current: Mapping[str, str]) -> dict[str, float]:
    """Return the scale fields that a form changes.

    Raises:
        PageError: a field is not a valid number, or none is changed.
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
    if not changes:
        raise PageError(422, "Nothing to change", "These values are already set.")
    return changes


def _apply_scale(visit: PageVisit, live: LiveWorkload) -> None:
    if visit.form.get("reset"):
        visit.backend.writes.scale(visit.user, *visit.place)
        return
    values = parse_scale(visit.form, _scale_form(visit, live)["current"])
    visit.backend.writes.scale(visit.user, *visit.place, values)


# The other actions.


def _rollback_revision(visit: PageVisit) -> str | None:
    """Return the revision that a request names, or None for the previous one."""
    return visit.query("to") or visit.form.get("to", "") or None


def _rollback_form(visit: PageVisit, live: LiveWorkload) -> dict[str, Any]:
    target = revisions.find_rollback_target(live, _rollback_revision(visit))
    newest = str(get_at(live.service, "status", "latestCreatedRevisionName", default=""))
    states = {row.name: row.words for row in visit.read_status().revisions}
    return {"target": target, "serving": serving_revisions(live), "newest": newest, "state": states.get(newest, "")}


def _delete_form(visit: PageVisit, live: LiveWorkload) -> dict[str, Any]:
    planned = plan_removal(visit.backend.as_caller(visit.user), live.name, live.namespace, data=False)
    return {
        "items": [_format_object(obj) for obj in planned.items],
        "claims": [_format_object(obj) for obj in planned.kept_claims],
    }


def _format_object(obj: dict[str, Any]) -> str:
    kind = "Knative Service" if obj["apiVersion"].startswith("serving.knative.dev/") else obj["kind"]
    return f"{kind} {obj['metadata']['name']}"


def _delete_workload(visit: PageVisit, live: LiveWorkload) -> None:
    if visit.form.get("typed", "").strip() != live.name:
        raise PageError(422, "The name does not match", f"Type {live.name} to confirm.")
    visit.backend.writes.delete(visit.user, *visit.place, data=bool(visit.form.get("data")))


ACTIONS: Final[dict[str, Action]] = {
    "scale": Action(
        "Scale",
        _apply_scale,
        lambda _visit, live: revisions.explain_no_scale(live, {}),
        _scale_form,
        kind=lambda _live: REVISION,
    ),
    "rollback": Action(
        "Roll back",
        lambda visit, _live: visit.backend.writes.rollback(visit.user, *visit.place, visit.form.get("to") or None),
        lambda visit, live: revisions.explain_no_rollback(live, _rollback_revision(visit)),
        _rollback_form,
    ),
    "suspend": Action(
        "Suspend", lambda visit, live: visit.backend.writes.suspend(visit.user, live.namespace, live.name), _no_stop
    ),
    "resume": Action(
        "Resume", lambda visit, live: visit.backend.writes.resume(visit.user, live.namespace, live.name), _no_stop
    ),
    "delete": Action("Delete", _delete_workload, show=_delete_form, verb="delete"),
    "promote": Action("Promote", canary.promote_canary, canary.explain_no_canary, canary.canary_form, canary=True),
    "abort": Action("Abort", canary.abort_canary, canary.explain_no_abort, canary.canary_form, canary=True),
}


def _find_action(visit: PageVisit) -> tuple[str, Action, LiveWorkload]:
    name = visit.path_parameter("action")
    action = ACTIONS.get(name)
    if action is None:
        raise make_missing_page_error()
    return name, action, visit.read_workload()


def show_action(visit: PageVisit) -> Response:
    """Show the dialog of an action."""
    name, action, live = _find_action(visit)
    return _render_action(visit, name, action, live)


def _render_action(
    visit: PageVisit, name: str, action: Action, live: LiveWorkload, message: str = "", status: int = 200
) -> Response:
    why = _explain_unavailable(visit, live, action)
    return visit.render_page(
        "action",
        status,
        page="workloads",
        action=name,
        label=action.label,
        live=live,
        why_not=why,
        message=message,
        values=visit.form,
        **({} if why else action.show(visit, live)),
    )


def perform_action(visit: PageVisit) -> Response:
    """Perform an action; on an error, show the dialog again with the reason."""
    name, action, live = _find_action(visit)
    if why := _explain_unavailable(visit, live, action):
        return _render_action(visit, name, action, live, why, 422)
    try:
        action.do(visit, live)
    except Exception as error:
        page = make_page_error(error)
        if page.status in {401, 500}:
            raise
        return _render_action(visit, name, action, live, page.text, 422)
    if name == "delete":
        return visit.redirect("/workloads?told=deleted")
    outcome = "reset" if name == "scale" and visit.form.get("reset") else name
    return visit.redirect(f"{visit.request.url.path.rpartition('/do/')[0]}?told={outcome}")
