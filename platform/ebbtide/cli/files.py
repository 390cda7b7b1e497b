"""Atomic replacement of a user's file."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def replace_file(name: str | Path, data: bytes) -> None:
    """Write ``data`` to a file, completely or not at all: an error or a killed process leaves the old content.

    The data is written to a temporary file in the same directory, synchronized with the disk, and renamed. A symbolic
    link stays a link, and the mode of an existing file stays. A device or a pipe is written directly.

    Raises:
        OSError: the file cannot be written.

    """
    target = Path(os.path.realpath(name))
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(13, "permission denied", str(target))
    temporary = target.parent / f".ebbtide-{secrets.token_hex(8)}.tmp"
    # The umask applies to a new file, as for any other program.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if target.exists():
                _copy_owner_and_mode(target, descriptor)
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _synchronize_directory(target.parent)


def _copy_owner_and_mode(file: Path, descriptor: int) -> None:
    status = file.stat()
    with suppress(PermissionError):  # only root can give a file away
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, status.st_mode & 0o7777)


def _synchronize_directory(directory: Path) -> None:
    """Make a rename durable. Some file systems cannot synchronize a directory; the file is complete there as well."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
