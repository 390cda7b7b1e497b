"""The simulation page: traffic, replicas, and a threshold or an SLO, with the result. The command has all other settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Final

from starlette.responses import Response

from ebbtide.cluster.slo.replay import fit_server_model, write_traffic_log
from ebbtide.cluster.slo.source import Ref, SourceError
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem
from ebbtide.core.manifests.edit import NotEdited, edit_text
from ebbtide.core.readers.fields import field_names_at
from ebbtide.server.api.offline import InputError
from ebbtide.server.api.simulation import run_comparison
from ebbtide.server.api.workers import LimitExceededError
from ebbtide.server.web.charts import Chart, Curve
from ebbtide.server.web.fields import find_field, parse_number
from ebbtide.server.web.frame import PageVisit
from ebbtide.server.web.specs import load_examples, parse_document, write_live_spec
from ebbtide.simulator.request import SimulationRequest

#: Time limit of a simulation in seconds.
SIMULATION_SECONDS: Final = 60.0
#: Settings that a search simulates.
EVALUATIONS: Final = 200
#: The time span of a workload's recorded traffic, its resolution, and the time for which it is reused, in seconds.
TRAFFIC_SECONDS: Final = 6 * 3600.0
TRAFFIC_STEP_SECONDS: Final = 60.0
TRAFFIC_REUSE_SECONDS: Final = 600.0
BLOCK: Final = ("spec", "autoscaling")
RECORDED: Final = "recorded"
#: The traffic shapes: a label, and the shape in the simulator's syntax at a rate and a twentieth of it.
SHAPES: Final = {
    "diurnal": ("Daily cycle", "diurnal:{low}rps..{rate}rps,60m,60m"),
    "poisson": ("Random arrivals (Poisson)", "poisson:{rate}rps,60m"),
    "constant": ("Constant rate", "constant:{rate}rps,60m"),
    "ramp": ("Ramp", "ramp:{low}rps..{rate}rps,60m"),
    "steps": ("Step up and down", "steps:{low}rps,20m,{rate}rps,20m,{low}rps,20m"),
    "on-off": ("Bursts", "on-off:{rate}rps,2m,10m,60m"),
}
#: Suggested server models in the simulator's syntax, with their labels.
SERVERS: Final = {
    "lognormal:median=500ms,sigma=0.5,max=16": "500 ms median, 16 concurrent",
    "lognormal:median=80ms,sigma=0.4,max=32": "80 ms median, 32 concurrent",
    "fixed:200ms,max=8": "200 ms fixed, 8 concurrent",
    "llm:max=16,base=150ms,prompt=50us,output=20ms,tokens=500/200": "LLM, 20 ms/token, 16 concurrent",
    "llm:max=32,base=250ms,prompt=100us,output=35ms,tokens=1000/300": "Large LLM, 35 ms/token, 32 concurrent",
}


#: The settings with sliders, by their name in ``spec.autoscaling``: the slider's range, and the example of an empty field.
SLIDERS: Final = {"minReplicas": (0, 20, "1"), "maxReplicas": (1, 40, "1"), "metricThreshold": (1, 100, "10")}


def _show_setting(name: str, data: Any) -> str:
    """Return the setting of a spec as the page shows it."""
    value = get_at(data, *BLOCK, name)
    return "" if value is None else str(value)


# The request.


def _complete_fields(visit: PageVisit, given: Mapping[str, str]) -> dict[str, str]:
    """Return all fields of the page: the given ones, and defaults from the spec and the recorded traffic."""
    text = given["yaml"].replace("\r\n", "\n")
    data = parse_document(text) or {}
    log, server = _read_recorded_traffic(visit, given.get("of", ""))
    defaults = {
        "of": "",
        "shape": RECORDED if log else "diurnal",
        "rate": "40",
        "server": server or next(iter(SERVERS)),
        "start-up": "30s",
        "slo": "" if get_at(data, "spec", "slo") else "p95=3s",
        **{name: _show_setting(name, data) for name in SLIDERS},
    }
    return {"yaml": text, **{name: given.get(name, value).strip() for name, value in defaults.items()}}


def _read_recorded_traffic(visit: PageVisit, of: str) -> tuple[str, str]:
    """Return the recent traffic of a workload ``NAMESPACE/NAME`` as a log, and a matching server model; empty if unknown.

    Raises:
        MissingError: the workload does not exist or is not visible.
    """
    ref = Ref(of.partition("/")[0], of.partition("/")[2])
    if not of:
        return "", ""

    def ask() -> tuple[str, str]:
        end = visit.backend.clock.now()
        try:
            history = visit.backend.measurements.history(
                visit.user, ref, end - TRAFFIC_SECONDS, end, TRAFFIC_STEP_SECONDS
            )
        except SourceError:
            return "", ""
        log = write_traffic_log(history)
        return log, fit_server_model(history) if log else ""

    return visit.frame.polls.compute((RECORDED, visit.user, ref), TRAFFIC_REUSE_SECONDS, ask)


def _read_settings(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that differ from the spec's; a minimum above 0 also removes the fields of scaling to zero."""
    from ebbtide.simulator.tune import FROM_ZERO  # it needs numpy

    data = parse_document(fields["yaml"]) or {}
    settings = {
        name: parse_number(fields[name]) if fields[name] else None
        for name in SLIDERS
        if fields[name] != _show_setting(name, data)
    }
    minimum = settings.get("minReplicas")
    if isinstance(minimum, int) and minimum > 0:
        settings |= {name: None for name in FROM_ZERO if get_at(data, *BLOCK, name) is not None}
    return settings


