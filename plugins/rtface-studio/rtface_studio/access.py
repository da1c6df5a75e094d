"""Controls access to the studio. Checks a request's token or password, host name and origin."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
import secrets
import sys
from contextlib import suppress
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rtface.errors import UsageError
from rtface.util.files import write_atomically
from rtface.web.access import HEADERS, bearer, foreign, same, with_headers
from rtface.web.http import application, body, error_response
from rtface_studio.entrance_pages import CLOSED, entrance_page, language_of, login_page
from rtface_studio.password import PasswordLogin

_STYLE = "/page/style.css"
_OPEN_PATHS = ("/login", _STYLE)
"""Paths that need no session if there is a login."""
_SESSION_PATHS = ("/login", "/api/logout")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_HEADERS = HEADERS | {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; "
    b"img-src 'self' blob: data:; media-src 'self' blob:; "
    b"connect-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'none'; "
    b"base-uri 'none'; frame-ancestors 'none'",
    b"cross-origin-opener-policy": b"same-origin",
}
# Headers of the log-in page. Without this referrer policy, browsers send its form with the origin "null".
_FORM_HEADERS = {
    b"content-security-policy": b"default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    b"frame-ancestors 'none'",
    b"referrer-policy": b"same-origin",
}
_LOGIN_BYTES = 4096  # maximum size of a log-in form
KEY = "x-rtface-key"
"""Header with the page's key; see `AccessControl`."""
CHECK_S = 2.0
"""Maximum time between the end of a session and the close of its websockets, in seconds."""


def new_token() -> str:
    """Returns a token of 32 random bytes, suitable for a URL."""
    return secrets.token_urlsafe(32)


def kept_token(path: Path) -> str:
    """Reads the token of an earlier start from a file. If the file has no token, or other users can read it, writes a
    new token.

    Raises:
        UsageError: the file cannot be written.
    """
    with suppress(OSError), path.open("rb") as file:
        status = os.fstat(file.fileno())
        private = sys.platform == "win32" or (status.st_uid == os.getuid() and not status.st_mode & 0o077)
        token = file.read(100).decode("ascii", "replace").strip()
        if private and len(token) >= len(new_token()) and token.replace("-", "").replace("_", "").isalnum():
            return token
    token = new_token()
    try:
        write_atomically(path, f"{token}\n".encode(), private=True)
    except OSError as error:
        raise UsageError(
            "--keep-address: {path} cannot be written ({why}); omit the option",
            code="keep_address_unwritable",
            path=path,
            why=error.strerror,
        ) from None
    return token


