"""Checks the streams of an output that are no picture against those of its input: every packet, in both directions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from fractions import Fraction

from rtface.media.framemd5 import PacketHashes
from rtface.pipeline.check_sidecar import Checked

# A packet may come this much earlier or later than the picture wants it (0.7 ms were seen between containers).
_MOVED_S = 0.02
# Packets at each border of a cut that may or may not be in.
_AT_CUT = 2
_COMPARED = ("audio", "subtitle", "video")


def check_packets(found: Checked, made: Sequence[PacketHashes], source: Sequence[PacketHashes],
                  begins: tuple[float, float], cut: tuple[Fraction | None, Fraction | None],
                  dropped: Collection[str] = ()) -> None:
    """Whether the packets of the streams are those of the input, all of them, at their times.

    Args:
        found: takes what comes out.
        made, source: of output and input, the picture first.
        begins: time of the first frame that was compared, in the output and in the input.
        cut: of the input, in seconds of its clock; None for none.
        dropped: what ``--drop`` of the run named.
    """
    left = list(enumerate(source[1:], 1))
    for number, stream in enumerate(made[1:], 1):
        own = Counter(md5 for _, md5 in stream.rows)
        named = f"stream {number} ({stream.kind}, {stream.codec})"
        shared = {place: (own & Counter(md5 for _, md5 in other.rows)).total()
                  for place, other in left if other.codec == stream.codec}
        place = max(shared, key=lambda k: shared[k], default=None)
        if place is None or not own or shared[place] <= own.total() // 2:
            said = f"{named}: was transcoded, or is not the input's; its packets prove nothing"
            (found.gaps if stream.kind in _COMPARED else found.notes).append(said)
            continue
        left = [(k, other) for k, other in left if k != place]
        _check_stream(found, named, f"stream {place}", stream, source[place], begins, cut)
    transcoded = Counter(stream.kind for stream in made[1:]) - Counter(
        other.kind for k, other in enumerate(source[1:], 1) if k not in dict(left))
    for place, other in left:
        named = f"stream {place} ({other.kind}, {other.codec}) of the input is not in it"
        kinds = {str(other.index), other.kind, "cover" if other.kind == "video" and len(other.rows) == 1 else ""}
        if kinds & set(dropped):
            found.notes.append(f"{named}: the run left it out (--drop)")
        elif transcoded[other.kind]:
            transcoded[other.kind] -= 1
        elif other.rows and other.kind in _COMPARED:
            found.gaps.append(named)


def _check_stream(found: Checked, named: str, name: str, stream: PacketHashes, other: PacketHashes,
                  begins: tuple[float, float], cut: tuple[Fraction | None, Fraction | None]) -> None:
    start, end = cut
    theirs = [(pts, md5) for pts, md5 in other.rows if (start is None or pts * other.base >= start)
              and (end is None or pts * other.base < end)]
    own, wanted = [md5 for _, md5 in stream.rows], [md5 for _, md5 in theirs]
    changed = Counter(own) - Counter(md5 for _, md5 in other.rows)
    missing = (Counter(wanted) - Counter(own)).total()
    allowed = _AT_CUT * ((start is not None) + (end is not None))
    before = len(found.problems)
    if changed:
        found.problems.append(f"{named}: {changed.total()} of {len(own)} packets are not those of {name} of the input")
    elif missing > allowed:
        found.problems.append(f"{named}: {missing} of {len(wanted)} packets of {name} of the input are missing")
    elif not allowed and own != wanted:
        found.problems.append(f"{named}: its packets are those of {name} of the input in another order")
    else:
        _check_times(found, named, stream, other, begins)
    if len(found.problems) == before:
        found.proofs.append(f"{named}: all {len(own)} packets are those of {name} of the input")


def _check_times(found: Checked, named: str, stream: PacketHashes, other: PacketHashes,
                 begins: tuple[float, float]) -> None:
    times: dict[str, list[float]] = {}
    for pts, md5 in other.rows:
        times.setdefault(md5, []).append(float(pts * other.base) - begins[1])
    for number, (pts, md5) in enumerate(stream.rows):
        time = float(pts * stream.base) - begins[0]
        # A subtitle that is on screen at the beginning of a cut begins there.
        late = min((time - each for theirs in times[md5] for each in (theirs, max(theirs, 0.0))), key=abs)
        if abs(late) > _MOVED_S:
            found.problems.append(f"{named}: packet {number} comes {abs(late):.3f} s "
                                  f"{'later' if late > 0 else 'earlier'} than in the input")
            return
