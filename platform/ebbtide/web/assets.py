"""What the page loads: our own styles and scripts, and the two libraries that ``make assets`` brings."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

if TYPE_CHECKING:
    from starlette.responses import Response

STATIC: Final = Path(__file__).parent / "static"
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
#: A changed file has a changed address, so that a browser may keep it.
KEEP: Final = "public, max-age=31536000, immutable"


def asset(name: str) -> str:
    """Return the address of a file under ``static``, with its content's hash."""
    return f"/static/{name}?{_hash(name)}"


@cache
def _hash(name: str) -> str:
    path = STATIC / name
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "missing"


@cache
def files() -> dict[str, Path]:
    """Return what may be served by its name; nothing else can be named."""
    # A folder that is a link, as vendor may be, is not walked into.
    found = (*STATIC.rglob("*"), *(STATIC / "vendor").glob("*"))
    return {path.relative_to(STATIC).as_posix(): path for path in found if path.is_file() and path.suffix in TYPES}


def serve(name: str, version: str) -> Response:
    """Return a file; ``version`` is the content's hash that the browser asks for."""
    path = files().get(name)
    if path is None:
        raise HTTPException(404)
    cache_control = KEEP if version == _hash(name) else "no-cache"
    return FileResponse(path, media_type=TYPES[path.suffix], headers={"Cache-Control": cache_control})
