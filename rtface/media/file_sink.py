"""Frames and packets into a film file that appears under its name only when it is whole."""

from __future__ import annotations

import contextlib
from collections import deque
from fractions import Fraction
from typing import BinaryIO

import av
from av.container import OutputContainer
from av.container.core import Flags

from rtface.errors import OutputError
from rtface.frame import Frame
from rtface.media.encoders import fit
from rtface.media.leftovers import make_playable
from rtface.media.mp4 import hide_cover_track, reach_last_frame
from rtface.media.muxer import AnyPacket, muxer_options
from rtface.media.output_streams import OutputStreams
from rtface.media.provenance import append_xmp_box, without_correction
from rtface.media.stream_plan import OutputPlan
from rtface.media.tags import take_out
from rtface.media.timeline import REMEMBERED
from rtface.media.workfile import WorkFile, full
from rtface.protocols import Item
from rtface.stats import Stats

# Containers round times to a millisecond.
_SAME_TIME = Fraction(1, 500)


class FileSink:
    """Encodes frames, copies or transcodes the packets of the other streams, and interleaves them.

    Until `finish`, everything goes into a hidden file next to the output that can be played at any time: Matroska as
    it is, MP4 and MOV in fragments of half a second that become an ordinary file at the end. What the encoder holds
    back (libx264 about 40 frames) is not in it yet. Memory is bounded whatever the length: packets of other streams
    wait for their frames in at most 32 MB, and the muxer holds about as much.

    Args:
        plan: what was decided; its input must still be open.
        stats: receives counters and the time that encoding takes.
        threads: encoder threads, None for the encoder's own choice.

    Attributes:
        kept: frames that lie in the partial film, from the first on without a gap.

    Raises:
        OutputError: the working file cannot be made.
    """

    def __init__(self, plan: OutputPlan, stats: Stats | None = None, threads: int | None = None) -> None:
        self._plan = plan
        self._stats = stats or Stats()
        plan.video.threads = threads or 0
        for line in plan.video.warnings:
            self._stats.warn(f"encode:{line[:24]}", f"{plan.path}: {line}")
        try:
            self._file = WorkFile(plan.target)
        except OSError as error:
            raise OutputError(f"{plan.path}: the working file cannot be made ({error.strerror})") from error
        self._frames = 0
        self._corrected = False
        self._over = False
        self._partial: str | None = None
        self.kept = 0
        self._given: deque[int] = deque(maxlen=REMEMBERED)  # pts of the last frames, in the encoder's unit
        self._first: int | None = None  # pts of the first and last frame, in the encoder's unit
        self._last: int | None = None
        self._container: OutputContainer = av.open(
            self._file, "w", format=plan.format, buffer_size=1 << 16, container_options=muxer_options(plan))
        self._container.flags |= Flags.flush_packets.value  # every finished piece goes to the disk at once
        try:
            self._streams = OutputStreams(plan, self._container, self._stats)
        except BaseException:
            self._drop()
            raise

    # -- Sink ---------------------------------------------------------------------------------------------------

    def write(self, item: Item) -> None:
        """Takes the next frame (in pts order) or packet.

        Raises:
            OutputError: the disk is full, or the encoder or muxer refuses; what was done is kept as a partial file.
        """
        try:
            if isinstance(item, Frame):
                with self._stats.time("encode"):
                    self._encode(item)
                self._corrected = self._corrected or item.corrected
            else:
                self._streams.take(item)
        except (OSError, av.FFmpegError, ValueError) as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """Flushes, and makes the output appear under its name in one step.

        Raises:
            OutputError: as `write`.
        """
        if self._over:
            return
        try:
            self._flush()
            self._container.close()
        except (OSError, av.FFmpegError, ValueError) as error:
            raise self._failed(error) from error
        self._over = True
        if not self._frames:
            self._file.discard()
            raise OutputError(f"{self._plan.path}: no frame came, so nothing was written")
        try:
            with self._file.edited() as file:
                if any(s.action == "cover" for s in self._plan.streams):
                    hide_cover_track(file)
                if self._plan.format in ("mp4", "mov"):
                    reach_last_frame(file)
                    if self._plan.metadata and self._corrected:
                        append_xmp_box(file, self._plan.metadata)
                self._unmark(file)
            self._file.publish()
        except FileExistsError as error:
            self._partial = self._keep()
            raise OutputError(f"{self._plan.path}: another file came there while this one was made, and is not "
                              f"replaced without --overwrite; the whole film is {self._partial}") from error
        except OSError as error:
            self._partial = self._keep()
            raise OutputError(f"{self._plan.path}: could not be given its name ({full(error) or error.strerror}); "
                              f"the whole film is {self._partial}") from error

    def abort(self, *, keep_partial: bool) -> str | None:
        """Ends early; with `keep_partial`, what was done becomes NAME.partial.EXT, which plays; gives its path."""
        if self._over:
            return self._partial
        if keep_partial and self._frames:
            try:
                self._flush()
                self._container.close()
            except (OSError, av.FFmpegError, ValueError) as error:
                self._stats.warn("partial", f"{self._plan.path}: the end of the partial film is missing ({error})")
            self._drop(keep=True)
            self._partial = self._keep()
        else:
            self._drop()
        return self._partial

    # -- frames -----------------------------------------------------------------------------------------------

    def _encode(self, frame: Frame) -> None:
        video = self._plan.video
        image = fit(frame.image, video)
        base = video.time_base
        pts, duration = frame.pts - self._streams.shift(frame.time_base), frame.duration
        if frame.time_base != base:
            scale = frame.time_base / base
            pts, duration = round(pts * scale), max(1, round(duration * scale))
        if self._last is not None and pts <= self._last:  # two times of a finer clock
            self._stats.count("pts_moved")
            pts = self._last + 1
        self._last = pts
        if self._first is None:
            self._first = pts
        image.pts, image.time_base, image.duration = pts, base, duration
        image.pict_type = 0  # the encoder chooses its own I-frames
        packets = self._streams.video.encode(image)
        self._given.append(pts)
        self._frames += 1
        self._stats.count("frames_out")
        for packet in packets:
            self._mux(packet)

    def _flush(self) -> None:
        if self._frames:
            for packet in self._streams.video.encode(None):
                self._mux(packet)
        self._streams.finish()

    def _mux(self, packet: AnyPacket) -> None:
        """Hands an encoded frame on. libx265 gives films of one or two frames coding times out of bare memory."""
        first, last, pts, dts = self._first or 0, self._last or 0, packet.pts, packet.dts
        if pts is not None and dts is not None and packet.time_base == self._plan.video.time_base:
            slack = 1 / packet.time_base
            if not 2 * first - last - slack <= dts <= pts:
                packet.dts = pts
        self._streams.muxer.frame(packet)

    # -- ends ---------------------------------------------------------------------------------------------------

    def _drop(self, *, keep: bool = False) -> None:
        """Lets go of the working file without writing to it again; removes it unless `keep`."""
        self._over = True
        self._file.seal()  # keeps PyAV from writing the trailer
        with contextlib.suppress(OSError, av.FFmpegError, ValueError):
            self._container.close()
        if not keep:
            self._file.discard()

    def _unmark(self, file: BinaryIO) -> None:
        """Takes out what was written with the header about corrected faces, where there turned out to be none."""
        if not self._corrected:
            tags, own = self._plan.metadata, {name.lower() for name in self._plan.info.metadata}
            # What the input said of itself stays: it may have been enhanced before.
            take_out(file, self._plan.format, tags.keys() - without_correction(tags).keys() - own)

    def _keep(self) -> str | None:
        """Gives the working file its partial name if it plays, else removes it."""
        with self._file.edited() as file:
            times = make_playable(file)
            with contextlib.suppress(OSError):  # the film itself is what matters here
                self._unmark(file)
        if not times:
            self._file.discard()
            return None
        self.kept = self._compare(times)
        return str(self._file.keep())

    def _compare(self, times: list[Fraction]) -> int:
        """How many frames lie in the partial film without a gap.

        Args:
            times: presentation times of its frames, rising. What an encoder held back and what was cut off is missing.
                A muxer may move all of them by some milliseconds.
        """
        forgotten = self._frames - len(self._given)
        for place, pts in enumerate(self._given, forgotten):
            expected = (pts - (self._first or 0)) * self._plan.video.time_base
            if place >= len(times) or abs(times[place] - times[0] - expected) > _SAME_TIME:
                return place
        return self._frames

    def _failed(self, error: Exception) -> OutputError:
        cause = self._file.fault or error
        written = self._file.size
        self._drop(keep=True)
        self._partial = self._keep()
        what = full(cause)
        if isinstance(cause, MemoryError):
            what, advice = "not enough memory to encode", "use fewer --threads"
        elif what is None:
            what = f"writing failed ({' '.join(str(getattr(cause, 'strerror', None) or cause).split())})"
            advice = ""
        else:
            length = self._plan.info.duration_s
            what += f" after {written / 1e6:.1f} MB"
            if length and self._streams.muxer.reached > 0.1:
                need = written * length / min(length, self._streams.muxer.reached)
                what += f" of about {max(need, written) / 1e6:.1f} MB"
            advice = "make room; "
        if self._partial:
            return OutputError(f"{self._plan.path}: {what}; {advice}what was done is in {self._partial}")
        return OutputError(f"{self._plan.path}: {what}; nothing was left" + (", make room first" if advice else ""))
