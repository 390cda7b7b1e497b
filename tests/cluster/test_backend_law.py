"""Every GPU backend gives consistent answers to all of its consumers, including one that only this test registers.

The tests run for the registered backends, a copy of time-slicing under another name, and the backend in
docs/add-a-gpu-backend.md, which is read from that page.
"""

from __future__ import annotations

import ast
import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from test_docs import FENCE, ROOT

from ebbtide.cluster.client.protocol import KNATIVE, NODE
from ebbtide.cluster.doctor import checks as doctor
from ebbtide.cluster.doctor import observed
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.inventory import ResourceHolder, compute_supplies
from ebbtide.cluster.write import apply
from ebbtide.core.adopt.live import import_object
from ebbtide.core.base import keys, quantities
from ebbtide.core.documents import explain, load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.profile.built_in import FEATURES
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers.fields import make_json_schema
from ebbtide.core.translation import gpu
from ebbtide.core.translation.gpu.backend import GpuNode
from ebbtide.core.translation.gpu.shares import make_backend
from ebbtide.core.translation.quotas import resourcequota
from ebbtide.core.translation.translate import make_plan, translate
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.furnished import furnish_cluster
from ebbtide.sandbox.simulated import Simulated
from programs import load_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ebbtide.core.spec.inference import Inference
    from ebbtide.core.translation.gpu.backend import Backend, PoolRequest
    from ebbtide.core.translation.objects import Object
    from ebbtide.core.translation.plan import Plan

PAGE = ROOT / "docs" / "add-a-gpu-backend.md"
#: The shares per GPU, and the GPUs per node.
PARTS, DEVICES = 4, 2
#: Requests of which each backend accepts at least one.
REQUESTS: tuple[dict[str, Any], ...] = (
    {"gpuPortionRequest": 1 / PARTS},
    {"gpuMemoryRequest": "20Gi"},
    {"migProfile": "2g.20gb"},
    {"gpuDevicesRequest": 1},
)
#: Fields of a node pool that a backend may need, with a value for each.
FIELDS = {"replicas": PARTS, "product": "NVIDIA-A100-SXM4-80GB", "gpu_memory_mebibytes": 81920}
COPY = make_backend(
    about="A copy of time-slicing under another name.",
    name="copied",
    title="Copied",
    memory="not isolated",
    compute="in turns",
    isolates_memory=False,
    isolation_warning="nothing is isolated",
    fix="use another pool",
)
#: Backends that are not in the registry.
UNREGISTERED = ("copied", "documented")


def documented(folder: Path) -> Backend:
    """Return the backend that the page shows, imported as the module that a contributor would write."""
    blocks = [match["body"] for match in FENCE.finditer(PAGE.read_text()) if match["info"] == "python"]
    file = folder / "vgpu.py"
    file.write_text(blocks[0])
    backend: Backend = load_module(file).BACKEND
    return backend


@dataclass(frozen=True)
class Case:
    """A backend, a cluster with one node pool of that backend, and a spec that the backend accepts."""

    backend: Backend
    data: dict[str, Any]
    profile: Profile
    compute: dict[str, Any]
    inference: Inference
    plan: Plan

    @property
    def ask(self) -> PoolRequest:
        return next(gpu.list_pool_requests(self.plan))

    @property
    def objects(self) -> tuple[Object, ...]:
        return translate(self.inference, self.profile, json.dumps({})).objects

    @property
    def service(self) -> Object:
        return next(obj for obj in self.objects if obj["kind"] == "Service")

    @property
    def pod(self) -> Object:
        template = self.service["spec"]["template"]
        return {"metadata": template["metadata"], "spec": template["spec"]}


def profile_data(backend: Backend) -> dict[str, Any]:
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Profile",
        "metadata": {"name": "law"},
        "spec": {
            "kubernetes": {"version": "1.36", "dra": True},
            "knative": {"version": "1.21", "features": FEATURES},
            "kserve": {"annotationDisallowList": ["ebbtide.dev/spec", "ebbtide.dev/scale"]},
            "nodePools": [
                {
                    "name": "gpus",
                    "product": FIELDS["product"],
                    "gpuMemoryMebibytes": FIELDS["gpu_memory_mebibytes"],
                    "devices": DEVICES,
                    "nodes": 1,
                    "backend": backend.name,
                    **({"replicas": PARTS} if "replicas" in backend.needs else {}),
                }
            ],
            "scheduling": {"scheduler": backend.scheduler or "default-scheduler"},
            "projects": {"quota": "resourcequota", "known": {"team": {"gpus": DEVICES}}},
        },
    }


