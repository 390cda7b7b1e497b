"""Shared parts of the tests: --accept, the golden cases, and the judge's process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from playwright.sync_api import Browser

    from commands import Ran

# A slow machine must not fail a test: hypothesis would, after 200 ms for one example.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
# For tools/tiers.py: more examples find no missing import.
settings.register_profile("few examples", deadline=None, max_examples=3)

ROOT = Path(__file__).parent.parent
#: The folders of the tests: one per tier, and one for the repository's documents, manifests and tools.
TIERS = ("core", "simulator", "cluster", "server", "runai", "sandbox", "cli", "repository")
sys.path[:0] = [str(ROOT / "tools"), *(str(ROOT / "tests" / name) for name in ("", *TIERS)), str(ROOT)]


#: Files whose tests run for long or wait, the longest first. Started last, one of them would run alone at the end.
LONG_FILES = (
    "test_image", "test_api_server", "test_other_account", "test_browser_layout", "test_browser_form", "test_api_schema", "test_web_browser",
    "test_browser_overview", "test_package", "test_leader_law", "test_availability", "test_fault_law", "test_browser_canary",
    "test_browser_playground", "test_cli_serve", "test_simulate_tune", "test_world", "test_go_agrees", "test_web_form",
    "test_kustomize", "test_docs", "test_import", "test_cli_simulate", "test_e2e_servers", "test_policies", "test_laws",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that run longest, and keep the order of the others."""
    places = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip the modules that import a tier whose folder is absent, with the name of the tier as the reason."""
    report = yield
    # Pytest's own attribute of a failed report, with the error of the import as the cause.
    call: pytest.CallInfo[Any] | None = getattr(report, "call", None)
    error = call.excinfo.value.__cause__ if call is not None and call.excinfo is not None else None
    tier = (getattr(error, "name", "") or "").removeprefix("ebbtide.").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and tier in TIERS and not (ROOT / "platform" / "ebbtide" / tier).exists():
        report.outcome = "skipped"
        report.longrepr = (report.nodeid, 0, f"Skipped: needs the tier {tier}, whose folder is absent")
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="write what is made as what is expected")


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--accept"))


@pytest.fixture(autouse=True, scope="session")
def state_home() -> Iterator[None]:
    """Give the session its own state directory: with ``--demo``, commands use the cluster of a demo server that they find there."""
    with tempfile.TemporaryDirectory(prefix="ebbtide-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", folder)
        yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Call the command line in this process; a traceback is never an answer."""
    # Found once this module has put tests/ on the path; and what coverage counts is not imported before it counts.
    from commands import Ran  # noqa: PLC0415
    from ebbtide.cli import main  # noqa: PLC0415

    def call(*words: str | Path) -> Ran:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium, for a module's tests."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - few tests need a browser

    from website import CHROMIUM, FLAGS  # noqa: PLC0415 - as in run

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


class Judge:
    """The running judge process, which answers each question with one line of JSON."""

    def __init__(self, binary: Path) -> None:
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, kind: str, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"id": 1, "kind": kind, **question}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


def start_judge(name: str) -> Iterator[Judge]:
    binary = ROOT / "tools" / "judge" / "bin" / name
    if not binary.exists():
        pytest.skip("judge not built: make judge")
    running = Judge(binary)
    yield running
    running.process.communicate(timeout=10)


@pytest.fixture(scope="session")
def kserve_judge() -> Iterator[Judge]:
    """The judge with KServe, and the oldest Knative and Kubernetes that are judged."""
    yield from start_judge("judge")


@pytest.fixture(scope="session")
def newest_judge() -> Iterator[Judge]:
    """The judge with the newest Knative and Kubernetes, without KServe."""
    yield from start_judge("newest")


@pytest.fixture(scope="session", params=["knative-1.21", "knative-1.24"])
def judge(request: pytest.FixtureRequest) -> Judge:
    """The judges of the oldest and the newest minor version."""
    name = "kserve_judge" if request.param == "knative-1.21" else "newest_judge"
    running: Judge = request.getfixturevalue(name)
    return running
