"""Processes several segments of a film at the same time (`--segments`).

One chain follows a face from frame to frame, which leaves a GPU, or many cores, mostly idle. Here one
decoder reads the film, several chains on the same device and engines process segments of some seconds,
and their frames are put in order again. Every frame is the one that a single chain would have had.

A segment ends at a scene change where there is one, because there every chain forgets its faces.
Elsewhere the next segment has a lead-in: copies of the last frames before it, on which tracks, filters,
treatments and the memory of engines settle. Its tracks get the run's ids by them: faces with the same
boxes on the same frames are the same face.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

from rtface.analysis.look_ahead import FRAMES
from rtface.concurrency import buffer, close_with
from rtface.enhance.film import FilmEnhancer
from rtface.enhance.track_store import TrackStore
from rtface.errors import log
from rtface.frame import Frame
from rtface.pipeline.build import FilmNetworks, RunParts, film_parts, open_tracker
from rtface.pipeline.chain import bytes_of, timed, track_and_enhance
from rtface.pipeline.plan import FramePlan
from rtface.pipeline.segment_plan import MIN_WINDOW_FRAMES, SegmentPlan, Sight, cuts_found, same_tracks
from rtface.pipeline.threads import WAITING
from rtface.protocols import Item, Tracker
from rtface.stats import Stats
from rtface.util.av_arrays import copy_image
from rtface.util.av_gpu import on_gpu, software

# Bytes that the packets between the frames of the window may take.
PACKET_BYTES = 64 << 20


def in_segments(
    source: Iterator[Item],
    parts: RunParts[FilmEnhancer],
    frames: FramePlan,
    stats: Stats,
    plan: SegmentPlan,
    stop: Callable[[], bool] | None = None,
) -> Generator[Item, None, None]:
    """What `chain` gives, from several chains: frames in order of pts and packets in demux order.

    Track ids go on from segment to segment, and `FilmEnhancer.tracks` of `parts` gets the figures of all
    tracks. Raises as `chain`: what a chain raised comes after everything before it.
    """
    log.info("%d segments of up to %d frames are processed at the same time", plan.chains, plan.length)
    with ExitStack() as stack:
        yield from _SegmentScheduler(source, parts, frames, stats, plan, stop, stack).items()


class _Segment:
    """A segment of the film and the chain's results for it.

    Attributes:
        todo: input of the chain; None ends it.
        done: output of the chain, without the lead-in; None ends it.
        leads: frames of the lead-in.
        met: the faces of its lead-in, as far as the chain has come.
        names: the run's track ids by the chain's; None until its first frame.
        frames: frames of its input, without the lead-in.
        over: set when the run ends early.
    """

    def __init__(self) -> None:
        self.todo: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self.leads = 0
        self.met: list[Sight] = []
        self.names: dict[int, int] | None = None
        self.frames = 0
        self.over = False
        self.work: Future[TrackStore]

    def fed(self) -> Iterator[Item]:
        while (item := self.todo.get()) is not None and not self.over:
            yield item

    def give_up(self) -> None:
        self.over = True
        self.todo.put(None)

    def take(self) -> Item | None:
        while True:
            try:  # in slices, so that a signal handler in the main thread gets its turn on every platform
                return self.done.get(timeout=0.2)
            except queue.Empty:
                continue


class _SegmentScheduler:
    """Distributes a film to chains and collects their frames, in one thread; the chains have theirs."""

    def __init__(
        self,
        source: Iterator[Item],
        parts: RunParts[FilmEnhancer],
        frames: FramePlan,
        stats: Stats,
        plan: SegmentPlan,
        stop: Callable[[], bool] | None,
        stack: ExitStack,
    ) -> None:
        self._runtime, self._enhance, self._watchful = parts.runtime, parts.enhance, parts.watchful
        self._planned, self._stats, self._plan = frames, stats, plan
        self._trackers: queue.SimpleQueue[Tracker] = queue.SimpleQueue()  # one for each chain
        for _ in range(plan.chains):
            # Scene changes are found before the segments, by `cuts_found`.
            self._trackers.put(open_tracker(frames.options, stack, cuts=False, gpu=self._runtime.networks))
        self._segments: deque[_Segment] = deque()  # from the one that is collected to the one that is filled
        self._pool = ThreadPoolExecutor(plan.chains, thread_name_prefix="rtface-segment")
        stack.callback(self._end)
        self._source = close_with(
            stack,
            buffer(
                cuts_found(timed(source, stats), self._runtime.device),
                WAITING,
                name="decode",
                weigh=bytes_of,
                stop=stop,
            ),
        )
        self._failure: Exception | None = None
        self._ended = False
        self._frames = self._packet_bytes = 0  # in the window
        self._tail: list[Frame] = []  # the lead-in of the next segment, should it begin now
        self._seen: deque[Sight] = deque(maxlen=plan.lead_in)
        self._last_id = 0

    def items(self) -> Iterator[Item]:
        """Distributes a frame for every one that is collected, and more while nothing is ready."""
        while True:
            room = not self._ended and self._room()
            if room:
                self._distribute()
            elif not self._segments:
                break
            if self._segments and (not room or not self._segments[0].done.empty()):
                item = self._take()
                if item is not None:
                    yield item
        if self._failure:
            raise self._failure

    def _room(self) -> bool:
        copies = len(self._tail) + sum(segment.leads - len(segment.met) for segment in self._segments)
        # A chain gives nothing before it has what it looks ahead to, however many packets lie between.
        return (self._frames + copies < self._plan.window or self._frames < MIN_WINDOW_FRAMES) and (
            self._packet_bytes < PACKET_BYTES or self._frames < MIN_WINDOW_FRAMES + FRAMES
        )

    def _distribute(self) -> None:
        try:
            item = next(self._source, None)
        except Exception as error:  # noqa: BLE001 - raised when everything before it was collected
            self._failure, item = error, None
        if item is None:
            self._ended = True
            if self._segments:
                self._segments[-1].todo.put(None)
            return
        if isinstance(item, Frame):
            self._frames += 1
            self._place(item)
        else:
            self._packet_bytes += item.packet.size
        if not self._segments:
            self._begin()
        self._segments[-1].todo.put(item)

    def _place(self, frame: Frame) -> None:
        """Begins a new segment where the frame needs one, and keeps a copy of it where the next may need that."""
        plan, segment = self._plan, self._segments[-1] if self._segments else None
        if frame.cut:
            self._tail.clear()
        # At a scene change a segment may be as short as a quarter.
        if segment is None or segment.frames >= (max(1, plan.length // 4) if frame.cut else plan.length):
            if segment is not None:
                segment.todo.put(None)
            segment = self._begin()
        segment.frames += 1
        if segment.frames > plan.length - plan.lead_in:
            image = software(frame.image) if on_gpu(frame.image) else copy_image(frame.image)
            self._tail.append(replace(frame, image=image, lead_in=True))

    def _begin(self) -> _Segment:
        segment = _Segment()
        segment.leads = len(self._tail)
        for frame in self._tail:
            segment.todo.put(frame)
        self._tail.clear()
        segment.work = self._pool.submit(self._work, segment)
        self._segments.append(segment)
        return segment

    def _work(self, segment: _Segment) -> TrackStore:
        """Runs a chain over a segment, in a thread of the pool; returns its tracks."""
        tracker = self._trackers.get()
        try:
            parts = film_parts(
                FilmNetworks(tracker, self._runtime, 1),
                self._planned,
                self._stats,
                shots=self._enhance.shots,
                invented=self._enhance.invented,
            )
            with ExitStack() as stack:
                items = track_and_enhance(segment.fed(), replace(parts, watchful=self._watchful), self._stats, stack)
                stack.callback(segment.give_up)
                for item in items:
                    if isinstance(item, Frame) and item.lead_in:
                        segment.met.append((item.pts, item.faces))
                    else:
                        segment.done.put(item)
            return parts.enhance.tracks
        finally:
            segment.done.put(None)
            self._trackers.put(tracker)

    def _take(self) -> Item | None:
        """The next item of the first segment; None after its last, which removes the segment."""
        segment = self._segments[0]
        item = segment.take()
        if item is None:
            self._enhance.tracks.absorb(segment.work.result(), segment.names or {})
            self._segments.popleft()
            return None
        if isinstance(item, Frame):
            self._frames -= 1
            return self._named(item, segment)
        self._packet_bytes -= item.packet.size
        return item

    def _named(self, frame: Frame, segment: _Segment) -> Frame:
        """The frame with its faces under the run's ids."""
        if segment.names is None:
            segment.names = same_tracks(self._seen, segment.met)
        for number in sorted(face.track_id for face in frame.faces):
            if number not in segment.names:
                self._last_id += 1
                segment.names[number] = self._last_id
        names = segment.names
        frame = replace(
            frame,
            faces=tuple(replace(f, track_id=names[f.track_id]) for f in frame.faces),
            unfollowed=tuple(replace(f, track_id=names.get(f.track_id, 0)) for f in frame.unfollowed),
        )
        self._seen.append((frame.pts, frame.faces))
        return frame

    def _end(self) -> None:
        """Ends the chains; their unfinished frames are dropped."""
        for segment in self._segments:
            segment.give_up()
        self._pool.shutdown(cancel_futures=True)
