"""Crops of the host through an engine on a card: up, through the network, and down again.

For key frames (`rtface.keyed`), whose answers are joined on the host. Each engine has a stream and a thread for it, so
that whatever else is on the card goes on meanwhile, however long the network takes. One crop at a time: an engine whose
key frames are worth it fills the card with one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np

from rtface.device.card import Event, Pinned, Stream
from rtface.device.faces import FaceSlot
from rtface.device.owner import USUAL, Owner
from rtface.device.remembered import Places, Remembered
from rtface.engine.recipe import Recipe
from rtface.engine.restore import spread
from rtface.errors import EngineError
from rtface.frame import Float32
from rtface.protocols import Restored

Run = Callable[[FaceSlot, Remembered | None, Remembered | None, Stream], None]
"""Puts the network on a stream, over the crop in a slot: what is remembered of it before, and where that is to lie
after. Any thread."""


def known(after: Future[Restored] | None, places: Places | None) -> Remembered | None:
    """What is remembered of a face after an answer, where these are the places. What comes after a failure, or after an
    answer that is not there, begins without memory."""
    if after is None or not after.done() or after.cancelled() or after.exception() is not None:
        return None
    state = after.result().state
    return state if isinstance(state, Remembered) and state.home is places else None


class Hosted:
    """See the module. It reserves with its first crop.

    Args:
        owner: of the card.
        recipe: of the engine.
        run: see `Run`.
        places: for what a recurrent engine remembers; None without memory.

    Attributes:
        priority: of its stream; may be changed before the first crop.
    """

    def __init__(self, owner: Owner, recipe: Recipe, run: Run, places: Places | None) -> None:
        self._owner, self._recipe, self._run, self._places = owner, recipe, run, places
        self.priority = USUAL
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"rtface-card-{recipe.name}")
        self._kept: tuple[Stream, Event, FaceSlot, Pinned] | None = None

    def submit(self, crop: Float32, after: Future[Restored] | None) -> Future[Restored]:
        """Restores a crop, float32 1×3×S×S, 0…1, which is read until the answer is there. The answer's arrays are the
        caller's to keep. The future raises EngineError, OutOfDeviceMemory and DeviceLost."""
        return self._worker.submit(self._answer, crop, after)

    def _reserve(self) -> tuple[Stream, Event, FaceSlot, Pinned]:
        card, size = self._owner.card, self._recipe.input.size
        memory = self._recipe.memory
        maps = 2 * int(np.prod(memory.maps)) if memory and memory.heads else 0
        pinned = card.pin(4 * (3 * size * size + maps))
        try:
            return card.stream(self.priority), card.event(), FaceSlot.reserve(card, size), pinned
        except BaseException:
            pinned.close()
            raise

    def _answer(self, crop: Float32, after: Future[Restored] | None) -> Restored:
        owner = self._owner
        owner.card.enter()
        if self._kept is None:
            self._kept = owner.reserve(self._reserve)
        stream, done, face, pinned = self._kept
        if after is not None:
            wait([after])  # asked of this worker, so answered by now; or of the owner, which never waits for this one
        old = known(after, self._places)
        new = owner.reserve(self._places.take) if self._places else None
        pinned.bytes()[:crop.nbytes] = np.ascontiguousarray(crop, np.float32).reshape(-1).view(np.uint8)
        try:
            stream.copy(face.memory, pinned, crop.nbytes, to_at=face.crop - face.memory.address)
            self._run(face, old, new, stream)
            stream.copy(pinned, face.memory, crop.nbytes, source_at=face.restored - face.memory.address)
            at = crop.nbytes
            for head in (face.occlusion, face.log_scale):
                if pinned.nbytes > crop.nbytes:
                    part = (pinned.nbytes - crop.nbytes) // 2
                    stream.copy(pinned, face.memory, part, to_at=at, source_at=head - face.memory.address)
                    at += part
        finally:  # of a failure too: the next crop uses the same memory
            stream.record(done)
            done.synchronize()
        return self._restored(pinned.bytes().view(np.float32), crop.shape, new)

    def _restored(self, values: Float32, shape: tuple[int, ...], state: Remembered | None) -> Restored:
        count, recipe = math.prod(shape), self._recipe
        pixels, maps = values[:count].reshape(shape).copy(), values[count:].copy()
        if not math.isfinite(float(pixels.sum()) + float(maps.sum())):
            raise EngineError(f"engine {recipe.name}: the answer holds values that are not numbers")
        if not maps.size:
            return Restored(pixels, state)
        assert recipe.memory is not None
        occlusion, log_scale = maps.reshape(2, *recipe.memory.maps)
        return Restored(pixels, state, spread(occlusion, recipe.input.size, recipe.region)[None], log_scale[None])

    def end(self) -> None:
        """Waits for the crop in hand and drops what waits; not on the owner's thread."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def settle(self) -> None:
        """Waits for what is on its stream. The owner's thread only."""
        if self._kept is not None:
            self._owner.settle(self._kept[0])

    def close(self) -> None:
        """Frees all, after `end` and `settle`. The owner's thread only."""
        if self._kept is not None:
            _, _, face, pinned = self._kept
            self._kept = None
            face.memory.close()
            pinned.close()
