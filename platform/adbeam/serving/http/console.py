"""The console: a page of the application itself that shows its load and its beams, and lets one ask for ads.

Plain files, no build step. The page holds no data: what it shows comes from /v1/*, under the same authentication.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Request
from starlette.responses import Response

PAGE = "console.html"
MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_console(api: FastAPI) -> None:
    """Serve the page at /console and its files below it."""
    folder = files("adbeam.serving.http") / "console_page"
    for source in folder.iterdir():
        kind = MEDIA_TYPES.get(source.name.rpartition(".")[2])
        if kind is not None:
            path = "/console" if source.name == PAGE else f"/console/{source.name}"
            _add_file(api, path, source.read_bytes(), kind)


def _add_file(api: FastAPI, path: str, body: bytes, kind: str) -> None:
    async def answer(request: Request) -> Response:
        return Response(body, media_type=kind, headers=HEADERS)

    api.add_route(path, answer, methods=["GET"])
