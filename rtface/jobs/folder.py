"""Manages the folder of a job. A crash or a power cut never leaves a half-written file.

better.mp4.rtface/
  plan.json            the plan (`rtface.jobs.plan`)
  segments/00007.json  a finished segment, and which file contains it (`rtface.jobs.segment_file`)
  segments/00007-af09e2.video, 00007-af09e2.map, 00007-af09e2.comparison
  join.json            fingerprint of each film that the join completed, by path (`rtface.jobs.join`); None for a
                       folder of stills
  numbers/00007.json   numbers and persons of a segment's faces, if options name them
                       (`rtface.jobs.face_numbers`)
  numbers/state.json   how many segments were searched, and the state from which the search continues
  lock                 locked by the process that coordinates the work
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Generator, Iterable
from io import BufferedRandom
from pathlib import Path
from typing import Any

from rtface.errors import InputError, OutputError, UsageError
from rtface.media.files.workfile import full
from rtface.util.file_lock import try_lock
from rtface.util.files import NEW, rename_new, sync_file, sync_folder
from rtface.util.foreign import read_regular

FORMAT = 6
"""Version of the folder's format; other versions are rejected."""
SUFFIX = ".rtface"
_NAMES = ("plan.json", "join.json", "lock", "segments", "numbers")
_RECORD = re.compile(r"(\d{5,9})\.json", re.ASCII)


class JobFolder:
    """Manages the files of one job. Only the user who runs it can access them.

    Args:
        path: the folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan = path / "plan.json"
        self.segments = path / "segments"
        self.numbers = path / "numbers"
        self.joining = path / "join.json"

    @property
    def planned(self) -> bool:
        """Whether the folder has a plan."""
        return os.path.isfile(self.plan)  # noqa: PTH113 - also of another user's folder

    def make(self) -> None:
        """Creates the folder and its subfolders if they are missing.

        Raises:
            OutputError: the folder cannot be created.
        """
        with self._errors("cannot be created"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for path in (self.path, self.segments, self.numbers):
                path.mkdir(exist_ok=True, mode=0o700)
            sync_folder(self.path.parent)

    def remove(self) -> None:
        """Removes the job's files, and then the folder if it is empty.

        The plan is removed first. After a crash, the next call finds it with all segments, or removes what is left.
        """
        with contextlib.suppress(OSError):
            self.plan.unlink(missing_ok=True)
            sync_folder(self.path)
        with contextlib.suppress(OSError):
            for path in [*(self.path / name for name in _NAMES), *self.path.glob(".*.part")]:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):  # an open file must not prevent the removal of other files
                        path.unlink(missing_ok=True)
            self.path.rmdir()

    def lock(self) -> BufferedRandom:
        """Locks the job for this process. Returns the open file; closing it releases the lock.

        Raises:
            UsageError: another process coordinates the job.
            OutputError: the folder cannot be written, or its file system has no locks.
        """
        path = self.path / "lock"
        with self._errors("cannot be written to"):
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
            # If the job has been removed and started again, the path now refers to another file.
            if try_lock(file) and os.path.samestat(os.fstat(file.fileno()), path.lstat()):
                return file
            file.close()
        raise UsageError(
            "{path}: another process is working on this job; wait until it ends, or stop it",
            code="job_at_work",
            path=self.path,
        )

    # -- JSON ---------------------------------------------------------------------------------------------------

    def read(self, path: Path) -> Any:
        """Reads a JSON file of the job. Returns None if the file does not exist.

        Raises:
            InputError: the file cannot be read, or is not JSON.
        """
        try:
            return json.loads(read_regular(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(
                "{path}: cannot be read ({why}); check the disk and its permissions, then the same command continues",
                code="job_unreadable",
                path=path,
                why=error.strerror,
            ) from error
        except ValueError as error:
            raise InputError(
                "{path}: cannot be used ({why}); begin again with {--restart=True}",
                code="job_unusable",
                path=path,
                why=error,
            ) from error

    def write(self, path: Path, value: object, *, new: bool = False) -> bool:
        """Writes a JSON file in one step. The file is on the disk when this returns.

        Args:
            path: path in the folder.
            value: value that JSON can represent.
            new: whether to return False, instead of replacing the file, if it exists.

        Raises:
            OutputError: the file cannot be written.
        """
        work = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
        with self._errors("cannot be written to"):
            try:
                with os.fdopen(os.open(work, NEW, 0o600), "wb") as file:
                    file.write(
                        (
                            json.dumps(value, separators=(",", ":"))
                            if path.parent != self.path
                            else json.dumps(value, indent=1)
                        ).encode()
                        + b"\n"
                    )
                    file.flush()
                    sync_file(file.fileno())
                if not new:
                    work.replace(path)
                else:
                    try:
                        rename_new(work, path)
                    except FileExistsError:
                        return False
                sync_folder(path.parent)
            finally:
                work.unlink(missing_ok=True)
        return True

    # -- segments -----------------------------------------------------------------------------------------------

    def remove_unfinished(self) -> None:
        """Removes the unfinished segments of killed workers."""
        finished = self.finished()
        with contextlib.suppress(OSError):
            for path in self.segments.iterdir():
                if path.suffix != ".json" and int(path.name.partition("-")[0]) not in finished:
                    path.unlink(missing_ok=True)

    def record(self, number: int) -> Path:
        """Returns the path of a segment's record. Only finished segments have one."""
        return self.segments / f"{number:05}.json"

    def forget(self, numbers: Iterable[int]) -> None:
        """Removes records, so that these segments are made again."""
        with self._errors("cannot be written to"):
            for number in numbers:
                self.record(number).unlink(missing_ok=True)

    def finished(self) -> set[int]:
        """Returns the numbers of the finished segments."""
        with self._errors("cannot be read"):
            return {int(match[1]) for path in self.segments.iterdir() if (match := _RECORD.fullmatch(path.name))}

    @contextlib.contextmanager
    def _errors(self, what: str) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise self.failure(error, what) from error

    def failure(self, error: OSError, what: str = "cannot be written to") -> OutputError:
        """Returns the error to raise when a file operation fails."""
        if (cause := full(error)) is not None:
            return OutputError(
                "{path}: {cause}; make room, then the same command continues",
                code="job_room",
                path=self.path,
                cause=cause,
            )
        return OutputError(
            "{path}: {what} ({why}); check the folder and its permissions, then the same command continues",
            code="job_write",
            path=self.path,
            what=what,
            why=error.strerror or error,
        )


def folder_of(output: Path) -> Path:
    """Returns the folder of an output's job."""
    return output.with_name(output.name + SUFFIX)
