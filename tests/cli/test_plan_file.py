"""`--dry-run --json` prints the plan of a run, and `--plan` starts it."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.config.options import Options
from rtface.jobs import FilmJob
from rtface.pipeline.plan import planned_options
from tests.pipeline.run_media import write_film


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_film(tmp_path / "film.mkv", [np.full((90, 160), 90, np.uint8)] * 5, codec="libx264", sound=True)


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    return result.exit_code, result.stdout, result.stderr


def planned(film: Path, *more: str) -> Path:
    """The file of a plan for `film`, which nothing was written for."""
    output = film.with_name("out.mkv")
    code, said, errors = invoke("run", film, output, *more, "--dry-run", "--json")
    assert code == 0 and not output.exists(), errors
    plan = film.with_name("plan.json")
    plan.write_text(said)
    return plan


def test_the_plan_of_a_run_is_printed(film: Path) -> None:
    plan = json.loads(planned(film, "--crf", "30", "--sidecar").read_text())["plan"]
    assert plan["options"] == {"crf": 30.0, "sidecar": True}
    assert {Path(path).name for path in plan["outputs"].values()} == {"out.mkv", "out.mkv.rtface.json"}
    assert (plan["video"]["encoder"], plan["cost"]["frames"]) == ("libx264", 5)
    assert [(one["index"], one["kind"], one["action"]) for one in plan["streams"]] == [(1, "audio", "copy")]


def test_a_plan_is_carried_out(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options hold, and neither those of the environment nor of a file."""
    plan = planned(film, "--tracker", "none", "--end", "0.12")
    monkeypatch.setenv("RTFACE_END", "0.04")
    code, _, errors = invoke("run", "--plan", plan)
    assert code == 0, errors
    with av.open(film.with_name("out.mkv")) as made:
        assert sum(1 for _ in made.decode(video=0)) == 3
    assert "exists already" in invoke("run", "--plan", plan)[2]  # checked anew


@pytest.mark.parametrize("more", [["--crf", "20"], ["a.mp4"], ["--output-dir", "there"]])
def test_nothing_is_said_beside_a_plan(film: Path, more: list[str]) -> None:
    code, _, said = invoke("run", *more, "--plan", planned(film))
    assert code == 2 and f"{more[0]} has no effect here" in said


@pytest.mark.parametrize(
    ("text", "said"), [("{", "is no plan"), ("[]", "is no plan (it is no table)"), ('{"plan": {}}', "is no plan")]
)
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    code, _, errors = invoke("run", "--plan", tmp_path / "plan.json")
    assert code == 2 and said in errors


def test_a_plan_holds_for_its_film_and_its_options(film: Path) -> None:
    plan = planned(film)
    other = json.loads(plan.read_text())
    other["plan"]["options"]["sharpness"] = 3
    film.with_name("other.json").write_text(json.dumps(other))
    assert "sharpness" in invoke("run", "--plan", film.with_name("other.json"))[2]
    film.write_bytes(film.read_bytes()[:-8] + b"\0" * 8)
    code, _, said = invoke("run", "--plan", plan)
    assert code == 2 and "not the film that was planned" in said


def test_files_in_a_plan_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = Options.of(
        {
            "person": "anna=a.jpg, b.jpg",
            "sign": "c.pem,k.pem",
            "treatment": "t.json",
            "stages": ["picture:file=logo.png,opacity=0.5", "label:text=a.png"],
        }
    )
    assert planned_options(options) == {
        "person": [f"anna={tmp_path / 'a.jpg'},{tmp_path / 'b.jpg'}"],
        "treatment": str(tmp_path / "t.json"),
        "sign": f"{tmp_path / 'c.pem'},{tmp_path / 'k.pem'}",
        "stages": [f"picture:file={tmp_path / 'logo.png'},opacity=0.5", "label:text=a.png"],
    }


def test_the_plan_of_an_unfinished_job_is_carried_out(film: Path) -> None:
    output = film.with_name("out.mkv")
    assert isinstance(FilmJob.open(film, output, Options(tracker="none")), FilmJob)
    assert invoke("run", "--plan", film.with_name("out.mkv.rtface") / "plan.json")[0] == 0
    assert output.exists() and not film.with_name("out.mkv.rtface").exists()


def test_a_plan_that_lacks_secrets_is_not_carried_out(film: Path) -> None:
    plan = planned(film, "--stage", "label:text=https://example.org/watch?secret=hidden1")
    code, _, said = invoke("run", "--plan", plan)
    assert code == 2 and "without its user name, password or query" in said


@pytest.mark.parametrize("key", ["input", "output"])
def test_a_plan_names_files(film: Path, key: str) -> None:
    plan = planned(film)
    whole = json.loads(plan.read_text())["plan"]
    for value in ("", "a\0b", "\ud800", 1):
        plan.write_text(json.dumps({**whole, key: value}))
        code, _, said = invoke("run", "--plan", plan)
        assert code == 2 and f"is no plan ({key} is" in said


def test_a_plan_of_another_user_needs_a_word(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(film, "--tracker", "none")
    monkeypatch.setattr("rtface.util.foreign.is_own", lambda _: False)
    code, _, said = invoke("run", "--plan", plan)
    assert code == 2 and "--trust-plan" in said and "--tracker: none" in said and f"OUTPUT: {film.parent}" in said
    assert invoke("run", "--plan", plan, "--trust-plan")[0] == 0
    assert "--trust-plan has no effect" in invoke("run", film, film.with_name("other.mkv"), "--trust-plan")[2]
