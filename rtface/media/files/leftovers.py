"""Removes working files of killed runs. Keeps unfinished recordings."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av

from rtface.media.files.workfile import HOST, Target, host_of
from rtface.media.formats.mp4 import boxes, cut_to_whole_fragments
from rtface.media.formats.mp4_edits import reach_last_frame
from rtface.util.av_input import open_input
from rtface.util.files import lock, now_in

# Locks of another host may be invisible on this host, and some file systems have no locks. A file then counts as
# abandoned after this many seconds without a write, by the clock of the machine that stores it.
_ABANDONED_S = 3600
_HEX = 6 * "[0-9a-f]"  # hexadecimal parts of `work_name`


def clear_leftovers(target: Target, *, live: bool = False) -> list[str]:
    """Removes the working files of killed runs, except unfinished recordings.

    Args:
        target: the output, whose folder is searched.
        live: whether the output is a recording, which cannot be repeated. Unfinished ones become NAME.partial.EXT.

    Returns:
        One line for each recording that was kept.
    """
    messages, stem, suffix = list[str](), glob.escape(target.path.stem), glob.escape(target.path.suffix)
    for path in sorted(target.path.parent.glob(f".{stem}.{_HEX}-*-{_HEX}.partial{suffix}")):
        with suppress(OSError), _open_abandoned(path) as descriptor:
            if path.is_dir():
                shutil.rmtree(path)
            elif live and os.fstat(descriptor).st_size:
                with open(descriptor, "rb+", closefd=False) as file:
                    end_film(file)
                messages.append(f"{target.keep(path)}: a recording of a run that was killed")
            else:
                path.unlink()
    return messages


@contextmanager
def _open_abandoned(path: Path) -> Generator[int]:
    """Opens and locks an abandoned file or folder. Raises OSError if it may be in use."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))
    try:
        locked_here = lock(descriptor) and host_of(path) == HOST
        if not locked_here and now_in(path.parent) - os.fstat(descriptor).st_mtime < _ABANDONED_S:
            raise BlockingIOError
        yield descriptor
    finally:
        os.close(descriptor)


def remove_unfinished_files(paths: Iterable[Path]) -> None:
    """Removes abandoned working files that the next run will write again."""
    for path in paths:
        if host_of(path):
            with suppress(OSError), _open_abandoned(path):
                path.unlink()


def end_film(file: BinaryIO) -> None:
    """Repairs the end of an unfinished MP4 or MOV. No run may be writing to the file."""
    if next(boxes(file), (b"", 0))[0] == b"ftyp":
        cut_to_whole_fragments(file)
        reach_last_frame(file)
        file.flush()


def frame_times(file: BinaryIO) -> list[Fraction]:
    """Returns the sorted presentation times of a film's frames, in seconds. Unreadable films have none."""
    file.seek(0)
    try:
        with open_input(file) as container:
            stream = container.streams.video[0]
            base = stream.time_base or Fraction(1)
            return sorted(p.pts * base for p in container.demux(stream) if p.pts is not None)
    except (av.FFmpegError, OSError, IndexError):
        return []
