"""``ebbtide plan``: how many GPUs a fleet of services needs, what binds, and which changes free some."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection
from ebbtide.cli.base.common import load_documents, read_sources, read_specs_profile, write_json
from ebbtide.cli.base.options import (
    Options,
    make_match_parser,
    make_option,
    make_output_option,
    make_parser,
    make_switch,
)
from ebbtide.cli.base.terminal import exit_with_usage_error, write_report
from ebbtide.cli.predict import simulate
from ebbtide.cli.predict.tune import require_editable, write_specs
from ebbtide.core.base.problems import Problem, has_errors
from ebbtide.core.documents.files import is_directory, read_file, unreadable_problem
from ebbtide.core.translation.translate import make_plan
from ebbtide.core.units import parse_whole
from ebbtide.simulator.search.request import FleetRequest, TrafficLog, workload_name_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.loaded import LoadedDocument
    from ebbtide.core.report import ReportSection

COMMAND: Final = "plan"
#: Value of --traffic for the requests of the last days that Prometheus has.
PROMETHEUS: Final = "prometheus"
TRAINING: Final = re.compile(r"([1-9][0-9]{0,4})x([^,]+)(?:,(preemptible|non-preemptible))?")
POOL: Final = re.compile(r"([^=]+)=(?:([1-9][0-9]{0,3})x)?([1-9][0-9]{0,5})")
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
        metavar="NAME=NxGPUS",
        type=make_match_parser(POOL, "h100=2x8, or h100=16"),
        action="append",
        default=[],
        help="Nodes of a node pool of the profile and the GPUs of each, as in h100=2x8, or all its GPUs, on nodes as in the profile; "
        "repeatable, and the search changes the number of nodes of the first (default with --live: the cluster's nodes)",
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
        type=make_parser(parse_whole, 0, 1000),
        default=5,
        help="Number of services, by GPU-hours, for which changes are simulated (default: 5)",
    ),
    simulate.SPARE,
    make_switch("--write", help="Write the changes that free GPUs together to the spec files"),
    make_output_option("text", "json", "html"),
)


def run(options: Options) -> int:
    simulate.require_numpy(COMMAND)
    if options.live == bool(options.files):
        exit_with_usage_error("set a folder of specs, or --live", COMMAND)
    if options.live and options.write:
        exit_with_usage_error("--write needs a folder of specs: remove --live", COMMAND)
    if options.live or options.traffic == PROMETHEUS:
        return _plan_on_cluster(options)
    if not options.traffic or not options.pool:
        exit_with_usage_error("set --traffic and --pool, or --live", COMMAND)
    profile, _ = read_specs_profile(options, options.files)
    return _plan(options, profile, _read_specs(options, profile), _read_logs(options))


@connection.profile_command
def _plan_on_cluster(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    """Plan the services of the cluster, or those of the folder with their requests in Prometheus."""
    from ebbtide.cluster.slo.replay import load_live_specs, read_traffic_logs
    from ebbtide.cluster.slo.source import Ref

    namespace = "" if options.all else connection.resolve_namespace(cluster, options)
    notes: list[str] = []
    if options.live:
        specs = load_live_specs(connection.list_selected_tops(cluster, options), profile, notes)
    else:
        specs = [
            (Ref(find_namespace(loaded, profile) or namespace, workload_name_of(loaded)), loaded)
            for loaded in _read_specs(options, profile)
        ]
    if options.traffic not in {"", PROMETHEUS}:
        return _plan(options, profile, [loaded for _, loaded in specs], _read_logs(options), notes)
    source = connection.connect_source(cluster, options.prometheus, profile)
    logs = read_traffic_logs(source, [ref for ref, _ in specs], connection.clock().now(), notes)
    if not logs:
        message = f"no service has recorded requests: {'; '.join(notes) or 'none was found'}"
        fix = "set --traffic to a directory of logs, or -A for the services of all namespaces"
        simulate.exit_with_problems(Problem("PLN001", (), message, fix))
    return _plan(options, profile, [loaded for ref, loaded in specs if ref in logs], [*logs.values()], notes)


def find_namespace(loaded: LoadedDocument, profile: Profile) -> str:
    """Return the namespace of a spec, empty if it has none or cannot be read."""
    plan = None if loaded.inference is None else make_plan(loaded.inference, profile)[0]
    return "" if plan is None else plan.namespace


def _plan(
    options: Options,
    profile: Profile,
    specs: Sequence[LoadedDocument],
    logs: Sequence[TrafficLog],
    notes: Sequence[str] = (),
) -> int:
    from ebbtide.simulator.fleet import fleet_input, fleet_report, planner

    request = FleetRequest(
        [(name, int(nodes or 1) * int(gpus), int(gpus) if nodes else 0) for name, nodes, gpus in options.pool],
        [(name, float(price)) for name, price in options.price],
        _read_training(options),
        {name: float(factor) for name, factor in options.what_if},
        options.server,
        tuple(simulate.parse_columns(options.columns, COMMAND).items()),
        options.start_up,
        options.slo,
        options.seed,
        options.changes,
        options.spare,
    )
    with simulate.exit_if_refused(COMMAND):
        pairs = planner.match_logs(specs, logs)
        report = fleet_input.make_fleet_report(request, profile, pairs, notes)
    if options.output == "json":
        write_json(fleet_report.fleet_to_json(report))
    else:
        charts: tuple[ReportSection, ...] = ()
        if options.output == "html":
            from ebbtide.simulator.fleet.pool_charts import list_charts

            charts = list_charts(report)
        write_report(fleet_report.make_content(report, charts), options.output)
    if options.write:
        by_name = {workload_name_of(loaded): loaded for loaded, _ in pairs}
        edits = [(by_name[change.service], change.edits) for change in report.found.changes if change.edits]
        for loaded, _ in edits:
            require_editable(loaded)
        write_specs(edits, "the changes")
    return 0


def _read_specs(options: Options, profile: Profile) -> list[LoadedDocument]:
    specs = [loaded for loaded in load_documents(read_sources(options.files), profile) if loaded.other is None]
    problems = [problem for loaded in specs for problem in loaded.problems]
    if has_errors(problems):
        simulate.exit_with_problems(*problems)
    return specs


def _read_logs(options: Options) -> list[TrafficLog]:
    folder = Path(options.traffic)
    if not is_directory(folder):
        exit_with_usage_error(f"invalid --traffic {options.traffic}: must be a directory of logs", COMMAND)
    logs = []
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            try:
                logs.append(TrafficLog(file.stem, str(file), read_file(file, limited=False)))
            except OSError as error:
                simulate.exit_with_problems(unreadable_problem(error, str(file)))
    return logs


def _read_training(options: Options) -> tuple[int, str, bool] | None:
    if not options.training:
        return None
    count, name, preemptible = options.training
    return int(count), name, preemptible != "non-preemptible"
