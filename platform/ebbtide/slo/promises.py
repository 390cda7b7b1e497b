"""What live workloads promised, from the spec that is kept on each; pure functions of the objects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebbtide.base import keys
from ebbtide.documents import load
from ebbtide.slo.source import Ref
from ebbtide.translation import gpu
from ebbtide.translation.translate import make_plan

if TYPE_CHECKING:
    from ebbtide.profile.models import Profile
    from ebbtide.spec.serving import Slo
    from ebbtide.translation.objects import Object


@dataclass(frozen=True, slots=True)
class Promise:
    """One workload: whose it is, what it promised, and how many GPUs one replica has."""

    ref: Ref
    project: str
    #: None where nothing was promised, or no spec is kept.
    slo: Slo | None
    #: None where no spec is kept.
    gpus: float | None


def promise(top: Object, profile: Profile) -> Promise:
    """Return what the object that a workload's author applied says of it."""
    metadata = top["metadata"]
    ref = Ref(metadata["namespace"], metadata["name"])
    project = str((metadata.get("labels") or {}).get(keys.PROJECT, ""))
    inference = load(document(top), profile).inference
    if inference is None:
        return Promise(ref, project, None, None)
    plan, _ = make_plan(inference, profile)
    return Promise(ref, project, inference.spec.slo, None if plan is None else gpu.per_replica(plan))


def document(top: Object) -> dict[str, Any] | None:
    """Return the spec that is kept on an object as a document, or None where none can be read."""
    text = (top["metadata"].get("annotations") or {}).get(keys.SPEC)
    try:
        spec = json.loads(text or "null")
    except ValueError:
        return None
    if not isinstance(spec, dict):
        return None
    metadata = {"name": top["metadata"]["name"]}
    return {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": metadata, "spec": spec}
