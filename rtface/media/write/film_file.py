"""Writes a film file that appears under its name only when complete."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.container import OutputContainer
from av.container.core import Flags

from rtface.errors import Message, OutputError
from rtface.frame import Packet
from rtface.media.files.leftovers import end_film, frame_times
from rtface.media.files.workfile import WorkFile, full
from rtface.media.formats.mp4_edits import reach_last_frame
from rtface.media.marks.changed_frames import ChangedFrames
from rtface.media.read.timeline import REMEMBERED
from rtface.media.write.copy_encoder import header_of
from rtface.media.write.encoders import open_encoder
from rtface.media.write.frame_encoder import lose
from rtface.media.write.muxer import AnyPacket, muxer_options
from rtface.media.write.output_streams import OutputStreams, note_header
from rtface.media.write.stream_plan import OutputPlan
from rtface.stats import Stats

# Times with a smaller difference are equal: containers round to a millisecond.
_SAME_TIME_S = Fraction(1, 500)


class FilmFile:
    """Writes encoded frames, and copies, transcodes and interleaves other streams.

    Until `finish`, everything goes into a hidden file next to the output, which can be played at any time: MP4 and MOV
    consist of half-second fragments, and become ordinary files at the end. MP4 and MOV with text streams have no
    fragments; they become playable when the run ends, even early. Frames inside the encoder (libx264: about 40) are not
    yet in the file. Memory does not grow with the film: packets waiting for frames use up to 32 MB, the muxer as much.

    `rtface.media.write.file_sink.FileSink` encodes the frames; a job's frames are already encoded (`rtface.jobs.join`).

    Args:
        plan: plan of the output; its input must still be open.
        stats: receives counters.
        threads: encoder threads; None for the encoder's choice.
        work: working name of the file, from `rtface.media.files.workfile.work_name`; None makes a new one.
        partial: whether a run that ends early keeps the finished part as a partial film.

    Attributes:
        kept: number of frames in the partial film before any gap.
        frames: number of calls of `note` so far.
        changed: changes to the frames; add all of them before `complete`.
        copied: number of the first and of the last frame in each series of copied frames.

    Raises:
        OutputError: the working file cannot be created.
    """

    def __init__(
        self,
        plan: OutputPlan,
        stats: Stats | None = None,
        threads: int | None = None,
        work: Path | None = None,
        partial: bool = True,
    ) -> None:
        self.plan = plan = replace(plan, video=replace(plan.video, threads=threads or 0))
        self._keeps_partial = partial
        self.stats = stats or Stats()
        for line in plan.warnings:
            self.stats.warn(line, line)
        for line in plan.video.warnings:
            self.stats.warn(f"encode:{line[:24]}", f"{plan.path}: {line}")
        try:
            self._file = WorkFile(plan.target, work)
        except OSError as error:
            raise OutputError(
                "{path}: the working file cannot be created ({why})",
                code="workfile_unmade",
                path=plan.path,
                why=error.strerror,
            ) from error
        self.frames = 0
        self.changed = ChangedFrames()
        self.copied = list[tuple[int, int]]()
        self._complete, self._ended, self.kept = False, False, 0
        self._partial: str | None = None
        self._recent: deque[int] = deque(maxlen=REMEMBERED)  # pts of the last frames, in the encoder's unit
        self._first: int | None = None
        self._container: OutputContainer = av.open(
            self._file, "w", format=plan.format, buffer_size=1 << 16, container_options=muxer_options(plan)
        )
        self._container.flags |= Flags.flush_packets.value  # write every finished piece to disk immediately
        try:
            self.streams = OutputStreams(plan, self._container, self.stats)
            self._number = self._container.streams.video.index(self.streams.video)
            if plan.copy is not None:
                open_encoder(self.streams.video.codec_context)  # the muxer copies all its parameters except the header
                self.streams.video.codec_context.extradata = header_of(plan.copy, plan.video)
        except BaseException:
            self._drop()
            raise

    @property
    def work(self) -> Path:
        """Path of the working file; after `finish`, that of the film."""
        return self._file.path

    def note(self, pts: int) -> None:
        """Records a written frame's time, in presentation order and the encoder's unit."""
        if self._first is None:
            self._first = pts
        late = (pts - self._first) * self.plan.video.time_base * self.plan.video.rate - self.frames
        if self.plan.format == "mxf" and abs(late) >= Fraction(1, 2):
            line = "{path}: MXF shows frames at equal intervals, but the input's intervals differ"
            lose(self.plan.video, self.stats, "mxf_spacing", Message(line, code="mxf_spacing", path=self.plan.path))
        self._recent.append(pts)
        self.frames += 1
        self.stats.count("frames_out")

    def put(self, packet: AnyPacket) -> None:
        """Writes an encoded frame, in decoding order.

        Raises:
            OutputError: the disk is full, or the muxer fails; the finished part is kept as a partial file.
        """
        with self.guarded():
            self.streams.muxer.frame(packet)

    def take(self, item: Packet) -> None:
        """Writes a packet of another input stream. Raises the same errors as `put`."""
        with self.guarded():
            self.streams.take(item)

    @contextlib.contextmanager
    def guarded(self) -> Generator[None]:
        """Ends the file if the disk, encoder or muxer fails. The playable part is kept."""
        try:
            yield
        except (OSError, av.FFmpegError, ValueError) as error:
            raise self._end_after_error(error) from error

    def flush(self) -> None:
        """Muxes all waiting packets. Raises errors of FFmpeg and the system."""
        self.streams.finish(self.frames)

    def complete(self) -> None:
        """Flushes and completes the file under its working name. Only `finish` or `abort` may follow.

        Raises:
            OutputError: the same errors as `put`.
        """
        if self._ended or self._complete:
            return
        with self.guarded():
            self.flush()
            self._container.close()
        self._complete = True
        if not self.frames:
            self._drop()
            raise OutputError(
                "{path}: no frames arrived, so nothing was written", code="film_no_frame", path=self.plan.path
            )
        try:
            with self._file.edited() as file:
                if self.plan.format in ("mp4", "mov"):
                    reach_last_frame(file)
                self._note_header(file)
        except OSError as error:
            raise self._keep_unpublished(error) from error

    def finish(self) -> None:
        """Completes the file and publishes it under its name in one step.

        Raises:
            OutputError: the same errors as `put`.
        """
        if self._ended:
            return
        self.complete()
        self._ended = True
        try:
            self._file.publish()
        except OSError as error:
            raise self._keep_unpublished(error) from error

    def _keep_unpublished(self, error: OSError) -> OutputError:
        """Keeps a file that could not be renamed as a partial film. Returns the error to raise."""
        self._ended = True
        self._partial = self._keep()
        return OutputError(
            "{path}: the file could not be renamed to this name ({why}){rest}",
            code="film_unnamed",
            path=self.plan.path,
            why=full(error) or error.strerror,
            rest=f"; the complete film is {self._partial}" if self._partial else "",
        )

    def abort(self, *, keep_partial: bool) -> str | None:
        """Ends early. With `keep_partial`, a playable part becomes NAME.partial.EXT. Returns its path."""
        if self._ended:
            return self._partial
        keeps = keep_partial and self.frames > 0
        if keeps and not self._complete:
            try:
                self.flush()
                self._container.close()
            except (OSError, av.FFmpegError, ValueError) as error:
                self.stats.warn("partial", f"{self.plan.path}: the end of the partial film is missing ({error})")
        self._drop(keep=keeps)
        self._partial = self._keep() if keeps else None
        return self._partial

    # -- ends ---------------------------------------------------------------------------------------------------

    def _drop(self, *, keep: bool = False) -> None:
        """Closes the working file without further writes; removes it unless `keep`."""
        self._ended = True
        self._file.seal()  # keeps PyAV from writing the trailer
        with contextlib.suppress(OSError, av.FFmpegError, ValueError):
            self._container.close()
        if not keep:
            self._file.discard()

    def _note_header(self, file: BinaryIO) -> None:
        change = self.changed.change
        note_header(file, self.plan, change, number=self._number, streams=self.streams, stats=self.stats)

    def _keep(self) -> str | None:
        """Gives a playable working file its partial name, if wanted. Otherwise removes it. Returns its path."""
        if not self._keeps_partial:
            self._file.discard()
            return None
        try:
            with self._file.edited() as file:
                end_film(file)
                times = frame_times(file)
                with contextlib.suppress(OSError):  # without these notes, the film is still useful
                    if not self._complete:
                        self._note_header(file)
        except OSError as error:  # the file cannot be edited: keep it as it is
            self.stats.warn("partial", f"{self.plan.path}: the end of the partial film is missing ({error.strerror})")
            return str(self._file.keep())
        if not times:
            self._file.discard()
            return None
        self.kept = self._count_before_gap(times)
        return str(self._file.keep())

    def _count_before_gap(self, times: list[Fraction]) -> int:
        """Counts the frames in the partial film before any gap.

        Args:
            times: rising presentation times of the frames in the file. Frames that were inside the encoder or truncated
                are missing. A muxer may shift all times by some milliseconds.
        """
        first_remembered = self.frames - len(self._recent)
        for number, pts in enumerate(self._recent, first_remembered):
            expected = (pts - (self._first or 0)) * self.plan.video.time_base
            if number >= len(times) or abs(times[number] - times[0] - expected) > _SAME_TIME_S:
                return number
        return self.frames

    def _end_after_error(self, error: Exception) -> OutputError:
        cause = self._file.fault or error
        disk_full, text = full(cause), " ".join(str(getattr(cause, "strerror", None) or cause).split())
        self._drop(keep=True)
        self._partial = path = self._keep()
        return OutputError(
            "{path}: {why}; {advice}{rest}",
            code="film_ended",
            path=self.plan.path,
            why=f"{disk_full} after {self._file.size / 1e6:.1f} MB" if disk_full else f"writing failed ({text})",
            advice=Message("make room; ", code="make_room") if disk_full else Message(""),
            rest=Message("the finished part is in {partial_path}", code="part_left", partial_path=path)
            if path
            else Message("no file was kept", code="nothing_left"),
        )