def native(compute: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat"},
        "spec": {"project": "team", "image": "ghcr.io/acme/chat:1", "compute": compute, **fields},
    }


def planned(profile: Profile, document: dict[str, Any]) -> tuple[Inference, Plan | None, set[str]]:
    loaded = load_document(document, profile)
    assert loaded.inference is not None, loaded.problems
    plan, problems = make_plan(loaded.inference, profile)
    return loaded.inference, plan, {problem.code for problem in problems}


def cases(backend: Backend) -> Iterator[Case]:
    data = profile_data(backend)
    profile, problems = profiles.validate_profile_data(data)
    assert profile is not None, problems
    for compute in REQUESTS:
        inference, plan, _ = planned(profile, native(compute))
        if plan is not None:
            yield Case(backend, data, profile, compute, inference, plan)


@pytest.fixture(params=[*gpu.BACKENDS, *UNREGISTERED])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Backend:
    name = request.param
    if name not in UNREGISTERED:
        return gpu.BACKENDS[name]
    chosen = COPY if name == "copied" else documented(tmp_path)
    monkeypatch.setitem(gpu.BACKENDS, chosen.name, chosen)
    return chosen


@pytest.fixture
def taken(backend: Backend) -> list[Case]:
    """Return a case for each request that the backend accepts."""
    accepted = [*cases(backend)]
    assert accepted, f"{backend.name} takes none of {REQUESTS}"
    return accepted


def test_a_profile_can_use_it_and_must_set_the_fields_that_it_needs(backend: Backend) -> None:
    data = profile_data(backend)
    (entry,) = (row for name, row in make_json_schema(Profile)["$defs"].items() if name == "NodePool")

    assert backend.name in entry["properties"]["backend"]["enum"]
    assert set(backend.needs) <= FIELDS.keys()
    for field in backend.needs:
        name = {"gpu_memory_mebibytes": "gpuMemoryMebibytes"}.get(field, field)
        without = {**data["spec"]["nodePools"][0], name: None}
        profile, problems = profiles.validate_profile_data({**data, "spec": {**data["spec"], "nodePools": [without]}})
        assert profile is None
        assert [problem.message for problem in problems if backend.name in problem.message], problems


def test_it_renders_the_resources_that_pods_and_nodes_count(taken: list[Case]) -> None:
    """A backend that allocates devices by claim has no resources on nodes."""
    for case in taken:
        advertised = case.backend.advertises(case.ask.pool)
        assert all(name.startswith(case.backend.resources) and count > 0 for name, count in advertised.items())
        assert all(gpu.is_gpu_resource(name) for name in advertised)
        counted = of_pod.sum_pod_gpus(case.pod)
        assert counted
        by_resource = counted.keys() - gpu.find_annotated_gpus(case.pod["metadata"].get("annotations", {})).keys()
        assert by_resource <= advertised.keys() or case.backend.claims is not None


def test_the_pods_that_hold_gpus_are_their_holders(taken: list[Case]) -> None:
    """A backend that shares GPUs by its scheduler counts parts of a GPU, and no pod of the scheduler."""
    for case in taken:
        counts = dict.fromkeys({*case.backend.advertises(case.ask.pool), *of_pod.sum_pod_gpus(case.pod)}, "100")
        labels = {keys.GPU_MEMORY: str(FIELDS["gpu_memory_mebibytes"])}
        node = {"metadata": {"name": "one", "labels": labels}, "status": {"allocatable": counts}}
        pod = copy.deepcopy(case.pod)
        pod["metadata"] |= {"name": "chat-00001-x", "namespace": "team", "uid": "u"}
        pod["metadata"]["labels"] |= {keys.KNATIVE_REVISION: "chat-00001", keys.KNATIVE_SERVICE: "chat"}
        pod["spec"] |= {"nodeName": "one", "priority": 50, "priorityClassName": "train"}
        pod["metadata"]["labels"][keys.PRIORITY_LABEL] = "train"
        reserving = {
            "metadata": {"name": "gpu-reservation-one-x", "namespace": "kai-resource-reservation"},
            "spec": {"nodeName": "one", "containers": [{"resources": {"limits": {keys.GPU: "1"}}}]},
        }
        supplies = compute_supplies([node], [pod, *([reserving] if case.backend.scheduler else [])])
        holders = [holder for supply in supplies.values() for holder in supply.holders]
        if case.backend.scheduler or case.ask.request.kind == "devices":
            amount = case.ask.request.devices * case.backend.share(case.ask)
        else:
            (amount,) = of_pod.sum_pod_gpus(case.pod).values()
        queue = pod["metadata"]["labels"].get(keys.KAI_QUEUE, "")
        assert holders == [ResourceHolder("chat", "team", amount, 50, queue)]
        pod["metadata"].setdefault("annotations", {})[keys.KAI_POD_GROUP] = "pg-chat-00001-x-u"
        (holder,) = (row for supply in compute_supplies([node], [pod]).values() for row in supply.holders)
        assert holder.priority == (125 if case.backend.scheduler else 50)


