"""Builds the parts of every run from its options: source, device, engines, tracker, enhancement step.

| run | built by | its steps are chained in |
| --- | --- | --- |
| film, stills | `film_parts` | `rtface.pipeline.chain.chain` |
| film in segments | `film_parts`, and `segment_parts` for each segment | `rtface.pipeline.segments` |
| single frames | `frame_parts` | `rtface.enhancer` |
| live | `live_tracker_and_runtime`, then `LiveEnhancer` | `rtface.live.session` |
| analysis | `analysis_parts` | `rtface.pipeline.analysis` |

The source of a film and of an analysis is that of `open_film`; stills, live runs and single frames have
their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from rtface.concurrency import call_until_stopped
from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.engine import EngineRequest
from rtface.engine.engine_set import LIGHT
from rtface.enhance.coded_stage import CodedStage
from rtface.enhance.corrector import FaceCorrector
from rtface.enhance.damage_repair import DamageRepair
from rtface.enhance.film import FilmEnhancer
from rtface.enhance.runtime_switch import RuntimeSwitch
from rtface.enhance.single import FrameEnhancer
from rtface.errors import InputError, Interrupted, UsageError
from rtface.frame import Transfer
from rtface.media.decoder import Fields, Size
from rtface.media.hardware import decoding
from rtface.media.images import SequenceSource
from rtface.media.source import FileSource
from rtface.options import EnhanceOptions, FaceOptions, Options, QualityOptions, person_photos
from rtface.persons.recogniser import PersonRecogniser
from rtface.pipeline.identity_guard import open_guard
from rtface.pipeline.persons import open_persons
from rtface.pipeline.plan import FramePlan
from rtface.pipeline.runtime import (
    BuildProgress,
    codec_device,
    engine_request,
    may_take_gpu,
    open_cpu_then_gpu,
    open_runtime,
)
from rtface.pipeline.threads import EngineThreads, Threads
from rtface.protocols import ALL_FACES, CodedNetwork, Device, Runtime, Tracker
from rtface.shots.settings import ShotList
from rtface.stats import Stats
from rtface.tracking import create_tracker
from rtface.util.parse import is_person_number
from rtface.util.urls import Address

E = TypeVar("E", bound=FaceCorrector)

_TRANSFERS: dict[str, Transfer] = {"log": "log", "linear": "linear", "video": "sdr"}


@dataclass(frozen=True, slots=True)
class RunParts(Generic[E]):
    """The steps that keep state from frame to frame.

    Attributes:
        tracker: finds the faces.
        enhance: corrects them, on its `runtime` (device and engines).
        repair: repairs damage on them before that; None unless asked for.
        recognise: makes what recognises persons, for shots that name them; None where nothing does.
        names: of the persons who have photos, in lower case.
    """

    tracker: Tracker
    enhance: E
    repair: DamageRepair | None = None
    recognise: Callable[[], PersonRecogniser | None] = lambda: None
    names: frozenset[str] = frozenset()

    @property
    def runtime(self) -> Runtime:
        """The device and the engines of the next frame."""
        return self.enhance.runtime

    def use_shots(self, shots: ShotList) -> None:
        """Lets the settings of a list of shots replace those of the run; before the first frame.

        Raises:
            UsageError: a shot names an engine that cannot be used, or a person without photos; the message names its
                place in the list.
            MissingComponent, EngineError: as `film_parts`.
        """
        for name, where in shots.engines.items():
            try:
                self.runtime.engines.named(name)
            except UsageError as error:
                raise UsageError(f"{shots.name}, {where}: {error}") from error
        if persons := shots.persons:
            if self.enhance.persons is None:
                self.enhance.use_persons(self.recognise())
            for name, where in persons.items():
                if not is_person_number(name) and name not in self.names:
                    raise UsageError(f"{shots.name}, {where}: there is no person {name}; give photos by --person "
                                     f"{name}=photo.jpg, or use a number as 'rtface analyze' lists it")
        self.enhance.shots = shots
        if self.repair is not None:
            self.repair.shots = shots


def open_film(input: Path | Address, options: Options, threads: Threads, stats: Stats,
              stop: threading.Event, stack: ExitStack, *,
              on_gpu: bool = False, size: Size | None = None, fields: Fields | None = None,
              hold: bool = True) -> FileSource | SequenceSource:
    """The source of a film, or of a folder of stills that is read as one (`--sequence`).

    Args:
        stop: ends the wait for a pipe or a network drive that gives nothing.
        stack: closes the source.
        on_gpu: whether frames may stay in the memory of the run's GPU.
        size, fields: of all frames of a film, as `FileSource`.
        hold: of a folder, as `SequenceSource`.

    Raises:
        InputError: it cannot be read.
        Interrupted: `stop` was set.
    """
    def open_input() -> FileSource | SequenceSource:
        if options.sequence and isinstance(input, Path):
            transfer = None if options.transfer == "auto" else _TRANSFERS[options.transfer]
            return SequenceSource(input, fps=options.fps, start=options.start, end=options.end,
                                  transfer=transfer, stats=stats, strict=options.strict, hold=hold)
        return FileSource(input, start=options.start, end=options.end, threads=threads.decode,
                           stats=stats, strict=options.strict, stop=stop.is_set, size=size, fields=fields,
                           decode=decoding(options.decode, codec_device(options.device), keep=on_gpu,
                                           strict=options.strict))

    try:
        source = call_until_stopped(open_input, stop.is_set, name="open")
    except InputError:
        if stop.is_set():  # what came until then was no whole film
            raise Interrupted from None
        raise
    if source is None:
        raise Interrupted
    stack.callback(source.close)
    return source


def film_parts(plan: FramePlan, threads: Threads, stats: Stats, stack: ExitStack,
               progress: BuildProgress | None = None, *, recognise: bool = True) -> RunParts[FilmEnhancer]:
    """The parts of a film or of stills.

    Args:
        stack: releases them.
        progress: called with what is being built for a GPU, and the share that is done (0…1).
        recognise: whether persons are recognised where options ask for it; False where the tracker knows them.

    Raises:
        UsageError: an unknown engine, tracker or device, or a treatment file that cannot be used.
        MissingComponent: a package or model file is not there.
        EngineError: an engine does not give its reference's answers.
    """
    options = plan.options
    tracker, runtime = open_networks(options, threads, stats, stack, stack, progress)
    enhance = _film_enhancer(runtime, plan, stats, threads.engines.engine)

    def persons(wanted: bool = True) -> PersonRecogniser | None:
        return open_persons(options, tracker, stats, wanted=wanted) if recognise else None

    enhance.use_persons(persons(bool(enhance.tracks.by_person)))
    return RunParts(tracker, enhance, open_repair(options, stats), persons, _names(options))


def open_networks(options: EnhanceOptions, threads: Threads, stats: Stats, tracker_stack: ExitStack,
                  engine_stack: ExitStack, progress: BuildProgress | None = None) -> tuple[Tracker, Runtime]:
    """The tracker and the engine that the options name, loaded at the same time where both are on the CPU.

    Args:
        tracker_stack, engine_stack: release them.
        progress: as for `film_parts`.

    Raises:
        UsageError, MissingComponent, EngineError: as `film_parts`.
    """
    loading = None
    if not may_take_gpu(options.device):  # each takes some tenths of a second to load
        loading = tracker_stack.enter_context(ThreadPoolExecutor(1)).submit(
            create_tracker, options.tracker, max_faces=options.max_faces or ALL_FACES, device=options.device)
        tracker_stack.callback(lambda: loading.exception() or loading.result().close())
    runtime = open_runtime(engine_request(options), options.device, engine_stack, threads=threads.engines,
                           warn=stats.warn, progress=progress)
    # On a GPU the tracker's networks may run there, too.
    tracker = (loading.result() if loading is not None else
               open_tracker(options, tracker_stack, gpu=runtime.networks))
    return tracker, runtime


def _names(options: FaceOptions) -> frozenset[str]:
    return frozenset(name.lower() for name in person_photos(options.person))


def open_coded(stats: Stats, threads: int | None, *, light: bool = False) -> CodedStage:
    """The first stage, on the CPU; its networks are loaded when a face is looked at first.

    Args:
        threads: of its networks.
        light: whether it has a light one, too.
    """
    @cache
    def networks() -> tuple[CodedNetwork, CodedNetwork]:
        from rtface.engine import coded_network  # it imports OpenVINO

        whole = coded_network.CodedNetwork(threads)
        return whole, coded_network.CodedNetwork(threads, *coded_network.LIGHT) if light else whole

    return CodedStage(lambda picture, steps: networks()[0](picture, steps), CpuDevice(warn=stats.warn),
                      partial(HostCorrection, dithered=False), stats,
                      light=lambda picture, steps: networks()[1](picture, steps))


def _film_enhancer(runtime: Runtime, plan: FramePlan, stats: Stats, threads: int | None) -> FilmEnhancer:
    """The enhancement of a film with the decisions of its treatment file."""
    for treatment in (*plan.treatments.values(), *plan.by_person.values()):
        if treatment.engine:
            runtime.engines.named(treatment.engine)  # a wrong name ends the run before any work
    enhance = FilmEnhancer(runtime, plan.options, stats, treatments=plan.treatments, light=LIGHT,
                           coded=open_coded(stats, threads))
    enhance.tracks.by_person = dict(plan.by_person)
    enhance.guard = open_guard(plan.options, stats)
    return enhance


def open_repair(options: EnhanceOptions, stats: Stats) -> DamageRepair | None:
    """The step that repairs damage, on the CPU; None unless the options ask for it.

    Raises:
        MissingComponent: its network is not there.
    """
    if options.damage == "none":
        return None
    from rtface.engine.damage_network import DamageNetwork  # it imports OpenVINO

    return DamageRepair(DamageNetwork(), CpuDevice(warn=stats.warn), HostCorrection, options, stats)


def segment_parts(runtime: Runtime, tracker: Tracker, plan: FramePlan, stats: Stats, *,
                  threads: int | None = None) -> RunParts[FilmEnhancer]:
    """The parts of the next segment of a film, whose tracks have no past; `threads` of the first stage's network."""
    tracker.reset()
    return RunParts(tracker, _film_enhancer(runtime, plan, stats, threads), open_repair(plan.options, stats),
                    names=_names(plan.options))


