"""The ASGI application: Ebbtide's paths, those of the registered families, the page's, probes, and error handling."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse
from uvicorn import Config

from ebbtide import __version__
from ebbtide.core.documents import load_added_readers
from ebbtide.core.translation.gpu import BACKENDS, list_backends
from ebbtide.server.api import description, own
from ebbtide.server.api.backend import Backend
from ebbtide.server.api.errors import ROWS, handle_error
from ebbtide.server.api.families import list_families
from ebbtide.server.api.gate import OPENAPI, Gate, ServerSettings
from ebbtide.server.api.protocol import ConnectionLimits
from ebbtide.server.api.shared import LEVEL, MIN_COMPRESSED_BYTES, SharedResponses

#: Seconds that requests in progress get to finish at shutdown, and that an idle connection stays open.
SHUTDOWN_SECONDS: Final = 10
KEEP_ALIVE_SECONDS: Final = 30
#: Bytes of the request line and headers that are buffered while they arrive.
MAX_HEADER_BYTES: Final = 32_768
#: Number of workloads above which a full garbage collection would noticeably delay responses.
MANY_WORKLOADS: Final = 500


def make_app(backend: Backend, settings: ServerSettings, routers: Sequence[APIRouter] = ()) -> Gate:
    """Return the application; it starts to watch the cluster on startup.

    Raises:
        PluginError: a part that another package registers cannot be loaded.
    """
    # A request must not be the first to find out.
    load_added_readers()
    # With all rows from the beginning, a response does not depend on earlier requests.
    BACKENDS.update(list_backends())

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        backend.cache.start()
        threading.Thread(target=_warm_up, args=(backend, routers), name="warm", daemon=True).start()
        yield
        backend.stop()

    app = FastAPI(
        title="Ebbtide",
        version=__version__,
        summary="Run:ai inference specs on Knative and KServe.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=running,
        redirect_slashes=False,
    )
    app.state.backend = backend
    for error in (*(kind for kind, _ in ROWS), HTTPException, Exception):
        app.add_exception_handler(error, handle_error)
    for router in (_make_probes(backend), *(family.router for family in list_families()), own.router):
        # FastAPI's include_router would compile each route's models again.
        app.routes.extend(router.routes)
    describe = cache(partial(description.make_openapi, app))

    @app.get(OPENAPI, include_in_schema=False)
    def openapi() -> JSONResponse:
        """Return the OpenAPI document."""
        return JSONResponse(describe())

    for router in routers:
        app.routes.extend(router.routes)
        app.state.missing_page = getattr(router, "missing_page", None)
    # No other site can cause a response with a session's contents, whose length could reveal them: cookies are SameSite=Strict.
    compressed = GZipMiddleware(app, MIN_COMPRESSED_BYTES, LEVEL)
    return Gate(SharedResponses(compressed, backend), backend, settings)


def make_server_config(app: Gate, host: str, port: int, limits: ConnectionLimits | None = None, **tls: Any) -> Config:
    """Return uvicorn's configuration for the application; ``tls`` holds the ``ssl_*`` options."""
    from uvicorn import Config

    from ebbtide.server.api.protocol import ConnectionLimits, make_protocol

    return Config(
        app,
        host=host,
        port=port,
        # Only TLS has a handshake, whose time is limited.
        loop="ebbtide.server.api.protocol:ServerLoop" if tls else "auto",
        http=make_protocol(limits or ConnectionLimits()),
        ws="none",
        lifespan="on",
        log_config=None,
        # The gate writes its own access log, without query strings.
        access_log=False,
        server_header=False,
        # No decision and no log uses the client's address, so no proxy header is trusted.
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        **tls,
    )


def _warm_up(backend: Backend, routers: Sequence[APIRouter]) -> None:
    """Compute what the first requests would wait for, and every status as soon as the cluster has been read."""
    for router in routers:
        getattr(router, "warm_up", lambda: None)()
    while not backend.cache.freshness.wait_synced(60.0):
        if backend.cache.changes.stopped():
            return
    if backend.cache.statuses.compute_all() >= MANY_WORKLOADS:
        # A full collection would walk all cached objects, and block every response while it does.
        gc.collect()
        gc.freeze()


def _make_probes(backend: Backend) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/healthz")
    async def healthz() -> JSONResponse:
        """Report that the process answers."""
        return JSONResponse({"status": "ok"})

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        """Report whether the cluster has been read; later outages do not matter, since cached data can be read."""
        ready = backend.cache.freshness.synced()
        return JSONResponse(
            {"status": "ok" if ready else "reading the cluster", "age": round(backend.age(), 1)}, 200 if ready else 503
        )

    return router
