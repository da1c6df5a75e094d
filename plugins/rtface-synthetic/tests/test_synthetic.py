"""The stage synthetic. A portrait that everybody may use stands in for the generator's, mirrored and paler."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from skimage import data

from rtface.correct.mask import FACE_OVAL
from rtface.device.cpu.device import CpuDevice
from rtface.errors import EngineError, MissingComponent
from rtface.frame import Face, Frame
from rtface.stages.runner import Stages
from rtface.stats import Stats
from rtface.tracking import create_tracker
from rtface_synthetic import __main__ as command
from rtface_synthetic import generator as networks
from rtface_synthetic import stage as module
from rtface_synthetic.actor import Actor, cast
from rtface_synthetic.generator import Generator, find_networks
from rtface_synthetic.puppet import draw
from rtface_synthetic.shape import Shape
from rtface_synthetic.stage import Synthetic
from rtface_synthetic.topology import INNER_LIPS, LOWER, UPPER, mouth

SCENE = np.ascontiguousarray(data.astronaut()[:360, 40:440])


class StandIn:
    """The generator's part, by a portrait."""

    def __init__(self, *_: object) -> None: ...

    def face(self, seed: int, truncation: float = 0.6) -> np.ndarray:
        picture = cv2.resize(data.astronaut()[:300, 80:380], (768, 768), interpolation=cv2.INTER_CUBIC)
        return np.ascontiguousarray((picture[:, ::-1] * 0.6 + 80 + seed % 7).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def actor() -> Iterator[Actor]:
    tracker = create_tracker(max_faces=1, cuts=False)
    yield cast(StandIn(), tracker, 3, 0.6)  # type: ignore[arg-type]
    tracker.close()


@pytest.fixture(scope="module")
def found() -> Face:
    """The face of the scene, with its mesh."""
    tracker = create_tracker(max_faces=1)
    face = tracker.update(CpuDevice(1).view(frame()), 0.0)[0]
    tracker.close()
    assert face.mesh is not None
    return face


@pytest.fixture
def stage(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> Synthetic:
    monkeypatch.setattr(module, "find_networks", Path)
    monkeypatch.setattr(module, "Generator", StandIn)
    monkeypatch.setattr(module, "create_tracker", lambda **_: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(module, "cast", lambda *_: actor)
    return Synthetic(actors=2)


def frame(rgb: np.ndarray = SCENE, pts: int = 0, faces: tuple[Face, ...] = ()) -> Frame:
    image = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
    return Frame(image, pts, Fraction(1, 25), faces=faces)


def shown(stage: Synthetic, given: Frame) -> np.ndarray:
    return stage(given).image.to_ndarray().astype(int)


def test_no_triangle_joins_the_lips_and_the_face_has_no_hole(actor: Actor):
    upper, lower = set(UPPER[1:-1]), set(LOWER[1:-1])
    assert not any(set(t) & upper and set(t) & lower for t in actor.triangles.tolist())
    assert not any(set(t) <= set(INNER_LIPS) for t in actor.triangles.tolist())
    _, drawn = draw(actor.mesh, 512, ((actor.skin, actor.triangles), (actor.skin, mouth())))
    inside = np.zeros((512, 512), np.uint8)
    cv2.fillPoly(inside, [np.rint(actor.mesh[list(FACE_OVAL), :2]).astype(np.int32)], 255)
    inside = cv2.erode(inside, np.ones((5, 5), np.uint8))
    assert not ((inside > 0) & (drawn == 0)).any()


def test_shape_zero_keeps_the_wearer_and_one_the_outline(actor: Actor):
    wide = actor.mesh.copy()
    wide[:, 0] = 256 + 1.15 * (wide[:, 0] - 256)
    assert np.allclose(Shape(actor, 0.0)(wide, 0.04), wide)
    moved = Shape(actor, 1.0)(wide, 0.04)
    outline = list(FACE_OVAL)
    assert np.allclose(moved[outline], wide[outline], atol=1e-6)
    nose = [98, 327]  # its wings
    assert np.ptp(moved[nose, 0]) < 0.97 * np.ptp(wide[nose, 0])


def test_an_expression_is_not_taken_for_the_shape(actor: Actor):
    shape = Shape(actor, 1.0)
    for _ in range(100):
        rest = shape(actor.mesh, 0.04)
    speaking = actor.mesh.copy()
    speaking[list(LOWER[1:-1]), 1] += 30
    opened = shape(speaking, 0.04)
    before, after = (np.linalg.norm(m[13] - m[14]) for m in (rest, opened))
    assert after - before == pytest.approx(30, abs=3)


def test_a_face_is_replaced_and_the_rest_stays_bit_for_bit(stage: Synthetic, found: Face):
    out = shown(stage, frame(faces=(found,)))
    x0, y0, x1, y1 = np.rint(found.box).astype(int)
    change = np.abs(out - SCENE).max(2)
    assert (change[y0 + 30 : y1 - 10, x0 + 20 : x1 - 20] > 8).mean() > 0.3
    reach = (x1 - x0) // 3
    change[max(0, y0 - reach) : y1 + reach, x0 - reach : x1 + reach] = 0
    assert not change.any()


def test_what_stands_still_does_not_flicker(stage: Synthetic, found: Face):
    shots = [shown(stage, frame(pts=i, faces=(found,))) for i in range(4)]
    assert np.abs(shots[2] - shots[3]).max() <= 1


def test_a_face_without_mesh_from_the_side_or_lost_is_blurred(stage: Synthetic, found: Face):
    assert found.mesh is not None
    x0, y0, x1, y1 = np.rint(found.box).astype(int)
    part = np.s_[y0 + 20 : y1 - 20, x0 + 20 : x1 - 20]

    def detail(picture: np.ndarray) -> float:
        return float(np.abs(cv2.Laplacian(picture[part].astype(np.float32), cv2.CV_32F)).mean())

    own = detail(SCENE)
    assert detail(shown(stage, frame(faces=(replace(found, mesh=None),)))) < 0.2 * own
    turned = found.mesh.copy()
    turn = np.deg2rad(70)
    middle = turned.mean(0)
    aside = (turned - middle) @ np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    assert detail(shown(stage, frame(pts=1, faces=(replace(found, mesh=aside + middle),)))) < 0.2 * own
    assert detail(shown(stage, frame(pts=5))) < 0.2 * own  # lost, 0.16 s ago
    assert detail(shown(stage, frame(pts=40))) == own


def test_a_face_that_only_the_detector_sees_is_blurred(stage: Synthetic, found: Face):
    given = replace(frame(), unfollowed=(replace(found, track_id=0, mesh=None, points=np.zeros((5, 2))),))
    changed = np.abs(shown(stage, given) - SCENE).max(2) > 8
    x, y = ((found.box[:2] + found.box[2:]) / 2).astype(int)
    assert changed[y - 10 : y + 10, x - 10 : x + 10].mean() > 0.5


def test_who_wears_what_stays(stage: Synthetic, found: Face, monkeypatch: pytest.MonkeyPatch):
    made: list[Shape] = []

    def shape(*given: Any) -> Shape:
        made.append(Shape(*given))
        return made[-1]

    monkeypatch.setattr(module, "Shape", shape)
    stage(frame(faces=(found,)))
    stage(frame(pts=20))
    stage(frame(pts=30, faces=(found,)))
    assert len(made) == 1


def test_a_fault_hides_the_whole_picture(stage: Synthetic, found: Face, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(module, "draw", fails)
    stages = Stages([("synthetic", stage)], Stats())
    out = stages.process(frame(SCENE.copy(), faces=(found,))).image.to_ndarray().astype(np.float32)
    assert (
        np.abs(cv2.Laplacian(out, cv2.CV_32F)).mean()
        < 0.1 * np.abs(cv2.Laplacian(SCENE.astype(np.float32), cv2.CV_32F)).mean()
    )


def test_a_generator_without_a_usable_face_says_so():
    class Blank(StandIn):
        def face(self, seed: int, truncation: float = 0.6) -> np.ndarray:
            return np.full((128, 128, 3), 90, np.uint8)

    tracker = create_tracker(max_faces=1, cuts=False)
    with pytest.raises(EngineError, match="another seed"):
        cast(Blank(), tracker, 1, 0.6)  # type: ignore[arg-type]
    tracker.close()


def test_missing_and_changed_networks_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(networks.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingComponent, match="pip install --no-deps random-face==2021"):
        Synthetic()
    assert command.main([str(tmp_path / "sheet.png")]) == 1
    assert "pip install" in capsys.readouterr().err
    monkeypatch.undo()
    folder = tmp_path / "random_face"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('it must not be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    with pytest.raises(MissingComponent, match="cannot be read"):
        find_networks()
    (folder / "data" / "MappingNetwork.xml").write_text("<net/>")
    with pytest.raises(MissingComponent, match="SHA-256 differs"):
        find_networks()


def test_the_real_generator_is_deterministic_by_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    where = os.environ.get("RTFACE_TEST_RANDOM_FACE")
    if where:
        monkeypatch.syspath_prepend(where)
    elif importlib.util.find_spec("random_face") is None:
        pytest.skip("random-face is not installed; RTFACE_TEST_RANDOM_FACE names a folder that holds it")
    made = Generator(find_networks())
    one, again, other = made.face(2), made.face(2), made.face(5)
    assert one.shape == (1024, 1024, 3)
    assert np.array_equal(one, again)
    assert np.abs(one.astype(int) - other).mean() > 10
    tracker = create_tracker(max_faces=1, cuts=False)
    assert cast(made, tracker, 2, 0.6).seed == 2
    tracker.close()
    assert "random_face" not in sys.modules
    assert command.main([]) == 2
