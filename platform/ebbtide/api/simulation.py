"""Simulations on request: validation and limits of the request, and the results of ``ebbtide simulate`` and ``tune``.

All of it runs in a worker process (``workers.py``), never in the server, since it is CPU-bound for seconds.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ebbtide.base.problems import Problem, has_errors
from ebbtide.documents import profiles, texts
from ebbtide.simulate import words
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import LoadedDocument
    from ebbtide.simulate.case import Case
    from ebbtide.simulate.data import StartUp, TrafficTrace
    from ebbtide.simulate.load import TrafficReading
    from ebbtide.simulate.report import SimulationReport
    from ebbtide.simulate.servers import Server
    from ebbtide.simulate.setting import Setting
    from ebbtide.simulate.slo import SloBound
    from ebbtide.simulate.tune import SearchResult, TuningResult
    from ebbtide.translation.plan import Plan

_Read = TypeVar("_Read")

#: Maximum number of requests in a simulation, and in each simulation of a search; the command line accepts more.
REQUESTS: Final = {"simulate": 1_000_000, "tune": 200_000}
SECONDS: Final = 31 * 86_400.0
EVALUATIONS: Final = 400


class SimulationRequestError(Exception):
    """A request that cannot be simulated; ``problems`` lists the reasons."""

    def __init__(self, *problems: Problem) -> None:
        """Store the problems."""
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = list(problems)

    def __reduce__(self) -> tuple[type[SimulationRequestError], tuple[Problem, ...]]:
        """Support pickling, so that a worker can return the error."""
        return SimulationRequestError, tuple(self.problems)


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
        AskedError: the request cannot be simulated.

    """
    from ebbtide.simulate import report  # noqa: PLC0415 - it needs numpy
    from ebbtide.simulate.setting import knative_defaults  # noqa: PLC0415 - as above

    loaded, plan, case, server, notes = make_simulation_case(request, load_profile_data(profile_data), "simulate")
    update_at = parse_update(request.update_at, plan)
    with raise_refusals(loaded):
        current = case.setting({})
        tried = {"this spec": current}
        if request.settings:
            tried["these settings"] = case.setting(request.settings)
        tried["Knative's defaults"] = knative_defaults(current)
        values = {"these settings": dict(request.settings or {})}
        return report.report_to_json(make_report(loaded, case, server, notes, tried, values, update_at))


def parse_update(text: str, plan: Plan) -> float | None:
    """Return the second at which an update begins, None without one. Raises SimulationRequestError."""
    from ebbtide.simulate.load import parse_compound_duration  # noqa: PLC0415 - it needs numpy

    if not text:
        return None
    if plan.spec.rollout.surge is None:
        fix = "set rollout: {surge: 0} in the spec"
        raise _make_field_error(("update_at",), "only an update of one replica at a time is simulated", fix)
    return _parse_field(parse_compound_duration, "update_at", text, "write 5m")


def make_report(
    loaded: LoadedDocument,
    case: Case,
    server: str,
    notes: tuple[str, ...],
    settings: Mapping[str, Setting],
    values: Mapping[str, dict[str, Any]],
    update_at: float | None = None,
) -> SimulationReport:
    """Simulate several settings for comparison; ``values`` maps a setting's name to its fields of the spec.

    With ``update_at``, the first setting is also simulated with an update that begins at this second. If the errors of the
    server are known, the first setting is also simulated with a faster and a slower server, and a note states the times.
    """
    from ebbtide.simulate import report, rollout  # noqa: PLC0415 - they need numpy

    results = {name: case.simulate_setting(setting) for name, setting in settings.items()}
    bounds = case.server.error_bounds(case.traffic)
    if bounds is not None:
        errors, fast, slow = bounds
        setting = next(iter(settings.values()))
        times = (case.measure(replace(case, server=server).simulate_setting(setting)) for server in (fast, slow))
        notes = (*notes, report.describe_bounds(errors, *times))
    update = None
    if update_at is not None:
        first, *others = settings
        simulated = rollout.simulate_update(case, settings[first], update_at)
        measured = (rollout.measure_during(case, result, simulated) for result in (results[first], simulated.result))
        update = report.UpdateReport(simulated, *measured)
        results = {
            first: results[first],
            "with the update": simulated.result,
            **{name: results[name] for name in others},
        }
    runs = (
        report.SimulationRun(name, values.get(name, {}), result, case.measure(result))
        for name, result in results.items()
    )
    return report.SimulationReport(
        workload_name_of(loaded), case.traffic, server, case.start_up.seconds, case.seed, tuple(runs), notes, update
    )


