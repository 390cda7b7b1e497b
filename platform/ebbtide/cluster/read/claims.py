"""Devices that are allocated by resource claims (DRA): which claims a pod has, and which pods hold devices of a class.

Upstream: k8s.io/api resource/v1 (ResourceClaim, DeviceClass), core/v1 (PodStatus.resourceClaimStatuses);
k8s.io/kubernetes pkg/scheduler/framework/plugins/dynamicresources (the messages; a claim that cannot be allocated is
``UnschedulableAndUnresolvable``, so the scheduler evicts no pod for it).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object

#: The scheduler's message about a claim that no node's free devices satisfy, and about one whose class is missing.
UNALLOCATED: Final = "cannot allocate all claims"
NO_CLASS: Final = re.compile(r"device class (?P<name>\S+) does not exist")
#: A driver in the CEL expression of a class.
DRIVER: Final = re.compile(r"device\.driver\s*==\s*['\"]([^'\"]+)['\"]")
#: Name of the resource that stands for a class without an ``extendedResourceName`` (KEP-5004).
IMPLICIT: Final = "deviceclass.resource.kubernetes.io/"


def list_claim_names(pod: Object) -> list[str]:
    """Return the names of the claims that were created for a pod from templates."""
    return [row.get("resourceClaimName", "") for row in get_at(pod, "status", "resourceClaimStatuses", default=[])]


def list_classes(claim: Object) -> list[str]:
    """Return the names of the device classes that a claim requests."""
    requests = get_at(claim, "spec", "devices", "requests", default=[])
    rows = [row for request in requests for row in (request.get("exactly"), *request.get("firstAvailable", ())) if row]
    return [row.get("deviceClassName", "") for row in rows]


def list_resources(device_class: Object) -> tuple[str, ...]:
    """Return the names by which pods and claims request a class's devices: the class's, and those of extended resources."""
    name, extended = device_class["metadata"]["name"], get_at(device_class, "spec", "extendedResourceName")
    return (name, f"{IMPLICIT}{name}", *([extended] if extended else []))


def list_allocations(claim: Object) -> list[Object]:
    """Return the devices that are allocated to a claim."""
    devices: list[Object] = get_at(claim, "status", "allocation", "devices", "results", default=[])
    return devices


def find_holding(device_class: Object, claims: Iterable[Object]) -> Iterator[Object]:
    """Yield the claims with a device of a driver whose devices are in a class: a partition excludes the whole device."""
    selectors = get_at(device_class, "spec", "selectors", default=[])
    drivers = {name for row in selectors for name in DRIVER.findall(get_at(row, "cel", "expression", default=""))}
    for claim in claims:
        devices = list_allocations(claim)
        if devices and (not drivers or any(row.get("driver") in drivers for row in devices)):
            yield claim
