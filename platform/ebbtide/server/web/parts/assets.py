"""Static assets: Ebbtide's styles and scripts, and the libraries and the typeface that ``make assets`` downloads."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

STATIC: Final = Path(__file__).parents[1] / "static"
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
#: The URL of an asset contains its content hash, so browsers may cache it indefinitely.
CACHE_FOREVER: Final = "public, max-age=31536000, immutable"
#: A style sheet names the typeface without a hash. A week in the cache: no page is drawn twice, first in another typeface.
CACHE_TYPEFACE: Final = "public, max-age=604800"


def asset_url(name: str) -> str:
    """Return the URL of a file under ``static``, with its content hash as the query; a typeface has none."""
    return f"/static/{name}" if name.endswith(".woff2") else f"/static/{name}?{_content_hash(name)}"


@cache
def _content_hash(name: str) -> str:
    path = STATIC / name
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "missing"


@cache
def _compress_asset(name: str) -> bytes:
    """Return a file in gzip's format at the highest level: it is compressed once, and sent often."""
    return gzip.compress((STATIC / name).read_bytes(), mtime=0)


@cache
def list_assets() -> dict[str, Path]:
    """Return the files that may be served, by name relative to ``static``."""
    # rglob does not descend into symbolic links, and ``vendor`` may be one.
    paths = (*STATIC.rglob("*"), *(STATIC / "vendor").glob("*"))
    return {path.relative_to(STATIC).as_posix(): path for path in paths if path.is_file() and path.suffix in TYPES}


def has_libraries() -> bool:
    """Return whether the package contains the libraries. A wheel that was built from a Git checkout may lack them."""
    return any(name.startswith("vendor/") for name in list_assets())


def compress_assets() -> None:
    """Compress all files before they are requested."""
    for name in list_assets():
        _compress_asset(name)


def serve_asset(name: str, request: Request) -> Response:
    """Return the response for a file; the query of its URL is the content hash.

    Raises:
        HTTPException: the file does not exist or may not be served (404).
    """
    path = list_assets().get(name)
    if path is None:
        raise HTTPException(404)
    media_type = TYPES[path.suffix]
    if request.url.query != _content_hash(name):
        policy = CACHE_TYPEFACE if path.suffix == ".woff2" else "no-cache"
        return FileResponse(path, media_type=media_type, headers={"Cache-Control": policy})
    headers = {"Cache-Control": CACHE_FOREVER}
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return FileResponse(path, media_type=media_type, headers=headers)
    headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(_compress_asset(name), media_type=media_type, headers=headers)
