"""One request for a simulation or a search, which the command line, the API and the page fill, and its case and report."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from ebbtide.core.base.problems import Problem, has_errors
from ebbtide.core.translation.gpu import count_gpus_per_replica
from ebbtide.core.translation.translate import translate
from ebbtide.simulator import data
from ebbtide.simulator.search.judge import SEEDS, SPARE
from ebbtide.simulator.traffic import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.loaded import LoadedDocument
    from ebbtide.core.translation.plan import Plan
    from ebbtide.simulator.data import TrafficTrace
    from ebbtide.simulator.engine.case import Case
    from ebbtide.simulator.engine.report import SimulationReport
    from ebbtide.simulator.engine.setting import Setting
    from ebbtide.simulator.search.tune import SearchResult, SearchSpace, TuningResult
    from ebbtide.simulator.traffic.server_model import Server

#: The error of every function here.
SimulationRequestError = data.SimulationRequestError
#: Server of one service: its name before the model.
NAMED_SERVER: Final = re.compile(r"([a-z0-9][a-z0-9.-]*)=(.+)")
_Value = TypeVar("_Value")
_Parsed = TypeVar("_Parsed")


class RequestFieldError(SimulationRequestError):
    """A field of a request that is invalid."""

    def __init__(self, field: str, message: str, fix: str) -> None:
        super().__init__(Problem("SIM004", (field,), message, fix))
        self.field = field


@dataclass(frozen=True, slots=True)
class SimulationRequest:
    """A simulation or a search, in the syntax of the command line; the same for the command line, the API and the page."""

    #: The spec's text; the name of its file on the command line.
    spec: str
    #: A shape, or the name of the log.
    traffic: str
    log: bytes | None = None
    #: Column names of the log, by their role.
    columns: tuple[tuple[str, str], ...] = ()
    server: str = ""
    start_up: str = "45s"
    slo: str = ""
    cost: str = ""
    seed: int = 0
    #: Alternative fields of ``spec.autoscaling``, simulated in addition to the spec; None removes a field.
    settings: Mapping[str, Any] | None = None
    # For tune.
    keep: Sequence[str] = ()
    evaluations: int = 200
    part: float = 0.5
    #: Share of the SLO's allowance that a proposal leaves unused; for reports, too.
    spare: float = SPARE


class TrafficLog(NamedTuple):
    """A log: the workload's name, the name of the file, its content, and the server model that was fitted to it, if any."""

    workload: str
    file: str
    content: bytes
    server: str = ""

    def count_requests(self) -> int:
        """Return the number of requests of a log with counts by interval."""
        return sum(int(line.rpartition(b",")[2]) for line in self.content.splitlines()[1:])


@dataclass(frozen=True, slots=True)
class FleetRequest:
    """A plan of a fleet, in the syntax of the command line; the same for the command line, the API and the page."""

    #: GPUs of each node pool and of its nodes (0: as in the profile), the one to search first; by default, those of the profile.
    pools: Sequence[tuple[str, int, int]] = ()
    prices: Sequence[tuple[str, float]] = ()
    #: Number of training pods, their node pool, and whether they are preemptible.
    training: tuple[int, str, bool] | None = None
    #: Factor of the requests of a service.
    factors: Mapping[str, float] = field(default_factory=dict)
    servers: Sequence[str] = ()
    columns: tuple[tuple[str, str], ...] = ()
    start_up: str = "45s"
    slo: str = ""
    seed: int = 0
    #: Number of services for which changes are simulated.
    changes: int = 5
    #: Share of the SLO's allowance that a change leaves unused.
    spare: float = SPARE


class PreparedCase(NamedTuple):
    """A request with its spec, its plan, the case to simulate, and what a report says about them."""

    request: SimulationRequest
    loaded: LoadedDocument
    plan: Plan
    case: Case
    server: str
    """Server model as text."""
    notes: tuple[str, ...]
    """Assumptions that were made."""

    @property
    def autoscaling(self) -> dict[str, Any]:
        """Autoscaling settings of the spec."""
        return dict(self.case.document["spec"].get("autoscaling") or {})


