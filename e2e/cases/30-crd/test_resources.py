"""Custom resources: apply, edit, refuse, forbid, delete, and kill the controller after each write.

The controller runs from the command line, but with a token of its service account, so it has exactly the permissions that
kustomize/crd gives it; the project has those of kustomize/crd-project.
"""

import json
import re
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import yaml

from e2e.controller import start_controller
from e2e.health import argo_health, flux_health
from e2e.inferences import KUBECONFIG, PROFILE, controller, install
from e2e.kubectl import KubectlError
from e2e.load import in_flight
from e2e.paths import HERE
from e2e.stage import Stage, condition
from e2e.watched import watched

KILLS = 8
"""Writes of two resources that are applied at a time: two statuses and a service each, and those of later phases."""
SETTLED = 90
"""Seconds: a cold start, on a busy machine."""
REPLICAS = 2
"""Replicas of a workload that is updated one at a time; each takes half a minute."""
ROLLOUT = 300
"""Seconds that this may take."""
RETRIED = 60
"""Seconds until a failed apply is repeated."""


@pytest.fixture
def project(stage: Stage) -> Stage:
    """Install the definitions, the roles and the project's account; all of it is removed with the case."""
    install(stage)
    return stage


def test_a_resource_from_apply_to_delete(project: Stage) -> None:
    stage = project
    with controller(stage):
        start = time.monotonic()
        documented(stage, "apply")
        documented(stage, "wait")
        ready = time.monotonic() - start
        assert health(stage) == ("Healthy", "Current")
        assert stage.ask(stage.host("chat")).status_code == 200
        table = documented(stage, "get").splitlines()
        assert table[0].split() == ["NAME", "STATUS", "PROJECT", "GPUS", "PODS", "URL", "AGE"]
        assert table[1].split()[:2] == ["chat", "Running"]
        assert "Observed Generation" in documented(stage, "describe")

        # An edit is one revision, and a field that is gone disappears.
        start = time.monotonic()
        apply(stage, edited(stage))
        wait_ready(stage)
        edit = time.monotonic() - start
        assert generation(stage) == 2
        apply(stage, spec(stage))
        wait_ready(stage)
        assert "EDITED" not in json.dumps(stage.get("ksvc", "chat")["spec"])

        refuse(stage)
        forbid(stage)
        degrade(stage)
        documented(stage, "delete")
        deleted = stage.until("its objects are gone", lambda: not left(stage), SETTLED, seen=lambda: left(stage))
    stage.report(ready=ready, edit=edit, deleted=deleted)


def test_killed_after_each_write(project: Stage) -> None:
    """One controller after the other is killed by SIGKILL, each one write later than the last, and a next one finishes."""
    stage = project
    idle = {"initialReplicas": 0, "minReplicas": 0, "maxReplicas": 1}
    with controller(stage):
        apply(stage, spec(stage, autoscaling=idle))
        # Nothing has seen it yet, or the controller works on it.
        assert health(stage) == ("Progressing", "InProgress")
        wait_ready(stage)
    finished: list[float] = []
    for number in range(1, KILLS + 1):
        # An edit and a new resource at a time, so that every write of both is the last one once.
        variable = [{"name": "EDIT", "value": str(number)}]
        apply(stage, spec(stage, autoscaling=idle, environmentVariables=variable))
        unseen = health(stage)
        new = spec(stage, autoscaling=idle)
        new["metadata"]["name"] = f"new-{number}"
        apply(stage, new)
        if not killed(stage, str(number), partial(all_ready, stage, ["chat", f"new-{number}"])):
            break
        assert unseen == ("Progressing", "InProgress")
        with controller(stage, f"after-{number}"):
            start = time.monotonic()
            wait_ready(stage)
            wait_ready(stage, f"new-{number}")
            finished.append(time.monotonic() - start)
        edited_once(stage, number)
    # The status before, the service and the status after, of both.
    assert len(finished) >= 6, finished
    stage.report(kills=len(finished), finished=str([round(seconds, 1) for seconds in finished]))


