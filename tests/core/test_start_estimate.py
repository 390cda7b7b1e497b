"""The estimate of a start that was not measured, and the advice that it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ebbtide import load
from ebbtide.core.documents import profiles
from ebbtide.core.translation.start_estimate import StartEstimate, estimate_start
from ebbtide.core.translation.translate import complete_plan

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Problem
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.plan import Plan

VLLM = "vllm/vllm-openai:v0.11.0"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
POOL = {"name": "h100", "nodeAutoscaler": {"name": "karpenter", "startSeconds": 150}}


def make_profile(**spec: Any) -> Profile:
    kserve = {"installed": True, "version": "0.20.0", **spec.pop("kserve", {})}
    document = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Profile",
        "metadata": {"name": "p"},
        "spec": {"kserve": kserve, **spec},
    }
    profile, problems = profiles.validate_profile_data(document)
    assert profile is not None, problems
    return profile


def plan(spec: dict[str, Any], profile: Profile | None = None) -> tuple[Plan, list[Problem]]:
    document = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": "chat"}, "spec": spec}
    loaded = load(document, profile=profile or make_profile())
    assert loaded.inference is not None, loaded.problems
    return complete_plan(loaded.inference, profile or make_profile())


def estimate(spec: dict[str, Any], profile: Profile | None = None) -> StartEstimate:
    return estimate_start(plan(spec, profile)[0])


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({"image": VLLM, "args": [LLAMA]}, 81),
        ({"image": VLLM, "args": ["--model=meta-llama/Llama-2-7b-chat-hf"]}, 70),
        ({"image": VLLM, "args": ["--model", "facebook/opt-125m"]}, 2),
        ({"image": VLLM, "args": ["org/a-1.5B"]}, 15),
        ({"model": {"format": "huggingface", "uri": "s3://models/x-13b/"}}, 130),
        # Other numbers of a name, other precisions, and names without a number.
        ({"image": VLLM, "args": ["org/other-8x7B"]}, None),
        ({"image": VLLM, "args": ["org/other-7B-AWQ"]}, None),
        ({"image": VLLM, "args": ["org/other-7B-FP8"]}, None),
        ({"image": VLLM, "args": ["microsoft/phi-2"]}, None),
        ({"image": "nvcr.io/nim/meta/other-7b:1"}, None),
        # Sources that are not downloaded.
        ({"image": VLLM, "args": ["/models/x-13b"]}, None),
        ({"model": {"format": "huggingface", "uri": "oci://registry/x-13b"}}, None),
    ],
)
def test_the_download_is_estimated_from_the_size_of_the_weights(spec: dict[str, Any], seconds: int | None) -> None:
    found = estimate(spec)

    assert [(part.name, part.seconds) for part in found.parts] == ([] if seconds is None else [("weights", seconds)])
    assert found.rest_seconds == 120
    assert bool(found.notes) == (seconds is None)


@pytest.mark.parametrize(
    "spec",
    [
        {"image": VLLM, "args": [LLAMA], "storage": {"pvc": [{"claimName": "c", "existingPvc": True, "path": "/m"}]}},
        {"image": VLLM, "args": ["/mnt/models"], "start": {"weights": {"uri": f"hf://{LLAMA}", "size": "30Gi"}}},
    ],
)
def test_weights_on_a_volume_are_not_estimated(spec: dict[str, Any]) -> None:
    found = estimate(spec)

    assert not found.parts
    assert len(found.notes) == 1


def test_a_service_without_a_server_of_models_has_no_estimate() -> None:
    found = estimate({"image": "ghcr.io/knative/helloworld-go"})

    assert (found.parts, found.rest_seconds) == ((), 0)


def test_the_longest_part_is_first() -> None:
    spec = {"image": VLLM, "args": [LLAMA], "compute": {"gpuDevicesRequest": 1}, "nodePools": ["h100"]}

    parts = estimate(spec, make_profile(nodePools=[POOL])).parts

    assert [(part.name, part.seconds, part.fields) for part in parts] == [
        ("node", 150, ()),
        ("weights", 81, ("weights",)),
    ]


def test_the_cache_of_the_nodes_is_a_choice_where_the_profile_has_node_groups() -> None:
    spec = {"model": {"format": "huggingface", "uri": f"hf://{LLAMA}"}}

    parts = estimate(spec, make_profile(kserve={"localModelNodeGroups": ["h100"]})).parts

    assert parts[0].fields == ("weights", "modelCache")


@pytest.mark.parametrize(
    ("args", "unknown"),
    [
        ([LLAMA], ("streaming", "compilationCache")),
        ([LLAMA, "--enforce-eager"], ("streaming",)),
        ([LLAMA, "--load-format=auto"], ("compilationCache",)),
    ],
)
def test_only_choices_that_apply_are_offered(args: list[str], unknown: tuple[str, ...]) -> None:
    assert estimate({"image": VLLM, "args": args}, make_profile(kubernetes={"version": "1.30"})).unknown == unknown


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            {"image": VLLM, "args": [LLAMA]},
            {
                "args": ["/mnt/models", f"--served-model-name={LLAMA}"],
                "start": {"weights": {"uri": f"hf://{LLAMA}", "size": "30Gi"}},
            },
        ),
        (
            {"model": {"format": "huggingface"}, "args": [f"--model_id={LLAMA}"]},
            {"model": {"format": "huggingface", "uri": f"hf://{LLAMA}"}, "start": {"weights": {"size": "30Gi"}}},
        ),
    ],
)
def test_the_advice_removes_the_part_and_is_valid(before: dict[str, Any], after: dict[str, Any]) -> None:
    (part,) = estimate(before).parts
    written = {**before, **after}
    if "model" in before:
        del written["args"]

    for text in (f"hf://{LLAMA}", "size: 30Gi", *after.get("args", ())):
        assert text in part.advice
    assert not estimate(written).parts
    assert not [problem for problem in plan(written)[1] if problem.code.startswith("STA")]


def test_a_spec_whose_weights_no_choice_copies_says_so() -> None:
    spec = {"model": {"format": "huggingface", "uri": "s3://models/x-13b", "storageSecret": "s"}}

    (part,) = estimate(spec).parts

    assert (part.fields, part.advice) == ((), "no choice of start applies to this spec")


def test_an_estimate_needs_no_spec_that_the_cluster_accepts() -> None:
    profile = make_profile(kserve={"installed": False})

    assert estimate({"model": {"format": "huggingface", "uri": f"hf://{LLAMA}"}}, profile).parts[0].seconds == 81
