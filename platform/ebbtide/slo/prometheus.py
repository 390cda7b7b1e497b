"""A real Prometheus as a ``Source``, by ``prometheus-api-client``: what was asked, in a few queries, as plain numbers.

One query per figure answers for all workloads. Everything that Prometheus may send instead of a number (an error of its
own, a page of HTML, NaN, nothing) becomes a ``SourceError`` in words or "not known"; NaN never comes out.
Upstream: prometheus.io/docs/prometheus/latest/querying/api.
"""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from ebbtide.base.prose import printable
from ebbtide.slo import queries
from ebbtide.slo.source import Bucket, History, Measured, Point, Ref, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ebbtide.profile.models import Profile
    from ebbtide.slo.queries import Pods, Timer

#: Seconds to connect, and until an answer begins; Prometheus itself gives up after two minutes.
TIMEOUT: Final = (5.0, 130.0)
#: Once more where nobody took the connection; what Prometheus answers is not asked again.
RETRY: Final = Retry(total=1, connect=1, read=0, status=0, other=0, backoff_factor=0.2)
#: Errors of the connection and their messages; the first class that matches counts.
FAILURES: Final[dict[type[Exception], str]] = {
    requests.exceptions.JSONDecodeError: "{host} answers with something that is no answer of Prometheus: is this its address?",
    requests.exceptions.Timeout: "Prometheus at {host} does not answer in time: ask about less, or a shorter time",
    requests.exceptions.SSLError: "the certificate of Prometheus at {host} does not fit: {reason}",
    **dict.fromkeys((requests.exceptions.RequestException, OSError), "Prometheus at {host} does not answer: {reason}"),
    **dict.fromkeys(
        (PrometheusApiClientException, KeyError, TypeError, ValueError),
        "Prometheus at {host} answers in a form that is not known",
    ),
}
#: Prometheus refuses more points in one answer.
MOST_POINTS: Final = 11_000
#: Characters of somebody else's error message that are passed on.
LONGEST: Final = 300
#: The address of a service as the cluster knows it: prometheus.monitoring.svc, with or without a domain.
SERVICE: Final = re.compile(r"(?P<name>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)(\.svc(\..+)?)?")


