"""Analyzes the faces of a file without correcting them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rtface.analysis.look_ahead import Undecided, look_ahead
from rtface.analysis.track_report import TrackReport
from rtface.analysis.whole_picture import PictureMeter
from rtface.concurrency.buffer import buffer, close_with
from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice
from rtface.engine.engine_set import DEFAULT, engine_names, is_here, recipe_named
from rtface.enhance.face_filter import FaceFilter
from rtface.enhance.strength import of_vivid, strength_on
from rtface.enhance.track_measurement import TrackMeasurement
from rtface.enhance.track_store import NO_RULES, TrackRules, TrackStore
from rtface.errors import InputError, Interrupted, UsageError
from rtface.frame import Bytes, FadingCurve, Frame
from rtface.media.files.image_names import images_of, is_image, warn_left_out
from rtface.pipeline.build import open_coded, open_film, open_tracker
from rtface.pipeline.chain import bytes_of, end_at_faults, split_fields, track
from rtface.pipeline.fading import curve_on, film_curve
from rtface.pipeline.persons import open_persons
from rtface.pipeline.progress import Progress, Show, SpeedMeter
from rtface.pipeline.stills import frames_of_stills
from rtface.pipeline.threads import WAITING, Threads
from rtface.shots.clock import FilmClock
from rtface.shots.scenes import SceneRecorder
from rtface.stats import Stats
from rtface.util.held_faces import HeldFaces
from rtface.util.urls import Address

_KEPT_FACES = 8
"""Number of tracks per person for which an image of the face is stored."""


@dataclass(slots=True)
class Findings:
    """Findings of an analysis, for its `progress` function and its caller.

    Attributes:
        keep_faces: whether to store images of faces.
        scenes: the scenes of a film.
        notes: notes about the part of the input that is read.
        picture: measures faults of the whole picture.
        combed: function that returns the share of combed frames, 0…1, among those that can be judged.
        curves: curves against fading: at most one for a film, one for each still. None for an input that has not faded.
        tracks: function that returns the tracks.
        faces: function that returns an image of each track's best face, by id, uint8 RGB 256×256×3.
    """

    keep_faces: bool = False
    scenes: SceneRecorder = field(default_factory=SceneRecorder)
    notes: list[str] = field(default_factory=list[str])
    picture: PictureMeter = field(default_factory=PictureMeter)
    combed: Callable[[], float] = float
    curves: list[FadingCurve | None] = field(default_factory=list[FadingCurve | None])
    tracks: Callable[[], list[TrackReport]] = list
    faces: Callable[[], dict[int, Bytes]] = dict

    @property
    def faults(self) -> dict[str, float]:
        """Faults of the whole picture, 0…1: the scores of `picture`, combing, and the mean fading."""
        faded = [max(power for power, _ in curve) - 1 if curve else 0.0 for curve in self.curves]
        return {
            **self.picture.scores,
            "combed": self.combed(),
            "fading": round(sum(faded) / max(len(faded), 1) / 0.9, 3),
        }


def analyze_file(
    input: Path | Address,
    options: Options,
    *,
    stats: Stats | None = None,
    progress: Show | None = None,
    stop: threading.Event | None = None,
    persons: bool = True,
    findings: Findings | None = None,
) -> list[TrackReport]:
    """Analyzes each face of a film or still, and decides its treatment.

    Tracker, analysis and look-ahead are those of a run, so ids and decisions are the same. Raises as `run_file`.

    Args:
        persons: whether to recognise persons even if no option requires it.
        findings: filled while the analysis runs; None if only the tracks are needed.
    """
    stats, stop = stats or Stats(), stop or threading.Event()
    threads = Threads.for_film(options.threads)
    with ExitStack() as stack:
        source = None
        # Stills are read as in a run, because a film's decoder does not report how a still was coded.
        if isinstance(input, Path) and (input.is_dir() or is_image(input)) and not options.sequence:
            frames_in = (frame for _, frame in frames_of_stills(images_of(input), stats, options.scale))
            if input.is_dir():
                warn_left_out(input, stats)
        else:
            source = open_film(input, options, threads, stats, stop, stack)
            frames_in = iter(source)
        tracker, device = open_tracker(options, stack), CpuDevice(threads.engines.opencv, warn=stats.warn)
        if findings is not None and source is not None:
            findings.scenes.clock = FilmClock.of(source.info, options.timecode)
            findings.notes += [note for note in source.info.notes if getattr(note, "code", "") == "variant_read"]
            frames_in = findings.scenes.noted(frames_in, device)
        if findings is not None:
            frames_in = findings.picture.noted(frames_in, device)
        coded = open_coded(stats, threads.engines.engine)
        face_filter, held_faces = FaceFilter.parse(options.faces, options.max_faces), HeldFaces()
        unlabelled = HeldFaces()  # faces whose persons are not recognised yet
        recognise = open_persons(
            options, stats, wanted=persons, keep_faces=_KEPT_FACES if findings and findings.keep_faces else None
        )
        engine = engine_names(options.engine, options.engine_control)[0]
        vivid = engine != DEFAULT and is_here(engine) and recipe_named(engine).vivid
        rules = TrackRules(person_of=recognise.gallery.label_of) if recognise else NO_RULES
        tracks = TrackStore(rules, correct=options.correct)
        measure = TrackMeasurement(tracks.track_of, coded, stats)
        origin = float(source.info.clock_start) if source is not None else 0.0
        if findings is not None:
            findings.tracks, count = lambda: tracks.reports(origin), stats.counters
            findings.combed = lambda: round(count["frames_combed"] / max(1, count["frames_told"]), 3)
            findings.faces = recognise.faces if recognise is not None else dict

        def measure_faces(frame: Frame) -> list[Undecided]:
            persons: list[Undecided] = [] if recognise is None else [*recognise(frame, device.view)]
            return [*persons, *measure(frame, face_filter.before_persons(frame.faces, unlabelled.on(frame)), device)]

        decoded = close_with(stack, buffer(frames_in, WAITING, name="decode", weigh=bytes_of, stop=stop.is_set))
        items = end_at_faults(track(split_fields(decoded), tracker, device, stats), stats, hold=False)
        items = look_ahead(items, measure_faces)
        frames, meter = 0, SpeedMeter()
        for item in items:
            if stop.is_set():
                raise Interrupted
            if not isinstance(item, Frame):
                continue
            for face in face_filter((recognise.label(item) if recognise else item).faces, held_faces.on(item)):
                track_state = tracks.see(face, item.time)
                decided = track_state.decide(item.time, counted=True)
                strength = strength_on(item, face, tracks.strength_of(face, item.time, options.strength), decided)
                strength = strength.with_(detail=options.detail * track_state.analyzer.treatment.detail)
                if vivid and decided > 0.0:
                    strength = strength.with_(vivid=of_vivid(decided) / decided)
                track_state.figures.note(item.time).strength = strength if decided > 0.0 else None
                if max(strength.applied, *(share * strength.wanted for share in track_state.first)) > 0.0:
                    track_state.figures.apply(strength if strength.applied > 0.0 else None, item.time)
            if item.new and findings is not None:
                findings.curves.append(curve_on([item], device))
            frames += item.field != 1
            if progress:
                info = source.info if source else None
                done = item.time - float(info.start or info.clock_start) if info else 0.0
                progress(Progress(frames, done, info.duration_s if info else None, meter.tick(), len(item.faces)))
        if findings is not None and source is not None and isinstance(input, Path):
            with suppress(InputError, UsageError):  # the input can be read only once
                findings.curves.append(film_curve(input, source.info, options, stop))
        if stop.is_set():
            raise Interrupted
        return tracks.reports(origin)
