"""Opens, runs and reports a live run."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from fractions import Fraction
from functools import partial
from time import perf_counter
from typing import Any

import av

from rtface._version import __version__
from rtface.concurrency.child_process import processor_seconds
from rtface.concurrency.threads import call_in_thread, start_thread
from rtface.config.options import LIVE_FACES, Options, Trait, having, locked, locked_error
from rtface.engine.engine_set import LIGHT
from rtface.enhance.corrector import Helpers
from rtface.enhance.identity_guard import LIVE_S, IdentityGuard
from rtface.enhance.live import LiveEnhancer
from rtface.enhance.runtime_switch import RuntimeSwitch
from rtface.errors import Interrupted, OutputError, RestartNeeded, UsageError
from rtface.frame import Display, Frame
from rtface.live.control.status import LiveStatus
from rtface.live.controls import LiveControls
from rtface.live.frame_filters import FrameFilters
from rtface.live.frame_loop import FrameLoop
from rtface.live.output_scheduler import OutputScheduler
from rtface.live.persons_in_view import PersonsInView
from rtface.live.protocols import SoundPacket, VideoFormat
from rtface.live.reshape import Turn
from rtface.live.run_state import CLOSE_S, FILE_S, Endpoints, RunState
from rtface.live.sign_recordings import RecordingSigner
from rtface.live.sinks.record_sink import RecordSink
from rtface.live.sound_gap_filler import SoundGapFiller
from rtface.media.files.outputs import OutputPath, check_outputs
from rtface.media.read.enlarge import Enlarger
from rtface.persons.recogniser import PersonRecogniser
from rtface.pipeline.build import open_coded
from rtface.pipeline.build_live import live_engine, live_tracker_and_runtime
from rtface.pipeline.persons import open_guard, open_persons
from rtface.protocols import Tracker
from rtface.quality.governor import QualityGovernor
from rtface.quality.processor_budget import ProcessorBudget
from rtface.report import Report, report_options
from rtface.stats import Stats
from rtface.util.machine import cores


class LiveSession:
    """A live run, from its construction until `close`.

    Failures after the start are counted, but do not end the run: a lost source or sink is reopened, and a frame whose
    step fails passes unchanged.

    Args:
        ends: endpoints that are not open yet; `close` closes them.
        options: engine, device, tracker, latency, delay …; strength and light come from the controls.
        stats: receives counters, stage times and warnings.
        controls: settings that can change during the run.

    Attributes:
        loop, enhance, scheduler: steps of the run.
        governor: chooses the quality level of each face under load.
        filters: light, stages, preview.
        persons: persons in view, if they are recognised.
        status: state and figures for the status line and the control endpoint.

    Raises:
        UsageError, InputError, OutputError, MissingComponent, EngineError: an endpoint or engine cannot be opened.
    """

    def __init__(self, ends: Endpoints, options: Options, stats: Stats, controls: LiveControls) -> None:
        self.ends, self.stats, self.controls = ends, stats, controls
        # "always" is set in the controls, where the user can turn it off again.
        correct = "auto" if controls.always else options.correct
        self.options = replace(options, max_faces=options.max_faces or LIVE_FACES, correct=correct)
        self._ready = self._resting = False
        self._filler: SoundGapFiller | None = None
        self._closing, self._enlarger = ExitStack(), Enlarger(options.scale)
        self._turn = Turn(int(options.turn), options.mirror)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        ends, options, stats, controls, closing = self.ends, self.options, self.stats, self.controls, self._closing
        with ThreadPoolExecutor(1, "rtface-load") as loader:  # loads while the camera opens, which takes as long
            loading = loader.submit(self._load)
            if options.person:  # an unusable photo must end the run before an output is opened
                loading.result()
            ends.source.hold(True)  # otherwise a film would lose frames while outputs and engine open
            source_sound = ends.sound is None and not ends.silent
            ends.source.start(self._receive_frame, self._receive_sound if source_sound else lambda _: None)
            if ends.sound is not None:
                ends.sound.start(lambda _: None, self._receive_sound)
            video_format, sound = self._output_format(ends.source.video_format), ends.sound_format
            for sink in ends.sinks:
                sink.open(video_format, sound=sound)
            tracker, switch, persons, guard = loading.result()
        delay = None if options.delay is None else options.delay / 1e3
        ceiling = max(options.latency / 1e3, (delay or 0.0) - ends.buffer)  # processing may use the whole delay
        period = float(1 / video_format.rate)
        budget = ProcessorBudget(controls, cores(), processor_seconds, period)
        self.governor = QualityGovernor(period, ceiling, light=LIGHT, budget=budget)
        self.enhance = LiveEnhancer(
            switch,
            options,
            stats,
            self.governor,
            helpers=Helpers(LIGHT, persons, open_coded(stats, 1, light=True), guard),
        )
        load_persons = partial(open_persons, options, stats, wanted=True, keep_faces=0)
        self.persons = PersonsInView(self.enhance, load_persons, controls)
        recorded = any(isinstance(sink, RecordSink) for sink in ends.sinks)
        self.filters = FrameFilters(options, stats, recorded=recorded)
        closing.callback(self.filters.close)
        self.filters.stages.check_tracker(options.tracker)
        self._state = RunState(ends, controls, stats, self.filters.preview, video_format, delay)
        self.status = LiveStatus(
            self._state, self.governor, self.persons, tracks=self.enhance.tracks, guard=guard, light=self.filters.light
        )
        self.scheduler = OutputScheduler(self._state, self.filters, self.status)
        closing.callback(self.scheduler.close)
        self.scheduler.start()
        self.loop = FrameLoop(self._state, tracker, self.enhance, self.governor, self.filters, self.scheduler)
        closing.callback(self.loop.close)
        gc.freeze()  # garbage collections then skip the loaded objects, which stay alive
        self.loop.start()
        if sound is not None:
            self._filler = SoundGapFiller(sound, ends.sound or ends.source, self.scheduler)
            closing.callback(self._filler.close)
            self._filler.start()
        self._ready = True
        ends.source.hold(False)

    def _load(self) -> tuple[Tracker, RuntimeSwitch, PersonRecogniser | None, IdentityGuard | None]:
        tracker, switch = live_tracker_and_runtime(self.options, self.stats, self._closing)
        persons = open_persons(self.options, self.stats, keep_faces=0)
        return tracker, switch, persons, open_guard(self.options, self.stats, period=LIVE_S)

    def _receive_frame(self, frame: Frame) -> None:
        """Forwards a frame from the source to the frame loop. Drops it while outputs and engine are opening."""
        if self._ready:
            if self._filler is not None:
                self._filler.begin(frame.time)
            with self.stats.tolerate("turn"):
                frame = self._turn(frame)
            with self.stats.tolerate("scale", "new frames are not enlarged; outputs keep their size"):
                frame = self._enlarger(frame)
            self.loop.put(frame)

    def _output_format(self, form: VideoFormat) -> VideoFormat:
        """Returns the format of the source's frames after turning and enlarging."""
        image, display = av.VideoFrame(form.width, form.height, form.pix_fmt), Display(aspect=form.aspect)
        enlarged = self._enlarger(self._turn(Frame(image, 0, Fraction(1), color=form.color, display=display)))
        size, aspect = (enlarged.image.width, enlarged.image.height), enlarged.display.aspect
        return replace(form, width=size[0], height=size[1], pix_fmt=enlarged.image.format.name, aspect=aspect)

    def _receive_sound(self, packet: SoundPacket) -> None:
        if self._filler is not None:  # the outputs are open and accept sound
            self._filler.put(packet)

    def follow_viewers(self) -> None:
        """Lets the source rest while neither outputs nor the preview have viewers."""
        resting = not (self._state.watched or self.filters.needs_faces)
        if resting != self._resting:
            self._resting = resting
            self.ends.source.rest(resting)

    def until_stopped(self, monitor: Callable[[LiveSession], None] | None = None) -> None:
        """Waits until the run is stopped or a film ends. Calls `monitor` in the meantime.

        If no frame of a stream may be dropped, everything that the stream sent before the stop is still written.
        """
        while not self.controls.stop.wait(0.2):
            self.follow_viewers()
            if self.ends.source.ended:
                self.loop.drain(2.0)
                self.scheduler.drain(2.0 + (self.options.delay or 0) / 1e3)
                return
            if monitor is not None:
                monitor(self)
        if self.ends.whole:  # frames in the jitter buffer are still written
            time.sleep(self.ends.source.health.buffer)

    def report(self, opened: tuple[str, str], **values: Any) -> Report:
        """Returns the figures of the run so far.

        Args:
            opened: descriptions of source and output at the start.
            values: other fields of the report.
        """
        engine, device = self.enhance.runtime.engines.described
        status = self.status.snapshot()
        report = Report(
            *opened,
            __version__,
            engine,
            device,
            decoder=self.ends.source.described,
            encoder=opened[1],
            frames_out=self.stats.counters["frames_out"],
            tracks=self.enhance.tracks.reports(self.stats.started),  # frame times are on the monotonic clock
            passed={cause: n for cause, n in status["passed"].items() if n},
            ends=[end for end in (status["source"], status["sound"], *status["sinks"]) if end],
            cpu_share=round(self.status.processor.run_share, 3),
            ladder=[asdict(step) for step in self.governor.steps],
            **values,
        )
        report.fill(self.stats)
        report.dropped = {cause: n for cause, n in status["dropped"].items() if n}
        report.frames_dropped = sum(report.dropped.values())
        return report

    def close(self) -> None:
        """Ends the run within a second, or when recordings are complete. Safe to call twice."""
        thread = start_thread("ends", self.ends.close)
        self._closing.close()
        thread.join(CLOSE_S + FILE_S)


