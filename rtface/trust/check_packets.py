"""Checks the streams of an output that are no picture against those of its input: every packet, in both directions."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from fractions import Fraction

from rtface.trust.check_sidecar import Checked
from rtface.trust.packet_hashes import PacketHashes, cut_short

# A packet may come this much earlier or later than the picture wants it (0.7 ms were seen between containers).
_MOVED_S = 0.02
# Samples that a container may cut away of the first packet, where the input's says nothing of those that encoders put
# in front (Apple's AAC), and of any by rounding (24 of Opus were seen).
_PADDED, _ROUNDED = 2112, 64
# Packets that are as near to a border of a cut may or may not be in.
_AT_CUT_S = Fraction(1, 4)
_COMPARED = ("audio", "subtitle", "video")


def check_packets(
    found: Checked,
    made: Sequence[PacketHashes],
    source: Sequence[PacketHashes],
    begins: tuple[float, float],
    cut: tuple[Fraction | None, Fraction | None],
    dropped: Collection[str] = (),
    *,
    fitted: bool = False,
) -> list[tuple[int, int]]:
    """Whether the packets of the streams are those of the input, all of them, at their times.

    Args:
        found: takes what comes out.
        made, source: of output and input, the picture first.
        begins: time of the first frame that was compared, in the output and in the input.
        cut: of the input, in seconds of its clock; None for none.
        dropped: what ``--drop`` of the run named.
        fitted: whether the container's sound is as long as its frames (MXF).

    Returns:
        Numbers of the streams in the output whose packets are the input's, and of those in the input.
    """
    pairs = [(made[0].index, source[0].index)]
    found.problems += cut_short(made)
    left, last = list(enumerate(source[1:], 1)), dict[str, int]()
    for number, stream in enumerate(made[1:], 1):
        own = Counter(md5 for _, md5 in stream.rows)
        named = f"stream {number} ({stream.kind}, {stream.codec})"
        shared = {
            place: (own & Counter(md5 for _, md5 in other.rows)).total()
            for place, other in left
            if other.codec == stream.codec
        }
        place = max(shared, key=lambda k: shared[k], default=None)
        if place is None or not own or shared[place] <= own.total() // 2:
            said = f"{named}: was transcoded, or is not the input's; its packets prove nothing"
            (found.gaps if stream.kind in _COMPARED else found.notes).append(said)
            continue
        left = [(k, other) for k, other in left if k != place]
        if place < last.get(stream.kind, 0):
            found.problems.append(f"{named}: comes behind others of its kind that are behind it in the input")
        last[stream.kind] = max(place, last.get(stream.kind, 0))
        pairs.append((stream.index, source[place].index))
        _check_stream(found, named, f"stream {place}", stream, source[place], begins, cut, fitted=fitted)
    transcoded = Counter(stream.kind for stream in made[1:]) - Counter(
        other.kind for k, other in enumerate(source[1:], 1) if k not in dict(left)
    )
    for place, other in left:
        named = f"stream {place} ({other.kind}, {other.codec}) of the input is not in it"
        kinds = {str(other.index), other.kind, "cover" if other.kind == "video" and len(other.rows) == 1 else ""}
        if kinds & set(dropped):
            found.notes.append(f"{named}: the run left it out (--drop)")
        elif transcoded[other.kind]:
            transcoded[other.kind] -= 1
        elif other.rows and other.kind in _COMPARED:
            found.gaps.append(named)
    return pairs


def _check_stream(
    found: Checked,
    named: str,
    name: str,
    stream: PacketHashes,
    other: PacketHashes,
    begins: tuple[float, float],
    cut: tuple[Fraction | None, Fraction | None],
    *,
    fitted: bool,
) -> None:
    own, all_theirs = [md5 for _, md5 in stream.rows], [md5 for _, md5 in other.rows]
    may_lack = cut != (None, None) or bool(other.hidden)
    changed = Counter(own) - Counter(all_theirs)
    wanted = [
        md5
        for place, (pts, md5) in enumerate(other.rows)
        if place not in other.hidden and _inside(pts * other.base, cut)
    ]
    missing = (Counter(wanted) - Counter(own)).total()
    before = len(found.problems) + len(found.gaps)
    if fitted and stream.kind == "audio" and (changed or missing) and not _differ_inside(own, all_theirs):
        found.gaps.append(
            f"{named}: begins and ends with the frames, and that of the input elsewhere: "
            f"{len(own) - changed.total()} of {len(own)} pieces are those of {name}"
        )
    elif changed:
        found.problems.append(f"{named}: {changed.total()} of {len(own)} packets are not those of {name} of the input")
    elif missing:
        found.problems.append(f"{named}: {missing} of {len(wanted)} packets of {name} of the input are missing")
    elif not (_in_order(wanted, own) and _in_order(own, all_theirs) if may_lack else own == wanted):
        found.problems.append(f"{named}: its packets are those of {name} of the input in another order")
    elif stream.setup and other.setup and stream.setup != other.setup:
        hashed = " " not in stream.setup
        found.problems.append(
            f"{named}: "
            + (
                f"its header, by which the packets are decoded, is not that of {name} of the input"
                if hashed
                else f"is said to have {stream.setup}, and in the input {other.setup}"
            )
        )
    elif stream.kind != "video" or len(own) > 1:  # a cover has no time
        _check_times(found, named, stream, other, begins, cut)
    if len(found.problems) + len(found.gaps) == before:
        found.proofs.append(f"{named}: all {len(own)} packets are those of {name} of the input")


def _differ_inside(own: list[str], theirs: list[str]) -> bool:
    """Whether pieces differ between some that are the same, and not only at the ends; what repeats says nothing."""
    once = [{md5 for md5, count in Counter(pieces).items() if count == 1} for pieces in (own, theirs)]
    anchors = once[0] & once[1]
    inner = list[list[str]]()
    for pieces in (own, theirs):
        same = [place for place, md5 in enumerate(pieces) if md5 in anchors]
        inner.append(pieces[same[0] : same[-1] + 1] if same else [])
    return inner[0] != inner[1]


def _inside(time: Fraction, cut: tuple[Fraction | None, Fraction | None]) -> bool:
    """Whether a packet has to be in a cut, and not only may be."""
    start, end = cut
    return (start is None or time >= start + _AT_CUT_S) and (end is None or time < end - _AT_CUT_S)


def _in_order(part: list[str], whole: list[str]) -> bool:
    """Whether packets come in the order of all; near a cut B-frames leave gaps."""
    rest = iter(whole)
    return all(one in rest for one in part)


def _late(time: float, theirs: float) -> float:
    """Seconds by which a packet comes late; what shows at the beginning of a cut may begin there."""
    return min((time - theirs, time - max(theirs, 0.0)), key=abs)


def _check_times(
    found: Checked,
    named: str,
    stream: PacketHashes,
    other: PacketHashes,
    begins: tuple[float, float],
    cut: tuple[Fraction | None, Fraction | None],
) -> None:
    left: dict[str, deque[tuple[float, int]]] = {}
    for number, (pts, md5) in enumerate(other.rows):
        left.setdefault(md5, deque()).append((float(pts * other.base) - begins[1], number))
    for number, (pts, md5) in enumerate(stream.rows):
        time, same = float(pts * stream.base) - begins[0], left[md5]
        # A subtitle that is on screen at the beginning of a cut begins there; what is hidden need not be in.
        while (
            len(same) > 1
            and (cut[0] is not None or same[0][1] in other.hidden)
            and (abs(_late(time, same[1][0])) <= abs(_late(time, same[0][0])))
        ):
            same.popleft()
        if not same:
            found.problems.append(f"{named}: packet {number} is not at its place in the input")
            return
        theirs, place = same.popleft()
        late = _late(time, theirs)
        if abs(late) > _MOVED_S:
            found.problems.append(
                f"{named}: packet {number} comes {abs(late):.3f} s "
                f"{'later' if late > 0 else 'earlier'} than in the input"
            )
            return
        if number in stream.hidden and place not in other.hidden and other.rows[place][0] >= 0:
            found.problems.append(f"{named}: packet {number} is cut away by an edit list, and is shown in the input")
            return
        known = number or {place} & (other.trimmed.keys() | other.hidden) or stream.codec.startswith("pcm_")
        ticks = other.rows[place][0] - other.rows[0][0]  # what is cut away at the beginning reaches over packets
        theirs_cut = max(sum(other.trimmed.get(place, ())), 0 if number else other.trimmed.get(0, (0, 0))[0] - ticks)
        cut_away, allowed = sum(stream.trimmed.get(number, ())) - theirs_cut, _ROUNDED if known else _PADDED
        if cut_away > allowed:
            found.problems.append(f"{named}: {cut_away} samples of packet {number} are cut away, and not in the input")
            return
        if not (stream.durations and other.durations):
            continue
        shown, was = float(stream.durations[number] * stream.base), float(other.durations[place] * other.base)
        in_whole = theirs >= 0 and (cut[1] is None or theirs + begins[1] + was < cut[1])
        if in_whole and abs(shown - was) > _MOVED_S:
            found.problems.append(
                f"{named}: packet {number} is shown for {shown:.3f} s, and for {was:.3f} s in the input"
            )
            return
