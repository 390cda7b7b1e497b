"""Simulations on request: limits of the request, and the results of ``ebbtide simulate`` and ``tune``.

All of it runs in a worker process (``workers.py``), never in the server, since it is CPU-bound for seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.problems import Problem
from ebbtide.core.documents import profiles, texts
from ebbtide.core.report import render_page
from ebbtide.core.units import format_duration
from ebbtide.simulator.fleet.remedy import RecordedHour, Remedies, find_remedies
from ebbtide.simulator.fleet.savings import ServiceReplay, replay_service
from ebbtide.simulator.search import request as cases
from ebbtide.simulator.traffic import words

if TYPE_CHECKING:
    from ebbtide.simulator.engine.report import SimulationReport

#: Maximum number of requests in a simulation, and in each one of a search or a cost report; the command line accepts more.
REQUESTS: Final = {"simulate": 1_000_000, "tune": 200_000, "report": 1_000_000}
SECONDS: Final = 31 * 86_400.0
EVALUATIONS: Final = 400


def run_simulation(request: cases.SimulationRequest, profile_data: dict[str, Any]) -> dict[str, Any]:
    """Simulate the spec, the alternative settings and Knative's defaults; returns the JSON of ``ebbtide simulate``.

    Raises:
        SimulationRequestError: the request cannot be simulated.
    """
    from ebbtide.simulator.engine import report

    return report.report_to_json(_compare(request, profile_data))


def run_report(request: cases.SimulationRequest, profile_data: dict[str, Any]) -> str:
    """Simulate as ``run_simulation`` does; returns the page of ``ebbtide simulate -o html``.

    Raises:
        SimulationRequestError: the request cannot be simulated.
    """
    from ebbtide.simulator.engine import report

    return render_page(report.make_content(_compare(request, profile_data)))


def _compare(request: cases.SimulationRequest, profile_data: dict[str, Any]) -> SimulationReport:
    from ebbtide.simulator.engine.setting import knative_defaults

    prepared = prepare_request(request, profile_data, "simulate")
    with cases.raise_refusals(prepared):
        current = prepared.case.setting({})
        tried = {"this spec": current}
        if request.settings:
            tried["these settings"] = prepared.case.setting(request.settings)
        tried["Knative's defaults"] = knative_defaults(current)
        return cases.make_report(prepared, tried, {"these settings": dict(request.settings or {})})


def run_replay(request: cases.SimulationRequest, profile_data: dict[str, Any]) -> ServiceReplay:
    """Replay recorded requests for a cost report. Raises SimulationRequestError."""
    prepared = prepare_request(request, profile_data, "report")
    return replay_service(request, prepared.loaded, prepared.case.profile)


def run_remedies(request: cases.SimulationRequest, hour: RecordedHour, profile_data: dict[str, Any]) -> Remedies:
    """Search the nearest setting that would have kept the SLO in an hour. Raises SimulationRequestError."""
    prepared = prepare_request(request, profile_data, "report")
    return find_remedies(request, prepared.loaded, prepared.case.profile, hour)


def run_search(request: cases.SimulationRequest, profile_data: dict[str, Any]) -> dict[str, Any]:
    """Search for settings that meet the SLO with as few replicas as possible; returns the JSON of ``ebbtide tune``.

    Raises:
        SimulationRequestError: there is no SLO, or the request cannot be simulated.
    """
    unknown = sorted({*request.keep} - {*words.KEEPABLE})
    if unknown:
        message, fix = f"cannot keep unknown fields: {', '.join(unknown)}", f"use only {', '.join(words.KEEPABLE)}"
        raise cases.RequestFieldError("keep", message, fix)
    prepared = prepare_request(request, profile_data, "tune")
    return cases.tuning_to_json(prepared, cases.search_settings(prepared, cases.open_search(prepared)))


def prepare_request(request: cases.SimulationRequest, profile_data: dict[str, Any], command: str) -> cases.PreparedCase:
    """Return the case of a request within the limits. Raises SimulationRequestError."""
    from ebbtide.simulator.traffic.load import MANY

    # The profile comes as a document, because compiled profile classes cannot be pickled.
    profile, problems = profiles.validate_profile_data(profile_data)
    assert profile is not None, problems
    if not 0 < request.part <= 1 or not 1 <= request.evaluations <= EVALUATIONS:
        message = f"part must be above 0 and at most 1, and evaluations must be 1 to {EVALUATIONS}"
        raise cases.RequestFieldError("part", message, "set part and evaluations within these limits")
    documents = [*texts.load_text(request.spec.encode(), "", profile)]
    if len(documents) != 1:
        message = f"{len(documents)} specs: exactly one spec can be simulated"
        raise cases.SimulationRequestError(Problem("SIM003", (), message, "send exactly one spec"))
    prepared = cases.prepare_case(request, documents[0], profile, command)
    traffic = prepared.case.traffic
    if len(traffic.times) > REQUESTS[command] or traffic.seconds > SECONDS:
        text = (
            f"the traffic has {len(traffic.times)} requests in {format_duration(traffic.seconds)}; "
            f"this server simulates at most {REQUESTS[command]} requests in {format_duration(SECONDS)}"
        )
        fix = f"use a part of the traffic, or ebbtide {command} on the command line"
        raise cases.SimulationRequestError(Problem(MANY, ("traffic",), text, fix))
    return prepared
