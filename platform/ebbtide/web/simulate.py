"""The simulation page: choose traffic and a server, adjust settings, compare replicas and response times, tune, and apply."""

from __future__ import annotations

import math
import secrets
import statistics
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final

from ebbtide.api.backend import InputError
from ebbtide.api.simulation import REQUESTS, Asked
from ebbtide.api.workers import TooMuchError
from ebbtide.base.paths import at
from ebbtide.base.problems import Problem
from ebbtide.base.prose import counted
from ebbtide.manifests.edit import NotEdited, edited
from ebbtide.readers.fields import names_at
from ebbtide.slo.source import Ref, SourceError
from ebbtide.web.charts import Chart, Curve
from ebbtide.web.errors import PageError
from ebbtide.web.experiments import simulated, tuned
from ebbtide.web.fields import ROWS, Row, control
from ebbtide.web.form import data_of, look, meant, shown, text_of
from ebbtide.web.new import examples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.responses import Response

    from ebbtide.slo.source import History
    from ebbtide.web.fields import Control
    from ebbtide.web.frame import Visit

#: Time limits of a simulation and of a search, in seconds.
SIMULATION_SECONDS: Final = 60.0
SEARCH_SECONDS: Final = 120.0
EVALUATIONS: Final = 160
#: The maximum size of a log in characters, and how many logs and searches are kept.
MAX_LOG_CHARACTERS: Final = 8_000_000
MAX_LOGS: Final = 6
MAX_SEARCHES: Final = 12
#: The time span of a workload's recorded traffic in seconds, and the points per series.
TRAFFIC_SECONDS: Final = 6 * 3600.0
TRAFFIC_POINTS: Final = 360
BLOCK: Final = ("spec", "autoscaling")


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric input: its name, label, unit, and default, and the range and step of its slider."""

    name: str
    label: str
    unit: str
    default: str
    minimum: float
    maximum: float
    step: float = 1


@dataclass(frozen=True, slots=True)
class Shape:
    """A traffic shape: its label, its numeric inputs, and its template in the simulator's syntax."""

    key: str
    label: str
    numbers: tuple[str, ...]
    words: str


#: The numeric inputs of the traffic shapes.
NUMBERS: Final = {
    one.name: one
    for one in (
        Number("rate", "Request rate", "/s", "20", 0.1, 200, 0.1),
        Number("low", "Low rate", "/s", "2", 0, 100, 0.1),
        Number("high", "High rate", "/s", "40", 0.1, 200, 0.1),
        Number("minutes", "Duration", "min", "60", 1, 1440),
        Number("period", "Day length", "min", "60", 5, 1440),
        Number("on", "Burst duration", "min", "2", 0.5, 120, 0.5),
        Number("off", "Pause between bursts", "min", "10", 0.5, 240, 0.5),
        Number("step", "Step duration", "min", "20", 1, 600),
    )
}
SHAPES: Final = {
    one.key: one
    for one in (
        Shape("diurnal", "Daily cycle", ("low", "high", "minutes", "period"), "diurnal:{low}rps..{high}rps,{minutes}m,{period}m"),
        Shape("poisson", "Random arrivals (Poisson)", ("rate", "minutes"), "poisson:{rate}rps,{minutes}m"),
        Shape("constant", "Constant rate", ("rate", "minutes"), "constant:{rate}rps,{minutes}m"),
        Shape("ramp", "Ramp", ("low", "high", "minutes"), "ramp:{low}rps..{high}rps,{minutes}m"),
        Shape("steps", "Step up and down", ("low", "high", "step"), "steps:{low}rps,{step}m,{high}rps,{step}m,{low}rps,{step}m"),
        Shape("on-off", "Bursts", ("rate", "on", "off", "minutes"), "on-off:{rate}rps,{on}m,{off}m,{minutes}m"),
    )
}  # fmt: skip
#: Server models in the simulator's syntax, with their labels.
SERVERS: Final = (
    ("lognormal:median=500ms,sigma=0.5,max=16", "500 ms median, 16 concurrent"),
    ("lognormal:median=80ms,sigma=0.4,max=32", "80 ms median, 32 concurrent"),
    ("fixed:200ms,max=8", "200 ms fixed, 8 concurrent"),
    ("llm:max=16,base=150ms,prompt=50us,output=20ms,tokens=500/200", "LLM, 20 ms/token, 16 concurrent"),
    (
        "llm:max=32,base=250ms,prompt=100us,output=35ms,tokens=1000/300",
        "Large LLM, 35 ms/token, 32 concurrent",
    ),
)


