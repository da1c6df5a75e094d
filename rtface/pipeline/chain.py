"""Chains the steps of a film: decode, track, enhance, encode."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from time import perf_counter
from typing import TypeVar

from rtface.concurrency.buffer import buffer, close_with
from rtface.enhance.film import FilmEnhancer
from rtface.errors import DeviceLost, EngineError, Interrupted, Message, OptionFlag
from rtface.frame import Face, Frame
from rtface.media.read.combs import hold_combs, luma_of
from rtface.pipeline.film_tracking import FilmTracking, Update, reads_apart
from rtface.pipeline.threads import WAITING
from rtface.protocols import Device, Item, Tracker
from rtface.stats import FAULTS_IN_A_ROW, Stats
from rtface.util.av_gpu import on_gpu
from rtface.util.machine import give_memory_back

# Maximum memory for failed frames that are held back. If frames are large, fewer failures in a row therefore end a run,
# but never fewer than MIN_HELD_FRAMES.
_HELD_BYTES = 512 << 20
MIN_HELD_FRAMES = 10
_TRIM_MEMORY_ITEMS = 100
ItemT = TypeVar("ItemT", bound=Item)


def chain(
    source: Iterator[Item],
    tracker: Tracker,
    corrector: FilmEnhancer,
    stats: Stats,
    *,
    watchful: bool = False,
    waiting: int = WAITING,
    stop: Callable[[], bool] | None = None,
) -> Generator[Item, None, None]:
    """Chains decode │ track │ enhance. The caller encodes.

    Each step has a thread, and up to `waiting` items wait between steps. If `stop` returns True while the source
    blocks, iteration ends after the items already read.
    """
    with ExitStack() as stack:
        items: Iterator[Item] = close_with(
            stack, buffer(timed(source, stats), waiting, name="decode", weigh=bytes_of, stop=stop)
        )
        tracked = track(split_fields(items), tracker, corrector.runtime.device, stats, watchful=watchful)
        items = join_fields(corrector(close_with(stack, buffer(tracked, 2, name="track", weigh=bytes_of))))
        yield from close_with(stack, buffer(items, waiting, name="enhance", weigh=bytes_of))


def find_faces(
    frame: Frame,
    tracker: Tracker,
    device: Device,
    stats: Stats,
    *,
    watchful: bool = False,
    sparing: bool = False,
    update: Update | None = None,
) -> Frame:
    """Returns the frame with its faces. `watchful` and `sparing`: as in `rtface.protocols.Tracker`.

    `update` replaces the tracker's.

    If the tracker fails, the frame has no faces, `failed` is set, and the fault is counted.
    DeviceLost is raised, because a frame in GPU memory cannot be recovered.
    """
    started = perf_counter()
    try:
        tracker.watchful, tracker.sparing, tracker.thorough = watchful, sparing, frame.new
        faces = tuple((update or tracker.update)(device.view(frame), frame.time, cut=frame.cut or frame.new))
        if not all(isinstance(face, Face) for face in faces):  # pyright: ignore[reportUnnecessaryIsInstance]  # of a plugin
            raise TypeError("the tracker returned something other than faces")
        unfollowed = tracker.unfollowed
        if tracker.beyond:
            stats.warn(
                "max faces",
                Message(
                    "a frame has more faces than {--max-faces} allows ({most} of {count}); the other faces are not "
                    "corrected; increase {--max-faces} to include them",
                    code="max_faces",
                    most=len(faces),
                    count=len(faces) + tracker.beyond,
                ),
            )
        failed = ""
    except DeviceLost:
        raise
    except Exception as error:  # noqa: BLE001 - one bad frame must not end a run: counted and reported
        stats.fault("tracker", error)
        faces, unfollowed, failed = (), (), "tracker"
    stats.add("track", perf_counter() - started)
    return replace(frame, faces=faces, unfollowed=unfollowed, failed=failed)


def track(
    items: Iterable[Item], tracker: Tracker, device: Device, stats: Stats, *, watchful: bool = False
) -> Iterator[Item]:
    """Finds the faces of each frame. Interpolates them if the tracker can and no stage hides faces."""
    if not watchful and reads_apart(tracker):
        yield from FilmTracking(tracker, device, stats, find_faces)(items)
        return
    for item in items:
        yield find_faces(item, tracker, device, stats, watchful=watchful) if isinstance(item, Frame) else item


def bytes_of(item: Item) -> int:
    """Returns the size of a frame or packet in memory."""
    if isinstance(item, Frame):
        return sum(plane.buffer_size for plane in item.image.planes)
    return item.packet.size


def until(stop: threading.Event | None, items: Iterable[ItemT]) -> Iterator[ItemT]:
    """Yields the items. Raises Interrupted if `stop` is set."""
    for item in items:
        if stop is not None and stop.is_set():
            raise Interrupted
        yield item


def timed(items: Iterator[Item], stats: Stats) -> Iterator[Item]:
    """Yields the items, and times the reading of each. Returns freed memory to the system every 100 items."""
    iterator = iter(items)
    for number in count(1):
        with stats.time("decode"):
            item = next(iterator, None)
        if item is None:
            return
        yield item
        if number % _TRIM_MEMORY_ITEMS == 0:
            give_memory_back()


def end_at_faults(items: Iterable[Item], stats: Stats, *, hold: bool = True) -> Iterator[Item]:
    """Ends a run after too many failed frames in a row.

    Failed frames are held back until a frame succeeds, so that the output of a run that ends with an error stops
    before the first failed frame.

    Args:
        items: finished frames and packets, before stages draw on them.
        stats: contains the last fault.
        hold: whether failed frames are held back; otherwise they are yielded at once.

    Raises:
        EngineError: `FAULTS_IN_A_ROW` frames failed without a success in between; fewer if frames are large.
    """
    held: list[Item] = []
    faults = held_bytes = 0
    last = ""  # the step that failed last, until a frame succeeds
    for item in items:
        if not isinstance(item, Frame):
            if held:
                held.append(item)
            else:
                yield item
            continue
        size = sum(plane.buffer_size for plane in item.image.planes) if hold and not on_gpu(item.image) else 0
        step = item.failed
        faults += bool(step)
        if faults >= (FAULTS_IN_A_ROW if not size else max(MIN_HELD_FRAMES, min(FAULTS_IN_A_ROW, _HELD_BYTES // size))):
            action, option = ("searched for faces", "--tracker") if step == "tracker" else ("enhanced", "--engine")
            raise EngineError(
                "{faults} frames in a row could not be {action}; the last error: {why}; check trackers and engines "
                "with rtface doctor, or choose another with {option}",
                code="frames_failed_tracking",
                faults=faults,
                action=action,
                why=stats.last_fault,
                option=OptionFlag(option),
            )
        # Undecided: the frame failed, or contains no enhanced face, and so does not prove that the engine works again.
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
    """Splits interlaced frames into their fields, in time order. Both fields share one image."""
    for item in items:
        if isinstance(item, Frame) and item.display.fields != "progressive":
            # The second field may be tracked while the first is written to, so their shared memory must not move. GPU
            # memory never moves.
            if not on_gpu(item.image):
                item.make_writable()
            yield replace(item, field=0)
            yield replace(item, field=1, cut=False)
        else:
            yield item


def join_fields(items: Iterator[Item]) -> Iterator[Item]:
    """Joins the two fields of an interlaced frame. Both share the frame's image."""
    first: Frame | None = None
    for item in items:
        if not isinstance(item, Frame) or item.field is None:
            yield item
        elif item.field == 0:
            first = item
        else:
            assert first is not None
            if item.combed is not None and (luma := luma_of(item.image)) is not None:
                hold_combs(luma, item.combed)
            yield replace(
                item,
                field=None,
                combed=None,
                touched=item.touched or first.touched,
                corrected=item.corrected or first.corrected,
                changed=None if first.changed is None or item.changed is None else first.changed + item.changed,
                filtered=item.filtered or first.filtered,
                faces=item.faces or first.faces,
                unfollowed=first.unfollowed + item.unfollowed,
                failed=max(item.failed, first.failed),
                invented=first.invented
                if item.invented is None
                else item.invented
                if first.invented is None
                else first.invented | item.invented,  # a field's map is 0 on the rows of the other field
            )
