"""Simulations on request: what was asked, checked and bounded, and the answers of ``ebbtide simulate`` and ``tune``.

All of it runs in a worker (``workers.py``), never in the server: it takes a processor for seconds.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ebbtide.base.problems import Problem, failed
from ebbtide.documents import profiles, texts
from ebbtide.simulate import words
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import Loaded
    from ebbtide.simulate.case import Case
    from ebbtide.simulate.data import StartUp, Traffic
    from ebbtide.simulate.load import Read
    from ebbtide.simulate.report import Report
    from ebbtide.simulate.servers import Server
    from ebbtide.simulate.setting import Setting
    from ebbtide.simulate.slo import Bound
    from ebbtide.simulate.tune import Found, Tuned
    from ebbtide.translation.plan import Plan

_Read = TypeVar("_Read")

#: Requests that a simulation, and one of the many of a search, may have here; the command line takes more.
REQUESTS: Final = {"simulate": 1_000_000, "tune": 200_000}
SECONDS: Final = 31 * 86_400.0
EVALUATIONS: Final = 400


class AskedError(Exception):
    """What was asked cannot be simulated; ``problems`` say why."""

    def __init__(self, *problems: Problem) -> None:
        """Keep the problems."""
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = list(problems)

    def __reduce__(self) -> tuple[type[AskedError], tuple[Problem, ...]]:
        """Let it pass from a worker."""
        return AskedError, tuple(self.problems)


@dataclass(frozen=True, slots=True)
class Asked:
    """One question. Texts are as on the command line; ``log`` is a log's text, instead of a shape in ``traffic``."""

    spec: str
    traffic: str
    log: str = ""
    server: str = ""
    start_up: str = "45s"
    slo: str = ""
    cost: str = ""
    seed: int = 0
    #: Fields of ``spec.autoscaling`` that are tried beside the spec's own; None takes one out.
    settings: Mapping[str, Any] | None = None
    # For tune.
    keep: Sequence[str] = ()
    evaluations: int = 200
    part: float = 0.5


def simulate(asked: Asked, profile_data: dict[str, Any]) -> dict[str, Any]:
    """Return what the spec, the settings that are tried and Knative's defaults do: the JSON of ``ebbtide simulate``.

    Raises:
        AskedError: it cannot be simulated.

    """
    from ebbtide.simulate import report  # noqa: PLC0415 - it needs numpy
    from ebbtide.simulate.setting import knative_defaults  # noqa: PLC0415 - as above

    loaded, _, case, server, notes = case_of(asked, profile_of(profile_data), "simulate")
    with raise_refusals(loaded):
        own = case.setting({})
        tried = {"this spec": own}
        if asked.settings:
            tried["these settings"] = case.setting(asked.settings)
        tried["Knative's defaults"] = knative_defaults(own)
        values = {"these settings": dict(asked.settings or {})}
        return report.as_json(make_report(loaded, case, server, notes, tried, values))


def make_report(
    loaded: Loaded,
    case: Case,
    server: str,
    notes: tuple[str, ...],
    settings: Mapping[str, Setting],
    values: Mapping[str, dict[str, Any]],
) -> Report:
    """Return what settings do side by side; ``values`` are those of a setting as the spec would have them, by its name."""
    from ebbtide.simulate import report  # noqa: PLC0415 - it needs numpy

    results = {name: case.of(setting) for name, setting in settings.items()}
    runs = (report.Run(name, values.get(name, {}), result, case.measure(result)) for name, result in results.items())
    return report.Report(name_of(loaded), case.traffic, server, case.start_up.seconds, case.seed, tuple(runs), notes)


def tune(asked: Asked, profile_data: dict[str, Any]) -> dict[str, Any]:
    """Return settings that keep the promise with the fewest replicas: the JSON of ``ebbtide tune``.

    Raises:
        AskedError: nothing is promised, or it cannot be simulated.

    """
    return search_settings(asked, profile_data, "request", "set slo: p95=2s, or slo in the spec")[1]


