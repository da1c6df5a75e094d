"""One frame's path through a run: the adapters of the run and the chain of steps. Read `chain`, top to bottom."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

from rtface.analysis.analyzer import read_treatments
from rtface.concurrency import buffer, close_with
from rtface.engine.engine_set import LIGHT
from rtface.enhance.film import FilmEnhancer
from rtface.errors import EngineError
from rtface.frame import Frame
from rtface.options import Options
from rtface.pipeline.compare import Comparison
from rtface.pipeline.runtime import asked_by, may_take_gpu, open_runtime
from rtface.pipeline.track_step import track
from rtface.protocols import Item, Runtime, Tracker
from rtface.stats import FAULTS_IN_A_ROW, Stats
from rtface.tracking import create_tracker
from rtface.util.av_gpu import on_gpu

# Frames that may wait on each side of the enhancement. Enough to ride out an encoder's or decoder's hiccup; more
# would only hold memory (1080p at 10 bit is 6 MB a frame). Of large frames fewer wait, by their bytes.
WAITING = 8

# Memory for failed frames that are held back. With large frames fewer failures in a row end a run, but
# at least HELD_LEAST.
_HELD_BYTES = 512 << 20
HELD_LEAST = 10


@dataclass(frozen=True, slots=True)
class Threads:
    """One budget for the whole run, so that decoder, engine, encoder and OpenCV do not each take every core.

    Attributes:
        beside: for engines that are not recurrent and may be slow; live they work in the background.
        picture: for OpenCV.
    """

    decode: int
    engine: int
    beside: int
    encode: int
    picture: int

    @classmethod
    def plan(cls, asked: int | None) -> Threads:
        """Shares out `asked` cores, or all that this process may use."""
        cores = asked or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        # One core is left to the threads that track, correct and encode beside the engine: measured on two cores,
        # rtface-s gains 8 % of speed by that and rtface-m loses nothing.
        most = max(1, cores - 1)
        return cls(decode=min(cores, 4), engine=most, beside=most, encode=cores, picture=max(1, cores // 4))

    @classmethod
    def live(cls, asked: int | None) -> Threads:
        """For a live run: while an engine works on a frame nothing else does, as the next has not come yet."""
        plan = cls.plan(asked)
        return replace(plan, engine=plan.encode)


@dataclass(slots=True)
class RunAdapters:
    """The adapters of one run."""

    runtime: Runtime
    tracker: Tracker
    enhance: FilmEnhancer

    @classmethod
    def open(cls, options: Options, threads: Threads, stats: Stats, stack: ExitStack,
             progress: Callable[[str, float], None] | None = None) -> RunAdapters:
        """Loads everything; `stack` releases it, `progress` is told what is being built for a GPU.

        Raises:
            UsageError: an unknown engine, tracker or device, or a treatment file that cannot be used.
            MissingComponent: a package or model file is not there.
        """
        treatments = read_treatments(options.treatment) if options.treatment else {}
        beside = stack.enter_context(ThreadPoolExecutor(1))  # each loads for some tenths of a second
        loading = None
        if not may_take_gpu(options.device):
            loading = beside.submit(create_tracker, options.tracker, max_faces=options.max_faces,
                                    device=options.device)
            stack.callback(lambda: loading.exception() or loading.result().close())
        runtime = open_runtime(asked_by(options), options.device, stack, threads=threads.engine,
                              picture_threads=threads.picture, warn=stats.warn, progress=progress)
        if loading is not None:
            tracker = loading.result()
        else:  # its networks may run on the GPU that was taken
            tracker = create_tracker(options.tracker, max_faces=options.max_faces, gpu=runtime.networks)
            stack.callback(tracker.close)
        for treatment in treatments.values():
            if treatment.engine:
                runtime.engines.named(treatment.engine)  # a wrong name is said before any work
        return cls(runtime, tracker, FilmEnhancer(runtime, options, stats, treatments=treatments, light=LIGHT))

    def for_segment(self, options: Options, stats: Stats) -> RunAdapters:
        """The adapters of another chain of the same run: the same device and engines, but track states of its own,
        and a tracker of its own that is told of scene changes (close it)."""
        tracker = create_tracker(options.tracker, max_faces=options.max_faces, cuts=False, gpu=self.runtime.networks)
        tracker.watchful = self.tracker.watchful
        return replace(self, tracker=tracker, enhance=FilmEnhancer(self.runtime, options, stats, light=LIGHT))

    def restart(self, options: Options, stats: Stats) -> None:
        """Forgets every track: the next frames belong to another segment of the film."""
        self.tracker.reset()
        self.enhance = FilmEnhancer(self.runtime, options, stats, light=LIGHT)


def chain(source: Iterator[Item], adapters: RunAdapters, stats: Stats, *,
          comparison: Comparison | None = None, waiting: int = WAITING,
          stop: Callable[[], bool] | None = None) -> Generator[Item, None, None]:
    """Decode │ track │ enhance │ encode (the caller): one thread each, up to `waiting` items between them.

    Where `stop` returns True while the source blocks, iteration ends after the items already read.
    """
    with ExitStack() as stack:
        items: Iterator[Item] = close_with(stack, buffer(timed(source, stats), waiting, name="decode", weigh=bytes_of,
                                                         stop=stop))
        if comparison:
            items = comparison.remember(items)
        items = track_and_enhance(items, adapters, stats, stack)
        if comparison:
            items = comparison.complete(items)
        yield from close_with(stack, buffer(items, waiting, name="enhance", weigh=bytes_of))


def track_and_enhance(items: Iterator[Item], adapters: RunAdapters, stats: Stats, stack: ExitStack) -> Iterator[Item]:
    """Track │ enhance: the steps that keep state from frame to frame. Close `stack` after
    iterating: that ends the tracking thread."""
    items = split_fields(items)
    tracked = track(items, adapters.tracker, adapters.runtime.device, stats)
    items = close_with(stack, buffer(tracked, 2, name="track", weigh=bytes_of))
    items = adapters.enhance(items)
    return join_fields(items)


def bytes_of(item: Item) -> int:
    """What a frame or packet takes in memory."""
    if isinstance(item, Frame):
        return sum(plane.buffer_size for plane in item.image.planes)
    return item.packet.size


def timed(items: Iterator[Item], stats: Stats) -> Iterator[Item]:
    """Times how long each item takes to come."""
    iterator = iter(items)
    while True:
        with stats.time("decode"):
            item = next(iterator, None)
        if item is None:
            return
        yield item


def end_at_faults(items: Iterable[Item], stats: Stats, *, hold: bool = True) -> Iterator[Item]:
    """Ends a run in which frame after frame fails, in the tracker or in the enhancement.

    Failed frames are counted in order of presentation, whatever chain worked on them. They are held back until one
    succeeds, so that what was written before the error ends where the first of them begins.

    Args:
        items: finished frames and packets, before stages draw on them.
        stats: knows what the last fault was.
        hold: False hands failed frames on at once.

    Raises:
        EngineError: `FAULTS_IN_A_ROW` frames failed without a success between them; fewer of large frames.
    """
    held: list[Item] = []
    faults = held_bytes = 0
    last = ""  # the step that failed last, until one succeeds
    for item in items:
        if not isinstance(item, Frame):
            if held:
                held.append(item)
            else:
                yield item
            continue
        size = sum(plane.buffer_size for plane in item.image.planes) if hold and not on_gpu(item.image) else 0
        step = "tracker" if not item.tracked else "enhance" if item.failed else ""
        faults += bool(step)
        if faults >= (FAULTS_IN_A_ROW if not size else max(HELD_LEAST, min(FAULTS_IN_A_ROW, _HELD_BYTES // size))):
            what, other = ("searched for faces", "--tracker") if step == "tracker" else ("enhanced", "--engine")
            raise EngineError(f"{faults} frames in a row could not be {what}, the last because of: {stats.last_fault}; "
                              f"rtface doctor checks trackers and engines, {other} chooses another")
        # Undecided: it failed, or has no face to enhance, which does not show that the engine works again.
        undecided = step or (last == "enhance" and not item.touched)
        last = step or (last if undecided else "")
        if undecided and size and (held or step) and held_bytes + size <= _HELD_BYTES:
            held.append(item)
            held_bytes += size
            continue
        if not undecided:
            faults = 0
        yield from held
        held.clear()
        held_bytes = 0
        yield item
    yield from held


def split_fields(items: Iterator[Item]) -> Iterator[Item]:
    """Replaces an interlaced frame by its two fields, in the order of time, which share one image."""
    for item in items:
        if isinstance(item, Frame) and item.display.fields != "progressive":
            # The second field may be tracked while the first is written to: their memory must stay where it is. (On a
            # GPU it does.)
            if not on_gpu(item.image):
                item.image.make_writable()
            yield replace(item, field=0)
            yield replace(item, field=1, cut=False)
        else:
            yield item


def join_fields(items: Iterator[Item]) -> Iterator[Item]:
    """Two fields become again the picture that they share."""
    first: Frame | None = None
    for item in items:
        if isinstance(item, Frame) and item.field == 0:
            first = item
        elif isinstance(item, Frame) and item.field == 1:
            touched = item.touched or (first is not None and first.touched)
            corrected = item.corrected or (first is not None and first.corrected)
            faces, unfollowed, tracked = item.faces, item.unfollowed, item.tracked
            if first is not None:
                faces, unfollowed = faces or first.faces, first.unfollowed + unfollowed
                tracked = tracked and first.tracked
            failed = item.failed or (first is not None and first.failed)
            yield replace(item, field=None, touched=touched, corrected=corrected, faces=faces, unfollowed=unfollowed,
                          tracked=tracked, failed=failed)
        else:
            yield item
