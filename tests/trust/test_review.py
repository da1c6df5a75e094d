"""``rtface review``: the doubtful places of an output, and what is decided of them."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import rtface
from rtface.analysis.doubt import Doubt
from rtface.cli.app import app
from rtface.config.options import Options
from rtface.errors import InputError, UsageError
from rtface.jobs import FilmJob
from rtface.pipeline import runtime
from rtface.protocols import Restored
from rtface.trust.review import read_review
from rtface.trust.sidecar import SUFFIX, read_sidecar
from tests.pipeline.fakes import FakeEngine, portrait
from tests.pipeline.run_media import Engines, decoded, still, write_film
from tests.util.mutations import mutated

pytestmark = pytest.mark.usefixtures("engines")

FRAMES = 30


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A film of 1.2 s, its output with a sidecar, and the report."""
    folder = tmp_path_factory.mktemp("review")
    film = write_film(folder / "in.mkv", [portrait(shift=(0.5 * t, 0.0))[0] for t in range(FRAMES)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "EngineSet", lambda *a, **k: Engines(FakeEngine(amount=0.15)))
        rtface.run(film, folder / "out.mkv", sidecar=True, report=folder / "report.json", correct="always")
    yield folder


def said(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["review", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


def places(*words: object) -> list[dict[str, Any]]:
    code, out, err = said(*words, "--json")
    assert not code, err
    return json.loads(out)["places"]


def test_each_corrected_frame_lies_in_a_place(made: Path) -> None:
    found = places(made / "out.mkv")
    assert [one["doubt"] for one in found] == sorted((one["doubt"] for one in found), reverse=True)
    for frame in range(FRAMES):
        assert any(one["from_s"] - 0.001 <= frame / 25 <= one["to_s"] + 0.001 for one in found)
    assert all(one["reasons"] and one["change"] > 1.0 for one in found)
    assert {one["frame"] for one in found} <= set(range(FRAMES))


def test_a_report_says_what_a_sidecar_says(made: Path) -> None:
    assert places(made / "out.mkv", "--report", made / "report.json") == places(made / "out.mkv")


def test_places_of_a_part_have_the_timecodes_of_the_output(made: Path, tmp_path: Path) -> None:
    rtface.run(
        made / "in.mkv", tmp_path / "part.mkv", start=0.6, sidecar=True, correct="always", timecode="10:00:00:00"
    )
    first = min(places(tmp_path / "part.mkv"), key=lambda one: one["from_s"])
    assert first["from_s"] == pytest.approx(0.6, abs=0.001)
    assert first["frame"] == round((first["at_s"] - 0.6) * 25)
    assert first["timecode"] == f"10:00:00:{15 + first['frame']:02d}"


@pytest.mark.parametrize(
    ("pts", "more", "suffix"),
    [
        ([t + t // 3 + t // 7 * 5 for t in range(FRAMES)], {}, ".mkv"),  # frames of different lengths
        ([t + 20 for t in range(FRAMES)], {}, ".mp4"),  # begins at 0.8 s
        (list(range(FRAMES)), {"start": 0.59}, ".mkv"),
        ([t + t // 3 + 20 for t in range(FRAMES)], {"start": 0.55}, ".ts"),  # whose clock begins at 1.4 s
    ],
    ids=["variable", "late", "part", "other-clock"],
)
@pytest.mark.parametrize("by_report", [False, True], ids=["sidecar", "report"])
def test_frames_are_those_of_the_output(
    tmp_path: Path, pts: list[int], more: dict[str, Any], suffix: str, by_report: bool
) -> None:
    film = write_film(tmp_path / "in.mkv", [portrait(shift=(0.5 * t, 0.0))[0] for t in range(FRAMES)], pts=pts)
    out, report = tmp_path / f"out{suffix}", tmp_path / "report.json"
    rtface.run(film, out, sidecar=True, report=report, correct="always", **more)
    found = places(out, *(["--report", report] if by_report else []))
    seconds = [(one - pts[0]) / 25 for one in pts]
    first = sum(one < more.get("start", 0.0) - 0.02 for one in seconds)
    assert len(found) > 1
    for one in found:
        assert seconds[first + one["frame"]] == pytest.approx(one["at_s"], abs=0.001)
    assert not said(out, "--csv", tmp_path / "list.csv")[0]
    rows = list(csv.DictReader((tmp_path / "list.csv").open()))
    begins = sorted(one["from_s"] - seconds[first] for one in found)
    assert [float(row["start"].rpartition(":")[2]) for row in rows] == pytest.approx(begins, abs=0.001)


class Sharper(FakeEngine):
    """Amplifies detail of about two samples by a share; a negative one takes it away."""

    def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
        answer: Future[Restored] = Future()
        fine = crops[0] - np.stack([cv2.blur(plane, (5, 5)) for plane in crops[0]])
        answer.set_result(Restored(np.clip(crops + self.amount * fine, 0, 1)))
        return answer

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount


@pytest.mark.parametrize("amount", [0.6, -0.6])
def test_a_run_notes_what_becomes_of_fine_detail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amount: float
) -> None:
    monkeypatch.setattr(runtime, "EngineSet", lambda *a, **k: Engines(Sharper(amount)))
    film = write_film(tmp_path / "in.mkv", [portrait(blur=0.0, scale=1.0)[0]] * 5)
    rtface.run(film, tmp_path / "out.mkv", sidecar=True, correct="always", strength=1.0)
    (found,) = places(tmp_path / "out.mkv")
    assert 0.1 < found["fine"] * np.sign(amount) < 0.8
    assert ("replaces fine detail" in str(found["reasons"])) == (amount < 0.0)


def test_sharpening_is_doubtful_behind_a_fine_quantiser() -> None:
    doubts = [
        Doubt(0.0, 0.0, 0.0, (0.0, 0.0, 9.0, 9.0), 1.0, change=change, fine=fine, step=step)
        for change, fine, step in ((1.0, 0.3, 10.0), (1.0, 0.3, 0.0), (1.0, -0.04, 40.0), (0.1, 0.3, 40.0))
    ]
    assert [one.score for one in doubts] == sorted((one.score for one in doubts), reverse=True)
    assert "sharper than the source" in doubts[0].reasons[0]
    assert doubts[0].score > 0.8
    assert doubts[-1].score < 0.1


def test_lists_name_the_places_in_order_of_time(made: Path, tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio")
    code, _, err = said(made / "out.mkv", *(f"--{kind}={tmp_path / kind}" for kind in ("csv", "edl", "otio")))
    assert not code, err
    begins = sorted(one["from_s"] for one in places(made / "out.mkv"))
    rows = list(csv.DictReader((tmp_path / "csv").open()))
    assert [round(float(row["start"].rpartition(":")[2]), 3) for row in rows] == begins
    assert all(row["comment"].startswith("track 1: doubt") for row in rows)
    assert (tmp_path / "edl").read_text().count("* LOC: ") == len(begins)
    (clip,) = otio.adapters.otio_json.read_from_file(str(tmp_path / "otio")).find_clips()
    assert [round(mark.marked_range.start_time.to_seconds(), 3) for mark in clip.markers] == begins


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "edl"])
def test_a_list_can_be_filled_in_as_settings_by_shot(made: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"list.{kind}"
    assert not said(made / "out.mkv", f"--{kind}={path}")[0]
    text = path.read_text()
    lines = text.splitlines()
    if kind == "csv":
        lines[1] = re.sub(r"^((?:[^,]*,){4})", r"\1yes", lines[1])
    else:
        lines.insert(next(n for n, line in enumerate(lines) if line.startswith("* LOC")) + 1, "* RTFACE: off")
    path.write_text("\n".join(lines) + "\n")
    rtface.run(made / "in.mkv", tmp_path / "again.mkv", shots=path, correct="always", sidecar=True)
    changed = {number for number, _ in read_sidecar(tmp_path / f"again.mkv{SUFFIX}")["changed"]}
    assert 5 not in changed
    assert 25 in changed


def test_what_a_review_reads_is_not_written_over(made: Path) -> None:
    sidecar = made / f"out.mkv{SUFFIX}"
    before = sidecar.read_bytes()
    code, _, err = said(made / "out.mkv", "--csv", sidecar, "--overwrite")
    assert code, err
    assert "input" in err.lower()
    assert sidecar.read_bytes() == before


@pytest.mark.slow
def test_decisions_change_the_next_run_and_are_recorded(made: Path, tmp_path: Path) -> None:
    spans = [{key: one[key] for key in ("track", "from_s", "to_s")} for one in places(made / "out.mkv")]
    first, *others = sorted(spans, key=lambda one: one["from_s"])
    decided = [first | {"strength": 0.0}, others[-1] | {"strength": 1.0}]
    (tmp_path / "decided.json").write_text(json.dumps({"version": 1, "tracks": {}, "reviewed": decided}))
    rtface.run(
        made / "in.mkv", tmp_path / "again.mkv", treatment=tmp_path / "decided.json", correct="always", sidecar=True
    )
    sidecar = read_sidecar(tmp_path / f"again.mkv{SUFFIX}")
    assert sidecar["decisions"] == decided
    before, after, source = (decoded(path) for path in (made / "out.mkv", tmp_path / "again.mkv", made / "in.mkv"))
    strong = [float(np.abs(a.astype(float) - s).sum() / np.abs(b.astype(float) - s).sum())
              for a, b, s in zip(after, before, source, strict=True)]  # fmt: skip
    for number, share in enumerate(strong):
        time, end = number / 25, first["to_s"]
        assert share == pytest.approx(0.0 if time <= end + 0.001 else min(1.0, (time - end) / 0.25), abs=0.1), number


@pytest.mark.parametrize(
    "reviewed", [{}, [{}], [{"track": 1, "from_s": 0, "to_s": 1, "strength": 1.5}], [{"track": "1"}]]
)
def test_decisions_that_cannot_be_used_end_the_run(made: Path, tmp_path: Path, reviewed: Any) -> None:
    (tmp_path / "decided.json").write_text(json.dumps({"version": 1, "tracks": {}, "reviewed": reviewed}))
    with pytest.raises(UsageError, match="reviewed"):
        rtface.run(made / "in.mkv", tmp_path / "again.mkv", treatment=tmp_path / "decided.json")


@pytest.mark.slow
@pytest.mark.parametrize("shots", ["start,end,off\n", "start,end,off\n0,0.4,yes\n0.8,1.2,yes\n"], ids=["all", "short"])
def test_a_job_notes_the_same_places(tmp_path: Path, shots: str) -> None:
    """Also where the parts of two half seconds round a border are short."""
    film = write_film(
        tmp_path / "in.mkv", [portrait(shift=(0.5 * t, 0.0))[0] for t in range(FRAMES)], options={"g": "13"}
    )
    (tmp_path / "shots.csv").write_text(shots)
    options = Options(correct="always", codec="ffv1", sidecar=True, shots=tmp_path / "shots.csv")
    job = FilmJob.open(film, tmp_path / "out.mkv", options, length=Fraction(1, 2))
    assert isinstance(job, FilmJob)
    assert [float(one) for one in job.plan.starts[1:]] == [0.52]
    job.run()
    rtface.run(film, tmp_path / "whole.mkv", **options.to_dict())
    assert places(tmp_path / "out.mkv") == places(tmp_path / "whole.mkv")


@pytest.mark.slow
def test_stills_are_named_by_their_image(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        still(tmp_path / "in" / name)
    rtface.run(tmp_path / "in", f"{tmp_path / 'out'}/", sidecar=True, correct="always")
    found = places(tmp_path / "out")
    assert sorted(one["image"] for one in found) == ["a.png", "b.png"]
    assert said(tmp_path / "out", "--csv", tmp_path / "list.csv")[0] == 2


@pytest.mark.parametrize("case", ["gone", "silent", "moved", "other", "old", "damaged"])
def test_what_cannot_be_reviewed_is_one_line(made: Path, tmp_path: Path, case: str) -> None:
    out = tmp_path / "films" / "out.mkv"
    shutil.copytree(made, out.parent)
    sidecar = out.with_name(out.name + SUFFIX)
    if case == "gone":
        out.unlink()
    elif case == "silent":
        sidecar.unlink()
    elif case == "moved":
        out.rename(out := out.with_name("moved.mkv"))
        sidecar.rename(out.with_name(out.name + SUFFIX))
    elif case == "other":
        shutil.copy(made / "in.mkv", out)
    elif case == "damaged":
        sidecar.write_bytes(sidecar.read_bytes()[:-40])
    else:
        values = json.loads(sidecar.read_text())
        del values["treatments"][0]["doubts"]
        sidecar.write_text(json.dumps(values))
    code, said_out, err = said(out)
    assert (code, said_out, err.count("\n")) == (1, "", 1), err
    assert str(out if case in ("gone", "silent") else out.parent) in err


def test_forged_sidecars_and_reports_never_crash(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    for path, report in ((tmp_path / f"out.mkv{SUFFIX}", None), (tmp_path / "report.json", tmp_path / "report.json")):
        whole = path.read_bytes()
        for data in mutated(json.loads(whole), 30):
            path.write_bytes(data)
            try:
                found = read_review(tmp_path / "out.mkv", report)
            except InputError:
                continue
            assert json.dumps(found.to_dict(found.places))
            assert found.as_list("edl", found.places)
        path.write_bytes(whole)
