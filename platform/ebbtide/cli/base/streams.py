"""Standard streams of a process: their encoding, closed streams, and a guard against terminal escapes.

The guard is the one place that all output passes through, including that of argparse and of the log.
"""

from __future__ import annotations

import gc
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn, TextIO, cast

from ebbtide.core.base.plugins import PluginError
from ebbtide.core.base.prose import CONTROLS_OUTSIDE_ASCII, escape_character

FAILED: Final = 2
#: Styles of text: the name, the mark, and the terminal's sequence. A mark is one half of a surrogate pair, which no decoded text contains, so that no text from outside can
#: use a style; the guard replaces it with the terminal's sequence.
_STYLES: Final = (
    ("error", "\udc01", "\x1b[31m"),
    ("good", "\udc02", "\x1b[32m"),
    ("warning", "\udc03", "\x1b[33m"),
    ("fix", "\udc04", "\x1b[36m"),
    ("bold", "\udc05", "\x1b[1m"),
    ("end", "\udc06", "\x1b[0m"),
)
STYLES: Final = {name: mark for name, mark, _ in _STYLES}
NO_STYLES: Final = dict.fromkeys(STYLES, "")
_SEQUENCES: Final = {mark: sequence for _, mark, sequence in _STYLES}
#: All controls except the line feed and the tab. Bytes of a file name that are not UTF-8, U+DC80 to U+DCFF, are left to the
#: stream's error handler.
_NO_SURROGATES: Final = CONTROLS_OUTSIDE_ASCII.replace("\ud800-\udfff", "")
_CONTROL = re.compile(f"[\0-\x08\x0b-\x1f\x7f{_NO_SURROGATES}\udc01-\udc06]")


def guard_text(text: str) -> str:
    """Return text with visible escapes instead of controls, and with a terminal's sequences instead of styles."""
    return _CONTROL.sub(lambda match: _SEQUENCES.get(match[0]) or escape_character(match[0]), text)


class GuardedStream:
    """Text stream that escapes the control characters of everything written to it."""

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        return self.unguarded.write(guard_text(text))

    def writelines(self, lines: Iterable[str]) -> None:
        self.unguarded.writelines(map(guard_text, lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)


def unguard_stream(stream: TextIO) -> TextIO:
    """Return the stream below the guard, for a cursor movement of Ebbtide's own or for bytes that are not displayed."""
    return stream.unguarded if isinstance(stream, GuardedStream) else stream


def get_style_codes(stream: TextIO) -> dict[str, str]:
    """Return the codes of all styles, or empty strings without a guarded terminal that displays them.

    NO_COLOR (https://no-color.org) and the terminal ``dumb`` turn them off.
    """
    displayed = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    colored = isinstance(stream, GuardedStream) and stream.isatty() and displayed
    return STYLES if colored else NO_STYLES


def get_width(stream: TextIO) -> int:
    """Return the columns of the terminal that displays a stream; 0 for a pipe or a file, whose text is not wrapped."""
    import shutil

    return shutil.get_terminal_size((0, 0)).columns if stream.isatty() else 0


@contextmanager
def guard_streams() -> Iterator[None]:
    """Guard stdout and stderr while the context is entered."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", GuardedStream(unguard_stream(stream))) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def run_guarded(program: str, work: Callable[[], int]) -> int:
    """Run ``work`` with guarded streams and return its exit code, or report why a part, input or output failed."""
    with guard_streams():
        try:
            code = work()
            sys.stdout.flush()
        except PluginError as error:
            sys.stderr.write(f"{program}: error: {error}\n")
            return FAILED
        except BrokenPipeError:
            return 0  # the reader closed the pipe, so an error message would not be read
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            with suppress(OSError):
                sys.stderr.write(f"error: {place}{(error.strerror or 'input or output failed').lower()}\n")
                sys.stderr.flush()
            return FAILED
        except KeyboardInterrupt:
            return 130
        return code


def configure_output_encoding() -> None:
    """Make stdout and stderr accept every character, whatever the locale.

    A file or a pipe gets UTF-8, the encoding of YAML, JSON and HTML. A terminal shows a question mark for a character
    outside its encoding.
    """
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if stream.isatty():
            stream.reconfigure(errors="replace")
        else:
            # File names may contain bytes that are not valid UTF-8.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def open_closed_streams() -> None:
    """Open stdin, stdout and stderr if the parent process closed them, so that no other file gets their numbers.

    Reading stdin and writing stdout then fail with an error that is reported. What is written to stderr is lost.
    """
    for number, name, flags in ((0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))


def run_process(work: Callable[[], int]) -> NoReturn:
    """Run as a process: without garbage collection, because the process is short-lived, and without teardown."""
    gc.disable()
    open_closed_streams()
    configure_output_encoding()
    code = work()
    with suppress(OSError):
        sys.stderr.flush()
    # The rest of the buffer of stdout could not be written.
    os._exit(code)
