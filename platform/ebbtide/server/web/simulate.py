"""The simulation page: choose traffic and a server, adjust settings, compare replicas and response times, tune, and apply."""

from __future__ import annotations

import math
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from threading import Lock, Thread
from typing import Any, Final

from starlette.responses import Response

from ebbtide.cluster.slo.replay import fit_server_model, write_traffic_log
from ebbtide.cluster.slo.source import Ref, SourceError
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem
from ebbtide.core.base.prose import count_noun
from ebbtide.core.manifests.edit import NotEdited, edit_text
from ebbtide.core.readers.fields import field_names_at
from ebbtide.core.spec.objectives import DEFAULT_TOKEN_PERCENT
from ebbtide.server.api.offline import InputError
from ebbtide.server.api.simulation import REQUESTS
from ebbtide.server.api.workers import LimitExceededError
from ebbtide.server.web.charts import Chart, Curve
from ebbtide.server.web.errors import PageError
from ebbtide.server.web.experiments import simulate_for_page, tune_for_page
from ebbtide.server.web.fields import ROWS, FormControl, FormRow, make_control
from ebbtide.server.web.form import parse_document, parse_field, read_spec, show_value, write_live_spec
from ebbtide.server.web.frame import PageVisit
from ebbtide.server.web.new import load_examples
from ebbtide.simulator.request import SimulationRequest

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
class NumberInput:
    """A numeric input: its name, label, unit, and default, and the range and step of its slider."""

    name: str
    label: str
    unit: str
    default: str
    minimum: float
    maximum: float
    step: float = 1


@dataclass(frozen=True, slots=True)
class TrafficShape:
    """A traffic shape: its label, its numeric inputs, and its template in the simulator's syntax."""

    key: str
    label: str
    numbers: tuple[str, ...]
    words: str


#: An entry of a mapping with a plain value and a comment.
COMMENTED_ENTRY: Final = re.compile(r"""^(?P<entry> *(?P<name>\w+): *[^\s#'"]+)[ \t]+#.*$""", re.MULTILINE)
#: The numeric inputs of the traffic shapes.
NUMBERS: Final = {
    option.name: option
    for option in (
        NumberInput("rate", "Request rate", "/s", "20", 0.1, 200, 0.1),
        NumberInput("low", "Low rate", "/s", "2", 0, 100, 0.1),
        NumberInput("high", "High rate", "/s", "40", 0.1, 200, 0.1),
        NumberInput("minutes", "Duration", "min", "60", 1, 1440),
        NumberInput("period", "Day length", "min", "60", 5, 1440),
        NumberInput("on", "Burst duration", "min", "2", 0.5, 120, 0.5),
        NumberInput("off", "Pause between bursts", "min", "10", 0.5, 240, 0.5),
        NumberInput("step", "Step duration", "min", "20", 1, 600),
    )
}
SHAPES: Final = {
    shape.key: shape
    for shape in (
        TrafficShape("diurnal", "Daily cycle", ("low", "high", "minutes", "period"), "diurnal:{low}rps..{high}rps,{minutes}m,{period}m"),
        TrafficShape("poisson", "Random arrivals (Poisson)", ("rate", "minutes"), "poisson:{rate}rps,{minutes}m"),
        TrafficShape("constant", "Constant rate", ("rate", "minutes"), "constant:{rate}rps,{minutes}m"),
        TrafficShape("ramp", "Ramp", ("low", "high", "minutes"), "ramp:{low}rps..{high}rps,{minutes}m"),
        TrafficShape("steps", "Step up and down", ("low", "high", "step"), "steps:{low}rps,{step}m,{high}rps,{step}m,{low}rps,{step}m"),
        TrafficShape("on-off", "Bursts", ("rate", "on", "off", "minutes"), "on-off:{rate}rps,{on}m,{off}m,{minutes}m"),
    )
}  # fmt: skip
#: Server models in the simulator's syntax, with their labels.
SERVERS: Final = (
    ("lognormal:median=500ms,sigma=0.5,max=16", "500 ms median, 16 concurrent"),
    ("lognormal:median=80ms,sigma=0.4,max=32", "80 ms median, 32 concurrent"),
    ("fixed:200ms,max=8", "200 ms fixed, 8 concurrent"),
    ("llm:max=16,base=150ms,prompt=50us,output=20ms,tokens=500/200", "LLM, 20 ms/token, 16 concurrent"),
    ("llm:max=32,base=250ms,prompt=100us,output=35ms,tokens=1000/300", "Large LLM, 35 ms/token, 32 concurrent"),
)


