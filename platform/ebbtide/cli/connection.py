"""Options of the commands for a live cluster: how to reach it, in which namespace, how long to wait.

Nothing of a cluster is loaded before a command runs, and the client only when it connects.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Final, TypeAlias

from ebbtide.cli.common import profile_or_problems
from ebbtide.cli.options import ONE_OF, Option, Options, option, switch
from ebbtide.cli.terminal import progress, tell
from ebbtide.profile.built_in import BUILT_IN_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ebbtide.cluster.client import protocol
    from ebbtide.cluster.read.status import Status
    from ebbtide.profile.models import Profile
    from ebbtide.slo.source import Source

#: Any cluster that a command may work on.
Cluster: TypeAlias = "protocol.Cluster"
CLUSTER: Final = 3
#: The exit code of what Ctrl-C ended, as shells have it.
INTERRUPTED: Final = 130
DURATION: Final = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>[smh]?)")
#: So many digits that no bound of ours has more, and Python reads them.
WHOLE: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
#: The highest port of TCP.
PORTS: Final = 65535
#: What Knative's annotations and Kubernetes' objects count in: int32.
MOST: Final = 2**31 - 1
UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
#: The environment's variable for who counts the requests.
PROMETHEUS: Final = "EBBTIDE_PROMETHEUS"
#: Seconds that a list waits for the load.
LOAD_PATIENCE: Final = 5.0


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        """Return the time in seconds since 1970."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


#: The options that name a cluster.
CONNECTION: Final = (
    option("--kubeconfig", metavar="FILE", help="the kubeconfig; default KUBECONFIG, or the user's own"),
    option("--context", metavar="NAME", help="a context of the kubeconfig; default its current one"),
)
#: The options that name a cluster, and a project or namespace in it.
PLACE: Final = (
    *CONNECTION,
    option("-p", "--project", group=ONE_OF, metavar="P", help="a project; its namespace is found by label or profile"),
    option("-n", "--namespace", group=ONE_OF, metavar="NS", help="a namespace; default the context's"),
)
EVERYWHERE: Final = switch("-A", "--all", group=ONE_OF, help="all namespaces")
NAMES: Final = option(
    "--profile", metavar="P", default=BUILT_IN_NAME, help="what names a project's namespace, if no label does"
)
#: A workload's name and place.
WORKLOAD: Final = (option("name", metavar="NAME", help="the workload"), *PLACE, NAMES)
COUNTS: Final = option(
    "--prometheus",
    metavar="URL",
    # argparse reads a default as it reads a word.
    default="",
    type=lambda text: text or os.environ.get(PROMETHEUS) or None,
    help=f"who counts the requests; default {PROMETHEUS}, or the profile's through the API server",
)


def waiting(until: str) -> Option:
    """Return the option how long to wait for what a command began; nothing by default."""
    return option("--wait", metavar="TIME", default="0", help=f"how long to wait until {until}: 90s, 5m; default 0")


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return what reads an option that is a whole number from ``low`` to ``high``."""

    def read(text: str) -> int:
        if WHOLE.fullmatch(text) is None or not low <= int(text) <= high:
            from argparse import ArgumentTypeError  # noqa: PLC0415 - it is there when an option is read

            raise ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return read


def above_zero(text: str) -> float:
    """Return an option that is a number above 0, of what Kubernetes can count to."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MOST:
        from argparse import ArgumentTypeError  # noqa: PLC0415 - as in whole

        raise ArgumentTypeError(f"{text!r} is no number above 0 and up to {MOST}")
    return value


def connect(kubeconfig: str | None, context: str | None) -> Cluster:
    """Return the cluster.

    Raises:
        UnreachableError: the client is not installed, or the kubeconfig gives no cluster.

    """
    from ebbtide.cluster.client.protocol import UnreachableError  # noqa: PLC0415 - only when a command connects

    try:
        from ebbtide.cluster.client.kubernetes import Kubernetes  # noqa: PLC0415 - the client is slow to load
    except ImportError as error:
        raise UnreachableError(
            f"the Kubernetes client is not installed ({error}): pip install 'ebbtide[cluster]'"
        ) from error
    return Kubernetes.of_kubeconfig(kubeconfig, context)


def connect_source(cluster: Cluster, address: str | None, profile: Profile) -> Source:
    """Return the Prometheus: at the address given, else at the profile's, from outside through the API server.

    Raises:
        SourceError: the client is not installed, or the address makes no sense.

    """
    from ebbtide.slo.source import SourceError  # noqa: PLC0415 - as in connect

    try:
        from ebbtide.slo import prometheus  # noqa: PLC0415 - the client is slow to load
    except ImportError as error:
        raise SourceError(f"Prometheus' client is not installed ({error}): pip install 'ebbtide[slo]'") from error
    known = profile.spec.metrics.prometheus
    if address or prometheus.in_cluster() or prometheus.proxied(known) is None:
        return prometheus.Prometheus(address or known, profile)
    api = getattr(cluster, "api", None)
    if api is None:
        raise SourceError("this cluster has no API server to reach Prometheus through: say --prometheus")
    return prometheus.through(api, known, profile)


