"""Averages faces over time on a GPU, for non-recurrent engines (`rtface.correct.temporal`).

When a crop is cut (`Submission.put_crops`), a reduced copy is made. The `urgent` stream downloads this copy while the
network processes the crop. The host waits only for this download. From the copy, it computes motion and gate at a
quarter of the resolution, and uploads both. After the network, the `finish` stream warps the average on the GPU, blends
it with the network's output, and stores the result. Memory is allocated only for new faces.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rtface.correct import state_of
from rtface.correct.motion import FINE, SHRINK
from rtface.correct.temporal import Blend, low_box
from rtface.device.cuda import shaping
from rtface.device.cuda.frame_slots import FaceSlot, FrameSlots
from rtface.device.cuda.shape_structs import AVERAGE
from rtface.device.cuda.state_pool import FaceState, StatePool
from rtface.device.cuda.submission import Submission
from rtface.frame import Box, Bytes, Float32
from rtface.protocols import ShapeTask

SlotFace = tuple[ShapeTask, FaceSlot, Box]
"""A face to average, its slot, and the relevant part of its crop."""


class GpuAverager:
    """Averages the engine's outputs for a frame's faces over time.

    Args:
        submission: the device's object that submits work to the GPU.
    """

    def __init__(self, submission: Submission) -> None:
        self._streams, self._submission = submission.streams, submission
        self._state_pools: dict[int, StatePool] = {}

    def average(self, slots: FrameSlots, faces: Sequence[SlotFace]) -> None:
        """Enqueues GPU work that replaces a frame's outputs by their averages."""
        small_crops, states = self._download(slots, faces)
        blends: list[Blend | None] = []
        for (face, face_slot, _), state in zip(faces, states, strict=True):
            average = state_of(face).average
            small_crop, rows = small_of(small_crops[id(face_slot)], face_slot.size)
            blends.append(average.follow(small_crop, rows, face.time, face.scale, has_average=average.kept is state))
            average.kept = state
        self._mix(slots, faces, states, blends)

    def _download(self, slots: FrameSlots, faces: Sequence[SlotFace]) -> tuple[dict[int, Float32], list[FaceState]]:
        """Downloads reduced crops, by id of their face slots. Also returns the states of the faces' averages."""
        streams, slot = self._streams, slots.frame
        sizes = [shaping.small_floats(face_slot.size) for face_slot in slots.faces]
        nbytes = 4 * sum(sizes)

        def download() -> list[FaceState]:
            states = [self._state(face, face_slot) for face, face_slot, _ in faces]
            streams.urgent.wait(slot.cropped)
            streams.urgent.copy(slot.small.on_host(), slot.small.on_gpu(), nbytes)
            streams.urgent.record(slot.fetched)
            return states

        states = streams.run(download).result()
        slot.fetched.synchronize()
        parts = np.split(slot.small.on_host().bytes()[:nbytes].view(np.float32), np.cumsum(sizes)[:-1])
        return {id(face_slot): part for face_slot, part in zip(slots.faces, parts, strict=True)}, states

    def _state(self, face: ShapeTask, face_slot: FaceSlot) -> FaceState:
        """Returns the state of a face's average, or creates one."""
        size = face_slot.size
        if size not in self._state_pools:
            self._state_pools[size] = StatePool(self._streams.gpu, 12 * size * size)
        state = state_of(face).average.kept
        if isinstance(state, FaceState) and state.home is self._state_pools[size]:
            return state
        return self._state_pools[size].take()

    def _mix(
        self, slots: FrameSlots, faces: Sequence[SlotFace], states: Sequence[FaceState], blends: Sequence[Blend | None]
    ) -> None:
        """Uploads and runs the blends, then stores the averages."""
        slot, finish = slots.frame, self._streams.finish
        staging, parts = slot.steps["average"], list[Bytes]()
        rows = np.zeros(sum(map(bool, blends)), AVERAGE)
        self._submission.pools.grow(staging, rows.nbytes + sum(blend.nbytes for blend in blends if blend) + 1)
        base = at = staging.on_gpu().address
        at += rows.nbytes
        blended = [(*face, blend, state) for face, blend, state in zip(faces, blends, states, strict=True) if blend]
        for row, (face, face_slot, box, blend, state) in zip(rows, blended, strict=True):
            x0, y0, x1, y1 = low_box(box)
            row["r"], row["mean"], row["size"] = face_slot.restored, state.at[0], face_slot.size
            row["x"], row["y"], row["columns"], row["rows"] = SHRINK * x0, SHRINK * y0, x1 - x0, y1 - y0
            row["cubic"] = face.scale < FINE
            for name, values in (("gate", blend.gate), ("flow", blend.flow)):
                if values is not None:
                    row[name] = at
                    part = np.atleast_3d(values)[y0:y1, x0:x1].transpose(2, 0, 1)
                    parts.append(np.ascontiguousarray(part, np.float32).reshape(-1).view(np.uint8))
                    at += len(parts[-1])

        def store_averages() -> None:
            for (_, slot, _), state in zip(faces, states, strict=True):
                finish.copy(state.memory, slot.memory, 12 * slot.size**2, source_at=slot.restored - slot.memory.address)

        done = self._submission.put(
            slot,
            "average",
            np.concatenate([rows.view(np.uint8), *parts]),
            shaping.average_launches(rows, base) if blended else [],
            reads=[state.memory for state in states],
            writes=[face_slot.memory for _, face_slot, _ in faces],
            after=store_averages,
            waits=slots.inferred,
        )
        done.add_done_callback(lambda done: _forget(faces) if done.exception() is not None else None)

    def close(self) -> None:
        """Frees all memory; the GPU must be idle. Call it only on the stream thread."""
        for pool in self._state_pools.values():
            pool.close()
        self._state_pools.clear()


def small_of(values: Float32, size: int) -> tuple[Float32, Float32]:
    """Copies a reduced crop and its full-resolution green rows from downloaded values."""
    cells = size // SHRINK
    return (
        values[: 3 * cells * cells].reshape(3, cells, cells).copy(),
        values[3 * cells * cells : shaping.small_floats(size)].reshape(-1, size).copy(),
    )


def _forget(faces: Sequence[SlotFace]) -> None:
    """Resets the averages of faces after a failure."""
    for face, *_ in faces:
        state_of(face).average.reset()
