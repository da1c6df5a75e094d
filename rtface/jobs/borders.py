"""Divides a film at keyframes, after one pass over its packets."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike

import av

from rtface.media.read.container import choose_video, open_container, time_base_of
from rtface.media.read.edited_times import EditedTimes
from rtface.media.read.faults import Faults
from rtface.media.read.media_info import MediaInfo
from rtface.media.read.received import Received
from rtface.stats import Stats

# Length of a segment in seconds. A crash costs at most this much work. The encoder restarts at each border.
SEGMENT_S = Fraction(25)
# Largest distance between a border and its ideal place, as a fraction of a segment.
_TOLERANCE = Fraction(2, 5)
# Largest distance in frames between decoding and presentation order.
_MAX_SHIFT = 32


@dataclass(frozen=True, slots=True)
class FilmTimes:
    """Times of a film's frames, taken from its packets.

    Attributes:
        base: time base in seconds.
        pts: pts of all frames, ascending.
        keys: pts of the keyframes; empty if every frame is a keyframe.
        fault: reason why the times are too unreliable for segments; None if they are reliable.
        damage: what a damaged container lost; None if nothing, or if only a part of the film was read.
    """

    base: Fraction
    pts: array[int]
    keys: array[int]
    fault: str | None = None
    damage: str | None = None


def image_times(info: MediaInfo) -> FilmTimes:
    """Returns the times of a folder's images. Each image can be decoded without others."""
    first = int(info.origin / info.time_base)
    return FilmTimes(info.time_base, array("q", range(first, first + (info.expected_frames or 0))), array("q"))


def read_times(
    path: str | PathLike[str],
    start: Fraction | None = None,
    end: Fraction | None = None,
    *,
    strict: bool = False,
    variant: str = "best",
) -> FilmTimes:
    """Reads the times of a film's frames.

    Args:
        path: a film.
        start, end: the cut, in seconds of the film's own clock.
        strict: whether to raise InputError if the container is damaged.
        variant: variant of an HLS list (``--variant``).

    Raises:
        InputMissing, InputError: see `rtface.media.read.container.open_container`.
    """
    fault, faults = None, Faults(str(path), Stats(logs=False), strict=strict)
    with open_container(path) as container:
        video, _ = choose_video(container, str(path), variant=variant)
        base = time_base_of(video)
        presented, decoded, is_key = array("q"), array("q"), bytearray()
        received, edited = Received(path, container), EditedTimes(container)
        try:
            for raw in container.demux():
                received.note(raw)
                if not raw.size or raw.stream_index != video.index or (packet := edited.timed(raw)) is None:
                    continue
                if packet.is_discard:  # an edit list hides it
                    continue
                # AVI stores only the decoding order, from which decoders derive the times of its frames.
                if (time := packet.dts if container.format.name == "avi" else packet.pts) is None:
                    fault = "some of its frames have no timestamp"
                    continue
                presented.append(time)
                decoded.append(time if packet.dts is None else packet.dts)
                is_key.append(packet.is_keyframe)
        except av.FFmpegError:
            fault = "a part of it cannot be read"
        if video.index in edited.shown:
            fault = fault or "an edit list plays it in several parts"
        elif fault is None and not _repair(presented, decoded, is_key):
            fault = "its timestamps go back"
        if start is None and end is None:
            received.compare(faults)
    in_cut = sorted(
        (time, is_first)
        for time, is_first in zip(presented, is_key, strict=True)
        if (start is None or time * base >= start) and (end is None or time * base < end)
    )
    ordered, keys = (
        array("q", [time for time, _ in in_cut]),
        array("q", [time for time, is_first in in_cut if is_first]),
    )
    if fault is None and any(ordered[k] == ordered[k + 1] for k in range(len(ordered) - 1)):
        fault = "two of its frames have the same timestamp"
    return FilmTimes(base, ordered, keys, fault, faults.stats.warnings.get("container"))


def _repair(presented: array[int], decoded: array[int], is_key: bytearray) -> bool:
    """Repairs single damaged times as a decoder's clock does (`rtface.media.read.timeline`). A damaged time does not
    fit between its neighbours; its frame becomes no border. Returns False if the times go back permanently.

    Args:
        presented, decoded: times of presentation and decoding, in the order of decoding; changed in place.
        is_key: whether each frame is a keyframe; changed in place.
    """
    delay = 0
    for k in range(len(decoded)):
        last = decoded[k - 1] if k else decoded[k]
        after = decoded[k + 1] if k + 1 < len(decoded) else None
        late = presented[k] - decoded[k]
        if decoded[k] >= last and (after is None or not last <= after < decoded[k]):
            delay = late
            continue
        if after is None or after < last:
            return after is None
        decoded[k] = (last + after) // 2
        presented[k], is_key[k] = decoded[k] + (late if 0 <= late <= 2 * (after - last) + delay else delay), False
        while (
            presented[k] in presented[max(0, k - _MAX_SHIFT) : k] or presented[k] in presented[k + 1 : k + _MAX_SHIFT]
        ):
            presented[k] += 1
    return True


def borders(times: FilmTimes, length: Fraction = SEGMENT_S) -> list[int]:
    """Returns the first pts of each segment except the first.

    A border is a keyframe near a multiple of `length`, preferably one that comes early, because encoders insert such
    keyframes at scene changes.

    Args:
        times: times of at least one frame.
        length: approximate length of a segment in seconds.
    """
    starts: list[int] = []
    step, reach = max(1, round(length / times.base)), round(length * _TOLERANCE / times.base)
    early_keys = _early_keys(times.keys)
    last, end = times.pts[0], times.pts[-1]
    while end - last > step + reach:
        ideal = last + step
        candidates = times.keys[bisect_left(times.keys, ideal - reach) : bisect_left(times.keys, ideal + reach + 1)]
        last = min(
            candidates,
            key=lambda pts: (pts not in early_keys, abs(pts - ideal)),
            default=times.pts[bisect_left(times.pts, ideal)],
        )
        starts.append(last)
    return starts


def _early_keys(keys: array[int]) -> set[int]:
    """Returns the keyframes that follow the previous one sooner than usual."""
    gaps = Counter(keys[k + 1] - keys[k] for k in range(len(keys) - 1))
    usual_gap = max(gaps, key=lambda gap: (gaps[gap], gap), default=0)
    return {keys[k + 1] for k in range(len(keys) - 1) if keys[k + 1] - keys[k] < usual_gap * 9 // 10}
