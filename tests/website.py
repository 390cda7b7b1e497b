"""Serve the web pages for a test: a real server on loopback, a client that sends forms, and clusters with fixed objects."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from ebbtide.cluster.client.protocol import (
    KINDS,
    WHOLE_LOG,
    Listing,
    MissingError,
    UnreachableError,
    WatchBookmark,
    WatchChange,
    kind_of,
)
from ebbtide.cluster.slo.source import (
    SHARED_SERIES,
    Bucket,
    History,
    Ref,
    SeriesPoint,
    StartTimes,
    WorkloadMeasurements,
)
from ebbtide.core.base import keys
from ebbtide.core.documents import profiles
from ebbtide.core.profile.built_in import FULL
from ebbtide.sandbox.backend import PermissionRule, make_simulated_backend
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated
from ebbtide.server.api.access import Caller
from ebbtide.server.web.routes import make_router
from serving import served
from situations import OBJECT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Sequence

    import httpx
    from playwright.sync_api import Browser, Page

    from ebbtide.cluster.client.protocol import Clock, Cluster, Kind, LogQuery, Objects
    from ebbtide.core.translation.objects import Object
    from ebbtide.server.api.backend import Backend

BARE = {kind.name: kind for kind in KINDS.values()}
CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


@dataclass(slots=True)
class FixedCluster:
    """A read-only cluster with fixed objects: recorded ones, or ones that no real API server would accept."""

    namespace: str = "default"
    log: list[tuple[Kind, WatchChange]] = field(default_factory=list)
    lines: tuple[str, ...] = ()
    #: Time advances only by ``sleep``.
    real: bool = False
    held: dict[tuple[Kind, str, str], Object] = field(default_factory=dict)

    def hold(self, situation: dict[str, Any]) -> None:
        """Replace all objects with those of one situation."""
        for key in [*self.held]:
            self.log.append((key[0], WatchChange("DELETED", self.held.pop(key))))
        objects = [situation["top"], *([situation["service"]] if situation.get("service") else [])]
        for name in OBJECT_FIELDS:
            objects += situation.get(name, ())
        self.add(objects)

    def add(self, objects: list[Object]) -> None:
        """Add objects."""
        for item in objects:
            # Recorded parts of a workload have no apiVersion, so the kind alone identifies them.
            kind = KINDS[item["apiVersion"], item["kind"]] if "apiVersion" in item else BARE[item["kind"]]
            metadata = item["metadata"]
            self.log.append((kind, WatchChange("ADDED", item)))
            metadata["resourceVersion"] = str(len(self.log))
            metadata.setdefault("uid", f"uid-{len(self.log)}")
            self.held[kind, metadata.get("namespace", ""), metadata["name"]] = item

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        obj = self.held.get((kind, namespace, name))
        if obj is None:
            raise MissingError(f'{kind.plural} "{name}" not found')
        return obj

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "") -> Listing:
        del labels
        return Listing(
            [item for (of, where, _), item in self.held.items() if of == kind and namespace in {"", where}],
            str(len(self.log)),
        )

    def list_all(self, kinds: Sequence[Kind], namespace: str = "") -> dict[Kind, Objects]:
        return {kind: self.list(kind, namespace).items for kind in kinds}

    def follow(
        self, kind: Kind, namespace: str = "", *, since: str = "", seconds: float | None = None
    ) -> Iterator[WatchChange | WatchBookmark]:
        del namespace, seconds
        yield from [event for of, event in self.log[int(since or 0) :] if of == kind]
        yield WatchBookmark(str(len(self.log)))

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False, basis: Object | None = None) -> Object:
        del force, dry_run, basis
        raise UnreachableError(f"this cluster is read-only: cannot apply a {kind_of(item).name}")

    def create(self, item: Object) -> Object:
        return self.apply(item)

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
        del namespace, patch, dry_run, basis
        raise UnreachableError(f"this cluster is read-only: cannot patch {kind.name} {name}")

    def patch_status(self, kind: Kind, name: str, namespace: str, status: Object) -> Object:
        return self.patch(kind, name, namespace, status)

    def impersonate(self, user: str) -> Self:
        del user
        return self

    def delete(self, kind: Kind, name: str, namespace: str = "", *, uid: str = "") -> None:
        del namespace, uid
        raise UnreachableError(f"this cluster is read-only: cannot delete {kind.name} {name}")

    def logs(self, namespace: str, pod: str, container: str, query: LogQuery = WHOLE_LOG) -> Generator[str, None, None]:
        del namespace, pod, container, query
        yield from self.lines

    def is_allowed(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:
        del verb, kind, namespace, name
        return True

    def read(self, path: str) -> Object:
        return {"path": path}


def backend_of(cluster: Cluster, clock: Clock, **settings: Any) -> Backend:
    return make_simulated_backend(cast("Simulated", cluster), profiles.load_built_in("full"), FULL, clock, **settings)


class Site:
    """A server with the pages and an HTTP client, as a context manager."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.cluster: Any = backend.cache._cluster  # noqa: SLF001 - what a test does to the cluster itself
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self.visitor = self._open.enter_context(served(self.backend, routers=[make_router(self.backend)]))
        self.address = str(self.visitor.base_url).rstrip("/")
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def get(self, path: str, *, part: bool = False, visitor: httpx.Client | None = None) -> httpx.Response:
        """Request a page, or as htmx does a part of one."""
        return (visitor or self.visitor).get(path, headers={"HX-Request": "true"} if part else {})

    def send(
        self, path: str, data: dict[str, str], *, form_page: str = "/workloads", visitor: httpx.Client | None = None
    ) -> httpx.Response:
        """Submit a form with the CSRF token from the page ``seen``, as a browser does."""
        token = CSRF.search(self.get(form_page, visitor=visitor).text)
        assert token is not None
        return (visitor or self.visitor).post(
            path,
            data={"csrf": token[1], **data},
            headers={"Origin": self.address, "Sec-Fetch-Site": "same-origin"},
        )


