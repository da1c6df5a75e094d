"""Renaming and reading on NFS: answers that are lost, and files that another machine replaces."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rtface.util import files
from rtface.util.files import read_shared, rename_new, replace


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


@pytest.mark.parametrize(
    "faults", [[OSError(errno.ESTALE, "stale")] * 3, [FileNotFoundError(errno.ENOENT, "not known yet")]]
)
def test_a_file_that_is_replaced_is_read_again(tmp_path: Path, monkeypatch, faults: list[OSError]):
    path, left = tmp_path / "state.json", list(faults)
    path.write_text("new")
    read = Path.read_bytes

    def read_bytes(asked: Path, **_: object) -> bytes:
        if left:
            raise left.pop()
        return read(asked)

    monkeypatch.setattr(files, "read_regular", read_bytes)
    assert read_shared(path) == b"new"


def test_other_faults_of_a_read_are_told_at_once(tmp_path: Path, monkeypatch):
    calls: list[Path] = []

    def read_bytes(asked: Path, **_: object) -> bytes:
        calls.append(asked)
        raise OSError(errno.EIO, "bad disk")

    monkeypatch.setattr(files, "read_regular", read_bytes)
    with pytest.raises(OSError, match="bad disk"):
        files.read_shared(tmp_path / "state.json")
    assert len(calls) == 1
