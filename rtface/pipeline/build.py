"""Builds a run's source, device, engines, tracker and enhancement from its options.

| run | built by | steps are chained in |
| --- | --- | --- |
| film, stills | `film_networks`, then `film_parts` | `rtface.pipeline.chain.chain` |
| single frames | `frame_parts` (`rtface.pipeline.build_live`) | `rtface.enhancer` |
| live | `live_tracker_and_runtime` (`rtface.pipeline.build_live`), then `LiveEnhancer` | `rtface.live.session` |
| analysis | `open_tracker`, `open_coded` | `rtface.pipeline.analysis` |

`open_film` opens the source of a film or an analysis; stills, live runs and single frames have other sources.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from math import inf
from pathlib import Path

from rtface.concurrency.buffer import call_until_stopped
from rtface.config.options import EnhanceOptions, FaceOptions, InputOptions, Options
from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.engine.engine_set import LIGHT
from rtface.enhance.coded_stage import CodedStage
from rtface.enhance.corrector import Helpers, InventedMeter
from rtface.enhance.film import FilmEnhancer
from rtface.enhance.track_store import StateLookup, TrackRules
from rtface.errors import InputError, Interrupted
from rtface.frame import Transfer
from rtface.media.read.frame_form import Fields, Size
from rtface.media.read.hardware import decoding
from rtface.media.read.source import FileSource
from rtface.media.stills.folder_sink import StillEncoder
from rtface.media.stills.images import SequenceSource
from rtface.persons.recogniser import PersonRecogniser
from rtface.pipeline.film_plan import FilmPlan
from rtface.pipeline.persons import open_guard, open_persons
from rtface.pipeline.plan import FramePlan
from rtface.pipeline.runtime import (
    BuildProgress,
    codec_device,
    engine_request,
    open_runtime,
)
from rtface.pipeline.threads import Threads
from rtface.protocols import ALL_FACES, CodedNetwork, Runtime, Tracker
from rtface.shots.settings import NO_SHOTS, ShotList
from rtface.stats import Stats
from rtface.tracking import create_tracker
from rtface.util.urls import Address

_TRANSFERS: dict[str, Transfer] = {"log": "log", "linear": "linear", "video": "sdr"}


@dataclass(frozen=True, slots=True)
class FilmNetworks:
    """Networks that are reused for several films, stills and segments.

    Attributes:
        tracker: tracker that finds the faces.
        runtime: the device and the engines.
        threads: threads of the first stage's network; None for all cores.
        persons: recogniser of persons; None if it is not needed.
        person_of: function that returns a track's person if the tracker reports persons, so that none are recognised.
    """

    tracker: Tracker
    runtime: Runtime
    threads: int | None = None
    persons: PersonRecogniser | None = None
    person_of: Callable[[int], str] = lambda track: ""


def open_scans(folder: Path, options: InputOptions, stats: Stats, *, hold: bool = True) -> SequenceSource:
    """Opens a folder of stills as a film. `hold` and errors are those of `SequenceSource`."""
    return SequenceSource(
        folder,
        fps=options.fps,
        start=options.start,
        end=options.end,
        transfer=None if options.transfer == "auto" else _TRANSFERS[options.transfer],
        stats=stats,
        strict=options.strict,
        hold=hold,
        scale=options.scale,
    )


def open_film(
    input: Path | Address,
    options: Options,
    threads: Threads,
    stats: Stats,
    stop: threading.Event,
    stack: ExitStack,
    *,
    on_gpu: bool = False,
    size: Size | None = None,
    fields: Fields | None = None,
    hold: bool = True,
) -> FileSource | SequenceSource:
    """Opens a film, or a folder of stills as a film (`--sequence`).

    Args:
        stop: event that ends waiting for a pipe or a network drive that does not respond.
        stack: stack that closes the source.
        on_gpu: whether frames may stay in the memory of the run's GPU.
        size: size of all frames of a film, as in `FileSource`.
        fields: fields of all frames of a film, as in `FileSource`.
        hold: for a folder, as in `SequenceSource`.

    Raises:
        InputError: the input cannot be read.
        Interrupted: `stop` was set.
    """

    def open_input() -> FileSource | SequenceSource:
        if options.sequence and isinstance(input, Path):
            return open_scans(input, options, stats, hold=hold)
        return FileSource(
            input,
            start=options.start,
            end=options.end,
            threads=threads.decode,
            stats=stats,
            strict=options.strict,
            stop=stop,
            size=size,
            fields=fields,
            scale=options.scale,
            chosen=options.fields,
            variant=options.variant,
            decode=decoding(options.decode, codec_device(options.device), keep=on_gpu),
        )

    try:
        source = call_until_stopped(open_input, stop.is_set, name="open")
    except InputError:
        if stop.is_set():  # the stop ended the data early, which caused the error
            raise Interrupted from None
        raise
    if source is None:
        raise Interrupted
    stack.callback(source.close)
    return source


def still_encoder(film: FilmPlan, source: FileSource | SequenceSource, engine: str) -> StillEncoder | None:
    """Returns the encoder for a film that becomes stills. None for other films."""
    if film.folder is None:
        return None
    return StillEncoder(
        film.info,
        film.folder.kind,
        source if isinstance(source, SequenceSource) else None,
        timecode=film.folder.written,
        tags=film.frames.tags(engine),
    )


def film_networks(
    plan: FramePlan,
    stats: Stats,
    stack: ExitStack,
    progress: BuildProgress | None = None,
    *,
    recognise: bool = True,
) -> FilmNetworks:
    """Loads the networks for a film or stills, for use in `film_parts`.

    Args:
        stack: stack that releases the networks.
        progress: called while engines are built for a GPU, with the name of the step and the share done (0…1).
        recognise: whether to recognise persons if the plan needs them; False if the tracker reports persons.

    Raises:
        UsageError: the engine, tracker or device is unknown.
        MissingComponent: a package or model file is missing.
        EngineError: an engine's answers differ from its reference.
    """
    threads = plan.threads
    tracker, runtime = open_networks(plan.options, threads, stats, stack, stack, progress)
    open_guard(plan.options, stats)  # loads the guard's network while the film opens
    return FilmNetworks(
        tracker,
        runtime,
        threads.engines.engine,
        open_persons(plan.options, stats, wanted=bool(plan.treatments.by_person)) if recognise else None,
    )


def film_parts(
    networks: FilmNetworks,
    plan: FramePlan,
    stats: Stats,
    *,
    shots: ShotList = NO_SHOTS,
    invented: InventedMeter | None = None,
    state_of: StateLookup | None = None,
    begins: float = -inf,
) -> FilmEnhancer:
    """Creates the enhancement of a film, stills or a segment. Resets the tracker.

    Args:
        shots: settings by shot; they replace those of the run.
        invented: as in `Helpers`.
        state_of: as in `TrackRules`.
        begins: as in `FilmEnhancer`.

    Raises:
        MissingComponent, EngineError: as in `film_networks`.
    """
    networks.tracker.reset()
    coded, guard = open_coded(stats, networks.threads), open_guard(plan.options, stats)
    return FilmEnhancer(
        networks.runtime,
        plan.options,
        stats,
        rules=TrackRules(plan.treatments, shots, state_of, networks.person_of),
        helpers=Helpers(LIGHT, networks.persons, coded, guard, invented),
        begins=begins,
    )


def open_networks(
    options: EnhanceOptions,
    threads: Threads,
    stats: Stats,
    tracker_stack: ExitStack,
    engine_stack: ExitStack,
    progress: BuildProgress | None = None,
) -> tuple[Tracker, Runtime]:
    """Loads the tracker and the engine that the options select, in parallel.

    Args:
        tracker_stack: stack that releases the tracker.
        engine_stack: stack that releases the engine.
        progress: as in `film_networks`.

    Raises:
        UsageError, MissingComponent, EngineError: as in `film_networks`.
    """
    # Tracker and engine load in parallel, because each takes some tenths of a second.
    loading = tracker_stack.enter_context(ThreadPoolExecutor(1)).submit(
        create_tracker, options.tracker, max_faces=options.max_faces or ALL_FACES
    )
    tracker_stack.callback(lambda: loading.exception() or loading.result().close())
    runtime = open_runtime(
        engine_request(options),
        options.device,
        engine_stack,
        threads=threads.engines,
        warn=stats.warn,
        progress=progress,
        deferred=True,
    )
    return loading.result(), runtime


def open_coded(stats: Stats, threads: int | None, *, light: bool = False) -> CodedStage:
    """Creates the first stage, on the CPU. Its networks are loaded for the first face.

    Args:
        threads: threads of the networks.
        light: whether to add a light network.
    """

    @cache
    def networks() -> tuple[CodedNetwork, ...]:
        from rtface.engine import coded_network  # imports OpenVINO

        return (
            coded_network.CodedNetwork(threads),
            *([coded_network.CodedNetwork(threads, *coded_network.LIGHT)] if light else []),
        )

    return CodedStage(
        lambda picture, steps: networks()[0](picture, steps),
        CpuDevice(warn=stats.warn),
        partial(HostCorrection, dithered=False),
        stats,
        light=(lambda picture, steps: networks()[1](picture, steps)) if light else None,
    )


def open_tracker(options: FaceOptions, stack: ExitStack) -> Tracker:
    """Opens the tracker that the options select. `stack` closes it."""
    tracker = create_tracker(options.tracker, max_faces=options.max_faces or ALL_FACES)
    stack.callback(tracker.close)
    return tracker
