"""``ebbtide --demo COMMAND``: commands for a cluster on the simulated one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("numpy")

from ebbtide.cli.base import connection
from ebbtide.sandbox import demo, services
from ebbtide.sandbox.clocks import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from commands import Ran

EXAMPLE = Path(__file__).parents[2] / "examples" / "one-liner" / "spec.yaml"


@pytest.fixture(scope="module", autouse=True)
def one_world() -> Iterator[None]:
    """Generate the simulated past once for all commands, instead of for each."""
    world = services.demo_world(ManualClock(), hours=demo.HOURS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "demo_world", lambda **_: world)
        yield


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("list",), 0, "chat        team-a    Running"),
        (("list", "-A"), 0, "iris"),
        (("describe", "iris", "-p", "team-b"), 0, "InferenceService"),
        (("describe", "chat"), 0, "POD                                      SECONDS   SCHEDULING   IMAGE   WEIGHTS"),
        (("start", "chat"), 0, "weights on the node would cut at most 17.5 s, to a start of 24.5 s"),
        (("start", "summarize"), 0, "4 starts, median 20 s"),
        (("start", "ocr", "-p", "team-b"), 0, "no start was seen: no pod that became ready exists or is recorded"),
        (("start", "chat", "-o", "json"), 0, '"largest": "weights"'),
        (("why", "rank"), 0, "so it is minReplicas 2"),
        (("why", "moderate", "-p", "team-b"), 0, "by Ebbtide's controller, for"),
        (("slo",), 0, "rank                 team-a    VIOLATED"),
        (("logs", "chat"), 0, "POST /v1/chat/completions 200"),
        (("doctor",), 0, "no problems found"),
        (("diff", str(EXAMPLE)), 4, "+ create  Service team-a/hello"),
        (("apply", "-y", "--wait", "0", str(EXAMPLE)), 0, "created Service team-a/hello"),
        (("submit", "hello-again", "-i", "ghcr.io/acme/hello:1.0", "-y", "--wait", "0"), 0, "created Service"),
        (("scale", "chat", "--max", "2"), 0, "maxReplicas 2"),
        (("project", "list"), 0, "team-a"),
        (("key", "create", "ci", "-p", "team-a"), 0, "sk-ebbtide-"),
        (("call", "chat", "--chat", "Hello"), 0, "This is a simulated answer of chat"),
        (("call", "embed", "--path", "/embed", "-d", "{}"), 0, '"service": "embed"'),
    ],
)
def test_a_command_runs_on_the_simulated_cluster(
    run: Callable[..., Ran], words: tuple[str, ...], code: int, text: str
) -> None:
    ran = run("--demo", *words)

    assert ran.code == code, ran.err
    assert text in ran.out
    assert ran.err.startswith("Simulated cluster: changes are lost when the command ends\n")
    assert connection.simulated is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("render", "x"), "ebbtide: error: render needs no cluster: remove --demo"),
        (("list", "--kubeconfig", "x"), "ebbtide list: error: --demo uses a simulated cluster: remove --kubeconfig"),
        (("lisst",), "unknown command lisst; did you mean list?"),
    ],
)
def test_what_the_demo_does_not_have_is_reported(run: Callable[..., Ran], words: tuple[str, ...], message: str) -> None:
    ran = run("--demo", *words)

    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_the_user_s_own_cluster_has_no_effect(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EBBTIDE_PROFILE", "/nonexistent/profile.yaml")
    monkeypatch.setenv("EBBTIDE_PROMETHEUS", "http://127.0.0.1:1")
    monkeypatch.setenv("KUBECONFIG", "/nonexistent/kubeconfig")

    assert run("--demo", "list").code == 0
    assert "EBBTIDE_PROFILE" not in os.environ


def test_without_a_kubeconfig_the_demo_is_named(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent/kubeconfig")
    code, out, err = run("list")

    assert (code, out) == (3, "")
    assert err == (
        "error: cannot load a cluster from the kubeconfig /nonexistent/kubeconfig: the file does not exist; set KUBECONFIG, "
        "or use --kubeconfig FILE, or use --demo for a simulated cluster\n"
    )
