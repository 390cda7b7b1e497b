"""Simulations on request: validation and limits of the request, and the results of ``ebbtide simulate`` and ``tune``.

All of it runs in a worker process (``workers.py``), never in the server, since it is CPU-bound for seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ebbtide.base.problems import Problem, has_errors
from ebbtide.documents import profiles, texts
from ebbtide.simulate import words
from ebbtide.simulate.prepared import (
    CaseInputs,
    PreparedCase,
    SimulationRequestError,
    complete_case,
    make_report,
    raise_refusals,
    workload_name_of,
)
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import LoadedDocument
    from ebbtide.simulate.load import TrafficReading
    from ebbtide.simulate.tune import SearchResult, TuningResult
    from ebbtide.translation.plan import Plan

_Read = TypeVar("_Read")

#: Maximum number of requests in a simulation, and in each simulation of a search; the command line accepts more.
REQUESTS: Final = {"simulate": 1_000_000, "tune": 200_000}
SECONDS: Final = 31 * 86_400.0
EVALUATIONS: Final = 400


@dataclass(frozen=True, slots=True)
class SimulationRequest:
    """A simulation request in command-line syntax; ``log`` is the text of a log, instead of a shape in ``traffic``."""

    spec: str
    traffic: str
    log: str = ""
    server: str = ""
    start_up: str = "45s"
    slo: str = ""
    cost: str = ""
    seed: int = 0
    #: Alternative fields of ``spec.autoscaling``, simulated in addition to the spec; None removes a field.
    settings: Mapping[str, Any] | None = None
    #: The time at which an update of one replica at a time begins.
    update_at: str = ""
    # For tune.
    keep: Sequence[str] = ()
    evaluations: int = 200
    part: float = 0.5


def run_simulation(request: SimulationRequest, profile_data: dict[str, Any]) -> dict[str, Any]:
    """Simulate the spec, the alternative settings and Knative's defaults; returns the JSON of ``ebbtide simulate``.

    Raises:
        SimulationRequestError: the request cannot be simulated.

    """
    from ebbtide.simulate import report  # it needs numpy
    from ebbtide.simulate.setting import knative_defaults

    prepared = make_simulation_case(request, load_profile_data(profile_data), "simulate")
    case, update_at = prepared.case, parse_update(request.update_at, prepared.plan)
    with raise_refusals(prepared.loaded):
        current = case.setting({})
        tried = {"this spec": current}
        if request.settings:
            tried["these settings"] = case.setting(request.settings)
        tried["Knative's defaults"] = knative_defaults(current)
        values = {"these settings": dict(request.settings or {})}
        return report.report_to_json(make_report(prepared, tried, values, update_at))


def parse_update(text: str, plan: Plan) -> float | None:
    """Return the second at which an update begins, None without one. Raises SimulationRequestError."""
    from ebbtide.simulate.load import parse_compound_duration  # it needs numpy

    if not text:
        return None
    if plan.spec.rollout.surge is None:
        fix = "set rollout: {surge: 0} in the spec"
        raise _make_field_error(("update_at",), "only an update of one replica at a time is simulated", fix)
    return _parse_field(parse_compound_duration, "update_at", text, "write 5m")


def run_search(request: SimulationRequest, profile_data: dict[str, Any]) -> dict[str, Any]:
    """Search for settings that meet the SLO with as few replicas as possible; returns the JSON of ``ebbtide tune``.

    Raises:
        SimulationRequestError: there is no SLO, or the request cannot be simulated.

    """
    return search_settings(request, profile_data, "request", "set slo: p95=2s, or slo in the spec")[1]


def search_settings(
    request: SimulationRequest,
    profile_data: dict[str, Any],
    source: str,
    fix: str,
    progress: Callable[[SearchResult], None] = lambda _: None,
) -> tuple[TuningResult, dict[str, Any]]:
    """Run a search, and return its result and its JSON. ``source`` and ``fix`` complete the error for a missing SLO."""
    from ebbtide.simulate import advice  # it needs numpy
    from ebbtide.simulate.tune import make_search_space
    from ebbtide.simulate.tune import tune_settings as search

    unknown = sorted({*request.keep} - {*words.KEEPABLE})
    if unknown:
        raise _make_field_error(
            ("keep",),
            f"cannot keep unknown fields: {', '.join(unknown)}",
            f"use only {', '.join(words.KEEPABLE)}",
        )
    loaded, plan, case, _, notes = make_simulation_case(request, load_profile_data(profile_data), "tune")
    if not case.bounds:
        text = f"neither the spec nor the {source} sets an SLO"
        raise SimulationRequestError(Problem("TUN001", ("spec", "slo"), text, fix))
    block = dict(case.document["spec"].get("autoscaling") or {})
    knobs, base, bounds = make_search_space(block, plan.scaling, {*request.keep})
    part = case.traffic.seconds * request.part
    with raise_refusals(loaded):
        tuned = search(case, knobs, base, bounds, part=part, evaluations=request.evaluations, progress=progress)
    return tuned, {**advice.tuning_to_json(tuned, workload_name_of(loaded)), "notes": list(notes)}


def load_profile_data(data: dict[str, Any]) -> Profile:
    """Validate a profile's document in this process: compiled profile classes cannot be pickled."""
    profile, problems = profiles.validate_profile_data(data)
    assert profile is not None, problems
    return profile


