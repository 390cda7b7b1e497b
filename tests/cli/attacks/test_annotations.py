"""Law: whatever one project writes into an annotation, every list, page, command and step answers, for all projects.

Each annotation is set to hostile values on every object of four workloads: a KPA's, one of Ebbtide's controller, one of
KServe with Knative, and one of KServe Standard. The rows of two workloads of another project stay as they are.
``EBBTIDE_FUZZ=long`` tests all combinations instead of a sample.
"""

from __future__ import annotations

import json
import os
import random
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cli.base import calls, connection
from ebbtide.cluster.client.protocol import KINDS, ClusterError
from ebbtide.cluster.controller.loop import Controller
from ebbtide.cluster.controller.process import KINDS as CONTROLLED
from ebbtide.cluster.watch.cache import Cache
from ebbtide.cluster.write.apply import Workload
from ebbtide.core import manifests
from ebbtide.core.base import keys
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.profile.models import ProfileSpec
from ebbtide.core.translation.objects import apply_merge_patch
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated
from live_cluster import PROFILE, SCALING, spec
from website import FixedCluster, FixedMetrics, Site, backend_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ebbtide.cluster.client.protocol import Kind
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.objects import Object

LONG = os.environ.get("EBBTIDE_FUZZ") == "long"
#: Combinations that are drawn in addition to the known ones.
SAMPLE = 24
#: Tests that share all combinations, for several processes.
PARTS = 40 if LONG else 1

# The values.

DEEP = 100_000
#: Texts for every annotation.
TEXTS = (
    *(
        "",
        " ",
        "\n",
        "\x00",
        "a\x00b",
        "\x1b[2J",
        "\u202e",
        "\ud800",
        "\ufeff{}",
        "<script>",
        "{{7*7}}",
        "%s%n",
        "'",
        '"',
    ),
    *("null", "true", "TRUE", "false", "NaN", "nan", "Infinity", "-Infinity", "inf"),
    *("0", "-0", "1", "+1", "-1", "1.5", "1.0", "1e3", "1e400", "-1e400", "1_000", "0x10", "1,5", "0" * 100),
    *("\N{SUPERSCRIPT TWO}", "\N{FULLWIDTH DIGIT ONE}", "\N{ARABIC-INDIC DIGIT THREE}"),
    *(str(10**400), f"-{10**400}", "9" * 5000, "2147483648", "0.0000001"),
    *("1h", "-5s", "99999999999999999999h", f"{10**400}s", "1h1h", "1.5.5s", "s", ".s", "0s", "5"),
    *("[]", "{}", "[null]", "{", "[", '""', '"x"', '"\\ud800"', '{"a":"\\ud800"}', '{"a":NaN}', '{"a":1e400}'),
    *("[" * DEEP, '{"a":' * DEEP, "[" * 190 + "]" * 190, '{"a":' + "[" * 900 + "]" * 900 + "}"),
    *(f"[{'0,' * 30_000}0]", json.dumps({str(number): number for number in range(5_000)}), "x" * 1_000_000),
    *("../../etc/passwd", "http://169.254.169.254/", "\N{LATIN SMALL LETTER E WITH ACUTE}" * 1000),
    *(keys.CLASS_KPA, keys.CLASS_HPA, "concurrency", "rps", "cpu", "external", "Standard", "active"),
)
#: Values of fields in a record. A text that begins with ! is written as it is.
INNER: tuple[Any, ...] = (
    *(None, True, "", "abc", "\x00", '!"\\ud800"', -1, 0, 1.5, "!NaN", "!Infinity", "!1e400", 10**400, 2**31),
    *([], {}, [[]], [None], [{}], {"a": None}, "x" * 100_000, "!" + "[" * DEEP),
)
DELETED = object()


def dump(value: Any) -> str:
    """Return a value as JSON, with the texts after ! as they are."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{dump(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    return value[1:] if isinstance(value, str) and value.startswith("!") else json.dumps(value)


def replace_each(value: Any) -> Iterator[Any]:
    """Yield a record with each of its fields deleted, and replaced with each hostile value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in [*items]:
        for other in (DELETED, *INNER, *replace_each(item)):
            changed = deepcopy(value)
            if other is DELETED:
                del changed[key]
            else:
                changed[key] = other
            yield changed


