"""Cuts inputs by time and makes all timestamps rise."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from threading import Lock
from typing import Literal

import av
from av.stream import Stream

from rtface.frame import Frame, Packet
from rtface.media.read.faults import Faults
from rtface.protocols import Item
from rtface.util.parse import format_time

_NOTICEABLE_S = Fraction(1, 100)
# Maximum seconds by which packets are moved without counting as damage.
MOVED_S = Fraction(1, 20)
# Seconds of audio before the beginning that a decoder needs to warm up.
PRIMING = Fraction(1, 10)
# A jump ahead by more than these seconds may be damage; the next timestamp decides.
_AHEAD_S = 1

Change = Literal["", "missing", "repeated", "nudged", "jumped"]


@dataclass(frozen=True, slots=True)
class Cut:
    """The part of an input to read: start ≤ time < end.

    Attributes:
        clock_start: start of the input's clock in seconds.
        start, end: limits in seconds of the input's clock, or None.
    """

    clock_start: Fraction
    start: Fraction | None = None
    end: Fraction | None = None

    def is_before(self, pts: int | None, base: Fraction) -> bool:
        """Returns whether a frame at `pts` × `base` seconds lies before the start."""
        return self.start is not None and pts is not None and (pts + Fraction(1, 2)) * base < self.start

    def is_behind(self, time: Fraction) -> bool:
        """Returns whether a time lies at or after the end."""
        return self.end is not None and time >= self.end

    def shown(self, time: Fraction) -> str:
        """Formats a time for messages, counted from the input's beginning."""
        return format_time(float(time - self.clock_start))


@dataclass(slots=True)
class RisingTimestamps:
    """Turns the timestamps of one stream into strictly rising ones.

    A repeated timestamp is moved one `step` later. After a step back of up to `near` units (jitter), only the timestamp
    itself is moved, just after the last. A longer step back counts as a splice: all later timestamps are shifted, too.
    If one of these continues the time before the splice, a single timestamp was damaged, so the shift is undone.

    Args:
        step: usual interval in units; a missing timestamp becomes the last one plus `step`.
        near: longest step back in units that counts as jitter.
    """

    step: Fraction
    near: Fraction
    last: int | None = None
    came: int | None = None
    shift: int = 0
    counted: Fraction | None = None
    before: int | None = None  # the shift before a splice that is not confirmed yet

    def ahead(self, stamp: int | None) -> int:
        """Returns how many units a timestamp lies after the last. Returns 0 if unknown."""
        return 0 if stamp is None or self.last is None else stamp + self.shift - self.last

    def next(self, stamp: int | None, following: int | None = None) -> tuple[int, Change]:
        """Returns the timestamp to use, and the kind of change.

        Args:
            stamp: the original timestamp.
            following: the next original timestamp, if known. It shows whether a late timestamp is damaged.
        """
        if stamp is None:
            # Exact fractions keep steps such as 1001/30000 s from drifting in coarse units.
            base = self.counted if self.counted is not None else self.last
            self.counted = Fraction(0) if base is None else base + self.step
            value = round(self.counted) if self.last is None else max(round(self.counted), self.last + 1)
            self.last = value
            return value, "missing"
        self.counted = None
        change: Change = ""
        value = stamp + self.shift
        if self.before is not None and self.last is not None:
            if self.last < stamp + self.before < value:
                value, self.shift, self.before = stamp + self.before, self.before, None
            elif 0 < value - self.last <= self.near:
                self.before = None
        next_ahead = self.ahead(following)
        if self.last is not None and 0 < next_ahead < value - self.last:
            value, change = self.last + max(1, min(round(self.step), next_ahead - 1)), "jumped"
        elif self.last is not None and value <= self.last:
            if stamp == self.came:
                value, change = self.last + max(1, round(self.step)), "repeated"
            elif self.last - value <= self.near:
                value, change = self.last + 1, "nudged"
            else:
                resumed = self.last + max(1, round(self.step))
                self.before = self.shift if self.before is None else self.before
                self.shift += resumed - value
                value, change = resumed, "jumped"
        self.last, self.came = value, stamp
        return value, change


class FrameClock:
    """Assigns rising times to decoded images. An image whose time jumps ahead waits for the next image, whose
    time shows whether the jump is damage.

    Args:
        step: usual interval of images, in units of `base`.
        base: time base in seconds.
        by_dts: whether to use decoding times instead of presentation times.
    """

    def __init__(self, step: Fraction, base: Fraction, *, by_dts: bool) -> None:
        self._rising, self._base, self._by_dts = RisingTimestamps(step, step * Fraction(3, 2)), base, by_dts
        self._delayed: av.VideoFrame | None = None

    def settled(
        self, images: Iterable[av.VideoFrame], *, end: bool = False
    ) -> Iterator[tuple[av.VideoFrame, int | None]]:
        """Yields the images. A delayed image is paired with the next image's timestamp, others with None."""
        for image in images:
            if self._delayed is not None:
                delayed, self._delayed = self._delayed, None
                yield delayed, self.stamp(image)
            if self._rising.ahead(self.stamp(image)) * self._base > _AHEAD_S:
                self._delayed = image
            else:
                yield image, None
        if end and self._delayed is not None:
            delayed, self._delayed = self._delayed, None
            yield delayed, None

    def stamp(self, image: av.VideoFrame) -> int | None:
        """Returns the original time of an image."""
        return image.dts if self._by_dts else image.pts

    def next(self, image: av.VideoFrame, following: int | None) -> tuple[int, Change]:
        """Returns the time of an image and its change. See `RisingTimestamps.next`."""
        return self._rising.next(self.stamp(image), following)


