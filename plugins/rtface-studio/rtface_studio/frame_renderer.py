"""Renders any frame of a film before and after, as a run with the given options makes it."""

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
"""Seconds before the shown frame from which faces are tracked, and from which they are corrected, so that tracks,
filters and recurrent engines settle. On 60 frames of three films, corrections differ by 0.38 of 255 levels on average
from those after 1.5 s; so they do after 0.35 s and 0.2 s, which take a third more time."""
_JPEG_QUALITY = 90
_ENGINES = 2
"""Engines that stay loaded; a further one replaces the first."""


@dataclass(frozen=True, slots=True)
class RenderedFrame:
    """One frame, before and after.

    Attributes:
        time: of the frame, seconds from the beginning of the film.
        before, after: uint8 RGB h×w×3, upright, of the same size.
        seconds: that reading and enhancing took.
        faces: number of faces that were found on it.
        nose: where the nose of its largest face is, and that face's width: shares of the picture's width, height and
            width; None without a face.
        left_alone: of each face that was not corrected: why, as a run's report says it.
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
    """One of several persons whom the analysis found on a frame.

    Attributes:
        label: as the analysis has it.
        photos: of the person's face.
        treatment: what is done with it; None as with everybody else.
        name: who that is of those who were learnt, by hand; empty for as recognised.
    """

    label: str
    photos: tuple[Path, ...]
    treatment: Treatment | None = None
    name: str = ""


class FrameRenderer:
    """Renders frames of one film, or a still; one at a time, safe to call from several threads.

    The untouched frames near the last time are kept, so that another strength or engine needs no reading, and a step
    to the next frame or the one before little.

    Args:
        path: a film or a still.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock, self._stack = path, threading.Lock(), ExitStack()
        threads = Threads.for_film(None)  # a core is left for an encoder, which nothing needs here
        self._threads = replace(threads, engines=replace(threads.engines, engine=threads.encode))
        self._reader = FrameReader(path, threads)
        self._tracker: Tracker | None = None
        self._runtimes: dict[tuple[EngineRequest, Stamps], tuple[Runtime, ExitStack]] = {}
        self._closed = False
        self._last: tuple[tuple[object, ...], RenderedFrame] | None = None
        self._embed: Embedder | None = None
        self._known: dict[tuple[tuple[Path, int], ...], list[Float32]] = {}  # by photos and the times of their change

    def render(
        self,
        time: float,
        side: int,
        options: Options,
        persons: tuple[PersonOnFrame, ...] = (),
        *,
        corrected: bool = True,
    ) -> RenderedFrame:
        """The frame that is shown at a time.

        Args:
            time: seconds from the beginning of the film.
            side: longest side of the pictures in pixels, at most.
            options: of the run.
            persons: those on the frame, where they are treated differently; photos say which face is whose.
            corrected: False gives the frame before in place of that after, without its faces, at a small part of the
                cost.

        Raises:
            UsageError: options do not go together, or frames cannot have that size.
            InputError: the film cannot be read there.
            MissingComponent, EngineError: the engine cannot be used.
            Closed: after `close`.
        """
        with self._lock, ExitStack() as stack:
            if self._closed:
                raise Closed(
                    "{name}: another film was opened meanwhile; choose this one again",
                    code="film_other",
                    name=self._path.name,
                )
            made = tuple(stamp_of(path_of(name)) for name in learnt_persons(options.person))
            request = time, side, options, persons, made
            if self._last is not None and self._last[0] == request:
                return self._last[1]
            began = perf_counter()
            plan = plan_frames(self._path, options)
            if not corrected:
                shown = self._reader.read(time, LEAD_IN_S, options.scale)[-1]
                before = CpuDevice().view(shown).thumbnail(side)[0]
                return RenderedFrame(shown.time, before, before, perf_counter() - began, 0)
            runtime = self._runtime(options, made)
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
                        (one.name or one.label).lower(): one.treatment
                        for one in persons
                        if one.treatment and len(persons) > 1  # else the options have it
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
            # Not on a thread as in a run: the enhancement waits for the faces of nearly all of these few frames.
            tracked = track(split_fields(copies), self._tracker, runtime.device, stats)
            done = steps.enhanced(tracked)
            faces, left, nose = 0, list[str](), None
            for item in show_invented(done, options.look_name) if options.invented == "show" else done:
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
                            left.append(", ".join(treatment.reasons) if treatment else "not among the chosen faces")
            result = RenderedFrame(shown.time, before, after, perf_counter() - began, faces, tuple(left), nose)
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
        """What tells the persons apart; None where none is treated differently and nothing was learnt. Those without
        a usable photo stay unknown; in a run one who was learnt has that name, and no number."""
        known = {name: list(read(path_of(name)).embeddings) for name in learnt}
        if not any(one.treatment or one.name for one in persons):
            persons = ()
        if not (persons or known):
            return None
        if self._embed is None:
            from rtface.persons.network import PersonNetwork  # loads OpenVINO

            self._embed = PersonNetwork()
        own = [mean(found) for found in known.values()]
        for one in persons:
            try:
                key = tuple((photo, photo.stat().st_mtime_ns) for photo in one.photos)
                if key not in self._known:
                    self._known[key] = embeddings_of(one.label, one.photos, tracker, self._embed)
            except (OSError, InputError):  # an analysis is writing them
                continue
            if one.name or all(distance(mean(self._known[key]), other) > JOIN for other in own):
                known[one.label] = self._known[key]
        assigned = {one.label: one.name for one in persons if one.name}
        return PersonRecogniser(self._embed, Gallery(known, several=False, assigned=assigned), stats)

    def _runtime(self, options: Options, made: Stamps) -> Runtime:
        """The loaded engine of these options; it and the tracker are opened where they are not yet. `made` says when
        the files of persons were written."""
        request = engine_request(options)
        key = request, made
        if key in self._runtimes:
            return self._runtimes[key][0]
        stats = Stats()
        with ExitStack() as tracker_stack, ExitStack() as engine_stack:  # where the engine cannot be used, both end
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
    """A frame of a film, or a still, as it is, the seconds that it is shown (0 where that is not known), and its
    longest side in display pixels.

    The picture is uint8 RGB h×w×3, upright, its longest side ≤ `side`. No engine is loaded.

    Args:
        path: of the film or still.
        time: seconds from its beginning.
        side: pixels.

    Raises:
        InputError: it cannot be read there.
    """
    reader = FrameReader(path)
    try:
        shown = reader.read(time)[-1]
    finally:
        reader.close()
    longest = max(display_size(shown.image.width, shown.image.height, shown.display))
    return CpuDevice().view(shown).thumbnail(side)[0], float(shown.duration * shown.time_base), round(longest)


def jpeg(image: Bytes) -> bytes:
    """JPEG of an RGB picture (uint8 h×w×3)."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return data.tobytes()
