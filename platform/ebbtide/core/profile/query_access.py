"""Access of the queries of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Projects, QueryAccess


def find_query_access(projects: Projects, namespace: str) -> QueryAccess:
    """Return the access of the queries of a namespace: that of the project whose namespace it is, or the default.

    Only the namespace counts, because members can write the labels of their objects.
    """
    known = (
        (projects.namespace.replace("{project}", name), project.queries) for name, project in projects.known.items()
    )
    return next((access for place, access in known if place == namespace), None) or projects.queries
