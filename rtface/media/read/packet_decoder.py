"""Decodes packets to images, even from damaged streams."""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.stream import Stream

from rtface.media.cuda.decoder import GpuDecoder
from rtface.media.read.concealment import Concealment
from rtface.media.read.container import time_base_of
from rtface.media.read.faults import Faults
from rtface.media.read.frame_details import without_profile
from rtface.media.read.quantiser import QuantiserReader
from rtface.media.read.timeline import Cut

GIVE_UP = 200
"""Number of consecutive failed packets that ends the reading of a file."""


class PacketDecoder:
    """Decodes the packets of a stream; skips and counts undecodable ones.

    Args:
        video: the stream, whose decoder is not opened yet.
        faults: reports damage.
        cut: the part that is read.
        gpu: decodes the packets instead of the stream's decoder.

    Attributes:
        concealment: tells which images are damaged, and how many are missing.
        quantisers: reads the quantisers of images.
        failed_in_a_row: number of consecutive packets that could not be decoded.
    """

    def __init__(self, video: av.VideoStream, faults: Faults, cut: Cut, gpu: GpuDecoder | None) -> None:
        self._faults, self._cut, self._base = faults, cut, time_base_of(video)
        self._decode = gpu.decode if gpu else video.decode
        self.quantisers = QuantiserReader(video.codec_context, gpu=gpu is not None)
        self.concealment = Concealment(video.codec_context)
        self.failed_in_a_row = 0

    def images(self, packet: av.Packet[Stream]) -> list[av.VideoFrame]:
        """Decodes the next packet to images."""
        self.quantisers.note(packet)
        self.concealment.note(packet, expected=not self._cut.is_before(packet.pts, self._base))
        try:
            images = self._decode(without_profile(packet))  # pyright: ignore[reportArgumentType]
        except av.FFmpegError as error:
            images = self.concealment.again(packet)
            if not images:
                self.failed_in_a_row += 1
                self._lost(f"a damaged part could not be decoded ({error.strerror})")
        if images:
            self.failed_in_a_row = 0
        return images

    def flush(self) -> Iterator[av.VideoFrame]:
        """Yields the images left in the decoder."""
        for _ in range(GIVE_UP):
            try:
                images = self._decode(None)
            except av.EOFError:
                return
            except av.FFmpegError:
                self.concealment.again(None)
                self._lost("its last part could not be decoded")
                continue
            if not images:
                return
            yield from images

    def _lost(self, what: str) -> None:
        self._faults.count("packets_lost", f"{what}; it is left out")
