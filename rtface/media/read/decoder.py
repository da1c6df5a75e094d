"""Reads frames and packets, even from spliced, truncated and untimed files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from rtface.errors import InputError
from rtface.frame import Frame, Packet
from rtface.media.cuda.decoder import GpuDecoder
from rtface.media.formats.coded_headers.units import UNITS
from rtface.media.read.combs import ChosenFields, warn_if_combed
from rtface.media.read.container import (
    error_text,
    expected_end,
    is_still,
    is_unsized_end,
    rate_of,
    time_base_of,
)
from rtface.media.read.edited_times import EditedTimes
from rtface.media.read.enlarge import Enlarger
from rtface.media.read.faults import Faults
from rtface.media.read.frame_form import FrameForm, Size
from rtface.media.read.packet_decoder import GIVE_UP, PacketDecoder
from rtface.media.read.pipe import PipeReader
from rtface.media.read.received import Received
from rtface.media.read.timeline import Cut, FrameClock, OtherStreams, RisingTimestamps
from rtface.media.read.variants import kept_streams
from rtface.protocols import Item

# Seconds past the end of a cut up to which other streams are read: their packets may come late in the file.
_AFTER_END_S = 5
# Containers whose duration is reliable enough to detect a truncated file.
_RELIABLE_DURATION = ("matroska", "mov", "avi", "asf")


class SeekMissed(Exception):
    """Tells that a seek did not reach a keyframe before the cut."""


class Decoder:
    """Yields frames and packets of an open container from its current position.

    Args:
        container, video: the input, and its video stream.
        faults: reports the input's damage.
        cut: the part to read.
        remote: whether the container is read over a network, so that missing parts may be available later.
        sought: whether a seek preceded, so that the first frame must be checked.
        gpu: decodes the frames instead of the stream's decoder.
        pipe: the pipe that is read, if any; if it was stopped, the end is not checked.
        size: size to scale all frames to; None for the size of the first frame.
        received: compares the packets with the container's index; None if only a part is read.
        enlarger: scales frames to the size of the output.
        arriving: yields the container's packets, with DTS only; None reads the container itself.
        fields: argument `chosen` of `ChosenFields`.

    Attributes:
        form: common properties of the frames.
        covers: cover images read so far, by stream index.
        frames: number of frames decoded so far, including those before the cut.
        head: the first bytes of the first video packet.
        hidden: number of NAL units that the decoder ignores, by kind (second views, layers), up to the first frame.
        reached: end of the last frame, in seconds of the input's clock.
    """

    def __init__(
        self,
        container: InputContainer,
        video: av.VideoStream,
        faults: Faults,
        cut: Cut,
        *,
        enlarger: Enlarger,
        remote: bool = False,
        sought: bool = False,
        gpu: GpuDecoder | None = None,
        pipe: PipeReader | None = None,
        size: Size | None = None,
        received: Received | None = None,
        arriving: Iterable[av.Packet[Stream]] | None = None,
        fields: str | None = None,
    ) -> None:
        self._container, self._video, self._faults, self._cut = container, video, faults, cut
        self._received, self._enlarger, self._arriving = received, enlarger, arriving
        self._remote, self._sought, self._pipe = remote, sought, pipe
        self._rate, self._base = rate_of(video)[0], time_base_of(video)
        step = 1 / (self._rate * self._base)
        self._step = max(1, round(step))
        # AVI stores only the decoding order; FFmpeg's guesses of presentation times are wrong for packed B-frames.
        self._clock = FrameClock(step, self._base, by_dts=container.format.name == "avi" or arriving is not None)
        self._decoder = PacketDecoder(video, faults, cut, gpu)
        self._others, self._edited = OtherStreams(cut), EditedTimes(container)
        self.form = FrameForm(video, faults, cut, size, gpu)
        self._fields = ChosenFields(fields, enlarged=enlarger.scale is not None, faults=faults)
        self._covered = {s.index for s in container.streams if s.disposition & Disposition.attached_pic}
        self.covers: dict[int, bytes] = {}
        self.frames, self.head, self.reached = 0, b"", Fraction(0)
        self.hidden, self._units = Counter[str](), UNITS.get(video.codec_context.codec.canonical_name)
        self._past_end = False  # the end of the cut was reached

    def items(self) -> Iterator[Item]:
        """Yields frames and packets in demux order.

        Raises:
            SeekMissed: the first frame after a seek is not a keyframe at or before the cut.
        """
        for packet in self._packets():
            index = packet.stream_index
            if index == self._video.index:
                if not self._past_end:
                    self.head = self.head or bytes(memoryview(packet)[:4096])
                    if self._units is not None and not self.frames:
                        self.hidden.update(
                            self._units.hidden_in(bytes(packet), bytes(self._video.codec_context.extradata or b""))
                        )
                    yield from self._frames(self._decoder.images(packet))
            elif index in self._covered:
                self.covers.setdefault(index, bytes(packet))
            elif (other := self._others.cut(packet, self._faults)) is not None:
                yield other
            if self._decoder.failed_in_a_row >= GIVE_UP:
                self._faults.report("gave_up", f"{GIVE_UP} packets in a row could not be decoded: the rest is left out")
                break
            if self._past_end and self._all_read():
                break
        warn_if_combed(self._faults.stats, self._faults.name, enlarged=self._enlarger.scale is not None)
        if self._past_end:
            return
        yield from self._frames(self._decoder.flush(), end=True)
        self._count_missing(self._decoder.concealment.missing(None))
        self._check_end()

    def others(self) -> Iterator[Packet | Fraction]:
        """Yields packets of the other streams without decoding video. Video packets are replaced by their times, in
        seconds of the input's clock."""
        previous: int | None = None  # previous timestamp: a single damaged one must not end the reading
        for packet in self._packets():
            if packet.stream_index == self._video.index:
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is not None:
                    time = min(stamp, previous if previous is not None else stamp) * self._base
                    previous = stamp
                    self.reached = max(self.reached, time)
                    yield time
            elif (
                packet.stream_index not in self._covered
                and (other := self._others.cut(packet, self._faults)) is not None
            ):
                yield other
            if self._cut.is_behind(self.reached) and self._all_read():
                return

    def _all_read(self) -> bool:
        """Returns whether reading passed the end of the cut by `_AFTER_END_S`."""
        return max(self.reached, self._others.reached) >= (self._cut.end or 0) + _AFTER_END_S

    def _packets(self) -> Iterator[av.Packet[Stream]]:
        """Yields all packets. Continues after faults of the demuxer.

        Raises:
            InputError: the connection to a network source ended.
        """
        failed, clock = 0, RisingTimestamps(Fraction(self._step), Fraction(1, 2) / self._base)
        partial: av.Packet[Stream] | None = None  # packet of which a network source may have sent only a part
        while failed < GIVE_UP:
            try:
                for demuxed in self._arriving or self._container.demux(kept_streams(self._container, self._video)):
                    if self._received is not None:
                        self._received.note(demuxed)
                    if (packet := self._edited.timed(demuxed)) is None:
                        continue
                    if partial is not None:
                        yield partial
                        partial = None
                    if packet.stream_index == self._video.index:
                        self._others.follow(packet, clock)
                    if packet.size:  # empty packets at the end only request a flush
                        failed = 0
                        if self._remote and packet.is_corrupt:
                            partial = packet
                        else:
                            yield packet
            except av.FFmpegError as error:
                if self._remote and is_unsized_end(error, self._container):
                    break
                failed += 1
                if self._remote and not isinstance(error, av.InvalidDataError):
                    self._broke_off(error_text(error))
                    return
                self._faults.report("read_error", f"a part could not be read ({error.strerror}); it is left out")
            except IndexError:  # PyAV raises it at the end for undeclared streams
                self._faults.report("unannounced", "a stream that the header does not declare is left out")
                break
            else:
                break
        if partial is not None and failed < GIVE_UP:
            yield partial
        if self._received is not None and failed < GIVE_UP:
            self._received.compare(self._faults)

    def _frames(self, images: Iterable[av.VideoFrame], *, end: bool = False) -> Iterator[Frame]:
        """Yields the frames within the cut.

        Args:
            images: the decoded images.
            end: whether these are the last images.
        """
        for image, following in self._clock.settled(images, end=end):
            if self._sought:
                self._sought, stamp, start = False, self._clock.stamp(image), self._cut.start or 0
                if stamp is None or not image.key_frame or stamp * self._base > start:
                    raise SeekMissed
            frame = self._frame(image, following)
            if frame is None:
                continue
            if not self._cut.is_behind(frame.pts * self._base):
                yield frame
            elif not end:
                self._past_end = True
                return

    def _frame(self, image: av.VideoFrame, following: int | None) -> Frame | None:
        """Converts an image to a Frame. Returns None if it lies before the cut.

        Args:
            following: the timestamp of the next image, if known.
        """
        faults, form = self._faults, self.form
        pts, change = self._clock.next(image, following)
        if change == "missing":
            if self.frames == 0 and not is_still(self._container):
                faults.warn(
                    "pts_missing",
                    f"has no timestamps; a rate of {float(self._rate):g} frames a second is assumed",
                )
        elif change and self._arriving is None:  # repaired arrival times are not a fault of the input
            faults.count("pts_repaired", "its timestamps go back; they were corrected")
        gap = pts * self._base - self.reached
        if self._remote and self.frames and gap > 1 and self._container.format.name == "hls":
            faults.report(
                "gap",  # FFmpeg skips a segment that cannot be fetched
                f"{float(gap):.1f} s are missing at {self._cut.shown(self.reached)}: a segment could not be fetched, "
                "or the stream jumps there",
            )
        concealment = self._decoder.concealment
        damaged, missing = concealment.damaged(image), concealment.missing(image)
        duration = image.duration or self._step
        self.reached = (pts + duration) * self._base
        self.frames += 1
        if self._cut.is_before(pts, self._base):
            return None
        faults.stats.count("frames_in")
        if damaged:
            faults.count("frames_corrupt", "some frames are damaged; they are kept as decoded", damaged)
        self._count_missing(missing)
        quantisers = self._decoder.quantisers.of(image)
        scaled = form.sized(image)
        if scaled is not image:
            image, quantisers = scaled, None
        image = self._fields.marked(image)
        image.pts, image.time_base, image.duration = pts, self._base, duration
        display = form.display_of(image, self.reached - self._step * self._base)
        frame = Frame(image, pts, self._base, duration, form.color_of(image), display, quantisers=quantisers)
        return self._enlarger(self._fields.with_fields(frame))

    def _count_missing(self, missing: int) -> None:
        if missing:
            self._faults.stats.count("packets_lost", missing)
            self._faults.report(
                "frames_missing",
                f"frames are missing near {self._cut.shown(self.reached)}; the report counts them, and the "
                "other frames keep their times",
            )

    def _check_end(self) -> None:
        formats = _RELIABLE_DURATION if not self._remote else (*_RELIABLE_DURATION, "hls")
        expected = expected_end(self._container, self._video)
        if not self.frames or self._cut.end is not None or (self._pipe and self._pipe.stopped) or expected is None:
            return  # a film without frames is reported elsewhere
        missing = expected - self.reached
        if missing > max(Fraction(1, 2), 3 / self._rate) and self._container.format.name.startswith(formats):
            if self._remote:
                self._broke_off("it ends too early")
            self._faults.report(
                "truncated",
                f"ends {float(missing):.1f} s before its stated end at {float(expected):.1f} s: the end of the file "
                "is missing or damaged",
            )

    def _broke_off(self, why: str) -> None:
        """Raises InputError unless the cut is complete. The rest of the film may be available later."""
        if self._past_end:
            return
        film_end = expected_end(self._container, self._video)
        raise InputError(
            "{name}: the connection ended after {reached}{of} ({why}), and requests for the rest failed; try again "
            "later",
            code="address_broke_off",
            name=self._faults.name,
            reached=self._cut.shown(max(self._cut.clock_start, self.reached)),
            of="" if film_end is None else f" of {self._cut.shown(film_end)}",
            why=why,
        )
