"""The queries of a step side by side: each within seconds, all within a budget, slow ones less often.

The queries of one namespace must not delay the decisions of another. So a free worker takes the next query of the namespace
that has the fewest queries in progress, and of several such namespaces the query that most namespaces share. A query that is
slow while others are answered is skipped for a time that doubles each time.

The workers are daemon threads: one that waits for an answer does not delay the end of the process.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from ebbtide.cluster.client.protocol import Clock, Cluster, ClusterError, UnreachableError
from ebbtide.cluster.controller.measure import MetricQueries, Readings, SampleSource
from ebbtide.cluster.slo.source import SAMPLE_SECONDS, SourceError
from ebbtide.core.autoscaler.floor import PERIOD_SECONDS, FloorMetric
from ebbtide.core.translation.objects import Object

LOG: Final = logging.getLogger("ebbtide.cluster.controller")
#: Queries in progress at a time.
WORKERS: Final = 10
#: Seconds that all queries of a step may take, of the ``PERIOD_SECONDS`` between two steps.
BUDGET_SECONDS: Final = 10.0
#: Maximum number of seconds for which a slow query is skipped: twice the period at first, doubled each time.
MAX_PAUSE_SECONDS: Final = 300.0
SLOW: Final = f"the query took longer than {SAMPLE_SECONDS:g} s"
UNANSWERED: Final = f"the queries of this step took longer than {BUDGET_SECONDS:g} s"


class Request(NamedTuple):
    """A query to Prometheus, or a path of the API server; with a namespace, the query reads only its series."""

    kind: str
    text: str
    namespace: str = ""


#: The namespaces that need the answer to each request.
Requests = dict[Request, set[str]]


class Recorder:
    """A source without values that records the requests of a step."""

    def __init__(self, queries: MetricQueries) -> None:
        self.requests: Requests = {}
        self._queries = queries
        self._namespace = ""

    def record(self, metrics: Iterable[FloorMetric], namespace: str, revision: str) -> None:
        """Record what the values of a revision's metrics need."""
        self._namespace = namespace
        Readings(self, self, self._queries).measure([*metrics], namespace, revision, {}, 0.0)

    def samples(self, query: str, namespace: str = "") -> list[tuple[Mapping[str, str], float]]:
        self.requests.setdefault(Request("query", query, namespace), set()).add(self._namespace)
        return []

    def read(self, path: str) -> Object:
        self.requests.setdefault(Request("path", path), set()).add(self._namespace)
        return {}


class Sampler:
    """The queries of all steps."""

    def __init__(self, source: SampleSource, cluster: Cluster, clock: Clock, *, threads: bool) -> None:
        """Ask nothing yet. Without threads, ``begin`` asks one query after the other."""
        self._source, self._cluster = source, cluster
        self._clock, self._threads = clock, threads
        self._lock = threading.Lock()
        #: Requests in progress, also those of earlier steps.
        self._running: set[Request] = set()
        #: The number of slow answers in a row, and the time before which the request is skipped.
        self._slow: dict[Request, tuple[int, float]] = {}
        #: The time of the last answer.
        self._answered_at = float("-inf")
        self._steps = 0

    def begin(self, requests: Requests) -> Answers:
        """Start to ask the queries of a step."""
        self._steps += 1
        now = self._clock.ticks()
        with self._lock:
            self._slow = {request: row for request, row in self._slow.items() if request in requests}
            busy = self._running | {request for request, (_, until) in self._slow.items() if now < until}
            workers = min(WORKERS - len(self._running), len(requests.keys() - busy))
        answers = Answers(self._lock, self._clock, requests, busy, self._steps)
        if not self._threads:
            self._work(answers)
            return answers
        for _ in range(workers):
            threading.Thread(target=self._work, args=(answers,), name="query", daemon=True).start()
        return answers

    def _work(self, answers: Answers) -> None:
        """Ask one query after the other until none is left or the budget is spent."""
        while True:
            with self._lock:
                begun = self._clock.ticks()
                row = answers.take()
                if row is None:
                    return
                self._running.add(row[0])
            request, namespace = row
            answer = self._fetch(request)
            now = self._clock.ticks()
            with self._lock:
                self._running.discard(request)
                slow = now - begun >= SAMPLE_SECONDS
                if not slow:
                    self._slow.pop(request, None)
                    self._answered_at = now if not isinstance(answer, Exception) else self._answered_at
                elif now - self._answered_at <= 2 * PERIOD_SECONDS:
                    # While no query is answered, it is Prometheus that is slow, and not this query.
                    times = self._slow.get(request, (0, 0.0))[0] + 1
                    self._slow[request] = (times, now + min(PERIOD_SECONDS * 2**times, MAX_PAUSE_SECONDS))
                answers.put(request, namespace, SourceError(SLOW) if slow else answer)

    def _fetch(self, request: Request) -> Any:
        """Return the answer to a request, or the error."""
        try:
            if request.kind == "path":
                return self._cluster.read(request.text)
            return self._source.samples(request.text, request.namespace)
        except (SourceError, ClusterError) as error:
            return error
        except Exception as error:
            # An answer of unexpected content must end neither the worker nor the step.
            LOG.exception("query %s", request.text)
            return SourceError(f"the answer cannot be read: {error}")


