"""A query of a project's member reads no series of another project, whatever its text.

Prometheus' own parser and engine judge the queries (tools/promql, ``make judge``), without it only the parser of the product.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ebbtide.cluster.controller.measure import Readings
from ebbtide.cluster.slo.tenant_queries import MAX_CHARACTERS, MAX_SIGNS, QueryError, scope_query
from ebbtide.core.autoscaler.floor import FloorMetric, parse_settings
from ebbtide.core.autoscaler.hpa import HpaPod
from ebbtide.core.base import keys, metrics
from ebbtide.core.base.engine_metrics import ENGINE_METRICS
from ebbtide.core.base.paths import get_at
from ebbtide.core.profile.models import Project, Projects
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

promql_parser = pytest.importorskip("promql_parser", reason="promql-parser is not installed")
ROOT = Path(__file__).parents[3]
PROMQL = ROOT / "tools" / "promql" / "bin" / "promql"
needs_upstream = pytest.mark.skipif(not PROMQL.exists(), reason="tools/promql is not built: run make judge")
LONG = os.environ.get("EBBTIDE_FUZZ") == "long"
OWN, OTHER = "team-a", "team-b"
NAMES = ("foo", "bar", "baz_total", "my.metric", "by", "a}b", "target_info")
#: Values of team-b have seven digits, and those of team-a at most four.
SERIES = [
    {
        "labels": {
            "__name__": name,
            "namespace": namespace,
            "pod": f"{namespace}-{pod}",
            "instance": "one",
            "job": "j",
        },
        "first": first + pod,
        "growth": pod + 1,
    }
    for namespace, first in ((OWN, 1), (OTHER, 7_000_000))
    for name in NAMES
    for pod in (0, 1)
] + [
    {
        "labels": {"__name__": "time_bucket", "namespace": namespace, "pod": f"{namespace}-0", "le": le},
        "first": first,
        "growth": growth * first,
    }
    for namespace, first in ((OWN, 1), (OTHER, 7_000_000))
    for le, growth in (("1", 1), ("5", 2), ("+Inf", 3))
]


class Upstream:
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
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    judge = Upstream()
    yield judge
    judge.end()


def scope(query: str) -> str | None:
    """Return the query that Prometheus is asked, or None for a rejected one."""
    try:
        return scope_query(query, OWN, "own-namespace")
    except QueryError:
        return None


def judge(upstream: Upstream, query: str) -> str:
    """Return the result of a query in the engine: rejected, failed or evaluated; fail if it reads another namespace."""
    scoped = scope(query)
    if scoped is None:
        return "rejected"
    response = upstream.ask(query, scoped)
    assert "open" not in response, (query, scoped, response)
    if "error" in response:
        return f"failed: {response['error']}"
    assert f"{OTHER}-" not in response["values"], (query, scoped, response)
    # The matcher limits what is read, and changes nothing else. absent() shows it as a label; of equal values in the random
    # order of count_values(), the engine takes any.
    if "absent" not in query and not ("count_values" in query and re.search("topk|bottomk|limitk", query)):
        assert response["values"] == response["own"], (query, scoped)
    return "evaluated"


#: Queries with the results in Prometheus' engine.
HOSTILE = {
    "foo": "evaluated",
    "sum(foo)": "evaluated",
    "{__name__=~'.+'}": "evaluated",
    '{__name__!=""}': "evaluated",
    '{"my.metric"}': "evaluated",
    '{"a}b"}': "evaluated",
    '{__name__="by"}': "evaluated",
    'foo{pod!=""} # {namespace="team-a"}': "evaluated",
    "foo # }\n or bar": "evaluated",
    '# {namespace="team-a"}\nfoo': "evaluated",
    'foo{pod=~"}.*|.*"}': "evaluated",
    'foo{pod!="x\\"} or bar{pod!=\\"y"}': "evaluated",
    "foo{pod!='x\\'} or bar{pod!=\\'y'}": "evaluated",
    "foo{pod!=`}`}": "evaluated",
    "foo{pod!=`\\`} or bar or foo{pod!=`\\`}": "rejected",
    "foo{pod!=`team-a\\x2d0`}": "rejected",
    'foo{pod!="\\x22} or bar{pod!=\\x22"}': "evaluated",
    'foo{pod!="\\u0022}\\U0001F600\\377"}': "evaluated",
    'foo{"na\\x6despace"=~"team-.*"}': "evaluated",
    'foo{namespace="team-a"}': "evaluated",
    'foo{namespace=~"team-.*"}': "evaluated",
    'foo{namespace!="team-a"}': "evaluated",
    'foo{namespace!~"team-a"}': "evaluated",
    'foo{namespace="team-b"}': "rejected",
    'foo{namespace=""}': "rejected",
    'foo{namespace="team-a",namespace="team-b"}': "rejected",
    'foo{namespace="team-a" or namespace=~".+"}': "rejected",
    'foo or bar{namespace=~".*"} unless baz_total': "evaluated",
    "foo + on (namespace) group_left () sum by (namespace) (bar)": "evaluated",
    'foo * ignoring (namespace, pod) group_left () topk(1, bar{namespace!="team-a"})': "evaluated",
    "sum by (namespace) (foo)": "evaluated",
    'count_values("namespace", foo)': "evaluated",
    'label_replace(foo, "namespace", "team-b", "", "")': "evaluated",
    'label_join(foo, "namespace", "", "pod")': "evaluated",
    "max_over_time(rate(foo[5m])[30m:1m] offset 5m)": "evaluated",
    "sum_over_time(sum(foo)[10m:])": "evaluated",
    "foo @ 0": "evaluated",
    "foo @ end() offset -1m": "evaluated",
    "topk(scalar(count(bar)), foo)": "evaluated",
    "quantile_over_time(scalar(max(foo)) / 1e9, bar[5m])": "evaluated",
    "histogram_quantile(0.9, sum by (le) (rate(time_bucket[5m])))": "evaluated",
    "absent(foo{pod='none'})": "evaluated",
    "vector(1) + time()": "evaluated",
    "scalar(foo)": "evaluated",
    "info(foo)": "rejected",
    'info(foo, {__name__="target_info"})': "rejected",
    "((info))(foo)": "rejected",
    "foo and bar or baz_total": "evaluated",
    "foo > bool 2 ^ -1 ^ 2": "evaluated",
    "-foo ^ 2 - (-2) ^ 2": "evaluated",
    "(-1) ^ 2 + foo % 3 * 2 / -4": "evaluated",
    "foo[1e30]": "rejected",
    "foo @ 1e400": "rejected",
    "foo{": "rejected",
    "foo}": "rejected",
    "": "rejected",
    "\x00": "rejected",
    "foo\ud800": "rejected",
    'foo{pod="\ud800"}': "rejected",
    "{}": "rejected",
    "foo; bar": "rejected",
    "sum(foo) by (pod) + ON(POD) SUM(bar) BY (pod)": "failed",
    "\N{FULLWIDTH LATIN SMALL LETTER F}oo": "rejected",
    "foo{\N{CYRILLIC SMALL LETTER A}='x'}": "rejected",
}


@needs_upstream
@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_query_reads_only_its_own_namespace(upstream: Upstream, query: str) -> None:
    assert judge(upstream, query).partition(":")[0] == HOSTILE[query]


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_every_selector_of_a_hostile_query_has_the_matcher(query: str) -> None:
    scoped = scope(query)
    assert (scoped is None) == (HOSTILE[query] == "rejected")
    if scoped is not None:
        for selector in selectors(promql_parser.parse(scoped)):
            assert f'namespace="{OWN}"' in str(selector.matchers)


def selectors(expression: Any) -> list[Any]:
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(expression, pre_visit=visit)
    return found


class Writer:
    """A writer of random queries."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a test

    def pick(self, *items: str) -> str:
        return self.random.choice(items)

    def vector(self, depth: int) -> str:
        if depth <= 0:
            return self.selector() + self.time()
        one, other = self.vector(depth - 1), self.vector(depth - self.random.randint(1, 3))
        labels = self.labels()
        return self.pick(
            f"({one})",
            f"-{one}",
            f"{self.pick('sum', 'avg', 'max', 'count', 'group', 'stddev')} {self.pick('by', 'without')} ({labels}) ({one})",
            f"{self.pick('sum', 'min')}({one}) {self.pick('by', 'without')} ({labels})",
            f"{self.pick('topk', 'bottomk', 'quantile', 'limitk')}({self.scalar()}, {one})",
            f'count_values("{self.pick("namespace", "v")}", {one})',
            f"{self.pick('abs', 'ceil', 'exp', 'sort', 'timestamp', 'sgn')}({one})",
            f"clamp({one}, {self.scalar()}, {self.scalar()})",
            f'label_replace({one}, "{self.pick("namespace", "x")}", "$1", "{self.pick("pod", "job")}", "(.*)")',
            f"{self.over_time()}({self.range(depth - 1)})",
            f"histogram_quantile({self.scalar()}, {one})",
            f"vector(scalar({one}))",
            f"{one} {self.pick('+', '-', '*', '/', '%', '^', 'atan2')} {self.scalar()}",
            f"{one} {self.pick('==', '!=', '>', '<=')} {self.pick('', 'bool')} {other}",
            f"{one} {self.pick('and', 'or', 'unless')} {self.pick('', 'on (pod)', 'ignoring (namespace)')} {other}",
            f"{one} {self.pick('+', '*', '/')} on ({labels}) {self.pick('', 'group_left (job)', 'group_right ()')} {other}",
        )

    def over_time(self) -> str:
        return self.pick("rate", "delta", "max_over_time", "sum_over_time", "last_over_time", "changes", "deriv")

    def labels(self) -> str:
        return self.pick("namespace", "pod", "namespace, pod", "", "le, job", '"pod"')

    def scalar(self) -> str:
        return self.pick("1", "-2.5", "0.9", "1e-3", "Inf", "time()", "scalar(foo)", "2 ^ 3 ^ 0.5", "(-1) ^ 2", "0x1f")

    def range(self, depth: int) -> str:
        span = self.pick("1m", "5m", "90s", "1h30m", "300")
        if depth > 0 and self.random.random() < 0.5:
            return f"({self.vector(depth)})[{span}:{self.pick('', '1m', '15s')}]{self.time()}"
        return f"{self.selector()}[{span}]{self.time()}"

    def time(self) -> str:
        return self.pick(
            "", "", "", " offset 5m", " offset -1m", " @ 1800", " @ start() offset 1m", " offset 90s @ end()"
        )

    def selector(self) -> str:
        name = self.pick("foo", "bar", "baz_total", "time_bucket", "")
        matchers = [self.matcher() for _ in range(self.random.randint(0 if name else 1, 3))]
        if not name:
            matchers.append(self.pick('__name__=~".+"', '"my.metric"', '__name__="a}b"', '__name__=~"foo|bar"'))
        self.random.shuffle(matchers)
        return f"{name}{{{', '.join(matchers)}}}" if matchers else name

    def matcher(self) -> str:
        label = self.pick("namespace", "pod", "job", "le", '"pod"', "nothing")
        value = self.pick("team-a", "team-b", "team-.*", ".+", "", "j", '}\\"', "#", "\\\\d", "é", "\\u0041", "{")
        operator = self.pick("=~", "!=", "!~", "=") if value not in {"{", '}\\"'} else self.pick("=", "!=")
        quote = self.pick('"', "'") if '"' not in value else '"'
        return f"{label}{operator}{quote}{value}{quote}"


