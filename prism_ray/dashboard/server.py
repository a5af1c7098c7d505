"""The server of the dashboard: aiohttp on 127.0.0.1, only for readers who have the token of the link."""

import asyncio
import hmac
import os
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files as resources
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from prism_ray.analyze.plotly_script import plotly_script
from prism_ray.dashboard.state import DashboardState
from prism_ray.errors import PrismRayError, UsageError

HOST = "127.0.0.1"
COOKIE = "prism_ray_token"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_FILES: Mapping[str, str] = {"page.html": "text/html", "page.js": "text/javascript", "page.css": "text/css"}


def make_app(state: DashboardState, token: str) -> web.Application:
    """Return the application: the page, its files, and the state as JSON. Only GET; nothing is written."""
    app = web.Application(middlewares=[_guard(token)])
    script = plotly_script().encode()
    for name, kind in _FILES.items():
        path = "/" if name == "page.html" else f"/{name}"
        app.router.add_get(path, partial(_static, (resources(__package__) / name).read_bytes(), kind))
    app.router.add_get("/plotly.js", partial(_static, script, "text/javascript"))
    for name in ("state", "images", "curves"):
        app.router.add_get(f"/{name}.json", partial(_answer, getattr(state, name)))
    return app


async def serve(state: DashboardState, port: int, ready: Callable[[str], None]) -> None:
    """Serve until cancelled; `ready` is called with the link. Port 0 takes a free one.

    Raises UsageError if the port is taken or plotly is missing.
    """
    token = secrets.token_urlsafe(16)
    runner = web.AppRunner(make_app(state, token), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        try:
            await site.start()
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno else str(error)
            raise UsageError(f"--port {port}: {why}; give another one, or 0 for a free one") from None
        ready(f"http://{HOST}:{runner.addresses[0][1]}/?token={token}")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _guard(token: str) -> Middleware:
    """Return what refuses requests without the token, and those that a page of another name caused.

    Such a page (DNS rebinding) lets its own name point to this machine, so the Host of its requests is wrong.
    """

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (request.host or "").partition(":")[0] not in (HOST, "localhost"):
            return web.Response(status=403, text="ask for 127.0.0.1", headers=_HEADERS)
        given = request.query.get("token") or request.cookies.get(COOKIE, "")
        if not hmac.compare_digest(given.encode(), token.encode()):
            text = "open the link that `prism-ray dashboard` printed: it has a token"
            return web.Response(status=403, text=text, headers=_HEADERS)
        response = await handler(request)
        response.headers.update(_HEADERS)
        if "token" in request.query:
            response.set_cookie(COOKIE, token, httponly=True, samesite="Strict")
        return response

    return guard


async def _static(data: bytes, kind: str, request: web.Request) -> web.Response:
    return web.Response(body=data, content_type=kind, charset="utf-8")


async def _answer(read: Callable[[], dict[str, Any]], request: web.Request) -> web.Response:
    """Answer with what `read` returns; a store that cannot be read now is told, and the page asks again."""
    try:
        return web.json_response(await asyncio.to_thread(read))
    except PrismRayError as error:
        return web.json_response({"error": str(error)}, status=503)
