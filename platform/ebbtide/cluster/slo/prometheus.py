"""Prometheus as a ``Source``, over ``prometheus-api-client``: plain numbers from a few queries.

One query for each figure covers all workloads. Anything that Prometheus returns instead of a number (an error, an HTML
page, NaN, nothing) results in a ``SourceError`` or an unknown value; NaN is never returned.
Upstream: prometheus.io/docs/prometheus/latest/querying/api.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from ebbtide.cluster.slo import queries, source
from ebbtide.cluster.slo.proxy import proxy_path
from ebbtide.cluster.slo.queries import LatencyHistogram
from ebbtide.cluster.slo.source import (
    Bucket,
    History,
    Ref,
    SeriesPoint,
    SourceError,
    StartTimes,
    WorkloadMeasurements,
)
from ebbtide.core.autoscaler.floor import VALUE_AGE_SECONDS
from ebbtide.core.base.engine_metrics import ENGINE_METRICS
from ebbtide.core.base.prose import make_printable
from ebbtide.core.profile.metric_names import find_scrape_job
from ebbtide.core.spec.objectives import TITLES

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile

#: Connect timeout and read timeout in seconds; Prometheus aborts a query after two minutes.
TIMEOUT: Final = (5.0, 130.0)
#: The same of a query for a decision: two attempts to connect take less than a slow query.
SAMPLE_TIMEOUT: Final = (2.0, source.SAMPLE_SECONDS)
#: Parameters of a query for a decision: Prometheus stops the calculation, and uses no older sample.
#: Upstream: github.com/prometheus/prometheus web/api/v1/api.go (query) since v2.43.0 (#12088), github.com/thanos-io/thanos
#: pkg/api/query/v1.go (LookbackDeltaParam). Earlier versions ignore lookback_delta, as any unknown parameter, and use 5 minutes.
SAMPLE_PARAMETERS: Final = {"timeout": f"{source.SAMPLE_SECONDS:g}s", "lookback_delta": f"{VALUE_AGE_SECONDS:g}s"}
#: Maximum size of the response to such a query, about 30,000 values: a query of one workload must not fill the memory.
MAX_SAMPLE_BYTES: Final = 4 * 2**20
CHUNK_BYTES: Final = 2**16
#: Start of an annotation that does not doubt the result. Some versions return these as warnings, newer ones as infos
#: (github.com/prometheus/prometheus util/annotations/annotations.go).
INFO: Final = "PromQL info"
#: The warnings of the responses to the queries of one measurement.
_WARNINGS: Final[ContextVar[list[str] | None]] = ContextVar("_WARNINGS", default=None)
#: One retry of a failed connection; a request that reached Prometheus is not retried.
RETRY: Final = Retry(total=1, connect=1, read=0, status=0, other=0, backoff_factor=0.2)
#: Messages by exception class; the first class that matches is used.
FAILURES: Final[dict[type[Exception], str]] = {
    requests.exceptions.JSONDecodeError: "{host} does not return a valid Prometheus response; check the address",
    requests.exceptions.Timeout: "Prometheus at {host} timed out; query fewer workloads or a shorter time range",
    requests.exceptions.SSLError: "invalid certificate of Prometheus at {host}: {reason}",
    **dict.fromkeys((requests.exceptions.RequestException, OSError), "Prometheus at {host} does not answer: {reason}"),
    **dict.fromkeys(
        (PrometheusApiClientException, KeyError, TypeError, ValueError),
        "Prometheus at {host} returned a response in an unknown format",
    ),
}
#: Prometheus rejects queries with more points per series.
MAX_POINTS: Final = 11_000
#: Maximum length of a quoted error message.
MAX_MESSAGE_CHARACTERS: Final = 300


#: A workload, and the labels and the value of one of its samples; and the instant query by owner for samples of workloads.
WorkloadSample: TypeAlias = tuple[Ref, Mapping[str, str], float]
AskWorkloads: TypeAlias = Callable[[Sequence[str], str], Iterable[WorkloadSample]]


class PrometheusSource:
    """A Prometheus server, queried for the metrics that the profile names."""

    def __init__(self, url: str, profile: Profile, session: requests.Session | None = None) -> None:
        """Connect to an address, with a preconfigured ``session`` if the default one is not sufficient.

        Raises SourceError if the address is invalid, or if the profile names an unknown histogram.
        """
        if urlsplit(url).scheme not in {"http", "https"}:
            raise SourceError(f"invalid Prometheus address {url}: must start with http:// or https://")
        self.timer: LatencyHistogram = queries.choose_histogram(profile)
        self._profile = profile
        self._host = urlsplit(url).netloc
        session = session or requests.Session()
        session.hooks["response"] += [_raise_for_status, _collect_warnings]
        self._session = session
        self._instant_url = f"{url.rstrip('/')}/api/v1/query"
        self._connection = PrometheusConnect(url=url.rstrip("/"), session=session, retry=RETRY, timeout=TIMEOUT)

    def measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, WorkloadMeasurements]:
        if not refs:
            return {}
        collected: list[str] = []
        token = _WARNINGS.set(collected)
        try:
            measurements = self._measure(refs, start, end)
        finally:
            _WARNINGS.reset(token)
        warning = _describe_warning(collected[0]) if collected else ""
        return {ref: replace(row, warning=warning or row.warning) for ref, row in measurements.items()}

    def _measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, WorkloadMeasurements]:
        start, end = self._clip_range(start, end)
        window = max(queries.SCRAPE, round(end - start))
        ask, timer = partial(self._query_workloads, end, _group_names(refs)), self.timer
        buckets = _read_buckets(ask, queries.bucket_query(timer, refs, window), timer)
        sums = {
            name: _sum_by_workload(ask(timer.owner, query))
            for name, query in queries.request_figure_queries(timer, refs, window).items()
        }
        figures, tokens = self._read_pod_figures(ask, refs, window), _read_tokens(ask, refs, window)
        warning = "" if sums["ended"] else self._find_other_jobs(end)
        return {
            ref: WorkloadMeasurements(
                ref,
                start,
                end,
                **_request_fields(timer, buckets.get(ref, {}), {name: by_ref[ref] for name, by_ref in sums.items()}),
                **_pod_fields(figures.get(ref, {}), queries.evaluation_seconds(window)),
                **tokens.get(ref, {}),
                warning=warning,
            )
            for ref in refs
        }

    def _find_other_jobs(self, time: float) -> str:
        """Return a warning if the gateway's series come only from other scrape jobs than the profile's; empty if not."""
        job = queries.find_gateway_job(self._profile).job
        if self.timer.place != "gateway" or not job:
            return ""
        rows = self._query_instant(f"group by (job) ({self.timer.counter})", time)
        jobs = sorted({make_printable(labels.get("job", "")) for labels, _ in rows})
        if not jobs or job in jobs:
            return ""
        return (
            f"no series of {self.timer.counter} from job {job}: Prometheus has them from {', '.join(jobs)}; "
            "set metrics.exporters.gateway in the profile"
        )

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        if step <= 0 or (end - start) / step > MAX_POINTS:
            raise SourceError(
                f"too many points: Prometheus returns at most {MAX_POINTS:,} per query; use a longer step"
            )
        start, times = _list_times(start, end, step)
        series = {}
        for name, query in queries.chart_queries(self.timer, self._profile, ref, step).items():
            # The query has a single series.
            rows = self._query_ranges(query, start, end, step)
            if values := {time: value for _, row in rows for time, value in row.items()}:
                series[name] = tuple(SeriesPoint(time, values.get(_to_milliseconds(time))) for time in times)
        revisions: dict[str, dict[str, tuple[SeriesPoint, ...]]] = defaultdict(dict)
        label, by_name = queries.revision_queries(self._profile, ref)
        for name, query in by_name.items():
            for labels, row in self._query_ranges(query, start, end, step):
                if revision := labels.get(label):
                    points = tuple(SeriesPoint(time, row.get(_to_milliseconds(time))) for time in times)
                    revisions[revision][name] = points
        return History(ref, series, revisions)

    def histories(
        self, refs: Sequence[Ref], start: float, end: float, step: float, names: Collection[str] = source.SHARED_SERIES
    ) -> dict[Ref, History]:
        if not refs:
            return {}
        start, times = _list_times(start, end, step)
        known = _group_names(refs)
        series: dict[Ref, dict[str, tuple[SeriesPoint, ...]]] = defaultdict(dict)
        revisions: dict[Ref, dict[str, dict[str, tuple[SeriesPoint, ...]]]] = defaultdict(dict)
        label = queries.pod_gauges(self._profile)[0].revision
        for name, alternatives in queries.shared_queries(self.timer, self._profile, refs, step).items():
            for query, owner in alternatives if name in names else ():
                sums: dict[Ref, dict[int, float]] = defaultdict(dict)
                for labels, values in self._query_ranges(query, start, end, step):
                    ref = queries.find_workload_of(labels, owner, known)
                    if ref is None or name in series[ref]:
                        continue
                    if name == source.REVISIONS:
                        points = tuple(SeriesPoint(time, values.get(_to_milliseconds(time))) for time in times)
                        revisions[ref][labels.get(label, "")] = {"stable": points}
                        continue
                    for time, value in values.items():
                        sums[ref][time] = sums[ref].get(time, 0.0) + value
                for ref, values in sums.items():
                    series[ref][name] = tuple(SeriesPoint(time, values.get(_to_milliseconds(time))) for time in times)
                if all(name in series[ref] for ref in refs):
                    break
        return {ref: History(ref, series[ref], revisions[ref]) for ref in refs if series[ref] or revisions[ref]}

    def starts(self, ref: Ref, start: float, end: float) -> list[StartTimes]:
        times: dict[str, dict[str, float]] = defaultdict(dict)
        only = find_scrape_job(self._profile.spec.metrics, queries.DEPLOYMENTS.name).matchers
        for field, series in queries.START_TIMES.items():
            query = queries.start_time_query(series, ref, round(end - start), only)
            for labels, value in self._query_instant(query, end):
                times[str(labels.get("pod", ""))][field] = value
        complete = [StartTimes(pod, **values) for pod, values in times.items() if {"created", "ready"} <= values.keys()]
        return sorted((row for row in complete if row.created >= start), key=lambda row: row.created)

    def samples(self, query: str, **parameters: str) -> list[tuple[Mapping[str, str], float]]:
        """Return the labels and the finite values of a query's result now, asked with further parameters of the request.

        Raises SourceError without an answer in time, and for one that is too long or has warnings, such as a partial
        answer of Thanos.
        """
        with self._convert_errors():
            answer = json.loads(self._read_answer({"query": query, **SAMPLE_PARAMETERS, **parameters}))
            result = answer["data"]["result"]
            warnings = _read_warnings(answer)
        if warnings:
            raise SourceError(_describe_warning(warnings[0]))
        parsed = ((labels, _parse_pair(pair)[1]) for labels, pair in _iterate_samples(result, "value"))
        return [(labels, value) for labels, value in parsed if value is not None]

    def _read_answer(self, parameters: Mapping[str, str]) -> bytes:
        """Return the body of the response to a query for a decision."""
        with self._session.get(
            self._instant_url,
            params=parameters,
            verify=self._session.verify,
            timeout=SAMPLE_TIMEOUT,
            stream=True,
        ) as response:
            body = bytearray()
            for chunk in response.iter_content(CHUNK_BYTES):
                body += chunk
                if len(body) > MAX_SAMPLE_BYTES:
                    raise SourceError(f"the answer of Prometheus exceeds {MAX_SAMPLE_BYTES // 2**20} MiB")
        return bytes(body)

    def _read_pod_figures(self, ask: AskWorkloads, refs: Sequence[Ref], window: int) -> dict[Ref, dict[str, float]]:
        """Return the figures of ``queries.OF_PODS`` by workload, each from the first exporter that has them."""
        figures: dict[Ref, dict[str, float]] = {}
        for exporter in queries.pod_gauges(self._profile):
            found: dict[Ref, dict[str, float]] = defaultdict(lambda: defaultdict(float))
            missing = [ref for ref in refs if ref not in figures]
            for name in queries.OF_PODS if missing else ():
                for ref, _, value in ask(exporter.owner, queries.pod_figure_query(exporter, name, missing, window)):
                    found[ref][name] += value
                if not found:
                    # This exporter has none of the workloads, so skip the other queries.
                    break
            figures = {**found, **figures}
        return figures

    def _clip_range(self, start: float, end: float) -> tuple[float, float]:
        """Return the part of a time range for which this Prometheus has data, by its own clock."""
        now = next((value for _, value in self._query_instant(queries.NOW, None)), None)
        if now is None:
            raise SourceError(f"{self._host} does not return the current time, so it is not a Prometheus server")
        end = min(end, now)
        if end <= start:
            raise SourceError(
                f"empty time range: Prometheus' clock is at {datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC"
            )
        window = max(queries.SCRAPE, round(end - start))
        query = queries.first_data_query(self.timer, window)
        first = next((value for _, value in self._query_instant(query, end)), None)
        if first is not None and first > start + 2 * queries.first_data_precision(window):
            # One scrape later: every series has then been scraped once and does not count as new.
            start = min(first + queries.SCRAPE, end - queries.SCRAPE)
        return start, end

    def _query_workloads(
        self, time: float, known: Mapping[str, set[str]], owner: Sequence[str], query: str
    ) -> Iterator[WorkloadSample]:
        """Yield the samples of a query that belong to known workloads, with the workload."""
        for labels, value in self._query_instant(query, time):
            ref = queries.find_workload_of(labels, owner, known)
            if ref is not None:
                yield ref, labels, value

    def _query_instant(self, query: str, time: float | None) -> Iterator[tuple[Mapping[str, str], float]]:
        """Yield the samples of an instant query that are finite numbers."""
        with self._convert_errors():
            result = self._connection.custom_query(query, params={} if time is None else {"time": f"{time:.3f}"})
        for labels, pair in _iterate_samples(result, "value"):
            _, value = _parse_pair(pair)
            if value is not None:
                yield labels, value

    def _query_ranges(
        self, query: str, start: float, end: float, step: float
    ) -> Iterator[tuple[Mapping[str, str], dict[int, float]]]:
        """Yield the labels and the finite values of each series of a range query, by time in whole milliseconds."""
        with self._convert_errors():
            result = self._connection.custom_query_range(
                query, datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC), f"{step:g}"
            )
        for labels, pairs in _iterate_samples(result, "values"):
            parsed = (_parse_pair(pair) for pair in (pairs if isinstance(pairs, list) else ()))
            numbers = {
                _to_milliseconds(time): value for time, value in parsed if time is not None and value is not None
            }
            yield labels, numbers

    @contextmanager
    def _convert_errors(self) -> Iterator[None]:
        """Convert connection errors into a ``SourceError``."""
        try:
            yield
        except tuple(FAILURES) as error:
            text = next(text for kind, text in FAILURES.items() if isinstance(error, kind))
            raise SourceError(text.format(host=self._host, reason=_innermost_reason(error))) from error


def _read_warnings(answer: Any) -> list[str]:
    return [str(text) for text in answer.get("warnings") or () if not str(text).startswith(INFO)]


def _describe_warning(text: str) -> str:
    return f"the answer of Prometheus may be incomplete: {make_printable(text)[:MAX_MESSAGE_CHARACTERS]}"


def _collect_warnings(response: requests.Response, *, stream: bool = False, **_: Any) -> None:
    """Collect the warnings of a response, which the client does not return."""
    collected = _WARNINGS.get()
    if collected is None or stream or b'"warnings"' not in response.content:
        return
    with suppress(ValueError, AttributeError, TypeError):
        collected += _read_warnings(response.json())


def _raise_for_status(response: requests.Response, **_: Any) -> None:
    """Raise a ``SourceError`` for an error status, with Prometheus' message if there is one."""
    if response.ok:
        return
    host = urlsplit(response.url).netloc
    try:
        answer = response.json()
    except ValueError:
        answer = None
    message = ""
    if isinstance(answer, dict):
        # Prometheus uses the key error, an API server proxy the key message.
        message = make_printable(str(answer.get("error") or answer.get("message") or ""))[:MAX_MESSAGE_CHARACTERS]
    suffix = f": {message}" if message else ""
    match response.status_code:
        case 401 | 403:
            raise SourceError(f"forbidden: {host} does not allow this account to query Prometheus{suffix}")
        case 404:
            raise SourceError(f"Prometheus not found at this address of {host}{suffix}")
        case _ if message:
            raise SourceError(f"Prometheus rejected the query: {message}")
        case status:
            raise SourceError(f"Prometheus at {host} failed with HTTP {status} and without a message")


