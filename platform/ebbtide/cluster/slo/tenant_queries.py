"""PromQL that members of a project write, limited to the namespace of the project.

``promql_parser`` reads a query, and this module writes it from the syntax tree. So Prometheus gets only text that was written
here, in which every selector has the matcher of the namespace, even if the two parsers read a detail differently. Matchers of
one label are joined by AND (prometheus/prometheus storage/interface.go, ``Select``). ``info`` reads series without a selector
(promql/info.go) and is rejected.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.problems import Problem
from ebbtide.core.profile.projects import find_query_access

if TYPE_CHECKING:
    from ebbtide.core.profile.models import QueryAccess
    from ebbtide.core.translation.plan import Plan

LABEL: Final = "namespace"
#: Limits of a query. The parser recurses, and a deep syntax tree overflows its stack, which ends the process.
MAX_CHARACTERS: Final = 4096
MAX_SIGNS: Final = 512
#: Brackets and operators: each can add a level to the syntax tree.
_SIGNS: Final = re.compile(r"[-+*/%^=!<>(\[{@]|\b(?:and|or|unless|atan2)\b", re.IGNORECASE)
_PLAIN_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OPERATORS: Final = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}
_GROUPS: Final = {"VectorMatchCardinality.ManyToOne": "group_left", "VectorMatchCardinality.OneToMany": "group_right"}


class QueryError(ValueError):
    """A query cannot be read; the message is for its author."""


class ForbiddenQueryError(QueryError):
    """A query reads what the project must not read."""


def scope_query(query: str, namespace: str, access: QueryAccess) -> str:
    """Return the query to send to Prometheus for a query of a member, or raise a ``QueryError``."""
    if access == "any":
        return query
    if access == "none":
        raise ForbiddenQueryError(f"the project of namespace {namespace} must not use queries")
    scoped = _scope(query, namespace)
    if isinstance(scoped, QueryError):
        raise type(scoped)(*scoped.args)
    return scoped


def check_queries(plan: Plan) -> Iterator[Problem]:
    """Report the queries of a spec that the controller would not send to Prometheus."""
    access = find_query_access(plan.cluster.projects, plan.namespace)
    # The controller replaces the placeholder if the deployment decides the namespace.
    namespace = plan.namespace or "{namespace}"
    for index, item in enumerate(plan.spec.autoscaling.metrics):
        query = item.query or ""
        for name, value in (("workload", plan.name), ("namespace", namespace), ("revision", f"{plan.name}-00001")):
            query = query.replace(f"{{{name}}}", value)
        # The translation reports a query of a project without queries.
        if query and access == "own-namespace":
            try:
                scope_query(query, namespace, access)
            except ForbiddenQueryError as error:
                fix = (
                    f"read series of namespace {namespace}, or ask an administrator to set queries: any for the project"
                )
                yield Problem("PRJ008", ("spec", "autoscaling", "metrics", index, "query"), str(error), fix)
            except QueryError as error:
                fix = "write PromQL that promql-parser and Prometheus read"
                yield Problem("AUT094", ("spec", "autoscaling", "metrics", index, "query"), str(error), fix)


@lru_cache(maxsize=2048)
def _scope(query: str, namespace: str) -> str | QueryError:
    """Return the query with the namespace's matcher in each selector, or the error, which is cached too."""
    if len(query) > MAX_CHARACTERS or len(_SIGNS.findall(query)) > MAX_SIGNS:
        return QueryError(
            f"the query is too long: use at most {MAX_CHARACTERS} characters and {MAX_SIGNS} brackets and operators"
        )
    if "`" in query and "\\" in query:
        # The parser reads escapes between backticks, and Prometheus does not.
        return QueryError("the query has backticks and backslashes: write its strings in double quotes")
    # Only workloads with such a query need it.
    import promql_parser  # noqa: PLC0415 - as above

    try:
        return _Writer(namespace).write(promql_parser.parse(query))
    except QueryError as error:
        return error
    except RecursionError:
        return QueryError("the query is nested too deeply")
    except ValueError as error:
        return QueryError(f"the query is not valid PromQL: {error}")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of the parser, as for a[1e30], is a BaseException
        return QueryError(f"the query cannot be read: {error}")


