"""The web page served for a test: a real server on loopback, a browser's way to send forms, a cluster that only tells."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Self

import httpx
import uvicorn

from ebbtide import profiles
from ebbtide.api.app import make_app
from ebbtide.api.gate import Settings
from ebbtide.api.make import of_simulated
from ebbtide.cluster.live import OBJECT_FIELDS
from ebbtide.cluster.protocol import (
    EVENT,
    KINDS,
    Listing,
    Mark,
    MissingError,
    Seen,
    UnreachableError,
    kind_of,
)
from ebbtide.profile_built_in import BUILT_IN
from ebbtide.web.routes import make_router

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.api.backend import Backend
    from ebbtide.cluster.protocol import Clock, Cluster, Kind, Objects
    from ebbtide.objects import Object

BARE = {kind.name: kind for kind in KINDS.values()}
CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


@dataclass(slots=True)
class Told:
    """A cluster that holds what it is given and takes no writes: recorded objects, or such as no real one would take."""

    namespace: str = "default"
    log: list[tuple[Kind, Seen]] = field(default_factory=list)
    lines: tuple[str, ...] = ()
    #: Time does not pass by itself.
    real: bool = False
    held: dict[tuple[Kind, str, str], Object] = field(default_factory=dict)

    def hold(self, found: dict[str, Any]) -> None:
        """Hold the objects of one situation, and no others."""
        for key in [*self.held]:
            self.log.append((key[0], Seen("DELETED", self.held.pop(key))))
        objects = [found["top"], *([found["service"]] if found.get("service") else [])]
        for name in OBJECT_FIELDS:
            objects += found.get(name, ())
        self.add(objects)

    def add(self, objects: list[Object]) -> None:
        """Hold more objects."""
        for item in objects:
            # Recorded parts of a workload have no version: their kind says enough.
            kind = KINDS[item["apiVersion"], item["kind"]] if "apiVersion" in item else BARE[item["kind"]]
            metadata = item["metadata"]
            self.log.append((kind, Seen("ADDED", item)))
            metadata["resourceVersion"] = str(len(self.log))
            metadata.setdefault("uid", f"uid-{len(self.log)}")
            self.held[kind, metadata.get("namespace", ""), metadata["name"]] = item

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        found = self.held.get((kind, namespace, name))
        if found is None:
            raise MissingError(f'{kind.plural} "{name}" not found')
        return found

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "") -> Listing:
        del labels
        return Listing(
            [item for (of, where, _), item in self.held.items() if of == kind and namespace in {"", where}],
            str(len(self.log)),
        )

    def watch(
        self, kind: Kind, namespace: str = "", *, labels: str = "", since: str = "", seconds: float = 60.0
    ) -> Iterator[Seen]:
        del labels, namespace, seconds
        return iter([seen for of, seen in self.log[int(since or 0) :] if of == kind])

    def follow(self, kind: Kind, *, since: str = "") -> Iterator[Seen | Mark]:
        yield from [seen for of, seen in self.log[int(since or 0) :] if of == kind]
        yield Mark(str(len(self.log)))

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False) -> Object:
        del force, dry_run
        raise UnreachableError(f"nobody takes a {kind_of(item).name} here")

    def create(self, item: Object) -> Object:
        return self.apply(item)

    def patch(self, kind: Kind, name: str, namespace: str, patch: Object, *, dry_run: bool = False) -> Object:
        del namespace, patch, dry_run
        raise UnreachableError(f"nobody changes {kind.name} {name} here")

    def delete(self, kind: Kind, name: str, namespace: str = "") -> None:
        del namespace
        raise UnreachableError(f"nobody deletes {kind.name} {name} here")

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        previous: bool = False,
    ) -> Iterator[str]:
        del namespace, pod, container, follow, tail, previous
        return iter(self.lines)

    def may(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:
        del verb, kind, namespace, name
        return True

    def read(self, path: str) -> Object:
        return {"path": path}

    def events(self, namespace: str = "") -> Objects:
        return self.list(EVENT, namespace).items


def backend_of(cluster: Cluster, clock: Clock, **settings: Any) -> Backend:
    return of_simulated(cluster, profiles.built_in(), BUILT_IN, clock, **settings)


class Site:
    """One server with the pages, and who visits it; a context manager."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.cluster: Any = backend.cache._cluster  # noqa: SLF001 - what a test does to the cluster itself
        app = make_app(backend, Settings(), [make_router(backend)])
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, host="127.0.0.1", port=0, log_level="critical", lifespan="on", timeout_graceful_shutdown=1
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            self._thread.join(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.visitor = httpx.Client(base_url=self.address)
        return self

    def __exit__(self, *_: object) -> None:
        self.visitor.close()
        self._server.should_exit = True
        self._thread.join(10)

    def get(self, path: str, *, part: bool = False, visitor: httpx.Client | None = None) -> httpx.Response:
        """Visit a page, or ask for a part of one as htmx does."""
        return (visitor or self.visitor).get(path, headers={"HX-Request": "true"} if part else {})

    def send(
        self, path: str, data: dict[str, str], *, seen: str = "/workloads", visitor: httpx.Client | None = None
    ) -> httpx.Response:
        """Send a form with the token of a page seen before, as a browser does."""
        token = CSRF.search(self.get(seen, visitor=visitor).text)
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
    """A page as a browser's parser takes it: its elements and its text."""

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
