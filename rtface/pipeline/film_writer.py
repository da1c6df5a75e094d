"""Writes a film's frames, and leaves a playable part if interrupted."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from fractions import Fraction
from time import monotonic, perf_counter

from rtface.errors import Interrupted, Message, RtfaceError
from rtface.frame import Frame
from rtface.media.read.source import FileSource
from rtface.media.read.timeline import FrameTimes
from rtface.media.stills.images import SequenceSource
from rtface.media.write.file_sink import CompanionSink
from rtface.pipeline.progress import Progress, Show, SpeedMeter
from rtface.protocols import Item, Sink
from rtface.util.parse import format_start

# Maximum time after a stop in which frames from a pipe are finished.
_FINISH_S = 0.8


class FilmWriter:
    """Writes a film's frames, and leaves a playable part if interrupted.

    Attributes:
        times: times of the frames that were read.
        frames: number of frames written so far.
        first_frame_s: seconds from the start of the run to the first frame.
        writing_s: seconds in `write`.
    """

    def __init__(
        self,
        source: FileSource | SequenceSource,
        sink: Sink,
        stop: threading.Event,
        progress: Show | None,
        began: float,
    ) -> None:
        self.source, self.sink, self.stop = source, sink, stop
        self.progress, self.began = progress, began
        self.frames = 0
        self.times = FrameTimes()
        self._last: tuple[int, int, Fraction] | None = None  # pts, duration and time base of the last frame written
        self.first_frame_s: float | None = None
        self.writing_s = 0.0

    def write(self, items: Generator[Item, None, None]) -> None:
        """Writes all `items`. Closes `items` on failure."""
        started = perf_counter()
        ended = False  # whether every frame was passed to the sink
        try:
            self._write(items)
            ended = True
            self.sink.finish()
        except BaseException as error:
            items.close()
            interrupted = isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted)
            failure = Interrupted() if interrupted else error
            self._leave_partial(failure, ended)
            if failure is error:
                raise
            raise failure from None
        finally:
            self.writing_s = perf_counter() - started

    def _write(self, items: Iterator[Item]) -> None:
        info, meter = self.source.info, SpeedMeter()
        pipe = self.source.pipe if isinstance(self.source, FileSource) else None
        stopped: float | None = None
        for item in items:
            self.sink.write(item)
            if isinstance(item, Frame):
                self.frames += 1
                self.first_frame_s = self.first_frame_s or perf_counter() - self.began
                self._last = item.pts, item.duration, item.time_base
                if self.progress:
                    done = float(self._end - (info.start or info.clock_start))
                    self.progress(Progress(self.frames, done, info.duration_s, meter.tick(), len(item.faces)))
                    meter.leave_out()
            if self.stop.is_set():
                stopped = stopped or monotonic()
                # Frames from a pipe cannot be read again, so as many as possible are finished within `_FINISH_S`.
                if pipe is None or monotonic() - stopped > _FINISH_S:
                    raise Interrupted
        if self.stop.is_set() and (not self.times.complete or (pipe is not None and pipe.stopped)):
            raise Interrupted

    def _leave_partial(self, error: BaseException, ended: bool) -> None:
        """Ends the outputs. Adds to the error's message where the outputs are, and how to resume."""
        partial = self.sink.abort(keep_partial=self.frames > 0)
        if not isinstance(error, (RtfaceError, Interrupted)):
            return
        if partial and partial not in str(error):
            if isinstance(error, Interrupted):
                error.message = Message(
                    "{what}; the finished part is in {path}", code="interrupted_partial", what=error, path=partial
                )
            else:
                error.message += Message("; the finished part is in {path}", code="done_is_in", path=partial)
        others = self.sink.partials if isinstance(self.sink, CompanionSink) else ()
        if others := [path for path in others if path not in str(error)]:
            error.message += Message(
                "; finished parts of the other films are in {paths}", code="belonging_is_in", paths=", ".join(others)
            )
        frames_kept = self.sink.kept
        if partial and not (ended and frames_kept == self.frames):
            # Seconds from the input's start to the next frame, rounded down.
            time = self.times.of(frames_kept)
            exact = (self._end if time is None else time) - self.source.info.clock_start
            resume_at = Fraction(exact.numerator * 10**6 // exact.denominator, 10**6)
            error.partial, error.resume_at = partial, float(resume_at)
            error.hint = Message("; continue with {--start:{time}}", code="go_on_at", time=format_start(resume_at))

    @property
    def _end(self) -> Fraction:
        """End of the last frame written, in seconds of the input's clock. Before the first frame: the input's start."""
        if self._last is None:
            return self.source.info.clock_start
        pts, duration, unit = self._last
        return pts * unit + (duration * unit if duration else 1 / self.source.info.rate)
