"""Searches a film for faces at sampled times, and chooses those that tell most."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import log2
from pathlib import Path

from rtface.analysis.patch import SMALLEST_FACE
from rtface.analysis.scene_cuts import change_between
from rtface.analysis.treatment import choose_treatment
from rtface.config.options import InputOptions
from rtface.enhance.coded_stage import CodedStage
from rtface.enhance.track_measurement import measured_face
from rtface.errors import RtfaceError, UsageError
from rtface.frame import Bytes, Face, Float, Float32, Frame
from rtface.media.files.image_names import images_of
from rtface.media.read.enlarge import Enlarger
from rtface.media.read.sampler import FrameSampler, spread
from rtface.media.stills.images import read_image
from rtface.persons.chip import cut_chip, fitness
from rtface.persons.gallery import JOIN, distance
from rtface.persons.recogniser import Embedder
from rtface.protocols import Device, Tracker, View
from rtface.tracking.identity import same_place
from rtface.util.urls import Address

MOST_SAMPLES = 240
_MAX_SCENE_CHANGE = 0.5
"""Change between thumbnails of one scene at most."""
_ROOM = 0.05
"""Distance of a whole face from the picture's edge, in widths of the face, at least."""
_SPACING_S = 0.5
"""Seconds between two samples of a film at least."""
# Display pixels; on a narrower face little can be judged.
_JUDGED = 48.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A face on a sampled frame.

    Attributes:
        time: of the frame, seconds of the input's own clock.
        box: display pixels x0, y0, x1, y1; float64 (4,).
        gain: expected gain of a correction, dB; 0 where a run leaves the face alone.
        thumbnail: of the frame, uint8 RGB h×w×3.
        image: the file, of a folder of stills or a still; None in a film.
        whole: whether the picture's edge cuts nothing off it.
        embedding: float32 of length 1; None of a face that shows too little of a person.
    """

    time: Fraction
    box: Float
    gain: float
    thumbnail: Bytes
    image: Path | None = None
    whole: bool = True
    embedding: Float32 | None = None

    @property
    def width(self) -> float:
        """Width of the face's box, display pixels."""
        return float(self.box[2] - self.box[0])

    def shows_person_of(self, other: Sighting) -> bool:
        """True if both show one person, as far as that is known."""
        return (
            self.embedding is not None
            and other.embedding is not None
            and (distance(self.embedding, other.embedding) <= JOIN)
        )

    def repeats(self, other: Sighting) -> bool:
        """True if both show one face in one scene of a film."""
        return (
            self.image is None
            and change_between(self.thumbnail, other.thumbnail) < _MAX_SCENE_CHANGE
            and (self.shows_person_of(other) or same_place(self.box, other.box))
        )


def next_face(faces: Sequence[Sighting], shown: Sequence[Sighting]) -> Sighting:
    """The face that a sheet should show next: of a person not shown yet, then the one that gains most.

    Whole faces of 48 px and more that gain by a correction come before all others.

    Args:
        faces: to choose from, one at least.
        shown: those on the sheet.
    """

    def rank(face: Sighting) -> tuple[bool, int, float, int, Fraction]:
        telling = face.whole and face.width >= _JUDGED and face.gain > 0
        times = sum(face.shows_person_of(other) for other in shown)
        return not telling, times, -round(face.gain, 1), -round(8 * log2(face.width)), face.time

    return min(faces, key=rank)


@dataclass(slots=True)
class Search:
    """The result of a search.

    Attributes:
        wanted: number of frames that would have been searched without a time limit.
        searched: number of frames that were.
        faces: on them.
        clock_start: start of the film's own clock in seconds.
        unreadable: images that could not be read, one message each.
    """

    wanted: int = 0
    searched: int = 0
    faces: list[Sighting] = field(default_factory=list[Sighting])
    clock_start: Fraction = Fraction(0)
    unreadable: list[str] = field(default_factory=list[str])


def search(
    input: Path | Address,
    options: InputOptions,
    tracker: Tracker,
    device: Device,
    embed: Embedder,
    coded: CodedStage | None = None,
    *,
    limit_s: float,
    progress: Callable[[Search], None],
    clock: Callable[[], float] = time.monotonic,
) -> Search:
    """Searches at up to 240 times that are spread evenly, whenever the search ends.

    Args:
        input: a film, a still or a folder of stills.
        options: start, end.
        tracker, device: find and read the faces.
        embed: distinguishes persons.
        coded: says what error is expected on a face; without it nothing is gained.
        limit_s: seconds for the search; at least one frame is looked at.
        progress: called after each frame; an exception ends the search.

    Raises:
        InputMissing, InputError: the input cannot be read.
    """
    began, found = clock(), Search()
    with ExitStack() as stack:
        for frame, image in _frames(input, options, stack, found):
            if frame.display.fields != "progressive":  # as a run does, by field
                frame = replace(frame, field=0)
            view, at = device.view(frame), frame.pts * frame.time_base
            tracker.reset()
            tracker.watchful, tracker.thorough = False, image is not None
            for face in tracker.update(view, float(at), cut=True):
                if face.width < SMALLEST_FACE:
                    continue
                treatment = choose_treatment(*measured_face(device, frame, face, coded))
                gain = (treatment.gain or 0.0) if treatment.on else 0.0
                chip = cut_chip(view, face) if fitness(face, view.width, view.height) > 0.0 else None
                embedding = None if chip is None else embed(chip)
                thumbnail = view.thumbnail(64)[0]
                found.faces.append(Sighting(at, face.box, gain, thumbnail, image, is_whole(face, view), embedding))
            found.searched += 1
            progress(found)
            if clock() - began > limit_s:
                break
    return found


def _frames(
    input: Path | Address, options: InputOptions, stack: ExitStack, found: Search
) -> Iterator[tuple[Frame, Path | None]]:
    """The frames to search, in such an order that those so far are always spread evenly."""
    if isinstance(input, Path) and (images := images_of(input)):
        order = sorted(zip(spread(len(images)), images, strict=True))[:MOST_SAMPLES]
        found.wanted = len(order)
        return _stills([image for _, image in order], found.unreadable, Enlarger(options.scale))
    sampler = FrameSampler(input, options.scale, variant=options.variant)
    stack.callback(sampler.close)
    found.clock_start = sampler.clock_start
    start = options.start or 0.0
    end = min((one for one in (options.end, sampler.duration_s) if one is not None), default=start)
    if start and sampler.duration_s is not None and start >= sampler.duration_s:
        raise UsageError(
            "{--start:{start:g}} is after the end of {path} ({duration_s:.3f} s)",
            code="sheet_start",
            start=start,
            path=input,
            duration_s=sampler.duration_s,
        )
    found.wanted = max(1, min(MOST_SAMPLES, int((end - start) / _SPACING_S)))
    frames = (sampler.at(start + share * (end - start), start) for share in spread(found.wanted))
    return ((frame, None) for frame in frames if frame is not None)


def _stills(images: list[Path], unreadable: list[str], enlarger: Enlarger) -> Iterator[tuple[Frame, Path | None]]:
    for image in images:
        try:
            frame = enlarger(read_image(image).frame)
        except RtfaceError as error:
            if len(images) == 1:
                raise
            unreadable.append(str(error))
            continue
        yield frame, image


def is_whole(face: Face, view: View) -> bool:
    """Whether the picture's edge cuts nothing off a face; one that touches it may be squeezed into the picture."""
    room = _ROOM * face.width
    return bool((face.box[:2] >= room).all() and (face.box[2:] <= (view.width - room, view.height - room)).all())
