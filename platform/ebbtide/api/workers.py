"""Work that takes a processor for seconds, in processes of its own: a few at once, each for a bounded time.

A process that is late is ended and made anew, so that nothing that is asked can hold the server. Upstream:
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

#: Bytes of memory that a worker may map.
MEMORY: Final = 6 * 2**30


class TooMuchError(Exception):
    """More is asked at once, or of one answer, than this server gives; the message says what to do."""


class Workers:
    """Processes, begun when they are first needed."""

    def __init__(self, count: int, waiting: int) -> None:
        """Have at most ``count`` at work, and ``waiting`` more waiting for them."""
        self._context = multiprocessing.get_context("spawn")
        self._room = threading.BoundedSemaphore(count + waiting)
        self._turn = threading.BoundedSemaphore(count)
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._closed = False

    def do(
        self, work: Callable[..., Any], *given: Any, seconds: float, told: Callable[[Any], None] | None = None
    ) -> Any:
        """Return what a function of a module returns, or raise what it raises.

        With ``told`` the function gets one more argument, a function by which it tells how far it is; ``told`` hears of
        it here, and ends the work by raising.

        Raises:
            TooMuchError: too many wait already, or it is not done in time.

        """
        with _place(self._room, 0), _place(self._turn, seconds):
            return self._do(work, given, seconds, told)

    def _do(
        self, work: Callable[..., Any], given: tuple[Any, ...], seconds: float, told: Callable[[Any], None] | None
    ) -> Any:
        with self._lock:
            worker = self._idle.pop() if self._idle else _Worker(self._context)
        try:
            fine, answer = worker.ask((work, given, told is not None), seconds, told)
        except TimeoutError:
            worker.end()
            raise TooMuchError(f"it was not done in {seconds:g} s: ask for less at once") from None
        except (EOFError, OSError) as error:
            worker.end()
            raise TooMuchError("it took more memory than there is for it: ask for less at once") from error
        except BaseException:
            worker.end()
            raise
        with self._lock:
            if self._closed:
                worker.end()
            else:
                self._idle.append(worker)
        if not fine:
            raise answer
        return answer

    def close(self) -> None:
        """End the idle ones; those at work end with what they do."""
        with self._lock:
            self._closed = True
            for worker in self._idle:
                worker.end()
            self._idle.clear()


@contextlib.contextmanager
def _place(places: threading.Semaphore, seconds: float) -> Iterator[None]:
    if not places.acquire(timeout=seconds):
        raise TooMuchError("others are being simulated: ask again in a few seconds")
    try:
        yield
    finally:
        places.release()


class _Worker:
    def __init__(self, context: Any) -> None:
        self._near, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far,), daemon=True)
        self._process.start()
        far.close()

    def ask(self, question: Any, seconds: float, told: Callable[[Any], None] | None) -> tuple[bool, Any]:
        self._near.send(question)
        end = time.monotonic() + seconds
        while True:
            if not self._near.poll(max(end - time.monotonic(), 0.0)):
                raise TimeoutError
            fine, answer = self._near.recv()
            if fine is not None:
                return bool(fine), answer
            if told is not None:
                told(answer)

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._near.close()


def _serve(far: Connection) -> None:
    import resource  # noqa: PLC0415 - Unix only, and only here
    import signal  # noqa: PLC0415 - as above

    # Ctrl-C is the server's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with contextlib.suppress(EOFError):
        while True:
            work, given, tells = far.recv()
            extra = (lambda news: far.send((None, news)),) if tells else ()
            try:
                answer: tuple[bool, Any] = (True, work(*given, *extra))
            except MemoryError:
                return
            except Exception as error:  # noqa: BLE001 - it is the caller's to raise
                answer = (False, error)
            far.send(answer)
