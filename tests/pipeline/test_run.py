"""rtface.run: whole jobs, from file to file, with a known engine in place of a network."""

from __future__ import annotations

import json
import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import rtface
from rtface.config.options import Options
from rtface.errors import InputError, OutputError, UsageError
from rtface.media.marks.provenance import DIGITAL_SOURCE_TYPE
from rtface.pipeline.analysis import analyze_file
from rtface.report import Report
from rtface.stats import Stats
from tests.pipeline.run_media import Engines, decoded, film, still

pytestmark = pytest.mark.usefixtures("engines")


def pictures(path: Path) -> list[np.ndarray]:
    return decoded(path, "rgb24")


def test_a_report_adds_up_dropped_frames_of_all_causes() -> None:
    stats, report = Stats(), Report("in", "out", "1.0", "fake", "cpu")
    stats.count("dropped:late", 3)
    stats.count("dropped:output", 2)
    report.fill(stats)
    assert (report.frames_dropped, report.dropped) == (5, {"late": 3, "output": 2})


def test_a_second_run_over_its_own_output_is_said(tmp_path: Path) -> None:
    once, twice = tmp_path / "once.mkv", tmp_path / "twice.mkv"
    first = rtface.run(film(tmp_path / "in.mkv", frames=2), once, correct="always")
    second = rtface.run(once, twice, tracker="none")
    assert not any("already enhanced by rtface" in note for note in first.notes)
    assert any("already enhanced by rtface" in note for note in second.notes)


def test_a_film_with_sound_a_comparison_and_a_report(tmp_path: Path) -> None:
    source, target, pair = film(tmp_path / "in.mkv", sound=True), tmp_path / "out.mkv", tmp_path / "pair.mkv"
    report = rtface.run(source, target, codec="ffv1", compare=pair, report=tmp_path / "r.json")
    assert (report.frames_in, report.frames_out, report.frames_dropped, report.frames_with_faces) == (20, 20, 0, 20)
    assert report.frames_corrected == 20
    told = json.loads((tmp_path / "r.json").read_text())
    assert set(told["latency_ms"]) == {"p50", "p95", "p99"}
    (track,) = told["tracks"]
    assert set(track) >= {"id", "first_s", "last_s", "mean_width_px", "analysis", "treatment", "strength"}
    with av.open(str(target)) as container:
        assert [s.type for s in container.streams] == ["video", "audio"]
    before, after, both = decoded(source), decoded(target), decoded(pair)
    assert len(after) == len(both) == 20
    for a, b, ab in zip(before, after, both, strict=True):
        assert np.abs(ab - np.hstack([a, b])).mean() < 2  # the pair is an ordinary, lossy film
        changed = np.abs(b - a)
        assert changed.max() > 5
        assert changed[:, :40].max() == 0 and changed[:, -40:].max() == 0


def test_a_film_without_faces_decodes_to_exactly_its_input(tmp_path: Path) -> None:
    source, target = film(tmp_path / "in.mkv", face=False), tmp_path / "out.mkv"
    report = rtface.run(source, target, codec="ffv1")
    assert report.frames_with_faces == 0
    assert "no face was corrected: no face was found" in report.notes
    with av.open(str(target)) as container:
        assert not {"ENHANCED_BY", "DIGITAL_SOURCE_TYPE"} & {name.upper() for name in container.metadata}
    assert all(np.array_equal(a, b) for a, b in zip(pictures(source), pictures(target), strict=True))


def test_a_film_into_a_folder_of_stills(tmp_path: Path) -> None:
    source, folder = film(tmp_path / "in.mkv", frames=4, sound=True), tmp_path / "stills"
    report = rtface.run(source, f"{folder}/")
    assert [p.name for p in sorted(folder.iterdir())] == [f"00000{k}.png" for k in (1, 2, 3, 4)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "stills"]
    assert any("audio" in note for note in report.notes)
    with pytest.raises(OutputError, match="not empty"):
        rtface.run(source, folder)
    with pytest.raises(UsageError, match="is a film"):
        rtface.run(source, tmp_path / "one.png")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        rtface.run(source, tmp_path / "folder.mp4")


