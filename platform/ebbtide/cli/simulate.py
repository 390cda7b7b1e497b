"""``ebbtide simulate``: what the autoscaler will do with traffic, beside what Knative's defaults would."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ebbtide.cli.common import add_profile, documents, profile_or_problems, show, sources, write_json
from ebbtide.problems import Problem

if TYPE_CHECKING:
    import argparse

    from ebbtide.intake import Loaded
    from ebbtide.profile import Profile
    from ebbtide.simulate.load import Read
    from ebbtide.simulate.question import Question

EXTRA: Final = "simulate"
#: Requests from which on compiling the engine is worth its time, for two simulations.
MANY: Final = 100_000
USAGE: Final = 2


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
        "llm:max=16,base=150ms,prompt=50us,output=20ms; default llm:max=16 where the traffic has tokens, "
        "else lognormal:median=500ms,sigma=0.5,max=16",
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
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of all that is drawn at random; default 0")
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
        loaded, question = asked(options)
        with told(loaded):
            made = question.beside_defaults()
    except Wrong as wrong:
        return wrong.code
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
        from ebbtide.simulate.question import problem_of  # noqa: PLC0415 - only the simulator's commands need it
        from ebbtide.simulate.servers import ServerError  # noqa: PLC0415 - as above
        from ebbtide.simulate.setting import NotSimulated  # noqa: PLC0415 - as above

        if isinstance(error, (NotSimulated, ServerError)):
            stop(problem_of(error, self.loaded.name))


def stop(*problems: Problem) -> NoReturn:
    """Print problems and end the command."""
    show(problems)
    raise Wrong(1)


def usage(message: str, command: str) -> NoReturn:
    """Say what is wrong with the command line and end the command."""
    sys.stderr.write(f"ebbtide {command}: error: {message}\n")
    raise Wrong(USAGE)


def asked(options: argparse.Namespace) -> tuple[Loaded, Question]:
    """Return the spec, and what is to be simulated. Raises Wrong."""
    command = options.command
    if find_spec("numpy") is None:
        usage(f"numpy is not installed: pip install 'ebbtide[{EXTRA}]'", command)
    from ebbtide.simulate.question import NotAsked, Words, ask, price_of, start_up_of  # noqa: PLC0415 - it needs numpy

    columns = _columns(options.columns, command)
    try:
        start_up_of(options.start_up)
        price_of(options.cost)
        profile = profile_or_problems(options.profile)
        if profile is None:
            raise Wrong(1)
        loaded = _spec(options.spec, profile)
        read = _traffic(options, columns)
        show(read.problems)
        if read.traffic is None:
            raise Wrong(1)
        fast = command == "tune" or len(read.traffic.times) > MANY
        words = Words(options.server, options.start_up, options.slo, options.cost, options.seed, fast)
        found = ask(loaded, profile, read.traffic, words)
    except NotAsked as error:
        lead = {"start-up": "--start-up: ", "cost": "--cost "}.get(error.part, "")
        usage(f"{lead}{error}", command)
    if isinstance(found, list):
        stop(*found)
    return loaded, found


def _spec(name: str, profile: Profile) -> Loaded:
    found = list(documents(sources([name]), profile))
    if len(found) != 1:
        text = f"{len(found)} documents where one spec is simulated"
        stop(Problem("SIM003", (), text, "give a file with one spec", document=name))
    return found[0]


def _traffic(options: argparse.Namespace, columns: dict[str, str]) -> Read:
    from ebbtide.simulate import load  # noqa: PLC0415 - it needs numpy

    if load.is_shape(options.traffic):
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
