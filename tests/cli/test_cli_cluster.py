"""Commands for a live cluster, tested on the simulated one: output, exit codes and confirmation prompts."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from answering import Answer, answering, fine
from ebbtide.cli.base import calls, connection
from ebbtide.cli.operate import describe
from ebbtide.cluster.client import pod
from ebbtide.cluster.client.protocol import (
    DEPLOYMENT,
    HPA,
    KNATIVE,
    KSERVE,
    NAMESPACE,
    NODE,
    POD,
    REVISION,
    SERVICE,
    ClusterError,
    ConflictError,
    UnreachableError,
    explain_forbidden,
)
from ebbtide.cluster.read.inventory import find_workload
from ebbtide.core import manifests
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.documents import profiles
from ebbtide.sandbox.state import PodLife
from ebbtide.sandbox.store import make_bare
from live_cluster import PROFILE, SCALING, connected, simulated, spec, text

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ebbtide.sandbox.simulated import Simulated


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Simulated:
    return connected(simulated(), monkeypatch)


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    file = tmp_path / "profile.yaml"
    file.write_text(manifests.write_document(PROFILE))
    return file


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    return written(tmp_path / "chat.yaml", autoscaling=SCALING)


def written(file: Path, **fields: Any) -> Path:
    file.write_text(text(**fields))
    return file


@pytest.fixture(autouse=True)
def _names_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every host name resolve, so that no test asks a name server."""
    monkeypatch.setattr(calls, "resolves", lambda _: True)


@pytest.fixture
def applied(cluster: Simulated, run: Any, profile: Path, chat: Path) -> Simulated:
    assert run("apply", "-y", "-q", "--profile", profile, chat).code == 0
    return cluster


PLACE = ("-p", "shop")


# the profile


OBSERVED = "Profile: this cluster as observed. To use another, set --profile\n"


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("command", [("apply", "-y"), ("diff",), ("doctor",)])
def test_without_a_profile_a_command_uses_that_of_the_cluster(run: Any, chat: Path, command: tuple[str, ...]) -> None:
    assert OBSERVED in run(*command, chat).err


def test_a_submit_without_a_profile_uses_that_of_the_cluster(cluster: Simulated, run: Any) -> None:
    ran = run("submit", "embed", "-p", "shop", "-i", "ghcr.io/acme/embed:2", "-y", "--wait", "0")

    assert ran.code == 0
    assert OBSERVED in ran.err
    assert cluster.list(KNATIVE).items


