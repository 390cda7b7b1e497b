"""Apply: the plan, new revisions, conflicts, the wait, interruptions at each write, scale and rollback.

All on the simulated cluster; tests that depend on a real API server's defaults are in test_apply_real.py.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.read import amounts, records
from ebbtide.cluster.read.inventory import find_workload
from ebbtide.cluster.read.scaling_state import Replicas
from ebbtide.cluster.read.status import compute_status
from ebbtide.cluster.write import apply, revisions
from ebbtide.cluster.write.apply import ApplyStep
from ebbtide.cluster.write.changes import FieldChange, creates_pods, diff_objects, list_other_owners
from ebbtide.core.base import keys
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.base.paths import get_at
from ebbtide.sandbox.state import PodLife
from live_cluster import SCALING, simulated, spec, workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.cluster.read.status import Status
    from ebbtide.cluster.write.apply import ApplyDiff, WaitUpdate, Workload
    from ebbtide.sandbox.simulated import Simulated


def bring(cluster: Simulated, ready_workload: Workload, *, limit: float = 300, force: bool = False) -> Status | None:
    planned = apply.diff_workload(cluster, ready_workload)
    apply.write_workload(cluster, planned, cluster.clock, force=force)
    return apply.wait_for_workload(cluster, ready_workload.name, ready_workload.namespace, cluster.clock, limit)


def running(**fields: Any) -> Simulated:
    cluster = simulated()
    end = bring(cluster, workload(autoscaling=SCALING, **fields))
    assert end is not None
    assert end.phase == "Running", end.why
    return cluster


def verdicts(planned: ApplyDiff) -> dict[str, str]:
    return {step.item["kind"]: step.verdict for step in planned.steps}


def live(cluster: Simulated) -> Any:
    return find_workload(cluster, "chat", "team-shop", cluster.clock.now())


# The plan.


def test_on_an_empty_cluster_everything_is_created() -> None:
    planned = apply.diff_workload(simulated(), workload(autoscaling=SCALING))

    assert verdicts(planned) == {"Namespace": "create", "Service": "create"}
    assert planned.different
    assert not planned.refused


def test_what_was_just_applied_is_kept() -> None:
    cluster = running()
    planned = apply.diff_workload(cluster, workload(autoscaling=SCALING))

    assert verdicts(planned) == {"Namespace": "keep", "Service": "keep"}
    assert not planned.different
    assert apply.write_workload(cluster, planned, cluster.clock) == []


def test_a_daemonset_that_the_spec_no_longer_needs_is_named() -> None:
    cluster = running(start={"prePullImage": True})
    first = apply.diff_workload(cluster, workload(autoscaling=SCALING, start={"prePullImage": True}))
    later = apply.diff_workload(cluster, workload(autoscaling=SCALING))

    assert not any("DaemonSet" in line for line in first.cost)
    (line,) = (line for line in later.cost if "DaemonSet" in line)
    assert line.endswith("kubectl delete daemonset chat-image -n team-shop")
    cluster.denied = {("list", "daemonsets")}
    assert not any("DaemonSet" in line for line in apply.diff_workload(cluster, workload(autoscaling=SCALING)).cost)


STANDARD: dict[str, Any] = {
    "serving": "kserve-standard",
    "compute": {"cpuCoreRequest": 1},
    "autoscaling": {"minReplicas": 1, "maxReplicas": 4, "metric": "cpu-utilization", "metricThreshold": 60},
}


def test_an_apply_names_the_autoscaler_that_a_spec_no_longer_needs() -> None:
    cluster = simulated()
    apply.write_workload(cluster, apply.diff_workload(cluster, workload(**STANDARD)), cluster.clock)
    fixed = {**STANDARD, "autoscaling": {"minReplicas": 2, "maxReplicas": 2}}

    first, later = (apply.diff_workload(cluster, workload(**spec)) for spec in (STANDARD, fixed))

    assert not any("HorizontalPodAutoscaler" in line for line in first.cost)
    (line,) = (line for line in later.cost if "HorizontalPodAutoscaler" in line)
    assert line.endswith("kubectl delete horizontalpodautoscaler chat-autoscaler -n team-shop")


def test_an_autoscaler_is_deleted_with_its_workload() -> None:
    cluster = simulated()
    apply.write_workload(cluster, apply.diff_workload(cluster, workload(**STANDARD)), cluster.clock)
    (service,), (hpa,) = cluster.list(kube.KSERVE).items, cluster.list(kube.HPA).items

    assert [owner["uid"] for owner in hpa["metadata"]["ownerReferences"]] == [service["metadata"]["uid"]]
    assert not apply.diff_workload(cluster, workload(**STANDARD)).different

    cluster.delete(kube.KSERVE, "chat", "team-shop")

    assert cluster.list(kube.HPA).items == []


def test_a_changed_autoscaler_keeps_its_owner() -> None:
    cluster = simulated()
    apply.write_workload(cluster, apply.diff_workload(cluster, workload(**STANDARD)), cluster.clock)
    more = STANDARD | {"autoscaling": {**STANDARD["autoscaling"], "metricThreshold": 70}}
    planned = apply.diff_workload(cluster, workload(**more))
    apply.write_workload(cluster, planned, cluster.clock)

    assert [step.item["kind"] for step in planned.steps if step.verdict == "change"] == [
        "InferenceService",
        "HorizontalPodAutoscaler",
    ]
    (hpa,) = cluster.list(kube.HPA).items
    assert [owner["kind"] for owner in hpa["metadata"]["ownerReferences"]] == ["InferenceService"]


def test_a_template_change_creates_a_revision() -> None:
    planned = apply.diff_workload(running(), workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2"))
    (step,) = [step for step in planned.steps if step.verdict == "change"]

    assert step.rollout
    assert "spec.template.spec.containers[user-container].image: " in "\n".join(
        change.describe() for change in step.changes
    )
    assert "the stored spec changes in image" in "\n".join(change.describe() for change in step.changes)


def test_a_change_outside_the_template_creates_no_revision() -> None:
    planned = apply.diff_workload(running(), workload(autoscaling=SCALING, slo={"uptimePercent": 99.9}))
    (step,) = [step for step in planned.steps if step.verdict == "change"]

    assert [change.path for change in step.changes] == [("metadata", "annotations", keys.SPEC)]
    assert not step.rollout


def test_a_rejection_is_in_the_plan_and_nothing_is_written() -> None:
    cluster = simulated()
    chat = workload(autoscaling=SCALING)
    cluster.apply(chat.objects[0])
    annotations = chat.objects[-1]["spec"]["template"]["metadata"]["annotations"]
    annotations[keys.MIN_SCALE] = "9"
    planned = apply.diff_workload(cluster, chat)

    assert verdicts(planned)["Service"] == "refused"
    assert "min-scale=9" in planned.steps[-1].refusal
    assert planned.refused
    assert cluster.list(kube.KNATIVE).items == []


def test_the_plan_has_the_cost() -> None:
    chat = workload(autoscaling=SCALING, compute={"gpuPortionRequest": 0.25})
    cluster = simulated()
    assert apply.diff_workload(cluster, chat).cost == (
        "GPUs: 0.25 per replica, 0.25 at 1 replica (minReplicas), 1 at 4 (maxReplicas)",
    )

    bring(cluster, chat)
    cluster.put(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "guaranteed", "namespace": "team-shop"},
            "status": {
                "hard": {"requests.nvidia.com/gpu.shared": "4"},
                "used": {"requests.nvidia.com/gpu.shared": "1"},
            },
        }
    )
    again = workload(autoscaling=SCALING, compute={"gpuPortionRequest": 0.25}, image="ghcr.io/acme/chat:2")

    assert apply.diff_workload(cluster, again).cost[1:] == (
        "the rollout needs 0.5 GPUs while old and new replicas run together",
        "quota guaranteed: 1 of 4 GPU shares in use",
    )


def test_a_field_of_another_manager_is_a_conflict_and_force_takes_it_over() -> None:
    cluster = running()
    stored = cluster.store.find(kube.KNATIVE, "team-shop", "chat")  # another manager's edit
    assert stored is not None
    leaf = ("spec", "template", "spec", "containers")
    stored.owned = {"kubectl-edit": {leaf}, **{manager: owned - {leaf} for manager, owned in stored.owned.items()}}
    chat = workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2")
    planned = apply.diff_workload(cluster, chat)

    assert planned.steps[-1].owners == {"kubectl-edit": ("spec.template.spec.containers",)}
    assert planned.refused
    with pytest.raises(kube.ConflictError, match="kubectl-edit"):
        apply.write_workload(cluster, planned, cluster.clock)
    apply.write_workload(cluster, planned, cluster.clock, force=True)
    assert "chat:2" in json.dumps(cluster.get(kube.KNATIVE, "chat", "team-shop"))


# The wait.


def test_the_wait_reports_each_phase_with_its_time() -> None:
    cluster = simulated()
    chat = workload(autoscaling=SCALING)
    apply.write_workload(cluster, apply.diff_workload(cluster, chat), cluster.clock)
    updates: list[WaitUpdate] = []
    end = apply.wait_for_workload(cluster, "chat", "team-shop", cluster.clock, 60, updates.append)

    assert end is not None
    assert end.url == "http://chat.team-shop.example.com"
    assert updates[0].status.phase == "Initializing"
    assert updates[-1].status.phase == "Running"
    assert [look.seconds for look in updates] == sorted(look.seconds for look in updates)
    assert updates[-1].seconds == pytest.approx(6, abs=3)


def test_the_wait_ends_with_a_failure_and_its_reason() -> None:
    cluster = simulated(broken_images={"ghcr.io/acme/chat:1"}, life=PodLife(deadline=20))
    end = bring(cluster, workload(autoscaling=SCALING))

    assert end is not None
    assert end.phase == "Failed"
    assert "not ready within" in end.why


def test_a_failed_update_is_degraded_and_the_old_revision_serves() -> None:
    cluster = running()
    cluster.broken_images.add("ghcr.io/acme/chat:2")
    cluster.life = PodLife(deadline=20)
    end = bring(cluster, workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2"))

    assert end is not None
    assert end.phase == "Degraded"
    assert "chat-00001 still serves" in end.why


@pytest.mark.parametrize(
    ("replicas", "complete"),
    [
        (Replicas(0, 0, 0, 4), True),
        (Replicas(1, 3, 0, 4), True),
        (Replicas(1, 1, 1, 4), True),
        (Replicas(1, 3, 2, 4), False),
        # Bounds that were just raised and that the autoscaler has not processed yet.
        (Replicas(1, 1, 2, 4), False),
    ],
    ids=str,
)
def test_the_wait_needs_the_minimum_of_replicas(replicas: Replicas, *, complete: bool) -> None:
    now = replace(compute_status(live(running())), replicas=replicas)

    assert apply._has_minimum_replicas(now) == complete  # noqa: SLF001 - no simulated autoscaler is late


def test_the_wait_times_out() -> None:
    cluster = simulated(life=PodLife(start=60.0))

    assert bring(cluster, workload(autoscaling=SCALING), limit=20) is None


def test_a_failure_that_no_attempt_can_end_ends_the_wait() -> None:
    state = bring(simulated(missing_images={"ghcr.io/acme/chat:1"}), workload(autoscaling=SCALING), limit=300)

    assert state is not None
    assert (state.phase, state.why) == ("Failed", "cannot pull image ghcr.io/acme/chat:1: not found")
    assert state.age_seconds < 20


def test_a_plan_says_what_a_quota_leaves_no_room_for() -> None:
    cluster = simulated()
    bring(cluster, workload())
    cluster.delete(kube.KNATIVE, "chat", "team-shop")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "guaranteed", "namespace": "team-shop"},
        "status": {"hard": {"requests.cpu": "300m"}, "used": {"requests.cpu": "0"}},
    }
    cluster.put(quota)
    chat = workload(
        autoscaling={**SCALING, "minReplicas": 3}, compute={"cpuCoreRequest": 0.1, "cpuMemoryRequest": "64Mi"}
    )

    assert apply.diff_workload(cluster, chat).cost == (
        "quota guaranteed: 0 of 0.3 CPU cores in use",
        "quota guaranteed is too small: 3 pods of 0.125 CPU cores need 0.375, and 0.3 of 0.3 CPU cores is free, so 2 can start",
    )


def test_a_long_value_is_named_by_its_parts_and_whole_on_demand() -> None:
    labels = {f"label-{number}": "x" * 20 for number in range(8)}
    (change,) = diff_objects({"metadata": {"name": "a"}}, {"metadata": {"name": "a", "labels": labels}})

    assert change.describe().endswith("label-7} (--full shows the values)")
    assert json.loads(change.describe(full=True).partition("+ ")[2]) == labels
    texts = [FieldChange(("spec", "args"), None, value).describe() for value in (["x" * 99, "y" * 99], "z" * 200)]
    assert texts == [
        "spec.args: + a list of 2 items (--full shows them)",
        "spec.args: + a text of 200 characters (--full shows it)",
    ]


def test_undoing_a_failed_update_keeps_the_revision_that_serves() -> None:
    cluster = simulated(missing_images={"ghcr.io/acme/chat:3"})
    for number in (1, 2, 3):
        bring(cluster, workload(autoscaling=SCALING, image=f"ghcr.io/acme/chat:{number}"), limit=60)
    failed = live(cluster)

    assert records.serving_revisions(failed) == ["chat-00002"]
    assert revisions.explain_no_rollback(failed, None) == ""
    assert revisions.find_rollback_target(failed, None) == "chat-00002"
    revisions.pin_revision(cluster, failed, "chat-00002")
    cluster.clock.sleep(30)
    assert revisions.find_rollback_target(live(cluster), None) == "chat-00001"


def test_a_fifth_quarter_of_a_gpu_waits_and_names_the_holders() -> None:
    cluster = simulated()
    for name in ("chat", "rank", "embed", "vision"):
        end = bring(cluster, workload(spec(name, compute={"gpuPortionRequest": 0.25})))
        assert end is not None
        assert end.phase == "Running", end.why

    assert bring(cluster, workload(spec("fifth", compute={"gpuPortionRequest": 0.25})), limit=20) is None
    now = compute_status(find_workload(cluster, "fifth", "team-shop", cluster.clock.now()))
    assert (now.phase, now.why) == (
        "Pending",
        "waiting for a GPU share: 4 of 4 used by chat, embed, rank, vision; priority class inference cannot preempt them",
    )

    cluster.delete(kube.KNATIVE, "rank", "team-shop")
    end = apply.wait_for_workload(cluster, "fifth", "team-shop", cluster.clock, 60)
    assert end is not None
    assert end.phase == "Running"


# Interrupted and repeated.


class Killed(BaseException):
    """Simulated end of the process."""


def killed_at(cluster: Simulated, number: int, when: str, work: Callable[[], object]) -> bool:
    """Run ``work``, interrupt it before (``fail``) or after (``cut``) its n-th write, and return whether it was interrupted."""
    remaining = [number]

    def end(obj: Any) -> None:
        del obj
        if remaining[0] == 0:
            cluster.fail = cluster.cut = None
            raise Killed
        remaining[0] -= 1

    setattr(cluster, when, end)
    try:
        work()
    except Killed:
        return True
    finally:
        cluster.fail = cluster.cut = None
    return False


def essence(cluster: Simulated) -> list[Any]:
    """Return the state of a workload without times, versions and field managers."""
    return [
        (obj["kind"], obj["metadata"]["name"], obj["spec"], obj["metadata"].get("annotations"))
        for kind in (kube.KNATIVE, kube.KSERVE, PVC)
        for obj in cluster.list(kind).items
    ] + [len(cluster.list(kube.REVISION).items)]


PVC = kube.KINDS["v1", "PersistentVolumeClaim"]
CLAIM = {"pvc": [{"path": "/data", "claimInfo": {"size": "1Gi", "accessModes": {"readWriteOnce": True}}}]}


@pytest.mark.parametrize("when", ["fail", "cut"])
@pytest.mark.parametrize("number", range(4))
def test_an_apply_interrupted_at_any_write_can_be_repeated(number: int, when: str) -> None:
    whole, cut = simulated(), simulated()
    chat = workload(autoscaling=SCALING, compute={"gpuPortionRequest": 0.25}, storage=CLAIM)
    bring(whole, chat)
    killed = killed_at(cut, number, when, lambda: apply.write_workload(cut, apply.diff_workload(cut, chat), cut.clock))

    assert killed == (number < 3), "a namespace, a claim, a service"
    end = bring(cut, chat)
    assert end is not None
    assert end.phase == "Running"
    assert essence(whole) == essence(cut)


@pytest.mark.parametrize("when", ["fail", "cut"])
@pytest.mark.parametrize("number", range(3))
def test_an_apply_interrupted_while_it_drops_a_scale_can_be_repeated(number: int, when: str) -> None:
    again = workload(autoscaling={**SCALING, "maxReplicas": 6}, image="ghcr.io/acme/chat:2")
    whole, cut = running(), running()
    for cluster in (whole, cut):
        scaled(cluster, maxReplicas=9)
    bring(whole, again)
    killed = killed_at(cut, number, when, lambda: apply.write_workload(cut, apply.diff_workload(cut, again), cut.clock))

    assert killed == (number < 2), "the service, and the record of the scale"
    assert bring(cut, again) is not None
    assert essence(whole) == essence(cut)


@pytest.mark.parametrize("when", ["fail", "cut"])
@pytest.mark.parametrize("number", range(3))
def test_an_apply_interrupted_while_it_ends_a_canary_can_be_repeated(number: int, when: str) -> None:
    """Two writes for one object: the field of another manager is removed before the apply."""
    clusters = [simulated(), simulated()]
    for cluster in clusters:
        for image in ("1", "2"):
            bring(cluster, workload(serving="kserve", autoscaling=SCALING, image=f"ghcr.io/acme/chat:{image}"))
        revisions.pin_revision(cluster, live(cluster), "chat-predictor-00001")
    whole, cut = clusters
    again = workload(serving="kserve", autoscaling=SCALING, image="ghcr.io/acme/chat:3")
    bring(whole, again)
    killed = killed_at(cut, number, when, lambda: apply.write_workload(cut, apply.diff_workload(cut, again), cut.clock))

    assert killed == (number < 2), "the pin, and the service"
    assert bring(cut, again) is not None
    assert essence(whole) == essence(cut)


# Submit: one caller gets the name.


def test_a_submit_creates_the_workload_before_its_companions() -> None:
    chat = workload(autoscaling=SCALING, storage=CLAIM)
    planned = apply.diff_workload(simulated(), chat, create=True)

    assert [step.item["kind"] for step in planned.steps] == ["Namespace", "Service", "PersistentVolumeClaim"]


def test_a_submit_of_a_taken_name_is_refused_with_the_reason() -> None:
    cluster = running()
    other = apply.diff_workload(cluster, workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2"), create=True)
    same = apply.diff_workload(cluster, workload(autoscaling=SCALING), create=True)
    kserve = apply.diff_workload(cluster, workload(serving="kserve", autoscaling=SCALING), create=True)

    assert [planned.steps[-1].verdict for planned in (other, same, kserve)] == ["refused"] * 3
    assert "workload chat already exists, created at 20" in other.steps[-1].refusal
    assert "from another spec; choose another name, or change it with ebbtide apply" in other.steps[-1].refusal
    assert "from the same spec" in same.steps[-1].refusal
    assert "run ebbtide apply to complete an interrupted submit" in same.steps[-1].refusal


def test_one_of_two_hundred_concurrent_submits_wins() -> None:
    cluster = simulated()
    workloads = [
        workload(autoscaling=SCALING, storage=CLAIM, image=f"ghcr.io/acme/chat:{number}") for number in range(200)
    ]
    planned = [apply.diff_workload(cluster, chat, create=True) for chat in workloads]

    def submit(number: int) -> str:
        try:
            apply.write_workload(cluster, planned[number], cluster.clock)
        except kube.ExistsError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(40) as threads:
        errors = list(threads.map(submit, range(200)))

    (winner,) = [number for number, text in enumerate(errors) if not text]
    (service,) = cluster.list(kube.KNATIVE).items
    assert get_at(service, "spec", "template", "spec", "containers", 0, "image") == f"ghcr.io/acme/chat:{winner}"
    assert all("another client created it first: workload chat already exists" in text for text in errors if text)
    assert len(cluster.list(PVC).items) == 1
    assert len(cluster.list(kube.REVISION).items) == 1


def test_a_busy_server_is_retried_and_an_unreachable_one_is_not() -> None:
    cluster = simulated()
    chat = workload(autoscaling=SCALING)
    planned = apply.diff_workload(cluster, chat)
    times = [3]

    def busy(obj: Any) -> None:
        del obj
        if times[0]:
            times[0] -= 1
            raise kube.BusyError("the webhook starts")

    cluster.fail = busy
    assert len(apply.write_workload(cluster, planned, cluster.clock)) == 2

    def dead(obj: Any) -> None:
        raise kube.UnreachableError(f"no answer for {obj['kind']}")

    other = simulated()
    planned = apply.diff_workload(other, chat)
    other.fail = dead
    with pytest.raises(kube.UnreachableError):
        apply.write_workload(other, planned, other.clock)


def test_retries_of_a_busy_server_end() -> None:
    cluster = simulated()
    planned = apply.diff_workload(cluster, workload(autoscaling=SCALING))

    def busy(obj: Any) -> None:
        del obj
        raise kube.BusyError("the webhook starts")

    cluster.fail = busy
    with pytest.raises(kube.BusyError):
        apply.write_workload(cluster, planned, cluster.clock)


def test_a_failure_whose_pods_were_read_too_early_does_not_end_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = running()
    found = compute_status(live(cluster))

    def failed(why: str, *, settled: bool) -> Status:
        return replace(found, phase="Failed", why=why, settled=settled)

    first, retried, lasting = (
        failed("Container failed with:", settled=True),
        failed("exited; it will be restarted", settled=False),
        failed("exited; restarted 3 times", settled=True),
    )
    read = iter([first, retried, first, retried, lasting, lasting])
    monkeypatch.setattr(apply, "compute_status", lambda _: next(read))
    end = apply.wait_for_workload(cluster, "chat", "team-shop", cluster.clock, 60)
    assert end == lasting
    assert next(read, None) is None


def test_a_success_whose_deployment_was_read_too_early_does_not_end_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = running()
    success = compute_status(live(cluster))
    assert success.settled
    updating = replace(success, phase="Updating", settled=False)
    read = iter([success, updating, success, success])
    monkeypatch.setattr(apply, "compute_status", lambda _: next(read))
    phases: list[str] = []
    end = apply.wait_for_workload(
        cluster, "chat", "team-shop", cluster.clock, 60, lambda look: phases.append(look.status.phase)
    )
    assert (end, next(read, None)) == (success, None)
    assert phases == ["Running", "Updating", "Running"]


def test_a_workload_deleted_during_the_wait_is_missing() -> None:
    cluster = running()
    cluster.delete(kube.KNATIVE, "chat", "team-shop")

    with pytest.raises(kube.MissingError):
        apply.wait_for_workload(cluster, "chat", "team-shop", cluster.clock, 10)


# Scale.


def scaled(cluster: Simulated, **bounds: float) -> None:
    assert revisions.explain_no_scale(live(cluster), bounds) == ""
    revisions.scale_workload(cluster, live(cluster), bounds)
    cluster.clock.sleep(30)


def annotation(cluster: Simulated, name: str, key: str = keys.MIN_SCALE) -> Any:
    return get_at(cluster.get(kube.REVISION, name, "team-shop"), "metadata", "annotations", key)


def test_a_scale_changes_replicas_without_a_new_revision() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2, metricThreshold=20)
    now = compute_status(live(cluster))

    assert str(now.replicas) == "2/2 (2..4)"
    assert str(now.metric) == "concurrency -/14"
    assert [row.name for row in now.revisions] == ["chat-00001"]
    assert now.by_hand == (
        "minReplicas 2 set by ebbtide scale (the spec has 1)",
        "metricThreshold 20 set by ebbtide scale (the spec has 10)",
    )


def broken(cluster: Simulated, kind: str) -> None:
    def fail(obj: Any) -> None:
        if (kind == "Service") == (keys.SCALE in get_at(obj, "metadata", "annotations", default={})):
            raise kube.UnreachableError("the cluster does not answer")

    cluster.fail = fail


def test_an_interrupted_scale_is_recorded_reported_and_reset() -> None:
    cluster = running()
    broken(cluster, "Revision")
    with pytest.raises(kube.CutShortError) as raised:
        revisions.scale_workload(cluster, live(cluster), {"minReplicas": 2})
    cluster.fail = None

    assert raised.value.done == ("changed Service team-shop/chat",)
    assert annotation(cluster, "chat-00001") == "1"
    assert compute_status(live(cluster)).by_hand == ("minReplicas 2 set by ebbtide scale (the spec has 1)",)
    scaled(cluster, minReplicas=2)
    assert annotation(cluster, "chat-00001") == "2"
    broken(cluster, "Service")
    with pytest.raises(kube.CutShortError, match="already done: changed Revision team-shop/chat-00001"):
        revisions.reset_scale(cluster, live(cluster))
    cluster.fail = None
    assert compute_status(live(cluster)).by_hand != ()
    revisions.reset_scale(cluster, live(cluster))
    assert (annotation(cluster, "chat-00001"), compute_status(live(cluster)).by_hand) == ("1", ())


def test_a_forbidden_or_rejected_scale_writes_nothing() -> None:
    for plural in ("services", "revisions"):
        cluster = running()
        before = essence(cluster)
        cluster.denied = {("patch", plural)}
        with pytest.raises(kube.ForbiddenError):
            revisions.scale_workload(cluster, live(cluster), {"minReplicas": 2})
        assert (essence(cluster), annotation(cluster, "chat-00001")) == (before, "1")
    cluster = simulated(max_scale_limit=5)
    bring(cluster, workload(autoscaling=SCALING))
    before = essence(cluster)
    with pytest.raises(kube.RefusedError, match="expected 1 <= 9 <= 5"):
        revisions.scale_workload(cluster, live(cluster), {"maxReplicas": 9})
    assert (essence(cluster), annotation(cluster, "chat-00001", keys.MAX_SCALE)) == (before, "4")


@pytest.mark.parametrize("when", ["fail", "cut"])
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("reset", [False, True])
def test_an_interrupted_scale_or_reset_can_be_repeated(number: int, when: str, reset: bool) -> None:
    def work(cluster: Simulated) -> None:
        if reset:
            revisions.reset_scale(cluster, live(cluster))
        else:
            revisions.scale_workload(cluster, live(cluster), {"minReplicas": 2})

    whole, cut = running(), running()
    for cluster in (whole, cut) if reset else ():
        scaled(cluster, minReplicas=3)
    work(whole)
    killed = killed_at(cut, number, when, lambda: work(cut))

    assert killed == (number < 2), "the record, and the revision"
    assert compute_status(live(cut)).by_hand or annotation(cut, "chat-00001") == "1", "an override is recorded"
    work(cut)
    for cluster in (whole, cut):
        cluster.clock.sleep(60)
    assert essence(whole) == essence(cut)
    assert annotation(whole, "chat-00001") == annotation(cut, "chat-00001")


def test_a_scale_is_noted_in_the_plan_and_is_not_a_change() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2)
    planned = apply.diff_workload(cluster, workload(autoscaling=SCALING))

    assert not planned.different
    assert planned.steps[-1].notes == (
        "manual override minReplicas 2 is kept (the spec has 1); remove it with ebbtide scale --reset",
    )


def test_the_next_rollout_takes_a_scale_over_and_later_applies_keep_it() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2)
    second = workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2")
    planned = apply.diff_workload(cluster, second)
    assert "the new revision takes it over" in planned.steps[-1].notes[0]
    bring(cluster, second)

    assert annotation(cluster, "chat-00002") == "2"
    again = apply.diff_workload(cluster, second)
    assert not again.different
    assert "remove it with ebbtide scale --reset" in again.steps[-1].notes[0]
    bring(cluster, workload(autoscaling=SCALING, image="ghcr.io/acme/chat:3"))
    assert annotation(cluster, "chat-00003") == "2"


def test_a_changed_spec_replaces_the_scale_and_its_record() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2)
    third = workload(autoscaling={**SCALING, "minReplicas": 3})
    planned = apply.diff_workload(cluster, third)
    assert planned.steps[-1].notes == ("manual override minReplicas 2 is dropped: the spec has changed to 3",)
    bring(cluster, third)

    assert annotation(cluster, "chat-00002") == "3"
    assert records.read_scale_record(cluster.get(kube.KNATIVE, "chat", "team-shop")) == records.ScaleRecord()
    assert not apply.diff_workload(cluster, third).different


def test_a_spec_with_the_scale_s_value_creates_no_revision() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2)
    caught_up = {**SCALING, "minReplicas": 2}
    planned = apply.diff_workload(cluster, workload(autoscaling=caught_up))
    assert not planned.steps[-1].rollout
    assert planned.steps[-1].notes == ("minReplicas 2 is already live; the next rollout updates the template",)
    bring(cluster, workload(autoscaling=caught_up))

    assert annotation(cluster, "chat-00001") == "2"
    assert compute_status(live(cluster)).by_hand == ()
    assert not apply.diff_workload(cluster, workload(autoscaling=caught_up)).different
    bring(cluster, workload(autoscaling=caught_up, image="ghcr.io/acme/chat:2"))
    assert annotation(cluster, "chat-00002") == "2"
    assert records.read_scale_record(cluster.get(kube.KNATIVE, "chat", "team-shop")) == records.ScaleRecord()


def test_a_reset_restores_the_spec_s_values() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2, maxReplicas=9)
    revisions.reset_scale(cluster, live(cluster))
    cluster.clock.sleep(30)

    assert annotation(cluster, "chat-00001") == "1"
    assert annotation(cluster, "chat-00001", keys.MAX_SCALE) == "4"
    assert compute_status(live(cluster)).by_hand == ()
    revisions.reset_scale(cluster, live(cluster))


def test_a_reset_after_a_rollout_creates_no_revision() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2)
    second = workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2")
    bring(cluster, second)
    revisions.reset_scale(cluster, live(cluster))

    assert annotation(cluster, "chat-00002") == "1"
    assert compute_status(live(cluster)).by_hand == ()
    assert not apply.diff_workload(cluster, second).different
    bring(cluster, workload(autoscaling=SCALING, image="ghcr.io/acme/chat:3"))
    assert annotation(cluster, "chat-00003") == "1"
    assert records.read_scale_record(cluster.get(kube.KNATIVE, "chat", "team-shop")) == records.ScaleRecord()


@pytest.mark.parametrize(
    ("bounds", "why"),
    [
        ({"minReplicas": 9}, "invalid bounds: min 9 and max 4"),
        ({"minReplicas": -1}, "invalid bounds: min -1 and max 4"),
        ({"maxReplicas": 0}, "invalid max 0"),
        ({"metricThreshold": 0}, "invalid target 0: must be greater than 0"),
        ({"minReplicas": 4}, ""),
        ({"metricThreshold": 0.5}, ""),
    ],
)
def test_an_invalid_scale_is_refused_with_the_reason(bounds: dict[str, float], why: str) -> None:
    refusal = revisions.explain_no_scale(live(running()), bounds)

    assert why in refusal
    assert bool(refusal) == bool(why)


def test_a_target_without_a_metric_is_refused() -> None:
    cluster = simulated()
    bring(cluster, workload())

    assert "no scaling metric" in revisions.explain_no_scale(live(cluster), {"metricThreshold": 3})


# Rollback.


def test_a_rollback_sends_all_traffic_back_until_the_next_apply() -> None:
    cluster = running()
    assert "no ready revision older than" in revisions.explain_no_rollback(live(cluster), None)
    second = workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2")
    bring(cluster, second)

    assert revisions.explain_no_rollback(live(cluster), None) == ""
    assert revisions.find_rollback_target(live(cluster), None) == "chat-00001"
    revisions.pin_revision(cluster, live(cluster), "chat-00001")
    cluster.clock.sleep(20)
    now = compute_status(live(cluster))
    assert [(row.name, row.traffic_percent) for row in now.revisions] == [("chat-00002", 0), ("chat-00001", 100)]
    assert "pinned to chat-00001 until the next apply" in now.why

    planned = apply.diff_workload(cluster, second)
    assert [change.path for change in planned.steps[-1].changes] == [("spec", "traffic")]
    assert not planned.steps[-1].rollout
    bring(cluster, second)
    assert [row.traffic_percent for row in compute_status(live(cluster)).revisions] == [100, 0]
    assert not apply.diff_workload(cluster, second).different


def test_a_rollback_to_a_missing_or_unready_revision_is_refused() -> None:
    cluster = running()
    cluster.broken_images.add("ghcr.io/acme/chat:2")
    bring(cluster, workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2"), limit=5)

    assert "revision chat-00009 of chat not found" in revisions.explain_no_rollback(live(cluster), "chat-00009")
    assert "not ready" in revisions.explain_no_rollback(live(cluster), "chat-00002")


# KServe.


def test_a_kserve_workload_is_suspended_and_resumed() -> None:
    cluster = simulated()
    chat = workload(serving="kserve", autoscaling=SCALING)
    end = bring(cluster, chat)
    assert end is not None
    assert (end.phase, end.kind) == ("Running", "InferenceService")
    assert not apply.diff_workload(cluster, chat).different

    cluster.patch(kube.KSERVE, "chat", "team-shop", {"metadata": {"annotations": {keys.STOP: "true"}}})
    assert compute_status(live(cluster)).phase == "Stopping"
    cluster.clock.sleep(10)
    assert compute_status(live(cluster)).phase == "Stopped"
    assert not apply.diff_workload(cluster, chat).different

    cluster.patch(kube.KSERVE, "chat", "team-shop", {"metadata": {"annotations": {keys.STOP: None}}})
    cluster.clock.sleep(20)
    assert compute_status(live(cluster)).phase == "Running"


def test_a_scale_of_a_kserve_workload_is_kept() -> None:
    cluster = simulated()
    chat = workload(serving="kserve", autoscaling=SCALING)
    bring(cluster, chat)
    revisions.scale_workload(cluster, live(cluster), {"minReplicas": 2, "metricThreshold": 20})
    cluster.clock.sleep(20)
    planned = apply.diff_workload(cluster, chat)

    assert not planned.different
    assert len(planned.steps[-1].notes) == 2
    assert str(compute_status(live(cluster)).replicas) == "2/2 (2..4)"
    second = workload(serving="kserve", autoscaling=SCALING, image="ghcr.io/acme/chat:2")
    bring(cluster, second)
    assert get_at(cluster.get(kube.KSERVE, "chat", "team-shop"), "spec", "predictor", "minReplicas") == 2


# Changes.


@pytest.mark.parametrize(
    ("kind", "path", "pods"),
    [
        ("Service", ("spec", "template", "spec", "timeoutSeconds"), True),
        ("Service", ("spec", "traffic"), False),
        ("Service", ("metadata", "labels", "a"), False),
        ("InferenceService", ("spec", "predictor", "minReplicas"), True),
        ("InferenceService", ("spec", "predictor", "canaryTrafficPercent"), False),
        ("InferenceService", ("metadata", "annotations", keys.SPEC), False),
        ("InferenceService", ("metadata", "annotations", "prometheus.io/port"), True),
        ("Standard", ("spec", "predictor", "minReplicas"), False),
        ("Standard", ("spec", "predictor", "containers"), True),
        ("ConfigMap", ("data", "a"), False),
    ],
)
def test_changes_that_create_pods(kind: str, path: tuple[str, ...], *, pods: bool) -> None:
    mode = {"annotations": {keys.DEPLOYMENT_MODE: "Standard" if kind == "Standard" else "Knative"}}
    name = "InferenceService" if kind == "Standard" else kind
    obj = {"apiVersion": "serving.knative.dev/v1", "kind": name, "metadata": mode}

    assert creates_pods(obj, (FieldChange(path, 1, 2),)) is pods


def test_changes_name_list_items_and_omit_server_fields() -> None:
    before = {
        "metadata": {"uid": "1", "annotations": {"serving.knative.dev/lastModifier": "a"}},
        "spec": {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "args": ["x"]},
        "status": {"a": 1},
    }
    after = {
        "metadata": {"uid": "2", "annotations": {"serving.knative.dev/lastModifier": "b"}},
        "spec": {"env": [{"name": "A", "value": "9"}, {"name": "C", "value": "3"}], "args": ["y"]},
    }

    assert [change.describe() for change in diff_objects(before, after)] == [
        'spec.env[A].value: "1" -> "9"',
        'spec.env[B]: - {"name": "B", "value": "2"}',
        'spec.env[C]: + {"name": "C", "value": "3"}',
        'spec.args: ["x"] -> ["y"]',
    ]


def test_what_kubectl_applied_of_the_stored_spec_is_taken_over() -> None:
    cluster = running()
    stored = cluster.store.find(kube.KNATIVE, "team-shop", "chat")
    assert stored is not None
    stored.owned = {"kubectl-client-side-apply": set().union(*stored.owned.values())}
    planned = apply.diff_workload(cluster, workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2"))

    assert not planned.refused
    assert planned.steps[-1].notes == ("takes over what kubectl applied of the stored spec",)
    apply.write_workload(cluster, planned, cluster.clock)
    assert "chat:2" in json.dumps(cluster.get(kube.KNATIVE, "chat", "team-shop"))


def test_an_edit_by_kubectl_is_not_taken_over() -> None:
    cluster = running()
    edited = cluster.get(kube.KNATIVE, "chat", "team-shop")
    edited["spec"]["template"]["spec"]["containers"][0]["image"] = "ghcr.io/acme/chat:mine"
    cluster.put(edited)
    stored = cluster.store.find(kube.KNATIVE, "team-shop", "chat")
    assert stored is not None
    stored.owned = {"kubectl-client-side-apply": set().union(*stored.owned.values())}
    planned = apply.diff_workload(cluster, workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2"))

    assert planned.refused
    assert set(planned.steps[-1].owners) == {"kubectl-client-side-apply"}


def test_another_order_of_named_items_is_a_change() -> None:
    rows = [{"name": "A"}, {"name": "B"}]

    assert [c.describe() for c in diff_objects({"spec": rows}, {"spec": rows[::-1]})] == [
        'spec: ["A", "B"] -> ["B", "A"]'
    ]


def test_an_existing_namespace_keeps_its_other_labels() -> None:
    cluster = running()
    cluster.patch(kube.NAMESPACE, "team-shop", "", {"metadata": {"labels": {"cost-centre": "7"}}})

    assert verdicts(apply.diff_workload(cluster, workload(autoscaling=SCALING)))["Namespace"] == "keep"


def test_a_plan_is_serialized_as_json() -> None:
    planned = apply.diff_workload(running(), workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2"))

    assert json.loads(json.dumps(serialize_body(planned)))["steps"][-1]["rollout"] is True
    assert isinstance(planned.steps[0], ApplyStep)


def test_pods_of_a_deleted_workload_end() -> None:
    cluster = running()
    cluster.delete(kube.NAMESPACE, "team-shop")
    cluster.clock.sleep(10)

    assert cluster.list(kube.POD).items == []


def test_a_rejected_pod_of_a_retired_revision_is_not_retried() -> None:
    """The rejected pod fails the revision, which is then retired because another revision has the traffic."""
    cluster = simulated(missing_images={"ghcr.io/acme/chat:1"})
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-shop"}})
    for image in ("ghcr.io/acme/chat:1", "ghcr.io/acme/chat:2"):
        template = {"spec": {"containers": [{"name": "user-container", "image": image}]}}
        metadata = {"name": "chat", "namespace": "team-shop"}
        service = {"apiVersion": kube.KNATIVE.api_version, "kind": "Service", "metadata": metadata}
        cluster.apply({**service, "spec": {"template": template}})
        cluster.clock.sleep(700)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": "team-shop"}}
    cluster.apply({**quota, "spec": {"hard": {"pods": "0"}}})
    cluster.scale("team-shop", "chat-00001", 1)
    cluster.clock.sleep(20)
    cluster.settle()

    assert not cluster.pods.refused
    assert not cluster.pods.attempts


def test_the_owners_of_fields_are_read_from_the_object() -> None:
    fields = {
        "f:metadata": {"f:labels": {".": {}, "f:app.kubernetes.io/name": {}}},
        "f:spec": {"f:env": {'k:{"name":"A"}': {".": {}, "f:value": {}}, "v:1": {}}},
    }
    managers = [
        {"manager": "ebbtide", "fieldsV1": fields},
        {"manager": "controller", "subresource": "status", "fieldsV1": fields},
        {"manager": "kubectl-edit", "fieldsV1": fields},
    ]

    owners = list_other_owners({"metadata": {"managedFields": managers}})

    assert owners == {"kubectl-edit": ("metadata.labels.app.kubernetes.io/name", "spec.env[A].value")}


@pytest.mark.parametrize(
    ("path", "field", "within"),
    [
        (("spec", "containers", "[web]", "env"), "spec.containers", True),
        (("spec", "containers", "[web]", "env"), 'spec.containers[name="web"]', True),
        (("spec", "containers", "[web]", "env"), 'spec.containers[name="other"]', False),
        (("spec", "containersOf"), "spec.containers", False),
        (("metadata", "labels", "a.b/c"), "metadata.labels.a.b/c", True),
    ],
)
def test_a_change_is_within_the_field_of_its_owner(path: tuple[str, ...], field: str, within: bool) -> None:
    assert FieldChange(path, 1, 2).is_within([field]) is within


def test_an_edited_revision_is_reported_with_its_fix() -> None:
    cluster = simulated()
    applied = workload(autoscaling=SCALING)
    apply.write_workload(cluster, apply.diff_workload(cluster, applied), cluster.clock)
    cluster.clock.sleep(5)
    assert not [note for step in apply.diff_workload(cluster, applied).steps for note in step.notes]

    annotations = {keys.MIN_SCALE: "2", f"{keys.AUTOSCALING}window": "30s"}
    cluster.patch(kube.REVISION, "chat-00001", "team-shop", {"metadata": {"annotations": annotations}})
    planned = apply.diff_workload(cluster, applied)
    state = compute_status(find_workload(cluster, "chat", "team-shop", cluster.clock.now()))
    low = "revision chat-00001 was edited: min-scale is 2, and 1 in its template"
    fix = "restore it with kubectl annotate revision chat-00001 -n team-shop"
    assert not planned.different
    assert [note for step in planned.steps for note in step.notes] == [
        f"{low}; apply keeps it, {fix} {keys.MIN_SCALE}=1 --overwrite",
        (
            "revision chat-00001 was edited: window is 30s, and missing in its template; apply keeps it, "
            f"{fix} {keys.AUTOSCALING}window-"
        ),
    ]
    assert low in state.why
    assert state.by_hand[0] == f"{low}; {fix} {keys.MIN_SCALE}=1 --overwrite"

    revisions.scale_workload(
        cluster, find_workload(cluster, "chat", "team-shop", cluster.clock.now()), {"minReplicas": 3}
    )
    state = compute_status(find_workload(cluster, "chat", "team-shop", cluster.clock.now()))
    assert "min-scale" not in state.why, "ebbtide scale records what it changes"


def test_a_quota_that_is_not_counted_yet_has_the_limits_of_its_spec() -> None:
    quota = {"spec": {"hard": {"requests.cpu": "2"}}, "status": {}}

    assert list(map(str, amounts.list_quota_shares(quota))) == ["0 of 2 CPU cores in use"]
    quota["status"] = {"hard": {"requests.cpu": "1"}, "used": {"requests.cpu": "250m"}}
    assert list(map(str, amounts.list_quota_shares(quota))) == ["0.25 of 1 CPU core in use"]
