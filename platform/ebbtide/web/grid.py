"""The page of all workloads: one row each, filtered, sorted and cut into pages by the server, renewed in place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from ebbtide.cluster.read.status import with_loads as loaded
from ebbtide.slo.source import Ref, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.responses import Response

    from ebbtide.cluster.read.status import Metric, Phase, Status
    from ebbtide.web.frame import Visit

ROWS: Final = 50
#: Seconds that a page waits for whoever counts.
PATIENCE: Final = 2.0
#: Seconds for which what was counted now is shown again.
RECENT: Final = 4.0
#: What the choice of states offers: a word, and the phases under it.
GROUPS: Final[dict[str, tuple[str, tuple[Phase, ...]]]] = {
    "running": ("Running", ("Running", "Completed")),
    "starting": ("Starting", ("Creating", "Initializing", "Resuming", "Pending", "Updating")),
    "trouble": ("Failing", ("Degraded", "Failed")),
    "stopped": ("Stopped", ("Stopped", "Stopping", "Deleting", "Terminating", "Unknown")),
}
# fmt: off
#: What is most urgent comes first where states sort.
URGENCY: Final[tuple[Phase, ...]] = (
    "Failed", "Degraded", "Pending", "Initializing", "Creating", "Updating", "Resuming", "Running", "Stopping",
    "Deleting", "Terminating", "Stopped", "Completed", "Unknown",
)
# fmt: on
DELETED: Final = "Deleting the workload. Its row disappears when its last pod has stopped."
#: Name, title, class, and by what it sorts; one without a name does not.
COLUMNS: Final[tuple[tuple[str, str, str, Callable[[Status], Any]], ...]] = (
    ("name", "Workload", "", lambda row: row.name),
    ("project", "Project", "", lambda row: row.project or row.namespace),
    ("status", "Status", "", lambda row: URGENCY.index(row.phase)),
    ("replicas", "Replicas", "", lambda row: (row.replicas.ready, row.replicas.wanted)),
    ("gpus", "GPUs", "num", lambda row: gpu_amount(row.gpus)),
    ("cpu", "CPU", "num", lambda row: row.cpu_cores),
    ("metric", "Metric (current / target)", "", lambda row: row.metric.name if row.metric else ""),
    ("", "URL", "", lambda row: row.url),
    ("age", "Age", "num", lambda row: row.age_seconds),
)
SORTS: Final = {name: key for name, _, _, key in COLUMNS if name}


@dataclass(frozen=True, slots=True)
class View:
    """What is asked for: a text, a project, a group of states, an order and a page."""

    q: str = ""
    project: str = ""
    state: str = ""
    sort: str = "name"
    down: bool = False
    number: int = 1

    def address(self, **other: Any) -> str:
        """Return the address of this view, changed; what is as by default is left out."""
        view = replace(self, **{"number": 1, **other})
        query = {
            "q": view.q,
            "project": view.project,
            "state": view.state,
            "sort": view.sort if view.sort != "name" else "",
            "dir": "down" if view.down else "",
            "page": str(view.number) if view.number > 1 else "",
        }
        text = urlencode({name: value for name, value in query.items() if value})
        return f"/workloads{f'?{text}' if text else ''}"

    def turned(self, column: str) -> str:
        """Return the address that sorts by a column, the other way if it sorts by it already."""
        return self.address(sort=column, down=not self.down if self.sort == column else False)


@dataclass(frozen=True, slots=True)
class Shown:
    """One page of rows, and what there is beyond it."""

    rows: tuple[Status, ...]
    #: How many fit the text and the project, by group of states and in all.
    counts: dict[str, int]
    fitting: int
    every: int
    first: int
    pages: int
    projects: tuple[str, ...]


def view_of(visit: Visit) -> View:
    """Return what a visitor asks for; what makes no sense is as by default."""
    number = visit.query("page")
    state, sort = visit.query("state"), visit.query("sort")
    return View(
        q=visit.query("q").strip()[:200],
        project=visit.query("project")[:200],
        state=state if state in GROUPS else "",
        sort=sort if sort in SORTS else "name",
        down=visit.query("dir") == "down",
        number=max(1, int(number)) if number.isdigit() and len(number) < 6 else 1,  # noqa: PLR2004 - five digits
    )


def gpu_amount(text: str) -> float:
    """Return how many GPUs or shares a status names, to sort by."""
    total = 0.0
    for part in text.split(","):
        try:
            total += float(part.split()[0])
        except (ValueError, IndexError):
            continue
    return total


def select(found: list[Status], view: View) -> Shown:
    """Return the rows of a view."""
    wanted = view.q.lower()
    fitting = [
        row
        for row in found
        if (not view.project or view.project in {row.project, row.namespace})
        and (not wanted or wanted in f"{row.name} {row.project} {row.namespace} {row.phase} {row.url}".lower())
    ]
    counts = {name: sum(row.phase in phases for row in fitting) for name, (_, phases) in GROUPS.items()}
    all_states = len(fitting)
    if view.state:
        fitting = [row for row in fitting if row.phase in GROUPS[view.state][1]]
    fitting.sort(key=lambda row: (row.name, row.namespace))
    fitting.sort(key=SORTS[view.sort], reverse=view.down)
    pages = max(1, -(-len(fitting) // ROWS))
    first = (min(view.number, pages) - 1) * ROWS
    return Shown(
        rows=tuple(fitting[first : first + ROWS]),
        counts={"": all_states, **counts},
        fitting=len(fitting),
        every=len(found),
        first=first,
        pages=pages,
        projects=tuple(sorted({row.project or row.namespace for row in found})),
    )


def with_loads(visit: Visit, rows: Sequence[Status]) -> list[Status]:
    """Return rows with what moves each now; a page does not wait long for one of its columns."""
    source = visit.backend.source
    if source is None:
        return [*rows]

    def ask() -> dict[Ref, Metric | None]:
        asked = visit.frame.aside.submit(loaded, rows, source, visit.backend.clock.now())
        return {Ref(row.namespace, row.name): row.metric for row in asked.result(PATIENCE)}

    key = ("loads", *((row.namespace, row.name, row.metric) for row in rows))
    try:
        metrics = visit.frame.recent(key, RECENT, ask)
    except (SourceError, TimeoutError):
        return [*rows]
    return [replace(row, metric=metrics[Ref(row.namespace, row.name)]) for row in rows]


def grid(visit: Visit) -> Response:
    view = view_of(visit)
    read = visit.backend.workloads(visit.who)
    shown = select(read.value, view)
    return visit.page(
        "comp_grid.html" if visit.partly else "page_grid.html",
        page="workloads",
        told=DELETED if visit.query("told") == "deleted" else "",
        view=view,
        shown=shown,
        choices=(("", "All"), *((name, label) for name, (label, _) in GROUPS.items())),
        columns=[column[:3] for column in COLUMNS],
        rows=with_loads(visit, shown.rows),
        rows_a_page=ROWS,
        age=read.age,
        now=visit.backend.clock.now(),
    )
