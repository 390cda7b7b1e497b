"""Apply: the plan, new revisions, conflicts, the wait, interruptions at each write, scale and rollback.

All on the simulated cluster; tests that depend on a real API server's defaults are in test_apply_real.py.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.base import keys
from ebbtide.base.bodies import serialize
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import (
    HPA,
    KINDS,
    KNATIVE,
    KSERVE,
    NAMESPACE,
    POD,
    REVISION,
    BusyError,
    ConflictError,
    CutShortError,
    ExistsError,
    ForbiddenError,
    MissingError,
    RefusedError,
    UnreachableError,
)
from ebbtide.cluster.read.inventory import find
from ebbtide.cluster.read.status import Replicas, status
from ebbtide.cluster.write import apply, revisions
from ebbtide.cluster.write.apply import Step
from ebbtide.cluster.write.changes import Change, changes, makes_pods
from ebbtide.sandbox.state import Life
from live_cluster import SCALING, simulated, spec, workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.cluster.read.status import Status
    from ebbtide.cluster.write.apply import Look, Planned, Workload
    from ebbtide.sandbox.simulated import Simulated


def bring(cluster: Simulated, made: Workload, *, limit: float = 300, force: bool = False) -> Status | None:
    planned = apply.plan(cluster, made)
    apply.carry_out(cluster, planned, cluster.clock, force=force)
    return apply.wait(cluster, made.name, made.namespace, cluster.clock, limit)


def running(**fields: Any) -> Simulated:
    cluster = simulated()
    end = bring(cluster, workload(autoscaling=SCALING, **fields))
    assert end is not None
    assert end.phase == "Running", end.why
    return cluster


def verdicts(planned: Planned) -> dict[str, str]:
    return {step.item["kind"]: step.verdict for step in planned.steps}


def live(cluster: Simulated) -> Any:
    return find(cluster, "chat", "team-shop", cluster.clock.now())


# The plan.


def test_on_an_empty_cluster_everything_is_created() -> None:
    planned = apply.plan(simulated(), workload(autoscaling=SCALING))

    assert verdicts(planned) == {"Namespace": "create", "Service": "create"}
    assert planned.different
    assert not planned.refused


def test_what_was_just_applied_is_kept() -> None:
    cluster = running()
    planned = apply.plan(cluster, workload(autoscaling=SCALING))

    assert verdicts(planned) == {"Namespace": "keep", "Service": "keep"}
    assert not planned.different
    assert apply.carry_out(cluster, planned, cluster.clock) == []


STANDARD: dict[str, Any] = {
    "serving": "kserve-standard",
    "compute": {"cpuCoreRequest": 1},
    "autoscaling": {"minReplicas": 1, "maxReplicas": 4, "metric": "cpu-utilization", "metricThreshold": 60},
}


def test_what_scales_a_workload_goes_with_it_whoever_deletes_that() -> None:
    cluster = simulated()
    apply.carry_out(cluster, apply.plan(cluster, workload(**STANDARD)), cluster.clock)
    (service,), (hpa,) = cluster.list(KSERVE).items, cluster.list(HPA).items

    assert [owner["uid"] for owner in hpa["metadata"]["ownerReferences"]] == [service["metadata"]["uid"]]
    assert not apply.plan(cluster, workload(**STANDARD)).different

    cluster.delete(KSERVE, "chat", "team-shop")

    assert cluster.list(HPA).items == []


def test_a_changed_autoscaler_keeps_its_owner() -> None:
    cluster = simulated()
    apply.carry_out(cluster, apply.plan(cluster, workload(**STANDARD)), cluster.clock)
    more = STANDARD | {"autoscaling": {**STANDARD["autoscaling"], "metricThreshold": 70}}
    planned = apply.plan(cluster, workload(**more))
    apply.carry_out(cluster, planned, cluster.clock)

    assert [step.item["kind"] for step in planned.steps if step.verdict == "change"] == [
        "InferenceService",
        "HorizontalPodAutoscaler",
    ]
    (hpa,) = cluster.list(HPA).items
    assert [owner["kind"] for owner in hpa["metadata"]["ownerReferences"]] == ["InferenceService"]


def test_a_change_of_the_template_makes_a_new_revision() -> None:
    planned = apply.plan(running(), workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2"))
    (step,) = [step for step in planned.steps if step.verdict == "change"]

    assert step.rollout
    assert "spec.template.spec.containers[user-container].image: " in "\n".join(map(str, step.changes))
    assert "the stored spec changes in image" in "\n".join(map(str, step.changes))


def test_a_change_that_moves_no_pod_makes_none() -> None:
    planned = apply.plan(running(), workload(autoscaling=SCALING, slo={"uptimePercent": 99.9}))
    (step,) = [step for step in planned.steps if step.verdict == "change"]

    assert [change.path for change in step.changes] == [("metadata", "annotations", keys.SPEC)]
    assert not step.rollout


def test_what_the_cluster_refuses_is_in_the_plan_and_nothing_is_written() -> None:
    cluster = simulated()
    made = workload(autoscaling=SCALING)
    cluster.apply(made.objects[0])
    annotations = made.objects[-1]["spec"]["template"]["metadata"]["annotations"]
    annotations[keys.MIN_SCALE] = "9"
    planned = apply.plan(cluster, made)

    assert verdicts(planned)["Service"] == "refused"
    assert "min-scale=9" in planned.steps[-1].refusal
    assert planned.refused
    assert cluster.list(KNATIVE).items == []


def test_the_plan_tells_the_cost() -> None:
    made = workload(autoscaling=SCALING, compute={"gpuPortionRequest": 0.25})
    cluster = simulated()
    assert apply.plan(cluster, made).cost == (
        "GPUs: 0.25 per replica, 0.25 at 1 replica (minReplicas), 1 at 4 (maxReplicas)",
    )

    bring(cluster, made)
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

    assert apply.plan(cluster, again).cost[1:] == (
        "the rollout needs 0.5 GPUs while old and new replicas run together",
        "quota guaranteed: 1 of 4 requests.nvidia.com/gpu.shared in use",
    )


def test_somebody_else_s_field_is_a_conflict_that_names_him_and_force_takes_it() -> None:
    cluster = running()
    held = cluster.store.find(KNATIVE, "team-shop", "chat")  # another manager's edit
    assert held is not None
    leaf = ("spec", "template", "spec", "containers")
    held.owned = {"kubectl-edit": {leaf}, **{who: owned - {leaf} for who, owned in held.owned.items()}}
    made = workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2")
    planned = apply.plan(cluster, made)

    assert planned.steps[-1].owners == {"kubectl-edit": ("spec.template.spec.containers",)}
    assert planned.refused
    with pytest.raises(ConflictError, match="kubectl-edit"):
        apply.carry_out(cluster, planned, cluster.clock)
    apply.carry_out(cluster, planned, cluster.clock, force=True)
    assert "chat:2" in json.dumps(cluster.get(KNATIVE, "chat", "team-shop"))


# The wait.


def test_the_wait_tells_each_phase_with_its_time() -> None:
    cluster = simulated()
    made = workload(autoscaling=SCALING)
    apply.carry_out(cluster, apply.plan(cluster, made), cluster.clock)
    seen: list[Look] = []
    end = apply.wait(cluster, "chat", "team-shop", cluster.clock, 60, seen.append)

    assert end is not None
    assert end.url == "http://chat.team-shop.example.com"
    assert seen[0].status.phase == "Initializing"
    assert seen[-1].status.phase == "Running"
    assert [look.seconds for look in seen] == sorted(look.seconds for look in seen)
    assert seen[-1].seconds == pytest.approx(6, abs=3)


def test_the_wait_ends_with_a_failure_and_its_reason() -> None:
    cluster = simulated(broken_images={"ghcr.io/acme/chat:1"}, life=Life(deadline=20))
    end = bring(cluster, workload(autoscaling=SCALING))

    assert end is not None
    assert end.phase == "Failed"
    assert "not ready within" in end.why


def test_a_failed_update_is_degraded_and_the_old_revision_serves() -> None:
    cluster = running()
    cluster.broken_images.add("ghcr.io/acme/chat:2")
    cluster.life = Life(deadline=20)
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
def test_a_wait_is_for_as_many_replicas_as_there_must_be(replicas: Replicas, *, complete: bool) -> None:
    now = replace(status(live(running())), replicas=replicas)

    assert apply._complete(now) == complete  # noqa: SLF001 - no simulated autoscaler is late


def test_the_wait_gives_up_after_its_time() -> None:
    cluster = simulated(missing_images={"ghcr.io/acme/chat:1"})

    assert bring(cluster, workload(autoscaling=SCALING), limit=20) is None


def test_four_quarters_are_taken_and_the_fifth_is_told_by_whom() -> None:
    cluster = simulated()
    for name in ("chat", "rank", "embed", "vision"):
        end = bring(cluster, workload(spec(name, compute={"gpuPortionRequest": 0.25})))
        assert end is not None
        assert end.phase == "Running", end.why

    assert bring(cluster, workload(spec("fifth", compute={"gpuPortionRequest": 0.25})), limit=20) is None
    now = status(find(cluster, "fifth", "team-shop", cluster.clock.now()))
    assert (now.phase, now.why) == (
        "Pending",
        "waiting for a GPU share: 4 of 4 used by chat, embed, rank, vision; priority inference cannot preempt them",
    )

    cluster.delete(KNATIVE, "rank", "team-shop")
    end = apply.wait(cluster, "fifth", "team-shop", cluster.clock, 60)
    assert end is not None
    assert end.phase == "Running"


# Interrupted and repeated.


class Killed(BaseException):
    """Simulated end of the process."""


def killed_at(cluster: Simulated, number: int, when: str, work: Callable[[], object]) -> bool:
    """Run ``work``, interrupt it before (``fail``) or after (``cut``) its n-th write, and return whether it was interrupted."""
    remaining = [number]

    def end(item: Any) -> None:
        del item
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
        (item["kind"], item["metadata"]["name"], item["spec"], item["metadata"].get("annotations"))
        for kind in (KNATIVE, KSERVE, PVC)
        for item in cluster.list(kind).items
    ] + [len(cluster.list(REVISION).items)]


PVC = KINDS["v1", "PersistentVolumeClaim"]
CLAIM = {"pvc": [{"path": "/data", "claimInfo": {"size": "1Gi", "accessModes": {"readWriteOnce": True}}}]}


@pytest.mark.parametrize("when", ["fail", "cut"])
@pytest.mark.parametrize("number", range(4))
def test_killed_at_any_write_and_run_again_gives_the_same_end(number: int, when: str) -> None:
    whole, cut = simulated(), simulated()
    made = workload(autoscaling=SCALING, compute={"gpuPortionRequest": 0.25}, storage=CLAIM)
    bring(whole, made)
    killed = killed_at(cut, number, when, lambda: apply.carry_out(cut, apply.plan(cut, made), cut.clock))

    assert killed == (number < 3), "a namespace, a claim, a service"
    end = bring(cut, made)
    assert end is not None
    assert end.phase == "Running"
    assert essence(whole) == essence(cut)


@pytest.mark.parametrize("when", ["fail", "cut"])
@pytest.mark.parametrize("number", range(3))
def test_killed_while_a_scale_gives_way_and_run_again_gives_the_same_end(number: int, when: str) -> None:
    again = workload(autoscaling={**SCALING, "maxReplicas": 6}, image="ghcr.io/acme/chat:2")
    whole, cut = running(), running()
    for cluster in (whole, cut):
        scaled(cluster, maxReplicas=9)
    bring(whole, again)
    killed = killed_at(cut, number, when, lambda: apply.carry_out(cut, apply.plan(cut, again), cut.clock))

    assert killed == (number < 2), "the service, and the record of the scale"
    assert bring(cut, again) is not None
    assert essence(whole) == essence(cut)


@pytest.mark.parametrize("when", ["fail", "cut"])
@pytest.mark.parametrize("number", range(3))
def test_killed_while_a_canary_ends_and_run_again_gives_the_same_end(number: int, when: str) -> None:
    """Two writes for one object: the field of another manager is removed before the apply."""
    clusters = [simulated(), simulated()]
    for cluster in clusters:
        for image in ("1", "2"):
            bring(cluster, workload(serving="kserve", autoscaling=SCALING, image=f"ghcr.io/acme/chat:{image}"))
        revisions.pin(cluster, live(cluster), "chat-predictor-00001")
    whole, cut = clusters
    again = workload(serving="kserve", autoscaling=SCALING, image="ghcr.io/acme/chat:3")
    bring(whole, again)
    killed = killed_at(cut, number, when, lambda: apply.carry_out(cut, apply.plan(cut, again), cut.clock))

    assert killed == (number < 2), "the pin, and the service"
    assert bring(cut, again) is not None
    assert essence(whole) == essence(cut)


# Submit: one caller gets the name.


def test_a_submit_makes_the_workload_before_what_only_belongs_to_it() -> None:
    made = workload(autoscaling=SCALING, storage=CLAIM)
    planned = apply.plan(simulated(), made, create=True)

    assert [step.item["kind"] for step in planned.steps] == ["Namespace", "Service", "PersistentVolumeClaim"]


def test_a_submit_of_a_name_that_is_taken_is_refused_and_says_by_what() -> None:
    cluster = running()
    other = apply.plan(cluster, workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2"), create=True)
    same = apply.plan(cluster, workload(autoscaling=SCALING), create=True)
    kserve = apply.plan(cluster, workload(serving="kserve", autoscaling=SCALING), create=True)

    assert [planned.steps[-1].verdict for planned in (other, same, kserve)] == ["refused"] * 3
    assert "workload chat already exists, created at 20" in other.steps[-1].refusal
    assert "from another spec; choose another name, or change it with ebbtide apply" in other.steps[-1].refusal
    assert "from the same spec" in same.steps[-1].refusal
    assert "run ebbtide apply to complete an interrupted submit" in same.steps[-1].refusal


def test_of_two_hundred_submits_at_once_one_wins_and_the_others_are_told() -> None:
    cluster = simulated()
    made = [workload(autoscaling=SCALING, storage=CLAIM, image=f"ghcr.io/acme/chat:{number}") for number in range(200)]
    planned = [apply.plan(cluster, each, create=True) for each in made]

    def submit(number: int) -> str:
        try:
            apply.carry_out(cluster, planned[number], cluster.clock)
        except ExistsError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(40) as threads:
        said = list(threads.map(submit, range(200)))

    (winner,) = [number for number, text in enumerate(said) if not text]
    (service,) = cluster.list(KNATIVE).items
    assert at(service, "spec", "template", "spec", "containers", 0, "image") == f"ghcr.io/acme/chat:{winner}"
    assert all("another client created it first: workload chat already exists" in text for text in said if text)
    assert len(cluster.list(PVC).items) == 1
    assert len(cluster.list(REVISION).items) == 1


def test_a_busy_server_is_asked_again_and_a_dead_one_is_not() -> None:
    cluster = simulated()
    made = workload(autoscaling=SCALING)
    planned = apply.plan(cluster, made)
    times = [3]

    def busy(item: Any) -> None:
        del item
        if times[0]:
            times[0] -= 1
            raise BusyError("the webhook starts")

    cluster.fail = busy
    assert len(apply.carry_out(cluster, planned, cluster.clock)) == 2

    def dead(item: Any) -> None:
        raise UnreachableError(f"no answer for {item['kind']}")

    other = simulated()
    planned = apply.plan(other, made)
    other.fail = dead
    with pytest.raises(UnreachableError):
        apply.carry_out(other, planned, other.clock)


def test_a_server_that_stays_busy_is_given_up() -> None:
    cluster = simulated()
    planned = apply.plan(cluster, workload(autoscaling=SCALING))

    def busy(item: Any) -> None:
        del item
        raise BusyError("the webhook starts")

    cluster.fail = busy
    with pytest.raises(BusyError):
        apply.carry_out(cluster, planned, cluster.clock)


def test_a_workload_that_is_removed_while_waited_for_is_missing() -> None:
    cluster = running()
    cluster.delete(KNATIVE, "chat", "team-shop")

    with pytest.raises(MissingError):
        apply.wait(cluster, "chat", "team-shop", cluster.clock, 10)


# Scale.


def scaled(cluster: Simulated, **given: float) -> None:
    assert revisions.no_scale(live(cluster), given) == ""
    revisions.scale(cluster, live(cluster), given)
    cluster.clock.sleep(30)


def annotation(cluster: Simulated, name: str, key: str = keys.MIN_SCALE) -> Any:
    return at(cluster.get(REVISION, name, "team-shop"), "metadata", "annotations", key)


def test_a_scale_moves_replicas_and_makes_no_revision() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2, metricThreshold=20)
    now = status(live(cluster))

    assert str(now.replicas) == "2/2 (2..4)"
    assert str(now.metric) == "concurrency -/20"
    assert [row.name for row in now.revisions] == ["chat-00001"]
    assert now.by_hand == (
        "minReplicas 2 set by ebbtide scale (the spec has 1)",
        "metricThreshold 20 set by ebbtide scale (the spec has 10)",
    )


def broken(cluster: Simulated, kind: str) -> None:
    def fail(item: Any) -> None:
        if (kind == "Service") == (keys.SCALE in at(item, "metadata", "annotations", default={})):
            raise UnreachableError("the cluster does not answer")

    cluster.fail = fail


def test_a_scale_that_is_cut_short_is_noted_told_and_taken_back() -> None:
    cluster = running()
    broken(cluster, "Revision")
    with pytest.raises(CutShortError) as raised:
        revisions.scale(cluster, live(cluster), {"minReplicas": 2})
    cluster.fail = None

    assert raised.value.done == ("changed Service team-shop/chat",)
    assert annotation(cluster, "chat-00001") == "1"
    assert status(live(cluster)).by_hand == ("minReplicas 2 set by ebbtide scale (the spec has 1)",)
    scaled(cluster, minReplicas=2)
    assert annotation(cluster, "chat-00001") == "2"
    broken(cluster, "Service")
    with pytest.raises(CutShortError, match="already done: changed Revision team-shop/chat-00001"):
        revisions.reset_scale(cluster, live(cluster))
    cluster.fail = None
    assert status(live(cluster)).by_hand != ()
    revisions.reset_scale(cluster, live(cluster))
    assert (annotation(cluster, "chat-00001"), status(live(cluster)).by_hand) == ("1", ())


def test_a_scale_of_which_nothing_may_be_noted_or_set_writes_nothing() -> None:
    for plural in ("services", "revisions"):
        cluster = running()
        before = essence(cluster)
        cluster.denied = {("patch", plural)}
        with pytest.raises(ForbiddenError):
            revisions.scale(cluster, live(cluster), {"minReplicas": 2})
        assert (essence(cluster), annotation(cluster, "chat-00001")) == (before, "1")
    cluster = simulated(max_scale_limit=5)
    bring(cluster, workload(autoscaling=SCALING))
    before = essence(cluster)
    with pytest.raises(RefusedError, match="expected 1 <= 9 <= 5"):
        revisions.scale(cluster, live(cluster), {"maxReplicas": 9})
    assert (essence(cluster), annotation(cluster, "chat-00001", keys.MAX_SCALE)) == (before, "4")


@pytest.mark.parametrize("when", ["fail", "cut"])
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("reset", [False, True])
def test_killed_while_a_scale_is_set_or_reset_and_run_again_gives_the_same_end(
    number: int, when: str, reset: bool
) -> None:
    def work(cluster: Simulated) -> None:
        if reset:
            revisions.reset_scale(cluster, live(cluster))
        else:
            revisions.scale(cluster, live(cluster), {"minReplicas": 2})

    whole, cut = running(), running()
    for cluster in (whole, cut) if reset else ():
        scaled(cluster, minReplicas=3)
    work(whole)
    killed = killed_at(cut, number, when, lambda: work(cut))

    assert killed == (number < 2), "the record, and the revision"
    assert status(live(cut)).by_hand or annotation(cut, "chat-00001") == "1", "an override is recorded"
    work(cut)
    for cluster in (whole, cut):
        cluster.clock.sleep(60)
    assert essence(whole) == essence(cut)
    assert annotation(whole, "chat-00001") == annotation(cut, "chat-00001")


def test_a_scale_is_told_by_a_plan_and_is_no_difference() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2)
    planned = apply.plan(cluster, workload(autoscaling=SCALING))

    assert not planned.different
    assert planned.steps[-1].notes == (
        "manual override minReplicas 2 is kept (the spec has 1); remove it with ebbtide scale --reset",
    )


def test_the_next_rollout_takes_a_scale_over_and_later_applies_keep_it() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2)
    second = workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2")
    planned = apply.plan(cluster, second)
    assert "the new revision takes it over" in planned.steps[-1].notes[0]
    bring(cluster, second)

    assert annotation(cluster, "chat-00002") == "2"
    again = apply.plan(cluster, second)
    assert not again.different
    assert "remove it with ebbtide scale --reset" in again.steps[-1].notes[0]
    bring(cluster, workload(autoscaling=SCALING, image="ghcr.io/acme/chat:3"))
    assert annotation(cluster, "chat-00003") == "2"


def test_a_spec_that_has_changed_since_wins_and_the_record_goes() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2)
    third = workload(autoscaling={**SCALING, "minReplicas": 3})
    planned = apply.plan(cluster, third)
    assert planned.steps[-1].notes == ("manual override minReplicas 2 is dropped: the spec has changed to 3",)
    bring(cluster, third)

    assert annotation(cluster, "chat-00002") == "3"
    assert apply.scale_record(cluster.get(KNATIVE, "chat", "team-shop")) == {}
    assert not apply.plan(cluster, third).different


def test_a_spec_that_catches_up_with_a_scale_makes_no_revision_and_the_next_rollout_forgets_it() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2)
    caught_up = {**SCALING, "minReplicas": 2}
    planned = apply.plan(cluster, workload(autoscaling=caught_up))
    assert not planned.steps[-1].rollout
    assert planned.steps[-1].notes == ("minReplicas 2 is already live; the next rollout updates the template",)
    bring(cluster, workload(autoscaling=caught_up))

    assert annotation(cluster, "chat-00001") == "2"
    assert status(live(cluster)).by_hand == ()
    assert not apply.plan(cluster, workload(autoscaling=caught_up)).different
    bring(cluster, workload(autoscaling=caught_up, image="ghcr.io/acme/chat:2"))
    assert annotation(cluster, "chat-00002") == "2"
    assert apply.scale_record(cluster.get(KNATIVE, "chat", "team-shop")) == {}


def test_a_reset_puts_back_what_the_spec_says() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2, maxReplicas=9)
    revisions.reset_scale(cluster, live(cluster))
    cluster.clock.sleep(30)

    assert annotation(cluster, "chat-00001") == "1"
    assert annotation(cluster, "chat-00001", keys.MAX_SCALE) == "4"
    assert status(live(cluster)).by_hand == ()
    revisions.reset_scale(cluster, live(cluster))


def test_a_reset_after_a_rollout_that_took_the_scale_over_makes_no_revision() -> None:
    cluster = running()
    scaled(cluster, minReplicas=2)
    second = workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2")
    bring(cluster, second)
    revisions.reset_scale(cluster, live(cluster))

    assert annotation(cluster, "chat-00002") == "1"
    assert status(live(cluster)).by_hand == ()
    assert not apply.plan(cluster, second).different
    bring(cluster, workload(autoscaling=SCALING, image="ghcr.io/acme/chat:3"))
    assert annotation(cluster, "chat-00003") == "1"
    assert apply.scale_record(cluster.get(KNATIVE, "chat", "team-shop")) == {}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"minReplicas": 9}, "invalid bounds: min 9 and max 4"),
        ({"minReplicas": -1}, "invalid bounds: min -1 and max 4"),
        ({"maxReplicas": 0}, "invalid max 0"),
        ({"metricThreshold": 0}, "invalid target 0: must be greater than 0"),
        ({"minReplicas": 4}, ""),
        ({"metricThreshold": 0.5}, ""),
    ],
)
def test_a_scale_that_cannot_be_is_refused_with_its_reason(given: dict[str, float], why: str) -> None:
    found = revisions.no_scale(live(running()), given)

    assert why in found
    assert bool(found) == bool(why)


def test_a_target_without_a_metric_is_refused() -> None:
    cluster = simulated()
    bring(cluster, workload())

    assert "no scaling metric" in revisions.no_scale(live(cluster), {"metricThreshold": 3})


# Rollback.


def test_a_rollback_sends_all_traffic_back_until_the_next_apply() -> None:
    cluster = running()
    assert "no ready revision before" in revisions.no_rollback(live(cluster), None)
    second = workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2")
    bring(cluster, second)

    assert revisions.no_rollback(live(cluster), None) == ""
    assert revisions.rollback_target(live(cluster), None) == "chat-00001"
    revisions.pin(cluster, live(cluster), "chat-00001")
    cluster.clock.sleep(5)
    now = status(live(cluster))
    assert [(row.name, row.traffic_percent) for row in now.revisions] == [("chat-00002", 0), ("chat-00001", 100)]
    assert "pinned to chat-00001 until the next apply" in now.why

    planned = apply.plan(cluster, second)
    assert [change.path for change in planned.steps[-1].changes] == [("spec", "traffic")]
    assert not planned.steps[-1].rollout
    bring(cluster, second)
    assert [row.traffic_percent for row in status(live(cluster)).revisions] == [100, 0]
    assert not apply.plan(cluster, second).different


def test_a_rollback_to_what_is_not_there_or_not_ready_is_refused() -> None:
    cluster = running()
    cluster.broken_images.add("ghcr.io/acme/chat:2")
    bring(cluster, workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2"), limit=5)

    assert "revision chat-00009 of chat not found" in revisions.no_rollback(live(cluster), "chat-00009")
    assert "not ready" in revisions.no_rollback(live(cluster), "chat-00002")


# KServe.


def test_a_kserve_workload_runs_is_suspended_and_comes_back() -> None:
    cluster = simulated()
    made = workload(serving="kserve", autoscaling=SCALING)
    end = bring(cluster, made)
    assert end is not None
    assert (end.phase, end.kind) == ("Running", "InferenceService")
    assert not apply.plan(cluster, made).different

    cluster.patch(KSERVE, "chat", "team-shop", {"metadata": {"annotations": {keys.STOP: "true"}}})
    assert status(live(cluster)).phase == "Stopping"
    cluster.clock.sleep(10)
    assert status(live(cluster)).phase == "Stopped"
    assert not apply.plan(cluster, made).different

    cluster.patch(KSERVE, "chat", "team-shop", {"metadata": {"annotations": {keys.STOP: None}}})
    cluster.clock.sleep(20)
    assert status(live(cluster)).phase == "Running"


def test_a_scale_of_a_kserve_workload_is_kept_too() -> None:
    cluster = simulated()
    made = workload(serving="kserve", autoscaling=SCALING)
    bring(cluster, made)
    revisions.scale(cluster, live(cluster), {"minReplicas": 2, "metricThreshold": 20})
    cluster.clock.sleep(20)
    planned = apply.plan(cluster, made)

    assert not planned.different
    assert len(planned.steps[-1].notes) == 2
    assert str(status(live(cluster)).replicas) == "2/2 (2..4)"
    second = workload(serving="kserve", autoscaling=SCALING, image="ghcr.io/acme/chat:2")
    bring(cluster, second)
    assert at(cluster.get(KSERVE, "chat", "team-shop"), "spec", "predictor", "minReplicas") == 2


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
def test_which_changes_make_new_pods(kind: str, path: tuple[str, ...], *, pods: bool) -> None:
    mode = {"annotations": {keys.DEPLOYMENT_MODE: "Standard" if kind == "Standard" else "Knative"}}
    name = "InferenceService" if kind == "Standard" else kind
    item = {"apiVersion": "serving.knative.dev/v1", "kind": name, "metadata": mode}

    assert makes_pods(item, (Change(path, 1, 2),)) is pods


def test_changes_name_the_item_of_a_list_and_leave_out_what_the_server_sets() -> None:
    before = {
        "metadata": {"uid": "1", "annotations": {"serving.knative.dev/lastModifier": "a"}},
        "spec": {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "args": ["x"]},
        "status": {"a": 1},
    }
    after = {
        "metadata": {"uid": "2", "annotations": {"serving.knative.dev/lastModifier": "b"}},
        "spec": {"env": [{"name": "A", "value": "9"}, {"name": "C", "value": "3"}], "args": ["y"]},
    }

    assert [str(change) for change in changes(before, after)] == [
        'spec.env[A].value: "1" -> "9"',
        'spec.env[B]: - {"name": "B", "value": "2"}',
        'spec.env[C]: + {"name": "C", "value": "3"}',
        'spec.args: ["x"] -> ["y"]',
    ]


def test_another_order_of_named_items_is_a_change() -> None:
    rows = [{"name": "A"}, {"name": "B"}]

    assert [str(c) for c in changes({"spec": rows}, {"spec": rows[::-1]})] == ['spec: ["A", "B"] -> ["B", "A"]']


def test_a_namespace_that_is_there_is_kept_with_what_others_put_on_it() -> None:
    cluster = running()
    cluster.patch(NAMESPACE, "team-shop", "", {"metadata": {"labels": {"cost-centre": "7"}}})

    assert verdicts(apply.plan(cluster, workload(autoscaling=SCALING)))["Namespace"] == "keep"


def test_a_step_as_data_is_json() -> None:
    planned = apply.plan(running(), workload(autoscaling=SCALING, image="ghcr.io/acme/chat:2"))

    assert json.loads(json.dumps(serialize(planned)))["steps"][-1]["rollout"] is True
    assert isinstance(planned.steps[0], Step)


def test_pods_of_a_deleted_workload_end() -> None:
    cluster = running()
    cluster.delete(NAMESPACE, "team-shop")
    cluster.clock.sleep(10)

    assert cluster.list(POD).items == []


def test_a_pod_that_its_revision_gave_up_while_it_was_refused_is_not_tried_again() -> None:
    """The rejected pod fails the revision, which is then retired because another revision has the traffic."""
    cluster = simulated(missing_images={"ghcr.io/acme/chat:1"})
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-shop"}})
    for image in ("ghcr.io/acme/chat:1", "ghcr.io/acme/chat:2"):
        template = {"spec": {"containers": [{"name": "user-container", "image": image}]}}
        metadata = {"name": "chat", "namespace": "team-shop"}
        service = {"apiVersion": KNATIVE.api_version, "kind": "Service", "metadata": metadata}
        cluster.apply({**service, "spec": {"template": template}})
        cluster.clock.sleep(700)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": "team-shop"}}
    cluster.apply({**quota, "spec": {"hard": {"pods": "0"}}})
    cluster.scale("team-shop", "chat-00001", 1)
    cluster.clock.sleep(20)
    cluster.settle()

    assert not cluster.pods.refused
    assert not cluster.pods.attempts