@dataclass(slots=True)
class Element:
    """One element of a page."""

    tag: str
    attributes: dict[str, str]


class Parsed(HTMLParser):
    """A parsed page: its elements and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, **attributes: str) -> list[Element]:
        return [
            item
            for item in self.elements
            if item.tag == tag
            and all(
                item.attributes.get(name.rstrip("_").replace("_", "-")) == value for name, value in attributes.items()
            )
        ]


# A small cluster, its users, and its metrics source.

SPEC = """apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata: {{name: {name}}}
spec:
  project: {project}
  image: {image}
  compute: {{cpuCoreRequest: 0.5, cpuMemoryRequest: 512M}}
  autoscaling: {{minReplicas: {low}, maxReplicas: {high}, metric: concurrency, metricThreshold: 10}}
  slo: {{meanLatencyMilliseconds: 250, p95LatencyMilliseconds: 1000, uptimePercent: 99.5}}
"""
READER, WRITER, STRANGER = (
    Caller(name, groups, token=f"token-of-{name}")
    for name, groups in (("reader", ("readers",)), ("writer", ("writers",)), ("stranger", ()))
)
SEEING = frozenset({"get", "list", "watch"})
ANY = frozenset({"*"})
RULES = (
    PermissionRule("readers", SEEING, ANY, frozenset({"runai-team-a"})),
    PermissionRule("writers", ANY, ANY, frozenset({"runai-team-a"})),
)
BASE = "/workloads/runai-team-a/chat"


class FixedMetrics:
    """A metrics source that returns the same values for every workload and time."""

    def measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, WorkloadMeasurements]:
        buckets = (Bucket(0.5, 540.0), Bucket(1.0, 594.0), Bucket(float("inf"), 600.0))
        return {
            ref: WorkloadMeasurements(
                ref,
                start,
                end,
                place="gateway",
                requests=600.0,
                failed=6.0,
                total_seconds=120.0,
                buckets=buckets,
                minutes_asked=100.0,
                minutes_answered=99.0,
                seconds_known=6000.0,
                seconds_up=5990.0,
            )
            for ref in refs
        }

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        moments = [start + step * index for index in range(int((end - start) / step))]
        values = {"ready": 2.0, "wanted": 3.0, "rate": 12.5, "mean": 0.2, "p95": 0.7, "stable": 18.0, "target": 10.0}
        return History(ref, {name: tuple(SeriesPoint(t, value) for t in moments) for name, value in values.items()})

    def histories(
        self, refs: Sequence[Ref], start: float, end: float, step: float, names: Collection[str] = SHARED_SERIES
    ) -> dict[Ref, History]:
        del names
        return {ref: self.history(ref, start, end, step) for ref in refs}

    def starts(self, ref: Ref, start: float, end: float) -> list[StartTimes]:
        del ref, start, end
        return []


def cluster(clock: Clock | None = None, *, real: bool = False) -> Simulated:
    gpus, missing = {keys.GPU_SHARED: 4}, {"example.com/none:v1"}
    simulated = Simulated(clock or ManualClock(), gpus=gpus, missing_images=missing, real=real)
    for project in ("team-a", "vision"):
        metadata = {"name": f"runai-{project}", "labels": {keys.PROJECT: project}}
        simulated.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return simulated


def apply_specs(site: Site, *names: str, **how: Any) -> None:
    """Apply specs, and wait until the workloads are ready."""
    for name in names:
        spec = {"project": "team-a", "image": "example.com/chat:v1", "low": 1, "high": 4, **how}
        site.backend.writes.submit(
            site.backend.logins.caller_of(""), site.backend.specs.documents(SPEC.format(name=name, **spec))
        )
    site.backend.clock.sleep(30)


# Text that would be markup if it were not escaped.

ATTACK = "\"'><img src=x onerror=alert(1)><script>alert(2)</script><svg/onload=alert(3)>{{7*7}}</textarea></title>"
#: Fields left unchanged: names and references, which the API server validates, and times.
STRUCTURE = {
    "apiVersion", "kind", "name", "namespace", "labels", "uid", "type", "status", "ownerReferences", "creationTimestamp",
    "lastTransitionTime", "lastTimestamp", "firstTimestamp", "eventTime", "startTime", "startedAt", "finishedAt",
    "generateName", "nodeName", "latestReadyRevisionName", "latestCreatedRevisionName", "revisionName", "resourceVersion",
    "requests", "limits", "phase", "hard", "used", "deletionTimestamp",
}  # fmt: skip
#: Annotations that are parsed as numbers or states.
READ = {keys.MIN_SCALE, keys.MAX_SCALE, keys.STOP, keys.DEPLOYMENT_MODE, keys.SPEC}


def with_markup(value: Any, text: str, key: str = "") -> Any:
    """Return a cluster object with ``text`` appended to every string that can have any value."""
    if isinstance(value, dict):
        return {
            name: item if name in STRUCTURE | READ else with_markup(item, text, name) for name, item in value.items()
        }
    if isinstance(value, list):
        return [with_markup(item, text, key) for item in value]
    return f"{value}{text}" if isinstance(value, str) else value


# A browser.

#: The headless shell renders the same pages without the browser's own windows, in less than half of the processor time.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = os.environ.get("EBBTIDE_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
#: The browser connects only to the page's own server.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
#: The sizes at which each flow is tested.
SIZES = {"desktop": {"width": 1440, "height": 900}, "tablet": {"width": 820, "height": 1180}, "phone": PHONE}
AXE = Path(__file__).parent.parent / "tools" / "assets" / "node_modules" / "axe-core" / "axe.min.js"


def find_violations(page: Page) -> list[str]:
    """Return the violations of accessibility rules that axe finds on a page, and of contrast in the other color scheme.

    The schemes differ only in colors, which a test of the style sheet holds.
    """
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then(result => result.violations)")
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.emulate_media(color_scheme="light" if dark else "dark")
    found += page.evaluate("axe.run({runOnly: ['color-contrast']}).then(result => result.violations)")
    page.emulate_media(color_scheme="dark" if dark else "light")
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]


def resize(page: Page, size: str) -> None:
    """Give a page another size, and wait until its charts have it."""
    page.set_viewport_size(SIZES[size])  # type: ignore[arg-type]
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", event => violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@contextmanager
def open_sized_page(browser: Browser, site: Site, size: str, scheme: str, patience: float) -> Iterator[Page]:
    """Yield a page of one size and color scheme that fails on a script error or a violation of the content policy."""
    options: Any = {"viewport": SIZES[size], "color_scheme": scheme}
    context = browser.new_context(base_url=site.address, **options)
    context.add_init_script(WATCH)
    page = context.new_page()
    from playwright.sync_api import expect  # noqa: PLC0415 - other users of this module have no browser

    page.set_default_timeout(patience)
    expect.set_options(timeout=patience)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    wrong += page.evaluate("violations")
    context.close()
    assert wrong == [], wrong
