"""``ebbtide simulate``: simulate the autoscaler's response to traffic, and compare it with Knative's defaults."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ebbtide.cli.base.common import load_documents, print_problems, read_sources, read_specs_profile, write_json
from ebbtide.cli.base.options import MAX_INT32, PROFILE, Options, make_option, make_output_option, make_parser
from ebbtide.cli.base.terminal import exit_with_usage_error, write_report
from ebbtide.core.base.problems import Problem
from ebbtide.core.base.prose import count_noun
from ebbtide.core.documents.files import read_file, unreadable_problem
from ebbtide.core.units import parse_whole
from ebbtide.simulator.search import judge
from ebbtide.simulator.search.request import (
    PreparedCase,
    RequestFieldError,
    SimulationRequest,
    SimulationRequestError,
    make_report,
    prepare_case,
    raise_refusals,
)
from ebbtide.simulator.traffic.words import PLAIN_SERVER, TOKENS_SERVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.loaded import LoadedDocument

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
        help="Model of request durations: fixed:200ms,max=16, lognormal:median=500ms,sigma=0.5, "
        f"llm:max=16,base=150ms,prompt=50us,output=20ms, gpu:h200/llama-3.1-70b/vllm,tp=4 of `ebbtide servers` (default: "
        f"{TOKENS_SERVER} if the traffic has token counts, else {PLAIN_SERVER})",
    ),
    make_option(
        "--start-up",
        metavar="TIME",
        default="45s",
        help="Time from the creation of a pod until it is ready: 45s (default), or its phases: "
        "schedule=1s,node=90s,pull=20s,weights=15s,load=20s,ready=2s,spread=0.3",
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
        type=make_parser(parse_whole, 0, MAX_INT32),
        default=0,
        help="Seed of the random number generator (default: 0)",
    ),
    PROFILE,
)
#: The margin of proposals.
SPARE: Final = make_option(
    "--spare",
    metavar="SHARE",
    type=make_parser(judge.parse_spare),
    default=judge.SPARE,
    help="Share of the SLO's allowance that a proposal leaves unused (default: half of it)",
)
OPTIONS: Final = (*CASE, make_output_option("text", "json", "html"))


def run(options: Options) -> int:
    prepared = read_case(options)
    from ebbtide.simulator.engine.report import make_content, report_to_json
    from ebbtide.simulator.engine.setting import knative_defaults

    with exit_if_refused(options.command), raise_refusals(prepared):
        spec_setting = prepared.case.setting({})
        settings = {"this spec": spec_setting, "Knative's defaults": knative_defaults(spec_setting)}
        report = make_report(prepared, settings, {"this spec": prepared.autoscaling})
    if options.output == "json":
        write_json(report_to_json(report))
    else:
        write_report(make_content(report), options.output)
    return 0


@contextmanager
def exit_if_refused(command: str) -> Iterator[None]:
    """Print an invalid option as a usage error, and everything else that the simulator rejects as problems, and exit."""
    try:
        yield
    except RequestFieldError as error:
        exit_with_usage_error(f"--{error.field.replace('_', '-')}: {error}", command)
    except SimulationRequestError as error:
        exit_with_problems(*error.problems)


def exit_with_problems(*problems: Problem) -> NoReturn:
    """Print problems and exit with code 1."""
    print_problems(problems)
    raise SystemExit(1)


def read_case(options: Options, **fields: Any) -> PreparedCase:
    """Return the case to simulate, or print what is wrong and exit; ``fields`` are those of one command's request."""
    command = options.command
    require_numpy(command)
    columns = parse_columns(options.columns, command)
    profile, _ = read_specs_profile(options, [options.spec])
    loaded = _read_spec(options.spec, profile)
    log = _read_log(options)
    request = SimulationRequest(
        options.spec,
        options.traffic if log is None else Path(options.traffic).name,
        log,
        tuple(columns.items()),
        options.server,
        options.start_up,
        options.slo,
        options.cost,
        options.seed,
        **fields,
    )
    with exit_if_refused(command):
        return prepare_case(request, loaded, profile, command)


def _read_spec(name: str, profile: Profile) -> LoadedDocument:
    loaded_specs = list(load_documents(read_sources([name]), profile))
    if len(loaded_specs) != 1:
        text = f"expected one spec, found {count_noun(len(loaded_specs), 'document')}"
        exit_with_problems(Problem("SIM003", (), text, "use a file with one spec", document=name))
    return loaded_specs[0]


def _read_log(options: Options) -> bytes | None:
    """Return the content of the file of the traffic, None for a shape."""
    from ebbtide.simulator.traffic.load import FORMS, is_shape

    if is_shape(options.traffic):
        if options.columns:
            exit_with_usage_error(
                "--columns applies only to a log: remove it, or set --traffic to a file", options.command
            )
        return None
    try:
        return read_file(Path(options.traffic), limited=False)
    except OSError as error:
        fix = f"check the file name, or use a shape: {', '.join(FORMS)}"
        exit_with_problems(replace(unreadable_problem(error, options.traffic), fix=fix))


def require_numpy(command: str) -> None:
    """Exit if the packages of the simulator are not installed."""
    if find_spec("numpy") is None:
        exit_with_usage_error("numpy is not installed; install the wheel with the extra simulate", command)


def parse_columns(text: str, command: str) -> dict[str, str]:
    """Return the column names of a log by role, or print what is wrong and exit."""
    from ebbtide.simulator.traffic.load import COLUMNS, UNITS  # it needs numpy

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
