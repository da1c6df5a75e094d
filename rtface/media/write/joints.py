"""Sound behind what an edit list cuts out of the middle, looked for in the finished film at its time."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from av.stream import Stream

from rtface.media.read.timeline import MOVED_S
from rtface.media.write.muxer import AnyPacket
from rtface.util.av_input import open_input

# Joints that are looked at, and seconds round each.
_MOST, _AROUND_S = 100, 2


class Joints:
    """Notes copied packets of sound behind a joint, and says which of them a film shows at another time."""

    def __init__(self) -> None:
        self._noted = list[tuple[int, float, bytes]]()

    def note(self, target: Stream, packet: AnyPacket) -> None:
        """Takes the first packet behind a joint, with its time in the output."""
        if packet.pts is not None and len(self._noted) < _MOST:
            self._noted.append((target.index, float(packet.pts * packet.time_base), bytes(packet)))

    def moved(self, path: Path, first: float) -> str:
        """Names the first joint that is more than 50 ms away from its time; "" for none.

        Args:
            path: the film.
            first: time of its first frame, as it was given to the muxer.
        """
        if not self._noted:
            return ""
        with closing(open_input(f"file:{path}")) as film:
            video = film.streams.video[0]
            begin = float((video.start_time or 0) * (video.time_base or 0)) - first
            for index, time, data in self._noted:
                film.seek(round(max(0.0, time + begin - _AROUND_S) * 1_000_000), backward=True)
                found = list[float]()
                for packet in film.demux(film.streams[index]):
                    late = 0.0 if packet.pts is None else float(packet.pts * packet.time_base) - begin - time
                    if late > _AROUND_S:
                        break
                    found += [late] if bytes(packet) == data else []
                late = min(found, key=abs, default=None)
                if late is None or abs(late) > MOVED_S:
                    where = "is missing" if late is None else f"comes {late:+.3f} s late"
                    return f"stream {index}: its sound at {time:.3f} s, behind a cut of an edit list, {where}"
        return ""
