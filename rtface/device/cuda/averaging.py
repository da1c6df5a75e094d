"""The average over time of faces on a GPU, for engines without memory (`rtface.correct.temporal`).

A small picture of each crop is made when that is cut (`Steps.put_crops`). It comes down on the `look` stream, so while
the network still works on the crop, and from it the host finds motion and gate, at a quarter of the side: that is the
one thing that is waited for here. They go up, and the average, which stays on the GPU, is followed, mixed with the
answer where that lies, and kept, behind the network on the `compute` stream. Memory is reserved for faces that are new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from rtface.correct import state_of
from rtface.correct.motion import FINE, SHRINK
from rtface.correct.temporal import Blend, low_box
from rtface.device.cuda import shaping
from rtface.device.cuda.face_slots import FaceSlot
from rtface.device.cuda.frame_slots import HeldSlots, SlotPools
from rtface.device.cuda.state_pool import FaceState, StatePool
from rtface.device.cuda.stream_thread import StreamThread
from rtface.frame import Box, Bytes, Float32
from rtface.protocols import ShapeTask

_AT_ONCE = 4  # averages that are reserved at a time

Averaged = tuple[ShapeTask, FaceSlot, Box]
"""A face, where it lies, and the part of it that matters."""


class GpuAverager:
    """See the module.

    Args:
        owner: of the GPU.
        slots: of the device.
        put: has a step's data copied up and its kernels run (`Steps.put`).
    """

    def __init__(self, owner: StreamThread, slots: SlotPools, put: Callable[..., Future[None]]) -> None:
        self._owner, self._slots, self._put = owner, slots, put
        self._places: dict[int, StatePool] = {}

    def average(self, held: HeldSlots, faces: Sequence[Averaged]) -> None:
        """Makes the answers of one frame averages, where they lie; put on its way."""
        small, kept = self._look(held, faces)
        blends: list[Blend | None] = []
        for (face, place, _), keep in zip(faces, kept, strict=True):
            average = state_of(face).average
            now, rows = shaping.small_of(small[id(place)], place.size)
            blends.append(average.follow(now, rows, face.time, face.scale, known=average.kept is keep))
            average.kept = keep
        self._mix(held, faces, kept, blends)

    def _look(self, held: HeldSlots, faces: Sequence[Averaged]) -> tuple[dict[int, Float32], list[FaceState]]:
        """The small pictures by the id of their faces' slots, waited for; and where the faces' averages are kept."""
        owner, slot = self._owner, held.slot
        sizes = [shaping.small_floats(place.size) for place in held.faces]
        nbytes = 4 * sum(sizes)

        def down() -> list[FaceState]:
            kept = [self._place(face, place) for face, place, _ in faces]
            owner.look.wait(slot.cropped)
            owner.look.copy(slot.small.on_host(), slot.small.on_gpu(), nbytes)
            owner.look.record(slot.looked)
            return kept

        kept = owner.reserve(down)
        slot.looked.synchronize()
        parts = np.split(slot.small.on_host().bytes()[:nbytes].view(np.float32), np.cumsum(sizes)[:-1])
        return {id(place): part for place, part in zip(held.faces, parts, strict=True)}, kept

    def _place(self, face: ShapeTask, place: FaceSlot) -> FaceState:
        """Where the average of a face is kept, or will be."""
        size = place.size
        if size not in self._places:
            self._places[size] = StatePool(self._owner, 12 * size * size, at_once=_AT_ONCE)
        kept = state_of(face).average.kept
        if isinstance(kept, FaceState) and kept.home is self._places[size]:
            return kept
        return self._places[size].take()

    def _mix(self, held: HeldSlots, faces: Sequence[Averaged], kept: Sequence[FaceState],
             blends: Sequence[Blend | None]) -> None:
        """What blends say goes up and is done; then the averages are kept."""
        slot, compute = held.slot, self._owner.compute
        stage, parts = slot.steps["average"], list[Bytes]()
        rows = np.zeros(sum(map(bool, blends)), shaping.AVERAGE)
        self._slots.grow(stage, rows.nbytes + sum(blend.nbytes for blend in blends if blend) + 1)
        base = at = stage.on_gpu().address
        at += rows.nbytes
        mixed = [(*seen, blend, keep) for seen, blend, keep in zip(faces, blends, kept, strict=True) if blend]
        for row, (face, place, box, blend, keep) in zip(rows, mixed, strict=True):
            x0, y0, x1, y1 = low_box(box)
            row["r"], row["mean"], row["size"] = place.restored, keep.at[0], place.size
            row["x"], row["y"], row["columns"], row["rows"] = SHRINK * x0, SHRINK * y0, x1 - x0, y1 - y0
            row["cubic"] = face.scale < FINE
            for name, values in (("gate", blend.gate), ("flow", blend.flow)):
                if values is not None:
                    row[name] = at
                    part = np.atleast_3d(values)[y0:y1, x0:x1].transpose(2, 0, 1)
                    parts.append(np.ascontiguousarray(part, np.float32).reshape(-1).view(np.uint8))
                    at += len(parts[-1])

        def keep_all() -> None:
            for (_, place, _), keep in zip(faces, kept, strict=True):
                compute.copy(keep.memory, place.memory, 12 * place.size**2,
                             source_at=place.restored - place.memory.address)

        done = self._put(slot, "average", np.concatenate([rows.view(np.uint8), *parts]),
                         shaping.average_launches(rows, base) if mixed else [], reads=[keep.memory for keep in kept],
                         writes=[place.memory for _, place, _ in faces], after=keep_all)
        done.add_done_callback(lambda done: _forget(faces) if done.exception() is not None else None)

    def close(self) -> None:
        """Frees all; the GPU must be idle. The owner's thread only."""
        for places in self._places.values():
            places.close()
        self._places.clear()


def _forget(faces: Sequence[Averaged]) -> None:
    """Nothing was kept of these."""
    for face, *_ in faces:
        state_of(face).average.reset()
