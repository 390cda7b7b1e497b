"""Output of the commands for a live cluster: lines for a person, tables, data, and the question before a write."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ebbtide.base.bodies import serialize
from ebbtide.base.prose import printable
from ebbtide.cli.common import colours, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ebbtide.cluster.read.status import Status
    from ebbtide.cluster.write.apply import Look

#: The escape code of each phase and of each SLO's outcome.
PAINT: Final = {
    "Running": "good",
    "Failed": "error",
    "Degraded": "error",
    "Pending": "warning",
    "kept": "good",
    "broken": "error",
    "unknown": "warning",
}


def progress(look: Look, lead: str = "") -> str:
    """Return one look at a workload as a line."""
    status = look.status
    phase = painted(status.phase, f"{status.phase:13}")
    count = f"{status.replicas.ready}/{status.replicas.wanted}"
    return f"{look.seconds:6.1f} s  {lead}{phase} {count:6} {printable(status.why)}".rstrip() + "\n"


def done(namespace: str, name: str, words: str, form: str, **data: Any) -> None:
    """Say what a command did to a workload: in words, as JSON, or by its name alone."""
    if form == "json":
        write_json({"namespace": namespace, "name": name, **data})
    else:
        sys.stdout.write(f"{namespace}/{name}\n" if form == "name" else f"{words}\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Write a line for a person to stderr."""
    sys.stderr.write(f"{text}\n")


def end(text: str, code: int) -> NoReturn:
    """Write a line for a person to stderr, and end the command."""
    tell(text)
    raise SystemExit(code)


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether the user agrees; where nobody can be asked, ``-y`` must say so."""
    if yes:
        return True
    if not sys.stdin.isatty():
        tell(f"{question} Nobody can be asked here: say -y.")
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], indent: str = "") -> str:
    """Return rows in columns; empty cells are a dash."""
    lines = [head, *(tuple(printable(cell) or "-" for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "".join(
        indent + "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def painted(state: str, text: str) -> str:
    """Return text in the colour of a phase or an outcome, on a terminal."""
    colour = colours(sys.stdout)
    return f"{colour[PAINT[state]]}{text}{colour['end']}" if state in PAINT else text


def answer(value: Any, form: str, *, watched: bool = False) -> None:
    """Write data as JSON or YAML; of what is watched each answer begins a YAML document, since more may follow."""
    if form == "json":
        write_json(value)
        return
    from ebbtide import manifests  # noqa: PLC0415 - JSON needs none

    written = serialize(value)
    rows = written if isinstance(written, list) else [written]
    if watched:
        sys.stdout.write("---\n")
    sys.stdout.writelines(manifests.write(rows))


def curl(status: Status) -> str:
    """Return the line that calls a workload, or how else it is reached."""
    if not status.url:
        return ""
    if ".svc." in status.url:
        return f"ebbtide port-forward {status.name} -n {status.namespace} 8080   # {status.url} is for the cluster only"
    return f"curl {status.url}/"