def counts(cluster: Cluster, options: Options, profile: Profile) -> Source | None:
    """Return who counts the requests: the address that is given, else the profile's by way of the API server.

    Raises:
        SourceError: the address that is given is none, or the client for it is not installed.

    """
    from ebbtide.slo.source import SourceError  # noqa: PLC0415 - as in connect

    try:
        return connect_source(cluster, options.prometheus, profile)
    except SourceError:
        if options.prometheus:
            raise
        return None


def source_of(cluster: Cluster, options: Options) -> Source | None:
    """Return who counts, of a command that goes on without: none where the profile cannot be read either."""
    profile = profile_or_problems(options.profile)
    return None if profile is None else counts(cluster, options, profile)


def with_loads(found: Sequence[Status], source: Source | None, *, asked_for: bool, when: float) -> list[Status]:
    """Return statuses with what moves them now; whoever cannot say it is told of only if he was named.

    A list must not wait long for what is only one column of it.
    """
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - as above

    from ebbtide.cluster.read.status import with_loads as loaded  # noqa: PLC0415 - as above
    from ebbtide.slo.source import SourceError  # noqa: PLC0415 - as above

    if source is None:
        return list(found)
    aside = ThreadPoolExecutor(1)
    try:
        return aside.submit(loaded, found, source, when).result(LOAD_PATIENCE)
    except (SourceError, TimeoutError) as error:
        if asked_for:
            tell(f"the load is not shown: {str(error) or 'Prometheus takes too long'}")
        return list(found)
    finally:
        aside.shutdown(wait=False, cancel_futures=True)


def clock() -> SystemClock:
    """Return the time that commands go by."""
    return SystemClock()


def on_cluster(options: Options, work: Callable[[Cluster], int]) -> int:
    """Connect and work; what the cluster says no to is told, and is exit code 3."""
    from ebbtide.cluster.client.protocol import ClusterError  # noqa: PLC0415 - as in connect
    from ebbtide.slo.source import SourceError  # noqa: PLC0415 - as in connect

    try:
        return work(connect(options.kubeconfig, options.context))
    except (ClusterError, SourceError) as error:
        tell(f"error: {error}")
        return CLUSTER


def place(cluster: Cluster, options: Options) -> str:
    """Return the namespace that the options name.

    A project's is the one with its label; where none has it, the profile's pattern says.
    """
    if options.namespace:
        return str(options.namespace)
    if not options.project:
        return cluster.namespace
    from ebbtide.base import keys  # noqa: PLC0415 - only here
    from ebbtide.cluster.client.protocol import NAMESPACE, ClusterError, ForbiddenError  # noqa: PLC0415 - as in connect

    if options.profile == BUILT_IN_NAME:
        try:
            found = cluster.list(NAMESPACE, labels=f"{keys.PROJECT}={options.project}").items
        except ForbiddenError:
            found = []
        if found:
            return str(found[0]["metadata"]["name"])
    profile: Profile | None = profile_or_problems(options.profile)
    if profile is None:
        raise ClusterError("the project's namespace is not known without the profile")
    return profile.spec.projects.namespace.replace("{project}", options.project)


def connected(work: Callable[[Cluster, Options], int]) -> Callable[[Options], int]:
    """Make a command of what works on the cluster that its options name, for the seconds that ``--wait`` says."""

    def run(options: Options) -> int:
        if "wait" in options:
            options.wait = limit_of(options)
        return on_cluster(options, lambda cluster: work(cluster, options))

    return run


def limit_of(options: Options) -> float:
    """Return how many seconds to wait; where ``--wait`` says no time, that is told, and the command ends."""
    try:
        return parse_duration(options.wait)
    except ValueError:
        tell(f"--wait {options.wait}: say a time like 90s, 5m or 1h")
        raise SystemExit(2) from None


def waited(cluster: Cluster, name: str, namespace: str, limit: float) -> int:
    """Look at a workload until it has settled, tell each phase on stderr, and return the exit code."""
    from ebbtide.cluster.write.apply import wait  # noqa: PLC0415 - only a command that waits

    if not limit:
        return 0
    try:
        end = wait(cluster, name, namespace, clock(), limit, lambda look: tell(progress(look).rstrip()))
    except KeyboardInterrupt:
        tell(f"\nno longer waiting; what was begun goes on: ebbtide describe {name} -n {namespace}")
        return INTERRUPTED
    if end is None:
        tell(f"{name} has not settled after {limit:.0f} s; it goes on: ebbtide describe {name} -n {namespace}")
        return CLUSTER
    if end.phase in {"Failed", "Degraded"}:
        tell(f"{name} is {end.phase}: {end.why}")
        return CLUSTER
    return 0


def wait_until_gone(left: Callable[[], str], limit: float, what: str) -> int:
    """Look until nothing is left of what was deleted, or say what is; ``left`` names it, and ``what`` is what ends."""
    now = clock()
    end = now.now() + limit
    try:
        while limit and (rest := left()):
            if now.now() >= end:
                tell(f"{rest} still ending")
                return CLUSTER
            now.sleep(1.0)
    except KeyboardInterrupt:
        tell(f"\nno longer waiting; {what} goes on ending")
        return INTERRUPTED
    return 0


def parse_duration(text: str) -> float:
    """Return a duration in seconds: ``90``, ``90s``, ``5m``, ``1h``."""
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return float(match["number"]) * UNITS[match["unit"]]
