"""The manifest of an output: what it says, who may read what of it, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rtface
from rtface.config.options import Options
from rtface.errors import InputError, OutputError, RtfaceError
from rtface.jobs.job import FilmJob
from rtface.trust.sidecar import read_sidecar, sidecar_path
from rtface.trust.verify import verify
from tests.pipeline.run_media import film
from tests.util.mutations import mutated

pytestmark = pytest.mark.usefixtures("engines")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A lossless output with its sidecar."""
    rtface.run(film(tmp_path / "in.mkv", frames=6, sound=True), tmp_path / "out.mkv", sidecar=True)
    return tmp_path / "out.mkv"


def work(source: Path, out: Path, options: Options) -> None:
    """Makes a film as a job."""
    job = FilmJob.open(source, out, options)
    assert isinstance(job, FilmJob)
    job.run()


def test_it_names_files_settings_and_areas_and_no_folder(out: Path) -> None:
    text = sidecar_path(out).read_text()
    values = read_sidecar(sidecar_path(out))
    assert str(out.parent) not in text and values["input"]["name"] == "in.mkv"
    assert (values["output"]["bytes"], values["output"]["lossless"]) == (out.stat().st_size, True)
    assert values["changes"] == ["corrected"] and values["options"] == {"sidecar": True}
    assert [number for number, boxes in values["changed"] if boxes] == list(range(6))


def test_a_job_always_has_one(tmp_path: Path) -> None:
    source, out = film(tmp_path / "in.mkv", frames=6, sound=True), tmp_path / "out.mkv"
    work(source, out, Options())
    values = read_sidecar(sidecar_path(out))
    assert verify(out, input=source).same and not (tmp_path / "out.mkv.rtface").exists()
    planned = rtface.run(source, tmp_path / "other.mkv", dry_run=True).plan
    assert values["plan"]["streams"] and values["plan"].items() <= planned.items()


def test_a_frame_on_which_a_stage_drew_counts_as_a_whole(tmp_path: Path) -> None:
    source, out = film(tmp_path / "in.mkv", frames=3), tmp_path / "out.mkv"
    rtface.run(source, out, stages=("label:text=x",), sidecar=True)
    assert {areas for _, areas in read_sidecar(sidecar_path(out))["changed"]} == {"a stage drew on it"}


def test_sidecars_that_cannot_be_used(out: Path) -> None:
    sidecar = sidecar_path(out)
    whole = sidecar.read_text()
    values: dict[str, Any] = json.loads(whole)
    for text in (
        "{",
        "{}",
        '{"format": "rtface sidecar"}',
        json.dumps({**values, "changed": [[0, [[-9, 0, 5, 5]]]]}),
        json.dumps({**values, "input": {**values["input"], "end_s": 1e308}}),
        json.dumps({**values, "version": 9}),
        whole.replace('"engines":', '"deep": ' + "[" * 2000 + "]" * 2000 + ', "engines":', 1),
    ):
        sidecar.write_text(text)
        with pytest.raises(InputError, match="not a sidecar of rtface"):
            verify(out)


def test_one_that_is_there_is_not_replaced(out: Path) -> None:
    sidecar_path(out.with_name("new.mkv")).write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        rtface.run(out.with_name("in.mkv"), out.with_name("new.mkv"), sidecar=True)
    assert not out.with_name("new.mkv").exists()


def test_a_job_replaces_a_sidecar_and_no_other_file(tmp_path: Path) -> None:
    source, out = film(tmp_path / "in.mkv", frames=2), tmp_path / "out.mkv"
    (side := sidecar_path(out)).write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        FilmJob.open(source, out, Options())
    assert side.read_text() == "mine" and sorted(tmp_path.iterdir()) == [source, side]
    work(source, out, Options(overwrite=True))
    finished = read_sidecar(side)["finished"]
    out.unlink()  # and its sidecar stays
    side.write_text(side.read_text().replace(finished, "2020-01-01T00:00:00Z"))
    work(source, out, Options())
    assert read_sidecar(side)["finished"] >= finished and verify(out).same


def test_a_sidecar_of_others_is_used_or_refused(out: Path) -> None:
    side = sidecar_path(out)
    for number, data in enumerate(mutated(json.loads(side.read_bytes()), 400)):
        side.write_bytes(data)
        try:
            read_sidecar(side)
            if not number % 20:
                verify(out, input=out.with_name("in.mkv"))
        except RtfaceError as error:
            assert "\n" not in str(error)
