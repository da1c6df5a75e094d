"""Frames on demand are those of a run."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import rtface
from rtface.analysis.treatment import Treatment
from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice
from rtface.engine import learned
from rtface.errors import Closed, RtfaceError, UsageError
from rtface.frame import Bytes, Float32, Frame
from rtface.media.read.source import FileSource
from rtface_studio.frame_renderer import FrameRenderer, PersonOnFrame, untouched_frame
from tests.persons.made import ANNA, BEN, at, learnt
from tests.studio.films import make_film

astronaut = pytest.importorskip("skimage.data").astronaut


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b.astype(float)) ** 2))))


def test_rendered_frame_is_that_of_the_run(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4")
    rtface.run(film, tmp_path / "out.mkv", engine="rtface-s", codec="ffv1", correct="always")
    with av.open(str(tmp_path / "out.mkv")) as container:
        wanted = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    renderer = FrameRenderer(film)
    with closing(renderer):
        shown = renderer.render(0.8, 320, Options(engine="rtface-s", correct="always"))
        assert shown.time == pytest.approx(0.8) and shown.faces == 1
        changed = psnr(shown.before, shown.after)
        assert psnr(shown.after, wanted[8]) > max(36.0, changed + 6.0), changed
        corner = np.s_[:12, :, :]
        assert np.array_equal(shown.before[corner], shown.after[corner])
        weaker = renderer.render(0.8, 320, Options(engine="rtface-s", strength=0.0))
        assert np.array_equal(weaker.after, weaker.before)
        assert renderer.render(0.85, 320, Options(engine="rtface-s")).time == pytest.approx(0.8)
    with pytest.raises(Closed):
        renderer.render(0.8, 320, Options(engine="rtface-s"))


def test_the_frame_before_needs_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("an engine was opened")

    monkeypatch.setattr("rtface_studio.frame_renderer.open_networks", refuse)
    film = make_film(tmp_path / "film.mp4")
    renderer = FrameRenderer(film)
    with closing(renderer):
        shown = renderer.render(0.8, 320, Options(engine="rtface-s"), corrected=False)
        assert shown.time == pytest.approx(0.8)
        assert np.array_equal(shown.before, untouched_frame(film, 0.8, 320)[0])


def test_frames_are_enlarged_as_a_run_enlarges_them(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", seconds=0.5)
    renderer = FrameRenderer(film)
    with closing(renderer):
        options = Options(engine="rtface-s", correct="always")
        sizes = [renderer.render(0.2, 2160, replace(options, scale=scale)).after.shape for scale in (None, "2", None)]
        assert sizes == [(288, 320, 3), (576, 640, 3), (288, 320, 3)]
        before = renderer.render(0.2, 2160, replace(options, scale="2"), corrected=False).before
        source = FileSource(film, scale="2")
        frames = [item for item in source if isinstance(item, Frame)]
        source.close()
        assert np.array_equal(before, CpuDevice().view(frames[2]).thumbnail(2160)[0])
        with pytest.raises(UsageError) as caught:
            renderer.render(0.2, 320, replace(options, scale="100p"))
        assert caught.value.code == "scale_smaller"


def test_an_unusable_engine_leaves_nothing_open(tmp_path: Path) -> None:
    renderer = FrameRenderer(make_film(tmp_path / "film.mp4", seconds=0.5))
    with closing(renderer):
        before = threading.active_count()
        for _ in range(3):
            with pytest.raises(RtfaceError):
                renderer.render(0.2, 320, Options(engine="none-of-this-name"))
        assert threading.active_count() == before
        assert renderer.render(0.2, 320, Options(engine="rtface-s")).faces == 1


class ByColour:
    """Stands in for the network that recognises persons: the red face is one person, the blue one another."""

    def __call__(self, chip: Bytes) -> Float32:
        red, _, blue = chip.reshape(-1, 3).mean(0)
        return at(ANNA if red > blue else BEN, 0.05)


@pytest.mark.slow
def test_persons_on_one_frame_are_treated_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtface.persons.network.PersonNetwork", ByColour)
    face = cv2.resize(np.asarray(astronaut()[:256, 100:356]), (128, 128), interpolation=cv2.INTER_AREA)
    face = cv2.resize(face, (256, 256), interpolation=cv2.INTER_CUBIC).astype(float)
    tints = {"P1": np.array([1.0, 0.6, 0.5]), "P2": np.array([0.4, 0.6, 1.0])}
    people = {label: np.asarray(face * tint, np.uint8) for label, tint in tints.items()}
    photos = {label: tmp_path / f"{label}.png" for label in people}
    for label, image in people.items():
        cv2.imwrite(str(photos[label]), image[..., ::-1])
    film, wide = tmp_path / "film.mp4", np.hstack([people["P1"], people["P2"]])
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 512, 256, "yuv420p"
        for _ in range(15):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(wide, format="rgb24")))
        container.mux(stream.encode(None))
    renderer, options = FrameRenderer(film), Options(engine="rtface-s", correct="always")
    off, less = Treatment(False, 0.0), Treatment(True, 0.5)

    def changes(p1: Treatment | None, p2: Treatment | None) -> tuple[float, float]:
        shown = renderer.render(
            0.48,
            512,
            options,
            tuple(PersonOnFrame(label, (photos[label],), treatment) for label, treatment in (("P1", p1), ("P2", p2))),
        )
        change = np.abs(shown.after.astype(float) - shown.before)
        return float(change[:, :256].mean()), float(change[:, 256:].mean())

    with closing(renderer):
        left, right = changes(None, None)
        assert min(left, right) > 0.05
        assert changes(off, None) == pytest.approx((0.0, right), rel=0.1, abs=0.005)
        assert changes(None, less) == pytest.approx((left, 0.5 * right), rel=0.25)


@pytest.mark.slow
def test_the_weights_of_a_person_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setattr("rtface.persons.network.PersonNetwork", lambda: lambda chip: at(ANNA, 0.05))
    renderer = FrameRenderer(make_film(tmp_path / "film.mp4", seconds=0.5))

    def after(*person: str) -> np.ndarray:
        shown = renderer.render(0.3, 320, Options(engine="rtface-s", correct="always", person=person))
        return shown.after.astype(float)

    with closing(renderer):
        learnt(learned.path_of("anna"), ANNA, amount=0.004)
        learnt(learned.path_of("ben"), BEN, amount=0.004)
        usual, known = after(), after("anna")
        assert np.abs(known - usual).max() > 2.0 and np.array_equal(after("ben"), usual)
        before = renderer.render(0.3, 320, Options(), corrected=False).before
        cv2.imwrite(str(photo := tmp_path / "P1.png"), before[..., ::-1])
        by_hand = Options(engine="rtface-s", correct="always", person=("ben@P1",))
        shown = renderer.render(0.3, 320, by_hand, (PersonOnFrame("P1", (photo,), name="ben"),))
        assert np.array_equal(shown.after, known)
        learnt(learned.path_of("anna"), ANNA, amount=-0.004)
        assert np.abs(after("anna") - known).max() > 2.0
