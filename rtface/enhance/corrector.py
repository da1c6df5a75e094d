"""Corrects single frames: crop, restore, shape, composite.

It uses devices, engines and trackers only through `rtface.protocols`. The work on a frame is split in two, so that an
engine can compute while the next frame's crops are cut: `submit` starts the work, and `collect` finishes it, in the
order of the frames. A frame on which something fails passes through; the fault is counted, and does not end the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, ClassVar, Protocol

from rtface.analysis.treatment import INSIDE, of_colours
from rtface.config.options import EnhanceOptions, learnt_persons
from rtface.correct.correspondence import SIDE
from rtface.correct.mask import shown_box
from rtface.enhance.coded_stage import CodedStage, StageStrength
from rtface.enhance.doubts import note_doubts
from rtface.enhance.engine_selection import EngineSelector
from rtface.enhance.face_filter import FaceFilter
from rtface.enhance.identity_guard import IdentityGuard
from rtface.enhance.keyframes.sample import FaceSample
from rtface.enhance.mode import Mode
from rtface.enhance.repeats import RepeatedFrames
from rtface.enhance.runtime_switch import RuntimeSwitch
from rtface.enhance.tasks import FaceTask, FrameTask
from rtface.enhance.track_measurement import TrackMeasurement
from rtface.enhance.track_store import NO_RULES, TrackRules, TrackStore
from rtface.errors import DeviceLost
from rtface.frame import Box, Crops, Face, Float32, Frame, GrainMode, Pixels, PixelsT
from rtface.persons.recogniser import PersonRecogniser
from rtface.protocols import MEMORY_S, Engine, Restored, Runtime, ShapingOptions
from rtface.quality.governor import UNSEEN_STRENGTH, shipped_name
from rtface.stats import Stats
from rtface.util.held_faces import HeldFaces

_GRAIN_SHARES: dict[GrainMode, float] = {"match": 0.0, "less": 0.5, "none": 1.0}
_MIN_RING_STRENGTH = 0.3
"""`--region auto` corrects the surroundings of a face if the first stage's strength there is at least this."""


class InventedMeter(Protocol):
    """Measures what corrections invent (`rtface.pipeline.invented.InventedMaps`)."""

    def original(self, frame: Frame) -> object:
        """Returns a copy of the frame's image. Called before anything is written to it."""
        ...

    def measured(self, frame: Frame, original: object, faces: Sequence[FaceTask]) -> Frame:
        """Returns the corrected frame or field with its map. Adds the invented share to the faces' tracks."""
        ...


@dataclass(frozen=True, slots=True)
class Helpers:
    """Optional parts of a correction, besides its device and engines.

    Attributes:
        light: name of the engine that runs between the keyframes of a heavy one.
        persons: recogniser of the tracks' persons.
        coded: the first stage; without it, the expected gain is unknown and decides no treatment.
        guard: weakens corrections that change the person.
        invented: makes the map of invented detail.
    """

    light: str | None = None
    persons: PersonRecogniser | None = None
    coded: CodedStage | None = None
    guard: IdentityGuard | None = None
    invented: InventedMeter | None = None


