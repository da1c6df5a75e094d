"""A film worked on in several places at once.

One chain follows a face from frame to frame, one frame after the other: a GPU, or many cores, have little to do. Here
the film is dealt out in pieces of some seconds to several chains on the same device and engines, and taken from them
in order again. It is decoded once, by one decoder, so every input that can be read can be dealt out, and every frame
is the one that a single chain would have had.

A piece ends at a scene change where there is one, because there every chain forgets its faces. Elsewhere the next
piece has a lead-in: copies of the last pictures before it, on which tracks, filters, treatments and the engines' memory
settle. By them its tracks are known again: the same boxes on the same pictures are the same face.
"""

from __future__ import annotations

import logging
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
from rtface.frame import Frame
from rtface.options import EnhanceOptions
from rtface.pipeline.build import RunParts, open_tracker, segment_parts
from rtface.pipeline.chain import WAITING, bytes_of, timed, track_and_enhance
from rtface.pipeline.segment_plan import LEAST, SegmentPlan, Sight, cuts_found, same_tracks
from rtface.protocols import Item, Tracker
from rtface.stats import Stats
from rtface.util.av_arrays import copy_image
from rtface.util.av_gpu import on_gpu, software

log = logging.getLogger("rtface")

# Packets that are among the pictures under work may take so much.
PACKET_BYTES = 64 << 20


def in_segments(source: Iterator[Item], parts: RunParts[FilmEnhancer], options: EnhanceOptions, stats: Stats,
                plan: SegmentPlan, stop: Callable[[], bool] | None = None) -> Generator[Item, None, None]:
    """What `chain` gives, from several chains: frames in order of pts and packets in demux order.

    Track ids go on from segment to segment, and `parts.enhance.tracks` gets the figures of all
    tracks. Raises as `chain`: what a chain raised comes after everything before it.
    """
    log.info("the film is worked on in %d places at once, in pieces of up to %d frames", plan.chains, plan.length)
    with ExitStack() as stack:
        yield from _Dealer(source, parts, options, stats, plan, stop, stack).items()