def frame_parts(options: EnhanceOptions, stats: Stats, stack: ExitStack, *, analysis: bool,
                wait: bool) -> RunParts[FrameEnhancer]:
    """The parts of `rtface.Enhancer`, which explains `analysis` and `wait`; raises as `film_parts`.

    Where a GPU is lost, the CPU takes over.
    """
    request, threads = engine_request(options), EngineThreads(options.threads)
    switch = _switch(request, request, options.device, threads, stats, stack, wait=wait)
    tracker = open_tracker(options, stack)
    enhance = FrameEnhancer(switch, options, stats, analysis=analysis, light=LIGHT,
                            persons=open_persons(options, tracker, stats), coded=open_coded(stats, threads.engine))
    enhance.guard = open_guard(options, stats)
    return RunParts(tracker, enhance, open_repair(options, stats))


def live_tracker_and_runtime(options: EnhanceOptions, stats: Stats,
                             stack: ExitStack) -> tuple[Tracker, RuntimeSwitch]:
    """What a live run loads while its source opens; raises as `film_parts`.

    It begins on the CPU and moves to the GPU when that is ready. Where a GPU is lost, the CPU takes
    over.
    """
    request, threads = engine_request(options), Threads.for_live(options.threads).engines
    request = replace(request, name=live_engine(options))
    fallback = replace(request, name=LIGHT) if request.name == "default" else request
    switch = _switch(request, fallback, options.device, threads, stats, stack, wait=False)
    tracker = open_tracker(options, stack)
    switch.runtime.engines.named(LIGHT)  # the governor must not load it in the middle of a call
    return tracker, switch


