"""What every path is given: the backend and who asks; and how lists are filtered, sorted and cut into pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from fastapi import Depends, Query, Request, Security
from fastapi.security import HTTPBearer

from ebbtide.api import answers

# FastAPI reads these as the program runs.
from ebbtide.api.access import Caller  # noqa: TC001
from ebbtide.api.backend import Backend  # noqa: TC001
from ebbtide.api.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

BEARER: Final = HTTPBearer(
    auto_error=False,
    description="A Kubernetes token: of a service account, or of a user by whoever logs users in.",
)
LIMIT: Final = 500
OFFSET: Final = 1_000_000
#: What compares in a filter, the longer ones first.
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
_PART: Final = re.compile(r"(?P<field>[A-Za-z0-9]+)(?P<operator>==|!=|<=|>=|=@|!@|=\^|=\$)(?P<value>.+)", re.DOTALL)
_NEXT: Final = re.compile(r",(?=[A-Za-z0-9]+(?:==|!=|<=|>=|=@|!@|=\^|=\$))")


@dataclass(frozen=True, slots=True)
class Asked:
    """The backend, and who asks."""

    backend: Backend
    caller: Caller


async def asked(request: Request, _: Annotated[Any, Security(BEARER)] = None) -> Asked:
    """Return the backend and the caller, whom the gate has identified."""
    return Asked(request.app.state.backend, request.state.caller)


#: A path's first argument.
Who = Annotated[Asked, Depends(asked)]
Offset = Annotated[int, Query(ge=0, le=OFFSET, description="The first item's place.")]
Limit = Annotated[int, Query(ge=1, le=LIMIT, description="The most items to return.")]
Search = Annotated[str, Query(max_length=200, description="Only what has this in its name, project or state.")]
Filters = Annotated[
    str,
    Query(
        alias="filterBy",
        max_length=2_000,
        description="Conditions that all must hold, with commas between them: a field, an operator of == != <= >= =@ !@ "
        "=^ =$, and a value.",
    ),
]


def matching(
    rows: Sequence[T], filters: str, fields: Mapping[str, Callable[[T], Any]], unknown: Mapping[str, str]
) -> list[T]:
    """Return the rows for which every condition of ``filterBy`` holds.

    ``unknown`` are fields that the API has and this cluster cannot know, with the reason.

    Raises:
        RequestError: a condition cannot be read.

    """
    found = [*rows]
    for part in _NEXT.split(filters) if filters else ():
        match = _PART.fullmatch(part)
        if match is None:
            raise RequestError(
                "filterBy", f"{part!r} is no condition", "write a field, an operator and a value: name==chat"
            )
        read = _field("filterBy", match["field"], fields, unknown)
        holds, value = OPERATORS[match["operator"]], match["value"]
        found = [row for row in found if _holds(holds, read(row), value, match["field"])]
    return found


def _holds(holds: Callable[[Any, Any], bool], own: Any, value: str, field: str) -> bool:
    if isinstance(own, (int, float)) and not isinstance(own, bool):
        try:
            return holds(own, float(value))
        except ValueError:
            raise RequestError("filterBy", f"{field} is a number", f"write {field}>=1") from None
    if isinstance(own, datetime):
        return holds(own, moment("filterBy", value))
    return holds(own, value)


def moment(where: str, text: str) -> datetime:
    """Return a time of ISO 8601, in UTC where it has no zone.

    Raises:
        RequestError: it is none.

    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise RequestError(where, f"{text[:60]!r} is no time", "write 2026-01-31T12:00:00Z") from None
    return found.replace(tzinfo=found.tzinfo or UTC)


def ordered(
    rows: list[T],
    by: str,
    order: str,
    fields: Mapping[str, Callable[[T], Any]],
    unknown: Mapping[str, str],
) -> list[T]:
    """Return the rows sorted by a field; as they are where none is named.

    Raises:
        RequestError: there is no such field, or no such order.

    """
    if order not in {"asc", "desc"}:
        raise RequestError("sortOrder", f"{order[:60]!r} is no order", "write asc or desc")
    if not by:
        return rows
    return sorted(rows, key=_field("sortBy", by, fields, unknown), reverse=order == "desc")


def _field(
    where: str, name: str, fields: Mapping[str, Callable[[T], Any]], unknown: Mapping[str, str]
) -> Callable[[T], Any]:
    found = fields.get(name)
    if found is None:
        why = unknown.get(name, "there is no such field")
        raise RequestError(where, f"{name[:60]}: {why}", f"use {', '.join(fields)}")
    return found


def page(rows: Sequence[T], offset: int, limit: int) -> tuple[Sequence[T], int | None]:
    """Return a page, and the offset of the next one, or None."""
    end = offset + limit
    return rows[offset:end], end if end < len(rows) else None


def refusals(model: type[Any], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of the errors that a path may answer with."""
    media = "application/problem+json" if model is answers.Refusal else "application/json"
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {status: {"description": ERRORS[status], "content": {media: {"schema": schema}}} for status in statuses}


#: What each status says.
ERRORS: Final = {
    400: "The request has errors.",
    401: "Nobody is known by this token.",
    403: "The caller may not, or the server is read-only.",
    404: "There is no such thing that the caller may see.",
    409: "There is one already, or others own what would be changed.",
    413: "The request is too large.",
    421: "The server is not called so.",
    422: "The request or its spec has errors, or the cluster refuses it.",
    429: "Too much is asked at once.",
    431: "The headers are too large.",
    500: "A defect.",
    502: "The cluster said no.",
    503: "The cluster, Prometheus or this server cannot answer now.",
    504: "It took too long.",
}
