"""A live run from source to sinks: opens all parts, runs until its user ends it, and reports."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from rtface._version import __version__
from rtface.concurrency.child_process import processor_seconds
from rtface.concurrency.threads import call_in_thread, start_thread
from rtface.config.options import Options, Trait, having, in_real_time
from rtface.engine.engine_set import LIGHT
from rtface.enhance.identity_guard import LIVE_S, IdentityGuard
from rtface.enhance.live import LiveEnhancer
from rtface.enhance.runtime_switch import RuntimeSwitch
from rtface.errors import Interrupted, OutputError
from rtface.frame import Frame
from rtface.live.control.status import LiveStatus, ProcessorMeter
from rtface.live.controls import LiveControls
from rtface.live.frame_filters import FrameFilters
from rtface.live.frame_loop import FrameLoop
from rtface.live.output_scheduler import OutputScheduler
from rtface.live.persons_in_view import PersonsInView
from rtface.live.protocols import Endpoint, LiveSink, LiveSource, SoundFormat, SoundPacket, SoundSource
from rtface.live.sign_recordings import RecordingSigner
from rtface.live.sinks.record_sink import RecordSink
from rtface.live.slate import Slate
from rtface.live.sound_gap_filler import SoundGapFiller
from rtface.live.stage_changer import StageChanger
from rtface.media.files.outputs import OutputPath, check_outputs
from rtface.persons.recogniser import PersonRecogniser
from rtface.pipeline.build import live_tracker_and_runtime, open_coded
from rtface.pipeline.persons import open_guard, open_persons
from rtface.protocols import Tracker
from rtface.quality.governor import QualityGovernor
from rtface.quality.processor_budget import ProcessorBudget
from rtface.report import Report, report_options
from rtface.stats import Stats
from rtface.trust.enforce import locked_controls
from rtface.util.machine import cores

log = logging.getLogger("rtface")

# All ends are closed at once, and none may keep the program longer than this.
_CLOSE_S = 0.9


@dataclass(slots=True)
class Endpoints:
    """Source and sinks of a live run.

    Attributes:
        source: of frames, and of sound unless `sound` is given.
        sinks: the output first, then what it is recorded to.
        sound: where sound comes from instead; None is the source's own.
        silent: no sound at all.
        again: opens the source once more. A film that plays while outputs and engine are being opened would lose its
            first seconds, so it is played from its beginning once they are there.
        buffer: seconds of the run's delay that frames wait in the source's jitter buffer.
        slate: what viewers see while the source is away; None is the usual one.
        names: of source and sinks as messages and metrics know them, without secrets.
        sound_name: likewise of `sound`.
        film: the source where it is a film in a file.
    """

    source: LiveSource
    sinks: list[LiveSink]
    sound: SoundSource | None = None
    silent: bool = False
    again: Callable[[], LiveSource] | None = None
    names: tuple[str, ...] = ()
    sound_name: str = "sound"
    buffer: float = 0.0
    slate: Slate | None = None
    film: Path | None = None

    @property
    def sound_format(self) -> SoundFormat | None:
        """Of the sound that the sinks get, None for none; once the source has begun."""
        if self.sound is not None:
            return self.sound.sound_format
        return None if self.silent else self.source.sound_format

    @property
    def notes(self) -> list[str]:
        """What differs from what was asked for, a line each."""
        return [note for end in self._all() for note in end.notes]

    def close(self) -> None:
        """Closes all at the same time, in at most a second, whatever they wait for."""
        for closed in wait([call_in_thread("close", end.close) for end in self._all()], _CLOSE_S).done:
            if (error := closed.exception()) is not None:
                log.error("a source or sink could not be closed", exc_info=error)

    def _all(self) -> list[Endpoint]:
        return [self.source, *([self.sound] if self.sound else []), *self.sinks]


class LiveSession:
    """A live run, from its construction until `close`.

    Whatever fails after the beginning is worked around and counted: a source or sink that is lost is opened again, a
    frame whose step fails passes unchanged.

    Args:
        ends: not begun yet; closed with the run.
        options: engine, device, tracker, latency, delay …; strength and light are the controls'.
        stats: receives counters, stage times and warnings.
        controls: what may be changed meanwhile.

    Attributes:
        loop, enhance, scheduler: the steps.
        governor: how faces are done under load.
        filters: brightening, stages, preview.
        stages: changes the stages.
        persons: those in view, where they are recognised.
        status: state and figures for the status line and the control endpoint.

    Raises:
        UsageError, InputError, OutputError, MissingComponent, EngineError: something cannot be used at the beginning.
    """

    def __init__(self, ends: Endpoints, options: Options, stats: Stats, controls: LiveControls) -> None:
        self.ends, self.options, self.stats, self.controls = ends, in_real_time(options), stats, controls
        self._put: Callable[[Frame], None] = lambda frame: None
        self._hear: Callable[[SoundPacket], None] = lambda packet: None
        self._resting = False
        self._closing = ExitStack()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        ends, options, stats, closing = self.ends, self.options, self.stats, self._closing
        with ThreadPoolExecutor(1, "rtface-load") as beside:  # the engine takes as long as a camera does
            loading = beside.submit(self._load)
            if options.person:  # a photo that cannot serve ends the run before an output is opened
                loading.result()
            self._start()
            if ends.sound is not None:
                ends.sound.start(lambda packet: self._hear(packet))
            form, sound = ends.source.video_format, ends.sound_format
            for sink in ends.sinks:
                sink.open(form, sound=sound)
            tracker, switch, persons, guard = loading.result()
        if ends.again is not None:
            ends.source.close()
            ends.source = ends.again()
        delay = None if options.delay is None else options.delay / 1e3
        ceiling = max(options.latency / 1e3, (delay or 0.0) - ends.buffer)  # within the delay, work may take its time
        usable, period = cores(), float(1 / form.rate)
        self.governor = QualityGovernor(
            period,
            ceiling,
            light=LIGHT,
            budget=ProcessorBudget(lambda: self.controls.cpu_budget, usable, processor_seconds, period),
        )
        self.enhance = LiveEnhancer(
            switch,
            options,
            stats,
            self.governor,
            light=LIGHT,
            persons=persons,
            coded=open_coded(stats, 1, light=True),
            guard=guard,
        )

        def recognise() -> PersonRecogniser:
            opened = open_persons(options, tracker, stats, wanted=True, keep_faces=0)
            self.enhance.use_persons(opened)
            assert opened is not None
            return opened

        self.persons = PersonsInView(persons, recognise, self.controls)
        self.filters = FrameFilters(options, stats)
        self.filters.stages.watch(tracker, options.tracker)
        self.stages = StageChanger(
            self.filters, tracker, options, recorded=any(isinstance(sink, RecordSink) for sink in ends.sinks)
        )
        closing.callback(self.filters.close)
        source, *sinks = ends.names or [end.described for end in (ends.source, *ends.sinks)]
        self.status = LiveStatus(
            stats,
            self.controls,
            source=(source, ends.source),
            delay=delay,
            sinks=list(zip(sinks, ends.sinks, strict=True)),
            sound=(ends.sound_name, ends.sound) if ends.sound else None,
            ladder=self._levels,
            processor=ProcessorMeter(processor_seconds, usable),
            unwatched=lambda: not self._wanted(),
            guarded=lambda: guard.weakened if guard else 0,
            persons=self.persons.listed,
        )
        self.scheduler = OutputScheduler(
            ends.sinks,
            form,
            stats,
            lost=self._lost,
            slate=ends.slate,
            wrote=self.status.wrote,
            shown=self.filters.shown,
            delay=delay,
            buffered=ends.buffer,
            wanted=self._wanted,
        )
        closing.callback(self.scheduler.close)
        self.scheduler.start()
        self.loop = FrameLoop(
            tracker,
            self.enhance,
            self.controls,
            stats,
            self.filters,
            self.scheduler.put,
            wanted=self._wanted,
            ceiling=ceiling,
            period=self.governor.period,
            sparing=lambda: self.governor.sparing,
            every=lambda: self.governor.track_every,
        )
        closing.callback(self.loop.close)
        gc.freeze()  # what is loaded stays: garbage collections skip it
        self.loop.start()
        self._put, self._hear = self.loop.put, self.scheduler.sound
        if sound is not None:
            self._fill_gaps(sound)
        if ends.again is not None:
            self._start()

    def _load(self) -> tuple[Tracker, RuntimeSwitch, PersonRecogniser | None, IdentityGuard | None]:
        tracker, switch = live_tracker_and_runtime(self.options, self.stats, self._closing)
        return (
            tracker,
            switch,
            open_persons(self.options, tracker, self.stats, keep_faces=0),
            open_guard(self.options, self.stats, period=LIVE_S),
        )

    def _start(self) -> None:
        own = self.ends.sound is None and not self.ends.silent
        self.ends.source.start(lambda frame: self._put(frame), lambda packet: self._hear(packet) if own else None)

    def _fill_gaps(self, form: SoundFormat) -> None:
        """Fills gaps in the sound with silence, from the first frame on."""
        steady = SoundGapFiller(form, self.scheduler.sound, lost=self._mute)
        self._closing.callback(steady.close)

        def first(frame: Frame) -> None:
            steady.begin(frame.time)
            steady.start()
            self._put = self.loop.put
            self.loop.put(frame)

        self._put, self._hear = first, steady.put

    def _mute(self) -> bool:
        """Whether the source of the sound is away."""
        return (self.ends.sound or self.ends.source).health.state == "away"

    def _levels(self) -> str:
        """Quality levels of the faces, "" where all are on the highest."""
        levels = self.governor.summary().partition(": ")[2]
        return levels if set(levels.split(", ")) - {"", "full"} else ""

    def _wanted(self) -> bool:
        """Whether an output, as far as that is known, or the preview has a viewer."""
        return self.filters.preview.viewers > 0 or any(sink.wanted for sink in self.ends.sinks)

    def follow_viewers(self) -> None:
        """Lets the source rest while neither an output nor the preview has a viewer."""
        resting = not (self._wanted() or self.filters.needs_faces)
        if resting != self._resting:
            self._resting = resting
            self.ends.source.rest(resting)

    def _lost(self) -> bool:
        return self.ends.source.health.state == "away"

    def until_stopped(self, monitor: Callable[[LiveSession], None] | None = None, interval: float = 0.2) -> None:
        """Waits until the controls say stop, or a film has ended and gone through; meanwhile calls `monitor`."""
        while not self.controls.stop.wait(interval):
            self.follow_viewers()
            if self.ends.source.ended:
                self.loop.drain(2.0)
                self.scheduler.drain(2.0 + (self.options.delay or 0) / 1e3)
                return
            if monitor is not None:
                monitor(self)

    def fill(self, report: Report) -> None:
        """Writes the figures of the run into a report."""
        report.engine, report.device = self.enhance.runtime.engines.described
        report.frames_out = self.stats.counters["frames_out"]
        report.tracks = self.enhance.tracks.reports(self.stats.started)  # frames carry the monotonic clock
        report.decoder, report.encoder = self.ends.source.described, self.ends.sinks[0].described
        report.fill(self.stats)
        shown = self.status.snapshot()
        report.dropped = {cause: n for cause, n in shown["dropped"].items() if n}
        report.frames_dropped = sum(report.dropped.values())
        report.passed = {cause: n for cause, n in shown["passed"].items() if n}
        report.ends = [end for end in (shown["source"], shown["sound"], *shown["sinks"]) if end]
        assert self.status.processor is not None
        report.cpu_share = round(self.status.processor.run_share, 3)
        report.ladder = [asdict(step) for step in self.governor.steps]

    def close(self) -> None:
        """Ends everything within a second; safe to call twice."""
        ends = start_thread("ends", self.ends.close)
        self._closing.close()
        ends.join(_CLOSE_S + 0.1)


def run_live(
    ends: Endpoints,
    options: Options,
    *,
    stats: Stats | None = None,
    stop: threading.Event | None = None,
    monitor: Callable[[LiveSession], None] | None = None,
) -> Report:
    """Enhances faces from a camera, stream or film into a virtual camera, stream or file, as they come, until `stop`
    is set, a control says so, or a film has ended.

    Args:
        ends: what is read and written.
        options: see `rtface.Options`.
        stats: receives counters, stage times and warnings.
        stop: ends the run when set, within a second.
        monitor: called five times a second while the run lasts, for the first time when it has begun.

    Raises:
        as `LiveSession`, and `RecordingSigner.asked` before anything is opened; OutputError also for a recording that
        cannot be signed, which the report says, too; Interrupted when it is stopped before it has begun.
    """
    target = (
        check_outputs([OutputPath(options.report, "--report")], inputs=[], overwrite=options.overwrite)[0]
        if options.report
        else None
    )
    signer = RecordingSigner.asked(options, ends.sinks)
    stats, controls = (
        stats or Stats(),
        LiveControls(locked=locked_controls(), **{name: getattr(options, name) for name in having(Trait.CONTROL)}),
    )
    controls.stop = stop or controls.stop
    began = perf_counter()
    with closing(_begun(ends, options, stats, controls)) as live:
        pumping = perf_counter()
        report = Report(
            ends.source.described,
            ends.sinks[0].described,
            __version__,
            options.engine,
            options.device,
            options=report_options(options),
            first_frame_s=round(perf_counter() - began, 3),
            notes=ends.notes,
        )
        if monitor is not None:
            monitor(live)
        live.until_stopped(monitor)
        report.fps = round(stats.counters["frames_out"] / max(perf_counter() - pumping, 1e-3), 2)
        live.fill(report)
    report.seconds = round(perf_counter() - began, 3)
    try:
        if signer is not None:
            report.notes += signer.sign(ends.film or (ends.names or (ends.source.described,))[0], report, stats.started)
    except OutputError as error:
        report.ended_by(error)
        raise
    finally:
        if target is not None:
            report.save(target)
    return report


def _begun(ends: Endpoints, options: Options, stats: Stats, controls: LiveControls) -> LiveSession:
    """Starts a run. Opening may take ten seconds and loading as long; a stop does not wait for either."""
    promise = call_in_thread("begin", LiveSession, ends, options, stats, controls)
    while not wait([promise], 0.05).done:
        if controls.stop.is_set():
            ends.close()
            promise.add_done_callback(lambda done: done.exception() or done.result().close())
            raise Interrupted("stopped before the first frame")
    return promise.result()
