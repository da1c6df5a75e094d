"""Who may use the studio."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from rtface.errors import RtfaceError, UsageError
from rtface_studio.access import AccessControl, kept_token
from rtface_studio.folders import AllowedFolders
from rtface_studio.password import PasswordLogin
from rtface_studio.running import publish_address, running_address
from tests.studio.conftest import RunningStudio

PICTURE = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


def ask(studio: RunningStudio, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """Status and JSON (or bytes) of a response, with the token unless headers say otherwise."""
    connection = http.client.HTTPConnection("127.0.0.1", studio.server.port, timeout=20)
    given = {"Authorization": f"Bearer {studio.server.token}"} | {k.replace("_", "-"): v for k, v in headers.items()}
    connection.request(method, path, body, {k: v for k, v in given.items() if v})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, json.loads(data) if "json" in response.headers.get("content-type", "") else data


def call(studio: RunningStudio, method: str, route: str, /, **body: Any) -> tuple[int, Any]:
    return ask(studio, method, route, json.dumps(body).encode())


def test_token_in_the_address_becomes_a_cookie(studio: RunningStudio) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", studio.server.port, timeout=20)
    connection.request("GET", f"/?token={studio.server.token}")
    response = connection.getresponse()
    response.read()
    path, _, key = response.headers["location"].partition("?key=")
    cookie = response.headers["set-cookie"]
    assert response.status == 303 and path == "/" and "HttpOnly" in cookie and "SameSite=strict" in cookie
    cookie = cookie.partition(";")[0]
    # Browsers send the cookie to other ports, too: it opens the page, and nothing else.
    for path, headers, status in (
        ("/", {}, 200),
        ("/api/about", {}, 403),
        ("/api/events?key=", {}, 403),
        ("/api/about", {"X-Rtface-Key": key}, 200),
        (f"/api/about?key={key}", {}, 200),
        ("/api/about", {"X-Rtface-Key": "0" * 64}, 403),
    ):
        connection.request("GET", path, headers={"Cookie": cookie, **headers})
        response = connection.getresponse()
        assert key not in response.read().decode() and response.status == status, path
    connection.request("GET", "/?key=another", headers={"Cookie": cookie})  # another page leads here: it is not kept
    response = connection.getresponse()
    assert response.read() is not None and (response.status, response.headers["location"]) == (303, "/")
    connection.request("GET", "/", headers={"X-Rtface-Key": key})
    assert connection.getresponse().status == 403
    connection.close()


def test_who_has_no_token_is_told_how_to_go_on(studio: RunningStudio) -> None:
    status, page = ask(studio, "GET", "/", Authorization="", Accept_Language="de")
    assert status == 403 and b"style.css" in page and b"rtface app" in page
    assert ask(studio, "GET", "/page/style.css", Authorization="")[0] == 200
    assert ask(studio, "GET", "/page/main.js", Authorization="")[0] == 403
    assert ask(studio, "GET", "/page/style.css", Authorization="", Origin="https://other.example")[0] == 403


def test_a_second_start_opens_the_studio_that_runs(studio: RunningStudio) -> None:
    assert running_address() is None
    with publish_address(studio.address):
        (file,) = (studio.folder.parent / "data").glob("studio-address")
        assert running_address() == studio.address and not file.stat().st_mode & 0o077
        done = subprocess.run(
            [sys.executable, "-m", "rtface", "app", "--no-browser", "--port", str(studio.server.port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, f"{studio.address}\n"), done.stderr
    assert running_address() is None and not file.exists()


def test_kept_token_is_the_next_starts_unless_others_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "data" / "studio-token"
    first = kept_token(file)
    assert kept_token(file) == first and len(first) >= 43 and not file.stat().st_mode & 0o077
    file.chmod(0o644)
    second = kept_token(file)
    assert second != first and kept_token(file) == second
    file.write_text("short\n")
    assert len(kept_token(file)) >= 43
    with pytest.raises(UsageError, match="--keep-address"):
        kept_token(file / "below")


def test_other_senders_are_refused(studio: RunningStudio) -> None:
    for headers in (
        {"Authorization": ""},
        {"Authorization": "Bearer wrong"},
        {"Host": "example.org"},
        {"Origin": "http://example.org"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ):
        status, value = ask(studio, "GET", "/api/about", **headers)
        assert status == 403 and "version" not in value, headers


def test_only_files_of_the_page_are_its_files(studio: RunningStudio) -> None:
    names = "nothing.js", "/etc/passwd", "../server.py", "..%2fserver.py", "text/films.json", "%00.js", "a" * 5000, ""
    for name in names:
        assert ask(studio, "GET", f"/page/{name}")[0] == 404, name


def test_unchanged_files_of_the_page_are_not_sent_again(studio: RunningStudio) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", studio.server.port, timeout=20)
    token = {"Authorization": f"Bearer {studio.server.token}"}
    connection.request("GET", "/page/main.js", headers=token)
    first = connection.getresponse()
    assert first.read() and first.headers["content-type"].startswith("text/javascript")
    connection.request("GET", "/page/main.js", headers=token | {"If-None-Match": first.headers["etag"]})
    assert (connection.getresponse().status, first.headers["cache-control"]) == (304, "no-cache")
    connection.close()


def test_links_of_other_pages_lead_to_the_page_only(studio: RunningStudio) -> None:
    link = {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "navigate"}
    assert ask(studio, "GET", "/", **link)[0] == 200
    assert ask(studio, "GET", "/api/about", **link)[0] == 403


def test_other_methods_are_refused(studio: RunningStudio) -> None:
    assert ask(studio, "TRACE", "/api/about")[0] == 403
    assert ask(studio, "POST", "/api/files")[0] == 405


def test_no_path_leads_out_of_the_folders(studio: RunningStudio) -> None:
    (studio.folder.parent / "secret").mkdir(exist_ok=True)
    for path in ("/", "/etc", "{folder}/../..", "{folder}/../secret", "{folder}\0", "relative"):
        status, value = ask(studio, "GET", f"/api/files?folder={quote(path.format(folder=studio.folder))}")
        assert (status == 400 and "outside" in value["error"]) or "cannot be used" in value["error"], path


def test_what_is_no_path_is_refused(tmp_path: Path) -> None:
    for name in ("", "\0", "/\ud800", 7, None, "/" * 5000):
        with pytest.raises(UsageError, match="cannot be used"):
            AllowedFolders([tmp_path]).path(name)


def test_folders_that_the_page_adds_are_the_next_start_s(tmp_path: Path) -> None:
    own, more, kept = tmp_path / "own", tmp_path / "more", tmp_path / "data" / "folders.json"
    own.mkdir()
    more.mkdir()
    (film := more / "film.mp4").touch()
    folders = AllowedFolders([own], kept)
    with pytest.raises(UsageError, match="outside"):
        folders.path(str(film))
    for wrong in ("more", "~nobody-of-this-name", "", None, str(film), str(tmp_path / "none")):
        with pytest.raises(RtfaceError):
            folders.add(wrong)
    assert folders.add(str(more)) == more
    again = AllowedFolders([own], kept)
    assert again.path(str(film)) == film and again.roots == (own, more)
    again.remove(str(own))
    again.remove(str(more))
    assert AllowedFolders([own], kept).roots == (own,)
    with pytest.raises(UsageError, match="--folder"):
        AllowedFolders([own]).add(str(more))


def test_links_out_of_a_folder_are_not_listed(studio: RunningStudio) -> None:
    secret = studio.folder.parent / "secret.mp4"
    secret.write_bytes(b"x")
    (studio.folder / "link.mp4").symlink_to(secret)
    (studio.folder / "film.mp4").write_bytes(b"x")
    (studio.folder / "out.mp4.rtface").mkdir()
    for unfinished in ("out.partial.mp4", "out.partial-2.mp4"):
        (studio.folder / unfinished).write_bytes(b"x")
    status, value = ask(studio, "GET", f"/api/files?folder={studio.folder}")
    assert status == 200 and [entry["name"] for entry in value["entries"]] == ["film.mp4"]


def test_upload_lands_in_its_folder_under_a_free_name(studio: RunningStudio) -> None:
    for _ in range(2):
        status, _ = ask(studio, "PUT", "/api/files/upload?name=..%2F..%2Fa%20film.png", PICTURE)
        assert status == 200
    assert sorted(path.name for path in studio.studio.uploads.iterdir()) == ["a film (2).png", "a film.png"]
    assert not any(path.stat().st_mode & 0o077 for path in studio.studio.uploads.iterdir())


def test_upload_with_a_long_name_keeps_its_suffix(studio: RunningStudio) -> None:
    for _ in range(2):
        status, found = ask(studio, "PUT", f"/api/files/upload?name={'%E7%89%87' * 200}.png", PICTURE)
        assert status == 200 and found["path"].endswith(".png")
    studio.studio.uploads.rename(studio.studio.uploads.with_name("moved"))
    studio.studio.uploads.write_text("no folder")
    status, found = ask(studio, "PUT", "/api/files/upload?name=film.mp4", b"film")
    assert status == 507 and "uploads" in found["error"]


def test_of_an_upload_that_is_no_film_nothing_stays(studio: RunningStudio) -> None:
    status, found = ask(studio, "PUT", "/api/files/upload?name=film.mp4", b"no film")
    assert status == 422 and found["error"].startswith("film.mp4: is neither a film nor an image")
    assert not list(studio.studio.uploads.iterdir())


def begin_upload(studio: RunningStudio) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", studio.server.port, timeout=20)
    connection.putrequest("PUT", "/api/files/upload?name=film.mp4")
    connection.putheader("Authorization", f"Bearer {studio.server.token}")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"begin")
    return connection


def test_upload_that_is_cut_short_leaves_nothing(studio: RunningStudio) -> None:
    begin_upload(studio).close()
    studio.close()
    assert not list(studio.studio.uploads.glob("*"))


def test_of_an_upload_to_a_killed_studio_nothing_stays(
    start_studio: Callable[[], RunningStudio], tmp_path: Path
) -> None:
    """Not even under its name while it comes; what lies there whole stays."""
    (uploads := tmp_path / "uploads").mkdir()
    (uploads / "whole.mp4").write_bytes(b"film")
    child = f"""if True:
        import os, time
        from pathlib import Path
        from rtface.media.files.workfile import Target, WorkFile
        from tests.studio.conftest import RunningStudio, wait_for
        from tests.studio.test_access import begin_upload
        folder = Path({str(tmp_path)!r})
        recording = WorkFile(Target(folder / "uploads" / "recording.mp4", ""))
        recording.write(b"half")
        (folder / "films").mkdir()
        coming = begin_upload(RunningStudio(folder / "films"))
        while len(list((folder / "uploads").iterdir())) < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), 9)"""
    subprocess.run([sys.executable, "-c", child], check=False, timeout=60, cwd=Path(__file__).parents[2])
    assert len(list(uploads.iterdir())) == 3 and not (uploads / "film.mp4").exists()
    studio = start_studio()
    assert ask(studio, "GET", "/api/files")[0] == 200
    recording, whole = sorted(path.name for path in uploads.iterdir())
    assert whole == "whole.mp4" and recording.startswith(".recording.")


def test_uploads_leave_a_gigabyte_of_the_disk_free(studio: RunningStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [(1 << 30) + 8]
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free.pop() if free else 5))
    status, found = ask(studio, "PUT", "/api/files/upload?name=film.png", PICTURE)
    assert status == 507 and "does not fit" in found["error"]
    free[:] = [1 << 40]  # and others fill the disk while it comes
    status, found = ask(studio, "PUT", "/api/files/upload?name=film.png", PICTURE)
    assert status == 507 and "does not fit" in found["error"] and not list(studio.studio.uploads.iterdir())


def test_a_websocket_ends_with_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtface_studio.access.CHECK_S", 0.01)
    login = PasswordLogin("correct horse battery")
    token = login.log_in("a", "correct horse battery")
    messages: list[Any] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        messages.append(await receive())
        login.log_out(str(token))
        messages.append(await receive())

    async def receive() -> Any:
        if messages:
            await asyncio.sleep(3600)
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        messages.append(message)

    async def connect(proof: str) -> None:
        scope = {
            "type": "websocket",
            "path": "/events",
            "headers": [(b"host", b"here"), (b"cookie", f"rtface-app={proof}".encode())],
        }
        await AccessControl(page, token="", hosts=frozenset({"here"}), secure=True, login=login)(scope, receive, send)

    asyncio.run(connect(str(token)))
    assert [message["type"] for message in messages] == ["websocket.connect", "websocket.disconnect"]
    asyncio.run(connect(str(token)))
    assert messages[-1] == {
        "type": "websocket.close",
        "code": 4403,
        "reason": "log in first: the token of the session is missing",
    }


def test_a_long_answer_ends_with_its_session() -> None:
    login = PasswordLogin("correct horse battery")
    token = str(login.log_in("a", "correct horse battery"))
    sent: list[Any] = []

    async def preview(scope: Any, receive: Any, send: Any) -> None:
        async def pictures() -> AsyncIterator[bytes]:
            for number in range(100):
                if number == 3:
                    login.log_out(token)
                yield b"picture"

        await StreamingResponse(pictures())(scope, receive, send)

    async def receive() -> Any:
        await asyncio.sleep(3600)

    async def send(message: Any) -> None:
        sent.append(message)

    async def get() -> None:
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/preview",
            "query_string": b"",
            "headers": [(b"host", b"here"), (b"cookie", f"rtface-app={token}".encode())],
            "asgi": {"spec_version": "2.4"},
        }
        control = AccessControl(preview, token="", hosts=frozenset({"here"}), secure=True, login=login)
        await control(scope, receive, send)

    with pytest.raises(ClientDisconnect):
        asyncio.run(get())
    assert [message.get("body") for message in sent[1:]] == [b"picture"] * 3


@pytest.mark.parametrize("suffix", ["m3u8", "M3U", "ffconcat", "txt", "mp4"])
def test_no_playlist_leads_out_of_the_folders(studio: RunningStudio, suffix: str) -> None:
    """Neither an upload nor a file that lies there; the film beside it is opened."""
    from tests.studio.films import make_film

    private = make_film(studio.folder.parent / "private.ts", 0.2)
    here, own = studio.folder / f"list.{suffix}", make_film(studio.folder / "own.ts", 0.2)
    here.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{private}\n#EXT-X-ENDLIST\n"
        if suffix in ("m3u8", "M3U", "mp4")
        else "ffconcat version 1.0\nfile ../private.ts\n"
    )
    assert ask(studio, "PUT", f"/api/files/upload?name=list.{suffix}", here.read_bytes())[0] == 422
    status, said = ask(studio, "POST", "/api/films", json.dumps({"path": str(here)}).encode())[:2]
    assert status == 422 and ("is a playlist, " in said["error"]) == (suffix not in ("txt", "mp4"))
    if suffix != "mp4":
        live = {"source": str(here), "output": "tcp://127.0.0.1:9?listen", "settings": {}}
        assert ask(studio, "POST", "/api/live/start", json.dumps(live).encode())[0] == 422
    assert ask(studio, "POST", "/api/films", json.dumps({"path": str(own)}).encode())[0] == 200
    assert ask(studio, "PUT", "/api/files/upload?name=own.ts", own.read_bytes())[0] == 200
    assert ask(studio, "PUT", "/api/files/upload?name=list.png", PICTURE)[0] == 200
