"""Rules between fields that hold on every cluster: those of Run:ai and those of Kubernetes.

Each rule is a function that reads only the spec and yields problems. Rules that depend on the cluster are in the module
of their topic in ``ebbtide.core.translation`` (``scaling``, ``gpu``, ``serving``, ``priority``, ``project``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.core.spec.rules import compute, container, containers, naming, placement, scaling, serving, storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ebbtide.core.base.problems import Problem
    from ebbtide.core.spec.inference import Inference


#: The rules of metrics, which also read the profile's custom metrics.
METRIC_RULES: Final = frozenset({scaling.check_metric, scaling.check_metrics})
#: The rules, in the order of their problems.
RULES: Final[tuple[Callable[[Inference], Iterable[Problem]], ...]] = (
    naming.check_name,
    scaling.check_replicas,
    scaling.check_metric,
    scaling.check_metrics,
    scaling.check_scaling_fields,
    compute.check_gpu,
    compute.check_cpu,
    container.check_environment,
    containers.check_containers,
    naming.check_metadata_keys,
    placement.check_placement,
    storage.check_storage,
    container.check_security,
    serving.check_serving,
    container.check_probes,
    serving.check_control_plane,
)


def check(inference: Inference, listed: Sequence[str] = ()) -> list[Problem]:
    """Return the problems that all rules find, in the order of the rules.

    ``listed`` names the custom metrics that the profile lists.
    """
    problems: list[Problem] = []
    for rule in RULES:
        problems.extend(rule(inference, listed) if rule in METRIC_RULES else rule(inference))
    return problems
