"""The time to read a text grows with its length, not with its square. Counted in steps, because times vary."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.core.manifests import read_documents, reader

if TYPE_CHECKING:
    from collections.abc import Callable

#: Texts of about ``size`` characters, each of another shape.
SHAPES: dict[str, Callable[[int], str]] = {
    "a number of base 60": lambda size: f"a: {'1:' * (size // 2)}1\n",
    "a float of base 60": lambda size: f"a: {'1:' * (size // 2)}1.5\n",
    "a key of base 60": lambda size: f"{'1:' * (size // 2)}1: 1\n",
    "digits": lambda size: f"a: {'1' * size}\n",
    "hexadecimal digits": lambda size: f"a: 0x{'f' * size}\n",
    "underscores": lambda size: f"a: 1{'_1' * (size // 2)}\n",
    "lone CRs": lambda size: "\r" * size,
    "lines with lone CRs": lambda size: "a\rb\n" * (size // 4),
    "control characters": lambda size: "a\x01\n" * (size // 3),
    "duplicate keys": lambda size: "a: 1\n" * (size // 5),
    "ambiguous keys": lambda size: "yes: 1\n" * (size // 7),
    "ambiguous values": lambda size: "a:\n" + "- yes\n" * (size // 6),
    "tags": lambda size: "a:\n" + "- !x b\n" * (size // 7),
    "aliases": lambda size: "a:\n" + "- *x\n" * (size // 5),
    "separators": lambda size: "---\n" * (size // 4),
    "comments": lambda size: "# a\n" * (size // 4) + "a: 1\n",
    "comments that end with CRLF": lambda size: "# a\r\n" * (size // 5) + "a: 1\n",
    "blank lines that end with CRLF": lambda size: " \t\r\n" * (size // 4) + "a: 1\n",
    "braces": lambda size: "{" * size,
    "brackets of JSON": lambda size: '{"a": [' * (size // 7),
    "one long string": lambda size: f'"{"x" * size}"',
}
SMALL, LARGE = 400, 3_200


class CountingText(str):
    """Text that counts the characters that its methods look at."""

    __slots__ = ()
    looked_at = 0

    def count(self, *arguments: Any) -> int:
        _, start, end = (*arguments, 0, len(self))[:3] if len(arguments) == 1 else arguments
        CountingText.looked_at += end - start
        return super().count(*arguments)


def count_steps(text: str) -> int:
    """Return the number of lines of Ebbtide's code that reading ``text`` executes."""
    steps = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal steps
        if "ebbtide" not in frame.f_code.co_filename:
            return None
        steps += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        list(read_documents(text, "x"))
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.parametrize("shape", SHAPES)
def test_reading_takes_linear_steps(shape: str) -> None:
    small, large = (count_steps(SHAPES[shape](size)) for size in (SMALL, LARGE))

    assert large <= small * (LARGE / SMALL) * 1.1 + 200


@pytest.mark.parametrize("size", [1_000, 10_000, 100_000])
@pytest.mark.parametrize("character", ["\r", "\x01", "\x01\n"])
def test_each_part_of_a_text_is_counted_once(size: int, character: str) -> None:
    """The steps are inside one call of ``str.count``, which a trace does not see."""
    CountingText.looked_at = 0
    text = CountingText(character * size)
    reader._replace_unreadable(text, 1, "x")  # noqa: SLF001 - the method that counts lines

    assert 0 < CountingText.looked_at <= len(text)


def test_every_shape_is_read() -> None:
    """A regular expression that backtracks exponentially ends at no size; the limit is far above what is needed."""
    program = "import sys\nfrom ebbtide.core.manifests import read_documents\nlist(read_documents(sys.stdin.buffer.read(), 'x'))"
    for make in SHAPES.values():
        subprocess.run([sys.executable, "-c", program], input=make(2**16).encode(), check=True, timeout=120)
