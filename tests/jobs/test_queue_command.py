"""``rtface queue`` and `rtface.Queue` with small films and the shipped light engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli.app import app
from rtface.errors import InputError, UsageError
from rtface.jobs.queue.runner import RunCounts
from tests.pipeline.run_media import write_film


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in [name for name in os.environ if name.startswith("RTFACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.setenv("RTFACE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = (np.full((180, 320, 3), 40 + 4 * n, np.uint8) for n in range(8))
    return write_film(tmp_path_factory.mktemp("film") / "in.mkv", pictures)


def command(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["queue", *map(str, arguments)])
    assert "Traceback" not in result.stderr
    assert result.exit_code == code, result.stderr
    return result


def listed() -> list[dict[str, object]]:
    return json.loads(command("list", "--json").stdout)


def frames(path: Path) -> int:
    with av.open(str(path)) as opened:
        return sum(1 for _ in opened.decode(video=0))


@pytest.mark.slow
def test_films_are_added_and_run_and_one_fails(film: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(film.read_bytes())
    for name in ("a.mkv", "b.mkv"):
        source = film if name == "a.mkv" else broken
        command("add", source, name, "--engine", "rtface-s", "--strength", "50%", "--report", f"{name}.json")
    broken.write_bytes(b"no film any more")
    result = command("run", "--at-once", "1", "--json", code=1)
    assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == ["done", "failed"]
    assert "1 done, 1 failed" in result.stderr
    assert frames(tmp_path / "a.mkv") == 8
    assert json.loads((tmp_path / "a.mkv.json").read_text())["options"]["strength"] == 0.5
    table = command("list")
    assert "done" in table.stdout
    assert "item 2 failed: " in table.stderr
    broken.write_bytes(film.read_bytes())
    command("retry", "failed")
    command("run")
    assert [item["state"] for item in listed()] == ["done", "done"]
    command("remove", "done")
    assert "the queue is empty" in command("list").stderr
    assert [path.suffix for path in (tmp_path / "data").iterdir()].count(".log") == 0


def test_what_holds_at_add_holds_in_the_night(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTFACE_STRENGTH", "0.3")
    monkeypatch.setenv("RTFACE_LATENCY", "50")  # of live runs
    (tmp_path / "my.toml").write_text('max-faces = 3\nengine = "rtface-s"\n')
    (tmp_path / "out").mkdir()
    command("add", film, "out/", "--config", "my.toml", "--end", "0.12", "--max-faces", "2")
    (item,) = listed()
    assert item["options"] == {"engine": "rtface-s", "strength": 0.3, "max_faces": 2, "end": 0.12}
    assert item["output"] == f"{tmp_path / 'out'}/"
    monkeypatch.setenv("RTFACE_STRENGTH", "1")
    monkeypatch.chdir("/")
    command("run")
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (["FILM", "b.mkv", "--strenght", "1"], "No such option", 2),
        (["FILM", "b.mkv", "--strength", "7"], "between 0 and 1", 2),
        (["FILM", "b.mkv", "--engine", "rtface-z"], "unknown engine", 2),
        (["FILM", "b.mkv", "--latency", "20"], "has no effect here", 2),
        (["FILM", "b.mkv", "--dry-run"], "adds nothing to a queue", 2),
        (["FILM", "b.png"], "is a film", 2),
        (["FILM", "exists.mkv"], "exists already", 1),
        (["FILM", "none/b.mkv"], "there is no folder", 1),
        (["FILM", "b.webm", "--codec", "ffv1"], "ffv1", 2),
        (["gone.mkv", "b.mkv"], "no such file", 1),
        (["camera:0", "b.mkv"], "never ends", 2),
        (["FILM", "rtmp://host/app/key"], "never ends", 2),
        (["FILM", "b.mkv", "--compare", "c.png", "--workers", "2"], "not a film container (.png)", 2),
        (["FILM", "b.mkv", "--farm", "ray://here"], "dask://host:8786", 2),
        (["FILM"], "add an OUTPUT", 2),
    ],
)
def test_an_item_is_checked_when_it_is_added(
    film: Path, tmp_path: Path, arguments: list[str], says: str, code: int
) -> None:
    (tmp_path / "exists.mkv").touch()
    result = command("add", *(film if text == "FILM" else text for text in arguments), code=code)
    assert says in result.stderr
    assert listed() == []


def test_several_films_go_into_a_folder(film: Path, tmp_path: Path) -> None:
    (tmp_path / "other.mkv").write_bytes(film.read_bytes())
    result = command("add", film, "other.mkv", "bad.mkv", "--output-dir", "better", code=1)
    assert "no such file" in result.stderr
    assert [Path(item["output"]).name for item in listed()] == ["in.mkv", "other.mkv"]
    (tmp_path / "better" / "other.mkv").touch()
    assert "skipped" in command("add", "other.mkv", film, "--output-dir", "better", code=1).stderr
    command("move", 2, "first")
    assert [item["id"] for item in listed()] == [2, 1]
    command("move", 2, "up", code=2)


def test_errors_of_the_command_end_with_code_2() -> None:
    assert "no item 7" in command("cancel", 7, code=2).stderr
    assert "not an item: give" in command("pause", "film.mp4", code=2).stderr
    command("run", "--at-once", "0", code=2)


def test_the_same_verbs_in_python(film: Path, tmp_path: Path) -> None:
    queue = rtface.Queue(tmp_path / "mine.sqlite")
    with pytest.raises(UsageError, match=r"^--latency has no effect"):
        queue.add(film, "b.mkv", latency=10)
    (tmp_path / "text.mkv").write_bytes(b"something")
    with pytest.raises(InputError):
        queue.add(tmp_path / "text.mkv", "b.mkv")
    item = queue.add(film, "b.mkv", engine="rtface-s")
    with pytest.raises(UsageError, match=f"item {item.id} of the queue already writes"):
        queue.add(film, tmp_path / "b.mkv")
    queue.pause(item.id)
    assert queue.run() == RunCounts(0, 0, 0, 0, 1)
    queue.resume(item.id)
    seen: list[str] = []
    outcome = queue.run(progress=lambda items: seen.extend(item.state for item in items))
    assert (outcome.done, queue.item(item.id).state, seen[-1]) == (1, "done", "done")
    assert queue.item(item.id).message == "8 frames, 0 with faces, 0 corrected"
    assert queue.item(item.id).frames == 8


def test_an_item_is_added_without_a_trial_signature(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("c2pa", reason="needs the extra rtface[credentials]")
    from tests.trust.authority import Authority

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("rtface.trust.credentials_writing.encode_by", lambda *_: pytest.fail("an image is signed"))
    rtface.Queue(tmp_path / "mine.sqlite").add(film, "b.mp4", sign=Authority(tmp_path / "ca").issue())


@pytest.mark.slow
def test_addresses_are_taken_unopened(tmp_path: Path) -> None:
    (tmp_path / "address").write_text("nosuch://user:hunter2secret@localhost:1/film.mkv\n")
    light = "--engine", "rtface-s", "--tracker", "none"
    command("add", "@address", "b.mkv", *light)
    shown = command("add", "nosuch://user:hunter2secret@localhost:1/c.mkv?key=0123456789", "c.mkv", *light, code=2)
    command("add", "nosuch://localhost:1/c.mkv", "c.mkv", *light)
    assert [item["input"] for item in listed()] == [f"@{tmp_path / 'address'}", "nosuch://localhost:1/c.mkv"]
    failed = command("run", "--at-once", "2", code=1)
    text = shown.stderr + failed.stderr + command("list").stdout + json.dumps(listed())
    assert "hunter2" not in text
    assert "0123456789" not in text
    logs = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("*.log"))
    assert b"hunter2" not in logs


@pytest.mark.skipif(os.name == "nt", reason="signals are sent to a process group on Windows")
@pytest.mark.slow
def test_a_runner_that_ends_leaves_the_film_to_the_next(tmp_path: Path) -> None:
    pictures = (np.full((96, 160, 3), n, np.uint8) for n in range(120))
    long, slow = write_film(tmp_path / "long.mkv", pictures), tmp_path / "slow"
    slow.touch()
    stage = f"tests.jobs.queue_children.Slow:file={slow}"
    command("add", long, "b.mkv", "--engine", "rtface-s", "--stage", stage, "--workers", "1", "--restart")
    runner = subprocess.Popen(
        [sys.executable, "-m", "rtface", "queue", "run"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    while not listed()[0]["share"]:
        assert runner.poll() is None, runner.stderr.read()
        time.sleep(0.05)
    runner.send_signal(signal.SIGINT)
    runner.communicate(timeout=60)
    slow.unlink()
    assert runner.returncode == 130 and listed()[0]["state"] == "waiting"
    command("run")
    assert listed()[0]["state"] == "done"
    assert listed()[0]["flags"] == {"workers": "1", "restart": True}
    assert frames(tmp_path / "b.mkv") == 120
    assert not (tmp_path / "b.mkv.rtface").exists()
