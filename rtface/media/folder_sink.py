"""A film into a folder of numbered PNG stills."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from rtface.errors import OutputError
from rtface.frame import Frame
from rtface.media.image_write import plan_image, write_image
from rtface.media.workfile import full
from rtface.protocols import Item
from rtface.stats import Stats


class FolderSink:
    """Writes every frame as ``000001.png``, ``000002.png`` …, upright, at the film's own depth.

    Until `finish` the stills lie in ``NAME.partial`` beside the folder. Packets of other streams are left out.

    Args:
        folder: to make; it may be there already when it is empty, or with `overwrite`.
        tags: what was done, see `rtface.provenance.describe`; written into stills that were corrected.
        overwrite: whether stills of the same name are replaced.
        stats: receives counters and the time that encoding takes.

    Raises:
        OutputError: the folder is not empty, or cannot be made.
    """

    def __init__(self, folder: Path, *, tags: Mapping[str, str], overwrite: bool, stats: Stats) -> None:
        if folder.is_dir() and not overwrite and any(folder.iterdir()):
            raise OutputError(f"{folder}: is a folder with something in it; choose another, or replace stills of the "
                              "same name with --overwrite")
        self._folder, self._tags, self._stats = folder, tags, stats
        self._work = folder.with_name(folder.name + ".partial")
        self._count = 0
        try:
            shutil.rmtree(self._work, ignore_errors=True)
            self._work.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"{folder}: the folder cannot be made ({error.strerror}); "
                              "choose another place") from error

    @property
    def kept(self) -> int:
        """Frames that lie in the part."""
        return self._count

    def write(self, item: Item) -> None:
        """Writes a frame; raises OutputError where it cannot."""
        if isinstance(item, Frame):
            with self._stats.time("encode"):
                plan = plan_image(self._work / f"{self._count + 1:06d}.png", overwrite=True)
                write_image(item, plan, tags=self._tags if item.corrected else None)
            self._count += 1

    def finish(self) -> None:
        """Gives the folder its name."""
        try:
            if self._folder.is_dir():
                for still in sorted(self._work.iterdir()):
                    still.replace(self._folder / still.name)
                self._work.rmdir()
            else:
                self._work.rename(self._folder)
        except OSError as error:
            raise OutputError(f"{self._folder}: cannot be written ({full(error) or error.strerror}); the stills are in "
                              f"{self._work}") from error

    def abort(self, *, keep_partial: bool) -> str | None:
        """Leaves the stills written so far in ``NAME.partial``, or nothing."""
        if keep_partial and self._count:
            return str(self._work)
        shutil.rmtree(self._work, ignore_errors=True)
        return None
