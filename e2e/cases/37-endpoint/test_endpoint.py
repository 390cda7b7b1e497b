"""One URL for all models of a project on Envoy Gateway 1.9: the model in the body, keys, limits, a split, TLS, KServe, and two projects."""

import base64
import copy
import json
import math
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from e2e.install import envoy_gateway
from e2e.install.manifests import find_node_address
from e2e.kubectl import Kubectl, KubectlError
from e2e.paths import ROOT
from e2e.providers.protocol import Provider
from e2e.specs import make_spec
from e2e.stage import Stage

pytestmark = [pytest.mark.schedulers, pytest.mark.usefixtures("gateway")]

DOMAIN = "models.ebbtide.test"
ONE = {"minReplicas": 1, "maxReplicas": 1}
ZERO = {"minReplicas": 0, "maxReplicas": 1, "initialReplicas": 0}
LANGUAGE_MODEL = "ebbtide.local/e2e/llm:v1"
STORED = "ebbtide-endpoint-keys"
"""The Secret with the keys of a project."""
WORDS: Any = [{"role": "user", "content": "Describe the tide of this morning, please."}]
TOKENS = 100
KEYS = 200
SPLIT, SPLIT_REQUESTS = 30, 400
TLS = "tls"
"""The Gateway with a certificate, and the Secret of it."""
UNTRUSTED = 60
"""The exit code of curl for a certificate that it cannot verify."""
LIMIT = 5
"""Requests per minute and key."""
REVOKED_WITHIN = 10.0
"""Seconds."""


def make_profile(**limits: int) -> dict[str, Any]:
    """Return the changes of the profile: a listener for all projects, and limits."""
    return {
        "endpoint": {
            "gateway": "envoy-gateway",
            "listener": envoy_gateway.LISTENER,
            "host": f"{{project}}.{DOMAIN}",
            "limits": limits,
        }
    }


def publish(stage: Stage, name: str, *, project: str = "", autoscaling: dict[str, int] = ONE, **fields: Any) -> None:
    """Deploy a small server and publish it at the endpoint of its project."""
    limits, endpoint = fields.pop("limits", {}), fields.pop("endpoint", {})
    spec = make_spec(name, autoscaling=autoscaling, endpoint=endpoint, **fields)
    if project:
        spec["spec"]["project"] = project
    done = stage.command("apply", spec, profile=make_profile(**limits))
    assert done.returncode == 0, done.stdout + done.stderr


