"""The suite's fixtures: the cluster, and each case's stage on it."""

import json
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from e2e import paths
from e2e.providers import choose
from e2e.providers.protocol import Provider, ProviderError
from e2e.stage import Stage

FAILURES = paths.CLUSTERS / "failures"
FIGURES = paths.CLUSTERS / "figures"


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark of cases that disturb whatever runs beside them: `make e2e` runs them after the others."""
    config.addinivalue_line("markers", "alone: kills parts of the cluster, or loads all of it")


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
def stage(provider: Provider, request: pytest.FixtureRequest) -> Iterator[Stage]:
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
