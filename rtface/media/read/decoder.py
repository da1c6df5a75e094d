"""Decoding that survives what files are like: damage, splices, missing times, frames that change size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Literal, TypeAlias

import av
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from rtface.errors import InputError
from rtface.frame import Color, Display, Frame, Packet
from rtface.media.cuda.decoder import GpuDecoder
from rtface.media.formats.color import color_of, display_matrix, display_of, orientation
from rtface.media.read.concealment import Concealment
from rtface.media.read.frame_details import details_of, without_profile
from rtface.media.read.probe import error_text, rate_of
from rtface.media.read.quantiser import QuantiserReader
from rtface.media.read.timeline import RisingTimestamps
from rtface.protocols import Item
from rtface.stats import Stats
from rtface.util.av_gpu import native_format, software
from rtface.util.parse import format_time

_NOTICEABLE_S = Fraction(1, 100)
# Packets that fail one after the other before the rest of a file is given up.
_GIVE_UP = 200
# Seconds of other streams read after the last frame of a cut, for packets that come late in the file.
_AFTER_END = 5
# Seconds by which a time lies so far ahead that the next one is asked whether it is damaged.
_AHEAD_S = 1
# Containers whose own duration can be trusted to tell that the end of the file is missing.
_KNOW_DURATION = ("matroska", "mov", "avi", "asf")
_PLAYLISTS = ("hls", "dash")
# Codecs whose decoder in FFmpeg knows for certain which frames no other frame refers to. (In HEVC such a frame may be
# referred to from a higher temporal layer.)
_KNOW_REFERENCES = ("h264", "mpeg1video", "mpeg2video", "mpeg4")
# Seconds of sound before the beginning that a decoder needs to warm up.
_PRIMING = Fraction(1, 10)

_FIELDS = {"progressive": "progressive frames", "tff": "the top field first", "bff": "the bottom field first"}

Size: TypeAlias = tuple[int, int, str]
"""Width, height and pixel format of decoded frames."""
Fields: TypeAlias = Literal["progressive", "tff", "bff"]


class Decoder:
    """Frames and packets of one opened container, from where it stands.

    Args:
        container, video: what is read, and its video stream.
        name: for messages.
        start, end: cut in seconds of the input's own clock, None for none.
        remote: whether the container is read over a network, where what is missing may be fetched later.
        sought: whether a seek went before, so that it has to be seen where it led.
        gpu: decodes the frames instead of the stream's own decoder.
        stopped: whether what came is all that is wanted of the input.
        size: of all frames that are given; None for that of the first.

    Attributes:
        rate, rate_known: nominal frames a second, and whether the stream said so.
        time_base: seconds of one pts unit.
        still: whether it is a single frame.
        siting: FFmpeg's name of the chroma location, None where unknown; known after the first frame.
        matrix: display matrix, None without; known after the first frame.
        covers: cover images by stream index, as far as they have been met.
        landed: whether the first frame after a seek lies at or before the cut; None before it is seen.
        frames: frames decoded so far, with those before the cut.
        head: the beginning of the first packet of frames.
        first: the first frame in memory of the host, as software decoded it where the GPU decodes the others too.
        reached: end of the last frame, in seconds of the input's clock.
        fields: of the film, as an output notes them; None while that is not decided. Interlaced frames of another order
            are reported.
    """

    def __init__(
        self,
        container: InputContainer,
        video: VideoStream,
        *,
        name: str,
        start: Fraction | None,
        end: Fraction | None,
        remote: bool,
        sought: bool,
        gpu: GpuDecoder | None = None,
        stopped: Callable[[], bool] = lambda: False,
        size: Size | None = None,
    ) -> None:
        self._container, self._video, self._name = container, video, name
        self._start, self._end, self._remote, self._gpu = start, end, remote, gpu
        self._stopped = stopped
        self._decode = gpu.decode if gpu else video.decode
        self._quantisers = QuantiserReader(video.codec_context, gpu=gpu is not None)
        self._concealment = Concealment(video.codec_context)
        self._may_skip = (
            start is not None
            and not gpu
            and container.format.name != "avi"
            and video.codec_context.codec.canonical_name in _KNOW_REFERENCES
        )
        self._stats, self._strict, self._silent = Stats(), False, True
        self._clock_start = Fraction(container.start_time or 0, 1_000_000)
        self.rate, self.rate_known = rate_of(video)
        self.time_base = Fraction(video.time_base or Fraction(1, 1_000_000))
        self.still = container.format.name.endswith("_pipe") or container.format.name == "image2"
        self._dts_only = container.format.name == "avi"
        self.siting: str | None = None
        self.matrix: tuple[int, ...] | None = None
        self.covers: dict[int, bytes] = {}
        self.landed: bool | None = None if sought else True
        self.frames = 0
        self.head = b""
        self.first: av.VideoFrame | None = None
        step = 1 / (self.rate * self.time_base)
        self._step = max(1, round(step))
        self._clock = RisingTimestamps(step, step * Fraction(3, 2))
        self._others = OtherStreams(self._clock_start, start, end)
        self._size: Size | None = None
        self._wanted_size = size
        self._rotation = 0
        self._seen_colour: tuple[int, ...] | None = None
        self._color = Color()
        self.fields: Fields | None = None
        self._displays: dict[Fields, Display] = {}
        self._failed_in_a_row = 0
        self._waiting: av.VideoFrame | None = None
        self._done = False  # the end of the cut was reached
        self.reached = Fraction(0)

    def report_to(self, stats: Stats, *, strict: bool) -> None:
        """From now on counts and warns there; with `strict`, damage raises InputError. Until then nothing is said."""
        self._stats, self._strict, self._silent = stats, strict, False

    def items(self) -> Iterator[Item]:
        """Frames and packets, in demux order, to the end of the cut or the file."""
        video = self._video.index
        covers = {s.index for s in self._container.streams if s.disposition & Disposition.attached_pic}
        for packet in self._packets():
            index = packet.stream_index
            if index == video:
                if self._done:
                    continue
                self.head = self.head or bytes(memoryview(packet)[:4096])
                for image, following in self._settled(self._images(packet)):
                    frame = self._frame(image, following)
                    if frame is None:
                        continue
                    if self._end is not None and frame.pts * self.time_base >= self._end:
                        self._done = True
                        break
                    yield frame
            elif index in covers:
                self.covers.setdefault(index, bytes(packet))
            else:
                other = self._others.cut(packet, self._stats)
                if other is not None:
                    yield other
            if self._failed_in_a_row >= _GIVE_UP:
                self._fault("gave_up", f"{_GIVE_UP} packets in a row could not be decoded: the rest is left out")
                break
            if self._done and max(self.reached, self._others.reached) >= (self._end or 0) + _AFTER_END:
                return
        if self._done:
            return
        for image, following in self._settled(self._flush(), end=True):
            frame = self._frame(image, following)
            if frame is not None and (self._end is None or frame.pts * self.time_base < self._end):
                yield frame
        self._count_missing(self._concealment.missing(None))
        self._check_end()

    def others(self) -> Iterator[Packet | Fraction]:
        """Packets of the other streams as `items` gives them, without decoding a frame; in place of each packet of
        frames its time, in seconds of the input's clock."""
        covers = {s.index for s in self._container.streams if s.disposition & Disposition.attached_pic}
        before: int | None = None  # a single damaged stamp does not count
        for packet in self._packets():
            if packet.stream_index == self._video.index:
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is not None:
                    time = min(stamp, before if before is not None else stamp) * self.time_base
                    before = stamp
                    self.reached = max(self.reached, time)
                    yield time
            elif packet.stream_index not in covers:
                other = self._others.cut(packet, self._stats)
                if other is not None:
                    yield other
            if (
                self._end is not None
                and self.reached >= self._end
                and (max(self.reached, self._others.reached) >= self._end + _AFTER_END)
            ):
                return

    def _packets(self) -> Iterator[av.Packet[Stream]]:
        """All packets; where the demuxer itself fails, reading continues behind the fault.

        Raises:
            InputError: a network source broke off.
        """
        failed = 0
        cut: av.Packet[Stream] | None = None  # of which a network source may have given the beginning only
        while failed < _GIVE_UP:
            try:
                for packet in self._container.demux():
                    if cut is not None:
                        yield cut
                        cut = None
                    if packet.size:  # the empty ones at the end only ask for a flush
                        failed = 0
                        if self._remote and packet.is_corrupt:
                            cut = packet
                        else:
                            yield packet
                if cut is not None:
                    yield cut
                return
            except av.FFmpegError as error:
                failed += 1
                self._stats.count("read_errors")
                if self._remote and not isinstance(error, av.InvalidDataError):
                    self._broke_off(error_text(error))
                    return
                self._fault("read_error", f"a part could not be read ({error.strerror}); it is left out")

    def _images(self, packet: av.Packet[Stream]) -> list[av.VideoFrame]:
        if self._may_skip:  # a frame before the cut that no other refers to is not decoded
            self._video.codec_context.skip_frame = "NONREF" if self._before_cut(packet.pts) else "DEFAULT"
        self._quantisers.note(packet)
        self._concealment.note(packet, awaited=not self._before_cut(packet.pts))
        try:
            images = self._decode(without_profile(packet))  # pyright: ignore[reportArgumentType]
        except av.FFmpegError as error:
            if images := self._concealment.again(packet):
                self._failed_in_a_row = 0
                return images
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
                images = self._decode(None)
            except av.EOFError:
                return
            except av.FFmpegError:
                self._concealment.again(None)
                self._stats.count("packets_lost")
                self._fault("packets_lost", "its last part could not be decoded; it is left out")
                continue
            if not images:
                return
            yield from images

    def _settled(
        self, images: Iterable[av.VideoFrame], *, end: bool = False
    ) -> Iterator[tuple[av.VideoFrame, int | None]]:
        """The images; one whose time jumps ahead comes when the next one is there, with the stamp of that."""
        for image in images:
            if self._waiting is not None:
                waiting, self._waiting = self._waiting, None
                yield waiting, self._stamp(image)
            if self._clock.ahead(self._stamp(image)) * self.time_base > _AHEAD_S:
                self._waiting = image
            else:
                yield image, None
        if end and self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            yield waiting, None

    def _stamp(self, image: av.VideoFrame) -> int | None:
        # AVI knows only the order of decoding; times of presentation made up from it are wrong for packed B-frames.
        return image.dts if self._dts_only else image.pts

    def _frame(self, image: av.VideoFrame, following: int | None = None) -> Frame | None:
        """A decoded frame as a Frame, or None where it lies before the cut.

        Args:
            following: the stamp of the next one, where it is known.
        """
        stamp = self._stamp(image)
        if self.landed is None:
            self.landed = (
                stamp is not None
                and image.key_frame
                and (self._start is not None and stamp * self.time_base <= self._start)
            )
        pts, change = self._clock.next(stamp, following)
        if change == "missing":
            self._stats.count("pts_missing")
            if self.frames == 0 and not self.still and not self._silent:
                self._stats.warn(
                    "pts_missing",
                    f"{self._name}: has no timestamps; its frames are counted at "
                    f"{float(self.rate):g} frames a second, which is a guess",
                )
        elif change:
            self._stats.count("pts_repaired")
            self._fault("pts_repaired", "its timestamps go back; they were made to rise")
        gap = pts * self.time_base - self.reached
        if self._remote and self.frames and gap > 1 and self._container.format.name.startswith(_PLAYLISTS):
            self._stats.count("gaps")  # FFmpeg continues with the next segment where one cannot be fetched
            at = format_time(float(self.reached - self._clock_start))
            self._fault(
                "gap",
                f"{float(gap):.1f} s are missing at {at}: a segment could not be fetched, or the stream jumps there",
            )
        damaged, missing = self._concealment.damaged(image), self._concealment.missing(image)
        duration = image.duration or self._step
        self.reached = (pts + duration) * self.time_base
        self.frames += 1
        if self._before_cut(pts):
            return None
        self._stats.count("frames_in")
        if damaged:
            self._stats.count("frames_corrupt", damaged)
            self._fault("frames_corrupt", "some frames are damaged; they are kept as the decoder shows them")
        self._count_missing(missing)
        quantisers = self._quantisers.of(image)
        sized = self._same_size(image)
        if sized is not image:
            image, quantisers = sized, None
        image.pts, image.time_base, image.duration = pts, self.time_base, duration
        return Frame(
            image, pts, self.time_base, duration, self._color_of(image), self._display_of(image), quantisers=quantisers
        )

    def _count_missing(self, missing: int) -> None:
        if missing:
            self._stats.count("packets_lost", missing)
            at = format_time(float(self.reached - self._clock_start))
            self._fault(
                "frames_missing", f"frames are missing near {at}; the report counts them, the others keep their times"
            )

    def _before_cut(self, pts: int | None) -> bool:
        return self._start is not None and pts is not None and (pts + Fraction(1, 2)) * self.time_base < self._start

    def _same_size(self, image: av.VideoFrame) -> av.VideoFrame:
        now = (image.width, image.height, native_format(image))
        if self._size is None:
            self._size = self._wanted_size or now
            # A decoder on the GPU does not know what the container says of its frames.
            self.first = first = (self._gpu.first if self._gpu else None) or software(image)
            self.siting = details_of(first)[0]
            self.matrix = display_matrix(first)
            self._rotation = first.rotation
        if now == self._size:
            return image
        self._stats.count("frames_resized")
        width, height, kind = self._size
        self._fault(
            "frames_resized",
            f"changes from {width}×{height} {kind} to {now[0]}×{now[1]} {now[2]} on its way; "
            "those frames are scaled to the first size",
        )
        return software(image).reformat(width, height, kind, interpolation="BICUBIC")

    def _color_of(self, image: av.VideoFrame) -> Color:
        seen = (int(image.colorspace), int(image.color_range), int(image.color_trc), int(image.color_primaries))
        if seen != self._seen_colour:
            self._seen_colour = seen
            self._color = color_of(image, siting=self.siting, codec=self._video.codec_context.codec.canonical_name)
        return self._color

    def _display_of(self, image: av.VideoFrame) -> Display:
        fields: Fields = "progressive"
        if image.interlaced_frame and self._gpu and self._displays.keys() - {"progressive"}:
            fields = next(known for known in self._displays if known != "progressive")  # a copy of each frame is dear
        elif image.interlaced_frame:
            fields = details_of(software(image))[1]
        if self.fields is not None and fields not in ("progressive", self.fields):
            at = format_time(float(self.reached - self._step * self.time_base - self._clock_start))
            self._fault(
                "fields_changed",
                f"changes from {_FIELDS[self.fields]} to {_FIELDS[fields]} at {at}; the "
                "output notes the first throughout",
            )
        if fields not in self._displays:
            if self.matrix is not None:
                turns, mirror = orientation(self.matrix)
            else:
                turns, mirror = round(-self._rotation / 90) % 4, False
            self._displays[fields] = display_of(turns, mirror, self._video.sample_aspect_ratio, fields)
        return self._displays[fields]

    # -- faults -------------------------------------------------------------------------------------------------

    def expected_end(self) -> Fraction | None:
        """Where the frames should end, in seconds of the input's clock, as far as the container says."""
        ends: list[Fraction] = []
        # The length of a film in fragments (its index names no frame) is the time at which the last fragment ends.
        parts = self._container.format.name.startswith("mov") and not self._video.frames
        if self._container.duration:
            ends.append((0 if parts else self._clock_start) + Fraction(self._container.duration, 1_000_000))
        if self._video.duration:
            ends.append((self._video.duration + (0 if parts else self._video.start_time or 0)) * self.time_base)
        if parts and min(ends, default=Fraction(0)) <= self._clock_start:
            return None
        tagged = self._video.metadata.get("DURATION", "")  # written by FFmpeg's Matroska muxer
        parts = tagged.split(":")
        if len(parts) == 3 and all(p.replace(".", "", 1).isdigit() for p in parts):
            ends.append(Fraction(parts[0]) * 3600 + Fraction(parts[1]) * 60 + Fraction(parts[2]))
        return min(ends, default=None)

    def _check_end(self) -> None:
        known = _KNOW_DURATION if not self._remote else (*_KNOW_DURATION, *_PLAYLISTS)
        if not self.frames or self._end is not None or self._stopped():
            return  # where there is no frame at all, that is said
        if not self._container.format.name.startswith(known):
            return
        expected = self.expected_end()
        if expected is None:
            return
        missing = expected - self.reached
        if missing > max(Fraction(1, 2), 3 / self.rate):
            self._stats.count("truncated")
            if self._remote:
                self._broke_off("it ends too early")
            self._fault(
                "truncated",
                f"ends {float(missing):.1f} s before the {float(expected):.1f} s that it "
                "promises: the end of the file is missing or damaged",
            )

    def _broke_off(self, why: str) -> None:
        """Raises InputError, for a film from a network may be fetched whole later; not where the cut was reached."""
        if self._done:
            return
        whole = self.expected_end()
        of = "" if whole is None else f" of {format_time(float(whole - self._clock_start))}"
        reached = max(Fraction(0), self.reached - self._clock_start)
        raise InputError(
            f"{self._name}: broke off after {format_time(float(reached))}{of} ({why}), and asking for the "
            "rest did not help; try again later"
        )

    def _fault(self, key: str, message: str) -> None:
        if self._strict:
            raise InputError(f"{self._name}: {message.split(';')[0]} (--strict)")
        if not self._silent:
            self._stats.warn(key, f"{self._name}: {message}")


