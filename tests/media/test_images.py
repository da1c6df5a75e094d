"""Stills: bit depth, colour model, profile, EXIF and orientation come through; sequences make films."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import cv2
import numpy as np
import OpenImageIO
import pytest
import tifffile
from PIL import Image

import rtface
from rtface.errors import InputError, InputMissing, OutputError, RtfaceError, UsageError
from rtface.frame import Frame
from rtface.media.files.image_names import warn_left_out
from rtface.media.formats.image_header import avif_shape
from rtface.media.formats.image_meta import ImageMetadata, exif_of, not_kept, read_meta, write_meta
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.formats.tiff_tags import exif_with
from rtface.media.marks.provenance import DIGITAL_SOURCE_TYPE, describe
from rtface.media.read.source import FileSource
from rtface.media.stills import image_read, image_write
from rtface.media.stills.images import (
    IMAGE_KINDS,
    SequenceSource,
    Still,
    list_images,
    plan_image,
    read_image,
    write_image,
)
from rtface.media.stills.losses import losses
from rtface.media.write.file_sink import FileSink
from rtface.media.write.stream_plan import plan_output
from rtface.stats import Stats
from tests.media.corpus.files import cineon
from tests.media.encoded import encoded
from tests.pairs import pairs

ICC = b"\0\0\2\x0cnone" + bytes(range(256)) * 300  # 75 kB: two JPEG segments
TAGS = describe("rtface-s", "0.1", 0.5, {"colour": "lock", "none": None})


def png(array: Any, pix_fmt: str = "rgb24") -> bytes:
    """A PNG by FFmpeg's encoder."""
    return encoded(av.VideoFrame.from_ndarray(array, pix_fmt), "png")


def random(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


def pixels(path: Path) -> np.ndarray:
    """The samples of a picture as a viewer's decoder sees them, 16-bit in native order."""
    with av.open(str(path)) as box:
        frame = next(box.decode(video=0))
    name = frame.format.name
    if name.endswith("be"):
        frame = frame.reformat(format=name[:-2] + "le", src_color_range=2, dst_color_range=2)
    return frame.to_ndarray()


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3, y * 4, 200 - x - y], -1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "encoder", "pix_fmt", "off"),
    [
        ("a.avif", "", "", 4),
        ("a.jp2", "jpeg2000", "rgb24", 2),
        ("a.ppm", "ppm", "rgb24", 0),
        ("a.pgm", "pgm", "gray", 0),
        ("b.ppm", "ppm", "rgb48be", 0),
    ],
)
def test_kinds_that_are_read_only(tmp_path: Path, name: str, encoder: str, pix_fmt: str, off: float):
    picture = smooth()
    if encoder:
        image = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt)
        data = encoded(image, encoder)
    else:
        data = cv2.imencode(".avif", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_AVIF_QUALITY, 95])[1]
    (tmp_path / name).write_bytes(bytes(data))
    assert [path.name for path in list_images(tmp_path)] == [name]
    frame = read_image(tmp_path / name).frame
    found, want = frame.image.reformat(format="rgb24").to_ndarray().astype(float), picture.astype(float)
    if pix_fmt == "gray":
        found, want = found[..., 0], image.to_ndarray().astype(float)
    assert np.abs(found - want).mean() <= off
    assert frame.image.format.components[0].bits == (16 if pix_fmt == "rgb48be" else 8)


def psd() -> bytes:
    """A PSD of RGB without layers."""
    head = struct.pack(">H6xHIIHH", 1, 3, 48, 64, 8, 3)
    return b"8BPS" + head + bytes(14) + smooth().transpose(2, 0, 1).tobytes()


def jpeg_xl() -> bytes:
    """A JPEG XL without loss."""
    with TemporaryDirectory() as folder:
        output, shape = OpenImageIO.ImageOutput.create("a.jxl"), OpenImageIO.ImageSpec(64, 48, 3, "uint8")
        shape["Compression"] = "jpegxl:100"
        assert output.open(f"{folder}/a.jxl", shape) and output.write_image(smooth())
        del output  # only then all of it is in the file
        return Path(folder, "a.jxl").read_bytes()


SCAN = np.random.default_rng(1).integers(0, 1024, (48, 64, 3), np.uint16)