def test_a_rollout_killed_after_each_write(project: Stage) -> None:
    """Each controller is killed one write later than the last: all replicas but one stay ready, and no request is lost."""
    stage = project
    fixed = {"autoscaling": {"minReplicas": REPLICAS, "maxReplicas": REPLICAS}, "rollout": {"surge": 0}}
    with controller(stage):
        apply(stage, spec(stage, **fixed))
        wait_ready(stage)
    stage.until("all replicas are ready", lambda: len(stage.pods("chat", ready=True)) == REPLICAS)
    load = in_flight(stage.provider.gateway(), stage.host("chat"), "/?sleep=100ms", requests=3, seconds=ROLLOUT)
    with watched(stage, "chat") as seen, load as answers:
        start = time.monotonic()
        apply(stage, edited(stage, **fixed))
        writes: list[list[str]] = []
        # A write of the status changes no workload, and another test kills the controller after each of them.
        while more := killed(stage, f"{len(writes) + 1},Inference", partial(all_ready, stage, ["chat"]), ROLLOUT):
            writes.append(more)
        took = time.monotonic() - start
    stage.report(rollout=took, kills=len(writes), answered=answers.answered, lost=answers.lost, fewest=min(seen.ready))
    stage.report(drains=str(seen.drains))
    assert answers.lost == 0, answers.outcomes
    assert min(seen.ready) >= REPLICAS - 1, "\n".join([*map(str, writes), *seen.changes])
    assert len(writes) > REPLICAS, writes
    for revision in stage.listed("revisions"):
        assert "autoscaling.knative.dev/ebbtide-rollout" not in revision["metadata"]["annotations"], writes
    pods = stage.pods("chat", ready=True)
    assert {pod["metadata"]["labels"]["serving.knative.dev/revision"] for pod in pods} == {"chat-00002"}
    assert len(pods) == REPLICAS


def killed(stage: Stage, when: str, finished: Callable[[], bool], limit: float = SETTLED) -> list[str]:
    """Run a controller that is killed after a write; return its writes, or none if it finishes before."""
    log = stage.written("killed.log", "")
    command = ("e2e.killed", when, "controller")
    release(stage)
    process = start_controller(
        stage, PROFILE, "--inferences", name=log.stem, kubeconfig=log.with_name(KUBECONFIG), command=command
    )
    try:
        stage.until("it ends", lambda: process.poll() is not None or finished(), limit, seen=log.read_text)
        assert process.poll() in {None, -signal.SIGKILL}, log.read_text()
        writes = [line for line in log.read_text().splitlines() if line.startswith("write ")]
        return writes if process.poll() else []
    finally:
        process.kill()
        process.wait()
        release(stage)


def release(stage: Stage) -> None:
    """Delete the Lease, so that the next controller does not wait for its end; 28-floor measures that time."""
    stage.kubectl.run("delete", "lease", "--all", "-n", stage.namespace)


def edited_once(stage: Stage, number: int) -> None:
    """The live service has the last edit, and each edit has made one revision."""
    (container,) = stage.get("ksvc", "chat")["spec"]["template"]["spec"]["containers"]
    assert {"name": "EDIT", "value": str(number)} in container["env"]
    names = sorted(row["metadata"]["name"] for row in stage.listed("revisions"))
    edits = [f"chat-{each:05}" for each in range(1, number + 2)]
    assert names == sorted([*edits, *(f"new-{each}-00001" for each in range(1, number + 1))])


def refuse(stage: Stage) -> None:
    """A refused spec changes nothing and says why, and commands leave a workload of a resource alone."""
    before = live(stage)
    apply(stage, spec(stage, autoscalling={"minReplicas": 0}))
    stage.until("it is refused", lambda: condition(resource(stage), "Stalled") == "True", SETTLED, seen=seen(stage))
    (problem,) = resource(stage)["status"]["problems"]
    assert (problem["code"], problem["field"]) == ("SPEC001", "spec.autoscalling")
    assert health(stage) == ("Degraded", "Failed")
    # Valid field by field, so that only the rules between fields refuse it.
    apply(
        stage, edited(stage) | {"spec": edited(stage)["spec"] | {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}}
    )
    stage.until("it is refused too", lambda: "maxReplicas" in reason(stage), SETTLED, seen=seen(stage))
    assert live(stage) == before
    assert stage.ask(stage.host("chat")).status_code == 200
    with pytest.raises(KubectlError, match="minReplicas"):
        apply(stage, spec(stage, autoscaling={"minReplicas": "many"}))
    apply(stage, spec(stage))
    wait_ready(stage)
    cli = stage.ebbtide(
        ["apply", "-", *stage.profile(PROFILE), cluster(stage), "-y", "--wait=0"], json.dumps(edited(stage))
    )
    assert cli.returncode == 3, cli.stdout + cli.stderr
    assert "RES063" in cli.stdout, cli.stdout
    described = stage.ebbtide(["describe", "chat", "-n", stage.namespace, cluster(stage)])
    assert re.search(r"owner +Inference chat", described.stdout), described.stdout + described.stderr


def forbid(stage: Stage) -> None:
    """Without permissions in the namespace, a condition says so; with them, a later attempt succeeds."""
    before, number = live(stage), generation(stage)
    stage.kubectl.run("delete", "rolebinding", "ebbtide", "-n", stage.namespace)
    apply(stage, edited(stage))
    stage.until("it is forbidden", lambda: "RES064" in reason(stage), SETTLED, seen=seen(stage))
    assert live(stage) == before
    assert health(stage) == ("Degraded", "Failed")
    bind(stage)
    stage.until("it is applied", lambda: generation(stage) > number, RETRIED, seen=seen(stage))
    wait_ready(stage)


