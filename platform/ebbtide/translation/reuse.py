"""Translations that reuse the steps of another one, for consumers that change one field and translate again.

A step is a function of the plan, and of what earlier steps returned. ``RecordedSteps`` runs a translation and records
for each step its result and the fields that it reads. If one field changes, ``find_readers`` returns the steps that read
it, and ``translate_again`` runs only these, and those that read a choice or a part of the pod that is different now. It
joins the objects only if a part of them is different.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base.problems import has_errors
from ebbtide.spec.rules import METRIC_RULES, RULES
from ebbtide.translation import placement, scaling, traps
from ebbtide.translation.plan import Plan
from ebbtide.translation.pods import Pod, PodPatch, merge_again, merge_patches
from ebbtide.translation.translate import (
    CHECKS,
    CHOICE_STEPS,
    DECIDED,
    DECISIONS,
    PATCH_STEPS,
    POD_CHECKS,
    translate_plan,
    translate_pod,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ebbtide.profile.models import Profile
    from ebbtide.spec.inference import Inference
    from ebbtide.translation.translate import Translation

#: The names of attributes, indexes and keys that lead to a value: from the document of a spec, or from ``PROFILE``.
Place = tuple[Any, ...]
#: The spec that is stored on the objects. It differs in each translation, and is not compared.
NO_SPEC: Final = "{}"
#: The first part of each place in the profile. No field of a spec has this name.
PROFILE: Final = "profile"
#: The custom metrics of the profile, which are an argument of ``METRIC_RULES``.
CUSTOM_METRICS: Final[Place] = (PROFILE, "spec", "metrics", "custom")
#: A step's function. A translation calls it at most once.
Step = Any
#: Steps that return the problems of a plan.
PLAN_CHECKS: Final = frozenset({*CHECKS, *scaling.CHECKS})
_RULES: Final = frozenset(RULES)
_CHOICES: Final = frozenset(CHOICE_STEPS.values())
#: Steps that return problems only, or decisions only: no object depends on them, except that an error leaves none.
REPORTS: Final = PLAN_CHECKS.union(RULES, DECISIONS, POD_CHECKS, (traps.check,))
#: These, and choices, whose readers run again if they change.
_WITHOUT_OBJECTS: Final = REPORTS.union(CHOICE_STEPS.values())
#: Steps that return no part of an object.
_WITHOUT_PARTS: Final = _WITHOUT_OBJECTS.union(PATCH_STEPS)
_ABSENT: Final = object()
#: The types of most values. None of them is a block or contains one.
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
#: Types that are not those of blocks.
_PLAIN: Final = _SCALARS | {dict, list, tuple}
#: The attributes of a plan that are documents or blocks of them.
DOCUMENTS: Final = ("inference", "spec", "profile", "cluster")


@dataclass(slots=True)
class RecordedStep:
    """The result of a step, and its inputs apart from the documents."""

    #: The choices that it read, by attribute of the plan.
    choices: dict[str, Any] = field(default_factory=dict)
    #: The parts that it read of the pod.
    parts: set[str] = field(default_factory=set)
    reads_plan: bool = False
    #: The arguments after the plan.
    arguments: tuple[Any, ...] = ()
    result: Any = None


class RecordedSteps:
    """The steps of one translation, of which each is recorded. Pass an instance as ``call`` to ``translate``."""

    def __init__(
        self, inference: Inference, profile: Profile, *, varies_spec: bool = True, varies_profile: bool = True
    ) -> None:
        """Record a translation of ``inference`` for ``profile``, and what it reads from those that vary."""
        self.steps: dict[Step, RecordedStep] = {}
        #: The step that is running.
        self.current: Step = None
        self._documents: dict[str, Any] = {
            "inference": _Block(inference, (), self) if varies_spec else inference,
            "spec": _Block(inference.spec, ("spec",), self) if varies_spec else inference.spec,
            "profile": _Block(profile, (PROFILE,), self) if varies_profile else profile,
            "cluster": _Block(profile.spec, (PROFILE, "spec"), self) if varies_profile else profile.spec,
        }
        self._inference = inference
        self._plan: _RecordedPlan | None = None
        #: The steps by the places that they read: of values and whole blocks, of lists and mappings of blocks, of blocks.
        self._complete: dict[Place, set[Step]] = {}
        self._containers: dict[Place, set[Step]] = {}
        self._blocks: dict[Place, set[Step]] = {}
        #: The steps that read all of a place or of one that contains it, filled as needed.
        self._above: dict[Place, set[Step]] = {}

    def __call__(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """Run a step and record it."""
        recorded = self.steps[function] = RecordedStep()
        self.current = function
        first, *others = arguments
        if isinstance(first, Plan):
            recorded.reads_plan, recorded.arguments = True, tuple(others)
            others = [_RecordedPod(other, recorded.parts) if type(other) is Pod else other for other in others]
            if self._plan is None:
                self._plan = _RecordedPlan(first, self)
            result = function(self._plan, *others)
        elif first is self._inference:
            if function in METRIC_RULES:
                self._complete.setdefault(CUSTOM_METRICS, set()).add(function)
            result = function(self.read_document("inference"), *others)
        else:
            result = function(*arguments)
        if function is placement.choose:
            # Steps read the pools, which are blocks of the profile, field by field.
            self._documents["pools"] = result
            recorded.result = tuple(map(_unwrap, result))
        else:
            recorded.result = self._without_blocks(result)
        return recorded.result

    def end(self) -> None:
        """Forget the documents, whose recording blocks refer to these steps, so that no cycle keeps them in memory."""
        self._documents.clear()
        self._plan = None

    def read_document(self, name: str) -> Any:
        """Return a document, or its ``spec`` block, that records what is read from it."""
        return self._documents[name]

    def wrap_value(self, place: Place, value: Any) -> tuple[set[Step], Any]:
        """Return the readers of a value, and the value with recording blocks."""
        if type(value) in _SCALARS:
            return self._complete.setdefault(place, set()), value
        if _is_block(value):
            return self._blocks.setdefault(place, set()), _Block(value, place, self)
        if isinstance(value, list | tuple) and any(map(_is_block, value)):
            items = [self.wrap_value((*place, index), item)[1] for index, item in enumerate(value)]
            return self._containers.setdefault(place, set()), type(value)(items)
        if isinstance(value, dict) and any(map(_is_block, value.values())):
            members = {key: self.wrap_value((*place, key), item)[1] for key, item in value.items()}
            return self._containers.setdefault(place, set()), members
        return self._complete.setdefault(place, set()), value

    def read_all(self, place: Place) -> None:
        """Record that the current step reads everything in a block."""
        self._complete.setdefault(place, set()).add(self.current)

    @cached_property
    def _below(self) -> dict[Place, set[Step]]:
        """The steps by each place at or above one that they read."""
        below: dict[Place, set[Step]] = {}
        for readers_by_place in (self._complete, self._containers, self._blocks):
            for place, readers in readers_by_place.items():
                below.setdefault(place, set()).update(readers)
        # The block or the list that contains a place was read before it.
        for place in sorted(below, key=len, reverse=True):
            below.setdefault(place[:-1], set()).update(below[place])
        return below

    def find_readers(self, place: Place) -> set[Step]:
        """Return the steps that read the value at a place, something in it, or something that contains it."""
        above = place[:-1]
        known = self._above.get(above)
        if known is None:
            ends = range(len(place))
            known = self._above[above] = set(self._containers.get(above, ())).union(
                *(self._complete.get(place[:end], ()) for end in ends)
            )
        below = self._below.get(place)
        return known if below is None else known | below

    def find_readers_of_choice(self, name: str) -> set[Step]:
        """Return the steps that read a choice of the plan."""
        return self._choice_readers.get(name, set())

    def find_readers_of_part(self, name: str) -> set[Step]:
        """Return the steps that read a part of the pod."""
        return self._part_readers.get(name, set())

    @cached_property
    def pod(self) -> Pod:
        """The pod of the translation."""
        pod: Pod = self.steps[merge_patches].result
        return pod

    @cached_property
    def patches(self) -> dict[Step, list[PodPatch]]:
        """The results of the steps that patch the pod, in their order."""
        return {step: _list_patches(recorded.result) for step, recorded in self.steps.items() if step in PATCH_STEPS}

    @cached_property
    def parts(self) -> dict[Step, Any]:
        """The results of the steps that make parts of the objects."""
        return {
            step: recorded.result
            for step, recorded in self.steps.items()
            if recorded.reads_plan and step not in _WITHOUT_PARTS
        }

    @cached_property
    def _part_readers(self) -> dict[str, set[Step]]:
        """The steps that read each part of the pod."""
        return _index_readers((step, recorded.parts) for step, recorded in self.steps.items())

    @cached_property
    def _choice_readers(self) -> dict[str, set[Step]]:
        """The steps that read each choice of the plan."""
        return _index_readers((step, recorded.choices) for step, recorded in self.steps.items())

    def _without_blocks(self, value: Any) -> Any:
        """Return a step's result with the values themselves. A block that becomes a part of a result is read completely."""
        kind = type(value)
        if kind in _SCALARS:
            return value
        if kind is _Block:
            self.read_all(object.__getattribute__(value, "_place"))
            return _unwrap(value)
        if kind is PodPatch:
            value.parts = self._without_blocks(value.parts)
            return value
        if kind is dict:
            return {
                name: item if type(item) in _SCALARS else self._without_blocks(item) for name, item in value.items()
            }
        if kind is tuple:
            return tuple([self._without_blocks(item) for item in value])
        if kind is list or hasattr(value, "__next__"):
            return [self._without_blocks(item) for item in value]
        return value


