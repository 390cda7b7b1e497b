"""SLOs of live workloads, from the spec that is stored on each; pure functions of the objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebbtide.cluster.slo.source import Ref, WorkloadSlo
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import UnreadableError, read_spec
from ebbtide.core.base.failures import report_failure
from ebbtide.core.documents import load_document
from ebbtide.core.translation import gpu, traps
from ebbtide.core.translation.translate import make_plan

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Problem
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.spec.inference import Inference
    from ebbtide.core.translation.objects import Object
    from ebbtide.core.translation.plan import Plan


def read_slo(top: Object, profile: Profile) -> WorkloadSlo:
    """Return the SLO and GPUs of a workload from its top object."""
    metadata = top["metadata"]
    ref = Ref(metadata["namespace"], metadata["name"])
    project = str((metadata.get("labels") or {}).get(keys.PROJECT, ""))
    inference, plan = _load_stored_spec(top, profile)
    slo = None if inference is None else inference.spec.slo
    return WorkloadSlo(ref, project, slo, None if plan is None else gpu.count_gpus_per_replica(plan))


def list_slo_warnings(top: Object, profile: Profile) -> list[Problem]:
    """Return the warnings about a workload's SLO, from its stored spec: a scaling target that is looser than the SLO."""
    inference, plan = _load_stored_spec(top, profile)
    if plan is None or inference is None or inference.spec.slo is None:
        return []
    return [problem for problem in traps.check(plan) if problem.code.startswith("SLO")]


def _load_stored_spec(top: Object, profile: Profile) -> tuple[Inference | None, Plan | None]:
    """Return the stored spec and its plan, None if it is missing or invalid."""
    try:
        inference = load_document(read_spec_document(top), profile).inference
        return inference, None if inference is None else make_plan(inference, profile)[0]
    except Exception as error:  # noqa: BLE001 - the spec of one workload must not end the report of the others
        report_failure(top["metadata"]["namespace"], top["metadata"]["name"], error)
        return None, None


def read_spec_document(top: Object) -> dict[str, Any] | None:
    """Return the stored spec of an object as a document, or None if it is missing or invalid."""
    try:
        spec = read_spec(top)
    except UnreadableError:
        return None
    if spec is None:
        return None
    metadata = {"name": top["metadata"]["name"]}
    return {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": metadata, "spec": spec}