def make_simulation_case(request: SimulationRequest, profile: Profile, command: str) -> PreparedCase:
    """Return the case to simulate. Raises SimulationRequestError."""
    from ebbtide.simulate import load, servers, slo  # they need numpy

    if not 0 < request.part <= 1 or not 1 <= request.evaluations <= EVALUATIONS:
        raise _make_field_error(
            ("part",),
            f"part must be above 0 and at most 1, and evaluations must be 1 to {EVALUATIONS}",
            "set part and evaluations within these limits",
        )
    if request.server.partition(":")[0] == "empirical":
        # It names a file, and a request must not read the server's files.
        raise _make_field_error(
            ("server",), "an empirical server is read from a file", "use ebbtide simulate with a local file"
        )
    loaded, plan = _translate_spec(request.spec, profile)
    start_up = _parse_field(words.parse_start_up, "start_up", request.start_up, "write 45s, or pull=20s,load=20s")
    price = _parse_field(words.parse_gpu_hour, "cost", request.cost, "write gpu-hour=2.5")
    bounds = (
        _parse_field(slo.parse_bounds, "slo", request.slo, "write p95=2s, or mean=800ms,uptime=99.9")
        if request.slo
        else None
    )
    server_form = "write fixed:200ms,max=8, or lognormal:median=500ms,sigma=0.5,max=16"
    server = _parse_field(servers.parse_server, "server", request.server, server_form) if request.server else None
    if request.log:
        reading = _parse_log(request.log, request.traffic or "traffic.csv", request.seed)
    elif load.is_shape(request.traffic):
        reading = load.generate_traffic(request.traffic, request.seed)
    else:
        raise _make_field_error(
            ("traffic",),
            f"invalid traffic shape {request.traffic[:80]!r}",
            f"write {', '.join(load.FORMS.values())}",
        )
    traffic = reading.traffic
    if traffic is None:
        raise SimulationRequestError(*reading.problems)
    if len(traffic.times) > REQUESTS[command] or traffic.seconds > SECONDS:
        raise SimulationRequestError(
            Problem(
                load.MANY,
                ("traffic",),
                f"the traffic has {len(traffic.times)} requests in {traffic.seconds / 86_400:.1f} days; "
                f"this server simulates at most {REQUESTS[command]} requests in {SECONDS / 86_400:.0f} days",
                f"use a part of the traffic, or ebbtide {command} on the command line",
            )
        )
    inputs = CaseInputs(loaded, plan, profile, traffic, server, request.server, start_up, request.seed, bounds, price)
    return complete_case(inputs, command, "set server")


@lru_cache(maxsize=2)
def _parse_log(log: str, name: str, seed: int) -> TrafficReading:
    """Parse a log; cached, since a client that varies a setting sends the same log each time."""
    from ebbtide.simulate import load  # it needs numpy

    return load.parse_traffic(log.encode(), name, seed)


def _translate_spec(text: str, profile: Profile) -> tuple[LoadedDocument, Plan]:
    documents = [*texts.load_text(text.encode(), "", profile)]
    if len(documents) != 1:
        message = f"{len(documents)} specs: exactly one spec can be simulated"
        raise SimulationRequestError(Problem("SIM003", (), message, "send exactly one spec"))
    loaded = documents[0]
    if loaded.inference is None:
        raise SimulationRequestError(*loaded.problems)
    translation = translate(loaded.inference, profile, loaded.canonical)
    problems = loaded.problems + loaded.place_problems(translation.problems)
    if translation.plan is None or has_errors(problems):
        raise SimulationRequestError(*problems)
    return loaded, translation.plan


def _parse_field(reader: Callable[[str], _Read], name: str, text: str, form: str) -> _Read:
    """Parse a field. Raises SimulationRequestError with the field's name."""
    try:
        return reader(text)
    except ValueError as error:
        raise _make_field_error((name,), str(error), form) from None


def _make_field_error(where: tuple[str, ...], message: str, fix: str) -> SimulationRequestError:
    return SimulationRequestError(Problem("SIM004", where, message, fix))
