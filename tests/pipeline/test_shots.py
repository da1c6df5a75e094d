"""Settings by shot in whole runs: each frame as a run with these options for the whole film makes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rtface
from rtface.config.options import Options
from rtface.pipeline import runtime
from rtface.pipeline.analysis import Findings, analyze_file
from tests.pipeline.fakes import FakeEngine, portrait
from tests.pipeline.run_media import Engines, decoded, write_film

CUTS = (16, 32)


@pytest.fixture
def two_engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    made = Engines(FakeEngine("one", amount=0.1), FakeEngine("two", amount=0.3))
    monkeypatch.setattr(runtime, "EngineSet", lambda *a, **k: made)
    return made


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 frames, the portrait in another place after each cut."""

    def picture(t: int) -> np.ndarray:
        scene = sum(t >= cut for cut in CUTS)
        shown, _ = portrait(shift=(0.7 * t - 25, 0.0), scale=(0.9, 0.6, 1.1)[scene])
        return shown[:, :, :: -1 if scene == 1 else 1]

    return write_film(tmp_path_factory.mktemp("film") / "in.mkv", map(picture, range(48)))


def run(film: Path, tmp_path: Path, **options: object) -> list[np.ndarray]:
    out = tmp_path / f"out{len(list(tmp_path.iterdir()))}.mkv"
    rtface.run(film, out, correct="always", **options)  # type: ignore[arg-type]
    return decoded(out)


def same(one: list[np.ndarray], other: list[np.ndarray], part: slice) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one[part], other[part], strict=True))


@pytest.mark.slow
def test_each_shot_is_that_of_a_run_with_its_options(film: Path, tmp_path: Path, two_engines: Engines) -> None:
    shots = tmp_path / "shots.csv"
    shots.write_text("start,end,strength,off\n0:00:00.64,0:00:01.28,0.5,\n0:00:01.28,,,yes\n")
    mixed = run(film, tmp_path, shots=shots)
    assert same(mixed, run(film, tmp_path), slice(0, 16))
    assert same(mixed, run(film, tmp_path, strength=0.5), slice(16, 32))
    assert same(mixed, decoded(film), slice(32, 48))


def test_borders_within_a_shot_are_exact(film: Path, tmp_path: Path, two_engines: Engines) -> None:
    """Off from frame 5 to 9 of one scene, without a ramp; the track goes through."""
    shots = tmp_path / "shots.edl"
    shots.write_text("001  AX  V  C  00:00:00:00 00:00:00:05 10:00:00:05 10:00:00:10\n* RTFACE: OFF\n")
    report = rtface.run(film, tmp_path / "out.mkv", shots=shots, timecode="10:00:00:00", correct="always")
    mixed, before = decoded(tmp_path / "out.mkv"), decoded(film)
    assert [bool((a != b).any()) for a, b in zip(mixed[:16], before[:16], strict=True)] == (
        [True] * 5 + [False] * 5 + [True] * 6
    )
    assert len(report.tracks) == 3
    assert report.tracks[0].frames_corrected == 11
    assert "shots.edl: 1 of 1 shots have settings" in report.notes


def test_the_analysis_decides_where_a_shot_says_so(film: Path, tmp_path: Path, two_engines: Engines) -> None:
    """--correct never, and one shot by its analysis (the portrait is blurred); the border is two frames late."""
    shots = tmp_path / "shots.csv"
    shots.write_text("start,end,correct\n0:00:00.72,0:00:01.28,auto\n")
    rtface.run(film, tmp_path / "out.mkv", shots=shots, correct="never")
    changed = [bool((a != b).any()) for a, b in zip(decoded(tmp_path / "out.mkv"), decoded(film), strict=True)]
    assert not any(changed[:18])
    assert all(changed[20:32])
    assert not any(changed[32:])


def test_analysis_finds_the_scenes_of_a_run(film: Path) -> None:
    found = Findings()
    tracks = analyze_file(film, Options(correct="always"), findings=found)
    assert (clock := found.scenes.clock) is not None
    assert [(one.frames, str(clock.timecode_at(one.begin))) for one in found.scenes.scenes] == [
        (16, "00:00:00:00"),
        (16, "00:00:00:16"),
        (16, "00:00:01:07"),
    ]
    assert found.scenes.even
    assert len(tracks) == 3
