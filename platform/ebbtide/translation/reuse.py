"""Translations that reuse the steps of another one, for consumers that change one field and translate again.

A step is a function of the plan, and of what earlier steps returned. ``RecordedSteps`` runs a translation and records
for each step its result and the fields that it reads. If one field changes, ``find_readers`` returns the steps that read
it, and ``translate_again`` runs only these, and those for which an earlier step now returns something else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base.problems import has_errors
from ebbtide.spec.rules import METRIC_RULES, RULES
from ebbtide.translation import scaling, traps
from ebbtide.translation.plan import Plan
from ebbtide.translation.pods import PodPatch
from ebbtide.translation.translate import CHECKS, CHOICE_STEPS, DECISIONS, translate, translate_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.profile.models import Profile
    from ebbtide.spec.inference import Inference
    from ebbtide.translation.translate import Translation

#: The names of attributes, indexes and keys that lead to a value: from the document of a spec, or from ``PROFILE``.
Place = tuple[Any, ...]
#: The spec that is stored on the objects. It differs in each translation, and is not compared.
NO_SPEC: Final = "{}"
#: The first part of each place in the profile. No field of a spec has this name.
PROFILE: Final = "profile"
#: A step's function. A translation calls it at most once.
Step = Any
#: The choices of a plan. Its other attributes are the documents, and what follows from both.
CHOICES: Final = {"namespace", "pools", "gpu", "serving", "scaling", "priority"}
#: Steps that return problems only, or decisions only.
PLAN_CHECKS: Final = frozenset({*CHECKS, scaling.check, traps.check})
_WITHOUT_OBJECTS: Final = PLAN_CHECKS.union(RULES, DECISIONS)
DOCUMENTS: Final = {"inference", "spec", "profile", "cluster"}


@dataclass(slots=True)
class RecordedStep:
    """The result of a step, and its inputs apart from the documents."""

    #: The choices that it read, by attribute of the plan.
    choices: dict[str, Any] = field(default_factory=dict)
    #: The arguments other than the plan and the spec, by index.
    arguments: tuple[tuple[int, Any], ...] = ()
    result: Any = None


class RecordedSteps:
    """The steps of one translation, of which each is recorded. Pass an instance as ``call`` to ``translate``."""

    def __init__(self, inference: Inference, profile: Profile) -> None:
        """Record a translation of ``inference`` for ``profile``."""
        self.steps: dict[Step, RecordedStep] = {}
        #: The step that is running.
        self.current: Step = None
        self._documents = {
            "inference": _Block(inference, (), self),
            "spec": _Block(inference.spec, ("spec",), self),
            "profile": _Block(profile, (PROFILE,), self),
            "cluster": _Block(profile.spec, (PROFILE, "spec"), self),
        }
        self._inference = inference
        #: The steps by the places that they read: of values and whole blocks, of lists and mappings of blocks, of blocks.
        self._complete: dict[Place, set[Step]] = {}
        self._containers: dict[Place, set[Step]] = {}
        self._blocks: dict[Place, set[Step]] = {}

    def __call__(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """Run a step and record it."""
        recorded = self.steps[function] = RecordedStep()
        self.current = function
        first, *others = arguments
        if isinstance(first, Plan):
            recorded.arguments = tuple(enumerate(others, 1))
            result = function(_RecordedPlan(first, self, recorded.choices), *others)
        elif first is self._inference:
            recorded.arguments = tuple(enumerate(others, 1))
            result = function(self.read_document("inference"), *others)
        else:
            recorded.arguments = tuple(enumerate(arguments))
            result = function(*arguments)
        recorded.result = self._without_blocks(result)
        return recorded.result

    def read_document(self, name: str) -> Any:
        """Return a document, or its ``spec`` block, that records what is read from it."""
        return self._documents[name]

    def wrap_value(self, place: Place, value: Any) -> tuple[set[Step], Any]:
        """Return the readers of a value, and the value with recording blocks."""
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
                for end in range(len(place) + 1):
                    below.setdefault(place[:end], set()).update(readers)
        return below

    def find_readers(self, place: Place) -> set[Step]:
        """Return the steps that read the value at a place, something in it, or something that contains it."""
        readers = self._below.get(place, set()) | self._containers.get(place[:-1], set())
        for end in range(len(place)):
            readers.update(self._complete.get(place[:end], ()))
        return readers

    def _without_blocks(self, value: Any) -> Any:
        """Return a step's result with the values themselves. A block that becomes a part of a result is read completely."""
        kind = type(value)
        if kind is _Block:
            self.read_all(object.__getattribute__(value, "_place"))
            return object.__getattribute__(value, "_block")
        if kind is PodPatch:
            value.parts = self._without_blocks(value.parts)
            return value
        if kind is dict:
            return {name: self._without_blocks(item) for name, item in value.items()}
        if kind is tuple:
            return tuple([self._without_blocks(item) for item in value])
        if kind is list or hasattr(value, "__next__"):
            return [self._without_blocks(item) for item in value]
        return value


