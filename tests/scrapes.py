"""A Prometheus that scrapes simulated pods: its own engine answers the queries, over samples with the times of the scrapes.

``tools/promql`` is Prometheus' engine (``make judge``).
"""

from __future__ import annotations

import atexit
import json
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

from cases import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROGRAM = ROOT / "tools" / "promql" / "bin" / "promql"
#: The name and the other labels of a series.
Series = tuple[str, tuple[tuple[str, str], ...]]
#: Seconds for which samples are kept, more than any query reads.
KEPT_SECONDS = 1200.0
LOOKBACK_SECONDS = 90.0


class PromqlError(Exception):
    """The engine rejects a query."""


class Engine:
    """Prometheus' engine as a process; one world of samples at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(self.end)

    def end(self) -> None:
        """End the process."""
        self._process.communicate()

    def ask(self, step: Mapping[str, Any]) -> list[Any]:
        """Send one step, and return the answers to its queries."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"step": step}, separators=(",", ":")) + "\n")
        self._process.stdin.flush()
        answers: list[Any] = json.loads(self._process.stdout.readline())["answers"]
        return answers


@cache
def start_engine() -> Engine:
    """Return the engine of this process."""
    return Engine()


class Scraper:
    """The samples of one world: what was scraped when, and what was not."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._new = engine, True
        self._numbers: dict[Series, int] = {}
        self._pending: list[dict[str, float | int | None]] = []
        self._named: dict[int, dict[str, str]] = {}
        #: The series of the last scrape by target.
        self._last: dict[str, set[Series]] = {}

    def scrape(self, target: str, now: float, values: Mapping[Series, float] | None) -> None:
        """Store the samples of a target; None if the scrape failed, which ends its series until the next one."""
        present = values or {}
        for series in self._last.get(target, set()) - present.keys():
            self._add(series, now, None)
        for series, value in present.items():
            self._add(series, now, value)
        self._last[target] = set(present)

    def _add(self, series: Series, now: float, value: float | None) -> None:
        number = self._numbers.get(series)
        if number is None:
            number = self._numbers[series] = len(self._numbers)
            self._named[number] = {"__name__": series[0], **dict(series[1])}
        self._pending.append({"n": number, "t": now, "v": value})

    def answer(self, query: str, now: float) -> list[tuple[Mapping[str, str], float]]:
        """Return the finite values of a query at a time, as ``samples`` of a ``SampleSource``."""
        step = {
            "reset": self._new, "series": self._named, "samples": self._pending, "ask": [query], "at": now,
            "lookback": LOOKBACK_SECONDS, "keep": 0,
        }  # fmt: skip
        self._new, self._named, self._pending = False, {}, []
        (answer,) = self._engine.ask(step)
        if answer.get("error"):
            raise PromqlError(answer["error"])
        return list(_read_rows(answer["rows"]))


def _read_rows(rows: Iterable[Any]) -> Iterable[tuple[Mapping[str, str], float]]:
    for row in rows:
        value = float(row["value"])
        if value - value == 0:
            yield row["labels"], value
