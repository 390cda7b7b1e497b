"""The suite's fixtures: the cluster, and each case's stage on it."""

import json
import os
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from xdist.remote import Producer  # type: ignore[import-untyped] # upstream's
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped] # upstream's

from e2e import paths
from e2e.install.everything import list_unavailable_apis
from e2e.kubectl import KubectlError
from e2e.locks import INSTALLING, locked
from e2e.providers import choose
from e2e.providers.protocol import Provider, ProviderError
from e2e.stage import Stage

FAILURES = paths.CLUSTERS / "failures"
FIGURES = paths.CLUSTERS / "figures"
WHOLE = {
    "gpu-shared": {"11-shares", "12-priority", "13-quota"},
    "gpu-slices": {"29-surge"},
    "policies": {"16-policies", "17-dry-run"},
    "controller": {"28-floor", "30-crd"},
    "cluster": {
        *("20-faults", "26-situations", "33-evidence", "25-node::test_disk_pressure"),
        *("22-operate::test_doctor", "22-operate::test_profile_of_the_cluster"),
        "23-serve::test_page_while_the_api_server_is_away",
    },
    "devices": {"34-kai", "35-kueue", "36-dra"},
    "endpoint": {"37-endpoint"},
    "registry": {"39-starts", "40-image"},
}
"""Resources that some cases, or tests of a case, need exclusively: all shares of the node's GPU, all slices of one size, the API
server's admission, the floors of all workloads, which one controller writes, parts of the cluster that are taken away or that must
not be busy, the node's devices, which one scheduler allocates, the endpoint's Envoy, and the port of the registry on the node."""
SHARING = ("test_whole_gpus", "test_mig_devices", "test_sidecars_count")
"""Tests of these cases that use other resources."""
LONGEST = (
    *("28-floor", "30-crd", "29-surge", "11-shares", "12-priority", "13-quota", "21-slo", "06-gpu", "22-operate"),
    *("39-starts", "16-policies", "17-dry-run", "33-evidence", "00-provider", "27-quickstart", "19-many"),
)
"""Cases to start first, so that none of them runs on at the end while other workers have nothing left to do."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers: cases marked `alone` disturb those that are not, so `make e2e` runs them afterwards."""
    config.addinivalue_line("markers", "alone: kills parts of the cluster, loads all of it, or needs half a core")
    config.addinivalue_line(
        "markers", "schedulers: needs another scheduler, quota controller, gateway or proxy, which stays"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest cases start first."""
    order = {case: place for place, case in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))


class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # of no type, as above
    """Gives cases that exclude each other to one worker, one after another: others would only wait for them.

    Xdist's own loadgroup sees no groups with pytest 9.2, which has another place for a test's name.
    """

    def _split_scope(self, nodeid: str) -> str:
        return whole(nodeid) or nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Have it for every run of several workers."""
    return Scheduling(config, log)


def whole(path: str) -> str:
    """Return what a test needs as a whole, by its node ID; empty where it shares all."""
    if path.endswith(SHARING):
        return ""
    file, _, test = path.rpartition("::")
    folder = Path(file).parent.name
    return next((name for name, cases in WHOLE.items() if not cases.isdisjoint((folder, f"{folder}::{test}"))), "")


@pytest.fixture(scope="session")
def provider() -> Provider:
    """Return the running cluster's provider: EBBTIDE_E2E_PROVIDER says which, EBBTIDE_E2E_CLUSTER its name."""
    chosen = choose(os.environ.get("EBBTIDE_E2E_PROVIDER", ""), os.environ.get("EBBTIDE_E2E_CLUSTER", paths.DEFAULT))
    try:
        unavailable = list_unavailable_apis(chosen.kubectl())
    except (ProviderError, KubectlError) as error:
        pytest.exit(str(error), returncode=3)
    if unavailable:
        pytest.exit("\n".join(unavailable), returncode=3)
    return chosen


@pytest.fixture(autouse=True)
def _exclusive(request: pytest.FixtureRequest) -> Iterator[None]:
    """Lock the resources that this case needs exclusively; other cases marked `alone` share the cluster."""
    name, alone = whole(request.node.nodeid), is_alone(request.node)
    with ExitStack() as held:
        if name or alone:
            held.enter_context(locked(name or "cluster", shared=not name))
        if request.node.get_closest_marker("schedulers") is not None:
            held.enter_context(locked(INSTALLING, shared=True))
        yield


def is_alone(item: pytest.Item) -> bool:
    """Return whether a test belongs to the phase `alone`."""
    return item.get_closest_marker("alone") is not None


@pytest.fixture(scope="session")
def cleaning() -> Iterator[ThreadPoolExecutor]:
    """Remove what cases leave while the next ones run; an error of a removal ends the session with an error."""
    with ThreadPoolExecutor(1) as pool:
        yield pool
    errors = [str(error) for done in REMOVALS if (error := done.exception())]
    assert not errors, "\n".join(errors)


@pytest.fixture
def stage(provider: Provider, request: pytest.FixtureRequest, cleaning: ThreadPoolExecutor) -> Iterator[Stage]:
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
    if whole(request.node.nodeid) or is_alone(request.node):
        # The next one needs what this one has, or the cluster as it was.
        case.clean()
    else:
        REMOVALS.append(cleaning.submit(case.clean))


REMOVALS: "list[Future[None]]" = []
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
