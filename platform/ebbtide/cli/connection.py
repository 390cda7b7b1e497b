"""Options of the commands for a live cluster: how to reach it, in which namespace, how long to wait.

Nothing of a cluster is loaded before a command runs, and the client only when it connects.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Final

from ebbtide.cli.common import profile_or_problems
from ebbtide.cli.terminal import progress, tell
from ebbtide.documents import profiles

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.cluster.read.status import Status
    from ebbtide.profile.models import Profile
    from ebbtide.slo.source import Source

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
        """Wait."""
        time.sleep(seconds)


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add how the cluster is reached."""
    parser.add_argument("--kubeconfig", metavar="FILE", help="the kubeconfig; default KUBECONFIG, or the user's own")
    parser.add_argument("--context", metavar="NAME", help="a context of the kubeconfig; default its current one")


def add_place(parser: argparse.ArgumentParser, *, everywhere: bool = False) -> None:
    """Add how the cluster is reached, and in which project or namespace to look; with ``everywhere`` also in all."""
    add_connection(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-p", "--project", metavar="P", help="a project; its namespace is found by label or profile")
    where.add_argument("-n", "--namespace", metavar="NS", help="a namespace; default the context's")
    if everywhere:
        where.add_argument("-A", "--all", action="store_true", help="all namespaces")
    parser.add_argument(
        "--profile",
        metavar="P",
        default=profiles.BUILT_IN_NAME,
        help="what names a project's namespace, if no label does",
    )


def add_name(parser: argparse.ArgumentParser) -> None:
    """Add a workload's name and place."""
    parser.add_argument("name", metavar="NAME", help="the workload")
    add_place(parser)


def add_wait(parser: argparse.ArgumentParser, until: str) -> None:
    """Add how long to wait for what a command began; nothing by default."""
    parser.add_argument(
        "--wait", metavar="TIME", default="0", help=f"how long to wait until {until}: 90s, 5m; default 0"
    )


def add_counts(parser: argparse.ArgumentParser) -> None:
    """Add who counts the requests."""
    parser.add_argument(
        "--prometheus",
        metavar="URL",
        default=os.environ.get(PROMETHEUS) or None,
        help=f"who counts the requests; default {PROMETHEUS}, or the profile's through the API server",
    )


def add_format(parser: argparse.ArgumentParser, *choices: str) -> None:
    """Add the form of the answer, the first one by default."""
    parser.add_argument("-o", "--output", choices=choices, default=choices[0], help=f"default {choices[0]}")


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


def counts(cluster: Cluster, options: argparse.Namespace, profile: Profile) -> Source | None:
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


def source_of(cluster: Cluster, options: argparse.Namespace) -> Source | None:
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


def on_cluster(options: argparse.Namespace, work: Callable[[Cluster], int]) -> int:
    """Connect and work; what the cluster says no to is told, and is exit code 3."""
    from ebbtide.cluster.client.protocol import ClusterError  # noqa: PLC0415 - as in connect
    from ebbtide.slo.source import SourceError  # noqa: PLC0415 - as in connect

    try:
        return work(connect(options.kubeconfig, options.context))
    except (ClusterError, SourceError) as error:
        tell(f"error: {error}")
        return CLUSTER


def place(cluster: Cluster, options: argparse.Namespace) -> str:
    """Return the namespace that the options name.

    A project's is the one with its label; where none has it, the profile's pattern says.
    """
    if options.namespace:
        return str(options.namespace)
    if not options.project:
        return cluster.namespace
    from ebbtide.base import keys  # noqa: PLC0415 - only here
    from ebbtide.cluster.client.protocol import NAMESPACE, ClusterError, ForbiddenError  # noqa: PLC0415 - as in connect

    if options.profile == profiles.BUILT_IN_NAME:
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


def on_cluster_within(options: argparse.Namespace, work: Callable[[Cluster, float], int]) -> int:
    """Read ``--wait``, then connect and work with the seconds it gives."""
    limit = limit_of(options)
    return 2 if limit is None else on_cluster(options, lambda cluster: work(cluster, limit))


def limit_of(options: argparse.Namespace) -> float | None:
    """Return how many seconds to wait, or None where ``--wait`` says no time, which is told."""
    try:
        return parse_duration(options.wait)
    except ValueError:
        tell(f"--wait {options.wait}: say a time like 90s, 5m or 1h")
        return None


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


def parse_duration(text: str) -> float:
    """Return a duration in seconds: ``90``, ``90s``, ``5m``, ``1h``."""
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return float(match["number"]) * UNITS[match["unit"]]