class Prometheus:
    """A Prometheus, asked as a profile says what is measured where."""

    def __init__(self, url: str, profile: Profile, session: requests.Session | None = None) -> None:
        """Take its address, and the connection where it is not a plain one.

        Raises:
            SourceError: the address is none, or the profile names a histogram that nobody knows.

        """
        if urlsplit(url).scheme not in {"http", "https"}:
            raise SourceError(f"{url} is no address of a Prometheus: it begins with http:// or https://")
        try:
            self.timer: Timer = queries.timer(profile)
        except queries.UnknownHistogramError as error:
            raise SourceError(str(error)) from error
        self._profile = profile
        self._host = urlsplit(url).netloc
        session = session or requests.Session()
        session.hooks["response"].append(_said)
        self._connection = PrometheusConnect(
            url=url.rstrip("/"),
            session=session,
            retry=RETRY,
            timeout=TIMEOUT,
        )

    def measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, Measured]:
        if not refs:
            return {}
        start, end = self._known(start, end)
        window = max(queries.SCRAPE, round(end - start))
        known = _by_namespace(refs)
        timer = self.timer

        spread: dict[Ref, dict[float, float]] = defaultdict(lambda: defaultdict(float))
        for ref, labels, value in self._ask(queries.buckets(timer, refs, window), end, timer.owner, known):
            bound = _finite(labels.get("le", ""))
            if bound is not None or labels.get("le") == "+Inf":
                spread[ref][math.inf if bound is None else bound * timer.unit] += value
        sums = {
            name: _summed(self._ask(query, end, timer.owner, known))
            for name, query in (
                ("total", queries.total(timer, refs, window)),
                ("ended", queries.requests(timer, refs, window)),
                ("failed", queries.requests(timer, refs, window, failed=True)),
                ("asked", queries.minutes(timer, refs, window)),
                ("answered", queries.minutes(timer, refs, window, answered=True)),
            )
        }
        told = self._replicas(refs, window, end, known)
        return {
            ref: Measured(
                ref,
                start,
                end,
                **_of_requests(timer, spread[ref], {name: by_ref[ref] for name, by_ref in sums.items()}),
                **_of_pods(told.get(ref, {}), queries.look(window)),
            )
            for ref in refs
        }

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        if step <= 0 or (end - start) / step > MOST_POINTS:
            raise SourceError(f"Prometheus gives at most {MOST_POINTS:,} points at once: take a longer step")
        # The client asks from a whole second on.
        start = math.floor(start)
        times = [start + place * step for place in range(int((end - start) / step) + 1)]
        found = {}
        for name, query in queries.series(self.timer, self._profile, ref, step).items():
            values = self._range(query, start, end, step)
            if values:
                found[name] = tuple(Point(time, values.get(_milliseconds(time))) for time in times)
        return History(ref, found)

    def loads(self, refs: Sequence[Ref], when: float) -> dict[Ref, float]:
        if not refs:
            return {}
        teller, known = queries.pods(self._profile)[0], _by_namespace(refs)
        return dict(_summed(self._ask(queries.loads(teller, refs), when, teller.owner, known)))

    def _replicas(
        self, refs: Sequence[Ref], window: int, end: float, known: Mapping[str, set[str]]
    ) -> dict[Ref, dict[str, float]]:
        """Return the figures of ``queries.OF_PODS`` by workload, each from the first who knows it."""
        found: dict[Ref, dict[str, float]] = {}
        for teller in queries.pods(self._profile):
            left = [ref for ref in refs if ref not in found]
            if left:
                found |= self._told(teller, left, window, end, known)
        left = [ref for ref in refs if ref not in found]
        if left:
            unknown = set(left)
            for ref, _, value in self._ask(queries.reached(left, window), end, queries.POD_OWNER, known):
                if ref in unknown:
                    found.setdefault(ref, defaultdict(float))["pods"] += value
        return found

    def _told(
        self, teller: Pods, refs: Sequence[Ref], window: int, end: float, known: Mapping[str, set[str]]
    ) -> dict[Ref, dict[str, float]]:
        found: dict[Ref, dict[str, float]] = {}
        asked = set(refs)
        for what in queries.OF_PODS:
            for ref, _, value in self._ask(queries.of_pods(teller, what, refs, window), end, teller.owner, known):
                if ref in asked:
                    found.setdefault(ref, defaultdict(float))[what] += value
            if not found:
                # It knows none of them: the other questions are spared.
                break
        return found

    def _known(self, start: float, end: float) -> tuple[float, float]:
        """Return the part of a time of which this Prometheus knows anything, by its own clock."""
        now = next((value for _, value in self._instant(queries.NOW, None)), None)
        if now is None:
            raise SourceError(f"{self._host} does not say what time it is: it is no Prometheus")
        end = min(end, now)
        if end <= start:
            raise SourceError(f"there is no time to look at: by Prometheus' clock it is {_moment(now)}")
        window = max(queries.SCRAPE, round(end - start))
        first = next((value for _, value in self._instant(queries.since(self.timer, window), end)), None)
        if first is not None and first > start + 2 * queries.grain(window):
            # A scrape later, so that everything has been seen once and is not taken for new.
            start = min(first + queries.SCRAPE, end - queries.SCRAPE)
        return start, end

    def _ask(
        self, query: str, time: float, owner: Sequence[str], known: Mapping[str, set[str]]
    ) -> Iterator[tuple[Ref, Mapping[str, str], float]]:
        """Yield the samples of a query that are those of known workloads, with the workload."""
        for labels, value in self._instant(query, time):
            ref = queries.workload_of(labels, owner, known)
            if ref is not None:
                yield ref, labels, value

    def _instant(self, query: str, time: float | None) -> Iterator[tuple[Mapping[str, str], float]]:
        """Yield the samples of a query at a moment, without those that are no number."""
        with self._translated():
            found = self._connection.custom_query(query, params={} if time is None else {"time": f"{time:.3f}"})
        for labels, pair in _samples(found, "value"):
            _, value = _pair(pair)
            if value is not None:
                yield labels, value

    def _range(self, query: str, start: float, end: float, step: float) -> dict[int, float]:
        """Return the values of a query's one series by time, in whole milliseconds."""
        with self._translated():
            found = self._connection.custom_query_range(
                query, datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC), f"{step:g}"
            )
        values: dict[int, float] = {}
        for _, pairs in _samples(found, "values"):
            for pair in pairs if isinstance(pairs, list) else ():
                time, value = _pair(pair)
                if time is not None and value is not None:
                    values[_milliseconds(time)] = value
        return values

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Say errors of the connection in our words."""
        try:
            yield
        except tuple(FAILURES) as error:
            text = next(text for kind, text in FAILURES.items() if isinstance(error, kind))
            raise SourceError(text.format(host=self._host, reason=_reason(error))) from error


def _said(response: requests.Response, **_: Any) -> None:
    """Raise what an error status means, in Prometheus' own words where it has some."""
    if response.ok:
        return
    host = urlsplit(response.url).netloc
    try:
        told = response.json()
    except ValueError:
        told = None
    words = ""
    if isinstance(told, dict):
        # Prometheus calls it error, an API server on the way message.
        words = printable(str(told.get("error") or told.get("message") or ""))[:LONGEST]
    match response.status_code:
        case 401 | 403:
            raise SourceError(f"{host} does not let this account ask Prometheus{f': {words}' if words else ''}")
        case 404:
            raise SourceError(f"there is no Prometheus at this address of {host}{f': {words}' if words else ''}")
        case _ if words:
            raise SourceError(f"Prometheus says no: {words}")
        case status:
            raise SourceError(f"Prometheus at {host} fails with HTTP {status} and without a reason")


