"""What streams say of their quantisers: films of a known quantiser, made with PyAV alone."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from rtface.concurrency.scheduling import scheduling_kept
from rtface.frame import Frame, Quantisers
from rtface.media.read.quantiser import QuantiserReader, threads_for
from rtface.media.read.source import FileSource
from rtface.media.stills.image_read import read_image
from tests.media.encoded import interlaced_film

WIDTH, HEIGHT, COUNT = 160, 96, 4
WHOLE = 0, 0, WIDTH, HEIGHT


def noise(index: int, pix_fmt: str = "yuv420p") -> av.VideoFrame:
    """Gray noise that no prediction helps with: its error shows the step."""
    rng = np.random.default_rng(index)
    image = av.VideoFrame(WIDTH, HEIGHT, pix_fmt)
    deep = "10le" in pix_fmt
    for number, plane in enumerate(image.planes):
        values = np.full((plane.height, plane.line_size // (1 + deep)), 128.0)
        if number == 0:
            values += rng.normal(0, 45, values.shape)
        values = values.clip(16, 235) * (4 if deep else 1)
        plane.update(values.round().astype("<u2" if deep else np.uint8).tobytes())
    return image


def luma(image: av.VideoFrame) -> np.ndarray[Any, Any]:
    deep = "10le" in image.format.name
    plane = image.planes[0]
    samples = np.frombuffer(plane, "<u2" if deep else np.uint8).reshape(plane.height, -1)[:, : plane.width]
    return samples / (4.0 if deep else 1.0)


@cache
def film(
    suffix: str, codec: str, quantiser: int = 0, pix_fmt: str = "yuv420p", count: int = COUNT, **options: str
) -> bytes:
    """A film of noise; `quantiser` fixes that of FFmpeg's own encoders."""
    out = io.BytesIO()
    kind = {"mkv": "matroska"}.get(suffix, suffix)
    with av.open(out, "w", format=kind) as box:
        stream = box.add_stream(codec, rate=25, options={k.replace("_", "-"): v for k, v in options.items()})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        if quantiser:
            stream.codec_context.qmin = stream.codec_context.qmax = quantiser
        with scheduling_kept():
            box.start_encoding()
        for i in range(count):
            image = noise(i, pix_fmt)
            image.pts, image.time_base = i, Fraction(1, 25)
            box.mux(stream.encode(image))
        box.mux(stream.encode(None))
    return out.getvalue()


def x264(qp: int, pix_fmt: str = "yuv420p", **options: str) -> bytes:
    return film(
        "mp4",
        "libx264",
        pix_fmt=pix_fmt,
        preset="ultrafast",
        qp=str(qp),
        x264_params="ipratio=1:pbratio=1" + options.pop("more", ""),
        **options,
    )


def vp9(q: int, **options: str) -> bytes:
    return film("webm", "libvpx-vp9", min_q=str(q), max_q=str(q), crf=str(q), cpu_used="8", **options)


def frames(path: Path, data: bytes) -> list[Frame]:
    path.write_bytes(data)
    source = FileSource(path)
    try:
        return [item for item in source if isinstance(item, Frame)]
    finally:
        source.close()