def _index_readers(reads: Iterable[tuple[Step, Iterable[str]]]) -> dict[str, set[Step]]:
    """Return the steps that read each name."""
    readers: dict[str, set[Step]] = {}
    for step, names in reads:
        for name in names:
            readers.setdefault(name, set()).add(step)
    return readers


def translate_again(
    steps: RecordedSteps,
    before: Translation,
    inference: Inference,
    profile: Profile,
    readers: set[Step],
    known: set[Place],
    *,
    ignore_additions: bool = False,
) -> Translation | None:
    """Return a translation in which one field differs from ``before``, or None if it fails.

    ``readers`` are the steps that read this field, and ``before`` is a translation without errors, recorded by ``steps``.
    Warnings and decisions are those of ``before``. If the objects are those of ``before``, so is the translation; with
    ``ignore_additions`` also if they have all leaves of these and more, except leaves that are ``known`` to differ with other
    values of the field, for which the last checks do not run. Those of a translation that is returned are added to ``known``.
    Patches are applied, and may cover fields of the spec.
    """
    assert before.plan is not None
    listed = profile.spec.metrics.custom
    changed = readers
    # The rules and the checks that do not run again find no error, as before.
    for rule in changed.intersection(_RULES):
        if has_errors(rule(inference, listed) if rule in METRIC_RULES else rule(inference)):
            return None
    plan = before.plan.with_documents(inference, profile)
    if profile is not before.plan.profile:
        plan.pools = placement.choose(plan)
    if not changed.isdisjoint(_CHOICES):
        changed = _choose_again(steps, before.plan, plan, changed)
    if ignore_additions and changed <= _WITHOUT_OBJECTS:
        return before
    for check in changed.intersection(PLAN_CHECKS):
        if has_errors(check(plan)):
            return None
    if plan.serving != before.plan.serving:
        # Other steps make the objects.
        translation = translate_plan(plan, [], NO_SPEC)
        return translation if translation.objects else None
    pod, differing = _merge_again(steps, plan, changed)
    changed = changed.union(*map(steps.find_readers_of_part, differing))
    parts = _make_parts_again(steps, plan, pod, changed)
    lost = {
        leaf
        for step, part in parts.items()
        if steps.parts[step]
        for leaf in _list_lost(part, steps.parts[step], (step,))
    }
    if ignore_additions and lost <= known:
        return before
    for check in changed.intersection(POD_CHECKS):
        if has_errors(check(plan, pod)):
            return None
    if not parts:
        return before
    results = {**steps.parts, **parts}
    translation = translate_pod(
        plan,
        pod,
        [],
        NO_SPEC,
        lambda step, *arguments: results[step] if step in results else step(*arguments),
        checks_overrides=False,
    )
    if not translation.objects:
        return None
    # The place of an object in a list does not identify it.
    known.update(leaf for leaf in lost if isinstance(steps.parts[leaf[0]], dict))
    return translation


