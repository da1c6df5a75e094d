"""The most doubtful places of a run, as its report lists them."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import rtface
from rtface.analysis.doubt import Doubt, most_doubtful
from rtface.pipeline import runtime
from rtface.protocols import Restored
from rtface.trust.sidecar import read_sidecar
from rtface.util.foreign import converted
from tests.pipeline.fakes import FakeEngine, portrait
from tests.pipeline.run_media import Engines, write_film

FRAMES = 15


class Sharper(FakeEngine):
    """Amplifies detail of about two samples by a share; a negative one takes it away."""

    def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
        answer: Future[Restored] = Future()
        fine = crops[0] - np.stack([cv2.blur(plane, (5, 5)) for plane in crops[0]])
        answer.set_result(Restored(np.clip(crops + self.amount * fine, 0, 1)))
        return answer

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount


def test_a_report_lists_places_the_worst_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "EngineSet", lambda *a, **k: Engines(FakeEngine(amount=0.15)))
    film = write_film(tmp_path / "in.mkv", [portrait(shift=(0.5 * t, 0.0))[0] for t in range(FRAMES)])
    report = rtface.run(film, tmp_path / "out.mkv", sidecar=True, correct="always")
    found = report.to_dict()["doubtful"]
    assert found and [one["doubt"] for one in found] == sorted((one["doubt"] for one in found), reverse=True)
    for frame in range(FRAMES):
        assert any(one["from_s"] - 0.001 <= frame / 25 <= one["to_s"] + 0.001 for one in found)
    assert all(one["reasons"] and one["track"] == 1 for one in found)
    kept: list[dict[str, Any]] = read_sidecar(tmp_path / "out.mkv.rtface.json")["treatments"]
    again = most_doubtful((one["id"], one["person"], converted(one["doubts"], list[Doubt])) for one in kept)
    assert found == [asdict(place) for place in again]


@pytest.mark.parametrize("amount", [-0.6])
def test_a_run_notes_what_becomes_of_fine_detail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amount: float
) -> None:
    monkeypatch.setattr(runtime, "EngineSet", lambda *a, **k: Engines(Sharper(amount)))
    film = write_film(tmp_path / "in.mkv", [portrait(blur=0.0, scale=1.0)[0]] * 5)
    report = rtface.run(film, tmp_path / "out.mkv", correct="always", strength=1.0)
    assert 0.1 < report.tracks[0].doubts[0].fine * np.sign(amount) < 0.8
    assert ("replaces fine detail" in str(report.doubtful[0].reasons)) == (amount < 0.0)


def doubt(at_s: float, **figures: float) -> Doubt:
    return Doubt(at_s, at_s, at_s, (0.0, 0.0, 9.0, 9.0), 1.0, **figures)


def test_sharpening_is_doubtful_behind_a_fine_quantiser() -> None:
    doubts = [
        doubt(0.0, change=change, fine=fine, step=step)
        for change, fine, step in ((1.0, 0.3, 10.0), (1.0, 0.3, 0.0), (1.0, -0.04, 40.0), (0.1, 0.3, 40.0))
    ]
    assert [one.score for one in doubts] == sorted((one.score for one in doubts), reverse=True)
    assert "sharper than the source" in doubts[0].reasons[0]
    assert doubts[0].score > 0.8
    assert doubts[-1].score < 0.1


def test_twenty_places_of_all_tracks_are_listed() -> None:
    tracks = [(number, "", [doubt(0.5 * n, turned=float(n + number)) for n in range(40)]) for number in (1, 2)]
    found = most_doubtful(tracks)
    assert len(found) == 20
    assert {one.track for one in found} == {1, 2}
    assert min(one.at_s for one in found) >= 14.0
