"""A fake Prometheus on loopback that returns recorded responses, or anything else that a server may send."""

from __future__ import annotations

import json
import math
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from ebbtide.cluster.slo import queries
from ebbtide.cluster.slo.source import REVISIONS, Ref
from ebbtide.core.documents import profiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.core.profile.models import Profile

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "prometheus.json").read_text())
CHAT, DEAD = Ref("e2e-slo", "chat"), Ref("e2e-slo", "dead")
START, END = float(RECORDED["end"] - RECORDED["window"]), float(RECORDED["end"])
STEP = 30
#: Names of the recorded responses, by the figure, where they differ.
RECORDED_NAMES = {"ended": "requests"}


class Answer(NamedTuple):
    status: int
    body: bytes
    kind: str = "application/json"


def profile(**metrics: Any) -> Profile:
    metrics_spec = {"gatewayLatency": "envoy_cluster_upstream_rq_time", **metrics}
    document = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Profile",
        "metadata": {"name": "recorded"},
        "spec": {
            "knative": {"version": "1.21"},
            "metrics": {name: value for name, value in metrics_spec.items() if value},
        },
    }
    validated, problems = profiles.validate_profile_data(document)
    assert validated is not None, problems
    return validated


def fine(result: list[Any], kind: str = "vector") -> Answer:
    payload = {"status": "success", "data": {"resultType": kind, "result": result}}
    return Answer(200, json.dumps(payload).encode())


def figures(refs: list[Ref], window: int) -> dict[str, str]:
    """Return the queries of the recorded responses, by name."""
    timer, pods = queries.choose_histogram(profile()), queries.pod_gauges(profile())[0]
    return {
        "buckets": queries.bucket_query(timer, refs, window),
        **{
            RECORDED_NAMES.get(name, name): query
            for name, query in queries.request_figure_queries(timer, refs, window).items()
        },
        "since": queries.first_data_query(timer, window),
        **{name: queries.pod_figure_query(pods, name, refs, window) for name in queries.OF_PODS},
    }


def recorded(
    changes: Callable[[str, list[Any]], list[Any]] = lambda _, result: result,
) -> Callable[[str, dict[str, str]], Answer]:
    """Return a handler for the recorded queries; ``changes`` may change each result. Other queries have empty results."""
    answers = {}
    for refs in ([CHAT, DEAD], [CHAT], [DEAD]):
        for name, query in figures(refs, RECORDED["window"]).items():
            answers[query] = (name, RECORDED["instant"][name])
    ranges = queries.chart_queries(queries.choose_histogram(profile()), profile(), CHAT, STEP)
    answers |= {query: (name, RECORDED["range"][name]) for name, query in ranges.items()}
    label, revision_queries = queries.revision_queries(profile(), CHAT)
    answers |= {
        query: (name, [{**row, "metric": {label: f"{CHAT.name}-00001"}} for row in RECORDED["range"][name]])
        for name, query in revision_queries.items()
    }

    of_many: dict[str, tuple[str, list[Any]]] = {}
    for refs in ([Ref("no-such-namespace", "nobody"), CHAT], [CHAT]):
        shared = queries.shared_queries(queries.choose_histogram(profile()), profile(), refs, STEP)
        for name, alternatives in shared.items():
            for query, owner in alternatives:
                # A recorded series has no labels; these identify its workload.
                labels = {**dict(zip(owner, (CHAT.namespace, CHAT.name), strict=False)), "other": "label"}
                if len(owner) == 1:
                    labels[owner[0]] = f"{CHAT.namespace}/{CHAT.name}-00001"
                labels |= {label: f"{CHAT.name}-00001"} if name == REVISIONS else {}
                rows = RECORDED["range"]["stable" if name == REVISIONS else name]
                of_many[query] = (name, [{**row, "metric": labels} for row in rows])

    def answer(path: str, query: dict[str, str]) -> Answer:
        if query["query"] == queries.NOW:
            return fine(changes("now", [{"metric": {}, "value": [END, str(END)]}]))
        is_range = path.endswith("_range")
        name, result = (of_many if is_range and query["query"] in of_many else answers).get(query["query"], ("", []))
        return fine(changes(name, result), "matrix" if is_range else "vector")

    return answer


@contextmanager
def answering(answer: Callable[[str, dict[str, str]], Answer]) -> Iterator[str]:
    """Serve a handler on loopback, and yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            response = answer(parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()})
            self.send_response(response.status)
            self.send_header("Content-Type", response.kind)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def numbers(value: Any) -> list[float]:
    """Return every number in dataclasses, tuples and mappings."""
    if isinstance(value, bool | str) or value is None:
        return []
    if isinstance(value, int | float):
        return [float(value)]
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    if isinstance(value, list | tuple):
        return [number for item in value for number in numbers(item)]
    return [number for name in value.__dataclass_fields__ for number in numbers(getattr(value, name))]


def any_nan(value: Any) -> bool:
    return any(math.isnan(number) for number in numbers(value))