class _Piece:
    """A piece of the film in a chain's hands.

    Attributes:
        todo: what the chain is given, None at the end.
        done: what it has done, None at the end; without the lead-in.
        leads: pictures of its lead-in.
        met: the faces that it saw on them, as far as it has come.
        names: the run's track ids by its own; None until its first picture.
        frames: pictures that it was given, without the lead-in.
        over: set where nobody wants it any more.
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


class _Dealer:
    """Deals a film out and takes it in again, in one thread; the chains have theirs."""

    def __init__(self, source: Iterator[Item], parts: RunParts[FilmEnhancer], options: EnhanceOptions, stats: Stats,
                 plan: SegmentPlan, stop: Callable[[], bool] | None, stack: ExitStack) -> None:
        self._runtime, self._tracks = parts.runtime, parts.enhance.tracks
        self._options, self._stats, self._plan = options, stats, plan
        self._trackers: queue.SimpleQueue[Tracker] = queue.SimpleQueue()  # one for each chain
        for _ in range(plan.chains):
            # Scene changes are found before the segments, by `cuts_found`.
            tracker = open_tracker(options, stack, cuts=False, gpu=self._runtime.networks)
            tracker.watchful = parts.tracker.watchful
            self._trackers.put(tracker)
        self._pieces: deque[_Piece] = deque()  # from the one that is taken in to the one that is dealt out
        self._pool = ThreadPoolExecutor(plan.chains, thread_name_prefix="rtface-segment")
        stack.callback(self._end)
        self._source = close_with(stack, buffer(cuts_found(timed(source, stats), self._runtime.device), WAITING,
                                                name="decode", weigh=bytes_of, stop=stop))
        self._failure: Exception | None = None
        self._ended = False
        self._frames = self._packet_bytes = 0  # in the window
        self._tail: list[Frame] = []  # the lead-in of the next piece, should it begin now
        self._seen: deque[Sight] = deque(maxlen=plan.lead_in)
        self._last_id = 0

    def items(self) -> Iterator[Item]:
        """Deals out a frame for every one that is taken in, and more while nothing is ready."""
        while True:
            room = not self._ended and self._room()
            if room:
                self._deal()
            elif not self._pieces:
                break
            if self._pieces and (not room or not self._pieces[0].done.empty()):
                item = self._take()
                if item is not None:
                    yield item
        if self._failure:
            raise self._failure

    def _room(self) -> bool:
        copies = len(self._tail) + sum(piece.leads - len(piece.met) for piece in self._pieces)
        # A chain gives nothing before it has what it looks ahead to, however many packets lie between.
        return ((self._frames + copies < self._plan.window or self._frames < LEAST)
                and (self._packet_bytes < PACKET_BYTES or self._frames < LEAST + FRAMES))

    # -- out ----------------------------------------------------------------------------------------------------

    def _deal(self) -> None:
        try:
            item = next(self._source, None)
        except Exception as error:  # noqa: BLE001 - raised when everything before it was taken in
            self._failure, item = error, None
        if item is None:
            self._ended = True
            if self._pieces:
                self._pieces[-1].todo.put(None)
            return
        if isinstance(item, Frame):
            self._frames += 1
            self._place(item)
        else:
            self._packet_bytes += item.packet.size
        if not self._pieces:
            self._begin()
        self._pieces[-1].todo.put(item)

    def _place(self, frame: Frame) -> None:
        """Begins a new piece where the frame needs one, and keeps a copy of it where the next may need that."""
        plan, piece = self._plan, self._pieces[-1] if self._pieces else None
        if frame.cut:
            self._tail.clear()
        if piece is None or piece.frames >= (plan.shortest if frame.cut else plan.length):
            if piece is not None:
                piece.todo.put(None)
            piece = self._begin()
        piece.frames += 1
        if piece.frames > plan.length - plan.lead_in:
            image = software(frame.image) if on_gpu(frame.image) else copy_image(frame.image)
            self._tail.append(replace(frame, image=image, lead_in=True))

    def _begin(self) -> _Piece:
        piece = _Piece()
        piece.leads = len(self._tail)
        for frame in self._tail:
            piece.todo.put(frame)
        self._tail.clear()
        piece.work = self._pool.submit(self._work, piece)
        self._pieces.append(piece)
        return piece

    def _work(self, piece: _Piece) -> TrackStore:
        """What a thread of the pool does with a piece."""
        tracker = self._trackers.get()
        try:
            parts = segment_parts(self._runtime, tracker, self._options, self._stats)
            with ExitStack() as stack:
                items = track_and_enhance(piece.fed(), parts, self._stats, stack)
                stack.callback(piece.give_up)
                for item in items:
                    if isinstance(item, Frame) and item.lead_in:
                        piece.met.append((item.pts, item.faces))
                    else:
                        piece.done.put(item)
            return parts.enhance.tracks
        finally:
            piece.done.put(None)
            self._trackers.put(tracker)

    # -- in -----------------------------------------------------------------------------------------------------

    def _take(self) -> Item | None:
        """The next item of the piece in front; None behind its last, which puts the next one there."""
        piece = self._pieces[0]
        item = piece.take()
        if item is None:
            self._tracks.absorb(piece.work.result(), piece.names or {})
            self._pieces.popleft()
            return None
        if isinstance(item, Frame):
            self._frames -= 1
            return self._named(item, piece)
        self._packet_bytes -= item.packet.size
        return item

    def _named(self, frame: Frame, piece: _Piece) -> Frame:
        """The frame with its faces under the run's ids."""
        if piece.names is None:
            piece.names = same_tracks(self._seen, piece.met)
        for number in sorted(face.track_id for face in frame.faces):
            if number not in piece.names:
                self._last_id += 1
                piece.names[number] = self._last_id
        names = piece.names
        frame = replace(frame, faces=tuple(replace(f, track_id=names[f.track_id]) for f in frame.faces),
                        unfollowed=tuple(replace(f, track_id=names.get(f.track_id, 0)) for f in frame.unfollowed))
        self._seen.append((frame.pts, frame.faces))
        return frame

    def _end(self) -> None:
        """Sends the chains home; what they have in hand is given up."""
        for piece in self._pieces:
            piece.give_up()
        self._pool.shutdown(cancel_futures=True)