def create_key(stage: Stage, name: str, namespace: str = "") -> str:
    """Create a key with the command, and return what it prints once."""
    place = ["-n", namespace or stage.namespace, f"--kubeconfig={stage.kubectl.kubeconfig}"]
    done = stage.ebbtide(["key", "create", name, *place])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_client(stage: Stage, key: str | None, project: str = "") -> httpx.Client:
    """Return a client of the endpoint. The name of its host is in no DNS, so it is in a header."""
    headers = {"Host": f"{project or stage.project}.{DOMAIN}"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    address = envoy_gateway.find_address(stage.kubectl)
    return httpx.Client(base_url=f"http://{address}", headers=headers, timeout=180)


def make_openai(stage: Stage, key: str) -> openai.OpenAI:
    """Return OpenAI's client with its defaults."""
    address = envoy_gateway.find_address(stage.kubectl)
    host = {"Host": f"{stage.project}.{DOMAIN}"}
    return openai.OpenAI(api_key=key, base_url=f"http://{address}/v1", default_headers=host)


def ask(client: httpx.Client, model: str) -> httpx.Response:
    return client.post("/v1/completions", json={"model": model, "prompt": "ebb"})


def works(stage: Stage, key: str, model: str) -> None:
    """Wait until a key opens a model: the gateway reads a new key or route a moment after it was written."""
    with make_client(stage, key) as client:
        stage.until(f"`{model}` answers", lambda: ask(client, model).status_code == httpx.codes.OK)


def test_two_models(stage: Stage) -> None:
    """OpenAI's client, unchanged: two models behind one URL, one of them from zero, streamed and not."""
    for name, autoscaling in (("zero", ZERO), ("here", ONE)):
        publish(stage, name, autoscaling=autoscaling, image=LANGUAGE_MODEL)
        stage.ready(name)
    key = create_key(stage, "client")
    client = make_openai(stage, key)

    def answers() -> bool:
        """Say whether the gateway has the key and the address of the service, which it looks up every few seconds."""
        try:
            return client.chat.completions.create(model="here", messages=WORDS, max_tokens=8).usage is not None
        except openai.APIStatusError:
            return False

    took = stage.until("a model answers", answers)
    assert not stage.pods("zero")
    assert {model.id for model in client.models.list()} == {"here", "zero"}
    answer = client.chat.completions.create(model="here", messages=WORDS, max_tokens=8)
    assert answer.usage is not None
    assert answer.usage.completion_tokens

    cold = stream(client, "zero")
    warm = [stream(client, "here") for _ in range(3)]
    # Streamed: what is sent as a whole has its tokens at one time. On a busy node, the first ones arrive late and together.
    received = sum(times[-1] - times[0] for times, _ in warm)
    generated = sum(seconds for _, seconds in warm)
    assert received > 0.1 * generated, (received, generated)
    stage.report(published_after=took, first_token_from_zero=cold[0][0], received=received, generated=generated)

    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nowhere", messages=WORDS)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        make_openai(stage, "sk-wrong").models.list()
    with make_client(stage, None) as keyless:
        assert ask(keyless, "here").status_code == httpx.codes.UNAUTHORIZED


def stream(client: openai.OpenAI, model: str) -> tuple[list[float], float]:
    """Return the seconds after which each token arrived, and in how many seconds the engine says that it generated them."""
    began, times, generated = time.monotonic(), [], 0.0
    for chunk in client.chat.completions.create(
        model=model,
        messages=WORDS,
        max_tokens=TOKENS,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    ):
        if chunk.choices and chunk.choices[0].delta.content:
            times.append(time.monotonic() - began)
        if chunk.usage:
            assert chunk.usage.completion_tokens == TOKENS
            generated = (chunk.model_extra or {})["timings"]["predicted_ms"] / 1000
    assert len(times) == TOKENS
    return times, generated


def test_limit(stage: Stage) -> None:
    """A key over its limit gets 429 with the time to wait; another key of the project does not."""
    publish(stage, "model", limits={"requestsPerMinutePerKey": LIMIT})
    stage.ready("model")
    first, greedy, modest = (create_key(stage, name) for name in ("first", "greedy", "modest"))
    works(stage, first, "model")
    with make_client(stage, greedy) as client:
        stage.until("the key is known", lambda: client.get("/v1/models").status_code == httpx.codes.OK)
        answered = 0
        # The limit refills all the time, so that a slow machine gets a few more answers.
        while (answer := ask(client, "model")).status_code == httpx.codes.OK and answered < 10 * LIMIT:
            answered += 1
    assert answer.status_code == httpx.codes.TOO_MANY_REQUESTS
    assert answered >= LIMIT
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    with make_client(stage, modest) as client:
        answer = ask(client, "model")
        assert answer.status_code == httpx.codes.OK
        assert 0 < int(answer.headers["x-ratelimit-remaining"]) < LIMIT
    # Envoy keeps the counts with the configuration of its routes, so a limit of a month would last until the next `apply`.
    publish(stage, "other", limits={"requestsPerMinutePerKey": LIMIT})
    with make_client(stage, greedy) as client:
        whole = lambda: all(ask(client, "model").status_code == httpx.codes.OK for _ in range(LIMIT))  # noqa: E731
        forgotten = stage.until("the limit is whole again", whole)
    stage.report(limit=LIMIT, answered=answered, forgotten_after=forgotten)


def test_limit_of_a_model(stage: Stage) -> None:
    """A model and its alias count together, and the limit is that of one name."""
    publish(stage, "model", endpoint={"aliases": ["alias"]}, limits={"requestsPerMinute": LIMIT})
    stage.ready("model")
    key = create_key(stage, "client")
    with make_client(stage, key) as client:
        stage.until("the key is known", lambda: client.get("/v1/models").status_code == httpx.codes.OK)
        stage.until("the limit is reached", lambda: ask(client, "model").status_code == httpx.codes.TOO_MANY_REQUESTS)
        answers = Counter(ask(client, "alias").status_code for _ in range(LIMIT))
    # One request may be admitted again while they are sent.
    assert answers[httpx.codes.TOO_MANY_REQUESTS] >= LIMIT - 1
    stage.report(limit=LIMIT, refused=answers[httpx.codes.TOO_MANY_REQUESTS])


def test_contract(stage: Stage) -> None:
    """Envoy Gateway answers the requests of the table as the demo's simulated gateway does, in the unit tests."""
    publish(stage, "model")
    stage.ready("model")
    key = create_key(stage, "client")
    works(stage, key, "model")
    rows = yaml.safe_load((ROOT / "tests/endpoint-contract.yaml").read_text())
    differences = {row["name"]: found for row in rows if (found := send_row(stage, row, key)) is not None}
    assert not differences
    stage.report(requests=len(rows))


def send_row(stage: Stage, row: dict[str, Any], key: str) -> object:
    """Return the answer to a row of the table, None where it is the expected one."""
    headers = dict(row.get("headers", {}))
    content = " " * row["size"] if "size" in row else row.get("body", "")
    with make_client(stage, {"right": key, "wrong": "sk-wrong"}.get(row.get("key", ""))) as client:
        answer = client.request(row["method"], row["path"], headers=headers, content=content)
    code = answer.json()["error"]["code"] if answer.is_error else None
    return None if (answer.status_code, code) == (row["status"], row.get("code")) else (answer.status_code, answer.text)


def test_split(stage: Stage) -> None:
    """One name is served by two services, in the percentages of the spec."""
    done = stage.command("apply", make_spec("next", autoscaling=ONE), profile=make_profile())
    assert done.returncode == 0, done.stdout + done.stderr
    spec = make_spec("model", autoscaling=ONE, endpoint={"split": {"next": SPLIT}})
    done = stage.command("apply", spec, profile=make_profile())
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("next", "model"):
        stage.ready(name)
    key = create_key(stage, "client")

    both = {"model-00001", "next-00001"}

    def both_answer() -> bool:
        """Say whether the gateway has the addresses of both: until it has, the other service gets all requests."""
        with make_client(stage, key) as client:
            answers = [ask(client, "model") for _ in range(20)]
        return both == {answer.json()["revision"] if answer.is_success else "" for answer in answers}

    stage.until("both services answer", both_answer)
    with make_client(stage, key) as client:
        revisions = Counter(ask(client, "model").json()["revision"] for _ in range(SPLIT_REQUESTS))
    assert {*revisions} == both
    expected = SPLIT_REQUESTS * SPLIT / 100
    deviation = math.sqrt(expected * (1 - SPLIT / 100))
    assert abs(revisions["next-00001"] - expected) < 5 * deviation, revisions
    stage.report(requests=SPLIT_REQUESTS, percent=SPLIT, share=revisions["next-00001"] / SPLIT_REQUESTS)


def test_kserve(stage: Stage) -> None:
    """An InferenceService is published as a Knative Service is."""
    publish(stage, "model", serving="kserve", autoscaling=ONE)
    stage.ready("model", "isvc")
    key = create_key(stage, "client")
    works(stage, key, "model")
    with make_client(stage, key) as client:
        assert ask(client, "model").json()["revision"] == "model-predictor-00001"
        assert [row["id"] for row in client.get("/v1/models").json()["data"]] == ["model"]


def test_tls(stage: Stage) -> None:
    """A project has its own listener with a certificate: OpenAI's client and curl verify it, and a stranger's does not."""
    host = f"{stage.project}.{DOMAIN}"
    certificate = make_certificate(stage, host)
    gateway = {"gatewayName": TLS, "gatewayNamespace": stage.namespace, "listener": "{project}"}
    profile = make_profile()
    profile["endpoint"] |= gateway
    done = stage.command("apply", make_spec("model", autoscaling=ONE, endpoint={}), profile=profile)
    assert done.returncode == 0, done.stdout + done.stderr
    add_listener(stage, host, certificate)
    stage.ready("model")
    key = create_key(stage, "client")
    address = find_tls_address(stage)
    curl = ["curl", "--silent", "--show-error", "--fail", "--connect-to", f"{host}:443:{address}"]
    curl += ["--header", f"Authorization: Bearer {key}", f"https://{host}/v1/models"]
    trusted = [*curl, "--cacert", str(certificate)]
    stage.until(
        "the listener answers", lambda: subprocess.run(trusted, check=False, capture_output=True).returncode == 0
    )
    listed = json.loads(subprocess.run(trusted, check=True, capture_output=True).stdout)
    assert [row["id"] for row in listed["data"]] == ["model"]
    assert subprocess.run(curl, check=False, capture_output=True).returncode == UNTRUSTED

    def name_host(request: httpx.Request) -> None:
        """Ask for the certificate of the host, which is in no DNS."""
        request.extensions["sni_hostname"] = host

    context = ssl.create_default_context(cafile=str(certificate))
    with httpx.Client(verify=context, event_hooks={"request": [name_host]}) as http:
        options: Any = {"base_url": f"https://{address}/v1", "default_headers": {"Host": host}, "http_client": http}
        client = openai.OpenAI(api_key=key, **options)
        assert [model.id for model in client.models.list()] == ["model"]
        answer = client.chat.completions.create(model="model", messages=WORDS, stream=True)
        assert [chunk.choices[0].delta.content for chunk in answer if chunk.choices]
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="nowhere", messages=WORDS)


