"""Nothing tells anybody to install rtface or its plugins by name from a package index, where the names are nobody's."""

import ast
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from rtface.util import install

ROOT = Path(__file__).resolve().parents[2]
# One that stands after `pip install`, its options, and other requirements: rtface, 'rtface[rtx]', rtface-overlays==1 …
BY_NAME = re.compile(
    r"""pip3?\s+(?:install|download)\b[^\n#]*?[\s'"`]"""
    r"""rtface(?:-[a-z]+)?(?:\[[^\]]*\])?(?![\w./*-]|'s)"""
)
NAMED_EXTRA = re.compile(r"(?<![\w/.-])rtface(?:-[a-z]+)?\[\w+\]")
PROJECTS = sorted(
    [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("engines/**/pyproject.toml")]
)


def texts():
    """What people read: every document, and every text constant of the source with the f-strings' parts joined."""
    scripts = [p for p in (ROOT / "Makefile", ROOT / "docker" / "Dockerfile", ROOT / ".ci" / "run") if p.exists()]
    for path in (
        *scripts,
        *ROOT.glob("*.md"),
        *(
            p
            for d in ("docs", "plugins", "engines", "docker", "benchmarks")
            for p in (ROOT / d).rglob("*")
            if p.suffix in (".md", ".yaml", ".toml")
        ),
    ):
        yield path, path.read_text(encoding="utf-8")
    for path in (
        p
        for d in ("rtface", "plugins", "engines", "benchmarks")
        for p in (ROOT / d).rglob("*.py")
        if "tests" not in p.parts
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield path, "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path, node.value


def test_no_text_installs_rtface_by_name():
    found = [
        (str(path.relative_to(ROOT)), match[0])
        for path, text in texts()
        for match in (*BY_NAME.finditer(text), *NAMED_EXTRA.finditer(text))
        if path.name != "pyproject.toml"
    ]  # an extra there may take in another of the same project
    assert not found


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_no_distribution_requires_rtface_by_name(path):
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    named = [line for line in project["dependencies"] if line.startswith("rtface")]
    extras = [
        line
        for lines in project.get("optional-dependencies", {}).values()
        for line in lines
        if line.startswith("rtface")
    ]
    assert not named
    # The project's own extras are taken from the file that is being installed.
    assert all(re.match(rf"{project['name']}\[", line) for line in extras)


def test_a_clone_repairs_itself():
    damaged = ROOT / "engines" / "shipped" / "rtface-m" / "model.onnx"
    assert install.extra_line("rtx") == f"python -m pip install -e {shlex.quote(f'{ROOT}[rtx]')}"
    assert install.plugin_line("rtface-overlays") == f"python -m pip install {ROOT}/plugins/rtface-overlays"
    both = f"{ROOT}/engines {ROOT}/engines/rtface-learn"
    assert install.plugin_line("rtface-learn") == f"python -m pip install {both}"
    if (ROOT / ".git").exists():
        assert install.reinstall_line(damaged) == f"git -C {ROOT} checkout -- engines/shipped/rtface-m/model.onnx"


def test_without_a_clone_the_wheel_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(install, "__file__", str(tmp_path / "site-packages" / "rtface" / "util" / "install.py"))
    lines = [install.extra_line("rtx"), install.plugin_line("rtface-overlays"), install.reinstall_line()]
    assert not any(BY_NAME.search(line) for line in lines)
    assert f"{install.WHEEL}[rtx]" in lines[0] and "in a clone of rtface's repository" in lines[1]


@pytest.mark.parametrize(
    "name", ["rtface_overlays", "rtface_synthetic", "rtface_engines", "rtface_farm", "rtface_learn", "rtface_studio"]
)
def test_a_plugin_without_rtface_says_what_to_install(monkeypatch, name):
    (path,) = (path for top in ("plugins", "engines") for path in ROOT.glob(f"{top}/**/{name}/__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(ImportError, match="needs rtface, which is not installed: install its wheel or its clone"):
        exec(compile(path.read_text(encoding="utf-8"), path, "exec"), {})