#: Pieces that end or start a string, a selector, a comment, a call.
PIECES = (
    *tuple("\"'`\\{}()#\n,=$@:;\x00\t\xa0\u2028\ufeff"),
    "[5m]",
    " or ",
    "=~",
    "foo",
    "namespace",
    'namespace="team-b"',
    " by ",
    " offset ",
    "info(",
    "# x\n",
)


@needs_upstream
def test_random_queries_read_only_their_own_namespace(upstream: Upstream) -> None:
    counts = {"rejected": 0, "failed": 0, "evaluated": 0}
    for seed in range(20_000 if LONG else 400):
        writer = Writer(seed)
        result = judge(upstream, writer.vector(writer.random.randint(0, 4)))
        counts[result.partition(":")[0]] += 1
    # Most are valid; some match several series where one is expected, and some name the other namespace.
    assert counts["evaluated"] > sum(counts.values()) / 3, counts


@needs_upstream
def test_mutated_queries_read_only_their_own_namespace(upstream: Upstream) -> None:
    texts = sorted(HOSTILE)
    for seed in range(50_000 if LONG else 1_000):
        source = random.Random(seed)  # noqa: S311 - a test
        text = source.choice(texts)
        for _ in range(source.randint(1, 4)):
            at, until = source.randint(0, len(text)), source.randint(0, 3)
            text = text[:at] + source.choice((*PIECES, source.choice(texts))) + text[at + until :]
        judge(upstream, text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "(" * 100_000 + "1" + ")" * 100_000,
        "-" * 100_000 + "foo",
        "abs(" * 1_000 + "foo" + ")" * 1_000,
        " + ".join(["foo"] * 2_000),
        " or ".join(["a"] * 600),
        " AND ".join(["a"] * 600),
        "1^" * 2_000 + "1",
        "a==" * 1_000 + "1",
        "a" * 1_000_000,
        '"' + "a" * 1_000_000,
        "{" * 4_000,
        "a[" * 2_000,
    ],
    ids=lambda text: f"{text[:6]}... {len(text)}",
)
def test_a_long_or_deep_query_is_rejected(text: str) -> None:
    assert scope(text) is None


