"""Connection options of the commands for a live cluster: kubeconfig, namespace, Prometheus and wait time.

Importing this module loads no cluster code; the Kubernetes client is loaded when a command connects.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

from ebbtide.cli.base.common import find_named_profile, print_problems, read_profile, try_read_profile
from ebbtide.cli.base.options import ONE_OF, Option, Options, make_option, make_parser
from ebbtide.cli.base.terminal import exit_with_message, paint_state, write_stderr
from ebbtide.cli.base.usage import format_suggestion
from ebbtide.core.base import keys
from ebbtide.core.base.prose import make_printable
from ebbtide.core.documents import profiles
from ebbtide.core.profile.projects import find_default_namespace
from ebbtide.core.units import format_duration, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ebbtide.cluster.client import protocol
    from ebbtide.cluster.read.inventory import LiveWorkload
    from ebbtide.cluster.read.status import Status
    from ebbtide.cluster.slo.label_proxy import ScopedSource
    from ebbtide.cluster.slo.prometheus import PrometheusSource
    from ebbtide.cluster.slo.source import MetricsSource
    from ebbtide.cluster.write.apply import WaitUpdate
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.objects import Object

_Found = TypeVar("_Found")
#: Cluster that a command works on.
Cluster: TypeAlias = "protocol.Cluster"
CLUSTER: Final = 3
#: Exit code after Ctrl-C, as in shells.
INTERRUPTED: Final = 130
#: The width of a progress line up to its reason.
HINT_INDENT: Final = " " * 31
#: Places that are suggested for a workload that is not found.
MAX_PLACES: Final = 3
#: Environment variable with the Prometheus URL.
PROMETHEUS: Final = "EBBTIDE_PROMETHEUS"
#: Time that ``list`` waits for Prometheus, in seconds.
LOAD_TIMEOUT_SECONDS: Final = 5.0


class SystemClock:
    """Clock of this machine."""

    def now(self) -> float:
        """Return the time in seconds since 1970."""
        return time.time()

    def ticks(self) -> float:
        """Return seconds that only advance, whatever happens to the machine's time."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class SimulatedConnection(NamedTuple):
    """The simulated cluster of ``ebbtide --demo``, with its metrics, its clock, its gateway's URL and its profile."""

    cluster: Cluster
    source: MetricsSource
    clock: protocol.Clock
    gateway: str
    profile: Profile
    profile_data: dict[str, Any]


#: Connection of ``ebbtide --demo``, which commands use instead of the kubeconfig's.
simulated: SimulatedConnection | None = None


def parse_price(text: str) -> float:
    """Parse the price of a GPU-hour, as in ``gpu-hour=2.5``."""
    from ebbtide.simulator.traffic.words import PRICE_FORM, read_gpu_hour

    price = read_gpu_hour(text)
    if price is None:
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"invalid value {text!r}: {PRICE_FORM}")
    return price


#: Options that select a cluster.
CONNECTION: Final = (
    make_option(
        "--kubeconfig", metavar="FILE", help="Path to the kubeconfig file (default: $KUBECONFIG or ~/.kube/config)"
    ),
    make_option("--context", metavar="NAME", help="Kubeconfig context (default: the current context)"),
)
#: Options that select a cluster, and a project or namespace in it.
PLACE: Final = (
    *CONNECTION,
    make_option(
        "-p",
        "--project",
        group=ONE_OF,
        metavar="P",
        help="Project; the namespace with its label, or else the one that the profile names",
    ),
    make_option(
        "-n", "--namespace", group=ONE_OF, metavar="NS", help="Namespace (default: the namespace of the context)"
    ),
)
#: The namespace of the specs that a command reads.
SPEC_NAMESPACE: Final = make_option(
    "-n",
    "--namespace",
    metavar="NS",
    help="Namespace of specs that set neither namespace nor project (default: the namespace of the context)",
)
EVERYWHERE: Final = make_option(
    *("-A", "--all-namespaces", "--all"), group=ONE_OF, action="store_true", dest="all", help="All namespaces"
)
NAMES: Final = make_option(
    "--profile", metavar="P", default="", help="Cluster profile, used if no namespace has the project's label"
)
COST: Final = make_option("--cost", metavar="RATE", type=parse_price, help="Price of a GPU-hour, as in gpu-hour=2.5")
#: Options that select a workload.
WORKLOAD: Final = (make_option("name", metavar="NAME", help="Name of the workload"), *PLACE, NAMES)
COUNTS: Final = make_option(
    "--prometheus",
    metavar="URL",
    # argparse applies ``type`` to a default that is a string.
    default="",
    type=lambda text: text or os.environ.get(PROMETHEUS) or None,
    help=f"Prometheus URL (default: ${PROMETHEUS}, or the profile's Prometheus through the API server)",
)


