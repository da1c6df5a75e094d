"""Working files of killed runs: told from those of runs at work, removed, or kept as parts of recordings."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import time
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av

from rtface.media.files.image_names import has_still_name
from rtface.media.files.workfile import HOST, Target, is_work_of, writer_of
from rtface.media.formats.mp4 import boxes, cut_to_whole_fragments, reach_last_frame
from rtface.util.av_input import open_input
from rtface.util.files import lock

# Locks of another host may not be seen from here, and some file systems have none: such a file counts as left behind
# when nothing was written for so long.
_SILENT_S = 3600
# Of a recording more than a header may still be of use to somebody.
_HEADER_BYTES = 1 << 16


def clear_leftovers(target: Target, *, live: bool = False) -> list[str]:
    """Removes the working files of killed runs next to an output; of a recording a part that plays is kept.

    Args:
        target: the output.
        live: whether it is a recording, which nothing can make again: such a part becomes NAME.partial.EXT.

    Returns:
        One line for each that the user should know of: a part of a recording, or another run that writes this output.
    """
    return [line for path in _found(target) if (line := _looked_after(path, target, live))]


def _found(target: Target) -> list[Path]:
    stem, suffix = glob.escape(target.path.stem), glob.escape(target.path.suffix)
    try:
        return sorted(p for p in target.path.parent.glob(f".{stem}.*.partial{suffix}") if is_work_of(p, target.path))
    except OSError:
        return []


def _looked_after(path: Path, target: Target, live: bool) -> str | None:
    folder = path.is_dir()
    flags = os.O_RDONLY if folder else os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        number = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None  # a link, another user's, or gone by now
    try:
        if at_work(path, number):
            return (
                f"{target.shown}: another run (process {writer_of(path)[1]}) writes this output now; "
                "the one that ends first gets the name"
            )
        if folder:
            with contextlib.suppress(OSError):  # a folder with anything else stays
                for still in filter(has_still_name, path.iterdir()):
                    still.unlink()
                path.rmdir()
            return None
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return None
        with open(number, "rb+", closefd=False) as file:
            if live and make_playable(file, first=True):
                with contextlib.suppress(OSError):
                    path = target.keep(path)
                return f"{path}: a recording of a run that was killed; it plays"
            if live and file.seek(0, os.SEEK_END) > _HEADER_BYTES:
                return f"{path}: left by a run that was killed, and does not play; remove it when it is of no use"
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    finally:
        os.close(number)


def remove_unfinished_files(paths: Iterable[Path]) -> None:
    """Removes the working files that killed processes left, such as of stills, which the next run makes."""
    for path in paths:
        if not writer_of(path)[1]:
            continue
        with contextlib.suppress(OSError), path.open("rb+") as file:
            if not at_work(path, file.fileno()):
                path.unlink()


def at_work(path: Path, number: int) -> bool:
    """Whether the run that made a working file or folder may still write to it. Takes its lock where it does not.

    Args:
        path: the file; its name says which process of which host made it.
        number: the same file, open.
    """
    try:
        locks = lock(number)
    except BlockingIOError:
        return True
    if locks and writer_of(path)[0] == HOST:
        return False
    return time.time() - os.fstat(number).st_mtime < _SILENT_S


def make_playable(file: BinaryIO, *, first: bool = False) -> list[Fraction]:
    """Puts the end of an unfinished film right, as far as its container needs that.

    Args:
        file: open for reading and writing, without a writer at work. It is flushed, and stays open.
        first: whether to look for the first frame only.

    Returns:
        Presentation times of its frames in seconds, rising; none when the first cannot be decoded.
    """
    if next(boxes(file), (b"", 0))[0] == b"ftyp":
        cut_to_whole_fragments(file)
        reach_last_frame(file)
        file.flush()
    return _times(file, first)


def _times(file: BinaryIO, first: bool) -> list[Fraction]:
    try:
        file.seek(0)
        with open_input(file) as container:
            frame = next(container.decode(video=0), None)
            if frame is None or first:
                return [] if frame is None else [Fraction(frame.time or 0)]
        file.seek(0)
        with open_input(file) as container:
            stream = container.streams.video[0]
            base = stream.time_base or Fraction(1)
            return sorted(p.pts * base for p in container.demux(stream) if p.pts is not None)
    except (av.FFmpegError, OSError, IndexError):
        return []
