"""Finds a film's SMPTE start timecode, and computes the output's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

from rtface.errors import UsageError
from rtface.util.timecode import Timecode

KEY = "timecode"
"""FFmpeg's tag for timecodes in MOV and MP4 (`tmcd` track), Matroska, MXF."""


def find_timecode(tags: Iterable[Mapping[str, str]], rate: Fraction) -> Timecode | None:
    """Returns the first timecode in `tags` that fits the rate, or None."""
    for group in tags:
        for name, text in group.items():
            if name.lower() == KEY:
                try:
                    return Timecode.parse(text, rate)
                except ValueError:
                    continue
    return None


def output_timecode(start: Timecode | None, asked: str | None, rate: Fraction, skipped: Fraction) -> Timecode | None:
    """Returns the timecode of an output's first frame.

    Args:
        start: timecode of the input's first frame according to the input.
        asked: the user's timecode for that frame, which takes precedence.
        rate: frames per second.
        skipped: seconds of the input before the output's first frame (``--start``).

    Raises:
        UsageError: `asked` is invalid for this rate.
    """
    if asked is not None:
        try:
            start = Timecode.parse(asked, rate)
        except ValueError as error:
            raise UsageError("{--timecode}: {why}", code="timecode_wrong", why=error) from error
    if start is None:
        return None
    return start.plus(max(0, math.ceil(skipped * start.rate - Fraction(1, 100))))
