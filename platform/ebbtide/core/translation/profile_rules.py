"""The rules that a profile must meet beyond its schema.

Upstream: knative.dev/serving pkg/autoscaler/config/config.go (bounds of max-scale).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import keys
from ebbtide.core.base.problems import Path, Problem, make_warning
from ebbtide.core.base.quantities import parse_nano, parse_whole_quantity
from ebbtide.core.base.versions import KNOWN, is_known_version
from ebbtide.core.profile.built_in import OTHER_FLAGS
from ebbtide.core.translation import endpoints
from ebbtide.core.translation.gpu import BACKENDS, is_named
from ebbtide.core.translation.runtimes import ComputeResource
from ebbtide.core.translation.serving.knative import EVERY_FLAG

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Knative, KServe, Profile, ProfileSpec

#: ConfigMap keys whose value is a whole number.
NUMBERS: Final = (
    ("autoscaler", "max-scale"),
    ("autoscaler", "max-scale-limit"),
    ("defaults", "max-revision-timeout-seconds"),
    ("defaults", "container-concurrency-max-limit"),
)
#: Fields of a node pool that a backend may need: their meaning, and the fix if they are missing.
BACKEND_FIELDS: Final = {
    "replicas": ("the number of shares per GPU", "set replicas to the device plugin's replicas"),
    "product": ("the GPU's product", "set product to the value of the node label nvidia.com/gpu.product"),
    "gpu_memory_mebibytes": (
        "the memory of one GPU",
        "set gpuMemoryMebibytes to the value of the node label nvidia.com/gpu.memory",
    ),
}
FLAG_VALUES: Final = {"enabled", "allowed", "disabled"}


def check(profile: Profile) -> Iterator[Problem]:
    """Yield the problems of a profile that its schema does not find."""
    spec = profile.spec
    knative = spec.knative
    yield from endpoints.check_profile(spec)
    yield from _check_versions(spec)
    for config, key in NUMBERS:
        value = getattr(knative, config).get(key)
        if value is not None and not value.isdigit():
            message = f"invalid {key} {value!r}: must be a whole number"
            fix = 'write it as a quoted whole number, as in the ConfigMap: "600"'
            yield Problem("PRF002", ("spec", "knative", config, key), message, fix)
    yield from _check_scale_limit(knative)
    yield from _check_quantities(spec.kserve)
    for flag, value in knative.features.items():
        if value not in FLAG_VALUES and flag != "secure-pod-defaults":
            message = f"invalid feature flag value {value!r}: must be enabled, allowed or disabled"
            yield Problem("PRF002", ("spec", "knative", "features", flag), message, "use enabled, allowed or disabled")
        elif flag.startswith("kubernetes.podspec-") and flag not in EVERY_FLAG and flag not in OTHER_FLAGS:
            message = f"unknown feature flag {flag}: Ebbtide does not know it for Knative {knative.version}"
            fix = "correct its name to one of the keys of ConfigMap config-features, or remove it"
            yield make_warning("PRF003", ("spec", "knative", "features", flag), message, fix)
    for kind, enforcer in spec.access.enforces.items():
        for key, value in enforcer.labels.items():
            if "{users}" in value or "{groups}" in value:
                message = "a label cannot contain {users} or {groups}: a label value allows neither commas nor @"
                fix = "move {users} and {groups} to an annotation"
                yield Problem("PRF004", ("spec", "access", "enforces", kind, "labels", key), message, fix)
    names = [pool.name for pool in spec.node_pools]
    for index, pool in enumerate(spec.node_pools):
        path = ("spec", "nodePools", index)
        if names.index(pool.name) != index:
            yield Problem(
                "PRF004", (*path, "name"), f"duplicate node pool name {pool.name}", "rename one of the node pools"
            )
        backend = BACKENDS[pool.backend]
        if pool.resource and backend.names and not is_named(pool.resource, backend.names):
            message = (
                f"the device plugin does not list {pool.resource} for {backend.name}: a share is named {keys.GPU}, or "
                f"{keys.GPU_SHARED} with renameByDefault"
            )
            yield Problem("PRF004", (*path, "resource"), message, f"use one of {keys.GPU}, {keys.GPU_SHARED}")
        for attribute in backend.needs:
            if getattr(pool, attribute) is None:
                meaning, fix = BACKEND_FIELDS[attribute]
                yield Problem("PRF004", path, f"backend {backend.name} requires {meaning}", fix)
        if backend.scheduler not in {None, spec.scheduling.scheduler}:
            message = f"backend {backend.name} needs scheduler {backend.scheduler}, not {spec.scheduling.scheduler}"
            fix = f"set scheduling.scheduler: {backend.scheduler}, or another backend for the node pool"
            yield Problem("PRF004", path, message, fix)


def _check_versions(spec: ProfileSpec) -> Iterator[Problem]:
    """Warn of versions of installed components that Ebbtide does not know."""
    versions = {"Kubernetes": spec.kubernetes.version}
    if spec.knative.installed:
        versions["Knative"] = spec.knative.version
    if spec.kserve.installed:
        versions["KServe"] = spec.kserve.version
    for component, version in versions.items():
        if not is_known_version(component, version):
            oldest, newest = KNOWN[component]
            message = f"unknown version of {component}: Ebbtide knows {oldest} to {newest}, not {version}"
            fix = (
                f"if the cluster has another version, correct it; otherwise use {component} {oldest} to {newest}, or read in "
                "its release notes what differs"
            )
            yield make_warning("PRF065", ("spec", component.lower(), "version"), message, fix)


def _check_scale_limit(knative: Knative) -> Iterator[Problem]:
    """Reject a max-scale-limit that Knative's webhook rejects: the default max-scale, which is none, must be within it."""
    limit, default = (
        parse_whole_quantity(knative.autoscaler.get(key, "0")) or 0 for key in ("max-scale-limit", "max-scale")
    )
    if limit and not 1 <= default <= limit:
        state = f"max-scale is {default}" if default else "max-scale is not set"
        message = f"Knative accepts max-scale-limit {limit} only with a max-scale from 1 to {limit}; {state}"
        fix = f'set max-scale: "{limit}" in config-autoscaler and in knative.autoscaler of the profile'
        yield Problem("PRF004", ("spec", "knative", "autoscaler", "max-scale-limit"), message, fix)


def _check_quantities(kserve: KServe) -> Iterator[Problem]:
    """Reject invalid quantities among KServe's resources."""
    parts: list[tuple[Path, Mapping[ComputeResource, str]]] = [(("limits",), kserve.limits)]
    for name, resources in kserve.runtime_resources.items():
        parts.append((("runtimeResources", name, "requests"), resources.requests))
        parts.append((("runtimeResources", name, "limits"), resources.limits))
    for path, amounts in parts:
        for resource, amount in amounts.items():
            if parse_nano(amount) is None:
                message = f"invalid quantity {amount!r}"
                fix = 'write a Kubernetes quantity, such as "1", 500m or 2Gi'
                yield Problem("PRF002", ("spec", "kserve", *path, resource), message, fix)
