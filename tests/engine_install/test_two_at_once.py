"""``rtface engines add`` in processes of its own: two at the same time, and one after another that was stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from rtface.engine.recipe import load_recipe
from tests.engine_install.checkpoints import write_zip
from tests.engine_install.published import Publisher
from tests.engine_install.server import Server

WAITS = "another rtface is downloading or converting tiny-1; waiting until it has ended"
MUCH = 300_000


@pytest.fixture
def source(server: Server, published: Publisher, tmp_path: Path) -> Server:
    """Has weights of more than what is written at once."""
    server.data = write_zip(tmp_path / "large.pth", {"params_ema": published.tensors}, bytes(1_000_000)).read_bytes()
    return server


def start(published: Publisher, server: Server) -> subprocess.Popen[str]:
    return published.command("add", "tiny-1", "--url", server.url, "--accept-license")


def half_way(published: Publisher, server: Server) -> tuple[subprocess.Popen[str], threading.Event]:
    """One that has much of the file, and what the server waits for to send it the rest."""
    go = threading.Event()
    server.acts = [server.held(go)]
    started = start(published, server)
    much_has_come()
    return started, go


def waiting(published: Publisher, server: Server) -> subprocess.Popen[str]:
    """Another, which says that it waits."""
    started = start(published, server)
    assert started.stderr is not None
    assert any(WAITS in line for line in started.stderr)
    return started


def much_has_come() -> None:
    part = Path(os.environ["RTFACE_CACHE"]) / "downloads" / "tiny-1" / "tiny1.pth.part"
    end = time.monotonic() + 120
    while not (part.is_file() and part.stat().st_size > MUCH) and time.monotonic() < end:
        time.sleep(0.02)
    assert part.stat().st_size > MUCH


def test_the_second_waits_and_finds_it_there(published: Publisher, source: Server) -> None:
    first, go = half_way(published, source)
    second = waiting(published, source)
    go.set()
    assert "use it with: rtface run" in first.communicate(timeout=120)[1] and first.returncode == 0
    assert "engine tiny-1 is there already" in second.communicate(timeout=120)[1] and second.returncode == 2
    assert source.asked == [None]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as here are POSIX's")
def test_an_interrupted_download_is_kept_and_reported(published: Publisher, source: Server) -> None:
    first, _ = half_way(published, source)
    first.send_signal(signal.SIGINT)
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 130 and "MB) is kept, and the same command goes on" in said and "Traceback" not in said
    assert start(published, source).communicate(timeout=120) and len(source.asked) == 2 and source.asked[1] is not None


@pytest.mark.slow
def test_the_second_goes_on_where_the_first_was_killed(published: Publisher, source: Server) -> None:
    first, go = half_way(published, source)
    second = waiting(published, source)
    first.kill()
    first.communicate()
    said = second.communicate(timeout=120)[1]
    go.set()
    assert second.returncode == 0, said
    whole, rest = source.asked
    assert whole is None and rest is not None
    assert int(rest.removeprefix("bytes=").removesuffix("-")) > MUCH
    found = load_recipe(Path(os.environ["RTFACE_CONFIG_DIR"]) / "engines" / "tiny-1" / "recipe.toml").source
    assert found is not None and found.bytes == len(source.data)
