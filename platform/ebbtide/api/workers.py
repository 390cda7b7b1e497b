"""Worker processes for CPU-bound work: a few at a time, each limited in time and memory.

A process that exceeds its time is killed and replaced, so that no request can block the server. Upstream:
docs.python.org/3/library/multiprocessing (spawn, connection.poll).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

#: Bytes of address space that a worker may map.
MAX_MEMORY_BYTES: Final = 6 * 2**30


class LimitExceededError(Exception):
    """The work exceeds a limit of this server; the message names the fix."""


class Workers:
    """Worker processes, started when they are first needed."""

    def __init__(self, count: int, waiting: int) -> None:
        """Run at most ``count`` tasks at a time, with up to ``waiting`` more in the queue."""
        self._context = multiprocessing.get_context("spawn")
        self._room = threading.BoundedSemaphore(count + waiting)
        self._turn = threading.BoundedSemaphore(count)
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._closed = False

    def do(
        self,
        work: Callable[..., Any],
        *arguments: Any,
        seconds: float,
        on_progress: Callable[[Any], None] | None = None,
    ) -> Any:
        """Run a module-level function in a worker; return its result or raise its exception.

        With ``on_progress``, the function gets one more argument, which reports progress. ``on_progress`` receives each
        report in this process, and cancels the work by raising.

        Raises:
            LimitExceededError: the queue is full, or the work exceeds its time or memory.

        """
        with _hold_slot(self._room, 0), _hold_slot(self._turn, seconds):
            return self._do(work, arguments, seconds, on_progress)

    def _do(
        self,
        work: Callable[..., Any],
        arguments: tuple[Any, ...],
        seconds: float,
        on_progress: Callable[[Any], None] | None,
    ) -> Any:
        with self._lock:
            worker = self._idle.pop() if self._idle else _Worker(self._context)
        try:
            succeeded, result = worker.ask((work, arguments, on_progress is not None), seconds, on_progress)
        except TimeoutError:
            worker.end()
            raise LimitExceededError(
                f"the simulation took longer than {seconds:g} s: use less traffic or fewer evaluations"
            ) from None
        except (EOFError, OSError) as error:
            worker.end()
            raise LimitExceededError("the simulation exceeded the memory limit: use less traffic") from error
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


@contextlib.contextmanager
def _hold_slot(places: threading.Semaphore, seconds: float) -> Iterator[None]:
    if not places.acquire(timeout=seconds):
        raise LimitExceededError("too many simulations are running: retry in a few seconds")
    try:
        yield
    finally:
        places.release()


class _Worker:
    def __init__(self, context: Any) -> None:
        self._near, far = context.Pipe()
        self._process = context.Process(target=_serve_tasks, args=(far,), daemon=True)
        self._process.start()
        far.close()

    def ask(self, task: Any, seconds: float, on_progress: Callable[[Any], None] | None) -> tuple[bool, Any]:
        self._near.send(task)
        deadline = time.monotonic() + seconds
        while True:
            if not self._near.poll(max(deadline - time.monotonic(), 0.0)):
                raise TimeoutError
            succeeded, result = self._near.recv()
            if succeeded is not None:
                return bool(succeeded), result
            if on_progress is not None:
                on_progress(result)

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._near.close()


def _serve_tasks(far: Connection) -> None:
    import resource  # noqa: PLC0415 - Unix only, and only here
    import signal  # noqa: PLC0415 - as above

    # The server's own process handles Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    with contextlib.suppress(EOFError):
        while True:
            work, arguments, reports_progress = far.recv()
            reporter = (lambda report: far.send((None, report)),) if reports_progress else ()
            try:
                result: tuple[bool, Any] = (True, work(*arguments, *reporter))
            except MemoryError:
                return
            except Exception as error:  # noqa: BLE001 - raised in the caller's process
                result = (False, error)
            far.send(result)
