"""Where a film is divided: a pass over its packets without decoding, and borders near keyframes."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike

from rtface.media import probe

# Seconds of a segment: what a crash can cost at most, and at each of them the encoder begins again.
SEGMENT_S = Fraction(25)
# A border lies so near to a multiple of that, as a part of it, where a keyframe is there.
_REACH = Fraction(2, 5)


@dataclass(frozen=True, slots=True)
class FilmTimes:
    """Times of the frames of a film, as its packets say them.

    Attributes:
        base: seconds of one unit.
        pts: of all frames, rising.
        keys: of those that are decoded without others.
        fault: why segments of it cannot be relied on; None where they can.
    """

    base: Fraction
    pts: array[int]
    keys: array[int]
    fault: str | None = None


def read_times(path: str | PathLike[str], start: Fraction | None = None, end: Fraction | None = None) -> FilmTimes:
    """Reads the times of a film's frames.

    Args:
        path: a film.
        start, end: the cut, in seconds of the film's own clock.

    Raises:
        InputMissing, InputError: as `rtface.media.probe.open_container`.
    """
    pts, keys = array("q"), array("q")
    fault: str | None = None
    with probe.open_container(path) as container:
        video, _ = probe.choose_video(container, str(path))
        base = video.time_base or Fraction(1, 1_000_000)
        if container.format.name == "avi":
            fault = "AVI knows the order of its frames only, not their times"
        highest: int | None = None
        for packet in container.demux(video):
            if not packet.size:
                continue
            if packet.pts is None:
                fault = fault or "some of its frames have no time"
                continue
            if (start is not None and packet.pts * base < start) or (end is not None and packet.pts * base >= end):
                continue
            if packet.dts is not None:
                if highest is not None and packet.dts < highest:
                    fault = fault or "its times go back somewhere"
                highest = packet.dts
            pts.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
    ordered = array("q", sorted(pts))
    if any(ordered[k] == ordered[k + 1] for k in range(len(ordered) - 1)):
        fault = fault or "two of its frames have the same time"
    return FilmTimes(base, ordered, array("q", sorted(keys)), fault)


def borders(times: FilmTimes, length: Fraction = SEGMENT_S) -> list[int]:
    """First pts of every segment but the first.

    A border is put at a keyframe near a multiple of `length`: at one that comes before its turn where there is one,
    because encoders do that at scene changes.
    """
    found: list[int] = []
    if not times.pts:
        return found
    step, reach = round(length / times.base), round(length * _REACH / times.base)
    early = _early(times.keys)
    last, end = times.pts[0], times.pts[-1]
    while end - last > step + reach:
        wanted = last + step
        near = times.keys[bisect_left(times.keys, wanted - reach):bisect_left(times.keys, wanted + reach + 1)]
        chosen = min(near, key=lambda pts: (pts not in early, abs(pts - wanted)), default=None)
        last = chosen if chosen is not None else times.pts[bisect_left(times.pts, wanted)]
        found.append(last)
    return found


def _early(keys: array[int]) -> set[int]:
    """Keyframes that come sooner after the one before than most do."""
    gaps = Counter(keys[k + 1] - keys[k] for k in range(len(keys) - 1))
    if not gaps:
        return set()
    usual = max(gaps, key=lambda gap: (gaps[gap], gap))
    return {keys[k + 1] for k in range(len(keys) - 1) if keys[k + 1] - keys[k] < usual * 9 // 10}
