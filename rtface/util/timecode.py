"""Computes SMPTE ST 12-1 timecode, drop-frame and non-drop, for any rate."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

_TEXT = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})([:;,])(\d{2,3})")
_FORMAT = "HH:MM:SS:FF, or HH:MM:SS;FF for drop-frame"
_DAY_S = 86_400


def standard_rate(rate: Fraction) -> Fraction:
    """Returns the standard rate within 0.02 % of a rounded one.

    Standard rates are n and n·1000/1001 frames a second. Other rates are returned unchanged.
    """
    rounded = round(rate)
    for standard in (Fraction(rounded), Fraction(rounded * 1000, 1001)):
        if rounded and abs(rate / standard - 1) < Fraction(2, 10_000):
            return standard
    return rate


def counted_rate(rate: Fraction) -> int:
    """Returns the number of frame numbers in a second of timecode: 30 for 29.97 fps."""
    return max(1, round(rate))


def has_drop_frame(rate: Fraction) -> bool:
    """Checks whether a rate has drop-frame timecode: 29.97, 59.94 and 119.88 fps."""
    rate = standard_rate(rate)
    return rate.denominator == 1001 and counted_rate(rate) % 30 == 0


@dataclass(frozen=True, slots=True)
class Timecode:
    """A timecode of one rate, from 00:00:00:00 up to 24 hours.

    Attributes:
        frame: frames since 00:00:00:00, at least 0; `at` limits it to one day.
        rate: frames a second, exact (30000/1001).
        drop: whether it is drop-frame: each minute except every tenth starts with frame 2 (4 at 59.94).
    """

    frame: int
    rate: Fraction
    drop: bool = False

    @classmethod
    def at(cls, frame: int, rate: Fraction, drop: bool = False) -> Self:
        """Returns the timecode `frame` frames after midnight, or before it if negative. It wraps at 24 hours.

        Raises:
            ValueError: the rate is not above 0, or has no drop-frame timecode and `drop` is true.
        """
        rate = standard_rate(Fraction(rate))
        if rate <= 0:
            raise ValueError(f"a timecode needs a frame rate above 0, not {rate}")
        if drop and not has_drop_frame(rate):
            raise ValueError(
                f"drop-frame timecode exists at 29.97, 59.94 and 119.88 frames a second, not at {float(rate):g}"
            )
        return cls(frame % _frames_of_a_day(rate, drop), rate, drop)

    @classmethod
    def parse(cls, text: str, rate: Fraction, *, drop: bool = False) -> Self:
        """Reads ``HH:MM:SS:FF``; a semicolon or comma before the frames means drop-frame.

        Args:
            text: the timecode.
            rate: frames a second.
            drop: whether a colon before the frames means drop-frame, too (EDLs with FCM: DROP FRAME).

        Raises:
            ValueError: the text is not a timecode of this rate; the message is one sentence with the reason.
        """
        rate = standard_rate(Fraction(rate))
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text.strip()[:40]!r} is not a timecode ({_FORMAT})")
        hours, minutes, seconds, frames = (int(match[k]) for k in (1, 2, 3, 5))
        drop = drop or match[4] != ":"
        zero = cls.at(0, rate, drop)
        numbers_a_second = counted_rate(rate)
        if hours > 23 or minutes > 59 or seconds > 59:
            raise ValueError(f"timecode {text.strip()} is not a time of day (at most 23:59:59)")
        if frames >= numbers_a_second:
            raise ValueError(
                f"timecode {text.strip()} has frame {frames}, but at {float(rate):.6g} frames a second a "
                f"second has frames 00 to {numbers_a_second - 1:02d}"
            )
        skipped = _skipped_numbers(rate) if drop else 0
        minute = 60 * hours + minutes
        if seconds == 0 and minute % 10 and frames < skipped:
            raise ValueError(
                f"timecode {text.strip()} does not exist: drop-frame leaves out frames 00 to "
                f"{skipped - 1:02d} of this minute"
            )
        frame = (60 * minute + seconds) * numbers_a_second + frames - skipped * (minute - minute // 10)
        return cls(frame, zero.rate, drop)

    def __str__(self) -> str:
        numbers_a_second, number = counted_rate(self.rate), self.frame
        if self.drop:
            skipped = _skipped_numbers(self.rate)
            tens, remainder = divmod(number, 600 * numbers_a_second - 9 * skipped)
            minutes = max(0, remainder - skipped) // (60 * numbers_a_second - skipped)
            number += skipped * (9 * tens + minutes)
        seconds, frames = divmod(number, numbers_a_second)
        return (
            f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{';' if self.drop else ':'}"
            f"{frames:0{max(2, len(str(numbers_a_second - 1)))}d}"
        )

    def plus(self, frames: int) -> Self:
        """Returns the timecode `frames` later, or earlier if negative."""
        return self.at(self.frame + frames, self.rate, self.drop)

    def since(self, origin: Timecode) -> int:
        """Returns the number of frames from `origin` to this timecode. It counts across midnight: the result is 0 to
        one day."""
        return (self.frame - origin.frame) % _frames_of_a_day(self.rate, self.drop)


def _skipped_numbers(rate: Fraction) -> int:
    """Returns the number of frame numbers that a drop-frame minute skips."""
    return counted_rate(rate) // 15


def _frames_of_a_day(rate: Fraction, drop: bool) -> int:
    return _DAY_S * counted_rate(rate) - (_skipped_numbers(rate) * (1440 - 144) if drop else 0)
