"""The default namespace of a cluster, and what the queries of a project may ask Prometheus.

prom-label-proxy limits each selector of a query to a namespace, but not those in the parameter of an aggregation:
``EnforceNode`` visits only the aggregated expression (github.com/prometheus-community/prom-label-proxy v0.14.0
injectproxy/enforce.go). The parameter is a scalar, and only ``scalar()`` makes one from series (github.com/prometheus/prometheus
promql/parser/parse.go, ``checkAST``; functions.go), so a query with both is rejected before.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ebbtide.core.base.problems import Problem

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Projects, QueryAccess


#: The default namespace of a profile that has none.
NONE: Final = "none"
#: The code of a spec without a namespace where the namespace must be known.
UNKNOWN_NAMESPACE: Final = "NAM006"
#: Maximum length of a query that prom-label-proxy gets: it is part of a URL, and a deep one costs the proxy memory.
MAX_QUERY_CHARACTERS: Final = 4096
#: Control characters and surrogates. A query may have several lines.
_CONTROL: Final = re.compile(r"[^\t\n\r -~\xa0-\ud7ff\ue000-\U0010ffff]")
#: The aggregations with a parameter that is a scalar; the parser accepts them in any case.
_PARAMETERS: Final = re.compile(r"\b(?:topk|bottomk|quantile|limitk|limit_ratio)\b", re.ASCII | re.IGNORECASE)
_SCALAR: Final = re.compile(r"\bscalar\b", re.ASCII)


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


def find_query_fault(query: str) -> str:
    """Return why prom-label-proxy must not get a query; empty if it may. It rejects one with a syntax error itself."""
    if len(query) > MAX_QUERY_CHARACTERS:
        return f"the query is too long: use at most {MAX_QUERY_CHARACTERS:,} characters"
    if _CONTROL.search(query):
        return "the query has control characters: use only printable ones, spaces, tabs and line breaks"
    if (found := _PARAMETERS.search(query)) and _SCALAR.search(query):
        name = found[0].lower()
        return f"prom-label-proxy does not limit the series of scalar() in {name}: use {name} or scalar(), not both"
    return ""


def report_unknown_namespace(reason: str) -> Problem:
    """Return the error about a spec without a namespace, where the namespace must be known."""
    message = f"the spec sets neither a namespace nor a project, and {reason}"
    fix = "set metadata.namespace or spec.project, or projects.defaultNamespace of the profile"
    return Problem(UNKNOWN_NAMESPACE, ("metadata", "namespace"), message, fix)
