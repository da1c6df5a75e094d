"""The administrator's policy: every kind of run obeys it, and a file that cannot be used is never ignored."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli import doctor_checks
from rtface.cli.app import app
from rtface.cli.try_sheet import CommandLine
from rtface.config import policy as module
from rtface.config.addresses import LiveAddress
from rtface.config.options import Options, Scope
from rtface.config.policy import Policy, policies
from rtface.contact_sheet.restore import Variant
from rtface.contact_sheet.sheet import SheetOptions, make_sheet
from rtface.engine import learned
from rtface.engine.engine_set import EngineSet
from rtface.errors import UsageError
from rtface.jobs import FilmJob
from rtface.jobs.worker import Worker
from rtface.live.controls import LiveControls
from rtface.live.endpoint_factory import make_endpoints
from rtface.stats import Stats
from rtface.trust.enforce import enforce, enforce_learning, locked_controls
from tests.persons.made import ANNA, BEN, learnt
from tests.pipeline.run_media import film, still

pytestmark = pytest.mark.usefixtures("engines")
FILM = Scope.FILM | Scope.ENCODED


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the policy of the computer lies; it is not there yet."""
    path = tmp_path / "etc" / "policy.toml"
    path.parent.mkdir()
    monkeypatch.setattr(module, "site_path", lambda: path)
    monkeypatch.delenv("RTFACE_POLICY", raising=False)
    monkeypatch.setenv("RTFACE_DATA", str(tmp_path / "data"))
    return path


def _run(folder: Path) -> None:
    rtface.run(film(folder / "in.mkv", frames=2), folder / "out.mp4", overwrite=True)


def _still(folder: Path) -> None:
    rtface.run(still(folder / "in.png"), folder / "out.png")


def _folder(folder: Path) -> None:
    (folder / "photos").mkdir()
    still(folder / "photos" / "a.png")
    rtface.run(folder / "photos", folder / "out")


def _enhancer(folder: Path) -> None:
    rtface.Enhancer()


def _live(folder: Path) -> None:
    make_endpoints(LiveAddress("camera", "0"), LiveAddress("file", str(folder / "out.mkv")), Options(), Stats())


def _job(folder: Path) -> None:
    FilmJob.open(film(folder / "in.mkv", frames=2), folder / "out.mkv", Options())


def _queued(folder: Path) -> None:
    rtface.Queue(folder / "queue.sqlite").add(film(folder / "in.mkv", frames=2), folder / "out.mkv")


def _command(folder: Path) -> None:
    result = CliRunner().invoke(app, ["run", str(film(folder / "in.mkv", frames=2)), str(folder / "out.mkv")])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.stderr
    raise UsageError(result.stderr)


def _sheet(folder: Path) -> None:
    make_sheet(film(folder / "in.mkv", frames=2), Options(), SheetOptions((Variant("default", 1.0),), 1, 9.0))


_RUNS = [_run, _still, _folder, _enhancer, _live, _job, _queued, _command]


@pytest.mark.parametrize("run", [*_RUNS, _sheet])
def test_every_run_obeys_and_writes_nothing(tmp_path: Path, site: Path, run: Callable[[Path], None]) -> None:
    site.write_text('forbid = ["rtface-m", "rtface-s"]')
    with pytest.raises(UsageError, match=r"policy\.toml forbids engine rtface-[ms] \(forbid: rtface-[ms]\)"):
        run(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"etc", "in.mkv", "in.png", "photos", "queue.sqlite", "data"}


@pytest.mark.parametrize("run", _RUNS)
def test_every_run_needs_the_label(tmp_path: Path, site: Path, run: Callable[[Path], None]) -> None:
    site.write_text("require-label = true")
    with pytest.raises(UsageError, match=r"asks for a visible label \(require-label\); add this as the last stage"):
        run(tmp_path)


@pytest.mark.parametrize("run", [_run, _still, _folder, _live, _job, _queued, _command])
def test_files_need_credentials(tmp_path: Path, site: Path, run: Callable[[Path], None]) -> None:
    site.write_text("require-credentials = true")
    with pytest.raises(UsageError, match=r"asks for signed outputs \(require-credentials\); add (--)?credentials"):
        run(tmp_path)


def test_a_worker_obeys_the_policy_of_its_own_computer(tmp_path: Path, site: Path) -> None:
    job = FilmJob.open(film(tmp_path / "in.mkv", frames=2), tmp_path / "out.mkv", Options())
    assert isinstance(job, FilmJob)
    site.write_text('forbid = ["engine:rtface-m"]')
    with pytest.raises(UsageError, match="forbids engine rtface-m"):
        Worker(job.folder, job.plan)
    with pytest.raises(UsageError, match="forbids engine rtface-m"):
        job.run()