def _make_request(visit: PageVisit, fields: Mapping[str, str], settings: Mapping[str, Any]) -> SimulationRequest:
    """Return the request for the simulator, which checks it."""
    log, _ = _read_recorded_traffic(visit, fields["of"])
    rate = parse_number(fields["rate"])
    low = rate / 20 if isinstance(rate, (int, float)) else rate
    _, shape = SHAPES.get(fields["shape"], ("", fields["shape"]))
    is_recorded = fields["shape"] == RECORDED and bool(log)
    price = visit.backend.gpu_hour
    return SimulationRequest(
        fields["yaml"],
        "the recorded traffic" if is_recorded else shape.replace("{rate}", str(rate)).replace("{low}", str(low)),
        log.encode() if is_recorded else None,
        server=fields["server"],
        start_up=fields["start-up"],
        slo=fields["slo"],
        cost=f"gpu-hour={price}" if price is not None else "",
        settings=settings or None,
    )


# The page.


def show_simulation(visit: PageVisit) -> Response:
    """Show the page with a live workload and its recorded traffic, or with an example."""
    namespace, name = visit.query("namespace"), visit.query("name")
    if not name:
        example = load_examples().get(visit.query("example"), load_examples()["chat"])
        return _render_simulation_page(visit, _complete_fields(visit, {"yaml": example.text}))
    live = visit.backend.reads.workload(visit.user, namespace, name).value
    text = write_live_spec(live.top, visit.backend.profile)
    return _render_simulation_page(visit, _complete_fields(visit, {"yaml": text, "of": f"{namespace}/{name}"}))


def run_page_simulation(visit: PageVisit) -> Response:
    """Simulate the spec of this page's form, or of the inference form, and show the result."""
    return _show_outcome(visit, lambda _fields, settings: settings)


def find_settings(visit: PageVisit) -> Response:
    """Search for the settings that meet the SLO with the fewest replica-hours, and show the result with them."""

    def search(fields: Mapping[str, str], settings: Mapping[str, Any]) -> Mapping[str, Any]:
        request = _make_request(visit, fields, {})
        found = visit.backend.specs.tune(
            replace(
                request,
                spec=_apply_settings(fields["yaml"], settings),
                evaluations=EVALUATIONS,
                # A shape is the same throughout; of recorded traffic, the second half scores what the first half suggests.
                part=0.5 if request.log else 1.0,
            )
        )["recommended"]
        if found is None:
            raise InputError(
                [Problem("SIM004", ("slo",), "no settings meet the SLO with this traffic and server", "relax the SLO")]
            )
        return {**settings, **found["changes"]}

    return _show_outcome(visit, search)


def _show_outcome(
    visit: PageVisit, choose: Callable[[Mapping[str, str], Mapping[str, Any]], Mapping[str, Any]]
) -> Response:
    """Simulate with the settings that ``choose`` makes of the fields and the user's settings, and show the result."""
    fields = _complete_fields(visit, {"yaml": "", **visit.form})
    settings: Mapping[str, Any] = _read_settings(fields)
    outcome: dict[str, Any] = {}
    try:
        settings = choose(fields, settings)
        outcome["report"] = visit.backend.specs.run_in_worker(
            run_comparison, _make_request(visit, fields, settings), seconds=SIMULATION_SECONDS
        )
        outcome["charts"] = _make_report_charts(outcome["report"])
    except InputError as error:
        outcome["problems"] = error.problems
    except LimitExceededError as error:
        outcome["problems"] = [Problem("SIM004", (), str(error))]
    before = parse_document(fields["yaml"]) or {}
    outcome["changes"] = [(name, get_at(before, *BLOCK, name), value) for name, value in settings.items()]
    outcome["text"] = _apply_settings(fields["yaml"], settings)
    if visit.is_partial:
        return visit.render("comp_outcome.html", **outcome)
    return _render_simulation_page(visit, fields, **outcome)


def _apply_settings(text: str, settings: Mapping[str, Any]) -> str:
    """Return a spec's YAML with other settings, or unchanged if they cannot be written there."""
    try:
        return edit_text(text, {(*BLOCK, name): value for name, value in settings.items()}, field_names_at)
    except NotEdited:
        return text


def _render_simulation_page(visit: PageVisit, fields: Mapping[str, str], **outcome: Any) -> Response:
    log, server = _read_recorded_traffic(visit, fields["of"])
    return visit.render(
        "page_simulate.html",
        page="simulate",
        fields=fields,
        name=get_at(parse_document(fields["yaml"]), "metadata", "name") or "",
        shapes={**({RECORDED: ("Recorded, the last six hours", "")} if log else {}), **SHAPES},
        servers={**({server: "as measured"} if server else {}), **SERVERS},
        sliders={name: (find_field(".".join((*BLOCK, name))), *bounds) for name, bounds in SLIDERS.items()},
        compiled=find_spec("numba") is not None,
        **outcome,
    )


def _make_report_charts(report: Mapping[str, Any]) -> list[Chart]:
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
