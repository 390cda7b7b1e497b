"""Work in the background that a caller starts and follows: a cost report, or a plan of the fleet; one of each at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from threading import Lock, Thread
from typing import Final

from ebbtide.cluster.client.protocol import ClusterError, Kind
from ebbtide.cluster.slo.source import SourceError
from ebbtide.core.base.problems import Problem
from ebbtide.server.api.access import Caller
from ebbtide.server.api.offline import InputError
from ebbtide.server.api.workers import LimitExceededError

#: Maximum number of callers whose progress is kept.
MAX_KEPT: Final = 2_000


class CanceledError(Exception):
    """Canceled by the caller."""


@dataclass(slots=True)
class Progress:
    """Work in progress, or how it ended: what it did, of how many (0: unknown), and why it failed."""

    done: int = 0
    total: int = 0
    what: str = ""
    ended: bool = False
    canceled: bool = False
    error: str = ""
    problems: list[Problem] = field(default_factory=list)
    rights: frozenset[tuple[Kind, str]] = frozenset()
    """The kinds that a caller must be allowed to list, each in a namespace, to see the work and its error."""

    def watch(self, step: tuple[int, int, str] | None = None) -> None:
        """Set the progress, if it has changed. Raises CanceledError."""
        if self.canceled:
            raise CanceledError
        if step is not None:
            self.done, self.total, self.what = step


class Background:
    """Work of one kind: at most ``most`` at a time, and one of a caller."""

    def __init__(self, subject: str, most: int) -> None:
        """Start without work; ``subject`` names it, as in ``cost report``."""
        self._subject, self._most = subject, most
        self._lock = Lock()
        self._progress: dict[str, Progress] = {}

    def find(self, caller: Caller) -> Progress | None:
        """Return the progress of the caller's last work; None if there was none."""
        return self._progress.get(caller.name)

    @contextmanager
    def doing(self, caller: Caller) -> Iterator[Progress]:
        """Provide the progress of new work of the caller's request. Raises LimitExceededError."""
        progress = self._begin(caller)
        try:
            yield progress
        finally:
            progress.ended = True

    def _begin(self, caller: Caller) -> Progress:
        with self._lock:
            running = {name for name, progress in self._progress.items() if not progress.ended}
            if caller.name in running:
                raise LimitExceededError(f"you have a {self._subject} in progress: wait for it to end")
            if len(running) >= self._most:
                raise LimitExceededError(f"too many {self._subject}s are in progress: retry in a few minutes")
            # Only the caller of ended work can still ask for its progress.
            if len(self._progress) >= MAX_KEPT:
                self._progress = {name: self._progress[name] for name in running}
            progress = self._progress[caller.name] = Progress()
        return progress

    def start(self, caller: Caller, work: Callable[[Caller, Progress], object]) -> None:
        """Do new work in a thread, whose errors its progress has. Raises LimitExceededError."""
        progress = self._begin(caller)
        # A token is in memory only as long as its request.
        caller = replace(caller, token="")

        def run() -> None:
            try:
                work(caller, progress)
            except CanceledError:
                progress.error = f"the {self._subject} was canceled"
            except InputError as error:
                progress.problems = error.problems
            except (LimitExceededError, SourceError, ClusterError) as error:
                progress.error = str(error)
            except Exception:
                progress.error = f"the {self._subject} failed; see the server log for details"
                raise
            finally:
                progress.ended = True

        # The workers count the caller by this context.
        name = f"ebbtide-{self._subject.replace(' ', '-')}"
        Thread(target=copy_context().run, args=(run,), name=name, daemon=True).start()