def live_engine(options: QualityOptions) -> str:
    """The engine of a live run: without a GPU the default is the light one, which leaves a call's two
    cores something to spare."""
    return (LIGHT if options.engine == "default" and not may_take_gpu(options.device)
            else options.engine)


def analysis_parts(options: EnhanceOptions, threads: Threads, stats: Stats,
                   stack: ExitStack) -> tuple[Tracker, Device]:
    """The parts of an analysis, on the CPU."""
    return open_tracker(options, stack), CpuDevice(threads.engines.opencv, warn=stats.warn)


def open_tracker(options: FaceOptions, stack: ExitStack, **more: Any) -> Tracker:
    """The tracker that the options name; `stack` closes it.

    Args:
        more: as for `create_tracker`; without `gpu` its networks stay on the CPU, so that a lost
            GPU does not take the tracker with it.
    """
    tracker = create_tracker(options.tracker, max_faces=options.max_faces or ALL_FACES, **more)
    stack.callback(tracker.close)
    return tracker


def _switch(request: EngineRequest, fallback: EngineRequest, device: str, threads: EngineThreads,
            stats: Stats, stack: ExitStack, *, wait: bool) -> RuntimeSwitch:
    """A runtime that the CPU takes over from when its GPU is lost; without `wait` the GPU comes later."""
    upgrade = None
    if wait:
        runtime = open_runtime(request, device, stack, threads=threads, warn=stats.warn)
    else:
        runtime, upgrade = open_cpu_then_gpu(request, device, stack, threads=threads,
                                             warn=stats.warn)
    return RuntimeSwitch(runtime, stats, upgrade=upgrade, fallback=lambda: open_runtime(
        fallback, "cpu", stack, threads=threads, warn=stats.warn))
