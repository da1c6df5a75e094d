"""Our JPEG encoder: what other decoders make of it, tables and subsampling of the input, nothing lost beside them."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rtface.media.formats import jpeg
from rtface.media.formats.image_meta import read_meta, segment
from rtface.media.formats.jpeg import encode_jpeg, finer, tables_of_quality
from rtface.media.stills.images import plan_image, read_image, write_image
from rtface.util.av_arrays import plane_rows
from tests.pairs import pairs

SAMPLING = {
    f"yuvj{name}p": getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}") for name in ("420", "422", "444", "440", "411")
}


def photo(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height * width)
    coarse = rng.integers(40, 220, (6, 8, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def planes(image: av.VideoFrame) -> list[np.ndarray]:
    return [plane_rows(plane)[: plane.height, : plane.width].astype(int) for plane in image.planes]


@pytest.mark.parametrize(("size", "quality"), pairs([(1, 1), (8, 8), (37, 53), (64, 200)], [30, 95, 100]))
def test_gray_as_well_as_libjpeg(size: tuple[int, int], quality: int):
    gray = photo(*size)[..., 0]
    ours = encode_jpeg([gray], (1, 1), tables_of_quality(quality))
    theirs = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    a, b = (cv2.imdecode(np.frombuffer(d, np.uint8), cv2.IMREAD_UNCHANGED).astype(int) for d in (ours, theirs))
    assert a.shape == size and np.abs(a - gray).mean() <= 1.05 * np.abs(b - gray).mean() + 0.1


def test_noise_and_extremes_decode():
    """Coefficients of every size, runs of more than sixteen zeros, 0xFF in the stream."""
    rng = np.random.default_rng(3)
    gray = rng.integers(0, 2, (64, 64)).astype(np.uint8) * 255
    gray[:8, :8] = 128 + 100 * np.cos(np.pi * 15 * np.arange(8) / 16)  # the last coefficients only
    data = encode_jpeg([gray], (1, 1), tables_of_quality(100))
    assert b"\xff\0" in data
    assert np.abs(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).astype(int) - gray).max() <= 2


def test_bands_make_no_difference(monkeypatch: pytest.MonkeyPatch):
    y, c = photo(70, 90)[..., 0], photo(35, 45)
    whole = encode_jpeg([y, c[..., 1], c[..., 2]], (2, 2), tables_of_quality(90))
    monkeypatch.setattr(jpeg, "BAND_SAMPLES", 1)
    assert encode_jpeg([y, c[..., 1], c[..., 2]], (2, 2), tables_of_quality(90)) == whole


@pytest.mark.parametrize(("pix_fmt", "quality"), pairs(list(SAMPLING), [97, 100]))
def test_a_fine_jpeg_keeps_tables_and_samples(tmp_path: Path, pix_fmt: str, quality: int):
    (tmp_path / "in.jpg").write_bytes(
        cv2.imencode(
            ".jpg",
            photo(101, 83),
            [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLING[pix_fmt]],
        )[1].tobytes()
    )
    still = read_image(tmp_path / "in.jpg")
    write_image(still.frame, plan_image(tmp_path / "out.jpg", still=still), still=still)
    again = read_image(tmp_path / "out.jpg")
    assert again.frame.image.format.name == still.frame.image.format.name == pix_fmt
    assert again.meta.tables == still.meta.tables == tables_of_quality(quality)
    for a, b in zip(planes(still.frame.image), planes(again.frame.image), strict=True):
        assert np.abs(a - b).max() <= 3 and (a != b).mean() < 0.1
    assert (tmp_path / "out.jpg").stat().st_size < 1.1 * (tmp_path / "in.jpg").stat().st_size


def test_a_coarse_jpeg_gets_finer_tables(tmp_path: Path):
    """A correction must outlive the tables of what it corrects."""
    (tmp_path / "in.jpg").write_bytes(cv2.imencode(".jpg", photo(64, 64), [cv2.IMWRITE_JPEG_QUALITY, 30])[1].tobytes())
    still = read_image(tmp_path / "in.jpg")
    write_image(still.frame, plan_image(tmp_path / "out.jpg", still=still), still=still)
    tables = read_image(tmp_path / "out.jpg").meta.tables
    assert tables == tables_of_quality(95) == finer(tables_of_quality(30), tables_of_quality(95))


def test_tables_of_other_encoders(tmp_path: Path):
    """16-bit steps, several tables in a segment, and none at all."""
    steps = tuple(range(1, 65))
    frame = segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 3) + b"\1\x11\0\2\x11\1\3\x11\2")
    wide = struct.pack(">64H", *(300 if step == 9 else step for step in steps))
    one = b"\0" + bytes(steps) + b"\x11" + wide + b"\2" + bytes([7] * 64)
    meta = read_meta(b"\xff\xd8" + segment(0xDB, one) + frame)
    assert meta.tables == (steps, tuple(min(7, 255 if s == 9 else s) for s in steps))
    assert read_meta(b"\xff\xd8" + frame).tables is None
    assert read_meta(b"\xff\xd8" + segment(0xDB, one[:30]) + frame).tables is None