def make_certificate(stage: Stage, host: str) -> Path:
    """Return the file of a certificate that its own key signed, next to the key."""
    file = stage.written("tls.crt", "")
    key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        f"{file.with_suffix('.key')}",
    ]
    name = ["-days", "2", "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-out", str(file)]
    subprocess.run(["openssl", "req", "-x509", *key, *name], check=True, capture_output=True)
    return file


def add_listener(stage: Stage, host: str, certificate: Path) -> None:
    """Create a Gateway with the project's listener, which admits only the routes of its namespace."""
    data = {"tls.crt": certificate, "tls.key": certificate.with_suffix(".key")}
    encoded = {name: base64.b64encode(file.read_bytes()).decode() for name, file in data.items()}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}}
    listener = {
        "name": stage.project,
        "hostname": host,
        "port": 443,
        "protocol": "HTTPS",
        "tls": {"certificateRefs": [{"name": TLS}]},
        "allowedRoutes": {"namespaces": {"from": "Selector", "selector": selector}},
    }
    metadata = {"name": TLS, "namespace": stage.namespace}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls", "data": encoded}
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": metadata,
        "spec": {"gatewayClassName": "envoy-gateway", "listeners": [listener]},
    }
    stage.kubectl.apply([secret, gateway])


def find_tls_address(stage: Stage) -> str:
    """Return the address of the Gateway with a certificate on the first node."""
    label = "gateway.envoyproxy.io/owning-gateway"
    labels = f"{label}-name={TLS},{label}-namespace={stage.namespace}"
    found: list[Any] = []

    def exists() -> bool:
        found[:] = stage.kubectl.get("services", "-n", envoy_gateway.NAMESPACE, "-l", labels)["items"]
        return bool(found)

    stage.until("the Gateway has its Service", exists)
    return f"{find_node_address(stage.kubectl)}:{found[0]['spec']['ports'][0]['nodePort']}"