SCALED = {"minReplicas": 2, "maxReplicas": 3, "metricThreshold": 5, "base": {"minReplicas": 1, "maxReplicas": None}}
RULES = {
    "stabilizationWindowSeconds": 60,
    "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}],
    "tolerance": 0.1,
}
LATENCY_METRIC = {"name": "latency", "scope": "pod", "target": 70, "query": "x"}
FLOOR = {
    "minReplicas": 0,
    "maxReplicas": 4,
    "metrics": [
        LATENCY_METRIC,
        {"name": "cpu", "scope": "resource", "target": 50},
    ],
    "schedule": [{"start": "0 8 * * *", "end": "0 18 * * *", "timeZone": "Europe/Berlin", "minReplicas": 2}],
    "behavior": {"scaleUp": RULES},
    "calmSeconds": 60,
    "fallbackSeconds": 900,
}
DECISION = {
    "floor": 3,
    "cause": "metric",
    "at": "2027-01-15T08:00:00Z",
    "metrics": [{"name": "latency", "replicas": 3, "value": 80.5, "target": 70}],
}
MARK = {"replicas": 2, "saved": {keys.MIN_SCALE: "1", keys.MAX_SCALE: None}, "failed": "x"}
STORED = {
    "image": "ghcr.io/acme/chat:1",
    "project": "shop",
    "servingPort": {"container": 8080},
    "autoscaling": {**SCALING, "behavior": {"scaleUp": RULES}},
    "slo": {"meanLatencyMilliseconds": 250, "uptimePercent": 99.5},
    "compute": {"cpuCoreRequest": 0.5},
}
RECORDS: Mapping[str, Any] = {
    keys.SPEC: STORED,
    keys.SCALE: SCALED,
    keys.FLOOR: FLOOR,
    keys.DECISION: DECISION,
    keys.ROLLOUT: MARK,
}
OTHERS = (
    *(keys.ENDPOINTS, keys.PROJECT, keys.CATEGORY, keys.CLASS, keys.METRIC, keys.TARGET, keys.TARGET_UTILIZATION),
    *(keys.MIN_SCALE, keys.MAX_SCALE, keys.INITIAL_SCALE, keys.ACTIVATION_SCALE, keys.SCALE_DOWN_DELAY, keys.RETENTION),
    *(keys.WINDOW, keys.PANIC_WINDOW, keys.PANIC_THRESHOLD, keys.BURST_CAPACITY, keys.AGGREGATION),
    *(keys.ROLLOUT_DURATION, keys.PROGRESS_DEADLINE, keys.DEPLOYMENT_MODE, keys.AUTOSCALER_CLASS, keys.STOP),
    *(keys.KAI_PREEMPTION_DELAY, keys.KAI_FRACTION, keys.KAI_MEMORY, keys.KAI_DEVICES, keys.KAI_CONTAINER),
    *(f"{keys.NV_CONTAINER}user-container.gpu-memory.request", keys.SCRAPE, keys.SCRAPE_PORT),
    *(f"{keys.KNATIVE_PREFIX}creator", *keys.OLDER_SPELLINGS),
)
#: Stored specs that are valid, and whose numbers a calculation does not expect.
EXTREME = [
    {**STORED, "serving": "kserve-standard", "autoscaling": {**SCALING, "metric": metric, "metricThreshold": threshold}}
    for metric in ("vllm:kv_cache_usage_perc", "concurrency", "latency")
    for threshold in (1e308, 1e-308, 0.1)
]


def list_combinations() -> list[tuple[str, str]]:
    """Return all combinations of an annotation and a hostile value, which are large."""
    return [
        *((keys.SPEC, json.dumps(stored)) for stored in EXTREME),
        *((key, text) for key in (*RECORDS, *OTHERS) for text in TEXTS),
        *((key, dump(value)) for key, record in RECORDS.items() for value in replace_each(record)),
    ]


