"""Prometheus as a source: recorded responses with manually calculated results, and all kinds of invalid responses."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from answering import CHAT, DEAD, END, START, STEP, Answer, answering, any_nan, fine, profile, recorded
from ebbtide.cluster.slo import pages, queries
from ebbtide.cluster.slo.proxy import proxy_path
from ebbtide.cluster.slo.report import ValueInterval, compute_mean, compute_quantile_interval
from ebbtide.cluster.slo.source import REVISIONS, SAMPLE_SECONDS, Bucket, Ref, SourceError, WorkloadSlo
from ebbtide.core.base.engine_metrics import ENGINE_METRICS
from ebbtide.core.report import render_text
from ebbtide.core.spec.serving import Slo
from ebbtide.core.translation.engines import ENGINES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

prometheus = pytest.importorskip("ebbtide.cluster.slo.prometheus", reason="prometheus-api-client is not installed")
requests = pytest.importorskip("requests")


@pytest.fixture(scope="module")
def source() -> Iterator[Any]:
    with answering(recorded()) as url:
        yield prometheus.PrometheusSource(url, profile())


def test_measurements_match_the_client_s_requests(source: Any) -> None:
    """One request that waited 3 s for its pod, 60 of 100 ms, five failures of 5 ms; and one that reached no pod."""
    measurements = source.measure([CHAT, DEAD], START, END)
    chat, dead = measurements[CHAT], measurements[DEAD]

    assert (chat.place, chat.requests, chat.failed, chat.timed) == ("gateway", 66, 5, 66)
    assert chat.total_between is not None
    # Each took slightly longer than its server slept.
    assert chat.total_between[0] <= 3 + 60 * 0.1 + 5 * 0.005 <= chat.total_between[1]
    assert compute_quantile_interval(chat.buckets, 0.5) == pytest.approx(ValueInterval(0.05, 0.11))
    # The 63rd is among the sixty, the last one is the cold start.
    assert compute_quantile_interval(chat.buckets, 0.95) == pytest.approx(ValueInterval(0.1, 0.26))
    assert compute_quantile_interval(chat.buckets, 0.99) == pytest.approx(ValueInterval(2.5, 5.1))
    average = compute_mean(chat)
    assert average is not None
    assert average.low < 9.1 / 66 < average.high
    assert (chat.minutes_asked, chat.minutes_answered) == (1, 1)
    # Twelve evaluations, one every 15 s: nine at zero, two with a ready pod, one during the cold start.
    assert (chat.seconds_known, chat.seconds_up, chat.seconds_at_rest) == (180, 165, 135)
    assert (chat.replica_seconds, chat.cold_starts) == (60, 1)
    # A request that reached no pod ended and failed, and was not timed.
    assert (dead.place, dead.requests, dead.failed, dead.buckets) == (None, 1, 1, ())
    assert (dead.minutes_asked, dead.minutes_answered) == (1, 0)
    assert dead.replica_seconds is None


def test_replica_hours_are_unknown_without_the_gauge_of_unready_pods() -> None:
    """Prometheus has the requested pods of the revision, 135 of 180 s at zero, and not those that were not ready."""

    def reduce(name: str, result: list[Any]) -> list[Any]:
        return [] if name == "pods" else result

    with answering(recorded(reduce)) as url:
        chat = prometheus.PrometheusSource(url, profile()).measure([CHAT], START, END)[CHAT]
    assert (chat.seconds_known, chat.seconds_at_rest, chat.replica_seconds) == (180, 135, None)


def test_a_history_matches_the_recording(source: Any) -> None:
    series = source.history(CHAT, START, END, STEP).series

    assert [point.value for point in series["ready"]] == [0, 0, 0, 0, 1, 0, 0]
    revisions = source.history(CHAT, START, END, STEP).revisions
    assert {*revisions} == {"chat-00001"}
    assert {name: revisions["chat-00001"][name] for name in ("ready", "wanted")} == {
        name: series[name] for name in ("ready", "wanted")
    }
    assert [point.value for point in series["rate"]] == pytest.approx([0, 0, 0, 0, 66 / 58, 66 / 58, 0])
    # Without requests, Prometheus returns NaN for a quantile, which results in no value.
    assert [point.value is None for point in series["p95"]] == [True, True, True, True, False, False, True]
    assert "target" not in series
    # The start is rounded down to a whole second.
    assert source.history(CHAT, START + 0.6, END, STEP).series["ready"] == series["ready"]
    with pytest.raises(SourceError, match="at most 11,000 per query"):
        source.history(CHAT, START, END, 0.01)


def test_the_histories_of_many_workloads_have_the_load_of_each_revision() -> None:
    loads = {"chat-00001": 1.2, "chat-00002": 0.4}
    owner = dict[str, str](zip(queries.AUTOSCALER.owner, CHAT, strict=True))

    def answer(path: str, query: dict[str, str]) -> Answer:
        if "kn_revision_name" not in query["query"]:
            return recorded()(path, query)
        rows: list[Any] = [
            {"metric": {**owner, "kn_revision_name": name}, "values": [[int(END), f"{load}"]]}
            for name, load in loads.items()
        ]
        return fine(
            [*rows, {"metric": {**owner, queries.AUTOSCALER.owner[1]: "other"}, "values": [[int(END), "9"]]}], "matrix"
        )

    with answering(answer) as url:
        (history,) = (
            prometheus.PrometheusSource(url, profile()).histories([CHAT], END, END, STEP, (REVISIONS,)).values()
        )

    assert history.series == {}
    assert {name: [point.value for point in row["stable"]] for name, row in history.revisions.items()} == {
        name: [load] for name, load in loads.items()
    }


@pytest.mark.parametrize("bad", ["NaN", "+Inf", "-Inf", "text", "", None])
def test_values_that_are_not_numbers_are_ignored(bad: str | None) -> None:
    def spoiled(name: str, result: list[Any]) -> list[Any]:
        if name in {"now", "since"}:
            return result
        return [
            {
                **row,
                **({"value": [END, bad]} if "value" in row else {"values": [[time, bad] for time, _ in row["values"]]}),
            }
            for row in result
        ]

    with answering(recorded(spoiled)) as url:
        source = prometheus.PrometheusSource(url, profile())
        measured = source.measure([CHAT], START, END)[CHAT]
        assert (measured.requests, measured.place, measured.replica_seconds) == (0, None, None)
        assert not any_nan(measured)
        assert source.history(CHAT, START, END, STEP).series == {}


def test_buckets_scraped_at_different_times_do_not_decrease() -> None:
    def torn(name: str, result: list[Any]) -> list[Any]:
        if name != "buckets":
            return result
        return [{**row, "value": [END, "3"]} if row["metric"]["le"] == "500" else row for row in result]

    with answering(recorded(torn)) as url:
        counts = [
            bucket.count
            for bucket in prometheus.PrometheusSource(url, profile()).measure([CHAT], START, END)[CHAT].buckets
        ]
    assert counts == sorted(counts)


@pytest.mark.parametrize(
    "result", [None, {}, "text", [1], [None], [{}], [{"metric": 1, "value": 2}], [{"metric": {}, "value": [1]}]]
)
def test_a_malformed_response_is_unknown_or_an_error(result: Any) -> None:
    def strange(name: str, real: list[Any]) -> Any:
        return real if name in {"now", "since"} else result

    with answering(recorded(strange)) as url:
        source = prometheus.PrometheusSource(url, profile())
        assert source.measure([CHAT], START, END)[CHAT].requests == 0
        assert source.history(CHAT, START, END, STEP).series == {}


def test_the_range_starts_with_the_first_data() -> None:
    """Prometheus has only three minutes of the requested week: the result covers those."""
    week = 7 * 86_400

    def answer(path: str, parameters: dict[str, str]) -> Answer:
        if parameters["query"] == queries.first_data_query(queries.choose_histogram(profile()), week):
            return fine([{"metric": {}, "value": [END, str(START - queries.SCRAPE)]}])
        return recorded()(path, parameters)

    with answering(answer) as url:
        measured = prometheus.PrometheusSource(url, profile()).measure([CHAT], END - week, END)[CHAT]
    assert (measured.start, measured.end, measured.requests) == (START, END, 66)


def test_the_range_ends_at_prometheus_current_time() -> None:
    """The local clock is ten minutes ahead of Prometheus' clock: the range ends at Prometheus' current time."""
    with answering(recorded()) as url:
        source = prometheus.PrometheusSource(url, profile())
        measured = source.measure([CHAT], START, END + 600)[CHAT]
        assert (measured.start, measured.end, measured.requests) == (START, END, 66)
        with pytest.raises(SourceError, match="empty time range: Prometheus' clock is at"):
            source.measure([CHAT], END + 60, END + 600)


def failing(status: int, body: bytes, kind: str = "application/json") -> Answer:
    return Answer(status, body, kind)


HTML = b"<html><body><h1>Sign in</h1></body></html>"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (failing(200, HTML, "text/html"), "does not return a valid Prometheus response"),
        (failing(502, HTML, "text/html"), "failed with HTTP 502 and without a message"),
        (failing(200, b"{}"), "returned a response in an unknown format"),
        (failing(200, b"[]"), "returned a response in an unknown format"),
        (failing(200, b'{"data": null}'), "returned a response in an unknown format"),
        (failing(200, b'{"data": {"result": []}}'), "does not return the current time"),
        (
            failing(400, b'{"status":"error","errorType":"bad_data","error":"parse error at char 1"}'),
            "Prometheus rejected the query: parse error",
        ),
        (
            failing(422, b'{"status":"error","error":"query processing would load too many samples\\u001b[2J"}'),
            "too many samples\\x1b[2J",
        ),
        (
            failing(503, b'{"status":"error","error":"query timed out in expression evaluation"}'),
            "rejected the query: query timed out",
        ),
        (failing(401, b""), "does not allow this account to query"),
        (
            failing(403, b'{"kind":"Status","message":"services \\"prometheus\\" is forbidden"}'),
            'account to query Prometheus: services "prometheus"',
        ),
        (failing(404, b"not found", "text/plain"), "Prometheus not found at this address"),
    ],
)
def test_errors_are_explained(answer: Answer, words: str) -> None:
    with answering(lambda _, __: answer) as url:
        source = prometheus.PrometheusSource(url, profile())
        with pytest.raises(SourceError) as first:
            source.measure([CHAT], START, END)
    assert words in str(first.value)
    assert "\x1b" not in str(first.value)


def test_a_refused_connection_is_explained() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = prometheus.PrometheusSource(f"http://127.0.0.1:{port}", profile())

    calls: tuple[Callable[[], object], ...] = (
        lambda: source.measure([CHAT], START, END),
        lambda: source.history(CHAT, START, END, STEP),
    )
    for call in calls:
        with pytest.raises(
            SourceError, match=f"Prometheus at 127.0.0.1:{port} does not answer: .*[Cc]onnection refused"
        ) as raised:
            call()
        assert "object at 0x" not in str(raised.value)


@pytest.mark.parametrize("address", ["", "prometheus:9090", "ftp://x", "file:///etc/passwd"])
def test_an_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(SourceError, match="invalid Prometheus address"):
        prometheus.PrometheusSource(address, profile())


def test_a_histogram_of_unknown_unit_is_refused() -> None:
    with pytest.raises(SourceError, match=r"invalid metrics\.gatewayLatency response_time: unknown unit"):
        prometheus.PrometheusSource("http://x", profile(gatewayLatency="response_time"))
    histogram = queries.choose_histogram(profile(gatewayLatency="my_gateway_duration_seconds"))
    assert (histogram.unit, histogram.owner, histogram.counter) == (
        1.0,
        ("namespace", "workload"),
        "my_gateway_duration_seconds_count",
    )


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://prometheus.monitoring.svc:9090", "/api/v1/namespaces/monitoring/services/http:prometheus:9090/proxy"),
        (
            "https://thanos.m.svc.cluster.local/prom/",
            "/api/v1/namespaces/m/services/https:thanos:443/proxy/prom",
        ),
        ("http://prometheus.example.com:9090", None),
        ("http://127.0.0.1:9090", None),
    ],
)
def test_a_service_is_reached_through_the_api_server(url: str, path: str | None) -> None:
    assert proxy_path(url) == path


class Api:
    """The used part of a Kubernetes client: its host and its credentials."""

    def __init__(self, host: str) -> None:
        self.configuration = self
        self.host = host
        self.verify_ssl, self.ssl_ca_cert, self.cert_file, self.key_file = True, None, None, None
        self.asked = 0

    def update_params_for_auth(self, headers: dict[str, str], *_: Any) -> None:
        self.asked += 1
        headers["authorization"] = f"Bearer token-{self.asked}"


def test_the_token_is_read_for_each_request_and_is_in_no_error() -> None:
    paths: list[str] = []

    def answer(path: str, _: dict[str, str]) -> Answer:
        paths.append(path)
        return failing(403, b'{"message":"no"}')

    with answering(answer) as url:
        api = Api(url)
        source = prometheus.connect_through(api, "http://prometheus.monitoring.svc:9090", profile())
        for _ in range(2):
            with pytest.raises(SourceError) as raised:
                source.measure([CHAT], START, END)
            assert "token" not in str(raised.value)
    assert api.asked == 2
    assert paths == ["/api/v1/namespaces/monitoring/services/http:prometheus:9090/proxy/api/v1/query"] * 2


@pytest.mark.parametrize(
    ("owner", "labels", "whose"),
    [
        (("envoy_cluster_name",), {"envoy_cluster_name": "shop/chat-00001"}, "chat"),
        (("envoy_cluster_name",), {"envoy_cluster_name": "shop_chat-00012_80"}, "chat"),
        (("envoy_cluster_name",), {"envoy_cluster_name": "shop/rank-predictor-00003"}, "rank"),
        (("envoy_cluster_name",), {"envoy_cluster_name": "shop/chat-predictor"}, "chat-predictor"),
        (("envoy_cluster_name",), {"envoy_cluster_name": "other/chat-00001"}, None),
        (("envoy_cluster_name",), {"envoy_cluster_name": "xds_cluster"}, None),
        (("envoy_cluster_name",), {"envoy_cluster_name": "admin"}, None),
        (queries.POD_OWNER, {"namespace": "shop", "kn_service_name": "rank-predictor"}, "rank"),
        (queries.DEPLOYMENTS.owner, {"namespace": "shop", "deployment": "chat-00002-deployment"}, "chat"),
        (queries.DEPLOYMENTS.owner, {"namespace": "shop", "deployment": "rank-predictor"}, "rank"),
        (queries.POD_OWNER, {"namespace": "shop", "kn_service_name": "chat-room"}, None),
    ],
)
def test_a_series_is_mapped_to_its_workload(owner: tuple[str, ...], labels: dict[str, str], whose: str | None) -> None:
    known = {"shop": {"chat", "rank", "chat-predictor"}}

    assert queries.find_workload_of(labels, owner, known) == (Ref("shop", whose) if whose else None)


def test_names_in_a_query_are_escaped() -> None:
    query = queries.workload_matchers(Ref('a"} or vector(1) #', "x|.*"), queries.POD_OWNER)

    assert query.count('"') - query.count('\\"') == 4
    assert "x\\\\|\\\\.\\\\*" in query


def test_many_workloads_need_few_queries() -> None:
    sent: list[str] = []

    def answer(path: str, query: dict[str, str]) -> Answer:
        sent.append(query["query"])
        return recorded()(path, query)

    many = [Ref(f"team-{number % 300}", f"service-{number}") for number in range(3000)]
    with answering(answer) as url:
        measurements = prometheus.PrometheusSource(url, profile()).measure(many, START, END)
    assert len(measurements) == 3000
    assert len(sent) < 20
    assert max(map(len, sent)) < 2000


def test_the_histories_of_many_workloads_need_as_few_queries_as_those_of_one() -> None:
    sent: list[str] = []

    def answer(path: str, query: dict[str, str]) -> Answer:
        sent.append(query["query"])
        return recorded()(path, query)

    counts = []
    with answering(answer) as url:
        source = prometheus.PrometheusSource(url, profile())
        for many in (1, 3000):
            source.histories([Ref("team", f"service-{number}") for number in range(many)], START, END, 30)
            counts.append(len(sent))
            sent.clear()
    assert counts == [7, 7]


@pytest.mark.parametrize(
    ("version", "place", "series", "failed"),
    [
        ("1.21", "queue-proxy", "http_server_request_duration_seconds", "http_response_status_code"),
        ("1.20", "container", "kn_queueproxy_app_duration_seconds", "http_response_status_code"),
        ("1.18", "queue-proxy", "revision_request_latencies", "response_code_class"),
    ],
)
def test_each_knative_version_has_its_histogram(version: str, place: str, series: str, failed: str) -> None:
    timer = queries.queue_proxy_histogram(version)

    assert (timer.place, timer.series) == (place, series)
    assert failed in timer.failed
    # 10 s, and 100 s before OpenTelemetry.
    assert timer.top == (100.0 if version == "1.18" else 10.0)
    assert timer.unit == (0.001 if version == "1.18" else 1.0)


def test_bounds_of_envoy_include_their_bins() -> None:
    """Measured with Envoy 1.40: 506 ms count within 500, 512 do not; 258 within 250, 264 not; 104 within 100."""
    reach = {bound: prometheus.envoy_reach(bound / 1000) * 1000 for bound in (1, 10, 100, 250, 500, 1000, 2500, 10_000)}

    assert reach == pytest.approx({1: 2, 10: 11, 100: 110, 250: 260, 500: 510, 1000: 1100, 2500: 2600, 10_000: 11_000})
    assert math.isinf(prometheus.envoy_reach(math.inf))


def test_the_parser_loads_no_client() -> None:
    program = "import sys; from ebbtide.cli import make_parser; make_parser('slo'); print([m for m in ('requests', 'kubernetes', 'numpy', 'prometheus_api_client') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert json.loads(ran.stdout) == []


# Tokens.


def test_tokens_are_read_from_the_newest_series_of_an_engine() -> None:
    """A vLLM version between two names exports both: only the newer one counts."""
    owner = {"namespace": CHAT.namespace, "workload": CHAT.name}
    between = ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds")
    counters = ("vllm:generation_tokens_total", "vllm:prompt_tokens_total")

    def rows(values: list[tuple[dict[str, str], float]]) -> Answer:
        return fine([{"metric": {**owner, **labels}, "value": [END, str(value)]} for labels, value in values])

    def answer(path: str, query: dict[str, str]) -> Answer:
        text = query["query"]
        if text.startswith("group by (__name__"):
            names = [f"{name}_count" for name in between] + list(counters)
            return rows([({"__name__": name}, 1.0) for name in names])
        for factor, name in enumerate(between, 1):
            if f"{name}_bucket" in text:
                counts = (("0.025", 90.0), ("0.05", 99.0), ("+Inf", 100.0))
                return rows([({"le": bound}, count * factor) for bound, count in counts])
        for factor, name in enumerate(counters, 1):
            if name in text:
                return rows([({}, 1000.0 * factor)])
        return recorded()(path, query)

    with answering(answer) as url:
        found = prometheus.PrometheusSource(url, profile()).measure([CHAT], START, END)[CHAT]
    assert found.token_buckets == {"itl": (Bucket(0.025, 90.0), Bucket(0.05, 99.0), Bucket(math.inf, 100.0))}
    assert (found.output_tokens, found.prompt_tokens) == (1000.0, 2000.0)


def test_every_engine_with_metrics_is_recognized_by_its_image() -> None:
    known = {engine.name for engine in ENGINES}

    assert {row.engine for row in ENGINE_METRICS} <= known
    # Each histogram has one name in the table.
    names = [histogram.series for row in ENGINE_METRICS for histogram in (*row.first_token, *row.inter_token)]
    assert len(set(names)) == len(names)


# Values for decisions.


def answered(payload: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps({"status": "success", **payload}).encode())


VECTOR = {"resultType": "vector", "result": [{"metric": {"pod": "p"}, "value": [END, "3"]}]}


def test_a_query_for_a_decision_states_its_time_and_the_age_of_its_values() -> None:
    asked: dict[str, str] = {}

    def answer(path: str, query: dict[str, str]) -> Answer:
        asked.update(query, path=path)
        return answered({"data": VECTOR})

    with answering(answer) as url:
        assert prometheus.PrometheusSource(url, profile()).samples("up") == [({"pod": "p"}, 3.0)]
    assert asked == {"path": "/api/v1/query", "query": "up", "timeout": "5s", "lookback_delta": "90s"}


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"warnings": ["No StoreAPIs matched for this query"]}, "may be incomplete: No StoreAPIs matched"),
        ({"warnings": ["PromQL info: x", "PromQL warning: y"]}, "may be incomplete: PromQL warning: y"),
        ({"warnings": ["\x1b[2J"]}, r"may be incomplete: \\x1b"),
        ({"warnings": ["PromQL info: metric might not be a counter"], "infos": ["x"]}, ""),
        ({"warnings": None}, ""),
        ({"warnings": []}, ""),
    ],
)
def test_an_answer_with_warnings_is_no_value(extra: dict[str, Any], reason: str) -> None:
    with answering(lambda _path, _query: answered({"data": VECTOR, **extra})) as url:
        source = prometheus.PrometheusSource(url, profile())
        if not reason:
            assert source.samples("up") == [({"pod": "p"}, 3.0)]
            return
        with pytest.raises(SourceError, match=reason):
            source.samples("up")


PARTIAL = "the answer of Prometheus may be incomplete: No StoreAPIs matched"


def warning_of(name: str, warning: str = "No StoreAPIs matched") -> Callable[[str, dict[str, str]], Answer]:
    """Return a handler that returns the recorded answers, the one of a name with a warning."""
    handler, found = recorded(), recorded(lambda each, result: ["found"] if each == name else result)

    def answer(path: str, query: dict[str, str]) -> Answer:
        reply = handler(path, query)
        if b'"found"' not in found(path, query).body:
            return reply
        return reply._replace(body=json.dumps({**json.loads(reply.body), "warnings": [warning]}).encode())

    return answer


@pytest.mark.parametrize(
    ("name", "warning", "expected"),
    [
        ("buckets", "No StoreAPIs matched", PARTIAL),
        ("now", "No StoreAPIs matched", PARTIAL),
        ("up", "No StoreAPIs matched", PARTIAL),
        ("buckets", "PromQL info: metric might not be a counter", ""),
        ("none of them", "No StoreAPIs matched", ""),
    ],
)
def test_a_partial_answer_is_a_partial_report(name: str, warning: str, expected: str) -> None:
    """As for decisions of the controller, a partial answer proves nothing: counts of failures may be missing too."""
    slo = Slo.model_validate({"p95LatencyMilliseconds": 10_000, "uptimePercent": 50})
    workload = WorkloadSlo(CHAT, "shop", slo, 0.0)
    with answering(warning_of(name, warning)) as url:
        source = prometheus.PrometheusSource(url, profile())
        measured = source.measure([CHAT, DEAD], START, END)
        report = pages.make_slo_report({CHAT: workload}, source, END - START, END, None)
    assert {row.warning for row in measured.values()} == {expected}

    (p95, _uptime) = report.rows[0].verdicts
    note = f"{PARTIAL}; numbers may be too low, and an SLO has no verdict"
    assert [text for text in report.notes if "incomplete" in text] == ([note] if expected else [])
    assert (p95.outcome == "unknown") == bool(expected)
    assert (PARTIAL in p95.why) == bool(expected)
    assert p95.reached is not None
    assert ("numbers may be too low" in render_text(pages.make_content(report))) == bool(expected)


@pytest.mark.parametrize("jobs", [[], ["contour/envoy"], ["contour/envoy", "monitoring/ebbtide-kourier"]])
def test_a_report_names_the_scrape_job_that_has_the_series(jobs: list[str]) -> None:
    """A query of the job in the profile finds nothing, also if another job has the series of the gateway."""

    def answer(_: str, query: dict[str, str]) -> Answer:
        if query["query"] == queries.NOW:
            return fine([{"metric": {}, "value": [END, str(END)]}])
        asked = query["query"] == "group by (job) (envoy_cluster_upstream_rq_xx)"
        return fine([{"metric": {"job": job}, "value": [END, "1"]} for job in jobs if asked])

    with answering(answer) as url:
        measured = prometheus.PrometheusSource(url, profile()).measure([CHAT, DEAD], START, END)

    for row in measured.values():
        assert ("metrics.exporters.gateway" in row.warning) == (jobs == ["contour/envoy"])
        assert ("contour/envoy" in row.warning) == (jobs == ["contour/envoy"])


def test_warnings_of_measurements_at_the_same_time_are_separate() -> None:
    with answering(warning_of("buckets")) as partial, answering(recorded()) as complete:
        sources = [prometheus.PrometheusSource(url, profile()) for url in (partial, complete) * 4]
        with ThreadPoolExecutor() as pool:
            rows = [*pool.map(lambda source: source.measure([CHAT], START, END)[CHAT], sources)]
    assert [bool(row.warning) for row in rows] == [True, False] * 4


def test_an_answer_that_is_too_long_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "MAX_SAMPLE_BYTES", 2**20)
    rows = [{"metric": {"pod": f"pod-{number}"}, "value": [END, "3"]} for number in range(30_000)]
    with answering(lambda _path, _query: fine(rows)) as url, pytest.raises(SourceError, match="exceeds 1 MiB"):
        prometheus.PrometheusSource(url, profile()).samples("up")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"data":null}', b'{"data":{"result":{}}}', b""])
def test_a_malformed_answer_is_no_value(body: bytes) -> None:
    with answering(lambda _path, _query: Answer(200, body)) as url:
        source = prometheus.PrometheusSource(url, profile())
        if b"result" in body:
            assert source.samples("up") == []
            return
        with pytest.raises(SourceError, match=r"unknown format|not return a valid Prometheus response"):
            source.samples("up")


def test_a_query_for_a_decision_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "SAMPLE_TIMEOUT", (1.0, 0.1))
    answering_ended = threading.Event()

    def answer(_path: str, _query: dict[str, str]) -> Answer:
        answering_ended.wait(60)
        return fine([])

    with answering(answer) as url:
        try:
            with pytest.raises(SourceError, match="timed out"):
                prometheus.PrometheusSource(url, profile()).samples("up")
        finally:
            answering_ended.set()
    assert prometheus.SAMPLE_PARAMETERS["timeout"] == f"{SAMPLE_SECONDS:g}s"
