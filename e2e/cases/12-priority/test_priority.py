"""Preemption among the four shares of the node's GPU, under the stock scheduler."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.kubectl import Manifest
from e2e.specs import IMAGE, QUARTER, make_spec
from e2e.stage import Stage, condition

SHARE = "nvidia.com/gpu.shared"
SAME_AS_BUILD = "e2e-no-more-than-build"
"""A class of the cluster's own: build's value, which as any class's cannot be changed."""


def test_training_gives_way(stage: Stage) -> None:
    """Inference evicts train before build-preemptible, and of those who wait it comes first, however long they did."""
    place(stage, train=2, build_preemptible=2)
    stage.deploy(make_spec("first", QUARTER))
    took = stage.until("the first server runs", lambda: running(stage, "first"))
    assert len(holding(stage, "build-preemptible")) == 2
    assert len(holding(stage, "train")) == 1
    stage.deploy(make_spec("second", QUARTER))
    stage.until("the second server runs", lambda: running(stage, "second"))
    assert len(holding(stage, "build-preemptible")) == 2
    assert not holding(stage, "train")
    evicted = stage.until("who was evicted reads so", lambda: len(preempted(stage, "train")) == 2)
    assert not preempted(stage, "build-preemptible")

    stage.kubectl.apply([pod(stage, "train-waits", "train")])
    stage.until("a training waits", lambda: waits(stage.get("pod", "train-waits")))
    stage.deploy(make_spec("third", QUARTER))
    stage.until("the third server runs", lambda: running(stage, "third"))
    assert len(holding(stage, "build-preemptible")) == 1, "one build had to go, and training waits on"
    stage.holds_for("the training waits", lambda: waits(stage.get("pod", "train-waits")), 3)
    stage.report(seconds_to_run_by_eviction=took, events_after=evicted)


def test_who_waits_longer_does_not_go_first(stage: Stage) -> None:
    """When a share is free, a server that waits has it in the end, though a training has waited longer.

    The stock scheduler may begin with the training, whose turn comes by its back-off, and then evicts it for the server.
    """
    place(stage, inference=4)
    stage.kubectl.apply([pod(stage, "train-waits", "train")])
    stage.until("a training waits", lambda: waits(stage.get("pod", "train-waits")))
    stage.deploy(make_spec("late", QUARTER))
    stage.until("the server waits too", lambda: stage.pods("late") and waits(stage.pods("late")[0]))
    stage.kubectl.run("delete", "pod", "inference-0", "-n", stage.namespace)
    stage.report(seconds_to_run=stage.until("the server runs", lambda: running(stage, "late")))
    assert not holding(stage, "train")
    assert len(holding(stage, "inference")) == 3, "equals do not evict each other"
    stage.report(training_began_first=bool(preempted(stage, "train-waits")))


def test_builds_give_way_unless_equal(stage: Stage, class_like_build: str) -> None:
    """The stock scheduler evicts builds too, as the warning says; with a class of the same value it does not."""
    place(stage, build=4)
    equal = {"scheduling": {"classes": {class_like_build: 100}}}
    friendly = make_spec("friendly", QUARTER, priorityClass=class_like_build)
    rendered = stage.render(friendly, profile=equal)
    assert "PRI007" not in rendered.problems
    stage.apply(rendered)
    stage.until("a server of build's rank waits", lambda: stage.pods("friendly") and waits(stage.pods("friendly")[0]))
    stage.holds_for("no build is evicted", lambda: len(holding(stage, "build")) == 4, 5)
    assert not preempted(stage, "build")
    stage.kubectl.run("delete", "ksvc", "friendly", "-n", stage.namespace)

    named = make_spec("usual", QUARTER, priorityClass="inference")
    usual = stage.render(named)
    assert "PRI007" in usual.problems
    assert "also evicts build (100)" in usual.problems
    stage.apply(usual)
    stage.until("a server of the usual class runs", lambda: running(stage, "usual"))
    assert len(holding(stage, "build")) == 3
    stage.until("the build that was evicted reads so", lambda: len(preempted(stage, "build")) == 1)

    same = stage.check(named, profile={"scheduling": {"classes": {"build": 125}}})
    assert "PRI006" in same
    assert "PRI007" not in same


def test_preemptible_inference(stage: Stage) -> None:
    """A preemptible server evicts training, yields to one that is not preemptible, and is restored automatically."""
    place(stage, inference=3, train=1)
    stage.deploy(make_spec("yielding", QUARTER, preemptibility="preemptible"))
    stage.until("the preemptible server runs", lambda: running(stage, "yielding"))
    assert not holding(stage, "train")

    stage.deploy(make_spec("firm", QUARTER))
    stage.until("the other server runs", lambda: running(stage, "firm"))
    (pending,) = stage.pods("yielding")
    assert waits(pending)
    assert pending["spec"]["priority"] == 90
    stage.until("who was evicted reads so", lambda: preempted(stage, "yielding"))
    stage.report(evicted_service_says=condition(stage.get("ksvc", "yielding"), "Ready"))

    stage.kubectl.run("delete", "ksvc", "firm", "-n", stage.namespace)
    stage.report(seconds_to_come_back=stage.until("it is back", lambda: running(stage, "yielding")))


@pytest.fixture
def class_like_build(stage: Stage) -> Iterator[str]:
    """Make a class with build's value, and remove it after."""
    stage.kubectl.apply(
        [
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": SAME_AS_BUILD},
                "value": 100,
            }
        ]
    )
    yield SAME_AS_BUILD
    stage.kubectl.run("delete", "priorityclass", SAME_AS_BUILD, "--ignore-not-found")


def pod(stage: Stage, name: str, priority: str) -> Manifest:
    """Return a pod from outside Ebbtide, with one share of the GPU, that ends immediately on SIGTERM."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": stage.namespace, "labels": {"holds": priority}},
        "spec": {
            "priorityClassName": priority,
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "work",
                    "image": IMAGE,
                    "resources": {"limits": {SHARE: "1"}, "requests": {"cpu": "10m", "memory": "16Mi"}},
                }
            ],
        },
    }


def place(stage: Stage, **counts: int) -> None:
    """Fill the shares with the given number of pods per class, in the namespace of the case's project."""
    (namespace,) = (item for item in stage.render(make_spec("any", QUARTER)).manifests if item["kind"] == "Namespace")
    stage.apply([namespace])
    wanted = {priority.replace("_", "-"): count for priority, count in counts.items()}
    stage.apply(
        [pod(stage, f"{priority}-{number}", priority) for priority, count in wanted.items() for number in range(count)]
    )
    for priority, count in wanted.items():
        stage.until(f"{count} pods of class {priority} run", lambda p=priority, c=count: len(holding(stage, p)) == c)  # type: ignore[misc]


def holding(stage: Stage, priority: str) -> list[str]:
    """Return the running pods of this class that `place` created and that were not evicted."""
    found = stage.listed("pods", f"holds={priority}")
    return [
        item["metadata"]["name"]
        for item in found
        if condition(item, "Ready") == "True" and "deletionTimestamp" not in item["metadata"]
    ]


def running(stage: Stage, service: str) -> bool:
    return len(stage.pods(service, ready=True)) == 1


def waits(item: Any) -> bool:
    """Return whether the scheduler tried the pod and found no node for it."""
    return condition(item, "PodScheduled") == "False"


def preempted(stage: Stage, name: str) -> list[str]:
    """Return the messages about evictions of pods whose names start with this prefix."""
    return [
        event["message"]
        for event in stage.listed("events")
        if event.get("reason") == "Preempted" and event["involvedObject"]["name"].startswith(name)
    ]
