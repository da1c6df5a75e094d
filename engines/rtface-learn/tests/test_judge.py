"""What a run gains by what was learnt, measured on films of takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rtface.errors import EngineError, UsageError
from rtface_engines import child
from rtface_learn import judge
from rtface_learn.takes import FRAMES, Take
from tests.pipeline.fakes import portrait


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("REPORT", "one.json"), ("CONFIG", "mine.toml"), ("CACHE", "kept")):
        monkeypatch.setenv(f"RTFACE_{name}", value)


@pytest.fixture
def held() -> dict[str, Any]:
    shown = list[Take]()
    for n, side in enumerate((96, 128, 96)):
        picture = cv2.resize(portrait(480, 360, blur=0.4)[0][60:300, 120:360], (side, side))
        matrix = np.array([[side / 800, 0.0, side / 6], [0.0, side / 800, side / 6]])
        shown.append(Take(float(n), 0, [np.asarray(picture, np.uint8)] * FRAMES, [matrix] * FRAMES))
    return judge.stack_takes(shown)


class Runs:
    """Stands in for runs: the film as it is, and a person's without what `spoil` adds to it."""

    def __init__(self, code: int = 0) -> None:
        self.code, self.words = code, list[list[str]]()

    @staticmethod
    def out(words: list[str]) -> Path:
        return Path(words[words.index("--output-dir") + 1])

    def __call__(self, command: Any, receive: Any, environment: Any) -> child.ExitStatus:
        words = [str(word) for word in command]
        films, out = words[words.index("run") + 1 : -words[::-1].index("--output-dir") - 1], self.out(words)
        assert Path(environment["RTFACE_CONFIG_DIR"]) == out.parent and "ffv1" in words and len(films) == 3
        assert not {"RTFACE_REPORT", "RTFACE_CONFIG"} & environment.keys() and environment["RTFACE_CACHE"] == "kept"
        self.words.append(words[words.index("--overwrite") + 1 :])
        out.mkdir(exist_ok=True)
        for film in films:
            shutil.copy(film, out)
        return child.ExitStatus(self.code, ["rtface: error: no memory", "rtface: error: 0 done, 0 skipped, 3 failed"])


def test_a_run_like_the_other_gains_nothing(
    held: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, told = Runs(), list[float]()
    monkeypatch.setattr(child, "run", runs)
    found = judge.gains(**held, person="anna", folder=tmp_path, notify=lambda what, share: told.append(share))
    assert found == dict.fromkeys(("call", "heavy", "coded"), 0.0) and runs.words == [[], ["--person", "anna"]]
    assert held["pictures"].shape[:3] == (3, FRAMES, 128) and told == sorted(told)


def test_a_run_nearer_to_the_truth_gains(held: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped run loses half of the face."""
    runs = Runs()

    def run(command: Any, receive: Any, environment: Any) -> child.ExitStatus:
        ended = runs(command, receive, environment)
        if not runs.words[-1]:
            import av

            for out in runs.out([str(word) for word in command]).iterdir():
                with av.open(str(out)) as file:
                    frames = [frame.to_ndarray(format="yuv420p") for frame in file.decode(video=0)]
                with av.open(str(out), "w") as file:
                    stream: Any = file.add_stream("ffv1", 25)
                    stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[1], "yuv420p"
                    for planes in frames:
                        planes[: len(planes) // 3] //= 2
                        file.mux(stream.encode(av.VideoFrame.from_ndarray(planes, "yuv420p")))
                    file.mux(stream.encode(None))
        return ended

    monkeypatch.setattr(child, "run", run)
    found = judge.gains(**held, person="anna", folder=tmp_path, notify=lambda what, share: None)
    assert min(found.values()) > 1.0


def test_a_policy_refuses_before_anything_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policy.toml").write_text('codec = "h264"')
    monkeypatch.setattr("rtface.config.policy.site_path", lambda: tmp_path / "policy.toml")
    with pytest.raises(UsageError, match=r"sets --codec.*needs test runs with fixed options"):
        judge.check_policies()


def test_a_run_that_fails_is_said(held: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "run", Runs(code=1))
    with pytest.raises(EngineError, match="no memory"):
        judge.gains(**held, person="anna", folder=tmp_path, notify=lambda what, share: None)
