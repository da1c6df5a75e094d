"""The demo's clip: a film in which the face comes nearer, damaged like a call."""

from __future__ import annotations

import av
import cv2
import pytest

from rtface.cli import demo


def test_a_clip_is_damaged_like_a_call(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SECONDS", 0.5)
    path = tmp_path / "demo.mp4"
    demo.make_clip(path)
    with av.open(str(path)) as film:
        video = film.streams.video[0]
        assert (video.width, video.height, video.average_rate) == (1280, 720, 30)
        frames = [frame.to_ndarray(format="gray") for frame in film.decode(video=0)]
    assert len(frames) == 15
    # Damaged: the call's 360 lines cannot carry what the portrait holds at 720.
    clean = next(demo.clean_frames(demo.portrait()))
    assert clean.shape == (360, 640, 3)
    assert (
        cv2.Laplacian(frames[0], cv2.CV_32F).std()
        < 0.5 * cv2.Laplacian(cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std()
    )


def test_demo_without_scikit_image_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(__import__("sys").modules, "skimage", None)
    monkeypatch.setattr("sys.argv", ["demo", str(tmp_path / "out")])
    assert demo.main() == 1
    assert "[demo]'" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 3])
def test_demo_runs_the_command_and_says_where(monkeypatch, tmp_path, capsys, code):
    commands = []

    def run(command, **more):
        commands.append(command)
        return demo.subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(demo.subprocess, "run", run)
    monkeypatch.setattr(demo, "make_clip", lambda path: path.write_bytes(b""))
    monkeypatch.setattr("sys.argv", ["demo", str(tmp_path / "out"), "--strength", "0.5"])
    assert demo.main() == code
    assert commands[0][-2:] == ["--strength", "0.5"]
    assert ("show what was done" in capsys.readouterr().err) is (code == 0)
