"""Small films made on the spot, and what comes out of them again."""

from __future__ import annotations

import functools
import http.server
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
import pytest

from rtface.concurrency.scheduling import scheduling_kept
from rtface.frame import Frame
from rtface.media.read.source import FileSource
from rtface.media.write.file_sink import FileSink
from rtface.media.write.stream_plan import OutputPlan, plan_output
from rtface.protocols import Item
from rtface.stats import Stats

WIDTH, HEIGHT, RATE = 128, 96, 25


def picture(index: int, pix_fmt: str = "yuv420p", width: int = WIDTH, height: int = HEIGHT) -> av.VideoFrame:
    """A moving gradient with noise that uses every bit of every component of the format."""
    rng = np.random.default_rng(index)
    frame = av.VideoFrame(width, height, pix_fmt)
    bits = max(c.bits for c in frame.format.components)
    packed = not frame.format.is_planar
    for number, plane in enumerate(frame.planes):
        words = plane.line_size // (2 if bits > 8 else 1)
        y, x = np.mgrid[: plane.height, :words]
        top = (1 << bits) - 1
        # limited range all through: full-range codes would be legal too, but not every encoder's conversion test
        values = (x * 3 + y * 2 + 5 * index + 40 * number) % (top // 2) + top // 8 + rng.integers(0, 5, x.shape)
        values = values.astype(">u2" if pix_fmt.endswith("be") else "<u2" if bits > 8 else np.uint8)
        if packed and pix_fmt in ("rgba", "bgra"):
            values.reshape(plane.height, -1, 4)[..., 3] = 255
        plane.update(values.tobytes())
    return frame


def samples(image: av.VideoFrame) -> tuple[bytes, ...]:
    """The samples of every plane without padding."""
    out: list[bytes] = []
    bits = max(c.bits for c in image.format.components)
    unit = (2 if bits > 8 else 1) if image.format.is_planar else image.format.padded_bits_per_pixel // 8
    for plane in image.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        out.append(rows[: plane.height, : plane.width * unit].tobytes())
    return tuple(out)


def make_film(
    path: Path,
    *,
    frames: int = 10,
    pix_fmt: str = "yuv420p",
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    rate: Fraction | int = RATE,
    pts_ms: Sequence[int] | None = None,
    start_ms: int = 0,
    sound: str | None = None,
    sound_ms: int | None = None,
    sound_start_ms: int = 0,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    tags: dict[str, int] | None = None,
    metadata: dict[str, str] | None = None,
    chapters: list[tuple[int, int, str]] | None = None,
    format: str | None = None,
    mux: dict[str, str] | None = None,
    extra: Callable[[Any], Callable[[], None] | None] | None = None,
) -> Path:
    """Writes a film with PyAV alone, none of the code under test.

    Args:
        pts_ms: presentation times; evenly spaced at `rate` without.
        sound: encoder of a 440 Hz tone, None for a silent film; sound_ms its length, sound_start_ms its offset.
        extra: called with the open container before the header; what it returns is called after it.
    """
    with av.open(path, "w", format=format, container_options=mux or {}) as box:
        video = box.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        default = {"preset": "ultrafast"} if codec.startswith("libx26") else {}
        video.options = {**default, **(options or {})}
        base = Fraction(1, 1000) if pts_ms else 1 / Fraction(rate)
        video.codec_context.time_base = base
        if pts_ms:
            video.time_base = base
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        for name, value in (tags or {}).items():
            setattr(video.codec_context, name, value)
        if matrix:
            video.set_display_matrix(matrix)
        audio = None
        if sound:
            audio = box.add_stream(sound, rate=48_000)
            audio.codec_context.layout = "stereo"
        box.metadata.update(metadata or {})
        if chapters:
            box.set_chapters(
                [
                    {"id": i + 1, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": name}}
                    for i, (a, b, name) in enumerate(chapters)
                ]
            )
        after = extra(box) if extra else None
        with scheduling_kept():
            box.start_encoding()
        if after:
            after()
        if audio is not None:
            length = sound_ms if sound_ms is not None else round(1000 * frames / float(rate))
            _tone(box, audio, length, sound_start_ms)
        for i in range(frames):
            frame = picture(i, pix_fmt, *size)
            frame.pts = pts_ms[i] if pts_ms else i + round(start_ms / 1000 / base)
            frame.time_base = base
            box.mux(video.encode(frame))
        box.mux(video.encode(None))
    return path


def _tone(box: Any, stream: Any, length_ms: int, start_ms: int) -> None:
    t = np.arange(48 * length_ms) / 48_000
    wave = np.stack([np.sin(2 * np.pi * 440 * t)] * 2).astype(np.float32)
    for at in range(0, wave.shape[1], 960):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, at : at + 960]), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, at + 48 * start_ms, Fraction(1, 48_000)
        box.mux(stream.encode(frame))
    box.mux(stream.encode(None))


