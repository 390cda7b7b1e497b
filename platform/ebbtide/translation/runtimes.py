"""What a serving runtime's container asks for and is limited to, before a spec is laid over it.

Upstream: github.com/kserve/kserve pkg/controller/v1beta1/inferenceservice/utils/utils.go (MergeRuntimeContainers: what the
spec names replaces the runtime's, key by key), pkg/apis/serving/v1beta1/predictor_model.go (a model is given no limits of
KServe's configuration), config/runtimes (1 CPU and 2Gi, asked for and as limit, in every runtime for one node).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ebbtide.base import quantities

if TYPE_CHECKING:
    from ebbtide.profile.models import KServe, RuntimeResources
    from ebbtide.spec.inference import InferenceSpec

What = Literal["cpu", "memory"]


def requested(spec: InferenceSpec, kserve: KServe, what: What) -> str | None:
    """Return what the model's runtime asks for at least; None where that is nothing, or the profile does not say."""
    found = [each.requests.get(what, "0") for each in _candidates(spec, kserve)]
    least = min(found, key=_nano, default="0")
    return least if _nano(least) else None


def limited(spec: InferenceSpec, kserve: KServe, what: What) -> str | None:
    """Return what the model's runtime limits to at most; None where one has no limit, or the profile does not say."""
    found = [each.limits.get(what) for each in _candidates(spec, kserve)]
    limits = [limit for limit in found if limit is not None]
    return max(limits, key=_nano) if limits and len(limits) == len(found) else None


def _candidates(spec: InferenceSpec, kserve: KServe) -> list[RuntimeResources]:
    """Return the runtime that the model names, or all of them where KServe chooses."""
    if spec.model is None:
        return []
    known = kserve.runtime_resources
    if spec.model.runtime is None:
        return list(known.values())
    return [known[spec.model.runtime]] if spec.model.runtime in known else []


def _nano(amount: str) -> int:
    return quantities.nano(amount) or 0
