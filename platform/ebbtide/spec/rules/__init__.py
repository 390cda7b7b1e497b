"""The rules between fields, whatever the cluster: Run:ai's own and those of every Kubernetes.

One function per rule; each yields problems and reads nothing but the spec. What depends on the cluster
stands with the part it concerns (``scaling``, ``gpu``, ``serving``, ``priority``, ``project``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ebbtide.spec.rules import compute, container, naming, placement, scaling, serving, storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ebbtide.base.problems import Problem
    from ebbtide.spec.inference import Inference


def check(inference: Inference, listed: Sequence[str] = ()) -> list[Problem]:
    """Return what every rule finds, in this order. ``listed`` are the custom metrics that the cluster is known to have."""
    rules: tuple[Callable[[Inference], Iterator[Problem]], ...] = (
        naming.name,
        scaling.replicas,
        partial(scaling.metric, listed=listed),
        scaling.knobs,
        compute.gpu,
        compute.cpu,
        container.environment,
        naming.metadata_keys,
        placement.placement,
        storage.storage,
        container.security,
        serving.serving,
        container.probes,
        serving.control_plane,
    )
    return [problem for rule in rules for problem in rule(inference)]
