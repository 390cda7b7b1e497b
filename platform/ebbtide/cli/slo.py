"""``ebbtide slo``: report SLO compliance from Prometheus, or print the Prometheus rules that monitor an SLO."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ebbtide.base.problems import failed
from ebbtide.cli import connection, terminal
from ebbtide.cli.common import documents, read_profile, show, sources, write_json
from ebbtide.cli.options import Options, option, output, switch

if TYPE_CHECKING:
    from ebbtide.profile.models import Profile
    from ebbtide.slo.report import Report
    from ebbtide.translation.objects import Object

USAGE: Final = 2
DIFFERENT: Final = 4
DAY: Final = 86_400.0


def since(text: str) -> float:
    """Parse the length of the report's period (``30m``, ``12h``, ``7d``) and return seconds."""
    try:
        seconds = float(text[:-1]) * DAY if text.endswith("d") else connection.parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not 60 <= seconds <= 400 * DAY:  # noqa: PLR2004 - one minute, and the longest retention to expect
        raise argparse.ArgumentTypeError(
            f"invalid value {text!r}: must be a duration from 1m to 400d, as in 30m, 12h or 7d"
        )
    return seconds


def label(text: str) -> tuple[str, str]:
    """Parse a label such as ``release=prometheus`` and return its key and value."""
    from ebbtide.base import keys  # noqa: PLC0415 - not loaded for --help
    from ebbtide.spec.rules.naming import LABEL_KEY, LABEL_VALUE  # noqa: PLC0415 - as above

    key, sign, value = text.partition("=")
    if not sign or LABEL_KEY.fullmatch(key) is None or LABEL_VALUE.fullmatch(value) is None:
        raise argparse.ArgumentTypeError(f"invalid label {text!r}: must be KEY=VALUE, as in release=prometheus")
    if key in {keys.APP_MANAGED_BY, keys.APP_NAME}:
        raise argparse.ArgumentTypeError(f"label {key} is reserved for Ebbtide: use another label")
    return key, value


def price(text: str) -> float:
    """Parse the price of a GPU-hour, as in ``gpu-hour=2.5``."""
    name, _, value = text.partition("=")
    try:
        amount = float(value)
    except ValueError:
        amount = -1.0
    if name != "gpu-hour" or not 0 <= amount < float("inf"):
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: must be gpu-hour=PRICE, as in gpu-hour=2.5")
    return amount


OPTIONS: Final = (
    option(
        "name",
        metavar="NAME",
        nargs="?",
        help="Name of the workload (default: all workloads of the project or namespace)",
    ),
    *connection.PLACE,
    connection.EVERYWHERE,
    connection.NAMES,
    option(
        "--since",
        metavar="T",
        type=since,
        default=7 * DAY,
        help="Length of the period to report, as in 30m, 12h or 7d (default: 7d)",
    ),
    option("--cost", metavar="RATE", type=price, help="Price of a GPU-hour, as in gpu-hour=2.5"),
    option(
        "--prometheus",
        metavar="URL",
        help="Prometheus URL (default: the profile's Prometheus through the API server)",
    ),
    switch("--exit-code", help=f"Exit with code {DIFFERENT} if an SLO was violated"),
    option(
        "--rules",
        metavar="SPEC",
        nargs="+",
        help="Print the PrometheusRule that monitors the SLOs of these specs instead of a report; needs no cluster",
    ),
    option(
        "--label",
        metavar="KEY=VALUE",
        type=label,
        action="append",
        default=[],
        help="With --rules: label that Prometheus selects rules by, as in release=prometheus; repeatable",
    ),
    output("text", "json", "html", "md"),
)


def run(options: Options) -> int:
    contradiction = _contradiction(options)
    if contradiction:
        terminal.end(f"ebbtide slo: error: {contradiction}", USAGE)
    profile = read_profile(options.profile)
    if options.rules:
        return _rules(options.rules, profile, dict(options.label), as_json=options.output == "json")
    return connection.on_cluster(options, lambda cluster: _report(cluster, options, profile))


