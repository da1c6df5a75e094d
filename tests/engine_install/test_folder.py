"""The user's folder of engines: what fails, is full or is interrupted, and links."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from rtface.errors import OutputError, UsageError
from rtface_engines import folder
from rtface_engines.folder import build_folder, engines_folder, move_in, remove

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
COPYING = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/what/was/read")


def engine(place: Path, text: str = "old") -> Path:
    place.mkdir(parents=True)
    (place / "recipe.toml").write_text(text)
    return place


@pytest.mark.parametrize("error", [FULL, COPYING])
def test_a_full_disk_is_said_and_nothing_is_left(error: OSError) -> None:
    message = r"\.adding cannot be written to \(No space .*\); free some space, or move the folder with RTFACE_"
    with pytest.raises(OutputError, match=message), build_folder("a"):
        raise error
    assert list(engines_folder().iterdir()) == []


def test_without_a_home_there_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "config_dir", lambda: None)
    with pytest.raises(UsageError, match="set RTFACE_CONFIG_DIR"):
        engines_folder()


def test_other_errors_pass() -> None:
    error = PermissionError(errno.EACCES, "no", "/what/was/read")
    with pytest.raises(PermissionError) as caught, build_folder("a"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FULL])
def test_an_interrupted_replacement_leaves_the_old_engine(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    place, rename = engine(engines_folder() / "a"), Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises((KeyboardInterrupt, OutputError)), build_folder("a") as made:
        (made / "recipe.toml").write_text("new")
        move_in(made, "a")
    assert (place / "recipe.toml").read_text() == "old"
    assert [path.name for path in engines_folder().iterdir()] == ["a"]


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    elsewhere = engine(tmp_path / "elsewhere")
    engines_folder().mkdir(parents=True)
    (engines_folder() / "a").symlink_to(elsewhere)
    remove("a")
    assert list(engines_folder().iterdir()) == [] and (elsewhere / "recipe.toml").read_text() == "old"


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path) -> None:
    engines_folder().mkdir(parents=True)
    for leads in (engine(tmp_path / "elsewhere"), tmp_path / "nowhere"):
        (engines_folder() / "a").symlink_to(leads)
        assert folder.exists("a")
        with build_folder("a") as made:
            (made / "recipe.toml").write_text("new")
            move_in(made, "a")
        assert (engines_folder() / "a" / "recipe.toml").read_text() == "new"
        shutil.rmtree(engines_folder() / "a")
    assert (tmp_path / "elsewhere" / "recipe.toml").read_text() == "old"


def test_an_engine_can_be_removed_from_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    place = engine(engines_folder() / "a")

    def full(**_: object) -> str:
        raise FULL

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    assert remove("a") == place and not place.exists()