def _choose_again(steps: RecordedSteps, before: Plan, plan: Plan, readers: set[Step]) -> set[Step]:
    """Make the choices of a plan whose steps read a field that differs, and return all steps that read a difference."""
    changed = readers
    for name, choose in CHOICE_STEPS.items():
        if choose in changed:
            choice = choose(plan)
            if name in DECIDED:
                choice, _ = choice
            if choice != getattr(before, name):
                setattr(plan, name, choice)
                changed = changed.union(steps.find_readers_of_choice(name))
    return changed


def _merge_again(steps: RecordedSteps, plan: Plan, changed: set[Step]) -> tuple[Pod, set[str]]:
    """Return the pod of a plan, the recorded one if no patch differs, and the names of its parts that differ."""
    patches = {}
    for step in changed.intersection(PATCH_STEPS):
        result = _list_patches(step(plan))
        if result != steps.patches[step]:
            patches[step] = result
    if not patches:
        return steps.pod, set()
    names = {
        name for step, result in patches.items() for patch in (*result, *steps.patches[step]) for name in patch.parts
    }
    everything = [patch for step, recorded in steps.patches.items() for patch in patches.get(step, recorded)]
    pod = merge_again(steps.pod, everything, names)
    return pod, {name for name in (*names, "causes") if getattr(pod, name) != getattr(steps.pod, name)}


