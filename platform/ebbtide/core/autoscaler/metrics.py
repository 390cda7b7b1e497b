"""Number of pods whose statistics are sampled.

Upstream: knative.dev/serving v0.51.0, pkg/autoscaler/metrics/sample_size.go. Every second, the autoscaler samples a subset
of the ready pods and uses their mean for all.
"""

from __future__ import annotations

from typing import Final

from ebbtide.core.autoscaler.arithmetic import round_up
from ebbtide.core.autoscaler.kernel import kernel

#: Sample size of an infinite population: 95% confidence, a variance of 100, a margin of 5.
_SAMPLE_SIZE: Final = 1.96 * 1.96 * 100.0 / (5.0 * 5.0)
#: Populations up to this size are sampled completely.
_ALL: Final = 3


@kernel
def population_mean_sample_size(population: float) -> float:
    """Return the sample size for ``population`` pods: all of up to 3 pods, and at most 16."""
    if population <= _ALL:
        return max(population, 0.0)
    return round_up(population * _SAMPLE_SIZE / (population + _SAMPLE_SIZE - 1))
