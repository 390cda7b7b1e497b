"""``ebbtide slo``: report SLO compliance from Prometheus, or print the Prometheus rules that monitor an SLO."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.common import load_documents, print_problems, read_sources, read_specs_profile, write_json
from ebbtide.cli.base.options import (
    Options,
    make_option,
    make_output_option,
    make_parser,
    make_switch,
    make_type_error,
)
from ebbtide.core import manifests
from ebbtide.core.base import keys
from ebbtide.core.base.problems import has_errors
from ebbtide.core.profile.projects import report_unknown_namespace
from ebbtide.core.spec.objectives import MAX_PERIOD, MIN_PERIOD
from ebbtide.core.spec.rules.naming import LABEL_KEY, LABEL_VALUE
from ebbtide.core.translation.engines import find_engine
from ebbtide.core.translation.project import with_default_namespace
from ebbtide.core.units import parse_duration

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.objects import Object

DIFFERENT: Final = 4
DAY: Final = 86_400.0
#: Parser of the length of a report's period.
parse_period: Final = make_parser(parse_duration, MIN_PERIOD, MAX_PERIOD, bare=True)


def parse_page(text: str) -> str:
    """Return the URL of Ebbtide's page, to which alerts link."""
    if re.fullmatch(r"https?://[^\s?#{}]+", text) is None:
        raise make_type_error(text, "the URL of the page, as in https://ebbtide.example.com")
    return text


def parse_label(text: str) -> tuple[str, str]:
    """Parse a label such as ``release=prometheus`` and return its key and value."""
    key, sign, value = text.partition("=")
    if not sign or LABEL_KEY.fullmatch(key) is None or LABEL_VALUE.fullmatch(value) is None:
        raise make_type_error(text, "KEY=VALUE, as in release=prometheus")
    if key in {keys.APP_MANAGED_BY, keys.APP_NAME}:
        raise make_type_error(text, f"a label other than {key}, which is reserved for Ebbtide")
    return key, value


OPTIONS: Final = (
    make_option(
        "name",
        metavar="NAME",
        nargs="?",
        help="Name of the workload (default: all workloads of the project or namespace)",
    ),
    *connection.PLACE,
    connection.EVERYWHERE,
    connection.NAMES,
    make_option(
        "--since",
        metavar="T",
        type=parse_period,
        default=7 * DAY,
        help="Length of the period to report, as in 30m, 12h or 7d (default: 7d)",
    ),
    connection.COST,
    make_option(
        "--prometheus", metavar="URL", help="Prometheus URL (default: the profile's Prometheus through the API server)"
    ),
    make_switch("--exit-code", help=f"Exit with code {DIFFERENT} if an SLO was violated"),
    make_option(
        "--rules",
        metavar="SPEC",
        nargs="+",
        help="Print the PrometheusRule that monitors the SLOs of these specs instead of a report; needs no cluster",
    ),
    make_option(
        "--label",
        metavar="KEY=VALUE",
        type=parse_label,
        action="append",
        default=[],
        help="With --rules: label that Prometheus selects rules by, as in release=prometheus; repeatable",
    ),
    make_option(
        "--page",
        metavar="URL",
        type=parse_page,
        help="With --rules: URL of Ebbtide's page, to which the alerts link (annotation runbook_url)",
    ),
    make_output_option("text", "json"),
)


def run(options: Options) -> int:
    contradiction = _find_contradiction(options)
    if contradiction:
        terminal.exit_with_usage_error(contradiction, "slo")
    if options.rules:
        named, _ = read_specs_profile(options, options.rules)
        profile = with_default_namespace(named, options.namespace or "")
        return _print_rules(options.rules, profile, options, as_json=options.output == "json")
    return _report_slos(options)


def _find_contradiction(options: Options) -> str:
    if options.rules and (options.name or options.all or options.project):
        return "--rules reads specs, not live workloads: remove the workload or project"
    for name, value in (("--label", options.label), ("--page", options.page)):
        if value and not options.rules:
            return f"{name} requires --rules: add --rules with specs, or remove {name}"
    if options.name and options.all:
        return "NAME and -A are mutually exclusive: use only one of them"
    return ""


@connection.profile_command
def _report_slos(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cluster.slo import pages, report
    from ebbtide.cluster.slo.promises import read_slo

    objectives = {
        objective.ref: objective for objective in (read_slo(top, profile) for top in _find_workloads(cluster, options))
    }
    end = connection.clock().now()
    if not objectives:
        place = "the cluster" if options.all else f"namespace {connection.resolve_namespace(cluster, options)}"
        terminal.write_stderr(f"No workloads found in {place}.")
        if options.output != "text":
            write_json(replace(report.compute_report({}, {}), start=end - options.since, end=end))
        return 0
    source = connection.connect_source(cluster, options.prometheus, profile)
    report_ = pages.make_slo_report(objectives, source, options.since, end, options.cost)
    if options.output == "json":
        write_json(report_)
    else:
        terminal.write_report(
            pages.make_content(report_), states={label: state for state, label in pages.OUTCOMES.items()}
        )
    return DIFFERENT if options.exit_code and report_.broken else 0


def _find_workloads(cluster: connection.Cluster, options: Options) -> list[Object]:
    """Return the top-level objects of the workloads, as their authors applied them."""
    from ebbtide.cluster.read.inventory import get_top

    if options.name:
        with connection.suggesting_place(cluster, options.name):
            return [get_top(cluster, options.name, connection.resolve_namespace(cluster, options))]
    return connection.list_selected_tops(cluster, options)


def _print_rules(files: list[str], profile: Profile, options: Options, *, as_json: bool) -> int:
    """Print the Prometheus rules of specs; report what the rules cannot monitor on stderr."""
    from ebbtide.cluster.slo import alerts, queries
    from ebbtide.cluster.slo.source import Ref, SourceError
    from ebbtide.core.translation.translate import make_plan

    try:
        timer = queries.choose_histogram(profile)
    except SourceError as error:
        terminal.exit_with_message(f"error: {error}", 1)
    pod_queries = queries.pod_gauges(profile)
    rule_objects, problems = [], []
    for loaded in load_documents(read_sources(files), profile):
        spec_problems = list(loaded.problems)
        plan = None
        if loaded.inference is not None:
            plan, plan_problems = make_plan(loaded.inference, profile)
            if plan is not None and not plan.namespace:
                plan_problems.append(
                    report_unknown_namespace("the rules select the series of one namespace; -n sets it too")
                )
            spec_problems += loaded.place_problems(plan_problems)
        problems += [problem for problem in spec_problems if problem.severity == "error"]
        if plan is None or loaded.inference is None or has_errors(spec_problems):
            continue
        if loaded.inference.spec.slo is None:
            terminal.write_stderr(f"{plan.name}: the spec has no slo, so there are no rules")
            continue
        found = find_engine(loaded.inference.spec.image)
        engine = found.name if found is not None else ""
        ref, labels = Ref(plan.namespace, plan.name), dict(options.label)
        slo = loaded.inference.spec.slo
        manifest, notes = alerts.make_rules(ref, slo, timer, pod_queries, labels, engine, options.page or "")
        rule_objects.append(manifest)
        for note in notes:
            terminal.write_stderr(f"{plan.name}: {note}")
    print_problems(problems)
    if has_errors(problems):
        return 1
    sys.stdout.writelines([manifests.write_json(rule_objects)] if as_json else manifests.write_documents(rule_objects))
    return 0
