"""Frames and packets into a film file that appears under its name only when it is whole."""

from __future__ import annotations

import av

from rtface.frame import Frame
from rtface.media.film_file import FilmFile
from rtface.media.frame_encoder import FrameEncoder
from rtface.media.stream_plan import OutputPlan
from rtface.protocols import Item
from rtface.stats import Stats


class FileSink(FilmFile):
    """Encodes frames into a `FilmFile`, and hands it the packets of the other streams.

    Args:
        plan: what was decided; its input must still be open.
        stats: receives counters and the time that encoding takes.
        threads: encoder threads, None for the encoder's own choice.

    Raises:
        OutputError: the working file cannot be made.
    """

    def __init__(self, plan: OutputPlan, stats: Stats | None = None, threads: int | None = None) -> None:
        super().__init__(plan, stats, threads)
        self._encoder = FrameEncoder(self.streams.video, plan.video, plan.info.origin, self.stats)

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
                for packet in packets:
                    self.streams.muxer.frame(packet)
        except (OSError, av.FFmpegError, ValueError) as error:
            raise self.failed(error) from error
        self.changed.add(item)

    def flush(self) -> None:
        """Muxes what the encoder still holds, and everything that waits."""
        for packet in self._encoder.flush():
            self.streams.muxer.frame(packet)
        super().flush()
