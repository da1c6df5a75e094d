"""The command as its user runs it, and something for it to read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.command import Command
from tests.live.servers import Nginx, Publisher, running
from tests.live.whole.scene import portrait


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def rtface(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """`rtface(*arguments)` starts the command; it is killed in the end."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **more: stack.enter_context(Command(tmp_path / "rtface", *arguments, **more))


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    with running(Nginx(tmp_path / "nginx")) as server:
        yield server


@pytest.fixture
def published(nginx: Nginx, tmp_path: Path) -> Iterator[str]:
    """A stream of frames that carry the time, 320×180 at 15 fps, with sound."""
    url = nginx.url("source")
    with running(Publisher(url, "flv", tmp_path / "publisher", size="320x180", fps="15", gop="15")):
        yield url


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portrait(tmp_path_factory.mktemp("film") / "film.mp4", seconds=30)