def _make_parts_again(steps: RecordedSteps, plan: Plan, pod: Pod, changed: set[Step]) -> dict[Step, Any]:
    """Return the parts of the objects that differ from the recorded ones."""
    parts = {}
    for step in changed.intersection(steps.parts):
        recorded = steps.steps[step]
        part = step(plan, *(pod if other is steps.pod else other for other in recorded.arguments))
        if part != recorded.result:
            parts[step] = part
    return parts


def _list_lost(part: Any, before: Any, place: Place) -> Iterator[Place]:
    """Yield the places of values of a part of an object that differ or are absent in another one, which is not equal."""
    if isinstance(before, dict) and before and isinstance(part, dict):
        for name, item in before.items():
            other = part.get(name, _ABSENT)
            if other is not item and other != item:
                yield from _list_lost(other, item, (*place, name))
    elif isinstance(before, list) and before and isinstance(part, list) and len(part) >= len(before):
        for index, item in enumerate(before):
            if part[index] is not item and part[index] != item:
                yield from _list_lost(part[index], item, (*place, index))
    else:
        yield place


def _list_patches(result: Any) -> list[PodPatch]:
    """Return the patches that a step returns: one, or several."""
    return [result] if type(result) is PodPatch else [*result]


def _is_block(value: Any) -> bool:
    """Return whether a value is an instance of a model, compiled or not."""
    return type(value) not in _PLAIN and hasattr(value, "__pydantic_fields_set__")


def _unwrap(value: Any) -> Any:
    """Return a block itself instead of one that records, anything else as it is."""
    return object.__getattribute__(value, "_block") if type(value) is _Block else value


class _Block:
    """A block of a document that records which of its fields are read."""

    __slots__ = ("_block", "_known", "_place", "_steps")

    def __init__(self, block: Any, place: Place, steps: RecordedSteps) -> None:
        self._block = block
        self._place = place
        self._steps = steps
        self._known: dict[str, tuple[set[Step], Any]] = {}

    def __getattr__(self, name: str) -> Any:
        steps = self._steps
        known = self._known.get(name)
        if known is None:
            values = self._block.__dict__
            if name not in values:
                steps.read_all(self._place)
                return getattr(self._block, name)
            known = self._known[name] = steps.wrap_value((*self._place, name), values[name])
        known[0].add(steps.current)
        return known[1]

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # vars() reads it
        self._steps.read_all(self._place)
        values: dict[str, Any] = self._block.__dict__
        return values

    def __eq__(self, other: object) -> bool:
        self._steps.read_all(self._place)
        return bool(self._block == (other._block if isinstance(other, _Block) else other))

    def __hash__(self) -> int:
        self._steps.read_all(self._place)
        return hash(self._block)


class _RecordedPlan:
    """A plan that records which of its choices, and which fields of its documents, are read."""

    __slots__ = ("_plan", "_steps", *DOCUMENTS)

    def __init__(self, plan: Plan, steps: RecordedSteps) -> None:
        self._plan = plan
        self._steps = steps
        for name in DOCUMENTS:
            setattr(self, name, steps.read_document(name))

    def __getattr__(self, name: str) -> Any:
        """Return a choice."""
        steps = self._steps
        value = steps.steps[steps.current].choices[name] = getattr(self._plan, name)
        return value if name != "pools" else steps.read_document(name)


# Properties read the plan in turn.
for _name, _property in vars(Plan).items():
    if isinstance(_property, property):
        setattr(_RecordedPlan, _name, _property)


class _RecordedPod:
    """A pod that records which of its parts are read."""

    __slots__ = ("_parts", "_pod")

    def __init__(self, pod: Pod, parts: set[str]) -> None:
        self._pod = pod
        self._parts = parts

    def __getattr__(self, name: str) -> Any:
        self._parts.add(name)
        return getattr(self._pod, name)
