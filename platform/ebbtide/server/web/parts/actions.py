"""Actions on a workload: scale, roll back, suspend, resume, delete, and those on its canary. A dialog explains each one before it runs.

Unavailable actions are offered too, with the reason: a read-only server, a missing permission, or an unsupported kind of
object. The API server has the final say; these checks only avoid requests that it would reject.
"""

from __future__ import annotations

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
from ebbtide.core.base.operations import RESUME, ROLLBACK, SCALE, SUSPEND, Operation
from ebbtide.core.base.paths import get_at
from ebbtide.server.web.parts import canary
from ebbtide.server.web.parts.errors import PageError, make_missing_page_error, make_page_error
from ebbtide.server.web.parts.frame import PageVisit


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


def list_offers(visit: PageVisit, live: LiveWorkload, *, of_canary: bool = False) -> list[ActionOffer]:
    """Return the actions for a workload, or for its canary, each with the reason if it is unavailable.

    Actions that a workload of this kind never has are not among them.
    """
    stopped = get_at(live.top, "metadata", "annotations", keys.STOP) == "true"
    hidden = {"suspend" if stopped else "resume"}
    if revisions.explain_no_suspend(live, {}):
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


# The operations of ``core/base/operations.py``.


def _read_current(live: LiveWorkload) -> dict[str, str]:
    """Return the values that a scale can change, by the name of their field."""
    newest = live.revisions[-1] if live.revisions else None
    annotations = get_at(newest, "metadata", "annotations", default={})
    return {parameter.field: str(annotations.get(SCALED[parameter.name], "")) for parameter in SCALE.parameters}


def _scale_form(_visit: PageVisit, live: LiveWorkload) -> dict[str, Any]:
    current = _read_current(live)
    # Without a scaling metric, there is no threshold.
    parameters = [parameter for parameter in SCALE.parameters if current[parameter.field] or not parameter.is_fraction]
    return {"current": current, "parameters": parameters, "revisions": scaled_revisions(live)}


def _rollback_form(visit: PageVisit, live: LiveWorkload) -> dict[str, Any]:
    target = revisions.find_rollback_target(live, _find_target(visit)["to"])
    newest = str(get_at(live.service, "status", "latestCreatedRevisionName", default=""))
    states = {row.name: row.words for row in visit.read_status().revisions}
    return {"target": target, "serving": serving_revisions(live), "newest": newest, "state": states.get(newest, "")}


def _find_target(visit: PageVisit) -> dict[str, Any]:
    """Return the revision that a request names for a rollback; None for the previous one."""
    return {"to": visit.query("to") or visit.form.get("to") or None}


def parse_values(form: Mapping[str, str], operation: Operation, current: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters that a form changes.

    Raises:
        PageError: a field is not valid, or none is changed and the operation needs one.
    """
    values: dict[str, Any] = {}
    for parameter in operation.parameters:
        text = form.get(parameter.field, "").strip()
        if not text or text == current.get(parameter.field):
            continue
        try:
            values[parameter.name] = parameter.parse(text)
        except ValueError as error:
            raise PageError(422, f"Invalid {parameter.name}", f"{parameter.name}: {error}.") from None
    if operation.reset and not values:
        raise PageError(422, "Nothing to change", "These values are already set.")
    return values


def _perform(visit: PageVisit, live: LiveWorkload, operation: Operation) -> None:
    current = _read_current(live) if operation == SCALE else {}
    values = {} if visit.form.get("reset") else parse_values(visit.form, operation, current)
    visit.backend.writes.change(visit.user, operation, *visit.place, values)


def _make_action(operation: Operation, **options: Any) -> Action:
    return Action(
        operation.label,
        lambda visit, live: _perform(visit, live, operation),
        lambda visit, live: revisions.CHANGES[operation.name].explain_no(live, _find_target(visit)),
        **options,
    )


# Delete.


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
    "scale": _make_action(SCALE, show=_scale_form, kind=lambda _live: REVISION),
    "rollback": _make_action(ROLLBACK, show=_rollback_form),
    "suspend": _make_action(SUSPEND),
    "resume": _make_action(RESUME),
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
