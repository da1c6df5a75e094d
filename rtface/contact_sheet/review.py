"""The page of ``rtface review``: pairs before and after, and what is decided of each, for the next run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from html import escape
from pathlib import Path
from typing import Any

from rtface._version import __version__
from rtface.contact_sheet.page import data_address, pair, shell
from rtface.contact_sheet.restore import CELL
from rtface.device.cpu.device import CpuDevice
from rtface.errors import InputError, InputMissing, Interrupted
from rtface.frame import Bytes, Frame
from rtface.geometry.transforms import compose, scaling, translation
from rtface.media.read.enlarge import Enlarger
from rtface.media.read.source import FileSource
from rtface.media.stills.image_read import read_image
from rtface.trust.review import NEAR_S, Place, Review
from rtface.util.text import counted, printable

_AROUND = 1.5
"""Side of a crop, in sides of the face's box."""
DECISIONS = ((1.0, "accept"), (0.5, "weaken"), (0.0, "leave out"))
"""What the strength of a correction is multiplied with, and the word for it."""


def review_page(
    review: Review,
    places: Sequence[Place],
    input: Path,
    treatment: Mapping[str, Any],
    doing: Callable[[float], object],
    stop: Callable[[], bool],
) -> str:
    """The page as text.

    Args:
        places: those that it shows.
        input: that the output was made of.
        treatment: the treatment file to which decisions are added.
        doing: called with the share of the work that is done.
        stop: ends the work once it is true.

    Raises:
        InputMissing, InputError: the input or the output cannot be read, or lacks one of the frames.
        Interrupted: `stop` was true.
    """
    if not input.exists():
        raise InputMissing(
            "{path}: is not there, and the page shows pairs of it and {output}; name the INPUT of that run by --input",
            code="review_input",
            path=input,
            output=review.output,
        )
    if review.input_bytes is not None and input.is_file() and input.stat().st_size != review.input_bytes:
        raise InputError(
            "{path}: is not the file that the run read ({name}, of another size); name that one by --input",
            code="review_input_other",
            path=input,
            name=review.input,
        )
    if (input.is_dir() or review.output.is_dir()) and not all(place.image for place in places):
        raise InputError(
            "{path}: a page shows films and separate stills, and this is a sequence of scans; leave --page out: the "
            "list, --csv, --edl and --otio have its places",
            code="review_scans",
            path=input,
        )
    rows: list[str] = []
    pairs = _Pairs(review, input)
    for number, place in enumerate(places, 1):
        if stop():
            raise Interrupted
        rows.append(_row(number, review, place, pairs))
        doing(number / len(places))
    file = f"{review.output.name.rstrip('/')}.treatment.json"
    command = shlex.join(["rtface", "run", str(input), "OUTPUT", "--treatment", file])
    known = json.dumps({**treatment, "input": input.name}).replace("<", "\\u003c")
    parts = {"COMMAND": escape(command), "FILE": escape(file, quote=True), "TREATMENT": known}
    title = f"{printable(review.output.name)}: {counted(len(places), 'place')} to look at"
    return shell("review", title, f"rtface {__version__}", parts, "\n".join(rows))


def _row(number: int, review: Review, place: Place, pairs: _Pairs) -> str:
    row, doubt = review.row(place), place.doubt
    before, after = (_crop(frame, place) for frame in pairs.of(place))
    where = escape(printable(place.image) or row["timecode"])
    person = f" ({escape(place.person)})" if place.person else ""
    alt = f"place {number}, track {place.track}"
    said = json.dumps({"track": place.track, "from_s": doubt.from_s, "to_s": doubt.to_s})
    kept = min(  # of what the run left of it
        (
            one["strength"]
            for one in review.decisions
            if one["track"] == place.track and one["from_s"] <= doubt.at_s <= one["to_s"]
        ),
        default=1.0,
    )
    choices = "\n".join(
        f'<label><input type="radio" name="place{number}" value="{kept * share:g}" data-shown="{share:g}" '
        f'data-name="{word}"> {word}</label>'
        for share, word in DECISIONS
    )
    facts = "".join(f"<li>{escape(reason)}</li>" for reason in row["reasons"])
    shown = f'<img class="after" src="{data_address(after)}" alt="{alt}, output">'
    return f"""<section aria-labelledby="place{number}" data-place="{escape(said, quote=True)}">
{pair(before, shown, alt, "output")}
<div><h2 id="place{number}">{number}: {where}, track {place.track}{person}, doubt {row["doubt"]:.2f}</h2>
<fieldset><legend>Correction from {doubt.from_s:.2f} to {doubt.to_s:.2f} s</legend>
{choices}
</fieldset>
<ul>{facts}</ul></div>
</section>"""


class _Pairs:
    """The frames of places in the input, as large as the output's, and in the output."""

    def __init__(self, review: Review, input: Path) -> None:
        self._review = review
        self._films = (input, review.options.get("scale")), (review.output, None)

    def of(self, place: Place) -> Iterator[Frame]:
        """The frame of a place in both; InputError where one has none there."""
        review, at_s = self._review, place.doubt.at_s
        if review.clock is None:
            for path, scale in self._films:
                image = _still(path, place.image) if path.is_dir() else path
                yield Enlarger(scale)(read_image(image).frame)
            return
        shown = review.times[review.frame_of(at_s)]
        since = min(0.0, float(shown - review.time_of(at_s)))  # the second of two fields is half a frame later
        for (path, scale), time in zip(self._films, (at_s + since, float(shown - review.clock.begin)), strict=True):
            start = max(0.0, time - float(NEAR_S))
            with closing(FileSource(path, start=start, threads=1, scale=scale)) as film:
                frame = next((item for item in film if isinstance(item, Frame)), None)
            if frame is None:
                raise InputError(
                    "{path}: has no frame at {time_s:.3f} s, which the run corrected; name the films of that run",
                    code="review_frame",
                    path=path,
                    time_s=start,
                )
            yield frame


def _still(folder: Path, name: str) -> Path:
    """The image of that name, or of a name with another suffix: what cannot be written becomes PNG."""
    path = folder / name
    return path if path.is_file() else path.with_suffix(".png")


def _crop(frame: Frame, place: Place) -> Bytes:
    """The face and what is round it, uint8 RGB."""
    x0, y0, x1, y1 = place.doubt.box
    side = max(x1 - x0, y1 - y0, 1.0) * _AROUND
    matrix = compose(scaling(CELL / side, CELL / side), translation(side / 2 - (x0 + x1) / 2, side / 2 - (y0 + y1) / 2))
    return CpuDevice().view(frame).crop(matrix, (CELL, CELL))
