"""All pages, as one router that the server takes in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Route

from ebbtide.web import actions, cluster, grid, login, logs, new, projects, simulate, stream, workload
from ebbtide.web.assets import serve
from ebbtide.web.frame import Frame, Page

if TYPE_CHECKING:
    from starlette.responses import Response

    from ebbtide.api.backend import Backend
    from ebbtide.web.frame import Visit


def home(_visit: Visit) -> Response:
    """Lead to the workloads."""
    return RedirectResponse("/workloads", 307)


def static(visit: Visit) -> Response:
    """Serve a file that the page loads."""
    return serve(visit.at("name"), visit.request.url.query)


PAGES: Final[tuple[Page, ...]] = (
    Page("GET", "/", home, public=True),
    Page("GET", "/static/{name:path}", static, public=True),
    *login.PAGES,
    *stream.PAGES,
    *grid.PAGES,
    *new.PAGES,
    *simulate.PAGES,
    *actions.PAGES,
    *logs.PAGES,
    *workload.PAGES,
    *projects.PAGES,
    *cluster.PAGES,
)


def make_router(backend: Backend, *, secure: bool = False) -> APIRouter:
    """Return the router of all pages; ``secure`` says that TLS ends before this server, so that cookies ask for it."""
    frame = Frame(backend, secure=secure)
    routes: list[BaseRoute] = [Route(page.path, frame.endpoint(page), methods=[page.method]) for page in PAGES]
    return APIRouter(routes=routes)