@dataclass(frozen=True, slots=True)
class Knob:
    """A setting with a slider: the form's control, and the slider's range and step."""

    control: Control
    minimum: float
    maximum: float
    step: float = 1

    @property
    def name(self) -> str:
        """The field's name in ``spec.autoscaling``."""
        return self.control.path[-1]


def _row(name: str) -> Row:
    return next(row for row in ROWS if row.path == f"spec.autoscaling.{name}" and not row.name)


#: The settings with sliders; the metric has a select instead.
KNOBS: Final = tuple(
    Knob(control(_row(name)), least, most, step)
    for name, least, most, step in (
        ("metricThreshold", 1, 100, 1),
        ("metricThresholdPercentage", 10, 100, 1),
        ("minReplicas", 0, 20, 1),
        ("maxReplicas", 1, 40, 1),
        ("scaleDownDelaySeconds", 0, 900, 15),
        ("scaleToZeroRetentionSeconds", 0, 3600, 30),
        ("concurrencyHardLimit", 0, 128, 1),
    )
)
METRIC: Final = control(_row("metric"))
WINDOW: Final = Number("stable-window", "Stable window", "s", "60", 10, 600, 5)


# State kept between requests.


@dataclass(slots=True)
class Search:
    """One search: its progress and its result."""

    text: str
    owner: str
    done: int = 0
    best: float | None = None
    result: dict[str, Any] | None = None
    problems: tuple[Problem, ...] = ()
    stopped: bool = False

    @property
    def ended(self) -> bool:
        """True if the search has a result or has failed."""
        return self.result is not None or bool(self.problems)


class StoppedError(Exception):
    """Ends a search that the user stopped."""


@dataclass(slots=True)
class Desk:
    """Uploaded logs and running searches, in memory and limited in number, and the latest request of each session."""

    logs: OrderedDict[str, tuple[str, str]] = field(default_factory=OrderedDict)
    searches: OrderedDict[str, Search] = field(default_factory=OrderedDict)
    turns: dict[str, int] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)
    busy: dict[str, Lock] = field(default_factory=dict)

    def keep_log(self, owner: str, text: str) -> str:
        name = secrets.token_urlsafe(12)
        with self.lock:
            self.logs[name] = (owner, text)
            while len(self.logs) > MAX_LOGS:
                self.logs.popitem(last=False)
        return name

    def get_log(self, owner: str, name: str) -> str:
        """Return a log that this session uploaded, or an empty string if it is no longer kept."""
        with self.lock:
            whose, text = self.logs.get(name, ("", ""))
        return text if whose == owner else ""

    def add_search(self, search: Search) -> str:
        """Store a search and return its name; the oldest finished searches make room."""
        name = secrets.token_urlsafe(12)
        with self.lock:
            for old in [key for key, stored in self.searches.items() if stored.ended][
                : max(len(self.searches) - MAX_SEARCHES, 0)
            ]:
                del self.searches[old]
            if len(self.searches) >= 2 * MAX_SEARCHES:
                raise TooMuchError("too many searches are running; try again in a minute")
            self.searches[name] = search
        return name

    def get_search(self, owner: str, name: str) -> Search:
        search = self.searches.get(name)
        if search is None or search.owner != owner:
            raise PageError(
                404, "Search not found", "The search has expired, or the server was restarted. Start a new search."
            )
        return search

    def next_turn(self, owner: str) -> tuple[int, Lock]:
        """Return the number of a new request, which supersedes earlier ones of the session, and the session's lock."""
        with self.lock:
            if len(self.turns) > 1000:  # noqa: PLR2004 - sessions that have ended are dropped
                self.turns.clear()
                self.busy.clear()
            self.turns[owner] = self.turns.get(owner, 0) + 1
            return self.turns[owner], self.busy.setdefault(owner, Lock())


DESK: Final = Desk()


# The request.


