"""Actions on several workloads: one confirmation names each of them, and the outcome names each that was not changed.

Each workload is checked and changed separately: with the caller's permissions in its namespace, and only if it is still the
object that the confirmation showed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.responses import RedirectResponse, Response

from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.core.base.prose import count_noun
from ebbtide.server.web.actions import ACTIONS, explain_unavailable
from ebbtide.server.web.errors import make_missing_page_error, make_page_error
from ebbtide.server.web.frame import PageVisit
from ebbtide.server.web.shared import BULK, ROWS_PER_PAGE

log = logging.getLogger(__name__)

#: The start of the name of a form field that selects a workload, before its namespace and name.
ROW: Final = "row:"
#: The function that performs each action. Deleting several keeps their volume claims, and deletes the object with this UID only.
CHANGES: Final[dict[str, Callable[[PageVisit, LiveWorkload], object]]] = {
    **{name: ACTIONS[name].do for name, _ in BULK},
    "delete": lambda visit, live: visit.backend.writes.delete_by_id(visit.user, live.top["metadata"]["uid"]),
}


@dataclass(frozen=True, slots=True)
class SelectedWorkload:
    """One selected workload, and why it cannot be changed or was not; empty if it can be or was."""

    namespace: str
    name: str
    uid: str
    why: str


def show_selected(visit: PageVisit) -> Response:
    """Ask for one confirmation of an action on the selected workloads."""
    name = _read_action(visit.query("do"))
    rows = [_examine(visit, name, place)[1] for place in _read_places(visit.request.query_params)]
    return _render(visit, name, rows) if rows else RedirectResponse("/workloads", 303)


def change_selected(visit: PageVisit) -> Response:
    """Change each workload that the confirmation showed, and report each outcome."""
    name = _read_action(visit.form.get("do", ""))
    places = _read_places(visit.form)
    if name == "delete" and visit.form.get("typed", "").strip() != str(len(places)):
        rows = [_examine(visit, name, place)[1] for place in places]
        return _render(visit, name, rows, message=f"Type {len(places)} to confirm.")
    return _render(visit, name, [_change(visit, name, *item) for item in places.items()], done=True)


def _read_action(name: str) -> str:
    if name not in CHANGES:
        raise make_missing_page_error()
    return name


def _read_places(fields: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Return the value of each selected workload, by its namespace and name, at most those of one page."""
    places: dict[tuple[str, str], str] = {}
    for key, value in fields.items():
        namespace, slash, name = key.removeprefix(ROW).partition("/")
        if key.startswith(ROW) and slash and len(places) < ROWS_PER_PAGE:
            places[namespace, name] = value
    return places


def _examine(visit: PageVisit, name: str, place: tuple[str, str]) -> tuple[LiveWorkload | None, SelectedWorkload]:
    """Return a workload, None if it cannot be read, and whether the action is available for it."""
    try:
        live = visit.backend.reads.workload(visit.user, *place).value
        why = explain_unavailable(visit, live, ACTIONS[name])
    except Exception as error:  # noqa: BLE001 - the other workloads are shown
        return None, SelectedWorkload(*place, "", _describe_error(error))
    return live, SelectedWorkload(*place, live.top["metadata"]["uid"], why)


def _change(visit: PageVisit, name: str, place: tuple[str, str], uid: str) -> SelectedWorkload:
    live, row = _examine(visit, name, place)
    if live is None or row.why:
        return row
    if row.uid != uid:
        return SelectedWorkload(*place, uid, "another workload has this name since the confirmation was shown")
    try:
        CHANGES[name](visit, live)
    except Exception as error:  # noqa: BLE001 - the other workloads are changed, and this one is named
        return SelectedWorkload(*place, uid, _describe_error(error))
    return row


def _describe_error(error: Exception) -> str:
    page = make_page_error(error)
    if page.status == 401:  # noqa: PLR2004 - an HTTP status: the sign-in page replaces this one
        raise error
    if page.status == 500:  # noqa: PLR2004 - an HTTP status
        log.error("change of a selected workload", exc_info=error)
    return page.text


def _render(
    visit: PageVisit, name: str, rows: list[SelectedWorkload], *, done: bool = False, message: str = ""
) -> Response:
    return visit.render(
        "page_selection.html",
        422 if message else 200,
        page="workloads",
        action=name,
        title=f"{ACTIONS[name].label} {count_noun(len(rows), 'workload')}",
        rows=rows,
        possible=[row for row in rows if not row.why],
        done=done,
        message=message,
    )
