"""What is shown to people: no secret of a URL, whatever option it was given to, and no control characters."""

from __future__ import annotations

import io
import json
import logging
import pickle
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rtface._version import __version__
from rtface.cli.app import app
from rtface.cli.console import Console, log_to, print_json, print_table, print_text
from rtface.config.options import OPTIONS
from rtface.errors import (
    DownloadError,
    EngineError,
    InputError,
    InputMissing,
    Interrupted,
    MissingComponent,
    OutputError,
    RtfaceError,
    UsageError,
)
from rtface.report import Report, report_options
from rtface.util.text import printable
from tests.pairs import pairs

SECRET = "T0PSECRETKEY"
URLS = (f"rtmp://user:{SECRET}@127.0.0.1:9/live/{SECRET}", f"srt://127.0.0.1:9?passphrase={SECRET}")
RUN = typer.main.get_command(app).commands["run"]
KEYS = sorted({option.check: option.name for option in OPTIONS.values()}.values())
"""One option of each kind: all of a kind are read, and refused, by the same function."""
ALIKE = {option.flag for option in OPTIONS.values() if option.name not in KEYS}
FLAGS = [
    param.opts[0]
    for param in RUN.params
    if param.param_type_name == "option" and not param.is_flag and not param.count and param.opts[0] not in ALIKE
]


def good(input, output, options, stop):
    report = Report(str(input), str(output), __version__, "rtface-m", "cpu", frames_in=3, frames_out=3)
    report.options = report_options(options)
    return report


def said(*arguments: object, **more: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments], **more)
    return done.stdout + done.stderr


@pytest.mark.parametrize(("flag", "url"), pairs(FLAGS, URLS, ["--also", "--stage"]))
def test_no_option_of_a_command_line_shows_a_secret(
    flag: str, url: str, pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline(good)
    text = said("run", "in.mp4", tmp_path / "out.mp4", flag, url, "-vv", "--json")
    text += said("run", tmp_path / "in.mp4", "null:", flag, url, "-vv")
    assert text
    assert SECRET not in text
    assert not list(tmp_path.glob("*:"))  # a folder with the address as its name


@pytest.mark.parametrize("key", KEYS)
def test_configuration_errors_show_no_secret(key: str, pipeline, tmp_path: Path) -> None:
    pipeline(good)
    value = [URLS[0]] if key == "stages" else URLS[0]
    (tmp_path / "rtface.toml").write_text(f"{key} = {json.dumps(value)}\n")
    text = said("run", "in.mp4", tmp_path / "out.mp4", "--config", tmp_path / "rtface.toml", "-vv", "--json")
    text += said("run", tmp_path / "in.mp4", "null:", "-vv", env={f"RTFACE_{key.upper()}": URLS[0]})
    assert text
    assert SECRET not in text


@pytest.mark.parametrize(
    "named",
    [
        ("in.mp4", URLS[0].replace("://", ":/")),
        (URLS[0], "out.mp4"),
        (URLS[1], "rtsp://h/live"),
        ("camera:0", URLS[0]),
        ("in.mp4", f"https://user:{SECRET}@h/x?t={SECRET}"),
        (URLS[0], URLS[0]),
        ("in.mp4", "out.mp4", URLS[0]),
    ],
)
def test_no_end_of_a_run_shows_a_secret(
    named: tuple[str, ...], pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline(good)
    text = said("run", *named, "-vv", "--json", "--dry-run")
    assert text
    assert SECRET not in text


@pytest.mark.parametrize(
    "kind",
    [UsageError, InputError, InputMissing, OutputError, DownloadError, MissingComponent, EngineError, Interrupted],
)
def test_no_error_that_a_program_catches_shows_a_secret(kind: type[RtfaceError]) -> None:
    for url in (*URLS, str(Path(URLS[0]))):
        error = kind(f"{url}: a live run can be recorded as .mkv")
        assert SECRET not in str(error) + repr(error)
        assert "127.0.0.1:9" in str(error)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        assert isinstance(kind.__new__(kind, "as Dask makes it again"), kind)


def test_also_may_be_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", str(tmp_path / "rec.txt"))
    assert f"{tmp_path / 'rec.txt'}: a live run can be recorded as" in said(
        "run", tmp_path / "in.mp4", "null:", "--also", "env:WHERE"
    )


HOSTILE = "a\x1b]0;owned\x07\x9b31m\u202egpj.\x7f\x08"


def test_control_characters_are_shown_escaped() -> None:
    assert printable("é – 人 \U0001f600\u200d") == "é – 人 \U0001f600\u200d"
    assert printable("a\nb\t") == r"a\nb\t"
    assert printable("a\nb\t\r", lines=True) == "a\nb\t\\r"
    assert printable(HOSTILE) == r"a\x1b]0;owned\x07\x9b31m\u202egpj.\x7f\x08"


@pytest.mark.parametrize("terminal", [False, True])
def test_the_console_writes_no_control_characters_of_others(terminal: bool) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    stream = Stream()
    console = Console(2, stream, {"TERM": "xterm"})
    console.log(HOSTILE, "warning")
    console.status(f"{console.paint('ok', 'live')} {HOSTILE}")
    with log_to(console):
        logging.getLogger("rtface").warning("the stage failed: %s", f"one\ntwo {HOSTILE}")
    text = stream.getvalue()
    for code in ("\x1b[32m", "\x1b[33m", "\x1b[0m", "\r", "\n"):
        text = text.replace(code, "")
    assert printable(text) == text
    assert ("\x1b[32mlive\x1b[0m" in stream.getvalue()) == terminal
    assert r"one\ntwo a\x1b]0;owned" in stream.getvalue()


def test_what_is_written_to_stdout_is_clean_too(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([["name"], [f"{HOSTILE}\n"]])
    print_text(f"{HOSTILE} {URLS[0]}", "second")
    print_json({"url": URLS[0], "list": [URLS[1], 3]})
    out = capsys.readouterr().out
    assert printable(out, lines=True) == out
    assert SECRET not in out
    assert len(out.splitlines()) == 5


def test_a_name_begins_no_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    Console(0, stream, {}).log("a\nrtface: film.mp4: input: same")
    print_text("a\n  C2PA: credentials signed by Somebody")
    assert stream.getvalue().count("\n") == capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    "line", [("run", "", "out.mp4"), ("analyze", ""), ("inspect", "film.mp4", ""), ("queue", "add", "", "out.mp4")]
)
def test_an_empty_name_is_not_the_current_folder(line: tuple[str, ...]) -> None:
    assert "the name is empty" in said(*line)