@dataclass(frozen=True, slots=True)
class Question:
    """One request of the page: the spec, the tried settings, and the other fields."""

    text: str
    #: The submitted form fields.
    fields: Mapping[str, str]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def tuned_text(self) -> str:
        """The spec's YAML with those tried settings that a spec can have."""
        return _with(self.text, {name: value for name, value in self.settings.items() if name != WINDOW.name})


def _with(text: str, settings: Mapping[str, Any]) -> str:
    """Return a spec's YAML with other settings, or unchanged if they cannot be written there."""
    try:
        return edited(text, {(*BLOCK, name): value for name, value in settings.items()}, names_at)
    except NotEdited:
        return text


def first(text: str, **fields: str) -> Question:
    """Return the initial request of the page."""
    data = data_of(text) or {}
    defaults = {"shape": "diurnal", "server": SERVERS[0][0], "start-up": "30", "slo": _promise(data), WINDOW.name: ""}
    defaults |= {number.name: number.default for number in NUMBERS.values()}
    for knob_control in (*(knob.control for knob in KNOBS), METRIC):
        defaults[knob_control.path[-1]] = shown(knob_control.kind, at(data, *knob_control.path)) or ""
    return Question(text, {**defaults, **fields})


def _promise(data: Any) -> str:
    """Return a spec's SLO in the simulator's syntax, or a default SLO."""
    bounds = []
    for key, name in (
        ("p95LatencyMilliseconds", "p95"),
        ("meanLatencyMilliseconds", "mean"),
        ("uptimePercent", "uptime"),
    ):
        value = at(data, "spec", "slo", key)
        if isinstance(value, (int, float)):
            seconds = f"{value / 1000:g}s" if value >= 1000 else f"{value:g}ms"  # noqa: PLR2004 - a second
            bounds.append(f"{name}={value:g}" if name == "uptime" else f"{name}={seconds}")
    return ",".join(bounds) or "p95=3s"


def _asked(visit: Visit) -> Question:
    text = visit.form.get("yaml", "").replace("\r\n", "\n")
    fields = {**first(text).fields, **{name: value.strip() for name, value in visit.form.items() if name != "yaml"}}
    data = data_of(text) or {}
    settings: dict[str, Any] = {}
    for knob_control in (*(knob.control for knob in KNOBS), METRIC):
        name = knob_control.path[-1]
        before = at(data, *knob_control.path)
        if name in visit.form and fields[name] != (shown(knob_control.kind, before) or ""):
            settings[name] = meant(knob_control.kind, fields[name])
    window = meant("number", fields[WINDOW.name])
    if isinstance(window, (int, float)) and math.isfinite(window):
        settings[WINDOW.name] = float(window)
    return Question(text, fields, _tidied(data, settings))