def run_live(
    ends: Endpoints,
    options: Options,
    *,
    stats: Stats | None = None,
    stop: threading.Event | None = None,
    monitor: Callable[[LiveSession], None] | None = None,
) -> Report:
    """Enhances the faces of a camera, stream or film live. Writes to a virtual camera, stream or file, until `stop` is
    set, a control ends the run, or a film has ended.

    Args:
        ends: source and sinks.
        options: options of the run; see `rtface.Options`.
        stats: receives counters, stage times and warnings.
        stop: ends the run within a second when set.
        monitor: called when the run has started, and then five times a second.

    Raises:
        The errors of `LiveSession`, and those of `RecordingSigner.asked` before anything is opened. OutputError also if
        a recording cannot be signed; the report states this, too. Interrupted if the run is stopped before it starts.
    """
    target = (
        check_outputs([OutputPath(options.report, "--report")], inputs=[], overwrite=options.overwrite)[0]
        if options.report
        else None
    )
    signer = RecordingSigner.asked(options, ends.sinks)
    stats, values = stats or Stats(), {name: getattr(options, name) for name in having(Trait.CONTROL)}
    fixed: dict[str, UsageError] = {name: locked_error(name) for name in locked()}
    if any(isinstance(sink, RecordSink) for sink in ends.sinks):
        message = "the recording's metadata states the look; restart the run to change it"
        fixed.setdefault("look", RestartNeeded(message, code="look_recording"))
    always, began = options.correct == "always", perf_counter()
    controls = LiveControls(always=always, locked=fixed, engine=live_engine(options), stop=stop, **values)
    with closing(_start_session(ends, options, stats, controls)) as live:
        started = perf_counter()
        descriptions = ends.source.described, ends.sinks[0].described
        if monitor is not None:
            monitor(live)
        live.until_stopped(monitor)
        report = live.report(
            descriptions,
            fps=round(stats.counters["frames_out"] / max(perf_counter() - started, 1e-3), 2),
            first_frame_s=round(started - began, 3),
            options=report_options(options),
        )
    report.seconds = round(perf_counter() - began, 3)
    report.notes += ends.notes  # includes the path of an incomplete recording
    try:
        if signer is not None:
            report.notes += signer.sign(ends.film or ends.titles[0], report)
    except OutputError as error:
        report.ended_by(error)
        raise
    finally:
        if target is not None:
            report.save(target)
    return report


def _start_session(ends: Endpoints, options: Options, stats: Stats, controls: LiveControls) -> LiveSession:
    """Starts a run. Opening and loading may take ten seconds each, but a stop takes effect at once."""
    future = call_in_thread("begin", LiveSession, ends, options, stats, controls)
    while not wait([future], 0.05).done:
        if controls.stop.is_set():
            ends.close()
            future.add_done_callback(lambda finished: finished.exception() or finished.result().close())
            raise Interrupted("stopped before the first frame", code="live_stopped")
    return future.result()
