"""One question to the simulator from what people write: a spec, traffic, a server, a start-up time, a promise, a price.

The command line, the API and the page ask alike. Upstream of nothing: the words are those of ``docs/simulate.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ebbtide.problems import Problem, failed
from ebbtide.simulate import servers, slo
from ebbtide.simulate import setting as settings
from ebbtide.simulate.case import Case, gpus_of
from ebbtide.simulate.data import StartUp
from ebbtide.simulate.load import duration
from ebbtide.simulate.report import Report, Run
from ebbtide.simulate.tune import Tuned, knobs_of
from ebbtide.translate import translate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebbtide.intake import Loaded
    from ebbtide.plan import Plan
    from ebbtide.profile import Profile
    from ebbtide.simulate.data import Traffic
    from ebbtide.simulate.setting import Setting
    from ebbtide.simulate.tune import Knob

TOKENS_SERVER: Final = "llm:max=16"
PLAIN_SERVER: Final = "lognormal:median=500ms,sigma=0.5,max=16"
START_UP: Final = "45s"
#: The parts of a start-up time, in the order of ``StartUp``.
PARTS: Final = ("schedule", "pull", "load", "ready")
OWN: Final = "this spec"
DEFAULTS: Final = "Knative's defaults"


class NotAsked(ValueError):  # noqa: N818 - it names what is so, as Problem does
    """A question with a part that cannot be read: which one (server, start-up, slo, cost), and why."""

    def __init__(self, part: str, message: str) -> None:
        """Keep the part beside the sentence."""
        super().__init__(message)
        self.part = part


@dataclass(frozen=True, slots=True)
class Words:
    """What is asked beside the spec and the traffic, as people write it; nothing means the default."""

    server: str = ""
    start_up: str = START_UP
    slo: str = ""
    cost: str = ""
    seed: int = 0
    fast: bool = False
    """Whether compiling the engine is worth its time."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question that can be answered."""

    workload: str
    plan: Plan
    case: Case
    server: str
    notes: tuple[str, ...] = field(default=())
    """What was assumed, in sentences."""

    @property
    def block(self) -> dict[str, Any]:
        """What the spec says of autoscaling."""
        return dict(self.case.document["spec"].get("autoscaling") or {})

    def report(self, runs: Mapping[str, Setting], values: Mapping[str, Mapping[str, Any]] | None = None) -> Report:
        """Simulate settings and return them side by side. Raises NotSimulated and ServerError."""
        made = []
        for name, setting in runs.items():
            result = self.case.of(setting)
            made.append(Run(name, (values or {}).get(name, {}), result, self.case.measure(result)))
        case = self.case
        return Report(
            self.workload, case.traffic, self.server, case.start_up.seconds, case.seed, tuple(made), self.notes
        )

    def beside_defaults(self) -> Report:
        """Simulate the spec beside Knative's defaults. Raises NotSimulated and ServerError."""
        own = self.case.setting({})
        return self.report({OWN: own, DEFAULTS: settings.knative_defaults(own)}, {OWN: self.block})

    def knobs(self, kept: frozenset[str] = frozenset()) -> tuple[tuple[Knob, ...], dict[str, Any], tuple[int, int]]:
        """Return what a search may move, the spec's own values, and its bounds; ``kept`` stays as it is."""
        scaling, block = self.plan.scaling, self.block
        metric = scaling.metric.name if scaling.metric is not None else ""
        knobs = knobs_of(block, metric, scaling.minimum, scaling.maximum)
        base = {knob.name: block.get(knob.name) for knob in knobs}
        base |= {"minReplicas": scaling.minimum, "maxReplicas": scaling.maximum, "metric": block.get("metric")}
        if scaling.scaler == "kpa":
            base["metricThresholdPercentage"] = block.get("metricThresholdPercentage")
        return tuple(knob for knob in knobs if knob.name not in kept), base, (scaling.minimum, scaling.maximum)

    def found(self, tuned: Tuned) -> Report:
        """Simulate what a search recommends, the spec as it is and Knative's defaults, on all of the traffic."""
        runs = {"the spec as it is": self.case.setting({})}
        if tuned.chosen is not None:
            runs = {"recommended": self.case.setting(tuned.chosen.values), **runs}
        runs[DEFAULTS] = settings.knative_defaults(self.case.setting({}))
        return self.report(runs)


def ask(loaded: Loaded, profile: Profile, traffic: Traffic, words: Words) -> Question | list[Problem]:
    """Return the question, or the problems of a spec that would not render.

    Raises:
        NotAsked: a part of ``words`` cannot be read.

    """
    start_up = start_up_of(words.start_up)
    price = price_of(words.cost)
    bounds = _read("slo", slo.parse, words.slo) if words.slo else None
    text = words.server or (PLAIN_SERVER if traffic.output_tokens is None else TOKENS_SERVER)
    server = _read("server", servers.server, text)
    if loaded.inference is None:
        return loaded.problems
    made = translate(loaded.inference, profile, loaded.canonical)
    problems = loaded.problems + loaded.placed(made.problems)
    if made.plan is None or failed(problems):
        return [problem for problem in problems if problem.severity == "error"]
    notes = []
    if not words.server:
        notes.append(f"the server is a guess: measure yours, and say so with --server (here {text})")
    gpus = gpus_of(made.plan)
    if price is not None and not gpus:
        notes.append("a replica has no GPU, so nothing costs anything")
    if bounds is None:
        bounds = slo.of_spec(loaded.inference.spec.slo)
    native = loaded.reading.native
    case = Case(native, profile, traffic, server, start_up, words.seed, bounds, gpus, price, fast=words.fast)
    return Question(str(native["metadata"]["name"]), made.plan, case, text, tuple(notes))


def problem_of(error: Exception, document: str) -> Problem:
    """Return what the simulator refused as a problem of the spec."""
    if isinstance(error, settings.NotSimulated):
        return Problem("SIM001", (error.where,), error.message, error.fix, document=document)
    return Problem("SIM002", (), str(error), "say so with --server", document=document)


def _read(part: str, reader: Any, text: str) -> Any:
    try:
        return reader(text)
    except ValueError as error:
        raise NotAsked(part, str(error)) from error


def start_up_of(text: str) -> StartUp:
    """Return a start-up time: ``45s``, or ``schedule=1s,pull=20s,load=20s,ready=2s,spread=0.3``. Raises NotAsked."""
    try:
        if "=" not in text:
            return StartUp(0.0, 0.0, duration(text), 0.0)
        given = dict(item.split("=", 1) for item in text.split(","))
        spread = float(given.pop("spread", "0"))
        schedule, pull, load, ready = (duration(given.pop(name, "0s")) for name in PARTS)
    except ValueError as error:
        raise NotAsked("start-up", str(error)) from error
    if given or not 0 <= spread < float("inf"):
        raise NotAsked("start-up", f"it has the parts {', '.join(PARTS)}, and spread, a number of 0 or more")
    return StartUp(schedule, pull, load, ready, spread)


def price_of(text: str) -> float | None:
    """Return what a GPU costs an hour: ``gpu-hour=2.5``. Raises NotAsked."""
    if not text:
        return None
    name, _, value = text.partition("=")
    try:
        price = float(value)
    except ValueError:
        price = -1.0
    if name != "gpu-hour" or not 0 <= price < float("inf"):
        raise NotAsked("cost", f"{text!r}: write gpu-hour=2.5")
    return price