def test_keys(stage: Stage) -> None:
    """Two hundred keys work, and a revoked one is refused within ten seconds."""
    publish(stage, "model")
    stage.ready("model")
    first = create_key(stage, "first")
    works(stage, first, "model")
    made = {f"key-{number}": f"sk-e2e-{stage.project}-{number}" for number in range(1, KEYS)}
    data = {name: base64.b64encode(value.encode()).decode() for name, value in made.items()}
    stage.kubectl.run(
        *("patch", "secret", STORED, "-n", stage.namespace, "--type=merge", "-p", json.dumps({"data": data}))
    )
    last = made[f"key-{KEYS - 1}"]
    took = stage.until("the last key works", lambda: status(stage, last) == httpx.codes.OK, every=0.2)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda key: status(stage, key), made.values())) == {httpx.codes.OK}
    place = ["-n", stage.namespace, f"--kubeconfig={stage.kubectl.kubeconfig}", "-y"]
    assert stage.ebbtide(["key", "revoke", "first", *place]).returncode == 0
    refused = stage.until("the key is refused", lambda: status(stage, first) == httpx.codes.UNAUTHORIZED, every=0.2)
    assert refused < REVOKED_WITHIN
    assert status(stage, last) == httpx.codes.OK
    stage.report(keys=KEYS, new_keys_work_after=took, refused_after=refused)


