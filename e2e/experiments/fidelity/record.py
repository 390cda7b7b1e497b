"""Records of replays as lines of JSON, which can be compared again after the model has changed.

Times are seconds from the start of the traffic, on the recorder's clock; an object's change has the time at which
the watch delivered it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

VERSION: Final = 1

What = Literal["made", "ready", "unready", "going", "gone"]
"""Events of a pod: created, ready, no longer ready, marked for deletion, gone."""


@dataclass(frozen=True)
class Start:
    """One pod's start, in seconds from when it was wanted."""

    made: float
    answers: float | None
    """When it began to work on its first request, None where none came before it was ready."""
    ready: float


@dataclass(frozen=True)
class Head:
    """Settings of a replay, and the measurements before it."""

    kind: str
    spec: Mapping[str, Any]
    profile: Mapping[str, Any]
    """The spec and the profile as documents."""
    promise: str
    """The SLO in the syntax of `--slo`."""
    traffic: str
    server: str
    seconds: float
    work: tuple[float, ...]
    """Service time of each request."""
    starts: tuple[Start, ...]
    """Pods that started before the traffic did."""
    overhead: float
    """Seconds of a reply in addition to the service time, without queueing."""
    began: str = ""
    """The time of day."""


@dataclass(frozen=True)
class Request:
    """One request: when it was due, when it was sent, and its result."""

    due: float
    sent: float
    took: float
    """Seconds from `sent` to the end of the reply, or to when it was given up."""
    status: str
    """The status code, or the error's name."""
    pod: str = ""
    worked: float = 0.0
    """Service time that the server reports."""

    @property
    def answered(self) -> bool:
        """True if the reply has status 200."""
        return self.status == "200"


@dataclass(frozen=True)
class PodChange:
    """An event of a pod."""

    at: float
    pod: str
    what: What


@dataclass(frozen=True)
class Level:
    """A number or word that changed: `wanted` (the Deployment's replicas), `mode` (the activator's place)."""

    at: float
    name: str
    value: int | str


@dataclass(frozen=True)
class Noise:
    """Delays of a timer that should run every 10 ms: a measure of how much the machine held up the recorder."""

    ticks: int
    late: int
    """Ticks that came more than 20 ms late."""
    worst: float
    """Seconds that the latest one was late."""
    busy: float
    """The share of all processors that was in use, by anyone."""
    waited: float | None = None
    """The share of the time in which something wanted a processor and had none, where the kernel tells."""


@dataclass
class Record:
    """One replay of one service."""

    head: Head
    requests: list[Request] = field(default_factory=list)
    pods: list[PodChange] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    noise: Noise | None = None

    def until(self, seconds: float) -> "Record":
        """Return its first part, as if the traffic had ended then: what comes after may have been disturbed."""
        requests = sorted((each for each in self.requests if each.due < seconds), key=lambda each: each.due)
        head = replace(self.head, seconds=min(seconds, self.head.seconds), work=self.head.work[: len(requests)])
        pods = [each for each in self.pods if each.at < seconds]
        return Record(head, requests, pods, [each for each in self.levels if each.at < seconds], self.noise)

    def lines(self) -> Iterable[str]:
        """Yield the record as JSON lines, the head first."""
        yield _line("head", {"version": VERSION, **asdict(self.head)})
        for name, rows in (("request", self.requests), ("pod", self.pods), ("level", self.levels)):
            for row in rows:
                yield _line(name, asdict(row))
        if self.noise is not None:
            yield _line("noise", asdict(self.noise))

    def write(self, file: Path) -> None:
        """Write it."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in self.lines()))


class RecordError(ValueError):
    """Raised for a file that is not a record, or has another version."""


def read(file: Path) -> Record:
    """Read a record.

    Raises:
        RecordError: it is none.

    """
    record: Record | None = None
    try:
        for line in file.read_text().splitlines():
            ((name, row),) = json.loads(line).items()
            if name == "head":
                if row.pop("version") != VERSION:
                    raise RecordError(f"{file} was written by another version: replay it anew")
                starts = tuple(Start(**start) for start in row.pop("starts"))
                record = Record(Head(**{**row, "starts": starts, "work": tuple(row["work"])}))
            elif record is None:
                raise RecordError(f"{file} does not begin with a head")
            elif name == "noise":
                record.noise = Noise(**row)
            else:
                _add(record, name, row)
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(f"{file} is no record of a replay: {error}") from error
    if record is None:
        raise RecordError(f"{file} is empty")
    return record


def _add(record: Record, name: str, row: Mapping[str, Any]) -> None:
    match name:
        case "request":
            record.requests.append(Request(**row))
        case "pod":
            record.pods.append(PodChange(**row))
        case "level":
            record.levels.append(Level(**row))
        case _:
            raise RecordError(f"a record has no {name}")


def _line(name: str, row: Mapping[str, Any]) -> str:
    return json.dumps({name: row}, separators=(",", ":"), default=lambda value: round(value, 6))
