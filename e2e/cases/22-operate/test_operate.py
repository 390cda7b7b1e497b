"""The commands that say what a cluster and its workloads are about: doctor, why, list, project, submit; as users run them."""

import json
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from e2e.accounts import write_kubeconfig
from e2e.load import in_flight
from e2e.paths import CLUSTERS
from e2e.stage import PROFILE, Stage

if TYPE_CHECKING:
    from subprocess import CompletedProcess

NAME = "chat"
TARGET = 5 * 0.7
FEATURES = "config-features"
FLAG = "kubernetes.podspec-priorityclassname"
AT_ONCE = 200


@pytest.mark.alone
def test_doctor(stage: Stage) -> None:
    """Doctor finds nothing wrong with the suite's profile; it finds a flag that is off, and is content once the flag is on."""
    healthy = ebbtide(stage, "doctor")
    assert "no problems found" in healthy.stdout, healthy.stdout + healthy.stderr
    assert healthy.returncode == 0

    spec = CLUSTERS / "operate-spec.yaml"
    spec.write_text(stage.spec("spec.yaml"))
    # Without the namespace the webhook has nothing to say yet.
    assert ebbtide(stage, "project", "create", stage.project, "-y").returncode == 0
    set_flag(stage, "disabled")
    try:
        told = ebbtide(stage, "doctor", str(spec), "-o", "json")
        (finding,) = json.loads(told.stdout)
        assert told.returncode == 1
        assert (finding["code"], finding["severity"]) == ("DOC005", "error")
        assert finding["what"].endswith(f", which {NAME} needs")
        stage.until("the webhook rejects it", lambda: "priorityClassName" in refused(stage, spec))

        repaired = ebbtide(stage, "doctor", str(spec), "--fix", "-y")
        assert repaired.returncode == 0, repaired.stderr
        assert "no problems found" in repaired.stdout
        found = stage.kubectl.get("configmap", FEATURES, "-n", "knative-serving", "--show-managed-fields")
        assert found["data"][FLAG] == "enabled"
        assert {row["manager"] for row in found["metadata"]["managedFields"]} >= {"ebbtide-live"}
    finally:
        set_flag(stage, "enabled")
    stage.until("the webhook takes it again", lambda: not refused(stage, spec))


@pytest.mark.alone
def test_profile_of_the_cluster(stage: Stage) -> None:
    """Doctor writes a profile of the cluster and finds no difference between the two; specs translate with it.

    Other cases turn on all flags of Knative, or stop a controller, which doctor reports.
    """
    file = CLUSTERS / "operate-profile.yaml"
    done = ebbtide(stage, "doctor", "--write-profile", str(file), profile=None)
    assert done.returncode == 0, done.stderr
    again = ebbtide(stage, "doctor", profile=file)
    assert "no problems found" in again.stdout, again.stdout + again.stderr
    seen, said = (yaml.safe_load(path.read_text())["spec"] for path in (file, PROFILE))
    for part in ("features", "autoscaler", "defaults", "deployment", "observability"):
        assert seen["knative"][part] == said["knative"][part], part
    assert seen["kserve"]["annotationDisallowList"] == said["kserve"]["annotationDisallowList"]
    assert {name: seen["scheduling"]["classes"].get(name) for name in said["scheduling"]["classes"]} == said[
        "scheduling"
    ]["classes"]
    assert ebbtide(stage, "check", "-", profile=file, stdin=stage.spec("spec.yaml")).returncode == 0
    stage.report(pools=[pool["name"] for pool in seen["nodePools"]])


def test_why(stage: Stage) -> None:
    """Under load `why` repeats the autoscaler's calculation with the same result; `list` shows the load."""
    stage.deploy()
    stage.ready(NAME)
    rest = why(stage)
    assert rest["replicas"]["wanted"] == 1

    requests = 9
    wanted = math.ceil(requests / TARGET)
    with in_flight(stage.provider.gateway(), stage.host(NAME), "/?sleep=2s", requests=requests) as load:
        took = stage.until("three replicas are ready", lambda: len(stage.pods(NAME, ready=True)) == wanted)
        counted = stage.until(
            "why has counted the load as it is, and decides as the autoscaler did",
            lambda: agrees(stage, requests, wanted),
            seen=lambda: why(stage),
        )
        told = ebbtide(stage, "why", NAME, "-n", stage.namespace).stdout
        listed = json.loads(ebbtide(stage, "list", "-n", stage.namespace, "-o", "json").stdout)
    assert load.lost == 0, load.outcomes
    assert "/ (5 \N{MULTIPLICATION SIGN} 70%) = " in told
    assert f"→ {wanted}   over 20 s" in told
    assert math.isclose(float(listed[0]["metric"]["now"]), requests / wanted, rel_tol=0.35), listed[0]["metric"]
    stage.report(seconds_to_three=took, seconds_until_counted=counted, told=told.splitlines()[1])


