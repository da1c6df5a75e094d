"""Frames and packets into a film file that appears under its name only when it is whole."""

from __future__ import annotations

from collections.abc import Callable

import av

from rtface.frame import Frame
from rtface.media.write.copy_encoder import CopyEncoder
from rtface.media.write.film_file import FilmFile
from rtface.media.write.frame_encoder import FrameEncoder
from rtface.media.write.muxer import AnyPacket
from rtface.media.write.stream_plan import OutputPlan
from rtface.protocols import Item, Sink
from rtface.stats import Stats


class FileSink(FilmFile):
    """A `FilmFile` of frames, and of the packets of the other streams.

    Args:
        plan: what was decided; its input must still be open.
        stats: receives counters and the time that encoding takes.
        threads: encoder threads, None for the encoder's own choice.

    Raises:
        OutputError: the working file cannot be made.
    """

    def __init__(self, plan: OutputPlan, stats: Stats | None = None, threads: int | None = None) -> None:
        super().__init__(plan, stats, threads)
        video, info = self.plan.video, plan.info
        if plan.copy is None:
            self._encoder = FrameEncoder(self.streams.video, video, info.origin, self.stats)
        else:
            self._encoder = CopyEncoder(plan.copy, video, info.start, info.origin, self.stats)
            self.copied = self._encoder.copied

    def write(self, item: Item) -> None:
        """Takes the next frame (in pts order) or packet.

        Raises:
            OutputError: the disk is full, or the encoder or muxer refuses; what was done is kept as a partial file.
        """
        if not isinstance(item, Frame):
            self.take(item)
            return
        try:
            with self.stats.time("encode"):
                packets = self._encoder.encode(item)
                assert self._encoder.last is not None
                self.note(self._encoder.last)
                self._mux(packets)
        except (OSError, av.FFmpegError, ValueError) as error:
            raise self.failed(error) from error
        self.changed.add(item)

    def flush(self) -> None:
        """Muxes what the encoder still holds, and everything that waits."""
        self._mux(self._encoder.flush())
        super().flush()

    def _mux(self, packets: list[AnyPacket]) -> None:
        for packet in packets:
            packet.stream = self.streams.video
            self.streams.muxer.frame(packet)


FurtherFrames = Callable[[Frame], Frame]
"""Makes the frame of a further film that belongs to the next one of the output."""


class CompanionSink:
    """A sink of a film that also writes a second film, with something of each frame.

    Args:
        film: the sink of the film itself.
        plan: of the second film.
        made: makes its frames.
        threads: encoder threads of the second film, None for the encoder's own choice.

    Attributes:
        kept: frames that lie in the partial film and in the partial second one.
        beside: the partial second films, after `abort`.
    """

    def __init__(self, film: Sink, plan: OutputPlan, made: FurtherFrames, threads: int | None) -> None:
        self._film, self._own, self._made = film, FileSink(plan, Stats(), threads), made
        self.kept = 0
        self.beside: list[str] = []

    def write(self, item: Item) -> None:
        """Writes to the second film, and then the frame or packet; raises OutputError."""
        if isinstance(item, Frame):
            self._own.write(self._made(item))
        self._film.write(item)

    def finish(self) -> None:
        """Finishes the second film, then the film."""
        self._own.finish()
        self._film.finish()

    def abort(self, *, keep_partial: bool) -> str | None:
        """Ends both; what was done of the second film becomes NAME.partial.mkv like the film."""
        own, partial = (film.abort(keep_partial=keep_partial) for film in (self._own, self._film))
        self.beside = [own] if own else []
        self.kept = min(self._film.kept, self._own.kept)
        return partial
