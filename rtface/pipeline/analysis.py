"""The analysis of a file: what is wrong with each face, without a correction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rtface.analysis.look_ahead import look_ahead
from rtface.analysis.track_measurement import TrackMeasurement
from rtface.concurrency import buffer, close_with
from rtface.device.cpu.device import CpuDevice
from rtface.enhance.face_filter import FaceFilter
from rtface.enhance.track_store import TrackStore
from rtface.errors import Interrupted
from rtface.frame import Frame
from rtface.media.images import list_images
from rtface.options import Options
from rtface.pipeline.chain import Threads, bytes_of, end_at_faults, split_fields
from rtface.pipeline.film_source import open_until_stopped
from rtface.pipeline.progress import Progress, SpeedMeter
from rtface.pipeline.runtime import asked_by, open_runtime
from rtface.pipeline.stills import frames_of_stills
from rtface.pipeline.track_step import track
from rtface.protocols import Engine, Engines, Runtime
from rtface.report import TrackReport
from rtface.stats import Stats
from rtface.tracking import create_tracker
from rtface.util.urls import Address

Show = Callable[[Progress], None]


class _EnginesWhenAsked:
    """The engines of an analysis, loaded when the first face needs one: most faces are decided by their scores."""

    def __init__(self, options: Options, threads: Threads, stats: Stats, stack: ExitStack) -> None:
        self._options, self._threads, self._stats, self._stack = options, threads, stats, stack
        self._opened: Engines | None = None

    def _engines(self) -> Engines:
        if self._opened is None:
            self._opened = open_runtime(asked_by(self._options), self._options.device, self._stack,
                                         threads=self._threads.engine, warn=self._stats.warn).engines
        return self._opened

    def pick(self, face_width: float, faces: int = 0, current: str | None = None) -> Engine:
        return self._engines().pick(face_width, faces, current)

    def named(self, name: str) -> Engine:
        return self._engines().named(name)

    @property
    def described(self) -> tuple[str, str]:
        return self._engines().described


def analyze_file(input: Path | Address, options: Options, *, stats: Stats | None = None, progress: Show | None = None,
                 stop: threading.Event | None = None) -> list[TrackReport]:
    """What is wrong with each face of a film or still, and the treatment that a run would choose.

    The same tracker, analysis and look-ahead as a run, so ids and decisions are the same. Raises as `run_file` does.
    """
    stats, stop = stats or Stats(), stop or threading.Event()
    threads = Threads.plan(options.threads)
    with ExitStack() as stack:
        source = None
        if isinstance(input, Path) and input.is_dir() and not options.sequence:
            frames_in = frames_of_stills(list_images(input), stats)
        else:
            source = open_until_stopped(input, options, threads, stats, stop)
            stack.callback(source.close)
            frames_in = iter(source)
        device = CpuDevice(threads.picture, warn=stats.warn)
        tracker = create_tracker(options.tracker, max_faces=options.max_faces)
        stack.callback(tracker.close)
        book = TrackStore({}, exposure=options.colour == "restore", correct=options.correct)
        runtime = Runtime(device, _EnginesWhenAsked(options, threads, stats, stack))
        examine = TrackMeasurement(book.analyzer_of, stats, live=False)
        choose = FaceFilter.parse(options.faces, options.max_faces)
        decoded = close_with(stack, buffer(frames_in, 8, name="decode", weigh=bytes_of, stop=stop.is_set))
        items = end_at_faults(track(split_fields(decoded), tracker, device, stats), stats, hold=False)
        items = look_ahead(items, lambda frame: examine(frame, choose(frame.faces), runtime))
        frames, meter = 0, SpeedMeter()
        for item in items:
            if stop.is_set():
                raise Interrupted
            if not isinstance(item, Frame):
                continue
            for face in choose(item.faces):
                record = book.see(face, item.time)
                if (amount := record.decide(item.time, counted=True)) > 0.0:
                    record.apply(amount)
            frames += item.field != 1
            if progress:
                done = item.time - float(source.info.start or source.info.clock_start) if source else 0.0
                progress(Progress(frames, done, source.info.duration_s if source else None, meter.tick(),
                                  len(item.faces)))
        if stop.is_set():
            raise Interrupted
        return book.reports()
