"""The simulation page: one form, whose answer is the HTML page of ``ebbtide simulate``."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from starlette.responses import HTMLResponse, Response

from ebbtide.cluster.slo.replay import fit_server_model, write_traffic_log
from ebbtide.cluster.slo.source import Ref, SourceError
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem
from ebbtide.server.api.offline import InputError
from ebbtide.server.api.simulation import run_report
from ebbtide.server.api.workers import LimitExceededError
from ebbtide.server.web.parts.frame import PageVisit
from ebbtide.server.web.parts.specs import load_examples, parse_document, write_live_spec
from ebbtide.simulator.search.request import SimulationRequest

#: Time limit of a simulation in seconds.
SIMULATION_SECONDS: Final = 60.0
#: The time span of a workload's recorded traffic, its resolution, and the time for which it is reused, in seconds.
TRAFFIC_SECONDS: Final = 6 * 3600.0
TRAFFIC_STEP_SECONDS: Final = 60.0
TRAFFIC_REUSE_SECONDS: Final = 600.0
RECORDED: Final = "recorded"
#: Fields with a list of values and a text.
CHOSEN: Final = ("traffic", "server")
#: Suggested traffic shapes and server models in the simulator's syntax, with their labels.
SHAPES: Final = {
    "diurnal:2rps..40rps,60m,60m": "Daily cycle, 2 to 40 requests/s, 60 min",
    "poisson:40rps,60m": "Random arrivals, 40 requests/s, 60 min",
    "steps:2rps,20m,40rps,20m,2rps,20m": "Steps of 20 min: 2, 40, 2 requests/s",
    "on-off:40rps,2m,10m,60m": "Bursts of 2 min, 40 requests/s, 60 min",
}
SERVERS: Final = {
    "lognormal:median=500ms,sigma=0.5,max=16": "500 ms median, 16 concurrent",
    "fixed:200ms,max=8": "200 ms fixed, 8 concurrent",
    "llm:max=16,base=150ms,prompt=50us,output=20ms,tokens=500/200": "LLM, 20 ms/token, 16 concurrent",
}


def show_simulation(visit: PageVisit) -> Response:
    """Show the form with a live workload and its recorded traffic, or with an example."""
    namespace, name = visit.query("namespace"), visit.query("name")
    if not name:
        example = load_examples().get(visit.query("example"), load_examples()["chat"])
        return _render_form(visit, {"yaml": example.text})
    live = visit.backend.reads.workload(visit.user, namespace, name).value
    return _render_form(visit, {"yaml": write_live_spec(live.top, visit.backend.profile), "of": f"{namespace}/{name}"})


def run_simulation(visit: PageVisit) -> Response:
    """Send the report of the form's simulation; the form again if it cannot be simulated, and for the spec of the editor."""
    form = visit.form
    if "traffic" not in form:
        return _render_form(visit, form)
    # A text has precedence over the list above it.
    form = {**form, **{name: text for name in CHOSEN if (text := form.get(f"{name}-text", "").strip())}}
    log, _ = _read_recorded_traffic(visit, form.get("of", ""))
    is_recorded, price = form["traffic"] == RECORDED and bool(log), visit.backend.gpu_hour
    request = SimulationRequest(
        form.get("yaml", "").replace("\r\n", "\n"),
        "the recorded traffic" if is_recorded else form["traffic"].strip(),
        log.encode() if is_recorded else None,
        server=form.get("server", "").strip(),
        start_up=form.get("start-up", "").strip(),
        slo=form.get("slo", "").strip(),
        cost="" if price is None else f"gpu-hour={price}",
    )
    try:
        page = visit.backend.specs.run_in_worker(run_report, request, seconds=SIMULATION_SECONDS)
    except InputError as error:
        return _render_form(visit, form, error.problems)
    except LimitExceededError as error:
        return _render_form(visit, form, [Problem("SIM004", (), str(error))])
    return HTMLResponse(page, headers={"Content-Security-Policy": _make_policy(page)})


def _make_policy(page: str) -> str:
    """Return the policy of a report, which has one inline script, styles, and nothing from elsewhere."""
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    digest = b64encode(sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


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

    return visit.backend.polls.compute((RECORDED, visit.user, ref), TRAFFIC_REUSE_SECONDS, ask)


def _render_form(visit: PageVisit, given: Mapping[str, str], problems: list[Problem] | None = None) -> Response:
    """Show the form with the given fields, and defaults from the spec and the recorded traffic."""
    data = parse_document(given.get("yaml", "")) or {}
    log, server = _read_recorded_traffic(visit, given.get("of", ""))
    defaults = {
        "yaml": "",
        "of": "",
        "traffic": RECORDED if log else next(iter(SHAPES)),
        "server": server or next(iter(SERVERS)),
        "start-up": "30s",
        "slo": "" if get_at(data, "spec", "slo") else "p95=3s",
    }
    return visit.render(
        "page_simulate.html",
        422 if problems else 200,
        page="simulate",
        fields={name: given.get(name, value) for name, value in defaults.items()},
        shapes={**({RECORDED: "Recorded in the last six hours"} if log else {}), **SHAPES},
        servers={**({server: "Measured response times"} if server else {}), **SERVERS},
        problems=problems or [],
    )