def status(stage: Stage, key: str) -> int:
    """Return the status of a request with a new connection."""
    with make_client(stage, key) as client:
        return ask(client, "model").status_code


def test_restart(stage: Stage) -> None:
    """Envoy and its controller are replaced under load, and no request is lost."""
    publish(stage, "model", autoscaling={"minReplicas": 2, "maxReplicas": 2})
    stage.ready("model")
    key = create_key(stage, "client")
    works(stage, key, "model")
    kubectl, place = stage.kubectl, ("-n", envoy_gateway.NAMESPACE)
    (envoy,) = kubectl.get("deployments", *place, "-l", envoy_gateway.OWNER)["items"]
    with in_flight(stage, key, 4) as outcomes:
        for name in (envoy["metadata"]["name"], "envoy-gateway"):
            before = outcomes[str(httpx.codes.OK)]
            kubectl.run("rollout", "restart", f"deployment/{name}", *place)
            kubectl.run("rollout", "status", f"deployment/{name}", *place, "--timeout=240s", timeout=250)
            stage.until("requests continue", lambda before=before: outcomes["200"] > before + 20)  # type: ignore[misc] # bound now
        stage.until("the former Envoy is gone", lambda: len(list_pods(kubectl)) == 1, timeout=120)
    assert set(outcomes) == {"200"}, outcomes
    stage.report(requests=outcomes["200"])


def list_pods(kubectl: Kubectl) -> list[Any]:
    found: list[Any] = kubectl.get("pods", "-n", envoy_gateway.NAMESPACE, "-l", envoy_gateway.OWNER)["items"]
    return found


@contextmanager
def in_flight(stage: Stage, key: str, requests: int) -> Iterator[Counter[str]]:
    """Keep this many requests to the endpoint in flight, and count their outcomes."""
    outcomes: Counter[str] = Counter()
    stop = threading.Event()

    def repeat() -> None:
        with make_client(stage, key) as client:
            while not stop.is_set():
                try:
                    outcome = str(ask(client, "model").status_code)
                except httpx.HTTPError as error:
                    outcome = type(error).__name__
                outcomes[outcome] += 1

    with ThreadPoolExecutor(requests) as pool:
        running = [pool.submit(repeat) for _ in range(requests)]
        try:
            yield outcomes
        finally:
            stop.set()
        for each in running:
            each.result()