def make_wait_option(until: str, default: str = "0") -> Option:
    """Return the option ``--wait`` in seconds; ``until`` names the state that the command waits for."""
    note = f"as in 90s or 5m; 0 does not wait (default: {default})"
    return make_option(
        "--wait",
        metavar="TIME",
        type=make_parser(parse_duration, bare=True),
        default=default,
        help=f"Time to wait until {until}, {note}",
    )


def connect(kubeconfig: str | None, context: str | None) -> Cluster:
    """Connect to the cluster.

    Raises:
        UnreachableError: the client is not installed, or the kubeconfig names no cluster.
    """
    from ebbtide.cluster.client.protocol import UnreachableError

    if simulated is not None:
        return simulated.cluster
    try:
        from ebbtide.cluster.client.kubernetes import KubernetesCluster  # the client is slow to import
    except ImportError as error:
        raise UnreachableError(
            f"the Kubernetes client is not installed ({error}); install the wheel with the extra cluster"
        ) from error
    return KubernetesCluster.from_kubeconfig(kubeconfig, context)


def connect_source(cluster: Cluster, address: str | None, profile: Profile) -> MetricsSource:
    """Return the Prometheus at ``address``, or the profile's, from outside the cluster through the API server.

    Raises:
        SourceError: the client is not installed, or the address is invalid.
    """
    from ebbtide.cluster.slo.source import SourceError

    if simulated is not None:
        return simulated.source
    try:
        from ebbtide.cluster.slo import prometheus  # the client is slow to import
    except ImportError as error:
        raise SourceError(
            f"the Prometheus client is not installed ({error}); install the wheel with the extra slo"
        ) from error
    if address:
        return prometheus.PrometheusSource(address, profile)
    return _connect_service(cluster, profile.spec.metrics.prometheus, profile)


def connect_scoped_source(cluster: Cluster, address: str | None, profile: Profile) -> ScopedSource:
    """Return the Prometheus of ``connect_source``, and the profile's prom-label-proxy for the queries of members.

    Raises:
        SourceError: the client is not installed, or an address is invalid.
    """
    from ebbtide.cluster.slo.label_proxy import ScopedSource

    direct: Any = connect_source(cluster, address, profile)
    proxy = profile.spec.metrics.prometheus_proxy
    return ScopedSource(direct, _connect_service(cluster, proxy, profile) if proxy else None)


def _connect_service(cluster: Cluster, url: str, profile: Profile) -> PrometheusSource:
    """Return the Prometheus at a URL of the profile, from outside the cluster through the API server."""
    from ebbtide.cluster.slo import prometheus
    from ebbtide.cluster.slo.proxy import proxy_path
    from ebbtide.cluster.slo.source import SourceError

    if prometheus.runs_in_cluster() or proxy_path(url) is None:
        return prometheus.PrometheusSource(url, profile)
    api = getattr(cluster, "api", None)
    if api is None:
        raise SourceError("this cluster has no API server to reach Prometheus through; set --prometheus")
    return prometheus.connect_through(api, url, profile)


def connect_metrics_source(cluster: Cluster, options: Options, profile: Profile | None) -> MetricsSource | None:
    """Return the metrics source: the address of ``--prometheus``, or the profile's through the API server; None without one.

    Raises:
        SourceError: the address of ``--prometheus`` is invalid, or the client is not installed.
    """
    from ebbtide.cluster.slo.source import SourceError

    try:
        return None if profile is None else connect_source(cluster, options.prometheus, profile)
    except SourceError:
        if options.prometheus:
            raise
        return None


def find_live_profile(cluster: Cluster, options: Options) -> Profile | None:
    """Return the profile for a command that also works without: the named one, or the cluster's own; None if it has errors."""
    if is_profile_named(options):
        return try_read_profile(options.profile)
    from ebbtide.cluster.doctor.observed import ObservedCluster, make_observed_profile

    return profiles.validate_profile_data(make_observed_profile(ObservedCluster(cluster)))[0]


def add_metric_values(
    statuses: Sequence[Status], source: MetricsSource | None, *, explicit: bool, when: float
) -> list[Status]:
    """Return the statuses with the current value of the scaling metric.

    A failure is reported only if the user named the source. The wait is limited, because the metric is only one column.
    """
    from concurrent.futures import ThreadPoolExecutor

    from ebbtide.cluster.read.status import add_current_loads as load
    from ebbtide.cluster.slo.source import SourceError

    if source is None:
        return list(statuses)
    executor = ThreadPoolExecutor(1)
    try:
        return executor.submit(load, statuses, source, when).result(LOAD_TIMEOUT_SECONDS)
    except (SourceError, TimeoutError) as error:
        if explicit:
            write_stderr(f"Metrics are unavailable: {str(error) or 'Prometheus did not answer in time'}")
        return list(statuses)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def clock() -> protocol.Clock:
    """Return the clock that commands use."""
    return SystemClock() if simulated is None else simulated.clock


