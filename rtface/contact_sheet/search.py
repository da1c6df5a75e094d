"""Searches a film for faces at sampled times, and says which of them belong together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
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
from rtface.persons.gallery import Gallery, mean
from rtface.persons.recogniser import Embedder
from rtface.protocols import Device, Tracker, View
from rtface.tracking.identity import same_place
from rtface.util.urls import Address

MOST_SAMPLES = 240
_MAX_SCENE_CHANGE, _LAST_SCENES = 0.5, 40
"""Change between thumbnails of one scene at most, and how many scenes a sample is compared with."""
_ROOM = 0.05
"""Distance of a whole face from the picture's edge, in widths of the face, at least."""
_SPACING_S = 0.5
"""Seconds between two samples of a film at least."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A face on a sampled frame.

    Attributes:
        time: of the frame, seconds of the input's own clock.
        box: display pixels x0, y0, x1, y1; float64 (4,).
        gain: what a run expects of a correction, dB; 0 where it leaves the face alone.
        track: number of the track, from 1: faces at the same place of the same scene.
        scene: number of the scene, from 1.
        person: number of the person, from 1; 0 where that is not known.
        whole: whether the picture's edge cuts nothing off it.
        image: the file, of a folder of stills or a still; None in a film.
        sure: whether the tracker's networks were sure of it at once.
        embedding: float32 of length 1, of a face that shows enough of a person; forgotten after the search.
    """

    time: Fraction
    box: Float
    gain: float
    track: int = 0
    scene: int = 0
    image: Path | None = None
    sure: bool = True
    person: int = 0
    whole: bool = True
    embedding: Float32 | None = None

    @property
    def width(self) -> float:
        """Width of the face's box, display pixels."""
        return float(self.box[2] - self.box[0])


@dataclass(slots=True)
class Sample:
    """A sampled frame: its time, its thumbnail (uint8 RGB h×w×3, 64 px) and the faces on it."""

    time: Fraction
    thumbnail: Bytes
    faces: list[Sighting] = field(default_factory=list[Sighting])
    image: Path | None = None


@dataclass(slots=True)
class Search:
    """The result of a search.

    Attributes:
        samples: in order of time.
        clock_start: start of the film's own clock in seconds.
        wanted: how many samples there would have been without a time limit.
        unreadable: images that could not be read, one message each.
    """

    samples: list[Sample]
    wanted: int
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
    found: Callable[[int, int, int], None],
    stop: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Search:
    """Searches at up to 240 times that are spread evenly, whenever the search ends.

    Args:
        input: a film, or a still or folder of stills (`frames_of`).
        options: start, end.
        tracker, device: find and read the faces.
        embed: distinguishes persons.
        coded: says what error is expected on a face; without it nothing is gained.
        limit_s: seconds for the search; at least one frame is looked at.
        found: called after each frame with the number of frames, of those wanted, and of faces.
        stop: True ends the search.

    Raises:
        InputMissing, InputError: the input cannot be read.
    """
    began, faces, result = clock(), 0, Search([], 0)
    samples = result.samples
    with ExitStack() as stack:
        for frame, image in _frames(input, options, stack, result):
            samples.append(_sample(frame, image, tracker, device, embed, coded))
            faces += len(samples[-1].faces)
            found(len(samples), result.wanted, faces)
            if stop() or clock() - began > limit_s:
                break
    samples.sort(key=lambda sample: (str(sample.image or ""), sample.time))
    _number(samples)
    _join(samples)
    return result


def _frames(
    input: Path | Address, options: InputOptions, stack: ExitStack, result: Search
) -> Iterator[tuple[Frame, Path | None]]:
    """The frames to search, in such an order that those so far are always spread evenly."""
    if isinstance(input, Path) and (images := images_of(input)):
        order = spread(len(images))
        chosen = (
            sorted(range(len(images)), key=lambda k: order[k])[:MOST_SAMPLES]
            if len(images) > MOST_SAMPLES
            else range(len(images))
        )
        result.wanted = len(chosen)
        return _stills([images[k] for k in chosen], result.unreadable, Enlarger(options.scale))
    sampler = FrameSampler(input, options.scale, variant=options.variant)
    stack.callback(sampler.close)
    result.clock_start = sampler.clock_start
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
    result.wanted = max(1, min(MOST_SAMPLES, int((end - start) / _SPACING_S)))
    frames = (sampler.at(start + share * (end - start), start) for share in spread(result.wanted))
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


