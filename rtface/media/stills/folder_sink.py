"""Writes films to folders of PNG, TIFF, DPX or EXR stills."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from rtface.errors import InputError, OutputError
from rtface.frame import Frame
from rtface.media.files.image_names import IMAGE_KINDS
from rtface.media.files.workfile import Target, full, work_name, write_whole
from rtface.media.marks.changed_frames import ChangedFrames
from rtface.media.read.media_info import MediaInfo
from rtface.media.stills.image_read import read_origin
from rtface.media.stills.image_write import SUFFIXES, image_bytes
from rtface.media.stills.sequence import SequenceSource
from rtface.protocols import Item
from rtface.stats import Stats
from rtface.util.files import lock, rename_new, sync_file, sync_folder
from rtface.util.timecode import Timecode


class StillEncoder:
    """Encodes each frame as an upright still at the film's depth.

    Args:
        info: description of the input.
        kind: kind of the stills: "png", "tiff", "dpx" or "exr".
        source: the folder that is read as a film; None if the input is a film.
        timecode: timecode of the first still, for DPX and EXR; None keeps the timecodes in the headers.
        tags: result of `rtface.media.marks.provenance.describe`; a still gets the tags that apply to it.

    Attributes:
        kind, source: the arguments as given.
    """

    def __init__(
        self,
        info: MediaInfo,
        kind: str,
        source: SequenceSource | None,
        *,
        timecode: Timecode | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.kind, self.source = kind, source
        self._timecode, self._tags = timecode, tags
        self._rate, self._origin = info.rate, info.start or info.video_start
        self._enlarged = info.decoded is not None

    def encode(self, frame: Frame, name: str) -> bytes | None:
        """Encodes a frame as a still. Returns None if the input's file can be copied unchanged.

        Args:
            frame: a frame of the film.
            name: name of the still, for messages.

        Raises:
            OutputError: the still cannot be encoded.
        """
        still, timecode = None, None
        if self._timecode is not None:
            frames = round((frame.pts * frame.time_base - self._origin) * self._rate)
            timecode = self._timecode.plus(frames)
        if self.source is not None and (path := self.source.path_of(frame)):
            if (
                not (frame.touched or frame.filtered or self._enlarged)
                and IMAGE_KINDS.get(path.suffix.lower()) == self.kind
                and timecode is None
            ):
                return None
            still = read_origin(path)
        return image_bytes(frame, self.kind, name, still=still, tags=self._tags, rate=self._rate, timecode=timecode)


class FolderSink:
    """Writes frames as ``000001.png``, ``000002.png`` …, upright, at the film's bit depth. If the input is a folder of
    stills, their names are kept, and files of unchanged frames are copied if the output has the same format.

    Until `finish`, the stills are in a hidden folder of this run next to the output. An interrupted run leaves them in
    ``NAME.partial``. Packets of other streams are dropped.

    Args:
        target: the checked output folder; it may exist if it is empty or may be overwritten.
        stills: encoder of the frames.
        stats: receives counters and the encoding time.
        work: working name of the folder, from `rtface.media.files.workfile.work_name`; a new one by default.
        partial: whether the stills are kept in ``NAME.partial`` if writing the folder fails.

    Attributes:
        changed: records which frames were changed.
        names: names of the stills, in order.
        work: the working folder.

    Raises:
        OutputError: the working folder cannot be created.
    """

    def __init__(
        self,
        target: Target,
        stills: StillEncoder,
        *,
        stats: Stats,
        work: Path | None = None,
        partial: bool = True,
    ) -> None:
        self._target, self._stills, self._stats, self._keeps_partial = target, stills, stats, partial
        self.work = work or work_name(target.path)
        self.names: list[str] = []
        self.changed = ChangedFrames()
        self._written_pts = set[int]()
        self._copied_unread = list[Path]()
        self._complete = False
        try:
            target.path.parent.mkdir(parents=True, exist_ok=True)
            self.work.mkdir()
            self._lock = _lock_folder(self.work)
        except OSError as error:
            raise OutputError(
                "{path}: the folder cannot be created ({why}); choose another place",
                code="folder_unmade",
                path=target.shown,
                why=full(error) or error.strerror,
            ) from error

    @property
    def kept(self) -> int:
        """The number of frames written."""
        return len(self.names)

    def write(self, item: Item) -> None:
        """Writes a frame. Raises OutputError if that fails."""
        if isinstance(item, Frame):
            with self._stats.time("encode"):
                data = self._stills.encode(item, self._target_of(item.pts).shown)
                self.put(data, item.pts)
            self.changed.add(item)

    def put(self, data: bytes | None, pts: int) -> None:
        """Writes the next still.

        Args:
            data: bytes of the still; None copies the input's file.
            pts: pts of the still's frame, in units of the input.

        Raises:
            OutputError: the still cannot be written.
            InputError: the input has no file at that time.
        """
        target = self._target_of(pts)
        if data is None and self._stills.source is not None:
            data = self._stills.source.bytes_at(pts)
        if data is None:
            raise InputError(
                "{path}: cannot be copied, because the input has no such file; in a job, its segments were "
                "changed: begin again with {--restart=True}",
                code="scan_extra",
                path=target.shown,
            )
        write_whole(target, data, sync=False)
        self.names.append(target.path.name)
        self._written_pts.add(pts)

    def _target_of(self, pts: int) -> Target:
        """Returns the target of the next still in the working folder."""
        source, suffix = self._stills.source, SUFFIXES[self._stills.kind]
        name = (source and source.name_at(pts, suffix)) or f"{len(self.names) + 1:06d}{suffix}"
        return Target(self.work / name, f"{self._target.shown.rstrip('/')}/{name}", overwrite=True)

    def complete(self) -> None:
        """Completes the working folder and flushes it to the disk. Only `finish` or `abort` may follow.

        Raises:
            OutputError: the folder cannot be written.
        """
        if self._complete:
            return
        try:
            for path in self._unreadable_images():
                self._copied_unread.append(self.work / path.name)
                shutil.copyfile(path, self._copied_unread[-1])
            for still in self._files():
                with still.open("rb+") as file:
                    sync_file(file.fileno())
            self._complete = True
        except OSError as error:
            raise self._end_after_error(error) from error

    def finish(self) -> None:
        """Gives the folder its final name.

        Raises:
            OutputError: the folder cannot be renamed; the stills stay in ``NAME.partial``.
        """
        self.complete()
        folder = self._target.path
        try:
            if folder.is_dir():
                for still in self._files():
                    target = folder / still.name
                    if self._target.overwrite:
                        still.replace(target)
                    else:
                        rename_new(still, target)
                self.work.rmdir()
            else:
                rename_new(self.work, folder)
            sync_folder(folder)
            sync_folder(folder.parent)
        except OSError as error:
            raise self._end_after_error(error) from error
        self._unlock()

    def abort(self, *, keep_partial: bool) -> str | None:
        """Keeps the stills in ``NAME.partial`` or removes them. Returns the name of the kept folder."""
        try:
            if keep_partial and self.names:
                return self._keep_partial()
            for still in self._files():
                still.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the folder may contain other files
                self.work.rmdir()
            return None
        finally:
            self._unlock()

    def _end_after_error(self, error: OSError) -> OutputError:
        note = f"; the stills are in {self._keep_partial()}" if self._keeps_partial else ""
        self._unlock()
        return OutputError(
            "{path}: cannot be written ({why}){rest}",
            code="still_unwritten",
            path=self._target.shown,
            why=full(error) or error.strerror,
            rest=note,
        )

    def _keep_partial(self) -> str:
        try:
            return str(self._target.keep(self.work))
        except OSError:
            return str(self.work)

    def _files(self) -> list[Path]:
        """Lists the files of the working folder. The stills come first, in order, then copies of unreadable images."""
        return [*(self.work / name for name in self.names), *(path for path in self._copied_unread if path.exists())]

    def _unreadable_images(self) -> list[Path]:
        """Lists the input's unreadable images of the output's kind."""
        files = self._stills.source.files_without(self._written_pts) if self._stills.source is not None else []
        return [path for path in files if IMAGE_KINDS.get(path.suffix.lower()) == self._stills.kind and path.is_file()]

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _lock_folder(folder: Path) -> int | None:
    """Locks a folder until the returned descriptor is closed. Returns None if folders cannot be opened."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    with contextlib.suppress(BlockingIOError):
        lock(number)
    return number
