"""The pages that show an OpenAPI document. They load nothing from elsewhere, so they work without internet."""

from html import escape
from pathlib import Path
from typing import Any

from fastapi import Response
from fastapi.responses import HTMLResponse

from openlaunch.server.control.routing import ControlRouter

_FOLDER = Path(__file__).parent / "pages"
_PARTS = {"api.js": "text/javascript", "api.css": "text/css"}
_PART_TYPES: dict[int | str, dict[str, Any]] = {200: {"content": dict.fromkeys(_PARTS.values())}}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
# Where the server is under a path of a proxy's, that path is in none of the links: they are relative.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}docs/api.css">
<script src="{root}docs/api.js" defer></script>
</head>
<body data-root="{root}" data-document="{document}">
<main>
<h1>{title}</h1>
<p><a href="{root}{document}">The description as OpenAPI</a></p>
<div id="operations"><p>Reading the description …</p></div>
<noscript><p>This page needs JavaScript. The description above does not.</p></noscript>
</main>
</body>
</html>
"""


def page(title: str, root: str, document: str) -> HTMLResponse:
    """Make a page that shows a document; `root` is the way from the page to the server's own root."""
    names = {"title": title, "root": root, "document": document}
    return HTMLResponse(
        _PAGE.format(**{name: escape(text) for name, text in names.items()}), headers=_HEADERS
    )


def router() -> ControlRouter:
    """Serve the pages of the server's own API, and the parts of all pages."""
    api = ControlRouter(include_in_schema=False)

    @api.get("/docs", response_class=HTMLResponse)
    @api.get("/redoc", response_class=HTMLResponse)
    async def show_api() -> HTMLResponse:
        return page("Openlaunch", "./", "openapi.json")

    @api.get("/docs/{name}", responses=_PART_TYPES)
    async def get_part(name: str) -> Response:
        if name not in _PARTS:
            return Response(status_code=404)
        return Response((_FOLDER / name).read_bytes(), media_type=_PARTS[name], headers=_HEADERS)

    return api
