"""Stages in whole jobs: films, segments, interlaced and turned films, stills, the Enhancer, the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli.app import app
from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice
from rtface.errors import UsageError
from rtface.live.frame_filters import FrameFilters
from rtface.live.frame_loop import FrameLoop
from rtface.pipeline import runtime
from rtface.protocols import Runtime
from rtface.quality.governor import QualityGovernor
from rtface.stats import Stats
from rtface.tracking import create_tracker
from tests.live.live_fakes import FakeSink, run_state
from tests.media.encoded import interlaced_film
from tests.pipeline.fakes import FakeEngine, FakeEngines, frame_of, portrait
from tests.pipeline.run_media import Engines, film
from tests.stages import trial_stages


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made = Engines(FakeEngine(amount=0.15))
    monkeypatch.setattr(runtime, "EngineSet", lambda *a, **k: made)
    trial_stages.seen.clear()
    yield


def fields_film(path: Path) -> Path:
    """As `run_media.film`, in 12 frames coded as fields."""
    return interlaced_film(
        path,
        [
            av.VideoFrame.from_ndarray(portrait(shift=(0.5 * t, 0.0))[0], "rgb24").reformat(format="yuv420p")
            for t in range(12)
        ],
    )


def read(path: Path) -> list[dict[int, np.ndarray]]:
    with av.open(str(path)) as container:
        return [
            {
                n: np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size).copy()
                for n, plane in enumerate(image.planes)
            }
            for image in container.decode(video=0)
        ]


def test_a_film_with_stages_says_so(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", frames=12)
    without, target = tmp_path / "without.mkv", tmp_path / "out.mkv"
    rtface.run(source, without, codec="ffv1")
    report = rtface.run(
        source,
        target,
        codec="ffv1",
        stages=["trial_stages.Bar:height=10", "trial_stages.Plain"],
        report=tmp_path / "r.json",
    )
    assert "stages: trial_stages.Bar, trial_stages.Plain" in report.notes
    assert report.stages_ms["stage trial_stages.Bar"]["count"] == 12
    assert json.loads((tmp_path / "r.json").read_text())["options"]["stages"][0] == "trial_stages.Bar:height=10"
    with av.open(str(target)) as made:
        tags = {key.lower(): value for key, value in made.metadata.items()}
    assert "stages=trial_stages.Bar,trial_stages.Plain" in tags["rtface_options"]
    with av.open(str(without)) as made:
        assert "stages" not in {key.lower(): value for key, value in made.metadata.items()}["rtface_options"]
    for a, b in zip(read(target), read(without), strict=True):
        np.testing.assert_array_equal(a[0][10:], b[0][10:])
        assert (a[0][:10, :320] != b[0][:10, :320]).mean() > 0.9


def test_an_interlaced_film_is_given_whole(tmp_path: Path) -> None:
    source, target = fields_film(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    rtface.run(source, target, codec="ffv1", stages=["trial_stages.Needs", "trial_stages.Bar:height=7"])
    assert len(trial_stages.seen) == 12
    frame = trial_stages.seen[5]
    assert frame.display.fields == "tff" and frame.field is None and frame.faces
    for now, was in zip(read(target), read(source), strict=True):
        assert np.ptp(now[0][:7, 2:318].astype(int)) == 0
        np.testing.assert_array_equal(now[0][7:, :160], was[0][7:, :160])


def detail(picture: np.ndarray) -> float:
    fine = picture.astype(np.float32)
    return float(np.abs(fine - cv2.GaussianBlur(fine, (0, 0), 8)).mean())


class FailingTracker:
    """The real tracker, which raises from its 4th frame on."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self._tracker, self._calls = create_tracker(*args, **more), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracker, name)

    def update(self, *args: Any, **more: Any) -> Any:
        self._calls += 1
        if self._calls > 3:
            raise RuntimeError("no memory for the network")
        return self._tracker.update(*args, **more)