def test_a_report_can_name_a_file_whose_name_is_not_unicode(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", frames=2, face=False)
    odd = tmp_path / os.fsdecode(b"caf\xe9.mkv")
    rtface.run(source, odd, report=tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["output"] == str(odd)


def test_a_png_changes_where_the_face_is_and_nowhere_else(tmp_path: Path) -> None:
    source, target = still(tmp_path / "in.png", depth=16), tmp_path / "out.png"
    report = rtface.run(source, target, report=tmp_path / "r.json", region="face")
    assert (report.frames_out, report.frames_corrected) == (1, 1)
    a, b = (cv2.imread(str(p), cv2.IMREAD_UNCHANGED).astype(int) for p in (source, target))
    assert a.dtype == b.dtype and a.shape == b.shape
    changed = np.abs(a - b).max(axis=2)
    assert changed.max() > 1285
    assert changed[:, :60].max() == 0 and changed[-40:].max() == 0


def test_a_png_without_a_face_keeps_every_sample(tmp_path: Path) -> None:
    source, target = still(tmp_path / "in.png", face=False), tmp_path / "out.png"
    rtface.run(source, target)
    assert np.array_equal(cv2.imread(str(source), -1), cv2.imread(str(target), -1))


def test_a_folder_continues_past_a_bad_image_and_skips_done(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    still(folder / "a.png"), still(folder / "c.png")
    (folder / "b.png").write_bytes(b"")
    (folder / "d.txt").write_bytes(b"")
    for name in ("a.ppm", "e.ppm"):  # kinds that are read only become PNG
        (folder / name).write_bytes(b"P6 16 16 255\n" + bytes(768))
    with pytest.raises(InputError, match="1 of 5"):
        rtface.run(folder, out, report=tmp_path / "r.json")
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "a.ppm.png", "c.png", "e.png"]
    said = json.loads((tmp_path / "r.json").read_text())
    assert "(d.txt)" in said["warnings"][0]
    images = {image["name"]: image for image in said["images"]}
    tracks = [number for image in images.values() for number in image["tracks"]]
    assert sorted(tracks) == [track["id"] for track in said["tracks"]]
    assert images["a.png"]["corrected"] and not images["a.png"]["error"] and "is empty" in images["b.png"]["error"]
    (folder / "b.png").unlink()
    report = rtface.run(folder, out)
    assert report.frames_out == 0 and any("4 images already existed" in note for note in report.notes)
    with pytest.raises(UsageError, match="--sequence"):
        rtface.run(folder, tmp_path / "film.mp4")


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("out.ppm", r"out\.ppm"),
        ("out", r"use out\.png for an image"),
    ],
)
def test_a_kind_of_image_that_is_not_written_is_named(output: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "in.ppm").write_bytes(b"P6 2 2 255 " + bytes(12))
    with pytest.raises(UsageError, match=says):
        rtface.run(tmp_path / "in.ppm", tmp_path / output)


def test_a_folder_as_a_film(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(3):
        still(folder / f"{k + 8}.png")
    report = rtface.run(folder, tmp_path / "film.mp4", sequence=True, fps=10)
    assert report.frames_out == 3
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert container.streams.video[0].average_rate == 10


def test_analyze_names_the_same_tracks_as_a_run(tmp_path: Path) -> None:
    """The clock of a transport stream begins at 1.4 s."""
    source = film(tmp_path / "in.ts", frames=8, codec="libx264")
    found = analyze_file(source, Options())
    ran = rtface.run(source, tmp_path / "out.mkv").tracks
    assert [(t.id, t.first_s, t.last_s) for t in found] == [(t.id, t.first_s, t.last_s) for t in ran]
    assert (str(found[0].first_s), found[0].last_s) == ("0.0", 0.28)
    assert found[0].analysis == ran[0].analysis
    assert found[0].treatment["on"] is True


def test_a_treatment_file_is_obeyed(tmp_path: Path, engines: Engines) -> None:
    source, file = film(tmp_path / "in.mkv", frames=4), tmp_path / "t.json"
    file.write_text(json.dumps({"version": 1, "tracks": {"1": {"on": False}}}))
    report = rtface.run(source, tmp_path / "out.mkv", treatment=file, codec="ffv1")
    assert report.frames_corrected == 0 and engines.named("fake").calls == 0
    assert report.notes[-1] == "1 of 1 faces were left as they are (as the treatment file says)"
    assert all(np.array_equal(a, b) for a, b in zip(pictures(source), pictures(tmp_path / "out.mkv"), strict=True))


@pytest.mark.parametrize(("suffix", "correct"), [(".jpg", "always"), (".png", "never")])
def test_only_a_still_with_a_corrected_face_is_marked(tmp_path: Path, suffix: str, correct: str) -> None:
    source, target = still(tmp_path / "in.png"), tmp_path / f"out{suffix}"
    report = rtface.run(source, target, correct=correct)
    assert (DIGITAL_SOURCE_TYPE.encode() in target.read_bytes()) is (correct == "always")
    assert report.frames_corrected == (correct == "always")
    uncorrected = "1 of 1 faces were left as they are (never asked for)"
    assert (uncorrected in report.notes) is (correct == "never")


def test_faces_that_were_not_asked_for_are_not_left(tmp_path: Path) -> None:
    report = rtface.run(still(tmp_path / "in.png"), tmp_path / "out.png", faces="2", correct="auto")
    assert "no face was corrected" in report.notes


def test_what_a_stage_draws_is_not_called_ai(tmp_path: Path) -> None:
    source, target = film(tmp_path / "in.mkv", frames=2), tmp_path / "out.mp4"
    rtface.run(source, target, correct="never", stages=("label:text=Hello",), tracker="none")
    with av.open(str(target)) as container:
        said = {name.lower(): text for name, text in container.metadata.items()}
    assert "digital_source_type" not in said and "rtface_engine" not in said
    assert said["enhanced_by"].startswith("rtface ") and "stages=label" in said["rtface_options"]


def test_what_a_still_loses_is_said_and_strict_stops(tmp_path: Path) -> None:
    samples = np.dstack([np.full((48, 64, 3), 90, np.uint8), np.arange(64 * 48, dtype=np.uint8).reshape(48, 64)])
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), samples)
    report = rtface.run(tmp_path / "a.png", tmp_path / "a.jpg", tracker="none")
    assert "transparency" in report.warnings[0] and "transparency" in report.images[0].more
    with pytest.raises(InputError, match="transparency is left out"):
        rtface.run(tmp_path / "b.png", tmp_path / "b.jpg", tracker="none", strict=True)
    assert not (tmp_path / "b.jpg").exists()
    assert not rtface.run(tmp_path / "b.png", tmp_path / "c.png", tracker="none", strict=True).warnings
