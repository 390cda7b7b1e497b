"""Knative's webhook: the defaults that it sets, and the annotations that it refuses.

Upstream: knative.dev/serving pkg/apis/serving/v1/revision_defaults.go, pkg/apis/autoscaling/annotation_validation.go.
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import TYPE_CHECKING, Final

from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import KNATIVE, RefusedError

if TYPE_CHECKING:
    from ebbtide.cluster.client.protocol import Kind
    from ebbtide.translation.objects import Object

#: The webhook's defaults for a template's spec.
DEFAULTS: Final[Object] = {"containerConcurrency": 0, "timeoutSeconds": 300, "enableServiceLinks": False}
_TARGET: Final = re.compile(r"\d+(\.\d+)?")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def defaulted(kind: Kind, item: Object, limit: int) -> Object:
    """Return an object as webhooks complete it; ``limit`` is the max-scale-limit.

    Raises:
        RefusedError: Knative's webhook refuses it.

    """
    made = deepcopy(item)
    if kind == KNATIVE:
        template = made["spec"].setdefault("template", {})
        annotations = at(template, "metadata", "annotations", default={})
        check_annotations(annotations, "spec.template.metadata.annotations", limit)
        template["spec"] = {**DEFAULTS, **template.get("spec", {})}
        made["spec"].setdefault("traffic", [{"latestRevision": True, "percent": 100}])
    return made


def check_annotations(annotations: Object, where: str, limit: int) -> None:
    """Refuse annotations as Knative's webhook does, those that are read here.

    Raises:
        RefusedError: one is invalid.

    """
    for key in (keys.MIN_SCALE, keys.MAX_SCALE, keys.INITIAL_SCALE):
        if not str(annotations.get(key, "0")).isdecimal():
            raise _denied(f"invalid value: {annotations[key]}: {where}.{key}")
    target = str(annotations.get(keys.TARGET, "1"))
    if _TARGET.fullmatch(target) is None:
        raise _denied(f"invalid value: {target}: {where}.{keys.TARGET}")
    deadline = annotations.get(keys.PROGRESS_DEADLINE)
    if deadline is not None and go_seconds(deadline) is None:
        raise _denied(f"invalid value: {deadline}: {where}.{keys.PROGRESS_DEADLINE}")
    # With a limit Knative asks for a default of max-scale within it.
    low, high = annotations.get(keys.MIN_SCALE, "0"), annotations.get(keys.MAX_SCALE, str(limit))
    if limit and not 1 <= int(high) <= limit:
        raise _denied(f"expected 1 <= {high} <= {limit}: {where}.{keys.MAX_SCALE}")
    if int(high) and int(low) > int(high):
        raise _denied(f"max-scale={high} is less than min-scale={low}: {where}")


def _denied(reason: str) -> RefusedError:
    webhook = "validation.webhook.serving.knative.dev"
    return RefusedError(f'admission webhook "{webhook}" denied the request: validation failed: {reason}')


def go_seconds(text: str) -> float | None:
    """Return a duration as Go writes it in seconds, None for an invalid one."""
    parts = _DURATION_PART.findall(str(text))
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
