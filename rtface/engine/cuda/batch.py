"""Batches of an engine on a GPU: buffers at fixed addresses, and CUDA graphs.

A batch uploads the rows' addresses; `gather` fills the network's input, the network runs, and `scatter` distributes its
answers (``device/cuda/batch.cu``). All steps but the upload are captured per batch size, so a batch costs one copy and
one launch.

Batch sizes are powers of two and the engine's maximum. Each size is compiled, captured and judged when the engine
starts, and uses memory. Batches of other sizes are padded to the next size with empty rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtface.device.cuda.batch import BLOCK, NETWORK, ROW, gather_grid, scatter_grid
from rtface.device.cuda.frame_slots import MAP_VALUES
from rtface.device.cuda.gpu import Event, Graph, Memory, Pinned, Stream, aligned
from rtface.device.cuda.stream_thread import StreamThread
from rtface.engine.cuda.golden import GoldenBatch
from rtface.engine.recipe import Recipe
from rtface.engine.tensorrt.plan import TensorRtPlan
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory, log

_UPLOAD_BUFFERS = 3  # one more than the maximum number of batches in flight


def batch_sizes(max_batch: int) -> tuple[int, ...]:
    """Returns the sizes for batches of up to `max_batch` crops: (1, 2, 4, 8, 12) for 12."""
    return (*(1 << k for k in range((max_batch - 1).bit_length())), max_batch)


class Batches:
    """The buffers and graphs of one engine, sized for its largest batch. Use them on the thread that owns the GPU.
    Other threads may only call `run`, one at a time.

    Attributes:
        sizes: batch sizes in rising order (`batch_sizes`).
        graphs: captured graphs by batch size. Sizes without a graph launch each kernel.
    """

    def __init__(self, streams: StreamThread, recipe: Recipe, plan: TensorRtPlan, max_batch: int) -> None:
        """Allocates all memory. Raises OutOfDeviceMemory."""
        self.sizes, self._rows = batch_sizes(max_batch), max_batch
        self._streams, self._recipe, self._plan, self._ports = streams, recipe, plan, _ports_of(recipe)
        self._network = _network_of(recipe)
        self._buffers: dict[str, Memory] = {}
        self.graphs: dict[int, Graph] = {}
        self._uploads: list[tuple[Pinned, Event]] = []
        self._next_index = 0
        self._last_run: tuple[Stream, Event] | None = None
        gpu, ports = streams.gpu, plan.ports
        self._constants = [*recipe.constants]
        try:
            for name, (dtype, shape) in ports.items():
                self._buffers[name] = gpu.allocate(aligned(max_batch * int(np.prod(shape)) * dtype.itemsize))
            self._buffers["rows"] = gpu.allocate(ROW.itemsize * max_batch)
            self._buffers["network"] = gpu.allocate(NETWORK.itemsize)
            for _ in range(_UPLOAD_BUFFERS):
                self._uploads.append((gpu.pin(max(ROW.itemsize * max_batch, NETWORK.itemsize)), gpu.event()))
            plan.bind({name: self._buffers[name] for name in ports}, self.sizes)
        except BaseException:
            self.close()
            raise
        self._put("network", self._network)
        self._put_constants(recipe)

    def _put_constants(self, recipe: Recipe) -> None:
        for name, value in recipe.constants.items():
            self._put(name, np.full(self._rows, value, np.float32))

    def _put(self, name: str, values: NDArray[Any]) -> None:
        """Uploads constant values to a buffer."""
        pinned, done = self._next_upload()
        pinned.bytes()[: values.nbytes] = np.frombuffer(values.tobytes(), np.uint8)
        self._streams.compute.copy(self._buffers[name], pinned, values.nbytes)
        self._streams.compute.record(done)

    def _next_upload(self) -> tuple[Pinned, Event]:
        pinned, done = self._uploads[self._next_index]
        self._next_index = (self._next_index + 1) % _UPLOAD_BUFFERS
        done.synchronize()  # rarely waits, because the number of batches on the GPU is limited
        return pinned, done

    def warm_up(self, golden: GoldenBatch) -> float:
        """Runs, captures and judges each batch size on golden crops.

        The first frames then need not wait for compilation, and wrong graphs are detected before use.

        Returns:
            The minimum milliseconds for a batch of one crop.

        Raises:
            EngineError: the answers for a batch are wrong.
        """
        self._put_constants(replace(self._recipe, fidelity=None))  # golden crops use the default fidelity
        for n in reversed(self.sizes):
            self._run_golden(golden, n)
            self._capture(n)
            self._run_golden(golden, n)
            if golden.worst(n) < golden.required:
                raise EngineError(
                    "engine {name} does not match its reference's answers on this GPU; try {--device:cpu} or another "
                    "{--engine}",
                    code="golden_gpu",
                    name=self._recipe.name,
                )
        times = [self._run_golden(golden, 1) for _ in range(3)]
        self._put_constants(self._recipe)
        return min(times)

    def _capture(self, batch: int) -> None:
        """Captures the graph of a batch size. The latest run must have had this size.

        A failed capture is only logged, because without a graph the network still runs on the GPU, only slower.
        """
        stream = self._streams.compute
        try:
            if self._plan.capturable(stream.handle, batch):
                self.graphs[batch] = stream.capture(lambda: self._launch(stream, batch, [], []))
        except (OutOfDeviceMemory, DeviceLost):
            raise
        except EngineError as error:
            log.warning("%s: batches of %d run slower, without a CUDA graph: %s", self._recipe.name, batch, error)

    def _run_golden(self, golden: GoldenBatch, count: int) -> float:
        """Runs a batch of golden crops. Returns its milliseconds."""
        start = time.perf_counter()
        self.run(golden.rows[:count], [], golden.memories).synchronize()
        return 1e3 * (time.perf_counter() - start)

    def run(
        self, rows: NDArray[Any], reads: Sequence[Memory], writes: Sequence[Memory], stream: Stream | None = None
    ) -> Event:
        """Submits one batch to a stream. The returned event marks its end.

        Args:
            rows: one `ROW` per crop, not more than the largest of `sizes`.
            reads, writes: the memory that the rows' addresses refer to.
            stream: the stream to submit to; None for the compute stream.
        """
        stream, (pinned, done) = stream or self._streams.compute, self._next_upload()
        if self._last_run is not None and self._last_run[0] is not stream:  # both streams use the same buffers
            stream.wait(self._last_run[1])
        self._last_run = stream, done
        batch = next(size for size in self.sizes if size >= len(rows))
        upload = pinned.bytes()[: ROW.itemsize * batch]
        upload[: rows.nbytes], upload[rows.nbytes :] = rows.view(np.uint8), 0
        stream.copy(self._buffers["rows"], pinned, len(upload))
        if (graph := self.graphs.get(batch)) is not None:
            stream.replay(graph, reads=reads, writes=writes)
        else:
            self._launch(stream, batch, reads, writes)
        stream.record(done)
        return done

    def _launch(self, stream: Stream, batch: int, reads: Sequence[Memory], writes: Sequence[Memory]) -> None:
        buffers, (inputs, outputs) = self._buffers, self._ports
        descriptors = [buffers["rows"], buffers["network"]]
        network_in, network_out = ([buffers[name] for name in side.values()] for side in self._ports)

        def at(side: Mapping[str, str], role: str) -> np.uint64:
            return np.uint64(buffers[side[role]].address if role in side else 0)

        descriptor_args = [np.uint64(memory.address) for memory in descriptors]
        stream.launch(
            "gather",
            gather_grid(self._network, batch),
            BLOCK,
            *descriptor_args,
            *(at(inputs, role) for role in ("crop", "past", "known", "state", "shrunk")),
            reads=[*descriptors, *reads, *writes],
            writes=network_in,
        )
        scratch = [self._plan.scratch] if self._plan.scratch is not None else []
        constant = [buffers[name] for name in self._constants]
        stream.call(
            lambda handle: self._plan.enqueue(handle, batch), reads=network_in + constant, writes=network_out + scratch
        )
        stream.launch(
            "scatter",
            scatter_grid(self._network, batch),
            BLOCK,
            *descriptor_args,
            at(outputs, "output"),
            at(outputs, "kept"),
            at(inputs, "shrunk"),
            at(outputs, "state"),
            at(outputs, "occlusion"),
            at(outputs, "log_scale"),
            reads=[*descriptors, *network_in, *network_out],
            writes=writes,
        )

    def close(self) -> None:
        """Frees everything. All submitted work must have ended."""
        for graph in self.graphs.values():
            graph.close()
        for block in (*self._buffers.values(), *(pinned for pinned, _ in self._uploads)):
            block.close()
        self.graphs, self._buffers, self._uploads = {}, {}, []


def _ports_of(recipe: Recipe) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the names of inputs and outputs, by role in `batch.cu`."""
    memory = recipe.memory
    inputs, outputs = {"crop": recipe.input.name}, {"output": recipe.output.name}
    if memory is not None:
        inputs |= {"past": memory.past, "known": memory.known}
        if memory.shape:
            inputs["state"], outputs["state"] = memory.state, memory.next
        if recipe.shrink > 1:
            inputs["shrunk"], outputs["kept"] = memory.shrunk, memory.kept
        if memory.heads:
            outputs |= {"occlusion": memory.occlusion, "log_scale": memory.log_scale}
    return inputs, outputs


def _network_of(recipe: Recipe) -> np.ndarray[Any, np.dtype[Any]]:
    """Returns the constants of an engine for `batch.cu`, one `NETWORK`."""
    memory = recipe.memory
    x, y, w, h = recipe.region
    shape = memory.shape if memory else None
    maps = int(np.prod(memory.maps)) if memory and memory.heads else 0
    if maps > MAP_VALUES:
        raise EngineError(
            "engine {name}: the maps of its heads are larger than 128×128", code="heads_large", name=recipe.name
        )
    return np.array(
        (
            recipe.input.size,
            x,
            y,
            w,
            h,
            recipe.shrink,
            int(np.prod(shape)) if shape else 0,
            maps,
            recipe.output.residual,
            memory is not None,
            *recipe.input.range,
            *recipe.output.range,
        ),
        NETWORK,
    )