#: Known attacks; most of them ended a list, a page or the controller before annotations were checked.
KNOWN = [
    (keys.SCALE, '{"minReplicas":"abc"}'),
    (keys.SCALE, '{"minReplicas":1,"base":"x"}'),
    (keys.SCALE, '{"minReplicas":1e400}'),
    (keys.SCALE, "[" * 50_000),
    (keys.SPEC, "[" * 50_000),
    (keys.SPEC, '{"image":NaN}'),
    (keys.SPEC, json.dumps(EXTREME[0])),
    (keys.FLOOR, dump({**FLOOR, "maxReplicas": "!1e400"})),
    (keys.FLOOR, dump({**FLOOR, "behavior": {"scaleUp": {"tolerance": "x"}}})),
    (keys.FLOOR, dump({**FLOOR, "metrics": [{**LATENCY_METRIC, "target": "!NaN"}]})),
    (keys.DECISION, dump({**DECISION, "cause": [[]]})),
    (keys.DECISION, dump({**DECISION, "metrics": [{"name": "x", "value": "x", "replicas": None}]})),
    (keys.TARGET, "-0"),
    (keys.ACTIVATION_SCALE, str(10**400)),
    (keys.MIN_SCALE, "\N{SUPERSCRIPT TWO}"),
    (keys.KAI_FRACTION, "NaN"),
]


# The cluster.

#: A cluster with the controller.
CLUSTER: dict[str, Any] = {
    **PROFILE,
    "spec": {
        **PROFILE["spec"],
        "autoscaling": {"controller": True},
        "kserve": {**PROFILE["spec"]["kserve"], "annotationDisallowList": [keys.SPEC, keys.SCALE, keys.FLOOR]},
        "knative": {
            **PROFILE["spec"]["knative"],
            "version": "1.24",
            "observability": {"request-metrics-protocol": "prometheus"},
        },
    },
}


class NoSamples:
    """A Prometheus without values."""

    def samples(self, query: str, _namespace: str = "") -> list[tuple[Mapping[str, str], float]]:
        del query
        return []


class Recorded(FixedCluster):
    """A cluster with the objects of a simulated one, which no controller changes; it plans writes, and performs none."""

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False, basis: Object | None = None) -> Object:
        del force, basis
        assert dry_run
        kind = KINDS[item["apiVersion"], item["kind"]]
        held = self.held.get((kind, item["metadata"].get("namespace", ""), item["metadata"]["name"]), {})
        planned: Object = apply_merge_patch(held, item)
        return planned

    def patch(
        self,
        kind: Kind,
        name: str,
        namespace: str,
        patch: Object,
        *,
        dry_run: bool = False,
        basis: Object | None = None,
    ) -> Object:
        del dry_run, basis
        planned: Object = apply_merge_patch(self.get(kind, name, namespace), patch)
        return planned

    def create(self, item: Object) -> Object:
        return item

    def read(self, path: str) -> Object:
        raise ClusterError(path)

    def forget_past(self) -> None:
        """Drop the changes that all caches have taken."""
        self.log[:] = [None] * len(self.log)  # type: ignore[list-item] # a cache reads only later ones


SHOP, ZOO = "team-shop", "team-zoo"
LATENCY = {"minReplicas": 1, "maxReplicas": 4, "metric": "latency", "metricThreshold": 250}
DOCUMENTS = {
    "kpa": spec("kpa", autoscaling=SCALING, slo=STORED["slo"]),
    "floor": spec("floor", autoscaling=LATENCY),
    "kserve": spec("kserve", autoscaling=SCALING, serving="kserve"),
    "standard": spec(
        "standard",
        autoscaling={**LATENCY, "metric": "cpu-utilization", "metricThreshold": 60},
        compute={"cpuCoreRequest": 1},
        serving="kserve-standard",
    ),
    "calm": spec("calm", project="zoo", autoscaling=SCALING),
    "calm-floor": spec("calm-floor", project="zoo", autoscaling=LATENCY),
}
VICTIMS = [name for name in DOCUMENTS if not name.startswith("calm")]