class OtherStreams:
    """Assigns rising timestamps to packets. Drops packets outside the cut.

    Args:
        cut: the part that is read.

    Attributes:
        reached: end of the last packet, in seconds of the input's clock.
    """

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._clocks: dict[int, RisingTimestamps] = {}
        # Shift of video packets after a splice in seconds; whether the last video timestamp jumped ahead, so that the
        # next one must show whether the jump is damage.
        self._shift, self._ahead = Fraction(0), False
        self._undecodable = set[int]()  # streams whose last keyframe is hidden
        self._last: dict[int, tuple[int, int]] = {}  # keyed by stream: original time and shift of the last packet
        self.reached = Fraction(0)

    def follow(self, packet: av.Packet[Stream], clock: RisingTimestamps) -> None:
        """Records the shift at a video packet. Streams that start after a splice get the same shift."""
        if packet.dts is not None and not packet.is_discard:
            self._ahead = not self._ahead and clock.ahead(packet.dts) * packet.time_base > _AHEAD_S
            if not self._ahead:
                clock.next(packet.dts)
            self._shift = clock.shift * packet.time_base

    def cut(self, packet: av.Packet[Stream], faults: Faults) -> Packet | None:
        """Returns a packet with rising timestamps. Returns None if it must be dropped.

        Raises:
            InputError: the packet had to be moved far or left out, and `faults` is strict.
        """
        base = packet.time_base
        stamp = packet.dts if packet.dts is not None else packet.pts
        duration = packet.duration or 0
        if packet.is_keyframe:
            (self._undecodable.add if packet.is_discard else self._undecodable.discard)(packet.stream_index)
        if packet.stream_index in self._undecodable and packet.stream.type == "video" and not packet.is_discard:
            faults.report(
                f"unfounded:{packet.stream_index}",
                f"stream {packet.stream_index}: an edit list hides frames that those after "
                f"{self._cut.shown((packet.pts or 0) * base)} need; these are left out up to the next keyframe",
            )
            return None
        if packet.is_discard:  # an edit list hides it; only priming for a decoder is kept
            pcm = str(getattr(packet.stream, "name", "")).startswith("pcm_")  # unknown codecs have no name
            first = self._cut.clock_start if self._cut.start is None else self._cut.start
            needed = ((stamp or 0) + duration) * base >= first - PRIMING
            return Packet(packet, packet.stream_index) if needed and packet.stream.type == "audio" and not pcm else None
        if stamp is not None:
            clock = self._clocks.get(packet.stream_index)
            if clock is None:
                step = Fraction(max(1, duration))
                clock = RisingTimestamps(step, max(2 * step, Fraction(1, 2) / base), shift=round(self._shift / base))
                self._clocks[packet.stream_index] = clock
            previous, shift = self._last.get(packet.stream_index, (None, 0))
            if packet.dts is None and packet.stream.type == "video":
                shift = 0  # Matroska's first frames have only a pts, which may go back
            elif stamp != previous or packet.stream.type != "subtitle":  # several subtitles may start together
                shift = clock.next(stamp)[0] - stamp
            self._last[packet.stream_index] = stamp, shift
            if shift:
                if abs(shift * base) > _NOTICEABLE_S:
                    (faults.report if abs(shift * base) > MOVED_S else faults.warn)(
                        f"packet_times:{packet.stream_index}",
                        f"stream {packet.stream_index}: timestamps of its packets do not increase; from "
                        f"{self._cut.shown(stamp * base)} on they are moved by {float(shift * base):.3f} s",
                    )
                packet.dts = None if packet.dts is None else packet.dts + shift
                packet.pts = None if packet.pts is None else packet.pts + shift
            start = (packet.pts if packet.pts is not None else stamp + shift) * base
            end = start + duration * base
            self.reached = max(self.reached, end)
            if self._cut.is_behind(start):
                return None
            if self._cut.start is not None and start < self._cut.start:
                if packet.stream.type != "subtitle" or end <= self._cut.start:
                    return None
                cut = round(self._cut.start / base)  # a subtitle that is on screen at the cut stays there
                packet.pts = packet.dts = cut
                packet.duration = max(1, round(end / base) - cut)
        return Packet(packet, packet.stream_index)


# Number of frames to remember: more than encoder, muxer and pipeline buffer together.
REMEMBERED = 4096


class FrameTimes:
    """Records presentation times, so that stopped runs can report their next frame.

    If the frame rate varies, the next frame may start later than the last one ends. Safe for use by several threads.

    Attributes:
        complete: whether the source has yielded all frames.
    """

    def __init__(self) -> None:
        self._times: deque[Fraction] = deque(maxlen=REMEMBERED)
        self._count, self.complete, self._lock = 0, False, Lock()

    def noted(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items. Records the time of every frame, and that all were yielded."""
        for item in items:
            if isinstance(item, Frame):
                with self._lock:
                    self._times.append(item.pts * item.time_base)
                    self._count += 1
            yield item
        self.complete = True

    def of(self, number: int) -> Fraction | None:
        """Returns a frame's time by number, in seconds of the input's clock. Returns None if the frame was not yet
        recorded, or was recorded too long ago."""
        with self._lock:
            index = number - self._count + len(self._times)
            return self._times[index] if 0 <= index < len(self._times) else None
