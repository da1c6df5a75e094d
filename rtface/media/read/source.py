"""Reads frames and packets of films and images, even damaged ones."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from threading import Event, Lock

import av
from av.container import InputContainer

from rtface.errors import InputError, InputMissing, UsageError
from rtface.frame import Frame, Packet
from rtface.media.cuda.decoder import GpuDecoder
from rtface.media.read.arrivals import ArrivingPackets
from rtface.media.read.container import (
    NO_TIMES,
    choose_video,
    clock_start_of,
    is_still,
    open_container,
    rate_of,
    time_base_of,
)
from rtface.media.read.decoder import Decoder, SeekMissed
from rtface.media.read.enlarge import Enlarger
from rtface.media.read.faults import Faults
from rtface.media.read.file_reader import FileReader, file_reader
from rtface.media.read.frame_form import Fields, Size
from rtface.media.read.hardware import Decoding, open_on_gpu
from rtface.media.read.media_info import MediaInfo
from rtface.media.read.pipe import PipeReader, is_pipe
from rtface.media.read.probe import describe
from rtface.media.read.quantiser import threads_for
from rtface.media.read.received import Received
from rtface.media.read.timeline import Cut
from rtface.protocols import Item
from rtface.redaction import is_url, shown
from rtface.stats import Stats
from rtface.util.av_gpu import on_gpu

# Seconds before --start to seek to. The next number is tried if a seek lands after --start.
_SEEK_EARLIER_S = (0, 5, 30)

# If the first frame is progressive, but codec and height are among those of interlaced television, more frames are
# checked for fields, up to this number and this size in total.
_BROADCAST_CODECS, _BROADCAST_HEIGHTS = ("mpeg2video", "h264", "vc1"), (480, 486, 512, 576, 608, 1080, 1088)
_MAX_CHECKED, _MAX_CHECKED_BYTES = 25, 64 << 20

# Seconds that `close` waits for a pending read.
_CLOSE_S = 0.2


class FileSource:
    """Yields video frames and all other streams' packets in demux order.

    Frames come in presentation order with the pts of the file. The constructor decodes the first frame. `stats` counts
    all repairs and warns about each kind once.

    If the source is closed while another thread is blocked in a read (a dead network drive), the file stays open.

    Args:
        path: file of a film or image, or a URL that PyAV opens.
        start, end: cut in seconds from the input's beginning; frames with start ≤ time < end are yielded.
        threads: number of decoder threads; None for FFmpeg's choice.
        stats: receives counters and warnings.
        strict: raise InputError for a damaged file instead of warning.
        decode: GPU to decode with, if possible (`hardware.decoding`); None for software.
        stop: event that ends the input when it is set; for pipes only.
        size: size to scale all frames to; None means the size of the first frame.
        fields: expected field order, from an earlier opening of the film; another order is reported. None detects it.
        scale: size to enlarge frames to (``--scale``); None leaves them unchanged.
        chosen: value of ``--fields``; None trusts the flags, and detects no combed frames.
        variant: variant of an HLS manifest (``--variant``).

    Attributes:
        info: properties of the input.
        pipe: the reader if the input is a pipe, else None.

    Raises:
        InputMissing: the input does not exist or may not be read.
        InputError: the input is empty, cut off before its index, not a film, without video, or over the size limit.
        UsageError: the cut lies outside the film, or frames cannot be enlarged to `scale`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        start: float | None = None,
        end: float | None = None,
        threads: int | None = None,
        stats: Stats | None = None,
        strict: bool = False,
        decode: Decoding | None = None,
        stop: Event | None = None,
        size: Size | None = None,
        fields: Fields | None = None,
        scale: str | None = None,
        chosen: str | None = None,
        variant: str = "best",
    ) -> None:
        self._path, self._name = path, shown(path)
        self._threads, self._stats, self._strict = threads, stats or Stats(), strict
        self._decoding, self._size, self._variant = decode, size, variant
        self._enlarger, self._chosen = Enlarger(scale), chosen
        self._gpu: GpuDecoder | str | None = None
        self._stop = stop or Event()
        self.pipe: PipeReader | None = None
        self._arriving: ArrivingPackets | None = None
        self._read_lock = Lock()
        if start is not None and start < 0:
            raise UsageError("{--start:{value:g}}: specify 0 or more seconds", code="start_negative", value=start)
        if end is not None and end <= (start or 0):
            raise UsageError(
                "{name}: there is nothing between {--start:{start:g}} and {--end:{end:g}}",
                code="cut_empty",
                name=self._name,
                start=start or 0,
                end=end,
            )
        self._queue: deque[Item] = deque()
        self._readers: list[PipeReader | FileReader | None] = []
        self._active: Decoder | None = None  # set as soon as the first frame is decoded
        self._container, self._video = self._open()
        try:
            clock_start = clock_start_of(self._container)
            self._cut = Cut(
                clock_start,
                None if not start else clock_start + Fraction(start).limit_denominator(1_000_000),
                None if end is None else clock_start + Fraction(end).limit_denominator(1_000_000),
            )
            duration = self._container.duration
            if start and duration and start * 1_000_000 >= duration:
                raise UsageError(
                    "{name}: {--start:{start:g}} is after its end (it lasts {duration:.3f} s)",
                    code="start_after_end",
                    name=self._name,
                    start=start,
                    duration=duration / 1e6,
                )
            self._active, self._items = self._start_decoder()
            first = self._queue[-1]
            assert isinstance(first, Frame)
            if fields is None:
                self._look_for_fields(first)
            self.info = self._describe(self._active, first)
            if self.info.decoded is not None and self.info.interlaced and fields is None:
                raise UsageError(
                    "{--scale}: {name} is interlaced, and enlarging would mix its fields; deinterlace it first "
                    "(FFmpeg: -vf bwdif), or leave the option out",
                    code="scale_fields",
                    name=self._name,
                )
            self._active.form.fields = fields or self.info.display.fields
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Item]:
        while self._queue:
            yield self._queue.popleft()
        while True:
            with self._read_lock:
                item = next(self._items, None)
            if item is None:
                if self._arriving is not None and self._arriving.full:
                    self._stats.warn(
                        "arrivals",
                        f"{self._name}: has no timestamps and arrived faster than it was processed. Its sender had to "
                        "wait, so the times are too long; record it first (--correct never), then enhance that",
                    )
                if isinstance(reader := self._readers[-1], FileReader) and self._cut.end is None and self._active:
                    reader.check_growth(self._stats, self._cut.shown(self._active.reached))
                return
            yield item

    def others(self) -> Iterator[Packet | Fraction]:
        """Yields packets of the other streams without decoding video. Call it instead of iterating over the source. For
        each video packet, it yields only the packet's time, in seconds of the input's clock."""
        while self._queue:
            item = self._queue.popleft()
            yield item.pts * item.time_base if isinstance(item, Frame) else item
        if self._active is not None:
            yield from self._active.others()

    def close(self) -> None:
        """Releases the file and the decoder; safe to call twice."""
        if not self._read_lock.acquire(timeout=_CLOSE_S):
            return  # a thread is blocked in a read and cannot be stopped
        try:
            self._queue.clear()
            self._items = iter(())
            self._active = None
            if self._arriving is not None and not self._arriving.close():
                return
            self._container.close()
            for reader in self._readers:  # PyAV keeps a reader open as long as one of its streams is referenced
                if reader is not None:
                    reader.close()
        finally:
            self._read_lock.release()

    # -- opening ------------------------------------------------------------------------------------------------

    def _open(self) -> tuple[InputContainer, av.VideoStream]:
        if self.pipe is None and is_pipe(self._path):
            try:
                self.pipe = PipeReader(self._path, self._stop)
            except OSError as error:
                raise InputMissing(
                    "{name}: cannot be opened ({why}); check its permissions",
                    code="film_permissions",
                    name=self._name,
                    why=error.strerror,
                ) from error
        reader = self.pipe or file_reader(self._path)
        container = open_container(self._path, reader)
        self._readers.append(reader)
        try:
            video, self._note = choose_video(container, self._name, self._variant)
        except BaseException:
            container.close()
            raise
        video.codec_context.thread_count = self._threads or 0
        video.codec_context.thread_type = threads_for(video.codec_context)
        if (
            self._strict and video.codec_context.codec.canonical_name == "hevc"
        ):  # otherwise, FFmpeg hides damage in slices
            video.codec_context.options = {**video.codec_context.options, "err_detect": "explode"}
        if container.format.flags & NO_TIMES and container.size <= 0 and not is_still(container):
            self._arriving = ArrivingPackets(container, video, self._stop, self.pipe)
        return container, video

    def _decoder(self, faults: Faults, *, sought: bool = False) -> Decoder:
        still, is_cut = is_still(self._container), self._cut.start is not None or self._cut.end is not None
        self._gpu = open_on_gpu(self._video, self._decoding) if self._decoding and not still else None
        return Decoder(
            self._container,
            self._video,
            faults,
            self._cut,
            remote=is_url(self._path),
            sought=sought,
            gpu=None if isinstance(self._gpu, str) else self._gpu,
            pipe=self.pipe,
            size=self._size,
            received=None if is_cut else Received(self._path, self._container),
            enlarger=self._enlarger,
            arriving=self._arriving,
            fields=self._chosen,
        )

    def _start_decoder(self) -> tuple[Decoder, Iterator[Item]]:
        """Starts a decoder. Puts its items up to the first frame into `_queue`."""
        cut = self._cut
        if cut.start is not None and self.pipe is None and self._arriving is None:  # pipes and live sources cannot seek
            for earlier in _SEEK_EARLIER_S:
                target = max(cut.start - earlier, cut.clock_start)
                # If the seek fails or misses, the container is opened again.
                with suppress(av.FFmpegError, SeekMissed):
                    self._container.seek(int(target / time_base_of(self._video)), stream=self._video)
                    decoder = self._decoder(faults := Faults(self._name), sought=True)
                    if self._first_frame(items := decoder.items()):
                        # Faults up to here lie before the cut, or result from the seek.
                        faults.report_to(self._stats, strict=self._strict)
                        self._stats.count("frames_in")
                        return decoder, items
                self._container.close()
                self._container, self._video = self._open()
        decoder = self._decoder(Faults(self._name, self._stats, strict=self._strict))
        if self._first_frame(items := decoder.items()):
            return decoder, items
        if cut.start is not None and decoder.frames:
            raise UsageError(
                "{name}: has no frame after {--start:{start:g}}",
                code="start_no_frame",
                name=self._name,
                start=float(cut.start - cut.clock_start),
            )
        if self.pipe is not None and self._container.format.name.startswith("mov"):
            raise InputError(
                "{name}: has its index at its end, and a pipe cannot seek there; use the file itself, or write it "
                "with the index first (FFmpeg: -movflags +faststart)",
                code="pipe_index",
                name=self._name,
            )
        raise InputError(
            "{name}: has no frame that can be decoded; the file is damaged, copy it again",
            code="no_frame_decoded",
            name=self._name,
        )

    def _first_frame(self, items: Iterator[Item]) -> bool:
        self._queue.clear()
        for item in items:
            self._queue.append(item)
            if isinstance(item, Frame):
                return True
        return False

    def _look_for_fields(self, first: Frame) -> None:
        """Decodes more frames of a broadcast to find interlaced ones. Both kinds may alternate."""
        image, codec = first.image, self._video.codec_context.codec.canonical_name
        if (
            image.interlaced_frame
            or codec not in _BROADCAST_CODECS
            or image.height not in _BROADCAST_HEIGHTS
            or self.pipe is not None
            or is_url(self._path)
            or on_gpu(image)
        ):
            return
        size = sum(plane.buffer_size for plane in image.planes)
        remaining = min(_MAX_CHECKED, _MAX_CHECKED_BYTES // size) - 1
        for item in itertools.islice(self._items, 40 * _MAX_CHECKED):
            self._queue.append(item)
            remaining -= isinstance(item, Frame)
            if remaining <= 0 or (isinstance(item, Frame) and item.image.interlaced_frame):
                return

    def _describe(self, decoder: Decoder, first: Frame) -> MediaInfo:
        interlaced = [item for item in self._queue if isinstance(item, Frame) and item.image.interlaced_frame]
        fields = interlaced[0].display.fields if interlaced else "progressive"
        rate, stated = rate_of(self._video)
        if not stated and not is_still(self._container):
            self._stats.warn("rate", f"{self._name}: does not state its frame rate; {rate} frames a second are assumed")
        notes = [self._note] if self._note else []
        return describe(
            self._path,
            self._container,
            self._video,
            decoder,
            first,
            self._cut,
            fields=fields,
            decoded_by=self._decoded_by(notes),
            notes=notes,
        )

    def _decoded_by(self, notes: list[str]) -> str:
        """Describes the decoder. Adds a note if a GPU decodes, or warns if the requested GPU cannot."""
        if self._decoding is None or self._gpu is None:
            return "software"
        refusal = self._gpu if isinstance(self._gpu, str) else self._gpu.refusal
        decoder = f"software, because {refusal}" if refusal else f"NVDEC on cuda:{self._decoding.device}"
        if refusal:
            self._stats.warn("decode_gpu", f"{self._name}: is decoded by {decoder}")
        else:
            notes.append(f"{self._name}: is decoded by {decoder}")
        return decoder
