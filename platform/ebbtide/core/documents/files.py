"""Reading of input files and of stdin, with a limit of the size, and without waiting for a pipe that has no writer."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Final

from ebbtide.core.base.problems import Problem

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

MEBIBYTE: Final = 2**20
#: Maximum size of an input in bytes: more than 100,000 specs.
MAX_INPUT_BYTES: Final = 64 * MEBIBYTE
TOO_LARGE: Final = f"larger than {MAX_INPUT_BYTES // MEBIBYTE} MiB"


def is_directory(path: Path) -> bool:
    """Return whether a path is a directory; a path that the operating system rejects is not."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_regular_file(path: Path) -> bool:
    """Return whether a path is a file, not a device or a pipe; a path that the operating system rejects is not."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_file(path: Path, *, only_regular: bool = False, limited: bool = True) -> bytes:
    """Return the content of a file, which must not exceed ``MAX_INPUT_BYTES`` if it is ``limited``.

    A file that was found in a directory must be regular. A named file can also be a device or the pipe of a process
    substitution, but not a named pipe, which waits indefinitely if no program writes to it.

    Raises:
        OSError: the file cannot be read.
    """
    # The pipe of a process substitution has a name in /dev/fd only, which resolves to nothing.
    if path.is_fifo() and (only_regular or path.resolve().exists()):
        raise OSError(errno.ESPIPE, "it is a named pipe; pass the text on stdin, as -", str(path))
    if only_regular and path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    if not limited or (path.is_file() and path.stat().st_size <= MAX_INPUT_BYTES):
        return path.read_bytes()
    with path.open("rb") as stream:
        return _read_limited(stream)


def read_stdin() -> bytes:
    """Return the content of stdin. Raises ``OSError`` if it cannot be read."""
    return _read_limited(sys.stdin.buffer)


def _read_limited(stream: BinaryIO) -> bytes:
    data = stream.read(MAX_INPUT_BYTES + 1)
    if len(data) > MAX_INPUT_BYTES:
        raise OSError(errno.EFBIG, TOO_LARGE)
    return data


def unreadable_problem(error: OSError, name: str) -> Problem:
    """Return the problem of an input that cannot be read."""
    if error.errno == errno.EFBIG:
        return Problem("FIL057", (), f"the input is {TOO_LARGE}", "split it into several files", document=name)
    reason = (error.strerror or "unknown error").lower()
    return Problem(
        "FIL001", (), f"cannot read the file: {reason}", "check the file name and its permissions", document=name
    )