def prepare_case(request: SimulationRequest, loaded: LoadedDocument, profile: Profile, command: str) -> PreparedCase:
    """Return the case of ``simulate`` or ``tune`` for a spec, with defaults for the fields that are empty.

    Raises SimulationRequestError if the request cannot be simulated, and RequestFieldError if a field is invalid.
    """
    from ebbtide.simulator.engine import slo  # noqa: PLC0415 - they need numpy
    from ebbtide.simulator.engine.case import Case  # noqa: PLC0415 - as above
    from ebbtide.simulator.traffic import load, server_model, servers  # noqa: PLC0415 - they need numpy

    start_up = _parse_field(words.parse_start_up, "start_up", request.start_up, "write 45s, or pull=20s,load=20s")
    price = _parse_field(words.parse_gpu_hour, "cost", request.cost, "write gpu-hour=2.5")
    bounds: tuple[slo.SloBound, ...] | None = None
    if request.slo:
        bounds = _parse_field(slo.parse_bounds, "slo", request.slo, "write p95=2s, or mean=800ms,uptime=99.9")
    server, server_text = _read_server(request)
    plan = _plan_spec(loaded, profile)
    traffic = _read_traffic(request, may_be_idle=command == "plan")
    coverage = load.describe_coverage(traffic.name)
    notes = [coverage] if coverage else []
    if server is None:
        server_text = words.PLAIN_SERVER if traffic.output_tokens is None else words.TOKENS_SERVER
        server = servers.parse_server(server_text)
        notes.append(f"the server model {server_text} is an assumption: measure your server, and set --server")
    with suppress(server_model.ServerError):  # the simulation reports a server that does not fit the traffic
        notes += server.notes(traffic)
    if bounds is None:
        assert loaded.inference is not None
        bounds = slo.read_spec_bounds(loaded.inference.spec.slo)
    gpus = count_gpus_per_replica(plan)
    if price is not None and not gpus:
        notes.append("a replica has no GPU, so its cost is 0")
    events = len(traffic.times) + words.DECISIONS * traffic.seconds
    case = Case(
        loaded.reading.native,
        profile,
        traffic,
        server,
        start_up,
        request.seed,
        bounds,
        gpus,
        price,
        fast=command == "tune" or events * (words.SAMPLES if command == "simulate" else 1) > words.MANY,
    )
    return PreparedCase(request, loaded, plan, case, server_text, tuple(notes))


def _parse_field(parse: Callable[[_Value], _Parsed], name: str, value: _Value, form: str) -> _Parsed:
    """Parse a field. Raises RequestFieldError."""
    try:
        return parse(value)
    except ValueError as error:
        raise RequestFieldError(name, str(error), form) from None


def _read_server(request: SimulationRequest) -> tuple[Server | None, str]:
    """Return the server model, None for the default, and its text. Raises RequestFieldError."""
    from ebbtide.simulator.traffic import servers  # noqa: PLC0415 - it needs numpy

    if not request.server:
        return None, ""
    form = "write fixed:200ms,max=8, or lognormal:median=500ms,sigma=0.5,max=16"
    return _parse_field(servers.parse_server, "server", request.server, form), request.server


def _plan_spec(loaded: LoadedDocument, profile: Profile) -> Plan:
    """Return the plan of a spec without errors. Raises SimulationRequestError."""
    if loaded.inference is None:
        raise SimulationRequestError(*loaded.problems)
    translation = translate(loaded.inference, profile, loaded.canonical)
    problems = loaded.problems + loaded.place_problems(translation.problems)
    if translation.plan is None or has_errors(problems):
        raise SimulationRequestError(*problems)
    return translation.plan


def _read_traffic(request: SimulationRequest, *, may_be_idle: bool) -> TrafficTrace:
    """Return the traffic of a log or of a shape. Raises SimulationRequestError."""
    from ebbtide.simulator.traffic import load  # noqa: PLC0415 - it needs numpy

    try:
        return _parse_traffic(request)
    except SimulationRequestError as error:
        if may_be_idle and error.problems[0].code == load.EMPTY:
            return load.make_idle_traffic(request.traffic)
        raise


def _parse_traffic(request: SimulationRequest) -> TrafficTrace:
    from ebbtide.simulator.traffic import load  # noqa: PLC0415 - it needs numpy

    if request.log is not None:
        return _parse_log(request.log, request.traffic or "traffic.csv", request.seed, request.columns)
    if not load.is_shape(request.traffic):
        message = f"invalid traffic shape {request.traffic[:80]!r}"
        raise RequestFieldError("traffic", message, f"write {', '.join(load.FORMS.values())}")
    return load.generate_traffic(request.traffic, request.seed)


@lru_cache(maxsize=len(SEEDS))
def _parse_log(log: bytes, name: str, seed: int, columns: tuple[tuple[str, str], ...]) -> TrafficTrace:
    """Parse a log; cached, since a client that varies a setting sends the same log each time."""
    from ebbtide.simulator.traffic import load  # noqa: PLC0415 - it needs numpy

    return load.parse_traffic(log, name, seed, dict(columns))


