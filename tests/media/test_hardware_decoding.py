"""Decoding on a GPU: what is refused for real without a driver, and what happens with a GPU that does well or fails.

The GPU here is a second software decoder whose pictures come in the GPU's layout; `on_gpu` is told to believe it.
tests/gpu has the same questions for a real one.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import rtface
from rtface.errors import DeviceLost, InputError
from rtface.frame import Frame, Packet
from rtface.media.cuda import decoder, driver
from rtface.media.cuda.decoder import ON_GPU
from rtface.media.read import hardware
from rtface.media.read.hardware import Decoding, decoding, gpu_number
from rtface.media.read.source import FileSource
from rtface.stats import Stats
from rtface.util.av_gpu import FORMATS, native_format, repacked
from tests.media.encoded import coded
from tests.pairs import pairs

EXTERNAL = av.error.ExternalError(-542398533, "Generic error in an external library")


class Gpu:
    """A decoder that gives pictures in the GPU's layout and fails when it is told to."""

    def __init__(
        self,
        stream: Any,
        *,
        fails_after: int | None = None,
        wrong: int | None = None,
        silent: bool = False,
        leaves: bool = False,
        error: Exception = EXTERNAL,
    ) -> None:
        source = stream.codec_context
        self.context: Any = av.CodecContext.create(source.codec.name, "r")
        self.context.extradata, self.context.reorder_depth = source.extradata, source.reorder_depth
        self.context.thread_count = 1
        self.fails_after, self.wrong, self.silent, self.error = fails_after, wrong, silent, error
        self.leaves, self.packets, self.given = leaves, 0, 0

    def decode(self, packet: Any = None) -> list[av.VideoFrame]:
        self.packets += packet is not None
        if self.fails_after is not None and self.packets > self.fails_after:
            raise self.error
        images = self.context.decode(packet)
        if self.silent:
            return []
        if not self.leaves:
            images = [repacked(i, ON_GPU.get(i.format.name, i.format.name)) for i in images]
        for image in images:
            self.given += 1
            if self.given == self.wrong:
                plane = image.planes[1]
                plane.update(bytes([plane.buffer_size and 9]) + bytes(plane)[1:])
        return images


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    """Puts such a GPU into the machine; returns the list of those that were opened."""

    def insert(**how: Any) -> list[Gpu]:
        opened: list[Gpu] = []

        def context(stream: Any, device: int) -> Gpu:
            opened.append(Gpu(stream, **how))
            return opened[-1]

        monkeypatch.setattr(driver, "absent", lambda device=0: None)
        monkeypatch.setattr(driver, "settle", lambda device: None)
        monkeypatch.setattr(hardware, "open_context", context)
        monkeypatch.setattr(decoder, "on_gpu", lambda image: image.format.name in FORMATS)
        return opened

    return insert


def seen(path: Path, decode: Decoding | None, **cut: Any) -> tuple[list[tuple[Any, ...]], Any, Stats, list[Frame]]:
    """Everything that comes out of a file, in a form that can be compared."""
    stats = Stats()
    source = FileSource(path, stats=stats, decode=decode, **cut)
    try:
        items = list(source)
    finally:
        source.close()
    frames = [i for i in items if isinstance(i, Frame)]
    out: list[tuple[Any, ...]] = []
    for item in items:
        if isinstance(item, Packet):
            out.append((item.stream_index, item.packet.pts, item.packet.dts, bytes(item.packet)))
        else:
            held = ON_GPU.get(item.image.format.name, item.image.format.name)
            picture = tuple(np.from_dlpack(p).tobytes() for p in repacked(item.image, held).planes)
            out.append((item.pts, item.duration, item.time_base, item.color, item.display, picture))
    return out, source.info, stats, frames


def same(one: Any, other: Any) -> None:
    """Two results of `seen`: every frame, packet and property; packets may come elsewhere between them."""
    for fields in (6, 4):  # of a frame, of a packet
        a, b = ([item for item in result[0] if len(item) == fields] for result in (one, other))
        assert all(x == y for x, y in zip(a, b, strict=True))
    for name in PROPERTIES:
        assert getattr(one[1], name) == getattr(other[1], name), name


