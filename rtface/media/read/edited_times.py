"""Corrects packet times in films with edit lists. FFmpeg's demuxer gets them wrong."""

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
    """Corrects packet times in an MP4 or MOV by its edit lists.

    FFmpeg starts each part with the first packet that lies entirely in it, and shifts that packet's time (video after
    the first part is shifted by decoding time). Subtitles get wrong durations, and FFmpeg drops a subtitle during which
    a part starts. For an empty part, FFmpeg plays the start of the track.

    Args:
        container: the input; packets of URLs, pipes and containers other than MP4 and MOV are not changed.

    Attributes:
        shown: presentation time and duration (0: unchanged) of packets; None for hidden packets. Keyed by the index
            of a video or subtitle stream, then by position and DTS of the packet.
    """

    def __init__(self, container: InputContainer) -> None:
        # Keyed by index of an audio stream: starts of the parts, and their delays (None for a silent part).
        self._sounds: dict[int, tuple[list[int], list[int | None]]] = {}
        self.shown: dict[int, dict[tuple[int | None, int | None], tuple[int, int] | None]] = {}
        path = container.name.removeprefix("file:")
        if is_url(path) or not container.format.name.startswith("mov") or not Path(path).is_file():
            return
        try:
            with Path(path).open("rb") as file:
                tracks = edited_tracks(file)
        except (OSError, struct.error, ValueError, IndexError):
            return  # the index is damaged: FFmpeg's times are used, and reading the packets reports faults
        for stream in container.streams:
            if (track := tracks.get(stream.id)) is None:
                continue
            is_text, parts = stream.type == "subtitle", [*dropwhile(lambda part: part[1] < 0, track.parts)]
            if not parts[1:] and not (is_text and parts and parts[0][1]):
                continue
            if stream.type == "audio":
                self._sounds[stream.index] = _audio_parts(track, parts)
            elif stream.type in ("subtitle", "video"):
                shown = _text_times(track, parts) if is_text else _frame_times(track, parts)
                entries = [entry for entry in stream.index_entries if is_text or not entry.is_discard]
                if len(shown) == len(entries):
                    self.shown[stream.index] = {
                        (entry.pos, entry.timestamp): times for entry, times in zip(entries, shown, strict=True)
                    }

    def timed(self, packet: av.Packet[Stream]) -> av.Packet[Stream] | None:
        """Returns the packet with corrected times. Returns None if it is hidden and no decoder needs it."""
        if (shown := self.shown.get(packet.stream_index)) is not None:
            if (times := shown.get((packet.pos, packet.dts), ())) is None:
                return None
            if not times:  # hidden, but a decoder needs it
                return packet
            if packet.is_discard:  # a part starts during this packet; a copy has no discard flag
                copy: av.Packet[Stream] = av.Packet(bytes(packet))
                copy.stream, copy.time_base, copy.is_keyframe = packet.stream, packet.time_base, True
                packet = copy
            packet.pts = times[0]
            if times[1]:
                packet.dts, packet.duration = times
        elif packet.stream_index in self._sounds and packet.dts is not None and not packet.is_discard:
            starts, delays = self._sounds[packet.stream_index]
            part = max(0, bisect_right(starts, packet.dts) - 1)
            if (delay := delays[part]) is None:
                return None
            packet.pts = packet.dts = packet.dts + delay
            overlap = packet.dts + (packet.duration or 0) - (starts[part + 1] + (delays[part + 1] or 0))
            if overlap > (packet.duration or 0) / 2:
                return None  # most of the packet overlaps the next part
        return packet


def _audio_parts(track: EditedTrack, parts: list[tuple[int, int, int]]) -> tuple[list[int], list[int | None]]:
    delays: list[int | None] = [0]
    for _, start, _ in parts[1:]:
        first = int(track.borders[track.borders.searchsorted(start).clip(0, track.borders.size - 1)])
        delays.append(None if start < 0 else max(0, first - start))
    return [*(at for at, _, _ in parts), 1 << 62], [*delays, 0]


def _text_times(track: EditedTrack, parts: list[tuple[int, int, int]]) -> list[tuple[int, int] | None]:
    """Returns presentation time and duration of FFmpeg's subtitle packets, in order. Hidden packets get None."""
    shown_times, samples = list[tuple[int, int] | None](), list(pairwise(track.borders.tolist()))
    for at, start, length in parts:
        for begin, end in samples[max(0, int(track.borders[:-1].searchsorted(start, "right")) - 1) :]:
            first, last = max(begin, start), min(end, start + length)
            shown_times.append((at + first - start, last - first) if start >= 0 and first < last else None)
            if end >= start + length:
                break
    return shown_times


def _frame_times(track: EditedTrack, parts: list[tuple[int, int, int]]) -> list[tuple[int, int] | None]:
    """Returns presentation times of packets that FFmpeg does not hide. The film's first packet starts with its part."""
    shown_times = list[tuple[int, int] | None]()
    for at, start, length in parts:
        times = track.shown[(track.shown >= start) & (track.shown < start + length)]
        first = None if shown_times else times.min(initial=start + length)
        shown_times += [(at + (time != first and time - start), 0) if start >= 0 else None for time in times.tolist()]
    return shown_times