def decoded(path: Path, stream: int = 0, as_format: str = "") -> list[tuple[Fraction, tuple[bytes, ...]]]:
    """Times and samples of every frame of a film, read with PyAV alone; converted where asked for."""
    with av.open(path) as box:
        video = box.streams.video[stream]
        return [
            (f.pts * video.time_base, samples(f.reformat(format=as_format) if as_format else f))
            for f in box.decode(video)
        ]


def first_times(path: Path) -> dict[str, Fraction]:
    """First presentation time of each kind of stream, in seconds; sound counts from its first audible sample."""
    found: dict[str, Fraction] = {}
    with av.open(str(path)) as box:
        for frame in box.decode(box.streams.video[0]):
            found["video"] = frame.pts * box.streams.video[0].time_base
            break
    with av.open(str(path)) as box:
        for frame in box.decode(audio=0) if box.streams.audio else ():
            if np.abs(frame.to_ndarray().astype(np.float64)).max() > 0:
                found["audio"] = frame.pts * frame.time_base
                break
    return found


def passthrough(
    source: Path,
    output: Path,
    *,
    start: float | None = None,
    end: float | None = None,
    stats: Stats | None = None,
    tags: dict[str, str] | None = None,
    strict: bool = False,
    corrected: bool = True,
    marks: dict[str, bool] | None = None,
    **options: Any,
) -> OutputPlan:
    """Source to sink with nothing between; frames say that a face was `corrected` on them, and the other `marks`."""
    stats = stats or Stats()
    opened = FileSource(source, start=start, end=end, stats=stats, strict=strict)
    try:
        plan = plan_output(opened.info, output, **{"overwrite": True, **options})
        plan.metadata.update(tags or {})
        Tools.feed(
            (replace(item, corrected=corrected, **marks or {}) if isinstance(item, Frame) else item for item in opened),
            FileSink(plan, stats),
        )
    finally:
        opened.close()
    return plan


def frames_of(path: Path, **options: Any) -> tuple[list[Frame], Stats]:
    """All frames that a source gives, and its statistics."""
    stats = Stats()
    source = FileSource(path, stats=stats, **options)
    try:
        return [item for item in source if isinstance(item, Frame)], stats
    finally:
        source.close()


class Tools:
    """The helpers, as one fixture."""

    picture = staticmethod(picture)
    samples = staticmethod(samples)
    films: ClassVar[dict[str, bytes]] = {}
    opened: ClassVar[list[FileSource]] = []

    @classmethod
    def make_film(cls, path: Path, **options: Any) -> Path:
        """`make_film`, or a copy of the film that it made of the same options before."""
        if "extra" in options or options.get("format") == "hls":
            return make_film(path, **options)
        key = f"{path.suffix} {sorted(options.items())}"
        if key not in cls.films:
            cls.films[key] = make_film(path, **options).read_bytes()
        path.write_bytes(cls.films[key])
        return path

    @classmethod
    def open(cls, path: Path, **options: Any) -> FileSource:
        """`FileSource`; the source is closed when the test ends."""
        cls.opened.append(FileSource(path, **options))
        return cls.opened[-1]

    @staticmethod
    def feed(source: Iterable[Item], sink: FileSink, frames: int | None = None) -> None:
        """Hands what a source gives to a sink: to its end, which ends the film, or so many frames."""
        done = 0
        for item in source:
            if done == frames:
                return
            sink.write(item)
            done += isinstance(item, Frame)
        if frames is None:
            sink.finish()

    decoded = staticmethod(decoded)
    first_times = staticmethod(first_times)
    passthrough = staticmethod(passthrough)
    frames_of = staticmethod(frames_of)


@pytest.fixture(scope="session")
def media() -> type[Tools]:
    """Makes, copies and reads small films."""
    return Tools


@pytest.fixture(autouse=True)
def close_sources() -> Iterator[None]:
    yield
    while Tools.opened:
        Tools.opened.pop().close()


@contextmanager
def counting_server(folder: Path, piece: Callable[[str], str | None]) -> Iterator[tuple[str, Counter[str]]]:
    """Serves a folder: its address, and how often each `piece` (named by a path, None is not counted) was fetched."""
    fetched = Counter[str]()

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            if (name := piece(self.path)) is not None:
                fetched[name] += 1

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", fetched
        server.shutdown()
