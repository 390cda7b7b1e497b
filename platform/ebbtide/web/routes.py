"""The table of all pages, and the router that serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Route

from ebbtide.web import actions, cluster, grid, login, logs, new, projects, simulate, workload
from ebbtide.web.assets import serve
from ebbtide.web.frame import Frame, Page
from ebbtide.web.pulse import stream

if TYPE_CHECKING:
    from starlette.responses import Response

    from ebbtide.api.backend import Backend
    from ebbtide.web.frame import Visit


def home(_visit: Visit) -> Response:
    return RedirectResponse("/workloads", 307)


def static(visit: Visit) -> Response:
    return serve(visit.path_parameter("name"), visit.request.url.query)


async def live(visit: Visit) -> Response:
    """Stream the events that keep an open page up to date."""
    return stream(visit.frame.pulse.events(visit.request))


PAGES: Final[tuple[Page, ...]] = (
    Page("GET", "/", home, public=True),
    Page("GET", "/static/{name:path}", static, public=True),
    Page("GET", "/login", login.ask, public=True),
    Page("POST", "/login", login.enter, public=True),
    Page("POST", "/logout", login.leave, public=True),
    Page("POST", "/theme", login.choose_theme, public=True),
    Page("GET", "/live", live),
    Page("GET", "/workloads", grid.grid),
    Page("GET", "/new", new.new),
    Page("GET", "/workloads/{namespace}/{name}/edit", new.edit),
    Page("POST", "/new/check", new.check),
    Page("POST", "/new/plan", new.plan),
    Page("POST", "/new/submit", new.submit),
    Page("GET", "/new/progress/{namespace}/{name}", new.progress),
    Page("GET", "/simulate", simulate.start),
    Page("POST", "/simulate/with", simulate.with_spec),
    Page("POST", "/simulate/upload", simulate.upload),
    Page("POST", "/simulate/run", simulate.run),
    Page("POST", "/simulate/tune", simulate.tune),
    Page("GET", "/simulate/tune/{search}", simulate.progress),
    Page("POST", "/simulate/tune/{search}/stop", simulate.stop),
    Page("GET", "/workloads/{namespace}/{name}/do/{action}", actions.ask),
    Page("POST", "/workloads/{namespace}/{name}/do/{action}", actions.do),
    Page("GET", "/workloads/{namespace}/{name}/logs/stream", logs.follow),
    Page("GET", "/workloads/{namespace}/{name}", workload.show),
    Page("GET", "/workloads/{namespace}/{name}/series", workload.series),
    Page("GET", "/workloads/{namespace}/{name}/{tab}", workload.show),
    Page("GET", "/projects", projects.projects),
    Page("GET", "/cluster", cluster.cluster),
    Page("GET", "/cluster/doctor", cluster.doctor),
)


def make_router(backend: Backend, *, secure: bool = False) -> APIRouter:
    """Return the router of all pages; ``secure`` means that TLS ends at a proxy, so cookies must be ``Secure``."""
    frame = Frame(backend, secure=secure)
    routes: list[BaseRoute] = [Route(page.path, frame.make_endpoint(page), methods=[page.method]) for page in PAGES]
    return APIRouter(routes=routes)
