"""Three hundred random REST bodies: upstream's own code accepts the rendered objects, and rejected bodies state the reason.

The bodies are seeded, so that a failure names the seed to reproduce it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

import strategies
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.documents.problem_texts import read_problem_texts
from schemas.validate import validate

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Problem
    from ebbtide.core.translation.objects import Object

CODES = read_problem_texts()
NUMBER = 300
CHUNK = 25
#: Kinds whose structure is all that the judge can check.
STRUCTURE_ONLY = {"ClusterQueue", "DomainMapping", "LocalQueue", "Queue", "ResourceFlavor", "ScaledObject"}
CHUNKS = [range(start, start + CHUNK) for start in range(0, NUMBER, CHUNK)]


@dataclass(frozen=True)
class Made:
    body: dict[str, Any]
    objects: list[Object]
    problems: list[Problem]

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]


@cache
def make(seed: int) -> Made:
    body = strategies.random_rest(strategies.dice(seed))
    batch = Batch(profiles.load_built_in("full"))
    objects, _, problems = batch.add_document(load_document(body, batch.profile, name=f"{seed}.json"))
    return Made(body, objects, problems + batch.batch_problems())


def config() -> dict[str, Any]:
    knative = profiles.load_built_in("full").spec.knative
    return {
        "features": dict(knative.features),
        "autoscaler": dict(knative.autoscaler),
        "defaults": dict(knative.defaults),
        "deployment": dict(knative.deployment),
    }


def test_many_valid_looking_bodies_render() -> None:
    rendered = sum(bool(make(seed).objects) for seed in range(NUMBER))
    why = Counter(problem.code for seed in range(NUMBER) for problem in make(seed).errors)

    assert rendered / NUMBER >= 0.45, f"{rendered / NUMBER:.0%} of {NUMBER} render; errors: {why.most_common()}"
    assert rendered < NUMBER, "no body was rejected, so no rejection is tested"


def test_every_rejected_body_has_an_error_with_a_known_code_and_a_fix() -> None:
    for seed in range(NUMBER):
        rendered = make(seed)
        assert bool(rendered.objects) != bool(rendered.errors), seed
        for problem in rendered.problems:
            assert problem.code in CODES, (seed, problem)
            assert problem.message, (seed, problem)
            assert problem.fix, (seed, problem)


@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_upstream_accepts_rendered_objects(seeds: range, judge: Any) -> None:
    for seed in seeds:
        for item in make(seed).objects:
            if item["kind"] == "Service":
                answer = judge.ask("knative", object=item, config=config())
                assert not answer.get("errors"), (seed, answer)
                assert answer["ok"], (seed, answer)
                assert answer["works"], (seed, answer)
            elif item["kind"] not in STRUCTURE_ONLY:
                answer = judge.ask("object", object=item)
                assert answer.get("ok"), (seed, item["kind"], answer)


def test_rendered_objects_match_upstream_schemas() -> None:
    wrong = {seed: errors for seed in range(NUMBER) for item in make(seed).objects if (errors := validate(item))}

    assert wrong == {}


def test_a_body_and_its_native_form_give_the_same_objects() -> None:
    """A REST body is a native document with other top-level names; only the project ID may differ."""
    profile = profiles.load_built_in("full")
    for seed in range(NUMBER):
        rendered = make(seed)
        if rendered.objects:
            native = strategies.native_of(strategies.without_nulls(rendered.body))
            objects, _, problems = Batch(profile).add_document(load_document(native, profile))
            assert objects == rendered.objects, (seed, problems)
