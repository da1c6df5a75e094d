"""Inputs that give nothing for a while, or for ever: a run can be stopped, and what came is kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import av
import numpy as np
import pytest

import rtface
from rtface.config.options import Options
from rtface.errors import EngineError, InputError, Interrupted
from rtface.media.files.image_names import is_image
from rtface.media.read.source import FileSource
from rtface.pipeline import chain
from rtface.pipeline.analysis import analyze_file
from rtface.pipeline.film import run_file
from rtface.tracking import NoTracker
from tests.pipeline.run_media import decoded, write_film

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="no FIFO there"), pytest.mark.usefixtures("engines")]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames, every one an I-frame, so that each can be decoded without what comes behind it."""
    noise = (np.random.default_rng(n).integers(0, 255, (96, 128, 3)).astype(np.uint8) for n in range(60))
    return write_film(tmp_path_factory.mktemp("film") / "in.mkv", noise, codec="mjpeg", pix_fmt="yuvj420p")


@contextmanager
def fifo(path: Path, data: bytes, *, closes: bool = False) -> Iterator[Path]:
    """A FIFO whose writer gives `data` and then nothing, but does not close it by itself."""
    os.mkfifo(path)
    release = threading.Event()
    if closes:
        release.set()

    def write() -> None:
        with path.open("wb") as pipe:
            pipe.write(data)
            pipe.flush()
            release.wait(60)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield path
    finally:
        release.set()
        thread.join(5)


def frames_in(path: str | None) -> int:
    assert path is not None
    return len(decoded(path))


def until_quiet(stop: threading.Event) -> Callable[[Any], None]:
    """Progress that sets `stop` when nothing more has come for a moment."""
    timer: list[threading.Timer] = []

    def seen(_: Any) -> None:
        for one in timer:
            one.cancel()
        timer[:] = [threading.Timer(0.5, stop.set)]
        timer[0].start()

    return seen


def test_a_pipe_that_gives_nothing_more(film: Path, tmp_path: Path) -> None:
    cut, stop = tmp_path / "cut.mkv", threading.Event()
    cut.write_bytes(film.read_bytes()[: film.stat().st_size * 6 // 10])
    with fifo(tmp_path / "in", cut.read_bytes()) as pipe:
        with pytest.raises(Interrupted) as caught:
            run_file(
                pipe,
                tmp_path / "out.mkv",
                Options(tracker="none"),
                stop=stop,
                progress=until_quiet(stop),
            )
        assert frames_in(caught.value.partial) == frames_in(str(cut)) > 30
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.mkv", "in", "out.partial.mkv"]


def test_sound_that_a_pipe_announces_late_is_not_lost_unasked(tmp_path: Path) -> None:
    parts = [
        write_film(tmp_path / f"{n}.ts", [np.zeros((96, 128, 3), np.uint8)] * n, codec="mpeg2video", sound=n == 50)
        for n in (300, 50)
    ]
    data = b"".join(part.read_bytes() for part in parts)
    with fifo(tmp_path / "in", data, closes=True) as pipe, pytest.raises(InputError, match="only audio") as caught:
        run_file(pipe, tmp_path / "out.mkv", Options(tracker="none"))
    assert frames_in(caught.value.partial) == 350
    with fifo(tmp_path / "again", data, closes=True) as pipe:
        assert run_file(pipe, tmp_path / "out.mkv", Options(tracker="none", drop=("audio",))).frames_out == 350


def test_a_pipe_before_its_film(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with fifo(tmp_path / "in", b"") as pipe:
        for work in (
            lambda: run_file(pipe, tmp_path / "out.mkv", Options(tracker="none"), stop=stop),
            lambda: analyze_file(pipe, Options(tracker="none"), stop=stop),
        ):
            with pytest.raises(Interrupted):
                work()


def test_an_index_that_comes_last_in_a_pipe_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with av.open(tmp_path / "in.mp4", "w") as box:
        stream = box.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 320, 180
        stream.options = {"qscale": "1", "flags": "+qscale"}
        noise = np.random.default_rng(0).integers(0, 256, (180, 320, 3), np.uint8)
        for _ in range(4):  # more than FFmpeg keeps of a pipe
            box.mux(stream.encode(av.VideoFrame.from_ndarray(noise, "rgb24")))
        box.mux(stream.encode(None))
    read, write = os.pipe()
    thread = threading.Thread(target=lambda: os.fdopen(write, "wb").write((tmp_path / "in.mp4").read_bytes()))
    thread.start()
    with pytest.raises(InputError, match="index at its end, and a pipe"):
        rtface.run(f"/dev/fd/{read}", tmp_path / "out.mkv", tracker="none")
    assert "damaged" not in caplog.text
    os.close(read)
    thread.join(5)


@pytest.mark.slow
def test_a_pipe_is_read_once_from_its_beginning(film: Path, tmp_path: Path) -> None:
    with fifo(tmp_path / "in", b"") as pipe:
        assert not is_image(pipe)
    read, write = os.pipe()
    thread = threading.Thread(target=lambda: os.fdopen(write, "wb").write(film.read_bytes()))
    thread.start()
    report = rtface.run(f"/dev/fd/{read}", tmp_path / "out.mkv", tracker="none", start=1.0)
    assert report.frames_out == 35
    thread.join(5)
    os.close(read)


def test_a_file_whose_drive_does_not_answer(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The read cannot be ended: its thread is left behind, and the file stays open to it."""
    release, stop = threading.Event(), threading.Event()
    items = FileSource.__iter__

    def blocked(self: FileSource) -> Iterator[Any]:
        given = items(self)
        for _ in range(30):
            yield next(given)
        with self._read_lock:
            release.wait(60)

    monkeypatch.setattr(FileSource, "__iter__", blocked)
    began = list[float]()

    def seen(progress: Any) -> None:
        if progress.frames == 29:
            began.append(monotonic())
            threading.Timer(0.1, stop.set).start()

    with pytest.raises(Interrupted) as caught:
        run_file(film, tmp_path / "out.mkv", Options(tracker="none"), stop=stop, progress=seen)
    assert monotonic() - began[0] < 3
    assert frames_in(caught.value.partial) >= 29
    release.set()


def test_a_read_that_blocks_is_left_at_the_limit_of_faults(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "FAULTS_IN_A_ROW", 10)
    monkeypatch.setattr(chain, "MIN_HELD_FRAMES", 10)
    blocked, release, failed = threading.Event(), threading.Event(), list[float]()
    items = FileSource.__iter__

    def twelve(self: FileSource) -> Iterator[Any]:
        given = items(self)
        for _ in range(12):
            yield next(given)
        with self._read_lock:
            blocked.set()
            release.wait(60)

    def update(self: NoTracker, view: Any, time: float, *, cut: bool = False) -> tuple[()]:
        assert len(failed) < 9 or blocked.wait(10)
        failed.append(monotonic())
        raise RuntimeError("boom")

    monkeypatch.setattr(FileSource, "__iter__", twelve)
    monkeypatch.setattr(NoTracker, "update", update)
    with pytest.raises(EngineError, match="10 frames in a row"):
        run_file(film, tmp_path / "out.mkv", Options(tracker="none"))
    assert monotonic() - failed[-1] < 3
    release.set()
