"""Golden crops on a GPU, to judge batch sizes and CUDA graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtface.device.cuda.batch import ROW
from rtface.device.cuda.frame_slots import FaceSlot
from rtface.device.cuda.gpu import Memory
from rtface.device.cuda.state_pool import FaceState, StatePool
from rtface.device.cuda.stream_thread import StreamThread
from rtface.engine.golden import judged_golden, psnr
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision


class GoldenBatch:
    """Golden crops in face slots, repeated to fill a batch. Only the thread that owns the GPU may use them.

    Attributes:
        rows: one `ROW` per crop, without the state of an earlier frame.
        memories: memory that the rows' addresses refer to.
        required: minimum PSNR in dB of each answer against its reference.
    """

    def __init__(
        self,
        streams: StreamThread,
        recipe: Recipe,
        precision: Precision,
        required: float,
        count: int,
        states: StatePool | None,
    ) -> None:
        """Allocates and fills the slots.

        Args:
            streams: the GPU's stream thread.
            recipe: recipe of the engine.
            precision: precision of the engine's plan, which selects the crops to judge.
            required: minimum PSNR in dB, as in the class.
            count: number of rows.
            states: pool for the state of recurrent engines.

        Raises:
            MissingComponent, EngineError: the golden crops are missing or damaged.
            OutOfDeviceMemory: the GPU has too little memory.
        """
        crops, expected = judged_golden(recipe, precision)
        self.required = required
        self._streams, self._size = streams, recipe.input.size
        self._expected = [expected[k % len(expected)] for k in range(count)]
        self._faces: list[FaceSlot] = []
        self._states: list[FaceState] = []
        self._pinned = streams.gpu.pin(12 * self._size**2)
        try:
            for k in range(count):
                self._faces.append(face := FaceSlot.reserve(streams.gpu, self._size))
                self._pinned.bytes().view(np.float32)[:] = crops[k % len(crops)].ravel()
                streams.compute.copy(face.memory, self._pinned, self._pinned.nbytes)
                streams.settle(streams.compute)
                if states is not None:
                    self._states.append(states.take())
        except BaseException:
            self.close()
            raise
        new_states: Sequence[FaceState | None] = self._states or [None] * count
        self.rows = np.concatenate([row_of(face, None, new) for face, new in zip(self._faces, new_states, strict=True)])
        self.memories: list[Memory] = [block.memory for block in (*self._faces, *self._states)]

    def worst(self, count: int) -> float:
        """Returns the minimum PSNR (dB) of the first `count` answers. The run must have ended."""
        worst, streams = 200.0, self._streams
        for face, expected in zip(self._faces[:count], self._expected, strict=False):
            streams.compute.copy(
                self._pinned, face.memory, self._pinned.nbytes, source_at=face.restored - face.memory.address
            )
            streams.settle(streams.compute)
            worst = min(worst, psnr(self._pinned.bytes().view(np.float32).reshape(3, self._size, self._size), expected))
        return worst

    def close(self) -> None:
        """Frees the slots. GPU work that uses them must have ended."""
        for face in self._faces:
            face.memory.close()
        self._pinned.close()
        self._faces, self._states = [], []


def row_of(face: FaceSlot, old: FaceState | None, new: FaceState | None) -> NDArray[Any]:
    """Returns a `ROW` with a face and its states before and after."""
    absent = (0, 0)
    return np.array(
        [
            (
                face.crop,
                face.restored,
                *(old.at if old else absent),
                *(new.at if new else absent),
                face.occlusion,
                face.log_scale,
            )
        ],
        ROW,
    )