def _tidied(data: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings that also remove scale-to-zero fields if the minimum is raised above 0."""
    from ebbtide.simulate.tune import FROM_ZERO  # noqa: PLC0415 - it needs numpy

    def value(name: str) -> Any:
        return settings[name] if name in settings else at(data, *BLOCK, name)

    minimum = value("minReplicas")
    if "minReplicas" not in settings or not isinstance(minimum, int) or minimum < 1:
        return settings
    return {**settings, **{name: None for name in FROM_ZERO if value(name) is not None}}


def _words(visit: Visit, question: Question) -> Asked:
    """Return the request for the simulator.

    Raises:
        InputError: a field is invalid.

    """
    fields = question.fields
    log, traffic = "", ""
    if fields["shape"] == "log":
        log = DESK.get_log(visit.session, fields.get("log", ""))
        traffic = "the log"
        if not log:
            raise _wrong("no log uploaded", "upload a log, or choose a traffic shape")
    else:
        shape = SHAPES.get(fields["shape"])
        if shape is None:
            raise _wrong("invalid traffic shape", f"use one of {', '.join(SHAPES)}")
        numbers = {name: _checked_number(fields, NUMBERS[name]) for name in shape.numbers}
        traffic = shape.words.format_map(numbers)
    return Asked(
        question.text,
        traffic,
        log,
        fields.get("words", "") or fields["server"],
        fields["start-up"] if any(sign.isalpha() for sign in fields["start-up"]) else f"{fields['start-up']}s",
        fields["slo"],
        f"gpu-hour={fields['price']}" if fields.get("price") else "",
        settings=question.settings or None,
        evaluations=EVALUATIONS,
        # A shape is the same throughout; of a log, the first half is searched and the second half scores the result.
        part=0.5 if log else 1.0,
    )


def _checked_number(fields: Mapping[str, str], number: Number) -> str:
    value = meant("number", fields[number.name])
    if not isinstance(value, (int, float)) or not 0 <= value < 1e6:  # noqa: PLR2004 - far above any useful value
        message = f"invalid {number.label.lower()} {fields[number.name]!r}: must be a number from 0 to below 1,000,000"
        raise _wrong(message, "enter a number of 0 or more")
    return f"{value:.10g}"


def _wrong(message: str, fix: str) -> InputError:
    return InputError([Problem("SIM004", (), message, fix)])


# The pages.


def start(visit: Visit) -> Response:
    """Show the page with a live workload and its recorded traffic, or with an example."""
    namespace, name = visit.query("namespace"), visit.query("name")
    if not name:
        key = visit.query("example")
        return _page(visit, first(examples().get(key, examples()["chat"]).text))
    live = visit.backend.workload(visit.user, namespace, name).value
    text = text_of(live.top, visit.backend.profile)
    log, words = _own_traffic(visit, Ref(namespace, name))
    if not log:
        return _page(
            visit,
            first(text),
            of=(namespace, name),
            message="No request metrics are available for this workload, so the simulation uses a traffic shape.",
        )
    log_name = DESK.keep_log(visit.session, log)
    message = "Replays the workload's traffic of the last six hours"
    message += " with the response times measured then." if words else "."
    return _page(visit, first(text, shape="log", log=log_name, words=words), of=(namespace, name), message=message)


def _own_traffic(visit: Visit, ref: Ref) -> tuple[str, str]:
    """Return a workload's recent traffic as a log of rates, and a matching server model; empty if unknown."""
    end = visit.backend.clock.now()
    try:
        history = visit.backend.history(visit.user, ref, end - TRAFFIC_SECONDS, end, TRAFFIC_SECONDS / TRAFFIC_POINTS)
    except SourceError:
        return "", ""
    points = [
        point for point in history.series.get("rate", ()) if point.value is not None and math.isfinite(point.value)
    ]
    if not any(point.value for point in points):
        return "", ""
    log = "time,rate\n" + "".join(f"{point.time:.3f},{max(point.value or 0.0, 0.0):.6g}\n" for point in points)
    return log, like(history)


def like(history: History) -> str:
    """Return a server model with the median response times of a history, or an empty string."""
    median, high = (
        statistics.median([point.value for point in history.series.get(name, ()) if point.value] or [0.0])
        for name in ("p50", "p95")
    )
    if not 0 < median <= high < math.inf:
        return ""
    # In a log-normal distribution, 95% of the values are below exp(mu + 1.645 sigma).
    return f"lognormal:median={median * 1000:.4g}ms,sigma={math.log(high / median) / 1.645:.2f},max=16"


def with_spec(visit: Visit) -> Response:
    """Show the page with the spec from the form."""
    return _page(visit, first(visit.form.get("yaml", "").replace("\r\n", "\n")))


def upload(visit: Visit) -> Response:
    """Store an uploaded log, and continue with it."""
    text = visit.form.get("file", "")
    if len(text) > MAX_LOG_CHARACTERS:
        return _no_log(
            visit,
            413,
            "The log is too large",
            f"The limit is {MAX_LOG_CHARACTERS // 1_000_000} MB. Shorten the log, or run ebbtide simulate.",
        )
    if not text.strip():
        return _no_log(
            visit, 422, "The log is empty", "Choose a file with one row per request, or with request counts."
        )
    log_name = DESK.keep_log(visit.session, text)
    lines = text.count("\n") + (not text.endswith("\n"))
    if visit.is_partial:
        return visit.render("comp_log.html", log=log_name, lines=lines)
    question = _asked(visit)
    return _page(
        visit, Question(question.text, {**question.fields, "shape": "log", "log": log_name}, question.settings)
    )


def _no_log(visit: Visit, status: int, title: str, text: str) -> Response:
    """Show an error about a log in the log's place, so that the next upload replaces it."""
    if not visit.is_partial:
        raise PageError(status, title, text)
    return visit.render("comp_log.html", log="", lines=0, wrong=f"{title}. {text}")


def _page(visit: Visit, question: Question, **context: Any) -> Response:
    spec = look(question.text, visit.backend.profile)
    return visit.render(
        "page_simulate.html",
        page="simulate",
        question=question,
        spec=spec,
        shapes=SHAPES,
        numbers=NUMBERS,
        servers=SERVERS,
        knobs=KNOBS,
        metric=METRIC,
        **{"window": WINDOW, "of": None, "message": "", **context},
    )


def run(visit: Visit) -> Response:
    """Simulate and show the result. Of several concurrent requests of a session, only the last is answered."""
    question = _asked(visit)
    number, busy = DESK.next_turn(visit.session)
    with busy:
        if visit.is_partial and DESK.turns.get(visit.session) != number:
            return visit.render("comp_outcome.html", 204, **_outcome(question))
        outcome = _simulated(visit, question)
    if visit.is_partial:
        return visit.render("comp_outcome.html", **outcome)
    return _page(visit, outcome.pop("question"), **outcome)


def _simulated(visit: Visit, question: Question) -> dict[str, Any]:
    try:
        report = visit.backend.aside(simulated, _words(visit, question), seconds=SIMULATION_SECONDS)
    except InputError as error:
        return _outcome(question, problems=error.problems)
    except TooMuchError as error:
        return _outcome(question, problems=[Problem("SIM004", (), str(error))])
    return _outcome(question, report=report, charts=_charts(report))


def _outcome(
    question: Question,
    report: dict[str, Any] | None = None,
    charts: Sequence[Chart] = (),
    problems: Sequence[Problem] = (),
) -> dict[str, Any]:
    data = data_of(question.text) or {}
    return {
        "question": question,
        "report": report,
        "charts": charts,
        "problems": problems,
        "changes": [(name, at(data, *BLOCK, name), value) for name, value in question.settings.items()],
        "text": question.tuned_text,
        "window": WINDOW,
    }


def _charts(report: dict[str, Any]) -> list[Chart]:
    """Return the report's charts in the page's format."""
    charts = []
    for chart in report["charts"]:
        unit = chart["unit"]
        count = max(len(curve["values"]) for curve in chart["curves"])
        time = [round(report["seconds"] * (index + 0.5) / count, 1) for index in range(count)]
        style = {"stepped": unit == "replicas", "fill": unit == "requests/s"}
        curves = [Curve(row["name"], row["values"], row["colour"], row["dashed"], **style) for row in chart["curves"]]
        charts.append(
            Chart(chart["title"], "" if unit in {"replicas", "requests"} else unit, time, curves, moments=False)
        )
    return charts


# The search.


def tune(visit: Visit) -> Response:
    """Start a search from the current settings, and show its progress."""
    question = _asked(visit)
    # The search does not change maxReplicas, its budget, so it needs the current value.
    question = replace(question, text=question.tuned_text, settings={})
    try:
        request = _words(visit, question)
    except InputError as error:
        return _tuned(visit, "", Search(question.text, visit.session, problems=tuple(error.problems)))
    search = Search(question.text, visit.session)
    name = DESK.add_search(search)
    Thread(target=_search, args=(visit, search, request), name="ebbtide-tune", daemon=True).start()
    if not visit.is_partial:
        return visit.redirect(f"/simulate/tune/{name}")
    return _tuned(visit, name, search)


def _search(visit: Visit, search: Search, request: Asked) -> None:
    def report_progress(news: dict[str, Any]) -> None:
        search.done, search.best = news["done"], news["best"]
        if search.stopped:
            raise StoppedError

    try:
        search.result = visit.backend.aside(tuned, request, seconds=SEARCH_SECONDS, on_progress=report_progress)
    except InputError as error:
        search.problems = tuple(error.problems)
    except StoppedError:
        search.problems = (
            Problem("SIM004", (), f"stopped after {counted(search.done, 'setting')}", "start a new search"),
        )
    except Exception as error:
        # Report any failure to the user who waits for the search.
        text = str(error) if isinstance(error, TooMuchError) else "the search failed; see the server log for details"
        search.problems = (Problem("SIM004", (), text),)
        if not isinstance(error, TooMuchError):
            raise


def progress(visit: Visit) -> Response:
    """Show the progress or the result of a search."""
    name = visit.path_parameter("search")
    return _tuned(visit, name, DESK.get_search(visit.session, name))


def stop(visit: Visit) -> Response:
    name = visit.path_parameter("search")
    search = DESK.get_search(visit.session, name)
    search.stopped = True
    return _tuned(visit, name, search) if visit.is_partial else visit.redirect(f"/simulate/tune/{name}")


def _tuned(visit: Visit, name: str, search: Search) -> Response:
    result = search.result
    chosen = result["recommended"] if result is not None else None
    text = search.text if chosen is None else _with(search.text, chosen["changes"])
    return visit.render(
        "comp_tune.html" if visit.is_partial else "page_tune.html",
        page="simulate",
        name=name,
        search=search,
        result=result,
        text=text,
        lines=_difference(search.text, text),
        scatter=None if result is None else scatter(result),
        total=EVALUATIONS,
        requests=REQUESTS["tune"],
    )


def _difference(before: str, after: str) -> list[tuple[str, str]]:
    """Return the lines that differ, each with ``-`` or ``+``."""
    from difflib import ndiff  # noqa: PLC0415 - only needed for a result

    return [(line[0], line[2:]) for line in ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


@dataclass(frozen=True, slots=True)
class Dot:
    """One setting in the scatter plot: its position, kind, and label."""

    x: float
    y: float
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Scatter:
    """SLO attainment over replica-hours of all tried settings, in a box of 600 by 240."""

    dots: tuple[Dot, ...]
    front: str
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]


def scatter(result: Mapping[str, Any]) -> Scatter:
    """Return the scatter plot of a search: tried settings, the Pareto front, and the named settings."""
    points = result["points"]
    marked = [
        (result[key], kind, label)
        for key, kind, label in (
            ("knativeDefaults", "default", "Knative's defaults"),
            ("asItIs", "own", "current spec"),
            ("recommended", "chosen", "recommended"),
        )
        if result[key] is not None
    ]
    # Hours and missed requests span orders of magnitude, so both axes are logarithmic.
    hours = [max(point["hours"], 1e-3) for point in points] + [
        max(setting["replicaHours"], 1e-3) for setting, _, _ in marked
    ]
    low, high = math.log(min(hours, default=1.0)) - 0.05, math.log(max(hours, default=2.0)) + 0.05

    def x(value: float) -> float:
        return round((math.log(max(value, 1e-3)) - low) / (high - low or 1.0) * 600, 1)

    def y(attainment: float) -> float:
        return round(math.log10(max(1 - attainment, 1e-4)) / -4 * -230 + 235, 1)

    def dot(share: float, hours: float, kind: str, lead: str = "") -> Dot:
        label = f"{lead}{share * 100:.2f}% within the SLO, {hours:.2f} replica-hours"
        return Dot(x(hours), y(share), kind, label)

    dots = [
        dot(setting["attainment"], setting["hours"], "holds" if setting["holds"] else "fails") for setting in points
    ]
    dots += [dot(_attained(setting), setting["replicaHours"], kind, f"{label}: ") for setting, kind, label in marked]
    front = " ".join(f"{x(row['replicaHours'] or 0)},{y(row['attainment'] or 0)}" for row in result["front"])
    ticks = [value for value in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if low <= math.log(value) <= high]
    return Scatter(
        tuple(dots),
        front,
        tuple((x(value), f"{value:g} h") for value in ticks),
        tuple((y(share), f"{share * 100:g}%") for share in (0.0, 0.5, 0.9, 0.99, 0.999)),
    )


def _attained(setting: Mapping[str, Any]) -> float:
    shares = [row["value"] for row in setting["slo"]["bounds"] if row["value"] is not None and row["bound"][0] in "pw"]
    others = [min(1.0, 1 / row["used"]) if row["used"] else 1.0 for row in setting["slo"]["bounds"]]
    return float(min(shares or others, default=1.0))
