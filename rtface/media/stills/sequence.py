"""Reads a folder of stills as one film."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import cast

from av.stream import Disposition, Stream

from rtface.errors import InputError, InputMissing, Message, UsageError
from rtface.frame import Frame, Packet, Transfer
from rtface.media.files.image_names import IMAGE_KINDS, list_images, warn_left_out
from rtface.media.formats.color import is_transparent, tags_of
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.read.enlarge import Enlarger
from rtface.media.read.media_info import MediaInfo, StreamInfo
from rtface.media.read.probe import enlarged
from rtface.media.stills.dpx import DpxHeader
from rtface.media.stills.exr import ExrHeader
from rtface.media.stills.image_read import data_of, read_image, scan_header
from rtface.media.stills.image_write import upright
from rtface.media.stills.losses import DAMAGED
from rtface.protocols import Item
from rtface.redaction import shown
from rtface.stats import Stats
from rtface.util.timecode import Timecode

_MAX_NAMED = 100  # maximum number of unreadable images to report one by one


class SequenceSource:
    """Yields a folder's images as upright frames of one film.

    All frames have the size and format of the first readable image, and are in the natural order of their names. For
    unreadable images and missing numbers, the previous frame (at the start: the next one) is repeated, with a warning.

    Args:
        folder: folder of the images, which should have one size.
        fps: frames per second; None: the rate in DPX and EXR headers, or 25.
        start, end: limits of the cut in seconds.
        transfer: transfer function of the samples; None: that in DPX headers. An EXR is always linear.
        stats: receives counters and warnings.
        strict: whether to raise InputError instead of warning of missing, unreadable or differently sized images.
        hold: whether to repeat a frame for a missing image. False if stills are written, because they keep their names.
        scale: size to enlarge frames to (``--scale``); None leaves them unchanged.

    Raises:
        InputMissing, InputError: the folder does not exist, or has no readable image.
        UsageError: the cut leaves no image, `fps` is not positive, or frames cannot be enlarged to `scale`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        fps: Fraction | float | None = None,
        start: float | None = None,
        end: float | None = None,
        transfer: Transfer | None = None,
        stats: Stats | None = None,
        strict: bool = False,
        hold: bool = True,
        scale: str | None = None,
    ) -> None:
        self._enlarger = Enlarger(scale)
        self._stats, self._transfer, self._strict, self._hold = stats or Stats(), transfer, strict, hold
        paths = list_images(folder)
        warn_left_out(Path(folder), self._stats)
        self._header, header_path = _header_of(paths)
        header_rate = self._header.rate if self._header else None
        self._rate = rate = Fraction(fps or header_rate or 25).limit_denominator(1_001_000)
        if rate <= 0 or fps == 0:
            raise UsageError("{--fps:{value}}: give frames per second, such as 25", code="fps_value", value=fps)
        slots = _with_gaps(paths)
        cut = [None if at is None else ceil(Fraction(at).limit_denominator(1_000_000) * rate) for at in (start, end)]
        first, last = max(0, cut[0] or 0), len(slots) if cut[1] is None else min(len(slots), cut[1])
        if first >= last:
            raise UsageError(
                "{folder}: the cut contains none of its {count} images ({duration:.3f} s)",
                code="cut_no_images",
                folder=shown(folder),
                count=len(slots),
                duration=len(slots) / float(rate),
            )
        self._paths, self._first, self._next = slots[first:last], first, 0
        earlier = [path for path in reversed(slots[: first + 1]) if path]
        self._altered: set[int] = set()  # slots whose frame differs from the file
        self.kind = ""
        self._check_numbers(shown(folder))
        files = [path for path in self._paths if path]
        self._names_unique = len({path.stem for path in files}) == len(files)
        self._shape: tuple[int, int, str] | None = None
        self._last_readable, self._first_frame = self._first_readable([*earlier, *files])
        self._first_path = self._last_readable
        timecode = self._header.timecode_at(rate) if self._header else None
        self.info = self._describe(shown(folder), start, end, timecode and timecode.plus(-slots.index(header_path)))

    def __iter__(self) -> Iterator[Item]:
        for place, path in enumerate(self._paths[self._next :], self._next):
            frame = None if path is None else self._read(place, path)
            if frame is None and self._hold:
                self._altered.add(place)
                frame = self._frame(place, self._last_readable)
            if frame is not None:
                self._stats.count("frames_in")
                yield frame

    def _read(self, place: int, path: Path) -> Frame | None:
        """Reads the frame of a file. Warns and returns None if that fails."""
        try:
            frame = self._first_frame if place == 0 and path == self._first_path else self._frame(place, path)
        except InputError as error:
            self._stats.count("pictures_lost")
            individually = self._stats.counted()["pictures_lost"] <= _MAX_NAMED
            self._report_fault(
                f"pictures_lost:{path.name}" if individually else "pictures_lost",
                str(error) if individually else f"{path.parent}: more images cannot be read",
                f"{self._last_readable.name} is shown in its place"
                if self._hold
                else "nothing is written in its place"
                if isinstance(error, InputMissing)
                else "a folder of the same format gets an unchanged copy; other outputs leave it out",
            )
            return None
        self._last_readable = path
        return frame

    def _first_readable(self, paths: list[Path]) -> tuple[Path, Frame]:
        """Returns the first readable file and its frame."""
        faults: list[InputError] = []
        for path in paths:
            try:
                return path, self._frame(0, path)
            except InputError as error:
                if self._strict:
                    raise InputError("{what} ({--strict=True})", code="strict", what=error) from error
                faults.append(error)
        raise faults[0]

    def go_to(self, time: Fraction, stats: Stats) -> None:
        """Skips the images before a time. If the next image is unreadable, the last readable one before it is repeated.

        Args:
            time: time of the next frame, in seconds of the film.
            stats: receives counters and warnings from now on.
        """
        self._next = max(0, ceil(time * self._rate) - self._first)
        earlier = [path for path in reversed(self._paths[: self._next]) if path]
        self._last_readable, _ = self._first_readable([*earlier, self._last_readable])
        self._stats = stats

    def others(self) -> Iterator[Packet | Fraction]:
        """Returns no packets, because a folder has no other streams."""
        return iter(())

    def close(self) -> None:
        """Does nothing, because no file is open."""

    def path_of(self, frame: Frame) -> Path | None:
        """Returns a frame's file. Returns None if its samples differ from the frame's (scaled, turned or repeated)."""
        return None if frame.pts - self._first in self._altered else self._file(frame.pts)

    def _file(self, pts: int) -> Path | None:
        place = pts - self._first
        return self._paths[place] if 0 <= place < len(self._paths) else None

    def bytes_at(self, pts: int) -> bytes | None:
        """Reads the file of the frame at `pts`. Returns None if there is no file. Raises InputMissing."""
        path = self._file(pts)
        return None if path is None else data_of(path)

    def files_without(self, frames: Container[int]) -> list[Path]:
        """Returns the files whose pts is not in `frames`. These files were unreadable."""
        return [path for pts, path in enumerate(self._paths, self._first) if path and pts not in frames]

    def name_at(self, pts: int, suffix: str) -> str | None:
        """Returns the name of the output still at `pts`. Returns None if names would repeat, or there is no file."""
        path = self._file(pts)
        if path is None or not self._names_unique:
            return None
        return path.name if IMAGE_KINDS.get(path.suffix.lower()) == IMAGE_KINDS[suffix] else path.stem + suffix

    def _check_numbers(self, folder: str) -> None:
        """Reports missing numbers among the names. Raises InputError if strict."""
        has_gaps = None in self._paths
        if not (gaps := [*_gaps([path for path in self._paths if path]).values()]):
            return
        missing = sum(last - first + 1 for first, last in gaps)
        examples = ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in gaps[:3])
        self._report_fault(
            "numbers_missing",
            f"{folder}: {missing} number{'s are' if missing > 1 else ' is'} missing among "
            f"its images ({examples}{' …' if len(gaps) > 3 else ''})",
            "the images are read one after the other"
            if not has_gaps
            else "the previous frame is repeated for each; number the images without gaps to avoid that"
            if (self._hold)
            else "nothing is written for these",
        )

    def _report_fault(self, key: str, what: str, consequence: str) -> None:
        if self._strict:
            raise InputError("{what} ({--strict=True})", code="strict", what=what)
        self._stats.warn(key, f"{what}; {consequence}")

    def _frame(self, place: int, path: Path) -> Frame:
        still = read_image(path)
        if still.damaged:
            self._stats.count("frames_corrupt")
            self._report_fault("frames_corrupt", f"{path}: {DAMAGED}", "scan or copy it again")
        self.kind = self.kind or still.kind
        frame = upright(still.frame)
        image = frame.image
        if frame is not still.frame:
            self._altered.add(place)
        if self._transfer is not None and still.kind != "exr":
            frame = replace(frame, color=replace(frame.color, transfer=self._transfer))
        shape = (image.width, image.height, image.format.name)
        self._shape = self._shape or shape
        if shape != self._shape:
            self._altered.add(place)
            width, height, kind = self._shape
            self._report_fault(
                "frames_resized",
                f"{path}: is {shape[0]}×{shape[1]} {shape[2]}",
                f"converted to the first image's {width}×{height} {kind}",
            )
            same_model = pixel_format_info(kind).model == pixel_format_info(shape[2]).model
            ranges = {"src_color_range": 2, "dst_color_range": 2} if same_model else {}
            image = image.reformat(width, height, kind, interpolation="BICUBIC", threads=1, **ranges)  # pyright: ignore
            frame = replace(frame, quantisers=None)
        pts, base = self._first + place, 1 / self._rate
        image.pts, image.time_base, image.duration = pts, base, 1
        return self._enlarger(replace(frame, image=image, pts=pts, time_base=base, duration=1, new=False))

    def _describe(self, folder: str, start: float | None, end: float | None, timecode: Timecode | None) -> MediaInfo:
        image, count = self._first_frame.image, len(self._paths)
        assert self._shape is not None
        width, height, decoded = self._shape
        files = [path for path in self._paths if path]
        # Without a container there is no template stream. Sinks use only the tags of the enhanced stream.
        stream = StreamInfo(0, "video", "stills", None, Disposition.default, {}, True, cast(Stream, None))
        info = MediaInfo(
            path=folder,
            format="stills",
            duration_s=count / float(self._rate),
            width=width,
            height=height,
            display_width=width,
            display_height=height,
            rate=self._rate,
            time_base=1 / self._rate,
            pix_fmt=image.format.name,
            codec="stills",
            color=self._first_frame.color,
            display=self._first_frame.display,
            tags=tags_of(image),
            transparent=is_transparent(image),
            streams=[stream],
            expected_frames=count,
            start=None if start is None else self._first / self._rate,
            end=None,
            first=self._first / self._rate,
            origin=self._first / self._rate,
            size=sum(path.stat().st_size for path in files),
            aspect=self._first_frame.display.aspect if self._first_frame.display.aspect != 1 else None,
            timecode=timecode,
            notes=[
                Message(
                    "{folder}: {count} images as a film of {rate:g} frames per second{said}",
                    code="film_of_stills",
                    folder=folder,
                    count=len(files),
                    rate=float(self._rate),
                    said=self._transfer_note(),
                )
            ],
        )
        return enlarged(info, self._first_frame, decoded)

    def _transfer_note(self) -> str:
        if self._transfer is not None and not isinstance(self._header, ExrHeader):
            transfer_name = "video" if self._transfer == "sdr" else self._transfer
            return Message(", interpreted as {transfer} ({--transfer})", code="taken_as", transfer=transfer_name)
        if self._header is None:
            return ""
        note = (
            "; outputs other than EXR get the image that engines process" if isinstance(self._header, ExrHeader) else ""
        )
        return f", {self._header.described}{note}"


