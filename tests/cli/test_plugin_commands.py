"""A command can be a plugin: found by its entry point, imported when it is called."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rtface.cli.app import app

SOURCE = """
import typer

from rtface.cli.command import command
from rtface.errors import InputError

@command()
def greet(name: str) -> None:
    \"\"\"Greet somebody.\"\"\"
    if not name.isalpha():
        raise InputError(f"{name}: no name")
    print("hello", name)

@command()
def stumble() -> None:
    None.upper()

class Wall:
    def __init__(self, address: str) -> None: ...

crowd = typer.Typer(help="Greet a whole crowd of people, one after the other, each of them by the first name.")
crowd.command(hidden=True)(greet)
crowd.command("whisper", help="Greet softly.")(greet)

silent = typer.Typer()
silent.command(hidden=True)(greet)

@silent.callback()
def said_elsewhere() -> None:
    \"\"\"Greet without a word.\"\"\"

"""
POINTS = """[rtface.commands]
greet = greeting.commands:greet
crowd = greeting.commands:crowd
silent = greeting.commands:silent
queue.greet = greeting.commands:greet
queue.show = greeting.commands:greet
run = greeting.commands:greet
stumble = greeting.commands:stumble
broken = broken_greeting:greet
[rtface.sinks]
wall = greeting.commands:Wall
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with commands outside of and in a group, one of rtface's name, and one that cannot be imported."""
    package, info = tmp_path / "greeting", tmp_path / "greeting-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").touch()
    (package / "commands.py").write_text(SOURCE)
    (tmp_path / "broken_greeting.py").write_text('raise SystemExit("no licence")')
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\nSummary: Greetings.\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("greeting", "greeting.commands"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_plugins_command_is_listed_and_called() -> None:
    runner = CliRunner()
    for words in (["--help"], ["queue", "--help"], ["run", "--help"]):
        said = runner.invoke(app, words)
        assert said.exit_code == 0 and ("Greet somebody." in said.stdout) == (words[0] != "run")
    for words in (["greet", "Ada"], ["queue", "greet", "Ada"], ["queue", "show", "Ada"]):  # "show" is a removed option
        said = runner.invoke(app, words)
        assert (said.exit_code, said.stdout) == (0, "hello Ada\n")
    said = runner.invoke(app, ["greet", "1"])
    assert (said.exit_code, said.stderr) == (1, "rtface: error: 1: no name\n")
    assert "Usage: rtface greet [OPTIONS]" in runner.invoke(app, ["greet", "--help"]).stdout


def test_help_has_a_whole_sentence_of_each_command() -> None:
    for words, sentence in ((["--help"], "each of them by the first name."), (["queue", "--help"], "'rtface run'.")):
        said = CliRunner().invoke(app, words).stdout
        assert sentence in " ".join(said.split()) and "..." not in said.partition("Commands:")[2]


def test_help_leaves_hidden_commands_out() -> None:
    said = CliRunner().invoke(app, ["crowd", "--help"]).stdout
    assert "whisper" in said and "Greet somebody." not in said
    assert "Commands" not in CliRunner().invoke(app, ["silent", "--help"]).stdout


def test_a_command_of_a_group_is_none_outside_of_it() -> None:
    said = CliRunner().invoke(app, ["engines.add"])
    assert said.exit_code == 2 and "install it" not in said.stderr


def test_a_broken_plugin_costs_its_command_only() -> None:
    runner = CliRunner()
    said = runner.invoke(app, ["--help"])
    assert said.exit_code == 0 and "cannot be loaded" in said.stdout
    said = runner.invoke(app, ["broken"])
    assert said.exit_code == 1 and "broken of greeting cannot be loaded from broken_greeting:greet" in said.stderr
    assert "no licence" in said.stderr and runner.invoke(app, ["queue", "--help"]).exit_code == 0


@pytest.mark.parametrize("words", [["stumble"], ["run", "camera:0", "wall:hall"]])
def test_a_plugins_mistake_ends_the_command(words: list[str]) -> None:
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 1 and "this is a fault of rtface or a plugin (" in said.stderr


def test_a_command_that_is_not_there_names_the_meant_one() -> None:
    ended = CliRunner().invoke(app, ["analyse", "film.mp4"])
    assert (ended.exit_code, "Did you mean 'analyze'?" in ended.output) == (2, True)
