"""How many pods are asked for their statistics.

Upstream: knative.dev/serving v0.48.1, pkg/autoscaler/metrics/sample_size.go. Every second a sample of the ready pods is
asked; its mean counts for all.
"""

from __future__ import annotations

from typing import Final

from ebbtide.autoscaler.arithmetic import ceil
from ebbtide.autoscaler.kernel import kernel

#: Samples that an endless population would need: 95 % confidence, a variance of 100, a margin of 5.
_SAMPLE_SIZE: Final = 1.96 * 1.96 * 100.0 / (5.0 * 5.0)
#: Populations up to this size are asked whole.
_ALL: Final = 3


@kernel
def population_mean_sample_size(population: float) -> float:
    """Return how many of ``population`` pods are asked: all of up to 3, at most 16 of any number."""
    if population <= _ALL:
        return max(population, 0.0)
    return ceil(population * _SAMPLE_SIZE / (population + _SAMPLE_SIZE - 1))