def _samples(found: Any, field: str) -> Iterator[tuple[Mapping[str, str], Any]]:
    for row in found if isinstance(found, list) else ():
        if isinstance(row, dict):
            labels = row.get("metric")
            yield (labels if isinstance(labels, dict) else {}), row.get(field)


def _pair(pair: Any) -> tuple[float | None, float | None]:
    """Return a sample's time and value, each None where it is no number."""
    if not isinstance(pair, list) or len(pair) != 2:  # noqa: PLR2004 - time and value
        return None, None
    return _finite(pair[0]), _finite(pair[1])


def _milliseconds(time: float) -> int:
    return round(time * 1000)


def _finite(text: Any) -> float | None:
    """Return a finite number, or None for what is none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _summed(rows: Iterable[tuple[Ref, Mapping[str, str], float]]) -> dict[Ref, float]:
    found: dict[Ref, float] = defaultdict(float)
    for ref, _, value in rows:
        found[ref] += value
    return found


def _of_requests(timer: Timer, spread: Mapping[float, float], sums: Mapping[str, float]) -> dict[str, Any]:
    """Return what ``Measured`` says of requests."""
    timed = max(spread.values(), default=0.0)
    counts = {**spread, math.inf: timed} if spread else {}
    seconds = sums["total"] * timer.unit
    return {
        "place": timer.place if timed else None,
        "requests": max(sums["ended"], timed),
        "failed": sums["failed"],
        "total_seconds": seconds,
        "total_between": between(seconds, timed) if timer.blurred and timed else None,
        "buckets": rising(
            Bucket(bound, counts[bound], reach(bound) if timer.blurred else None) for bound in sorted(counts)
        ),
        "minutes_asked": sums["asked"],
        "minutes_answered": min(sums["answered"], sums["asked"]),
    }


def _of_pods(told: Mapping[str, float], look: int) -> dict[str, Any]:
    """Return what ``Measured`` says of pods, of figures in looks; nothing of what nobody told."""
    if not told:
        return {}
    seconds = {name: value * look for name, value in told.items()}
    known = seconds.get("known", 0.0)
    return {
        "seconds_known": known,
        "seconds_up": min(seconds.get("up", 0.0), known),
        "seconds_at_rest": min(seconds.get("rest", 0.0), seconds.get("up", 0.0)),
        # Who knows the workload and names no pods says that there were none.
        "replica_seconds": seconds.get("pods", 0.0),
        "cold_starts": told.get("woken", 0.0) if known else None,
    }


def rising(buckets: Iterable[Bucket]) -> tuple[Bucket, ...]:
    """Return buckets whose counts never fall: two of them may have been scraped at different moments."""
    found: list[Bucket] = []
    for bucket in buckets:
        count = max(bucket.count, found[-1].count if found else 0.0)
        found.append(bucket._replace(count=count))
    return tuple(found)


def reach(bound: float) -> float:
    """Return the longest time, in seconds, that Envoy counts within a bound.

    It rounds a time down to whole milliseconds and keeps two digits of it; a bound takes in the whole bin that it lies
    in: 500 ms what took up to 510, 1 s what took up to 1.1 (circonus-labs/libcircllhist, hist_approx_count_below).
    """
    if math.isinf(bound):
        return bound
    milliseconds = bound * 1000
    width: float = 10.0 ** (math.floor(math.log10(milliseconds) + 1e-9) - 1)
    return (milliseconds + max(width, 1.0)) / 1000


def between(seconds: float, timed: float) -> tuple[float, float]:
    """Return between what the true sum lies where Envoy adds up the middles of its bins.

    A bin is at most a tenth of its lower end wide, and milliseconds are rounded down.
    """
    return seconds / 1.05, seconds * 1.05 + timed / 1000


def _by_namespace(refs: Iterable[Ref]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for ref in refs:
        found[ref.namespace].add(ref.name)
    return found


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _reason(error: Exception) -> str:
    """Return the innermost words of an error, without the address that they repeat."""
    inner: Any = error
    while getattr(inner, "args", None) and isinstance(inner.args[0], BaseException):
        inner = getattr(inner.args[0], "reason", None) or inner.args[0]
    return printable(re.sub(r"^<.*?>:\s*|.*object at 0x[0-9a-f]+>:\s*", "", str(inner)))[:LONGEST]


# How it is reached.


def in_cluster() -> bool:
    """Whether this process runs in a pod, and so reaches services by their names."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def proxied(url: str) -> str | None:
    """Return the API server's path that leads to a service of the cluster, or None where an address is no service's.

    ``http://prometheus.monitoring.svc:9090`` is ``/api/v1/namespaces/monitoring/services/http:prometheus:9090/proxy``
    (kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services).
    """
    parts = urlsplit(url)
    match = SERVICE.fullmatch(parts.hostname or "")
    if match is None or not match[3]:
        return None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = parts.path.rstrip("/")
    return f"/api/v1/namespaces/{match['namespace']}/services/{parts.scheme}:{match['name']}:{port}/proxy{quote(path)}"