def degrade(stage: Stage) -> None:
    """A revision that cannot start is reported, and the former one serves."""
    apply(stage, spec(stage, image="ebbtide.local/e2e/missing:v1"))
    stage.until("Argo CD reports it", lambda: health(stage)[0] == "Degraded", 2 * SETTLED, seen=seen(stage))
    assert health(stage)[1] == "InProgress", "kstatus has no other word for it, since the former revision serves"
    assert stage.ask(stage.host("chat")).status_code == 200


def documented(stage: Stage, verb: str) -> str:
    """Run the page's command with this verb on the case's resource, and return its output."""
    text = (HERE.parent / "docs" / "gitops.md").read_text().partition("### Deploy a workload")[2]
    line = next(line for line in text.splitlines() if line.startswith(f"kubectl {verb} "))
    file = stage.written("chat.yaml", yaml.safe_dump(spec(stage)))
    words = line.replace("runai-team-a", stage.namespace).replace("chat.yaml", str(file)).split()
    return stage.kubectl.run(*words[1:], *(["--server-side", "--field-manager=user"] if verb == "apply" else []))


def spec(stage: Stage, **fields: Any) -> dict[str, Any]:
    """Return the case's resource with other fields."""
    document: dict[str, Any] = yaml.safe_load((stage.folder / "spec.yaml").read_text())
    document["metadata"]["namespace"] = stage.namespace
    document["spec"] |= fields
    return document


def edited(stage: Stage, **fields: Any) -> dict[str, Any]:
    """Return the case's resource with a variable and other fields."""
    return spec(stage, environmentVariables=[{"name": "EDITED", "value": "yes"}], **fields)


def cluster(stage: Stage) -> str:
    """Return the option that names the cluster."""
    return f"--kubeconfig={stage.kubectl.kubeconfig}"


def apply(stage: Stage, document: Mapping[str, Any]) -> None:
    """Apply a resource as a user does: a field that is missing in the document disappears."""
    stage.kubectl.run("apply", "--server-side", "--field-manager=user", "-f", "-", stdin=json.dumps(document))


def wait_ready(stage: Stage, name: str = "chat") -> None:
    """Wait as a user does: kubectl ignores a condition of an earlier generation."""
    stage.kubectl.run(
        "wait", "--for=condition=Ready", f"inference/{name}", "-n", stage.namespace, f"--timeout={2 * SETTLED}s"
    )


def resource(stage: Stage) -> Any:
    """Return the resource as it is now."""
    return stage.kubectl.get("inference", "chat", "-n", stage.namespace)


def all_ready(stage: Stage, names: list[str]) -> bool:
    """Return whether resources are ready, as of their newest generations."""
    items = [stage.kubectl.get("inference", name, "-n", stage.namespace) for name in names]
    seen = all(item["status"].get("observedGeneration") == item["metadata"]["generation"] for item in items)
    return seen and all(condition(item, "Ready") == "True" for item in items)


def health(stage: Stage) -> tuple[str, str]:
    """Return how Argo CD and Flux judge the live resource."""
    item = resource(stage)
    return argo_health(item), flux_health(item)


def live(stage: Stage) -> dict[str, object]:
    """Return the specs of the workload's service and revisions, by name."""
    items = [item for kind in ("ksvc", "revisions") for item in stage.listed(kind)]
    return {item["metadata"]["name"]: item["spec"] for item in items}


def left(stage: Stage) -> list[str]:
    """Return the objects of the workload that are there, without those that terminate."""
    items = [
        item for kind in ("ksvc", "revisions", "deployments", "kingress", "hpa", "pods") for item in stage.listed(kind)
    ]
    return [item["metadata"]["name"] for item in items if "deletionTimestamp" not in item["metadata"]]


def reason(stage: Stage) -> str:
    """Return the reason in the status."""
    return str(resource(stage)["status"].get("reason"))


def seen(stage: Stage) -> Any:
    """Return a function that reads the status, for messages."""
    return lambda: resource(stage).get("status")


def generation(stage: Stage) -> int:
    """Return how often the service's spec was changed."""
    return int(stage.get("ksvc", "chat")["metadata"]["generation"])


def bind(stage: Stage) -> None:
    """Give the project's account its permissions again."""
    account = f"--serviceaccount={stage.namespace}:ebbtide"
    stage.kubectl.run(
        "create", "rolebinding", "ebbtide", "--clusterrole=ebbtide-project-member", account, "-n", stage.namespace
    )