@pytest.mark.usefixtures("cluster")
def test_the_environment_names_the_profile(
    run: Any, profile: Path, chat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EBBTIDE_PROFILE", str(profile))
    code, out, err = run("apply", "-y", "-q", chat)

    assert (code, err) == (0, "")
    assert "created Service team-shop/chat\n" in out


# apply


@pytest.mark.usefixtures("cluster")
def test_apply_shows_the_plan_the_progress_the_url_and_a_curl_line(run: Any, profile: Path, chat: Path) -> None:
    code, out, _ = run("apply", "-y", "--profile", profile, chat)

    assert code == 0
    assert out.startswith("team-shop/chat\n  + create  Namespace team-shop\n  + create  Service team-shop/chat\n")
    assert "created Service team-shop/chat\n" in out
    assert "   0.0 s  Initializing  0/1" in out
    assert " s  Running       1/1" in out
    assert out.endswith("\nhttp://chat.team-shop.example.com\ncurl http://chat.team-shop.example.com/\n")


def test_apply_again_changes_nothing_and_ends_the_same(applied: Simulated, run: Any, profile: Path, chat: Path) -> None:
    before = applied.get(KNATIVE, "chat", "team-shop")["metadata"]["resourceVersion"]
    code, out, _ = run("apply", "--profile", profile, chat)

    assert code == 0
    assert "= keep    Service team-shop/chat" in out
    assert "curl http://chat.team-shop.example.com/" in out
    assert applied.get(KNATIVE, "chat", "team-shop")["metadata"]["resourceVersion"] == before


def test_apply_writes_nothing_on_a_dry_run(cluster: Simulated, run: Any, profile: Path, chat: Path) -> None:
    code, out, _ = run("apply", "--dry-run", "--profile", profile, chat)

    assert code == 0
    assert "+ create  Service team-shop/chat" in out
    assert cluster.list(KNATIVE).items == []


def test_apply_asks_for_confirmation_on_a_terminal(
    cluster: Simulated, run: Any, profile: Path, chat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for answer, code, count in (("n\n", 2, 0), ("\n", 2, 0), ("y\n", 0, 1)):
        stdin = io.StringIO(answer)
        stdin.isatty = lambda: True  # type: ignore[method-assign] # a terminal
        monkeypatch.setattr(sys, "stdin", stdin)
        ran = run("apply", "--profile", profile, chat)

        assert "Apply 2 objects? [y/N]" in ran.err
        assert ran.code == code
        assert len(cluster.list(KNATIVE).items) == count


def test_apply_without_a_terminal_requires_yes(
    cluster: Simulated, run: Any, profile: Path, chat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, _, err = run("apply", "--profile", profile, chat)

    assert code == 2
    assert "Use --yes to confirm." in err
    assert cluster.list(KNATIVE).items == []


@pytest.mark.usefixtures("cluster")
def test_apply_of_an_invalid_spec_does_not_contact_the_cluster(
    run: Any, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kubeconfig has the context's namespace. Any other attribute of the cluster is an error.
    monkeypatch.setattr(connection, "connect", lambda *_: Namespace(namespace="team-a"))
    wrong = written(tmp_path / "wrong.yaml", autoscaling={"minReplicas": 3, "maxReplicas": 1})
    code, out, err = run("apply", "-y", "--profile", profile, wrong)

    assert (code, out) == (1, "")
    assert "AUT001" in err


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return the file of a spec that has neither a namespace nor a project."""
    document, file = spec(autoscaling=SCALING), tmp_path / "bare.yaml"
    del document["spec"]["project"]
    file.write_text(manifests.write_document(document))
    return file


def create_namespaces(cluster: Simulated, *names: str) -> None:
    """Create namespaces; the first is that of the context."""
    cluster.namespace = names[0]
    for name in names:
        cluster.put(make_bare(NAMESPACE, name))


@pytest.mark.parametrize(
    ("words", "namespace"), [((), "team-a"), (("-n", "team-b"), "team-b"), (("--namespace=team-b",), "team-b")]
)
def test_a_spec_without_a_namespace_is_applied_as_kubectl_would(
    cluster: Simulated, run: Any, profile: Path, bare: Path, words: tuple[str, ...], namespace: str
) -> None:
    create_namespaces(cluster, "team-a", "team-b")
    assert "namespace:" not in run("render", "--profile", profile, bare).out
    ran = run("apply", "-y", "-o", "name", "--profile", profile, *words, bare)

    assert (ran.code, ran.out) == (0, f"{namespace}/chat\n")
    (top,) = cluster.list(KNATIVE).items
    assert top["metadata"]["namespace"] == namespace
    assert run("diff", "--profile", profile, *words, bare).code == 0
    # The observed profile has no default namespace either.
    assert run("diff", *words, bare, "-o", "json").out.count(f'"namespace": "{namespace}"') > 0


def test_the_profiles_default_namespace_is_stronger_than_the_context(
    cluster: Simulated, run: Any, tmp_path: Path, bare: Path
) -> None:
    create_namespaces(cluster, "team-a", "models", "b")
    projects = {**PROFILE["spec"]["projects"], "defaultNamespace": "models"}
    file = tmp_path / "named.yaml"
    file.write_text(manifests.write_document({**PROFILE, "spec": {**PROFILE["spec"], "projects": projects}}))

    assert run("apply", "-y", "-o", "name", "--wait", "0", "--profile", file, bare).out == "models/chat\n"
    assert run("apply", "-y", "-o", "name", "--wait", "0", "--profile", file, "-n", "b", bare).out == "b/chat\n"


def test_apply_rejects_another_namespace_than_the_specs(
    cluster: Simulated, run: Any, profile: Path, chat: Path
) -> None:
    ran = run("apply", "-y", "--profile", profile, "-n", "team-b", chat)

    assert (ran.code, ran.out) == (2, "")
    assert "chat belongs to namespace team-shop, not to team-b: remove -n" in ran.err
    assert not cluster.list(KNATIVE).items


def test_apply_reports_a_failure_and_its_reason(cluster: Simulated, run: Any, profile: Path, chat: Path) -> None:
    cluster.missing_images.add("ghcr.io/acme/chat:1")
    code, out, err = run("apply", "-y", "--wait", "30s", "--profile", profile, chat)

    assert code == 3
    assert "cannot pull image ghcr.io/acme/chat:1: not found" in out
    # The image is missing for good, so the wait ends before its limit.
    assert "chat is Failed: cannot pull image ghcr.io/acme/chat:1: not found" in err


def test_apply_does_not_wait_with_wait_0(cluster: Simulated, run: Any, profile: Path, chat: Path) -> None:
    now = cluster.clock.now()
    code, out, _ = run("apply", "-y", "--wait", "0", "--profile", profile, chat)

    assert (code, cluster.clock.now()) == (0, now)
    assert out.endswith("created Service team-shop/chat\n")


@pytest.mark.usefixtures("cluster")
def test_apply_rejects_an_invalid_wait(run: Any, profile: Path, chat: Path) -> None:
    assert run("apply", "-y", "--wait", "soon", "--profile", profile, chat).code == 2


@pytest.mark.usefixtures("cluster")
def test_apply_of_several_workloads_labels_their_progress(run: Any, profile: Path, tmp_path: Path) -> None:
    first = written(tmp_path / "one.yaml", name="one")
    second = written(tmp_path / "two.yaml", name="two")
    code, out, _ = run("apply", "-y", "-q", "--profile", profile, first, second)

    assert code == 0
    assert " s  one: Running" in out
    assert " s  two: Running" in out


@pytest.mark.usefixtures("cluster")
def test_apply_as_json_has_the_plan_and_the_end_on_stdout(run: Any, profile: Path, chat: Path) -> None:
    code, out, err = run("apply", "-y", "-q", "-o", "json", "--profile", profile, chat)
    (entry,) = json.loads(out)

    assert code == 0
    assert entry["plan"]["steps"][-1]["verdict"] == "create"
    assert entry["status"]["phase"] == "Running"
    assert "+ create  Service team-shop/chat" in err


def test_apply_warns_of_a_missing_priority_class(run: Any, profile: Path, chat: Path, cluster: Simulated) -> None:
    code, out, err = run("apply", "-y", "-q", "-o", "json", "--wait", "0", "--profile", profile, chat)
    (entry,) = json.loads(out)
    assert code == 0
    assert [(row["code"], row["severity"]) for row in entry["plan"]["findings"]] == [("DOC013", "warning")]
    assert "note: priority class inference not found, but the profile says that the cluster provides it" in err

    cluster.denied.add(("list", "priorityclasses"))
    (plan,) = json.loads(run("apply", "--dry-run", "-o", "json", "--profile", profile, chat).out)
    assert plan["findings"] == []


@pytest.mark.usefixtures("cluster")
def test_as_json_without_a_wait_has_the_plan_and_no_status(run: Any, profile: Path, chat: Path) -> None:
    code, out, _ = run("apply", "-y", "-q", "-o", "json", "--wait", "0", "--profile", profile, chat)
    (entry,) = json.loads(out)
    assert (code, entry["plan"]["name"], entry["status"]) == (0, "chat", None)
    words = ("embed", "-p", "shop", "-i", "a.io/b/c:1", "-y", "-o", "json", "--wait", "0", "--profile", profile)
    (entry,) = json.loads(run("submit", *words).out)
    assert (entry["plan"]["name"], entry["status"]) == ("embed", None)


def test_apply_reports_a_field_ownership_conflict(
    applied: Simulated, run: Any, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = applied.apply

    def conflicting(item: Any, *, force: bool = False, **named: Any) -> Any:
        if item["kind"] == "Service" and not force:
            raise ConflictError("others own it", {"argocd": ("spec.template",)})
        return whole(item, force=force, **named)

    monkeypatch.setattr(type(applied), "apply", lambda _, *args, **more: conflicting(*args, **more))
    second = written(tmp_path / "second.yaml", autoscaling=SCALING, image="ghcr.io/acme/chat:2")
    code, out, _ = run("apply", "-y", "--profile", profile, second)
    assert code == 3
    assert "! field ownership conflict: argocd owns spec.template; --force takes the fields over" in out
    assert run("apply", "-y", "--force", "--profile", profile, second).code == 0


def test_ctrl_c_while_waiting_reports_the_applied_objects(
    cluster: Simulated, run: Any, profile: Path, chat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt(seconds)

    monkeypatch.setattr(type(cluster.clock), "sleep", lambda _, seconds: interrupt(seconds))
    code, _, err = run("apply", "-y", "-q", "--profile", profile, chat)

    assert code == 130
    assert "The applied objects stay in the cluster." in err


# submit


def test_submit_applies(cluster: Simulated, run: Any, profile: Path) -> None:
    words = ("-p", "shop", "-i", "ghcr.io/acme/embed:2", "--serving-port", "8000", "-y")
    code, out, _ = run("submit", "embed", "--profile", profile, *words)

    assert code == 0
    assert "curl http://embed.team-shop.example.com/" in out
    assert len(cluster.list(KNATIVE).items) == 1


def test_submit_prints_the_name(cluster: Simulated, run: Any, profile: Path) -> None:
    words = ("embed", "--profile", profile, "-p", "shop", "-i", "ghcr.io/acme/embed:2", "-y")

    assert run("submit", *words, "-o", "yaml").code == 2
    assert cluster.list(KNATIVE).items == []
    assert run("submit", *words, "-o", "name").out == "team-shop/embed\n"


def test_submit_of_an_existing_name_changes_nothing(cluster: Simulated, run: Any, profile: Path) -> None:
    words = ("-p", "shop", "--serving-port", "8000", "-y", "-i")
    assert run("submit", "embed", "--profile", profile, *words, "ghcr.io/acme/embed:2").code == 0
    before = cluster.get(KNATIVE, "embed", "team-shop")
    code, out, err = run("submit", "embed", "--profile", profile, *words, "ghcr.io/acme/embed:3")

    assert code == 3
    assert "! workload embed already exists" in out
    assert "Nothing was written." in err
    assert cluster.get(KNATIVE, "embed", "team-shop") == before


def test_ctrl_c_while_writing_reports_the_written_objects(
    cluster: Simulated, run: Any, profile: Path, chat: Path
) -> None:
    def interrupt(item: Any) -> None:
        if item["kind"] == "Service":
            raise KeyboardInterrupt

    cluster.fail = interrupt
    code, _, err = run("apply", "-y", "-q", "--profile", profile, chat)

    assert code == 130
    assert "Interrupted: 1 of 2 objects written." in err


def test_submit_with_dry_run_prints_manifests(cluster: Simulated, run: Any, profile: Path) -> None:
    code, out, _ = run("submit", "embed", "--profile", profile, "-p", "shop", "-i", "a.io/b/c:1", "--dry-run")

    assert code == 0
    assert "kind: Service" in out
    assert cluster.list(KNATIVE).items == []
    words = ("embed", "--profile", profile, "-p", "shop", "-i", "a.io/b/c:1", "--dry-run", "-o", "json")
    manifest_list = json.loads(run("submit", *words).out)
    assert [item["kind"] for item in manifest_list["items"]] == ["Namespace", "Service"]
    assert cluster.list(KNATIVE).items == []


# diff


def test_diff_is_4_before_0_after_and_4_after_an_edit(applied: Simulated, run: Any, profile: Path, chat: Path) -> None:
    code, out, _ = run("diff", "--profile", profile, chat)
    assert (code, out) == (0, "team-shop/chat is up to date\n")

    image = {"image": "ghcr.io/acme/chat:edited", "name": "user-container"}
    applied.patch(KNATIVE, "chat", "team-shop", {"spec": {"template": {"spec": {"containers": [image]}}}})
    code, out, _ = run("diff", "--profile", profile, chat)
    assert code == 4
    assert "~ change  Service team-shop/chat (creates a new revision)" in out
    assert '.image: "ghcr.io/acme/chat:edited" -> "ghcr.io/acme/chat:1"' in out


@pytest.mark.usefixtures("cluster")
def test_diff_of_a_missing_workload_is_a_creation(run: Any, profile: Path, chat: Path) -> None:
    code, out, _ = run("diff", "-o", "json", "--profile", profile, chat)

    assert code == 4
    assert [step["verdict"] for step in json.loads(out)[0]["steps"]] == ["create", "create"]


# list, describe


@pytest.mark.usefixtures("applied")
def test_list_has_one_row_per_workload(run: Any) -> None:
    code, out, _ = run("list", *PLACE)
    head, row = out.splitlines()

    assert code == 0
    assert head.split() == ["NAME", "PROJECT", "STATUS", "REPLICAS", "GPUS", "METRIC", "AGE", "REASON"]
    assert row.split() == [
        *("chat", "shop", "Running", "1/1", "(1..4)", "-", "concurrency", "-/7"),
        *(row.split()[-2], "-"),
    ]


@pytest.mark.usefixtures("applied")
@pytest.mark.parametrize("width", [60, 80, 100, 0])
def test_list_fits_the_terminal(run: Any, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    reason = "waiting for a GPU share: 8 of 8 used by others " * 8
    monkeypatch.setattr("ebbtide.cluster.read.status.compute_phase", lambda *_: ("Pending", reason))
    monkeypatch.setattr("ebbtide.cli.operate.listing.get_width", lambda _: width)
    head, row = run("list", *PLACE).out.splitlines()
    wide = run("list", *PLACE, "-o", "wide").out

    assert head.split()[-1] == "REASON"
    assert head.split()[:4] == ["NAME", "PROJECT", "STATUS", "REPLICAS"]
    assert (row.endswith("\N{HORIZONTAL ELLIPSIS}"), len(row) == width) == ((True, True) if width else (False, False))
    assert ("METRIC" in head) == (width in {0, 100})
    assert "http://chat.team-shop.example.com" in wide
    assert reason.strip() in wide


@pytest.mark.usefixtures("applied")
def test_list_in_other_formats(run: Any) -> None:
    assert run("list", "-A", "-o", "name").out == "team-shop/chat\n"
    (row,) = json.loads(run("list", "-A", "-o", "json").out)
    assert (row["name"], row["phase"], row["replicas"]["ready"]) == ("chat", "Running", 1)
    assert "phase: Running" in run("list", "-A", "-o", "yaml").out


@pytest.mark.usefixtures("cluster")
def test_an_empty_list_is_reported(run: Any) -> None:
    code, out, err = run("list")

    assert (code, out) == (0, "")
    assert "No workloads found in namespace default" in err


@pytest.mark.parametrize("words", [("list",), ("list", "-o", "json"), ("slo",), ("key", "list")])
@pytest.mark.usefixtures("cluster")
def test_an_unknown_project_is_an_error(run: Any, words: tuple[str, ...]) -> None:
    code, out, err = run(*words, "-p", "nobody")

    assert (code, out) == (3, "")
    assert "namespace runai-nobody not found. To list the projects, run ebbtide project list" in err


@pytest.mark.usefixtures("applied")
def test_describe_shows_all_details(run: Any) -> None:
    code, out, _ = run("describe", "chat", *PLACE)

    assert code == 0
    assert out.startswith("team-shop/chat   Knative Service   Running   ")
    for part in (
        "  replicas   1 ready, 1 desired, minimum 1, maximum 4\n",
        "  metric     concurrency -/7; the threshold is 10\n",
        "  call       curl http://chat.team-shop.example.com/\n",
        "\nconditions\n",
        "\nrevisions\n  REVISION     TRAFFIC   READY   AGE\n  chat-00001   100%      1/1 ",
        "\npods\n",
        "\nspec\n  autoscaling:\n    maxReplicas: 4\n",
    ):
        assert part in out


# Metric values from a Prometheus on loopback.


def load_is(value: str) -> AbstractContextManager[str]:
    """Run a Prometheus that has one metric value for chat, at the last step of each range, and no other data."""

    def answer(_path: str, parameters: dict[str, str]) -> Answer:
        labels = {"k8s_namespace_name": "team-shop", "kn_service_name": "chat"}
        if "_stable" not in parameters["query"]:
            return fine([], "matrix")
        start, end, step = (float(parameters[name]) for name in ("start", "end", "step"))
        return fine([{"metric": labels, "values": [[start + (end - start) // step * step, value]]}], "matrix")

    return answering(answer)


@pytest.mark.usefixtures("applied")
def test_list_and_describe_show_the_current_metric(run: Any) -> None:
    with load_is("12.345") as url:
        assert "concurrency 12.3/7" in run("list", *PLACE, "--prometheus", url).out
        assert "concurrency 12.3/7; the threshold is 10" in run("describe", "chat", *PLACE, "--prometheus", url).out
    code, out, err = run("list", *PLACE, "--prometheus", url)
    assert code == 0
    assert "concurrency -/7" in out
    assert "Metrics are unavailable: Prometheus at 127.0.0.1" in err
    code, _, err = run("list", *PLACE, "--prometheus", "nowhere")
    assert code == 3
    assert "invalid Prometheus address nowhere" in err


@pytest.mark.usefixtures("applied")
def test_why_prints_text_and_data(run: Any) -> None:
    code, out, _ = run("why", "chat", *PLACE)
    assert code == 0
    assert out.startswith(
        "team-shop/chat   1 ready, 1 desired, minimum 1, maximum 4\n  kept at minReplicas 1: at most 7 requests in flight on average over 60 s"
    )

    with load_is("5.5") as url:
        out = run("why", "chat", *PLACE, "--prometheus", url).out
        found = json.loads(run("why", "chat", *PLACE, "--prometheus", url, "-o", "json").out)
    assert "  5.5 requests in flight on average over 60 s, with a target of 7" in out
    assert "stable  5.5 requests in flight / (10 \N{MULTIPLICATION SIGN} 70%) = 0.79 → 1   over 60 s" in out
    assert found["numbers"]["stable"] == 5.5
    assert found["reasons"][0]["topic"] == "load"


def test_describe_as_data(applied: Simulated, run: Any) -> None:
    applied.clock.sleep(60)
    described = json.loads(run("describe", "chat", *PLACE, "-o", "json").out)

    assert described["phase"] == "Running"
    assert described["spec"]["autoscaling"] == SCALING
    assert all(60 <= event["ageSeconds"] < 120 for event in described["events"])
    assert described["events"]
    assert "phase: Running" in run("describe", "chat", *PLACE, "-o", "yaml").out


@pytest.mark.parametrize("command", ["describe", "why", "logs", "delete", "rollback", "suspend", "resume"])
@pytest.mark.usefixtures("cluster")
def test_a_missing_workload_is_exit_code_3(run: Any, command: str) -> None:
    code, out, err = run(command, "nothing", "-n", "default")

    assert (code, out) == (3, "")
    assert "workload nothing not found in namespace default" in err


def test_cluster_text_cannot_move_the_cursor(applied: Simulated, run: Any) -> None:
    pod = applied.list(POD).items[0]
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": "team-shop"},
        "involvedObject": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": "team-shop"},
        "type": "Warning",
        "reason": "Bad\x1b[2J",
        "message": "\x1b]0;owned\x07 \r overwritten",
        "lastTimestamp": "2099-01-01T00:00:00Z",
    }
    applied.put(event)
    out = run("describe", "chat", *PLACE).out

    assert "overwritten" in out
    assert not {"\x1b", "\x07", "\r"} & set(out)


# logs


def test_logs_are_those_of_the_server(applied: Simulated, run: Any) -> None:
    pod = applied.list(POD).items[0]["metadata"]["name"]
    for line in ("one", "two", "three"):
        applied.say("team-shop", pod, "user-container", line)

    assert run("logs", "chat", *PLACE).out == "one\ntwo\nthree\n"
    assert run("logs", "chat", *PLACE, "--tail", "1").out == "three\n"
    assert run("logs", "chat", *PLACE, "-c", "queue-proxy").out == ""
    code, _, err = run("logs", "chat", *PLACE, "--pod", "other")
    assert code == 3
    assert f"pod other of workload chat not found; its pods: {pod}" in err


def test_logs_of_a_workload_at_zero_report_it(applied: Simulated, run: Any) -> None:
    revision = applied.get(REVISION, "chat-00001", "team-shop")
    name = revision["metadata"]["name"]
    applied.patch(REVISION, name, "team-shop", {"metadata": {"annotations": {keys.MIN_SCALE: "0"}}})
    applied.scale("team-shop", name, 0)
    applied.clock.sleep(10)
    code, _, err = run("logs", "chat", *PLACE)

    assert code == 3
    assert "workload chat has no pods: scaled to zero; the next request starts a replica" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("scale", "chat", "--target", "nan"),
            "--target: invalid value 'nan': must be a number above 0 and at most 1000000000",
        ),
        (("scale", "chat", "--target", "inf"), "--target: invalid value 'inf': must be a number"),
        (("scale", "chat", "--target", "0"), "--target: invalid value '0': must be a number"),
        (("scale", "chat", "--target", "1e300"), "--target: invalid value '1e300': must be a number"),
        (("scale", "chat", "--target", "ten"), "--target: invalid value 'ten': must be a number"),
        (("scale", "chat", "--max", "9" * 20), "must be a whole number from 0 to 2147483647"),
        (("scale", "chat", "--max", "9" * 5000), "must be a whole number from 0 to 2147483647"),
        (("scale", "chat", "--min", "-1"), "--min: invalid value '-1': must be a whole number"),
        (("scale", "chat", "--min", "\u00b2"), "--min: invalid value '\u00b2': must be a whole number"),
        (("logs", "chat", "--tail", "-3"), "--tail: invalid value '-3': must be a whole number"),
        (("list", "-A", "-n", "nowhere"), "-n/--namespace: not allowed with argument -A/--all"),
        (("list", "-p", "shop", "-A"), "-A/--all-namespaces/--all: not allowed with argument -p/--project"),
    ],
)
def test_invalid_options_are_rejected_before_connecting(run: Any, words: tuple[str, ...], message: str) -> None:
    code, out, err = run(*words)

    assert (code, out) == (2, "")
    assert message in err


# scale, rollback, suspend, delete


def test_scale_sets_replicas_live_and_diff_reports_it(applied: Simulated, run: Any, profile: Path, chat: Path) -> None:
    code, out, _ = run("scale", "chat", *PLACE, "--min", "2", "--target", "20")
    applied.clock.sleep(10)

    assert code == 0
    assert "chat-00001: minReplicas 2, metricThreshold 20. No new revision was created." in out
    assert "2/2 (2..4)" in run("list", *PLACE).out
    ran = run("diff", "--profile", profile, chat)
    assert ran.code == 0
    assert "manual override minReplicas 2 is kept (the spec has 1)" in ran.out
    assert "override   minReplicas 2 set by ebbtide scale (the spec has 1)" in run("describe", "chat", *PLACE).out
    assert run("scale", "chat", *PLACE, "--reset").code == 0
    assert run("diff", "--profile", profile, chat).out == "team-shop/chat is up to date\n"


def test_an_interrupted_scale_is_reported_and_visible(applied: Simulated, run: Any, profile: Path, chat: Path) -> None:
    def fail(item: Any) -> None:
        if keys.SCALE not in item["metadata"]["annotations"]:
            raise UnreachableError("the cluster does not answer")

    applied.fail = fail
    code, _, err = run("scale", "chat", *PLACE, "--min", "2")
    applied.fail = None

    assert code == 3
    assert "already done: changed Service team-shop/chat" in err
    assert "manual override minReplicas 2" in run("diff", "--profile", profile, chat).out
    assert run("scale", "chat", *PLACE, "--reset").code == 0
    assert run("diff", "--profile", profile, chat).out == "team-shop/chat is up to date\n"


@pytest.mark.usefixtures("applied")
def test_scale_rejects_invalid_bounds(run: Any) -> None:
    assert run("scale", "chat", *PLACE).code == 2
    assert run("scale", "chat", *PLACE, "--min", "1", "--reset").code == 2
    code, _, err = run("scale", "chat", *PLACE, "--min", "9")
    assert code == 1
    assert "invalid bounds: min 9 and max 4" in err


def test_apply_fills_in_the_stable_revision_of_a_canary(
    applied: Simulated, run: Any, profile: Path, tmp_path: Path
) -> None:
    file = written(tmp_path / "canary.yaml", image="ghcr.io/acme/chat:2", traffic={"canaryPercent": 20})
    expected = [("latest", 20), ("chat-00001", 80)]

    # With a profile that is named and with that of the cluster; the second apply finds the canary.
    for options in (("--profile", profile), ()):
        assert run("apply", "-y", "-q", *options, file).code == 0
        rows = get_at(applied.get(KNATIVE, "chat", "team-shop"), "spec", "traffic")
        assert [(row.get("revisionName", "latest"), row["percent"]) for row in rows] == expected
    # diff knows it too. A new service has no stable revision.
    assert run("diff", file).code == 0
    other = written(tmp_path / "other.yaml", name="other", traffic={"canaryPercent": 20})
    assert "SRV011" in run("apply", "-y", "--profile", profile, other).err


def test_list_wide_has_more_columns_and_yaml_is_a_list(applied: Simulated, run: Any) -> None:
    assert applied.list(KNATIVE).items
    header, row = run("list", *PLACE, "-o", "wide").out.splitlines()
    assert header.split() == [
        "NAME",
        "PROJECT",
        "STATUS",
        "REPLICAS",
        "GPUS",
        "METRIC",
        "AGE",
        "NAMESPACE",
        "KIND",
        "CPU",
        "MEMORY",
        "URL",
        "REASON",
    ]
    assert "team-shop   Knative Service   " in row
    rows = yaml.safe_load(run("list", *PLACE, "-o", "yaml").out)
    assert rows == json.loads(run("list", *PLACE, "-o", "json").out)
    assert [item["name"] for item in rows] == ["chat"]


@pytest.mark.parametrize("command", ["describe", "why", "logs", "slo", "delete"])
def test_a_workload_of_another_project_is_found_there(applied: Simulated, run: Any, command: str) -> None:
    ran = run(command, "chat", "-n", "default")

    assert applied.list(KNATIVE).items
    assert ran.code == 3
    assert "workload chat not found in namespace default; it is in project shop: add -p shop" in ran.err


def test_a_misspelled_workload_is_suggested(applied: Simulated, run: Any) -> None:
    assert applied.list(KNATIVE).items
    assert "did you mean chat?" in run("describe", "chta", "-n", "default").err
    assert "did you mean" not in run("describe", "zzz", "-n", "default").err


def test_rollback_pins_until_the_next_apply(applied: Simulated, run: Any, profile: Path, tmp_path: Path) -> None:
    assert run("rollback", "chat", *PLACE, "-y").code == 1
    second = written(tmp_path / "second.yaml", autoscaling=SCALING, image="ghcr.io/acme/chat:2")
    assert run("apply", "-y", "-q", "--profile", profile, second).code == 0
    code, out, _ = run("rollback", "chat", *PLACE, "-y")

    assert code == 0
    assert "all traffic of team-shop/chat is routed to chat-00001 until the next apply" in out
    applied.clock.sleep(20)
    assert "pinned to chat-00001" in run("describe", "chat", *PLACE).out
    assert run("diff", "--profile", profile, second).code == 4
    assert run("apply", "-y", "-q", "--profile", profile, second).code == 0
    assert "chat-00002   100%" in run("describe", "chat", *PLACE).out


@pytest.mark.usefixtures("applied")
def test_suspend_works_for_kserve_only(run: Any, profile: Path, tmp_path: Path) -> None:
    code, _, err = run("suspend", "chat", *PLACE)
    assert code == 1
    assert "Knative Services cannot be suspended" in err

    other = written(tmp_path / "other.yaml", name="other", serving="kserve", autoscaling=SCALING)
    assert run("apply", "-y", "-q", "--profile", profile, other).code == 0
    assert run("scale", "other", *PLACE, "--max", "3").code == 0
    code, _, err = run("suspend", "other", *PLACE)
    assert code == 0
    assert "The manual scaling override is removed." in err
    assert "Stopping" in run("list", *PLACE).out
    assert run("resume", "other", *PLACE).code == 0


def test_changing_commands_wait_and_print_name_or_data(
    applied: Simulated, run: Any, profile: Path, tmp_path: Path
) -> None:
    other = written(tmp_path / "other.yaml", name="other", serving="kserve", autoscaling=SCALING)
    code, out, err = run("apply", "-y", "-q", "--profile", profile, other, "-o", "name")
    assert (code, out) == (0, "team-shop/other\n")
    assert " s  Running       1/1" in err
    code, out, err = run("suspend", "other", *PLACE, "--wait", "60s", "-o", "name")
    assert (code, out) == (0, "team-shop/other\n")
    assert " s  Stopped       0/0    suspended" in err
    code, out, err = run("resume", "other", *PLACE, "--wait", "60s", "-o", "json")
    assert (code, json.loads(out)) == (0, {"namespace": "team-shop", "name": "other", "suspended": False})
    assert " s  Running       1/1" in err

    code, out, err = run("scale", "chat", *PLACE, "--min", "2", "--wait", "60s", "-o", "json")
    assert json.loads(out)["scale"] == {"minReplicas": 2}
    assert " s  Running       2/2" in err
    assert run("diff", "--profile", profile, other, "-o", "name").out == ""
    chat = written(tmp_path / "chat.yaml", autoscaling=SCALING, image="ghcr.io/acme/chat:2")
    assert run("diff", "--profile", profile, chat, other, "-o", "name") == (4, "team-shop/chat\n", "")
    assert run("apply", "-y", "-q", "--profile", profile, chat).code == 0
    code, out, err = run("rollback", "chat", *PLACE, "-y", "--wait", "60s", "-o", "name")
    assert (code, out) == (0, "team-shop/chat\n")
    assert "all traffic is pinned to chat-00001" in err
    applied.missing_images.add("ghcr.io/acme/chat:2")
    assert run("scale", "chat", *PLACE, "--min", "3", "--wait", "soon").code == 2
    assert run("delete", "chat", *PLACE, "-y", "-o", "name").out == "team-shop/chat\n"


def test_a_wait_timeout_is_reported(applied: Simulated, run: Any) -> None:
    applied.missing_images.add("ghcr.io/acme/chat:1")
    code, _, err = run("scale", "chat", *PLACE, "--min", "3", "--wait", "30s")

    assert code == 3
    assert "cannot pull image" in err


def test_ctrl_c_while_waiting_after_a_change_reports_that_it_continues(
    applied: Simulated, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt(seconds)

    applied.life = PodLife(start=1e6)
    monkeypatch.setattr(type(applied.clock), "sleep", lambda _, seconds: interrupt(seconds))
    code, _, err = run("scale", "chat", *PLACE, "--min", "2", "--wait", "30s")
    assert code == 130
    assert "The operation continues. For its status, run ebbtide describe chat -n team-shop" in err
    code, _, err = run("delete", "chat", *PLACE, "-y", "--wait", "30s")
    assert code == 130
    assert "The deletion of chat continues." in err


def test_delete_removes_companions_and_keeps_data(applied: Simulated, run: Any) -> None:
    labels = {keys.APP_NAME: "chat", keys.APP_MANAGED_BY: "ebbtide"}
    for version, kind, name in (("v1", "ServiceAccount", "chat-storage"), ("v1", "PersistentVolumeClaim", "chat-data")):
        metadata = {"name": name, "namespace": "team-shop", "labels": labels}
        applied.put({"apiVersion": version, "kind": kind, "metadata": metadata})
    code, out, err = run("delete", "chat", *PLACE, "-y", "--wait", "30s")

    assert code == 0
    assert out == "deleted ServiceAccount team-shop/chat-storage\ndeleted Service team-shop/chat\n"
    assert "Kept with their data: chat-data." in err
    assert applied.list(POD).items == applied.list(DEPLOYMENT).items == []
    assert run("list", *PLACE).out == ""


def test_delete_takes_several_names(applied: Simulated, run: Any, profile: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "other.yaml", name="other")
    assert run("apply", "-y", "--wait", "0", "--profile", profile, other).code == 0
    code, _, err = run("delete", "chat", "missing", *PLACE, "-y")
    assert (code, len(applied.list(KNATIVE).items)) == (3, 2), "a wrong name deletes nothing"
    assert "workload missing not found" in err

    code, out, _ = run("delete", "chat", "other", "chat", *PLACE, "-y", "--wait", "30s")
    assert code == 0
    assert out == "deleted Service team-shop/chat\ndeleted Service team-shop/other\n"
    assert applied.list(POD).items == applied.list(KNATIVE).items == []


def test_delete_removes_only_objects_of_the_workload(applied: Simulated, run: Any) -> None:
    labels = {keys.APP_NAME: "chat", keys.APP_MANAGED_BY: "ebbtide"}
    (top,) = applied.list(KNATIVE).items
    for name, uid in (("ours", top["metadata"]["uid"]), ("theirs", "11111111-0000-4000-8000-000000000000")):
        owner = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "chat", "uid": uid}
        metadata = {"name": name, "namespace": "team-shop", "labels": labels, "ownerReferences": [owner]}
        applied.put({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata})
    code, out, _ = run("delete", "chat", *PLACE, "-y")

    assert code == 0
    assert out == "deleted HorizontalPodAutoscaler team-shop/ours\ndeleted Service team-shop/chat\n"
    assert [item["metadata"]["name"] for item in applied.list(HPA).items] == ["theirs"]


def test_delete_asks_for_confirmation(applied: Simulated, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))

    assert run("delete", "chat", *PLACE).code == 2
    assert len(applied.list(KNATIVE).items) == 1


# Unreachable cluster.


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("describe", "chat"),
        ("scale", "chat", "--min", "1"),
        ("delete", "chat", "-y"),
        ("logs", "chat"),
    ],
)
def test_a_cluster_that_does_not_answer_is_exit_code_3(
    run: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    def away(*_: Any) -> Any:
        raise UnreachableError("the cluster does not answer: refused")

    monkeypatch.setattr(connection, "connect", away)
    code, out, err = run(*words)

    assert (code, out) == (3, "")
    assert err == "error: the cluster does not answer: refused\n"


def test_a_missing_kubeconfig_is_reported(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("kubernetes", reason="the client is not installed")
    code, _, err = run("list", "--kubeconfig", tmp_path / "none")

    assert code == 3
    assert "cannot load a cluster from the kubeconfig" in err


def test_a_missing_client_is_reported_with_its_package(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ebbtide.cluster.client.kubernetes", None)
    code, _, err = run("list")

    assert code == 3
    assert "install the wheel with the extra cluster" in err


def test_a_project_s_namespace_is_found_by_label_and_else_by_the_profile(
    applied: Simulated, run: Any, profile: Path
) -> None:
    assert get_at(applied.list(KNATIVE).items[0], "metadata", "namespace") == "team-shop"
    assert "chat" in run("list", "-p", "shop").out
    assert "chat" in run("list", "-p", "shop", "--profile", "built-in").out
    assert "namespace team-other not found" in run("list", "-p", "other").err
    assert "namespace runai-other not found" in run("list", "-p", "other", "--profile", "built-in").err
    assert "namespace team-other not found" in run("list", "-p", "other", "--profile", profile).err
    assert applied.list(KSERVE).items == []


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            (
                'services.serving.knative.dev "greet" is forbidden: User "system:serviceaccount:default:bob" cannot patch '
                'resource "services" in API group "serving.knative.dev" in the namespace "runai-alpha"'
            ),
            (
                "forbidden: system:serviceaccount:default:bob cannot patch services.serving.knative.dev in namespace runai-alpha. "
                "An administrator of the project can add you: ebbtide project create PROJECT --member "
                "serviceaccount:default:bob"
            ),
        ),
        (
            'namespaces is forbidden: User "jane" cannot list resource "namespaces" in API group "" at the cluster scope',
            (
                "forbidden: jane cannot list namespaces in the cluster. A cluster administrator can grant it with a "
                "ClusterRoleBinding"
            ),
        ),
        ("Unauthorized", "Unauthorized"),
    ],
)
def test_a_missing_permission_names_who_grants_it(message: str, words: str) -> None:
    assert explain_forbidden(message) == words


def test_doctor_examines_a_project_without_a_spec(cluster: Simulated, run: Any, applied: Simulated) -> None:
    assert applied is cluster
    cluster.denied.add(("patch", KNATIVE.plural))
    done = run("doctor", "-p", "shop")
    assert "forbidden in namespace team-shop: patch services" in done.out


def test_errors_are_cluster_errors() -> None:
    assert issubclass(ConflictError, ClusterError)


@pytest.mark.usefixtures("applied")
def test_describe_shows_the_drift_from_the_stored_spec(cluster: Simulated) -> None:
    live, profile = find_workload(cluster, "chat", "team-shop", 0.0), profiles.validate_profile_data(PROFILE)[0]
    live.top["spec"]["template"]["spec"]["containers"][0]["image"] = "ghcr.io/acme/chat:2"
    fields: dict[str, Any] = {"f:spec": {"f:template": {"f:spec": {"f:containers": {}}}}}
    assert list(describe.find_drift(live, profile)) == []

    live.top["metadata"]["managedFields"] = [{"manager": "kubectl-edit", "fieldsV1": fields}]

    (drift,) = describe.find_drift(live, profile)
    assert drift == (
        'spec.template.spec.containers[user-container].image: "ghcr.io/acme/chat:1" -> "ghcr.io/acme/chat:2" '
        "(changed by kubectl-edit)"
    )


@pytest.mark.usefixtures("applied")
def test_describe_shows_a_changed_project(cluster: Simulated) -> None:
    live, profile = find_workload(cluster, "chat", "team-shop", 0.0), profiles.validate_profile_data(PROFILE)[0]
    live.top["metadata"]["labels"][keys.PROJECT] = "other"
    fields: dict[str, Any] = {"f:metadata": {"f:labels": {f"f:{keys.PROJECT}": {}}}}
    live.top["metadata"]["managedFields"] = [{"manager": "kubectl-label", "fieldsV1": fields}]

    (drift,) = describe.find_drift(live, profile)
    assert drift == f'metadata.labels[{keys.PROJECT}]: "shop" -> "other" (changed by kubectl-label)'


@pytest.mark.parametrize(
    ("resolves", "service", "reachable", "call"),
    [
        (True, None, (), "curl http://chat.team-shop.example.com/"),
        (
            False,
            None,
            (),
            "kubectl port-forward -n team-shop deployment/chat-00001-deployment 8080   # chat.team-shop.example.com does not resolve",
        ),
        (False, "192.0.2.1", ("192.0.2.1",), "curl --resolve chat.team-shop.example.com:80:192.0.2.1 http://chat.team"),
        (False, "", ("10.0.0.9",), "curl -H 'Host: chat.team-shop.example.com' http://10.0.0.9:30080/"),
        (False, "", (), "kubectl port-forward -n kourier-system service/kourier 8080:80 & curl --retry 5"),
    ],
)
@pytest.mark.usefixtures("applied")
def test_the_printed_call_works_on_this_machine(
    cluster: Simulated,
    run: Any,
    monkeypatch: pytest.MonkeyPatch,
    resolves: bool,
    service: str | None,
    reachable: tuple[str, ...],
    call: str,
) -> None:
    monkeypatch.setattr(calls, "resolves", lambda _: resolves)
    monkeypatch.setattr(calls, "accepts", lambda address, _: address in reachable)
    if service is not None:
        balanced = {"loadBalancer": {"ingress": [{"ip": service}]}} if service else {}
        cluster.put(
            {
                **make_bare(SERVICE, "kourier", "kourier-system"),
                "spec": {"ports": [{"port": 80, "nodePort": 30080}]},
                "status": balanced,
            }
        )
        node = make_bare(NODE, "one")
        node["status"] = {
            "addresses": [{"type": "Hostname", "address": "one"}, {"type": "InternalIP", "address": "10.0.0.9"}]
        }
        cluster.put(node)

    assert f"  call       {call}" in run("describe", "chat", "-p", "shop").out


@pytest.mark.parametrize(("kubeconfig", "expected"), [(None, "pod"), ("file", "kubeconfig")])
def test_a_program_in_a_pod_connects_with_its_service_account(
    monkeypatch: pytest.MonkeyPatch, kubeconfig: str | None, expected: str
) -> None:
    monkeypatch.setattr(pod, "is_in_cluster", lambda: True)
    monkeypatch.setattr(pod, "PodCluster", lambda: "pod")
    monkeypatch.setattr(connection, "connect", lambda *_: "kubeconfig")
    connected_to: list[Any] = []

    def work(cluster: Any) -> int:
        connected_to.append(cluster)
        return 0

    options = Namespace(kubeconfig=kubeconfig, context=None)
    assert connection.run_on_cluster(options, work, pod=True) == 0
    assert connection.run_on_cluster(options, work) == 0
    assert connected_to == [expected, "kubeconfig"]


def test_the_controller_in_a_pod_loads_neither_the_servers_code_nor_the_official_client() -> None:
    program = """
import sys
from argparse import Namespace
from ebbtide.cli.base import connection
from ebbtide.cli.operate import controller
from ebbtide.cluster.client import pod
from ebbtide.cluster.controller import process
pod.is_in_cluster = lambda: True
connection.run_on_cluster(Namespace(kubeconfig=None, context=None), lambda _: 0, pod=True)
others = ("kubernetes", "pydantic.main", "ebbtide.server.api.backend", "ebbtide.cluster.read.why", "ebbtide.cluster.write.apply", "ebbtide.simulator", "fastapi")
print(*[name for name in others if name in sys.modules])
"""
    words = [sys.executable, "-c", program]
    environment = {**os.environ, pod.HOST_VARIABLE: "192.0.2.1"}
    assert subprocess.run(words, check=True, capture_output=True, text=True, env=environment).stdout.strip() == ""


def test_a_workload_of_a_custom_resource_says_so_and_is_left_alone(
    cluster: Simulated, run: Any, tmp_path: Path, profile: Path
) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(text(autoscaling=SCALING))
    assert run("apply", "-y", "--profile", profile, file).code == 0
    owner = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "name": "chat", "uid": "1"}
    cluster.patch(KNATIVE, "chat", "team-shop", {"metadata": {"ownerReferences": [owner]}})

    assert "  owner      Inference chat\n" in run("describe", "chat", "-p", "shop").out
    assert json.loads(run("list", "-p", "shop", "-o", "json").out)[0]["owner"] == "Inference chat"
    assert run("why", "chat", "-p", "shop", "--profile", profile).code == 0
    file.write_text(text(autoscaling=SCALING, image="ghcr.io/acme/chat:2"))
    for command in (("apply", "-y"), ("diff",)):
        done = run(*command, "--profile", profile, file)
        assert done.code == 3
        assert "image: " in done.out
        assert "Inference chat manages this workload" in done.out
        assert "RES063" in done.out
    deleted = run("delete", "chat", "-p", "shop", "-y")
    assert deleted.code == 3
    assert "kubectl delete inference chat -n team-shop --cascade=orphan" in deleted.err
