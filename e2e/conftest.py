"""The suite's fixtures: the cluster, and each case's stage on it."""

import fcntl
import json
import os
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e import paths
from e2e.providers import choose
from e2e.providers.protocol import Provider, ProviderError
from e2e.stage import Stage

FAILURES = paths.CLUSTERS / "failures"
LOCKS = paths.CLUSTERS / "locks"
FIGURES = paths.CLUSTERS / "figures"


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks: cases that are `alone` disturb whatever runs beside them, so `make e2e` runs them last."""
    config.addinivalue_line("markers", "alone: kills parts of the cluster, or loads all of it")
    config.addinivalue_line("markers", "exclusive(name): no other case with this name runs at the same time")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give cases that exclude each other to one worker, one after another: others would only wait for them."""
    for item in items:
        names = sorted(mark.args[0] for mark in item.iter_markers("exclusive"))
        if names:
            item.add_marker(pytest.mark.xdist_group("-".join(names)))


@pytest.fixture(scope="session")
def provider() -> Provider:
    """Return the running cluster's provider: EBBTIDE_E2E_PROVIDER says which, EBBTIDE_E2E_CLUSTER its name."""
    chosen = choose(os.environ.get("EBBTIDE_E2E_PROVIDER", ""), os.environ.get("EBBTIDE_E2E_CLUSTER", paths.DEFAULT))
    try:
        chosen.kubectl()
    except ProviderError as error:
        pytest.exit(str(error), returncode=3)
    return chosen


@pytest.fixture
def _exclusive(request: pytest.FixtureRequest) -> Iterator[None]:
    """Wait for whoever holds what this case needs as a whole, in whatever process."""
    names = sorted(mark.args[0] for mark in request.node.iter_markers("exclusive"))
    LOCKS.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        for name in names:
            lock = held.enter_context((LOCKS / name).open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def stage(provider: Provider, request: pytest.FixtureRequest, _exclusive: None) -> Iterator[Stage]:
    """Give a case its own project, empty before and removed after; what a failed one leaves is written down first."""
    folder = Path(request.path).parent
    name = request.node.name.removeprefix("test_").replace("_", "-").replace("[", "-").replace("]", "")
    case = Stage(provider, provider.kubectl(), folder, name)
    case.clean()
    start = time.monotonic()
    yield case
    outcome = request.node.stash.get(OUTCOME, None)
    if outcome is not None and outcome.failed:
        case.dump(FAILURES / name)
        print(f"\nwhat was there: {FAILURES / name}")
    FIGURES.mkdir(parents=True, exist_ok=True)
    record = {"case": folder.name, "test": name, "passed": outcome is not None and outcome.passed}
    record |= {"seconds": time.monotonic() - start, **case.figures}
    (FIGURES / f"{name}.json").write_text(json.dumps(record, default=str))
    case.clean()


OUTCOME = pytest.StashKey[pytest.TestReport]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: "pytest.CallInfo[None]"
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the fixture know how its case ended."""
    report = yield
    if call.when == "call":
        item.stash[OUTCOME] = report
    return report
