"""Every option, API parameter and text of a simulation accepts the same durations, and refuses the same others."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from typing import Final

import pytest

pytest.importorskip("numpy")
pytest.importorskip("fastapi")

from ebbtide.cli.base import connection
from ebbtide.cli.base.options import Option
from ebbtide.cli.operate import slo, start
from ebbtide.cli.run import call
from ebbtide.server.api import own
from ebbtide.server.api.errors import RequestError
from ebbtide.simulator.data import SimulationRequestError
from ebbtide.simulator.engine.slo import parse_bounds
from ebbtide.simulator.traffic import load, servers, words
from ebbtide.simulator.traffic.servers import FixedServer


def find_parser(options: Iterable[Option], name: str) -> Callable[[str], float]:
    """Return the parser of an option."""
    parser: Callable[[str], float] = next(option.settings["type"] for option in options if name in option.names)
    return parser


def parse_server_seconds(text: str) -> float:
    server = servers.parse_server(f"fixed:{text}")
    assert isinstance(server, FixedServer)
    return server.seconds


#: Consumers of a duration, and whether a number alone is in seconds there.
CONSUMERS: Final[dict[str, tuple[Callable[[str], float], bool]]] = {
    "--wait": (find_parser([connection.make_wait_option("ready")], "--wait"), True),
    "--timeout": (find_parser(call.OPTIONS, "--timeout"), True),
    "slo --since": (find_parser(slo.OPTIONS, "--since"), True),
    "start --since": (find_parser(start.OPTIONS, "--since"), True),
    "since of the API": (own.parse_period, True),
    "--start-up": (lambda text: words.parse_start_up(text).seconds, False),
    "a phase of --start-up": (lambda text: words.parse_start_up(f"pull={text}").seconds, False),
    "--traffic": (lambda text: load.generate_traffic(f"constant:1rps,{text}").seconds, False),
    "--slo": (lambda text: parse_bounds(f"p95={text}")[0].limit, False),
    "--server": (parse_server_seconds, False),
}
VALID: Final = {"90s": 90, "1h30m": 5400, "1.5h": 5400, "1 h 30 min": 5400, "90000ms": 90, "1d": 86_400, "2min": 120}
INVALID: Final = ("5x", "-90s", "1e3s", "1h30", "s", "1.h", "90 sec", "\N{ARABIC-INDIC DIGIT NINE}s")


@pytest.mark.parametrize("name", CONSUMERS)
def test_every_consumer_reads_the_same_durations(name: str) -> None:
    parse, bare = CONSUMERS[name]

    assert {text: parse(text) for text in VALID} == VALID
    for text in [*INVALID, *([] if bare else ["90"])]:
        with pytest.raises((ValueError, ArgumentTypeError, RequestError, SimulationRequestError)) as caught:
            parse(text)
        assert f"invalid duration {text!r}" in str(caught.value)
    if bare:
        assert parse("90") == 90
