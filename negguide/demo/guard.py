"""Who may speak to the server: names it is called by (against DNS rebinding), pages that may ask, and logins."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import secrets
import socket
from collections.abc import Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ANY = "*"
USER = "negguide_user"
OPEN = ("/login", "/logout", "/assets/", "/static/", "/svelte/", "/theme.css", "/favicon.ico", "/manifest.json",
        "/pwa_icon", "/robots.txt", "/gradio_api/login_check", "/gradio_api/startup-events", "/gradio_api/app_id")  # fmt: skip
"""What the login page itself needs; all else needs a login where there is one."""


class Guard:
    """ASGI middleware in front of everything.

    Args:
        app: what it stands before.
        hosts: names the server may be called by, beside addresses (which nobody can rebind), localhost and the machine's own
            name; "*" for any. The same names may be the origin of a page that asks.
        logins: (user, password) pairs; without any, no login is needed.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] = (), logins: Sequence[tuple[str, str]] = ()) -> None:
        self.app, self.logins = app, dict(logins)
        names = (socket.gethostname(), "localhost", *hosts)
        self.hosts = {name.lower().rstrip(".") for name in (*names, f"{socket.gethostname()}.local")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer why not."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif refusal := self.refusal(scope):
            await self._refuse(scope, receive, send, *refusal)
        else:
            await self.app(scope, receive, send)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """(status, reason) for a request that may not pass; notes who it is from in the scope."""
        headers = Headers(scope=scope)
        for name in ("host", "x-forwarded-host"):
            for host in headers.getlist(name):
                if not self._is_ours(host.split(",")[0]):
                    return (
                        403,
                        f"this server is not called {_name_of(host)[:80]!r}; start it with --allow-host for that name",
                    )
        origin = headers.get("origin")
        if origin is not None and not self._may_ask(origin, headers):
            return 403, f"pages of {origin[:80]!r} may not ask here; start the server with --allow-host for that name"
        if self.logins:
            scope[USER] = self._user(scope, headers)
            path = str(scope.get("path", "/"))
            is_open = path == "/" or any(path.startswith(part) for part in OPEN)
            if scope[USER] is None and not is_open:
                return 401, "a login is needed"
        return None

    def _is_ours(self, host: str) -> bool:
        name = _name_of(host)
        return ANY in self.hosts or name in self.hosts or _is_address(name)

    def _may_ask(self, origin: str, headers: Headers) -> bool:
        name = (urlsplit(origin).hostname or "") if "//" in origin else ""
        asked = [_name_of(host.split(",")[0]) for key in ("host", "x-forwarded-host") for host in headers.getlist(key)]
        both_local = _is_local(name) and any(map(_is_local, asked))
        return ANY in self.hosts or (bool(name) and (name in self.hosts - {"localhost"} or name in asked or both_local))

    def _user(self, scope: Mapping[str, object], headers: Headers) -> str | None:
        """Who has logged in: by gradio's cookie, or by name and password with the request (Basic)."""
        kind, _, text = headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError, ValueError):
                return None
            right_password = self.logins.get(name, secrets.token_hex())
            return name if secrets.compare_digest(password.encode(), right_password.encode()) else None
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return None
        app = scope.get("app")
        tokens, cookie = getattr(app, "tokens", None) or {}, getattr(app, "cookie_id", "")
        for name in (f"access-token-{cookie}", f"access-token-unsecure-{cookie}"):
            if name in cookies and (user := tokens.get(cookies[name].value)):
                return str(user)
        return None

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, status: int, reason: str) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": reason[:120]})
            return
        more = (
            {"WWW-Authenticate": 'Basic realm="negguide"'}
            if status == 401 and scope["path"].startswith("/gradio_api/mcp")
            else {}
        )
        await PlainTextResponse(reason, status, headers=more)(scope, receive, send)


def user_of(scope: Scope) -> str | None:
    """Who the guard found a request to be from; None without logins."""
    return scope.get(USER)


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0].rstrip(".") if host.count(":") == 1 else host.rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_local(name: str) -> bool:
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)