def search_settings(
    asked: Asked,
    profile_data: dict[str, Any],
    what: str,
    fix: str,
    progress: Callable[[Found], None] = lambda _: None,
) -> tuple[Tuned, dict[str, Any]]:
    """Return what a search found, and its JSON. ``what`` and ``fix`` are said where nothing is promised."""
    from ebbtide.simulate import advice  # noqa: PLC0415 - it needs numpy
    from ebbtide.simulate.tune import moved  # noqa: PLC0415 - as above
    from ebbtide.simulate.tune import tune as search  # noqa: PLC0415 - as above

    strangers = sorted({*asked.keep} - {*words.KEEPABLE})
    if strangers:
        raise _wrong(("keep",), f"there is no {', '.join(strangers)} to keep", f"use {', '.join(words.KEEPABLE)}")
    loaded, plan, case, _, notes = case_of(asked, profile_of(profile_data), "tune")
    if not case.bounds:
        text = f"neither the spec nor the {what} says what is promised"
        raise AskedError(Problem("TUN001", ("spec", "slo"), text, fix))
    block = dict(case.document["spec"].get("autoscaling") or {})
    knobs, base, bounds = moved(block, plan.scaling, {*asked.keep})
    part = case.traffic.seconds * asked.part
    with raise_refusals(loaded):
        tuned = search(case, knobs, base, bounds, part=part, evaluations=asked.evaluations, progress=progress)
    return tuned, {**advice.as_json(tuned, name_of(loaded)), "notes": list(notes)}


def profile_of(data: dict[str, Any]) -> Profile:
    """Return a profile of its document: its compiled classes do not pass from one process to another."""
    found, problems = profiles.validate(data)
    assert found is not None, problems
    return found


def case_of(asked: Asked, profile: Profile, command: str) -> tuple[Loaded, Plan, Case, str, tuple[str, ...]]:
    """Return the spec, its plan, what is to be simulated, the server's text, and what was assumed. Raises AskedError."""
    from ebbtide.simulate import load, servers, slo  # noqa: PLC0415 - they need numpy

    if not 0 < asked.part <= 1 or not 1 <= asked.evaluations <= EVALUATIONS:
        raise _wrong(("part",), f"part is above 0 and up to 1, evaluations are 1 to {EVALUATIONS}", "change them")
    if asked.server.partition(":")[0] == "empirical":
        # It names a file, and files here are nobody's to name from outside.
        raise _wrong(("server",), "a server that is measured is read from a file", "use ebbtide simulate for it")
    loaded, plan = _spec(asked.spec, profile)
    start_up = _read_as(words.start_up, "start_up", asked.start_up, "write 45s, or pull=20s,load=20s")
    price = _read_as(words.gpu_hour, "cost", asked.cost, "write gpu-hour=2.5")
    bounds = _read_as(slo.parse, "slo", asked.slo, "write p95=2s, or mean=800ms,uptime=99.9") if asked.slo else None
    form = "write fixed:200ms,max=8, or lognormal:median=500ms,sigma=0.5,max=16"
    server = _read_as(servers.server, "server", asked.server, form) if asked.server else None
    if asked.log:
        read = _read(asked.log, asked.traffic or "traffic.csv", asked.seed)
    elif load.is_shape(asked.traffic):
        read = load.shape(asked.traffic, asked.seed)
    else:
        raise _wrong(("traffic",), f"{asked.traffic[:80]!r} is no shape", f"write {', '.join(load.FORMS.values())}")
    traffic = read.traffic
    if traffic is None:
        raise AskedError(*read.problems)
    if len(traffic.times) > REQUESTS[command] or traffic.seconds > SECONDS:
        raise AskedError(
            Problem(
                load.MANY,
                ("traffic",),
                f"the traffic has {len(traffic.times)} requests in {traffic.seconds / 86_400:.1f} days; "
                f"{REQUESTS[command]} in {SECONDS / 86_400:.0f} are simulated here",
                f"take a part of it, or use ebbtide {command}",
            )
        )
    parts = (asked.server, server, start_up, asked.seed, bounds, price)
    return complete_case(loaded, plan, profile, traffic, *parts, command, "say what it does")