def run_on_cluster(options: Options, work: Callable[[Cluster], int], *, pod: bool = False) -> int:
    """Connect and run ``work``; print an error of the cluster or of Prometheus and return exit code 3.

    With ``pod``, a command without --kubeconfig that runs in a pod uses the pod's service account.
    """
    from ebbtide.cluster.client.protocol import ClusterError
    from ebbtide.cluster.slo.source import SourceError

    try:
        return work(_connect_pod() if pod and not options.kubeconfig else connect(options.kubeconfig, options.context))
    except (ClusterError, SourceError) as error:
        write_stderr(f"error: {error}")
        return CLUSTER


def _connect_pod() -> Cluster:
    """Connect to the cluster that this pod runs in, or to that of the kubeconfig outside of a pod."""
    from ebbtide.cluster.client import pod

    if simulated is not None or not pod.is_in_cluster():
        return connect(None, None)
    return pod.PodCluster()


def is_profile_named(options: Options) -> bool:
    """Return whether an option or the environment names the profile."""
    return bool(find_named_profile(options.profile))


def observe_profile(cluster: Cluster) -> tuple[Profile, dict[str, Any]]:
    """Return the cluster's own profile and its document, and report that it is used; exit if it has errors."""
    if simulated is not None:
        return simulated.profile, simulated.profile_data
    from ebbtide.cluster.doctor.observed import ObservedCluster, make_observed_profile

    observed = ObservedCluster(cluster)
    data = make_observed_profile(observed)
    profile, problems = profiles.validate_profile_data(data)
    print_problems(problems)
    if profile is None:
        raise SystemExit(1)
    unread = f", without {', '.join(observed.unread)} (access denied)" if observed.unread else ""
    write_stderr(f"Profile: this cluster as observed{unread}. To use another, set --profile")
    return profile, data


def profile_command(work: Callable[[Cluster, Options, Profile], int]) -> Callable[[Options], int]:
    """Decorate a function to run as a command on the cluster that its options select, with its profile.

    A profile that the options name is read before the command connects. Otherwise, the profile is that of the cluster. Its
    default namespace is that of ``--namespace``, else its own, else that of the context, as in kubectl.
    """

    def run(options: Options) -> int:
        from ebbtide.core.translation.project import with_default_namespace

        named = read_profile(options.profile) if is_profile_named(options) else None

        def run_on(cluster: Cluster) -> int:
            profile = observe_profile(cluster)[0] if named is None else named
            default = find_default_namespace(profile.spec.projects) or cluster.namespace
            namespace = getattr(options, "namespace", None) or default
            return work(cluster, options, with_default_namespace(profile, namespace))

        return run_on_cluster(options, run_on)

    return run


def list_selected_tops(cluster: Cluster, options: Options) -> list[Object]:
    """Return the top objects of the workloads that the options select."""
    from ebbtide.cluster.read.inventory import list_tops

    namespace = "" if options.all else resolve_namespace(cluster, options)
    return require_some(cluster, namespace, list_tops(cluster, namespace))


def require_some(cluster: Cluster, namespace: str, found: list[_Found]) -> list[_Found]:
    """Return what was found in a namespace, or in all if it is empty; a namespace that does not exist is an error."""
    from ebbtide.cluster.read.inventory import require_namespace

    if namespace and not found:
        require_namespace(cluster, namespace)
    return found


def resolve_namespace(cluster: Cluster, options: Options) -> str:
    """Return the namespace that the options select.

    A project's namespace has the project's label. If no namespace has it, or the caller is not allowed to list namespaces, the name
    follows the pattern of the named profile, or else that of the cluster's other projects.
    """
    if options.namespace:
        return str(options.namespace)
    if not options.project:
        return cluster.namespace
    from ebbtide.cluster.client.protocol import NAMESPACE, ClusterError, ForbiddenError
    from ebbtide.cluster.doctor.observed import find_namespace_pattern

    try:
        namespaces = cluster.list(NAMESPACE, labels=keys.PROJECT).items
    except ForbiddenError:
        namespaces = []
    for namespace in namespaces:
        if namespace["metadata"]["labels"][keys.PROJECT] == options.project:
            return str(namespace["metadata"]["name"])
    pattern = "" if is_profile_named(options) else find_namespace_pattern(namespaces)
    if not pattern:
        profile: Profile | None = try_read_profile(options.profile)
        if profile is None:
            raise ClusterError("cannot determine the namespace of the project without a valid profile")
        pattern = profile.spec.projects.namespace
    return pattern.replace("{project}", options.project)