def test_engines_that_are_chosen_later_are_checked(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write_text('forbid = ["vivid"]')
    engines = EngineSet("rtface-s", opener=lambda recipe: SimpleNamespace(name=recipe.name, reason="", close=list))
    with pytest.raises(UsageError, match=r"forbids engine rtface-m-vivid \(forbid: vivid\)"):
        engines.named("rtface-m-vivid")
    assert engines.named("rtface-m").name == "rtface-m"


@pytest.mark.parametrize(
    ("text", "options", "scope", "words"),
    [
        ('forbid = ["vivid"]', Options(fidelity=0.4), FILM, "engine rtface-m-vivid"),
        ('forbid = ["vivid"]', Options(engine="rtface-m-vivid"), Scope.LIVE, "engine rtface-m-vivid"),
        ('forbid = ["fidelity"]', Options(fidelity=1.0), FILM, r"forbids --fidelity \(forbid: fidelity\)"),
        ('forbid = ["--compare"]', Options(compare=Path("a.mkv")), FILM, "forbids --compare"),
        ('forbid = ["live"]', Options(), Scope.LIVE | Scope.CAMERA, "forbids live runs"),
        ('forbid = ["synthetic"]', Options(stages=("synthetic",)), FILM, "forbids the stage synthetic"),
        ('forbid = ["synthetic"]', Options(stages=("rtface_synthetic.stage.Synthetic",)), FILM, "forbid: synthetic"),
        ('forbid = ["own-stages"]', Options(stages=("tests.stages.trial_stages.Bar",)), FILM, "forbid: own-stages"),
        ("commercial-use = true", Options(stages=("synthetic",)), FILM, r"may not be used commercially .*policy\.toml"),
        (
            "require-label = true",
            Options(stages=("label:opacity=0.01",)),
            FILM,
            "as the last stage, with no other options",
        ),
        ("require-label = true", Options(stages=("label:text= ",)), FILM, "as the last stage"),
        ("require-label = true", Options(stages=("label:text=\u200b",)), FILM, "as the last stage"),
        ("require-label = true", Options(stages=("label:text=.",)), FILM, "as the last stage"),
        ("require-label = true", Options(stages=("label", "picture:file=a.png")), FILM, "as the last stage"),
        (
            'require-label = "label:text=AI,place=top"',
            Options(stages=("label:text=AI",)),
            FILM,
            "--stage label:text=AI,pl",
        ),
        (
            "require-label = true",
            Options(stages=("label",), compare=Path("a.mp4")),
            FILM,
            "--compare shows frames without",
        ),
        ("require-credentials = true", Options(credentials=True, compare=Path("a.mp4")), FILM, "is not signed"),
        ("require-credentials = true", Options(), Scope.LIVE | Scope.RECORDED, "asks for signed outputs"),
    ],
)
def test_what_a_policy_refuses(site: Path, text: str, options: Options, scope: Scope, words: str) -> None:
    enforce(options, scope)
    site.write_text(text)
    with pytest.raises(UsageError, match=words):
        enforce(options, scope)


@pytest.mark.parametrize(
    ("text", "options", "scope"),
    [
        ('forbid = ["vivid", "synthetic", "light"]', Options(light=0.3), FILM),  # --light has no effect on films
        ("commercial-use = true", Options(engine="auto"), FILM),
        ("require-label = true", Options(stages=("blur", "label:preset=eu-modified")), FILM),
        ('require-label = "label:text=AI"', Options(stages=("label:text=AI,font=a.ttf",)), Scope.LIVE),
        ("require-label = true\nrequire-credentials = true", Options(), Scope.FILM | Scope.ANALYSIS),
        ("require-credentials = true", Options(sign="a.pem,a.key"), Scope.STILLS),
        ("require-credentials = true", Options(), Scope.LIVE | Scope.PUBLISHED),
        ('forbid = ["stage:nowhere", "engine:nobody", "undo"]', Options(), FILM),
    ],
)
def test_what_a_policy_allows(site: Path, text: str, options: Options, scope: Scope) -> None:
    site.write_text(text)
    enforce(options, scope)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("require-lable = true", "'require-lable' is not a key: the nearest is require-label"),
        ("commercial-use = 1", "commercial-use must be true or false, not 1"),
        ("forbid = 'vivid'", "forbid must be a list of names"),
        ("forbid = ['vivd']", "there is no 'vivd' here: the nearest is vivid"),
        ("forbid = ['']", "forbid must be a list of names"),
        ("require-label = 'AI'", 'require-label must be true, false or a label as in "label:preset=eu-modified"'),
        ("require-label = 'label:text=a,text=b'", "require-label: .*label: text is given twice"),
        ("retention = '30 days'", "retention is gone; remove old folders .* rtface queue remove"),
        ("forbid = [", r"is not valid TOML .*; ask the administrator"),
        ("\x00", "is not valid TOML"),
    ],
)
def test_a_broken_policy_ends_the_run(tmp_path: Path, site: Path, text: str, words: str) -> None:
    site.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        _run(tmp_path)
    assert str(site) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out.mp4").exists()
    [finding] = doctor_checks.check_policy()
    assert finding.state == "fault" and re.search(words, finding.detail)