def render(document: Object, profile: Profile) -> Workload:
    batch = Batch(profile)
    objects, translation, problems = batch.add_document(load_document(document, batch.profile))
    assert translation is not None, problems
    assert translation.plan is not None, problems
    return Workload(tuple(objects), translation.plan)


def record_objects(profile: Profile) -> tuple[list[Object], float]:
    """Return the objects of all workloads after they are ready, and the time."""
    cluster = Simulated(ManualClock(), gpus={})
    cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "node-1"},
            "status": {"allocatable": {"cpu": "90", "memory": "900Gi", keys.GPU: "8"}},
        }
    )
    for document in DOCUMENTS.values():
        for item in render(document, profile).objects:
            cluster.apply(item)
    cluster.clock.sleep(60)
    cluster.settle()
    # A kind that the simulated cluster does not have is empty.
    return list(
        chain.from_iterable(cluster.list(kind).items for kind in dict.fromkeys(KINDS.values()))
    ), cluster.clock.now()


def annotate(value: Any, key: str, text: str) -> None:
    """Set an annotation in an object's metadata, in that of its pods, and in that of a predictor."""
    spec = value.get("spec", {})
    predictor, template = spec.get("predictor"), spec.get("template")
    for part in (value["metadata"], predictor, template.setdefault("metadata", {}) if template else None):
        if part is not None:
            part["annotations"] = {**(part.get("annotations") or {}), key: text}


@dataclass
class World:
    """The recorded cluster, the server, the controller, and the answers before any annotation is hostile."""

    site: Site
    cluster: Recorded
    run: Callable[..., Any]
    files: dict[str, Path]
    profile: Path
    objects: list[Object]
    cache: Cache
    baseline: dict[str, Any] = field(default_factory=dict)

    def poison(self, key: str, text: str) -> None:
        """Set an annotation on all objects of the victims."""
        self.site.backend.cache.changes.take_changes()
        self.cache.changes.take_changes()
        self.cluster.forget_past()
        changed = deepcopy(self.objects)
        for item in changed:
            annotate(item, key, text)
        self.cluster.add(changed)

    def answers(self, victim: str) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield each consumer's name, and a call that returns its complaint; empty if it answers."""
        place = (victim, "-n", SHOP, "--profile", self.profile)
        page, api = f"/workloads/{SHOP}/{victim}", f"/api/ebbtide/v1/workloads/{SHOP}/{victim}"
        yield "list", lambda: self.list_all("list", "-A", "--profile", self.profile)
        yield "list -o json", lambda: self.list_all("list", "-A", "-o", "json", "--profile", self.profile)
        yield "describe", lambda: self.command("describe", *place)
        yield "describe -o yaml", lambda: self.command("describe", *place, "-o", "yaml")
        yield "why", lambda: self.command("why", *place)
        yield "diff", lambda: self.command("diff", "--profile", self.profile, self.files[victim])
        yield "slo", lambda: self.command("slo", "-A", "--profile", self.profile)
        for path in ("/overview", "/workloads", "/projects", "/cluster", "/new", "/api/v1/workloads"):
            yield path, partial(self.page, path, whole=True)
        yield "/api/ebbtide/v1/workloads", self.rows
        for path in (
            page,
            *(f"{page}/{tab}" for tab in ("revisions", "pods", "slo", "why", "yaml", "metrics")),
            f"{page}/edit",
        ):
            yield path.replace(victim, "NAME"), partial(self.page, path)
        for path in (api, f"{api}/why"):
            yield path.replace(victim, "NAME"), partial(self.page, path)
        yield "controller", self.step

    def command(self, *words: Any) -> str:
        ran = self.run(*words)
        return "" if ran.code in {0, 1, 3, 4} else f"exit code {ran.code}: {ran.err[-300:]}"

    def list_all(self, *words: Any) -> str:
        ran = self.run(*words)
        missing = [name for name in DOCUMENTS if name not in ran.out]
        return f"exit code {ran.code}, without {missing}: {ran.err[-300:]}" if ran.code or missing else ""

    def page(self, path: str, *, whole: bool = False) -> str:
        response = self.site.visitor.get(path)
        fine = response.status_code == 200 or (response.status_code < 500 and not whole)
        return "" if fine else f"status {response.status_code}: {response.text[-500:]}"

    def rows(self) -> str:
        """Compare the rows of the other project."""
        response = self.site.visitor.get("/api/ebbtide/v1/workloads")
        if response.status_code != 200:
            return f"status {response.status_code}"
        rows = response.json()["workloads"]
        calm = [row for row in rows if row["namespace"] == ZOO]
        self.baseline.setdefault("rows", calm)
        return "" if calm == self.baseline["rows"] and len(rows) == len(DOCUMENTS) else "the rows are different"

    def step(self) -> str:
        """Compare the decision for the other project."""
        controller = Controller(self.cluster, NoSamples(), self.site.backend.clock, ProfileSpec())
        controller.step(self.cache.statuses.workloads_with(keys.FLOOR))
        decided = controller._decided.items()  # noqa: SLF001 - what is decided is not always written
        calm = {place: floor for place, floor in decided if place[0] == ZOO}
        self.baseline.setdefault("floors", calm)
        return "" if calm and calm == self.baseline["floors"] else "the decisions are different"


