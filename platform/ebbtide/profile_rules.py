"""The rules of a profile beyond its shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.problems import Problem, warning
from ebbtide.profile_built_in import OTHER_FLAGS
from ebbtide.serving.knative import EVERY_FLAG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.profile import Profile

#: ConfigMap keys that are read as whole numbers.
NUMBERS: Final = (
    ("autoscaler", "max-scale-limit"),
    ("defaults", "max-revision-timeout-seconds"),
    ("defaults", "container-concurrency-max-limit"),
)
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
        if pool.backend in {"time-slicing", "mps"} and pool.replicas is None:
            yield Problem(
                "PRF004",
                where,
                f"backend {pool.backend} needs the number of shares",
                "set replicas to the device plugin's",
            )
        if pool.backend == "mig" and not pool.product:
            yield Problem(
                "PRF004",
                where,
                "backend mig needs the GPU's product",
                "set product to nvidia.com/gpu.product",
            )
        if pool.backend == "kai" and spec.scheduling.scheduler != "kai-scheduler":
            yield Problem(
                "PRF004",
                where,
                f"backend kai needs scheduler kai-scheduler, not {spec.scheduling.scheduler}",
                "correct one",
            )
