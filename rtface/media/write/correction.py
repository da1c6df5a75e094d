"""What a run added to each frame, kept without loss as a film (``--keep-correction``), and taken back again.

The film is FFV1 in Matroska, of the output's size and times. Each sample is the difference of output and input, modulo
2^bits, with half of the range as zero: so that it needs no more bits than the output, and input = output − difference
holds to the bit, whatever was added. A text stream has one record a frame: the MD5 of the input's and of the output's
frame as raw video, and some samples of the output's frame, by which a pair that does not belong together is found also
where the output is lossy.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from rtface.errors import InputError, OutputError
from rtface.frame import Frame, Packet
from rtface.media.files.workfile import Target
from rtface.media.formats.coding import Coding
from rtface.media.formats.pixel_format import nearest, pixel_format_info
from rtface.media.marks.provenance import Marks, marks_of, read_marks
from rtface.media.read.probe import MediaInfo, StreamInfo
from rtface.media.write.encoders import FAMILIES, VideoPlan, fit, set_slices
from rtface.media.write.stream_choice import StreamPlan
from rtface.media.write.stream_plan import OutputPlan
from rtface.protocols import Item
from rtface.util.av_arrays import copy_image, plane_rows, sample_bytes
from rtface.util.av_gpu import repacked
from rtface.util.text import encodable

VERSION = "1"
_VERSION, _SAMPLES, _OF, _EXACT, _INPUT = (
    "rtface_correction",
    "rtface_correction_samples",
    "rtface_correction_of",
    "rtface_correction_exact",
    "rtface_correction_input",
)
_RECORD = re.compile(rb"in=([0-9a-f]{32}) out=([0-9a-f]{32}) probe=([0-9a-f,]*)(?: marks=([0-9a-f]*))?")
_PROBES = 32  # samples of each frame's first plane
SAME_S = 0.002
"""Seconds by which times of one frame may differ: containers round them to a millisecond."""

Samples = NDArray[Any]


def working_format(pix_fmt: str) -> tuple[str, str]:
    """The formats in which differences are computed and stored for an encoder's pixel format: the same samples.

    Raises:
        OutputError: FFV1 holds nothing that takes these samples.
    """
    stored, lost = nearest(pix_fmt, [f.name for f in av.Codec("ffv1", "w").video_formats or []], alpha=True)
    if lost or pixel_format_info(pix_fmt).bits > 16:
        raise OutputError(
            "a correction of {pix_fmt} samples cannot be kept; leave {--keep-correction} out",
            code="correction_samples",
            pix_fmt=pix_fmt,
        )
    return ("rgb24" if stored == "bgr0" else stored), stored  # bgr0's fourth byte means nothing


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a frame.

    Attributes:
        input, output: MD5 of the frame as raw video in the working format, before and after the correction.
        probe: samples of the output's first plane at fixed places.
        marks: of a still, what the marks of the output took the place of; None where nothing is known of that.
    """

    input: str
    output: str
    probe: tuple[int, ...]
    marks: Marks | None = None

    def encode(self) -> bytes:
        """The text of a record."""
        marks = "" if self.marks is None else f" marks={json.dumps(self.marks).encode().hex()}"
        return f"in={self.input} out={self.output} probe={','.join(f'{v:x}' for v in self.probe)}{marks}".encode()

    @classmethod
    def decode(cls, text: bytes) -> Record | None:
        """A record from its text; None for another text."""
        match = _RECORD.fullmatch(text.strip(b"\0\r\n "))
        if match is None:
            return None
        marks = read_marks(bytes.fromhex(match[4].decode()).decode("utf-8", "replace")) if match[4] else None
        return cls(match[1].decode(), match[2].decode(), tuple(int(v, 16) for v in match[3].split(b",") if v), marks)


def _planes(image: av.VideoFrame) -> list[Samples]:
    """The samples of each plane, writable, without padding."""
    kind = np.dtype("<u2") if max(c.bits for c in image.format.components) > 8 else np.dtype(np.uint8)
    return [plane_rows(plane)[:, : plane.width * sample_bytes(image, plane)].view(kind) for plane in image.planes]


def _md5(planes: list[Samples]) -> str:
    value = hashlib.md5(usedforsecurity=False)
    for plane in planes:
        value.update(np.ascontiguousarray(plane).data)
    return value.hexdigest()