def test_the_deepest_query_fits_a_small_stack() -> None:
    """The parser recurses, and the stack of a thread is 8 MB by default."""
    texts = [
        "(" * (MAX_SIGNS - 1) + "foo" + ")" * (MAX_SIGNS - 1),
        "-" * (MAX_SIGNS - 1) + "foo",
        "foo" + " or foo" * (MAX_SIGNS - 1),
        "foo" + "+ foo" * (MAX_SIGNS - 1),
        "abs(" * (MAX_SIGNS - 1) + "foo" + ")" * (MAX_SIGNS - 1),
        "1" + "^1" * (MAX_SIGNS - 1),
    ]
    assert all(len(text) <= MAX_CHARACTERS for text in texts)
    done: list[str | None] = []
    before = threading.stack_size(2 << 20)
    try:
        thread = threading.Thread(target=lambda: done.extend(map(scope, texts)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert len(done) == len(texts)


def test_access() -> None:
    with pytest.raises(QueryError, match=re.escape("the project of namespace team-a must not use queries")):
        scope_query("foo", OWN, "none")
    assert scope_query("foo{", OWN, "any") == "foo{"
    assert scope_query("foo", OWN, "own-namespace") == '{__name__="foo",namespace="team-a"}'


class Recorder:
    """A Prometheus that records the queries and has one value for each pod."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def samples(self, query: str) -> list[tuple[Mapping[str, str], float]]:
        self.asked.append(query)
        return [({"namespace": place, "pod": f"{place}-0"}, 7e6 if place == OTHER else 1.0) for place in (OWN, OTHER)]


def measure(projects: Projects, *metrics: tuple[str, FloorMetric]) -> tuple[list[str], list[tuple[Any, list[str]]]]:
    """Return the queries of one step, and the values and reasons of each metric of a namespace."""
    source = Recorder()
    readings = Readings(source, Simulated(clock=ManualClock()), projects)
    return source.asked, [
        readings.measure([metric], place, "chat-00001", {f"{place}-0": HpaPod()}, 0.0) for place, metric in metrics
    ]


def pod_metric(name: str, query: str) -> FloorMetric:
    return FloorMetric(name=name, scope="pod", target=1, query=query)


#: A metric of each row, of each version of Knative and each engine, and two custom ones.
GENERATED = sorted(
    {
        (row.name, metrics.make_pod_query(row, knative_version=version))
        for row in metrics.ROWS.values()
        if row.autoscaler == "hpa" and row.source != "metrics-server" and row is not metrics.CUSTOM
        for version in ("1.18", "1.19", "1.21", "1.22")
    }
    | {
        (row.name, metrics.make_pod_query(row, engine=item.engine))
        for row in metrics.ROWS.values()
        for item in ENGINE_METRICS
        if row.engine_field and metrics.make_pod_query(row, engine=item.engine)
    }
    | {(name, metrics.make_pod_query(metrics.CUSTOM, name)) for name in ("queue_length", "x_per_second", "x_percent")}
)


@pytest.mark.parametrize(("name", "query"), GENERATED)
def test_one_query_of_a_metric_serves_all_workloads(name: str, query: str) -> None:
    metric = pod_metric(name, query)
    asked, values = measure(Projects(queries="none"), (OWN, metric), (OTHER, metric))

    assert asked == [query]
    assert [[*measured] for (measured,), _ in values] == [[f"{OWN}-0"], [f"{OTHER}-0"]]


@pytest.mark.parametrize(
    ("name", "query"),
    [
        # A metric of each pod whose value is that of another namespace.
        ("latency", 'label_replace(foo{namespace="team-b"}, "namespace", "team-a", "", "")'),
        ("foo", 'avg by (namespace, pod) (foo{pod!=""}) or label_replace(foo, "namespace", "team-a", "", "")'),
        # The name is text of the annotation too.
        ("foo{}) or (bar", 'avg by (namespace, pod) (foo{}) or (bar{pod!=""})'),
        ("{selector}", 'avg by (namespace, pod) ({selector}{pod!=""})'),
        ("foo\n", 'avg by (namespace, pod) (foo\n{pod!=""})'),
        ("bar", 'avg by (namespace, pod) (foo{pod!=""})'),
    ],
)
def test_another_query_of_each_pod_is_limited_to_the_namespace(name: str, query: str) -> None:
    asked, _ = measure(Projects(), (OWN, pod_metric(name, query)))

    for text in asked:
        assert text != query
        for selector in selectors(promql_parser.parse(text)):
            assert f'namespace="{OWN}"' in str(selector.matchers)
    asked, ((_, (reason,)),) = measure(Projects(queries="none"), (OWN, pod_metric(name, query)))
    assert asked == []
    assert reason == f"{name}: the project of namespace {OWN} must not use queries"


def test_the_namespace_decides_about_the_access_of_a_project() -> None:
    projects = Projects(
        namespace="team-{project}",
        queries="none",
        known={"a": Project(queries="own-namespace"), "b": Project(queries="any")},
    )
    query = FloorMetric(name="query", scope="total", target=1, query='sum(foo{revision="{revision}"})')
    asked, values = measure(projects, (OWN, query), (OTHER, query), ("team-c", query), ("shop", query))

    assert asked == [
        'sum ({__name__="foo",revision="chat-00001",namespace="team-a"})',
        'sum(foo{revision="chat-00001"})',
    ]
    assert [reasons for _, reasons in values][2:] == [
        [f"query: the project of namespace {place} must not use queries"] for place in ("team-c", "shop")
    ]


def test_every_metric_of_the_golden_cases_has_a_shared_query() -> None:
    """The controller recognizes the queries of all specs, also if a profile has other names for metrics."""
    count = 0
    for file in sorted((ROOT / "tests" / "golden").glob("*/expected.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            text = get_at(document, "metadata", "annotations", keys.FLOOR)
            for metric in parse_settings(text).metrics if text else ():
                count += metric.scope == "pod"
                assert (metric.scope == "pod") == metrics.is_pod_query(metric.name, metric.query), (file, metric)
    assert count > 5


def test_check_reports_forbidden_and_invalid_queries(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    queries = (
        'sum(foo{namespace="team-b"})',
        'sum(foo{revision="{revision}"})',
        "sum(foo) by by (pod)",
        "sum(info(foo))",
    )
    items = "".join(f"      - query: '{query}'\n        threshold: 1\n" for query in queries)
    spec.write_text(
        "apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nmetadata:\n  name: chat\nspec:\n  project: trusted\n"
        f"  image: ghcr.io/acme/chat:1\n  autoscaling:\n    minReplicas: 0\n    maxReplicas: 4\n    metrics:\n{items}"
    )
    profile = ROOT / "tests" / "golden" / "controller-query-forbidden" / "profile.yaml"
    ran = subprocess.run(
        [sys.executable, "-m", "ebbtide", "check", "--profile", profile, "-o", "json", spec],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 1
    rows = [(row["code"], row["field"]) for row in json.loads(ran.stdout) if row["severity"] == "error"]
    assert rows == [
        ("PRJ008", "spec.autoscaling.metrics[0].query"),
        ("AUT094", "spec.autoscaling.metrics[2].query"),
        ("PRJ008", "spec.autoscaling.metrics[3].query"),
    ]
