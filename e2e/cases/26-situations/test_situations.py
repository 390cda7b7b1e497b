"""Situations that users meet, and what the commands say in each: compared with the recorded answers.

`EBBTIDE_E2E_ACCEPT=1` rewrites the files in `recorded`; read the differences as a user. kubectl's words are recorded next to
Ebbtide's for docs/troubleshooting.md, and are not compared.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from e2e.accounts import write_kubeconfig
from e2e.stage import PROFILE, Stage, UnmetError
from e2e.transcript import ACCEPT, Transcript, fold, normalize

ONLY: Final = os.environ.get("EBBTIDE_E2E_ONLY", "").split()
"""Names of the situations to run; all if it is empty."""
IMAGE: Final = "ebbtide.local/e2e/load:v1"
PYTHON: Final = "ebbtide.local/e2e/ebbtide:v1"
"""An image with Python, whose HTTP server ignores PORT."""
AT_ONCE: Final = 12
"""Situations side by side: most of them wait for the cluster."""
PATIENCE: Final = 120.0
"""Seconds until the situation exists on the cluster."""
STEADY: Final = 40.0
"""Seconds in which an answer may still become the recorded one: Kubernetes alternates between two reasons."""
KAI: Final = {"scheduling": {"scheduler": "kai-scheduler"}, "projects": {"quota": "none", "manage": False}}
BIG: Final = {"nodePools": [{"name": "big", "devices": 16, "nodes": 1, "backend": "devices"}]}


@dataclass
class Scene:
    """One situation: its place on the cluster, its workload and its transcript."""

    name: str
    stage: Stage
    transcript: Transcript
    changes: Mapping[str, Any] | None = None
    """Of the suite's profile."""
    kubeconfig: Path | None = None
    """Another user's."""
    standard: bool = False
    _profile: list[str] = field(default_factory=list)

    def ebbtide(self, *words: str, shown: str = "", spec: Mapping[str, Any] | None = None, once: bool = False) -> str:
        """Run a command and keep its answer; retry until the answer is the recorded one, unless it changes anything."""
        line = shown or "ebbtide " + " ".join(words)
        return self._keep(line, lambda: fold(self.run(*words, spec=spec)), once=once)

    def _keep(self, line: str, ask: Callable[[], str], *, once: bool) -> str:
        recorded = self.transcript.recorded(line)
        end = time.monotonic() + STEADY
        answer = ask()
        while not (once or ACCEPT or answer == recorded or time.monotonic() > end):
            time.sleep(2)
            answer = ask()
        self.transcript.add(line, answer)
        return answer

    def run(self, *words: str, spec: Mapping[str, Any] | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command on the suite's cluster."""
        return self.stage.ebbtide(self.arguments(*words, spec=spec))

    def arguments(self, *words: str, spec: Mapping[str, Any] | None = None) -> list[str]:
        command, *rest = words
        if not self._profile:
            # Each situation has its own file: several run concurrently.
            told = yaml.safe_load(PROFILE.read_text())
            for part, values in (self.changes or {}).items():
                told["spec"][part] = {**told["spec"].get(part, {}), **values} if isinstance(values, dict) else values
            self._profile = ["--profile", str(self.stage.written(f"profile-{self.name}.yaml", yaml.safe_dump(told)))]
        reached = ["--kubeconfig", str(self.kubeconfig or self.stage.kubectl.kubeconfig)]
        where = [] if command == "render" else reached
        if command in {"list", "describe", "why", "rollback", "logs"}:
            where += ["-n", self.stage.namespace]
        if command in {"list", "describe", "why"} and "--prometheus" not in rest:
            where += ["--prometheus", self.stage.provider.prometheus()]
        if command != "rollback":
            where += self._profile
        if spec is not None:
            rest = [str(self.stage.written(f"{self.name}.yaml", self.stage.spec(spec))), *rest]
        return [command, *rest, *where]

    def spec(self, **changes: Any) -> dict[str, Any]:
        """Return the spec of a small server, with other values."""
        told = {
            "image": IMAGE,
            "compute": {"cpuCoreRequest": 0.01, "cpuMemoryRequest": "32Mi"},
            "autoscaling": {"minReplicas": 1, "maxReplicas": 2, "metric": "concurrency", "metricThreshold": 5},
            **({"serving": "kserve-standard", "autoscaling": {"minReplicas": 1}} if self.standard else {}),
            **changes,
        }
        return {
            "apiVersion": "ebbtide.dev/v1alpha1",
            "kind": "Inference",
            "metadata": {"name": self.name},
            "spec": told,
        }

    def apply(self, *options: str, wait: str = "180s", **changes: Any) -> str:
        """Apply the spec, and keep the answer."""
        shown = " ".join(["ebbtide", "apply", f"{self.name}.yaml", *options])
        return self.ebbtide("apply", "-y", *options, "--wait", wait, shown=shown, spec=self.spec(**changes), once=True)

    def until(self, *texts: str) -> None:
        """Wait until `list` says this about the workload."""
        self.stage.until(
            f"list says {texts} of {self.name}",
            lambda: all(text in self.row() for text in texts),
            PATIENCE,
            seen=self.row,
            every=2.0,
        )

    def row(self) -> str:
        """Return the workload's row of `list`."""
        return next((line for line in BOARD.rows(self).splitlines() if line.startswith(f"{self.name} ")), "")

    def list(self) -> None:
        """Keep the workload's row of `list`."""
        self._keep(
            "ebbtide list", lambda: normalize(f"{(BOARD.rows(self).splitlines() or [''])[0]}\n{self.row()}"), once=False
        )

    def look(self) -> None:
        """Ask the three commands for people, and kubectl."""
        self.list()
        self.ebbtide("describe", self.name)
        self.ebbtide("why", self.name)
        self.kubectl()

    def kubectl(self) -> None:
        """Keep what kubectl says about the workload's pods and its object."""
        label = "serving.kserve.io/inferenceservice" if self.standard else "serving.knative.dev/service"
        for shown, words in (
            ("get pods", ("get", "pods", "-l", f"{label}={self.name}")),
            ("get isvc", ("get", "isvc", self.name)) if self.standard else ("get ksvc", ("get", "ksvc", self.name)),
        ):
            self.transcript.add(
                f"kubectl {shown}", normalize(self.stage.kubectl.run(*words, "-n", self.stage.namespace))
            )


class Board:
    """`list` of each namespace, at most a second old: the situations there share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: dict[str, tuple[float, str]] = {}

    def rows(self, scene: Scene) -> str:
        with self._lock:
            when, text = self._texts.get(scene.stage.namespace, (0.0, ""))
            if time.monotonic() - when > 1.0:
                done = Scene("list", scene.stage, scene.transcript).run("list")
                text = done.stdout or done.stderr
                self._texts[scene.stage.namespace] = time.monotonic(), text
            return text


BOARD: Final = Board()


# The situations.


def failing(scene: Scene, says: str, wait: str = "180s", **changes: Any) -> None:
    """A server that never serves."""
    scene.apply(wait=wait, **changes)
    scene.until(says)
    scene.look()


def from_variable(name: str, **source: Any) -> list[dict[str, Any]]:
    return [{"name": name, **source}]


def crash_loop(scene: Scene) -> None:
    """The server exits when it starts: LATENCY=banana is not a duration."""
    failing(scene, "exited with exit code 1", environmentVariables=from_variable("LATENCY", value="banana"))


def no_command(scene: Scene) -> None:
    """The image does not contain the command."""
    failing(scene, "cannot start container", command="/app/sever")


def no_image(scene: Scene) -> None:
    """The image's registry does not exist."""
    failing(scene, "cannot pull image", wait="20s", image="registry.example.invalid/acme/chat@sha256:" + "0" * 64)


def no_secret(scene: Scene) -> None:
    """A Secret of the spec does not exist."""
    failing(scene, "not found", environmentVariables=from_variable("TOKEN", secret={"name": "hub", "key": "token"}))


def no_config_map(scene: Scene) -> None:
    """A ConfigMap of the spec does not exist."""
    failing(scene, "not found", environmentVariables=from_variable("MODE", configMap={"name": "modes", "key": "mode"}))


def wrong_port(scene: Scene) -> None:
    """The server listens on port 8080, and the spec says 9000."""
    failing(
        scene,
        "port 9000",
        wait="30s",
        image=PYTHON,
        command="/usr/bin/python3.11 -m http.server 8080",
        servingPort={"container": 9000},
    )


def never_ready(scene: Scene) -> None:
    """The server answers its readiness probe with 503."""
    probe = {"readiness": {"handler": {"httpGet": {"path": "/ready"}}}}
    failing(scene, "/ready", wait="30s", environmentVariables=from_variable("NEVER_READY", value="true"), probes=probe)


def out_of_memory(scene: Scene) -> None:
    """The server needs more memory than its limit."""
    small = {"cpuCoreRequest": 0.01, "cpuMemoryRequest": "64Mi", "cpuMemoryLimit": "64Mi"}
    failing(scene, "OOMKilled", image=PYTHON, command="/usr/bin/python3.11 -c 'bytearray(10**9)'", compute=small)


def no_gpu(scene: Scene) -> None:
    """The profile says that a node has 16 GPUs, and it has 8."""
    compute = {"cpuCoreRequest": 0.01, "cpuMemoryRequest": "32Mi", "gpuDevicesRequest": 16}
    failing(scene, "GPUs", wait="5s", compute=compute)


def no_metric(scene: Scene) -> None:
    """No metrics API serves the scaling metric."""
    unserved = {"minReplicas": 1, "maxReplicas": 3, "metric": "queue_length_of_nobody", "metricThreshold": 3}
    failing(scene, "cannot read metric", autoscaling=unserved)


def no_kai(scene: Scene) -> None:
    """The profile names KAI-Scheduler, and the cluster does not have it."""
    scene.apply()


def no_scheduler(scene: Scene) -> None:
    """kubectl applied the manifests for KAI-Scheduler, and the cluster does not have it."""
    rendered = scene.run("render", spec=scene.spec())
    told = [item for item in yaml.safe_load_all(rendered.stdout) if item["kind"] == "Service"]
    assert told, rendered.stderr
    scene.stage.kubectl.apply(told)
    scene.until("kai-scheduler")
    scene.look()


def no_prometheus(scene: Scene) -> None:
    """Prometheus does not answer."""
    scene.apply()
    nowhere = ("--prometheus", "http://127.0.0.1:9")
    for command in ("list", "describe", "why"):
        name = () if command == "list" else (scene.name,)
        shown = " ".join(("ebbtide", command, *name, *nowhere))
        if command == "list":
            header, *rows = scene.run("list", *nowhere).stdout.splitlines()
            row = next(row for row in rows if row.startswith(f"{scene.name} "))
            scene.transcript.add(shown, normalize(f"{header}\n{row}"))
        else:
            scene.ebbtide(command, *name, *nowhere, shown=shown)


def at_zero(scene: Scene) -> None:
    """The service has no requests and is scaled to zero."""
    bounds = {"minReplicas": 0, "maxReplicas": 2, "metric": "concurrency", "metricThreshold": 5}
    scene.apply(autoscaling=bounds)
    scene.until("scaled to zero")
    scene.stage.until(
        "its pod has ended", lambda: not scene.stage.listed("pods", f"serving.knative.dev/service={scene.name}")
    )
    scene.look()


def failed_update(scene: Scene) -> None:
    """An update has a wrong image; then the user rolls it back."""
    scene.apply()
    scene.apply(wait="20s", image="ebbtide.local/e2e/laod:v1")
    scene.until("failed")
    scene.look()
    scene.ebbtide("rollback", scene.name, "-y", "--wait", "30s", shown=f"ebbtide rollback {scene.name}", once=True)
    scene.list()


def holding(scene: Scene) -> None:
    """A failed revision still holds its pod after the repaired apply."""
    scene.apply()
    broken = from_variable("TOKEN", secret={"name": "hub", "key": "token"})
    scene.apply(environmentVariables=broken)
    scene.apply(environmentVariables=from_variable("TOKEN", value="now in the spec"))
    scene.until("Running")
    scene.look()


def canary(scene: Scene) -> None:
    """A new revision receives a tenth of the traffic."""
    scene.apply()
    newer = from_variable("VERSION", value="2")
    split = {"canaryPercent": 10, "stableRevision": f"{scene.name}-00001"}
    scene.apply(environmentVariables=newer, traffic=split)
    scene.until("Running", "2/2")
    scene.look()


def edited(scene: Scene) -> None:
    """A user changed the live object with kubectl."""
    scene.apply(environmentVariables=from_variable("LATENCY", value="100ms"))
    path = "/spec/template/spec/containers/0/env/0/value"
    patch = json.dumps([{"op": "replace", "path": path, "value": "400ms"}])
    place = ("ksvc", scene.name, "-n", scene.stage.namespace)
    scene.stage.kubectl.run("patch", *place, "--type=json", "-p", patch)
    scene.stage.until(
        "the new revision has replaced the old one",
        lambda: [pod["metadata"]["name"].startswith("edited-00002") for pod in scene.stage.pods(scene.name)] == [True],
    )
    scene.look()
    again = scene.spec(environmentVariables=from_variable("LATENCY", value="100ms"))
    scene.ebbtide("diff", shown=f"ebbtide diff {scene.name}.yaml", spec=again)
    scene.apply(environmentVariables=from_variable("LATENCY", value="100ms"))
    scene.apply("--force", environmentVariables=from_variable("LATENCY", value="100ms"))


def clash(scene: Scene) -> None:
    """Another user has taken the name."""
    scene.apply()
    words = ("submit", scene.name, "-p", scene.stage.project, "-i", IMAGE, "-y")
    scene.ebbtide(*words, shown=f"ebbtide submit {scene.name} -p {scene.stage.project} -i {IMAGE}")


def standard(scene: Scene) -> None:
    """A service of KServe Standard, which a Gateway routes."""
    scene.apply()
    scene.until("Running")
    scene.look()


def standard_wrong_port(scene: Scene) -> None:
    """A service of KServe Standard listens on port 8080, and the spec says 9000."""
    failing(
        scene,
        "port 9000",
        wait="30s",
        image=PYTHON,
        command="/usr/bin/python3.11 -m http.server 8080",
        servingPort={"container": 9000},
    )


def quota(scene: Scene) -> None:
    """Three replicas do not fit into the project's quota."""
    project = ("project", "create", scene.stage.project)
    made = scene.run(*project, "--cpu", "0.1", "--memory", "1Gi", "-y")
    assert made.returncode == 0, made.stderr
    fixed = {"minReplicas": 3, "maxReplicas": 3}
    scene.apply(wait="10s", autoscaling=fixed)
    scene.until("quota")
    scene.look()


def two_users(scene: Scene) -> None:
    """A member of the project works in it, and another user is rejected."""
    project, namespace = scene.stage.project, scene.stage.namespace
    jane = f"serviceaccount:{namespace}:jane"
    made = scene.run("project", "create", project, "--member", jane, "-y")
    assert made.returncode == 0, made.stderr
    scene.kubeconfig = write_kubeconfig(scene.stage, "jane")
    scene.apply()
    scene.ebbtide("project", "list", shown="ebbtide project list   # jane, a member")
    examined = scene.run("doctor", "-p", project)
    assert "forbidden in namespace" not in examined.stdout, examined.stdout
    scene.ebbtide("describe", scene.name)
    scene.kubeconfig = write_kubeconfig(scene.stage, "bob")
    scene.ebbtide("list", shown="ebbtide list   # bob, no member")
    again = scene.spec(environmentVariables=from_variable("BY", value="bob"))
    scene.ebbtide("apply", "-y", shown=f"ebbtide apply {scene.name}.yaml   # bob", spec=again)
    where = ("-n", namespace, "-y")
    scene.ebbtide("delete", scene.name, *where, shown=f"ebbtide delete {scene.name}   # bob")


def killed(scene: Scene) -> None:
    """`apply` of three workloads is killed after each line of its output, and repeated."""
    texts = [scene.stage.spec({**scene.spec(), "metadata": {"name": f"{scene.name}-{number}"}}) for number in (1, 2, 3)]
    file = scene.stage.written("killed.yaml", "---\n".join(texts))
    command = scene.arguments("apply", str(file), "-y", "--wait", "60s")
    kills = 0
    for line_number in range(1, 14):
        words = [sys.executable, "-m", "ebbtide", *command]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
            assert running.stdout is not None
            read = [running.stdout.readline() for _ in range(line_number)]
            running.send_signal(signal.SIGKILL)
        kills += bool(read[-1])
        if any("http://" in line for line in read):
            break
    last = scene.run("apply", str(file), "-y", "--wait", "120s")
    assert last.returncode == 0, last.stdout + last.stderr
    scene.ebbtide("diff", str(file), shown="ebbtide diff killed.yaml")
    scene.stage.report(kills=kills)


#: Each situation, the longest first, with changes of the suite's profile, and True if it needs a separate project.
SITUATIONS: Final[tuple[tuple[Callable[[Scene], None], Mapping[str, Any] | None, bool], ...]] = (
    (no_command, None, False),
    (no_secret, None, False),
    (no_config_map, None, False),
    (holding, None, False),
    (crash_loop, None, False),
    (out_of_memory, None, False),
    (failed_update, None, False),
    (never_ready, None, False),
    (wrong_port, None, False),
    (edited, None, False),
    (no_image, None, False),
    (at_zero, None, False),
    (canary, None, False),
    (no_gpu, BIG, False),
    (no_metric, None, False),
    (no_scheduler, KAI, False),
    (standard_wrong_port, None, False),
    (killed, None, True),
    (two_users, None, True),
    (no_kai, KAI, False),
    (no_prometheus, None, False),
    (clash, None, False),
    (standard, None, False),
    (quota, None, True),
)


@pytest.mark.alone
def test_situations(stage: Stage) -> None:
    """Every answer is the recorded one."""
    own: list[Stage] = []

    def play(row: tuple[Callable[[Scene], None], Mapping[str, Any] | None, bool]) -> str:
        run, changes, apart = row
        name = run.__name__.replace("_", "-")
        place = stage
        if apart:
            place = Stage(stage.provider, stage.kubectl, stage.folder, f"situations-{name}")
            own.append(place)
            place.clean()
        title = str(run.__doc__).strip()
        scene = Scene(name, place, Transcript(name, title), changes, standard="standard" in name)
        start = time.monotonic()
        try:
            run(scene)
        except (UnmetError, AssertionError) as error:
            return f"{name}: {error}\n{scene.transcript.text()}"
        finally:
            stage.report(**{name: round(time.monotonic() - start, 1)})
        return scene.transcript.compare()

    made = Scene("project", stage, Transcript("project", "")).run("project", "create", stage.project, "-y")
    assert made.returncode == 0, made.stderr
    try:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            chosen = [row for row in SITUATIONS if not ONLY or row[0].__name__.replace("_", "-") in ONLY]
            differences = [text for text in threads.map(play, chosen) if text]
    finally:
        for place in own:
            place.clean()
    assert not differences, "\n\n".join(differences)
