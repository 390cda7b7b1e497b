"""Atomic replacement of a user's file, and files that only the user can read."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path


def replace_file(name: str | Path, data: bytes) -> None:
    """Write ``data`` to a file, completely or not at all: an error or a killed process leaves the old content.

    The data is written to a temporary file in the same directory, synchronized with the disk, and renamed. A symbolic
    link stays a link, and the mode of an existing file stays. A device or a pipe is written directly. The temporary files
    that killed processes left are removed.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(os.path.realpath(name))
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(13, "permission denied", str(target))
    _remove_abandoned_files(target)
    temporary, descriptor = _create_locked_file(target)
    with os.fdopen(descriptor, "wb") as stream:
        try:
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


def create_private_file(name: str, data: bytes) -> Path:
    """Create a file that only this account can read, in a new directory that only this account can enter.

    The directory is in the account's runtime directory if there is one, which the system removes when the user signs out.

    Raises:
        OSError: the file cannot be written.
    """
    import tempfile

    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = Path(runtime).is_absolute() and os.access(runtime, os.W_OK)
    file = Path(tempfile.mkdtemp(prefix="ebbtide-", dir=runtime if usable else None), name)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
    except BaseException:
        remove_private_file(file)
        raise
    return file


def remove_private_file(file: Path) -> None:
    """Remove a file of ``create_private_file`` and its directory, unless it was removed already."""
    with suppress(OSError):
        file.unlink(missing_ok=True)
        file.parent.rmdir()


def find_state_folder() -> Path | None:
    """Return the directory for what outlives a command, such as sockets; None without a home directory. It may not exist.

    Upstream: specifications.freedesktop.org/basedir (XDG_STATE_HOME).
    """
    home = os.environ.get("HOME")
    base = os.environ.get("XDG_STATE_HOME") or (f"{home}/.local/state" if home else "")
    return Path(base) / "ebbtide" if base else None


def _name_temporary_file(target: Path, suffix: str) -> str:
    # A digest, because the name of the target may have the maximum length already.
    return f".ebbtide-{hashlib.blake2b(os.fsencode(target.name), digest_size=8).hexdigest()}-{suffix}.tmp"


def _create_locked_file(target: Path) -> tuple[Path, int]:
    """Create a temporary file next to a target. Its lock shows other processes that its writer is alive."""
    while True:
        temporary = target.parent / _name_temporary_file(target, secrets.token_hex(8))
        # The umask applies to a new file, as for any other program.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # a file system without locks, where abandoned files stay
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        # Another process removed the file before it was locked.
        os.close(descriptor)


def _remove_abandoned_files(target: Path) -> None:
    """Remove the temporary files of killed writers of a target; those of running writers are locked."""
    for temporary in target.parent.glob(_name_temporary_file(target, "*")):
        with suppress(OSError):
            descriptor = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temporary.unlink()
            finally:
                os.close(descriptor)


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
