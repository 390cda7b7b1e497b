"""The case of a simulation, which the command line, the API and the page prepare alike, and its report."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from ebbtide.base.problems import Problem
from ebbtide.simulate import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import LoadedDocument
    from ebbtide.simulate.case import Case
    from ebbtide.simulate.data import StartUp, TrafficTrace
    from ebbtide.simulate.report import SimulationReport
    from ebbtide.simulate.servers import Server
    from ebbtide.simulate.setting import Setting
    from ebbtide.simulate.slo import SloBound
    from ebbtide.translation.plan import Plan


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
class CaseInputs:
    """Values that a caller sets for a simulation. Those that are None get a default, which a note names."""

    loaded: LoadedDocument
    plan: Plan
    profile: Profile
    traffic: TrafficTrace
    #: The server model, and its text.
    server: Server | None
    server_text: str
    start_up: StartUp
    seed: int
    bounds: tuple[SloBound, ...] | None
    #: The price of a GPU-hour.
    price: float | None


class PreparedCase(NamedTuple):
    """A spec, its plan, the case to simulate, the server model as text, and the assumptions made."""

    loaded: LoadedDocument
    plan: Plan
    case: Case
    server: str
    notes: tuple[str, ...]


def complete_case(inputs: CaseInputs, command: str, server_hint: str) -> PreparedCase:
    """Return the case of ``simulate`` or ``tune``, with defaults for the values that are None.

    ``server_hint`` says how to set the server.
    """
    from ebbtide.simulate import load, servers, slo  # noqa: PLC0415 - they need numpy
    from ebbtide.simulate.case import Case, gpus_of  # noqa: PLC0415 - as above

    traffic, server, server_text, bounds = inputs.traffic, inputs.server, inputs.server_text, inputs.bounds
    coverage = load.describe_coverage(traffic.name)
    notes = [coverage] if coverage else []
    if server is None:
        server_text = words.PLAIN_SERVER if traffic.output_tokens is None else words.TOKENS_SERVER
        server = servers.parse_server(server_text)
        notes.append(f"the server model {server_text} is an assumption: measure your server, and {server_hint}")
    with suppress(servers.ServerError):  # the simulation reports a server that does not fit the traffic
        notes += server.notes(traffic)
    if bounds is None:
        assert inputs.loaded.inference is not None
        bounds = slo.read_spec_bounds(inputs.loaded.inference.spec.slo)
    gpus = gpus_of(inputs.plan)
    if inputs.price is not None and not gpus:
        notes.append("a replica has no GPU, so its cost is 0")
    fast = command == "tune" or len(traffic.times) > words.MANY
    case = Case(
        inputs.loaded.reading.native,
        inputs.profile,
        traffic,
        server,
        inputs.start_up,
        inputs.seed,
        bounds,
        gpus,
        inputs.price,
        fast=fast,
    )
    return PreparedCase(inputs.loaded, inputs.plan, case, server_text, tuple(notes))


def workload_name_of(loaded: LoadedDocument) -> str:
    """Return the workload's name."""
    return str(loaded.reading.native["metadata"]["name"])


def make_report(
    prepared: PreparedCase,
    settings: Mapping[str, Setting],
    values: Mapping[str, dict[str, Any]],
    update_at: float | None = None,
) -> SimulationReport:
    """Simulate several settings for comparison; ``values`` maps a setting's name to its fields of the spec.

    With ``update_at``, the first setting is also simulated with an update that begins at this second. If the errors of the
    server are known, the first setting is also simulated with a faster and a slower server, and a note states the times.
    """
    from ebbtide.simulate import report, rollout  # noqa: PLC0415 - they need numpy

    loaded, _, case, server, notes = prepared
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
