"""The administrator's policy: every kind of run has its options, and none has others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli import doctor_checks
from rtface.cli.app import app
from rtface.config import option_sources, policy
from rtface.config import options as declared
from rtface.config.option_sources import load
from rtface.config.options import Options, locked, locked_error
from rtface.errors import UsageError
from rtface.jobs.job import FilmJob
from rtface.jobs.worker import Worker
from rtface.live.controls import LiveControls
from tests.pipeline.run_media import film, still

pytestmark = pytest.mark.usefixtures("engines")


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the policy of the computer lies; it is not there yet."""
    path = tmp_path / "etc" / "policy.toml"
    path.parent.mkdir()
    for module in policy, declared, option_sources:
        monkeypatch.setattr(module, "site_path", lambda: path)
    monkeypatch.setenv("RTFACE_DATA", str(tmp_path / "data"))
    return path


def _run(folder: Path) -> None:
    rtface.run(film(folder / "in.mkv", frames=2), folder / "out.mp4", grain="match")


def _still(folder: Path) -> None:
    rtface.run(still(folder / "in.png"), folder / "out.png", grain="match")


def _enhancer(folder: Path) -> None:
    rtface.Enhancer(grain="match")


def _live(folder: Path) -> None:
    rtface.run("camera:0", folder / "out.mkv", grain="match")


def _queued(folder: Path) -> None:
    rtface.Queue(folder / "queue.sqlite").add(film(folder / "in.mkv", frames=2), folder / "out.mkv", grain="match")


def _command(folder: Path) -> None:
    words = ["run", str(film(folder / "in.mkv", frames=2)), str(folder / "out.mkv"), "--grain", "match"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.stderr
    raise UsageError(result.stderr)


@pytest.mark.parametrize("run", [_run, _still, _enhancer, _live, _queued, _command])
def test_another_value_is_refused_before_anything_is_written(
    tmp_path: Path, site: Path, run: Callable[[Path], None]
) -> None:
    site.write_text('grain = "none"')
    with pytest.raises(UsageError, match=r"the policy .*policy\.toml sets (--)?grain; leave it out"):
        run(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"etc", "in.mkv", "in.png", "queue.sqlite", "data"}


@pytest.mark.parametrize(("name", "text"), [("shots", "start,end,strength\n0,,1\n"), ("treatment", "{}")])
def test_shots_and_treatments_obey_it(tmp_path: Path, site: Path, name: str, text: str) -> None:
    site.write_text("strength = 0.5")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UsageError, match=r"policy\.toml sets (--)?strength; leave it out"):
        rtface.run(film(tmp_path / "in.mkv", frames=2), tmp_path / "out.mkv", **{name: tmp_path / "list.csv"})


def test_its_values_hold_where_nothing_is_said(tmp_path: Path, site: Path) -> None:
    site.write_text('strength = 0.5\nsidecar = true\nstages = ["blur"]')
    report = rtface.run(film(tmp_path / "in.mkv", frames=2), tmp_path / "out.mkv", correct="always")
    assert report.options["strength"] == 0.5 and (tmp_path / "out.mkv.rtface.json").is_file()
    assert Options.of({"strength": 0.5}).strength == 0.5, "the same value is no other one"
    assert Options.of({"stages": ["picture:file=a.png"]}).stages == ("picture:file=a.png", "blur")
    assert Options.of({"stages": ["blur", "picture:file=a.png"]}).stages == ("picture:file=a.png", "blur")


def test_the_users_file_and_variables_have_no_say(tmp_path: Path, site: Path) -> None:
    site.write_text("strength = 0.5")
    (own := tmp_path / "rtface.toml").write_text('strength = 1\ngrain = "none"')
    loaded = load({}, config=own, environ={"RTFACE_STRENGTH": "0.9"})
    assert (loaded.options.strength, loaded.options.grain) == (0.5, "none")
    assert (loaded.sources["strength"], loaded.sources["grain"]) == (str(site), str(own))
    with pytest.raises(UsageError, match="sets --strength"):
        load({"strength": 0.9}, environ={})


def test_a_worker_obeys_the_policy_of_its_own_computer(tmp_path: Path, site: Path) -> None:
    job = FilmJob.open(film(tmp_path / "in.mkv", frames=2), tmp_path / "out.mkv", Options(strength=0.7))
    assert isinstance(job, FilmJob)
    site.write_text("strength = 0.5")
    with pytest.raises(UsageError, match="sets --strength"):
        Worker(job.folder, job.plan)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("strenght = 1", "strenght is not an option|the nearest is strength"),
        ("strength = 7", r"policy\.toml: strength must be"),
        ("strength = [", r"cannot be read \(Invalid value .*; ask the administrator"),
    ],
)
def test_a_broken_policy_ends_the_run(tmp_path: Path, site: Path, text: str, words: str) -> None:
    site.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        rtface.run(film(tmp_path / "in.mkv", frames=2), tmp_path / "out.mp4")
    assert str(site) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out.mp4").exists()
    [finding] = doctor_checks.check_settings()
    assert finding.state == "fault" and finding.detail == str(caught.value)


def test_a_policy_that_may_not_be_read_is_not_ignored(site: Path) -> None:
    site.mkdir()
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\), and rtface does not run without it"):
        Options.of({})


def test_no_variable_moves_the_policy_of_the_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    before = policy.site_path()
    for name in ("XDG_CONFIG_DIRS", "RTFACE_CONFIG_DIR", "RTFACE_POLICY", "HOME", "PROGRAMDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    assert policy.site_path() == before and before is not None and before.name == "policy.toml"


def test_a_live_control_that_is_set_stays(site: Path) -> None:
    site.write_text("light = 0.3\nlook = 'faithful'")
    controls = LiveControls(locked={name: locked_error(name) for name in locked()}, light=0.3)
    controls.set("strength", 0.5)
    with pytest.raises(UsageError, match=r"policy\.toml sets --light"):
        controls.nudge(1, "light")
    with pytest.raises(UsageError, match=r"policy\.toml sets --look"):
        controls.set("look", "vivid")
    assert controls.values()["light"] == 0.3


def test_doctor_names_what_it_sets(site: Path) -> None:
    site.write_text("commercial-use = true\nengine = 'rtface-s'")
    [finding] = doctor_checks.check_settings()
    assert f"commercial_use by {site}" in finding.detail and f"engine by {site}" in finding.detail
