"""Quantisers from the headers of frames: H.264, HEVC, VP8 and AV1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.media.formats.coded_headers.steps import step_reader
from rtface.media.formats.quantiser_tables import vp8_table, vpx_steps
from rtface.media.read.quantiser import QuantiserReader
from tests.media.encoded import interlaced_film
from tests.media.test_quantiser import COUNT, film, frames, luma, mean_log2, noise, steps, vp9, x264

ERROR = 1.6  # between the step and what the error of noise says


def x265(
    qp: int,
    suffix: str = "mp4",
    pix_fmt: str = "yuv420p",
    count: int = COUNT,
    more: str = "",
    preset: str = "ultrafast",
) -> bytes:
    return film(
        suffix,
        "libx265",
        pix_fmt=pix_fmt,
        count=count,
        preset=preset,
        x265_params=f"qp={qp}:ipratio=1:pbratio=1:log-level=none:pools=none:frame-threads=1{more}",
    )


def vp8(q: int) -> bytes:
    return film("webm", "libvpx", q, crf=str(q), cpu_used="8")


def vp8_of_segments() -> bytes:
    return film(
        "webm",
        "libvpx",
        count=10,
        cpu_used="8",
        deadline="realtime",
        error_resilient="default",
        lag_in_frames="0",
        b="300000",
    )


def av1(q: int, suffix: str = "mp4", pix_fmt: str = "yuv420p", count: int = COUNT, more: str = "") -> bytes:
    return film(
        suffix, "libsvtav1", pix_fmt=pix_fmt, count=count, preset="10", svtav1_params=f"rc=0:qp={q}:aq-mode=0{more}"
    )


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVT_LOG", "1")


@pytest.mark.parametrize(
    ("qp", "options"),
    [
        (16, {}),
        (40, {}),
        (28, {"suffix": "mpegts", "count": 12, "preset": "slow", "more": ":bframes=4:weightb=1"}),
        (
            28,
            {"suffix": "mkv", "count": 8, "preset": "medium", "more": ":slices=2:weightp=1:no-sao=1:temporal-layers=3"},
        ),
        (30, {"count": 12, "preset": "slow", "more": ":ref=5:keyint=6:scaling-list=default:no-deblock=1"}),
        (25, {"pix_fmt": "yuv444p", "more": ":tskip=1:repeat-headers=1"}),
        (24, {"pix_fmt": "gray"}),
    ],
)
def test_hevc_of_constant_qp(qp: int, options: dict[str, object], tmp_path: Path) -> None:
    data = x265(qp, **options)  # pyright: ignore[reportArgumentType]
    assert steps(tmp_path / "film", data) == pytest.approx([2 ** ((qp - 4) / 6)] * options.get("count", COUNT))


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "slow", "x264_params": "bframes=3:weightp=2:ref=5:b-pyramid=normal"},
        {"preset": "medium", "x264_params": "bframes=2:weightb=1:direct=spatial:slices=3:cabac=0"},
        {"preset": "medium", "pix_fmt": "yuv444p", "x264_params": "cqm=jvt:keyint=3"},
        {"preset": "medium", "pix_fmt": "yuv420p10le", "x264_params": "open-gop=1:keyint=4:intra-refresh=0"},
        {"preset": "ultrafast", "suffix": "mpegts", "x264_params": "annexb=1:repeat-headers=1:stitchable=1"},
        {"preset": "medium", "x264_params": "tff=1:bframes=2"},
    ],
)
def test_h264_says_in_headers_what_its_map_says(options: dict[str, str], tmp_path: Path) -> None:
    options = dict(options)
    options["x264_params"] += ":aq-mode=0"
    data = film(options.pop("suffix", "mp4"), "libx264", qp="27", count=14, **options)
    path = tmp_path / "film"
    path.write_bytes(data)
    compared(path, 14)


def test_h264_of_fields_says_the_same(tmp_path: Path) -> None:
    compared(interlaced_film(tmp_path / "film.mp4", [noise(i) for i in range(6)]), 6, 0.7)


def compared(path: Path, count: int, most: float = 1e-4) -> None:
    """The mean of the map and the step of the header, as log2, of all frames."""
    with av.open(path) as box:
        video = box.streams.video[0]
        maps, headers = QuantiserReader(video.codec_context), QuantiserReader(video.codec_context, gpu=True)
        found: list[tuple[float, float]] = []
        for packet in box.demux(video):
            if packet.size:
                headers.note(packet)
            for image in packet.decode():
                mapped = maps.of(image)
                plain = av.VideoFrame(image.width, image.height, "yuv420p")  # as a GPU's decoder gives it
                plain.pts, plain.time_base = image.pts, image.time_base or video.time_base
                header = headers.of(plain)
                assert mapped is not None and header is not None and header.steps.shape == (1, 1)
                found.append((mean_log2(mapped), mean_log2(header)))
    assert len(found) == count
    assert np.abs(np.diff(found)).max() < most


@pytest.mark.parametrize(
    "make",
    [
        lambda: x264(28),
        lambda: x264(28, "yuv420p10le"),
        lambda: film("mp4", "mpeg4", 8),
        lambda: vp9(40),
        lambda: vp9(20),
        lambda: x265(28),
        lambda: x265(28, pix_fmt="yuv420p10le"),
        lambda: vp8(10),
        lambda: vp8(40),
        vp8_of_segments,
        lambda: av1(10),
        lambda: av1(45),
        lambda: av1(35, "matroska", "yuv420p10le"),
        lambda: av1(40, count=12, more=":tile-columns=1:enable-tf=0"),
        lambda: av1(30, count=10, more=":lookahead=0:pred-struct=1"),
        lambda: av1(50, more=":superres-mode=1"),
        lambda: av1(40, count=8, more=":scm=1:keyint=3"),
    ],
)
def test_a_step_is_what_the_error_of_noise_says(make: Callable[[], bytes], tmp_path: Path) -> None:
    """Uniform quantisation by a step leaves an error of step / √12; codecs of one step agree by that."""
    for index, frame in enumerate(frames(tmp_path / "film", make())):
        assert frame.quantisers is not None
        error = np.sqrt(np.mean((luma(frame.image) - luma(noise(index, frame.image.format.name))) ** 2))
        assert 1 / ERROR < error * np.sqrt(12) / 2 ** mean_log2(frame.quantisers) < ERROR


def test_tables_end_where_those_of_the_standards_do() -> None:
    assert vp8_table()[[0, 1, 54, 55, 127]].tolist() == [2, 2.5, 29, 30, 142]
    assert vpx_steps(np.array([-3, 0, 1, 100, 255, 300]), 8).tolist() == [0.5, 0.5, 1, 14, 228.5, 228.5]
    assert vpx_steps(np.array([0, 255]), 10).tolist() == [0.125, 228.5]


@pytest.mark.parametrize(
    ("codec", "make"),
    [
        ("hevc", lambda: x265(28, "mpegts", count=8, preset="medium")),
        ("hevc", lambda: x265(28)),
        ("h264", lambda: film("mp4", "libx264", qp="27", count=8)),
        ("vp8", lambda: vp8(30)),
        ("av1", lambda: av1(40)),
        ("mjpeg", lambda: film("avi", "mjpeg", 8, "yuvj420p")),
    ],
)
def test_damage_is_no_fault(codec: str, make: Callable[[], bytes], tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(make())
    rng = np.random.default_rng(1)
    with av.open(path) as box:
        stream = box.streams.video[0]
        extra = bytes(stream.codec_context.extradata or b"")
        packets = [bytes(p) for p in box.demux(stream) if p.size]
    for seed in range(150):
        broken = damaged(extra, rng) if seed % 3 == 0 else extra
        read = step_reader(codec, broken)
        assert read is not None
        for data in packets:
            found = read(memoryview(damaged(data, rng)))
            assert found is None or 0 < found < 1000
    read = step_reader(codec, extra)
    assert read is not None
    for size in range(0, 200, 3):
        read(memoryview(packets[0][:size]))


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    out = np.frombuffer(data, np.uint8).copy()
    if not out.size:
        return data
    places = rng.integers(0, min(len(out), 60), 4)
    out[places] = rng.integers(0, 256, 4)
    return out.tobytes()[: int(rng.integers(0, len(out) + 1)) if rng.random() < 0.2 else None]