@pytest.fixture(scope="module")
def objects() -> tuple[list[Object], float]:
    profile, problems = profiles.validate_profile_data(CLUSTER)
    assert profile is not None, problems
    return record_objects(profile)


@pytest.fixture
def world(
    objects: tuple[list[Object], float], monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any], tmp_path: Path
) -> Iterator[World]:
    items, now = objects
    clock, cluster = ManualClock(now), Recorded()
    monkeypatch.setattr(connection, "connect", lambda *_: cluster)
    monkeypatch.setattr(connection, "connect_source", lambda *_: FixedMetrics())
    monkeypatch.setattr(connection, "clock", lambda: clock)
    monkeypatch.setattr(calls, "resolves", lambda _: True)
    cluster.add(deepcopy(items))
    files = {name: tmp_path / f"{name}.yaml" for name in VICTIMS}
    for name, file in files.items():
        file.write_text(manifests.write_document(DOCUMENTS[name]))
    profile = tmp_path / "profile.yaml"
    profile.write_text(manifests.write_document(CLUSTER))
    cache = Cache(cluster, clock, threads=False, kinds=CONTROLLED)
    cache.start()
    victims = [item for item in items if item["metadata"].get("namespace") == SHOP]
    with Site(backend_of(cluster, clock, source=FixedMetrics())) as site:
        yield World(site, cluster, run, files, profile, victims, cache)


def find_complaints(world: World, key: str, text: str, victims: list[str]) -> Iterator[str]:
    world.poison(key, text)
    for victim in victims:
        for name, ask in world.answers(victim):
            try:
                complaint = ask()
            except Exception as error:  # noqa: BLE001 - any error is what the law forbids
                complaint = repr(error)
            if complaint:
                yield f"{key}={text[:60]!r} ({len(text)}) {name} {victim}: {complaint[:200]}"


@pytest.mark.parametrize("part", range(PARTS))
def test_no_annotation_stops_a_list_a_page_or_a_step(world: World, part: int) -> None:
    # Without a hostile value, every consumer answers, and the rows and decisions to compare with are recorded.
    assert [*find_complaints(world, "example.com/harmless", "x", VICTIMS)] == []
    draws = random.Random(0)  # noqa: S311 - a sample of combinations
    combinations = list_combinations()
    chosen = combinations[part::PARTS] if LONG else [*KNOWN, *draws.sample(combinations, SAMPLE)]
    complaints: list[str] = []
    failing = 0
    for number, (key, text) in enumerate(chosen):
        found = [*find_complaints(world, key, text, [VICTIMS[number % len(VICTIMS)]])]
        complaints += found
        failing += bool(found)
    assert not complaints, f"{failing} of {len(chosen)} combinations: {json.dumps(complaints, indent=1)}"
