"""Every overlay: what it draws, where, that it stands still, and that a veil stays where it is needed."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import scene
from PIL import Image
from scene import frame, rgb, stages

from rtface.errors import UsageError
from rtface.frame import Display
from rtface.geometry import apply
from rtface.plugins import find_stages, load_stage
from rtface.stage_options import Spec, described, make_stage
from rtface.stages import Run, display_from_face

ALL = {"tag": "tag:name=Anna", "picture": "picture:file={png}", "lower-third": "lower-third:title=Anna,fade=0",
       "blur": "blur", "pixelate": "pixelate", "split": "split", "label": "label"}


@pytest.fixture
def png(tmp_path: Path) -> Path:
    """A green square with a soft hole."""
    rgba = np.zeros((40, 60, 4), np.uint8)
    rgba[...] = 0, 220, 0, 255
    rgba[15:25, 20:40, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "green.png")
    return tmp_path / "green.png"


def changed(after: object, before: object) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 of what differs visibly."""
    ys, xs = np.nonzero(np.abs(rgb(after) - rgb(before)).max(2) > 24)
    return (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) else None


def drawn(spec: str, *, run: Run | None = None, **how: object) -> tuple[object, object]:
    """One picture with the overlay, settled for half a second, and without."""
    chain, stats = stages(spec, run=run)
    for pts in range(13):
        given = frame(pts, **how)
        out = chain.process(given, frame(pts, **how).image)
    assert not stats.counters["stage_faults"], stats.warnings
    return out, frame(12, **how)


def test_the_entry_points_are_these_stages() -> None:
    assert set(ALL) <= set(find_stages())
    for name in ALL:
        kind = load_stage(name)
        assert kind.api == 1 and kind.__doc__
        assert kind.__module__.startswith("rtface_overlays.")
        assert described(name).count("\n") >= 3