@dataclass(frozen=True, slots=True)
class SettingSlider:
    """A setting with a slider: the form's control, and the slider's range and step."""

    control: FormControl
    minimum: float
    maximum: float
    step: float = 1

    @property
    def name(self) -> str:
        """The field's name in ``spec.autoscaling``."""
        return self.control.path[-1]


def _find_field_row(name: str) -> FormRow:
    return next(row for row in ROWS if row.path == f"spec.autoscaling.{name}" and not row.name)


#: The settings with sliders; the metric has a select instead.
KNOBS: Final = tuple(
    SettingSlider(make_control(_find_field_row(name)), minimum, maximum, step)
    for name, minimum, maximum, step in (
        ("metricThreshold", 1, 100, 1),
        ("metricThresholdPercentage", 10, 100, 1),
        ("minReplicas", 0, 20, 1),
        ("maxReplicas", 1, 40, 1),
        ("scaleDownDelaySeconds", 0, 900, 15),
        ("scaleToZeroRetentionSeconds", 0, 3600, 30),
        ("concurrencyHardLimit", 0, 128, 1),
    )
)
METRIC: Final = make_control(_find_field_row("metric"))
#: Labels of the causes of a scaling decision; the others are shown as the simulator names them.
CAUSES: Final = {
    "stable": "stable window",
    "panic": "panic mode",
    "max": "maximum replicas",
    "min": "minimum replicas",
    "activation scale": "activation replicas",
    "grace": "scale-to-zero grace period",
    "retention": "scale-to-zero retention",
    "zero": "scale to zero",
}


# State kept between requests.


@dataclass(slots=True)
class TuningSearch:
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


class SearchStoppedError(Exception):
    """Ends a search that the user stopped."""


@dataclass(slots=True)
class SimulationDesk:
    """Uploaded logs and running searches, in memory and limited in number, and the latest request of each session."""

    logs: OrderedDict[str, tuple[str, str]] = field(default_factory=OrderedDict)
    searches: OrderedDict[str, TuningSearch] = field(default_factory=OrderedDict)
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

    def add_search(self, search: TuningSearch) -> str:
        """Store a search and return its name; if there are too many, the oldest finished searches are removed."""
        name = secrets.token_urlsafe(12)
        with self.lock:
            for old in [key for key, stored in self.searches.items() if stored.ended][
                : max(len(self.searches) - MAX_SEARCHES, 0)
            ]:
                del self.searches[old]
            if len(self.searches) >= 2 * MAX_SEARCHES:
                raise LimitExceededError("too many searches are running; try again in a minute")
            self.searches[name] = search
        return name

    def get_search(self, owner: str, name: str) -> TuningSearch:
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


DESK: Final = SimulationDesk()


# The request.


@dataclass(frozen=True, slots=True)
class PageQuestion:
    """One request of the page: the spec, the tried settings, and the other fields."""

    text: str
    #: The submitted form fields.
    fields: Mapping[str, str]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def tuned_text(self) -> str:
        """The spec's YAML with the tried settings."""
        return _apply_settings(self.text, self.settings)


def _apply_settings(text: str, settings: Mapping[str, Any]) -> str:
    """Return a spec's YAML with other settings, or unchanged if they cannot be written there."""
    try:
        edited = edit_text(text, {(*BLOCK, name): value for name, value in settings.items()}, field_names_at)
    except NotEdited:
        return text
    return drop_outdated_comments(text, edited, settings)


