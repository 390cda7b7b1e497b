"""``ebbtide serve``: rejected options, start and shutdown."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from argparse import Namespace
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trustme
import yaml

from ebbtide.cli import make_parser
from ebbtide.cli.base import connection
from ebbtide.cli.operate import serve
from ebbtide.cli.operate.browser import FirstPage
from ebbtide.cluster.client import pod
from ebbtide.cluster.client.kubernetes import KubernetesCluster
from ebbtide.cluster.client.protocol import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = Path(__file__).parents[2] / "kustomize" / "ebbtide"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "would send tokens unencrypted"),  # noqa: S104 - the command rejects it
        (["--host", "192.0.2.1", "--tls-cert", "a.pem"], "must be set together"),
        (["--tls-key", "a.key"], "must be set together"),
        (["--demo", "--context", "x"], "uses a simulated cluster"),
        (["--demo", "--profile", "x.yaml"], "uses a built-in profile"),
        (["--demo", "--prometheus", "http://127.0.0.1:9090"], "uses simulated metrics"),
        (["--demo", "--port", "99999"], "invalid value '99999': must be a whole number from 0 to 65535"),
        (["--port", "-1"], "invalid value '-1': must be a whole number from 0 to 65535"),
        (["--demo", "--host", "192.0.2.1", "--behind-proxy"], "use a loopback address"),
        (["--demo", "--unix-socket", "a", "--port", "1"], "--unix-socket replaces the port"),
        (["--unix-socket", "a", "--behind-proxy"], "--unix-socket replaces the port"),
    ],
)
def test_unsafe_and_contradictory_options_are_rejected(run: Any, words: list[str], message: str) -> None:
    code, _, err = run("serve", *words)
    assert code == 2
    assert message in err


def test_environment_variables_do_not_contradict_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(connection.PROMETHEUS, "http://127.0.0.1:9090")
    parsed = make_parser("serve").parse_args(["serve", "--demo"])
    assert serve._find_contradiction(parsed) == ""  # noqa: SLF001 - the function under test


def test_a_missing_kubeconfig_is_reported(run: Any, tmp_path: Path) -> None:
    code, _, err = run("serve", "--kubeconfig", str(tmp_path / "none"))
    assert code == 3
    assert "cannot load a cluster from the kubeconfig" in err


@pytest.mark.parametrize(
    ("missing", "words", "extra"),
    [("uvicorn", [], "serve"), ("uvicorn", ["--demo"], "demo"), ("numpy", ["--demo"], "demo")],
)
def test_missing_packages_are_reported_with_their_extra(
    run: Any, monkeypatch: pytest.MonkeyPatch, missing: str, words: list[str], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    code, _, err = run("serve", *words)
    assert code == 2
    assert err == (
        f"error: the server's packages are not installed (import of {missing} halted; None in sys.modules); "
        f"install the wheel with the extra {extra}\n"
    )


def options(**values: Any) -> Namespace:
    return Namespace(
        **{
            "host": "127.0.0.1",
            "unix_socket": None,
            "session_key_file": None,
            "gateway": "",
            "behind_proxy": False,
            "allow_host": [],
            "cost": None,
            "tls_cert": None,
            "tls_key": None,
            **values,
        }
    )


def test_only_configured_host_names_are_accepted() -> None:
    assert serve.make_settings(options()).hosts == {"127.0.0.1", "localhost", "::1"}
    assert "ebbtide.example.com" in serve.make_settings(options(allow_host=["Ebbtide.example.com"])).hosts
    # Behind a proxy, the proxy checks host names, unless --allow-host lists them.
    assert serve.make_settings(options(behind_proxy=True)).hosts == frozenset()
    assert serve.make_settings(options(host="192.0.2.1", tls_cert="a")).tls


def test_only_loopback_with_a_kubeconfig_uses_the_local_user(monkeypatch: pytest.MonkeyPatch) -> None:
    from ebbtide.server.api import make  # noqa: PLC0415 - only needed here
    from ebbtide.server.api.access import Caller  # noqa: PLC0415 - as above

    callers: list[tuple[Any, Any]] = []

    class Found:
        api = None
        namespace = "team-a"

    monkeypatch.delenv(pod.HOST_VARIABLE, raising=False)
    jane = Caller("jane", is_local=True)
    monkeypatch.setattr(make, "connect_kubeconfig", lambda *_: (Found(), jane))
    monkeypatch.setattr(
        make,
        "make_cluster_backend",
        lambda *_, **named: callers.append((named["anonymous_caller"], named["local_caller"])),
    )
    monkeypatch.setattr(serve, "_source", lambda *_: None)
    monkeypatch.setattr(serve, "serve_backend", lambda *_: 0)
    defaults = {"profile": "built-in", "kubeconfig": None, "context": None, "read_only": False, "prometheus": None}
    for address_options in (
        {},
        {"unix_socket": "a"},
        {"behind_proxy": True},
        {"host": "192.0.2.1", "tls_cert": "a"},
    ):
        assert serve._serve_cluster(options(**defaults, **address_options)) == 0  # noqa: SLF001 - the function under test
    (anonymous, local), *others = callers
    assert anonymous is None
    assert len(local.token) == 43
    assert local == replace(jane, token=local.token)
    assert others == [(jane, None), (None, None), (None, None)]


def test_a_callers_client_has_no_credentials_of_the_server() -> None:
    import kubernetes.client  # noqa: PLC0415 - slow to import

    from ebbtide.server.api.access import Caller  # noqa: PLC0415 - only needed here
    from ebbtide.server.api.make import MAX_CLIENTS, CallerClients  # noqa: PLC0415 - as above

    server_config = kubernetes.client.Configuration()
    server_config.host, server_config.ssl_ca_cert = "https://192.0.2.1:6443", None
    server_config.api_key = {"authorization": "Bearer the-servers-own"}
    server_config.username, server_config.password, server_config.cert_file = "admin", "hunter2", "/admin.pem"
    server = KubernetesCluster(kubernetes.client.ApiClient(_without_files(server_config)))
    connections = CallerClients(server)
    client = connections.of(Caller("jane", token="jane's"))
    config = client.api.configuration
    assert config.host == "https://192.0.2.1:6443"
    assert (config.username, config.password, config.cert_file) == (None, None, None)
    assert config.api_key == {"BearerToken": "Bearer jane's"}
    headers: dict[str, str] = {}
    client.api.update_params_for_auth(headers, [], ["BearerToken"], "/", "GET", None)
    assert headers["authorization"] == "Bearer jane's"
    assert connections.of(Caller("jane", token="jane's")) is client
    assert connections.of(Caller("own", is_local=True)) is server
    for number in range(MAX_CLIENTS):
        connections.of(Caller("other", token=f"other {number}"))
    assert connections.of(Caller("jane", token="jane's")) is not client


def _without_files(config: Any) -> Any:
    config.cert_file = None
    return config


def test_a_process_outside_a_pod_has_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pod.HOST_VARIABLE, raising=False)
    assert not pod.is_in_cluster()
    with pytest.raises(UnreachableError, match="not running in a pod"):
        KubernetesCluster.from_pod()


@contextmanager
def begun(tmp_path: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command with the address of an API server that does not answer; yield the process and the printed URL."""
    config = tmp_path / "config"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "away",
                "clusters": [{"name": "away", "cluster": {"server": "http://127.0.0.1:9"}}],
                "users": [{"name": "jane", "user": {"token": "hunter2-token"}}],
                "contexts": [{"name": "away", "context": {"cluster": "away", "user": "jane"}}],
            }
        )
    )
    with serving(
        [sys.executable, "-m", "ebbtide", "serve", "--kubeconfig", str(config), "--port", "0", *words]
    ) as server:
        yield server


