"""A studio that other machines may reach: TLS, a password, and limits on attempts."""

from __future__ import annotations

import hashlib
import http.client
import logging
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from rtface.errors import UsageError
from rtface_studio.app_command import remote_access
from rtface_studio.context import Studio
from rtface_studio.folders import AllowedFolders
from rtface_studio.password import IDLE_S, PasswordLogin
from rtface_studio.server import StudioServer

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> str:
    """CERT,KEY of a certificate that vouches for itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", *files]
    subprocess.run(words, check=True, capture_output=True)
    return f"{folder / 'cert.pem'},{folder / 'key.pem'}"


@pytest.fixture
def server(pair: str, tmp_path: Path) -> Iterator[StudioServer]:
    (file := tmp_path / "password").write_text(PASSWORD + "\n")
    folder = tmp_path / "films"
    folder.mkdir()
    server = StudioServer(
        Studio(AllowedFolders([folder]), folder),
        host="0.0.0.0",
        port=0,
        remote=remote_access("0.0.0.0", pair, file, ["studio.example"]),
    )
    stop = threading.Event()
    thread = threading.Thread(target=server.run, args=(stop,))
    thread.start()
    yield server
    stop.set()
    thread.join(20)


def ask(
    server: StudioServer, method: str, path: str, body: str | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context)
    connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, response.headers, data


def test_an_address_of_another_machine_is_not_called_a_port(pair: str, tmp_path: Path) -> None:
    (file := tmp_path / "password").write_text(PASSWORD + "\n")
    with pytest.raises(UsageError, match=r"192\.0\.2\.1 is not an address of this machine"):
        StudioServer(
            Studio(AllowedFolders([tmp_path]), tmp_path),
            host="192.0.2.1",
            port=0,
            remote=remote_access("192.0.2.1", pair, file, []),
        )


def test_a_password_opens_a_session_until_it_is_ended(server: StudioServer) -> None:
    assert server.address == f"https://{socket.gethostname()}:{server.port}/"
    status, headers, _ = ask(server, "GET", "/")
    assert status == 303 and headers["location"] == "/login"
    status, headers, page = ask(server, "GET", "/login")
    assert status == 200 and b'type="password"' in page and "form-action 'self'" in headers["content-security-policy"]
    for path in ("/api/about", "/api/files", "/page/main.js", f"/?token={server.token}"):
        assert ask(server, "GET", path)[0] in (403, 303)
    assert ask(server, "GET", "/api/about", Authorization=f"Bearer {server.token}")[0] == 403
    status, headers, _ = ask(server, "POST", "/login", urlencode({"password": PASSWORD}))
    cookie = headers["set-cookie"]
    assert status == 303 and "Secure" in cookie and "HttpOnly" in cookie and "SameSite=strict" in cookie
    proof, key = cookie.partition(";")[0], headers["location"].partition("?key=")[2]
    assert ask(server, "GET", "/api/about", Cookie=proof)[0] == 403
    own = {"Cookie": proof, "X_Rtface_Key": key}
    assert ask(server, "GET", "/api/about", **own)[0] == 200
    assert ask(server, "GET", "/api/about", **own, Host=f"studio.example:{server.port}")[0] == 200
    for address in ("192.0.2.7", "[2001:db8::7]"):  # no page of another site has such a name
        assert ask(server, "GET", "/api/about", **own, Host=f"{address}:{server.port}")[0] == 200
    assert ask(server, "GET", "/login", Host="other.example")[0] == 403
    assert ask(server, "GET", "/api/logout", **own)[0] == 405
    assert ask(server, "POST", "/api/logout", **own, Origin="https://other.example")[0] == 403
    assert ask(server, "GET", "/api/about", **own)[0] == 200
    assert ask(server, "POST", "/api/logout", **own)[0] == 200
    assert ask(server, "GET", "/api/about", **own)[0] == 403


@pytest.mark.slow
def test_log_in_and_out_in_the_browser(server: StudioServer, browser: Any) -> None:
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.goto(f"https://127.0.0.1:{server.port}/")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Films").wait_for()
    other = context.new_page()
    other.set_default_timeout(15_000)
    other.goto(page.url)
    other.get_by_role("link", name="Films").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Password").wait_for()
    other.get_by_label("Password").wait_for()
    context.close()


def test_broken_connections_write_nothing_to_the_terminal(
    server: StudioServer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with opened(server, "POST /api/about HTTP/1.1\r\nTransfer-Encoding: chunked") as client:
            assert b" 403 " in client.recv(1 << 16)
            client.sendall(b"zz\r\n")  # where a chunk's length belongs
            while client.recv(1 << 16):
                pass
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain:
        plain.sendall(b"GET /login HTTP/1.1\r\n\r\n")  # without TLS
        assert plain.recv(1 << 16) == b""
    assert ask(server, "GET", "/login")[0] == 200
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_wrong_passwords_have_to_wait(server: StudioServer) -> None:
    for _ in range(5):
        status, headers, page = ask(server, "POST", "/login", urlencode({"password": "wrong"}))
        assert status == 403 and "set-cookie" not in headers
    assert b"Wait" in page
    assert b"Passwort" in ask(server, "GET", "/login", **{"Accept-Language": "de-AT,de;q=0.9,en;q=0.8"})[2]
    assert ask(server, "POST", "/login", "x" * 5000)[0] == 413


def test_no_header_chooses_the_address_that_waits(server: StudioServer) -> None:
    for number in range(4):
        page = ask(server, "POST", "/login", urlencode({"password": "wrong"}), X_Forwarded_For=f"10.0.0.{number}")[2]
    assert b"Wait" in page


def test_a_session_ends_when_nobody_uses_it() -> None:
    now = 0.0
    login = PasswordLogin(PASSWORD, clock=lambda: now)
    token = login.log_in("a", PASSWORD)
    assert token is not None
    for _ in range(2):
        now += IDLE_S - 1
        assert login.knows(token) and not login.knows("another")
    now += IDLE_S
    assert not login.knows(token)


def test_waits_grow_and_end() -> None:
    now = 0.0
    login = PasswordLogin(PASSWORD, clock=lambda: now)
    waits = []
    for _ in range(6):
        assert login.log_in("a", "wrong") is None
        waits.append(login.wait_s("a"))
        now += waits[-1]
    assert waits == [0, 0, 1, 2, 4, 8]
    login.log_in("a", "wrong")
    assert login.log_in("a", PASSWORD) is None, "the right one has to wait, too"
    assert login.wait_s("b") == 0 and (token := login.log_in("b", PASSWORD)) is not None and login.knows(token)


def test_attempts_at_the_same_time_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    login = PasswordLogin(PASSWORD, clock=lambda: 0.0)
    checked: list[bytes] = []
    barrier, scrypt = threading.Barrier(8), hashlib.scrypt

    def attempt(_: int) -> str | None:
        barrier.wait(20)
        return login.log_in("a", "wrong")

    monkeypatch.setattr(hashlib, "scrypt", lambda text, **more: (checked.append(text), scrypt(text, **more))[1])
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(attempt, range(8))) == [None] * 8
    assert len(checked) == 3, "the others have to wait"


def test_other_machines_need_tls_and_a_password(pair: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studio = Studio(AllowedFolders([tmp_path]), tmp_path)
    with pytest.raises(UsageError, match="requires TLS and a password"):
        StudioServer(studio, host="0.0.0.0", port=0)
    with pytest.raises(UsageError, match="at least 12 characters"):
        remote_access("0.0.0.0", pair, None, [])
    monkeypatch.setenv("RTFACE_APP_PASSWORD", PASSWORD)
    (wrong := tmp_path / "wrong.pem").write_text("no certificate")
    with pytest.raises(UsageError, match="both as PEM"):
        StudioServer(studio, host="0.0.0.0", port=0, remote=remote_access("0.0.0.0", f"{wrong},{wrong}", None, []))
    with pytest.raises(UsageError, match="its key"):
        remote_access("0.0.0.0", str(wrong), None, [])
    assert remote_access("127.0.0.1", None, None, []) is None
    with pytest.raises(UsageError, match="cannot be read"):
        remote_access("0.0.0.0", pair, tmp_path / "none", [])


def opened(server: StudioServer, head: str) -> ssl.SSLSocket:
    """A connection that has sent the head of a request, and no body yet."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = context.wrap_socket(socket.create_connection(("127.0.0.1", server.port), timeout=10))
    client.sendall(f"{head}\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
    return client
