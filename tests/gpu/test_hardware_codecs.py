"""NVDEC and NVENC on a real GPU."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtface.frame import Frame, Packet
from rtface.media.cuda.decoder import ON_GPU
from rtface.media.cuda.nvenc import Encoding
from rtface.media.read.hardware import Decoding
from rtface.media.read.source import FileSource
from rtface.media.write.file_sink import FileSink
from rtface.media.write.stream_plan import plan_output
from rtface.stats import Stats
from rtface.util.av_gpu import native_format, on_gpu, repacked, software, surface_of

X265 = "log-level=none:keyint=30:bframes=3:open-gop=1"
BT709 = {"color_range": 1, "colorspace": 1, "color_primaries": 1, "color_trc": 1}
BT2020 = {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": 16}
SIZE = (640, 368)
# What the GPU must decode, bit for bit as software does. 640×362 and 638×362 are cropped.
FILMS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"options": {"preset": "fast", "bf": "3", "g": "30"}, "sound": "aac", "tags": BT709},
    "h264-cropped.mkv": {"options": {"preset": "fast"}, "size": (640, 362)},
    "h264-full-range.mp4": {"pix_fmt": "yuvj420p", "tags": BT709 | {"color_range": 2}},
    "h264-uneven.mkv": {"frames": 6, "pts_ms": [0, 33, 100, 117, 250, 251]},
    "h264-turned.mp4": {"matrix": (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30), "aspect": Fraction(4, 3)},
    "h264-one.mp4": {"frames": 1},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": X265}, "tags": BT709},
    "hevc-10.mkv": {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": X265}, "tags": BT2020},
    "hevc-cropped.mp4": {"codec": "libx265", "size": (638, 362), "options": {"x265-params": X265}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "av1.mkv": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "av1-10.mkv": {"codec": "libsvtav1", "pix_fmt": "yuv420p10le", "options": {"preset": "12"}},
}


@pytest.fixture(scope="module")
def film(media: Any, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("films")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else media.make_film(path, **{"frames": 60, "size": SIZE, **FILMS[name]})

    return make


def seen(path: Path, decode: Decoding | None, **cut: Any) -> tuple[list[Frame], list[Any], Any, Stats]:
    """Frames, the packets beside them, what is known of the file, and what was said."""
    stats = Stats()
    source = FileSource(path, stats=stats, decode=decode, **cut)
    try:
        items = list(source)
    finally:
        source.close()
    packets = [(i.stream_index, i.packet.pts, bytes(i.packet)) for i in items if isinstance(i, Packet)]
    return [i for i in items if isinstance(i, Frame)], packets, source.info, stats


def bytes_of(image: av.VideoFrame) -> tuple[bytes, ...]:
    host = software(image)
    held = repacked(host, ON_GPU.get(host.format.name, host.format.name))
    return tuple(np.from_dlpack(plane).tobytes() for plane in held.planes)


@contextmanager
def driver_with_context() -> Iterator[Any]:
    """The driver's library, with the GPU's primary context current."""
    driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    context = ctypes.c_void_p()
    assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    driver.cuCtxPushCurrent_v2(context)
    yield driver
    driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    driver.cuDevicePrimaryCtxRelease_v2(0)


def same(there: Any, here: Any) -> None:
    assert len(there[0]) == len(here[0])
    for n, (a, b) in enumerate(zip(there[0], here[0], strict=True)):
        for name in ("pts", "duration", "time_base", "color", "display"):
            assert getattr(a, name) == getattr(b, name), f"frame {n}: {name}"
        assert bytes_of(a.image) == bytes_of(b.image), f"frame {n} differs"
    assert there[1] == here[1]
    for name in ("width", "height", "tags", "matrix", "aspect", "hdr", "color", "display", "rate", "duration_s"):
        assert getattr(there[2], name) == getattr(here[2], name), name


# -- decoding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "downloaded"])
@pytest.mark.parametrize("name", FILMS)
def test_nvdec_is_software_bit_for_bit(film, name, keep):
    there, here = seen(film(name), Decoding(0, keep)), seen(film(name), None)
    if name.startswith("av1") and "decoder fails" in there[2].decoder:
        same(there, here)
        pytest.skip(f"this GPU does not decode AV1: {there[2].decoder}")
    assert there[2].decoder == "NVDEC on cuda:0"
    assert {on_gpu(f.image) for f in there[0]} == {keep}
    assert {native_format(f.image) for f in there[0]} == {ON_GPU[here[2].pix_fmt]} == {there[2].pix_fmt}
    assert not there[3].warnings or there[3].warnings == here[3].warnings
    same(there, here)


def test_a_cut_is_the_same(film):
    for cut in ({"start": 1.0}, {"start": 0.3, "end": 1.1}):
        same(seen(film("h264.mp4"), Decoding(0, True), **cut), seen(film("h264.mp4"), None, **cut))


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [
        ("libx264", "yuv422p", SIZE),
        ("libx265", "yuv422p10le", SIZE),
        ("libx265", "yuv420p12le", SIZE),
        ("mpeg2video", "yuv420p", SIZE),
        ("libx264", "yuv420p10le", SIZE),  # only the newest GPUs decode it
        ("libx264", "yuv420p", (32, 16)),  # NVDEC has a least size, 48×16 to 144×144 by codec and GPU
    ],
)
def test_what_the_gpu_does_not_decode_software_does(media, tmp_path, codec, pix_fmt, size):
    """4:2:2, 12 bits, inexact codecs: one warning, the same frames."""
    options = {"x265-params": X265} if codec == "libx265" else None
    source = media.make_film(tmp_path / "in.mkv", frames=10, size=size, codec=codec, pix_fmt=pix_fmt, options=options)
    there, here = seen(source, Decoding(0, True)), seen(source, None)
    same(there, here)
    decoded = there[2].decoder == "NVDEC on cuda:0"
    assert {on_gpu(f.image) for f in there[0]} == {decoded} and not (decoded and there[3].warnings)
    if size == SIZE and (codec, pix_fmt) != ("libx264", "yuv420p10le"):
        assert there[2].decoder.startswith("software, because") and list(there[3].warnings) == ["decode_gpu"]


def test_any_number_of_frames_stay_on_the_gpu(media, tmp_path):
    """They are copies, not the decoder's own surfaces: holding 300 does not starve it, and none is written to later."""
    source = media.make_film(tmp_path / "in.mp4", frames=300, size=SIZE)
    there, here = seen(source, Decoding(0, True)), seen(source, None)
    assert len({surface_of(f.image).luma for f in there[0]}) == 300
    same(there, here)