class Answers:
    """The answers of one step: a source of samples and of metrics-server's values.

    ``take`` and ``put`` are called by the workers, with the lock held.
    """

    def __init__(self, lock: threading.Lock, clock: Clock, requests: Requests, busy: set[Request], first: int) -> None:
        """Queue the requests that are not ``busy``; the place of the ``first`` namespace changes from step to step."""
        self._changed = threading.Condition(lock)
        self._clock, self._requests = clock, requests
        self._deadline = clock.ticks() + BUDGET_SECONDS
        self._waiting = requests.keys() - busy
        #: The requests that need an answer before the step can go on.
        self._open = set(self._waiting)
        self._closed = False
        self._results: dict[Request, Any] = {request: SourceError(SLOW) for request in busy}
        self._queues: dict[str, deque[Request]] = {}
        for request in sorted(self._waiting, key=lambda request: (-len(requests[request]), request)):
            for namespace in requests[request]:
                self._queues.setdefault(namespace, deque()).append(request)
        names = sorted(self._queues)
        self._order = {name: (index - first) % len(names) for index, name in enumerate(names)}
        self._running: Counter[str] = Counter()
        self._heap = [self._rank(name) for name in names]
        heapq.heapify(self._heap)

    def wait(self, seconds: float) -> bool:
        """Wait until all queries are answered or the budget is spent, at most ``seconds``; return whether the step goes on."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open, seconds)
            return not self._open or self._clock.ticks() >= self._deadline

    def close(self) -> None:
        """Accept no further answers, so that all decisions of a step have the same values."""
        with self._changed:
            self._closed = True

    def take(self) -> tuple[Request, str] | None:
        """Return the next request and the namespace whose turn it is; None if none is left or the budget is spent."""
        if self._closed or self._clock.ticks() >= self._deadline:
            self._open -= self._waiting
            self._changed.notify_all()
            return None
        while self._heap:
            rank = heapq.heappop(self._heap)
            namespace = rank[-1]
            queue = self._queues[namespace]
            while queue and queue[0] not in self._waiting:
                queue.popleft()
            if not queue:
                continue
            if rank != (current := self._rank(namespace)):
                heapq.heappush(self._heap, current)
                continue
            request = queue.popleft()
            self._waiting.discard(request)
            self._count(namespace, 1)
            return request, namespace
        return None

    def put(self, request: Request, namespace: str, answer: Any) -> None:
        """Store an answer, or the error, unless the step has gone on."""
        self._count(namespace, -1)
        self._open.discard(request)
        if not self._closed:
            self._results[request] = answer
        self._changed.notify_all()

    def samples(self, query: str, namespace: str = "") -> list[tuple[Mapping[str, str], float]]:
        """Return the answer to a query, or raise a ``SourceError``."""
        answer = self._results.get(Request("query", query, namespace), SourceError(UNANSWERED))
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    def read(self, path: str) -> Object:
        """Return the answer at a path of the API server, or raise a ``ClusterError``."""
        answer = self._results.get(Request("path", path), UnreachableError(UNANSWERED))
        if isinstance(answer, SourceError):
            raise UnreachableError(str(answer))
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    def _count(self, namespace: str, change: int) -> None:
        self._running[namespace] += change
        if self._queues[namespace]:
            heapq.heappush(self._heap, self._rank(namespace))

    def _rank(self, namespace: str) -> tuple[int, int, int, str]:
        """Return the order of a namespace: the fewest requests in progress, then the most shared request, then its turn."""
        queue = self._queues[namespace]
        shared = len(self._requests[queue[0]]) if queue else 0
        return self._running[namespace], -shared, self._order[namespace], namespace
