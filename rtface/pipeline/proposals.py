"""Proposes options that show more if corrections are hardly visible."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate

from rtface.analysis.track_report import TrackReport
from rtface.analysis.verdict import LEFT_ALONE, UNCHANGED, faults_of
from rtface.errors import Message
from rtface.util.parse import UNKNOWN_PERSON, is_person_number

SMALL_PX, MIN_FAULT_SCORE = 130.0, 0.2
"""Faces narrower than SMALL_PX gain from frames of twice the size if one of their faults has at least MIN_FAULT_SCORE.
For faces that are soft under grain, the limit is twice SMALL_PX."""
_FREE_STRENGTH = 0.95  # *vivid* is proposed above this decided strength only; below, it gained nothing in blind tests


def _gains_from_size(face: TrackReport) -> bool:
    """Returns whether a face gains from frames of twice the size. If it is soft and grainy, it may be twice as wide,
    because only a larger size separates such a face from its grain."""
    faults = {name for name, score in faults_of(face.analysis) if score >= MIN_FAULT_SCORE}.difference(UNCHANGED)
    return bool(faults) and face.mean_width_px < (2 if faults >= {"low resolution", "noise"} else 1) * SMALL_PX


def _small_width(faces: Sequence[TrackReport]) -> float | None:
    """Returns the median width of faces that gain from a larger size. None if they are not the majority of all faces on
    all frames."""
    widths = sorted((face.mean_width_px, face.frames) for face in faces if _gains_from_size(face))
    frames = sum(count for _, count in widths)
    if 2 * frames <= sum(face.frames for face in faces):
        return None
    totals = accumulate(count for _, count in widths)
    return next(width for (width, _), count in zip(widths, totals, strict=True) if 2 * count >= frames)


def proposals(faces: Sequence[TrackReport], *, engine: str, look: str, scale: str | None) -> list[Message]:
    """Proposes options that show more, such as frames of twice the size. Does not propose options that the user set.

    Args:
        faces: faces of the whole input.
        engine, look, scale: options of the run.

    Returns:
        A message for each proposal, the most promising first. Programs read its values "option" and "value".
    """
    faces = [face for face in faces if face.verdict.asked and "never asked for" not in face.verdict.because]
    subtle = [face for face in faces if face.verdict.word == "hardly visible"]
    clean = [face for face in faces if face.verdict.word == LEFT_ALONE and "nothing to gain" in face.verdict.because]
    width = _small_width([face for face in faces if face.verdict.word != LEFT_ALONE] or clean)
    values = {"option": "scale", "value": "2", "width": round(width or 0)}
    line = "faces are small ({width} px): {--scale:2} restores them at twice the size"
    scale_proposal = Message(line, code="propose_twice", **values)
    if width is not None and width >= SMALL_PX:
        line = "faces are soft under grain: {--scale:2} removes more of the grain from them"
        scale_proposal = Message(line, code="propose_twice_grain", **values)
    scale_proposals = [scale_proposal] if scale is None and width is not None else []
    if not (subtle or clean) or not all(face in subtle or face.verdict.word == LEFT_ALONE for face in faces):
        return scale_proposals
    vivid_helps = any(face.factors.get("decided", 1.0) > _FREE_STRENGTH for face in subtle)
    useful = {
        "clear": bool(subtle) and look == "faithful",
        "vivid": vivid_helps and engine in ("default", "auto") and look == "clear",
        "correct": bool(clean),
        "engine": bool(subtle),
    }
    return scale_proposals + [_PROPOSALS[option] for option, is_useful in useful.items() if is_useful]


_PROPOSALS = {
    "clear": Message(
        "{--look:clear} shows detail as strong as in a real face", code="propose_clear", option="look", value="clear"
    ),
    "vivid": Message(
        "{--look:vivid} draws more detail, but invents some of it", code="propose_vivid", option="look", value="vivid"
    ),
    "correct": Message(
        "{--correct:always} corrects clean faces, too", code="propose_always", option="correct", value="always"
    ),
    "engine": Message(
        "GFPGAN, CodeFormer and others draw more ('rtface engines offers' has their sizes and licences)",
        code="propose_engine",
        option="engine",
    ),
}


def little_seen(lines: Sequence[Message]) -> list[Message]:
    """Joins proposals into one line, if any. A single proposal of a larger size is returned unchanged."""
    if len(lines) == 1 and lines[0].values.get("option") == "scale":
        return list(lines)
    line = "little of the correction is visible; to show more: {proposals}"
    return [Message(line, code="little_seen", proposals="; ".join(lines))] if lines else []


_MIN_TRACK_S = 1.0
"""Minimum seconds of a track for a message if the person was recognised on other tracks."""


def missed_person_notes(person_options: Sequence[str], tracks: Sequence[TrackReport]) -> list[Message]:
    """Returns messages about tracks that may show persons not recognised there."""
    messages = list[Message]()
    for argument in person_options if tracks else ():
        person, equals, photos = argument.partition("=")
        name, separator, labels = person.partition("@")
        matches = [track for track in tracks if track.person == name]
        candidates = [
            track
            for track in tracks
            if (track.person == UNKNOWN_PERSON or is_person_number(track.person))
            and not any(track.first_s <= other.last_s and other.first_s <= track.last_s for other in matches)
            and (not matches or track.last_s - track.first_s >= _MIN_TRACK_S)
        ]
        seconds = defaultdict[str, float](float)
        for track in candidates:
            label = str(track.id) if track.person == UNKNOWN_PERSON else track.person
            seconds[label] += track.last_s - track.first_s
        if not seconds:
            none_found = Message(
                "{name} was not recognised on any track; all show other persons", code="person_nowhere", name=name
            )
            messages += [] if matches else [none_found]
            continue
        label = max(seconds, key=seconds.__getitem__)
        values = {"name": name, "label": label, "option": f"{name}@{labels}{separator and ','}{label}{equals}{photos}"}
        maybe = "{name} was not recognised on any track; if {label} shows this person, add {--person:{option}}"
        partly = (
            "{name} was recognised on {count} of {all} tracks that never appear together; if {label} shows this "
            "person, too, add {--person:{option}}"
        )
        messages.append(
            Message(partly, code="person_partly", count=len(matches), all=len(matches) + len(candidates), **values)
            if matches
            else Message(maybe, code="person_missed", **values)
        )
    return messages
