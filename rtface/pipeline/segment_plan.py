"""Plans the segments of a film (`rtface.pipeline.segments`), finds scene changes, and joins tracks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from rtface.analysis.scene_cuts import CutDetector
from rtface.config.options import Options
from rtface.enhance.face_filter import FaceFilter
from rtface.errors import Message
from rtface.frame import Face, Frame
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.read.probe import MediaInfo
from rtface.pipeline.threads import WAITING
from rtface.protocols import Device, Item
from rtface.shots.settings import NO_SHOTS, ShotList

# Seconds of a segment: a long one spends little on its lead-in, a short one holds less memory. A film
# shorter than two of the shortest is not divided.
_LONGEST_S, _SHORTEST_S = 4, 1
# Seconds of a lead-in.
_LEAD_IN_S = Fraction(3, 5)
# Bytes that frames in work, or waiting for the sink, may take.
_BYTES = 3 << 30
# Frames that a chain needs before it may give one: it holds some back.
MIN_WINDOW_FRAMES = 8

Sight = tuple[int, tuple[Face, ...]]
"""A frame's pts and its faces."""


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """The segments of a film.

    Attributes:
        chains: segments that are processed at the same time, at least 2.
        length: frames of a segment at most.
        lead_in: frames of a lead-in, which are processed twice; fewer after a scene change.
        window: frames that are distributed and not yet collected, with the copies for lead-ins.
    """

    chains: int
    length: int
    lead_in: int
    window: int

    @property
    def most(self) -> int:
        """Frames that are held at most: the window, the decoder's buffer, and one for each step."""
        return self.window + _outside(self.chains)


def plan_segments(
    options: Options, info: MediaInfo, shots: ShotList = NO_SHOTS
) -> tuple[SegmentPlan | None, str | None]:
    """The plan of `--segments`, None for one chain; and one line where that is less than was asked for."""
    wanted = options.segments or 1
    if wanted == 1:
        return None, None
    why = None
    if FaceFilter.parse(options.faces).ids is not None:
        why = Message(
            "{--faces} names tracks or persons, whose numbers are known in one chain only", code="chain_faces"
        )
    elif options.person:
        why = "persons are recognised in one chain only"
    elif options.treatment is not None:
        why = Message("{--treatment} names tracks, whose numbers are known in one chain only", code="chain_treatment")
    elif shots.names_tracks:
        why = f"{shots.name} names tracks, whose numbers are known in one chain only"
    elif options.compare is not None:
        why = Message("{--compare} would hold three times the memory", code="chain_compare")
    if why:
        return None, _one_segment(wanted, why)
    lead_in, most = math.ceil(_LEAD_IN_S * info.rate), wanted
    longest = max(MIN_WINDOW_FRAMES, round(_LONGEST_S * info.rate))
    if info.expected_frames is not None:  # a short film is shared out, too
        most = min(wanted, info.expected_frames // max(MIN_WINDOW_FRAMES, round(_SHORTEST_S * info.rate)))
        if most < 2:
            return None, _one_segment(wanted, "it is short")
        longest = min(longest, math.ceil(info.expected_frames / most))
    size = f"{info.width}×{info.height}"
    for chains in range(most, 1, -1):
        window = _BYTES // _frame_bytes(info) - _outside(chains)
        length = min(longest, (window - 2 * lead_in) // chains)
        if length >= max(MIN_WINDOW_FRAMES, lead_in):
            less = None if chains == most else _memory_for(wanted, size, str(chains))
            return SegmentPlan(chains, length, lead_in, min(window, chains * length + 2 * lead_in)), less
    return None, _memory_for(wanted, size, "one only")


def _one_segment(wanted: int, why: str) -> Message:
    return Message(
        "{--segments:{wanted}}: the film is processed as one segment, because {why}",
        code="one_segment",
        wanted=wanted,
        why=why,
    )


def _memory_for(wanted: int, size: str, count: str) -> Message:
    return Message(
        "{--segments:{wanted}}: frames of {size} leave memory for {count}",
        code="segments_memory",
        wanted=wanted,
        size=size,
        count=count,
    )


def _outside(chains: int) -> int:
    """Frames outside the window."""
    return WAITING + chains + 3


def _frame_bytes(info: MediaInfo) -> int:
    shape = pixel_format_info(info.pix_fmt)
    planes = 1.0 if shape.model == "gray" else 1 + 2 / (shape.sampling[0] * shape.sampling[1])
    return max(1, round(info.width * info.height * (planes + shape.alpha) * (1 if shape.bits <= 8 else 2)))


def cuts_found(items: Iterator[Item], device: Device) -> Iterator[Item]:
    """Marks the first frame of every scene."""
    detector = CutDetector()
    for item in items:
        yield replace(item, cut=detector.sees_cut(item, device) or item.cut) if isinstance(item, Frame) else item


def same_tracks(before: Iterable[Sight], after: Iterable[Sight]) -> dict[int, int]:
    """The ids before by those after, of tracks whose boxes overlap on most frames that both saw."""
    from rtface.tracking.identity import same_place  # it imports OpenVINO

    seen = dict(before)
    together: Counter[tuple[int, int]] = Counter()
    for pts, faces in after:
        for face in faces:
            for old in seen.get(pts, ()):
                together[face.track_id, old.track_id] += same_place(face.box, old.box)
    names: dict[int, int] = {}
    for (new, old), times in together.most_common():
        if times and new not in names and old not in names.values():
            names[new] = old
    return names
