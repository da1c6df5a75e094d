"""Inputs whose end is missing: a connection that breaks off, a file that still grows, a damaged last part."""

from __future__ import annotations

import functools
import http.server
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rtface
from rtface.errors import InputError
from rtface.frame import Frame
from rtface.media.read import container
from rtface.stats import Stats


class Server:
    """Serves one file over HTTP with ranges; its first `bad` answers end or stall at byte `part`."""

    def __init__(self, data: bytes, part: int, bad: int, *, stall: bool = False) -> None:
        self._data, self._part, self._bad, self._stall = data, part, bad, stall
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/in.mkv"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self.over.is_set():
            connection, _ = self._listening.accept()
            self._bad -= 1
            threading.Thread(target=self._answer, args=(connection, self._bad >= 0), daemon=True).start()

    def _answer(self, connection: socket.socket, bad: bool) -> None:
        with connection:
            asked = re.search(rb"[Rr]ange: bytes=(\d+)-", connection.recv(65536))
            begin, size = int(asked[1]) if asked else 0, len(self._data)
            connection.sendall(
                f"HTTP/1.1 {'206 Partial Content' if asked else '200 OK'}\r\nAccept-Ranges: bytes\r\n"
                f"Content-Length: {size - begin}\r\nContent-Range: bytes {begin}-{size - 1}/{size}\r\n\r\n".encode()
            )
            try:
                connection.sendall(self._data[begin : self._part if bad else size])
            except OSError:
                return
            if bad and self._stall:
                self.over.wait(60)

    def close(self) -> None:
        self.over.set()
        self._listening.close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    quick = {"reconnect_delay_max": "0", "rw_timeout": "500000"}
    monkeypatch.setattr(container, "NETWORK_OPTIONS", container.NETWORK_OPTIONS | quick)
    servers: list[Server] = []

    def make(*args: object, **more: bool) -> Server:
        servers.append(Server(*args, **more))  # type: ignore[arg-type]
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def film(media, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media.make_film(tmp_path_factory.mktemp("film") / "in.mkv", frames=50, codec="ffv1")


def pictures(media, path: Path) -> list[object]:
    return [samples for _, samples in media.decoded(path)]


@pytest.mark.parametrize("stall", [False, True])
def test_a_connection_that_breaks_once_is_made_again(media, film: Path, tmp_path: Path, serve, stall: bool) -> None:
    data = film.read_bytes()
    report = rtface.run(
        serve(data, len(data) // 2, 1, stall=stall).url, tmp_path / "out.mkv", tracker="none", codec="ffv1"
    )
    assert report.frames_out == 50 and not report.warnings
    assert pictures(media, tmp_path / "out.mkv") == pictures(media, film)


def test_a_connection_that_stays_broken_leaves_a_part(media, film: Path, tmp_path: Path, serve) -> None:
    data = film.read_bytes()
    left = r"the connection ended after .* of 0:00:02\.000 .*out\.partial\.mkv; continue with"
    with pytest.raises(InputError, match=left) as error:
        rtface.run(serve(data, len(data) // 2, 999).url, tmp_path / "out.mkv", tracker="none", codec="ffv1")
    part = pictures(media, Path(str(error.value.partial)))
    assert not (tmp_path / "out.mkv").exists() and 15 < len(part) < 30
    rtface.run(
        serve(data, len(data), 0).url, tmp_path / "rest.mkv", tracker="none", codec="ffv1", start=error.value.resume_at
    )
    assert part + pictures(media, tmp_path / "rest.mkv") == pictures(media, film)


def test_a_film_whose_end_the_server_lacks_is_an_error(film: Path, tmp_path: Path, serve) -> None:
    data = film.read_bytes()[: film.stat().st_size // 2]
    with pytest.raises(InputError, match="the connection ended"):
        rtface.run(serve(data, len(data), 0).url, tmp_path / "out.mkv", tracker="none")
    assert not (tmp_path / "out.mkv").exists()


def test_a_cut_before_the_break_is_whole(film: Path, tmp_path: Path, serve) -> None:
    data = film.read_bytes()
    report = rtface.run(serve(data, len(data) // 2, 999).url, tmp_path / "out.mkv", tracker="none", end=0.4)
    assert report.frames_out == 10


@pytest.mark.parametrize(
    ("lost", "says"), [(2, "2.0 s are missing at 0:00:04"), (4, "the connection ended after 0:00:08")]
)
def test_a_segment_that_cannot_be_fetched(
    media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int, says: str
) -> None:
    monkeypatch.setattr(container, "NETWORK_OPTIONS", {"seg_max_retry": "0"})
    media.make_film(
        tmp_path / "v.m3u8",
        frames=250,
        format="hls",
        options={"g": "50"},
        mux={"hls_time": "2", "hls_playlist_type": "vod"},
    )
    (tmp_path / f"v{lost}.ts").unlink()
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v.m3u8"
        try:
            if lost == 4:
                with pytest.raises(InputError, match=says):
                    media.frames_of(url)
            else:
                frames, stats = media.frames_of(url)
                assert len(frames) == 200 and says in stats.warnings["gap"]
        finally:
            server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and logs nothing."""

    def log_message(self, format: str, *args: object) -> None: ...


def test_a_damaged_file_is_a_warning(film: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.mkv"
    short.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    report = rtface.run(short, tmp_path / "out.mkv", tracker="none")
    assert report.frames_out > 15 and any("end of the file is missing" in line for line in report.warnings)


@pytest.mark.parametrize("grows", [False, True])
def test_a_file_that_grows_while_it_is_read(media, tmp_path: Path, grows: bool) -> None:
    source, stats = media.make_film(tmp_path / "in.ts", frames=40), Stats()
    opened = media.open(source, stats=stats)
    if grows:
        with source.open("ab") as file:
            file.write((b"\x47\x1f\xff\x10" + 184 * b"\xff") * 20)  # a transport stream's null packets
    assert sum(isinstance(item, Frame) for item in opened) == 40
    assert list(stats.warnings) == (["growing"] if grows else [])
    if grows:
        assert "was still being written while it was read" in stats.warnings["growing"]


def test_a_file_that_shrinks_behind_what_was_read(media, tmp_path: Path) -> None:
    source = media.make_film(tmp_path / "in.ts", frames=8)  # so short that all of it is read at once
    opened = media.open(source, stats=Stats())
    os.truncate(source, source.stat().st_size - 188)
    with pytest.raises(InputError, match="became shorter"):
        list(opened)


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is open cannot be replaced there")
def test_a_file_that_is_replaced_while_it_is_read(media, tmp_path: Path) -> None:
    source, stats = media.make_film(tmp_path / "in.mkv", frames=40), Stats()
    opened = media.open(source, stats=stats)
    media.make_film(tmp_path / "other.mkv", frames=80).replace(source)
    assert sum(isinstance(item, Frame) for item in opened) == 40
    assert list(stats.warnings) == ["growing"] and "was replaced while it was read" in stats.warnings["growing"]


def test_a_half_that_is_overwritten_while_it_is_read(media, tmp_path: Path) -> None:
    source, stats = media.make_film(tmp_path / "in.mkv", frames=250), Stats()
    opened, size = media.open(source, stats=stats), source.stat().st_size
    with source.open("r+b") as file:
        file.seek(size // 2)
        file.write(bytes(size - size // 2))
    os.utime(source, ns=(0, 0))
    assert sum(isinstance(item, Frame) for item in opened) < 250
    assert "was changed while it was read" in stats.warnings["growing"]
