"""The runner of Knative's conformance tests, without a cluster: outcomes, exceptions, and the translation of a Service."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("trustme", reason="the e2e group is not installed: make e2e installs it")

from e2e import paths
from e2e.conformance import suite
from e2e.conformance.__main__ import Outcome, read, unexpected
from e2e.conformance.expected import EXPECTED
from e2e.conformance.translate import DEFAULTS

if TYPE_CHECKING:
    from pathlib import Path


def event(action: str, test: str, **more: Any) -> dict[str, Any]:
    return {"Action": action, "Test": test, **more}


def test_outcomes_have_the_reason_of_a_test_and_of_its_parts() -> None:
    events = [
        event("run", "TestA"),
        event("output", "TestA", Output="    a_test.go:1: not supported\n"),
        event("skip", "TestA", Elapsed=0.1),
        event("output", "TestB/part", Output="    b_test.go:2: wrong\n"),
        event("fail", "TestB/part", Elapsed=1.0),
        event("fail", "TestB", Elapsed=2.0),
        event("output", "TestC", Output="    c_test.go:3: fine\n"),
        event("pass", "TestC", Elapsed=3.0),
        {"Action": "fail"},
    ]
    assert list(read(events)) == [
        Outcome("TestA", "skip", 0.1, "a_test.go:1: not supported"),
        Outcome("TestB", "fail", 2.0, "part: fail"),
        Outcome("TestC", "pass", 3.0, ""),
    ]


def test_failures_without_a_row_are_unexpected() -> None:
    known = next(iter(EXPECTED))
    outcomes = [
        Outcome("TestNew", "fail", 1.0, "wrong"),
        Outcome("TestOld", "pass", 1.0, ""),
        Outcome(known, "fail", 1.0, ""),
    ]
    assert unexpected({"upstream": outcomes}) == ["upstream: TestNew"]


def test_the_helper_of_upstream_calls_the_translation(tmp_path: Path) -> None:
    helpers = tmp_path / suite.HELPERS
    helpers.parent.mkdir(parents=True)
    helpers.write_text(f"func createService() {{\n{suite.CALL}\tcreate()\n}}\n")
    suite.add_translation(tmp_path)
    assert "service = translated(t, service)\n\tcreate()" in helpers.read_text()
    assert helpers.with_name("translated.go").read_text() == suite.ADDED.read_text()


def translate(service: dict[str, Any], monkeypatch: pytest.MonkeyPatch, defaults: str) -> Any:
    monkeypatch.setenv(DEFAULTS, defaults)
    command = [sys.executable, "-m", "e2e.conformance.translate"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, input=json.dumps(service), cwd=paths.ROOT
    )
    return json.loads(done.stdout) if done.returncode == 0 else (done.returncode, done.stderr)


def service(**container: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "chat", "creationTimestamp": None},
        "spec": {"template": {"spec": {"containers": [{"image": "kind.local/conformance/runtime:v1", **container}]}}},
        "status": {},
    }


def test_a_service_is_rendered_again_with_and_without_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, extended = (translate(service(), monkeypatch, defaults) for defaults in ("", "1"))
    (container,) = kept["spec"]["template"]["spec"]["containers"]
    assert container == {"name": "user-container", "image": "kind.local/conformance/runtime:v1"}
    (container,) = extended["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_refused_service_has_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    status, reason = translate(service(image="no image"), monkeypatch, "1")
    assert status == 1
    assert "error" in reason