def _gaps(paths: list[Path]) -> dict[int, tuple[int, int]]:
    """Returns gaps in the numbers, by index of the next image. A gap is its first and last missing number."""
    numbers = [int(digits[-1]) for path in paths if (digits := re.findall(r"\d+", path.stem))]
    if len(numbers) != len(paths):
        return {}
    return {k: (one + 1, other - 1) for k, (one, other) in enumerate(itertools.pairwise(numbers), 1) if other > one + 1}


def _with_gaps(paths: list[Path]) -> list[Path | None]:
    """Returns the images in order, with None for each missing number. If more numbers are missing than present, they
    are times or counters of a camera rather than frame numbers, and gaps are ignored."""
    missing = {k: last - first + 1 for k, (first, last) in _gaps(paths).items()}
    if sum(missing.values()) > len(paths):
        return [*paths]
    return [each for k, path in enumerate(paths) for each in (*[None] * missing.get(k, 0), path)]


def _header_of(paths: list[Path]) -> tuple[DpxHeader | ExrHeader | None, Path]:
    """Returns the first readable DPX or EXR header, and its file. Without one, returns None and the first file."""
    for path in paths:
        if path is paths[0] or IMAGE_KINDS.get(path.suffix.lower()) in ("dpx", "exr"):
            with suppress(OSError), path.open("rb") as file:
                if header := scan_header(file.read(1 << 20)):
                    return header, path
    return None, paths[0]