@contextmanager
def serving(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a command that serves; yield its process and the URL that signs in."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        watchdog = threading.Timer(120, server.kill)
        watchdog.start()
        try:
            assert server.stderr is not None
            lines = (re.search(r"https?://127\.0\.0\.1:\d+/\?key=[\w-]+", line) for line in server.stderr)
            match = next(filter(None, lines))
            yield server, match[0]
        finally:
            watchdog.cancel()
            server.kill()


def test_it_serves_without_an_api_server_and_shuts_down_on_a_signal(tmp_path: Path) -> None:
    """The server starts, reports that it has no data, and shuts down cleanly."""
    with begun(tmp_path) as (server, url):
        with httpx.Client(
            base_url=url.partition("?")[0], timeout=60, transport=httpx.HTTPTransport(retries=10)
        ) as client:
            assert client.get("/healthz").status_code == 200
            assert client.get("/readyz").status_code == 503
            assert client.get("/api/ebbtide/v1/workloads").status_code == 401
            signed_in = client.get(url)
            assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/overview")
            answer = client.get("/api/ebbtide/v1/workloads")
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:ebbtide:not-read")
        server.send_signal(signal.SIGTERM)
        assert server.stderr is not None
        rest = server.stderr.read()
        # uvicorn shuts down cleanly, and then raises the signal again.
        assert server.wait() == -signal.SIGTERM
    assert "hunter2" not in rest
    assert "Traceback" not in rest
    assert "GET /api/ebbtide/v1/workloads 503" in rest


def test_the_demo_needs_no_cluster_client_no_prometheus_client_and_no_numba() -> None:
    """Packages of the extra ``serve`` that ``demo`` does not have cannot be imported."""
    absent = ("kubernetes", "urllib3", "requests", "websocket", "prometheus_api_client", "numba")
    program = (
        f"import functools, sys\nsys.modules.update(dict.fromkeys({absent}))\nfrom ebbtide.cli import main\n"
        "from ebbtide.sandbox import services\n"
        # Simulating the usual past takes seconds.
        "services.demo_world = functools.partial(services.demo_world, hours=0.05)\n"
        "sys.exit(main(['serve', '--demo', '--port', '0']))"
    )
    retrying = httpx.HTTPTransport(retries=10)
    with (
        serving([sys.executable, "-c", program]) as (_, url),
        httpx.Client(base_url=url.partition("?")[0], timeout=60, transport=retrying) as client,
    ):
        client.get(url)
        for page in (
            "simulate",
            "workloads",
            "workloads/team-a/chat",
            "workloads/team-a/chat/slo",
            "workloads/team-a/chat/why",
        ):
            assert client.get(f"/{page}").status_code == 200


def test_with_a_certificate_only_tls_connections_are_accepted(tmp_path: Path) -> None:
    """A client that trusts the certificate's root gets an answer with HSTS; other clients get none."""
    root = trustme.CA()
    issued = root.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    key.write_bytes(issued.private_key_pem.bytes())
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    trusting = ssl.create_default_context()
    root.configure_trust(trusting)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    root.configure_trust(old)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with begun(tmp_path, "--tls-cert", str(certificate), "--tls-key", str(key)) as (_, url):
        assert url.startswith("https://")
        address = url.partition("?")[0]
        transport = httpx.HTTPTransport(retries=10, verify=trusting)
        with httpx.Client(base_url=address, timeout=60, transport=transport) as client:
            answer = client.get("healthz")
            assert (answer.status_code, answer.headers["strict-transport-security"]) == (200, "max-age=31536000")
        for other in (address.replace("https", "http"), address):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{other}healthz", timeout=60)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}healthz", timeout=60, verify=old)


