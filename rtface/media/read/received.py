"""Compares a film's packets with the contents of its container."""

from __future__ import annotations

import os
from array import array
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer

from rtface.errors import log
from rtface.media.formats import mp4_index
from rtface.media.formats.matroska_blocks import blocks
from rtface.media.read.faults import Faults
from rtface.redaction import is_url

# Codecs that cannot be compared: FFmpeg converts several blocks to several packets at one position.
_PACKED = {"atrac3", "cook", "ra_144", "ra_288", "sipr"}
_BUFFER = 4 << 20  # large, because each read from a network drive takes milliseconds


class Received:
    """Detects parts lost by a damaged container. FFmpeg's demuxers skip such parts without an error. After reading,
    every Matroska block must have arrived as a packet, and an MP4 or MOV index must be complete. Media data that is
    missing although the index is intact is not detected.

    Args:
        path: the film; URLs and pipes are not checked.
        container: the open film.
    """

    def __init__(self, path: str | os.PathLike[str], container: InputContainer) -> None:
        self._path = None if is_url(path) or not Path(path).is_file() else Path(path)
        self._size = self._path.stat().st_size if self._path else 0
        packed = {stream.codec_context.name for stream in container.streams.audio if stream.codec_context}
        self._format = "" if packed & _PACKED else container.format.name
        self._offsets = array("q")  # file offsets of packets

    def note(self, packet: av.Packet[Any]) -> None:
        """Records each packet."""
        if self._path and self._format.startswith("matroska") and packet.pos is not None:
            self._offsets.append(packet.pos)

    def compare(self, faults: Faults) -> None:
        """Reports missing parts. Counts them if possible. Must be called after the last packet.

        Raises:
            InputError: the file is damaged, and `faults` is strict.
        """
        try:
            if self._path is None or self._path.stat().st_size != self._size:  # still being written
                return
            with self._path.open("rb", _BUFFER) as file:
                missing, damaged = (
                    self._missing(file)
                    if self._format.startswith("matroska")
                    else (0, self._format.startswith("mov") and not mp4_index.is_whole(file))
                )
        except OSError as error:  # the packets were read intact; the file may be gone now
            log.debug("%s: cannot be compared with the received packets (%s)", faults.name, error.strerror)
            return
        if missing or damaged:
            faults.stats.count("packets_lost", max(0, missing - faults.stats.counters["packets_lost"]))
            faults.report(
                "container",
                "its container is damaged, and some of its frames or packets are missing; copy it again, or repair it "
                "with mkvmerge or FFmpeg",
            )

    def _missing(self, file: BinaryIO) -> tuple[int, bool]:
        """Counts missing Matroska blocks. Also returns whether there is invalid data."""
        received = np.sort(np.frombuffer(self._offsets, np.int64))
        track, first, end = np.fromiter(chain.from_iterable(blocks(file)), np.int64).reshape(-1, 3).T
        lost = np.searchsorted(received, first) == np.searchsorted(received, end)
        return int(lost[track != 0].sum()), bool((track == 0).any())
