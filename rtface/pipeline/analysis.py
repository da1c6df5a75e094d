"""The analysis of a file: what is wrong with each face, without a correction."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

from rtface.analysis.look_ahead import Undecided, look_ahead
from rtface.concurrency import buffer, close_with
from rtface.enhance.face_filter import FaceFilter
from rtface.enhance.track_measurement import TrackMeasurement
from rtface.enhance.track_store import TrackStore
from rtface.errors import Interrupted
from rtface.frame import Bytes, Frame
from rtface.media.images import list_images
from rtface.options import Options, Scope
from rtface.pipeline.build import analysis_parts, open_film
from rtface.pipeline.chain import WAITING, bytes_of, end_at_faults, split_fields, track
from rtface.pipeline.enforce import enforce
from rtface.pipeline.persons import open_persons
from rtface.pipeline.progress import Progress, Show, SpeedMeter
from rtface.pipeline.stills import frames_of_stills
from rtface.pipeline.threads import Threads
from rtface.report import TrackReport
from rtface.shots.clock import FilmClock
from rtface.shots.scenes import SceneRecorder
from rtface.stats import Stats
from rtface.util.urls import Address

_FACES = 8
"""Tracks of a person of which an image is kept."""


def analyze_file(input: Path | Address, options: Options, *, stats: Stats | None = None, progress: Show | None = None,
                 stop: threading.Event | None = None, scenes: SceneRecorder | None = None, persons: bool = True,
                 faces: dict[int, Bytes] | None = None) -> list[TrackReport]:
    """What is wrong with each face of a film or still, and the treatment that a run would choose.

    The same tracker, analysis and look-ahead as a run, so ids and decisions are the same. `scenes` notes the scenes of
    a film. Raises as `run_file` does.

    Args:
        persons: whether to recognise persons, where no option asks for it.
        faces: receives an image of the fittest face of each track, by id, uint8 RGB 256×256×3.
    """
    stats, stop = stats or Stats(), stop or threading.Event()
    enforce(options, Scope.ANALYSIS)
    threads = Threads.for_film(options.threads)
    with ExitStack() as stack:
        source = None
        if isinstance(input, Path) and input.is_dir() and not options.sequence:
            frames_in = frames_of_stills(list_images(input), stats)
        else:
            source = open_film(input, options, threads, stats, stop, stack)
            frames_in = iter(source)
        tracker, runtime = analysis_parts(options, threads, stats, stack)
        tracks = TrackStore({}, exposure=options.colour == "restore", correct=options.correct)
        if scenes is not None and source is not None:
            scenes.clock = FilmClock.of(source.info, options.timecode)
            frames_in = scenes.noted(frames_in, runtime.device)
        measure = TrackMeasurement(tracks.analyzer_of, stats, live=False)
        choose = FaceFilter.parse(options.faces, options.max_faces)
        recognise = open_persons(options, tracker, stats, wanted=persons,
                                 keep_faces=None if faces is None else _FACES)
        if recognise is not None:
            tracks.person_of = recognise.label_of

        def examined(frame: Frame) -> list[Undecided]:
            found: list[Undecided] = [] if recognise is None else [*recognise(frame, runtime.device.view)]
            return [*found, *measure(frame, choose.before_persons(frame.faces), runtime)]

        decoded = close_with(stack, buffer(frames_in, WAITING, name="decode", weigh=bytes_of,
                                           stop=stop.is_set))
        items = end_at_faults(track(split_fields(decoded), tracker, runtime.device, stats), stats,
                              hold=False)
        items = look_ahead(items, examined)
        frames, meter = 0, SpeedMeter()
        for item in items:
            if stop.is_set():
                raise Interrupted
            if not isinstance(item, Frame):
                continue
            for face in choose((recognise.label(item) if recognise else item).faces):
                track_state = tracks.see(face, item.time)
                if (strength := track_state.decide(item.time, counted=True)) > 0.0:
                    track_state.apply(strength)
            frames += item.field != 1
            if progress:
                info = source.info if source else None
                done = item.time - float(info.start or info.clock_start) if info else 0.0
                progress(Progress(frames, done, info.duration_s if info else None, meter.tick(),
                                  len(item.faces)))
        if stop.is_set():
            raise Interrupted
        if faces is not None and recognise is not None:
            faces |= recognise.faces()
        return tracks.reports()
