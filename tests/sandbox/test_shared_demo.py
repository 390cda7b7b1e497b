"""Commands with ``--demo`` use the cluster of a running demo server, so that their changes stay."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

pytest.importorskip("numpy")

from ebbtide.cli.base import connection, files
from ebbtide.cluster.client.protocol import (
    KNATIVE,
    POD,
    ConflictError,
    LogQuery,
    MissingError,
    UnreachableError,
    WatchBookmark,
)
from ebbtide.cluster.slo.source import Ref
from ebbtide.sandbox import demo, gateway, services, shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from commands import Ran

EXAMPLE = Path(__file__).parents[2] / "examples" / "one-liner" / "spec.yaml"
OWN = "Simulated cluster: changes are lost when the command ends\n"
SHARED = "Simulated cluster of the running demo server: changes stay until it ends\n"


def find_socket() -> Path:
    folder = files.find_state_folder()
    assert folder is not None
    return folder / demo.SOCKET


@pytest.fixture(scope="module")
def parts() -> Iterator[shared.SharedParts]:
    world = services.demo_world(hours=0.05)
    with world.running(), gateway.serve_gateway(world) as address:
        yield shared.SharedParts(world.cluster, world.source, world.clock, address)


@pytest.fixture
def remote(parts: shared.SharedParts) -> Iterator[shared.SharedParts]:
    """Share the cluster, and return its parts as another process sees them."""
    with demo.share_with_commands(parts):
        connected = shared.connect_parts(str(find_socket()), "team-a")
        assert connected is not None
        yield connected


@pytest.mark.usefixtures("remote")
def test_a_socket_of_another_account_is_not_used(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert run("--demo", "list").err.startswith(OWN)


@pytest.mark.usefixtures("remote")
def test_a_change_stays_for_the_next_command(run: Callable[..., Ran]) -> None:
    ran = run("--demo", "apply", "-y", str(EXAMPLE))
    assert ran.code == 0, ran.err
    assert ran.err.startswith(SHARED)

    assert "hello" in run("--demo", "list").out
    assert "fixed at 1" in run("--demo", "why", "hello").out
    assert "simulated" in run("--demo", "call", "hello").out
    assert run("--demo", "slo", "hello").code == 0
    assert "POST /v1/chat/completions 200" in run("--demo", "logs", "chat").out
    assert run("--demo", "delete", "-y", "hello", "--wait", "1m").code == 0
    assert "hello" not in run("--demo", "list").out
    assert connection.simulated is None


@pytest.mark.usefixtures("remote")
def test_a_key_opens_the_models_of_its_project_until_it_is_revoked(
    run: Callable[..., Ran], parts: shared.SharedParts
) -> None:
    ran = run("--demo", "key", "create", "laptop")
    assert ran.code == 0, ran.err
    host = "team-a.models.example.com"
    assert f"the demo answers at {parts.gateway}/v1 with the header Host: {host}" in ran.err
    headers = {"Host": host, "Authorization": f"Bearer {ran.out.strip()}"}

    listed = httpx.get(f"{parts.gateway}/v1/models", headers=headers).json()["data"]
    assert [row["id"] for row in listed] == ["Qwen/Qwen2.5-7B-Instruct-AWQ", "summarize"]
    body = {"model": listed[0]["id"], "messages": [{"role": "user", "content": "Hello"}]}
    answer = httpx.post(f"{parts.gateway}/v1/chat/completions", headers=headers, json=body, timeout=120)
    assert answer.json()["choices"][0]["message"]["content"].startswith("This is a simulated answer of chat")

    assert "laptop" in run("--demo", "key", "list").out
    assert run("--demo", "key", "revoke", "laptop", "-y").code == 0
    assert httpx.get(f"{parts.gateway}/v1/models", headers=headers).status_code == httpx.codes.UNAUTHORIZED


def test_without_a_server_a_command_has_its_own_cluster(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert run("--demo", "list").err.startswith(OWN)
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    assert run("--demo", "list").err.startswith(OWN)


def test_a_remote_part_answers_as_the_part(parts: shared.SharedParts, remote: shared.SharedParts) -> None:
    assert remote.gateway == parts.gateway
    assert remote.cluster.namespace == "team-a"
    assert remote.cluster.get(KNATIVE, "chat", "team-a") == parts.cluster.get(KNATIVE, "chat", "team-a")
    assert remote.clock.now() == pytest.approx(parts.clock.now(), abs=30)
    now = remote.clock.now()
    assert remote.source.histories([Ref("team-a", "chat")], now, now, 60, ("stable",))
    with pytest.raises(MissingError, match="not found"):
        remote.cluster.get(KNATIVE, "missing", "team-a")
    changes = remote.cluster.follow(KNATIVE, "team-a", seconds=1)
    assert any(isinstance(change, WatchBookmark) for change in changes)


def test_a_followed_log_can_be_closed(remote: shared.SharedParts) -> None:
    pod = next(item for item in remote.cluster.list(POD, "team-a").items if "chat" in item["metadata"]["name"])
    log = remote.cluster.logs("team-a", pod["metadata"]["name"], "user-container", LogQuery(follow=True))
    assert next(iter(log))
    log.close()
    assert [*log] == []


def test_a_conflict_keeps_its_owners() -> None:
    error = pickle.loads(pickle.dumps(ConflictError("conflict", {"kubectl": ("spec",)})))  # noqa: S301 - our own
    assert (str(error), error.owners) == ("conflict", {"kubectl": ("spec",)})


def test_the_end_of_the_server_is_reported(parts: shared.SharedParts) -> None:
    with demo.share_with_commands(parts):
        path = find_socket()
        assert path.stat().st_mode & 0o777 == 0o600
        connected = shared.connect_parts(str(path), "team-a")
    assert connected is not None
    assert not path.exists()
    with pytest.raises(UnreachableError, match="the server of the demo has ended"):
        connected.cluster.list(POD)


def test_a_second_server_does_not_replace_the_first(
    parts: shared.SharedParts, remote: shared.SharedParts, capsys: pytest.CaptureFixture[str]
) -> None:
    with demo.share_with_commands(parts):
        pass
    assert capsys.readouterr().err.endswith(
        "note: commands with --demo do not use this cluster: another demo server is running\n"
    )
    assert remote.cluster.list(POD).items


def test_a_server_in_another_process_and_the_socket_that_it_leaves(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    program = (
        "import functools, sys\nfrom ebbtide.cli import main\nfrom ebbtide.sandbox import services\n"
        "services.demo_world = functools.partial(services.demo_world, hours=0.05)\n"
        "sys.exit(main(['serve', '--demo', '--port', '0']))"
    )
    for _ in range(2):
        server = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, env=os.environ)
        assert server.stderr is not None
        try:
            # Once its URL is printed, it serves.
            started = [*itertools.takewhile(lambda line: not line.startswith("Open http"), server.stderr)]
            assert "Commands with --demo use this cluster while the server runs\n" in started
            ran = run("--demo", "scale", "chat", "--max", "2")
            assert (ran.code, ran.err.startswith(SHARED)) == (0, True), ran.err
            assert json.loads(run("--demo", "describe", "chat", "-o", "json").out)["replicas"]["maximum"] == 2
        finally:
            server.kill()
            server.communicate()
        assert run("--demo", "list").err.startswith(OWN)
