"""Families of API paths: Run:ai's, and those of other packages, each with the format of its errors.

Ebbtide's own paths and those of the page are in no family.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.responses import Response

from ebbtide.core.base import plugins

#: Prefix of all API paths, which need authentication, and of Ebbtide's own.
API: Final = "/api/"
OWN: Final = "/api/ebbtide/"


class PathFamily(NamedTuple):
    """A router and the description of its paths.

    ``prefix`` is that of the paths whose errors have the family's format: of several prefixes of a path, the longest one
    decides. ``make_error`` returns the response to an error with its HTTP status and headers, and ``error`` is its body's
    type; without them, errors are Ebbtide's.
    """

    prefix: str
    router: APIRouter
    #: Sentences for the description of the whole API.
    about: str
    #: The OpenAPI tags of the paths: name and description.
    tags: tuple[dict[str, str], ...]
    error: type[Any] | None = None
    make_error: Callable[[Exception, int, dict[str, str]], Response] | None = None
    #: Paths that need no authentication.
    open_paths: tuple[str, ...] = ()
    #: Lists whose responses are shared between equal requests (``ebbtide.server.api.shared``).
    shared_paths: tuple[str, ...] = ()


@cache
def list_families() -> tuple[PathFamily, ...]:
    """Return the families, Ebbtide's optional ones first.

    Raises:
        PluginError: a family of another package cannot be loaded, or has paths that it must not have.
    """
    families: list[PathFamily] = []
    known: set[str] = set()
    for part in (*plugins.list_own(plugins.ROUTERS), *plugins.list_added(plugins.ROUTERS)):
        family = part.load(PathFamily)
        if family.prefix in {other.prefix for other in families}:
            raise part.make_error(f"another router has the prefix {family.prefix}")
        if not family.prefix.startswith(API) or family.prefix.startswith(OWN):
            raise part.make_error(f"its prefix {family.prefix} must start with {API}, and not with {OWN}")
        # A route of another type, such as a mounted application, could serve any path.
        paths = {route.path if isinstance(route, APIRoute) else "" for route in family.router.routes}
        for path in paths:
            if not path.startswith(family.prefix) or path.startswith(OWN):
                raise part.make_error(f"its path {path or 'of a mounted application'} must start with {family.prefix}")
        if taken := known & paths or {*family.open_paths} - paths:
            raise part.make_error(f"its path {min(taken)} must be a path of its router, and of no other")
        known |= paths
        families.append(family)
    return tuple(families)


def find_family(path: str) -> PathFamily | None:
    """Return the family of a path, None for Ebbtide's own paths and those that are not of the API."""
    if path.startswith(OWN):
        return None
    matches = [family for family in list_families() if path.startswith(family.prefix)]
    return max(matches, key=lambda family: len(family.prefix), default=None)
