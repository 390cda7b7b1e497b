"""Devices that are allocated by resource claims (DRA): which claims a pod has, which pods hold devices of a class, and what drivers offer.

Upstream: k8s.io/api resource/v1 (ResourceClaim, DeviceClass), core/v1 (PodStatus.resourceClaimStatuses);
k8s.io/kubernetes pkg/scheduler/framework/plugins/dynamicresources (the messages; a claim that cannot be allocated is
``UnschedulableAndUnresolvable``, so the scheduler evicts no pod for it).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from ebbtide.core.base import quantities
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.selectors import matches_requirement
from ebbtide.core.translation.gpu.backend import DraDevice
from ebbtide.core.translation.objects import Object

#: The scheduler's message about a claim that no node's free devices satisfy, and about one whose class is missing.
UNALLOCATED: Final = "cannot allocate all claims"
NO_CLASS: Final = re.compile(r"device class (?P<name>\S+) does not exist")
#: A driver in the CEL expression of a class.
DRIVER: Final = re.compile(r"device\.driver\s*==\s*['\"]([^'\"]+)['\"]")
#: The terms of a class's expression that are evaluated: the driver, and an attribute with a text.
TERMS: Final = re.compile(
    r"device\.driver\s*==\s*(?P<quote>['\"])(?P<driver>[^'\"]+)(?P=quote)"
    r"|device\.attributes\[(?P<mark>['\"])(?P<domain>[^'\"]+)(?P=mark)\]\.(?P<name>\w+)\s*==\s*(?P<end>['\"])(?P<value>[^'\"]*)(?P=end)"
)
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


def group_offered_devices(
    nodes: Iterable[Object], slices: Sequence[Object], classes: Sequence[Object]
) -> dict[str, list[DraDevice]]:
    """Return the devices that drivers offer, by the name of the node; one that several nodes can use is the first one's.

    Upstream: k8s.io/api resource/v1 (of a pool, only the slices of the newest generation are valid).
    """
    by_name = {node["metadata"]["name"]: node for node in nodes}
    newest: dict[tuple[str, str], int] = {}
    for item in slices:
        pool, generation = _read_pool(item)
        newest[pool] = max(newest.get(pool, 0), generation)
    devices: dict[str, list[DraDevice]] = {}
    for item in slices:
        spec, (pool, generation) = item["spec"], _read_pool(item)
        for device in spec.get("devices", ()) if generation == newest[pool] else ():
            place = device if spec.get("perDeviceNodeSelection") else spec
            name = place.get("nodeName") or next((key for key, node in by_name.items() if _is_offered(place, node)), "")
            if name in by_name:
                devices.setdefault(name, []).append(_read_device(device, spec["driver"], classes))
    return devices


def _read_device(device: Object, driver: str, classes: Iterable[Object]) -> DraDevice:
    attributes = {key: row["string"] for key, row in device.get("attributes", {}).items() if "string" in row}
    memory = get_at(device, "capacity", "memory", "value", default="0")
    extended = {
        row["metadata"]["name"]: get_at(row, "spec", "extendedResourceName", default="")
        for row in classes
        if _selects(row, driver, attributes)
    }
    mebibytes = (quantities.parse_whole_quantity(memory) or 0) >> 20
    return DraDevice(device["name"], attributes, mebibytes, extended, bool(device.get("allowMultipleAllocations")))


def _read_pool(item: Object) -> tuple[tuple[str, str], int]:
    """Return the pool of a slice, by its driver and its name, and the slice's generation."""
    pool = get_at(item, "spec", "pool", default={})
    return (item["spec"]["driver"], pool.get("name", "")), pool.get("generation", 0)


def _is_offered(place: Object, node: Object) -> bool:
    """Return whether a slice or a device without a node's name is for a node: by its labels, or for all nodes."""
    labels = get_at(node, "metadata", "labels", default={})
    terms = get_at(place, "nodeSelector", "nodeSelectorTerms", default=[])
    rows = (term["matchExpressions"] for term in terms if term.get("matchExpressions"))
    return place.get("allNodes") is True or any(all(matches_requirement(row, labels) for row in each) for each in rows)


def _selects(device_class: Object, driver: str, attributes: Mapping[str, str]) -> bool:
    """Return whether a class selects a device; False if its expressions have other terms than ``TERMS``."""
    selectors = get_at(device_class, "spec", "selectors", default=[])
    terms = [term.strip() for row in selectors for term in get_at(row, "cel", "expression", default="").split("&&")]
    return bool(terms) and all(
        match is not None
        and (
            match["driver"] == driver
            if match["driver"]
            else match["domain"] == driver and attributes.get(match["name"]) == match["value"]
        )
        for match in map(TERMS.fullmatch, terms)
    )
