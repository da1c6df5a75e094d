"""A film into a folder of numbered stills: PNG, TIFF, DPX or EXR."""

from __future__ import annotations

import contextlib
import os
import shutil
from fractions import Fraction
from pathlib import Path

from rtface.errors import InputError, Message, OutputError, RtfaceError
from rtface.frame import Frame
from rtface.media.files.image_names import IMAGE_KINDS, has_still_name
from rtface.media.files.leftovers import remove_unfinished_files
from rtface.media.files.stills_list import NAME, StillsList, UnfinishedFolder, unfinished_folders
from rtface.media.files.workfile import Target, full, work_name
from rtface.media.marks.changed_frames import ChangedFrames
from rtface.media.read.probe import MediaInfo
from rtface.media.stills.image_write import SUFFIXES, write_bytes
from rtface.media.stills.still_encoder import StillEncoder
from rtface.protocols import Item
from rtface.stats import Stats
from rtface.util.files import lock, rename_new, sync_file, sync_folder
from rtface.util.parse import format_time


class FolderSink:
    """Writes every frame as ``000001.png``, ``000002.png`` …, upright, at the film's own depth; the frames of a folder
    of stills under their own names. A frame that nothing was changed on is the input's file, byte for byte, where the
    kind is the same.

    Until `finish` the stills lie in a hidden folder of this run next to the output; an interrupted run leaves them in
    ``NAME.partial``. A run with `start` at the end of such a part of the same film continues in it, numbers included.
    Packets of other streams are left out.

    Args:
        target: the folder, checked; it may be there already when it is empty, or where it may be overwritten.
        info: the input.
        stills: encodes the frames.
        start: where the run begins (``--start``), seconds; None at the beginning.
        stats: receives counters and the time that encoding takes.
        work: working name of the folder, from `rtface.media.files.workfile.work_name`; a new one without.
        partial: whether what was done stays in ``NAME.partial`` where the folder cannot get its name.

    Attributes:
        changed: what was changed on the frames.
        names: of the stills, in order; those of a part that was gone on with first.
        notes: a line about an unfinished part of the same film, where there is one.
        work: the working folder.

    Raises:
        OutputError: the working folder cannot be made.
    """

    def __init__(
        self,
        target: Target,
        info: MediaInfo,
        stills: StillEncoder,
        *,
        start: float | None,
        stats: Stats,
        work: Path | None = None,
        partial: bool = True,
    ) -> None:
        self._target, self._stills, self._stats, self._keeps = target, stills, stats, partial
        self._rate, self._clock_start = info.rate, info.clock_start
        self.work = work or work_name(target.path)
        self.names: list[str] = []
        self.changed = ChangedFrames()
        self._written = set[int]()
        self._copies = list[Path]()
        self._before = 0
        self._complete = False
        self.notes: list[str] = []
        part = self._part(info, start)
        try:
            target.path.parent.mkdir(parents=True, exist_ok=True)
            if part is not None:
                rename_new(part.path, self.work)
                self.names += part.names
                self.changed.extend(part.count, ((number, None) for number in range(part.count)))
                self._before = part.count
                remove_unfinished_files(self.work, has_still_name)
            else:
                self.work.mkdir()
            self._lock = _locked(self.work)
            self._list = StillsList(self.work, None if part else info.path)
        except OSError as error:
            raise OutputError(
                "{path}: the folder cannot be made ({why}); choose another place",
                code="folder_unmade",
                path=target.shown,
                why=full(error) or error.strerror,
            ) from error

    def _part(self, info: MediaInfo, start: float | None) -> UnfinishedFolder | None:
        """The unfinished folder of the same film whose last still is just before `start`; None without one."""
        for part in unfinished_folders(self._target.path, info.path):
            if part.goes_on_at(start):
                self.notes.append(f"{self._target.shown}: the {part.count} stills of {part.path} are gone on with")
                return part
            self.notes.append(
                Message(
                    "{path}: holds the first {count} stills of an interrupted run; with {--start:{end}} a run "
                    "continues there",
                    code="stills_held",
                    path=part.path,
                    count=part.count,
                    end=format_time(part.end),
                )
            )
        return None

    @property
    def kept(self) -> int:
        """Frames of this run that lie in the part."""
        return len(self.names) - self._before

    def write(self, item: Item) -> None:
        """Writes a frame; raises OutputError where it cannot."""
        if isinstance(item, Frame):
            with self._stats.time("encode"):
                data = self._stills.encode(item, self._place(item.pts).shown)
                self.put(data, item.pts, item.duration, item.time_base)
            self.changed.add(item)

    def put(self, data: bytes | None, pts: int, duration: int, base: Fraction) -> None:
        """Writes the next still.

        Args:
            data: its bytes; None for those of the input's file.
            pts, duration, base: when its frame is shown, and how long, in units of `base` seconds.

        Raises:
            OutputError: it cannot be written.
            InputError: the input has no file of that time.
        """
        place, begin = self._place(pts), pts * base - self._clock_start
        try:
            if data is None and self._stills.source is not None:
                data = self._stills.source.bytes_at(pts)
            if data is None:
                raise InputError(
                    "{path}: is to be a file of the input, which has none for it; if a job says so, its segments "
                    "were changed: begin again with {--restart=True}",
                    code="scan_extra",
                    path=place.shown,
                )
            write_bytes(place, data, sync=False)
            self._list.add(place.path.name, begin, begin + (duration * base if duration else 1 / self._rate))
        except OSError as error:
            if isinstance(error, RtfaceError):
                raise
            raise OutputError(
                "{path}: cannot be written ({why})",
                code="unwritable",
                path=self._target.shown,
                why=full(error) or error.strerror,
            ) from error
        self.names.append(place.path.name)
        self._written.add(pts)

    def _place(self, pts: int) -> Target:
        """The working file of the next still."""
        source, suffix = self._stills.source, SUFFIXES[self._stills.kind]
        name = (source and source.name_at(pts, suffix)) or f"{len(self.names) + 1:06d}{suffix}"
        return Target(self.work / name, f"{self._target.shown.rstrip('/')}/{name}", overwrite=True)

    def complete(self) -> None:
        """Completes the working folder, and has it on the disk; only `finish` or `abort` may follow.

        Raises:
            OutputError: as `finish`.
        """
        if self._complete:
            return
        try:
            self._list.close()
            for path in self._unreadable():
                self._copies.append(self.work / path.name)
                shutil.copyfile(path, self._copies[-1])
            for still in self._files():
                with still.open("rb+") as file:
                    sync_file(file.fileno())
            self._complete = True
        except OSError as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """Gives the folder its name.

        Raises:
            OutputError: it cannot be given its name; the stills stay in ``NAME.partial``.
        """
        self.complete()
        folder = self._target.path
        try:
            if folder.is_dir():
                for still in self._files():
                    place = folder / still.name
                    if self._target.overwrite:
                        still.replace(place)
                    else:
                        rename_new(still, place)
                (self.work / NAME).unlink()
                self.work.rmdir()
            else:
                rename_new(self.work, folder)
                (folder / NAME).unlink()
            sync_folder(folder)
            sync_folder(folder.parent)
        except OSError as error:
            raise self._failed(error) from error
        self._unlock()

    def abort(self, *, keep_partial: bool) -> str | None:
        """Leaves the stills written so far in ``NAME.partial``, or nothing; a part that was gone on with stays."""
        with contextlib.suppress(OSError):
            self._list.close()
        try:
            if self._before or (keep_partial and self.names):
                return self._kept()
            for still in self._files():
                still.unlink(missing_ok=True)
            (self.work / NAME).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something that is not this run's stays
                self.work.rmdir()
            return None
        finally:
            self._unlock()

    def _failed(self, error: OSError) -> OutputError:
        left = f"; the stills are in {self._kept()}" if self._keeps else ""
        self._unlock()
        return OutputError(
            "{path}: cannot be written ({why}){rest}",
            code="still_unwritten",
            path=self._target.shown,
            why=full(error) or error.strerror,
            rest=left,
        )

    def _kept(self) -> str:
        try:
            return str(self._target.keep(self.work))
        except (OSError, OutputError):
            return str(self.work)

    def _files(self) -> list[Path]:
        """The stills of the working folder, in order, and copies of the images that could not be read."""
        return [*(self.work / name for name in self.names), *(path for path in self._copies if path.exists())]

    def _unreadable(self) -> list[Path]:
        """The images that could not be read, where they are of the folder's kind."""
        files = self._stills.source.files_without(self._written) if self._stills.source is not None else []
        return [path for path in files if IMAGE_KINDS.get(path.suffix.lower()) == self._stills.kind and path.is_file()]

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked(folder: Path) -> int | None:
    """Locks a folder for as long as the descriptor is open; None where folders cannot be locked."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    with contextlib.suppress(BlockingIOError):
        lock(number)
    return number
