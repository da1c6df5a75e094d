"""One job from input to output: decides, runs the chain, and leaves something whole however it ends.

With the command line this is the only module that knows every adapter; `rtface.chain` is the way of a frame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from rtface import __version__
from rtface.chain import Parts, Threads, chain, split_fields
from rtface.compare import Comparison
from rtface.config import Options
from rtface.device.cpu import CpuDevice
from rtface.enhance import track
from rtface.errors import Interrupted, RtfaceError, UsageError
from rtface.faces import FaceChoice
from rtface.flow import buffer
from rtface.frame import Frame
from rtface.media.file_sink import FileSink
from rtface.media.source import FileSource, open_source
from rtface.media.stream_plan import plan_output
from rtface.pairs import PairSink, open_pairs
from rtface.progress import Progress
from rtface.protocols import Item
from rtface.provenance import describe
from rtface.report import Report, TrackReport, peak_rss_mb
from rtface.stats import Stats
from rtface.track import create_tracker
from rtface.tracks import TrackBook
from rtface.values import format_time

Show = Callable[[Progress], None]


def run_file(input: Path, output: Path, options: Options, *, stats: Stats | None = None, progress: Show | None = None,
             stop: threading.Event | None = None) -> Report:
    """Enhances the faces of one film, still or folder.

    Args:
        input: whatever PyAV opens, a still, or a folder of stills.
        output: file or folder; a file's extension names its kind.
        options: see `rtface.Options`.
        stats: receives counters, stage times and warnings; a new one without.
        progress: called after every frame.
        stop: ends the run when set: what was done is left as a whole, playable file whose name says partial.

    Raises:
        UsageError, InputError, OutputError, MissingComponent, EngineError: see `rtface.errors`.
        Interrupted: `stop` was set; carries the partial file and where to go on from.
    """
    stats, stop = stats or Stats(), stop or threading.Event()
    if options.sequence and not input.is_dir():
        raise UsageError(f"{input} is not a folder: --sequence makes a film of a folder of stills")
    from rtface.stills import is_stills_job, run_stills

    if is_stills_job(input, output, options):
        return run_stills(input, output, options, stats=stats, progress=progress, stop=stop)
    return _run_film(input, output, options, stats, progress, stop)


def _run_film(input: Path, output: Path, options: Options, stats: Stats, progress: Show | None,
              stop: threading.Event) -> Report:
    began = perf_counter()
    threads = Threads.plan(options.threads)
    with ExitStack() as stack:
        source = open_film(input, options, threads, stats)
        stack.callback(source.close)
        plan = plan_output(source.info, output, codec=options.codec, crf=options.crf, preset=options.preset,
                           strict=options.strict, overwrite=options.overwrite)
        report = Report(str(input), str(output), __version__, options.engine, options.device, notes=list(plan.notes),
                        options=_told(options))
        if options.dry_run:
            return report
        pairs = None
        if options.compare:
            pairs = open_pairs(options.compare, source.info, crf=options.crf, preset=options.preset,
                               overwrite=options.overwrite, threads=threads.encode, stats=stats)
        try:
            parts = Parts.open(options, threads, stats, stack)
            report.engine, report.device = parts.engines.described
            plan.metadata.update(describe(report.engine, __version__, options.strength, report.options))
            sink = FileSink(plan, stats=stats, threads=threads.encode)
        except BaseException:
            if pairs:
                pairs.abort()
            raise
        run = _Run(source, parts, sink, pairs, stats, stop, progress, began)
        try:
            run.to_the_end()
        finally:
            run.fill(report)
        if options.report:
            report.save(options.report)
        return report


def open_film(input: Path, options: Options, threads: Threads, stats: Stats) -> FileSource:
    """The source of a film, or of a folder that is to be one."""
    if options.sequence:
        from rtface.media.images import open_sequence

        return open_sequence(input, fps=options.fps, start=options.start, end=options.end, stats=stats)
    return open_source(input, start=options.start, end=options.end, threads=threads.decode, stats=stats,
                       strict=options.strict)


class _Run:
    """The pump between the chain and the sinks."""

    def __init__(self, source: FileSource, parts: Parts, sink: FileSink, pairs: PairSink | None, stats: Stats,
                 stop: threading.Event, progress: Show | None, began: float) -> None:
        self.source, self.parts, self.sink, self.pairs = source, parts, sink, pairs
        self.stats, self.stop, self.progress, self.began = stats, stop, progress, began
        self.frames = 0
        self.resume_at: float | None = None
        self.first_frame_s: float | None = None
        self.pumping_s = 0.0

    def to_the_end(self) -> None:
        """Pumps every item; on a stop or an error leaves a whole, playable part and says so."""
        comparison = Comparison(self.pairs.take) if self.pairs else None
        items = chain(iter(self.source), self.parts, self.stats, comparison=comparison)
        started = perf_counter()
        try:
            self._pump(items)
        except BaseException as error:
            items.close()
            self._leave_partial(error)
            raise
        finally:
            self.pumping_s = perf_counter() - started
        self.sink.finish()
        if self.pairs:
            self.pairs.finish()

    def _pump(self, items: Iterator[Item]) -> None:
        clock_start, meter = self.source.info.clock_start, _Speed()
        for item in items:
            self.sink.write(item)
            if isinstance(item, Frame):
                self.frames += 1
                self.first_frame_s = self.first_frame_s or perf_counter() - self.began
                step = item.duration * item.time_base if item.duration else 1 / self.source.info.rate
                self.resume_at = float(item.pts * item.time_base + step - clock_start)
                if self.progress:
                    done = self.resume_at - float((self.source.info.start or clock_start) - clock_start)
                    self.progress(Progress(self.frames, done, self.source.info.duration_s, meter.tick(),
                                           len(item.faces)))
            if self.stop.is_set():
                raise Interrupted("interrupted")

    def _leave_partial(self, error: BaseException) -> None:
        """Ends both sinks; the error learns where the part is and how to go on."""
        if self.pairs:
            self.pairs.abort()
        partial = self.sink.abort(keep_partial=self.frames > 0)
        if isinstance(error, Interrupted):
            error.partial, error.resume_at = partial, self.resume_at
        elif isinstance(error, RtfaceError) and partial and self.resume_at is not None:
            error.args = (f"{error}; what was done is in {partial}, go on with --start {format_time(self.resume_at)}",)

    def fill(self, report: Report) -> None:
        """The run's figures."""
        stats = self.stats
        report.frames_in, report.frames_out = stats.counters["frames_in"], self.frames
        report.frames_dropped = stats.counters["frames_dropped"]
        report.frames_with_faces = stats.counters["frames_with_faces"]
        report.frames_corrected = stats.counters["frames_corrected"]
        report.faults = stats.counters["faults"]
        report.tracks = self.parts.enhance.book.reports()
        report.seconds = round(perf_counter() - self.began, 3)
        report.fps = round(self.frames / self.pumping_s, 2) if self.pumping_s else 0.0
        report.stages_ms = stats.stages_ms()
        report.latency_ms = {k: v for k, v in report.stages_ms.get("added", {}).items() if k in ("p50", "p95", "p99")}
        report.first_frame_s = round(self.first_frame_s, 3) if self.first_frame_s is not None else None
        report.peak_rss_mb = round(peak_rss_mb(), 1)
        report.warnings = list(stats.warnings.values())