def run_search(request: SimulationRequest, profile_data: dict[str, Any]) -> dict[str, Any]:
    """Search for settings that meet the SLO with as few replicas as possible; returns the JSON of ``ebbtide tune``.

    Raises:
        AskedError: there is no SLO, or the request cannot be simulated.

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
    from ebbtide.simulate import advice  # noqa: PLC0415 - it needs numpy
    from ebbtide.simulate.tune import make_search_space  # noqa: PLC0415 - as above
    from ebbtide.simulate.tune import tune_settings as search  # noqa: PLC0415 - as above

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


def make_simulation_case(
    request: SimulationRequest, profile: Profile, command: str
) -> tuple[LoadedDocument, Plan, Case, str, tuple[str, ...]]:
    """Return the spec, its plan, the case to simulate, the server's text, and the assumptions. Raises AskedError."""
    from ebbtide.simulate import load, servers, slo  # noqa: PLC0415 - they need numpy

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
    parts = (request.server, server, start_up, request.seed, bounds, price)
    return complete_case(loaded, plan, profile, traffic, *parts, command, "set server")


def complete_case(
    loaded: LoadedDocument,
    plan: Plan,
    profile: Profile,
    traffic: TrafficTrace,
    server_text: str,
    server: Server | None,
    start_up: StartUp,
    seed: int,
    bounds: tuple[SloBound, ...] | None,
    price: float | None,
    command: str,
    server_hint: str,
) -> tuple[LoadedDocument, Plan, Case, str, tuple[str, ...]]:
    """Return a case with defaults for the values that are None, and the assumptions made.

    ``server_hint`` says how to set the server.
    """
    from ebbtide.simulate import load, servers, slo  # noqa: PLC0415 - they need numpy
    from ebbtide.simulate.case import Case, gpus_of  # noqa: PLC0415 - as above

    coverage = load.describe_coverage(traffic.name)
    notes = [coverage] if coverage else []
    if server is None:
        server_text = words.PLAIN_SERVER if traffic.output_tokens is None else words.TOKENS_SERVER
        server = servers.parse_server(server_text)
        notes.append(f"the server model {server_text} is an assumption: measure your server, and {server_hint}")
    with suppress(servers.ServerError):  # the simulation reports a server that does not fit the traffic
        notes += server.notes(traffic)
    if bounds is None:
        assert loaded.inference is not None
        bounds = slo.read_spec_bounds(loaded.inference.spec.slo)
    gpus = gpus_of(plan)
    if price is not None and not gpus:
        notes.append("a replica has no GPU, so its cost is 0")
    fast = command == "tune" or len(traffic.times) > words.MANY
    case = Case(loaded.reading.native, profile, traffic, server, start_up, seed, bounds, gpus, price, fast=fast)
    return loaded, plan, case, server_text, tuple(notes)


@lru_cache(maxsize=2)
def _parse_log(log: str, name: str, seed: int) -> TrafficReading:
    """Parse a log; cached, since a client that varies a setting sends the same log each time."""
    from ebbtide.simulate import load  # noqa: PLC0415 - it needs numpy

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


def workload_name_of(loaded: LoadedDocument) -> str:
    """Return the workload's name."""
    return str(loaded.reading.native["metadata"]["name"])


@contextmanager
def raise_refusals(loaded: LoadedDocument, option: str = "server") -> Iterator[None]:
    """Convert the simulator's errors into problems of the spec; ``option`` names the parameter that sets the server."""
    from ebbtide.simulate.servers import ServerError  # noqa: PLC0415 - it needs numpy
    from ebbtide.simulate.setting import NotSimulated  # noqa: PLC0415 - as above

    try:
        yield
    except NotSimulated as error:
        problem = Problem("SIM001", (error.where,), error.message, error.fix, document=loaded.name)
        raise SimulationRequestError(problem) from None
    except ServerError as error:
        raise SimulationRequestError(
            Problem("SIM002", (), str(error), f"set the server with {option}", document=loaded.name)
        ) from None


def _parse_field(reader: Callable[[str], _Read], name: str, text: str, form: str) -> _Read:
    """Parse a field. Raises AskedError with the field's name."""
    try:
        return reader(text)
    except ValueError as error:
        raise _make_field_error((name,), str(error), form) from None


def _make_field_error(where: tuple[str, ...], message: str, fix: str) -> SimulationRequestError:
    return SimulationRequestError(Problem("SIM004", where, message, fix))