def probe_of(image: av.VideoFrame) -> tuple[int, ...]:
    """Samples of the first plane at places that depend on its size only."""
    plane = _planes(image)[0]
    height, width = plane.shape
    return tuple(
        int(plane[(2 * k + 1) * height // (2 * _PROBES), (7 * k + 3) % _PROBES * width // _PROBES])
        for k in range(_PROBES)
    )


def _bits(image: av.VideoFrame) -> int:
    return max(c.bits for c in image.format.components)


def difference(before: av.VideoFrame, after: av.VideoFrame) -> av.VideoFrame:
    """After − before + half of the range, modulo 2^bits, sample by sample; both in a working format of one size."""
    out, bits = copy_image(after), _bits(after)
    for target, one in zip(_planes(out), _planes(before), strict=True):
        np.subtract(target, one, out=target)
        target += 1 << (bits - 1)
        if bits not in (8, 16):
            target &= (1 << bits) - 1
    return out


def taken_back(after: av.VideoFrame, change: av.VideoFrame, *, exact: bool) -> av.VideoFrame:
    """What `difference` was made of: the frame before. Where the output is lossy (not `exact`), a value that leaves the
    range by the encoder's error is clipped instead of wrapped."""
    if exact:
        return difference(change, after)  # modulo 2^bits, taking the change away is the same operation
    out, bits = copy_image(after), _bits(after)
    top = (1 << bits) - 1
    for target, added in zip(_planes(out), _planes(change), strict=True):
        value = target.astype(np.int32) - added + (1 << (bits - 1))
        slack = 1 << (bits - 4)
        value[value > top + slack] -= top + 1
        value[value < -slack] += top + 1
        target[:] = np.clip(value, 0, top)
    return out


# -- writing --------------------------------------------------------------------------------------------------------


@cache
def _records_template() -> tuple[Any, Any]:
    """A text stream to copy the parameters of, and the container that keeps it alive."""
    container = av.open(io.BytesIO(b"1\n00:00:00,000 --> 00:00:01,000\n-\n"), format="srt")
    return container.streams[0], container


def correction_encoding(video: VideoPlan) -> VideoPlan:
    """How the correction of a film that is encoded as `video` is encoded; OutputError as `working_format`."""
    plan = replace(
        video,
        encoder="ffv1",
        pix_fmt=working_format(video.pix_fmt)[1],
        convert=False,
        lossless=True,
        options=dict(FAMILIES["ffv1"].options),
        tag="",
        on_gpu=False,
        warnings=[],
        threads=0,
    )
    set_slices(plan)
    return plan


def plan_correction(target: Target, video: VideoPlan, info: MediaInfo, output: str) -> OutputPlan:
    """The film of a correction: its frames, and a text stream (number 1) of the records.

    Args:
        target: its place, checked.
        video: how the frames of the output are encoded.
        info: the input.
        output: name of the output, for the record.

    Raises:
        OutputError: as `working_format`.
    """
    template, _ = _records_template()
    enhanced = StreamInfo(0, "video", "ffv1", None, Disposition.default, {}, True, template)
    records = StreamInfo(1, "subtitle", "subrip", None, Disposition(0), {"title": "records"}, False, template)
    tags = {
        _VERSION: VERSION,
        _SAMPLES: working_format(video.pix_fmt)[0],
        _OF: encodable(output),
        _EXACT: "yes" if video.lossless else "no",
        _INPUT: json.dumps(marks_of(info.metadata, info.xmp)),
    }
    described = replace(
        info,
        streams=[enhanced, records],
        chapters=[],
        metadata=tags,
        notes=[],
        hdr=None,
        coding=Coding("lossless", "FFV1"),
    )
    return OutputPlan(target, "matroska", correction_encoding(video), [StreamPlan(records, "copy")], described)


def record_packet(text: bytes, time_base: Fraction, pts: int, duration: int) -> Packet:
    """The packet of a record; its time is that of its frame, in the input's clock."""
    packet: av.Packet[Any] = av.Packet(text)
    packet.time_base, packet.pts, packet.dts, packet.duration = time_base, pts, pts, duration
    return Packet(packet, 1)


class FrameCorrections:
    """Computes what a run adds to each frame, from copies of the frames as they came.

    Args:
        video: how the output's frames are encoded.
        marks: gives what the still of a frame says of itself (`Record`); None for a film.

    Raises:
        OutputError: as `working_format`.
    """

    def __init__(self, video: VideoPlan, marks: Callable[[Frame], Marks | None] | None = None) -> None:
        self._video, self._marks = video, marks
        self._work, self._stored = working_format(video.pix_fmt)
        self._originals: deque[tuple[int, av.VideoFrame]] = deque()
        self._nothing: av.VideoFrame | None = None

    def remember(self, items: Iterator[Item]) -> Iterator[Item]:
        """Copies each frame as it comes from the source, before anything is written to it; not those of a lead-in."""
        for item in items:
            if isinstance(item, Frame) and not item.lead_in:
                self._originals.append((item.pts, copy_image(item.image)))
            yield item

    def of(self, frame: Frame) -> tuple[Frame, bytes]:
        """The correction of the next frame, in the format that is stored, and the text of its `Record`.

        Args:
            frame: as the run wrote it.

        Raises:
            OutputError: the frame did not come through `remember`.
        """
        while self._originals and self._originals[0][0] < frame.pts:
            self._originals.popleft()  # a frame that was dropped
        if not self._originals or self._originals[0][0] != frame.pts:
            raise OutputError(
                "the correction of a frame cannot be kept: the frame as it was is not known any more",
                code="correction_no_frame",
            )
        _, original = self._originals.popleft()
        before = repacked(fit(original, self._video), self._work)
        after = repacked(fit(frame.image, self._video), self._work)
        same = all(np.array_equal(a, b) for a, b in zip(_planes(before), _planes(after), strict=True))
        output = _md5(_planes(after))
        marks = self._marks(frame) if self._marks and frame.touched else None
        record = Record(output if same else _md5(_planes(before)), output, probe_of(after), marks)
        if same and self._nothing is None:
            self._nothing = self._as_stored(difference(before, after))
        change = (
            copy_image(self._nothing)
            if same and self._nothing is not None
            else self._as_stored(difference(before, after))
        )
        return replace(frame, image=change, faces=(), unfollowed=()), record.encode()

    def _as_stored(self, image: av.VideoFrame) -> av.VideoFrame:
        out = repacked(image, self._stored)
        out.colorspace, out.color_range = self._video.tags.matrix, self._video.tags.range
        return out


# -- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CorrectionTags:
    """What a correction says of itself.

    Attributes:
        samples: the working format.
        of: name of the output that it belongs to.
        exact: whether that output is lossless.
        input: what the input of that output said of itself; None where the correction does not say.
    """

    samples: str
    of: str
    exact: bool
    input: Marks | None = None

    @classmethod
    def read(cls, info: MediaInfo) -> CorrectionTags:
        """Reads the tags; InputError where the film is no correction, a damaged one, or one of a later rtface."""
        tags = {name.lower(): text for name, text in info.metadata.items()}
        if tags.get(_VERSION) is None:
            raise InputError(
                "{path}: is no correction; name the file that {--keep-correction} wrote",
                code="correction_none",
                path=info.path,
            )
        if tags[_VERSION] != VERSION or _SAMPLES not in tags:
            raise InputError(
                "{path}: is a correction of version {found}, and this rtface reads version {version}; use the "
                "rtface that wrote it",
                code="correction_version",
                path=info.path,
                found=tags[_VERSION],
                version=VERSION,
            )
        try:
            pixel_format_info(tags[_SAMPLES])
        except ValueError as error:
            raise InputError(
                "{path}: is damaged ({why}); take another copy of the correction",
                code="correction_damaged",
                path=info.path,
                why=error,
            ) from error
        return cls(tags[_SAMPLES], tags.get(_OF, ""), tags.get(_EXACT) == "yes", read_marks(tags.get(_INPUT, "")))


@dataclass(frozen=True, slots=True)
class Change:
    """The correction of one frame.

    Attributes:
        time_s: presentation time from the beginning, seconds.
        image: the difference, in the working format.
        record: what is known of the frame, None where the record is missing.
    """

    time_s: float
    image: av.VideoFrame
    record: Record | None


def changes(items: Iterator[Item], tags: CorrectionTags) -> Iterator[Change]:
    """The corrections in the order of the frames; each record comes with its frame."""
    records: deque[tuple[float, Record]] = deque()  # a record comes before its frame, or just after it
    waiting: deque[Frame] = deque()
    for item in items:
        if isinstance(item, Packet):
            record = Record.decode(bytes(item.packet))
            if record is not None and item.packet.pts is not None:
                records.append((float(item.packet.pts * item.packet.time_base), record))
        else:
            waiting.append(item)
        while waiting and (len(waiting) > 2 or (records and records[-1][0] >= waiting[0].time - SAME_S)):
            yield _change(waiting.popleft(), records, tags)
    for frame in waiting:
        yield _change(frame, records, tags)


def _change(frame: Frame, records: deque[tuple[float, Record]], tags: CorrectionTags) -> Change:
    while records and records[0][0] < frame.time - SAME_S:
        records.popleft()
    found = records.popleft()[1] if records and records[0][0] <= frame.time + SAME_S else None
    return Change(frame.time, repacked(frame.image, tags.samples), found)


def md5_of(image: av.VideoFrame) -> str:
    """MD5 of a frame as raw video."""
    return _md5(_planes(image))
