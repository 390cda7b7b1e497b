"""Steps of a case: render its spec with the users' command, apply the output unchanged, send requests, wait, read."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests import RequestException

from e2e.forked import run as run_command
from e2e.kubectl import Kubectl, KubectlError, Manifest
from e2e.paths import CLUSTERS, HERE
from e2e.providers.protocol import Provider
from e2e.reader import reader

PROFILE: Final = HERE / "profile.yaml"
PROFILES: Final = CLUSTERS / "profiles"
"""The profiles as cases changed them, one for each."""
PATIENCE: Final = 180.0
"""Seconds that a condition may take: generous, since a machine may be busy. What it took is reported."""
CLEANING: Final = 600.0
"""Seconds that it may take to remove what a case made: one of them makes hundreds of services."""
WEBHOOK_AWAY: Final = "failed calling webhook"


class UnmetError(AssertionError):
    """A condition did not come about in time; the message has what was seen last."""


@dataclass(frozen=True)
class Rendered:
    """Output of one `ebbtide render`."""

    manifests: Sequence[Manifest]
    problems: str
    """Problems in the form for users."""
    status: int

    def one(self, kind: str, name: str | None = None) -> Manifest:
        """Return the only manifest of this kind, or the one of this name."""
        (found,) = (
            item for item in self.manifests if item["kind"] == kind and name in (None, item["metadata"]["name"])
        )
        return found


@dataclass
class Stage:
    """One case's place on the cluster: its folder, its project and the namespace of that."""

    provider: Provider
    kubectl: Kubectl
    folder: Path
    project: str
    figures: dict[str, object] = field(default_factory=dict)
    """Measurements for the report; none is asserted."""
    _applied: list[Manifest] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return f"e2e-{self.project}"

    # Translation

    def render(
        self, spec: str | Mapping[str, Any] = "spec.yaml", *, profile: Mapping[str, Any] | None = None
    ) -> Rendered:
        """Render a file of the case's folder, or a spec as data, in the case's project.

        `profile` changes the suite's profile, deeply: {"projects": {"known": {"quota": {"gpus": 1}}}}.
        """
        done = self.ebbtide(["render", "-", *self._profile(profile), "-o", "json"], self.spec(spec))
        items = json.loads(done.stdout)["items"] if done.stdout.strip() else []
        return Rendered(items, done.stderr, done.returncode)

    def check(self, spec: str | Mapping[str, Any] = "spec.yaml", *, profile: Mapping[str, Any] | None = None) -> str:
        """Return what `ebbtide check` says, as a user reads it."""
        done = self.ebbtide(["check", "-", *self._profile(profile)], self.spec(spec))
        return done.stdout + done.stderr

    def spec(self, spec: str | Mapping[str, Any]) -> str:
        """Return the text of a spec, a file's or data, in the case's project where it names none."""
        told = list(yaml.safe_load_all((self.folder / spec).read_text())) if isinstance(spec, str) else [dict(spec)]
        for document in told:
            document["spec"].setdefault("project", self.project)
        return yaml.safe_dump_all(told)

    def ebbtide(self, arguments: Sequence[str], stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run the real command."""
        return run_command(arguments, stdin)

    def profile(self, changes: Mapping[str, Any] | None = None) -> list[str]:
        """Return the options that name the suite's profile, with changes."""
        return self._profile(changes)

    def written(self, name: str, text: str) -> Path:
        """Write a file for a command that takes none from stdin, and return where it is."""
        file = PROFILES / self.project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def command(
        self, verb: str, spec: str | Mapping[str, Any], *options: str, profile: Mapping[str, Any] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command that changes the cluster, on a spec: `apply`, `diff`."""
        cluster = f"--kubeconfig={self.kubectl.kubeconfig}"
        return self.ebbtide([verb, "-", *self._profile(profile), cluster, "-y", *options], self.spec(spec))

    def _profile(self, changes: Mapping[str, Any] | None) -> list[str]:
        told = yaml.safe_load(PROFILE.read_text())
        _merge(told["spec"], changes or {})
        PROFILES.mkdir(parents=True, exist_ok=True)
        file = PROFILES / f"{self.project}.yaml"
        file.write_text(yaml.safe_dump(told))
        return ["--profile", str(file)]

    # The cluster

    def apply(self, rendered: Rendered | Sequence[Manifest], *options: str) -> None:
        """Apply what was rendered, untouched and in its order; a rendering with errors fails here.

        A webhook may be starting: what it could not be asked is tried again.
        """
        if isinstance(rendered, Rendered):
            assert rendered.status == 0, rendered.problems
        manifests = rendered.manifests if isinstance(rendered, Rendered) else rendered

        def applied(some: Sequence[Manifest]) -> bool:
            try:
                self.kubectl.apply(some, *options)
            except KubectlError as error:
                if "failed calling webhook" in str(error):
                    return False
                raise
            return True

        self._applied += manifests
        quotas = [item for item in manifests if item["kind"] == "ResourceQuota"]
        if quotas and not options:
            # The API server may not know a quota yet that is only seconds old, and admits what exceeds it.
            applied([item for item in manifests if item["kind"] in {"Namespace", "ResourceQuota"}])
            self.until("the quotas are counted", lambda: all(map(self._counted, quotas)))
        self.until("the webhooks answer", lambda: applied(manifests))

    def _counted(self, quota: Manifest) -> bool:
        live = self.kubectl.get("resourcequota", quota["metadata"]["name"], "-n", quota["metadata"]["namespace"])
        return bool(live.get("status", {}).get("hard", {}).keys() == quota["spec"]["hard"].keys())

    def deploy(
        self, spec: str | Mapping[str, Any] = "spec.yaml", *, profile: Mapping[str, Any] | None = None
    ) -> Rendered:
        """Render and apply, and return what was rendered."""
        rendered = self.render(spec, profile=profile)
        self.apply(rendered)
        return rendered

    def get(self, kind: str, name: str) -> Any:
        """Return an object of the case's namespace."""
        return reader(self.kubectl.kubeconfig).get(kind, name, self.namespace)

    def listed(self, kind: str, selector: str = "") -> list[Any]:
        """Return objects of the case's namespace."""
        return reader(self.kubectl.kubeconfig).list(kind, self.namespace, selector)

    def pods(self, service: str | None = None, *, ready: bool = False) -> list[Any]:
        """Return the pods of a Knative service that are not terminating, or all of the namespace."""
        selector = f"serving.knative.dev/service={service}" if service else ""
        here = [pod for pod in self.listed("pods", selector) if "deletionTimestamp" not in pod["metadata"]]
        alive = [pod for pod in here if pod["status"]["phase"] in {"Pending", "Running"}]
        return [pod for pod in alive if condition(pod, "Ready") == "True"] if ready else alive

    def ready(self, name: str, kind: str = "ksvc", timeout: float = PATIENCE) -> Any:
        """Wait until an object says that it is ready, and return it."""
        self.until(
            f"{kind}/{name} is ready",
            lambda: condition(self.get(kind, name), "Ready") == "True",
            timeout,
            seen=lambda: self.get(kind, name).get("status", {}).get("conditions"),
        )
        return self.get(kind, name)

    def host(self, name: str, kind: str = "ksvc") -> str:
        """Return the host name that a service answers to."""
        url: str = self.get(kind, name)["status"]["url"]
        return url.split("://", 1)[1].rstrip("/")

    def ask(
        self, host: str, path: str = "/", *, method: str = "GET", body: object = None, timeout: float = PATIENCE
    ) -> httpx.Response:
        """Send one request through the gateway."""
        return httpx.request(
            method, f"http://{self.provider.gateway()}{path}", headers={"Host": host}, json=body, timeout=timeout
        )

    def until(
        self,
        what: str,
        holds: Callable[[], object],
        timeout: float = PATIENCE,
        *,
        seen: Callable[[], object] | None = None,
        every: float = 0.5,
    ) -> float:
        """Wait until this holds and return the seconds that it took.

        Raises:
            UnmetError: it did not in time; `seen` is asked what there was instead.

        """
        start = time.monotonic()
        while not holds():
            if time.monotonic() - start > timeout:
                instead = f"; instead: {json.dumps(seen(), indent=1, default=str)}" if seen else ""
                raise UnmetError(f"after {timeout:.0f} s it is not so that {what}{instead}")
            time.sleep(every)
        return time.monotonic() - start

    def holds_for(self, what: str, holds: Callable[[], object], seconds: float) -> None:
        """Look for a while that this stays so.

        Raises:
            UnmetError: at some moment it was not.

        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not holds():
                raise UnmetError(f"it did not stay so that {what}")
            time.sleep(0.5)

    def settles(
        self,
        what: str,
        holds: Callable[[], object],
        seconds: float,
        *,
        seen: Callable[[], object] | None = None,
    ) -> float:
        """Wait until this has held for so long without a break, and return the seconds until it began to.

        For what an autoscaler decides: a machine that is busy elsewhere makes it count a request twice for a moment.

        Raises:
            UnmetError: it did not in time.

        """
        start = since = time.monotonic()

        def held() -> bool:
            nonlocal since
            if not holds():
                since = time.monotonic()
            return time.monotonic() - since >= seconds

        self.until(what, held, seen=seen)
        return since - start

    def set_queue(self, pod: str, length: int) -> None:
        """Let a pod's server report that its queue is this long, as `ebbtide_test_queue_length`."""
        address = f"/api/v1/namespaces/{self.namespace}/pods/{pod}:8080/proxy/set?queue_length={length}"
        self.kubectl.run("replace", f"--raw={address}", "-f", "-", stdin="")

    def query(self, promql: str) -> list[Any]:
        """Return the samples that Prometheus has for a query now."""
        found: list[Any] = PrometheusConnect(url=self.provider.prometheus()).custom_query(promql)
        return found

    def slo(self, name: str) -> dict[str, Any]:
        """Return a workload's row of `ebbtide slo`, read through the API server, as from any machine with a kubeconfig."""
        place = ["-n", self.namespace, "--kubeconfig", str(self.kubectl.kubeconfig)]
        done = self.ebbtide(["slo", name, *place, "--since", "20m", *self.profile(), "-o", "json"])
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)["workloads"]
        return dict(row)

    def ask_prometheus(self, path: str) -> Any:
        """Return Prometheus' answer to another question than a query."""
        return httpx.get(f"{self.provider.prometheus()}{path}", timeout=30).raise_for_status().json()

    def custom_metric(self, name: str) -> dict[str, str]:
        """Return a metric by pod as the HPA's controller reads it, from custom.metrics.k8s.io."""
        path = f"/apis/custom.metrics.k8s.io/v1beta1/namespaces/{self.namespace}/pods/*/{name}"
        try:
            found = json.loads(self.kubectl.run("get", f"--raw={path}"))
        except KubectlError:
            return {}
        return {item["describedObject"]["name"]: item["value"] for item in found["items"]}

    def events(self, name: str = "") -> list[str]:
        """Return the messages of the namespace's events, of one object or all."""
        return [
            f"{event.get('reason')}: {event.get('message')}"
            for event in self.listed("events")
            if name in event["involvedObject"].get("name", "")
        ]

    def report(self, **figures: object) -> None:
        """Keep a measured figure for the suite's table."""
        self.figures.update(figures)

    # Before and after

    def clean(self) -> None:
        """Remove the case's namespace and whatever it made outside of it."""
        outside = [
            item
            for item in self._applied
            if "namespace" not in item["metadata"] and item["kind"] not in {"Namespace", "PriorityClass"}
        ]
        for item in outside:
            self.kubectl.run("delete", item["kind"], item["metadata"]["name"], "--ignore-not-found", "--wait=false")
        # A namespace that still has pods is looked at again after half of their grace period, which for Knative's is
        # minutes. A pod is gone for good only with what would make another.
        self.until("nothing of it runs", self._try_removal, CLEANING, seen=self._left, every=1.5)
        limit = f"--timeout={CLEANING:.0f}s"
        self.kubectl.run("delete", "namespace", self.namespace, "--ignore-not-found", limit, timeout=CLEANING + 10)

    def _try_removal(self) -> bool:
        """Return whether nothing of the case runs; an absent webhook rejects deletions for a moment, so the next try follows."""
        try:
            return self._nothing_runs()
        except KubectlError as error:
            if WEBHOOK_AWAY in str(error):
                return False
            raise

    def _nothing_runs(self) -> bool:
        pods = self.listed("pods")
        if not pods and not self.listed(OWNERS):
            return True
        # Delete everything repeatedly: Kubernetes' garbage collector may be minutes behind after an outage of the API server, and
        # until it collects a revision or a ReplicaSet, those recreate deleted objects faster than it collects them.
        self.kubectl.run("delete", OWNERS, "--all", "-n", self.namespace, "--wait=false")
        self._end([pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]], 1)
        # A terminating pod stays for queue-proxy's half a minute of drain: no shorter grace period interrupts the hook that
        # waits for it. A forced deletion removes it, and its processes end later, without requests.
        self._end([pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]], 0)
        return False

    def _left(self) -> list[str]:
        return [f"{item['kind']}/{item['metadata']['name']}" for item in self.listed(f"{OWNERS},pods")]

    def _end(self, pods: Sequence[str], grace: int) -> None:
        if pods:
            told = [
                f"--grace-period={grace}",
                f"--force={'false' if grace else 'true'}",
                "--wait=false",
                "--ignore-not-found",
            ]
            self.kubectl.run("delete", "pods", *pods, "-n", self.namespace, *told)

    def dump(self, folder: Path) -> None:
        """Write what one needs to see why a case failed: objects, events, logs of pods and controllers, samples."""
        folder.mkdir(parents=True, exist_ok=True)
        for file, arguments in DUMPS.items():
            try:
                text = self.kubectl.run(*(part.format(namespace=self.namespace) for part in arguments), timeout=60)
            except (KubectlError, subprocess.TimeoutExpired) as error:
                text = str(error)
            (folder / file).write_text(text)
        try:
            names = [pod["metadata"]["name"] for pod in self.listed("pods")]
        except KubectlError:
            # The API server may be what failed.
            return
        for name in names:
            text = self.kubectl.run(
                "logs", name, "-n", self.namespace, "--all-containers", "--tail=500", "--ignore-errors"
            )
            (folder / f"pod-{name}.log").write_text(text)
        try:
            samples = self.query(f'{{namespace="{self.namespace}"}}')
        except (RequestException, PrometheusApiClientException) as error:
            # Prometheus may be what failed, and the case's objects must be removed.
            samples = [str(error)]
        (folder / "prometheus.json").write_text(json.dumps(samples, indent=1))