@pytest.mark.parametrize(
    ("data", "samples", "transfer"),
    [(psd(), smooth(), "sdr"), (jpeg_xl(), smooth(), "sdr"), (cineon(SCAN), SCAN, "log")],
)
def test_kinds_that_openimageio_reads(tmp_path: Path, data: bytes, samples: np.ndarray, transfer: str):
    (tmp_path / "a").write_bytes(data)
    frame = read_image(tmp_path / "a").frame
    assert (frame.image.to_ndarray() == samples).all()
    assert frame.color.transfer == transfer
    for end in (30, len(data) // 2):
        (tmp_path / "a").write_bytes(data[:end])
        with pytest.raises(InputError, match="damaged"):
            read_image(tmp_path / "a")


@pytest.mark.parametrize(
    ("boxes", "turns", "mirror", "bits"),
    [
        (b"", 0, False, 8),
        (b"\0\0\0\x09irot\1", 3, False, 8),
        (b"\0\0\0\x09imir\0\0\0\0\x0cav1C\x81\0\x6c\0", 2, True, 12),
        (b"\0\0\0\x09irot\3\0\0\0\x09imir\1\0\0\0\x0cav1C\x81\0\x4c\0", 1, True, 10),
    ],
)
def test_the_header_of_an_avif_says_how_to_show_it(boxes: bytes, turns: int, mirror: bool, bits: int):
    assert avif_shape(b"\0\0\0\x18ftypavif" + boxes) == (turns, mirror, bits)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        *((b"\0\0\0\x18ftyp" + kind + b"\0\0\0\0mif1heic", "HEIC") for kind in (b"heic", b"mif2", b"heif", b"hevc")),
        (b"\0\0\0\x18ftypavis\0\0\0\0msf1avis", "animated AVIF"),
        (b"\xff\x0a\x7f\0", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\1", "PSD"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\1\0\1\0\x10\x10\0\0", "ICO"),
    ],
)
def test_images_that_are_not_read_are_no_films_either(tmp_path: Path, head: bytes, kind: str):
    (tmp_path / "a.mp4").write_bytes(head + bytes(99))
    with pytest.raises(UsageError, match=rf"\({kind}\)"):
        FileSource(tmp_path / "a.mp4")


