"""Checks what the container of an output says of its picture, and its chapters, against those of the input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from fractions import Fraction

from av.stream import Disposition

from rtface.media.formats.color import NOT_READ, UNSPECIFIED, HdrMetadata, alike, same_tag
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.read.probe import MediaInfo
from rtface.trust.check_sidecar import Checked, played

# Containers round the shape of samples, and times to a millisecond.
_ALIKE, _MOVED_S = 0.01, 0.05
_ANGLE = 0.02  # of the numbers of a matrix that turns by no quarter
_LIMITED = 1  # range, what a film that does not say has


def check_layout(
    found: Checked,
    made: MediaInfo,
    source: MediaInfo,
    begins: tuple[float, float] | None,
    dropped: Collection[str] = (),
) -> None:
    """Whether shape, rotation, borders, colours and chapters are those of the input.

    Args:
        found: takes what comes out.
        made, source: output and input; of the input the part that was read.
        begins: time of the first frame, in the output and in the input; None leaves the chapters out.
        dropped: what ``--drop`` of the run named.
    """
    shapes = [float(info.aspect or 1) for info in (made, source)]
    if abs(shapes[0] / shapes[1] - 1) > _ALIKE:
        found.problems.append(f"the shape of its samples is {made.aspect or 1}, and in the input {source.aspect or 1}")
    turns = [(info.display.quarter_turns, info.display.mirror) for info in (made, source)]  # containers keep no more
    if turns[0] != turns[1]:
        found.problems.append("its picture is rotated or mirrored in another way than the input's")
    elif any(abs(a - b) > _ANGLE for a, b in zip(_turn(made.matrix), _turn(source.matrix), strict=True)):
        (found.problems if made.matrix else found.gaps).append(
            "its picture is rotated by another angle than the input's"
        )
    if _moves(made) - _moves(source) - _moves(made, natural=True):
        found.problems.append("its picture is moved or slanted in another way than the input's")
    if made.display.fields != source.display.fields:
        (found.gaps if made.display.fields == "progressive" else found.problems).append(
            f"its fields differ: {made.display.fields}, and {source.display.fields} in the input"
        )
    found.problems += [
        f"its header says what the input's does not: {line}" for line in made.unseen if line not in source.unseen
    ]
    for what, now in made.views.items():
        if source.views.get(what) != now:
            found.problems.append(f"players show it in another way than the input ({what})")
    lost = [what for what in source.views.keys() - made.views.keys() if what != "AFD"]
    if lost:
        found.gaps.append(f"it does not say how players show it, and the input does ({', '.join(sorted(lost))})")
    _check_hdr(found, made, source)
    if made.crop != source.crop:  # the run says where a container cannot hide them
        said = "it hides another part of its borders than the input"
        (found.gaps if made.crop is None else found.problems).append(said)
    forms = [pixel_format_info(info.pix_fmt) for info in (made, source)]
    for what in ("range", "primaries", "transfer", "matrix"):
        now, was = (getattr(info.tags, what) for info in (made, source))
        unsaid = {0} if what == "range" else {0, UNSPECIFIED}
        if what == "matrix" and what in NOT_READ.get(made.codec, ()):
            continue  # its header says it, and players of FFmpeg's take another
        if not same_tag(what, now, was) and not (what == "range" and {now, was} == {0, _LIMITED}):
            said = f"what it says of its colours differs: {what} {now}, and {was} in the input (numbers of H.273)"
            converted = forms[0] != forms[1] if what == "range" else forms[0].model != forms[1].model
            (found.gaps if converted or unsaid & {now, was} else found.problems).append(said)
    sitings = made.tags.siting, source.tags.siting
    if all(sitings) and sitings[0] != sitings[1]:  # not every encoder can say it
        found.gaps.append(f"where its chroma samples lie differs: {sitings[0]}, and {sitings[1]} in the input")
    if begins is not None:
        _check_chapters(found, made, source, begins, "chapters" in dropped)


def check_streams(
    found: Checked, made: MediaInfo, source: MediaInfo, pairs: Sequence[tuple[int, int]], dropped: Collection[str] = ()
) -> None:
    """Whether attachments, and which streams are played without a choice, are those of the input.

    Args:
        found: takes what comes out.
        made, source: output and input.
        pairs: numbers of streams in the output, and of those in the input that they are.
        dropped: what ``--drop`` of the run named.
    """
    left = Counter[tuple[str, str, str] | None](one.attached for one in source.streams)
    for one in made.streams:
        if one.attached and left[one.attached] < 1:
            found.problems.append(f"stream {one.index}: the attachment {one.attached[0][:100]!r} is not the input's")
        left[one.attached] -= 1
    shown = [
        [one.index for one in info.streams if one.codec == "bin_data" and one.disposition] for info in (made, source)
    ]
    if shown[0] and not shown[1]:
        found.problems.append(f"stream {shown[0][0]}: players show the names of the chapters, and not in the input")
    for one in source.streams:
        if one.attached and left[one.attached] > 0:
            left[one.attached] -= 1
            said = f"the attachment {one.attached[0][:100]!r} of the input is not in it"
            if {one.kind, str(one.index)} & set(dropped):
                found.notes.append(f"{said}: the run left it out (--drop)")
            else:
                found.gaps.append(said)
    mine, theirs = ({one.index: one for one in info.streams} for info in (made, source))
    formats = made.format, source.format
    now, was = (
        played([(one.kind, int(one.disposition)) for one in streams], formats, before=before)
        for streams, before in (
            ([mine[a] for a, _ in sorted(pairs)], False),
            ([theirs[b] for _, b in sorted(pairs)], True),
        )
    )
    for (number, _), new, old in zip(sorted(pairs), now, was, strict=True):
        if new != old:
            names = [
                ", ".join(flag.name for flag in Disposition if flags & flag and flag.name) or "nothing"
                for flags in (new, old)
            ]
            (found.problems if new & ~old else found.gaps).append(
                f"stream {number}: how players choose it differs: {names[0]}, and {names[1]} in the input"
            )


def _moves(info: MediaInfo, *, natural: bool = False) -> set[tuple[int, ...]]:
    """By how much a matrix moves and slants the picture, where it does; `natural`: so that it begins at the corner
    again."""
    a, b, u, c, d, v, x, y, _ = info.matrix or (0,) * 9
    if natural:
        u = v = 0
        x, y = (
            -sum(min(0, one * size) for one, size in ((p, info.width), (q, info.height))) for p, q in ((a, c), (b, d))
        )
    return {(x, y), (u, v)} - {(0, 0)}


def _turn(matrix: tuple[int, ...] | None) -> list[float]:
    """The numbers of a matrix that rotate and shear, in whatever scale."""
    turn = [float(matrix[k]) for k in (0, 1, 3, 4)] if matrix else [1.0, 0.0, 0.0, 1.0]
    scale = max(map(abs, turn)) or 1.0
    return [number / scale for number in turn]


def _check_hdr(found: Checked, made: MediaInfo, source: MediaInfo) -> None:
    """Notes HDR metadata that the input has not, and such as the output lacks."""
    was = source.hdr or HdrMetadata()
    now = made.hdr or HdrMetadata()
    for what in ("primaries", "luminance", "light", "dynamic"):
        a, b = getattr(now, what), getattr(was, what)
        if not (a == b if what == "dynamic" or not (a and b) else alike(a, b)):
            (found.problems if a else found.gaps).append(f"its HDR metadata differ from the input's ({what})")


def _check_chapters(
    found: Checked, made: MediaInfo, source: MediaInfo, begins: tuple[float, float], dropped: bool
) -> None:
    """Notes chapters that the input has not. Containers without chapters, and those that end with a cut, lack some."""
    first = Fraction(begins[1])
    left = [(max(0.0, float(one.start - first)), one.metadata.get("title", ""), one) for one in source.chapters]
    for one in made.chapters:
        start, title = float(one.start) - begins[0], one.metadata.get("title", "")
        match = next(
            (chapter for chapter in left if chapter[1] == title and abs(chapter[0] - max(0.0, start)) <= _MOVED_S), None
        )
        if match is None:
            found.problems.append(f"its chapter {title[:100]!r} is not one of the input, or not at that time")
            return
        left.remove(match)
    left = [
        chapter
        for chapter in left
        if chapter[2].end > first + Fraction(_MOVED_S) and (source.end is None or chapter[2].start < source.end)
    ]
    if left:
        said = f"{len(left)} chapters of the input are not in it, such as {left[0][1][:100]!r}"
        (found.notes if dropped else found.gaps).append(said + (": the run left them out (--drop)" if dropped else ""))
