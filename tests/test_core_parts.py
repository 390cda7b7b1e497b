"""Parts of the core that commands use, asked directly."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ebbtide import gpu, profiles
from ebbtide.intake import load, rest
from ebbtide.profile_built_in import BUILT_IN
from ebbtide.quantities import age
from ebbtide.translate import translate


def native(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat"},
        "spec": {"image": "ghcr.io/acme/chat:1", **spec},
    }


@pytest.mark.parametrize(
    ("compute", "held"),
    [({}, 0.0), ({"gpuPortionRequest": 0.25}, 0.25), ({"gpuDevicesRequest": 2}, 2.0)],
)
def test_a_replica_holds_its_part_of_the_gpus(compute: dict[str, Any], held: float) -> None:
    loaded = load(native(compute=compute), profiles.built_in())
    assert loaded.inference is not None
    plan = translate(loaded.inference, profiles.built_in(), loaded.canonical).plan
    assert plan is not None
    assert gpu.per_replica(plan) == held


def test_what_run_ai_has_no_word_for_is_told_on_the_way_back() -> None:
    told = native(
        slo={"p95LatencyMilliseconds": 500},
        command=["serve", "a b"],
        autoscaling={"metric": "cpu-utilization", "metricThreshold": 2.5},
        probes={"liveness": {"handler": {"httpGet": {"path": "/"}}}},
    )
    body, lost = rest.write(told, profiles.built_in())
    assert body["spec"]["autoscaling"] == {"metric": "cpu_utilization", "metricThreshold": 2}
    assert body["spec"]["command"] == "serve 'a b'"
    assert "slo" not in body["spec"]
    assert {problem.field for problem in lost} >= {
        ("spec", "slo"),
        ("spec", "autoscaling", "metricThreshold"),
        ("spec", "project"),
        ("metadata", "name"),
    }


def test_the_clusters_id_is_the_profiles() -> None:
    told = copy.deepcopy(BUILT_IN)
    told["spec"]["clusterId"] = "9f1c"
    profile, problems = profiles.validate(told)
    assert profile is not None, problems
    body, _ = rest.write(native(project="team-a"), profile)
    assert body["clusterId"] == "9f1c"


def test_a_body_of_run_ai_has_the_project_and_no_autoscaling_of_its_own() -> None:
    told = native(project="team-a")
    told["spec"]["autoscaling"] = None
    body, _ = rest.write(told, profiles.built_in())
    assert body["projectId"] == "team-a"


@pytest.mark.parametrize(("seconds", "shown"), [(12, "12s"), (300, "5m"), (10_800, "3h"), (12 * 86_400, "12d")])
def test_an_age_is_written_as_kubectl_writes_it(seconds: float, shown: str) -> None:
    assert age(seconds) == shown
