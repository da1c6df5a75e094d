"""The demo's clip: a film in which the face comes nearer, damaged like a call."""

from __future__ import annotations

import av
import cv2

from benchmarks import demo


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
