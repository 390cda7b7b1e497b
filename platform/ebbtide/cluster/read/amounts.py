"""Amounts of resources in words: ``2 GPUs``, ``0.5 CPU cores``, ``4 GiB of memory``; and the room that a quota leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ebbtide.core.base import keys
from ebbtide.core.base.bodies import body
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.quantities import GIB, NANO, format_number, parse_nano
from ebbtide.core.translation.objects import Object

BYTES: Final = {"memory", "ephemeral-storage"}
#: End of a quota's name for the devices of a class (k8s.io/api core/v1 ResourceClaimsPerClass).
CLASS_DEVICES: Final = ".deviceclass.resource.k8s.io/devices"
#: Prefix of the names in a quota (k8s.io/api core/v1 DefaultResourceRequestsPrefix).
REQUESTS: Final = "requests."


def format_amount(resource: str, amount: float) -> str:
    """Return an amount of a resource, given in cores, bytes or devices; a quota's prefix ``requests.`` is left out."""
    name = resource.removeprefix(REQUESTS)
    number = format_amount_number(resource, amount)
    plural = "" if number == "1" else "s"
    if name == keys.GPU_SHARED:
        return f"{number} GPU share{plural}"
    if name.startswith(keys.MIG_PREFIX):
        return f"{number} MIG slice{plural} {name.removeprefix(keys.MIG_PREFIX)}"
    if name == keys.GPU:
        return f"{number} GPU{plural}"
    if name.endswith(CLASS_DEVICES):
        return f"{number} device{plural} of class {name.removesuffix(CLASS_DEVICES)}"
    if name == "cpu":
        return f"{number} CPU core{plural}"
    if "." in name.partition("/")[0]:
        # An extended resource, such as a GPU under another name or HAMi's memory in MiB.
        return f"{number} unit{plural} of {name}"
    return f"{number} GiB of {name}" if name in BYTES else f"{number} {name}"


def format_amount_number(resource: str, amount: float) -> str:
    """Return the number of an amount alone, in the unit that ``format_amount`` names."""
    return format_number(round(amount / GIB, 2) if resource.removeprefix(REQUESTS) in BYTES else amount)


def parse_amount(text: object) -> float:
    """Return a quantity in cores, bytes or devices; 0 if it is invalid."""
    return (parse_nano(str(text)) or 0) / NANO


@body()
class QuotaShare:
    """One resource of a quota: its name, its limit and the amount in use, as Kubernetes quantities."""

    resource: str
    hard: str
    used: str

    def __str__(self) -> str:
        """Return the use in words: ``1 of 4 GPU shares in use``."""
        used, hard = parse_amount(self.used), parse_amount(self.hard)
        return f"{format_amount_number(self.resource, used)} of {format_amount(self.resource, hard)} in use"


def list_quota_shares(quota: Object) -> list[QuotaShare]:
    """Return the resources of a ResourceQuota.

    The limits are those that the API server enforces (k8s.io/apiserver pkg/admission/plugin/resourcequota/controller.go,
    CheckRequest: status.hard), or those of the spec while the quota controller has not counted the usage.
    """
    used = get_at(quota, "status", "used", default={})
    hard = get_at(quota, "status", "hard") or get_at(quota, "spec", "hard", default={})
    return [QuotaShare(name, str(limit), str(used.get(name, "0"))) for name, limit in hard.items()]


def applies_to_class(quota: Object, priority_class: str) -> bool:
    """Return whether a ResourceQuota counts pods of a priority class (k8s.io/kubernetes pkg/quota/v1/evaluator/core)."""
    rows = get_at(quota, "spec", "scopeSelector", "matchExpressions", default=[])
    return all(
        priority_class in row.get("values", [])
        for row in rows
        if row.get("scopeName") == "PriorityClass" and row.get("operator") == "In"
    )


def find_shortages(quota: Object, requests: Mapping[str, float], replicas: int) -> Iterator[str]:
    """Yield a sentence for each resource of which a quota leaves less than ``replicas`` new pods request.

    ``requests`` is what one pod requests, by resource.
    """
    for row in list_quota_shares(quota):
        share, hard = requests.get(row.resource.removeprefix(REQUESTS), 0.0), parse_amount(row.hard)
        room = hard - parse_amount(row.used)
        if row.resource.startswith(REQUESTS) and share * replicas > room + 1e-9:
            fitting = max(0, int((room + 1e-9) // share))
            yield (
                f"quota {quota['metadata']['name']} is too small: {replicas} {'pod' if replicas == 1 else 'pods'} of "
                f"{format_amount(row.resource, share)} need {format_amount_number(row.resource, share * replicas)}, and "
                f"{format_amount_number(row.resource, max(0.0, room))} of {format_amount(row.resource, hard)} "
                f"{'is' if room <= 1 else 'are'} free, so {fitting or 'none'} can start"
            )
