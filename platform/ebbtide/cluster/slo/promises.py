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
from ebbtide.simulator.fleet.pool import find_gpu_price

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Problem
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.spec.inference import Inference
    from ebbtide.core.translation.objects import Object
    from ebbtide.core.translation.plan import Plan


def read_slo(top: Object, profile: Profile, gpu_hour: float | None = None) -> WorkloadSlo:
    """Return the SLO, GPUs and price of a workload from its top object; ``gpu_hour`` replaces the prices of the profile's GPUs."""
    metadata = top["metadata"]
    ref = Ref(metadata["namespace"], metadata["name"])
    project = str((metadata.get("labels") or {}).get(keys.PROJECT, ""))
    inference, plan = _load_stored_spec(top, profile)
    slo = None if inference is None else inference.spec.slo
    gpus = None if plan is None else gpu.count_gpus_per_replica(plan)
    return WorkloadSlo(ref, project, slo, gpus, find_price(plan, profile, gpu_hour))


def find_price(plan: Plan | None, profile: Profile, gpu_hour: float | None) -> float | None:
    """Return the price of a GPU-hour or core-hour of a workload; ``gpu_hour`` replaces the prices of the profile's GPUs."""
    prices = profile.spec.prices
    if plan is None:
        return None
    if plan.gpu is None:
        return prices.cpu_hour if plan.spec.compute.cpu_core_request else None
    if gpu_hour is not None or plan.pool is None:
        return gpu_hour
    return find_gpu_price(prices, plan.pool)


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