def test_two_projects(stage: Stage) -> None:
    """Every attempt to reach another project's model fails as for a model that does not exist."""
    other = f"{stage.project}-other"
    try:
        publish(stage, "mine")
        publish(stage, "theirs", project=other)
        stage.ready("mine")
        key, foreign = create_key(stage, "client"), create_key(stage, "client", f"e2e-{other}")
        works(stage, key, "mine")
        with make_client(stage, foreign, other) as client:
            stage.until("theirs answers", lambda: ask(client, "theirs").status_code == httpx.codes.OK)
        with make_client(stage, key) as client:
            expected = ask(client, "nowhere")
            assert expected.status_code == httpx.codes.NOT_FOUND
            attempts = [
                ask(client, "theirs"),
                client.post("/v1/chat/completions", json={"model": "theirs"}),
                client.post("/v1/completions", json={"model": "theirs"}, headers={"x-ebbtide-model": "theirs"}),
                client.post("/v1/completions", headers={"x-ebbtide-model": "theirs"}),
            ]
            assert {(each.status_code, each.text) for each in attempts} == {(expected.status_code, expected.text)}
            assert "theirs" not in client.get("/v1/models").text
        with make_client(stage, key, other) as client:
            assert ask(client, "theirs").status_code == httpx.codes.UNAUTHORIZED
            assert ask(client, "nowhere").status_code == httpx.codes.UNAUTHORIZED
    finally:
        stage.kubectl.run("delete", "namespace", f"e2e-{other}", "--wait=false")


def test_policy(stage: Stage) -> None:
    """A project publishes only its own services: a Backend elsewhere and the label of another endpoint are refused."""
    publish(stage, "model")
    route = stage.kubectl.get("httproute", "model-model", "-n", stage.namespace)
    other = copy.deepcopy(route["metadata"]["labels"]) | {"ebbtide.dev/endpoint": "other"}
    with policy(stage):
        attempts = {
            "a Backend of namespace": make_backend(
                stage, {"fqdn": {"hostname": "x.default.svc.cluster.local", "port": 80}}
            ),
            "must have only endpoints": make_backend(stage, {"ip": {"address": "127.0.0.1", "port": 19000}}),
            "set the label to that project": {**route, "metadata": {**make_metadata(stage), "labels": other}},
        }
        for words, item in attempts.items():
            stage.until(f"`{words}` is said", lambda i=item, w=words: w in refuse(stage, i))  # type: ignore[misc] # bound now
        own = {"fqdn": {"hostname": f"x.{stage.namespace}.svc.cluster.local", "port": 80}}
        assert refuse(stage, make_backend(stage, own)) == ""
        publish(stage, "second")


def make_metadata(stage: Stage) -> dict[str, Any]:
    return {"name": "attempt", "namespace": stage.namespace}


def make_backend(stage: Stage, endpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a Backend with this endpoint."""
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "Backend",
        "metadata": make_metadata(stage),
        "spec": {"endpoints": [endpoint]},
    }


def refuse(stage: Stage, item: dict[str, Any]) -> str:
    """Return what the API server says to an object, which it does not keep; empty where it takes it."""
    try:
        stage.kubectl.apply([item], "--dry-run=server")
    except KubectlError as error:
        return str(error)
    return ""


@contextmanager
def policy(stage: Stage) -> Iterator[None]:
    """Have the policy for endpoints, for the case's namespace only."""
    made = [*yaml.safe_load_all((ROOT / "policies/endpoint/policy.yaml").read_text())]
    for item in made:
        if item["kind"].endswith("Binding"):
            selector = {"kubernetes.io/metadata.name": stage.namespace}
            item["spec"]["matchResources"]["namespaceSelector"]["matchLabels"] = selector
    stage.kubectl.apply(made)
    try:
        yield
    finally:
        for item in reversed(made):
            stage.kubectl.run("delete", item["kind"], item["metadata"]["name"])


@pytest.fixture(scope="module")
def gateway(provider: Provider) -> None:
    """Install Envoy Gateway, which stays."""
    provider.add("envoy-gateway", _quiet)


@contextmanager
def _quiet(step: str) -> Iterator[None]:  # noqa: ARG001 - as the protocol names it
    yield