def test_a_second_policy_only_adds(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write_text("commercial-use = true")
    second = tmp_path / "mine.toml"
    second.write_text("commercial-use = false\nforbid = ['live']")
    monkeypatch.setenv("RTFACE_POLICY", str(second))
    assert [policy.path for policy in policies()] == [site, second]
    for options, scope in ((Options(stages=("synthetic",)), FILM), (Options(), Scope.LIVE)):
        with pytest.raises(UsageError):
            enforce(options, scope)
    second.unlink()
    with pytest.raises(UsageError, match=r"mine\.toml cannot be read \(No such file"):
        _run(tmp_path)


def test_a_policy_that_may_not_be_read_is_not_ignored(site: Path) -> None:
    site.mkdir()
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\), and nothing runs without it"):
        enforce(Options(), FILM)


def test_no_variable_moves_the_policy_of_the_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    before = module.site_path()
    for name in ("XDG_CONFIG_DIRS", "RTFACE_CONFIG_DIR", "HOME", "PROGRAMDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    assert module.site_path() == before and before is not None and before.name == "policy.toml"


def test_live_controls_that_are_forbidden_stay(site: Path) -> None:
    site.write_text("forbid = ['light']")
    controls = LiveControls(locked=locked_controls())
    controls.set("strength", 0.5)
    with pytest.raises(UsageError, match=r"policy\.toml forbids light"):
        controls.nudge(1, "light")
    assert controls.values()["light"] == 0.0


def test_doctor_shows_each_value_with_its_file(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "site_path", lambda: site)
    assert [finding.detail for finding in doctor_checks.check_policy()] == [f"none ({site} is not there)"]
    site.write_text("commercial-use = true\nforbid = ['vivid']")
    [finding] = doctor_checks.check_policy()
    assert finding.detail == f'commercial-use = true, forbid = ["vivid"] ({site})'


def test_values_of_a_policy(site: Path) -> None:
    site.write_text("require-label = true\nforbid = ['--damage']")
    read = Policy.read(site)
    assert (read.require_label, read.forbid) == ("label", ("damage",))
    assert replace(read, given={}) == Policy(site, require_label="label", forbid=("damage",))


def test_command_of_a_sheet_has_what_the_policy_asks_for(site: Path) -> None:
    def command() -> list[str]:
        loaded = SimpleNamespace(options=Options(), given={})
        return shlex.split(CommandLine("in.mp4", Path("in.mp4"), loaded)(Variant("rtface-s", 1.0)))

    assert "--stage" not in command()
    site.write_text("require-label = true\nrequire-credentials = true\n")
    assert command()[-3:] == ["--stage", "label:preset=eu-modified", "--credentials"]
    enforce(Options(stages=(command()[-2],), credentials=True), FILM)


def test_who_was_learnt_needs_what_the_policy_asks(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    learnt(learned.path_of("anna"), ANNA)
    learnt(learned.path_of("ben"), BEN, consent="Ben, on paper, 2026-03-01")
    assert enforce_learning() is None
    site.write_text("require-consent = true")
    enforce(Options(person=("ben", "cleo=cleo.jpg")), FILM)
    for run in (FILM, Scope.STILLS, Scope.LIVE, FILM | Scope.ANALYSIS, Scope.ENHANCER):
        with pytest.raises(UsageError, match="--consent"):
            enforce(Options(person=("ben", "anna")), run)
    assert enforce_learning() == site
    site.write_text('forbid = ["learning"]')
    for refused in (lambda: enforce(Options(person=("ben",)), Scope.LIVE), enforce_learning):
        with pytest.raises(UsageError, match="forbid: learning"):
            refused()