class OtherStreams:
    """Gives packets rising timestamps and leaves out those that lie outside the cut.

    Args:
        clock_start: beginning of the input's clock in seconds.
        start, end: the cut in seconds of that clock, None for none.

    Attributes:
        reached: end of the last packet, in seconds of the input's clock.
    """

    def __init__(self, clock_start: Fraction, start: Fraction | None, end: Fraction | None) -> None:
        self._clock_start, self._start, self._end = clock_start, start, end
        self._clocks: dict[int, RisingTimestamps] = {}
        self._last: dict[int, tuple[int, int]] = {}  # by stream: the last packet's time as it came, and what was added
        self.reached = Fraction(0)

    def cut(self, packet: av.Packet[Stream], stats: Stats) -> Packet | None:
        """The packet with rising timestamps, or None where it lies outside the cut."""
        base = packet.time_base
        stamp = packet.dts if packet.dts is not None else packet.pts
        duration = packet.duration or 0
        if stamp is not None:
            clock = self._clocks.get(packet.stream_index)
            if clock is None:
                step = Fraction(max(1, duration))
                clock = self._clocks[packet.stream_index] = RisingTimestamps(step, max(2 * step, Fraction(1, 2) / base))
            before, moved = self._last.get(packet.stream_index, (None, 0))
            if stamp != before or packet.stream.type != "subtitle":  # several texts may begin together
                moved = clock.next(stamp)[0] - stamp
            self._last[packet.stream_index] = stamp, moved
            if moved:
                stats.count("packet_times_repaired")
                if moved * base > _NOTICEABLE_S:
                    stats.warn(
                        f"packet_times:{packet.stream_index}",
                        f"stream {packet.stream_index}: time stamps of its packets do not rise; they were made to",
                    )
                packet.dts = None if packet.dts is None else packet.dts + moved
                packet.pts = None if packet.pts is None else packet.pts + moved
            begin = (packet.pts if packet.pts is not None else stamp + moved) * base
            end = begin + duration * base
            self.reached = max(self.reached, end)
            if self._end is not None and begin >= self._end:
                return None
            pcm = (packet.stream.name or "").startswith("pcm_")
            if packet.is_discard and (pcm or end < self._clock_start - _PRIMING):
                return None  # an edit list cuts this away; only what the decoder needs to warm up stays
            if self._start is not None and begin < self._start:
                if packet.stream.type != "subtitle" or end <= self._start:
                    return None
                cut = round(self._start / base)  # a subtitle that is on screen at the cut stays there
                packet.pts = packet.dts = cut
                packet.duration = max(1, round(end / base) - cut)
        return Packet(packet, packet.stream_index)
