"""Checks what the container of an output says of its picture, and its chapters, against those of the input."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction

from rtface.media.color import UNSPECIFIED
from rtface.media.pixel_format import pixel_format_info
from rtface.media.probe import MediaInfo
from rtface.pipeline.check_sidecar import Checked

# Containers round the shape of samples, and times to a millisecond.
_ALIKE, _MOVED_S = 0.01, 0.05
_LIMITED = 1  # range, what a film that does not say has


def check_layout(found: Checked, made: MediaInfo, source: MediaInfo, begins: tuple[float, float],
                 dropped: Collection[str] = ()) -> None:
    """Whether shape, rotation, borders, colours and chapters are those of the input.

    Args:
        found: takes what comes out.
        made, source: output and input; of the input the part that was read.
        begins: time of the first frame, in the output and in the input.
        dropped: what ``--drop`` of the run named.
    """
    shapes = [float(info.aspect or 1) for info in (made, source)]
    if abs(shapes[0] / shapes[1] - 1) > _ALIKE:
        found.problems.append(f"the shape of its samples is {made.aspect or 1}, and in the input {source.aspect or 1}")
    turns = [(info.display.quarter_turns, info.display.mirror) for info in (made, source)]  # containers keep no more
    if turns[0] != turns[1]:
        found.problems.append("its picture is rotated or mirrored in another way than the input's")
    if made.crop != source.crop:  # the run says where a container cannot hide them
        said = "it hides another part of its borders than the input"
        (found.gaps if made.crop is None else found.problems).append(said)
    models = {pixel_format_info(info.pix_fmt).model for info in (made, source)}
    for what in ("range", "primaries", "transfer", "matrix"):
        now, was = (getattr(info.tags, what) for info in (made, source))
        unsaid = {0} if what == "range" else {0, UNSPECIFIED}
        if now != was and not (what == "range" and {now, was} == {0, _LIMITED}):
            said = f"what it says of its colours differs: {what} {now}, and {was} in the input (numbers of H.273)"
            (found.gaps if len(models) > 1 or unsaid & {now, was} else found.problems).append(said)
    _check_chapters(found, made, source, begins, "chapters" in dropped)


def _check_chapters(found: Checked, made: MediaInfo, source: MediaInfo, begins: tuple[float, float],
                    dropped: bool) -> None:
    """Notes chapters that the input has not. Containers without chapters, and those that end with a cut, lack some."""
    first = Fraction(begins[1])
    left = [(max(0.0, float(one.start - first)), one.metadata.get("title", ""), one) for one in source.chapters]
    for one in made.chapters:
        start, title = float(one.start) - begins[0], one.metadata.get("title", "")
        match = next((chapter for chapter in left if chapter[1] == title
                      and abs(chapter[0] - max(0.0, start)) <= _MOVED_S), None)
        if match is None:
            found.problems.append(f"its chapter {title[:100]!r} is not one of the input, or not at that time")
            return
        left.remove(match)
    left = [chapter for chapter in left if chapter[2].end > first + Fraction(_MOVED_S)
            and (source.end is None or chapter[2].start < source.end)]
    if left:
        said = f"{len(left)} chapters of the input are not in it, such as {left[0][1][:100]!r}"
        (found.notes if dropped else found.gaps).append(said + (": the run left them out (--drop)" if dropped else ""))
