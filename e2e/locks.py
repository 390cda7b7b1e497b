"""Locks between the processes that run the cases."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from e2e import paths

LOCKS = paths.CLUSTERS / "locks"
INSTALLING = "installing"
"""Held by the installation of what judges the pods of all namespaces, and shared by the cases of the phase `schedulers`."""


@contextmanager
def locked(name: str, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock, against all processes or only against those that hold it alone."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
