"""Checks an output against its sidecar, and against the input that it was made of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from rtface.errors import InputError, InputMissing, Interrupted, RtfaceError
from rtface.frame import Box, Frame
from rtface.media.file_hashes import sha256_of, share_of_bytes
from rtface.media.framemd5 import PacketHashes, frame_hashes, hash_packets
from rtface.media.image_read import list_images, read_image
from rtface.media.source import FileSource
from rtface.pipeline.checksums import Doing
from rtface.pipeline.sidecar import tags_of
from rtface.util.av_arrays import plane_rows, sample_bytes
from rtface.util.parse import format_time

# A frame that nothing was changed on is no copy of the input's where it is this far below the middle of such frames.
_OUTLIER_DB, _SURELY_DB = 12.0, 40.0
_SAME_S = 0.002
# Tags that say when and by what a file was written, and how long it is; not what a person or rtface says of it.
_OF_THE_MUXER = ("encoder", "duration", "_statistics_", "creation_time", "handler_name", "vendor_id", "major_brand",
                 "minor_version", "compatible_brands")

Stop = Callable[[], bool]


@dataclass(slots=True)
class Checked:
    """What was found.

    Attributes:
        problems: one line for everything that is not as it should be.
        proofs: one line for everything that was shown.
        notes: one line for everything that cannot be shown, and why.
    """

    problems: list[str] = field(default_factory=list[str])
    proofs: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


# -- the sidecar ------------------------------------------------------------------------------------------------------


def check_sidecar(output: Path, values: dict[str, Any], *, doing: Doing | None = None, stop: Stop | None = None,
                  ) -> Checked:
    """Whether an output is the one that its sidecar describes, and else what differs: tags, streams, frames.

    Args:
        output: film, still or folder of stills.
        values: of `rtface.pipeline.sidecar.read_sidecar`.
        doing: receives progress.
        stop: ends the work with `Interrupted` once it is true.
    """
    found, said = Checked(), values["output"]
    if "files" in said:
        _check_files(found, output, said["files"], doing, stop)
        return found
    if output.is_dir():
        found.problems.append(f"is a folder, and the sidecar is that of the file {said['name']}")
        return found
    tick = share_of_bytes(output.stat().st_size, doing)
    if sha256_of(output, tick=tick, stop=stop) == said.get("sha256"):
        found.proofs.append(f"all {said['bytes']} bytes are as the run left them (SHA-256)")
        return found
    found.problems.append("its bytes are not those that the sidecar names (SHA-256)")
    if "streams" not in values:
        return found
    try:
        _check_tags(found, output, values["tags"])
        alike = _check_streams(found, output, values, doing, stop)
    except Interrupted:
        raise
    except RtfaceError as error:
        found.problems.append(f"it cannot be read to its end ({error})")
        return found
    if not alike:
        found.problems.append(f"nothing in it is as in the sidecar, which is that of another file ({said['name']})")
    return found


def _check_files(found: Checked, folder: Path, files: list[dict[str, str]], doing: Doing | None,
                 stop: Stop | None) -> None:
    same = 0
    there = [folder / file["name"] for file in files if (folder / file["name"]).is_file()]
    tick = share_of_bytes(sum(path.stat().st_size for path in there), doing)
    for file in files:
        try:
            if sha256_of(folder / file["name"], tick=tick, stop=stop) == file["sha256"]:
                same += 1
            else:
                found.problems.append(f"{file['name']}: its bytes are not those that the sidecar names (SHA-256)")
        except InputMissing:
            found.problems.append(f"{file['name']}: is missing")
    if same == len(files):
        found.proofs.append(f"all {same} files are as the run left them (SHA-256)")
    names = {file["name"] for file in files}
    found.notes += [f"{path.name}: the sidecar does not name it" for path in list_images(folder)
                    if path.name not in names]


def _check_tags(found: Checked, film: Path, said: dict[str, str]) -> None:
    """Notes the tags that differ."""
    _, now = tags_of(film)
    was, now = ({key.lower(): text for key, text in tags.items()
                 if not any(name in key.lower() for name in _OF_THE_MUXER)} for tags in (said, now))
    for key in sorted(was.keys() | now.keys()):
        if was.get(key) != now.get(key):
            found.problems.append(f"the tag {key} is {now.get(key, 'missing')!r}, and was "
                                  f"{was.get(key, 'not there')!r}")


def _check_streams(found: Checked, film: Path, values: dict[str, Any], doing: Doing | None, stop: Stop | None) -> bool:
    """Notes the streams and frames that differ; whether any is the same."""
    streams, said = hash_packets(film, stop=stop), values["streams"]
    alike = False
    for number, (was, now) in enumerate(zip_longest(said, streams)):
        if was is None:
            found.problems.append(f"stream {number} ({now.kind if now else ''}) was added")
        elif now is None:
            found.problems.append(f"stream {number} ({was['kind']}) is missing")
        elif number and was["md5"] != now.md5:
            found.problems.append(f"stream {number} ({was['kind']}): its packets are not those that the run wrote "
                                  f"({len(now.rows)} of {now.codec}, and {was['packets']} of {was['codec']} then)")
        else:
            alike = alike or was["md5"] == now.md5
    if not streams:
        return alike
    frames = values["frames"]
    if frames["of"] == "frames":
        base, rows = frame_hashes(film, tick=(lambda done: doing("frames", done)) if doing else None, stop=stop)
    else:
        base, rows = streams[0].base, sorted(streams[0].rows)
    before = len(found.problems)
    _check_rows(found, frames["rows"], Fraction(frames["time_base"]), rows, base)
    if len(found.problems) == before:
        found.proofs.append(f"all {len(rows)} {frames['of']} of its picture are as the run wrote them (MD5)")
    return alike or bool({md5 for _, md5 in rows} & {md5 for _, md5 in frames["rows"]})


def _check_rows(found: Checked, was: Sequence[tuple[int, str]], was_base: Fraction, now: Sequence[tuple[int, str]],
                now_base: Fraction) -> None:
    old, new = [md5 for _, md5 in was], [md5 for _, md5 in now]
    first = next((k for k, (a, b) in enumerate(zip_longest(old, new)) if a != b), None)
    if first is None:
        start = (was[0][0] * was_base, now[0][0] * now_base) if was else (Fraction(0), Fraction(0))
        for number, (a, b) in enumerate(zip(was, now, strict=True)):
            if abs((a[0] * was_base - start[0]) - (b[0] * now_base - start[1])) > _SAME_S:
                found.problems.append(f"frame {number} has another time than the run gave it")
                return
        return
    place = was[min(first, len(was) - 1)][0] * was_base if was else Fraction(0)
    named = f"frame {first} ({format_time(float(place))})"
    if new == old[:first] + old[first + 1:]:
        found.problems.append(f"{named} is missing")
    elif old == new[:first] + new[first + 1:]:
        found.problems.append(f"{named} was put in" + (", a copy of another" if new[first] in old else ""))
    elif Counter(old) == Counter(new):
        found.problems.append(f"frames were put in another order, from {named} on")
    else:
        count = sum(a != b for a, b in zip_longest(old, new))
        found.problems.append(f"{named} differs" + (f", the first of {count}" if count > 1 else "") + (
            f"; there are {len(new)} frames, and were {len(old)}" if len(old) != len(new) else ""))


# -- the input --------------------------------------------------------------------------------------------------------


def check_input(output: Path, input: Path, values: dict[str, Any] | None, *, doing: Doing | None = None,
                stop: Stop | None = None) -> Checked:
    """Whether everything outside the corrected faces is the input's.

    Of a lossless output every sample is compared. Of a lossy one the difference to the input is measured on frames
    without a correction, and outside of corrections on the others; packets of streams that were copied are compared.

    Args:
        output, input: films, stills or folders of stills.
        values: of the output's sidecar, which says where corrections are; None where there is none.
        doing: receives progress.
        stop: ends the work with `Interrupted` once it is true.

    Raises:
        InputMissing, InputError: one of them cannot be read.
    """
    if not input.exists():
        raise InputMissing(f"{input}: there is no such file or folder; check the name")
    found = Checked()
    said = values["input"] if values else {}
    if "sha256" in said and input.is_file():
        tick = share_of_bytes(input.stat().st_size, doing)
        if sha256_of(input, tick=tick, stop=stop) == said["sha256"]:
            found.proofs.append(f"{input.name} is the file that the run read (SHA-256)")
        else:
            found.problems.append(f"{input.name} is not the file that the run read (SHA-256; that was {said['name']})")
    changed = {number: None if boxes is None else [tuple(box) for box in boxes]
               for number, boxes in (values["changed"] if values else ())}
    lossless = bool(values["output"]["lossless"]) if values else True
    compared = _Compared(found, changed, lossless=lossless, known=values is not None)
    if output.is_dir() or (values is not None and "streams" not in values):
        _compare_stills(compared, output, input, stop)
    else:
        _compare_films(compared, output, input, said, doing, stop)
    compared.end()
    return found


def _compare_stills(compared: _Compared, output: Path, input: Path, stop: Stop | None) -> None:
    if not output.is_dir():
        names = [(output, input)]
    elif not input.is_dir():
        compared.found.notes.append(f"{input.name} is a film, whose frames became RGB: samples cannot be compared")
        return
    else:
        sources = {path.stem: path for path in list_images(input)}
        names = [(path, sources[path.stem]) for path in list_images(output) if path.stem in sources]
    for made, source in names:
        if stop is not None and stop():
            raise Interrupted
        compared.frame(made.name, read_image(made).frame, read_image(source).frame)


def _compare_films(compared: _Compared, output: Path, input: Path, said: dict[str, Any], doing: Doing | None,
                   stop: Stop | None) -> None:
    made = FileSource(output)
    try:
        source = FileSource(input, start=said.get("start_s"), end=said.get("end_s"))
        try:
            length = made.info.duration_s
            first: tuple[float, float] | None = None
            for number, (new, old) in enumerate(zip_longest(_frames(made, stop), _frames(source, stop))):
                if new is None or old is None:
                    compared.found.problems.append(f"it has {'fewer' if new is None else 'more'} frames than "
                                                   f"{input.name}, from frame {number} on")
                    break
                first = first or (new.time, old.time)
                if abs((new.time - first[0]) - (old.time - first[1])) > 2 * _SAME_S:
                    compared.found.problems.append(f"frame {number} has another time than in {input.name}")
                    break
                compared.frame(number, new, old)
                if doing is not None and length:
                    doing("comparison", min(1.0, (new.time - first[0]) / length))
        finally:
            source.close()
    finally:
        made.close()
    _compare_packets(compared.found, hash_packets(output, stop=stop), hash_packets(input, stop=stop))


def _frames(source: FileSource, stop: Stop | None) -> Iterator[Frame]:
    for item in source:
        if stop is not None and stop():
            raise Interrupted
        if isinstance(item, Frame):
            yield item


def _compare_packets(found: Checked, made: list[PacketHashes], source: list[PacketHashes]) -> None:
    """Streams other than that of the picture: whether their packets are the input's."""
    for number, stream in enumerate(made[1:], 1):
        own = [md5 for _, md5 in stream.rows]
        named = f"stream {number} ({stream.kind}, {stream.codec})"
        best, name = 0, ""
        for place, other in enumerate(source[1:], 1):
            theirs = {md5 for _, md5 in other.rows}
            shared = sum(md5 in theirs for md5 in own)
            if shared > best and other.codec == stream.codec:
                best, name = shared, f"stream {place}"
        if own and best == len(own):
            found.proofs.append(f"{named}: all {len(own)} packets are those of {name} of the input")
        elif best > len(own) // 2:
            found.problems.append(f"{named}: {len(own) - best} of {len(own)} packets are not those of {name} of "
                                  "the input")
        else:
            found.notes.append(f"{named}: was transcoded, or is not the input's; its packets prove nothing")


