"""Worker processes for CPU-bound work: a few at a time, each limited in time and memory.

A process that exceeds its time is killed and replaced, so that no request can block the server. Upstream:
docs.python.org/3/library/multiprocessing (spawn, connection.poll); docs.kernel.org/admin-guide/cgroup-v2.html (memory.max)
and cgroup-v1/memory.html (memory.limit_in_bytes); getrlimit(2) (RLIMIT_DATA).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

#: Bytes of data that a worker may allocate: a share of the memory that this process may use, within these bounds. What the
#: server keeps for itself is not shared.
MIN_MEMORY_BYTES: Final = 512 * 2**20
MAX_MEMORY_BYTES: Final = 6 * 2**30
SERVER_MEMORY_BYTES: Final = 512 * 2**20
#: Added to the niceness of the server (nice(2)).
NICENESS: Final = 10
#: Files with the memory limit of this process's control group, in version 2 and 1; a container sees its own as the root.
MEMORY_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
#: The fix of a request that is too large.
SMALLER: Final = "send fewer specs, or simulate less traffic"
#: The caller whose request runs in this context; empty if there is only one.
CALLER: Final[ContextVar[str]] = ContextVar("caller", default="")


class LimitExceededError(Exception):
    """The work exceeds a limit of this server; the message names the fix."""


class TooSlowError(LimitExceededError):
    """The work did not end in time: it is too large, or the computer is busy."""


class CallerSlots:
    """Slots for what occupies a thread or a process, of which one caller gets only a part.

    Without a free one, a request is refused immediately, so that no thread waits for a slot.
    """

    def __init__(self, count: int, per_caller: int, subject: str) -> None:
        """Provide ``count`` slots, at most ``per_caller`` of them to one caller; ``subject`` names their requests."""
        self._count, self._per_caller, self._subject = count, per_caller, subject
        self.taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, caller: str, count: int = 1) -> None:
        """Take slots for a caller.

        Raises:
            LimitExceededError: the caller or all callers together have too few left.
        """
        with self._lock:
            if self.taken[caller] + count > self._per_caller:
                raise LimitExceededError(
                    f"the maximum is {self._per_caller} {self._subject} per user at a time: wait for one to end"
                )
            if self.taken.total() + count > self._count:
                raise LimitExceededError(
                    f"the maximum is {self._count} {self._subject} of all users at a time: retry in a few seconds"
                )
            self.taken[caller] += count

    def release(self, caller: str, count: int = 1) -> None:
        """Release slots of a caller."""
        with self._lock:
            self.taken[caller] -= count
            # Counter's addition removes callers without slots.
            self.taken += Counter()


class Workers:
    """Worker processes, started when they are first needed."""

    def __init__(self, count: int, waiting: int, per_caller: int = 0) -> None:
        """Run at most ``count`` tasks at a time, with up to ``waiting`` more in the queue.

        At most ``per_caller`` of them belong to one caller (``CALLER``); 0 means no limit.
        """
        self._memory_bytes = compute_worker_memory(read_memory_limit(), count)
        self.slots = CallerSlots(count + waiting, per_caller or count + waiting, "simulations and long specs")
        self._context = multiprocessing.get_context("spawn")
        #: The workers in use by caller, and the callers that wait, one list for each request, so that two of a caller differ.
        self._count, self._used = count, Counter[str]()
        self._waiting: list[list[str]] = []
        self._changed = threading.Condition()
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._closed = False

    def do(self, work: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
        """Run a module-level function in a worker; return its result or raise its exception.

        Raises:
            LimitExceededError: the queue is full, or the work exceeds its time or memory.
        """
        caller = CALLER.get()
        self.slots.take(caller)
        try:
            with self.take_turn(caller, seconds):
                return self._do(work, arguments, seconds)
        finally:
            self.slots.release(caller)

    @contextlib.contextmanager
    def take_turn(self, caller: str, seconds: float) -> Iterator[None]:
        """Wait for a free worker, which goes to the caller with the fewest, then to the oldest request. Raises as ``do`` does."""
        place = [caller]

        def is_next() -> bool:
            first = min(self._waiting, key=lambda row: self._used[row[0]])
            return first is place and self._used.total() < self._count

        with self._changed:
            self._waiting.append(place)
            taken = self._changed.wait_for(is_next, seconds)
            self._waiting = [row for row in self._waiting if row is not place]
            self._used[caller] += taken
            self._changed.notify_all()
        if not taken:
            raise TooSlowError(f"the request waited longer than {seconds:g} s: retry in a few seconds")
        try:
            yield
        finally:
            with self._changed:
                # Counter's subtraction removes callers without a worker.
                self._used -= Counter([caller])
                self._changed.notify_all()

    def _do(self, work: Callable[..., Any], arguments: tuple[Any, ...], seconds: float) -> Any:
        with self._lock:
            worker = self._idle.pop() if self._idle else _Worker(self._context, self._memory_bytes)
        try:
            succeeded, result = worker.ask((work, arguments), seconds)
        except TimeoutError:
            worker.end()
            raise TooSlowError(f"the request took longer than {seconds:g} s: {SMALLER}") from None
        except (EOFError, OSError) as error:
            worker.end()
            raise LimitExceededError(f"the request exceeded the memory limit: {SMALLER}") from error
        except BaseException:
            worker.end()
            raise
        with self._lock:
            if self._closed:
                worker.end()
            else:
                self._idle.append(worker)
        if not succeeded:
            raise result
        return result

    def close(self) -> None:
        """Stop idle workers; busy ones stop when their work ends."""
        with self._lock:
            self._closed = True
            for worker in self._idle:
                worker.end()
            self._idle.clear()


class _Worker:
    def __init__(self, context: Any, memory_bytes: int) -> None:
        self._near, far = context.Pipe()
        self._process = context.Process(target=_serve_tasks, args=(far, memory_bytes), daemon=True)
        self._process.start()
        far.close()

    def ask(self, task: Any, seconds: float) -> tuple[bool, Any]:
        self._near.send(task)
        if not self._near.poll(seconds):
            raise TimeoutError
        succeeded, result = self._near.recv()
        return succeeded, result

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._near.close()


def read_memory_limit() -> int:
    """Return the bytes of memory that this process may use: the limit of its control group, or the machine's memory."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            # "max" in version 2 and a huge number in version 1 mean that there is no limit.
            return min(machine, int(file.read_text()))
    return machine


def compute_worker_memory(limit: int, count: int) -> int:
    """Return the bytes that each of ``count`` workers may allocate if the server and its workers share ``limit``."""
    return max(MIN_MEMORY_BYTES, min(MAX_MEMORY_BYTES, (limit - SERVER_MEMORY_BYTES) // count))


def _serve_tasks(far: Connection, memory_bytes: int) -> None:
    import resource  # Unix only
    import signal

    # A simulation of one caller must not delay the list of another.
    os.nice(NICENESS)
    # The server's own process handles Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Not the address space, of which compiled code reserves much more than it uses.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    with contextlib.suppress(EOFError):
        while True:
            work, arguments = far.recv()
            try:
                result: tuple[bool, Any] = (True, work(*arguments))
            except MemoryError:
                return
            except Exception as error:  # noqa: BLE001 - raised in the caller's process
                result = (False, error)
            far.send(result)