def drop_outdated_comments(before: str, after: str, settings: Mapping[str, Any]) -> str:
    """Return an edited spec without the comments after values that changed, which may no longer be true.

    Another metric also changes the meaning of its threshold.
    """
    names = {*settings, *(("metricThreshold",) if "metric" in settings else ())}
    known = {*before.splitlines()}

    def drop(match: re.Match[str]) -> str:
        is_changed = match[0] not in known or (match["name"] == "metricThreshold" and "metric" in settings)
        return match["entry"] if is_changed and match["name"] in names else match[0]

    return COMMENTED_ENTRY.sub(drop, after)


def make_question(text: str, **fields: str) -> PageQuestion:
    """Return the initial request of the page."""
    data = parse_document(text) or {}
    defaults = {
        "shape": "diurnal",
        "server": SERVERS[0][0],
        "start-up": "30",
        "slo": _write_slo(data),
    }
    defaults |= {number.name: number.default for number in NUMBERS.values()}
    for knob_control in (*(knob.control for knob in KNOBS), METRIC):
        defaults[knob_control.path[-1]] = show_value(knob_control.kind, get_at(data, *knob_control.path)) or ""
    return PageQuestion(text, {**defaults, **fields})


def _write_slo(data: Any) -> str:
    """Return a spec's SLO in the simulator's syntax, or a default SLO."""
    bounds = []
    for key, name in (
        ("p95LatencyMilliseconds", "p95"),
        ("meanLatencyMilliseconds", "mean"),
        ("uptimePercent", "uptime"),
    ):
        value = get_at(data, "spec", "slo", key)
        if isinstance(value, (int, float)):
            seconds = f"{value / 1000:g}s" if value >= 1000 else f"{value:g}ms"  # noqa: PLR2004 - a second
            bounds.append(f"{name}={value:g}" if name == "uptime" else f"{name}={seconds}")
    for key, name in (("timeToFirstToken", "ttft"), ("interToken", "itl")):
        value, percent = (get_at(data, "spec", "slo", f"{key}{unit}") for unit in ("Milliseconds", "Percent"))
        if isinstance(value, (int, float)):
            share = percent if isinstance(percent, (int, float)) else DEFAULT_TOKEN_PERCENT
            bounds.append(f"{name}-p{share:g}={value:g}ms")
    return ",".join(bounds) or "p95=3s"


def _read_question(visit: PageVisit) -> PageQuestion:
    text = visit.form.get("yaml", "").replace("\r\n", "\n")
    fields = {
        **make_question(text).fields,
        **{name: value.strip() for name, value in visit.form.items() if name != "yaml"},
    }
    data = parse_document(text) or {}
    settings: dict[str, Any] = {}
    for knob_control in (*(knob.control for knob in KNOBS), METRIC):
        name = knob_control.path[-1]
        before = get_at(data, *knob_control.path)
        if name in visit.form and fields[name] != (show_value(knob_control.kind, before) or ""):
            settings[name] = parse_field(knob_control.kind, fields[name])
    return PageQuestion(text, fields, _drop_zero_fields(data, settings))


