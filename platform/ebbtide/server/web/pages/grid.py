"""The workloads page: one row per workload; the server filters, sorts, and paginates, and rows update in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from ebbtide.cluster.read.phases import Phase
from ebbtide.cluster.read.status import Status
from ebbtide.cluster.slo.source import Ref, SourceError
from ebbtide.server.web.parts import tide
from ebbtide.server.web.parts.frame import HIDDEN_COLUMNS, PageVisit
from ebbtide.server.web.parts.objectives import MAX_JUDGED, judge_workloads
from ebbtide.server.web.parts.shared import GROUPS, make_row, read_histories
from ebbtide.server.web.parts.words import NO_SLO, SloState, State

# fmt: off
#: The name of the status filter for workloads that violate their SLO, and of the column with its state.
SLO_KEY: Final = "slo"
#: The sort order of the states of an SLO, the most urgent first.
SLO_URGENCY: Final[tuple[State, ...]] = ("violated", "unknown", "met", "none")
#: The sort order of phases, the most urgent first.
URGENCY: Final[tuple[Phase, ...]] = (
    "Failed", "Degraded", "Pending", "Initializing", "Creating", "Updating", "Resuming", "Running", "Stopping",
    "Deleting", "Terminating", "Stopped", "Completed", "Unknown",
)
# fmt: on
DELETED_MESSAGE: Final = "Deleting the workload. Its row disappears when its last pod has stopped."
#: Name, title, CSS class, and sort key; None if it is not sortable. The state of an SLO is not in the status.
COLUMNS: Final[tuple[tuple[str, str, str, Callable[[Status], Any] | None], ...]] = (
    ("name", "Workload", "", lambda row: row.name),
    ("project", "Project", "", lambda row: row.project or row.namespace),
    ("status", "Status", "", lambda row: URGENCY.index(row.phase)),
    (SLO_KEY, "SLO", "", lambda row: row.name),
    ("replicas", "Replicas", "", lambda row: (row.replicas.ready, row.replicas.wanted)),
    ("gpus", "GPUs", "num", lambda row: gpu_amount(row.gpus)),
    ("cpu", "CPU", "num cpu", lambda row: row.cpu_cores),
    ("trend", "Last 30 min", "trend-cell", None),
    ("metric", "Current / target", "", lambda row: row.metric.name if row.metric else ""),
    ("url", "URL", "", None),
    ("age", "Age", "num", lambda row: row.age_seconds),
)
SORTS: Final = {name: key for name, _, _, key in COLUMNS if key}
#: The rows of a page of workloads.
ROWS_PER_PAGE: Final = 50
#: Columns that are always shown.
FIXED: Final = ("name", "status")
#: Columns that a narrow table leaves out.
WIDE: Final = ("cpu", "trend")


@dataclass(frozen=True, slots=True)
class GridView:
    """The view from the query: a search text, a project, a status group, a sort order, and a page number."""

    q: str = ""
    project: str = ""
    state: str = ""
    sort: str = "name"
    down: bool = False
    number: int = 1

    def address(self, **other: Any) -> str:
        """Return the URL of this view with changes; default values are omitted."""
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
        """Return the URL that sorts by a column, or reverses the order if the view is already sorted by it."""
        return self.address(sort=column, down=not self.down if self.sort == column else False)


@dataclass(frozen=True, slots=True)
class GridPage:
    """One page of rows, and the counts around it."""

    rows: tuple[Status, ...]
    #: The number of rows that match the text and the project, by status group and in total.
    counts: dict[str, int]
    fitting: int
    every: int
    first: int
    pages: int
    projects: tuple[str, ...]


def parse_grid_view(visit: PageVisit) -> GridView:
    """Return the view of a request; invalid values fall back to defaults."""
    number = visit.query("page")
    state, sort = visit.query("state"), visit.query("sort")
    return GridView(
        q=visit.query("q").strip()[:200],
        project=visit.query("project")[:200],
        state=state if state in {*GROUPS, SLO_KEY} else "",
        sort=sort if sort in SORTS else "name",
        down=visit.query("dir") == "down",
        number=max(1, int(number)) if number.isdigit() and len(number) < 6 else 1,  # noqa: PLR2004 - five digits
    )


def gpu_amount(text: str) -> float:
    """Return the number of GPUs or shares in a status, for sorting."""
    total = 0.0
    for part in text.split(","):
        try:
            total += float(part.split()[0])
        except (ValueError, IndexError):
            continue
    return total


def select_rows(rows: list[Status], view: GridView, slos: Mapping[Ref, SloState] | None = None) -> GridPage:
    """Return the rows of a view; ``slos`` has the states of the workloads with an SLO."""
    known = slos or {}

    def slo_urgency(row: Status) -> int:
        return SLO_URGENCY.index(known.get(Ref(row.namespace, row.name), NO_SLO).state)

    needle = view.q.lower()
    fitting = [
        row
        for row in rows
        if (not view.project or view.project in {row.project, row.namespace})
        and (not needle or needle in f"{row.name} {row.project} {row.namespace} {row.phase} {row.url}".lower())
    ]
    counts = {name: sum(row.phase in phases for row in fitting) for name, (_, phases) in GROUPS.items()}
    violating = [row for row in fitting if slo_urgency(row) == 0] if known else []
    counts[SLO_KEY] = len(violating)
    all_states = len(fitting)
    if view.state == SLO_KEY:
        fitting = violating
    elif view.state:
        fitting = [row for row in fitting if row.phase in GROUPS[view.state][1]]
    fitting.sort(key=lambda row: (row.name, row.namespace))
    fitting.sort(key=slo_urgency if view.sort == SLO_KEY else SORTS[view.sort], reverse=view.down)
    pages = max(1, -(-len(fitting) // ROWS_PER_PAGE))
    first = (min(view.number, pages) - 1) * ROWS_PER_PAGE
    return GridPage(
        rows=tuple(fitting[first : first + ROWS_PER_PAGE]),
        counts={"": all_states, **counts},
        fitting=len(fitting),
        every=len(rows),
        first=first,
        pages=pages,
        projects=tuple(sorted({row.project or row.namespace for row in rows})),
    )


def show_grid(visit: PageVisit) -> Response:
    view = parse_grid_view(visit)
    read = visit.backend.reads.workloads(visit.user)
    is_judged = len(read.value) <= MAX_JUDGED
    slos = judge_workloads(visit, read.value) if is_judged else {}
    selection = select_rows(read.value, view, slos)
    if not is_judged:
        slos = judge_workloads(visit, selection.rows)
    hidden = {*visit.request.cookies.get(HIDDEN_COLUMNS, "").split(".")} - {*FIXED}
    try:
        histories = read_histories(visit, selection.rows)
    except SourceError:
        histories = {}
    return visit.render_page(
        "grid",
        page="workloads",
        message=DELETED_MESSAGE if visit.query("told") == "deleted" else "",
        view=view,
        selection=selection,
        choices=(
            ("", "All"),
            *(
                (name, label)
                for name, (label, _) in GROUPS.items()
                if name != "unknown" or selection.counts[name] or view.state == name
            ),
            *(((SLO_KEY, "SLO violated"),) if is_judged else ()),
        ),
        # Without the states of all workloads, only those of the page are known.
        columns=[
            (name, label, kind, name in SORTS and (is_judged or name != SLO_KEY), name not in hidden)
            for name, label, kind, _ in COLUMNS
        ],
        shown={name for name, *_ in COLUMNS} - hidden,
        fixed=FIXED,
        wide=WIDE,
        rows=[make_row(row, slos, histories) for row in visit.backend.measurements.add_loads(selection.rows)],
        box=(tide.WIDTH, tide.HEIGHT),
        rows_a_page=ROWS_PER_PAGE,
        age=read.age,
    )