def open_search(prepared: PreparedCase) -> SearchSpace:
    """Return the settings that a search may change. Raises SimulationRequestError without an SLO."""
    from ebbtide.simulator.search.tune import make_search_space  # noqa: PLC0415 - it needs numpy

    if not prepared.case.bounds:
        fix = "set an SLO such as p95=2s (--slo), or add slo to the spec"
        raise SimulationRequestError(
            Problem("TUN001", ("spec", "slo"), "no SLO is set", fix, document=prepared.loaded.name)
        )
    return make_search_space(prepared.autoscaling, prepared.plan.scaling, prepared.request.keep)


def search_settings(
    prepared: PreparedCase, space: SearchSpace, progress: Callable[[SearchResult], None] = lambda _: None
) -> TuningResult:
    """Search for settings that meet the SLO with as few replicas as possible. Raises SimulationRequestError."""
    from ebbtide.simulator.search.tune import tune_settings  # noqa: PLC0415 - it needs numpy

    request = prepared.request
    part = prepared.case.traffic.seconds * request.part
    with raise_refusals(prepared):
        return tune_settings(
            list_samples(prepared),
            space,
            part=part,
            evaluations=request.evaluations,
            spare=request.spare,
            progress=progress,
        )


def list_samples(prepared: PreparedCase) -> list[Case]:
    """Return the case with each seed, which also draws the requests of a shape, and places those of counts."""
    requests = [replace(prepared.request, seed=prepared.request.seed + seed) for seed in SEEDS]
    return [
        replace(prepared.case, seed=request.seed, traffic=_read_traffic(request, may_be_idle=True))
        for request in requests
    ]


def tuning_to_json(prepared: PreparedCase, tuned: TuningResult) -> dict[str, Any]:
    """Return the JSON of ``ebbtide tune``."""
    from ebbtide.simulator.search import advice  # noqa: PLC0415 - it needs numpy

    return {**advice.tuning_to_json(tuned, workload_name_of(prepared.loaded)), "notes": list(prepared.notes)}


def choose_server(models: Sequence[str], name: str) -> str:
    """Return the last model for a service or for all of them, from the values of --server; empty if there is none."""
    server = ""
    for text in models:
        match = NAMED_SERVER.fullmatch(text)
        if match is None or match[1] == name:
            server = text if match is None else match[2]
    return server


def workload_name_of(loaded: LoadedDocument) -> str:
    return str(loaded.reading.native["metadata"]["name"])


def make_report(
    prepared: PreparedCase, settings: Mapping[str, Setting], values: Mapping[str, dict[str, Any]]
) -> SimulationReport:
    """Simulate several settings for comparison, each in ``SAMPLES`` simulations of the same traffic.

    ``values`` maps a setting's name to its fields of the spec.
    """
    from ebbtide.simulator.engine import report  # noqa: PLC0415 - it needs numpy

    case, notes = prepared.case, prepared.notes
    cases = [replace(case, seed=case.seed + phase) for phase in range(words.SAMPLES)]
    runs = []
    for name, setting in settings.items():
        result = case.simulate_setting(setting)
        measured = case.measure(result)
        others = (each.measure(each.simulate_setting(setting)) for each in cases[1:])
        runs.append(report.SimulationRun(name, values.get(name, {}), result, measured, (measured, *others)))
    if runs:
        notes += (f"(low..high): the same traffic in {words.SAMPLES} simulations, with other phases of the autoscaler",)
    return report.SimulationReport(
        workload_name_of(prepared.loaded),
        case.traffic,
        prepared.server,
        case.start_up.seconds,
        case.seed,
        tuple(runs),
        notes,
    )


@contextmanager
def raise_refusals(prepared: PreparedCase) -> Iterator[None]:
    """Convert the simulator's errors into problems of the spec."""
    from ebbtide.simulator.engine.setting import NotSimulated  # noqa: PLC0415 - as above
    from ebbtide.simulator.traffic.server_model import ServerError  # noqa: PLC0415 - it needs numpy

    try:
        yield
    except NotSimulated as error:
        problem = Problem("SIM001", (error.where,), error.message, error.fix, document=prepared.loaded.name)
        raise SimulationRequestError(problem) from None
    except ServerError as error:
        problem = Problem("SIM002", (), str(error), "set another server (--server)", document=prepared.loaded.name)
        raise SimulationRequestError(problem) from None
