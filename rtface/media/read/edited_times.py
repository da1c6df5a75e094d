"""When packets of sound and text are shown in a film with edit lists: FFmpeg's demuxer gives them other times."""

from __future__ import annotations

from bisect import bisect_right
from itertools import dropwhile, pairwise
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Stream

from rtface.media.formats.mp4 import EditedTrack, edited_tracks
from rtface.redaction import is_url


class EditedTimes:
    """Gives packets of an MP4 or MOV the times at which its edit lists show them.

    FFmpeg lets each part but the first begin with the first whole packet in it, whose time it changes; it gives texts
    the lengths of others and leaves out those that a part begins in; where a part is empty, it plays the beginning of
    the track.

    Args:
        container: is read; of an address, a pipe and other containers nothing is changed.
    """

    def __init__(self, container: InputContainer) -> None:
        # By stream: where parts begin, and how much later their sound is heard; None where nothing is.
        self._sounds: dict[int, tuple[list[int], list[int | None]]] = {}
        # By stream, and by place and time of a packet: when a text is shown, and for how long.
        self._texts: dict[int, dict[tuple[int | None, int | None], tuple[int, int]]] = {}
        path = container.name.removeprefix("file:")
        if is_url(path) or not container.format.name.startswith("mov") or not Path(path).is_file():
            return
        with Path(path).open("rb") as file:
            tracks = edited_tracks(file)
        for stream in container.streams:
            if (track := tracks.get(stream.id)) is None:
                continue
            starts = [start for _, start, _ in dropwhile(lambda part: part[1] < 0, track.parts)]
            if stream.type == "audio" and starts[1:]:
                self._sounds[stream.index] = [at for at, _, _ in track.parts], _later(track)
            elif stream.type != "subtitle" or starts in ([], [0]):
                continue
            elif len(shown := _shown(track)) == len(entries := stream.index_entries):
                self._texts[stream.index] = {
                    (entry.pos, entry.timestamp): times for entry, times in zip(entries, shown, strict=True) if times
                }

    def timed(self, packet: av.Packet[Stream]) -> av.Packet[Stream] | None:
        """The packet with its time; None where it is not shown, and no decoder needs it."""
        if (texts := self._texts.get(packet.stream_index)) is not None:
            if (times := texts.get((packet.pos, packet.dts))) is None:
                return None
            if packet.is_discard:  # a part begins while it is shown
                own: av.Packet[Stream] = av.Packet(bytes(packet))
                own.stream, own.time_base, own.is_keyframe = packet.stream, packet.time_base, True
                packet = own
            packet.pts = packet.dts = times[0]
            packet.duration = times[1]
        elif packet.stream_index in self._sounds and packet.dts is not None and not packet.is_discard:
            begins, later = self._sounds[packet.stream_index]
            if (late := later[max(0, bisect_right(begins, packet.dts) - 1)]) is None:
                return None
            packet.pts = packet.dts = packet.dts + late
        return packet


def _later(track: EditedTrack) -> list[int | None]:
    later, heard = list[int | None](), False
    for _, start, _ in track.parts:
        first = int(track.borders[track.borders.searchsorted(start).clip(0, track.borders.size - 1)])
        later.append((None if start < 0 else max(0, first - start)) if heard else 0)
        heard |= start >= 0
    return later


def _shown(track: EditedTrack) -> list[tuple[int, int] | None]:
    """Of the packets as FFmpeg gives them when they are shown, and for how long; None for not at all."""
    shown, heard = list[tuple[int, int] | None](), False
    samples = list(pairwise(track.borders.tolist()))
    for at, start, length in track.parts:
        heard |= start >= 0
        if not heard:
            continue
        for begin, end in samples[max(0, int(track.borders[:-1].searchsorted(start, "right")) - 1) :]:
            first, last = max(begin, start), min(end, start + length)
            shown.append((at + first - start, last - first) if start >= 0 and first < last else None)
            if end >= start + length:
                break
    return shown
