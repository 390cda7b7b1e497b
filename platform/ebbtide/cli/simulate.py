"""``ebbtide simulate``: what the autoscaler will do with traffic, beside what Knative's defaults would."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from ebbtide.base.problems import Problem, failed
from ebbtide.cli import connection
from ebbtide.cli.common import add_profile, documents, profile_or_problems, show, sources, write_json
from ebbtide.simulate import words
from ebbtide.simulate.words import MANY, PLAIN_SERVER, TOKENS_SERVER
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import Loaded
    from ebbtide.simulate.case import Case
    from ebbtide.simulate.load import Read
    from ebbtide.translation.plan import Plan

EXTRA: Final = "simulate"
USAGE: Final = 2
T = TypeVar("T")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_case(parser)
    parser.add_argument("-o", "--output", choices=("text", "json", "html"), default="text", help="default text")


def add_case(parser: argparse.ArgumentParser) -> None:
    """Add what is simulated to a command's options."""
    parser.add_argument("spec", metavar="SPEC", help="a file with one spec, or - for stdin")
    parser.add_argument(
        "--traffic",
        metavar="T",
        required=True,
        help="a log of requests or counts (CSV, JSON lines), Prometheus' answer to a range query, or a shape: "
        "constant:5rps,10m ramp:1rps..20rps,10m steps:2rps,5m,20rps,2m diurnal:1rps..20rps,24h poisson:5rps,10m "
        "on-off:10rps,2m,8m,1h",
    )
    parser.add_argument(
        "--columns",
        metavar="C",
        default="",
        help="a log's columns that have other names: time=NAME,prompt=NAME,output=NAME,count=NAME,rate=NAME,unit=ms",
    )
    parser.add_argument(
        "--server",
        metavar="MODEL",
        default="",
        help="how long a request takes: fixed:200ms,max=16, lognormal:median=500ms,sigma=0.5, empirical:FILE, "
        f"llm:max=16,base=150ms,prompt=50us,output=20ms; default {TOKENS_SERVER} where the traffic has tokens, "
        f"else {PLAIN_SERVER}",
    )
    parser.add_argument(
        "--start-up",
        metavar="TIME",
        default="45s",
        help="from a pod wanted to a pod ready: 45s (default), or schedule=1s,pull=20s,load=20s,ready=2s,spread=0.3",
    )
    parser.add_argument(
        "--slo",
        metavar="BOUNDS",
        default="",
        help="what is promised: p95=2s,mean=800ms,uptime=99.9, any percentile, wait-p99=1s; default the spec's slo",
    )
    parser.add_argument("--cost", metavar="RATE", default="", help="what a GPU costs an hour: gpu-hour=2.5")
    parser.add_argument(
        "--seed",
        metavar="N",
        type=connection.whole(0, connection.MOST),
        default=0,
        help="of all that is drawn at random; default 0",
    )
    add_profile(parser)


class Wrong(Exception):  # noqa: N818 - what is wrong with the command line, said and done with
    """Ends a command with an exit code, after its reasons were printed."""

    def __init__(self, code: int) -> None:
        """Keep the exit code."""
        super().__init__(code)
        self.code = code


def run(options: argparse.Namespace) -> int:
    """Simulate and print."""
    try:
        loaded, _, case, server, notes = case_of(options)
        return _run(options, loaded, case, server, notes)
    except Wrong as wrong:
        return wrong.code


def _run(options: argparse.Namespace, loaded: Loaded, case: Case, server: str, notes: tuple[str, ...]) -> int:
    from ebbtide.simulate import report  # noqa: PLC0415 - it needs numpy
    from ebbtide.simulate.setting import knative_defaults  # noqa: PLC0415 - as above

    with told(loaded):
        setting = case.setting({})
        runs = []
        for name, one in (("this spec", setting), ("Knative's defaults", knative_defaults(setting))):
            result = case.of(one)
            values = settings_of(case) if one is setting else {}
            runs.append(report.Run(name, values, result, case.measure(result)))
    made = report.Report(
        workload_of(loaded), case.traffic, server, case.start_up.seconds, case.seed, tuple(runs), notes
    )
    write(options.output, made)
    return 0


def write(form: str, made: Any) -> None:
    """Print a report as text, JSON or HTML."""
    from ebbtide.simulate import report  # noqa: PLC0415 - it needs numpy

    if form == "json":
        write_json(report.as_json(made))
    else:
        sys.stdout.write(report.page(made) if form == "html" else report.text(made))


