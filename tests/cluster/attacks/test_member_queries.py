"""A query of a project's member reads no series of another project, whatever its text.

prom-label-proxy itself runs in front of a fake Prometheus that records what it gets (tools/prom-label-proxy, ``make judge``), and
Prometheus' own parser and engine judge the recorded queries (tools/promql).
"""

from __future__ import annotations

import json
import random
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from answering import Answer, answering, fine, profile
from ebbtide.cluster.controller.measure import MetricQueries, Readings
from ebbtide.cluster.slo.source import SourceError
from ebbtide.core.autoscaler.floor import FloorMetric
from ebbtide.core.base import metrics
from ebbtide.core.profile.models import ProfileSpec, Project, Projects
from ebbtide.core.profile.projects import MAX_QUERY_CHARACTERS, find_query_fault
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ebbtide.cluster.slo.label_proxy import ScopedSource

prometheus = pytest.importorskip("ebbtide.cluster.slo.prometheus", reason="prometheus-api-client is not installed")
label_proxy = pytest.importorskip("ebbtide.cluster.slo.label_proxy")
ROOT = Path(__file__).parents[3]
PROXY = ROOT / "tools" / "prom-label-proxy" / "bin" / "prom-label-proxy"
PROMQL = ROOT / "tools" / "promql" / "bin" / "promql"
needs_proxy = pytest.mark.skipif(not PROXY.exists(), reason="tools/prom-label-proxy is not built: run make judge")
needs_engine = pytest.mark.skipif(not PROMQL.exists(), reason="tools/promql is not built: run make judge")
FLAGS = ("-label=namespace", "-query-param=namespace", "-error-on-replace")
OWN, OTHER = "team-a", "team-b"
SERIES = [
    {"labels": {"__name__": name, "namespace": namespace, "pod": f"{namespace}-{pod}"}, "first": first, "growth": pod}
    for namespace, first in ((OWN, 1), (OTHER, 7_000_000))
    for name in ("foo", "bar", "my.metric", "by", "a}b", "target_info")
    for pod in (0, 1)
]


class Recorded(NamedTuple):
    """The requests that the fake Prometheus got, and a source that asks it: directly, or through the proxy."""

    requests: list[dict[str, str]]
    source: ScopedSource

    def ask(self, query: str, namespace: str = OWN) -> str:
        """Return the query that Prometheus gets, or the reason why it gets none."""
        self.requests.clear()
        try:
            self.source.samples(query, namespace)
        except SourceError as error:
            assert not self.requests, query
            return f"rejected: {error}"
        (request,) = self.requests
        assert request.keys() == {"query", "timeout", "lookback_delta"}, request
        return request["query"]