def mean_log2(found: Quantisers, box: tuple[int, int, int, int] = WHOLE) -> float:
    """Mean of log2(step) over the samples of a box."""
    x0, y0, x1, y1 = box
    rows, columns = (
        np.minimum(np.arange(*span) // found.block, count - 1)
        for span, count in zip(((y0, y1), (x0, x1)), found.steps.shape, strict=True)
    )
    return float(np.log2(found.steps[np.ix_(rows, columns)]).mean())


def steps(path: Path, data: bytes) -> list[float]:
    """Mean step of each frame that has one."""
    return [2 ** mean_log2(f.quantisers) for f in frames(path, data) if f.quantisers is not None]


# -- codecs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qp", [16, 28, 40])
def test_h264_of_constant_qp(qp: int, tmp_path: Path) -> None:
    found = frames(tmp_path / "film.mp4", x264(qp, more=":aq-mode=0"))
    for frame in found:
        assert frame.quantisers is not None
        assert frame.quantisers.steps.shape == (HEIGHT // 16, WIDTH // 16)
        assert (frame.quantisers.block, frame.quantisers.codec) == (16, "h264")
        assert np.allclose(frame.quantisers.steps, 2 ** ((qp - 4) / 6))


def test_h264_of_fields_and_of_frames_that_depend_on_later_ones(tmp_path: Path) -> None:
    path = interlaced_film(tmp_path / "film.mp4", [noise(i) for i in range(6)])
    found = frames(path, path.read_bytes())
    assert len(found) == 6 and all(
        f.quantisers is not None and f.quantisers.steps.shape[1] == WIDTH // 16 for f in found
    )
    data = film("mp4", "libx264", count=12, preset="medium", qp="30", x264_params="bframes=3:ipratio=1:pbratio=1")
    assert steps(tmp_path / "b.mp4", data) == pytest.approx([2 ** (26 / 6)] * 12)


@pytest.mark.parametrize(
    ("suffix", "codec", "missing"),
    [("mpeg", "mpeg1video", 1), ("mkv", "mpeg2video", 1), ("mp4", "mpeg4", 0), ("avi", "msmpeg4", 0)],
)
@pytest.mark.parametrize("quantiser", [4, 20])
def test_mpeg_of_a_fixed_quantiser(suffix: str, codec: str, missing: int, quantiser: int, tmp_path: Path) -> None:
    """Twice the quantiser, whatever the codec; FFmpeg says nothing of the last frame where frames are reordered."""
    found = steps(tmp_path / f"film.{suffix}", film(suffix, codec, quantiser))
    assert found == pytest.approx([2.0 * quantiser] * (COUNT - missing))


def test_mpeg_2_of_a_non_linear_scale(tmp_path: Path) -> None:
    found = steps(tmp_path / "film.mkv", film("mkv", "mpeg2video", 20, non_linear_quant="1"))
    assert found == pytest.approx([40.0] * (COUNT - 1))


def test_vp9_of_segments_has_a_map(tmp_path: Path) -> None:
    found = frames(
        tmp_path / "film.webm", film("webm", "libvpx-vp9", crf="40", b="0", aq_mode="2", cpu_used="8", deadline="good")
    )
    maps = [f.quantisers.steps for f in found if f.quantisers is not None]
    assert len(maps) == COUNT
    assert any(m.shape == (HEIGHT // 8, WIDTH // 8) for m in maps)


@pytest.mark.parametrize("suffix", ["avi", "mkv"])
def test_motion_jpeg_rises_with_its_quantiser(suffix: str, tmp_path: Path) -> None:
    fine, coarse = (steps(tmp_path / f"film.{suffix}", film(suffix, "mjpeg", q, "yuvj420p")) for q in (4, 12))
    assert len(fine) == len(coarse) == COUNT
    assert np.allclose(np.array(coarse) / fine, 3, rtol=0.1)


@pytest.mark.parametrize("gray", [False, True])
def test_stills(gray: bool, tmp_path: Path) -> None:
    """libjpeg's tables: those of quality 50 times 2 - quality / 50; a film of one JPEG says the same."""
    found: list[float] = []
    for quality in (95, 70, 30):
        path = tmp_path / f"{quality}.jpg"
        image = np.zeros((40, 56), np.uint8) if gray else np.zeros((40, 56, 3), np.uint8)
        path.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
        frame = read_image(path).frame
        assert frame.quantisers is not None and frame.quantisers.block == 56
        found.append(2 ** mean_log2(frame.quantisers, (3, 3, 9, 9)))
        assert steps(path, path.read_bytes()) == pytest.approx(found[-1:])
    assert found[2] / found[1] == pytest.approx((5000 / 30) / (200 - 140), rel=0.05)
    assert found[1] / found[0] == pytest.approx(60 / 10, rel=0.15)
    assert read_png(tmp_path).quantisers is None


def read_png(folder: Path) -> Frame:
    path = folder / "a.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((40, 56, 3), np.uint8))[1].tobytes())
    return read_image(path).frame


# -- frames on their way --------------------------------------------------------------------------------------------


def test_it_stays_with_a_frame_and_not_with_a_scaled_one(tmp_path: Path) -> None:
    [frame, *_] = frames(tmp_path / "film.mp4", x264(28))
    assert replace(frame, field=0).quantisers is frame.quantisers is not None
    path = tmp_path / "film.mp4"
    source = FileSource(path, size=(80, 48, "yuv420p"))
    scaled = [item for item in source if isinstance(item, Frame)]
    source.close()
    assert scaled and all(f.quantisers is None for f in scaled)


@pytest.mark.parametrize(
    ("codec", "options"),
    [("ffv1", {}), ("libx264", {"qp": "0"}), ("libx265", {"x265_params": "lossless=1:log-level=none"})],
)
def test_lossless_codecs_say_nothing(codec: str, options: dict[str, str], tmp_path: Path) -> None:
    assert not steps(tmp_path / "film.mkv", film("mkv", codec, **options))


def test_maps_of_threads_that_run_ahead_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(x264(28))
    with av.open(path) as box:
        context = box.streams.video[0].codec_context
        assert threads_for(context) == "SLICE"
        context.thread_type, context.thread_count = "AUTO", 4
        reader = QuantiserReader(context)
        assert [reader.of(image) for image in box.decode(video=0)] == [None] * COUNT


# -- damage ---------------------------------------------------------------------------------------------------------
