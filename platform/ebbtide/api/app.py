"""The application: Run:ai's paths, our own, the page's, probes, and one way to tell errors."""

from __future__ import annotations

import gc
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from ebbtide import __version__
from ebbtide.api import description, own, runai
from ebbtide.api.errors import ROWS, answer
from ebbtide.api.gate import OPENAPI, Gate, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from uvicorn import Config

    from ebbtide.api.backend import Backend

#: Seconds for requests that are being answered when the server is told to end, and of a connection that is quiet.
GRACE: Final = 10
KEPT: Final = 30
#: Bytes of a request's line and headers, as they arrive.
HEAD: Final = 32_768
#: Workloads whose objects take a collection of garbage so long that somebody would wait for it.
MANY: Final = 500


def make_app(backend: Backend, settings: Settings, routers: Sequence[APIRouter] = ()) -> Gate:
    """Return the application; it begins to follow the cluster when it is started."""

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        backend.start()
        threading.Thread(target=_warm, args=(backend,), name="warm", daemon=True).start()
        yield
        backend.stop()

    app = FastAPI(
        title="Ebbtide",
        version=__version__,
        summary="Run:ai's inference API and more, on plain Knative and KServe.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=running,
        redirect_slashes=False,
    )
    app.state.backend = backend
    for error in (*(kind for kind, _ in ROWS), HTTPException, Exception):
        app.add_exception_handler(error, answer)
    app.include_router(_probes(backend))
    app.include_router(runai.router)
    app.include_router(own.router)
    described = description.of(app)

    @app.get(OPENAPI, include_in_schema=False)
    async def openapi() -> JSONResponse:
        """Return the description of the API."""
        return JSONResponse(described)

    for router in routers:
        app.include_router(router, include_in_schema=False)
    return Gate(app, backend, settings)


def configured(app: Gate, host: str, port: int, **tls: Any) -> Config:
    """Return uvicorn's settings for the application; ``tls`` are its ``ssl_`` ones."""
    from uvicorn import Config  # noqa: PLC0415 - only who serves needs it

    return Config(
        app,
        host=host,
        port=port,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        # The gate's has no queries.
        access_log=False,
        server_header=False,
        # Whose address a request has is in no decision and no log, so no header of a proxy is believed.
        proxy_headers=False,
        timeout_keep_alive=KEPT,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=HEAD,
        **tls,
    )


def _warm(backend: Backend) -> None:
    """Work the statuses out as soon as the cluster has been read."""
    while not backend.cache.wait_synced(60.0):
        if backend.cache.stopped():
            return
    if backend.cache.warm() >= MANY:
        # All that is kept would be walked by each full collection, which stops every answer meanwhile.
        gc.collect()
        gc.freeze()


def _probes(backend: Backend) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/healthz")
    async def healthz() -> JSONResponse:
        """Say that the process answers."""
        return JSONResponse({"status": "ok"})

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        """Say whether the cluster has been read; that it is away now keeps nobody from reading what is known."""
        ready = backend.cache.synced()
        return JSONResponse(
            {"status": "ok" if ready else "the cluster is being read", "age": round(backend.age(), 1)},
            200 if ready else 503,
        )

    return router
