"""Searches sampled frames for faces, and chooses the most informative ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from math import log2
from pathlib import Path

from rtface.analysis.patch import SMALLEST_FACE
from rtface.analysis.scene_cuts import CutDetector
from rtface.analysis.treatment import choose_treatment
from rtface.config.options import InputOptions
from rtface.enhance.coded_stage import CodedStage
from rtface.enhance.track_measurement import measured_face
from rtface.frame import Bytes, Float, Float32, Frame
from rtface.media.files.image_names import images_of
from rtface.media.read.sampler import FrameSampler, spread
from rtface.persons.chip import cut_chip, fitness
from rtface.persons.gallery import JOIN, distance
from rtface.persons.recogniser import Embedder
from rtface.pipeline.stills import frames_of_stills
from rtface.protocols import Device, Tracker
from rtface.stats import Stats
from rtface.tracking.identity import same_place
from rtface.util.urls import Address

_MAX_SAMPLES = 60
_SPACING_S = 0.5
"""Minimum seconds between two samples of a film."""
# A face narrower than this (in display pixels) shows too little detail to judge.
_MIN_WIDTH_PX = 48.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """Describes a face on a sampled frame.

    Attributes:
        time: time of the frame, in seconds from the beginning of the film.
        box: display pixels x0, y0, x1, y1; float64 (4,).
        gain: expected gain of a correction, dB; 0 if a run leaves the face alone.
        thumbnail: small image of the frame, uint8 RGB h×w×3.
        image: the file of a still; None in a film.
        embedding: float32 of length 1; None if the face shows too little to recognise a person.
    """

    time: Fraction
    box: Float
    gain: float
    thumbnail: Bytes
    image: Path | None = None
    embedding: Float32 | None = None

    @property
    def width(self) -> float:
        """Width of the face's box, display pixels."""
        return float(self.box[2] - self.box[0])

    def shows_person_of(self, other: Sighting) -> bool:
        """Returns whether both faces are of one person; False if unknown."""
        return (
            self.embedding is not None
            and other.embedding is not None
            and (distance(self.embedding, other.embedding) <= JOIN)
        )

    def repeats(self, other: Sighting) -> bool:
        """Returns whether both show the same face in the same scene."""
        scene = CutDetector()
        scene.update(self.thumbnail)
        return (
            self.image is None
            and not scene.update(other.thumbnail)
            and (self.shows_person_of(other) or same_place(self.box, other.box))
        )


def next_face(faces: Sequence[Sighting], on_sheet: Sequence[Sighting]) -> Sighting:
    """Chooses the next face of a sheet: new persons come first, then larger gains.

    Faces of 48 px and more that a correction improves come before all others.

    Args:
        faces: faces to choose from, at least one.
        on_sheet: faces that are already on the sheet.
    """

    def rank(face: Sighting) -> tuple[bool, int, float, int, Fraction]:
        is_informative = face.width >= _MIN_WIDTH_PX and face.gain > 0
        repetitions = sum(face.shows_person_of(other) for other in on_sheet)
        return not is_informative, repetitions, -round(face.gain, 1), -round(8 * log2(face.width)), face.time

    return min(faces, key=rank)


def search(
    input: Path | Address,
    options: InputOptions,
    tracker: Tracker,
    device: Device,
    embed: Embedder,
    coded: CodedStage | None = None,
) -> Iterator[list[Sighting]]:
    """Yields the faces of each of up to 60 evenly spread frames.

    Args:
        input: a film, a still or a folder of stills.
        options: options that include start and end.
        tracker, device: find and read the faces.
        embed: distinguishes persons.
        coded: predicts the error on a face; if None, gains are 0.

    Raises:
        InputMissing, InputError: the input cannot be read.
    """
    images = images_of(input) if isinstance(input, Path) else []
    for time, frame, image in _stills(images, options) if images else _sample_film(input, options):
        if frame.display.fields != "progressive":  # a run also processes such frames field by field
            frame = replace(frame, field=0)
        view, sightings = device.view(frame), list[Sighting]()
        tracker.reset()
        tracker.watchful, tracker.thorough = False, image is not None
        for face in tracker.update(view, float(time), cut=True):
            if face.width >= SMALLEST_FACE:
                treatment = choose_treatment(*measured_face(device, frame, face, coded))
                gain = (treatment.gain or 0.0) if treatment.on else 0.0
                chip = cut_chip(view, face) if fitness(face, view.width, view.height) > 0.0 else None
                embedding = None if chip is None else embed(chip)
                thumbnail = view.thumbnail(64)[0]
                sightings.append(Sighting(time, face.box, gain, thumbnail, image, embedding))
        yield sightings


def _sample_film(input: Path | Address, options: InputOptions) -> Iterator[tuple[Fraction, Frame, None]]:
    """Yields sampled frames of a film, with their times."""
    with closing(FrameSampler(input, options.scale, variant=options.variant)) as sampler:
        start = options.start or 0.0
        end = min((one for one in (options.end, sampler.duration_s) if one is not None), default=start)
        for share in spread(max(1, min(_MAX_SAMPLES, int((end - start) / _SPACING_S)))):
            if (frame := sampler.at(start + share * (end - start), start)) is not None:
                yield frame.pts * frame.time_base - sampler.clock_start, frame, None


def _stills(images: Sequence[Path], options: InputOptions) -> Iterator[tuple[Fraction, Frame, Path]]:
    """Yields stills that are evenly spread over their folder."""
    chosen = [image for _, image in sorted(zip(spread(len(images)), images, strict=True))[:_MAX_SAMPLES]]
    for image, frame in frames_of_stills(chosen, Stats(), options.scale):
        yield Fraction(0), frame, image
