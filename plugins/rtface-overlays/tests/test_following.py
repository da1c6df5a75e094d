"""Overlays that follow a face: tags and pictures."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scene import changed, drawn, frame, rgb, stages

from rtface.geometry.transforms import apply
from rtface.stages import Run, display_from_face
from tests.pairs import pairs


def test_a_tag_follows_and_keeps_its_distance() -> None:
    chain, _ = stages("tag:name=Anna,background=#0000ff")
    centres, faces = [], []
    for pts in range(40):
        at = (0.3 + 0.01 * pts, 0.3 + 0.002 * pts)
        out = chain.process(frame(pts, at=at, scale=0.8))
        box = changed(out, frame(pts, at=at, scale=0.8))
        if pts > 10:
            centres.append(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
            faces.append((640 * at[0], 360 * at[1]))
    away = np.array(centres) - faces
    assert np.ptp(away[:, 0]) <= 4 and np.ptp(away[:, 1]) <= 4
    assert (away[:, 1] > 50).all()  # below


@pytest.mark.parametrize(
    ("place", "at"), pairs(["below", "above", "left", "right"], [(0.02, 0.05), (0.98, 0.95), (0.5, 0.98)], ["below"])
)
def test_a_tag_stays_inside_the_picture(place: str, at: tuple[float, float]) -> None:
    out, plain = drawn(f"tag:name=Somebody with a name,place={place},background=#00ff00", at=at)
    x0, y0, x1, y1 = changed(out, plain)
    assert x0 >= 2 and y0 >= 2 and x1 <= 638 and y1 <= 358
    assert x1 - x0 > 60 and y1 - y0 > 12


def test_a_tag_does_not_tremble_with_its_face() -> None:
    chain, _ = stages("tag:name=Anna")
    rng = np.random.default_rng(5)
    pictures = []
    for pts in range(30):
        given = frame(pts)
        face = given.faces[0]
        shaken = replace(face, points=face.points + rng.normal(0, 0.12, 2))
        pictures.append(rgb(chain.process(replace(given, faces=(shaken,)))))
    for a, b in pairwise(pictures[12:]):
        assert np.abs(a - b).max() <= 24 and (a != b).mean() < 0.02
    assert sum(bool((a != b).any()) for a, b in pairwise(pictures[12:])) <= 8


@pytest.mark.parametrize(
    ("spec", "track", "person", "named"),
    [
        ("7=Ben;9=Eve", 7, "", True),
        ("7=Ben;9=Eve", 8, "", False),
        ("p3=Ben;anna=Eve", 7, "P3", True),
        ("p3=Ben;anna=Eve", 7, "unknown", False),
    ],
)
def test_names_by_track_and_person(spec: str, track: int, person: str, named: bool) -> None:
    chain, _ = stages(f"tag:name={spec}")
    given = frame(new=True)
    shown = replace(given, faces=tuple(replace(face, track_id=track, person=person) for face in given.faces))
    assert (changed(chain.process(shown), frame(new=True)) is not None) == named


def test_a_tag_fades_in_and_out() -> None:
    chain, _ = stages("tag:name=Anna,background=#ff0000")
    amount = []
    for pts in range(40):
        given = frame(pts, faces=5 <= pts < 20)
        amount.append(float(np.abs(rgb(chain.process(given)) - rgb(frame(pts))).mean()))
    assert amount[4] == 0
    assert 0 < amount[7] < amount[9] < amount[13]
    assert amount[19] > amount[22] > amount[24] and amount[30] == 0


def test_a_tag_on_a_still_is_there_at_once() -> None:
    chain, _ = stages("tag:name=Anna,background=#ff0000")
    assert changed(chain.process(frame(new=True)), frame()) is not None


def test_a_picture_lies_on_the_eyes_and_tilts(png: Path) -> None:
    given = frame(new=True)
    face = given.faces[0]
    onto = display_from_face(face)
    chain, _ = stages(f"picture:file={png},at=eyes,size=1")
    out = rgb(chain.process(given))
    corner, inside, hole = (apply(onto, np.array(p)) for p in ((256 - 175, 240), (256 - 140, 240), (256.0, 240)))
    green = np.abs(out - (0, 220, 0)).max(2) < 40
    assert not green[int(corner[1]), int(corner[0])]
    assert green[int(inside[1]), int(inside[0])]
    assert not green[int(hole[1]), int(hole[0])]
    # A face that is tilted takes the picture with it.
    turn = np.deg2rad(30)
    about = face.points.mean(0)
    points = (face.points - about) @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + about
    for roll, tilted in (("yes", True), ("no", False)):
        chain, _ = stages(f"picture:file={png},at=eyes,size=1,roll={roll}")
        out = rgb(chain.process(replace(frame(new=True), faces=(replace(face, points=points),))))
        ys, xs = np.nonzero(np.abs(out - (0, 220, 0)).max(2) < 40)
        angle = 0.5 * np.arctan2(2 * np.cov(xs, ys)[0, 1], np.var(xs) - np.var(ys))
        assert abs(np.rad2deg(angle) - (30 if tilted else 0)) < 6


@pytest.mark.parametrize("kind", ["png", "gif", "webp"])
def test_an_animated_picture_plays(tmp_path: Path, kind: str) -> None:
    pictures = [Image.new("RGBA", (24, 24), colour) for colour in ("#ff0000", "#00ff00", "#0000ff")]
    file = tmp_path / f"moving.{kind}"
    pictures[0].save(
        file,
        save_all=True,
        append_images=pictures[1:],
        duration=200,
        loop=0,
        **({"lossless": True} if kind == "webp" else {}),
    )
    chain, _ = stages(f"picture:file={file},at=center", run=Run(origin=4.0))
    seen = [int(rgb(chain.process(frame(pts, faces=False)))[180, 320].argmax()) for pts in range(100, 120)]
    assert seen == [pts // 5 % 3 for pts in range(20)]