def through(api: Any, url: str, profile: Profile) -> Prometheus:
    """Return the Prometheus at a service's address, through the API server with the account of a ``kubernetes`` client.

    The account needs ``get`` on ``services/proxy`` in Prometheus' namespace; no port-forward is needed.

    Raises:
        SourceError: the address is no service's.

    """
    path = proxied(url)
    if path is None:
        raise SourceError(
            f"{url} is no service of the cluster: say --prometheus with an address that this machine reaches"
        )
    return Prometheus(f"{api.configuration.host.rstrip('/')}{path}", profile, session_of(api))


def session_of(api: Any) -> requests.Session:
    """Return a connection with the credentials of a ``kubernetes`` client, its certificate authority among them."""
    configuration = api.configuration
    session = requests.Session()
    # Nothing of the environment or a netrc goes with the account's own credentials.
    session.trust_env = False
    session.verify = (configuration.ssl_ca_cert or True) if configuration.verify_ssl else False
    if configuration.cert_file:
        session.cert = (configuration.cert_file, configuration.key_file)
    session.auth = _Account(api)
    return session


class _Account(requests.auth.AuthBase):
    """The client's own credentials, asked for at each request: tokens end."""

    def __init__(self, api: Any) -> None:
        self._api = api

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        headers: dict[str, str] = {}
        self._api.update_params_for_auth(headers, [], ["BearerToken"], "", request.method, None)
        request.headers.update(headers)
        return request