def test_it_is_a_distribution_of_its_own() -> None:
    here = Path(__file__).resolve().parent.parent
    project = tomllib.loads((here / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(line.startswith("pillow") for line in project["dependencies"])
    assert any(line.startswith("rtface>=") for line in project["dependencies"])


@pytest.mark.parametrize("fmt", ["yuv420p", "nv12", "yuv422p10le", "gray", "rgb24", "yuv444p", "yuyv422", "p010le"])
@pytest.mark.parametrize("name", ALL)
def test_every_overlay_in_every_format(name: str, fmt: str, png: Path) -> None:
    out, plain = drawn(ALL[name].format(png=png), fmt=fmt)
    assert out.image.format.name == fmt
    assert changed(out, plain) is not None


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("name", ALL)
def test_every_overlay_on_turned_pictures(name: str, turns: int, png: Path) -> None:
    """Drawn into a picture that is stored turned is the same as drawn upright and then turned."""
    upright = frame(size=(640, 360))
    turned_size = (360, 640) if turns % 2 else (640, 360)
    stored = np.ascontiguousarray(np.rot90(rgb(upright).astype(np.uint8), turns))
    given = replace(upright, image=av.VideoFrame.from_ndarray(stored, "rgb24"), color=frame(fmt="rgb24").color,
                    display=Display(turns))
    assert (given.image.width, given.image.height) == turned_size
    straight = replace(given, image=av.VideoFrame.from_ndarray(rgb(upright).astype(np.uint8), "rgb24"),
                       display=Display())
    spec = ALL[name].format(png=png)
    results = []
    for one in (given, straight):
        chain, stats = stages(spec)
        results.append(rgb(chain.process(replace(one, new=True), one.image.reformat(format="rgb24"))))
        assert not stats.counters["stage_faults"], stats.warnings
    back = np.rot90(results[0], -turns)
    difference = np.abs(back - results[1]).max(2)
    if name == "pixelate":  # its grid begins at the stored corner
        assert (difference > 40).mean() < 0.06
    else:
        assert (difference > 12).mean() < 0.001


@pytest.mark.parametrize("spec", [
    "label:colour=blu", "label:size=2", "label:place=topleft", "label:txet=x", "label:font=/no/such.ttf",
    "label:text=\U00013000", "tag", "tag:names=Anna", "tag:file=/no/such.toml", "tag:name=x,faces=some",
    "picture", "picture:file=/no/such.png", "lower-third", "lower-third:title=x,start=5,end=4",
    "lower-third:title=x,template=boxx", "lower-third:title=x,template=/no/such.toml", "blur:strength=0",
    "blur:faces=all but", "pixelate:cells=0", "split:position=2"])
def test_what_cannot_be_used_is_said_in_one_line(spec: str) -> None:
    with pytest.raises(UsageError) as error:
        make_stage(Spec.parse(spec))
    assert str(error.value).startswith(f"--stage {spec.split(':')[0]}")
    assert "\n" not in str(error.value) and "fault" not in str(error.value)


# -- label, lower third, split ----------------------------------------------------------------------------------

@pytest.mark.parametrize(("place", "x", "y"), [("top-left", 0, 0), ("top", 0.5, 0), ("bottom-right", 1, 1),
                                              ("left", 0, 0.5), ("center", 0.5, 0.5)])
def test_a_label_stands_where_it_is_told(place: str, x: float, y: float) -> None:
    out, plain = drawn(f"label:text=AI,place={place},size=0.08,background=#0040ff")
    x0, y0, x1, y1 = changed(out, plain)
    for low, high, side, share in ((x0, x1, 640, x), (y0, y1, 360, y)):
        if share == 0.5:
            assert abs((low + high) / 2 - side / 2) <= 2
        else:
            assert abs((low if share == 0 else side - high) - 0.025 * 360) <= 3
    panel = rgb(out)[y0 + 3:y0 + 5, (x0 + x1) // 2]
    assert (panel[:, 2] > 180).all() and (panel[:, 0] < 90).all()  # blue, also in 4:2:0


def test_a_label_reads_what_it_says() -> None:
    """The text's shape comes through 4:2:0 as Pillow draws it."""
    from rtface_overlays.text import font_for, panel
    out, _ = drawn("label:text=AI-enhanced,size=0.08,place=center,background=#000000,opacity=1")
    wanted = panel([("AI-enhanced", font_for("AI-enhanced", 0.08 * 360), (255, 255, 255, 255))], (0, 0, 0, 255),
                   padding=0.5 * 0.08 * 360)[..., 0].astype(float)
    got = rgb(out)[180 - wanted.shape[0] // 2:, 320 - wanted.shape[1] // 2:].mean(2)
    best = max(np.corrcoef(wanted.ravel(), got[dy:dy + wanted.shape[0], dx:dx + wanted.shape[1]].ravel())[0, 1]
               for dy in range(3) for dx in range(3))
    assert best > 0.97


def test_what_stands_still_does_not_change_a_sample_from_picture_to_picture() -> None:
    chain, _ = stages("label", "lower-third:title=Anna,fade=0")
    first = rgb(chain.process(frame(0, faces=False)))
    for pts in range(1, 5):
        np.testing.assert_array_equal(rgb(chain.process(frame(pts, faces=False))), first)


def test_letters_that_the_built_in_font_lacks_come_from_another() -> None:
    try:
        out, plain = drawn("label:text=Zoë Łukasz")
    except UsageError as error:
        assert "font=FILE.ttf" in str(error)  # no other font on this machine
    else:
        assert changed(out, plain) is not None


def test_a_lower_third_comes_and_goes() -> None:
    run = Run(origin=100.0)
    chain, _ = stages("lower-third:title=Anna,subtitle=Pilot,start=1,end=3,fade=0.5", run=run)
    visible = {}
    for tenth in range(0, 40):
        given = frame(2500 + round(2.5 * tenth), faces=False)
        plain = rgb(frame(0, faces=False))
        visible[tenth] = np.abs(rgb(chain.process(given)) - plain).mean()
    assert visible[9] == 0 and visible[31] == 0
    assert 0 < visible[12] < visible[14] < visible[20]
    assert visible[20] == visible[22] > visible[28] > 0


def test_templates(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('background = "#ff0000"\nbar = 0\npadding = 0.2\n')
    out, plain = drawn(f"lower-third:title=Anna,fade=0,template={tmp_path / 'mine.toml'}", faces=False)
    x0, y0, x1, _ = changed(out, plain)
    red = rgb(out)[y0 + 2:y0 + 4, x0 + 4:x1 - 4]
    assert (red[..., 0] > 220).all() and (red[..., 1] < 60).all()
    (tmp_path / "mine.toml").write_text('backround = "#ff0000"\n')
    with pytest.raises(UsageError, match=r"mine.toml: backround is nothing a template has: the nearest is background"):
        make_stage(Spec.parse(f"lower-third:title=Anna,template={tmp_path / 'mine.toml'}"))


def test_a_split_shows_before_and_after() -> None:
    chain, _ = stages("split:position=0.25,before=,after=,width=0.01")
    given, untouched = frame(fmt="yuv444p"), frame(fmt="yuv444p")
    dark = np.frombuffer(given.image.planes[0], np.uint8)
    dark //= 2
    after = given.image.to_ndarray()[0].copy()
    out = chain.process(given, untouched.image).image.to_ndarray()[0]
    np.testing.assert_array_equal(out[:, :158], untouched.image.to_ndarray()[0][:, :158])
    np.testing.assert_array_equal(out[:, 163:], after[:, 163:])
    assert (out[:, 160] > 200).all()


def test_a_moving_split_goes_there_and_back() -> None:
    chain, _ = stages("split:period=4,before=,after=")
    lines = []
    for pts in (0, 25, 50, 75):
        given = frame(pts, fmt="gray", faces=False)
        np.frombuffer(given.image.planes[0], np.uint8)[:] = 50
        lines.append(int(chain.process(given, given.image.reformat(format="gray")).image.to_ndarray()[9].argmax()))
    assert np.allclose(np.array(lines) / 640, [0.5, 0.85, 0.5, 0.15], atol=0.01)


def test_without_the_untouched_picture_a_split_does_nothing() -> None:
    chain, stats = stages("split")
    given = frame()
    assert changed(chain.process(given), frame()) is None and not stats.counters["stage_faults"]


# -- what follows a face ----------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("place", ["below", "above", "left", "right"])
@pytest.mark.parametrize("at", [(0.02, 0.05), (0.98, 0.95), (0.5, 0.98)])
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


def test_names_by_track_and_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.toml").write_text('[names]\n7 = "Ben"\n')
    for spec in ("tag:names=7=Ben;9=Eve", f"tag:file={tmp_path / 'names.toml'}"):
        out, plain = drawn(spec, track_id=7)
        assert changed(out, plain) is not None
        out, plain = drawn(spec, track_id=8)
        assert changed(out, plain) is None
    (tmp_path / "names.toml").write_text('[nams]\n7 = "Ben"\n')
    with pytest.raises(UsageError, match=r"names.toml needs one table \[names\]"):
        make_stage(Spec.parse(f"tag:file={tmp_path / 'names.toml'}"))


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
    pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=200, loop=0,
                     **({"lossless": True} if kind == "webp" else {}))
    chain, _ = stages(f"picture:file={file},at=center", run=Run(origin=4.0))
    seen = [int(rgb(chain.process(frame(pts, faces=False)))[180, 320].argmax()) for pts in range(100, 120)]
    assert seen == [pts // 5 % 3 for pts in range(20)]


# -- privacy ----------------------------------------------------------------------------------------------------

def covered(out: object, plain: object) -> float:
    """How much of the face's own detail is gone: 1 when nothing is left."""
    part = np.s_[110:190, 280:360]
    detail = [cv2.Laplacian(rgb(f)[part].mean(2), cv2.CV_64F).std() for f in (out, plain)]
    return 1 - detail[0] / detail[1]


@pytest.mark.parametrize("spec", ["blur", "blur:faces=1", "blur:faces=all but 2", "blur:faces=largest"])
def test_who_is_covered(spec: str) -> None:
    chain, _ = stages(spec)
    assert covered(chain.process(frame()), frame()) > 0.8
    chain, _ = stages(spec)
    bare = covered(chain.process(frame(track_id=2)), frame()) < 0.1
    assert bare == (spec in ("blur:faces=1", "blur:faces=all but 2"))


@pytest.mark.parametrize("name", ["blur", "pixelate"])
def test_a_lost_face_stays_covered_for_a_while(name: str) -> None:
    chain, _ = stages(f"{name}:hold=0.4")
    for pts in range(5):
        chain.process(frame(pts))
    gone = [changed(chain.process(frame(pts, faces=False)), frame(pts)) for pts in range(5, 20)]
    assert all(box is not None for box in gone[:10])
    assert all(box is None for box in gone[11:])
    sides = [box[2] - box[0] for box in gone[:10]]
    assert sides[-1] > sides[0]  # it may have moved meanwhile: the veil grows


@pytest.mark.parametrize("name", ["blur", "pixelate"])
def test_a_face_that_makes_no_sense_hides_the_picture(name: str) -> None:
    """A fault must not show what was to be hidden."""
    chain, stats = stages(name)
    given = frame()
    broken = replace(given.faces[0], points=np.zeros((5, 2)))
    out = chain.process(replace(given, faces=(broken,)))
    assert stats.counters["stage_faults"] == 1
    assert covered(out, frame()) > 0.8


def test_a_cut_lifts_what_was_held() -> None:
    chain, _ = stages("blur")
    chain.process(frame(0))
    assert changed(chain.process(frame(1, faces=False, cut=True)), frame(1)) is None


def test_nothing_of_the_face_shows_at_the_border_when_it_moves() -> None:
    """The face's box, as it is on this picture, lies inside of what is covered, at any speed."""
    chain, _ = stages("blur")
    for pts in range(12):
        at = (0.2 + 0.05 * pts, 0.4)
        given, plain = frame(pts, at=at), frame(pts, at=at)
        box = given.faces[0].box.astype(int)
        out = rgb(chain.process(given))
        part = np.s_[box[1] + 12:box[3] - 12, box[0] + 12:box[2] - 12]
        fine = [np.abs(cv2.Laplacian(p[part].mean(2), cv2.CV_64F)).mean() for p in (out, rgb(plain))]
        assert fine[0] < 0.25 * fine[1]


def test_a_mosaic_keeps_its_tiles_while_the_face_breathes() -> None:
    chain, _ = stages("pixelate")
    edges = set()
    for pts in range(10):
        out = rgb(chain.process(frame(pts, scale=1.2 + 0.004 * (pts % 3))))[150, 290:350].mean(1)
        edges.add(tuple(np.nonzero(np.abs(np.diff(out)) > 6)[0] % 1000))
    assert len(edges) <= 3


def test_scene_is_what_the_tracker_would_find() -> None:
    """The tests' own face is where the real tracker sees it."""
    from rtface.device.cpu import CpuDevice
    from rtface.track import create_tracker
    tracker = create_tracker("auto")
    given = scene.frame()
    (found,) = tracker.update(CpuDevice().view(given), 0.0)
    tracker.close()
    assert np.abs(found.points - given.faces[0].points).max() < 8
