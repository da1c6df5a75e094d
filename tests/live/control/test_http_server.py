"""The HTTP server of a live run: its commands, and the requests that it refuses."""

from __future__ import annotations

import logging
import socket
import threading
import webbrowser
from types import SimpleNamespace

import pytest
from starlette.exceptions import HTTPException
from starlette.routing import Route

from rtface.errors import EngineError, InputMissing, OutputError, UsageError
from rtface.live.control.browser import open_in_browser
from rtface.live.control.control_routes import control_routes
from rtface.live.control.http_server import LocalHttpServer
from rtface.live.controls import LiveControls
from tests.live.live_fakes import ask

START = {"enabled": True, "always": False, "strength": 0.5, "look": "clear", "light": 0.0, "cpu_budget": 1.0}


def control(controls, status=dict, port=0, **more):
    routes = control_routes(SimpleNamespace(controls=controls, snapshot=status), None, None)
    return LocalHttpServer(routes, port=port, **more)


@pytest.fixture(scope="module")
def running():
    controls = LiveControls(strength=0.5)
    server = control(controls, lambda: {"fps": 30.0, **controls.values()})
    yield controls, server.server_port
    server.close()


@pytest.fixture
def served(running):
    yield running
    for name, value in START.items():
        running[0].set(name, value)
    running[0].stop.clear()


def raw(port, data, wait=10.0):
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as peer:
        peer.sendall(data)
        found = b""
        while piece := peer.recv(4096):
            found += piece
        return found


@pytest.mark.parametrize(
    ("path", "body", "values"),
    [
        ("/set?enabled=toggle", None, {"enabled": False}),
        ("/set?enabled=false&always=true", None, {"enabled": False, "always": True}),
        ("/set?strength=0.6", None, {"strength": 0.6}),
        ("/set", '{"strength": 0.6, "enabled": false}', {"strength": 0.6, "enabled": False}),
        ("/set?strength=-0.1", None, {"strength": 0.4}),
        ("/set", '{"strength": "+1"}', {"strength": 1.0}),
        ("/set?look=vivid", None, {"look": "vivid"}),
        ("/set", '{"look": 0.75}', {"look": 0.75}),
        ("/set?cpu_budget=0.5&light=+0.25", None, {"cpu_budget": 0.5, "light": 0.25}),
    ],
)
def test_what_is_posted_is_done(served, path, body, values):
    controls, port = served
    expected = START | values
    assert ask(port, "POST", path, body)[:2] == (200, expected)
    assert controls.values() == expected


