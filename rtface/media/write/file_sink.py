"""Writes frames and packets to an atomically published film file."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rtface.frame import Frame
from rtface.media.write.copy_encoder import CopyEncoder
from rtface.media.write.film_file import FilmFile
from rtface.media.write.frame_encoder import FrameEncoder
from rtface.media.write.muxer import AnyPacket
from rtface.media.write.stream_plan import OutputPlan
from rtface.protocols import Item, Sink
from rtface.stats import Stats


class FileSink(FilmFile):
    """A `FilmFile` that encodes frames and accepts packets of other streams.

    Args:
        plan: plan of the output; its input must still be open.
        stats: receives counters and the encoding time.
        threads: encoder threads; None for the encoder's choice.

    Raises:
        OutputError: the working file cannot be created.
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
        """Encodes the next frame (in pts order), or adds a packet.

        Raises:
            OutputError: the disk is full, or the encoder or muxer fails; the finished part is kept as a partial file.
        """
        if not isinstance(item, Frame):
            self.take(item)
            return
        with self.guarded(), self.stats.time("encode"):
            packets = self._encoder.encode(item)
            assert self._encoder.last is not None
            self.note(self._encoder.last)
            self._mux(packets)
        self.changed.add(item)

    def flush(self) -> None:
        """Muxes the encoder's remaining packets and all waiting ones."""
        self._mux(self._encoder.flush())
        super().flush()

    def _mux(self, packets: list[AnyPacket]) -> None:
        for packet in packets:
            packet.stream = self.streams.video
            self.streams.muxer.frame(packet)


FurtherFrames = Callable[[Frame], Frame]
"""Makes the frame of an additional film from the output's next frame."""


class CompanionSink:
    """Writes a film, and additional films derived from its frames.

    Args:
        film: the sink of the film itself.
        further: plan of each additional film, with the function that makes its frames.
        threads: encoder threads of each additional film; None for the encoder's choice.

    Attributes:
        kept: number of frames that all partial films contain.
        partials: paths of the partial additional films, after `abort`.
    """

    def __init__(self, film: Sink, further: Iterable[tuple[OutputPlan, FurtherFrames]], threads: int | None) -> None:
        self._film = film
        self._additional: list[tuple[FileSink, FurtherFrames]] = []
        self.kept = 0
        self.partials: list[str] = []
        try:
            for plan, derive in further:
                self._additional.append((FileSink(plan, Stats(), threads), derive))
        except BaseException:
            self.abort(keep_partial=False)
            raise

    def write(self, item: Item) -> None:
        """Writes to the additional films, then to the film. Raises OutputError."""
        if isinstance(item, Frame):
            for sink, derive in self._additional:
                sink.write(derive(item))
        self._film.write(item)

    def finish(self) -> None:
        """Finishes the additional films, then the film."""
        for sink, _ in self._additional:
            sink.finish()
        self._film.finish()

    def abort(self, *, keep_partial: bool) -> str | None:
        """Ends all films early. Partial additional films are renamed to NAME.partial.mkv, like the film."""
        sinks = [sink for sink, _ in self._additional]
        self.partials = [path for sink in sinks if (path := sink.abort(keep_partial=keep_partial))]
        partial = self._film.abort(keep_partial=keep_partial)
        self.kept = min(sink.kept for sink in (self._film, *sinks))
        return partial
