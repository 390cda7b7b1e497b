"""The rules of a profile beyond its shape.

Upstream: knative.dev/serving pkg/autoscaler/config/config.go (bounds of max-scale).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base.problems import Problem, warning
from ebbtide.base.quantities import nano, whole
from ebbtide.profile.built_in import OTHER_FLAGS
from ebbtide.translation.gpu import BACKENDS
from ebbtide.translation.serving.knative import EVERY_FLAG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ebbtide.base.problems import Path
    from ebbtide.profile.models import Knative, KServe, Profile
    from ebbtide.translation.runtimes import What

#: ConfigMap keys that are read as whole numbers.
NUMBERS: Final = (
    ("autoscaler", "max-scale"),
    ("autoscaler", "max-scale-limit"),
    ("defaults", "max-revision-timeout-seconds"),
    ("defaults", "container-concurrency-max-limit"),
)
#: Fields of a pool that a backend may need: what they are, and the fix.
NEEDED: Final = {
    "replicas": ("the number of shares", "set replicas to the device plugin's"),
    "product": ("the GPU's product", "set product to nvidia.com/gpu.product"),
    "gpu_memory_mebibytes": ("the memory of one GPU", "set gpuMemoryMebibytes to nvidia.com/gpu.memory"),
}
FLAG_VALUES: Final = {"enabled", "allowed", "disabled"}


def check(profile: Profile) -> Iterator[Problem]:
    """Yield what is wrong with a profile beyond its shape."""
    spec = profile.spec
    knative = spec.knative
    for part, key in NUMBERS:
        value = getattr(knative, part).get(key)
        if value is not None and not value.isdigit():
            yield Problem(
                "PRF002",
                ("spec", "knative", part, key),
                f"{value!r} is no whole number",
                'write it as ConfigMaps do: "600"',
            )
    yield from _most_replicas(knative)
    yield from _amounts(spec.kserve)
    for flag, value in knative.features.items():
        if value not in FLAG_VALUES and flag != "secure-pod-defaults":
            yield Problem(
                "PRF002",
                ("spec", "knative", "features", flag),
                f"{value!r} is no value for a feature flag",
                "use enabled, allowed or disabled",
            )
        elif flag.startswith("kubernetes.podspec-") and flag not in EVERY_FLAG and flag not in OTHER_FLAGS:
            yield warning(
                "PRF003",
                ("spec", "knative", "features", flag),
                f"Knative {knative.version} has no flag {flag} that Ebbtide knows",
                "see config-features",
            )
    for kind, enforcer in spec.access.enforces.items():
        for key, value in enforcer.labels.items():
            if "{users}" in value or "{groups}" in value:
                yield Problem(
                    "PRF004",
                    ("spec", "access", "enforces", kind, "labels", key),
                    "a label cannot hold a list of names: it has no commas and no @",
                    "put the names into an annotation",
                )
    names = [pool.name for pool in spec.node_pools]
    for index, pool in enumerate(spec.node_pools):
        where = ("spec", "nodePools", index)
        if names.index(pool.name) != index:
            yield Problem("PRF004", (*where, "name"), f"node pool {pool.name} is listed twice", "rename one")
        backend = BACKENDS[pool.backend]
        for needed in backend.needs:
            if getattr(pool, needed) is None:
                what, fix = NEEDED[needed]
                yield Problem("PRF004", where, f"backend {backend.name} needs {what}", fix)
        if backend.scheduler not in {None, spec.scheduling.scheduler}:
            yield Problem(
                "PRF004",
                where,
                f"backend {backend.name} needs scheduler {backend.scheduler}, not {spec.scheduling.scheduler}",
                "correct one",
            )


def _most_replicas(knative: Knative) -> Iterator[Problem]:
    """Refuse what Knative's webhook does: a limit on replicas that the default, which is none, does not keep."""
    limit, default = (whole(knative.autoscaler.get(key, "0")) or 0 for key in ("max-scale-limit", "max-scale"))
    if limit and not 1 <= default <= limit:
        yield Problem(
            "PRF004",
            ("spec", "knative", "autoscaler", "max-scale-limit"),
            f"Knative takes max-scale-limit {limit} only with a max-scale from 1 to {limit}; "
            + (f"here it is {default}" if default else "here there is none"),
            f'set max-scale: "{limit}" in config-autoscaler and here',
        )


def _amounts(kserve: KServe) -> Iterator[Problem]:
    """Refuse what is no amount among KServe's resources."""
    parts: list[tuple[Path, Mapping[What, str]]] = [(("limits",), kserve.limits)]
    for name, resources in kserve.runtime_resources.items():
        parts.append((("runtimeResources", name, "requests"), resources.requests))
        parts.append((("runtimeResources", name, "limits"), resources.limits))
    for where, amounts in parts:
        for what, amount in amounts.items():
            if nano(amount) is None:
                yield Problem(
                    "PRF002",
                    ("spec", "kserve", *where, what),
                    f"{amount!r} is no amount that Kubernetes reads",
                    'write it as Kubernetes does: "1", 500m, 2Gi',
                )
