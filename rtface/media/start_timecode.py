"""The SMPTE timecode of a film's first frame: found in what containers say, and moved to where an output begins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fractions import Fraction

from rtface.media.probe import choose_video, open_container, rate_of
from rtface.redaction import shown
from rtface.util.timecode import Timecode

KEY = "timecode"
"""FFmpeg's name of the tag: of a `tmcd` track (MOV, MP4), of Matroska, and of an MXF package."""


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


def without_timecode(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags without a timecode."""
    return {name: text for name, text in tags.items() if name.lower() != KEY}


def film_timecode(film: str | os.PathLike[str]) -> Timecode | None:
    """The timecode of a film's first frame; None where it says none. Raises as `rtface.media.probe.open_container`."""
    with open_container(film) as container:
        video, _ = choose_video(container, shown(film))
        others = [stream.metadata for stream in container.streams if stream.type == "data"]
        return find_timecode([video.metadata, container.metadata, *others], rate_of(video)[0])
