"""Static assets: Ebbtide's styles and scripts, and the two libraries that ``make assets`` downloads."""

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
#: The URL of an asset contains its content hash, so browsers may cache it indefinitely.
CACHE_FOREVER: Final = "public, max-age=31536000, immutable"


def asset_url(name: str) -> str:
    """Return the URL of a file under ``static``, with its content hash as the query."""
    return f"/static/{name}?{_content_hash(name)}"


@cache
def _content_hash(name: str) -> str:
    path = STATIC / name
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "missing"


@cache
def list_assets() -> dict[str, Path]:
    """Return the files that may be served, by name relative to ``static``."""
    # rglob does not descend into symbolic links, and ``vendor`` may be one.
    paths = (*STATIC.rglob("*"), *(STATIC / "vendor").glob("*"))
    return {path.relative_to(STATIC).as_posix(): path for path in paths if path.is_file() and path.suffix in TYPES}


def serve_asset(name: str, version: str) -> Response:
    """Return the response for a file; ``version`` is the content hash from the URL.

    Raises:
        HTTPException: the file does not exist or may not be served (404).

    """
    path = list_assets().get(name)
    if path is None:
        raise HTTPException(404)
    cache_control = CACHE_FOREVER if version == _content_hash(name) else "no-cache"
    return FileResponse(path, media_type=TYPES[path.suffix], headers={"Cache-Control": cache_control})
