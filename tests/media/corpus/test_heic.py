"""HEIC images are read with their depth, profile, EXIF and XMP."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from rtface.errors import InputError, MissingComponent
from rtface.media.stills.images import read_image
from tests.media.corpus.files import PROFILE, XMP, exif


@pytest.mark.parametrize("bits", [8, 10])
def test_a_heic_of_a_phone_is_read_upright_with_its_metadata(tmp_path: Path, bits: int):
    pillow_heif = pytest.importorskip("pillow_heif")
    shade = np.linspace(0, 1, 96)[None] * np.linspace(0.2, 1, 64)[:, None]
    truth = np.stack([shade, shade[:, ::-1], shade[::-1]], -1)
    samples = np.round(truth * (255 if bits == 8 else 65535)).astype(np.uint8 if bits == 8 else np.uint16)
    made = pillow_heif.from_bytes("RGB" if bits == 8 else "RGB;16", (96, 64), samples.tobytes())
    kept = {"exif": b"Exif\0\0" + exif("<", 1), "icc_profile": PROFILE, "xmp": XMP}
    made.save(tmp_path / "a.heic", quality=-1, chroma=444, **kept)
    still = read_image(tmp_path / "a.heic")
    image = still.frame.image
    assert image.format.name == ("rgb24" if bits == 8 else "rgb48le")
    decoded = image.to_ndarray() / (255 if bits == 8 else 65535)
    assert np.abs(decoded - truth).max() < 0.012
    assert (still.meta.icc, still.meta.xmp, still.meta.orientation) == (PROFILE, XMP, 1)
    assert b"Maker" in (still.meta.exif or b"") and not still.more
    for end in (40, (tmp_path / "a.heic").stat().st_size // 2):
        (tmp_path / "cut.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:end])
        with pytest.raises(InputError, match="damaged"):
            read_image(tmp_path / "cut.heic")


def test_a_heic_without_its_library_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    with pytest.raises(MissingComponent, match=r"\[heic\]'"):
        read_image(tmp_path / "a.heic")