# Of an input, but for its decoder, streams and pixel format.
PROPERTIES = (
    *("width", "height", "display_width", "display_height", "rate", "time_base", "codec", "color", "display", "tags"),
    *("matrix", "aspect", "interlaced", "hdr", "captions", "duration_s", "origin", "transparent"),
)
X265 = "log-level=none:keyint=12:bframes=3:open-gop=1"
HDR = (
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400:hdr10=1:"
    "log-level=none"
)
FILMS: dict[str, dict[str, Any]] = {
    "h264.mp4": {
        "frames": 40,
        "options": {"preset": "fast", "bf": "3", "g": "12"},
        "sound": "aac",
        "tags": {"color_range": 1, "colorspace": 1, "color_primaries": 1, "color_trc": 1},
    },
    "turned.mp4": {
        "frames": 8,
        "matrix": (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),
        "aspect": Fraction(4, 3),
        "size": (130, 98),
    },
    "full.mkv": {"frames": 8, "pix_fmt": "yuvj420p", "tags": {"color_range": 2}},
    "h264.avi": {"frames": 40, "options": {"preset": "fast", "bf": "2", "g": "12"}},
    "fields.ts": {"frames": 12, "options": {"flags": "+ildct+ilme", "x264-params": "tff=1"}},
    "hevc10.mkv": {
        "frames": 40,
        "codec": "libx265",
        "pix_fmt": "yuv420p10le",
        "options": {"preset": "fast", "x265-params": X265},
    },
    "hdr.mp4": {
        "frames": 4,
        "codec": "libx265",
        "pix_fmt": "yuv420p10le",
        "options": {"preset": "ultrafast", "x265-params": HDR},
        "tags": {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": 16},
    },
    "one.mp4": {"frames": 1},
}


@pytest.fixture(scope="module")
def film(media: Any, tmp_path_factory: pytest.TempPathFactory):
    """A film of `FILMS`, made once."""
    folder = tmp_path_factory.mktemp("films")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else media.make_film(path, **FILMS[name])

    return make


# -- what is asked for ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decode", "device", "want"),
    [
        ("auto", "cpu", None),
        ("auto", "cuda", None),
        ("auto", "cuda:2", None),
        ("software", "cuda", None),
        ("cuda", "cpu", Decoding(0, False)),
        ("cuda:1", "cpu", Decoding(1, False)),
        ("cuda", "cuda:2", Decoding(2, True)),
        ("cuda:1", "cuda:2", Decoding(1, False)),
    ],
)
def test_where_a_run_decodes(decode, device, want):
    assert decoding(decode, device) == want
    assert decoding("cuda", "cuda", keep=False) == Decoding(0, False)
    assert [gpu_number(n) for n in ("cuda:3", "cpu", "cudax", "cuda:")] == [3, None, None, None]


# -- no driver ------------------------------------------------------------------------------------------------------


needs_no_driver = pytest.mark.skipif(driver.absent() is None, reason="a CUDA driver is here")


@needs_no_driver
@pytest.mark.parametrize("late", [False, True], ids=["no library", "FFmpeg says so"])
def test_without_a_driver_software_decodes_the_same(film, monkeypatch, late):
    """FFmpeg's own refusal is a PermissionError, even where falling back is allowed."""
    if late:
        monkeypatch.setattr(driver, "absent", lambda device=0: None)
    with_gpu = seen(film("h264.mp4"), Decoding(0, True))
    alone = seen(film("h264.mp4"), None)
    assert with_gpu[0] == alone[0]
    same(with_gpu, alone)
    assert with_gpu[1].pix_fmt == alone[1].pix_fmt == "yuv420p" and not with_gpu[1].on_gpu
    why = "a library of the driver is missing" if late else "there is no CUDA driver here"
    (warning,) = with_gpu[2].warnings.values()
    assert f"is decoded by software, because {'the GPU' if late else why}" in warning and why in warning
    assert with_gpu[2].counters["warn:decode_gpu"] == 1
    assert with_gpu[1].decoder.startswith("software, because") and alone[1].decoder == "software"


@needs_no_driver
def test_a_run_reports_its_codecs_and_writes_the_same_bytes(film, tmp_path):
    """The whole way, with everything asked of a GPU that is not there."""
    plain = rtface.run(film("turned.mp4"), tmp_path / "a.mp4", tracker="none")
    report = rtface.run(film("turned.mp4"), tmp_path / "b.mp4", tracker="none", decode="cuda:0", encode="cuda")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert (plain.decoder, plain.encoder, plain.warnings) == ("software", "libx264", [])
    assert report.decoder.startswith("software, because") and report.encoder == "libx264"
    assert len(report.warnings) == 2


# -- a GPU that does well ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "keep"), pairs(list(FILMS), [True, False], ["h264.mp4"]))
def test_everything_survives_the_gpu(film, gpu, name, keep):
    opened = gpu()
    there, here = seen(film(name), Decoding(1, keep)), seen(film(name), None)
    same(there, here)
    assert not there[2].warnings or there[2].warnings == here[2].warnings
    assert there[1].decoder == "NVDEC on cuda:1" and len(opened) == 1
    held = {frame.image.format.name for frame in there[3]}
    assert held == {"p010le" if "10" in here[1].pix_fmt else "nv12"} == {there[1].pix_fmt}


