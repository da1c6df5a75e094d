"""A film into a folder of numbered stills: PNG, TIFF or DPX."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from rtface.errors import OutputError
from rtface.frame import Frame
from rtface.media.files.image_names import IMAGE_KINDS, has_still_name
from rtface.media.files.leftovers import remove_unfinished_files
from rtface.media.files.stills_list import NAME, StillsList, UnfinishedFolder, film_name, read_part
from rtface.media.files.workfile import Target, full, work_name
from rtface.media.formats.image_meta import ImageMetadata
from rtface.media.marks.changed_frames import ChangedFrames
from rtface.media.marks.provenance import NAMES, Marks, without_marks
from rtface.media.read.probe import MediaInfo
from rtface.media.stills.image_read import read_origin
from rtface.media.stills.image_write import SUFFIXES, ImagePlan, copy_file, write_image
from rtface.media.stills.sequence import SequenceSource
from rtface.protocols import Item
from rtface.stats import Stats
from rtface.util.files import lock, rename_new, sync_file, sync_folder
from rtface.util.parse import format_time
from rtface.util.timecode import Timecode

# When a frame ends is a guess where the frame rate varies: the next may begin so much later.
_LATER_S = 1.0


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
        start: where the run begins (``--start``), seconds; None at the beginning.
        kind: of the stills: "png", "tiff" or "dpx".
        source: the folder that is read as a film; None for a film.
        timecode: of the first still, for DPX; None leaves the header's.
        tags: what was done, see `rtface.media.marks.provenance.describe`; a still says as much of it as is true. None
            where corrections are taken back: the marks of the stills that are read are left out.
        own: of a run that takes corrections back, gives what the frame's still said before; None where that is unknown.
        stats: receives counters and the time that encoding takes.

    Attributes:
        kind: as given.
        changed: what was changed on the frames.
        names: of the stills, in order; those of a part that was gone on with first.
        notes: a line about an unfinished part of the same film, where there is one.

    Raises:
        OutputError: the working folder cannot be made.
    """

    def __init__(
        self,
        target: Target,
        info: MediaInfo,
        *,
        start: float | None,
        tags: Mapping[str, str] | None,
        stats: Stats,
        kind: str = "png",
        source: SequenceSource | None = None,
        timecode: Timecode | None = None,
        own: Callable[[], Marks | None] = lambda: None,
    ) -> None:
        self._own = own
        self._target, self._tags, self._stats = target, tags, stats
        self.kind, self._source, self._timecode = kind, source, timecode
        self._rate, self._clock_start, self._origin = info.rate, info.clock_start, info.start or info.video_start
        self._work = work_name(target.path)
        self.names: list[str] = []
        self.changed = ChangedFrames()
        self._before = 0
        self.notes: list[str] = []
        part = self._part(info, start)
        try:
            target.path.parent.mkdir(parents=True, exist_ok=True)
            if part is not None:
                rename_new(part.path, self._work)
                self.names += part.names
                self.changed.extend(part.count, ((number, None) for number in range(part.count)))
                self._before = part.count
                remove_unfinished_files(self._work, has_still_name)
            else:
                self._work.mkdir()
            self._lock = _locked(self._work)
            self._list = StillsList(self._work, None if part else info.path)
        except OSError as error:
            raise OutputError(
                f"{target.shown}: the folder cannot be made ({full(error) or error.strerror}); choose another place"
            ) from error

    def _part(self, info: MediaInfo, start: float | None) -> UnfinishedFolder | None:
        """The unfinished folder of the same film whose last still is just before `start`; None without one."""
        path = self._target.path
        pattern = f"{glob.escape(path.stem)}.partial*{glob.escape(path.suffix)}"
        for folder in sorted(path.parent.glob(pattern)) if path.parent.is_dir() else ():
            part = read_part(folder)
            if part is None or not part.count or part.film != film_name(info.path):
                continue
            if start is not None and part.begin < start <= part.end + _LATER_S:
                self.notes.append(f"{self._target.shown}: the {part.count} stills of {folder} are gone on with")
                return part
            self.notes.append(
                f"{folder}: holds the first {part.count} stills of an interrupted run; "
                f"with --start {format_time(part.end)} a run continues there"
            )
        return None

    @property
    def kept(self) -> int:
        """Frames of this run that lie in the part."""
        return len(self.names) - self._before

    def write(self, item: Item) -> None:
        """Writes a frame; raises OutputError where it cannot."""
        if not isinstance(item, Frame):
            return
        name = self._name(item)
        with self._stats.time("encode"):
            place = Target(self._work / name, f"{self._target.shown.rstrip('/')}/{name}", overwrite=True)
            self._write(item, ImagePlan(place, self.kind))
        step = item.duration * item.time_base if item.duration else 1 / self._rate
        begin = item.pts * item.time_base - self._clock_start
        try:
            self._list.add(name, begin, begin + step)
        except OSError as error:
            raise OutputError(f"{self._target.shown}: cannot be written ({full(error) or error.strerror})") from error
        self.names.append(name)
        self.changed.add(item)

    def _name(self, frame: Frame) -> str:
        if self._source is not None and (name := self._source.name_of(frame, SUFFIXES[self.kind])):
            return name
        return f"{len(self.names) + 1:06d}{SUFFIXES[self.kind]}"

    def _write(self, frame: Frame, plan: ImagePlan) -> None:
        still, timecode = None, None
        if self._timecode is not None:
            frames = round((frame.pts * frame.time_base - self._origin) * self._rate)
            timecode = self._timecode.plus(frames)
        if self._source is not None and (path := self._source.path_of(frame)):
            if not frame.touched and self._source.kind_of(frame) == plan.kind and timecode is None:
                copy_file(path, plan.target)
                return
            still = read_origin(path)
            if self._tags is None:
                still.meta = _unmarked(still.meta, self._own())
        write_image(frame, plan, still=still, tags=self._tags, sync=False, rate=self._rate, timecode=timecode)

    def finish(self) -> None:
        """Gives the folder its name.

        Raises:
            OutputError: it cannot be given its name; the stills stay in ``NAME.partial``.
        """
        folder = self._target.path
        try:
            self._list.close()
            stills = [*self._stills(), *self._unreadable()]
            for still in stills:
                with still.open("rb+") as file:
                    sync_file(file.fileno())
            if folder.is_dir():
                for still in stills:
                    if self._target.overwrite:
                        still.replace(folder / still.name)
                    else:
                        rename_new(still, folder / still.name)
                (self._work / NAME).unlink()
                self._work.rmdir()
            else:
                rename_new(self._work, folder)
                (folder / NAME).unlink()
            sync_folder(folder)
            sync_folder(folder.parent)
        except OSError as error:
            raise OutputError(
                f"{self._target.shown}: cannot be written ({full(error) or error.strerror}); "
                f"the stills are in {self._kept()}"
            ) from error
        finally:
            self._unlock()

    def abort(self, *, keep_partial: bool) -> str | None:
        """Leaves the stills written so far in ``NAME.partial``, or nothing; a part that was gone on with stays."""
        with contextlib.suppress(OSError):
            self._list.close()
        try:
            if self._before or (keep_partial and self.names):
                return self._kept()
            for still in self._stills():
                still.unlink(missing_ok=True)
            (self._work / NAME).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something that is not this run's stays
                self._work.rmdir()
            return None
        finally:
            self._unlock()

    def _kept(self) -> str:
        try:
            return str(self._target.keep(self._work))
        except (OSError, OutputError):
            return str(self._work)

    def _stills(self) -> list[Path]:
        """The stills of the working folder, in order."""
        return [self._work / name for name in self.names]

    def _unreadable(self) -> list[Path]:
        """Copies of the images that could not be read, where they are of the folder's kind."""
        files = (
            [path for path in self._source.unreadable if IMAGE_KINDS.get(path.suffix.lower()) == self.kind]
            if (self._source)
            else []
        )
        return [Path(shutil.copyfile(path, self._work / path.name)) for path in files]

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


def _unmarked(meta: ImageMetadata, own: Marks | None) -> ImageMetadata:
    """Metadata of an image without what rtface said of it, and with what it said before (`own`), where that is
    known."""
    png = [(kind, body) for kind, body in meta.png if body.split(b"\0", 1)[0].decode("latin-1") not in NAMES]
    tiff = {tag: text for tag, text in meta.tiff.items() if (tag, text) != (305, "rtface")}  # the software
    return replace(meta, xmp=without_marks({}, meta.xmp, own)[1], png=png, tiff=tiff)
