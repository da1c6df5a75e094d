"""What would show more, where little of a correction is to be seen."""

from __future__ import annotations

from collections.abc import Sequence

from rtface.analysis.verdict import LEFT_ALONE
from rtface.errors import Message
from rtface.report import TrackReport

SMALL_PX = 100.0
"""Width of a face below which frames of twice the size show more of it."""
DARK = 0.4
"""Score of under-exposure from which on light is proposed, where there is an option for it."""


def enlarging_shows_more(face: TrackReport) -> bool:
    """Whether a face gains by frames of twice the size."""
    return face.mean_width_px < SMALL_PX


def proposals(
    faces: Sequence[TrackReport], *, engine: str, look: str, scale: str | None, light: float | None = None
) -> list[Message]:
    """What would show more; none where something is to be seen already, or users decided otherwise.

    Args:
        faces: of the whole input.
        engine, look, scale: options of the run.
        light: likewise; None where there is no such option.

    Returns:
        A line for each, whose values "option" and "value" a program can set; the first one promises most.
    """
    hardly = [face for face in faces if face.verdict.word == "hardly visible"]
    clean = [face for face in faces if face.verdict.word == LEFT_ALONE and "nothing to gain" in face.verdict.because]
    if not (hardly or clean) or not all(face in hardly or face.verdict.word == LEFT_ALONE for face in faces):
        return []
    found = {
        "scale": any(map(enlarging_shows_more, (*hardly, *clean))) and scale is None,
        "look": bool(hardly) and engine in ("default", "auto") and look != "vivid",
        "light": light == 0.0 and any(face.analysis["under_exposure"] >= DARK for face in faces),
        "correct": bool(clean),
        "engine": bool(hardly),
    }
    return [_PROPOSALS[option] for option, wanted in found.items() if wanted]


_PROPOSALS = {
    "scale": Message("{--scale:2} makes small faces larger", code="propose_twice", option="scale", value="2"),
    "look": Message(
        "{--look:vivid} draws more detail, some of it invented", code="propose_vivid", option="look", value="vivid"
    ),
    "light": Message("{--light:0.5} brightens the picture", code="propose_light", option="light", value=0.5),
    "correct": Message(
        "{--correct:always} corrects clean faces, too", code="propose_always", option="correct", value="always"
    ),
    "engine": Message(
        "GFPGAN, CodeFormer and others draw more ('rtface engines offers' has their sizes and licences)",
        code="propose_engine",
        option="engine",
    ),
}


def little_seen(found: Sequence[Message]) -> list[Message]:
    """One line with all proposals; none without any."""
    line = "little of it can be seen; what shows more: {proposals}"
    return [Message(line, code="little_seen", proposals="; ".join(found))] if found else []
