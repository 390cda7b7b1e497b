"""The table of all pages, and the router that serves them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from ebbtide.cluster.client.protocol import MissingError
from ebbtide.server.api.backend import Backend
from ebbtide.server.api.sessions import OneTimeKey
from ebbtide.server.web.pages import cluster, costs, grid, login, new, overview, projects, simulate, workload
from ebbtide.server.web.parts import actions, assets, fields, logs, playground
from ebbtide.server.web.parts.frame import PageFrame, PageRoute, PageVisit
from ebbtide.server.web.parts.pulse import stream_events


def redirect_home(visit: PageVisit) -> Response:
    if key := visit.query("key"):
        return login.sign_in_with_key(visit, key)
    return RedirectResponse("/overview", 307)


def serve_static(visit: PageVisit) -> Response:
    return assets.serve_asset(visit.path_parameter("name"), visit.request)


async def send_playground_request(visit: PageVisit) -> Response:
    return await playground.send_request(visit, workload.render_workload)


async def stream_changes(visit: PageVisit) -> Response:
    """Stream the events that keep an open page up to date: those of one workload, or of all."""
    workload = (visit.query("namespace"), visit.query("name")) if visit.query("name") else None
    if workload is not None and not await run_in_threadpool(_is_visible, visit, *workload):
        # The times of the changes would show that the workload exists.
        workload = ("", "")
    return stream_events(visit.frame.pulse.events(visit.request, workload))


def _is_visible(visit: PageVisit, namespace: str, name: str) -> bool:
    try:
        visit.backend.reads.status(visit.user, namespace, name)
    except MissingError:
        return False
    return True


PAGES: Final[tuple[PageRoute, ...]] = (
    PageRoute("GET", "/", redirect_home, public=True),
    PageRoute("GET", "/static/{name:path}", serve_static, public=True),
    PageRoute("GET", "/login", login.show_login, public=True),
    PageRoute("POST", "/login", login.sign_in, public=True),
    PageRoute("POST", "/logout", login.sign_out, public=True),
    PageRoute("POST", "/theme", login.choose_theme, public=True),
    PageRoute("POST", "/columns", login.choose_columns),
    PageRoute("GET", "/live", stream_changes),
    PageRoute("GET", "/overview", overview.show_overview),
    PageRoute("GET", "/workloads", grid.show_grid),
    PageRoute("GET", "/new", new.show_new_form),
    PageRoute("GET", "/workloads/{namespace}/{name}/edit", new.show_editor),
    PageRoute("GET", "/new/fields", new.serve_fields),
    PageRoute("POST", "/new/form", new.continue_form),
    PageRoute("POST", "/new/check", new.check_text),
    PageRoute("POST", "/new/diff", new.show_diff),
    PageRoute("POST", "/new/submit", new.submit_text),
    PageRoute("GET", "/simulate", simulate.show_simulation),
    PageRoute("POST", "/simulate", simulate.run_simulation),
    PageRoute("GET", "/workloads/{namespace}/{name}/do/{action}", actions.show_action),
    PageRoute("POST", "/workloads/{namespace}/{name}/do/{action}", actions.perform_action),
    PageRoute("GET", "/workloads/{namespace}/{name}/logs/stream", logs.follow_log),
    PageRoute("POST", "/workloads/{namespace}/{name}/playground", send_playground_request),
    PageRoute("GET", "/workloads/{namespace}/{name}/logs/download", logs.download_log),
    PageRoute("GET", "/workloads/{namespace}/{name}", workload.show_workload),
    PageRoute("GET", "/workloads/{namespace}/{name}/series", workload.serve_series),
    PageRoute("GET", "/workloads/{namespace}/{name}/decision", workload.serve_decision),
    PageRoute("GET", "/workloads/{namespace}/{name}/{tab}", workload.show_workload),
    PageRoute("GET", "/costs", costs.show_costs),
    PageRoute("POST", "/costs", costs.start_report),
    PageRoute("GET", "/projects", projects.show_projects),
    PageRoute("GET", "/projects/new", projects.show_new_project),
    PageRoute("POST", "/projects/new", projects.create_project),
    PageRoute("GET", "/cluster", cluster.show_cluster),
    PageRoute("GET", "/cluster/doctor", cluster.show_findings),
)


class PageRouter(APIRouter):
    """The router of all pages, and the page for a path that does not exist."""

    #: Returns the page for a request that matches no route; None if the request is not a browser's.
    missing_page: Callable[[Request], Response | None]

    @staticmethod
    def warm_up() -> None:
        """Compute what all visits share and the first one would wait for: the schema of the form takes more than a second."""
        fields.list_fields()
        new.hash_fields()
        assets.compress_assets()


def make_router(backend: Backend, *, secure: bool = False, one_time_key: OneTimeKey | None = None) -> PageRouter:
    """Return the router of all pages; ``secure`` means that TLS ends at a proxy, so cookies must be ``Secure``."""
    frame = PageFrame(backend, secure=secure, one_time_key=one_time_key)
    routes: list[BaseRoute] = [Route(page.path, frame.make_endpoint(page), methods=[page.method]) for page in PAGES]
    router = PageRouter(routes=routes)
    router.missing_page = frame.make_missing_page
    return router
