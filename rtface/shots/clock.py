"""Converts timecodes and film times of shot lists to the input's clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rtface.errors import UsageError
from rtface.media.read.media_info import MediaInfo
from rtface.media.read.start_timecode import output_timecode
from rtface.util.parse import format_start, parse_time
from rtface.util.timecode import Timecode, has_drop_frame, standard_rate

_TIMECODE = re.compile(r"\d{1,2}:\d{2}:\d{2}[:;,]\d{2,3}")


@dataclass(frozen=True, slots=True)
class FilmClock:
    """Converts the times of one film.

    Attributes:
        rate: frames a second.
        first: time of the first video frame, seconds of the input's own clock.
        begin: origin of film times (``--start``), seconds of the input's own clock.
        start: timecode of the first video frame; None if neither film nor user specifies it.
        length: seconds from `begin` to the end of the film; None if unknown.
        reel: name of the tape or reel in the film's metadata; None if there is none.
    """

    rate: Fraction
    first: Fraction = Fraction(0)
    begin: Fraction = Fraction(0)
    start: Timecode | None = None
    length: Fraction | None = None
    reel: str | None = None

    @classmethod
    def of(cls, info: MediaInfo, timecode: str | None = None) -> FilmClock:
        """Creates the clock of an opened film.

        Args:
            info: information about the film.
            timecode: timecode of the first frame, set by the user; None: that of the film.

        Raises:
            UsageError: `timecode` does not fit the film's rate.
        """
        start = output_timecode(info.timecode, timecode, info.rate, Fraction(0))
        length = None
        if info.duration_s is not None and info.end is None:
            length = (
                Fraction(info.duration_s).limit_denominator(1_000_000)
                + (info.start if info.start is not None else info.clock_start)
                - info.clock_start
            )
        return cls(standard_rate(info.rate), info.video_start, info.clock_start, start, length, info.reel)

    @property
    def early(self) -> Fraction:
        """A quarter of a frame in seconds, by which borders move (`ShotList`)."""
        return Fraction(1, 4) / self.rate

    def time_of(self, text: str, where: str, *, drop: bool = False) -> Fraction:
        """Parses a timecode or a film time (seconds or HH:MM:SS.mmm).

        Args:
            text: text to parse. A timecode counts from that of the film's first frame, or from 00:00:00:00 if it has
                none. A film time counts from the beginning of the film, like ``--start``.
            where: prefix of the messages.
            drop: see `Timecode.parse`.

        Raises:
            UsageError: the text is neither a timecode nor a time, or the timecode does not fit the film's rate.
        """
        if not is_timecode(text):
            try:
                return self.begin + Fraction(parse_time(text.strip())).limit_denominator(1_000_000)
            except ValueError:
                raise UsageError(
                    "{where}: {value!r} is neither a timecode (01:02:03:04, or 01:02:03;04 for drop-frame) nor a "
                    "time (90.5 or 00:01:30.500)",
                    code="time_or_timecode",
                    where=where,
                    value=text.strip()[:40],
                ) from None
        try:
            timecode = Timecode.parse(text, self.rate, drop=drop)
        except ValueError as error:
            raise UsageError("{where}: {why}", code="shot_time", where=where, why=error) from error
        return self.time_at(self.frame_of(timecode, where))

    def frame_of(self, timecode: Timecode, where: str) -> int:
        """Returns the number of frames from the film's start to a timecode. It is negative before the start."""
        start = self.start or Timecode.at(0, self.rate, timecode.drop)
        if start.drop != timecode.drop:
            kinds = {True: "drop-frame", False: "non-drop"}
            raise UsageError(
                "{where}: timecode {timecode} is {kind}, but that of the film ({film_timecode}) is {film_kind}; "
                "set another one for the film with {--timecode}",
                code="timecode_kind",
                where=where,
                timecode=timecode,
                kind=kinds[timecode.drop],
                film_timecode=start,
                film_kind=kinds[start.drop],
            )
        frames = timecode.since(start)
        if self.start is None:
            return frames
        day = Timecode.at(-1, self.rate, timecode.drop).frame + 1
        return frames if frames <= day // 2 else frames - day

    def time_at(self, frame: int) -> Fraction:
        """Returns the time of a frame. The film's first frame has number 0."""
        return self.first + Fraction(frame) / self.rate

    def frame_at(self, time: Fraction) -> int:
        """Returns the number of the frame nearest to `time`. Inverse of `time_at`."""
        return round((time - self.first) * self.rate)

    def timecode_at(self, time: Fraction) -> Timecode:
        """Returns the timecode of the frame nearest to a time. If there is no start timecode, it counts from 00:00:00,
        with drop-frame if the rate has it."""
        start = self.start or Timecode.at(0, self.rate, has_drop_frame(self.rate))
        return start.plus(self.frame_at(time))

    def film_time(self, time: Fraction) -> str:
        """Formats a time for ``--start``."""
        return format_start(max(Fraction(0), time - self.begin))


def is_timecode(text: str) -> bool:
    """Returns whether a text has the format of a timecode: four numbers, not three."""
    return _TIMECODE.fullmatch(text.strip()) is not None
