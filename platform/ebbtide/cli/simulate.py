"""``ebbtide simulate``: simulate the autoscaler's response to traffic, and compare it with Knative's defaults."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from ebbtide.api.simulation import AskedError, complete_case, make_report, raise_refusals
from ebbtide.base.problems import Problem, failed
from ebbtide.base.prose import counted
from ebbtide.cli import connection
from ebbtide.cli.common import documents, read_profile, show, sources, write_json
from ebbtide.cli.options import PROFILE, Options, option, output
from ebbtide.simulate import words
from ebbtide.simulate.words import PLAIN_SERVER, TOKENS_SERVER
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import Loaded
    from ebbtide.simulate.case import Case
    from ebbtide.simulate.load import Read
    from ebbtide.translation.plan import Plan

USAGE: Final = 2
T = TypeVar("T")
#: Options that define a simulation.
CASE: Final = (
    option("spec", metavar="SPEC", help="File with one spec, or - for stdin"),
    option(
        "--traffic",
        metavar="T",
        required=True,
        help="Traffic: a log of requests or counts (CSV, JSON Lines), the JSON result of a Prometheus range query, or a shape: "
        "constant:5rps,10m ramp:1rps..20rps,10m steps:2rps,5m,20rps,2m diurnal:1rps..20rps,24h poisson:5rps,10m "
        "on-off:10rps,2m,8m,1h",
    ),
    option(
        "--columns",
        metavar="C",
        default="",
        help="Column names of a log, if different: time=NAME,prompt=NAME,output=NAME,count=NAME,rate=NAME,unit=ms",
    ),
    option(
        "--server",
        metavar="MODEL",
        default="",
        help="Model of request durations: fixed:200ms,max=16, lognormal:median=500ms,sigma=0.5, empirical:FILE, "
        f"llm:max=16,base=150ms,prompt=50us,output=20ms (default: {TOKENS_SERVER} if the traffic has token counts, "
        f"else {PLAIN_SERVER})",
    ),
    option(
        "--start-up",
        metavar="TIME",
        default="45s",
        help="Time from the creation of a pod until it is ready: 45s (default), or its phases: "
        "schedule=1s,pull=20s,load=20s,ready=2s,spread=0.3",
    ),
    option(
        "--slo",
        metavar="BOUNDS",
        default="",
        help="SLO: p95=2s,mean=800ms,uptime=99.9, any percentile, wait-p99=1s (default: the slo field of the spec)",
    ),
    option("--cost", metavar="RATE", default="", help="Price of a GPU-hour, as in gpu-hour=2.5"),
    option(
        "--seed",
        metavar="N",
        type=connection.whole(0, connection.MAX_INT32),
        default=0,
        help="Seed of the random number generator (default: 0)",
    ),
    PROFILE,
)
OPTIONS: Final = (*CASE, output("text", "json", "html"))


def run(options: Options) -> int:
    loaded, _, case, server, notes = case_of(options)
    from ebbtide.simulate import report  # noqa: PLC0415 - it needs numpy
    from ebbtide.simulate.setting import knative_defaults  # noqa: PLC0415 - as above

    with told(loaded):
        spec_setting = case.setting({})
        settings = {"this spec": spec_setting, "Knative's defaults": knative_defaults(spec_setting)}
        report_data = make_report(loaded, case, server, notes, settings, {"this spec": settings_of(case)})
    if options.output == "json":
        write_json(report.as_json(report_data))
    else:
        sys.stdout.write(report.page(report_data) if options.output == "html" else report.text(report_data))
    return 0


@contextmanager
def told(loaded: Loaded) -> Iterator[None]:
    """Print what the simulator rejects as problems of the spec, and exit."""
    try:
        with raise_refusals(loaded, "--server"):
            yield
    except AskedError as error:
        stop(*error.problems)


def stop(*problems: Problem) -> NoReturn:
    """Print problems and exit with code 1."""
    show(problems)
    raise SystemExit(1)


def usage(message: str, command: str) -> NoReturn:
    """Print a usage error and exit with code 2."""
    sys.stderr.write(f"ebbtide {command}: error: {message}\n")
    raise SystemExit(USAGE)


def settings_of(case: Case) -> dict[str, Any]:
    """Return the autoscaling settings of the spec."""
    return dict(case.document["spec"].get("autoscaling") or {})


def case_of(options: Options) -> tuple[Loaded, Plan, Case, str, tuple[str, ...]]:
    """Return the spec, its plan, the case to simulate, the server model as text, and the assumptions made."""
    command = options.command
    if find_spec("numpy") is None:
        usage("numpy is not installed; run pip install 'ebbtide[simulate]'", command)
    from ebbtide.simulate import servers, slo  # noqa: PLC0415 - they need numpy

    columns = _columns(options.columns, command)
    start_up = _read(words.start_up, options.start_up, "--start-up", command)
    price = _read(words.gpu_hour, options.cost, "--cost", command)
    try:
        bounds = slo.parse(options.slo) if options.slo else None
        server = servers.server(options.server) if options.server else None
    except ValueError as error:
        usage(str(error), command)
    profile = read_profile(options.profile)
    loaded, plan = _spec(options.spec, profile)
    traffic_reading = _traffic(options, columns)
    show(traffic_reading.problems)
    if traffic_reading.traffic is None:
        raise SystemExit(1)
    parts = (options.server, server, start_up, options.seed, bounds, price)
    return complete_case(loaded, plan, profile, traffic_reading.traffic, *parts, command, "set it with --server")


def _spec(name: str, profile: Profile) -> tuple[Loaded, Plan]:
    loaded_specs = list(documents(sources([name]), profile))
    if len(loaded_specs) != 1:
        text = f"expected one spec, found {counted(len(loaded_specs), 'document')}"
        stop(Problem("SIM003", (), text, "use a file with one spec", document=name))
    loaded = loaded_specs[0]
    if loaded.inference is None:
        stop(*loaded.problems)
    translation = translate(loaded.inference, profile, loaded.canonical)
    problems = loaded.problems + loaded.placed(translation.problems)
    if translation.plan is None or failed(problems):
        stop(*(problem for problem in problems if problem.severity == "error"))
    return loaded, translation.plan


def _traffic(options: Options, columns: dict[str, str]) -> Read:
    from ebbtide.simulate import load  # noqa: PLC0415 - it needs numpy

    if load.is_shape(options.traffic):
        if columns:
            usage("--columns applies only to a log: remove it, or set --traffic to a file", options.command)
        return load.shape(options.traffic, options.seed)
    try:
        data = Path(options.traffic).read_bytes()
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        fix = f"check the file name, or use a shape: {', '.join(load.FORMS)}"
        return load.Read(
            None, [Problem("FIL001", (), f"cannot read the file: {reason}", fix, document=options.traffic)]
        )
    return load.read(data, Path(options.traffic).name, options.seed, columns)


def _read(reader: Callable[[str], T], text: str, option: str, command: str) -> T:
    try:
        return reader(text)
    except ValueError as error:
        usage(f"{option}: {error}", command)


def _columns(text: str, command: str) -> dict[str, str]:
    from ebbtide.simulate.load import COLUMNS, UNITS  # noqa: PLC0415 - it needs numpy

    columns = {}
    for assignment in text.split(",") if text else ():
        role, equals, name = assignment.partition("=")
        if not equals or role not in {*COLUMNS, "unit"}:
            usage(
                f"invalid --columns {assignment!r}: must be ROLE=NAME, as in time=NAME; roles: time, prompt, output, count, "
                "rate, unit",
                command,
            )
        if role == "unit" and name not in UNITS:
            usage(f"invalid --columns unit={name}: must be one of {', '.join(UNITS)}", command)
        columns[role] = name
    return columns
