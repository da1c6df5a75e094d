"""The folder of a job: its files, written so that a crash or a power cut never leaves half of one.

better.mp4.rtface/
  plan.json            what is done (`rtface.jobs.plan`)
  segments/00007.json  a finished segment, and which file holds it (`rtface.jobs.segment_file`)
  segments/00007-af09e2.video, 00007-af09e2.map, 00007-af09e2.comparison
  join.json            the working files of the join (`rtface.jobs.join`)
  numbers/00007.json   where options name them: numbers and persons of a segment's faces
                       (`rtface.jobs.face_numbers`)
  numbers/state.json   how many segments have them, and what finding the next continues from
  progress.json        the state of the job in figures (`rtface.jobs.status`)
  lock                 locked by the process that coordinates the work
  log.txt              one line for each event
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Generator
from io import BufferedRandom
from pathlib import Path
from typing import Any

from rtface.errors import InputError, InputMissing, OutputError, UsageError
from rtface.media.files.workfile import full
from rtface.util.file_lock import try_lock
from rtface.util.files import NEW, rename_new, replace, sync_file, sync_folder
from rtface.util.foreign import Shape, anything, open_below, open_folder, read_regular
from rtface.util.text import printable
from rtface.util.toml_dataclass import parse_json

FORMAT = 5
"""Version of the format of the folder; one of another version is refused."""
SUFFIX = ".rtface"
# Seconds in which the lock of a process that just ended, or of who looks at the job, is freed.
_PATIENCE_S = 1.0
_OWN = ("plan.json", "join.json", "progress.json", "log.txt", "lock", "segments", "numbers")
_RECORD = re.compile(r"(\d{5,9})\.json", re.ASCII)


class JobFolder:
    """The files of one job.

    Somebody else may write to it: no link in it is followed, and a plan of another user is looked at first.

    Args:
        path: the folder; it need not exist. A link is followed where this user made it.
    """

    def __init__(self, path: Path) -> None:
        if path.is_symlink() and self.is_own(path.lstat()):
            path = path.resolve()
        self.path = path
        self.plan = path / "plan.json"
        self.segments = path / "segments"
        self.numbers = path / "numbers"
        self.joining = path / "join.json"
        self.progress = path / "progress.json"

    @property
    def planned(self) -> bool:
        """Whether there is a plan in it."""
        return self.plan.is_file()

    def make(self) -> None:
        """Makes the folder with its subfolders.

        Raises:
            UsageError: something else is there.
            OutputError: it cannot be made.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(
                "{path}: is a file, and the job needs a folder of that name; name another by --job",
                code="job_is_file",
                path=self.path,
            )
        with self._errors("cannot be made"):
            if self.path.is_dir() and (strange := sorted(p.name for p in self.path.iterdir() if not _own(p.name))):
                raise UsageError(
                    "{path}: holds other things ({name}); name a new folder by --job",
                    code="job_folder_filled",
                    path=self.path,
                    name=strange[0],
                )
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(parents=True)
            sync_folder(self.path.parent)
        self.make_subfolders()

    def make_subfolders(self) -> None:
        """Makes those that are missing: a call that was killed in removing the job leaves some out.

        Raises:
            OutputError: they cannot be made.
        """
        with self._errors("cannot be made"):
            self.make_subfolder(self.segments)

    def make_subfolder(self, folder: Path) -> None:
        """Makes one of them; OSError where a link or a file has its name."""
        with open_folder(self.path, self.path) as top, contextlib.suppress(FileExistsError):
            os.mkdir(folder if top is None else folder.name, dir_fd=top)
        with open_folder(self.path, folder):
            pass

    def remove(self) -> None:
        """Removes the job's files, and the folder when nothing else is in it.

        The plan goes first: a call that finds it after a crash has all segments; else it removes the rest.
        """
        with contextlib.suppress(OSError):
            self.unlink(self.plan)
            sync_folder(self.path)
        for folder in (self.segments, self.numbers):
            with contextlib.suppress(OSError):
                for path in sorted(folder.iterdir(), key=lambda path: path.suffix != ".json"):
                    self.unlink(path)  # records before the files that they name
            # rmtree would wait at a pipe of that name.
            with contextlib.suppress(OSError), open_folder(self.path, self.path) as top, open_folder(self.path, folder):
                shutil.rmtree(folder if top is None else folder.name, ignore_errors=True, dir_fd=top)
        with contextlib.suppress(OSError):
            for path in [path for path in self.path.iterdir() if _own(path.name)]:
                with contextlib.suppress(OSError):
                    self.unlink(path)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def lock(self) -> BufferedRandom:
        """The open file whose lock says that this process coordinates the job; closing it frees the job.

        Raises:
            UsageError: another process coordinates it.
            InputMissing, OutputError: the folder is gone, or cannot be written.
        """
        until = time.monotonic() + _PATIENCE_S
        with self._errors("cannot be written to"):
            while (file := self._locked(os.O_CREAT)) is None:
                if time.monotonic() > until:
                    raise UsageError(
                        "{path}: another process is at work on this job; wait until it ends, or stop it",
                        code="job_at_work",
                        path=self.path,
                    )
                time.sleep(_PATIENCE_S / 10)
        return file

    @property
    def at_work(self) -> bool:
        """Whether a process coordinates the job now."""
        with contextlib.suppress(OSError):
            file = self._locked()
            if file is None:
                return True
            file.close()
        return False

    def _locked(self, flags: int = 0) -> BufferedRandom | None:
        """The file of the lock, locked; None where another process holds it."""
        path = self.path / "lock"
        file = os.fdopen(self.open(path, os.O_RDWR | flags), "r+b")
        try:
            taken = try_lock(file)
        except OSError:  # this file system has no locks
            taken = True
        if taken and os.path.samestat(os.fstat(file.fileno()), path.lstat()):
            return file
        file.close()  # also where the job was removed and begun again meanwhile
        return None

    def open(self, path: Path, flags: int, mode: int = 0o666) -> int:
        """Opens a file of the job; raises as `rtface.util.foreign.open_below`."""
        return open_below(self.path, path, flags, mode)

    def unlink(self, path: Path) -> None:
        """Removes a file of the job, or a link in its place; OSError where it cannot be removed."""
        with open_folder(self.path, path.parent) as folder, contextlib.suppress(FileNotFoundError):
            os.unlink(path if folder is None else path.name, dir_fd=folder)

    @staticmethod
    def is_own(status: os.stat_result) -> bool:
        """Whether a file is this user's or the administrator's."""
        return sys.platform == "win32" or status.st_uid in (os.geteuid(), 0)

    # -- JSON ---------------------------------------------------------------------------------------------------

    def read(self, path: Path, shape: Shape = anything) -> Any:
        """The value in a JSON file of the job; None where there is no such file.

        Raises:
            InputError: it cannot be read, is no JSON, or has another shape.
        """
        return self.read_from(path, shape)[0]

    def read_from(self, path: Path, shape: Shape = anything) -> tuple[Any, bool]:
        """`read`, with whether this user or the administrator wrote the file."""
        found: list[os.stat_result] = []
        try:
            data = read_regular(path, top=self.path, seen=found.append)
            return parse_json(data, shape), self.is_own(found[-1])
        except FileNotFoundError:
            return None, True
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

    def write(self, path: Path, value: object, *, new: bool = False, sync: bool = True, private: bool = False) -> bool:
        """Writes a JSON file in one step.

        Args:
            path: in the folder.
            value: what is written.
            new: leave a file of that name as it is; then the result is False.
            sync: whether the disk has it before this returns.
            private: whether only its owner may read it.

        Raises:
            OutputError: it cannot be written.
        """
        work = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
        with self._errors("cannot be written to"):
            try:
                with os.fdopen(self.open(work, NEW, 0o600 if private else 0o666), "wb") as file:
                    file.write(
                        (
                            json.dumps(value, separators=(",", ":"))
                            if path.parent != self.path
                            else json.dumps(value, indent=1)
                        ).encode()
                        + b"\n"
                    )
                    file.flush()
                    if sync:
                        sync_file(file.fileno())
                if not new:
                    replace(work, path)
                else:
                    try:
                        rename_new(work, path)
                    except FileExistsError:
                        return False
                if sync:
                    sync_folder(path.parent)
            finally:
                work.unlink(missing_ok=True)
        return True

    def log(self, line: str) -> None:
        """Adds a line to the log; one that cannot be written is no reason to end."""
        with (
            contextlib.suppress(OSError),
            os.fdopen(self.open(self.path / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as file,
        ):
            if os.fstat(file.fileno()).st_nlink > 1:  # it may be a file of another folder under a second name
                return
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(line)}\n".encode(errors="replace"))

    # -- segments -----------------------------------------------------------------------------------------------

    def record(self, number: int) -> Path:
        """The file that says that a segment is finished."""
        return self.segments / f"{number:05}.json"

    def finished(self) -> set[int]:
        """Numbers of the finished segments."""
        with self._errors("cannot be read"):
            return {int(match[1]) for path in self.segments.iterdir() if (match := _RECORD.fullmatch(path.name))}

    @contextlib.contextmanager
    def _errors(self, what: str) -> Generator[None]:
        try:
            yield
        except UsageError:
            raise
        except OSError as error:
            raise self.failure(error, what) from error

    def failure(self, error: OSError, what: str = "cannot be written to") -> OutputError | InputMissing:
        """What to raise where the system refuses a file of the job."""
        if (cause := full(error)) is not None:
            return OutputError(
                "{path}: {cause}; make room, then the same command continues where it was",
                code="job_room",
                path=self.path,
                cause=cause,
            )
        if isinstance(error, FileNotFoundError) and not self.segments.is_dir() and self.path.parent.is_dir():
            return InputMissing(
                "{path}: the folder of the job is gone; the same command begins again",
                code="job_folder_gone",
                path=self.path,
            )
        return OutputError(
            "{path}: {what} ({why}); check the place and its permissions, then the same command continues",
            code="job_write",
            path=self.path,
            what=what,
            why=error.strerror or error,
        )


def _own(name: str) -> bool:
    return name in _OWN or (name.startswith(".") and name.endswith(".part"))


def folder_of(output: Path) -> Path:
    """The folder of the job that makes an output."""
    return output.with_name(output.name + SUFFIX)