def test_the_profile_of_a_jpeg_2000_is_read():
    profile = bytes(36) + b"acsp" + bytes(88)
    colour = (11 + len(profile)).to_bytes(4, "big") + b"colr\2\0\0" + profile
    assert read_meta(b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 " + bytes(8) + colour + b"jp2c").icc == profile


def through(source: Path, output: Path, **options: object) -> None:
    still = read_image(source)
    frame = replace(still.frame, corrected="tags" in options)
    write_image(frame, plan_image(output, still=still), still=still, **options)


@pytest.mark.parametrize(
    ("pix_fmt", "shape"),
    [
        ("rgb24", (40, 50, 3)),
        ("rgba", (40, 50, 4)),
        ("gray", (40, 51)),
        ("gray16be", (40, 50)),
        ("rgb48be", (40, 50, 3)),
        ("rgba64be", (41, 50, 4)),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_samples_of_an_image_stay_the_same(tmp_path: Path, pix_fmt: str, shape: tuple[int, ...], suffix: str):
    dtype = np.uint16 if pix_fmt.endswith("be") else np.uint8
    array = random(shape, dtype)
    source, output = tmp_path / "in.png", tmp_path / f"out{suffix}"
    source.write_bytes(png(array, pix_fmt))
    assert (pixels(source) == array).all()
    through(source, output)
    assert (pixels(output) == array).all() and pixels(output).dtype == dtype
    if suffix == ".tiff":
        assert (tifffile.imread(output) == array).all()


def test_palette_one_bit_and_gray_with_alpha(tmp_path: Path):
    index, palette = random((20, 30)) % 4, random((256, 3))
    argb = np.hstack([np.full((256, 1), 255, np.uint8), palette])
    (tmp_path / "p.png").write_bytes(png((index, argb), "pal8"))
    through(tmp_path / "p.png", tmp_path / "p-out.png")
    assert (pixels(tmp_path / "p-out.png") == palette[index]).all()

    bits = (random((16, 24)) & 1) * 255
    frame = av.VideoFrame.from_ndarray(bits, "gray").reformat(format="monob", src_color_range=2, dst_color_range=2)
    (tmp_path / "m.png").write_bytes(encoded(frame, "png"))
    before = read_image(tmp_path / "m.png").frame.image.to_ndarray()
    through(tmp_path / "m.png", tmp_path / "m-out.png")
    assert (pixels(tmp_path / "m-out.png") == before).all() and set(np.unique(before)) == {0, 255}

    rgba = np.repeat(random((20, 20, 1)), 4, axis=2)
    rgba[..., 3] = random((20, 20))
    ya = av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format="ya8", src_color_range=2, dst_color_range=2)
    (tmp_path / "a.png").write_bytes(encoded(ya, "png"))
    through(tmp_path / "a.png", tmp_path / "a-out.png")
    both = [read_image(tmp_path / n).frame.image.reformat(format="rgba").to_ndarray() for n in ("a.png", "a-out.png")]
    assert (both[0] == both[1]).all()


def test_rgb_and_gray_as_jpeg_and_back(tmp_path: Path):
    (tmp_path / "rgb.png").write_bytes(png(smooth()))
    (tmp_path / "gray.png").write_bytes(png(smooth()[..., 0], "gray"))
    for name, channels in (("rgb", 3), ("gray", 2)):
        through(tmp_path / f"{name}.png", tmp_path / f"{name}.jpg")
        through(tmp_path / f"{name}.jpg", tmp_path / f"{name}-back.png")
        before, after = pixels(tmp_path / f"{name}.png"), pixels(tmp_path / f"{name}-back.png")
        assert before.ndim == after.ndim == channels
        assert np.abs(before.astype(int) - after).mean() < 1.5


@pytest.mark.parametrize(
    ("first", "second"), pairs([".png", ".jpg", ".webp", ".tiff"], [".png", ".jpg", ".webp", ".tiff"], [".jpg"])
)
def test_profile_and_exif_go_along(tmp_path: Path, first: str, second: str):
    (tmp_path / "plain.png").write_bytes(png(smooth()))
    through(tmp_path / "plain.png", tmp_path / f"a{first}")
    source = tmp_path / f"a{first}"
    exif = exif_of(6)
    if first == ".tiff":
        tifffile.imwrite(
            source,
            smooth(),
            photometric="rgb",
            iccprofile=ICC,
            extratags=[(274, "H", 1, 6, True), (271, "s", 0, "Maker", True)],
            metadata=None,
        )
    else:
        meta = read_meta(source.read_bytes())
        meta.icc, meta.exif = ICC, exif
        source.write_bytes(write_meta(source.read_bytes(), meta, text={}, size=(64, 48), alpha=False))
    still = read_image(source)
    assert still.meta.icc == ICC and still.meta.orientation == 6
    assert (still.frame.display.quarter_turns, still.frame.display.mirror) == (1, False)
    output = tmp_path / f"b{second}"
    through(source, output, tags=TAGS)
    again = read_image(output)
    assert again.meta.icc == ICC
    turned = second == ".png" and first != ".png"  # viewers do not turn PNG files
    assert again.meta.orientation == (1 if turned else 6)
    assert (again.frame.image.width, again.frame.image.height) == ((48, 64) if turned else (64, 48))
    assert DIGITAL_SOURCE_TYPE.encode() in output.read_bytes()
    if first == second == ".tiff":
        assert tifffile.TiffFile(output).pages.first.tags[271].value == "Maker"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_shown_the_same_way(tmp_path: Path, orientation: int):
    """TIFF 6.0: which corner row 0 and column 0 are. Upright pixels are stored turned, and come out upright."""
    upright = random((6, 9, 3))
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright.transpose(1, 0, 2), 2),
        8: np.rot90(upright, -1),
    }[orientation]
    source, plain = tmp_path / "in.png", png(np.ascontiguousarray(stored))
    meta = ImageMetadata(exif=exif_of(orientation))
    source.write_bytes(write_meta(plain, meta, text={}, size=(0, 0), alpha=False))
    through(source, tmp_path / "same.png")
    assert (pixels(tmp_path / "same.png") == stored).all()
    assert read_image(tmp_path / "same.png").meta.orientation == orientation
    through(source, tmp_path / "turned.bmp")  # no place for an orientation: the pixels are turned
    assert (pixels(tmp_path / "turned.bmp")[..., ::-1] == upright).all()


def test_chunks_that_say_how_to_read_a_png_stay(tmp_path: Path):
    kept = [(b"gAMA", struct.pack(">I", 45455)), (b"tEXt", b"Author\0Someone")]
    meta = ImageMetadata(png=kept)
    (tmp_path / "in.png").write_bytes(write_meta(png(smooth()), meta, text={}, size=(0, 0), alpha=False))
    through(tmp_path / "in.png", tmp_path / "out.png", tags=TAGS)
    after = read_meta((tmp_path / "out.png").read_bytes())
    assert set(kept) <= set(after.png)
    assert any(b.startswith(b"rtface_engine\0") and b.endswith(b"rtface-s") for k, b in after.png if k == b"iTXt")
    through(tmp_path / "out.png", tmp_path / "again.png", tags=TAGS)
    assert (tmp_path / "again.png").read_bytes().count(DIGITAL_SOURCE_TYPE.encode()) == 2  # XMP and text, once each


def test_what_is_no_image_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = png(random((40, 50, 3)))
    for content, says in ((b"", "is empty"), (b"hello" * 9, "not a readable"), (data[:40], "damaged|ends before")):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(InputError, match=says):
            read_image(tmp_path / "x.png")
    with pytest.raises(InputMissing):
        read_image(tmp_path / "none.png")
    (tmp_path / "x.png").write_bytes(data)
    monkeypatch.setattr(image_read, "MAX_PIXELS", 1000)
    with pytest.raises(InputError, match=r"50×40; the limit"):
        read_image(tmp_path / "x.png")


