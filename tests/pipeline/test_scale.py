"""``--scale`` in whole runs, and what ``rtface verify`` says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

import rtface
from rtface.analysis.track_report import TrackReport
from rtface.config.option_sources import load
from rtface.errors import InputError, Message, UsageError
from rtface.frame import Frame
from rtface.media.read.source import FileSource
from rtface.pipeline.proposals import little_seen, proposals
from rtface.trust.verify import verify
from tests.pipeline.run_media import decoded, film, still

pytestmark = pytest.mark.usefixtures("engines")


def enlarged(path: Path, scale: str) -> list[np.ndarray]:
    source = FileSource(path, scale=scale)
    frames = [item.image.to_ndarray().astype(int) for item in source if isinstance(item, Frame)]
    source.close()
    return frames


def test_a_film_without_faces_is_the_resamplers_samples(tmp_path: Path) -> None:
    given, out = film(tmp_path / "in.mkv", frames=4, face=False), tmp_path / "out.mkv"
    report = rtface.run(given, out, scale="2", codec="ffv1", sidecar=True, report=tmp_path / "report.json")
    assert any("enlarged to 640×360" in note for note in report.notes)
    assert np.array_equal(decoded(out, "yuv420p"), enlarged(given, "2"))
    found = verify(out, input=given)
    assert not found.problems and any(
        "every sample outside the boxes equals the input's" in proof for proof in found.proofs
    )


def test_a_face_is_restored_at_the_size_of_the_output(tmp_path: Path) -> None:
    given, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
    report = rtface.run(film(given, frames=4), out, scale="360p", codec="ffv1", sidecar=True, correct="always")
    assert report.frames_corrected == 4 and report.tracks[0].mean_width_px > 100
    assert not verify(out, input=given).problems
    with av.open(str(out)) as container:
        assert container.metadata["RTFACE_OPTIONS"].endswith("scale=360p")


@pytest.mark.parametrize(
    ("options", "said"),
    [({}, True), ({"correct": "never"}, False)],
)
def test_twice_the_size_is_proposed_for_small_faces(tmp_path: Path, options: dict[str, Any], said: bool) -> None:
    report = rtface.run(film(tmp_path / "in.mkv", frames=2), tmp_path / "out.mkv", **options)
    line = f"faces are small ({report.tracks[0].mean_width_px:.0f} px): --scale 2 restores them at twice the size"
    assert (line in report.notes) == said


def proposed(*faces: tuple[float, int, dict[str, float]]) -> list[Message]:
    """The proposals for faces of these widths, numbers of frames and faults."""
    treatment = {"on": True, "reasons": [], "gain_db": 0.9}
    tracks = [TrackReport(1, 0.0, 1.0, frames, width, faults, treatment, 1.0) for width, frames, faults in faces]
    return proposals(tracks, engine="default", look="clear", scale=None)


SOFT = {"low_resolution": 0.25}


def test_of_few_small_faces_nothing_is_said() -> None:
    assert not proposed((40.0, 10, SOFT), (150.0, 11, SOFT))
    (line,) = proposed((40.0, 5, SOFT), (60.2, 6, SOFT), (150.0, 10, SOFT))
    assert line.values["width"] == 60


@pytest.mark.parametrize("fault", ["compression"])
def test_small_faces_count_where_they_are_soft_or_damaged(fault: str) -> None:
    (line,) = proposed((103.0, 24, {fault: 0.25}))
    assert line.values["width"] == 103
    assert not proposed((103.0, 24, {fault: 0.19, "low_contrast": 0.9})) and not proposed((135.0, 24, {fault: 0.9}))
    assert not proposed((70.0, 11, {}), (60.0, 10, {fault: 0.9})), "most are sharp"


def test_large_faces_count_where_they_are_soft_under_grain() -> None:
    """Twice the size took the grain off a face of 194 px in an old film; without, nobody saw a difference."""
    both = {"low_resolution": 0.33, "noise": 0.28}
    (line,) = little_seen(proposed((194.0, 175, both), (186.0, 112, {"noise": 0.28})))
    assert "soft under grain: --scale 2" in line
    assert not proposed((270.0, 175, both)) and not proposed((194.0, 175, {"noise": 0.9}))


@pytest.mark.slow
def test_stills_and_folders_are_enlarged(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    still(folder / "a.png")
    still(folder / "b.png", depth=16)
    still(folder / "c.jpg", face=False)
    still(folder / "d.png", face=False)
    rtface.run(folder / "d.png", folder / "d.dpx")
    (folder / "d.png").unlink()
    data = bytearray((folder / "d.dpx").read_bytes())
    data[802] = 2  # another colour than a new file gets
    (folder / "d.dpx").write_bytes(data)
    rtface.run(folder, out, scale="2", sidecar=True)
    for path in sorted(folder.iterdir()):
        with av.open(str(path)) as before, av.open(str(out / path.name)) as after:
            sizes = [(one.streams.video[0].width, one.streams.video[0].height) for one in (before, after)]
        assert sizes[1] == (2 * sizes[0][0], 2 * sizes[0][1])
    found = verify(out, input=folder)
    assert not found.problems + found.gaps


@pytest.mark.slow
def test_a_folder_of_scans_is_enlarged_as_a_film(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a1.png", "a2.png", "a3.png"):
        still(folder / name, face=name != "a2.png")
    rtface.run(folder, f"{out}/", sequence=True, fps=24, scale="2", correct="never", sidecar=True)
    with av.open(str(out / "a1.png")) as after:
        assert (after.streams.video[0].width, after.streams.video[0].height) == (960, 720)


def test_a_factor_of_one_leaves_the_size_of_the_settings() -> None:
    assert load({}, environ={"RTFACE_SCALE": "2"}).options.scale == "2"
    assert load({"scale": "1"}, environ={"RTFACE_SCALE": "2"}).options.scale is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scale": "100p"}, "only enlarges"),
        ({"scale": "2", "copy": "require"}, "--scale and --fields change every frame"),
        ({"scale": 5}, "must be a factor"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    given = film(tmp_path / "in.mkv", frames=2, codec="libx264")
    with pytest.raises(UsageError, match=says):
        rtface.run(given, tmp_path / "out.mkv", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_an_image_that_cannot_have_the_size_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder := tmp_path / "in").mkdir()
    for name, height in (("a.png", 100), ("b.png", 60)):
        cv2.imwrite(str(folder / name), np.zeros((height, 80, 3), np.uint8))
    with pytest.raises(InputError, match=r"1 of 2 images failed: a\.png: --scale 90p: the picture is already 80×100"):
        rtface.run(folder, tmp_path / "out", scale="90p", tracker="none")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]
    rtface.analyze(folder, scale="90p", tracker="none")
    assert "a.png: --scale 90p" in caplog.text
