"""``--colour restore`` in whole runs, and what ``rtface verify`` says of them."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

import rtface
from rtface.config.options import Options
from rtface.device.cpu.fading import unfaded
from rtface.errors import Interrupted, UsageError
from rtface.media.read.enlarge import Enlarger
from rtface.pipeline.analysis import Findings, analyze_file
from rtface.pipeline.film import plan_file, run_file
from rtface.pipeline.film_plan import FilmPlan
from rtface.trust.verify import verify
from rtface.util.av_arrays import copy_image
from tests.media.encoded import encoded
from tests.pipeline.fakes import frame_of, portrait
from tests.pipeline.run_media import decoded, film, still, write_film

pytestmark = pytest.mark.usefixtures("engines")


def faded(picture: np.ndarray) -> np.ndarray:
    """The picture with most of its cyan dye gone."""
    return np.rint(255 * (0.07 + 0.93 * picture / 255) ** np.array([0.4, 0.9, 0.9])).astype(np.uint8)


def old_film(path: Path, frames: int = 5) -> Path:
    return write_film(path, (faded(portrait(shift=(0.5 * t, 0.0), blur=1.0)[0]) for t in range(frames)))


def said(path: Path) -> dict[str, object]:
    return json.loads(path.with_name(path.name + ".rtface.json").read_text())


def test_a_faded_film_gets_one_curve_and_counts_as_a_whole(tmp_path: Path) -> None:
    given, out = old_film(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    report = rtface.run(given, out, colour="restore", codec="ffv1", sidecar=True, compare=tmp_path / "pair.mkv")
    assert any("a curve against fading" in note for note in report.warnings)
    found = verify(out, input=given)
    assert (found.sidecar, found.input) == ("same", "not checked")
    assert "changed as a whole (its fading was removed)" in str(found.gaps)
    before, after = (np.mean(decoded(path, "rgb24"), axis=(0, 1, 2)) for path in (given, out))
    assert before[0] - before[2] > after[0] - after[2] + 10
    pair = np.stack(decoded(tmp_path / "pair.mkv", "rgb24"))
    halves = [np.mean(half, axis=(0, 1, 2)) for half in np.split(pair, 2, axis=2)]
    assert np.allclose(halves, [before, after], atol=2)


def test_an_enlarged_frame_is_unfaded_as_it_was_read_too() -> None:
    """The first stage looks at that."""
    power, read = ((0.5, 1.0), (1.0, 1.0), (1.0, 1.0)), frame_of(faded(portrait()[0]), 0)
    large = unfaded(Enlarger("2")(replace(read, image=copy_image(read.image))), power)
    assert large.source is not None
    alone = unfaded(read, power).image.to_ndarray()
    assert np.array_equal(large.source.image.to_ndarray(), alone) and large.filtered


def test_a_sound_film_is_not_touched_by_it(tmp_path: Path) -> None:
    given = film(tmp_path / "in.mkv", frames=2)
    for name, colour in (("a.mkv", "restore"), ("b.mkv", "lock")):
        report = rtface.run(given, tmp_path / name, colour=colour, codec="ffv1", sidecar=True)
    assert np.array_equal(decoded(tmp_path / "a.mkv"), decoded(tmp_path / "b.mkv"))
    assert "whole" not in said(tmp_path / "a.mkv") and report.notes is not None


def curve(given: Path, **options: Any) -> object:
    """That of the plan of a run."""
    report = rtface.run(given, given.with_name("out.mkv"), colour="restore", dry_run=True, **options)
    return report.plan["curve"]


def test_a_part_of_a_film_has_the_curve_of_the_whole(tmp_path: Path) -> None:
    given = old_film(tmp_path / "in.mkv", 20)
    whole = curve(given)
    assert whole is not None and whole == curve(given, start=0.4)


def test_a_film_without_a_length_is_seen_up_to_its_end(tmp_path: Path) -> None:
    pictures = (
        faded(portrait(shift=(0.5 * t, 0.0), blur=1.0)[0]) if t else np.zeros((180, 320, 3), np.uint8)
        for t in range(50)
    )
    given, live = write_film(tmp_path / "in.mkv", pictures), tmp_path / "live.mkv"
    with av.open(str(given)) as old, av.open(str(live), "w", options={"live": "1"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in (packet for packet in old.demux() if packet.pts is not None):
            packet.stream = stream
            new.mux(packet)
    assert curve(live) is not None


def test_transfer_says_what_scans_are_judged_as(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for k in range(3):
        picture = av.VideoFrame.from_ndarray(faded(portrait(shift=(0.5 * k, 0.0), blur=1.0)[0]), "rgb24")
        data = bytearray(encoded(picture.reformat(format="gbrp10be"), "dpx"))
        data[801] = data[802] = 1  # printing density, says the header
        (folder / f"a{k}.dpx").write_bytes(data)
    assert curve(folder, sequence=True, fps=24, transfer="video") is not None


def test_a_plan_that_shows_no_curve_searches_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = old_film(tmp_path / "in.mkv", 2)
    monkeypatch.setattr("rtface.pipeline.fading.open_tracker", lambda *_: pytest.fail("a tracker was opened"))
    _, planned = plan_file(given, tmp_path / "out.mkv", Options(colour="restore", dry_run=True))
    assert isinstance(planned, FilmPlan) and planned.curve is None


def test_the_search_for_a_curve_ends_when_stopped(tmp_path: Path) -> None:
    given, stop = old_film(tmp_path / "in.mkv", 2), threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        run_file(given, tmp_path / "out.mkv", Options(colour="restore", dry_run=True), stop=stop)


def test_each_still_of_a_folder_has_its_own_curve(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    picture = portrait(480, 360, scale=1.3, blur=1.0)[0]
    cv2.imwrite(str(folder / "old.png"), faded(picture)[..., ::-1].astype(np.uint16) * 257)
    still(folder / "sound.png")
    report = rtface.run(folder, out, colour="restore", sidecar=True)
    assert any("1 of 2 images had faded" in note for note in report.notes)
    assert said(out)["whole"] == "its fading was removed"
    rtface.run(folder / "old.png", tmp_path / "a.png", colour="restore", compare=tmp_path / "pair.png")
    read, pair = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (folder / "old.png", tmp_path / "pair.png"))
    assert read is not None and pair is not None and np.array_equal(pair[:, :480], read)
    assert not verify(out, input=folder).problems


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"invented": Path("m.mkv")}, "the map of --invented does not show its changes"),
        ({"copy": "require"}, "--colour restore may change every frame"),
    ],
)
def test_what_cannot_go_with_it_is_said_before_the_work(tmp_path: Path, options: dict[str, object], says: str) -> None:
    given = old_film(tmp_path / "in.mkv", 2)
    with pytest.raises(UsageError, match=says):
        rtface.run(given, tmp_path / "out.mkv", colour="restore", **options)


def pale(picture: np.ndarray) -> np.ndarray:
    """Grey, of low contrast."""
    return np.rint(75 + 0.4 * cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2)).astype(np.uint8)


@pytest.mark.parametrize("make", [faded, pale])
def test_analyze_says_what_restore_says(tmp_path: Path, make: Any) -> None:
    """A grey film of low contrast has lost no dye; one whose dyes have faded is named so by both."""
    given, found = tmp_path / "in.mkv", Findings()
    write_film(given, (make(portrait(shift=(0.5 * t, 0.0), blur=1.0)[0]) for t in range(4)), pix_fmt="yuv444p")
    analyze_file(given, Options(), findings=found, persons=False)
    assert [told is not None for told in found.curves] == [make is faded] and found.curves[0] == curve(given)


def test_the_analysis_of_stills_knows_which_have_faded(tmp_path: Path) -> None:
    folder = tmp_path / "prints"
    folder.mkdir()
    for n, make in enumerate((faded, np.asarray)):
        cv2.imwrite(str(folder / f"{n}.png"), make(portrait(blur=1.0)[0])[..., ::-1])
    found = Findings()
    analyze_file(folder, Options(), findings=found, persons=False)
    assert [curve is not None for curve in found.curves] == [True, False]
