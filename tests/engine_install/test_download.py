"""Downloads from a server that breaks off, stalls, lies and changes its mind."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rtface.errors import DownloadError, UsageError
from rtface_engines import download as module
from rtface_engines.download import PublishedFile, download
from tests.engine_install.server import DATA, SHA256, Server


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made."""
    made = list[float]()
    monkeypatch.setattr(module, "STALL_S", 0.3)
    monkeypatch.setattr(module, "PAUSES_S", (1.0, 2.0))
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=made.append))
    return made


def fetch(server: Server, target: Path, *, size: int | None = len(DATA), sha256: str | None = SHA256) -> Path:
    return download(PublishedFile(server.url, size, sha256), target, lambda done, total: None)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_fetched_whole_and_said_how_far(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    found = download(
        PublishedFile(server.url, len(DATA), SHA256),
        tmp_path / "cache" / "a.pth",
        lambda done, total: seen.append((done, total)),
    )
    assert found.read_bytes() == DATA and left(found.parent) == {"a.pth"}
    assert seen[0] == (0, len(DATA)) and seen[-1] == (len(DATA), len(DATA)) and seen == sorted(seen)


def test_a_good_file_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(DATA)
    fetch(server, tmp_path / "a.pth")
    assert server.asked == []
    (tmp_path / "a.pth").write_bytes(DATA[:-1] + b"x")
    assert fetch(server, tmp_path / "a.pth").read_bytes() == DATA


@pytest.mark.parametrize(("size", "sha256"), [(len(DATA), None), (None, SHA256), (None, None)])
def test_what_breaks_off_goes_on_where_it_was(
    server: Server, tmp_path: Path, waits: list[float], size: int | None, sha256: str | None
) -> None:
    server.acts = [server.truncated, server.truncated]
    assert fetch(server, tmp_path / "a.pth", size=size, sha256=sha256).read_bytes() == DATA
    assert server.asked[:2] == [None, "bytes=300000-"] and waits[0] == 1.0


def test_a_connection_that_stalls_is_given_up(server: Server, tmp_path: Path) -> None:
    server.acts = [server.stalled]
    begin = time.monotonic()
    assert fetch(server, tmp_path / "a.pth").read_bytes() == DATA
    assert time.monotonic() - begin < 1.8 and server.asked == [None, "bytes=200000-"]


def test_it_goes_on_another_day(server: Server, tmp_path: Path, waits: list[float]) -> None:
    server.acts = [server.truncated] + [server.failing(503)] * 2
    with pytest.raises(DownloadError, match=r"answered 503 .*the part received \(0.3 MB\) is kept"):
        fetch(server, tmp_path / "a.pth")
    assert waits == [1.0, 2.0] and len(left(tmp_path)) == 1
    assert fetch(server, tmp_path / "a.pth").read_bytes() == DATA
    assert server.asked[-1] == "bytes=300000-"


def test_a_file_that_changed_meanwhile_begins_anew(server: Server, tmp_path: Path) -> None:
    server.acts = [server.truncated]
    other = DATA[::-1]

    def changed(request: Any) -> None:
        server.data, server.tag = other, '"two"'
        server.send(request)

    server.acts.append(changed)
    found = fetch(server, tmp_path / "a.pth", sha256=hashlib.sha256(other).hexdigest())
    assert found.read_bytes() == other


def test_a_server_that_ignores_ranges(server: Server, tmp_path: Path) -> None:
    server.acts = [server.truncated, server.without_ranges]
    assert fetch(server, tmp_path / "a.pth").read_bytes() == DATA


@pytest.mark.parametrize("length", [1000, len(DATA) + 5])
def test_a_wrong_size_is_said_before_anything_is_fetched(
    server: Server, tmp_path: Path, waits: list[float], length: int
) -> None:
    server.acts = [lambda request: server.send(request, length=length)]
    with pytest.raises(DownloadError, match=f"the server's file has {length} bytes instead of {len(DATA)}"):
        fetch(server, tmp_path / "a.pth")
    assert waits == [] and left(tmp_path) == set()


def test_a_length_that_is_too_large(server: Server, tmp_path: Path) -> None:
    """What is missing is asked for once more, and there is no more: it starts over."""
    server.acts = [lambda request: server.send(request, length=len(DATA) + 5)]
    assert fetch(server, tmp_path / "a.pth", size=None).read_bytes() == DATA
    assert server.asked == [None, f"bytes={len(DATA)}-", None]


def test_a_length_that_is_too_small(server: Server, tmp_path: Path) -> None:
    server.acts = [lambda request: server.send(request, length=1000)]
    with pytest.raises(DownloadError, match=r"SHA-256 .* instead of"):
        fetch(server, tmp_path / "a.pth", size=None)
    assert left(tmp_path) == set()


def test_a_wrong_hash_keeps_nothing(server: Server, tmp_path: Path) -> None:
    server.data = DATA[:-1] + b"x"
    (tmp_path / "a.pth").write_bytes(b"what was there")
    with pytest.raises(DownloadError, match=r"is not the published file: SHA-256 .*; the download was deleted"):
        fetch(server, tmp_path / "a.pth")
    assert left(tmp_path) == {"a.pth"} and (tmp_path / "a.pth").read_bytes() == b"what was there"


def test_a_part_that_was_damaged_is_fetched_anew_once(server: Server, tmp_path: Path) -> None:
    server.acts = [server.truncated] + [server.failing(500)] * 2
    with pytest.raises(DownloadError):
        fetch(server, tmp_path / "a.pth")
    (part,) = tmp_path.iterdir()
    part.write_bytes(b"x" * 300_000)
    assert fetch(server, tmp_path / "a.pth").read_bytes() == DATA


@pytest.mark.parametrize("code", [403, 404])
def test_what_is_not_there_is_not_asked_for_twice(
    server: Server, tmp_path: Path, waits: list[float], code: int
) -> None:
    server.acts = [server.failing(code)]
    with pytest.raises(
        DownloadError, match=f"the server answered {code} .*; pass another address with --url, or a file with --from"
    ):
        fetch(server, tmp_path / "a.pth")
    assert waits == [] and left(tmp_path) == set()


@pytest.mark.parametrize("code", [429, 503])
def test_what_may_pass_is_tried_again(server: Server, tmp_path: Path, waits: list[float], code: int) -> None:
    server.acts = [server.failing(code)] * 2
    assert fetch(server, tmp_path / "a.pth").read_bytes() == DATA
    assert waits == [1.0, 2.0]


def redirect(to: str) -> Callable[[Any], None]:
    def act(request: Any) -> None:
        request.send_response(302)
        request.send_header("Location", to)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return act


def test_redirections_are_followed_but_not_for_ever(server: Server, tmp_path: Path) -> None:
    server.acts = [redirect(f"{server.url}?{k}") for k in range(3)]
    assert fetch(server, tmp_path / "a.pth").read_bytes() == DATA
    server.acts = [redirect(f"{server.url}?{k}") for k in range(30)]
    with pytest.raises(DownloadError, match="answered 302 "):
        fetch(server, tmp_path / "b.pth")


def test_nobody_listens_and_no_password_is_shown(tmp_path: Path, waits: list[float]) -> None:
    for login, why in (("", "Connection refused"), ("me:secret@", ".*")):
        with pytest.raises(DownloadError, match=rf"^http://127.0.0.1:9/x\.pth cannot be downloaded: {why}; try"):
            download(
                PublishedFile(f"http://{login}127.0.0.1:9/x.pth?key=1"),
                tmp_path / "a",
                lambda done, total: None,
            )
    assert waits == [1.0, 2.0] * 2


def test_an_interrupted_download_is_kept_and_said(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(PublishedFile(server.url, len(DATA), SHA256), tmp_path / "a.pth", interrupt)
    assert "MB) is kept; the same command resumes" in caplog.text
    assert fetch(server, tmp_path / "a.pth").read_bytes() == DATA and server.asked[1] is not None


def test_a_full_disk_is_said_before(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_000_000})())
    with pytest.raises(DownloadError, match=r"has 1\.0 MB free, but 68\.1 MB are needed; free some space, or move"):
        fetch(server, tmp_path / "a.pth")


def test_files_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "my weights.pth").write_bytes(DATA)
    wanted = PublishedFile((tmp_path / "my weights.pth").as_uri(), len(DATA), SHA256)
    assert download(wanted, tmp_path / "a", lambda done, total: None) == tmp_path / "my weights.pth"
    with pytest.raises(DownloadError, match="is not the published file: 1024000 bytes instead of 5"):
        download(PublishedFile(wanted.url, 5), tmp_path / "a", lambda done, total: None)
    with pytest.raises(DownloadError, match="does not exist"):
        download(PublishedFile(wanted.url + "x"), tmp_path / "a", lambda done, total: None)


@pytest.mark.parametrize("url", ["ftp://host/a.pth", "weights.pth", "data:,x"])
def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match="give an http, https or file address"):
        download(PublishedFile(url), tmp_path / "a", lambda done, total: None)