def _contradiction(options: Options) -> str:
    if options.rules and (options.name or options.all or options.project or options.namespace):
        return "--rules reads specs, not live workloads: remove the workload, project or namespace"
    if options.label and not options.rules:
        return "--label requires --rules: add --rules with specs, or remove --label"
    if options.rules and options.output in {"html", "md"}:
        return f"-o {options.output} is a report format, and --rules prints manifests: remove -o, or use -o json"
    if options.name and options.all:
        return "NAME and -A exclude each other: use only one of them"
    return ""


def _report(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.slo import pages, report  # noqa: PLC0415 - not loaded for --help
    from ebbtide.slo.promises import promise  # noqa: PLC0415 - as above

    objectives = {objective.ref: objective for objective in (promise(top, profile) for top in _tops(cluster, options))}
    end = connection.clock().now()
    if not objectives:
        terminal.tell(f"No workloads found in {_where(cluster, options)}.")
        if options.output != "text":
            _print(replace(report.reports({}, {}), start=end - options.since, end=end), options.output)
        return 0
    source = connection.connect_source(cluster, options.prometheus, profile)
    report_ = pages.report_on(objectives, source, options.since, end, options.cost)
    _print(report_, options.output)
    return DIFFERENT if options.exit_code and report_.broken else 0


def _tops(cluster: connection.Cluster, options: Options) -> list[Object]:
    """Return the top-level objects of the workloads, as their authors applied them."""
    from ebbtide.cluster.read.inventory import top_of, tops  # noqa: PLC0415 - as in _report

    if options.name:
        return [top_of(cluster, options.name, connection.place(cluster, options))]
    return tops(cluster, "" if options.all else connection.place(cluster, options))


def _where(cluster: connection.Cluster, options: Options) -> str:
    return "the cluster" if options.all else f"namespace {connection.place(cluster, options)}"


def _print(report: Report, output_format: str) -> None:
    from ebbtide.slo import pages  # noqa: PLC0415 - as in _report

    if output_format == "json":
        write_json(report)
    elif output_format == "text":
        sys.stdout.write(pages.text(report, terminal.painted))
    else:
        sys.stdout.write(pages.page(report) if output_format == "html" else pages.markdown(report))


def _rules(files: list[str], profile: Profile, labels: dict[str, str], *, as_json: bool) -> int:
    """Print the Prometheus rules of specs; report what the rules cannot monitor on stderr."""
    from ebbtide import manifests  # noqa: PLC0415 - as in _report
    from ebbtide.slo import alerts, queries  # noqa: PLC0415 - as above
    from ebbtide.slo.source import Ref  # noqa: PLC0415 - as above
    from ebbtide.translation.translate import make_plan  # noqa: PLC0415 - as above

    try:
        timer = queries.timer(profile)
    except queries.UnknownHistogramError as error:
        terminal.end(f"error: {error}", 1)
    pod_queries = queries.pods(profile)
    rule_objects, problems = [], []
    for loaded in documents(sources(files), profile):
        spec_problems = list(loaded.problems)
        plan = None
        if loaded.inference is not None:
            plan, plan_problems = make_plan(loaded.inference, profile)
            spec_problems += loaded.placed(plan_problems)
        problems += [problem for problem in spec_problems if problem.severity == "error"]
        if plan is None or loaded.inference is None or failed(spec_problems):
            continue
        if loaded.inference.spec.slo is None:
            terminal.tell(f"{plan.name}: the spec has no slo, so there are no rules")
            continue
        rules = alerts.rules(Ref(plan.namespace, plan.name), loaded.inference.spec.slo, timer, pod_queries, labels)
        rule_objects.append(rules.manifest)
        for note in rules.notes:
            terminal.tell(f"{plan.name}: {note}")
    show(problems)
    if failed(problems):
        return 1
    sys.stdout.writelines([manifests.write_json(rule_objects)] if as_json else manifests.write(rule_objects))
    return 0