class ReusedSteps:
    """The steps of a translation in which one field differs from a recorded one."""

    def __init__(self, recorded: RecordedSteps, readers: set[Step]) -> None:
        """Run the steps ``readers`` of a recorded translation, and those that depend on their results."""
        self._steps = recorded.steps
        self._readers = readers

    def __call__(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """Return the result of a step."""
        recorded = self._steps.get(function)
        if recorded is None or function in self._readers:
            return _list_items(function(*arguments))
        for name, choice in recorded.choices.items():
            value = getattr(arguments[0], name)
            if value is not choice and value != choice:
                return _list_items(function(*arguments))
        for index, argument in recorded.arguments:
            other = arguments[index]
            if other is not argument and other != argument:
                return _list_items(function(*arguments))
        return recorded.result


def translate_again(
    steps: RecordedSteps, before: Translation, inference: Inference, profile: Profile, readers: set[Step]
) -> Translation | None:
    """Return a translation in which one field differs from ``before``, or None if it fails.

    ``readers`` are the steps that read this field, and ``before`` is a translation without errors, recorded by ``steps``.
    """
    plan = before.plan
    assert plan is not None
    listed = profile.spec.metrics.custom
    if readers.intersection(CHOICE_STEPS) or listed != plan.cluster.metrics.custom:
        translation = translate(inference, profile, NO_SPEC, ReusedSteps(steps, readers))
        return translation if translation.objects else None
    # The choices are those of the other plan, so the checks that do not read the field find no error.
    plan = replace(plan, inference=inference, profile=profile)
    for step in readers:
        arguments: tuple[Any, ...]
        if step in RULES:
            arguments = (inference, listed) if step in METRIC_RULES else (inference,)
        elif step in PLAN_CHECKS:
            arguments = (plan,)
        else:
            continue
        if has_errors(step(*arguments)):
            return None
    if readers <= _WITHOUT_OBJECTS:
        return before
    translation = translate_plan(plan, [], NO_SPEC, ReusedSteps(steps, readers))
    return translation if translation.objects else None


def _list_items(value: Any) -> Any:
    """Return the items of an iterator as a list, anything else as it is."""
    return [*value] if hasattr(value, "__next__") else value


def _is_block(value: Any) -> bool:
    """Return whether a value is an instance of a model, compiled or not."""
    return hasattr(value, "__pydantic_fields_set__")


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

    __slots__ = ("_choices", "_plan", "_steps")

    def __init__(self, plan: Plan, steps: RecordedSteps, choices: dict[str, Any]) -> None:
        self._plan = plan
        self._steps = steps
        self._choices = choices

    def __getattr__(self, name: str) -> Any:
        if name in DOCUMENTS:
            return self._steps.read_document(name)
        if name in CHOICES:
            value = self._choices[name] = getattr(self._plan, name)
            return value
        # A property, which reads the plan in turn.
        return getattr(Plan, name).fget(self)