def test_a_quota_counts_the_requests_of_pods(taken: list[Case]) -> None:
    """The quota allows exactly as many replicas as fit on its GPUs."""
    for case in taken:
        quotas = [obj for obj in case.objects if obj["kind"] == "ResourceQuota"]
        (limits,) = (row.get("resources", {}).get("limits", {}) for row in case.pod["spec"]["containers"])
        requested = {name: int(amount) for name, amount in limits.items() if "/" in name}
        hard = {name.removeprefix("requests."): value for obj in quotas for name, value in obj["spec"]["hard"].items()}
        admitted = {
            (quantities.parse_whole_quantity(hard[name]) or 0) // amount
            for name, amount in requested.items()
            if name in hard
        }
        by_claim = case.backend.claims is not None
        if requested and not by_claim:
            assert min(admitted) == DEVICES * case.backend.fits(case.ask), (hard, requested)
        assert gpu.count_gpus_per_replica(case.plan) == pytest.approx(
            case.ask.request.devices * case.backend.share(case.ask)
        )
        assert by_claim == any(obj["metadata"]["name"] == resourcequota.QUOTAS[1] for obj in quotas)


def test_a_request_that_the_default_pool_lacks_names_a_pool_that_has_it(backend: Backend) -> None:
    """`doctor --write-profile` lists the pools with shares first, and a whole GPU is in another one."""
    data = profile_data(backend)
    whole = {**data["spec"]["nodePools"][0], "name": "whole", "backend": "devices"}
    whole.pop("replicas", None)
    data["spec"]["nodePools"].append(whole)
    profile, problems = profiles.validate_profile_data(data)
    assert profile is not None, problems
    document = native({"gpuDevicesRequest": 1})
    loaded = load_document(document, profile)
    assert loaded.inference is not None
    refused = [problem for problem in make_plan(loaded.inference, profile)[1] if problem.code == "GPU008"]
    for problem in refused:
        assert problem.fix.startswith("set nodePools: [whole], or ")
        assert problem.fixes[0].changes[0].value == ["whole"]
        document["spec"]["nodePools"] = ["whole"]
        assert "GPU008" not in planned(profile, document)[2]
    assert (
        refused
        or all(case.backend.shared is False or case.backend.scheduler for case in cases(backend))
        or (backend.name == "hami")
    )


def test_a_device_metric_is_refused_if_pods_share_the_device(taken: list[Case]) -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 4, "metric": "gpu-utilization", "metricThreshold": 60}
    for case in taken:
        _, _, codes = planned(case.profile, native(case.compute, autoscaling=scaling))
        whole = case.ask.request.kind == "devices"
        assert ("AUT016" in codes) == (case.backend.shared and not whole)
        if case.backend.fits(case.ask) > 1 and not whole:
            assert case.backend.shared or case.backend.partitioned or case.backend.claims is not None


def test_a_live_object_is_imported(taken: list[Case]) -> None:
    for case in taken:
        live = json.loads(json.dumps(case.service))
        live["metadata"].pop("annotations", None)
        imported = import_object(live, case.profile)
        again = load_document(imported.native, case.profile)

        assert not imported.patch
        assert again.inference is not None, again.problems
        again_planned, _ = make_plan(again.inference, case.profile)
        assert again_planned is not None
        assert gpu.count_gpus_per_replica(again_planned) == pytest.approx(gpu.count_gpus_per_replica(case.plan))
        assert translate(again.inference, case.profile, "{}").objects[-1]["spec"] == case.service["spec"]


def test_doctor_finds_its_nodes_and_reports_missing_ones(taken: list[Case]) -> None:
    case = taken[0]
    cluster = furnished(case)
    assert not pool_findings(cluster, case.profile)
    pools = [
        row
        for row in observed.make_observed_profile(observed.ObservedCluster(cluster))["spec"]["nodePools"]
        if row["backend"] == case.backend.name
    ]
    written = case.data["spec"]["nodePools"][0]
    assert all(
        row.items() <= {**row, **written, "name": row["name"]}.items() for row in pools if "migProfiles" not in row
    )
    node = cluster.get(NODE, "node-1")
    node["status"]["allocatable"] = {"cpu": "64", "memory": "256Gi"}
    cluster.put(node)
    assert bool(pool_findings(cluster, case.profile)) == (case.backend.claims is None)