def _drop_zero_fields(data: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings that also remove scale-to-zero fields if the minimum is raised above 0."""
    from ebbtide.simulator.tune import FROM_ZERO  # it needs numpy

    def value(name: str) -> Any:
        return settings[name] if name in settings else get_at(data, *BLOCK, name)

    minimum = value("minReplicas")
    if "minReplicas" not in settings or not isinstance(minimum, int) or minimum < 1:
        return settings
    return {**settings, **{name: None for name in FROM_ZERO if value(name) is not None}}


def _make_request(visit: PageVisit, question: PageQuestion) -> SimulationRequest:
    """Return the request for the simulator.

    Raises:
        InputError: a field is invalid.
    """
    fields, log = question.fields, ""
    if fields["shape"] == "log":
        log = DESK.get_log(visit.session.name, fields.get("log", ""))
        traffic = "the log"
        if not log:
            raise _field_error("no log uploaded", "upload a log, or choose a traffic shape")
    else:
        shape = SHAPES.get(fields["shape"])
        if shape is None:
            raise _field_error("invalid traffic shape", f"use one of {', '.join(SHAPES)}")
        numbers = {name: _checked_number(fields, NUMBERS[name]) for name in shape.numbers}
        traffic = shape.words.format_map(numbers)
    return SimulationRequest(
        question.text,
        traffic,
        log.encode() or None,
        server=fields.get("words", "") or fields["server"],
        start_up=fields["start-up"] if any(map(str.isalpha, fields["start-up"])) else f"{fields['start-up']}s",
        slo=fields["slo"],
        cost=f"gpu-hour={fields['price']}" if fields.get("price") else "",
        settings=question.settings or None,
        evaluations=EVALUATIONS,
        # A shape is the same throughout; of a log, the first half is searched and the second half scores the result.
        part=0.5 if log else 1.0,
    )


def _checked_number(fields: Mapping[str, str], number: NumberInput) -> str:
    value = parse_field("number", fields[number.name])
    if not isinstance(value, (int, float)) or not 0 <= value < 1e6:  # noqa: PLR2004 - far above any useful value
        message = f"invalid {number.label.lower()} {fields[number.name]!r}: must be a number from 0 to below 1,000,000"
        raise _field_error(message, "enter a number of 0 or more")
    return f"{value:.10g}"


def _field_error(message: str, fix: str) -> InputError:
    return InputError([Problem("SIM004", (), message, fix)])


# The pages.


def show_simulation(visit: PageVisit) -> Response:
    """Show the page with a live workload and its recorded traffic, or with an example."""
    namespace, name = visit.query("namespace"), visit.query("name")
    if not name:
        key = visit.query("example")
        return _render_simulation_page(visit, make_question(load_examples().get(key, load_examples()["chat"]).text))
    live = visit.backend.reads.workload(visit.user, namespace, name).value
    text = write_live_spec(live.top, visit.backend.profile)
    log, words = _read_recorded_traffic(visit, Ref(namespace, name))
    if not log:
        return _render_simulation_page(
            visit,
            make_question(text),
            of=(namespace, name),
            message="No request metrics are available for this workload, so the simulation uses a traffic shape.",
        )
    log_name = DESK.keep_log(visit.session.name, log)
    message = "Replays the workload's traffic of the last six hours"
    message += " with the response times measured then." if words else "."
    return _render_simulation_page(
        visit, make_question(text, shape="log", log=log_name, words=words), of=(namespace, name), message=message
    )


def _read_recorded_traffic(visit: PageVisit, ref: Ref) -> tuple[str, str]:
    """Return a workload's recent traffic as a log of rates, and a matching server model; empty if unknown."""
    end = visit.backend.clock.now()
    try:
        history = visit.backend.measurements.history(
            visit.user, ref, end - TRAFFIC_SECONDS, end, TRAFFIC_SECONDS / TRAFFIC_POINTS
        )
    except SourceError:
        return "", ""
    log = write_traffic_log(history)
    return log, fit_server_model(history) if log else ""


def show_simulation_of_spec(visit: PageVisit) -> Response:
    """Show the page with the spec from the form."""
    return _render_simulation_page(visit, make_question(visit.form.get("yaml", "").replace("\r\n", "\n")))


def upload_log(visit: PageVisit) -> Response:
    """Store an uploaded log, and continue with it."""
    text = visit.form.get("file", "")
    if len(text) > MAX_LOG_CHARACTERS:
        return _show_log_error(
            visit,
            413,
            "The log is too large",
            f"The limit is {MAX_LOG_CHARACTERS // 1_000_000} MB. Shorten the log, or run ebbtide simulate.",
        )
    if not text.strip():
        return _show_log_error(
            visit, 422, "The log is empty", "Choose a file with one row per request, or with request counts."
        )
    log_name = DESK.keep_log(visit.session.name, text)
    lines = text.count("\n") + (not text.endswith("\n"))
    if visit.is_partial:
        return visit.render("comp_log.html", log=log_name, lines=lines)
    question = _read_question(visit)
    return _render_simulation_page(
        visit, PageQuestion(question.text, {**question.fields, "shape": "log", "log": log_name}, question.settings)
    )


def _show_log_error(visit: PageVisit, status: int, title: str, text: str) -> Response:
    """Show an error about a log in the log's place, so that the next upload replaces it."""
    if not visit.is_partial:
        raise PageError(status, title, text)
    return visit.render("comp_log.html", log="", lines=0, wrong=f"{title}. {text}")


def _render_simulation_page(visit: PageVisit, question: PageQuestion, **context: Any) -> Response:
    spec = read_spec(question.text, visit.backend.profile)
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
        compiled=find_spec("numba") is not None,
        **{"of": None, "message": "", **context},
    )


