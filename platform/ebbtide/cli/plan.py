"""``ebbtide plan``: how many GPUs a fleet of services needs, what binds, and which changes free some."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ebbtide.cli import connection, simulate
from ebbtide.cli.common import choose_profile, load_documents, read_profile, read_sources, write_json
from ebbtide.cli.options import (
    Options,
    make_match_parser,
    make_option,
    make_output_option,
    make_switch,
    make_whole_number_parser,
)
from ebbtide.cli.tune import require_editable, write_specs
from ebbtide.core.base.problems import Problem, has_errors
from ebbtide.core.documents.files import is_directory, read_file, unreadable_problem
from ebbtide.core.translation.translate import make_plan
from ebbtide.simulator.request import PreparedCase, SimulationRequest, prepare_case

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ebbtide.cluster.slo.source import MetricsSource
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.loaded import LoadedDocument
    from ebbtide.simulator.plan_report import PlanReport
    from ebbtide.simulator.planner import FleetPlanner, TrafficLog
    from ebbtide.simulator.pool import PoolSize

COMMAND: Final = "plan"
#: Value of --traffic for the requests of the last days that Prometheus has, and their length and resolution in seconds.
PROMETHEUS: Final = "prometheus"
PERIOD: Final = 7 * 86_400.0
RESOLUTION: Final = 120.0
#: Ending of a file that has a traffic shape instead of a log.
SHAPE_SUFFIX: Final = ".shape"
#: Server of one service: its name before the model.
NAMED_SERVER: Final = re.compile(r"([a-z0-9][a-z0-9.-]*)=(.+)")
TRAINING: Final = re.compile(r"([1-9][0-9]{0,4})x([^,]+)(?:,(preemptible|non-preemptible))?")
POOL: Final = re.compile(r"([^=]+)=([1-9][0-9]{0,5})")
PRICE: Final = re.compile(r"([^=]+)=([0-9]{1,6}(?:\.[0-9]{1,6})?)")
FACTOR: Final = re.compile(r"([^*]+)\*([0-9]+(?:\.[0-9]+)?)")
SERVERS: Final = make_option(
    "--server",
    metavar="MODEL",
    action="append",
    default=[],
    help="Server model of all services as in `ebbtide simulate`, or of one: NAME=MODEL; repeatable",
)
OPTIONS: Final = (
    make_option("files", nargs="*", metavar="FOLDER", help="Directory of spec files, or spec files"),
    make_switch("--live", help="Plan the services of the cluster, on its nodes, with the requests that Prometheus has"),
    *connection.PLACE,
    connection.EVERYWHERE,
    connection.COUNTS,
    make_option(
        "--traffic",
        metavar="LOGS",
        default="",
        help="Directory with one log per service, named after it: chat.csv for chat, or chat.shape with a traffic shape; "
        "or prometheus: the requests of the last 7 days (default with --live)",
    ),
    make_option(
        "--pool",
        metavar="NAME=N",
        type=make_match_parser(POOL, "h100=8"),
        action="append",
        default=[],
        help="Number of GPUs of a node pool of the profile; repeatable, and the search changes the first (default with "
        "--live: the cluster's nodes)",
    ),
    make_option(
        "--price",
        metavar="NAME=PRICE",
        type=make_match_parser(PRICE, "h100=2.5"),
        action="append",
        default=[],
        help="Price of a GPU-hour of a node pool, as in h100=2.5; repeatable (default: that of the profile)",
    ),
    make_option(
        "--training",
        metavar="NxPOOL",
        type=make_match_parser(TRAINING, "4xh100,preemptible"),
        help="Training pods of one GPU each that always want to run, as in 4xh100,preemptible",
    ),
    *(option for option in simulate.CASE if option.dest not in {"spec", "traffic", "server", "cost"}),
    SERVERS,
    make_option(
        "--what-if",
        metavar="NAME*F",
        type=make_match_parser(FACTOR, "chat*2"),
        action="append",
        default=[],
        help="Multiply the requests of a service, as in 'chat*2'; repeatable",
    ),
    make_option(
        "--changes",
        metavar="N",
        type=make_whole_number_parser(0, 1000),
        default=5,
        help="Number of services, by GPU-hours, for which changes are simulated (default: 5)",
    ),
    make_switch("--write", help="Write the changes that free GPUs together to the spec files"),
    make_output_option("text", "json", "html"),
)


def run(options: Options) -> int:
    simulate.require_numpy(COMMAND)
    if options.live == bool(options.files):
        simulate.exit_with_usage_error("set a folder of specs, or --live", COMMAND)
    if options.live and options.write:
        simulate.exit_with_usage_error("--write needs a folder of specs: remove --live", COMMAND)
    if options.live or options.traffic == PROMETHEUS:
        return _plan_on_cluster(options)
    if not options.traffic or not options.pool:
        simulate.exit_with_usage_error("set --traffic and --pool, or --live", COMMAND)
    profile = read_profile(options.profile)
    return _plan(options, profile, _read_specs(options, profile), _read_logs(options))


@connection.profile_command
def _plan_on_cluster(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    """Plan the services of the cluster, or those of the folder with their requests in Prometheus."""
    from ebbtide.cluster.read.inventory import list_tops
    from ebbtide.core.documents import load_document

    namespace = "" if options.all else connection.resolve_namespace(cluster, options)
    if options.live:
        tops = list_tops(cluster, namespace)
        specs = [
            load_document(top, profile, name=f"{top['metadata']['namespace']}/{top['metadata']['name']}")
            for top in tops
        ]
        _exit_if_errors(specs)
        namespaces = [str(top["metadata"]["namespace"]) for top in tops]
    else:
        specs = _read_specs(options, profile)
        plans = [None if each.inference is None else make_plan(each.inference, profile)[0] for each in specs]
        namespaces = [namespace if plan is None else plan.namespace for plan in plans]
    notes: list[str] = []
    if options.traffic in {"", PROMETHEUS}:
        source = connection.connect_source(cluster, options.prometheus, profile)
        specs, logs = _read_recorded(source, zip(namespaces, specs, strict=True), notes)
    else:
        logs = _read_logs(options)
    return _plan(options, profile, specs, logs, notes)


def _read_recorded(
    source: MetricsSource, services: Iterable[tuple[str, LoadedDocument]], notes: list[str]
) -> tuple[list[LoadedDocument], list[TrafficLog]]:
    """Return the services with requests in Prometheus and their logs; ``notes`` gets the others."""
    from ebbtide.cluster.slo.replay import NoReplayError, read_traffic
    from ebbtide.cluster.slo.source import Ref
    from ebbtide.simulator.planner import TrafficLog

    now, found, logs = connection.clock().now(), [], []
    for namespace, loaded in services:
        ref = Ref(namespace, str(loaded.reading.native["metadata"]["name"]))
        try:
            log, server, _ = read_traffic(source, ref, now - PERIOD, now, RESOLUTION)
        except NoReplayError as error:
            notes.append(f"without {ref.namespace}/{ref.name} and its GPUs: {error}")
            continue
        found.append(loaded)
        logs.append(TrafficLog(ref.name, f"{ref.name}.csv", log.encode(), server))
    if not found:
        message = f"no service has recorded requests: {'; '.join(notes) or 'none was found'}"
        fix = "set --traffic to a directory of logs, or -A for the services of all namespaces"
        simulate.exit_with_problems(Problem("PLN001", (), message, fix))
    return found, logs


def _plan(
    options: Options,
    profile: Profile,
    specs: Sequence[LoadedDocument],
    logs: Sequence[TrafficLog],
    notes: Sequence[str] = (),
) -> int:
    from ebbtide.simulator import plan_report, planner, pool

    factors = {name: float(factor) for name, factor in options.what_if}
    with simulate.exit_if_refused(COMMAND):
        pairs = planner.match_logs(specs, logs)
        cases = [_prepare(options, loaded, log, profile) for loaded, log in pairs]
        names = {log.workload for _, log in pairs}
        if unknown := sorted(set(factors) - names):
            simulate.exit_with_usage_error(
                f"invalid --what-if: no service {unknown[0]}; services: {', '.join(sorted(names))}", COMMAND
            )
        sizes = _read_pools(options, profile)
        training = _read_training(options, sizes)
        prices = _read_prices(options, sizes, profile)
        unpriced = [size.name for size in sizes if size.name not in prices]
        if prices and unpriced:
            # A sum without them would look like one of all.
            notes = [*notes, f"no cost: node pool {unpriced[0]} has no price in the profile, and no --price"]
            prices = {}
        fleet = planner.make_fleet(cases, sizes, pool.read_quotas(profile), training, factors, prices)
        planned = planner.plan_fleet(fleet, cases)
    notes = list(dict.fromkeys([*notes, *(note for prepared in cases for note in prepared.notes)]))
    report = _search(options, planned, sizes[0].gpus, notes)
    if options.output == "json":
        write_json(plan_report.plan_to_json(report))
    else:
        render = plan_report.render_plan_page if options.output == "html" else plan_report.render_plan_text
        sys.stdout.write(render(report))
    if options.write:
        by_name = {str(loaded.reading.native["metadata"]["name"]): loaded for loaded, _ in pairs}
        edits = [(by_name[change.service], change.edits) for change in report.found.changes if change.edits]
        for loaded, _ in edits:
            require_editable(loaded)
        write_specs(edits, "changes")
    return 0


def _search(options: Options, planned: FleetPlanner, gpus: int, notes: Sequence[str]) -> PlanReport:
    from ebbtide.simulator import plan_report, planner

    smallest = plan_report.choose_pools(planned)
    found = planner.find_changes(planned, smallest[100], options.changes)
    return plan_report.PlanReport(planned, gpus, smallest, found, tuple(notes))


def _read_specs(options: Options, profile: Profile) -> list[LoadedDocument]:
    specs = [loaded for loaded in load_documents(read_sources(options.files), profile) if loaded.other is None]
    _exit_if_errors(specs)
    return specs


def _exit_if_errors(specs: Sequence[LoadedDocument]) -> None:
    problems = [problem for loaded in specs for problem in loaded.problems]
    if has_errors(problems):
        simulate.exit_with_problems(*problems)


def _read_logs(options: Options) -> list[TrafficLog]:
    from ebbtide.simulator.planner import TrafficLog

    folder = Path(options.traffic)
    if not is_directory(folder):
        simulate.exit_with_usage_error(f"invalid --traffic {options.traffic}: must be a directory of logs", COMMAND)
    logs = []
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            try:
                logs.append(TrafficLog(file.stem, str(file), read_file(file, limited=False)))
            except OSError as error:
                simulate.exit_with_problems(unreadable_problem(error, str(file)))
    return logs


def choose_server(models: Sequence[str], name: str) -> str:
    """Return the last model for a service or for all of them, from the values of --server; empty if there is none."""
    server = ""
    for text in models:
        match = NAMED_SERVER.fullmatch(text)
        if match is None or match[1] == name:
            server = text if match is None else match[2]
    return server


def _prepare(options: Options, loaded: LoadedDocument, log: TrafficLog, profile: Profile) -> PreparedCase:
    shape = log.content.decode(errors="replace").strip() if log.file.endswith(SHAPE_SUFFIX) else ""
    server = choose_server(options.server, log.workload)
    request = SimulationRequest(
        loaded.name,
        shape or log.file,
        None if shape else log.content,
        tuple(simulate.parse_columns(options.columns, COMMAND).items()),
        server or log.server,
        start_up=options.start_up,
        slo="" if loaded.inference is not None and loaded.inference.spec.slo is not None else options.slo,
        seed=options.seed,
    )
    prepared = prepare_case(request, loaded, profile, COMMAND)
    tokenless = tuple(bound for bound in prepared.case.bounds if bound.kind not in {"ttft", "itl"})
    if server or not log.server or tokenless == prepared.case.bounds:
        return prepared
    note = f"{log.workload} without its SLO on token times, which need --server {log.workload}=gpu:GPU/MODEL/ENGINE"
    return prepared._replace(case=replace(prepared.case, bounds=tokenless), notes=(*prepared.notes, note))


def _read_pools(options: Options, profile: Profile) -> list[PoolSize]:
    from ebbtide.simulator.pool import PoolSize

    known = {pool.name: pool for pool in profile.spec.node_pools}
    if not options.pool:
        observed = [PoolSize(pool.name, pool.nodes * pool.devices, pool.devices) for pool in known.values()]
        sizes = [size for size in observed if size.gpus]
        if not sizes:
            simulate.exit_with_usage_error(
                "the cluster has no node pool with a number of nodes and GPUs: set --pool", COMMAND
            )
        return sizes
    sizes = []
    for name, count in options.pool:
        if name not in known:
            message = f"node pool {name} of --pool not found in the cluster profile"
            fix = f"use one of its node pools: {', '.join(known)}" if known else "set --profile to one with node pools"
            simulate.exit_with_problems(Problem("PLN005", (), message, fix, document=choose_profile(options.profile)))
        sizes.append(PoolSize(name, int(count), known[name].devices))
    return sizes


def _read_prices(options: Options, sizes: Sequence[PoolSize], profile: Profile) -> dict[str, float]:
    from ebbtide.simulator.pool import find_gpu_price

    names = {size.name for size in sizes}
    priced = {pool.name: find_gpu_price(profile.spec.prices, pool) for pool in profile.spec.node_pools}
    prices = {name: price for name, price in priced.items() if name in names and price is not None}
    for name, price in options.price:
        if name not in names:
            simulate.exit_with_usage_error(f"invalid --price {name}={price}: --pool has no {name}", COMMAND)
        prices[name] = float(price)
    return prices


def _read_training(options: Options, sizes: Sequence[PoolSize]) -> tuple[int, str, bool] | None:
    if not options.training:
        return None
    count, name, preemptible = options.training
    if name not in {size.name for size in sizes}:
        simulate.exit_with_usage_error(f"invalid --training {count}x{name}: --pool has no {name}", COMMAND)
    return int(count), name, preemptible != "non-preemptible"
