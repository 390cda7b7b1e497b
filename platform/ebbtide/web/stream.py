"""The stream that keeps open pages up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import StreamingResponse

from ebbtide.web.frame import Page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.responses import Response

    from ebbtide.web.frame import Visit


def stream(lines: AsyncIterator[str]) -> Response:
    """Return server-sent events; no proxy may hold them back."""
    return StreamingResponse(
        lines, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


async def live(visit: Visit) -> Response:
    """Stream the events of a page."""
    return stream(visit.frame.pulse.events(visit.request))


PAGES: Final = (Page("GET", "/live", live),)
