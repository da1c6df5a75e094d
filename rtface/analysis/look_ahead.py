"""Delays a film's frames until every face on them has a treatment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from rtface.errors import MissingComponent
from rtface.frame import Frame
from rtface.protocols import Item
from rtface.util.av_gpu import on_gpu

FRAMES, BYTES = 48, 128 << 20
"""Maximum number and bytes of waiting frames. Beyond these, faces are decided by the measurements so far."""
_FRAMES_ON_GPU = 16  # as many surfaces as the decoder can spare
# A track that is not measured for this long has ended, and is decided by its measurements so far.
_GONE_S = 0.5


class Undecided(Protocol):
    """A decision that frames wait for: a track's treatment (`rtface.analysis.analyzer.Analyzer`) or person.

    Attributes:
        last_s: time of the last frame with a measurement, seconds.
    """

    @property
    def last_s(self) -> float: ...

    @property
    def decided(self) -> bool: ...

    def settle(self) -> None:
        """Decides now, from the measurements so far."""


def look_ahead(items: Iterable[Item], examine: Callable[[Frame], Sequence[Undecided]]) -> Iterator[Item]:
    """Yields items in order, each as soon as its faces are decided.

    A frame waits only while a track on it is new (`Analyzer`): frames at the start of a shot wait for about a second,
    later ones do not wait. At a scene change, a still or the end of the film, every decision that is still open is
    made.

    Args:
        items: frames with their faces, and packets.
        examine: measures the faces of a frame, and returns the decisions that it waits for.
    """
    waiting: deque[tuple[Item, Sequence[Undecided]]] = deque()
    frames = size = 0
    failure: Exception | None = None
    iterator = iter(items)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            break
        except Exception as error:  # noqa: BLE001 - raised below, after the frames before it
            failure = error
            break
        if not isinstance(item, Frame):
            waiting.append((item, ()))
        else:
            if item.cut or item.new:
                _settle(waiting)
            waiting.append((item, _try_examine(item, examine)))
            frames, size = frames + 1, size + _bytes(item)
            limit = _FRAMES_ON_GPU if on_gpu(item.image) else FRAMES
            is_full = frames > limit or size > BYTES or item.new
            _settle(waiting, None if is_full else item.time - _GONE_S)
        while waiting and all(analyzer.decided for analyzer in waiting[0][1]):
            ready, _ = waiting.popleft()
            if isinstance(ready, Frame):
                frames, size = frames - 1, size - _bytes(ready)
            yield ready
    _settle(waiting)
    for ready, _ in waiting:
        yield ready
    if failure is not None:
        raise failure


def _try_examine(frame: Frame, examine: Callable[[Frame], Sequence[Undecided]]) -> Sequence[Undecided]:
    try:
        return examine(frame)
    except MissingComponent:  # without the component no face of the film can be corrected
        raise
    except Exception:  # noqa: BLE001 - `examine` counts the error, or the correction of this frame reports it
        return ()


def _settle(waiting: Iterable[tuple[Item, Sequence[Undecided]]], before: float | None = None) -> None:
    """Settles open decisions: those last measured `before` a time, or all."""
    for _, analyzers in waiting:
        for analyzer in analyzers:
            if not analyzer.decided and (before is None or analyzer.last_s < before):
                analyzer.settle()


def _bytes(frame: Frame) -> int:
    image = frame.image
    if frame.field == 1:  # shares the memory of the first field
        return 0
    size = 2 * image.width * image.height if on_gpu(image) else sum(p.line_size * p.height for p in image.planes)
    return size + (_bytes(frame.source) if frame.source is not None else 0)