def test_scans_of_large_negatives_are_read(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((10_100, 10_000), np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert read_image(tmp_path / "x.png").frame.image.height == 10_100


def test_the_place_is_checked_before(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(png(smooth()))
    still = read_image(tmp_path / "x.png")
    with pytest.raises(OutputError, match="is the input itself"):
        plan_image(tmp_path / "x.png", still=still, overwrite=True)
    with pytest.raises(UsageError, match="has no extension of an image format"):
        plan_image(tmp_path / "x.mp4", still=still)
    with pytest.raises(OutputError, match="exists already"):
        plan_image(tmp_path / "x.png")
    write_image(still.frame, plan_image(tmp_path / "x.png", overwrite=True), still=still)
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_a_film_frame_as_a_picture(media, tmp_path: Path):
    source = media.make_film(
        tmp_path / "in.mp4",
        frames=2,
        tags={"colorspace": 1, "color_range": 1},
        matrix=(0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),
    )
    frame = media.frames_of(source)[0][0]
    write_image(frame, plan_image(tmp_path / "out.png"))
    expected = frame.image.reformat(format="rgb24", src_colorspace="ITU709", src_color_range=1, dst_color_range=2)
    assert np.abs(pixels(tmp_path / "out.png").astype(int) - np.rot90(expected.to_ndarray(), -1)).mean() < 2


# -- folders ----------------------------------------------------------------------------------------------------


def folder(path: Path, count: int = 12) -> Path:
    path.mkdir()
    for i in range(count):
        (path / f"shot{i + 1}.png").write_bytes(png(np.full((32, 48, 3), 10 * i, np.uint8)))
    return path


def test_a_folder_in_natural_order(tmp_path: Path):
    shots = folder(tmp_path / "shots")
    (shots / ".hidden.png").write_bytes(b"")
    (shots / "notes.txt").write_text("no")
    assert [p.name for p in list_images(shots)] == [f"shot{i}.png" for i in range(1, 13)]
    with pytest.raises(InputMissing):
        list_images(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="contains no images"):
        list_images(tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "said"),
    [("two.png", "2 frames"), ("two.tif", "2 pages"), ("two.jpg", "2 images"), ("film.jpg", "film"), ("one.jpg", "")],
)
def test_what_else_a_file_holds_is_known(tmp_path: Path, name: str, said: str):
    path, still = tmp_path / name, random((16, 16, 3))
    if name == "two.tif":
        tifffile.imwrite(path, np.stack([still, still]), photometric="rgb")
    elif name == "two.png":
        data = png(still)
        chunk = b"acTL" + struct.pack(">II", 2, 0)
        path.write_bytes(data[:33] + struct.pack(">I", 8) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:])
    else:
        data = cv2.imencode(".jpg", still)[1].tobytes()
        index = b"MPF\0MM\0*" + struct.pack(">IHHHII", 8, 1, 0xB001, 4, 1, 2)
        if name == "two.jpg":
            data = data[:2] + b"\xff\xe2" + struct.pack(">H", 2 + len(index)) + index + data[2:]
        path.write_bytes(data + (b"\0\0\0\x18ftypisom" if name == "film.jpg" else b""))
    more = read_image(path).more
    assert said in more and bool(said) == bool(more)


def test_a_folder_as_a_film(media, tmp_path: Path):
    shots = folder(tmp_path / "shots")
    (shots / "shot5.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (shots / "shot7.png").write_bytes(png(np.full((64, 96, 3), 60, np.uint8)))
    stats = Stats()
    source = SequenceSource(shots, fps=10, start=0.2, end=1.0, stats=stats)
    info = source.info
    assert (info.width, info.height, info.rate, info.expected_frames) == (48, 32, 10, 8)
    frames = list(source)
    media.feed(frames, FileSink(plan_output(info, tmp_path / "out.mp4", crf=0), stats))
    assert [f.pts for f in frames] == [2, 3, 4, 5, 6, 7, 8, 9] and not any(f.new for f in frames)
    assert set(stats.warnings) == {"pictures_lost:shot5.png", "frames_resized"}
    with av.open(str(tmp_path / "out.mp4")) as box:
        shown = [
            (round(float(f.time), 3), int(f.reformat(format="rgb24").to_ndarray()[0, 0, 0]))
            for f in box.decode(video=0)
        ]
    assert shown == [(0.0, 20), (0.1, 30), (0.2, 30), (0.3, 50), (0.4, 60), (0.5, 70), (0.6, 80), (0.7, 90)]


def test_missing_numbers_keep_their_time(tmp_path: Path):
    shots = folder(tmp_path / "shots", 6)
    (shots / "shot3.png").unlink()
    (shots / "shot5.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")

    def read(**options: object) -> tuple[list[tuple[int, int]], list[str]]:
        stats = Stats()
        frames = [*SequenceSource(shots, fps=10, stats=stats, **options)]
        return [(f.pts, int(f.image.to_ndarray()[0, 0, 0])) for f in frames], stats.warned()

    found, said = read()
    assert found == [(0, 0), (1, 10), (2, 10), (3, 30), (4, 30), (5, 50)] and "(3)" in said[0] and "shot5" in said[1]
    assert read(start=0.2)[0][:2] == [(2, 10), (3, 30)]
    assert [pts for pts, _ in read(hold=False)[0]] == [0, 1, 3, 5]
    assert read(start=0.4)[0] == [(4, 30), (5, 50)]
    (shots / "shot1.png").write_bytes(b"")
    found, said = read()
    assert found == [(0, 10), (1, 10), (2, 10), (3, 30), (4, 30), (5, 50)]
    assert "shot1.png: is empty" in said[1] and "shot2.png is shown in its place" in said[1]
    assert [pts for pts, _ in read(hold=False)[0]] == [1, 3, 5]
    for options, word in (({}, "number"), ({"start": 0.3}, "shot5"), ({"end": 0.2}, "shot1")):
        with pytest.raises(InputError, match=f"{word}.*--strict"):
            read(strict=True, **options)
    for path in shots.iterdir():  # a camera's counter: more are missing than there are
        path.rename(path.with_stem(f"shot{int(path.stem[4:]) * 3}"))
    assert [pts for pts, _ in read(hold=False)[0]] == [1, 2, 4]


@pytest.mark.parametrize(
    ("size", "matrix", "suffix"),
    [
        ((64, 48), 6, ".mp4"),
        ((64, 720), 1, ".mp4"),
        ((64, 720), 1, ".mkv"),
        ((64, 48), 6, ".webm"),
    ],
)
def test_a_folder_as_a_film_that_players_take(media, tmp_path: Path, size: tuple[int, int], matrix: int, suffix: str):
    """4:2:0 with the matrix that its tags name: colours come back, read by the tags or by the size."""
    (tmp_path / "shots").mkdir()
    colours = [(220, 30, 40), (20, 200, 60), (40, 50, 210)]
    for number, colour in enumerate(colours):
        array = np.full((size[1], size[0], 3), colour, np.uint8)
        (tmp_path / "shots" / f"{number}.png").write_bytes(png(array))
    source = SequenceSource(tmp_path / "shots", fps=10)
    with pytest.raises(OutputError, match=r"RGB becomes YUV \(yuv420p\), which players support.*--strict"):
        plan_output(source.info, tmp_path / f"out{suffix}", strict=True)
    plan = plan_output(source.info, tmp_path / f"out{suffix}")
    media.feed(source, FileSink(plan))
    assert plan.video.pix_fmt == "yuv420p" and plan.video.encoder == ("libvpx-vp9" if suffix == ".webm" else "libx264")
    standard = {1: "ITU709", 6: "ITU601"}[matrix]
    with av.open(str(tmp_path / f"out{suffix}")) as box:
        for image, colour in zip(box.decode(video=0), colours, strict=True):
            assert (int(image.colorspace), int(image.color_range)) == (matrix, 1)
            shown = image.reformat(format="rgb24", src_colorspace=standard, dst_color_range=2).to_ndarray()
            assert np.abs(shown.reshape(-1, 3).mean(0) - colour).max() < 4


@pytest.mark.parametrize(
    ("pix_fmt", "suffix", "options", "encoder", "have"),
    [
        ("rgb48be", ".mp4", {}, "libx265", "yuv420p10le"),
        ("rgb48be", ".mkv", {}, "ffv1", "gbrp16le"),
        ("gray", ".mp4", {}, "libx264", "yuv420p"),
        ("rgb24", ".mp4", {"codec": "h264"}, "libx264", "yuv420p"),
        ("rgb24", ".mkv", {"codec": "ffv1"}, "ffv1", "bgr0"),
        ("rgb24", ".mp4", {"crf": 0}, "libx264rgb", "rgb24"),
        ("rgb24", ".mp4", {"codec": "libx264rgb"}, "libx264rgb", "rgb24"),
        ("rgb24", ".mov", {"codec": "prores"}, "prores_ks", "yuv444p10le"),
    ],
)
def test_a_folder_as_a_film_keeps_what_is_asked_for(tmp_path: Path, pix_fmt, suffix, options, encoder, have):
    (tmp_path / "shots").mkdir()
    shape = (32, 48) if pix_fmt == "gray" else (32, 48, 3)
    array = random(shape, np.uint16 if "48" in pix_fmt else np.uint8)
    (tmp_path / "shots" / "1.png").write_bytes(png(array, pix_fmt))
    plan = plan_output(SequenceSource(tmp_path / "shots").info, tmp_path / f"out{suffix}", **options)
    assert (plan.video.encoder, plan.video.pix_fmt) == (encoder, have)
    assert (plan.video.tags.matrix == 0) == (pixel_format_info(have).model == "rgb" and plan.video.tags.matrix != 2)


@pytest.mark.parametrize("kwargs", [{"fps": 0}, {"start": 9.0}, {"start": 0.5, "end": 0.2}])
def test_sequences_that_make_no_sense(tmp_path: Path, kwargs: dict[str, float]):
    with pytest.raises(UsageError):
        SequenceSource(folder(tmp_path / "shots", 3), **kwargs)


@pytest.mark.parametrize(("suffix", "width"), [(".webp", 16_384), (".jpg", 65_600)])
def test_a_picture_too_wide_for_its_format(tmp_path: Path, suffix: str, width: int):
    (tmp_path / "in.png").write_bytes(png(np.zeros((2, width, 3), np.uint8)))
    still = read_image(tmp_path / "in.png")
    with pytest.raises(OutputError, match=r"at most .* samples a side.*PNG"):
        plan_image(tmp_path / f"out{suffix}", still=still)
    with pytest.raises(OutputError, match="at most"):
        write_image(still.frame, plan_image(tmp_path / f"out{suffix}"))
    assert [p.name for p in tmp_path.iterdir()] == ["in.png"]


def test_what_is_not_kept_of_a_still_is_named(tmp_path: Path):
    plain = png(random((8, 8, 3)))
    _, photo = cv2.imencode(".jpg", random((16, 16, 3)))
    private = struct.pack(">I", 2) + b"prVthi" + struct.pack(">I", zlib.crc32(b"prVthi"))
    for data, said in (
        (plain, ""),
        (plain[:33] + private + plain[33:], "prVt: not kept"),
        (plain + b"more", "4 bytes after its end: not kept"),
        (photo.tobytes(), ""),
        (b"\xff\xd8\xff\xe1\0\x0aFLIR\0\0\0\0" + photo.tobytes()[2:], "APP1 FLIR: not kept"),
        (photo.tobytes() + b"more", "4 bytes after its end: not kept"),
    ):
        (tmp_path / "in").write_bytes(data)
        still = read_image(tmp_path / "in")
        assert losses(still, still.kind) == ([said] if said else [])


def test_what_an_encoder_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "in.png").write_bytes(png(random((8, 8, 3))))
    still = read_image(tmp_path / "in.png")

    def refuse(*args: object) -> None:
        raise av.ArgumentError(22, "Invalid argument", "x")

    monkeypatch.setattr(image_write, "encode_by", refuse)
    with pytest.raises(OutputError, match="8×8 could not be encoded as PNG"):
        write_image(still.frame, plan_image(tmp_path / "out.png"), still=still)


def test_a_film_of_a_png_with_a_profile(tmp_path: Path) -> None:
    """PyAV's look at what FFmpeg says of such a frame would end the process."""
    ok, data = cv2.imencode(".png", np.zeros((16, 16, 3), np.uint8))
    body = b"iCCPname\0\0" + zlib.compress(bytes(200))
    profile = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path = tmp_path / "photo.png"
    path.write_bytes(data.tobytes()[:33] + profile + data.tobytes()[33:])
    code = "import sys; from rtface.media.read.source import FileSource; print(len(list(FileSource(sys.argv[1]))))"
    ended = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert ok and (ended.returncode, ended.stdout.strip()) == (0, "1"), ended.stderr


# -- what comes along, and what is said to be lost -----------------------------------------------------------------

EXIF = exif_with(
    {
        270: (2, 6, b"Words\0"),
        34665: (4, 1, {42036: (2, 5, b"Lens\0")}),
        34853: (4, 1, {29: (2, 11, b"2018:12:31\0")}),
    },
    ">",
)


def meta_of(path: Path) -> ImageMetadata:
    return read_image(path).meta


@pytest.mark.parametrize(
    ("first", "second"), [(".png", ".jpg"), (".jpg", ".tif"), (".tif", ".bmp"), (".bmp", ".png"), (".jpg", ".jpg")]
)
def test_the_resolution_comes_along(tmp_path: Path, first: str, second: str):
    frame, source, output = read_frame(tmp_path), tmp_path / f"a{first}", tmp_path / f"b{second}"
    still = Still("x", "", frame, ImageMetadata(resolution=(Fraction(300), Fraction(150))))
    write_image(frame, plan_image(source), still=still)
    through(source, output)
    assert [round(each) for each in meta_of(output).resolution or ()] == [300, 150]
    assert not losses(read_image(source), IMAGE_KINDS[second])


def read_frame(folder: Path) -> Frame:
    (folder / "plain.png").write_bytes(png(smooth()))
    return read_image(folder / "plain.png").frame


def test_comments_and_resources_of_a_jpeg(tmp_path: Path):
    frame = read_frame(tmp_path)
    resources = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\x08IPTC-IIM" + bytes(70_000)
    meta = ImageMetadata(comments=[b"one", b"two"], iptc=resources, more_xmp=[b"http://ns.adobe.com/xmp/extension/\0x"])
    write_image(frame, plan_image(tmp_path / "a.jpg"), still=Still("x", "jpeg", frame, meta))
    for output in ("b.jpg", "b.tif", "b.png"):
        through(tmp_path / "a.jpg", tmp_path / output)
    again, tiff, image = (meta_of(tmp_path / name) for name in ("b.jpg", "b.tif", "b.png"))
    assert (again.comments, again.more_xmp) == (meta.comments, meta.more_xmp)
    assert again.iptc == tiff.iptc == resources
    assert tifffile.TiffFile(tmp_path / "b.tif").pages.first.tags[33723].value == b"IPTC-IIM"
    assert any(body.startswith(b"Comment\0") and body.endswith(b"two") for _, body in image.png)
    still = read_image(tmp_path / "a.jpg")
    assert [len(losses(still, kind)) for kind in ("jpeg", "tiff", "png", "webp")] == [0, 1, 1, 1]
    assert "comment" in losses(still, "webp")[0] and "IPTC" in losses(still, "png")[0]


def test_exif_and_xmp_of_jpeg_2000_and_avif() -> None:
    packet, colour = b"<x:xmpmeta/>", b"\0\0\0\x13colrnclx" + bytes((0, 9, 0, 16, 0, 9, 0x80))
    parts = [(bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), packet), (b"JpgTiffExif->JP2", EXIF)]
    boxes = b"".join(struct.pack(">I", len(body) + 24) + b"uuid" + name + body for name, body in parts)
    found = read_meta(b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 " + bytes(8) + boxes)
    assert (found.exif, found.xmp) == (EXIF, packet)
    avif = b"\0\0\0\x14ftypavif\0\0\0\0avif" + b"infeExif\0" + colour
    assert read_meta(avif).png == [(b"cICP", bytes((9, 16, 0, 1)))]
    assert not_kept(avif, "avif", more=False) == ["EXIF"]


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("inks.tif", "tiff", "CMYK"),
        ("inks.jpg", "png", "CMYK"),
        ("float.tif", "tiff", "floating-point"),
        ("deep.png", "jpeg", "16 bits"),
        ("clear.png", "jpeg", "transparency"),
        ("clear.png", "webp", ""),
        ("opaque.png", "bmp", ""),
        ("plain.png", "bmp", ""),
    ],
)
def test_samples_that_an_output_cannot_hold_are_said(tmp_path: Path, name: str, kind: str, said: str):
    path, inks, alpha = tmp_path / name, random((48, 64, 4)), np.full((48, 64, 1), 255, np.uint8)
    if name == "inks.tif":
        profile = bytes(16) + b"CMYK" + bytes(200)
        tifffile.imwrite(path, inks, photometric="separated", iccprofile=profile)
    elif name == "inks.jpg":
        Image.fromarray(inks, "CMYK").save(path)
    elif name == "float.tif":
        tifffile.imwrite(path, smooth().astype(np.float32) / 255, photometric="rgb")
    elif name == "deep.png":
        path.write_bytes(png(random((48, 64, 3), np.uint16), "rgb48be"))
    elif name in ("clear.png", "opaque.png"):
        path.write_bytes(png(np.dstack([smooth(), alpha if name == "opaque.png" else alpha // 2]), "rgba"))
    else:
        path.write_bytes(png(smooth()))
    still = read_image(path)
    found = losses(still, kind)
    assert (said in found[0] and len(found) == 1) if said else not found
    assert still.meta.icc is None  # of inks it is none of the samples that were read


def test_hidden_images_of_a_folder_are_named(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png(smooth()))
    (tmp_path / ".b.png").write_bytes(png(smooth()))
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7" + bytes(99))  # what macOS leaves next to a file
    (tmp_path / ".DS_Store").write_bytes(bytes(99))
    warn_left_out(tmp_path, stats := Stats(logs=False))
    assert "1 of its entries" in stats.warned()[0] and ".b.png" in stats.warned()[0]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["more", "end", "cut", "overwritten"])
def test_a_jpeg_that_is_damaged_is_said_to_be_so(tmp_path: Path, damage: str):
    noise = np.random.default_rng(5).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    data = bytearray(cv2.imencode(".jpg", noise)[1].tobytes())
    if damage == "more":  # as phones add films
        data += b"more"
    elif damage == "end":
        data = data[:-4]
    elif damage == "cut":
        data = data[: len(data) * 4 // 5]
    elif damage == "overwritten":
        for at in range(len(data) // 2, len(data) - 2, len(data) // 80):
            data[at] ^= 0x5A
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "a_1.jpg").write_bytes(cv2.imencode(".jpg", noise)[1].tobytes())
    (scans / "a_2.jpg").write_bytes(data)
    told = damage != "more"
    options: dict[str, Any] = {"correct": "never", "tracker": "none", "overwrite": True}
    report = rtface.run(scans / "a_2.jpg", tmp_path / "a.png", **options)
    assert any("missing or damaged" in line for line in report.warnings) == told
    report = rtface.run(scans, tmp_path / "a.mkv", sequence=True, **options)
    assert report.frames_damaged == told
    for output in ("a.png", "a.mkv"):
        said = "missing or damaged" if told else "after its end" if (damage, output) == ("more", "a.png") else ""
        with pytest.raises(RtfaceError, match=said) if said else nullcontext():
            name = scans if output == "a.mkv" else scans / "a_2.jpg"
            rtface.run(name, tmp_path / output, strict=True, sequence=output == "a.mkv", **options)


def tiff(path: Path, **changed: tuple[str, tuple[int, ...]] | None) -> Path:
    """Writes an RGB TIFF of 8 bits; the tags that are `changed` have their number behind a letter."""
    width, height, order = 16, 12, ("H", (8, 8, 8))
    tags = {256: ("H", (width,)), 257: ("H", (height,)), 258: order, 259: ("H", (1,)), 262: ("H", (2,))}
    tags |= {273: ("I", (8,)), 277: ("H", (3,)), 278: ("H", (height,)), 279: ("I", (3 * width * height,))}
    tags |= {int(name[1:]): said for name, said in changed.items() if said}
    data = bytearray(b"II*\0\0\0\0\0" + bytes(range(192)) * 3)
    entries = b""
    for number, (form, values) in sorted(tags.items()):
        body = struct.pack(f"<{len(values)}{form}", *values).ljust(4, b"\0")
        if len(body) > 4:
            data += body
            body = struct.pack("<I", len(data) - len(body))
        kind, count = {"H": 3, "I": 4, "q": 5}[form], len(values)
        entries += struct.pack("<HHI", number, kind, count) + body
    struct.pack_into("<I", data, 4, len(data))
    path.write_bytes(data + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="file systems that take any bytes in names")
def test_a_tiff_whose_name_is_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.tif"))
    assert read_image(tiff(path)).frame.image.width == 16


def test_damaged_tags_of_a_tiff_are_no_fault(tmp_path: Path) -> None:
    for damaged in ({"t262": ("H", (2, 2))}, {"t296": ("H", (9,)), "t283": ("q", (5,))}, {}):
        damaged |= {"t274": ("H", (1, 1)), "t700": ("I", (1 << 31,)), "t34675": ("I", (7,))}
        through(tiff(tmp_path / "said.tif", **damaged), tmp_path / "out.tif")
        (tmp_path / "out.tif").unlink()
    with pytest.raises(InputError, match="RowsPerStrip"):
        read_image(tiff(tmp_path / "said.tif", t278=("H", (1, 2))))


@pytest.mark.parametrize("tag", [{"t301": ("H", tuple(range(768)))}, {"t318": ("q", (3 << 32 | 1, 3 << 32 | 1))}])
def test_what_a_tiff_says_of_its_samples_is_kept(tmp_path: Path, tag: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    source = tiff(tmp_path / "in.tif", **tag, t282=("q", (1 << 32 | 204,)), t283=("q", (1 << 32 | 98,)))
    through(source, tmp_path / "out.tif")
    before, after = (tifffile.TiffFile(path).pages.first for path in (source, tmp_path / "out.tif"))
    assert (after.asarray() == before.asarray()).all()
    for number in (int(next(iter(tag))[1:]), 282, 283):
        assert np.array_equal(after.tags[number].value, before.tags[number].value)


def test_tags_of_values_stay_with_their_kind_of_samples(tmp_path: Path) -> None:
    """Range and curve of YCbCr are none of the RGB that is written."""
    limits, curve = ("q", (1 << 32, 1 << 32 | 255) * 3), ("H", tuple(range(768)))
    source, output = tmp_path / "in.tif", tmp_path / "out.tif"
    for kind, kept in ((2, {301, 532}), (6, set[int]())):
        tiff(source, t262=("H", (kind,)), t530=("H", (1, 1)), t532=limits, t301=curve, t318=("q", (1 << 32 | 3,) * 2))
        through(source, output)
        assert {301, 318, 532} & {*tifffile.TiffFile(output).pages.first.tags.keys()} == {318, *kept}
        output.unlink()
