"""When packets of sound and text are shown in a film with edit lists: FFmpeg's demuxer gives them other times."""

from __future__ import annotations

import struct
from bisect import bisect_right
from itertools import dropwhile, pairwise
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Stream

from rtface.media.formats.mp4_edits import EditedTrack, edited_tracks
from rtface.redaction import is_url


class EditedTimes:
    """Gives packets of an MP4 or MOV the times at which its edit lists show them.

    FFmpeg lets each part begin with the first whole packet in it, whose time it changes, of pictures behind the first
    part by that of decoding; it gives texts the lengths of others and leaves out those that a part begins in; where a
    part is empty, it plays the beginning of the track.

    Args:
        container: is read; of an address, a pipe and other containers nothing is changed.

    Attributes:
        shown: by stream of pictures and texts, and by place and time of a packet, when it is shown, and for how long
            (0: as it says); None where it is not.
    """

    def __init__(self, container: InputContainer) -> None:
        # By stream: where parts begin, and how much later their sound is heard; None where nothing is.
        self._sounds: dict[int, tuple[list[int], list[int | None]]] = {}
        self.shown: dict[int, dict[tuple[int | None, int | None], tuple[int, int] | None]] = {}
        path = container.name.removeprefix("file:")
        if is_url(path) or not container.format.name.startswith("mov") or not Path(path).is_file():
            return
        try:
            with Path(path).open("rb") as file:
                tracks = edited_tracks(file)
        except (OSError, struct.error, ValueError, IndexError):
            return  # of a damaged index FFmpeg's times stay; what cannot be read is said where its packets are
        for stream in container.streams:
            if (track := tracks.get(stream.id)) is None:
                continue
            text, parts = stream.type == "subtitle", [*dropwhile(lambda part: part[1] < 0, track.parts)]
            if not parts[1:] and not (text and parts and parts[0][1]):
                continue
            if stream.type == "audio":
                self._sounds[stream.index] = _heard(track, parts)
            elif stream.type in ("subtitle", "video"):
                shown = _texts(track, parts) if text else _pictures(track, parts)
                entries = [entry for entry in stream.index_entries if text or not entry.is_discard]
                if len(shown) == len(entries):
                    self.shown[stream.index] = {
                        (entry.pos, entry.timestamp): one for entry, one in zip(entries, shown, strict=True)
                    }

    def timed(self, packet: av.Packet[Stream]) -> av.Packet[Stream] | None:
        """The packet with its time; None where it is not shown, and no decoder needs it."""
        if (shown := self.shown.get(packet.stream_index)) is not None:
            if (times := shown.get((packet.pos, packet.dts), ())) is None:
                return None
            if not times:  # hidden, but a decoder needs it
                return packet
            if packet.is_discard:  # a part begins while it is shown
                own: av.Packet[Stream] = av.Packet(bytes(packet))
                own.stream, own.time_base, own.is_keyframe = packet.stream, packet.time_base, True
                packet = own
            packet.pts = times[0]
            if times[1]:
                packet.dts, packet.duration = times
        elif packet.stream_index in self._sounds and packet.dts is not None and not packet.is_discard:
            begins, later = self._sounds[packet.stream_index]
            part = max(0, bisect_right(begins, packet.dts) - 1)
            if (late := later[part]) is None:
                return None
            packet.pts = packet.dts = packet.dts + late
            over = packet.dts + (packet.duration or 0) - (begins[part + 1] + (later[part + 1] or 0))
            if over > (packet.duration or 0) / 2:
                return None  # most of it lies where the next part is heard
        return packet


def _heard(track: EditedTrack, parts: list[tuple[int, int, int]]) -> tuple[list[int], list[int | None]]:
    later: list[int | None] = [0]
    for _, start, _ in parts[1:]:
        first = int(track.borders[track.borders.searchsorted(start).clip(0, track.borders.size - 1)])
        later.append(None if start < 0 else max(0, first - start))
    return [*(at for at, _, _ in parts), 1 << 62], [*later, 0]


def _texts(track: EditedTrack, parts: list[tuple[int, int, int]]) -> list[tuple[int, int] | None]:
    """Of the packets as FFmpeg gives them when they are shown, and for how long; None for not at all."""
    shown, samples = list[tuple[int, int] | None](), list(pairwise(track.borders.tolist()))
    for at, start, length in parts:
        for begin, end in samples[max(0, int(track.borders[:-1].searchsorted(start, "right")) - 1) :]:
            first, last = max(begin, start), min(end, start + length)
            shown.append((at + first - start, last - first) if start >= 0 and first < last else None)
            if end >= start + length:
                break
    return shown


def _pictures(track: EditedTrack, parts: list[tuple[int, int, int]]) -> list[tuple[int, int] | None]:
    """Of the packets that FFmpeg does not hide when they are shown; the first of the film as soon as it begins."""
    shown = list[tuple[int, int] | None]()
    for at, start, length in parts:
        times = track.shown[(track.shown >= start) & (track.shown < start + length)]
        first = None if shown else times.min(initial=start + length)
        shown += [(at + (time != first and time - start), 0) if start >= 0 else None for time in times.tolist()]
    return shown
