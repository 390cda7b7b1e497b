"""``ebbtide simulate``: simulate the autoscaler's response to traffic, and compare it with Knative's defaults."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from ebbtide.base.problems import Problem, has_errors
from ebbtide.base.prose import count_noun
from ebbtide.cli import connection
from ebbtide.cli.common import load_documents, print_problems, read_profile, read_sources, write_json
from ebbtide.cli.options import PROFILE, Options, make_option, make_output_option
from ebbtide.documents.files import read_file, unreadable_problem
from ebbtide.simulate import words
from ebbtide.simulate.prepared import (
    CaseInputs,
    PreparedCase,
    SimulationRequestError,
    complete_case,
    make_report,
    raise_refusals,
)
from ebbtide.simulate.words import PLAIN_SERVER, TOKENS_SERVER
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import LoadedDocument
    from ebbtide.simulate.case import Case
    from ebbtide.simulate.load import TrafficReading
    from ebbtide.simulate.servers import Server
    from ebbtide.translation.plan import Plan

USAGE: Final = 2
A = TypeVar("A")
T = TypeVar("T")
#: Options that define a simulation.
CASE: Final = (
    make_option("spec", metavar="SPEC", help="File with one spec, or - for stdin"),
    make_option(
        "--traffic",
        metavar="T",
        required=True,
        help="Traffic: a log of requests or counts (CSV, JSON Lines), the JSON result of a Prometheus range query, or a shape: "
        "constant:5rps,10m ramp:1rps..20rps,10m steps:2rps,5m,20rps,2m diurnal:1rps..20rps,24h poisson:5rps,10m "
        "on-off:10rps,2m,8m,1h",
    ),
    make_option(
        "--columns",
        metavar="C",
        default="",
        help="Column names of a log, if different: time=NAME,prompt=NAME,output=NAME,count=NAME,rate=NAME,unit=ms",
    ),
    make_option(
        "--server",
        metavar="MODEL",
        default="",
        help="Model of request durations: fixed:200ms,max=16, lognormal:median=500ms,sigma=0.5, empirical:FILE, "
        f"llm:max=16,base=150ms,prompt=50us,output=20ms, gpu:h200/llama-3.1-70b/vllm,tp=4 of `ebbtide servers` (default: "
        f"{TOKENS_SERVER} if the traffic has token counts, else {PLAIN_SERVER})",
    ),
    make_option(
        "--calibrate",
        metavar="FILE",
        action="append",
        default=[],
        help="Fit the server to a load test instead: the JSON of guidellm, inference-perf or vllm bench serve --save-result; "
        "repeatable",
    ),
    make_option(
        "--start-up",
        metavar="TIME",
        default="45s",
        help="Time from the creation of a pod until it is ready: 45s (default), or its phases: "
        "schedule=1s,pull=20s,load=20s,ready=2s,spread=0.3",
    ),
    make_option(
        "--slo",
        metavar="BOUNDS",
        default="",
        help="SLO: p95=2s,mean=800ms,uptime=99.9, any percentile, wait-p99=1s (default: the slo field of the spec)",
    ),
    make_option("--cost", metavar="RATE", default="", help="Price of a GPU-hour, as in gpu-hour=2.5"),
    make_option(
        "--seed",
        metavar="N",
        type=connection.make_whole_number_parser(0, connection.MAX_INT32),
        default=0,
        help="Seed of the random number generator (default: 0)",
    ),
    PROFILE,
)
OPTIONS: Final = (
    *CASE,
    make_option(
        "--update-at",
        metavar="TIME",
        default="",
        help="Also simulate an update without a spare GPU (rollout.surge: 0) that begins then, as in 5m",
    ),
    make_output_option("text", "json", "html"),
)


def run(options: Options) -> int:
    update_at = None
    prepared = read_case(options)
    case = prepared.case
    if options.update_at:
        from ebbtide.simulate.load import parse_compound_duration  # it needs numpy

        update_at = _parse_option(parse_compound_duration, options.update_at, "--update-at", options.command)
        if prepared.plan.spec.rollout.surge is None:
            exit_with_usage_error("--update-at needs a spec with rollout.surge: 0", options.command)
    from ebbtide.simulate import report  # it needs numpy
    from ebbtide.simulate.setting import knative_defaults

    with report_refusals(prepared.loaded):
        spec_setting = case.setting({})
        settings = {"this spec": spec_setting, "Knative's defaults": knative_defaults(spec_setting)}
        values = {"this spec": get_autoscaling(case)}
        report_data = make_report(prepared, settings, values, update_at)
    if options.output == "json":
        write_json(report.report_to_json(report_data))
    else:
        sys.stdout.write(
            report.render_report_page(report_data)
            if options.output == "html"
            else report.render_report_text(report_data)
        )
    return 0


@contextmanager
def report_refusals(loaded: LoadedDocument) -> Iterator[None]:
    """Print what the simulator rejects as problems of the spec, and exit."""
    try:
        with raise_refusals(loaded, "--server"):
            yield
    except SimulationRequestError as error:
        exit_with_problems(*error.problems)


def exit_with_problems(*problems: Problem) -> NoReturn:
    """Print problems and exit with code 1."""
    print_problems(problems)
    raise SystemExit(1)


def exit_with_usage_error(message: str, command: str) -> NoReturn:
    """Print a usage error and exit with code 2."""
    sys.stderr.write(f"ebbtide {command}: error: {message}\n")
    raise SystemExit(USAGE)


def get_autoscaling(case: Case) -> dict[str, Any]:
    """Return the autoscaling settings of the spec."""
    return dict(case.document["spec"].get("autoscaling") or {})


def read_case(options: Options) -> PreparedCase:
    """Return the case to simulate, or print what is wrong and exit."""
    command = options.command
    if find_spec("numpy") is None:
        exit_with_usage_error("numpy is not installed; run pip install 'ebbtide[simulate]'", command)
    from ebbtide.simulate import servers, slo  # they need numpy

    columns = _parse_columns(options.columns, command)
    start_up = _parse_option(words.parse_start_up, options.start_up, "--start-up", command)
    price = _parse_option(words.parse_gpu_hour, options.cost, "--cost", command)
    bounds = _parse_option(slo.parse_bounds, options.slo, "--slo", command) if options.slo else None
    if options.server and options.calibrate:
        exit_with_usage_error("--server and --calibrate are mutually exclusive: use only one of them", command)
    server = _parse_option(servers.parse_server, options.server, "--server", command) if options.server else None
    server_text = options.server
    if options.calibrate:
        server = _parse_option(_calibrate_server, options.calibrate, "--calibrate", command)
        server_text = f"fitted to {', '.join(Path(name).name for name in options.calibrate)}"
    profile = read_profile(options.profile)
    loaded, plan = _read_spec(options.spec, profile)
    traffic_reading = _read_traffic(options, columns)
    print_problems(traffic_reading.problems)
    if traffic_reading.traffic is None:
        raise SystemExit(1)
    inputs = CaseInputs(
        loaded, plan, profile, traffic_reading.traffic, server, server_text, start_up, options.seed, bounds, price
    )
    return complete_case(inputs, command, "set it with --server")


def _read_spec(name: str, profile: Profile) -> tuple[LoadedDocument, Plan]:
    loaded_specs = list(load_documents(read_sources([name]), profile))
    if len(loaded_specs) != 1:
        text = f"expected one spec, found {count_noun(len(loaded_specs), 'document')}"
        exit_with_problems(Problem("SIM003", (), text, "use a file with one spec", document=name))
    loaded = loaded_specs[0]
    if loaded.inference is None:
        exit_with_problems(*loaded.problems)
    translation = translate(loaded.inference, profile, loaded.canonical)
    problems = loaded.problems + loaded.place_problems(translation.problems)
    if translation.plan is None or has_errors(problems):
        exit_with_problems(*(problem for problem in problems if problem.severity == "error"))
    return loaded, translation.plan


def _read_traffic(options: Options, columns: dict[str, str]) -> TrafficReading:
    from ebbtide.simulate import load  # it needs numpy

    if load.is_shape(options.traffic):
        if columns:
            exit_with_usage_error(
                "--columns applies only to a log: remove it, or set --traffic to a file", options.command
            )
        return load.generate_traffic(options.traffic, options.seed)
    try:
        data = read_file(Path(options.traffic), limited=False)
    except OSError as error:
        problem = unreadable_problem(error, options.traffic)
        fix = f"check the file name, or use a shape: {', '.join(load.FORMS)}"
        return load.TrafficReading(None, [replace(problem, fix=fix)])
    return load.parse_traffic(data, Path(options.traffic).name, options.seed, columns)


def _calibrate_server(names: Sequence[str]) -> Server:
    from ebbtide.simulate.calibrate import calibrate_server  # it needs numpy

    return calibrate_server([Path(name) for name in names])


def _parse_option(reader: Callable[[A], T], text: A, option: str, command: str) -> T:
    try:
        return reader(text)
    except ValueError as error:
        exit_with_usage_error(f"{option}: {error}", command)


def _parse_columns(text: str, command: str) -> dict[str, str]:
    from ebbtide.simulate.load import COLUMNS, UNITS  # it needs numpy

    columns = {}
    for assignment in text.split(",") if text else ():
        role, equals, name = assignment.partition("=")
        if not equals or role not in {*COLUMNS, "unit"}:
            exit_with_usage_error(
                f"invalid --columns {assignment!r}: must be ROLE=NAME, as in time=NAME; roles: time, prompt, output, count, "
                "rate, unit",
                command,
            )
        if role == "unit" and name not in UNITS:
            exit_with_usage_error(f"invalid --columns unit={name}: must be one of {', '.join(UNITS)}", command)
        columns[role] = name
    return columns