OWNERS: Final = "isvc,ksvc,configurations,revisions,podautoscalers,daemonsets,deployments,replicasets,jobs"
"""Kinds whose controllers would recreate pods, from the top down."""
OBJECTS: Final = (
    "ksvc,revisions,podautoscalers,serverlessservices,inferenceservices,daemonsets,deployments,pods,hpa,resourcequota"
)

DUMPS: Final[dict[str, list[str]]] = {
    "objects.yaml": ["get", OBJECTS, "-n", "{namespace}", "-o", "yaml"],
    "events.txt": ["get", "events", "-n", "{namespace}", "--sort-by=.lastTimestamp"],
    "nodes.txt": ["describe", "nodes"],
    **{
        f"controller-{name}.log": ["logs", f"deployment/{name}", "-n", namespace, "--tail=1000"]
        for namespace, name in (
            ("knative-serving", "autoscaler"),
            ("knative-serving", "autoscaler-hpa"),
            ("knative-serving", "activator"),
            ("knative-serving", "controller"),
            ("kserve", "kserve-controller-manager"),
            ("kserve", "llmisvc-controller-manager"),
            ("monitoring", "prometheus-adapter"),
        )
    },
}


def condition(item: Any, kind: str) -> str | None:
    """Return the status of one condition: "True", "False", "Unknown", or None where there is none."""
    for found in item.get("status", {}).get("conditions", ()):
        if found["type"] == kind:
            status: str = found["status"]
            return status
    return None


def _merge(into: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