@pytest.mark.parametrize("name", ["h264-cropped.mkv", "hevc-10.mkv"])
def test_a_surface_is_where_it_says(film, name):
    """The driver itself, asked for the bytes at the surface's addresses, gives the frame that FFmpeg downloads."""
    frames, _, info, _ = seen(film(name), Decoding(0, True))
    for frame in (frames[0], frames[-1]):
        surface = surface_of(frame.image)
        assert (frame.image.width, frame.image.height, surface.device) == (info.width, info.height, 0)
        row = info.width * (1 if native_format(frame.image) == "nv12" else 2)
        parts = (
            (surface.luma, surface.luma_pitch, info.height),
            (surface.chroma, surface.chroma_pitch, info.height // 2),
        )
        for (address, pitch, rows), want in zip(parts, bytes_of(frame.image), strict=True):
            got = np.zeros((rows, pitch), np.uint8)
            to, source = ctypes.c_void_p(got.ctypes.data), ctypes.c_uint64(address)
            with driver_with_context() as driver:
                assert driver.cuMemcpyDtoH_v2(to, source, ctypes.c_size_t(got.nbytes)) == 0
            assert got[:, :row].tobytes() == want


def test_a_context_that_others_made_first_is_shared(film):
    """Whoever made the primary context, with whatever flags: FFmpeg accepts it once the flag it wants is set."""
    with driver_with_context() as driver:
        driver.cuDevicePrimaryCtxSetFlags_v2(0, 1)  # CU_CTX_SCHED_SPIN
        frames, _, info, _ = seen(film("h264.mp4"), Decoding(0, True))
    assert info.decoder == "NVDEC on cuda:0" and on_gpu(frames[0].image)


def test_a_gpu_that_is_not_there(film):
    there = seen(film("h264.mp4"), Decoding(63, True))
    assert "there is no GPU 63" in there[3].warnings["decode_gpu"]
    same(there, seen(film("h264.mp4"), None))


# -- encoding -------------------------------------------------------------------------------------------------------


def write(source: Path, output: Path, *, keep: bool, **options: Any) -> tuple[Any, Stats]:
    stats = Stats()
    opened = FileSource(source, decode=Decoding(0, keep))
    plan = plan_output(opened.info, output, overwrite=True, **options)
    sink = FileSink(plan, stats)
    for item in opened:
        sink.write(item)
    sink.finish()
    opened.close()
    return plan, stats


def test_a_gpu_without_an_encoder_leaves_it_to_software(film, tmp_path, gpu_name):
    """Holds on every GPU: what cannot be encoded there is the file that software writes."""
    plan, stats = write(film("h264.mp4"), tmp_path / "a.mp4", keep=True, encode=Encoding("cuda"))
    if plan.video.encoder.endswith("_nvenc"):
        pytest.skip(f"{gpu_name} has an encoder")
    write(film("h264.mp4"), tmp_path / "b.mp4", keep=True, encode=Encoding("software"))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert any("libx264 encodes instead" in line for line in stats.warned())


@pytest.mark.parametrize("keep", [True, False], ids=["on the GPU", "uploaded"])
@pytest.mark.parametrize(
    ("name", "codec"), [("h264.mp4", "h264_nvenc"), ("h264-cropped.mkv", "h264_nvenc"), ("hevc-10.mkv", "hevc_nvenc")]
)
def test_lossless_comes_back_bit_for_bit(film, nvenc, tmp_path, name, codec, keep):
    plan, stats = write(film(name), tmp_path / "out.mkv", keep=keep, codec=codec, crf=0)
    assert plan.video.encoder == codec and plan.video.on_gpu == keep and not stats.warnings
    there, here = seen(tmp_path / "out.mkv", None), seen(film(name), None)
    assert [bytes_of(f.image) for f in there[0]] == [bytes_of(f.image) for f in here[0]]
    assert there[2].tags.matrix == here[2].tags.matrix and there[2].tags.transfer == here[2].tags.transfer
    assert there[2].color == here[2].color


@pytest.mark.parametrize(
    ("codec", "name"), [("h264_nvenc", "h264.mp4"), ("hevc_nvenc", "hevc-10.mkv"), ("av1_nvenc", "h264.mp4")]
)
def test_quality_follows_crf(film, nvenc, tmp_path, codec, name):
    """Smaller files and worse frames with a larger crf; times stay, whatever the order of coding."""
    sizes, errors = [], []
    here = seen(film(name), None)
    for crf in (15, 30, 45):
        plan, _ = write(film(name), tmp_path / "out.mkv", keep=True, codec=codec, crf=crf)
        if plan.video.encoder != codec:
            pytest.skip(f"{nvenc} has no {codec}")
        there = seen(tmp_path / "out.mkv", None)
        start, times = there[0][0].time, [f.time for f in here[0]]
        assert [f.time - start for f in there[0]] == pytest.approx(times, abs=0.002)
        sizes.append((tmp_path / "out.mkv").stat().st_size)
        kind = np.dtype("<u2" if "10" in here[2].pix_fmt else np.uint8)
        mine, theirs = (
            np.stack([np.frombuffer(bytes_of(f.image)[0], kind).astype(float) for f in frames[::10]])
            for frames in (there[0], here[0])
        )
        errors.append(np.abs(mine - theirs).mean())
    assert sizes[0] > sizes[1] > sizes[2] and errors[0] < errors[1] < errors[2]


def test_frames_on_the_gpu_are_encoded_there_by_themselves(film, nvenc, tmp_path):
    """--encode auto: a GPU's encoder where the frames are on the GPU, HEVC for 10 bits."""
    plan, _ = write(film("h264.mp4"), tmp_path / "a.mp4", keep=True)
    assert (plan.video.encoder, plan.video.on_gpu) == ("h264_nvenc", True)
    plan, _ = write(film("hevc-10.mkv"), tmp_path / "b.mp4", keep=True)
    assert (plan.video.encoder, plan.video.pix_fmt, plan.video.on_gpu) == ("hevc_nvenc", "p010le", True)
    there = seen(tmp_path / "b.mp4", None)
    assert there[2].pix_fmt == "yuv420p10le" and there[2].tags.transfer == 16