def run_page_simulation(visit: PageVisit) -> Response:
    """Simulate and show the result. Of several concurrent requests of a session, only the last is answered."""
    question = _read_question(visit)
    number, busy = DESK.next_turn(visit.session.name)
    with busy:
        if visit.is_partial and DESK.turns.get(visit.session.name) != number:
            return visit.render("comp_outcome.html", 204, **_outcome_context(question))
        outcome = _simulate(visit, question)
    if visit.is_partial:
        return visit.render("comp_outcome.html", **outcome)
    return _render_simulation_page(visit, outcome.pop("question"), **outcome)


def _simulate(visit: PageVisit, question: PageQuestion) -> dict[str, Any]:
    try:
        report = visit.backend.specs.run_in_worker(
            simulate_for_page, _make_request(visit, question), seconds=SIMULATION_SECONDS
        )
    except InputError as error:
        return _outcome_context(question, problems=error.problems)
    except LimitExceededError as error:
        return _outcome_context(question, problems=[Problem("SIM004", (), str(error))])
    return _outcome_context(question, report=report, charts=_make_report_charts(report))


def _outcome_context(
    question: PageQuestion,
    report: dict[str, Any] | None = None,
    charts: Sequence[Chart] = (),
    problems: Sequence[Problem] = (),
) -> dict[str, Any]:
    data = parse_document(question.text) or {}
    return {
        "question": question,
        "report": report,
        "charts": charts,
        "problems": problems,
        "changes": [(name, get_at(data, *BLOCK, name), value) for name, value in question.settings.items()],
        "text": question.tuned_text,
        "causes": CAUSES,
    }


def _make_report_charts(report: dict[str, Any]) -> list[Chart]:
    charts = []
    for chart in report["charts"]:
        unit = chart["unit"]
        count = max(len(curve["values"]) for curve in chart["curves"])
        time = [round(report["seconds"] * (index + 0.5) / count, 1) for index in range(count)]
        style = {"stepped": unit == "replicas", "fill": unit == "requests/s"}
        # The sixth color is red, for what is violated.
        curves = [
            Curve(row["name"], row["values"], row["colour"] % 5, row["dashed"], **style) for row in chart["curves"]
        ]
        charts.append(
            Chart(chart["title"], "" if unit in {"replicas", "requests"} else unit, time, curves, moments=False)
        )
    return charts


# The search.


def start_tuning(visit: PageVisit) -> Response:
    """Start a search from the current settings, and show its progress."""
    question = _read_question(visit)
    # The search does not change maxReplicas, its budget, so it needs the current value.
    question = replace(question, text=question.tuned_text, settings={})
    try:
        request = _make_request(visit, question)
    except InputError as error:
        return _render_search(
            visit, "", TuningSearch(question.text, visit.session.name, problems=tuple(error.problems))
        )
    search = TuningSearch(question.text, visit.session.name)
    name = DESK.add_search(search)
    Thread(target=_run_search, args=(visit, search, request), name="ebbtide-tune", daemon=True).start()
    if not visit.is_partial:
        return visit.redirect(f"/simulate/tune/{name}")
    return _render_search(visit, name, search)


