"""Transcripts of commands: what a user types and reads, without what differs from one run to the next."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import subprocess

RECORDED: Final = Path(__file__).parent / "cases" / "26-situations" / "recorded"
ACCEPT: Final = bool(os.environ.get("EBBTIDE_E2E_ACCEPT"))
"""True where the recorded files are to be rewritten."""
PROGRESS: Final = re.compile(r" *\d+\.\d s  ")
"""The start of a line of `apply` about one poll."""
HINT: Final = " " * 31
"""The start of the line after it, with a hint."""
VOLATILE: Final = (
    (r"/[\w./-]+/(?=[\w-]+\.yaml)", ""),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<moment>"),
    (r"\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b", "<address>"),
    (r"127\.0\.0\.1:\d+|localhost:\d+", "<address>"),
    (r"(-0000\d-deployment|-predictor)-[0-9a-f]{6,10}(-[0-9a-z]{5})?\b", r"\1-<pod>"),
    (r"[\w-]+-control-plane", "<node>"),
    (r"cannot be found \([^)]*\)", "cannot be found (<cause>)"),
    (r"<node>   \d+", "<node>   <restarts>"),
    # A container that cannot start alternates between both, and restarts in one of them.
    (r"cannot (?:create|start) container (.*?)(?:; restarted \S+ times?)?$", r"cannot start container \1"),
    (r"restarted \d+ times?", "restarted <n> times"),
    # It reports -1 until it has decided once.
    (r"the autoscaler reports -?\d+", "the autoscaler reports <n>"),
    # containerd sometimes misses the kernel's event.
    (r"exited: it used more memory than its limit \(OOMKilled\)", "<out of memory>"),
    (r"was killed \(exit code 137\), most likely out of memory: limit [^;\s]+", "<out of memory>"),
    # Between two scrapes of a container that restarts, Prometheus has no value.
    (r"concurrency [-0]/", "concurrency <n>/"),
    (r"(?<![\w./\"-])\d+(\.\d+)?( ?)(ms|s|m|min|h|d)((?<=m)\d+s|(?<=h)\d+m)?\b(?![-\w])", "<time>"),
    (r" {3,}", "   "),
    (r" +$", ""),
)
"""Patterns of volatile parts, and what replaces them."""
LEFT_OUT: Final = re.compile(
    r"^(conditions|events|spec|starts)\n(  .*\n)+\n?|^.*-deployment-.* (terminating|Terminating .*)\n", re.MULTILINE
)
"""Parts of `describe` that repeat the spec, that Knative changes several times, or that depend on the load; pods that drain."""


def normalize(text: str) -> str:
    """Return output without ages, addresses, hashes, and the polls of a wait, which depend on the load of the machine."""
    lines = LEFT_OUT.sub("", text).splitlines()
    polls = [number for number, line in enumerate(lines) if PROGRESS.match(line)]
    kept = [
        line
        for number, line in enumerate(lines)
        if not PROGRESS.match(line) and not (number - 1 in polls and line.startswith(HINT))
    ]
    return replace_volatile("\n".join(kept)).strip("\n") + "\n"


def replace_volatile(text: str) -> str:
    """Return a text with words in place of what differs between two runs."""
    for pattern, words in VOLATILE:
        text = re.sub(pattern, words, text, flags=re.MULTILINE)
    return text


def fold(done: "subprocess.CompletedProcess[str]") -> str:
    """Return what a command printed, and its exit code where that is not 0."""
    code = f"[exit code {done.returncode}]\n" if done.returncode else ""
    return normalize(done.stdout + done.stderr) + code


@dataclass
class Transcript:
    """The commands of one situation in order, each with its output."""

    name: str
    title: str
    blocks: list[tuple[str, str]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return RECORDED / f"{self.name}.txt"

    def add(self, command: Sequence[str] | str, output: str) -> None:
        """Add a command and what it printed."""
        line = command if isinstance(command, str) else " ".join(command)
        self.blocks.append((f"$ {line}", output))

    def recorded(self, line: str) -> str | None:
        """Return the recorded output of the next command, if that is this one."""
        blocks = parse(self.file.read_text()) if self.file.exists() else []
        number = len(self.blocks)
        return (
            replace_volatile(blocks[number][1]) if number < len(blocks) and blocks[number][0] == f"$ {line}" else None
        )

    def text(self) -> str:
        """Return the transcript as a file has it."""
        return f"# {self.title}\n\n" + "\n".join(f"{command}\n{output}" for command, output in self.blocks)

    def compare(self) -> str:
        """Return the differences of Ebbtide's answers from the recorded ones; write the file if they are accepted."""
        if ACCEPT:
            RECORDED.mkdir(exist_ok=True)
            self.file.write_text(self.text())
            return ""
        expected, actual = (
            [
                line
                for command, output in blocks
                if command.startswith("$ ebbtide")
                for line in (command, *replace_volatile(output).splitlines())
            ]
            for blocks in (parse(self.file.read_text()) if self.file.exists() else [], self.blocks)
        )
        return "\n".join(unified_diff(expected, actual, f"recorded/{self.file.name}", "this run", lineterm="", n=1))


def parse(text: str) -> list[tuple[str, str]]:
    """Return the commands of a recorded file, each with its output."""
    parts = re.split(r"^(\$ .*)\n", text, flags=re.MULTILINE)[1:]
    return [(command, output.rstrip("\n") + "\n") for command, output in zip(parts[::2], parts[1::2], strict=True)]