class _Compared:
    """Compares frames with those of the input, and counts."""

    def __init__(self, found: Checked, changed: dict[Any, Any], *, lossless: bool, known: bool) -> None:
        self.found, self._changed, self._lossless, self._known = found, changed, lossless, known
        self._whole = self._outside = self._anywhere = self._other_format = 0
        self._differ: list[tuple[Any, int]] = []
        self._errors: list[tuple[Any, float]] = []

    def frame(self, name: Any, new: Frame, old: Frame) -> None:
        """Takes the next frame of the output, and that of the input."""
        boxes: list[Box] | None = self._changed.get(name, [])
        a, b = new.image, old.image
        if (a.width, a.height) != (b.width, b.height) or [c.bits for c in a.format.components] != [
                c.bits for c in b.format.components] or len(a.planes) != len(b.planes):
            self._other_format += 1
            return
        if boxes is None:
            self._anywhere += 1
            return
        count, squares, samples = 0, 0.0, 0
        for plane, (mine, theirs) in enumerate(zip(_planes(a), _planes(b), strict=True)):
            apart = mine != theirs
            if not apart.any() and (self._lossless or plane):
                continue
            outside = _outside(apart.shape, (a.width, a.height), boxes)
            count += int(np.count_nonzero(apart & outside))
            if not plane and not self._lossless:
                squares = float(np.square(mine[outside].astype(np.float64) - theirs[outside]).sum())
                samples = int(outside.sum())
        if self._lossless:
            if count:
                self._differ.append((name, count))
            elif boxes:
                self._outside += 1
            else:
                self._whole += 1
        elif samples:
            top = float((1 << a.format.components[0].bits) - 1)
            mean = squares / samples
            self._errors.append((name, math.inf if not mean else 10 * math.log10(top * top / mean)))

    def end(self) -> None:
        """Says what came out."""
        found = self.found
        if self._other_format:
            found.notes.append(f"{_frames_are(self._other_format)} of another size or sample format than the input's: "
                               "they cannot be compared sample for sample")
        if self._anywhere:
            found.notes.append(f"on {_count(self._anywhere)} something was drawn, which may be anywhere: they are not "
                               "compared")
        if not self._known:
            total = self._whole + len(self._differ)
            if total:
                found.notes.append(f"{self._whole} of {_count(total)} have every sample of the input's; where the "
                                   "others may differ only a sidecar says (--sidecar)")
            return
        if self._whole:
            found.proofs.append(f"{_count(self._whole)} without a correction: every sample is the input's")
        if self._outside:
            found.proofs.append(f"{_count(self._outside)} with corrections: every sample outside the faces is the "
                                "input's")
        for name, count in self._differ[:3]:
            found.problems.append(f"frame {name}: {count} samples outside the faces are not the input's")
        if len(self._differ) > 3:
            found.problems.append(f"{len(self._differ) - 3} more frames differ outside the faces")
        self._say_errors()

    def _say_errors(self) -> None:
        if not self._errors:
            return
        values = [error for _, error in self._errors]
        middle = median(values)
        bad = [(name, error) for name, error in self._errors
               if error < min(middle - _OUTLIER_DB, _SURELY_DB)]
        for name, error in bad[:3]:
            self.found.problems.append(f"frame {name} is not the input's: {error:.1f} dB outside the faces, where "
                                       f"{middle:.1f} dB are usual in this film")
        if not bad:
            worst = min(values)
            shown = "equal" if math.isinf(worst) else f"PSNR {middle:.1f} dB in the middle, {worst:.1f} dB at worst"
            self.found.proofs.append(f"{_count(len(values))} are the input's outside the faces within the encoder's "
                                     f"error ({shown}); the output is lossy, so more cannot be proven")


def _count(number: int) -> str:
    return "1 frame" if number == 1 else f"{number} frames"


def _frames_are(number: int) -> str:
    return "1 frame is" if number == 1 else f"{number} frames are"


def _planes(image: av.VideoFrame) -> list[NDArray[Any]]:
    kind = np.dtype("<u2") if max(c.bits for c in image.format.components) > 8 else np.dtype(np.uint8)
    return [plane_rows(plane)[:plane.height, : plane.width * sample_bytes(image, plane)].view(kind)
            for plane in image.planes]


def _outside(shape: tuple[int, ...], size: tuple[int, int], boxes: list[Box]) -> NDArray[np.bool_]:
    """Where a plane (rows, values in a row) lies outside of boxes in luma samples."""
    out = np.ones(shape, np.bool_)
    across, down = shape[1] / size[0], shape[0] / size[1]
    for x0, y0, x1, y1 in boxes:
        out[math.floor(y0 * down):math.ceil(y1 * down), math.floor(x0 * across):math.ceil(x1 * across)] = False
    return out


def check_pair(output: Path, input: Path) -> None:
    """Raises InputError where the two are the same file."""
    if output.exists() and input.exists() and output.samefile(input):
        raise InputError(f"{input}: is the output itself; name the film that it was made of")