def _iterate_samples(result: Any, field: str) -> Iterator[tuple[Mapping[str, str], Any]]:
    for row in result if isinstance(result, list) else ():
        if isinstance(row, dict):
            labels = row.get("metric")
            yield (labels if isinstance(labels, dict) else {}), row.get(field)


def _parse_pair(pair: Any) -> tuple[float | None, float | None]:
    """Return a sample's time and value; each is None unless it is a finite number."""
    if not isinstance(pair, list) or len(pair) != 2:  # noqa: PLR2004 - time and value
        return None, None
    return _parse_finite(pair[0]), _parse_finite(pair[1])


def _to_milliseconds(time: float) -> int:
    return round(time * 1000)


def _parse_finite(text: Any) -> float | None:
    """Parse a finite number; return None for anything else."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _list_times(start: float, end: float, step: float) -> tuple[float, list[float]]:
    """Return the start of a range query, which the client rounds down to whole seconds, and the times of its points."""
    start = math.floor(start)
    return start, [start + index * step for index in range(int((end - start) / step) + 1)]


def _read_tokens(ask: AskWorkloads, refs: Sequence[Ref], window: int) -> dict[Ref, dict[str, Any]]:
    """Return the fields of ``WorkloadMeasurements`` about tokens, each from the engine's newest series that has data."""
    rows = ask(queries.ENGINE_OWNER, queries.engine_series_query(refs, window))
    present = {(ref, labels.get("__name__", "")) for ref, labels, _ in rows}
    names = {name for _, name in present}
    fields: dict[Ref, dict[str, Any]] = {ref: {"token_buckets": {}, "token_notes": {}} for ref, _ in present}
    for objective in TITLES:
        for histogram in (row for engine in ENGINE_METRICS for row in engine.histograms(objective)):
            if f"{histogram.series}_count" not in names:
                continue
            timer = queries.engine_histogram(histogram)
            for ref, by_bound in _read_buckets(ask, queries.bucket_query(timer, refs, window), timer).items():
                measured = fields.setdefault(ref, {"token_buckets": {}, "token_notes": {}})
                if objective in measured["token_buckets"] or not max(by_bound.values(), default=0.0):
                    continue
                by_bound.setdefault(math.inf, max(by_bound.values()))
                measured["token_buckets"][objective] = make_monotonic(
                    Bucket(bound, by_bound[bound]) for bound in sorted(by_bound)
                )
                if histogram.note:
                    measured["token_notes"][objective] = histogram.note
    matchers = queries.scope_matchers(refs, queries.ENGINE_OWNER)
    for field in ("prompt_tokens", "output_tokens"):
        for series in (name for engine in ENGINE_METRICS for name in getattr(engine, field) if name in names):
            query = queries.growth_query(series, queries.ENGINE_OWNER, window, matchers)
            for ref, count in _sum_by_workload(ask(queries.ENGINE_OWNER, query)).items():
                fields.setdefault(ref, {}).setdefault(field, count)
    return fields