def test_a_cut_is_the_same(film, gpu):
    gpu()
    for cut in ({"start": 0.7}, {"end": 0.9}, {"start": 0.3, "end": 1.1}):
        same(seen(film("h264.mp4"), Decoding(), **cut), seen(film("h264.mp4"), None, **cut))


def test_pictures_are_ready_before_they_come_out(film, gpu, monkeypatch):
    """The GPU's work is waited for once per call that gives pictures, and before any is looked at."""
    opened = gpu()
    waited: list[int] = []
    monkeypatch.setattr(driver, "settle", lambda device: waited.append(opened[0].given))
    seen(film("h264.mp4"), Decoding())
    assert opened[0].given == 40 and waited[-1] == 40 and len(waited) >= 30


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "why"),
    [
        ("libx264", "yuv422p", "not for yuv422p"),
        ("libx264", "yuv444p", "not for yuv444p"),
        ("libx265", "yuv420p12le", "not for yuv420p12le"),
        ("mpeg2video", "yuv420p", "not used for mpeg2video"),
        ("ffv1", "yuv420p", "not used for ffv1"),
    ],
)
def test_what_a_gpu_is_not_asked_for(media, tmp_path, gpu, codec, pix_fmt, why):
    opened = gpu()
    source = media.make_film(
        tmp_path / "in.mkv",
        frames=3,
        codec=codec,
        pix_fmt=pix_fmt,
        options={"x265-params": "log-level=none"} if codec == "libx265" else None,
    )
    there, here = seen(source, Decoding(0, True)), seen(source, None)
    same(there, here)
    (warning,) = there[2].warnings.values()
    assert why in warning and not opened and there[1].pix_fmt == here[1].pix_fmt


def test_a_still_is_not_the_gpus(tmp_path, gpu):
    opened = gpu()
    path = tmp_path / "a.jpg"
    av.VideoFrame(64, 48, "yuvj420p").save(path)
    _, info, stats, _ = seen(path, Decoding(0, False))
    assert info.decoder == "software" and not opened and not stats.warnings


# -- a GPU that does not -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"wrong": 1}, "samples differ"),
        ({"silent": True}, "returns no frame"),
        ({"fails_after": 0}, "external library"),
        ({"fails_after": 1}, "external library"),
        ({"leaves": True}, "this kind of stream"),
        ({"fails_after": 0, "error": av.error.MemoryError(12, "Cannot allocate memory")}, "cannot allocate memory"),
    ],
)
@pytest.mark.parametrize("name", ["h264.mp4", "hevc10.mkv"])
def test_a_gpu_that_fails_at_once_leaves_no_trace(film, gpu, name, how, why):
    gpu(**how)
    there, here = seen(film(name), Decoding(0, True)), seen(film(name), None)
    same(there, here)
    assert there[1].pix_fmt == here[1].pix_fmt and not there[1].on_gpu
    (warning,) = there[2].warnings.values()
    assert why in warning


@pytest.mark.parametrize("lost", [False, True], ids=["FFmpeg says so", "the driver says so"])
def test_a_gpu_that_fails_later_ends_the_film(film, gpu, monkeypatch, lost):
    """It does not pass for damage of the film, of which the rest would be read."""
    opened = gpu(**({} if lost else {"fails_after": 20}))

    def settle(device: int) -> None:
        if lost and opened[0].given > 20:
            raise DeviceLost("GPU 0 has failed (CUDA error 700)")

    monkeypatch.setattr(driver, "settle", settle)
    with pytest.raises(InputError, match="the GPU stopped decoding"):
        seen(film("h264.mp4"), Decoding(0, True))


def test_damage_is_counted_on_a_gpu_too(media, tmp_path, gpu):
    source = media.make_film(tmp_path / "in.mkv", frames=40, options={"preset": "fast", "bf": "2", "g": "12"})
    spoilt, data = coded(source)[20], source.read_bytes()
    source.write_bytes(data.replace(spoilt, b"\xff" * len(spoilt)))
    gpu()
    there, here = seen(source, Decoding(0, True)), seen(source, None)
    same(there, here)
    assert there[2].counters["packets_lost"] == here[2].counters["packets_lost"] >= 1
    assert set(there[2].warnings) == set(here[2].warnings)


def test_a_frame_that_changes_size_is_scaled_on_the_host(media, tmp_path, gpu):
    """The first size counts, as without a GPU."""
    one = media.make_film(tmp_path / "one.h264", frames=6)
    two = media.make_film(tmp_path / "two.h264", frames=6, size=(64, 48))
    joined = tmp_path / "both.h264"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    gpu()
    there, here = seen(joined, Decoding()), seen(joined, None)
    assert [(f.image.width, f.image.height) for f in there[3]] == [(128, 96)] * len(here[3])
    assert there[2].counters["frames_resized"] == here[2].counters["frames_resized"] == 6
    assert {native_format(f.image) for f in there[3]} == {"nv12"}