class FaceCorrector(ABC):
    """Corrects the faces of tracked frames, one frame at a time.

    A run uses one of its subclasses: `film.FilmEnhancer`, `live.FrameEnhancer` or
    `live.LiveEnhancer`. Not for use from several threads.

    Args:
        runtime: the device and the engines.
        options: the options grain, strength, faces, max_faces, keyframe, region, correct.
        stats: counters and step times.
        rules: decisions about tracks that do not come from their analysis.
        analysis: True: `options.correct` decides how far a face is corrected. False: every face is corrected fully.
        helpers: optional parts of the run.

    Attributes:
        strength: strength of the run, 0…1; may be changed between frames.
        tracks: the state of every track.
        switch: stores the runtime of the next frame.
        select: selects engine and detail of each face.
        persons, guard, invented: as in `Helpers`.
    """

    mode: ClassVar[Mode]

    def __init__(
        self,
        runtime: Runtime | RuntimeSwitch,
        options: EnhanceOptions,
        stats: Stats,
        *,
        rules: TrackRules = NO_RULES,
        analysis: bool = True,
        helpers: Helpers = Helpers(),
    ) -> None:
        self.switch = runtime if isinstance(runtime, RuntimeSwitch) else RuntimeSwitch(runtime, stats)
        self._options, self._stats = options, stats
        self.guard, self.invented, self._coded = helpers.guard, helpers.invented, helpers.coded
        self.strength, self.shots = options.strength, rules.shots
        self.tracks = TrackStore(rules, mode=self.mode, correct=options.correct if analysis else "always")
        self.use_persons(helpers.persons)
        self.switch.moved = self.tracks.leave_engines  # another device cannot use the engines' answers
        self._filter = FaceFilter.parse(options.faces, options.max_faces)
        self._held_faces = {persons: HeldFaces() for persons in (False, True)}  # by `persons_known` of `chosen`
        self._repeats = RepeatedFrames()
        self._measure = TrackMeasurement(self.tracks.track_of, self._coded, stats, waits=self.mode is not Mode.LIVE)
        self.select = self._create_selector(helpers.light)

    @property
    def runtime(self) -> Runtime:
        """The device and the engines of the next frame."""
        return self.switch.runtime

    def chosen(self, frame: Frame, *, persons_known: bool = True) -> tuple[Face, ...]:
        """Returns the faces of a frame that the options select. Called for every frame, in order.

        Args:
            persons_known: False before persons are recognised; then all faces are returned that the filter may select.
        """
        face_filter = self._filter if persons_known else self._filter.before_persons
        return face_filter(frame.faces, self._held_faces[persons_known].on(frame))

    def use_persons(self, persons: PersonRecogniser | None) -> None:
        """Sets the recogniser of persons; None disables recognition. Called before the first frame."""
        self.persons = persons
        if persons is not None:
            self.tracks.person_of = persons.gallery.label_of

    def reset(self) -> None:
        """Drops the state of corrections from earlier frames."""
        for track in self.tracks.states.values():
            track.forget()

    # -- first half: selects faces and engines, cuts crops, starts the engines ------------------------

    def submit(self, frame: Frame) -> FrameTask:
        """Selects the faces to correct, and submits their crops to engines."""
        started = perf_counter()
        self.switch.update()
        task = FrameTask(frame, self.runtime.device)
        try:
            if self.persons is not None:
                if self.mode is not Mode.FILM:  # a film's look-ahead has recognised them
                    self.persons(frame, self.runtime.device.view)
                task.frame = frame = self.persons.label(frame)
            if self.switch.works:
                self.submit_faces(task, self.chosen(frame))
        except Exception as error:  # noqa: BLE001 - one bad frame must not end a run: counted and reported
            self._pass_through(error, task)
            task.frame = replace(task.frame, failed=task.frame.failed or "enhance")
        task.seconds = perf_counter() - started
        return task

    def submit_faces(self, task: FrameTask, faces: tuple[Face, ...]) -> None:
        """Submits the faces that the user's filter selects. After an exception, the frame passes through."""
        frame = task.frame
        if frame.faces:
            self._stats.count("frames_with_faces", int(frame.field != 1 and not frame.lead_in))
        if not faces and not self.select.live:
            return
        if self.mode is not Mode.FILM:
            self._measure(frame, faces, self.runtime.device)
        strength = self.shots.at(frame.time).strength_of(self.strength)
        task.faces = self.select(frame, faces, self.runtime, strength)
        for face in task.faces:
            face.shaping = self._shaping_options(task, face)
        self._run_first_stage(task, faces, strength)
        if task.faces:
            self._submit_faces(task)
        self._measure.begin()
        self.tracks.sweep(frame.time)

    def _run_first_stage(self, task: FrameTask, faces: Sequence[Face], strength: float, *, light: bool = False) -> None:
        """Removes coding artefacts from the frame if that is expected to help.

        Args:
            light: whether the light network is used.
        """
        frame = task.frame
        cleaned = [
            item
            for face in faces
            if max(map(max, (item := (face, *self._first_strengths(face, frame.time, strength)))[1:])) > UNSEEN_STRENGTH
            and self._coded is not None
        ]
        grainy = [
            (face, StageStrength(), StageStrength(share))
            for face in faces
            if self._coded is not None and (share := self._grain_share(face, frame.time, strength)) > UNSEEN_STRENGTH
        ]
        # A live run with keyframes does not repeat samples, because a better answer may follow for the same image.
        if self.mode is not Mode.LIVE or not any(face.light or face.track.keys.samples for face in task.faces):
            task.shown = self._repeats.of(frame, task.faces, [*cleaned, *grainy])
        if self._coded is None or not (cleaned or grainy):
            return
        if self.invented:
            task.original = self.invented.original(frame)
        with self._stats.time("first stage"):
            task.frame = self._coded.process(frame, cleaned, light=light) if cleaned else frame
            task.frame = self._coded.take_grain(task.frame, grainy)
        task.cleaned = task.frame is not frame
        if task.cleaned and not frame.lead_in:
            corrected = {face.face.track_id for face in task.faces}
            for face in {id(face): face for face, *_ in (*cleaned, *grainy)}.values():
                if face.track_id not in corrected:
                    self.tracks.states[face.track_id].figures.apply(None, frame.time)

    def _first_strengths(self, face: Face, time: float, strength: float) -> tuple[StageStrength, StageStrength]:
        """Returns the first stage's strengths, inside a face's oval and round it."""
        if (track := self.tracks.states.get(face.track_id)) is None:
            return StageStrength(), StageStrength()
        inside, ring = track.first
        region = self._options.region
        around = 0.0 if region == "face" or (region == "auto" and ring < _MIN_RING_STRENGTH) else ring
        strength = self.tracks.strength_of(face, time, strength).wanted
        inside_colour = track.faded("first colour", of_colours(inside, INSIDE), time)
        around_colour = track.faded("ring colour", of_colours(around, 1.0), time)
        around = track.faded("ring", around, time)
        return StageStrength(inside * strength, inside_colour * strength), StageStrength(
            around * strength, around_colour * strength
        )

    def _grain_share(self, face: Face, time: float, strength: float) -> float:
        """Returns the share of a head's grain to remove. Grain is also removed from heads that the analysis leaves
        uncorrected, but not from those that the user excluded."""
        track = self.tracks.states.get(face.track_id)
        forced = self.tracks.forced(face, time) or (
            track.analyzer.treatment if track and track.analyzer.forced else None
        )
        if track is None or (forced is not None and not forced.on):
            return 0.0
        share = _GRAIN_SHARES[self._options.grain] * self.tracks.strength_of(face, time, 1.0).wanted
        return track.faded("grain", share, time) * min(strength, 1.0)

    def _submit_faces(self, task: FrameTask) -> None:
        """Cuts the crops of all faces and submits them to their engines."""
        frame, device = task.frame, task.device
        places = [(face.matrix(size), size) for face in task.faces for size in face.sizes]
        with self._stats.time("crop"):
            task.crops = device.cut(frame, places)
            cut_crops, keyframe_crops = iter(task.crops), list[Crops[Pixels]]()
            for face in task.faces:
                face.crops, *light = (next(cut_crops) for _ in face.sizes)
                keyframe_crops += [face.crops, *light] if light else []
            on_host = iter(device.to_host(keyframe_crops))
        for face in task.faces:
            if face.light is not None:
                self._submit_both(face, face.light, next(on_host), next(on_host))
            elif not face.key or face.track.late is not None:  # no keyframe, or an earlier answer is still pending
                self._stats.count("crops:carried")
            else:
                if frame.new:
                    face.track.output = None
                face.output = self._submit(face, face.engine, face.crops)

    def _submit_both(self, face: FaceTask, light: Engine, crops: Crops[Float32], light_crops: Crops[Float32]) -> None:
        """Submits a face to the light engine. On keyframes, also submits it to the heavy one.

        Args:
            crops: crops for the heavy engine, in host memory.
            light_crops: crops for the light engine, in host memory.
        """
        track = face.track
        face.output = self._submit(face, light, light_crops)
        face.sample = sample = FaceSample(face.time, crops, light_crops, face.output)
        if self._is_keyframe(face, sample):
            engine, last_key = face.engine, track.keys.last
            self._stats.count(f"crops:{engine.name}")
            memory = last_key.key if last_key is not None and face.time - last_key.time <= MEMORY_S else None
            sample.submit = lambda crop: engine.submit(crop, memory)
        track.keys.add(sample)

    def _submit(self, face: FaceTask, engine: Engine, crops: Crops[PixelsT]) -> Future[Restored[PixelsT]]:
        """Submits a crop to an engine. The track stores the answer, from which a recurrent engine continues."""
        self._stats.count(f"crops:{engine.name}")
        return face.track.ask(engine, crops.pixels, face.time)

    def _shaping_options(self, task: FrameTask, face: FaceTask) -> ShapingOptions:
        return ShapingOptions(
            face.strength.applied,
            self._options.grain,
            # Recurrent engines and blended keyframes need no temporal average: they do not flicker.
            average=not (face.light or face.engine.recurrent or task.frame.new),
            keep=task.device.carries and (self.mode is Mode.LIVE or bool(learnt_persons(self._options.person))),
            # An engine that restores only the face never changes the head.
            region="head" if face.engine.whole and self._options.region == "head" else "face",
            share=face.share if face.light is None else 1.0,
            still=task.frame.new,
            known=face.engine.name != shipped_name(face.engine.name),
            detail=face.strength.detail,
        )

    # -- second half: collects answers, shapes corrections, composites the frame -------------------------

    def collect(self, task: FrameTask) -> Frame:
        """Waits for the engines, and composites their corrections into the frame."""
        started = perf_counter()
        frame = task.frame
        try:
            if task.faces:
                frame = self._correct(task)
            elif task.cleaned:
                if task.shown is not None:
                    task.shown.finish(frame)
                if self.invented:
                    frame = self.invented.measured(frame, task.original, ())
                frame = self._count_corrected(frame)
        except Exception as error:  # noqa: BLE001 - as in `submit`
            self._pass_through(error, task)
            frame = replace(self._count_corrected(frame) if task.cleaned else frame, failed=frame.failed or "enhance")
        task.seconds += perf_counter() - started
        self._stats.add("added", task.seconds)
        return frame

    def _correct(self, task: FrameTask) -> Frame:
        before, stats = task.frame, self._stats
        with stats.time("crop"):
            task.resume()
        for face in task.faces:
            with stats.time("engine wait"):
                face.restored = self._answer_to_show(task, face)
        with stats.time("correct"):
            corrections = self.guard.shape(task) if self.guard is not None else task.device.shape(task.faces)
        if self.mode is Mode.FILM:  # a live run reports no doubts, because it may never end
            note_doubts(task.faces, corrections, task.device)
        visible = [face for face in task.faces if face.strength.seen]
        for face in visible:
            if not before.lead_in:
                face.track.figures.apply(face.strength, face.time)
        original = task.original
        if self.invented and original is None:
            original = self.invented.original(before)
        with stats.time("composite"):
            frame = task.device.paste(before, corrections)
        if task.shown is not None and frame.touched:
            task.shown.finish(
                frame, settled=all(face.restored is not None or face.state.key.ready(face.time) for face in visible)
            )
        if self.invented and frame.touched:
            with stats.time("invented"):
                frame = self.invented.measured(frame, original, task.faces)
        task.crops = ()
        if not visible:  # only invisible trials of a quality level (`rtface.quality.governor`)
            frame = replace(frame, touched=before.touched)
            return self._count_corrected(frame) if task.cleaned else frame
        if frame is not before:
            changed = None if before.changed is None else before.changed + tuple(face.changed for face in task.faces)
            return self._count_corrected(frame, changed=changed)
        return self._count_corrected(frame) if task.cleaned else frame

    def _count_corrected(self, frame: Frame, **changes: Any) -> Frame:
        """Counts a corrected frame. Returns it marked as corrected, with other changes."""
        self._stats.count("frames_corrected", int(frame.field != 1 and not frame.lead_in))
        return replace(frame, corrected=True, **changes)

    def _answer_to_show(self, task: FrameTask, face: FaceTask) -> Restored[Pixels] | None:
        """Returns the answer to show. Returns None if it is late or missing."""
        if face.sample is not None:
            box = self._shown_box(face)
            face.track.keys.prepare(face.sample, box)
            return face.track.keys.restored(face.sample, box, face.share)
        return None if face.output is None else face.output.result()

    def _shown_box(self, face: FaceTask) -> Box:
        """Returns the box of the crop that is shown, in SIDE×SIDE samples."""
        return shown_box(SIDE, face.mesh, face.crops.size, face.shaping.region)

    def _pass_through(self, error: Exception, task: FrameTask) -> None:
        """Counts the fault, and drops the corrections of the frame."""
        self._handle_error(error, task)
        task.give_up()

    def _handle_error(self, error: Exception, task: FrameTask) -> None:
        if isinstance(error, DeviceLost):
            self.switch.lost(error, task.device)
            if not self.switch.works:
                return
        self._count_fault(error)

    def _count_fault(self, error: Exception) -> None:
        self._stats.fault("enhance", error)

    # -- differences between films, calls and live runs ---------------------------------------------------

    def _create_selector(self, light: str | None) -> EngineSelector:
        return EngineSelector(self._options, self._stats, self.tracks, light)

    def label(self, frame: Frame) -> Frame:
        """Returns the frame labelled with the persons recognised so far. Does not read pixels."""
        return self.persons.label(frame) if self.persons is not None else frame

    @abstractmethod
    def _is_keyframe(self, face: FaceTask, sample: FaceSample) -> bool:
        """Returns whether this frame is submitted to the heavy engine."""
