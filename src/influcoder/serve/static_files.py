"""The page's scripts and its icon, kept in memory: a file that is read for every request delays the first paint.

GET  /static/NAME    a file of static/
"""

import hashlib
import mimetypes
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from influcoder.serve.problems import not_found

STATIC = Path(__file__).parent / "static"
FILES = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix}
TAGS = {name: f'"{hashlib.sha256(content).hexdigest()[:16]}"' for name, content in FILES.items()}
FRESH = "max-age=300"
"""seconds in which a browser does not ask again; later it asks whether the file is another"""
router = APIRouter(include_in_schema=False)


@router.get("/static/{name:path}")
async def static_file(name: str, request: Request) -> Response:
    """A script or the icon."""
    if name not in FILES:
        raise not_found(f"no file {name!r}.")
    headers = {"ETag": TAGS[name], "Cache-Control": FRESH}
    if request.headers.get("If-None-Match") == TAGS[name]:
        return Response(status_code=304, headers=headers)
    return Response(FILES[name], headers=headers, media_type=mimetypes.guess_type(name)[0])