# Manifests for running it in a cluster.


def manifests() -> dict[str, Any]:
    objects = {}
    for file in BASE.glob("*.yaml"):
        for item in yaml.safe_load_all(file.read_text()):
            if item["kind"] not in {"Kustomization", "Profile"}:
                objects[item["kind"]] = item
    return objects


def test_its_role_has_only_the_cache_s_reads_and_the_reviews() -> None:
    from ebbtide.cluster.watch.groups import KINDS  # noqa: PLC0415 - only needed here

    rules = manifests()["ClusterRole"]["rules"]
    read = {
        (group, resource)
        for rule in rules
        if rule["verbs"] == ["get", "list", "watch"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert read == {(kind.api_version.rpartition("/")[0], kind.plural) for kind in KINDS}
    others = {(*rule["apiGroups"], *rule["resources"], *rule["verbs"]) for rule in rules if "create" in rule["verbs"]}
    assert others == {
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("authorization.k8s.io", "subjectaccessreviews", "create"),
    }
    assert len(rules) == len(others) + sum(rule["verbs"] == ["get", "list", "watch"] for rule in rules)


def test_its_pod_is_restricted_and_its_arguments_are_valid() -> None:
    objects = manifests()
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} == {*container["resources"]}
    assert {"readinessProbe", "livenessProbe"} <= {*container}
    assert objects["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    from ebbtide.cli import make_parser  # noqa: PLC0415 - only needed here

    read = make_parser("serve").parse_args(container["args"])
    assert serve._find_contradiction(read) == ""  # noqa: SLF001 - the function under test
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        objects["Service"]["spec"]["selector"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


@pytest.mark.parametrize("works", [True, False])
def test_open_starts_the_browser_when_the_server_listens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, *, works: bool
) -> None:
    opened: list[str] = []
    done = threading.Event()

    def start(url: str) -> bool:
        opened.append(url)
        done.set()
        return works

    monkeypatch.setattr("webbrowser.open", start)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    page = FirstPage('http://127.0.0.1:1/?key=a&"b')
    assert [*tmp_path.rglob("*")] == [page.file.parent, page.file]
    assert 'content="0; url=http://127.0.0.1:1/?key=a&amp;&quot;b"' in page.file.read_text()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        page.open(listener.getsockname())
        assert not done.wait(0.3)
        listener.listen()
        assert done.wait(10)
    for thread in threading.enumerate():
        if thread.daemon and "_open_when_ready" in thread.name:
            thread.join(10)
    page.remove()
    page.remove()

    assert opened == [page.file.as_uri()]
    assert [*tmp_path.iterdir()] == []
    assert ("No browser found: open the printed URL" in capsys.readouterr().err) != works


def test_the_first_page_is_removed_after_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("webbrowser.open", lambda _: True)
    monkeypatch.setattr("ebbtide.cli.operate.browser.READ_SECONDS", 0.01)
    # A directory that does not exist is not used.
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    page = FirstPage("http://127.0.0.1:1/")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        page.open(listener.getsockname())
        deadline = time.monotonic() + 60
        while page.file.parent.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not page.file.parent.exists()


def test_open_ends_if_the_first_page_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", fail)
    monkeypatch.setattr("ebbtide.cli.operate.browser.exit_on_signals", lambda: None)
    with pytest.raises(SystemExit) as ended:
        serve._open_browser("http://127.0.0.1:1/?key=a", ("127.0.0.1", 1))  # noqa: SLF001 - the function under test
    assert ended.value.code == 2
    assert (
        "cannot write the browser's first page: no space left on device; use ebbtide serve" in capsys.readouterr().err
    )


def test_open_serves_the_local_user_only(run: Any) -> None:
    code, _, err = run("open", "--demo", "--unix-socket", "a")
    assert code == 2
    assert "open needs a loopback address: use ebbtide serve" in err
