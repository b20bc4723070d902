"""The page's files, and signing in and out. All else the page gets from the HTTP API."""

from functools import cache
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import Request, Response
from pydantic import BaseModel, Field

from openlaunch.errors import Forbidden, NotFound
from openlaunch.server.access.auth import PRINCIPAL
from openlaunch.server.access.sessions import PAGE_HEADER, SECONDS
from openlaunch.server.asgi import header
from openlaunch.server.control.answers import shown
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import Caller
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.page.overview import add_overview
from openlaunch.server.page.sizes import add_sizes
from openlaunch.wire import routes
from openlaunch.wire.keys import PageLinkResponse, WhoamiResponse

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_HEADERS = {
    # Trusted types: where text would become markup or a script, the browser throws instead.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class SignInRequest(BaseModel):
    """POST /page/sign-in: a key, or the token of a link that signs in once."""

    key: str | None = Field(default=None, repr=False, max_length=1000)
    link: str | None = Field(default=None, repr=False, max_length=100)


def router(context: Context) -> ControlRouter:
    """Serve the page."""
    api = ControlRouter(include_in_schema=False)
    _add_files(api)
    _add_sessions(api, context)
    add_overview(api, context)
    add_sizes(api, context)
    return api


def _add_files(api: ControlRouter) -> None:
    types = {200: {"content": dict.fromkeys(_TYPES.values())}}

    @api.get("/", responses=types)  # type: ignore[arg-type]
    async def show_page() -> Response:
        return _file("index.html")

    @api.get("/page/{name}", responses=types)  # type: ignore[arg-type]
    async def get_page_file(name: str) -> Response:
        return _file(name)


@cache
def _files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.suffix in _TYPES}


def _file(name: str) -> Response:
    content = _files().get(name)
    if content is None:
        raise NotFound(f"the page has no file {name!r}")
    return Response(content, media_type=_TYPES[Path(name).suffix], headers=_HEADERS)


def _add_sessions(api: ControlRouter, context: Context) -> None:
    @api.post("/page/sign-in")
    async def sign_in(body: SignInRequest, request: Request, response: Response) -> WhoamiResponse:
        if header(request.scope, PAGE_HEADER) is None:
            raise Forbidden("only the page signs in: programs send their key with each request")
        principal, value = context.keyring.sign_in(body.key, body.link)
        request.scope[PRINCIPAL] = principal
        response.headers["Set-Cookie"] = _cookie(context, request, value, SECONDS)
        return shown(WhoamiResponse, principal)

    @api.post("/page/sign-out", status_code=204)
    async def sign_out(caller: Caller, request: Request, response: Response) -> None:
        response.headers["Set-Cookie"] = _cookie(context, request, "", 0)

    @api.post(routes.PAGE_LINKS)
    async def create_page_link(caller: Caller) -> PageLinkResponse:
        return PageLinkResponse(link=context.keyring.make_link(caller.key_id))


def _cookie(context: Context, request: Request, value: str, seconds: int) -> str:
    cookie = SimpleCookie({context.keyring.sessions.cookie: value})
    (morsel,) = cookie.values()
    path = urlsplit(context.urls.base_url(request.scope)).path
    morsel["path"] = path or "/"
    morsel["max-age"] = str(seconds)
    morsel["samesite"] = "Strict"
    for name, holds in (("httponly", True), ("secure", request.scope["scheme"] == "https")):
        if holds:
            morsel[name] = "1"
    return morsel.OutputString()