@pytest.mark.parametrize("fields", [False, True])
def test_where_tracking_fails_the_whole_film_is_covered(
    fields: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtface.pipeline.build.create_tracker", FailingTracker)
    source = fields_film(tmp_path / "in.mkv") if fields else film(tmp_path / "in.mkv", frames=12)
    report = rtface.run(source, tmp_path / "out.mkv", codec="ffv1", stages=["trial_stages.Hides:first=1000000"])
    assert any("a whole frame is blurred" in text for text in report.warnings)
    was, now = ([detail(p[0][:, :320]) for p in read(path)] for path in (source, tmp_path / "out.mkv"))
    first = 1 if fields else 3
    assert min(now[:first]) > 0.5 * was[0]
    assert max(now[first:]) < 0.1 * was[0]


def test_where_tracking_fails_live_frames_are_covered() -> None:
    class Broken:
        sparing = watchful = False

        def update(self, view: Any, time: float, *, cut: bool = False) -> Any:
            raise RuntimeError("no memory for the network")

    stats, out = Stats(), []
    filters = FrameFilters(Options(stages=("trial_stages.Hides:first=1000000",)), stats)
    assert filters.hides
    enhance = SimpleNamespace(runtime=Runtime(CpuDevice(), FakeEngines()), label=lambda frame: frame)
    state, output = run_state([FakeSink()], stats=stats), SimpleNamespace(put=out.append)
    loop = FrameLoop(state, Broken(), enhance, QualityGovernor(1 / 30, 0.1), filters, output)
    picture, _ = portrait()
    loop.start()
    for pts in range(4):
        loop.put(frame_of(picture, pts, captured_at=monotonic()))
    loop.drain(10)
    loop.close()
    filters.close()
    assert len(out) == 4
    assert max(detail(f.image.to_ndarray(format="gray")) for f in out) < 0.1 * detail(picture[..., 1])


def test_nothing_is_hidden_where_nobody_looks_for_faces(tmp_path: Path) -> None:
    source, stages = film(tmp_path / "in.mkv", frames=6), ["trial_stages.Hides:first=1000000"]
    with pytest.raises(UsageError, match=r"finds none; leave .*tracker out"):
        rtface.run(source, tmp_path / "out.mkv", tracker="none", stages=stages)
    assert not (tmp_path / "out.mkv").exists()
    picture, points = portrait()
    with rtface.Enhancer(tracker="none", stages=stages) as enhance:
        left = [detail(enhance(picture, faces)) / detail(picture) for faces in (None, [points], [])]
    assert left[0] < 0.1 < 0.5 < min(left[1:])


def test_stills(tmp_path: Path) -> None:
    picture, _ = portrait()
    av.VideoFrame.from_ndarray(picture, "rgb24").save(str(tmp_path / "in.png"))
    report = rtface.run(tmp_path / "in.png", tmp_path / "out.png", stages=["trial_stages.Bar"])
    assert "stages: trial_stages.Bar" in report.notes
    with av.open(str(tmp_path / "out.png")) as made:
        now = next(made.decode(video=0)).to_ndarray(format="rgb24")
    assert (now[:8] == (255, 0, 0)).all()


def test_the_enhancer(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, _ = portrait()
    with rtface.Enhancer(stages=["trial_stages.Needs", "trial_stages.Bar"]) as enhance:
        out = enhance(picture)
        np.testing.assert_array_equal(out[8:, :160], picture[8:, :160])
        assert (out[8:, 160:] != picture[8:, 160:]).any()
        assert (out[:8] == (255, 0, 0)).all()
        enhance.enabled = False
        out = enhance(picture)
        np.testing.assert_array_equal(out[8:], picture[8:])
        assert (out[:8] == (255, 0, 0)).all()
        assert trial_stages.seen[-1].faces  # what a veil needs
        assert not trial_stages.seen[-1].enhancing and trial_stages.seen[-2].enhancing


def test_the_command_line_explains_and_takes_stages(tmp_path: Path) -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["run", "--stage", "trial_stages.Bar:help"])
    assert shown.exit_code == 0
    assert "height=8.0" in shown.output
    assert runner.invoke(app, ["run", "--stage", "help"]).exit_code == 0
    source, target = film(tmp_path / "in.mkv", frames=3), tmp_path / "out.mkv"
    done = runner.invoke(
        app,
        [
            "run",
            str(source),
            str(target),
            "--codec",
            "ffv1",
            "--stage",
            "trial_stages.Bar",
            "--stage",
            "trial_stages.Plain",
        ],
    )
    assert done.exit_code == 0, done.output
    assert np.ptp(read(target)[0][0][:8, :320].astype(int)) == 0
    wrong = runner.invoke(app, ["run", str(source), str(target), "--overwrite", "--stage", "trial_stages.Bar:redd=1"])
    assert wrong.exit_code == 2
    assert "the nearest is red" in wrong.output.replace("\n", " ")
