"""Renders any frame of a film, original and enhanced."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import cv2

from rtface.analysis.treatment import Treatment
from rtface.config.options import Options, learnt_persons
from rtface.device.cpu.device import CpuDevice
from rtface.engine.engine_set import EngineRequest
from rtface.engine.learned import path_of, read
from rtface.errors import Closed, InputError
from rtface.frame import Bytes, Float32, Frame
from rtface.geometry.transforms import display_size
from rtface.persons.gallery import JOIN, Gallery, distance, mean
from rtface.persons.recogniser import Embedder, PersonRecogniser
from rtface.pipeline.build import FilmNetworks, engine_request, open_networks, open_runtime
from rtface.pipeline.chain import split_fields, track
from rtface.pipeline.checks import check_invented
from rtface.pipeline.film_chain import FilmChain
from rtface.pipeline.invented import show_invented
from rtface.pipeline.persons import embeddings_of
from rtface.pipeline.plan import plan_frames
from rtface.pipeline.threads import Threads
from rtface.protocols import Runtime, Tracker
from rtface.stats import Stats
from rtface.util.av_arrays import copy_image
from rtface_studio.folders import stamp_of
from rtface_studio.frame_reader import FrameReader

Stamps = tuple[tuple[int, ...], ...]

LEAD_IN_S, CORRECTED_LEAD_IN_S = 0.3, 0.1
"""Tracking and correction start this many seconds before the shown frame, so that tracks, filters and recurrent engines
settle. Compared with lead-ins of 1.5 s, corrections differ by 0.38 of 255 levels on average (60 frames of three films).
Lead-ins of 0.35 s and 0.2 s give the same difference, but take a third more time."""
_JPEG_QUALITY = 90
_ENGINES = 2
"""Maximum number of loaded engines. The next engine replaces the oldest."""


@dataclass(frozen=True, slots=True)
class RenderedFrame:
    """One frame of a film, original and enhanced.

    Attributes:
        time: seconds from the beginning of the film.
        before: original picture, uint8 RGB h×w×3, upright.
        after: enhanced picture of the same size.
        seconds: time that reading and enhancement took.
        faces: number of detected faces.
        nose: x and y of the largest face's nose, and the face's width, as shares of the picture's size; None without a
            face.
        left_alone: reason for each uncorrected face, as in a run's report.
    """

    time: float
    before: Bytes
    after: Bytes
    seconds: float
    faces: int
    left_alone: tuple[str, ...] = ()
    nose: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class PersonOnFrame:
    """One of several persons on a frame.

    Attributes:
        label: label in the analysis.
        photos: photos of the person's face.
        treatment: treatment of the person; None for the default.
        name: name of the learnt person that the user assigned; empty if recognition decides.
    """

    label: str
    photos: tuple[Path, ...]
    treatment: Treatment | None = None
    name: str = ""


class FrameRenderer:
    """Renders frames of one film or still, one at a time. Thread-safe.

    Caches the original frames near the last rendered frame. A change of strength or engine therefore reads nothing, and
    a step to the next or previous frame reads little.

    Args:
        path: path of a film or still.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock, self._stack = path, threading.Lock(), ExitStack()
        threads = Threads.for_film(None)  # reserves a core for an encoder; the renderer has none, so the engine uses it
        self._threads = replace(threads, engines=replace(threads.engines, engine=threads.encode))
        self._reader = FrameReader(path, threads)
        self._tracker: Tracker | None = None
        self._runtimes: dict[tuple[EngineRequest, Stamps], tuple[Runtime, ExitStack]] = {}
        self._closed = False
        self._last: tuple[tuple[object, ...], RenderedFrame] | None = None
        self._embed: Embedder | None = None
        self._embeddings: dict[tuple[tuple[Path, int], ...], list[Float32]] = {}  # by photos and their change times

    def render(
        self,
        time: float,
        side: int,
        options: Options,
        persons: tuple[PersonOnFrame, ...] = (),
        *,
        corrected: bool = True,
    ) -> RenderedFrame:
        """Renders the frame that is shown at a time.

        Args:
            time: seconds from the beginning of the film.
            side: maximum length in pixels of the longer side of the pictures.
            options: options of the run.
            persons: persons on the frame, if their treatments differ. Their photos identify their faces.
            corrected: whether to find and enhance faces. Otherwise `after` is the original, at a fraction of the cost.

        Raises:
            UsageError: options are incompatible, or frames cannot be enlarged to the size in `options`.
            InputError: the film cannot be read at that time.
            MissingComponent, EngineError: the engine cannot be used.
            Closed: the renderer was closed.
        """
        with self._lock, ExitStack() as stack:
            if self._closed:
                raise Closed(
                    "{name}: another film has been opened; choose this film again",
                    code="film_other",
                    name=self._path.name,
                )
            stamps = tuple(stamp_of(path_of(name)) for name in learnt_persons(options.person))
            request = time, side, options, persons, stamps
            if self._last is not None and self._last[0] == request:
                return self._last[1]
            started = perf_counter()
            plan = plan_frames(self._path, options)
            if not corrected:
                frame = self._reader.read(time, LEAD_IN_S, options.scale)[-1]
                before = CpuDevice().view(frame).thumbnail(side)[0]
                return RenderedFrame(frame.time, before, before, perf_counter() - started, 0)
            runtime = self._runtime(options, stamps)
            assert self._tracker is not None
            frames = self._reader.read(time, LEAD_IN_S, options.scale)
            shown = frames[-1]
            before = runtime.device.view(shown).thumbnail(side)[0]
            stats, after = Stats(), before
            recogniser = self._recogniser(persons, learnt_persons(options.person), self._tracker, stats)
            check_invented(options, shown.color.transfer)
            plan = replace(
                plan,
                options=replace(options, stages=()),
                treatments=replace(
                    plan.treatments,
                    by_person={
                        (person.name or person.label).lower(): person.treatment
                        for person in persons
                        if person.treatment and len(persons) > 1  # a single person's treatment is in the options
                    },
                ),
            )
            steps = FilmChain(
                plan,
                None,
                FilmNetworks(self._tracker, runtime, persons=recogniser),
                stats,
                stack,
                begins=shown.time - CORRECTED_LEAD_IN_S,
            )
            copies = (replace(frame, image=copy_image(frame.image)) for frame in frames)
            # Unlike a run, uses no tracking thread: enhancement would wait for nearly all of these few frames anyway.
            tracked = track(split_fields(copies), self._tracker, runtime.device, stats)
            enhanced = steps.enhanced(tracked)
            faces, left_alone, nose = 0, list[str](), None
            for item in show_invented(enhanced, options.look_name) if options.invented == "show" else enhanced:
                if isinstance(item, Frame) and item.pts == shown.pts:
                    after, faces = runtime.device.view(item).thumbnail(side)[0], len(item.faces)
                    if item.faces:
                        width, height = display_size(item.image.width, item.image.height, item.display)
                        largest = max(item.faces, key=lambda face: face.width)
                        x, y = map(float, largest.points[2, :2])
                        nose = x / width, y / height, float(largest.width) / width
                    for face in item.faces:
                        treatment = steps.tracks.forced(face, item.time) or steps.tracks.treatment_of(face.track_id)
                        if treatment is None or not treatment.on:
                            reason = ", ".join(treatment.reasons) if treatment else "not among the chosen faces"
                            left_alone.append(reason)
            seconds = perf_counter() - started
            result = RenderedFrame(shown.time, before, after, seconds, faces, tuple(left_alone), nose)
            self._last = request, result
            return result

    def close(self) -> None:
        """Releases engines, tracker and frames."""
        with self._lock:
            self._closed = True
            for _, stack in self._runtimes.values():
                stack.close()
            self._runtimes.clear()
            self._last = None
            self._reader.close()
            self._stack.close()

    def _recogniser(
        self, persons: tuple[PersonOnFrame, ...], learnt: Sequence[str], tracker: Tracker, stats: Stats
    ) -> PersonRecogniser | None:
        """Creates the recogniser. Returns None if there is no person to recognise. Persons without a usable photo stay
        unknown. A person who resembles a learnt one is omitted, because a run would use the learnt name."""
        gallery = {name: list(read(path_of(name)).embeddings) for name in learnt}
        if not any(person.treatment or person.name for person in persons):
            persons = ()
        if not (persons or gallery):
            return None
        if self._embed is None:
            from rtface.persons.network import PersonNetwork  # loads OpenVINO

            self._embed = PersonNetwork()
        means = [mean(embeddings) for embeddings in gallery.values()]
        for person in persons:
            try:
                key = tuple((photo, photo.stat().st_mtime_ns) for photo in person.photos)
                if key not in self._embeddings:
                    self._embeddings[key] = embeddings_of(person.label, person.photos, tracker, self._embed)
            except (OSError, InputError):  # the analysis may still be writing the photos
                continue
            if person.name or all(distance(mean(self._embeddings[key]), other) > JOIN for other in means):
                gallery[person.label] = self._embeddings[key]
        assigned = {person.label: person.name for person in persons if person.name}
        return PersonRecogniser(self._embed, Gallery(gallery, several=False, assigned=assigned), stats)

    def _runtime(self, options: Options, stamps: Stamps) -> Runtime:
        """Returns the engine for these options. Loads engine and tracker if needed. `stamps` identify the files of
        learnt persons."""
        request = engine_request(options)
        key = request, stamps
        if key in self._runtimes:
            return self._runtimes[key][0]
        stats = Stats()
        with ExitStack() as tracker_stack, ExitStack() as engine_stack:  # if the engine cannot be used, both are closed
            if self._tracker is None:
                self._tracker, runtime = open_networks(options, self._threads, stats, tracker_stack, engine_stack)
            else:
                runtime = open_runtime(
                    request,
                    options.device,
                    engine_stack,
                    threads=self._threads.engines,
                    warn=stats.warn,
                )
            if len(self._runtimes) >= _ENGINES:
                self._runtimes.pop(next(iter(self._runtimes)))[1].close()
            self._runtimes[key] = (runtime, engine_stack.pop_all())
            self._stack.push(tracker_stack.pop_all())
        return runtime


def untouched_frame(path: Path, time: float, side: int) -> tuple[Bytes, float, int]:
    """Reads an original frame of a film or still, without an engine.

    Args:
        path: path of the film or still.
        time: seconds from its beginning.
        side: maximum length of the longer side in pixels.

    Returns:
        The picture (uint8 RGB h×w×3, upright), the frame's duration in seconds (0 if unknown), and the frame's longer
        side in display pixels.

    Raises:
        InputError: the file cannot be read at that time.
    """
    reader = FrameReader(path)
    try:
        frame = reader.read(time)[-1]
    finally:
        reader.close()
    longest = max(display_size(frame.image.width, frame.image.height, frame.display))
    return CpuDevice().view(frame).thumbnail(side)[0], float(frame.duration * frame.time_base), round(longest)


def jpeg(image: Bytes) -> bytes:
    """Encodes an RGB picture (uint8 h×w×3) as JPEG."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return data.tobytes()
