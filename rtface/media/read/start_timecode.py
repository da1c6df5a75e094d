"""The SMPTE timecode of a film's first frame: found in what containers say, and moved to where an output begins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

from rtface.errors import UsageError
from rtface.util.timecode import Timecode

KEY = "timecode"
"""FFmpeg's name of the tag: of a `tmcd` track (MOV, MP4), of Matroska, and of an MXF file."""


def find_timecode(tags: Iterable[Mapping[str, str]], rate: Fraction) -> Timecode | None:
    """The timecode that the first of several sets of tags names; None where none does, or not for this rate."""
    for group in tags:
        for name, text in group.items():
            if name.lower() == KEY:
                try:
                    return Timecode.parse(text, rate)
                except ValueError:
                    continue
    return None


def output_timecode(start: Timecode | None, asked: str | None, rate: Fraction, skipped: Fraction) -> Timecode | None:
    """The timecode of an output's first frame.

    Args:
        start: of the input's first frame, as the input says it.
        asked: of the input's first frame, as the user says it; comes first.
        rate: frames a second.
        skipped: seconds of the input before the output's first frame (``--start``).

    Raises:
        UsageError: `asked` is no timecode of this rate.
    """
    if asked is not None:
        try:
            start = Timecode.parse(asked, rate)
        except ValueError as error:
            raise UsageError("{--timecode}: {why}", code="timecode_wrong", why=error) from error
    if start is None:
        return None
    return start.plus(max(0, math.ceil(skipped * start.rate - Fraction(1, 100))))
