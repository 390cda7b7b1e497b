"""The table of situations in docs/studies/situations.md, generated from the answers that are recorded on a real cluster.

``pytest tests/repository/test_situations_docs.py --accept`` rewrites it.
"""

from __future__ import annotations

import re
from pathlib import Path

from e2e.transcript import RECORDED, parse

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "studies" / "situations.md"
TABLE = re.compile(r"(?<=<!-- table -->\n\n)(?:\|.*\n)*(?=\n?<!-- end -->)")
READY = {"True", "False", "Unknown"}


def read_answers(blocks: list[tuple[str, str]]) -> tuple[str, str, str]:
    """Return what Ebbtide, `kubectl get pods` and `kubectl get ksvc` or `isvc` say."""
    by_command: dict[str, list[list[str]]] = {}
    refusals = [line.strip() for _, output in blocks for line in output.splitlines() if re.match(r" *!|error:", line)]
    for command, output in blocks:
        rows = [re.split(r" {3}", line) for line in output.splitlines()[1:]]
        by_command.setdefault(command.removeprefix("$ ").partition(" --")[0], rows)
    listed = by_command.get("ebbtide list", [])
    last = blocks[-1][1].partition("\n")[0]
    ours = f"{listed[0][2]}: {listed[0][7]}".removesuffix(": -") if listed else [*refusals, last][0].removeprefix("! ")
    pods = sorted({row[2] for row in by_command.get("kubectl get pods", []) if len(row) > 2})
    top = next((rows for name, rows in by_command.items() if re.match(r"kubectl get [ki]svc", name)), [])
    cells = [cell for cell in (top[0] if top else []) if cell]
    position = next((number for number, cell in enumerate(cells) if cell in READY), None)
    ready = [] if position is None else [cell for cell in cells[position : position + 2] if not cell.startswith("<")]
    return ours, ", ".join(pods) or "-", " ".join(ready) or "-"


def make_table() -> str:
    """Return the rows of the table: one for each recorded file."""
    lines = ["| Situation | Ebbtide | `kubectl get pods` | `kubectl get ksvc` |", "| --- | --- | --- | --- |"]
    for file in sorted(RECORDED.glob("*.txt")):
        text = file.read_text()
        title = text.partition("\n")[0].removeprefix("# ")
        link = f"[{file.stem}](../../{file.relative_to(ROOT).as_posix()})"
        cells = (f"{link}: {title}", *read_answers(parse(text)))
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def test_the_table_shows_the_recorded_answers(*, accept: bool) -> None:
    text = PAGE.read_text()
    if accept:
        PAGE.write_text(TABLE.sub(lambda _: make_table(), text))
        return
    assert TABLE.search(text)[0] == make_table()  # type: ignore[index] # the page has the markers


def test_there_are_twenty_situations() -> None:
    assert len([*RECORDED.glob("*.txt")]) >= 20
