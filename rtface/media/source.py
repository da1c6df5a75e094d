"""A film or picture file as frames and packets: decoding that survives what files are like."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from rtface.errors import InputError, UsageError
from rtface.frame import Color, Display, Frame, Packet
from rtface.media import probe
from rtface.media.color import color_of, display_matrix, display_of, has_captions, hdr_of, orientation, tags_of
from rtface.media.probe import Chapter, MediaInfo, StreamInfo
from rtface.media.timeline import Rising
from rtface.protocols import Item
from rtface.stats import Stats

__all__ = ["FileSource", "MediaInfo", "StreamInfo", "open_source"]

# Packets that fail one after the other before the rest of a file is given up.
_GIVE_UP = 200
# Seconds before --start from which decoding begins when a seek to the moment itself lands behind it.
_EARLIER = (0, 5, 30)
# Seconds of other streams read after the last picture of a cut, for packets that come late in the file.
_AFTER_END = 5
# Seconds of sound before the first moment that a decoder needs to warm up.
_PRIMING = Fraction(1, 10)
# Containers whose own duration can be trusted to tell that the end of the file is missing.
_KNOW_DURATION = ("matroska", "mov", "avi", "asf")


def open_source(path: str | os.PathLike[str], *, start: float | None = None, end: float | None = None,
                threads: int | None = None, stats: Stats | None = None, strict: bool = False) -> FileSource:
    """Opens a film or picture and decodes its first frame.

    Args:
        path: a file, or a URL that PyAV opens.
        start, end: cut, in seconds from the input's first moment; frames with start ≤ time < end are given.
        threads: decoder threads, None for FFmpeg's own choice.
        stats: receives counters and warnings.
        strict: raise InputError where the file is damaged, instead of warning and going on.

    Raises:
        InputMissing: it is not there or may not be read.
        InputError: it is empty, cut off before its index, not a film, holds no video, or is larger than the limit.
        UsageError: the cut lies outside the film.
    """
    return FileSource(path, start=start, end=end, threads=threads, stats=stats or Stats(), strict=strict)


class FileSource:
    """Yields the frames of one picture stream and the packets of all other streams, in demux order.

    Frames come in order of presentation with the pts they have in the file. `info` says what the file is. Everything
    that had to be repaired is counted in `stats` and warned about once.

    Close it only from the thread that iterates, or when no thread does.
    """

    def __init__(self, path: str | os.PathLike[str], *, start: float | None, end: float | None, threads: int | None,
                 stats: Stats, strict: bool) -> None:
        self._path = path
        self._name = probe.shown(path)
        self._threads = threads
        self._stats = stats
        self._strict = strict
        if start is not None and start < 0:
            raise UsageError(f"--start {start:g}: give seconds from 0 on")
        if end is not None and end <= (start or 0):
            raise UsageError(f"{self._name}: nothing lies between --start {start or 0:g} and --end {end:g}")
        self._waiting: deque[Item] = deque()
        self._container, self._video = self._open()
        try:
            self._clock_start = Fraction(self._container.start_time or 0, 1_000_000)
            self._start = None if not start else self._clock_start + Fraction(start).limit_denominator(1_000_000)
            self._end = None if end is None else self._clock_start + Fraction(end).limit_denominator(1_000_000)
            self._check_cut(start)
            self._items = self._begin()
            self.info = self._describe(next(i for i in self._waiting if isinstance(i, Frame)))
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Item]:
        while self._waiting:
            yield self._waiting.popleft()
        yield from self._items

    def close(self) -> None:
        """Releases the file and the decoder; safe to call twice."""
        self._waiting.clear()
        self._items = iter(())
        self._container.close()

    # -- opening ------------------------------------------------------------------------------------------------

    def _open(self) -> tuple[InputContainer, VideoStream]:
        container = probe.open_container(self._path)
        try:
            video, self._note = probe.choose_video(container, self._name)
        except BaseException:
            container.close()
            raise
        context = video.codec_context
        context.thread_count = self._threads or 0
        context.thread_type = "AUTO"
        rate, self._rate_known = probe.rate_of(video)
        self._rate = rate
        self._time_base = video.time_base or Fraction(1, 1_000_000)
        step = 1 / (rate * self._time_base)
        self._clock = Rising(step, step * Fraction(3, 2))
        self._clocks: dict[int, Rising] = {}
        self._step = max(1, round(step))
        self._size: tuple[int, int, str] | None = None
        self._siting: str | None = None
        self._seen_colour: tuple[int, ...] | None = None
        self._color = Color()
        self._displays: dict[bool, Display] = {}
        self._still = container.format.name.endswith("_pipe") or container.format.name == "image2"
        self._frames = 0
        self._landed: bool | None = None  # whether a seek led to a picture at or before the cut; None before the first
        self._failed_in_a_row = 0
        self._reached = Fraction(0)  # end of the last frame, seconds of the input's clock
        self._reached_any = Fraction(0)  # end of the last frame or packet
        self._pictures: dict[int, bytes] = {}
        return container, video

    def _check_cut(self, start: float | None) -> None:
        duration = self._container.duration
        if start and duration and start * 1_000_000 >= duration:
            raise UsageError(f"{self._name}: --start {start:g} lies behind its end ({duration / 1e6:.3f} s)")

    def _begin(self) -> Iterator[Item]:
        """Iterator over the items; the first frame and all before it are put into `_waiting`."""
        attempts: tuple[int | None, ...] = (None,) if self._start is None else (*_EARLIER, None)
        for earlier in attempts:
            if self._start is not None and earlier is not None:
                target = max(self._start - earlier, self._clock_start)
                try:
                    self._container.seek(int(target / self._time_base), stream=self._video)
                except av.FFmpegError:
                    continue
            elif self._start is not None:  # no seek lands before the moment: decode from the very beginning
                self._container.close()
                self._container, self._video = self._open()
            self._landed = None if earlier is not None and self._start is not None else True
            items = self._decode()
            for item in items:
                if self._overshot():
                    break
                self._waiting.append(item)
                if isinstance(item, Frame):
                    return items
            if self._landed:
                break
            self._waiting.clear()
            self._container.close()
            self._container, self._video = self._open()
        if self._start is not None and self._frames:
            raise UsageError(f"{self._name}: has no picture from --start {float(self._start - self._clock_start):g} on")
        raise InputError(f"{self._name}: has no picture that can be decoded; the file is damaged, copy it again")

    def _overshot(self) -> bool:
        return self._landed is False

    def _describe(self, first: Frame) -> MediaInfo:
        container, image = self._container, first.image
        duration = self._expected_end()
        length = None if duration is None else duration - self._clock_start
        if length is not None:
            until = length if self._end is None else min(length, self._end - self._clock_start)
            length = max(Fraction(0), until - (self._start - self._clock_start if self._start is not None else 0))
        matrix = self._matrix
        aspect = self._video.sample_aspect_ratio
        width, height = image.width * float(first.display.aspect), float(image.height)
        if first.display.quarter_turns % 2:
            width, height = height, width
        alpha = any(c.is_alpha for c in image.format.components)
        streams = probe.streams_of(container, self._video)
        for stream in streams:
            stream.picture = self._pictures.get(stream.index)
        if not self._rate_known and not self._still:
            self._stats.warn("rate", f"{self._name}: does not say its frame rate; {self._rate} frames a second assumed")
        return MediaInfo(
            path=self._name, format=container.format.name, duration_s=None if length is None else float(length),
            width=image.width, height=image.height, display_width=round(width), display_height=round(height),
            rate=self._rate, time_base=self._time_base, pix_fmt=image.format.name,
            codec=self._video.codec_context.codec.canonical_name, color=first.color, display=first.display,
            tags=tags_of(image, self._siting), matrix=matrix, aspect=aspect, interlaced=image.interlaced_frame,
            is_still=self._still, has_audio=bool(container.streams.audio),
            transparent=alpha and int(image.reformat(format="rgba").to_ndarray()[..., 3].min()) < 255,
            streams=streams, chapters=self._chapters(), metadata=dict(container.metadata),
            expected_frames=1 if self._still else None if length is None else max(1, round(length * self._rate)),
            hdr=hdr_of(image), captions=has_captions(image), start=self._start, end=self._end,
            clock_start=self._clock_start, origin=self._origin(),
            size=None if probe.is_url(self._path) else Path(self._path).stat().st_size,
            notes=[self._note] if self._note else [])

    def _origin(self) -> Fraction:
        if self._start is not None:
            return self._start
        # A film that begins late (broadcast, cut from a longer one) begins at 0 again; a small offset is kept, so
        # that pts stay as they came.
        return self._clock_start if self._clock_start >= 1 or self._clock_start < 0 else Fraction(0)

    def _chapters(self) -> list[Chapter]:
        found: list[Chapter] = []
        for chapter in self._container.chapters():
            base = chapter["time_base"]
            if base:
                found.append(Chapter(chapter["start"] * base, chapter["end"] * base, dict(chapter["metadata"])))
        return found

    # -- decoding -----------------------------------------------------------------------------------------------

    def _decode(self) -> Iterator[Item]:
        video = self._video.index
        pictures = {s.index for s in self._container.streams if s.disposition & Disposition.attached_pic}
        done = False
        for packet in self._packets():
            index = packet.stream_index
            if index == video:
                if done:
                    continue
                for image in self._images(packet):
                    frame = self._frame(image)
                    if frame is None:
                        continue
                    if self._end is not None and frame.pts * self._time_base >= self._end:
                        done = True
                        break
                    yield frame
            elif index in pictures:
                self._pictures.setdefault(index, bytes(packet))
            else:
                other = self._other(packet)
                if other is not None:
                    yield other
            if self._failed_in_a_row >= _GIVE_UP:
                self._fault("gave_up", f"{_GIVE_UP} packets in a row could not be decoded: the rest is left out")
                break
            if done and self._reached_any >= (self._end or 0) + _AFTER_END:
                return
        if done:
            return
        for image in self._flush():
            frame = self._frame(image)
            if frame is not None and (self._end is None or frame.pts * self._time_base < self._end):
                yield frame
        self._check_end()

    def _packets(self) -> Iterator[av.Packet[Stream]]:
        """All packets; where the demuxer itself fails, reading goes on behind the fault."""
        failed = 0
        while failed < _GIVE_UP:
            try:
                for packet in self._container.demux():
                    if packet.size:  # the empty ones at the end only ask for a flush
                        failed = 0
                        yield packet
                return
            except av.FFmpegError as error:
                failed += 1
                self._stats.count("read_errors")
                self._fault("read_error", f"a part could not be read ({error.strerror}); it is left out")
                if probe.is_url(self._path):  # behind a broken connection nothing comes
                    return

    def _images(self, packet: av.Packet[Stream]) -> list[av.VideoFrame]:
        try:
            images = self._video.decode(packet)  # pyright: ignore[reportArgumentType]
        except av.FFmpegError as error:
            self._failed_in_a_row += 1
            self._stats.count("packets_lost")
            self._fault("packets_lost", f"a damaged part could not be decoded ({error.strerror}); it is left out")
            return []
        if images:
            self._failed_in_a_row = 0
        return images

    def _flush(self) -> Iterator[av.VideoFrame]:
        for _ in range(_GIVE_UP):
            try:
                images = self._video.decode(None)
            except av.EOFError:
                return
            except av.FFmpegError:
                self._stats.count("packets_lost")
                continue
            if not images:
                return
            yield from images

    def _frame(self, image: av.VideoFrame) -> Frame | None:
        """A decoded picture as a Frame, or None where it lies before the cut."""
        if self._landed is None:
            self._landed = image.pts is not None and image.key_frame and self._before_start(image.pts)
        pts, change = self._clock.next(image.pts)
        if change == "missing":
            self._stats.count("pts_missing")
            if self._frames == 0 and not self._still:
                self._stats.warn("pts_missing", f"{self._name}: has no timestamps; its pictures are counted at "
                                 f"{float(self._rate):g} frames a second, which is a guess")
        elif change:
            self._stats.count("pts_repaired")
            self._fault("pts_repaired", "its timestamps go back; they were made to rise")
        duration = image.duration or self._step
        self._reached = (pts + duration) * self._time_base
        self._reached_any = max(self._reached_any, self._reached)
        self._frames += 1
        if self._start is not None and (pts + Fraction(1, 2)) * self._time_base < self._start:
            return None
        self._stats.count("frames_in")
        if image.is_corrupt:
            self._stats.count("frames_corrupt")
            self._fault("frames_corrupt", "some pictures are damaged; they are kept as the decoder shows them")
        image = self._same_size(image)
        image.pts, image.time_base, image.duration = pts, self._time_base, duration
        return Frame(image, pts, self._time_base, duration, self._color_of(image), self._display_of(image))

    def _before_start(self, pts: int) -> bool:
        return self._start is not None and pts * self._time_base <= self._start

    def _same_size(self, image: av.VideoFrame) -> av.VideoFrame:
        now = (image.width, image.height, image.format.name)
        if self._size is None:
            self._size = now
            self._siting = probe.details_of(image)[0]
            self._matrix = display_matrix(image)
            self._rotation = image.rotation
        if now == self._size:
            return image
        self._stats.count("frames_resized")
        width, height, kind = self._size
        self._fault("frames_resized", f"changes from {width}×{height} {kind} to {now[0]}×{now[1]} {now[2]} on its way; "
                    "those pictures are scaled to the first size")
        return image.reformat(width, height, kind, interpolation="BICUBIC")

    def _color_of(self, image: av.VideoFrame) -> Color:
        seen = (int(image.colorspace), int(image.color_range), int(image.color_trc), int(image.color_primaries))
        if seen != self._seen_colour:
            self._seen_colour = seen
            self._color = color_of(image, siting=self._siting, codec=self._video.codec_context.codec.canonical_name)
        return self._color

    def _display_of(self, image: av.VideoFrame) -> Display:
        interlaced = image.interlaced_frame
        if interlaced not in self._displays:
            if self._matrix is not None:
                turns, mirror = orientation(self._matrix)
            else:
                turns, mirror = round(-self._rotation / 90) % 4, False
            fields = probe.details_of(image)[1] if interlaced else "progressive"
            self._displays[interlaced] = display_of(turns, mirror, self._video.sample_aspect_ratio, fields)
        return self._displays[interlaced]

    # -- other streams ------------------------------------------------------------------------------------------

    def _other(self, packet: av.Packet[Stream]) -> Packet | None:
        """A packet of another stream with rising timestamps, or None where it lies outside the cut."""
        base = packet.time_base
        stamp = packet.dts if packet.dts is not None else packet.pts
        duration = packet.duration or 0
        if stamp is not None:
            clock = self._clocks.get(packet.stream_index)
            if clock is None:
                step = Fraction(max(1, duration))
                clock = self._clocks[packet.stream_index] = Rising(step, max(2 * step, Fraction(1, 2) / base))
            moved = clock.next(stamp)[0] - stamp
            if moved:
                self._stats.count("packet_times_repaired")
                packet.dts = None if packet.dts is None else packet.dts + moved
                packet.pts = None if packet.pts is None else packet.pts + moved
            begin = (packet.pts if packet.pts is not None else stamp + moved) * base
            end = begin + duration * base
            self._reached_any = max(self._reached_any, end)
            if self._end is not None and begin >= self._end:
                return None
            if packet.is_discard and end < self._clock_start - _PRIMING:
                return None  # an edit list cuts this away; only what the decoder needs to warm up stays
            if self._start is not None and begin < self._start:
                if packet.stream.type != "subtitle" or end <= self._start:
                    return None
                cut = round(self._start / base)  # a subtitle that is on screen at the cut stays there
                packet.pts = packet.dts = cut
                packet.duration = max(1, round(end / base) - cut)
        return Packet(packet, packet.stream_index)

    # -- faults -------------------------------------------------------------------------------------------------

    def _expected_end(self) -> Fraction | None:
        """Where the pictures should end, in seconds of the input's clock, as far as the container says."""
        ends: list[Fraction] = []
        if self._container.duration:
            ends.append(self._clock_start + Fraction(self._container.duration, 1_000_000))
        if self._video.duration:
            ends.append((self._video.duration + (self._video.start_time or 0)) * self._time_base)
        tagged = self._video.metadata.get("DURATION", "")  # written by FFmpeg's Matroska muxer
        parts = tagged.split(":")
        if len(parts) == 3 and all(p.replace(".", "", 1).isdigit() for p in parts):
            ends.append(Fraction(parts[0]) * 3600 + Fraction(parts[1]) * 60 + Fraction(parts[2]))
        return min(ends, default=None)

    def _check_end(self) -> None:
        if self._end is not None or not self._container.format.name.startswith(_KNOW_DURATION):
            return
        expected = self._expected_end()
        if expected is None:
            return
        missing = expected - self._reached
        if missing > max(Fraction(1, 2), 3 / self._rate):
            self._stats.count("truncated")
            self._fault("truncated", f"ends {float(missing):.1f} s before the {float(expected):.1f} s that it "
                        "promises: the end of the file is missing or damaged")

    def _fault(self, key: str, message: str) -> None:
        if self._strict:
            raise InputError(f"{self._name}: {message.split(';')[0]} (--strict)")
        self._stats.warn(key, f"{self._name}: {message}")
