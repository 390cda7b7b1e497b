"""Arguments that every path takes (the backend and the caller), and the filtering, sorting and paging of lists."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Query, Request, Security
from fastapi.security import HTTPBearer

from ebbtide.server.api import answers

# FastAPI resolves these annotations at run time.
from ebbtide.server.api.access import Caller
from ebbtide.server.api.backend import Backend
from ebbtide.server.api.errors import FOR_STATUS, ROWS, UNFORESEEN, RequestError

T = TypeVar("T")

BEARER: Final = HTTPBearer(
    auto_error=False,
    description="A Kubernetes token: of a service account, or of a user, as issued by the cluster's identity provider.",
)
MAX_LIMIT: Final = 500
MAX_OFFSET: Final = 1_000_000
#: Operators of ``filterBy``.
OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "=@": lambda a, b: str(b).lower() in str(a).lower(),
    "!@": lambda a, b: str(b).lower() not in str(a).lower(),
    "=^": lambda a, b: str(a).lower().startswith(str(b).lower()),
    "=$": lambda a, b: str(a).lower().endswith(str(b).lower()),
}
_CONDITION: Final = re.compile(
    r"(?P<field>[A-Za-z0-9]+)(?P<operator>==|!=|<=|>=|=@|!@|=\^|=\$)(?P<value>.+)", re.DOTALL
)
_SEPARATOR: Final = re.compile(r",(?=[A-Za-z0-9]+(?:==|!=|<=|>=|=@|!@|=\^|=\$))")


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The backend and the caller of a request."""

    backend: Backend
    caller: Caller


async def make_context(request: Request, _: Annotated[Any, Security(BEARER)] = None) -> RequestContext:
    """Return the backend and the caller, which the gate has authenticated."""
    return RequestContext(request.app.state.backend, request.state.caller)


#: The first argument of a path's function.
Context = Annotated[RequestContext, Depends(make_context)]
Offset = Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Zero-based index of the first item to return.")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Maximum number of items to return.")]
Search = Annotated[
    str, Query(max_length=200, description="Return only items whose name, project or phase contains this text.")
]
Filters = Annotated[
    str,
    Query(
        alias="filterBy",
        max_length=2_000,
        description="Comma-separated conditions that an item must all meet. Each is a field, an operator (== != <= >= "
        "=@ !@ =^ =$) and a value, such as name==chat.",
    ),
]


def filter_rows(
    rows: Sequence[T], filters: str, fields: Mapping[str, Callable[[T], Any]], unknown: Mapping[str, str]
) -> list[T]:
    """Return the rows that meet every condition of ``filterBy``.

    ``unknown`` maps fields that Run:ai's API has and this cluster cannot provide to the reason.

    Raises:
        RequestError: a condition is invalid.
    """
    matches = [*rows]
    for condition in _SEPARATOR.split(filters) if filters else ():
        match = _CONDITION.fullmatch(condition)
        if match is None:
            raise RequestError(
                "filterBy",
                f"invalid condition {condition!r}",
                "write a field, an operator and a value, such as name==chat",
            )
        get_value = _find_field("filterBy", match["field"], fields, unknown)
        holds, value = OPERATORS[match["operator"]], match["value"]
        matches = [row for row in matches if _meets_condition(holds, get_value(row), value, match["field"])]
    return matches


def _meets_condition(holds: Callable[[Any, Any], bool], actual: Any, value: str, field: str) -> bool:
    if isinstance(actual, (int, float)) and not isinstance(actual, bool):
        try:
            return holds(actual, float(value))
        except ValueError:
            raise RequestError("filterBy", f"{field} must be compared with a number", f"write {field}>=1") from None
    if isinstance(actual, datetime):
        return holds(actual, parse_moment("filterBy", value))
    return holds(actual, value)


def parse_moment(where: str, text: str) -> datetime:
    """Parse an ISO 8601 time; one without a time zone is in UTC.

    Raises:
        RequestError: the text is not an ISO 8601 time.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise RequestError(
            where, f"invalid time {text[:60]!r}: must be ISO 8601", "write 2026-01-31T12:00:00Z"
        ) from None
    return time.replace(tzinfo=time.tzinfo or UTC)


def sort_rows(
    rows: list[T], by: str, order: str, fields: Mapping[str, Callable[[T], Any]], unknown: Mapping[str, str]
) -> list[T]:
    """Return the rows sorted by a field, or in their present order if no field is named.

    Raises:
        RequestError: the field is unknown, or the order is not asc or desc.
    """
    require_order(order)
    if not by:
        return rows
    return sorted(rows, key=_find_field("sortBy", by, fields, unknown), reverse=order == "desc")


def require_order(order: str) -> None:
    """Raise a ``RequestError`` unless the order is asc or desc."""
    if order not in {"asc", "desc"}:
        raise RequestError("sortOrder", f"invalid sort order {order[:60]!r}: must be asc or desc", "write asc or desc")


def _find_field(
    where: str, name: str, fields: Mapping[str, Callable[[T], Any]], unknown: Mapping[str, str]
) -> Callable[[T], Any]:
    get_value = fields.get(name)
    if get_value is None:
        message = f"{name[:60]}: {unknown[name]}" if name in unknown else f"unknown field {name[:60]}"
        raise RequestError(where, message, f"use {', '.join(fields)}")
    return get_value


def slice_page(rows: Sequence[T], offset: int, limit: int) -> tuple[Sequence[T], int | None]:
    """Return one page of the rows, and the offset of the next page or None."""
    end = offset + limit
    return rows[offset:end], end if end < len(rows) else None


def describe_errors(model: type[Any], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the errors that a path can return."""
    media = "application/problem+json" if model is answers.Refusal else "application/json"
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    rows = (*(row for _, row in ROWS), *FOR_STATUS.values(), UNFORESEEN)
    titles = {status: dict.fromkeys(row.title for row in rows if row.status == status) for status in statuses}
    return {
        status: {"description": "; ".join(titles[status]), "content": {media: {"schema": schema}}}
        for status in statuses
    }
