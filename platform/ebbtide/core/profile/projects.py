"""The default namespace of a cluster, and the access of the queries of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.core.base.problems import Problem

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Projects, QueryAccess


#: The default namespace of a profile that has none.
NONE: Final = "none"
#: The code of a spec without a namespace where the namespace must be known.
UNKNOWN_NAMESPACE: Final = "NAM006"


def find_default_namespace(projects: Projects) -> str:
    """Return the namespace of a spec that has neither namespace nor project; empty if the deployment decides it."""
    return "" if projects.default_namespace == NONE else projects.default_namespace


def make_project_namespace(projects: Projects, name: str) -> str:
    """Return the namespace of a project by the profile's pattern."""
    return projects.namespace.replace("{project}", name)


def find_query_access(projects: Projects, namespace: str) -> QueryAccess:
    """Return the access of the queries of a namespace: that of the project whose namespace it is, or the default.

    Only the namespace counts, because members can write the labels of their objects. An empty one is unknown.
    """
    known = ((make_project_namespace(projects, name), project.queries) for name, project in projects.known.items())
    return next((access for place, access in known if place == namespace), None) or projects.queries


def report_unknown_namespace(reason: str) -> Problem:
    """Return the error about a spec without a namespace, where the namespace must be known."""
    message = f"the spec sets neither a namespace nor a project, and {reason}"
    fix = "set metadata.namespace or spec.project, or projects.defaultNamespace of the profile"
    return Problem(UNKNOWN_NAMESPACE, ("metadata", "namespace"), message, fix)
