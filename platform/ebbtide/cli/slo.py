"""``ebbtide slo``: what was promised and what came of it, from Prometheus; or the rules that watch a promise."""

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
    """Return how far back to look in seconds: ``30m``, ``12h``, ``7d``."""
    try:
        seconds = float(text[:-1]) * DAY if text.endswith("d") else connection.parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not 60 <= seconds <= 400 * DAY:  # noqa: PLR2004 - a minute, and what any Prometheus keeps
        raise argparse.ArgumentTypeError(f"{text!r} is no time between 1m and 400d: write 30m, 12h or 7d")
    return seconds


def label(text: str) -> tuple[str, str]:
    """Return a label's key and value, of ``release=prometheus``."""
    from ebbtide.base import keys  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.spec.rules.naming import LABEL_KEY, LABEL_VALUE  # noqa: PLC0415 - as above

    key, sign, value = text.partition("=")
    if not sign or LABEL_KEY.fullmatch(key) is None or LABEL_VALUE.fullmatch(value) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no label: write release=prometheus")
    if key in {keys.APP_MANAGED_BY, keys.APP_NAME}:
        raise argparse.ArgumentTypeError(f"{key} is Ebbtide's own: take another label")
    return key, value


def price(text: str) -> float:
    """Return what a GPU-hour costs, of ``gpu-hour=2.5``."""
    name, _, value = text.partition("=")
    try:
        found = float(value)
    except ValueError:
        found = -1.0
    if name != "gpu-hour" or not 0 <= found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: write gpu-hour=2.5")
    return found


OPTIONS: Final = (
    option("name", metavar="NAME", nargs="?", help="the workload; without it all of the project or namespace"),
    *connection.PLACE,
    connection.EVERYWHERE,
    connection.NAMES,
    option("--since", metavar="T", type=since, default=7 * DAY, help="how far back to look: 30m, 12h, 7d (default)"),
    option("--cost", metavar="RATE", type=price, help="what a GPU costs an hour: gpu-hour=2.5"),
    option(
        "--prometheus",
        metavar="URL",
        help="Prometheus' address as this machine reaches it; default the profile's, through the API server",
    ),
    switch("--exit-code", help=f"exit code {DIFFERENT} if a promise was broken, for scripts"),
    option(
        "--rules",
        metavar="SPEC",
        nargs="+",
        help="instead of a report, print the PrometheusRule that watches what these specs promise; needs no cluster",
    ),
    option(
        "--label",
        metavar="KEY=VALUE",
        type=label,
        action="append",
        default=[],
        help="with --rules: a label by which Prometheus selects its rules, such as release=prometheus; repeatable",
    ),
    output("text", "json", "html", "md"),
)


def run(options: Options) -> int:
    wrong = _contradiction(options)
    if wrong:
        terminal.end(f"ebbtide slo: error: {wrong}", USAGE)
    profile = read_profile(options.profile)
    if options.rules:
        return _rules(options.rules, profile, dict(options.label), as_json=options.output == "json")
    return connection.on_cluster(options, lambda cluster: _report(cluster, options, profile))


def _contradiction(options: Options) -> str:
    if options.rules and (options.name or options.all or options.project or options.namespace):
        return "--rules is about specs, not about live workloads: name no workload, project or namespace beside it"
    if options.label and not options.rules:
        return "--label is for what --rules prints: name specs with --rules, or leave it out"
    if options.rules and options.output in {"html", "md"}:
        return f"-o {options.output} is a report's form, and --rules prints manifests: leave -o out, or say -o json"
    if options.name and options.all:
        return "NAME is one workload and -A means all: say one of them"
    return ""


def _report(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.slo import pages, report  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.slo.promises import promise  # noqa: PLC0415 - as above

    promised = {found.ref: found for found in (promise(top, profile) for top in _tops(cluster, options))}
    end = connection.clock().now()
    if not promised:
        terminal.tell(f"there is no workload in {_where(cluster, options)}")
        if options.output != "text":
            _print(replace(report.reports({}, {}), start=end - options.since, end=end), options.output)
        return 0
    source = connection.connect_source(cluster, options.prometheus, profile)
    made = pages.report_on(promised, source, options.since, end, options.cost)
    _print(made, options.output)
    return DIFFERENT if options.exit_code and made.broken else 0


def _tops(cluster: connection.Cluster, options: Options) -> list[Object]:
    """Return the objects that the workloads' authors applied."""
    from ebbtide.cluster.read.inventory import top_of, tops  # noqa: PLC0415 - as in _report

    if options.name:
        return [top_of(cluster, options.name, connection.place(cluster, options))]
    return tops(cluster, "" if options.all else connection.place(cluster, options))


def _where(cluster: connection.Cluster, options: Options) -> str:
    return "the cluster" if options.all else f"namespace {connection.place(cluster, options)}"


def _print(made: Report, form: str) -> None:
    from ebbtide.slo import pages  # noqa: PLC0415 - as in _report

    if form == "json":
        write_json(made)
    elif form == "text":
        sys.stdout.write(pages.text(made, terminal.painted))
    else:
        sys.stdout.write(pages.page(made) if form == "html" else pages.markdown(made))


def _rules(files: list[str], profile: Profile, labels: dict[str, str], *, as_json: bool) -> int:
    """Print the rules of specs; what they cannot watch is told on stderr."""
    from ebbtide import manifests  # noqa: PLC0415 - as in _report
    from ebbtide.slo import alerts, queries  # noqa: PLC0415 - as above
    from ebbtide.slo.source import Ref  # noqa: PLC0415 - as above
    from ebbtide.translation.translate import make_plan  # noqa: PLC0415 - as above

    try:
        timer = queries.timer(profile)
    except queries.UnknownHistogramError as error:
        terminal.end(f"error: {error}", 1)
    tellers = queries.pods(profile)
    made, problems = [], []
    for loaded in documents(sources(files), profile):
        found = list(loaded.problems)
        plan = None
        if loaded.inference is not None:
            plan, of_plan = make_plan(loaded.inference, profile)
            found += loaded.placed(of_plan)
        problems += [problem for problem in found if problem.severity == "error"]
        if plan is None or loaded.inference is None or failed(found):
            continue
        if loaded.inference.spec.slo is None:
            terminal.tell(f"{plan.name}: nothing is promised (slo), so there is nothing to watch")
            continue
        rules = alerts.rules(Ref(plan.namespace, plan.name), loaded.inference.spec.slo, timer, tellers, labels)
        made.append(rules.manifest)
        for note in rules.notes:
            terminal.tell(f"{plan.name}: {note}")
    show(problems)
    if failed(problems):
        return 1
    sys.stdout.writelines([manifests.write_json(made)] if as_json else manifests.write(made))
    return 0
