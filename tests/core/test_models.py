"""The catalog of language models: its numbers and the proposals."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebbtide.core import manifests
from ebbtide.core.base.problems import select_errors
from ebbtide.core.documents import profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.documents.model_specs import ModelRequest, choose_proposal, name_workload, propose_model
from ebbtide.core.documents.texts import load_text
from ebbtide.core.readers.reading import make_document
from ebbtide.core.translation import model_catalog as catalog

PROFILES = Path(__file__).parents[1] / "profiles"
DEMO = Path(catalog.__file__).parents[2] / "sandbox" / "demo.yaml"

H100 = 81_559


@pytest.mark.parametrize("model", catalog.MODELS.values(), ids=catalog.MODELS)
def test_a_model_has_plausible_numbers(model: catalog.LanguageModel) -> None:
    assert model.name == model.name.lower()
    assert catalog.find_model(model.repository) is model
    assert catalog.find_model(model.name.upper()) is model
    assert 0.4 <= model.weights / model.parameters <= 2
    # Keys and values of 16 bits in each layer.
    assert model.kv_bytes % 4 == 0
    assert 1_000 < model.kv_bytes < 1_000_000
    assert model.context >= 32_768


def test_gpus_are_found_by_name_and_by_label() -> None:
    for name, _, memory in catalog.GPUS:
        assert catalog.find_gpu(name) == (name, memory)
    assert catalog.find_gpu("NVIDIA-A100-SXM4-40GB") == ("a100-40gb", 40_960)
    assert catalog.find_gpu("NVIDIA-A100-SXM4-80GB") == ("a100-80gb", 81_920)
    assert catalog.find_gpu("NVIDIA-H100-80GB-HBM3") == ("h100", H100)
    assert catalog.find_gpu("NVIDIA-H100-NVL") is None
    assert catalog.find_gpu("0.5") is None


def test_a_proposal_by_hand() -> None:
    """70 B in bf16 on H100: 141.1 GB of weights and 21.5 GB of KV cache, so two GPUs are too few and four suffice."""
    model = catalog.MODELS["llama-3.1-70b"]
    proposal = catalog.propose_gpus(model, "h100", H100, 8192, 8)

    assert proposal is not None
    assert (proposal.devices, proposal.portion) == (4, 1.0)
    assert proposal.needed == pytest.approx((141_107_412_992 + 327_680 * 8192 * 8) / 4 + 2e9, abs=1)
    assert proposal.available == int(H100 * 1024**2 * 0.9)
    assert proposal.start_seconds == 840


def test_the_heads_are_divided_evenly_among_the_gpus() -> None:
    """Six KV heads cannot be divided among four GPUs, nor copied to them equally, so two are proposed or none."""
    model = catalog.MODELS["llama-3.1-70b"]._replace(heads=6)

    assert catalog.propose_gpus(model, "h100", H100, 8192, 8) is None
    proposal = catalog.propose_gpus(model, "h200", 143_771, 8192, 8)
    assert proposal is not None
    assert proposal.devices == 2


def test_the_attention_heads_are_divided_evenly_among_the_gpus() -> None:
    """Qwen2.5-7B has 28 attention heads: vLLM starts on 1, 2 or 4 GPUs, not on 8."""
    model = catalog.MODELS["qwen2.5-7b"]

    assert 28 % model.most == 0
    assert catalog.propose_gpus(model, "t4", 15_360, 32_768, 20) is None
    assert catalog.propose_gpus(model._replace(most=8), "t4", 15_360, 32_768, 20) is not None


def test_the_model_of_a_nim_image_is_found_without_its_dots() -> None:
    for image, name in (
        ("llama-3.1-8b-instruct", "llama-3.1-8b"),
        ("mixtral-8x7b-instruct-v01", "mixtral-8x7b"),
        ("mistral-7b-instruct-v03", "mistral-7b"),
        ("deepseek-r1", "deepseek-r1"),
    ):
        assert catalog.find_image_model(image) is catalog.MODELS[name]
    assert catalog.find_image_model("llama3-8b-instruct") is None


@pytest.mark.parametrize("model", catalog.MODELS.values(), ids=catalog.MODELS)
def test_more_memory_never_needs_more_gpus(model: catalog.LanguageModel) -> None:
    sizes = []
    for memory in sorted(memory for _, _, memory in catalog.GPUS):
        proposal = catalog.propose_gpus(model, "gpu", memory, 8192, 8)
        sizes.append(float("inf") if proposal is None else proposal.devices * proposal.portion)
        assert proposal is None or proposal.needed <= proposal.available
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("demo", marks=pytest.mark.skipif(not DEMO.exists(), reason="ebbtide.sandbox is not installed")),
        *("pools", "pools-mig", "mig-single", "time-slicing", "hami", "dra-1.34", "dra-1.33"),
    ],
)
def test_each_proposal_passes_check_on_its_node_pool_or_says_why_not(name: str) -> None:
    profile, _ = profiles.load_profile(str(DEMO if name == "demo" else PROFILES / f"{name}.yaml"))
    assert profile is not None
    accepted = 0
    for model in catalog.MODELS.values():
        proposals = propose_model(ModelRequest(model, 8192, 8), profile)
        assert [*proposals] == [pool.name for pool in profile.spec.node_pools]
        for pool, proposal in proposals.items():
            assert proposal.outcome
            if not proposal.fields:
                continue
            accepted += 1
            text = manifests.write_document(make_document(name_workload(model), proposal.fields))
            (loaded,) = load_text(text.encode(), "spec", profile)
            _, translation, problems = Batch(profile).add_document(loaded)
            assert not select_errors(problems)
            assert not {"GPU065", "GPU128"} & {problem.code for problem in problems}
            assert translation is not None
            assert translation.plan is not None
            assert translation.plan.pool is not None
            assert translation.plan.pool.name == pool
        chosen = choose_proposal(proposals)
        assert bool(chosen.fields) == any(proposal.fields for proposal in proposals.values())
    assert (accepted > 0) == (name != "dra-1.33")


@pytest.mark.parametrize(
    ("profile", "memory", "share"),
    [("mig", 0.5, "0.9"), ("hami", 0.5, "0.9"), ("kai-0.17", 0.5, "0.45"), ("devices", None, "0.9")],
)
def test_the_engine_gets_a_share_of_the_memory_that_it_sees(profile: str, memory: float | None, share: str) -> None:
    loaded, _ = profiles.load_profile(str(PROFILES / f"{profile}.yaml"))
    assert loaded is not None
    (proposal,) = propose_model(ModelRequest(catalog.MODELS["llama-3.1-8b"], 8192, 8), loaded).values()

    assert proposal.fields["compute"].get("gpuPortionRequest") == memory
    assert proposal.fields["args"].endswith(f"--gpu-memory-utilization {share}")


def test_the_proposal_that_takes_the_least_memory_is_chosen() -> None:
    profile, _ = profiles.load_profile(str(PROFILES / "pools.yaml"))
    assert profile is not None
    # A whole L4 has more memory than a quarter of an A100, and less than a whole one.
    for name, pool in (("qwen3-0.6b", "shared"), ("qwen2.5-7b", "l4"), ("qwen3-32b", "h100")):
        chosen = choose_proposal(propose_model(ModelRequest(catalog.MODELS[name], 8192, 8), profile))
        assert chosen.fields["nodePools"] == [pool]