def _run_search(visit: PageVisit, search: TuningSearch, request: SimulationRequest) -> None:
    def report_progress(news: dict[str, Any]) -> None:
        search.done, search.best = news["done"], news["best"]
        if search.stopped:
            raise SearchStoppedError

    try:
        search.result = visit.backend.specs.run_in_worker(
            tune_for_page, request, seconds=SEARCH_SECONDS, on_progress=report_progress
        )
    except InputError as error:
        search.problems = tuple(error.problems)
    except SearchStoppedError:
        search.problems = (
            Problem("SIM004", (), f"stopped after {count_noun(search.done, 'setting')}", "start a new search"),
        )
    except Exception as error:
        # Report any failure to the user who waits for the search.
        text = (
            str(error) if isinstance(error, LimitExceededError) else "the search failed; see the server log for details"
        )
        search.problems = (Problem("SIM004", (), text),)
        if not isinstance(error, LimitExceededError):
            raise


def show_search(visit: PageVisit) -> Response:
    """Show the progress or the result of a search."""
    name = visit.path_parameter("search")
    return _render_search(visit, name, DESK.get_search(visit.session.name, name))


def stop_search(visit: PageVisit) -> Response:
    name = visit.path_parameter("search")
    search = DESK.get_search(visit.session.name, name)
    search.stopped = True
    return _render_search(visit, name, search) if visit.is_partial else visit.redirect(f"/simulate/tune/{name}")


def _render_search(visit: PageVisit, name: str, search: TuningSearch) -> Response:
    result = search.result
    chosen = result["recommended"] if result is not None else None
    text = search.text if chosen is None else _apply_settings(search.text, chosen["changes"])
    return visit.render(
        "comp_tune.html" if visit.is_partial else "page_tune.html",
        page="simulate",
        name=name,
        search=search,
        result=result,
        text=text,
        lines=_diff_lines(search.text, text),
        scatter=None if result is None else make_scatter_plot(result),
        total=EVALUATIONS,
        requests=REQUESTS["tune"],
    )


def _diff_lines(before: str, after: str) -> list[tuple[str, str]]:
    """Return the lines that differ, each with ``-`` or ``+``."""
    from difflib import ndiff

    return [(line[0], line[2:]) for line in ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


@dataclass(frozen=True, slots=True)
class PlotDot:
    """One setting in the scatter plot: its position, kind, and label."""

    x: float
    y: float
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class ScatterPlot:
    """SLO attainment over replica-hours of all tried settings, in a box of 600 by 240."""

    dots: tuple[PlotDot, ...]
    front: str
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]


def make_scatter_plot(result: Mapping[str, Any]) -> ScatterPlot:
    """Return the scatter plot of a search: tried settings, the Pareto front, and the named settings."""
    points = result["points"]
    marked = [
        (result[key], kind, label)
        for key, kind, label in (
            ("knativeDefaults", "default", "Knative's defaults"),
            ("asItIs", "current", "current spec"),
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

    def dot(share: float, hours: float, kind: str, lead: str = "") -> PlotDot:
        label = f"{lead}{share * 100:.2f}% within the SLO, {hours:.2f} replica-hours"
        return PlotDot(x(hours), y(share), kind, label)

    dots = [
        dot(setting["attainment"], setting["hours"], "holds" if setting["holds"] else "fails") for setting in points
    ]
    dots += [dot(_attainment(setting), setting["replicaHours"], kind, f"{label}: ") for setting, kind, label in marked]
    front = " ".join(f"{x(row['replicaHours'] or 0)},{y(row['attainment'] or 0)}" for row in result["front"])
    ticks = [value for value in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if low <= math.log(value) <= high]
    return ScatterPlot(
        tuple(dots),
        front,
        tuple((x(value), f"{value:g} h") for value in ticks),
        tuple((y(share), f"{share * 100:g}%") for share in (0.0, 0.5, 0.9, 0.99, 0.999)),
    )


def _attainment(setting: Mapping[str, Any]) -> float:
    shares = [row["value"] for row in setting["slo"]["bounds"] if row["value"] is not None and row["bound"][0] in "pw"]
    others = [min(1.0, 1 / row["used"]) if row["used"] else 1.0 for row in setting["slo"]["bounds"]]
    return float(min(shares or others, default=1.0))
