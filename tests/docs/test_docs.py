"""The pages say what the code does: options, report keys, scores, links."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest
from typer.main import get_command

from rtface.analysis.measure import SCORES
from rtface.analysis.track_report import TrackReport
from rtface.cli.app import app
from rtface.config.options import Options
from rtface.errors import UsageError
from rtface.report import Report
from tests.docs import option_tables
from tests.entry_points import write_entry_points

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def options_of(command):
    command = get_command(app).commands[command]
    commands = [command, *getattr(command, "commands", {}).values()]
    return {
        name
        for command in commands
        for parameter in command.make_context(None, [], resilient_parsing=True).command.params
        if not getattr(parameter, "hidden", False)
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--")
    }


def test_every_option_is_on_the_page_and_the_other_way_round(tmp_path, monkeypatch):
    for distribution in ("rtface-engines", "rtface-learn", "rtface-studio"):
        for path in write_entry_points(tmp_path, distribution):
            monkeypatch.syspath_prepend(path)
    text = page("docs/cli.md")
    every = set().union(*(options_of(command) for command in get_command(app).commands))
    written = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", text))
    for option in options_of("run") - {"--verbose", "--quiet"}:
        assert option in written or option.startswith("--no-"), option
    assert written <= every | {"--version", "--help", "--install-completion"}


def test_what_is_generated_from_the_options_is_up_to_date():
    for path, text in option_tables.files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python -m tests.docs.option_tables"


def test_every_key_of_the_report_is_explained():
    keys = set(re.findall(r"`([a-z_0-9]+)`", page("docs/report.md")))
    assert {field.name for kind in (Report, TrackReport) for field in fields(kind)} | set(SCORES) <= keys


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            page = path.parent / target if target else path
            assert page.exists(), target
            titles = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.M) if anchor else []
            anchors = [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]
            assert not anchor or anchor in anchors, anchor


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_python_on_the_pages_is_python_and_its_options_exist(path):
    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "rtface.run":
                try:
                    Options.of(
                        {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg not in ("progress", "cancel")}
                    )
                except UsageError as error:
                    pytest.fail(str(error))


def test_environment_variables_on_the_pages_exist():
    known = {f"RTFACE_{field.name.upper()}" for field in fields(Options)}
    known |= {
        "RTFACE_CACHE",
        "RTFACE_CONFIG",
        "RTFACE_CONFIG_DIR",
        "RTFACE_DATA",
        "RTFACE_TORCH_PYTHON",
        "RTFACE_CONTROL_KEY",
        "RTFACE_TEST_NPM",
    }
    tests = [
        *(ROOT / "tests").rglob("*.py"),
        *(path for top in ("plugins", "engines") for path in (ROOT / top).rglob("tests/*.py")),
    ]
    sources = "".join(path.read_text(encoding="utf-8") for path in tests)
    for path in PAGES:
        for name in set(re.findall(r"RTFACE_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8"))):
            short = re.sub(r"^RTFACE_(TEST|SOAK)_", "", name)  # these are put together where they are read
            assert name in known or f'"{name}"' in sources or f'"{short}"' in sources, f"{path.name}: {name}"


def test_each_test_that_is_listed_as_slow_is_there():
    for name in (ROOT / "tests/slow.txt").read_text().split():
        file, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), name
