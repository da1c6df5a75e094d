"""Renaming on NFS, where answers are lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rtface.util.files import rename_new, replace


def asked_twice(call: Callable[..., None]) -> Callable[..., None]:
    """A call whose first answer is lost, so that the client repeats it."""

    def lost(*arguments: object, **more: object) -> None:
        call(*arguments, **more)
        call(*arguments, **more)

    return lost


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("rename", [rename_new, replace])
def test_a_rename_whose_answer_is_lost_succeeds(tmp_path: Path, monkeypatch, rename, folder: bool):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir() if folder else source.write_text("mine")
    for name in ("link", "rename", "replace"):
        monkeypatch.setattr(os, name, asked_twice(getattr(os, name)))
    rename(source, target)
    assert target.exists() and not source.exists()


def test_a_name_that_another_machine_took_stays(tmp_path: Path, monkeypatch):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("mine")
    target.write_text("other")
    monkeypatch.setattr(os.path, "lexists", lambda path: False)  # the client does not know of it yet
    with pytest.raises(FileExistsError):
        rename_new(source, target)
    assert (source.read_text(), target.read_text()) == ("mine", "other")


def test_a_missing_source_is_an_error(tmp_path: Path):
    (tmp_path / "target").write_text("other")
    with pytest.raises(FileNotFoundError):
        replace(tmp_path / "source", tmp_path / "target")
