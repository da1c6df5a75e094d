"""Writes and reads a segment's file of encoded frames, and its record.

The file starts with the encoder's header, if there is one. Files of H.264 and H.265 are therefore playable, unless they
contain frames copied from MP4, MOV or Matroska. The record (JSON) contains for each frame, in decoding order, its pts,
dts, duration, number of bytes, and 1 for a keyframe, otherwise 0.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av

from rtface.errors import InputError
from rtface.frame import Frame
from rtface.media.files.file_hashes import sha256_of
from rtface.media.stills.folder_sink import StillEncoder
from rtface.media.write.copy_encoder import CopyEncoder
from rtface.media.write.encoders import VideoPlan
from rtface.media.write.frame_encoder import FrameEncoder, add_video
from rtface.media.write.muxer import AnyPacket
from rtface.stats import Stats
from rtface.util.files import NEW, sync_file
from rtface.util.foreign import open_regular

Times = tuple[int, int, int, int, int]
"""pts, dts, duration, number of bytes, and 1 for a keyframe, otherwise 0."""


class FilmPackets:
    """Encodes a segment's frames as packets of a film.

    Args:
        video: plan of the encoding.
        format: container of the output, which decides where the encoder's header goes.
        origin: time on the input's clock that becomes 0 in the output, in seconds.
        stats: receives counters.
        name: name of the film, for messages.

    Attributes:
        base: time base of the packets, in seconds.
        copied: see `rtface.media.write.copy_encoder.CopyEncoder`.

    Raises:
        OutputError: the encoder does not open.
    """

    copied = ()

    def __init__(self, video: VideoPlan, format: str, origin: Fraction, stats: Stats, name: str) -> None:
        self.base = video.time_base
        self._container = av.open(io.BytesIO(), "w", format=format)  # never written to
        self._stream = add_video(self._container, video, name)
        frames = FrameEncoder(self._stream, video, origin, stats)
        self.encode, self.flush, self.close = frames.encode, frames.flush, self._container.close

    @property
    def header(self) -> bytes:
        """The encoder's header, from the first packet on."""
        return bytes(self._stream.codec_context.extradata or b"")


class StillPackets:
    """Encodes a segment's frames as stills, like `FilmPackets`. Times are in the input's clock. An empty packet means
    that the input's file is copied.

    Args:
        stills: encoder of the stills.
        base: time base of the packets, in seconds.
        name: name of the folder, for messages.
    """

    header, copied = b"", ()

    def __init__(self, stills: StillEncoder, base: Fraction, name: str) -> None:
        self._stills, self.base, self._name = stills, base, name

    def encode(self, frame: Frame) -> list[AnyPacket]:
        """Encodes a frame."""
        packet: AnyPacket = av.Packet(self._stills.encode(frame, self._name) or b"")
        packet.pts = packet.dts = frame.pts
        packet.time_base, packet.duration, packet.is_keyframe = frame.time_base, frame.duration, True
        return [packet]

    def flush(self) -> list[AnyPacket]:
        """Returns no packet, because none is buffered."""
        return []

    def close(self) -> None:
        """Does nothing, because nothing is open."""


SegmentEncoder: TypeAlias = FilmPackets | StillPackets | CopyEncoder


class SegmentWriter:
    """Encodes the frames of a segment into a file.

    Args:
        path: the file, which must not exist.
        encoder: encoder of the frames.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, path: Path, encoder: SegmentEncoder) -> None:
        self.path, self._encoder = path, encoder
        self._file = os.fdopen(os.open(path, NEW, 0o600), "wb", buffering=1 << 16)
        self._digest = hashlib.sha256()
        self._bytes = self._frames = 0
        self._header = b""
        self._times: list[Times] = []

    def write(self, frame: Frame) -> None:
        """Encodes the next frame.

        Raises:
            OSError: the file cannot be written.
            av.FFmpegError, OutputError: the encoder rejects the frame.
        """
        self._put(self._encoder.encode(frame))
        self._frames += 1

    def finish(self) -> dict[str, Any]:
        """Flushes the encoder and returns the record's description of the file."""
        self._put(self._encoder.flush())
        self._file.flush()
        sync_file(self._file.fileno())
        self._file.close()
        self._encoder.close()
        return {
            "file": self.path.name,
            "bytes": self._bytes,
            "sha256": self._digest.hexdigest(),
            "header": base64.b64encode(self._header).decode(),
            "time_base": str(self._encoder.base),
            "frames": self._frames,
            "packets": self._times,
            **({"copied": self._encoder.copied} if self._encoder.copied else {}),
        }

    def discard(self) -> None:
        """Removes the file."""
        self._file.close()
        self._encoder.close()
        self.path.unlink(missing_ok=True)

    def _put(self, packets: list[AnyPacket]) -> None:
        base = self._encoder.base
        for packet in packets:
            if not self._times:
                self._header = self._encoder.header
                self._write(self._header)
            if packet.time_base != base:
                packet.rescale_ts(base)  # pyright: ignore[reportArgumentType]
            data = bytes(packet)
            assert packet.pts is not None
            dts = packet.dts if packet.dts is not None else packet.pts
            self._times.append((packet.pts, dts, packet.duration or 0, len(data), int(packet.is_keyframe)))
            self._write(data)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """The file of a finished segment, as its record describes it.

    Attributes:
        path: the file.
        header: the encoder's header (FFmpeg's extradata).
        times: times of every frame, in decoding order.
        base: time base of `times`, in seconds.
        sha256: SHA-256 of the file.
    """

    path: Path
    header: bytes
    times: list[Times]
    base: Fraction
    sha256: str

    @classmethod
    def of(cls, folder: Path, record: dict[str, Any]) -> SegmentFile:
        """Returns the file of a record in `folder`. Raises ValueError if the record has another structure, or
        lacks encoded frames."""
        times: list[Times] = [tuple(entry) for entry in record["packets"]]
        header = base64.b64decode(record["header"])
        if len(times) != record["frames"] or len(header) + sum(entry[3] for entry in times) != record["bytes"]:
            raise ValueError(f"it has {len(times)} of {record['frames']} frames, or some of their bytes are missing")
        return cls(folder / record["file"], header, times, Fraction(record["time_base"]), record["sha256"])

    def check(self) -> None:
        """Compares the file with its checksum.

        Raises:
            InputError: the file is missing, unreadable or changed.
        """
        if sha256_of(self.path) != self.sha256:
            raise InputError("{path}: is damaged", code="segment_damaged", path=self.path)

    def packets(self) -> Iterator[tuple[bytes, Times]]:
        """Yields each encoded frame with its times, in decoding order."""
        with open_regular(self.path) as file:
            file.seek(len(self.header))
            for times in self.times:
                yield file.read(times[3]), times


def same_header(one: bytes, other: bytes, encoder: str) -> bool:
    """Tells whether two headers of an encoder describe the same stream. In H.264 and H.265, SEI messages are ignored,
    because they contain the encoder's threads and machine."""
    return _without_sei(one, encoder) == _without_sei(other, encoder)


def _without_sei(header: bytes, encoder: str) -> list[bytes]:
    if "264" not in encoder and "265" not in encoder:
        return [header]
    hevc = "265" in encoder
    parts = [part.rstrip(b"\0") for part in header.split(b"\0\0\1") if part.rstrip(b"\0")]
    return [part for part in parts if not ((part[0] >> 1 & 63) in (39, 40) if hevc else (part[0] & 31) == 6)]
