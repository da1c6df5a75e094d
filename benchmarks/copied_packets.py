"""How many packets `--copy` copies, of those that are not changed: films are read, nothing is decoded.

usage: copied_packets.py FILM... > TABLE.md

Two outputs are thought of for each film: one of which four frames are changed (at 40 % of its length, the two behind
it, and at 90 %), and one of which all from 40 to 60 % are. `at most`: the unchanged frames of groups of pictures before
their first changed one, which is all that can be copied of frames that refer to each other.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import av

from rtface.errors import Message, RtfaceError
from rtface.media.read.mini_gops import MiniGop, mini_gops
from rtface.media.read.source import FileSource
from rtface.media.write.packet_copy import find_copy
from rtface.media.write.stream_plan import FORMATS

_OTHER = {"avi": "matroska", "dv": "mov"}


def copied(gops: Sequence[MiniGop], changed: range | set[int]) -> tuple[int, int]:
    """Packets that are copied, and how many could be at most: those before the first changed frame of each group."""
    count = most = number = 0
    copies = whole = False
    for gop in gops:
        frames = range(number, number + len(gop.shown))
        number += len(frames)
        if gop.begins or gop.opens:
            whole = True
        if gop.begins:
            copies = True
        touched = [frame in changed for frame in frames]
        most += sum(whole and not any(touched[: k + 1]) for k in range(len(touched)))
        whole = whole and not any(touched)
        copies = copies and gop.sound
        if copies and not any(touched):
            count += len(frames)
        elif gop.opens and gop.sound and not touched[-1]:
            count, copies = count + 1, True
        else:
            copies = False
    return count, most


def row(film: Path) -> str:
    """The line of a film."""
    with closing(FileSource(film)) as source:
        info = source.info
        kind = info.format.split(",")[0]
        found = find_copy(info, film, FORMATS.get(film.suffix.lower()) or _OTHER.get(kind, "matroska"))
    if isinstance(found, Message):
        return f"| {film.name} | {info.codec} in {kind} | | | | | not copied: {found} |"
    gops = list(mini_gops(film))
    frames = sum(len(gop.shown) for gop in gops)
    groups = sum(gop.begins or gop.opens for gop in gops)
    four = {frames * 4 // 10 + k for k in range(3)} | {frames * 9 // 10}
    scene = range(frames * 4 // 10, frames * 6 // 10)
    cells = list[str]()
    for changed in (four, scene):
        count, most = copied(gops, changed)
        cells.append(f"{frames - len(changed)} | {most} | {count}")
    return f"| {film.name} | {info.codec} in {kind} | {frames} in {groups} | " + " | ".join(cells) + " |"


def main(films: Sequence[str]) -> None:
    """Prints the table."""
    av.logging.set_level(av.logging.PANIC)
    print("| film | codec | frames in groups | four changed: unchanged", end=" | ")
    print("at most | copied | a scene changed: unchanged | at most | copied |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for film in sorted(map(Path, films)):
        try:
            print(row(film), flush=True)
        except (RtfaceError, OSError, av.FFmpegError) as error:
            print(f"| {film.name} | | | | | | not read: {error} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
