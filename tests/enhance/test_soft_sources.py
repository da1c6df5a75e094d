"""Corrections that sharpen what was soft before it was coded are weakened; others stay as they are, to the byte."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import rtface
from rtface.analysis import analyzer
from rtface.analysis.analyzer import Analyzer
from rtface.analysis.measure import Analysis
from rtface.analysis.treatment import Treatment
from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice
from rtface.enhance import soft_sources
from rtface.enhance.single import FrameEnhancer
from rtface.jobs import FilmJob
from rtface.jobs.worker import do_segment
from rtface.persons.guard import MIN_KEPT_SHARE
from rtface.pipeline import runtime
from rtface.protocols import Restored, Runtime
from rtface.stats import Stats
from rtface.util.fade import MOST_A_FRAME
from tests.pipeline.fakes import FakeEngine, FakeEngines, face_at, frame_of, portrait
from tests.pipeline.run_media import Engines, decoded, write_film

SOFT = Analysis(low_resolution=0.7, step=12.0)


class Sharpening(FakeEngine):
    """Amplifies fine detail by a share."""

    def __init__(self, name: str = "rtface-m", share: float = 0.6) -> None:
        super().__init__(name)
        self.share = share

    def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
        answer: Future[Restored] = Future()
        detail = np.stack([plane - cv2.blur(plane, (5, 5)) for plane in crops[0]])[None]
        answer.set_result(Restored(np.clip(crops + self.share * detail, 0, 1)))
        return answer


@pytest.fixture
def treated(monkeypatch: pytest.MonkeyPatch) -> dict[str, Analysis]:
    """Every face is treated at strength 1; what was measured of it lately may be replaced."""
    seen = {"lately": SOFT}
    monkeypatch.setattr(analyzer, "choose_treatment", lambda *_, **__: Treatment(True, 1.0))
    monkeypatch.setattr(Analyzer, "lately", lambda self, time: seen["lately"])
    return seen


def enhancer(engine: FakeEngine, **options: Any) -> FrameEnhancer:
    return FrameEnhancer(Runtime(CpuDevice(), FakeEngines(engine)), Options(grain="none", **options), Stats())


def change(step: FrameEnhancer, count: int, **more: Any) -> np.ndarray:
    """What is changed in the luma of a frame."""
    picture, points = portrait()
    frame = replace(frame_of(picture, count), faces=(face_at(points, 1),), **more)
    before = np.frombuffer(frame.image.planes[0], np.uint8).astype(int).copy()
    return np.frombuffer(step.process(frame).image.planes[0], np.uint8).astype(int) - before


def test_sharpening_is_weakened_from_the_first_frame(treated: dict[str, Analysis]) -> None:
    whole = np.abs(change(enhancer(Sharpening(), correct="always"), 0)).mean()
    step = enhancer(Sharpening())
    found = [np.abs(change(step, count)).mean() for count in range(6)]
    assert whole > 0.05 and max(found) < 0.3 * whole
    assert step.tracks.states[1].soft.kept == pytest.approx(MIN_KEPT_SHARE, abs=0.02)
    assert step.tracks.reports()[0].strength_range[1] < 0.1


@pytest.mark.parametrize(
    ("engine", "seen"),
    [
        (Sharpening(share=0.6), replace(SOFT, low_resolution=0.1)),  # a sharp face
        (Sharpening(share=-0.3), SOFT),  # takes fine detail away
        (Sharpening(share=0.02), replace(SOFT, step=100.0)),  # coded coarsely
        (Sharpening("rtface-m@anna"), SOFT),
        (Sharpening("other"), SOFT),
    ],
)
def test_other_corrections_stay_the_same_to_the_byte(
    engine: FakeEngine, seen: Analysis, treated: dict[str, Analysis], monkeypatch: pytest.MonkeyPatch
) -> None:
    treated["lately"] = seen
    step = enhancer(engine)
    found = [change(step, count) for count in range(3)]
    monkeypatch.setattr(soft_sources, "ENGINES", ())
    plain = enhancer(engine)
    assert found[0].any() and all(np.array_equal(change(plain, count), found[count]) for count in range(3))


def test_what_the_user_decides_is_not_weakened(treated: dict[str, Analysis]) -> None:
    always, by_file = (
        enhancer(Sharpening(), correct="always"),
        FrameEnhancer(
            Runtime(CpuDevice(), FakeEngines(Sharpening())),
            Options(grain="none"),
            Stats(),
            treatments={1: Treatment(True, 1.0)},
        ),
    )
    for count in range(3):
        assert np.array_equal(change(always, count), change(by_file, count))
    assert always.tracks.states[1].soft.kept == by_file.tracks.states[1].soft.kept == 1.0


def test_it_fades_in_and_out_and_forgets_at_a_cut(treated: dict[str, Analysis]) -> None:
    step, kept = enhancer(Sharpening()), list[float]()
    for count in range(120):
        treated["lately"] = SOFT if 30 <= count < 75 else replace(SOFT, low_resolution=0.0)
        change(step, count)
        kept.append(step.tracks.states[1].soft.kept)
    assert set(kept[:30]) == {1.0} and min(kept) < 0.1 and kept[-1] > 0.9
    assert max(abs(a - b) for a, b in pairwise(kept)) <= MOST_A_FRAME + 1e-9
    treated["lately"] = SOFT
    change(step, 120, new=True)
    assert step.tracks.states[1].soft.kept < 0.1


def test_the_share_is_that_of_a_correction_of_full_strength(treated: dict[str, Analysis]) -> None:
    treated["lately"] = replace(SOFT, step=60.0)
    shares = list[float]()
    for strength in (1.0, 0.3):
        step = enhancer(Sharpening(share=0.3), strength=strength)
        for count in range(20):
            change(step, count)
        shares.append(step.tracks.states[1].soft.kept)
    assert 0.1 < shares[0] < 0.9 and shares[1] == pytest.approx(shares[0], abs=0.03)


def film(path: Path, *, blur: float, frames: int = 12, **more: Any) -> Path:
    """A face as a good encoder leaves it."""
    noise = np.random.default_rng(0).normal(0, 1, (frames, 360, 480, 1))
    pictures = (
        portrait(480, 360, scale=2.2 if blur else 1.0, blur=blur, shift=(0.5 * t, 0.0))[0] + noise[t]
        for t in range(frames)
    )
    return write_film(
        path,
        (np.clip(picture, 0, 255).astype(np.uint8) for picture in pictures),
        codec="libx264",
        options=more | {"threads": "1"},
    )


@pytest.mark.slow
@pytest.mark.parametrize(("blur", "crf"), [(3.5, "20"), (0.0, "32")])
def test_a_soft_film_is_weakened_a_hard_one_untouched(
    blur: float, crf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, made = film(tmp_path / "in.mkv", blur=blur, crf=crf), list[list[np.ndarray]]()
    for name in ("now", "before"):
        report = rtface.run(source, tmp_path / f"{name}.mkv", codec="ffv1", device="cpu")
        assert report.frames_corrected == 12
        made.append(decoded(tmp_path / f"{name}.mkv"))
        monkeypatch.setattr(soft_sources, "ENGINES", ())
    now, before = (np.mean([np.abs(a - b).mean() for a, b in zip(one, decoded(source), strict=True)]) for one in made)
    if blur:
        assert now < 0.5 * before
    else:
        assert all(np.array_equal(a, b) for a, b in zip(*made, strict=True))


@pytest.mark.slow
def test_a_job_weakens_as_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "EngineSet", lambda *_, **__: Engines(Sharpening(share=0.1)))
    source, options = film(tmp_path / "in.mkv", blur=3.5, frames=100, crf="20"), {"codec": "ffv1", "grain": "none"}
    report = rtface.run(source, tmp_path / "one.mkv", **options)
    job = FilmJob.open(source, tmp_path / "out.mkv", Options.of(options), length=Fraction(27, 10))
    assert isinstance(job, FilmJob) and len(job.plan) == 2
    for number in range(2):
        do_segment(job.folder.path, number)  # by a worker of its own
    job.run()
    strengths = report.tracks[0].strength_range
    assert 0.1 < strengths[0] <= strengths[1] < 0.9
    one, other = (decoded(tmp_path / name) for name in ("one.mkv", "out.mkv"))
    errors = [np.square(a - b).mean() for a, b in zip(one, other, strict=True)]
    assert not any(errors[: job.plan.frames[0]])
    assert max(errors) < 255**2 / 10**6  # 60 dB