def furnished(case: Case) -> Simulated:
    cluster = Simulated(ManualClock())
    furnish_cluster(cluster, case.profile)
    return cluster


def pool_findings(cluster: Simulated, profile: Profile) -> list[str]:
    findings = doctor.examine_cluster(cluster, profile)
    return [finding.what for finding in findings if finding.code in {"DOC014", "DOC015"}]


def test_explain_names_it(taken: list[Case]) -> None:
    for case in taken:
        ask = case.ask
        rows = gpu.compare_backends(ask)
        (row,) = (row for row in rows if row.backend.name == case.backend.name)
        parts = case.backend.patch(ask).parts
        assert row.possible
        assert {**parts.get("annotations", {}), **parts.get("limits", {})}.items() <= row.written.items()
        causes = {
            cause for leaf in explain.explain_document(native(case.compute), case.data).leaves for cause in leaf.causes
        }
        assert "spec.compute" in {".".join(cause.split(".")[:2]) for cause in causes}
        if case.ask.request.kind == "portion":
            assert "profile.nodePools[0].backend" in causes


def test_the_sandbox_runs_its_pods(taken: list[Case]) -> None:
    """For devices that are allocated by claim, the nodes list whole devices."""
    for case in taken:
        if case.backend.claims is not None and case.ask.request.kind != "devices":
            continue
        cluster = furnished(case)
        batch = Batch(case.profile)
        objects, translation, problems = batch.add_document(load_document(native(case.compute), case.profile))
        assert translation is not None, problems
        assert translation.plan is not None, problems
        planned_apply = apply.diff_workload(cluster, apply.Workload(tuple(objects), translation.plan))
        apply.write_workload(cluster, planned_apply, cluster.clock)
        cluster.clock.sleep(120)
        (condition,) = (
            row
            for row in cluster.get(KNATIVE, "chat", case.plan.namespace)["status"]["conditions"]
            if row["type"] == "Ready"
        )
        assert condition["status"] == "True", condition


def test_the_page_shows_a_case_that_renders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    backend = documented(tmp_path)
    monkeypatch.setitem(gpu.BACKENDS, backend.name, backend)
    pools, spec = (match["body"] for match in FENCE.finditer(PAGE.read_text()) if match["info"] == "yaml")
    _, data, _ = profiles.load_profile_with_data(str(ROOT / "tests" / "profiles" / "time-slicing.yaml"))
    profile, problems = profiles.validate_profile_data({**data, "spec": {**data["spec"], **yaml.safe_load(pools)}})
    assert profile is not None, problems
    loaded = load_document(yaml.safe_load(spec), profile)
    assert loaded.inference is not None, loaded.problems
    (service,) = translate(loaded.inference, profile, "{}").objects

    assert service["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {"example.com/vgpu": "1"}


def test_the_refusal_of_an_unknown_backend_lists_the_registered_ones() -> None:
    data = profile_data(COPY)
    data["spec"]["nodePools"][0] |= {"nodes": "1", "replicas": 1}
    profile, problems = profiles.validate_profile_data(data)

    assert profile is None
    assert [(problem.code, problem.field[-1], problem.message) for problem in problems] == [
        ("SPEC002", "nodes", "invalid nodes '1': must be a whole number"),
        ("SPEC004", "backend", f"invalid backend 'copied': must be one of {', '.join(gpu.BACKENDS)}"),
        ("SPEC004", "replicas", "invalid replicas 1: must be at least 2"),
    ]


def test_no_other_module_branches_on_the_name_of_a_backend() -> None:
    for file in (ROOT / "platform").rglob("*.py"):
        text = file.read_text()
        if file.parent.name == "gpu" or not any(name in text for name in gpu.BACKENDS):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Compare):
                parts = [*ast.walk(node)]
                of_backend = any(isinstance(part, ast.Attribute) and part.attr == "backend" for part in parts)
                constants = {part.value for part in parts if isinstance(part, ast.Constant)}
                assert not of_backend or not constants & gpu.BACKENDS.keys(), f"{file}:{node.lineno}"


@pytest.mark.parametrize("strategy", ["mps", "time-slicing"])
def test_shares_without_another_name_are_recognized_by_the_label(strategy: str) -> None:
    labels = {"nvidia.com/gpu.sharing-strategy": strategy, "nvidia.com/gpu.replicas": "4"}
    (pool,) = gpu.detect_pools(GpuNode({"nvidia.com/gpu": 8}, labels, frozenset()))

    assert pool == {"name": "shared", "resource": "nvidia.com/gpu", "devices": 2, "backend": strategy, "replicas": 4}
