"""Proposes options that show more if little of a correction is visible."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate

from rtface.analysis.track_report import TrackReport
from rtface.analysis.verdict import LEFT_ALONE, UNCHANGED, faults_of
from rtface.errors import Message
from rtface.util.parse import UNKNOWN_PERSON, is_person_number

SMALL_PX, MIN_FAULT_SCORE = 130.0, 0.2
"""Width of a face below which frames of twice the size show more of it, and the score that one of its faults must have
for that. For a face that is soft under grain, twice the width counts."""
_FREE_STRENGTH = 0.95  # decided strength below which *vivid* showed no benefit in blind pairs: more would harm a face


def _gains_of_size(face: TrackReport) -> bool:
    """Returns whether frames of twice the size show more of a face. Soft faces up to twice as wide qualify if
    grainy, because only a larger size separates them from their grain."""
    faults = {name for name, score in faults_of(face.analysis) if score >= MIN_FAULT_SCORE}.difference(UNCHANGED)
    return bool(faults) and face.mean_width_px < (2 if faults >= {"low resolution", "noise"} else 1) * SMALL_PX


def _small_width(faces: Sequence[TrackReport]) -> float | None:
    """Returns the median width of faces that gain from a larger size. None if they make up at most half of all faces
    on all frames."""
    small = sorted((face.mean_width_px, face.frames) for face in faces if _gains_of_size(face))
    frames = sum(count for _, count in small)
    if 2 * frames <= sum(face.frames for face in faces):
        return None
    counted = accumulate(count for _, count in small)
    return next(width for (width, _), count in zip(small, counted, strict=True) if 2 * count >= frames)


def proposals(faces: Sequence[TrackReport], *, engine: str, look: str, scale: str | None) -> list[Message]:
    """Proposes options that show more, such as frames of twice the size. Options that the user set are not proposed.

    Args:
        faces: faces of the whole input.
        engine, look, scale: options of the run.

    Returns:
        A line for each proposal, with values "option" and "value" for programs; the most promising proposal first.
    """
    faces = [face for face in faces if face.verdict.asked and "never asked for" not in face.verdict.because]
    hardly = [face for face in faces if face.verdict.word == "hardly visible"]
    clean = [face for face in faces if face.verdict.word == LEFT_ALONE and "nothing to gain" in face.verdict.because]
    width = _small_width([face for face in faces if face.verdict.word != LEFT_ALONE] or clean)
    values = {"option": "scale", "value": "2", "width": round(width or 0)}
    line = "faces are small ({width} px): {--scale:2} restores them at twice the size"
    twice = Message(line, code="propose_twice", **values)
    if width is not None and width >= SMALL_PX:
        line = "faces are soft under grain: {--scale:2} takes more of it out of them"
        twice = Message(line, code="propose_twice_grain", **values)
    small = [twice] if scale is None and width is not None else []
    if not (hardly or clean) or not all(face in hardly or face.verdict.word == LEFT_ALONE for face in faces):
        return small
    free = any(face.factors.get("decided", 1.0) > _FREE_STRENGTH for face in hardly)
    proposed = {
        "clear": bool(hardly) and look == "faithful",
        "vivid": free and engine in ("default", "auto") and look == "clear",
        "correct": bool(clean),
        "engine": bool(hardly),
    }
    return small + [_PROPOSALS[option] for option, wanted in proposed.items() if wanted]


_PROPOSALS = {
    "clear": Message(
        "{--look:clear} shows detail as strong as a face has", code="propose_clear", option="look", value="clear"
    ),
    "vivid": Message(
        "{--look:vivid} draws more detail, some of it invented", code="propose_vivid", option="look", value="vivid"
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
    """Joins proposals into one line, if any. A single proposal of a larger size stays as it is."""
    if len(lines) == 1 and lines[0].values.get("option") == "scale":
        return list(lines)
    line = "little of the correction is visible; to show more: {proposals}"
    return [Message(line, code="little_seen", proposals="; ".join(lines))] if lines else []


_MIN_TRACK_S = 1.0
"""Shortest track that is worth a message if the person was recognised on other tracks."""


def missed_persons(named: Sequence[str], tracks: Sequence[TrackReport]) -> list[Message]:
    """Returns messages about named persons missed on tracks that may show them."""
    messages = list[Message]()
    for one in named if tracks else ():
        head, equals, photos = one.partition("=")
        name, at, labels = head.partition("@")
        matches = [track for track in tracks if track.person == name]
        open_to = [
            track
            for track in tracks
            if (track.person == UNKNOWN_PERSON or is_person_number(track.person))
            and not any(track.first_s <= other.last_s and other.first_s <= track.last_s for other in matches)
            and (not matches or track.last_s - track.first_s >= _MIN_TRACK_S)
        ]
        seconds = defaultdict[str, float](float)
        for track in open_to:
            label = str(track.id) if track.person == UNKNOWN_PERSON else track.person
            seconds[label] += track.last_s - track.first_s
        if not seconds:
            nowhere = Message(
                "{name} was not recognised on any track; all show other persons", code="person_nowhere", name=name
            )
            messages += [] if matches else [nowhere]
            continue
        label = max(seconds, key=seconds.__getitem__)
        values = {"name": name, "label": label, "option": f"{name}@{labels}{at and ','}{label}{equals}{photos}"}
        absent = "{name} was not recognised on any track; if {label} shows this person, add {--person:{option}}"
        some = (
            "{name} was recognised on {count} of {all} tracks that are not seen together; if {label} shows this "
            "person, too, add {--person:{option}}"
        )
        messages.append(
            Message(some, code="person_partly", count=len(matches), all=len(matches) + len(open_to), **values)
            if matches
            else Message(absent, code="person_missed", **values)
        )
    return messages