def _sample(
    frame: Frame, image: Path | None, tracker: Tracker, device: Device, embed: Embedder, coded: CodedStage | None
) -> Sample:
    if frame.display.fields != "progressive":  # as a run does, by field
        frame = replace(frame, field=0)
    view, at = device.view(frame), frame.pts * frame.time_base
    sample = Sample(at, view.thumbnail(64)[0], image=image)
    tracker.reset()
    tracker.watchful = True  # so that it reports faces that are not sure
    tracker.thorough = image is not None
    faces: tuple[Face, ...] = ()
    sure: set[int] = set()
    for step in range(3):  # in a film, a face of which the networks are not sure is shown on its third frame
        faces = tracker.update(view, float(at) + 0.04 * step, cut=step == 0)
        if step == 0:
            sure = {face.track_id for face in faces}
        if image is not None or not tracker.unfollowed:
            break
    for face in faces:
        if face.width >= SMALLEST_FACE:
            found, width = measured_face(device, frame, face, coded)
            treatment = choose_treatment(found, width)
            chip = cut_chip(view, face) if fitness(face, view.width, view.height) > 0.0 else None
            sample.faces.append(
                Sighting(
                    at,
                    face.box,
                    (treatment.gain or 0.0) if treatment.on else 0.0,
                    image=image,
                    sure=face.track_id in sure,
                    whole=is_whole(face, view),
                    embedding=None if chip is None else embed(chip),
                )
            )
    return sample


def is_whole(face: Face, view: View) -> bool:
    """Whether the picture's edge cuts nothing off a face; one that touches it may be squeezed into the picture."""
    room = _ROOM * face.width
    return bool((face.box[:2] >= room).all() and (face.box[2:] <= (view.width - room, view.height - room)).all())


def _number(samples: list[Sample]) -> None:
    """Numbers scenes and tracks: samples that look alike are one scene, also where another lies between (dialogues),
    and faces that overlap from one sample of a scene to its next are one track."""
    scenes: list[Sample] = []  # the last sample of each
    track = 0
    for sample in samples:
        near = (
            []
            if sample.image is not None
            else [
                place
                for place, other in enumerate(scenes[-_LAST_SCENES:], max(0, len(scenes) - _LAST_SCENES))
                if change_between(other.thumbnail, sample.thumbnail) < _MAX_SCENE_CHANGE
            ]
        )
        if not near:
            scenes.append(Sample(sample.time, sample.thumbnail))
        place = near[-1] if near else len(scenes) - 1
        before = scenes[place].faces
        numbered: list[Sighting] = []
        for face in sample.faces:
            same = next((one.track for one in before if same_place(one.box, face.box)), None)
            if same is None:
                track += 1
            numbered.append(replace(face, track=same or track, scene=place + 1))
        sample.faces = numbered
        scenes[place] = Sample(sample.time, sample.thumbnail, numbered or before)


def _join(samples: list[Sample]) -> None:
    """Numbers the persons, by the mean embedding of each track."""
    gallery, found = Gallery(), dict[int, list[Float32]]()
    for sample in samples:
        gallery.seen_together(face.track for face in sample.faces)
        for face in sample.faces:
            if face.embedding is not None:
                found.setdefault(face.track, []).append(face.embedding)
    for track, embeddings in found.items():
        gallery.decide(track, mean(embeddings))
    for sample in samples:
        sample.faces = [
            replace(face, person=person.number if (person := gallery.person_of(face.track)) else 0, embedding=None)
            for face in sample.faces
        ]
