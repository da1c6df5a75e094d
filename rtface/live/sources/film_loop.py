"""Reads a film again and again, as the camera that it stands in for would not end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
from av.container import InputContainer
from av.stream import Discard

from rtface.media.read.container import open_container


def repeated(
    path: str, container: InputContainer, *streams: av.VideoStream | av.AudioStream
) -> Iterator[av.Packet[Any]]:
    """The packets of some streams, without end; all begin again at the same time, where the first stream ended.

    The film is opened again each time: going back in an open one would have its decoders drop their last frames.

    Args:
        path: of the film.
        container: it, open for the first time.

    Raises:
        InputError, av.FFmpegError: it cannot be read any more.
    """
    leading, begin, unit, shift = streams[0], streams[0].start_time or 0, streams[0].time_base or 1, 0
    opened = {stream.index: stream for stream in streams}
    end = begin - 1
    while end != begin:  # there are none
        for stream in container.streams:  # else other variants of a list are fetched
            stream.discard = Discard.default if stream.index in opened else Discard.all
        end, packets = begin, container.demux(*(container.streams[index] for index in opened))
        for packet in filter(lambda one: one.size, packets):  # without the last ones, which would end the decoders
            packet.stream = opened[packet.stream_index]  # whose decoder continues
            if packet.stream is leading:
                end = max(end, (packet.pts or 0) + (packet.duration or 0))
            ticks = round(shift * unit / packet.time_base)
            packet.pts, packet.dts = (None if at is None else at + ticks for at in (packet.pts, packet.dts))
            yield packet
        shift += end - begin
        container = open_container(path)
