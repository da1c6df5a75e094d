"""Combines the segment files of a film: their encoder headers, and their packets with the film's times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av

from rtface.errors import InputError
from rtface.jobs.folder import JobFolder
from rtface.jobs.segment_file import SegmentFile, Times, same_header
from rtface.media.write.decoding_times import DecodingTimes
from rtface.media.write.film_file import FilmFile
from rtface.media.write.muxer import AnyPacket


class Pieces:
    """The segment files that become one film: the output, or an additional film.

    Args:
        folder: the job's folder.
        encoder: FFmpeg's name of the encoder.
        key: key of the file's description in a segment's record; "" if the record itself describes it.

    Attributes:
        header: the encoder's header.
        base: time base in seconds; 0 before the first file.
        delay: maximum number of frames by which decoding precedes presentation.
    """

    def __init__(self, folder: JobFolder, encoder: str, key: str = "") -> None:
        self._folder, self._encoder, self._key = folder, encoder, key
        self.header, self.base, self.delay = b"", Fraction(0), 0
        self._first_file = 0, ""

    def file(self, record: dict[str, Any]) -> SegmentFile:
        """Returns the file of a record. Raises one of `figures.UNUSABLE` if the record describes none."""
        return SegmentFile.of(self._folder.segments, record[self._key] if self._key else record)

    def add(self, number: int, record: dict[str, Any]) -> None:
        """Adds a checked file.

        Raises:
            InputError: the file was encoded differently from earlier files.
        """
        segment = self.file(record)
        if not self.base:
            self.header, self.base, self._first_file = segment.header, segment.base, (number, record["run"])
        elif segment.base != self.base or not same_header(segment.header, self.header, self._encoder):
            first, run = self._first_file
            raise InputError(
                "{path}: segments {first} and {second} were encoded differently (workers {first_worker} and "
                "{second_worker}); remove {record}, then the same command encodes that segment again",
                code="segments_differ",
                path=self._folder.path,
                first=first,
                second=number,
                first_worker=run,
                second_worker=record["run"],
                record=self._folder.record(number),
            )
        self.delay = max(self.delay, delay_of(segment.times))

    def packets(self, film: FilmFile, records: Iterable[dict[str, Any]]) -> Iterator[AnyPacket]:
        """Yields the encoded frames of all segments, with the film's times."""
        stream, times = film.streams.video, DecodingTimes(self.delay)
        for record in records:
            segment = self.file(record)
            times.begin(
                sorted(entry[0] for entry in segment.times), [entry[1] for entry in segment.times[: self.delay]]
            )
            for pts in sorted(entry[0] for entry in segment.times):
                film.note(pts)
            for data, entry in segment.packets():
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, film.plan.video.time_base
                packet.pts, packet.dts, packet.duration = entry[0], times.next(entry[0]), entry[2]
                packet.is_keyframe = bool(entry[4])
                yield packet

    def check_header(self, film: FilmFile) -> None:
        """Compares the encoder header of a written film with the segments'. Raises InputError if they differ."""
        header = bytes(film.streams.video.codec_context.extradata or b"")
        if not same_header(header, self.header, self._encoder):
            raise InputError(
                "{path}: the segments were encoded by a different build of {encoder}; join them on a machine that "
                "encoded them",
                code="join_encoder",
                path=self._folder.path,
                encoder=self._encoder,
            )


def delay_of(times: Iterable[Times]) -> int:
    """Returns the number of frames by which decoding precedes presentation. This is the number of entries before the
    first whose dts reaches the lowest pts, or more if the order of the frames requires it."""
    entries = list(times)
    ascending = sorted(entry[0] for entry in entries)
    by_dts = next((k for k, entry in enumerate(entries) if entry[1] >= ascending[0]), len(entries))
    rank = {pts: k for k, pts in enumerate(ascending)}
    by_order = max((k - rank[entry[0]] for k, entry in enumerate(entries)), default=0)
    return max(by_dts, by_order, 0)
