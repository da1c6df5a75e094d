"""The identity guard weakens corrections in films with fields, keyframes and in jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

import rtface
from rtface.config.options import Options
from rtface.enhance.identity_guard import IdentityGuard
from rtface.jobs.job import FilmJob
from rtface.persons.guard import FILTERING
from rtface.pipeline import build, runtime
from tests.enhance.test_identity_guard import Striped, Watcher
from tests.jobs.films import LENGTH
from tests.media.encoded import interlaced_film
from tests.pipeline.fakes import FakeEngine, portrait
from tests.pipeline.run_media import Engines, decoded, write_film

COUNT, RATE = 24, 12  # two segments' worth


def pictures() -> list[np.ndarray]:
    return [portrait(shift=(0.5 * t, 0.0))[0] for t in range(COUNT)]


def plain(folder: Path) -> Path:
    return write_film(folder / "in.mkv", pictures(), rate=RATE)


def fields(folder: Path) -> Path:
    frames = [av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p") for picture in pictures()]
    return interlaced_film(folder / "in.mkv", frames)


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that changes who a face is, and a guard that knows it."""
    monkeypatch.setattr(runtime, "EngineSet", lambda *a, **k: Engines(Striped(), FakeEngine("rtface-s", amount=0.1)))
    monkeypatch.setattr(
        build,
        "open_guard",
        lambda options, stats: (
            None if options.guard == "off" else IdentityGuard(Watcher(), lambda name: FILTERING, stats)
        ),
    )


def change(source: Path, output: Path) -> float:
    """Mean absolute change of a film's luma."""
    return float(np.mean([np.abs(a - b).mean() for a, b in zip(decoded(source), decoded(output), strict=True)]))


@pytest.mark.slow
@pytest.mark.parametrize(("made", "options"), [(plain, {"keyframe": 4}), (fields, {})])
def test_corrections_are_weakened(made: Callable[[Path], Path], options: dict, tmp_path: Path) -> None:
    source, found = made(tmp_path), {}
    for guard in ("off", "on"):
        report = rtface.run(
            source,
            tmp_path / f"{guard}.mkv",
            codec="ffv1",
            correct="always",
            device="cpu",
            guard=guard,
            grain="none",
            **options,
        )
        found[guard] = change(source, tmp_path / f"{guard}.mkv")
        counted = [(track.frames_guarded, track.frames_corrected) for track in report.tracks]
        assert all((weakened > 0) == (guard == "on") for weakened, _ in counted) and counted
    assert found["off"] > 0.1
    assert found["on"] < 0.4 * found["off"]


def test_a_job_weakens_as_one_process(tmp_path: Path) -> None:
    source, options = plain(tmp_path), {"codec": "ffv1", "correct": "always", "guard": "on", "grain": "none"}
    whole = rtface.run(source, tmp_path / "one.mkv", **options)
    job = FilmJob.open(source, tmp_path / "out.mkv", Options.of(options), length=LENGTH / 2)
    assert isinstance(job, FilmJob) and len(job.plan) > 1
    report = job.run()
    assert all(
        np.array_equal(a, b) for a, b in zip(decoded(tmp_path / "one.mkv"), decoded(tmp_path / "out.mkv"), strict=True)
    )
    assert [track.frames_guarded for track in report.tracks] == [track.frames_guarded for track in whole.tracks] != [0]