def complete_case(
    loaded: Loaded,
    plan: Plan,
    profile: Profile,
    traffic: Traffic,
    text: str,
    server: Server | None,
    start_up: StartUp,
    seed: int,
    bounds: tuple[Bound, ...] | None,
    price: float | None,
    command: str,
    way: str,
) -> tuple[Loaded, Plan, Case, str, tuple[str, ...]]:
    """Return a case with what was left open (None), and what was assumed; ``way`` is how to name the server."""
    from ebbtide.simulate import servers, slo  # noqa: PLC0415 - they need numpy
    from ebbtide.simulate.case import Case, gpus_of  # noqa: PLC0415 - as above

    notes = []
    if server is None:
        text = words.PLAIN_SERVER if traffic.output_tokens is None else words.TOKENS_SERVER
        server = servers.server(text)
        notes.append(f"the server is a guess: measure yours, and {way} (here {text})")
    if bounds is None:
        assert loaded.inference is not None
        bounds = slo.of_spec(loaded.inference.spec.slo)
    gpus = gpus_of(plan)
    if price is not None and not gpus:
        notes.append("a replica has no GPU, so nothing costs anything")
    fast = command == "tune" or len(traffic.times) > words.MANY
    case = Case(loaded.reading.native, profile, traffic, server, start_up, seed, bounds, gpus, price, fast=fast)
    return loaded, plan, case, text, tuple(notes)


@lru_cache(maxsize=2)
def _read(log: str, name: str, seed: int) -> Read:
    """Return a log's traffic; who moves a setting asks for the same again and again."""
    from ebbtide.simulate import load  # noqa: PLC0415 - it needs numpy

    return load.read(log.encode(), name, seed)


def _spec(text: str, profile: Profile) -> tuple[Loaded, Plan]:
    found = [*texts.of_text(text.encode(), "", profile)]
    if len(found) != 1:
        raise AskedError(Problem("SIM003", (), f"{len(found)} documents where one spec is simulated", "give one spec"))
    loaded = found[0]
    if loaded.inference is None:
        raise AskedError(*loaded.problems)
    made = translate(loaded.inference, profile, loaded.canonical)
    problems = loaded.problems + loaded.placed(made.problems)
    if made.plan is None or failed(problems):
        raise AskedError(*problems)
    return loaded, made.plan


def name_of(loaded: Loaded) -> str:
    """Return the workload's name."""
    return str(loaded.reading.native["metadata"]["name"])


@contextmanager
def raise_refusals(loaded: Loaded, option: str = "server") -> Iterator[None]:
    """Raise what the simulator refuses as a problem of the spec; ``option`` is what names the server."""
    from ebbtide.simulate.servers import ServerError  # noqa: PLC0415 - it needs numpy
    from ebbtide.simulate.setting import NotSimulated  # noqa: PLC0415 - as above

    try:
        yield
    except NotSimulated as error:
        found = Problem("SIM001", (error.where,), error.message, error.fix, document=loaded.name)
        raise AskedError(found) from None
    except ServerError as error:
        raise AskedError(Problem("SIM002", (), str(error), f"say so with {option}", document=loaded.name)) from None


def _read_as(reader: Callable[[str], _Read], name: str, text: str, form: str) -> _Read:
    """Return what a field's words mean. Raises AskedError, which names the field."""
    try:
        return reader(text)
    except ValueError as error:
        raise _wrong((name,), str(error), form) from None


def _wrong(where: tuple[str, ...], message: str, fix: str) -> AskedError:
    return AskedError(Problem("SIM004", where, message, fix))