def test_project(stage: Stage) -> None:
    """A project is made with a quota and a member, who can do with his own token what the commands do, and no more."""
    account = f"serviceaccount:{stage.namespace}:member"
    made = ebbtide(
        stage, "project", "create", stage.project, "--cpu", "2", "--memory", "4Gi", "--member", account, "-y"
    )
    assert made.returncode == 0, made.stderr
    rows = json.loads(ebbtide(stage, "project", "list", "-o", "json").stdout)
    row = next(row for row in rows if row["name"] == stage.project)
    assert row["members"] == [account]
    assert {share["resource"]: share["hard"] for share in row["quota"]} == {"cpu": "2", "memory": "4Gi"}

    mine = write_kubeconfig(stage, "member")
    spec = CLUSTERS / "operate-member.yaml"
    spec.write_text(stage.spec("spec.yaml"))
    applied = ebbtide(stage, "apply", str(spec), "-y", "--wait", "180s", kubeconfig=mine)
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert "changing it is forbidden" in applied.stdout
    for words in (
        ("list", "-n", stage.namespace),
        ("describe", NAME, "-n", stage.namespace),
        ("why", NAME, "-n", stage.namespace),
        ("logs", NAME, "-n", stage.namespace, "--tail", "1"),
        ("scale", NAME, "-n", stage.namespace, "--min", "2", "--wait", "120s"),
        ("diff", str(spec)),
    ):
        done = ebbtide(stage, *words, kubeconfig=mine)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    elsewhere = ebbtide(stage, "list", "-n", "knative-serving", kubeconfig=mine)
    assert elsewhere.returncode == 3
    assert "forbidden" in elsewhere.stderr

    kept = ebbtide(stage, "project", "delete", stage.project, "-y")
    assert kept.returncode == 1
    assert f"still has 1 workload: {NAME}" in kept.stderr
    assert (
        ebbtide(stage, "delete", NAME, "-n", stage.namespace, "-y", "--wait", "180s", kubeconfig=mine).returncode == 0
    )
    assert ebbtide(stage, "project", "delete", stage.project, "-y").returncode == 0
    mine.unlink()


def test_many_submit_one_name(stage: Stage) -> None:
    """Of two hundred concurrent submissions of one name, one succeeds; every other is rejected and changes nothing."""
    from ebbtide.cli.base.connection import SystemClock  # noqa: PLC0415 - as above
    from ebbtide.cluster.client.kubernetes import KubernetesCluster  # noqa: PLC0415 - as above
    from ebbtide.cluster.client.protocol import ExistsError  # noqa: PLC0415 - as above
    from ebbtide.cluster.write import apply  # noqa: PLC0415 - the other cases know the commands alone

    made = ebbtide(stage, "project", "create", stage.project, "-y")
    assert made.returncode == 0, made.stderr
    cluster = KubernetesCluster.from_kubeconfig(str(stage.kubectl.kubeconfig))
    planned = [apply.diff_workload(cluster, workload(stage, number), create=True) for number in range(AT_ONCE)]

    def submit(number: int) -> str:
        try:
            apply.write_workload(cluster, planned[number], SystemClock())
        except ExistsError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(40) as threads:
        said = list(threads.map(submit, range(AT_ONCE)))
    (winner,) = [number for number, text in enumerate(said) if not text]
    first = f"another client created it first: workload {NAME} already exists"
    assert all(text.startswith(first) for text in said if text)
    container = stage.get("ksvc", NAME)["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "NUMBER", "value": str(winner)} in container["env"]
    stage.ready(NAME)
    assert len(stage.listed("revisions", f"serving.knative.dev/service={NAME}")) == 1
    stage.report(told=Counter(bool(text) for text in said)[True])

    words = ("submit", NAME, "-p", stage.project, "-i", "ebbtide.local/e2e/load:v1", "-y")
    late = ebbtide(stage, *words)
    assert late.returncode == 3
    assert f"workload {NAME} already exists" in late.stdout


# The command.


def ebbtide(
    stage: Stage,
    *words: str,
    profile: Path | None = PROFILE,
    kubeconfig: Path | None = None,
    stdin: str = "",
) -> "CompletedProcess[str]":
    """Run the command on the suite's cluster, for its profile, with the administrator's account or another one."""
    command, *rest = words
    reached = [] if command == "check" else ["--kubeconfig", str(kubeconfig or stage.kubectl.kubeconfig)]
    known = [] if profile is None else ["--profile", str(profile)]
    return stage.ebbtide([command, *rest, *known, *reached], stdin)


def why(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ebbtide(stage, "why", NAME, "-n", stage.namespace, "-o", "json").stdout)
    return found


def agrees(stage: Stage, requests: int, wanted: int) -> bool:
    """Return whether the counts match the load, the decision follows from them, and the PodAutoscaler agrees."""
    found = why(stage)
    stable = found["numbers"]["stable"]
    (scaler,) = stage.listed("podautoscalers")
    return (
        stable is not None
        # A client is between two requests for a part of the time, the longer the busier its machine is.
        and 0.8 * requests < stable <= requests + 0.5
        and found["numbers"]["desired"] == wanted == scaler["status"]["desiredScale"] == found["replicas"]["wanted"]
    )


def refused(stage: Stage, spec: Path) -> str:
    """Return what the cluster says against a spec; nothing where it takes it."""
    done = ebbtide(stage, "apply", str(spec), "--dry-run")
    return done.stdout if done.returncode else ""


def set_flag(stage: Stage, value: str) -> None:
    patch = json.dumps({"data": {FLAG: value}})
    stage.kubectl.run("patch", "configmap", FEATURES, "-n", "knative-serving", "--type=merge", "-p", patch)


def workload(stage: Stage, number: int) -> Any:
    """Return the case's spec as a workload whose container knows its number."""
    from ebbtide.cluster.write.apply import Workload  # noqa: PLC0415 - as in the case
    from ebbtide.core import documents  # noqa: PLC0415 - as in the case
    from ebbtide.core.documents import profiles  # noqa: PLC0415 - as in the case
    from ebbtide.core.translation.translate import translate  # noqa: PLC0415 - as in the case

    profile, problems = profiles.load_profile(str(PROFILE))
    assert profile is not None, problems
    told = yaml.safe_load(stage.spec("spec.yaml"))
    told["spec"]["environmentVariables"] = [{"name": "NUMBER", "value": str(number)}]
    loaded = documents.load_document(told, profile)
    assert loaded.inference is not None, loaded.problems
    made = translate(loaded.inference, profile, loaded.canonical)
    assert made.plan is not None, made.problems
    return Workload(made.objects, made.plan)