def find_live_workload(cluster: Cluster, options: Options) -> LiveWorkload:
    """Return the workload that the options name, in the namespace that they select.

    Raises:
        MissingError: the workload does not exist.
    """
    from ebbtide.cluster.read.inventory import find_workload

    with suggesting_place(cluster, options.name):
        return find_workload(cluster, options.name, resolve_namespace(cluster, options), clock().now())


@contextmanager
def suggesting_place(cluster: Cluster, name: str) -> Iterator[None]:
    """Add to the error of a missing workload where else one of this name is."""
    from ebbtide.cluster.client.protocol import MissingError

    try:
        yield
    except MissingError as error:
        raise MissingError(f"{error}{_suggest_place(cluster, name)}") from error


def _suggest_place(cluster: Cluster, name: str) -> str:
    """Return where else a workload of this name is, with the flag that selects it, or a similar name; empty if unknown."""
    from ebbtide.cluster.client.protocol import ClusterError
    from ebbtide.cluster.read.inventory import list_tops

    try:
        tops = [top["metadata"] for top in list_tops(cluster, "")]
    except ClusterError:
        return ""
    places = []
    for metadata in [metadata for metadata in tops if metadata["name"] == name][:MAX_PLACES]:
        project = (metadata.get("labels") or {}).get(keys.PROJECT)
        where = f"project {project}: add -p {project}" if project else None
        places.append(where or f"namespace {metadata['namespace']}: add -n {metadata['namespace']}")
    if not places:
        return format_suggestion(name, (metadata["name"] for metadata in tops))
    return f"; it is in {', or in '.join(places)}"


def cluster_command(work: Callable[[Cluster, Options], int]) -> Callable[[Options], int]:
    """Decorate a function to run as a command on the cluster that its options select."""
    return lambda options: run_on_cluster(options, lambda cluster: work(cluster, options))


def format_progress(poll: WaitUpdate, prefix: str = "") -> str:
    """Return one poll of a workload as a line."""
    status = poll.status
    phase = paint_state(status.phase, f"{status.phase:13}")
    count = f"{status.replicas.ready}/{status.replicas.wanted}"
    line = f"{poll.seconds:6.1f} s  {prefix}{phase} {count:6} {make_printable(status.why)}".rstrip()
    return f"{line}\n{HINT_INDENT}{make_printable(poll.hint)}\n" if poll.hint else f"{line}\n"


@contextmanager
def explain_interrupt(explain: Callable[[], str]) -> Iterator[None]:
    """Print what Ctrl-C leaves behind, and exit."""
    try:
        yield
    except KeyboardInterrupt:
        exit_with_message(f"\n{explain()}", INTERRUPTED)


def wait_until_settled(cluster: Cluster, name: str, namespace: str, limit: float) -> int:
    """Poll a workload until it has settled, report each phase on stderr, and return the exit code."""
    from ebbtide.cluster.write.apply import wait_for_workload

    if not limit:
        return 0
    with explain_interrupt(
        lambda: f"Stopped waiting. The operation continues. For its status, run ebbtide describe {name} -n {namespace}"
    ):
        status = wait_for_workload(
            cluster, name, namespace, clock(), limit, lambda poll: write_stderr(format_progress(poll).rstrip())
        )
    if status is None:
        write_stderr(
            f"{name} has not settled after {format_duration(limit)}. The operation continues; for its status, run "
            f"ebbtide describe {name} -n {namespace}"
        )
        return CLUSTER
    if status.phase in {"Failed", "Degraded"}:
        write_stderr(f"{name} is {status.phase}: {status.why}")
        return CLUSTER
    return 0


def wait_until_gone(remaining: Callable[[], str], limit: float, subject: str) -> int:
    """Poll until a deletion is complete and return the exit code.

    ``remaining`` returns the subject and verb of what is left ("2 pods are"), or an empty string. ``subject`` names the
    deleted object.
    """
    system_clock = clock()
    deadline = system_clock.ticks() + limit
    with explain_interrupt(lambda: f"Stopped waiting. The deletion of {subject} continues."):
        while limit and (rest := remaining()):
            if system_clock.ticks() >= deadline:
                write_stderr(f"Timed out after {format_duration(limit)}: {rest} still terminating")
                return CLUSTER
            system_clock.sleep(1.0)
    return 0