class _Speed:
    """Frames a second over about the last second."""

    def __init__(self) -> None:
        self._since, self._count, self._fps = monotonic(), 0, 0.0

    def tick(self) -> float:
        self._count += 1
        passed = monotonic() - self._since
        if passed >= 1.0 or not self._fps:
            self._fps = self._count / max(passed, 1e-3)
        if passed >= 1.0:
            self._since, self._count = monotonic(), 0
        return self._fps


def _told(options: Options) -> dict[str, Any]:
    """Options as the report shows them."""
    return {k: str(v) if isinstance(v, Path | Fraction) else v for k, v in asdict(options).items()}


def analyze_file(input: Path, options: Options, *, stats: Stats | None = None, progress: Show | None = None,
                 stop: threading.Event | None = None) -> list[TrackReport]:
    """What is wrong with each face of a film or still, and the treatment that a run would choose.

    The same tracker and analysis as a run, so the ids are the same. Raises as `run_file` does.
    """
    stats, stop = stats or Stats(), stop or threading.Event()
    threads = Threads.plan(options.threads)
    with ExitStack() as stack:
        source = open_film(input, options, threads, stats)
        stack.callback(source.close)
        device = CpuDevice(threads.picture, warn=stats.warn)
        tracker = create_tracker(options.tracker, max_faces=options.max_faces)
        stack.callback(tracker.close)
        book = TrackBook({}, exposure=options.colour == "restore", analysis=True)
        choose = FaceChoice.parse(options.faces, options.max_faces)
        items = track(split_fields(buffer(iter(source), 8, name="decode")), tracker, device, stats)
        frames, meter = 0, _Speed()
        for item in items:
            if stop.is_set():
                raise Interrupted("interrupted")
            if not isinstance(item, Frame):
                continue
            view = device.view(item)
            for face in choose(item.faces):
                book.see(face, item.time).analyzer.update(None, face, item.time, view=view)
            frames += item.field != 1
            if progress:
                done = item.time - float(source.info.start or source.info.clock_start)
                progress(Progress(frames, done, source.info.duration_s, meter.tick(), len(item.faces)))
        return book.reports()