def test_status_and_end(served):
    controls, port = served
    status, found, headers = ask(port, "GET", "/status")
    assert (status, found["fps"], found["strength"]) == (200, 30.0, 0.5)
    assert headers["Content-Type"] == "application/json"
    assert ask(port, "HEAD", "/status")[0] == 200
    assert ask(port, "POST", "/quit")[0] == 200
    assert controls.stop.is_set()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/set", None, 405, "method not allowed"),
        ("POST", "/status", None, 405, "method not allowed"),
        ("GET", "/x", None, 404, "not found"),
        ("POST", "/set?strength=2", None, 400, "between 0 and 1"),
        ("POST", "/set?strength=nan", None, 400, "number"),
        ("POST", "/set?enabled=0.5", None, 400, "true or false"),
        ("POST", "/set?stop=1", None, 400, "cannot be changed"),
        ("POST", "/set?look=crisp", None, 400, "or faithful, clear or vivid"),
        ("POST", "/set?look=2", None, 400, "between 0 and 1"),
        ("POST", "/set", f'{{"strength": {"9" * 4000}}}', 400, "number"),
        ("POST", "/set", '{"strength": true}', 400, "number"),
        ("POST", "/set", "0.6", 400, "JSON object"),
        ("POST", "/set", "[" * 4000, 400, "JSON object"),
        ("POST", "/set", '{"strength": NaN}', 400, "JSON object"),
        ("POST", "/set", '{"strength": "\\ud800"}', 400, "JSON object"),
        ("POST", "/set", '{"strength": "\\\\u0000"}', 400, "number"),
        ("POST", "/set", " " * 5000, 413, "4096"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(served, method, path, body, status, said):
    controls, port = served
    found, answer, _ = ask(port, method, path, body)
    assert found == status
    assert said in answer["error"]
    assert controls.values() == START


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Host": "localhost:1@evil"},
        {"Host": "localhost:99999999"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
)
def test_pages_of_other_sites_get_nothing(served, headers):
    controls, port = served
    for method, path in (("POST", "/set?enabled=false"), ("GET", "/status"), ("GET", "/preview"), ("POST", "/quit")):
        status, answer, sent = ask(port, method, path, **headers)
        assert status == 403
        assert set(answer) == {"error", "kind", "code", "values"}
        assert "Access-Control-Allow-Origin" not in sent
    assert controls.enabled
    assert not controls.stop.is_set()


def test_our_own_page_and_programs_are_let_in(served):
    _, port = served
    for headers in (
        {"Origin": f"http://127.0.0.1:{port}", "Sec_Fetch_Site": "same-origin"},
        {"Host": "localhost"},
        {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"},
        {"Host": "[::1]:80"},
        {"Sec_Fetch_Site": "none"},
    ):
        assert ask(port, "POST", "/set?enabled=toggle", **headers)[0] == 200


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(served):
    _, port = served
    status, _, headers = ask(port, "GET", "/")
    assert (status, headers["Location"]) == (303, "/preview")
    page = raw(port, b"GET /preview HTTP/1.0\r\nHost: localhost\r\n\r\n").decode()
    assert "content-security-policy: default-src 'none'" in page
    assert "http:" not in page and "https:" not in page and "</html>" in page


def test_the_page_is_opened_in_a_browser_with_windows_only(monkeypatch):
    opened, go = threading.Event(), threading.Event()

    class Browser(webbrowser.BackgroundBrowser):
        def open(self, url, new=0, autoraise=True):
            assert url == "http://127.0.0.1:1/preview"
            opened.set()
            return go.wait(20)

    def none():
        raise webbrowser.Error

    for get, expected in (
        (lambda: Browser("x"), True),
        (lambda: webbrowser.GenericBrowser("false"), False),
        (none, False),
    ):
        monkeypatch.setattr(webbrowser, "get", get)
        assert open_in_browser("http://127.0.0.1:1/preview") is expected  # without waiting for it
    assert opened.wait(5)
    go.set()


def test_it_listens_on_loopback_only_and_a_taken_port_is_said(served):
    _, port = served
    with pytest.raises(UsageError, match=rf"--control {port}.*or 0 to choose a free one"):
        control(LiveControls(), port=port)
    for line in open("/proc/net/tcp").read().splitlines() if hasattr(socket, "AF_UNIX") else []:  # noqa: PTH123, SIM115
        fields = line.split()
        if fields[1].endswith(f":{port:04X}") and fields[3] == "0A":
            assert fields[1].startswith("0100007F")


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InputMissing("gone"), 404, "InputMissing"),
        (UsageError("wrong"), 400, "UsageError"),
        (OutputError("full"), 507, "OutputError"),
        (EngineError("broken"), 422, "EngineError"),
        (HTTPException(413, "long"), 413, "error"),
        (ValueError("a fault"), 500, "error"),
    ],
    ids=str,
)
def test_what_a_route_raises_is_answered(error, status, kind, caplog):
    async def fails(request):
        raise error

    caplog.set_level(logging.DEBUG, "rtface")
    server = LocalHttpServer([Route("/", fails)], port=0)
    answered = ask(server.server_port, "GET", "/")
    server.close()
    assert answered[0] == status and answered[1]["kind"] == kind
    assert [one.levelname for one in caplog.records] == ["DEBUG"] * (status == 500)


def test_it_ends_whoever_is_connected():
    server = control(LiveControls())
    port = int(server.address.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)):
        server.close()
        server.close()
    with pytest.raises(OSError, match=r"."):
        socket.create_connection(("127.0.0.1", port), timeout=1)


@pytest.mark.parametrize(
    ("given", "let_in"),
    [
        ({}, False),
        ({"Authorization": "Bearer wrong"}, False),
        ({"Authorization": "Bearer secret"}, True),
    ],
    ids=str,
)
def test_a_run_with_a_key_answers_only_who_has_it(given, let_in):
    controls = LiveControls(strength=0.5)
    server = control(controls, key="secret")
    port = int(server.address.rsplit(":", 1)[1])
    for method, path in (("GET", "/status"), ("GET", "/preview"), ("POST", "/set?strength=0"), ("POST", "/quit")):
        reply = raw(
            port,
            f"{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n".encode()
            + b"".join(f"{name}: {value}\r\n".encode() for name, value in given.items())
            + b"\r\n",
        )
        assert (b" 401 " not in reply.split(b"\n")[0]) == let_in, path
    server.close()
    assert (controls.stop.is_set(), controls.values()["strength"]) == ((True, 0.0) if let_in else (False, 0.5))
