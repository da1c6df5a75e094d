"""Closed captions (CEA-608) of a film, from its frames or a caption track, as a Scenarist file (.scc).

For encoders that have no place for them: nothing is decoded, the bytes of the captions stay as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from rtface.errors import InputError, OutputError, UsageError
from rtface.media.files.outputs import check_target
from rtface.media.files.workfile import write_whole
from rtface.media.read.container import choose_video, open_container
from rtface.media.read.pipe import refuse_pipe
from rtface.media.read.probe import streams_of
from rtface.media.read.source import FileSource
from rtface.redaction import shown
from rtface.util.timecode import Timecode

_RATE = Fraction(30_000, 1001)  # pairs of bytes a second
# ATSC A/53 part 4: cc_data, as registered user data (H.264, H.265, AV1) or user data of MPEG-2.
_CC_DATA = re.compile(rb"(?:\xb5\x00\x31|\x00\x00\x01\xb2)GA94\x03")


@dataclass(frozen=True, slots=True)
class Captions:
    """What was written.

    Attributes:
        lines: lines of the Scenarist file.
        first, last: timecodes of the first and last of them.
    """

    lines: int
    first: str
    last: str


def write_captions(
    film: str | os.PathLike[str], output: str | os.PathLike[str], *, overwrite: bool = False
) -> Captions:
    """Writes the captions of the first field (CC1, CC2) of a film into a .scc file, with the film's timecode.

    Raises:
        UsageError: the output's name does not end in .scc.
        InputError, InputMissing: the film cannot be read, or has no such captions.
        OutputError: the file cannot be written.
    """
    if Path(output).suffix.lower() != ".scc":
        raise UsageError(
            "{path}: captions are written as a Scenarist file; name a .scc file",
            code="captions_name",
            path=os.fspath(output),
        )
    target = check_target(output, inputs=[film], overwrite=overwrite)
    refuse_pipe(film)
    source = FileSource(film)
    source.close()
    info = source.info
    start = info.timecode
    if start is None or start.rate != _RATE:
        start = Timecode.at(0, _RATE, drop=True)
    try:
        lines = list(_lines(_pairs(film), info.video_start))
    except av.FFmpegError as error:
        raise InputError(
            "{path}: could not be read to its end ({why}); the file is damaged",
            code="captions_damaged",
            path=info.path,
            why=error.strerror,
        ) from error
    if not lines:
        raise InputError(
            "{path}: has no closed captions (CEA-608); 'rtface run' keeps other subtitles",
            code="captions_none",
            path=info.path,
        )
    codes = [f"{start.plus(frame)}\t{' '.join(word.hex() for word in words)}" for frame, words in lines]
    try:
        write_whole(target, "\n\n".join(["Scenarist_SCC V1.0", *codes, ""]).encode())
    except OSError as error:
        raise OutputError(
            "{path}: cannot be written ({why})", code="unwritable", path=target.shown, why=error.strerror
        ) from error
    return Captions(len(lines), str(start.plus(lines[0][0])), str(start.plus(lines[-1][0])))


def _pairs(film: str | os.PathLike[str]) -> list[tuple[Fraction, bytes]]:
    """Pairs of bytes with their times on the film's clock, in order; of a track where there is one."""
    found: list[tuple[Fraction, bytes]] = []
    with open_container(film) as container:
        video, _ = choose_video(container, shown(film))
        track = next((one.template for one in streams_of(container, video) if one.codec == "eia_608"), None)
        for packet in container.demux([track or video]):
            stamp = packet.dts if packet.pts is None else packet.pts
            if not packet.size or stamp is None:
                continue
            data, time = bytes(packet), stamp * packet.time_base
            if track is not None:
                found += [(time + k / _RATE, pair) for k, pair in enumerate(_of_triplets(data))]
            else:
                found += [(time, pair) for pair in _of_frame(data)]
    return sorted(found, key=lambda one: one[0])


def _of_frame(data: bytes) -> Iterator[bytes]:
    for match in _CC_DATA.finditer(data):
        # Without the bytes that keep start codes out of H.264 and H.265.
        body = data[match.end() : match.end() + 160].replace(b"\0\0\3", b"\0\0")
        if len(body) > 2 and body[0] & 0x40:
            yield from _of_triplets(body[2 : 2 + 3 * (body[0] & 31)])


def _of_triplets(data: bytes) -> Iterator[bytes]:
    """The valid pairs of the first field."""
    for at in range(0, len(data) - 2, 3):
        if data[at] & 7 == 4:
            yield data[at + 1 : at + 3]


def _lines(pairs: Iterable[tuple[Fraction, bytes]], begin: Fraction) -> Iterator[tuple[int, list[bytes]]]:
    """Pairs that follow each other, with the number of their first frame at 29.97 frames a second."""
    first, words = 0, list[bytes]()
    for time, pair in pairs:
        if not any(byte & 0x7F for byte in pair):
            continue
        frame = max(0, round((time - begin) * _RATE))
        if words and frame > first + len(words) + 1:  # one later may be rounding
            yield first, words
            words = []
        first = first if words else frame
        words.append(pair)
    if words:
        yield first, words
