"""SLOs of live workloads, from the spec that is stored on each; pure functions of the objects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebbtide.base import keys
from ebbtide.documents import load_document
from ebbtide.slo.source import Ref
from ebbtide.translation import gpu, traps
from ebbtide.translation.translate import make_plan

if TYPE_CHECKING:
    from ebbtide.base.problems import Problem
    from ebbtide.profile.models import Profile
    from ebbtide.spec.serving import Slo
    from ebbtide.translation.objects import Object


@dataclass(frozen=True, slots=True)
class WorkloadSlo:
    """One workload: its project, its SLO, and the number of GPUs per replica."""

    ref: Ref
    project: str
    #: None without an SLO or a stored spec.
    slo: Slo | None
    #: None without a stored spec.
    gpus: float | None


def read_slo(top: Object, profile: Profile) -> WorkloadSlo:
    """Return the SLO and GPUs of a workload from its top object."""
    metadata = top["metadata"]
    ref = Ref(metadata["namespace"], metadata["name"])
    project = str((metadata.get("labels") or {}).get(keys.PROJECT, ""))
    inference = load_document(read_spec_document(top), profile).inference
    if inference is None:
        return WorkloadSlo(ref, project, None, None)
    plan, _ = make_plan(inference, profile)
    return WorkloadSlo(ref, project, inference.spec.slo, None if plan is None else gpu.count_gpus_per_replica(plan))


def list_slo_warnings(top: Object, profile: Profile) -> list[Problem]:
    """Return the warnings about a workload's SLO, from its stored spec: a scaling target that is looser than the SLO."""
    inference = load_document(read_spec_document(top), profile).inference
    plan = None if inference is None or inference.spec.slo is None else make_plan(inference, profile)[0]
    return [] if plan is None else [problem for problem in traps.check(plan) if problem.code.startswith("SLO")]


def read_spec_document(top: Object) -> dict[str, Any] | None:
    """Return the stored spec of an object as a document, or None if it is missing or invalid."""
    text = (top["metadata"].get("annotations") or {}).get(keys.SPEC)
    try:
        spec = json.loads(text or "null")
    except ValueError:
        return None
    if not isinstance(spec, dict):
        return None
    metadata = {"name": top["metadata"]["name"]}
    return {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": metadata, "spec": spec}