@contextmanager
def proxied(upstream: str) -> Iterator[str]:
    """Run prom-label-proxy and yield its address."""
    words = [str(PROXY), *FLAGS, f"-upstream={upstream}", "-insecure-listen-address=127.0.0.1:0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            yield f"http://{process.stderr.readline().split()[-1]}"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    requests: list[dict[str, str]] = []

    def answer(path: str, query: dict[str, str]) -> Answer:
        assert path == "/api/v1/query"
        requests.append(query)
        return fine([])

    with answering(answer) as direct, proxied(direct) as proxy:
        sources = [prometheus.PrometheusSource(url, profile()) for url in (direct, proxy)]
        yield Recorded(requests, label_proxy.ScopedSource(*sources))


#: Queries, and what Prometheus gets for them, or the start of the reason.
QUERIES = {
    "foo": 'foo{namespace="team-a"}',
    '{__name__=~".+"}': '{__name__=~".+",namespace="team-a"}',
    '{"my.metric"}': '{__name__="my.metric",namespace="team-a"}',
    '{"a}b"}': '{__name__="a}b",namespace="team-a"}',
    "foo or bar": 'foo{namespace="team-a"} or bar{namespace="team-a"}',
    "foo + on (pod) group_left () bar": 'foo{namespace="team-a"} + on (pod) group_left () bar{namespace="team-a"}',
    "foo / -bar": 'foo{namespace="team-a"} / -bar{namespace="team-a"}',
    "max_over_time(rate(foo[5m])[30m:1m])": 'max_over_time(rate(foo{namespace="team-a"}[5m])[30m:1m])',
    "foo @ 0 offset 5m": 'foo{namespace="team-a"} @ 0.000 offset 5m',
    'label_replace(foo, "namespace", "team-a", "", "")': (
        'label_replace(foo{namespace="team-a"}, "namespace", "team-a", "", "")'
    ),
    'count_values("namespace", foo)': 'count_values("namespace", foo{namespace="team-a"})',
    "vector(scalar(foo))": 'vector(scalar(foo{namespace="team-a"}))',
    "topk(2, foo)": 'topk(2, foo{namespace="team-a"})',
    "histogram_quantile(scalar(foo), bar)": (
        'histogram_quantile(scalar(foo{namespace="team-a"}), bar{namespace="team-a"})'
    ),
    'sum by ("a) (b") (foo)': 'sum by ("a) (b") (foo{namespace="team-a"})',
    # The own matcher of a query.
    'foo{namespace="team-a"}': 'foo{namespace="team-a"}',
    'foo{namespace=~"team-.*"}': 'foo{namespace="team-a"}',
    'foo{"na\\x6despace"!="x"}': 'foo{namespace="team-a"}',
    'foo{namespace="team-b"}': "rejected: Prometheus rejected the query: conflicting label matcher",
    'foo{namespace!="team-a"}': "rejected: Prometheus rejected the query: conflicting label matcher",
    'sum(foo) + sum({namespace=""})': "rejected: Prometheus rejected the query",
    # Text that another place of the request would read differently.
    "foo&namespace=team-b": "rejected: Prometheus rejected the query: failed to parse query string",
    "foo\n&query=bar": "rejected: Prometheus rejected the query: failed to parse query string",
    'foo{pod="&namespace=team-b;%26namespace=team-b"}': (
        'foo{namespace="team-a",pod="&namespace=team-b;%26namespace=team-b"}'
    ),
    "foo # }\n or bar": 'foo{namespace="team-a"} or bar{namespace="team-a"}',
    'foo{pod=~"}.*|.*"}': 'foo{namespace="team-a",pod=~"}.*|.*"}',
    "foo{pod!=`\\`} or bar or foo{pod!=`\\`}": (
        r'foo{namespace="team-a",pod!="\\"} or bar{namespace="team-a"} or foo{namespace="team-a",pod!="\\"}'
    ),
    # Functions that read series without a selector.
    "info(foo)": "rejected: Prometheus rejected the query: failed to parse query string",
    # Syntax errors.
    "foo{": "rejected: Prometheus rejected the query: failed to parse query string: 1:5: parse error: unexpected end",
    "foo; bar": "rejected: Prometheus rejected the query: failed to parse query string",
    "": "rejected: Prometheus at 127.0.0.1",
    # The proxy never gets these.
    "foo\0": "rejected: the query has control characters",
    "foo\x1b[2J": "rejected: the query has control characters",
    'foo{pod="\ud800"}': "rejected: the query has control characters",
    "topk(scalar(bar), foo)": "rejected: prom-label-proxy does not limit the series of scalar() in topk",
    "a" * (MAX_QUERY_CHARACTERS + 1): "rejected: the query is too long",
}


@needs_proxy
@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_the_proxy_limits_each_selector(recorded: Recorded, query: str) -> None:
    outcome, expected = recorded.ask(query), QUERIES[query]
    assert outcome.startswith(expected) if expected.startswith("rejected") else outcome == expected


@needs_proxy
def test_queries_of_ebbtide_go_to_prometheus_directly(recorded: Recorded) -> None:
    assert recorded.ask("sum(foo)", "") == "sum(foo)"


@needs_proxy
def test_a_namespace_in_the_query_s_text_is_not_a_parameter(recorded: Recorded) -> None:
    """The proxy joins several parameters by OR, so the query must not be able to add one."""
    for text in (
        "&namespace=team-b",
        ";namespace=team-b",
        "\r\nnamespace: team-b",
        "#&namespace=team-b",
        "%26namespace=team-b",
    ):
        outcome = recorded.ask(f"foo {text}")
        assert outcome.startswith("rejected") or outcome == 'foo{namespace="team-a"}', text


@needs_proxy
def test_a_request_without_a_namespace_is_refused() -> None:
    with answering(lambda _path, _query: fine([])) as direct, proxied(direct) as proxy:
        source = prometheus.PrometheusSource(proxy, profile())
        with pytest.raises(SourceError, match="query parameter must be provided"):
            source.samples("foo")


@needs_proxy
@pytest.mark.parametrize("name", ["topk", "BOTTOMK", "quantile"])
def test_the_proxy_does_not_limit_the_parameter_of_an_aggregation(name: str) -> None:
    """If this fails, upstream limits it: ``find_query_fault`` then rejects too much."""
    query = f'{name} by (pod) (scalar(bar{{namespace="team-b"}}), foo)'
    assert find_query_fault(query)
    got: list[str] = []

    def answer(_path: str, asked: dict[str, str]) -> Answer:
        got.append(asked["query"])
        return fine([])

    with answering(answer) as direct, proxied(direct) as proxy:
        prometheus.PrometheusSource(proxy, profile()).samples(query, namespace=OWN)
    assert 'bar{namespace="team-b"}' in got[0]


@pytest.mark.parametrize(
    "query",
    [
        "topk(scalar(a), b)",
        "sum(QUANTILE without (x) (1 - scalar (a), b))",
        "limitk\n(scalar\n(a), b)",
        "limit_ratio(-scalar(a),b)",
        "bottomk(time() + (((scalar(a)))), b)",
        "scalar(a)*topk(1,b)",
    ],
)
def test_an_aggregation_with_a_variable_parameter_is_rejected(query: str) -> None:
    assert find_query_fault(query)


@pytest.mark.parametrize(
    "query", ["topk(1, b)", "quantile_over_time(scalar(a), b[5m])", "scalar(topk_of_last_hour)", 'a{x="é"}\n\t+ b']
)
def test_other_queries_are_the_proxy_s_to_judge(query: str) -> None:
    assert find_query_fault(query) == ""


def test_without_a_proxy_a_query_of_a_member_has_no_value() -> None:
    with answering(lambda _path, _query: fine([])) as url:
        source = label_proxy.ScopedSource(prometheus.PrometheusSource(url, profile()), None)
        assert source.samples("foo") == []
        with pytest.raises(SourceError, match=r"set metrics\.prometheusProxy"):
            source.samples("foo", OWN)


class Engine:
    """Prometheus' parser and engine."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([str(PROMQL)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, query: str, scoped: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"query": query, "scoped": scoped, "namespace": OWN, "series": SERIES}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    process = Engine()
    yield process
    process.end()


#: Pieces that end or start a string, a selector, a comment, a call.
PIECES = (
    *tuple("\"'`\\{}()#\n,=$@:;\x00\t\xa0\u2028\ufeff"),
    *("[5m]", " or ", "=~", "foo", "namespace", 'namespace="team-b"', " by ", " offset ", "info(", "# x\n"),
    *("topk(", "quantile(", "scalar(", "scalar(foo), "),
)


@needs_proxy
@needs_engine
def test_mutated_queries_read_only_their_own_namespace(recorded: Recorded, engine: Engine) -> None:
    evaluated = 0
    texts = [text for text in QUERIES if len(text) <= MAX_QUERY_CHARACTERS]
    for seed in range(1_000):
        source = random.Random(seed)  # noqa: S311 - a test
        query = source.choice(texts)
        for _ in range(source.randint(0, 4)):
            at, until = source.randint(0, len(query)), source.randint(0, 3)
            query = query[:at] + source.choice((*PIECES, source.choice(texts))) + query[at + until :]
        scoped = recorded.ask(query)
        if scoped.startswith("rejected"):
            continue
        response = engine.ask(query, scoped)
        assert "open" not in response, (query, scoped, response)
        if "error" not in response:
            evaluated += 1
            assert f"{OTHER}-" not in response["values"], (query, scoped, response)
    assert evaluated > 100


class Recorder:
    """A Prometheus that records the queries with their namespaces."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def samples(self, query: str, namespace: str = "") -> list[tuple[Mapping[str, str], float]]:
        self.asked.append((query, namespace))
        return []


def measure(projects: Projects, metric: FloorMetric, *namespaces: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the queries of one step for a metric of several namespaces, and the reason of each reading."""
    source = Recorder()
    readings = Readings(source, Simulated(clock=ManualClock()), MetricQueries(ProfileSpec(projects=projects)))
    rows = [readings.measure([metric], place, "chat-00001", {}, 0.0)[0] for place in namespaces]
    return source.asked, [row.reason for row in rows]


@pytest.mark.parametrize("name", ["latency", "gpu-utilization", "queue_length"])
def test_ebbtide_makes_the_query_of_a_metric_by_name(name: str) -> None:
    """Text of the annotation is not sent for it, so that one query serves all workloads."""
    metric = FloorMetric(name=name, scope="pod", target=1, query="secret", pods="secret")
    ((query, scope),), _ = measure(Projects(queries="none"), metric, OWN, OTHER)

    assert "secret" not in query
    assert scope == ""


def test_the_namespace_decides_about_the_access_of_a_project() -> None:
    projects = Projects(namespace="team-{project}", known={"a": Project(queries="proxy"), "b": Project(queries="any")})
    query = FloorMetric(name="query", scope="total", target=1, query='foo{x="{revision}"}', pods="bar")
    asked, reasons = measure(projects, query, OWN, OTHER, "team-c", "shop")

    assert [scope for _, scope in asked] == [OWN, ""]
    assert all('foo{x="chat-00001"}' in text and "bar" in text for text, _ in asked)
    assert reasons[2:] == [f"the project of namespace {place} must not use queries" for place in ("team-c", "shop")]


@needs_proxy
def test_the_proxy_limits_the_series_of_the_pods(recorded: Recorded) -> None:
    """A member writes them too, and the controller adds them to the query."""
    query = metrics.make_shared_evidence_query("sum(foo) # )", "bar) or (baz")
    scoped = recorded.ask(query)

    for name in ("foo", "bar", "baz"):
        assert f'{name}{{namespace="{OWN}"}}' in scoped