def _read_buckets(ask: AskWorkloads, query: str, timer: LatencyHistogram) -> dict[Ref, dict[float, float]]:
    """Return the cumulative counts of a histogram by workload and bound in seconds."""
    counts: dict[Ref, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for ref, labels, value in ask(timer.owner, query):
        bound = math.inf if labels.get("le") == "+Inf" else _parse_finite(labels.get("le", ""))
        if bound is not None:
            counts[ref][bound * timer.unit] += value
    return counts


def _sum_by_workload(rows: Iterable[WorkloadSample]) -> dict[Ref, float]:
    sums: dict[Ref, float] = defaultdict(float)
    for ref, _, value in rows:
        sums[ref] += value
    return sums


def _request_fields(
    timer: LatencyHistogram, buckets: Mapping[float, float], sums: Mapping[str, float]
) -> dict[str, Any]:
    """Return the fields of ``Measured`` about requests."""
    timed = max(buckets.values(), default=0.0)
    counts = {**buckets, math.inf: timed} if buckets else {}
    seconds = sums["total"] * timer.unit
    return {
        "place": timer.place if timed else None,
        "requests": max(sums["ended"], timed),
        "failed": sums["failed"],
        "total_seconds": seconds,
        "total_between": sum_bounds(seconds, timed) if timer.blurred and timed else None,
        "buckets": make_monotonic(
            Bucket(bound, counts[bound], envoy_reach(bound) if timer.blurred else None) for bound in sorted(counts)
        ),
        "minutes_asked": sums["asked"],
        "minutes_answered": min(sums["answered"], sums["asked"]),
    }


def _pod_fields(figures: Mapping[str, float], interval: int) -> dict[str, Any]:
    """Return the fields of ``Measured`` about pods, from figures counted once every ``interval`` seconds; empty if unknown."""
    if not figures:
        return {}
    seconds = {name: value * interval for name, value in figures.items()}
    known, rest = seconds.get("known", 0.0), seconds.get("rest", 0.0)
    return {
        "seconds_known": known,
        "seconds_up": min(seconds.get("up", 0.0), known),
        "seconds_at_rest": min(rest, seconds.get("up", 0.0)),
        # Without one of the gauges of pods, the replicas are only known of a workload that was scaled to zero throughout.
        "replica_seconds": seconds.get("pods", 0.0 if known and rest == known else None),
        "cold_starts": figures.get("woken", 0.0) if known else None,
    }


def make_monotonic(buckets: Iterable[Bucket]) -> tuple[Bucket, ...]:
    """Return buckets with non-decreasing counts; the input may decrease if buckets were scraped at different times."""
    monotonic: list[Bucket] = []
    for bucket in buckets:
        count = max(bucket.count, monotonic[-1].count if monotonic else 0.0)
        monotonic.append(bucket._replace(count=count))
    return tuple(monotonic)


def envoy_reach(bound: float) -> float:
    """Return the longest time, in seconds, that Envoy counts within a bound.

    Envoy rounds times down to whole milliseconds and keeps two digits; a bound includes its whole bin: 500 ms includes
    times up to 510 ms, 1 s includes times up to 1.1 s (circonus-labs/libcircllhist, hist_approx_count_below).
    """
    if math.isinf(bound):
        return bound
    milliseconds = bound * 1000
    width: float = 10.0 ** (math.floor(math.log10(milliseconds) + 1e-9) - 1)
    return (milliseconds + max(width, 1.0)) / 1000


def sum_bounds(seconds: float, timed: float) -> tuple[float, float]:
    """Return lower and upper bounds of the true sum; Envoy sums up the midpoints of its bins.

    The width of a bin is at most a tenth of its lower end, and times are rounded down to milliseconds.
    """
    return seconds / 1.05, seconds * 1.05 + timed / 1000


def _group_names(refs: Iterable[Ref]) -> dict[str, set[str]]:
    names: dict[str, set[str]] = defaultdict(set)
    for ref in refs:
        names[ref.namespace].add(ref.name)
    return names


def _innermost_reason(error: Exception) -> str:
    """Return the innermost message of an error, without the object representations in it."""
    inner: Any = error
    while getattr(inner, "args", None) and isinstance(inner.args[0], BaseException):
        inner = getattr(inner.args[0], "reason", None) or inner.args[0]
    text = re.sub(r"^<.*?>:\s*|.*object at 0x[0-9a-f]+>:\s*|^HTTPS?Connection\(.*?\):\s*", "", str(inner))
    text = re.sub(r"^Failed to establish a new connection: (?:\[Errno \d+\] )?", "", text)
    return make_printable(text)[:MAX_MESSAGE_CHARACTERS]


# Access to Prometheus.


def runs_in_cluster() -> bool:
    """Return whether this process runs in a pod, and so can reach Services by name."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def connect_through(api: Any, url: str, profile: Profile) -> PrometheusSource:
    """Return the Prometheus at a Service's address, through the API server's proxy with a ``kubernetes`` client's account.

    The account needs ``get`` on ``services/proxy`` in Prometheus' namespace; no port-forward is needed. Raises
    SourceError if the address is not that of a Service.
    """
    path = proxy_path(url)
    if path is None:
        raise SourceError(
            f"{url} is not the address of a Service in the cluster: set --prometheus to an address that this machine can "
            "reach"
        )
    return PrometheusSource(f"{api.configuration.host.rstrip('/')}{path}", profile, make_session(api))


def make_session(api: Any) -> requests.Session:
    """Return a session with the credentials and the certificate authority of a ``kubernetes`` client."""
    configuration = api.configuration
    session = requests.Session()
    # Proxies and credentials of the environment or a netrc must not mix with the account's credentials.
    session.trust_env = False
    session.verify = (configuration.ssl_ca_cert or True) if configuration.verify_ssl else False
    if configuration.cert_file:
        session.cert = (configuration.cert_file, configuration.key_file)
    session.auth = _Account(api)
    return session


class _Account(requests.auth.AuthBase):
    """The client's credentials, read for each request because tokens expire."""

    def __init__(self, api: Any) -> None:
        self._api = api

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        headers: dict[str, str] = {}
        self._api.update_params_for_auth(headers, [], ["BearerToken"], "", request.method, None)
        request.headers.update(headers)
        return request