class _Writer:
    """Writer of syntax trees as PromQL, with the matcher of a namespace in each selector."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def write(self, node: Any) -> str:
        """Return the text of an expression. Operations have parentheses, so precedence does not matter."""
        match type(node).__name__:
            case "NumberLiteral":
                return _write_number(node.val)
            case "StringLiteral":
                return _quote(node.val)
            case "ParenExpr":
                return self.write(node.expr)
            case "UnaryExpr":
                return f"(-{self.write(node.expr)})"
            case "VectorSelector":
                return f"{self._write_selector(node)}{_write_time(node)}"
            case "MatrixSelector":
                selector = node.vector_selector
                return f"{self._write_selector(selector)}[{_write_duration(node.range)}]{_write_time(selector)}"
            case "SubqueryExpr":
                step = "" if node.step is None else _write_duration(node.step)
                return f"({self.write(node.expr)})[{_write_duration(node.range)}:{step}]{_write_time(node)}"
            case "AggregateExpr":
                return self._write_aggregation(node)
            case "BinaryExpr":
                operator = f"{node.op}{_write_matching(node.modifier)}"
                return f"({self.write(node.lhs)} {operator} {self.write(node.rhs)})"
            case "Call" if node.func.name != "info":
                return f"{node.func.name}({', '.join(map(self.write, node.args))})"
            case "Call":
                raise ForbiddenQueryError("info() is not allowed, because it reads series without a selector")
            case kind:
                raise QueryError(f"the query has an expression that is not supported: {kind}")

    def _write_selector(self, node: Any) -> str:
        if node.matchers.or_matchers:
            raise QueryError("the query has a selector with `or`, which Prometheus does not support")
        rows = [] if node.name is None else [f"__name__={_quote(node.name)}"]
        for row in node.matchers.matchers:
            operator = _OPERATORS[str(row.op)]
            if row.name == LABEL and operator == "=" and row.value != self._namespace:
                raise ForbiddenQueryError(
                    f"the query reads series with {LABEL}={_quote(row.value)}, and this project may read only those with "
                    f"{LABEL}={_quote(self._namespace)}"
                )
            rows.append(f"{_write_label(row.name)}{operator}{_quote(row.value)}")
        return f"{{{','.join([*rows, f'{LABEL}={_quote(self._namespace)}'])}}}"

    def _write_aggregation(self, node: Any) -> str:
        grouping = ""
        if node.modifier is not None:
            word = "without" if str(node.modifier.type) == "AggModifierType.Without" else "by"
            grouping = f" {word} ({_write_labels(node.modifier.labels)})"
        arguments = [self.write(part) for part in (node.param, node.expr) if part is not None]
        return f"{node.op}{grouping} ({', '.join(arguments)})"


def _write_matching(modifier: Any) -> str:
    """Return the modifiers of an operation between two vectors."""
    if modifier is None:
        return ""
    fill = modifier.fill_values
    if fill.lhs is not None or fill.rhs is not None:
        raise QueryError("the query has a fill modifier, which is not supported")
    words = " bool" if modifier.return_bool else ""
    if modifier.matching is not None:
        word = "ignoring" if str(modifier.matching.type) == "LabelModifierType.Exclude" else "on"
        words += f" {word} ({_write_labels(modifier.matching.labels)})"
    group = _GROUPS.get(str(modifier.card))
    return f"{words} {group} ({_write_labels(modifier.group_labels or ())})" if group else words


def _write_time(node: Any) -> str:
    """Return the modifiers of a selector's time."""
    at = "" if node.at is None else f" {node.at}"
    if node.offset is None:
        return at
    sign = "-" if node.offset < timedelta() else ""
    return f"{at} offset {sign}{_write_duration(abs(node.offset))}"


def _write_duration(duration: timedelta) -> str:
    return f"{duration // timedelta(milliseconds=1)}ms"


def _write_number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"({'-' if value < 0 else '+'}Inf)"
    return f"({value!r})" if value < 0 else repr(value)


def _write_labels(names: Iterable[str]) -> str:
    return ", ".join(map(_write_label, names))


def _write_label(name: str) -> str:
    return name if _PLAIN_LABEL.fullmatch(name) else _quote(name)


def _quote(text: str) -> str:
    """Return a string literal. PromQL's escapes include those of JSON (prometheus/prometheus util/strutil/quote.go)."""
    return json.dumps(text, ensure_ascii=False)