class told:  # noqa: N801 - it reads as a verb: with told(loaded)
    """Turns what the simulator refuses into problems of the spec, and ends the command."""

    def __init__(self, loaded: Loaded) -> None:
        """Remember which spec it is."""
        self.loaded = loaded

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Print and end, if it is one of ours."""
        from ebbtide.simulate.servers import ServerError  # noqa: PLC0415 - only the simulator's commands need it
        from ebbtide.simulate.setting import NotSimulated  # noqa: PLC0415 - as above

        if isinstance(error, NotSimulated):
            stop(Problem("SIM001", (error.where,), error.message, error.fix, document=self.loaded.name))
        if isinstance(error, ServerError):
            stop(Problem("SIM002", (), str(error), "say so with --server", document=self.loaded.name))


def stop(*problems: Problem) -> NoReturn:
    """Print problems and end the command."""
    show(problems)
    raise Wrong(1)


def usage(message: str, command: str) -> NoReturn:
    """Say what is wrong with the command line and end the command."""
    sys.stderr.write(f"ebbtide {command}: error: {message}\n")
    raise Wrong(USAGE)


def workload_of(loaded: Loaded) -> str:
    """Return the workload's name."""
    return str(loaded.reading.native["metadata"]["name"])


def settings_of(case: Case) -> dict[str, Any]:
    """Return what the spec says of autoscaling."""
    return dict(case.document["spec"].get("autoscaling") or {})


def case_of(options: argparse.Namespace) -> tuple[Loaded, Plan, Case, str, tuple[str, ...]]:
    """Return the spec, its plan, what is to be simulated, the server's text, and what was assumed. Raises Wrong."""
    command = options.command
    if find_spec("numpy") is None:
        usage(f"numpy is not installed: pip install 'ebbtide[{EXTRA}]'", command)
    from ebbtide.simulate import servers, slo  # noqa: PLC0415 - they need numpy
    from ebbtide.simulate.case import Case, gpus_of  # noqa: PLC0415 - as above

    columns = _columns(options.columns, command)
    start_up = _read(words.start_up, options.start_up, "--start-up", command)
    price = _read(words.gpu_hour, options.cost, "--cost", command)
    try:
        bounds = slo.parse(options.slo) if options.slo else None
        server = servers.server(options.server) if options.server else None
    except ValueError as error:
        usage(str(error), command)
    profile = profile_or_problems(options.profile)
    if profile is None:
        raise Wrong(1)
    loaded, plan = _spec(options.spec, profile)
    read = _traffic(options, columns)
    show(read.problems)
    if read.traffic is None:
        raise Wrong(1)
    notes = []
    text = options.server
    if server is None:
        text = PLAIN_SERVER if read.traffic.output_tokens is None else TOKENS_SERVER
        server = servers.server(text)
        notes.append(f"the server is a guess: measure yours, and say so with --server (here {text})")
    if bounds is None:
        assert loaded.inference is not None
        bounds = slo.of_spec(loaded.inference.spec.slo)
    gpus = gpus_of(plan)
    if price is not None and not gpus:
        notes.append("a replica has no GPU, so nothing costs anything")
    fast = command == "tune" or len(read.traffic.times) > MANY
    case = Case(
        loaded.reading.native, profile, read.traffic, server, start_up, options.seed, bounds, gpus, price, fast=fast
    )
    return loaded, plan, case, text, tuple(notes)


def _spec(name: str, profile: Profile) -> tuple[Loaded, Plan]:
    found = list(documents(sources([name]), profile))
    if len(found) != 1:
        text = f"{len(found)} documents where one spec is simulated"
        stop(Problem("SIM003", (), text, "give a file with one spec", document=name))
    loaded = found[0]
    if loaded.inference is None:
        stop(*loaded.problems)
    made = translate(loaded.inference, profile, loaded.canonical)
    problems = loaded.problems + loaded.placed(made.problems)
    if made.plan is None or failed(problems):
        stop(*(problem for problem in problems if problem.severity == "error"))
    return loaded, made.plan


def _traffic(options: argparse.Namespace, columns: dict[str, str]) -> Read:
    from ebbtide.simulate import load  # noqa: PLC0415 - it needs numpy

    if load.is_shape(options.traffic):
        if columns:
            usage("--columns names a log's columns, and a shape has none", options.command)
        return load.shape(options.traffic, options.seed)
    try:
        data = Path(options.traffic).read_bytes()
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        fix = f"check the name, or give a shape: {', '.join(load.FORMS)}"
        return load.Read(
            None, [Problem("FIL001", (), f"the file cannot be read: {reason}", fix, document=options.traffic)]
        )
    return load.read(data, Path(options.traffic).name, options.seed, columns)


def _read(reader: Callable[[str], T], text: str, option: str, command: str) -> T:
    try:
        return reader(text)
    except ValueError as error:
        usage(f"{option}: {error}", command)


def _columns(text: str, command: str) -> dict[str, str]:
    from ebbtide.simulate.load import COLUMNS, UNITS  # noqa: PLC0415 - it needs numpy

    found = {}
    for item in text.split(",") if text else ():
        role, equals, name = item.partition("=")
        if not equals or role not in {*COLUMNS, "unit"}:
            usage(
                f"--columns {item!r}: write time=NAME; beside time there are prompt, output, count, rate, unit", command
            )
        if role == "unit" and name not in UNITS:
            usage(f"--columns unit={name}: use {', '.join(UNITS)}", command)
        found[role] = name
    return found
