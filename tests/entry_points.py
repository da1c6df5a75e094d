"""The entry points of the other distributions of this repository, found whether or not they are installed."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"]: path.parent
    for pattern in ("plugins/*", "engines", "engines/*", "engines/published/*")
    for path in ROOT.glob(f"{pattern}/pyproject.toml")
}
"""Folders of the distributions, by name."""


def write_entry_points(site: Path, distribution: str) -> list[str]:
    """Writes what an installer would of a pyproject.toml; what has to be on Python's path."""
    project = tomllib.loads((FOLDERS[distribution] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = site / f"{distribution.replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    header = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {description}\n"
    (info / "METADATA").write_text(header.format_map(project))
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
            for group, points in project["entry-points"].items()
        )
    )
    return [str(site), str(FOLDERS[distribution])]


@contextmanager
def registered(site: Path, *distributions: str) -> Generator[None]:
    """Their entry points for this process and for those that it starts, in front of whatever is installed."""
    paths = [path for distribution in distributions for path in write_entry_points(site, distribution)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*paths, *sys.path])
        given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]  # "" is where it starts
        patch.setenv("PYTHONPATH", os.pathsep.join([*paths, *given]))
        yield
