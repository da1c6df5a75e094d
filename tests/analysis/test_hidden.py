"""Faces that were hidden on purpose are told from soft ones, and are off at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import pytest

from rtface.analysis.analyzer import Analyzer, analyze_face
from rtface.analysis.measure import Analysis
from rtface.analysis.track_report import Span, TrackReport
from rtface.analysis.treatment import FORCED, HIDDEN
from rtface.frame import Bytes, Face
from rtface.report import Report
from rtface.stats import Stats
from tests.analysis.conftest import BOX, PictureView

SHOWN = 0.3
"""What no face that nobody hid is measured to be; one that is hidden is more."""

Make = Callable[[Bytes], Bytes]


def _blur(sigma: float) -> Make:
    return lambda part: np.asarray(cv2.GaussianBlur(part, (0, 0), sigma), np.uint8)


def _mosaic(cell: int) -> Make:
    def made(part: Bytes) -> Bytes:
        h, w = int(part.shape[0]), int(part.shape[1])
        small = cv2.resize(part, (w // cell, h // cell), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_NEAREST), np.uint8)

    return made


def _motion(picture: Bytes) -> Bytes:
    return np.asarray(cv2.filter2D(picture, -1, np.full((1, 15), 1 / 15)), np.uint8)


def _laid_over(picture: Bytes, make: Make, shape: str, moved: float = 0.0) -> Bytes:
    """The picture with its face hidden within a box or an ellipse, sharply or with a feathered edge."""
    x0, y0, x1, y1 = (round(v) for v in BOX + np.array([-12, -14, 12, 14]) + moved)
    out, part = picture.copy(), picture[y0:y1, x0:x1]
    mask = np.ones(part.shape[:2], np.float32)
    if shape != "box":
        mask[:] = 0
        h, w = y1 - y0, x1 - x0
        cv2.ellipse(mask, (w // 2, h // 2), (w // 2 - 3, h // 2 - 3), 0, 0, 360, (1.0,), -1)
    if shape == "feathered":
        mask = cv2.GaussianBlur(mask, (0, 0), 2)
    out[y0:y1, x0:x1] = np.rint(part + mask[..., None] * (make(part).astype(np.float32) - part)).astype(np.uint8)
    return out


def _jpeg(picture: Bytes, quality: int) -> Bytes:
    bits = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(bits, cv2.IMREAD_COLOR), np.uint8)


@pytest.mark.parametrize("shape", ["box", "ellipse", "feathered"])
@pytest.mark.parametrize("make", [_blur(4), _blur(7), _mosaic(6), _mosaic(8)], ids=["σ 4", "σ 7", "6 px", "8 px"])
def test_a_laid_over_blur_or_mosaic_is_seen(
    portrait: Bytes, look: Callable[[Bytes], Analysis], make: Make, shape: str
) -> None:
    for moved in (0.0, 3.0):
        hidden = _laid_over(portrait, make, shape, moved)
        assert look(hidden).hidden > 0.35
        assert look(_jpeg(hidden, 80)).hidden > 0.35


@pytest.mark.parametrize(
    "make",
    [
        np.copy,
        _blur(2),
        _blur(4),
        _blur(7),
        _mosaic(4),
        _mosaic(8),
        partial(_jpeg, quality=8),
        _motion,
    ],
    ids=["sharp", "σ 2", "σ 4", "σ 7", "4 px", "8 px", "JPEG", "motion"],
)
def test_a_face_as_poor_as_its_picture_is_not_hidden(
    portrait: Bytes, look: Callable[[Bytes], Analysis], make: Make
) -> None:
    assert look(make(portrait)).hidden < SHOWN


@pytest.mark.parametrize("shape", ["box", "ellipse", "feathered"])
def test_a_close_up_is_judged_by_hair_and_ground(portrait: Bytes, face: Face, shape: str) -> None:
    cut = _laid_over(portrait, _blur(7), shape)[: round(BOX[3]) + 24]
    assert analyze_face(PictureView(cut), face).hidden > 0.35


def test_a_blur_that_fills_the_frame_is_a_soft_picture(portrait: Bytes, face: Face) -> None:
    x0, y0, x1, y1 = (round(v) for v in BOX + np.array([-10, -10, 10, 10]))
    cut = np.ascontiguousarray(_laid_over(portrait, _blur(7), "box")[y0:y1, x0:x1])
    moved = Face(1, face.box - np.array([x0, y0, x0, y0]), face.points - np.array([x0, y0]))
    assert analyze_face(PictureView(cut), moved).hidden < SHOWN


SOFT = Analysis(low_resolution=0.8, error=40.0, remaining=20.0)
COVERED = Analysis(low_resolution=0.8, error=40.0, remaining=20.0, hidden=0.6)


def test_a_hidden_face_is_off_from_the_first_frame_on() -> None:
    analyzer = Analyzer()
    analyzer.learn(COVERED, 150.0, 0.0)
    analyzer.advance(0.0)
    assert analyzer.treatment == HIDDEN
    assert analyzer.applied == (0.0, 0.0, 0.0)


def test_a_face_hidden_later_is_off_at_once_and_back_again() -> None:
    analyzer, strengths = Analyzer(), list[float]()
    for k in range(50):
        analyzer.learn(COVERED if 20 <= k < 30 else SOFT, 150.0, 0.4 * k)
        strengths.append(analyzer.advance(0.4 * k))
    assert min(strengths[:20]) > 0.5
    assert strengths[20:31] == [0.0] * 11  # without a fade
    assert strengths[-1] > 0.5


def test_one_unsure_measurement_hides_no_face_but_several_do() -> None:
    analyzer, unsure = Analyzer(), Analysis(low_resolution=0.8, error=40.0, remaining=20.0, hidden=0.2)
    analyzer.learn(unsure, 150.0, 0.0)
    assert analyzer.treatment.on
    for k in (1, 2):
        analyzer.learn(unsure, 150.0, 0.2 * k)
    assert analyzer.treatment == HIDDEN


def test_a_hidden_face_that_is_asked_for_is_corrected() -> None:
    analyzer = Analyzer(forced=FORCED["always"])
    analyzer.learn(COVERED, 150.0, 0.0)
    assert analyzer.advance(0.0) == 1.0


def _track(number: int, *spans: Span) -> TrackReport:
    return TrackReport(number, 0.0, 2.0, 50, 150.0, {}, {"on": False, "reasons": []}, 0.0, spans=[*spans])


def test_one_line_counts_hidden_faces_and_names_the_first() -> None:
    hidden = Span(1.2, 2.0, False, 0.0, [*HIDDEN.reasons], 20)
    report, stats = Report("in.mp4", "out.mp4", "1", "rtface-s", "cpu"), Stats(logs=False)
    report.tracks = [_track(3, Span(0.0, 1.2, True, 1.0, ["visible"], 30), hidden), _track(5, hidden), _track(6)]
    report.warn_hidden(stats)
    (line,) = stats.warned()
    assert line.startswith("2 faces left")
    assert "1.20 s on (track 3); --correct always" in line


def test_one_line_counts_the_faces_that_were_asked_for() -> None:
    """Of the third nothing was decided: `--faces` does not name it."""
    report = Report("in.mp4", "out.mp4", "1", "rtface-s", "cpu", frames_out=50, frames_corrected=20)
    report.options = {"correct": "auto"}
    one, two, three = (_track(k, *[Span(0.0, 2.0, k == 1, 0.0, [], 50)] * (k < 3)) for k in (1, 2, 3))
    one.treatment["on"], two.treatment["reasons"] = True, ["nothing to gain"]
    report.tracks = [one, two, three]
    report.note_uncorrected()
    (line,) = report.notes
    assert line == "1 of 2 faces were left as they are (nothing to gain); --correct always corrects them"
