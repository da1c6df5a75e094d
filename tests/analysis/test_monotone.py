"""Within a clip each measure rises with what it names: rank correlation of 0.9 and more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rtface.analysis.analyzer import analyze_face
from rtface.analysis.measure import Analysis
from rtface.device.cpu.device import CpuDevice
from rtface.frame import Bytes, Face, Frame
from rtface.media.read.source import FileSource
from tests.analysis.conftest import BOX, POINTS, PictureView
from tests.analysis.degrade import DEGRADATIONS, defocus, noise
from tests.pipeline.fakes import coded_stage


def _rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's; equal values share their mean rank."""
    ranks = [[sum(w < v for w in values) + sum(w == v for w in values) / 2 for v in values] for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


@pytest.mark.parametrize("size", [0.5, 1.0])
@pytest.mark.parametrize(
    ("name", "degrade", "levels"),
    [
        ("noise", noise, (1, 2, 3, 4, 6, 8, 12, 18)),
        ("low_resolution", defocus, (0.01, 0.02, 0.025, 0.03, 0.035, 0.04)),  # of the face's width
        ("motion_blur", DEGRADATIONS["motion_blur"][0], (3, 5, 8, 12, 16)),
        ("compression", DEGRADATIONS["compression"][0], (40, 60, 70, 80, 90)),
    ],
)
def test_of_pictures(
    portrait: Bytes, name: str, degrade: Callable[[Bytes, float], Bytes], levels: tuple[float, ...], size: float
) -> None:
    """With faces of 46 and 92 pixels."""
    part = portrait[:256, 96:352]
    picture = np.asarray(cv2.resize(part, None, fx=size, fy=size, interpolation=cv2.INTER_AREA), np.uint8)
    face = Face(1, (BOX - (96, 0, 96, 0)) * size, (POINTS - (96, 0)) * size)
    scale = float(face.width) if degrade is defocus else 1.0
    found = [getattr(analyze_face(PictureView(degrade(picture, level * scale)), face), name) for level in levels]
    assert _rank_correlation(found, levels) >= 0.9, found


def test_compression_of_a_clip_whose_quantiser_changes(portrait: Bytes, tmp_path: Path) -> None:
    levels, path, device = (16, 20, 24, 28, 32, 36, 40), tmp_path / "clip.mkv", CpuDevice()
    zones = "/".join(f"{3 * k},{3 * k + 2},q={level}" for k, level in enumerate(levels))
    with av.open(path, "w") as film:
        stream = film.add_stream("libx264", rate=Fraction(25), options={"x264-params": f"zones={zones}"})
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for k in range(3 * len(levels)):
            picture = np.roll(portrait, k, axis=1)[:256, 96:352]
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")))
        film.mux(stream.encode(None))
    found, source = list[float](), FileSource(path)
    for k, frame in enumerate(item for item in source if isinstance(item, Frame)):
        face = Face(1, BOX + (k - 96, 0, k - 96, 0), POINTS + (k - 96, 0))
        found.append(coded_stage().measure(device.view(frame), frame, face, Analysis()).compression)
    source.close()
    assert _rank_correlation(found, np.repeat(levels, 3).tolist()) >= 0.9, found
