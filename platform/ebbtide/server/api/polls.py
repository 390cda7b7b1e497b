"""Results that all pages and lists share: each query of the metrics source runs once per period, and none waits long for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from threading import Lock
from typing import Any, Final, TypeVar

from ebbtide.cluster.slo.source import SourceError
from ebbtide.server.api.access import ExpiringCache

T = TypeVar("T")

THREADS: Final = 8
MAX_RESULTS: Final = 2_000
#: Seconds for which the callers wait for a query.
WAIT_SECONDS: Final = 2.0
#: Seconds for which an earlier result is shown while the next query runs.
OUTDATED_SECONDS: Final = 600.0


class SharedPolls:
    """The latest result of each query, and the queries that run."""

    def __init__(self) -> None:
        """Start without results."""
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="poll")
        self._results: ExpiringCache[Hashable, Any] = ExpiringCache(MAX_RESULTS, time.monotonic)
        self._running: dict[Hashable, tuple[Future[Any], float]] = {}
        self._lock = Lock()

    def compute(self, key: Hashable, seconds: float, compute: Callable[[], T]) -> T:
        """Return a result that is at most ``seconds`` old, or compute it, however long that takes."""
        valid = self._results.find_valid(key, seconds)
        value: T = compute() if valid is None else valid[0]
        if valid is None:
            self._results.put(key, value)
        return value

    def get(self, key: Hashable, seconds: float, compute: Callable[[], T]) -> T:
        """Return a result that is at most ``seconds`` old; an earlier one if the query runs for longer than WAIT_SECONDS.

        Raises:
            SourceError: the query failed, or runs for longer without an earlier result.
        """
        valid = self._results.find_valid(key, seconds)
        if valid is not None:
            value: T = valid[0]
            return value
        with self._lock:
            if key not in self._running:
                self._running[key] = self._executor.submit(self._run, key, compute), time.monotonic()
            future, begin = self._running[key]
        try:
            # Only the first callers wait for a source that hangs.
            value = future.result(max(0.0, begin + WAIT_SECONDS - time.monotonic()))
        except FutureTimeoutError as error:
            earlier = self._results.find_valid(key, OUTDATED_SECONDS)
            if earlier is None:
                raise SourceError(
                    f"the metrics take longer than {WAIT_SECONDS:g} s; they appear with one of the next updates"
                ) from error
            value = earlier[0]
        return value

    def _run(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        try:
            value = compute()
            self._results.put(key, value)
            return value
        finally:
            with self._lock:
                self._running.pop(key, None)