class AccessControl:
    """ASGI middleware that admits only requests of authorised users.

    The address with ``?token=…`` sets a cookie that scripts cannot read, and redirects to the address without token.
    The cookie then grants access until the server ends. Because browsers send a cookie to all ports of the machine,
    its value is not the token, and it opens only the page. Paths below ``/api/`` need a key derived from the cookie.
    The page gets the key in its first address, stores it where only pages of this port can read it, and sends it in
    the header `KEY` or as ``key=…`` in the address. Programs may send ``Authorization: Bearer TOKEN``. With a `login`
    there is no token: a password at ``/login`` sets the cookie of a session, and ``/api/logout`` ends the session.

    Args:
        app: application that handles the admitted requests.
        token: secret in the address.
        hosts: allowed host names of the server, lower case and without port.
        secure: whether the server uses HTTPS.
        login: password check, used in place of the token. If set, all IP addresses are allowed as hosts, too.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        hosts: frozenset[str],
        secure: bool = False,
        login: PasswordLogin | None = None,
    ) -> None:
        self._app, self._token, self._hosts, self._secure, self._login = app, token, hosts, secure, login
        self._sessions = application([Route(path, self._answer_session, methods=METHODS) for path in _SESSION_PATHS])
        self._cookie_value = new_token()
        self._secret = secrets.token_bytes(32)  # secret from which the keys of cookies are derived

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if (rejection := self._rejection(scope, headers)) is not None:
            await self._reject(rejection, scope, receive, send)
            return
        if scope["type"] == "websocket":
            if self._login is not None:
                receive = _while_open(self._login, _cookie_of(headers), receive)
            await self._app(scope, receive, send)
            return
        if self._login is not None and scope["path"] in _SESSION_PATHS:
            await self._sessions(scope, receive, with_headers(send, _HEADERS | _FORM_HEADERS))
            return
        if self._login is not None and scope["path"] not in _OPEN_PATHS:
            send = _until_closed(self._login, _cookie_of(headers), send)
        # A key in another page's link must not be stored as the page's key.
        if scope["path"] == "/" and "key" in (query := _query(scope)) and not self._is_key(query["key"][-1], headers):
            await RedirectResponse("/", HTTPStatus.SEE_OTHER)(scope, receive, with_headers(send, _HEADERS))
            return
        if (response := self._redirect_with_token(scope)) is not None:
            await response(scope, receive, with_headers(send, _HEADERS))
            return
        await self._app(scope, receive, with_headers(send, _HEADERS))

    def _rejection(self, scope: Scope, headers: Headers) -> UsageError | None:
        """Returns the reason for rejecting a request; None if it is admitted."""
        # A link in another program or page may open the studio's first page, but no other path.
        opened = scope["type"] == "http" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        if (why := foreign(headers, self._is_own, secure=self._secure, opened=opened)) is not None:
            return UsageError(why)
        if scope["type"] == "http" and scope["method"] not in METHODS:
            return UsageError("{method} is not supported", code="method_unknown", method=scope["method"][:20])
        if self._login is not None:
            logged_in = self._login.knows(_cookie_of(headers)) and self._has_key(scope, headers)
            if logged_in or scope["path"] in _OPEN_PATHS:
                return None
            return UsageError("log in first: the token of the session is missing", code="login")
        if scope["type"] == "http" and scope["path"] == _STYLE:  # the page about a missing token needs the style sheet
            return None
        if not (self._has_token(scope, headers) or (scope["type"] == "http" and self._has_token_in_address(scope))):
            return UsageError("the token is missing or wrong", code="token")
        return None

    def _is_own(self, name: str) -> bool:
        """Tests for an allowed host. Another site can point its name to this machine, but cannot use an IP address."""
        with suppress(ValueError):
            return name in self._hosts or (self._login is not None and bool(ipaddress.ip_address(name)))
        return False

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        if token := bearer(headers):
            return same(token, self._token)
        return same(_cookie_of(headers), self._cookie_value) and self._has_key(scope, headers)

    def _has_key(self, scope: Scope, headers: Headers) -> bool:
        """Tests whether a request has the key, if its path needs one."""
        if not scope["path"].startswith("/api/"):
            return True
        return self._is_key(headers.get(KEY) or _query(scope).get("key", [""])[-1], headers)

    def _is_key(self, key: str, headers: Headers) -> bool:
        return same(key, self._key(_cookie_of(headers)))

    def _key(self, cookie: str) -> str:
        return hmac.new(self._secret, cookie.encode(), "sha256").hexdigest()

    def _redirect(self, path: str, name: str, cookie: str) -> RedirectResponse:
        """Sets a cookie, and redirects to an address with the cookie's key."""
        response = RedirectResponse(f"{path}?key={self._key(cookie)}", HTTPStatus.SEE_OTHER)
        response.set_cookie(name, cookie, httponly=True, samesite="strict", secure=self._secure)
        response.headers["cache-control"] = "no-store"
        return response

    async def _answer_session(self, request: Request) -> Response:
        """Answers ``/login`` and ``/api/logout``."""
        login, name = self._login, _cookie_name(request.headers["host"])
        assert login is not None
        if request.url.path == "/api/logout":
            if request.method != "POST":
                return error_response("log out by POST", HTTPStatus.METHOD_NOT_ALLOWED)
            login.log_out(_cookie_of(request.headers))
            response: Response = error_response("logged out", HTTPStatus.OK)
            response.delete_cookie(name)
            return response
        address = request.client.host if request.client else ""
        rejected, wait_s, status = False, 0.0, HTTPStatus.OK
        if request.method == "POST":
            form = (await body(request, _LOGIN_BYTES)).decode("utf-8", "replace")
            password = parse_qs(form).get("password", [""])[0]
            if (token := await run_in_threadpool(login.log_in, address, password)) is not None:
                return self._redirect("/", name, token)
            rejected, wait_s, status = True, login.wait_s(address), HTTPStatus.FORBIDDEN
        return HTMLResponse(
            login_page(language_of(request.headers), rejected, wait_s), status, headers={"cache-control": "no-store"}
        )

    def _has_token_in_address(self, scope: Scope) -> bool:
        tokens = _query(scope).get("token", [])
        return scope["method"] in ("GET", "HEAD") and len(tokens) == 1 and same(tokens[0], self._token)

    def _redirect_with_token(self, scope: Scope) -> RedirectResponse | None:
        """Sets the cookie and redirects if the address contains the token."""
        if self._login is not None or not self._has_token_in_address(scope):
            return None
        host = Headers(scope=scope)["host"]
        path = scope["path"] if scope["path"].startswith("/") and not scope["path"].startswith("//") else "/"
        return self._redirect(path, _cookie_name(host), self._cookie_value)

    async def _reject(self, why: UsageError, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4403, "reason": str(why)[:100]})
            return
        if scope["path"] == "/" and why.code == "login":
            await RedirectResponse("/login", HTTPStatus.SEE_OTHER)(scope, receive, with_headers(send, _HEADERS))
            return
        if scope["path"] == "/" and why.code == "token":
            page = entrance_page(language_of(Headers(scope=scope)), CLOSED)
            await HTMLResponse(page, HTTPStatus.FORBIDDEN)(scope, receive, with_headers(send, _HEADERS))
            return
        await error_response(why.message, HTTPStatus.FORBIDDEN)(scope, receive, with_headers(send, _HEADERS))


def _query(scope: Scope) -> dict[str, list[str]]:
    return parse_qs(scope["query_string"].decode("latin-1"))


def _while_open(login: PasswordLogin, token: str, receive: Receive) -> Receive:
    """Wraps a websocket's `receive`: it reports a disconnection when the session ends."""
    pending: asyncio.Task[Message] | None = None

    async def receive_or_disconnect() -> Message:
        nonlocal pending
        while login.knows(token):
            pending = pending or asyncio.ensure_future(receive())
            try:
                await asyncio.wait([pending], timeout=CHECK_S)
            except asyncio.CancelledError:
                pending.cancel()
                raise
            if pending.done():
                message, pending = pending.result(), None
                return message
        if pending is not None:
            pending.cancel()
        return {"type": "websocket.disconnect", "code": 4403}

    return receive_or_disconnect


def _until_closed(login: PasswordLogin, token: str, send: Send) -> Send:
    """Wraps `send` to end long responses (previews) when the session ends."""

    async def send_if_open(message: Message) -> None:
        if not login.knows(token):
            raise OSError("the session was closed")
        await send(message)

    return send_if_open


def _cookie_name(host: str) -> str:
    """Returns the cookie's name. The name contains the port, because browsers share cookies between ports."""
    port = host.rpartition(":")[2]
    return f"rtface-{port if port.isdecimal() else 'app'}"


def _cookie_of(headers: Headers) -> str:
    """Returns the value of the studio's cookie; "" if there is none."""
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(_cookie_name(headers["host"]))
    except CookieError:
        return ""
    return "" if cookie is None else cookie.value
