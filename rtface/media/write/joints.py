"""Checks the timing of sound after cuts of an edit list."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from av.stream import Stream

from rtface.media.read.timeline import MOVED_S
from rtface.media.write.muxer import AnyPacket
from rtface.util.av_input import open_input

# Maximum number of joints to check; seconds to search before and after each.
_MAX_JOINTS, _AROUND_S = 100, 2


class Joints:
    """Records copied sound packets after joints, and detects shifted ones."""

    def __init__(self) -> None:
        self._records = list[tuple[int, float, bytes]]()

    def note(self, target: Stream, packet: AnyPacket) -> None:
        """Records the first packet after a joint, with its output time."""
        if packet.pts is not None and len(self._records) < _MAX_JOINTS:
            self._records.append((target.index, float(packet.pts * packet.time_base), bytes(packet)))

    def moved(self, path: Path, first: float) -> str:
        """Describes the first joint that is off by over 50 ms. Returns "" if there is none.

        Args:
            path: the film.
            first: time of its first frame, as passed to the muxer.
        """
        if not self._records:
            return ""
        with closing(open_input(f"file:{path}")) as film:
            video = film.streams.video[0]
            begin = float((video.start_time or 0) * (video.time_base or 0)) - first
            for index, time, data in self._records:
                film.seek(round(max(0.0, time + begin - _AROUND_S) * 1_000_000), backward=True)
                delays = list[float]()
                for packet in film.demux(film.streams[index]):
                    late = 0.0 if packet.pts is None else float(packet.pts * packet.time_base) - begin - time
                    if late > _AROUND_S:
                        break
                    delays += [late] if bytes(packet) == data else []
                late = min(delays, key=abs, default=None)
                if late is None or abs(late) > MOVED_S:
                    problem = "is missing" if late is None else f"is {late:+.3f} s late"
                    return f"stream {index}: the sound at {time:.3f} s, after a cut in the edit list, {problem}"
        return ""
