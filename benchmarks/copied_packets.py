"""How many packets `--copy` copies, of those that are not changed.

usage: copied_packets.py FILM... > TABLE.md
       copied_packets.py --run DIR FILM... > TABLE.md

Without `--run` films are read, and nothing is decoded. Two outputs are thought of for each film: one of which four
frames are changed (at 40 % of its length, the two behind it, and at 90 %), and one of which all from 40 to 60 % are.
`at most`: the unchanged frames of groups of pictures before their first changed one, which is all that can be copied
of frames that refer to each other.

With `--run` each film is enhanced into this folder with ``--copy auto``, and the output is compared with it: frames,
the largest difference in time, frames that were copied of those without a correction, whether they decode as in the
input, seeks to the frames around each join that give the right frame (in brackets: the same times in the input), bytes
of the copied and of the encoded frames against those of the input, and what `rtface verify` says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import md5
from pathlib import Path

import av
from av.container import InputContainer

import rtface
from rtface.errors import Message, RtfaceError
from rtface.media.read.mini_gops import MiniGop, mini_gops
from rtface.media.read.source import FileSource
from rtface.media.write.packet_copy import find_copy
from rtface.media.write.stream_plan import FORMATS
from rtface.trust.sidecar import read_sidecar, sidecar_path
from rtface.trust.verify import verify
from rtface.util.av_arrays import plane_rows, sample_bytes

_SUFFIXES = {"matroska": ".mkv", "mov": ".mov"}


def _other(codec: str) -> str:
    """The container for a film out of one that is only read."""
    return "mov" if codec == "dvvideo" else "matroska"


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
        found = find_copy(info, film, FORMATS.get(film.suffix.lower()) or _other(info.codec))
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


@dataclass
class Decoded:
    """What a film holds: time from its first frame and digest of each frame, and the sizes of its packets."""

    times: list[Fraction] = field(default_factory=list[Fraction])
    digests: list[str] = field(default_factory=list[str])
    sizes: list[int] = field(default_factory=list[int])
    begins: Fraction = Fraction()


def _digest(frame: av.VideoFrame) -> str:
    planes = [
        plane_rows(plane)[: plane.height, : plane.width * sample_bytes(frame, plane)].tobytes()
        for plane in frame.planes
    ]
    return md5(b"".join(planes)).hexdigest()


def decoded(film: Path) -> Decoded:
    """Decodes a film."""
    found, sizes = Decoded(), dict[int, int]()
    with av.open(str(film)) as container:
        for packet in container.demux(video=0):
            if packet.pts is not None:
                sizes[packet.pts] = sizes.get(packet.pts, 0) + packet.size
            for frame in packet.decode():
                found.times.append(frame.pts * frame.time_base)
                found.sizes.append(frame.pts)
                found.digests.append(_digest(frame))
    found.sizes = [sizes.get(pts, 0) for pts in found.sizes]
    found.begins = found.times[0]
    found.times = [time - found.begins for time in found.times]
    return found


def sought(film: Path, known: Decoded, numbers: Sequence[int]) -> int:
    """Seeks that give the frame of a whole decode."""
    right = 0
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        earlier = round(1 / stream.time_base) if container.format.name == "mpegts" else 0  # it has no index
        for number in numbers:
            at = round((known.begins + known.times[number]) / stream.time_base)
            container.seek(at - earlier, stream=stream)
            shown = next((frame for frame in _readable(container) if frame.pts >= at), None)
            right += shown is not None and _digest(shown) == known.digests[number]
    return right


def _readable(container: InputContainer) -> Iterator[av.VideoFrame]:
    """Frames as a player shows them, which leaves out what it cannot decode behind a seek."""
    for packet in container.demux(video=0):
        with suppress(av.FFmpegError):
            yield from (frame for frame in packet.decode() if frame.pts is not None)


def run_row(film: Path, folder: Path) -> str:
    """The line of a film that is enhanced."""
    with closing(FileSource(film)) as source:
        codec = source.info.codec
        said = f"{codec} in {source.info.format.split(',')[0]}"
    suffix = film.suffix.lower()
    output = folder / (film.stem + (suffix if suffix in FORMATS else _SUFFIXES[_other(codec)]))
    report = rtface.run(film, output, copy="auto", sidecar=True, overwrite=True)
    proof = verify(output, input=film)
    answer = "same" if proof.same else "; ".join(["not all", *proof.problems, *proof.gaps])
    before, after = decoded(film), decoded(output)
    ranges = read_sidecar(sidecar_path(output)).get("copied", [])
    kept = {number for first, last in ranges for number in range(first, last + 1)}
    count, most = len(after.times), max((number for _, number in ranges), default=0)
    if count != len(before.times) or most >= count:
        return f"| {film.name} | {said} | {len(before.times)}, {count} in the output | | | | | | | {answer} |"
    moved = max(abs(one - other) for one, other in zip(before.times, after.times, strict=True))
    equal = sum(before.digests[number] == after.digests[number] for number in kept)
    edges = sorted({n + k for first, last in ranges for n in (first, last + 1) for k in (-1, 0, 1)} & {*range(count)})
    seeks = f"{sought(output, after, edges)} of {len(edges)} ({sought(film, before, edges)})"
    sizes = list[str]()
    for numbers in (kept, {*range(count)} - kept):
        own, theirs = (sum(one.sizes[number] for number in numbers) for one in (after, before))
        sizes.append(f"{own / theirs:.3f}" if theirs else "")
    unchanged = count - report.frames_corrected
    cells = [f"{float(moved) * 1000:.2f}", f"{len(kept)} of {unchanged}", f"{equal}", seeks, *sizes, answer]
    return f"| {film.name} | {said} | {count} | " + " | ".join(cells) + " |"


def main(arguments: Sequence[str]) -> None:
    """Prints the table."""
    av.logging.set_level(av.logging.PANIC)
    runs = arguments[:1] == ["--run"]
    films = arguments[2:] if runs else arguments
    if runs:
        print("| film | codec | frames | moved, ms | copied of those without a correction", end=" | ")
        print("equal | seeks | copied, size | encoded, size | verify |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    else:
        print("| film | codec | frames in groups | four changed: unchanged", end=" | ")
        print("at most | copied | a scene changed: unchanged | at most | copied |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for film in sorted(map(Path, films)):
        try:
            print(run_row(film, Path(arguments[1])) if runs else row(film), flush=True)
        except (RtfaceError, OSError, av.FFmpegError) as error:
            print(f"| {film.name} | | | | | | not read: {error} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
