"""`--dry-run --json` prints the plan of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.config.options import Options
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


def test_a_plan_is_not_read_any_more(film: Path) -> None:
    for option in ("--plan=plan.json", "--trust-plan"):
        code, _, said = invoke("run", film, option)
        assert code == 2 and "is gone; give INPUT, OUTPUT and options again" in said
