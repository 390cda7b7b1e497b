"""No text of a file, a cluster or a server controls the terminal that a command prints it on."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cli import COMMANDS, load_command, main
from ebbtide.cli.base import common, terminal
from ebbtide.cli.base.options import make_option
from ebbtide.cli.base.streams import STYLES, guard_text
from ebbtide.core import manifests
from ebbtide.core.base.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = Path(__file__).parents[3] / "platform" / "ebbtide"
#: Clears the screen, moves the cursor, colors, sets the title, overwrites the line, reverses the text. C0, C1, bidi.
EVIL = "\x1b[2J\x1b[1;1H\x1b[32mok\x1b]0;t\x07\r\x08\x7f\x9b31m\x85\u200e\u202e\u2066\u2028\ufeff"
RAW = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
CALLED = re.compile(r"unguard_stream\(|stdout\.buffer|stderr\.buffer|__stdout__|__stderr__|print\(")
SPEC: dict[str, Any] = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Inference",
    "metadata": {"name": "chat", "annotations": {"note": EVIL}},
    "spec": {
        "image": "ghcr.io/acme/chat:1",
        "servingPort": {"container": 8000},
        "environmentVariables": [{"name": "NOTE", "value": EVIL}],
    },
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make_terminals(monkeypatch: pytest.MonkeyPatch) -> tuple[Terminal, Terminal]:
    """Replace stdout and stderr with terminals; not in a fixture, after which pytest would replace them again."""
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


def without_styles(text: str) -> str:
    for style in STYLES.values():
        text = text.replace(guard_text(style), "")
    return text


def write_everything(_: Any) -> int:
    """Print hostile text in each of the ways in which commands print."""
    problem = Problem("SPEC001", ("spec", EVIL), EVIL, EVIL, document=EVIL)
    for stream in (sys.stdout, sys.stderr):
        stream.write(EVIL)
        stream.writelines([EVIL, EVIL])
        common.print_problems([problem], stream)
    common.write_json({"text": EVIL})
    for output_format in ("json", "yaml"):
        terminal.write_data([{EVIL: EVIL}], output_format)
        terminal.print_result(EVIL, EVIL, EVIL, output_format, text=EVIL)
    sys.stdout.write(terminal.format_table(("NAME",), [(EVIL,)]))
    sys.stdout.write(terminal.paint_state("Running", EVIL))
    terminal.write_stderr(EVIL)
    raise OSError(2, EVIL, EVIL)


@pytest.mark.parametrize("command", [row[0] for row in COMMANDS])
def test_no_command_prints_a_control_character(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """The guard is around every command: its own code cannot print past it."""
    name = "run_words" if command == "submit" else "run"
    module = load_command(command)
    monkeypatch.setattr(module, name, write_everything)
    monkeypatch.setattr(module, "OPTIONS", (make_option("words", nargs="*"),))
    streams = make_terminals(monkeypatch)
    code = main([command, "x"])

    out, err = (stream.getvalue() for stream in streams)
    assert code == 2
    assert STYLES["end"] not in out + err
    assert guard_text(STYLES["good"]) in out
    for text in (out, err):
        assert "\\x1b[2J" in text
        assert "\\x9b31m" in text
        assert "\\u202e" in text
        assert RAW.findall(without_styles(text)) == []


@pytest.mark.parametrize("words", ["render", "render -o json", "check", "check -o json", "explain", "explain -o json"])
@pytest.mark.parametrize("broken", [False, True])
def test_a_spec_cannot_control_the_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, broken: bool
) -> None:
    file = tmp_path / f"{EVIL.replace('/', '')}.yaml"
    file.write_text(json.dumps({**SPEC, EVIL: EVIL} if broken else SPEC))
    streams = make_terminals(monkeypatch)
    code = main([*words.split(), str(file)])

    assert code == int(broken)
    for stream in streams:
        assert RAW.findall(without_styles(stream.getvalue())) == []


@pytest.mark.parametrize(
    "words", [["submit", EVIL, "--image", EVIL, EVIL], ["check", "--output", EVIL], ["docs", EVIL]]
)
def test_an_argument_cannot_control_the_terminal(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    streams = make_terminals(monkeypatch)
    assert main(words) in {1, 2, 3}
    for stream in streams:
        assert RAW.findall(without_styles(stream.getvalue())) == []


def test_a_message_cannot_start_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    problem = Problem("SPEC001", ("spec", "a\nb"), "no\n1 service translated, 0 errors", "a\tb\nc", document="f\ng")
    common.print_problems([problem], sys.stdout)

    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_text_cannot_use_a_style(capsys: pytest.CaptureFixture[str]) -> None:
    """Styles are halves of surrogate pairs, which no decoded text contains, and problems escape them nevertheless."""
    common.print_problems([Problem("SPEC001", (), "".join(STYLES.values()))], sys.stdout)

    assert capsys.readouterr().out.endswith("    \\udc01\\udc02\\udc03\\udc04\\udc05\\udc06\n")


@pytest.mark.parametrize("write", [manifests.write_document, lambda data: manifests.write_json([data])])
def test_manifests_escape_what_an_editor_would_reorder(write: Callable[[Any], str]) -> None:
    text = write({"a": EVIL, EVIL: "b"})

    assert RAW.findall(text) == []
    assert guard_text(text) == text
    read = next(iter(manifests.read_documents(text, "x"))).data
    assert read == {"a": EVIL, EVIL: "b"} or read["items"] == [{"a": EVIL, EVIL: "b"}]


def test_only_streams_of_bytes_bypass_the_guard() -> None:
    """``logs`` to a file, and the cursor of the progress line."""
    bypassing = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if CALLED.search(path.read_text())}

    assert bypassing == {
        "cli/operate/logs.py",
        "cli/predict/tune.py",
        "cli/base/streams.py",
    }
