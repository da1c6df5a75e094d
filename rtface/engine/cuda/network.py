"""A tracker's small networks on a GPU: the network, and its answers down, in one graph.

The image is made on the GPU where the frame is there, and is uploaded before it otherwise. They run on the urgent
stream, so that a tracker, which waits for each answer, does not queue behind the engines.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from rtface.device.cuda.gpu import Graph, Memory, Pinned
from rtface.device.cuda.stream_thread import StreamThread
from rtface.device.cuda.view import GpuView, NetworkInput
from rtface.engine.cuda.batch import captured
from rtface.engine.spec import ImageNetworkSpec
from rtface.engine.tensorrt.plan import TensorRtPlan
from rtface.errors import EngineError
from rtface.frame import Bytes, Float, Float32
from rtface.protocols import ImageNetwork, View


class GpuNetwork:
    """A tracker's network on a GPU (`protocols.ImageNetworkRunner`).

    Args:
        streams: of the GPU.
        network: what it is.
        plan: of it; taken over.

    Raises:
        EngineError, OutOfDeviceMemory: it cannot be run; everything is given back.
    """

    def __init__(self, streams: StreamThread, network: ImageNetwork, plan: TensorRtPlan) -> None:
        self._streams, self._network, self._plan = streams, network, plan
        self._memory: dict[str, Memory] = {}
        self._pinned: dict[str, Pinned] = {}
        self._graph: Graph | None = None
        self._closed = False
        try:
            streams.run(self._build).result()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        """Reserves, runs once, as libraries compile and allocate then, and captures the run."""
        gpu, network, urgent = self._streams.gpu, self._network, self._streams.urgent
        for name, (dtype, shape) in self._plan.ports.items():
            nbytes = math.prod(shape) * dtype.itemsize
            self._memory[name] = gpu.allocate(nbytes)
            if name == network.input or name in network.outputs:
                self._pinned[name] = gpu.pin(nbytes)
        self._plan.bind(self._memory, (1,))
        self._done = gpu.event()
        self._pinned[network.input].bytes()[:] = 0
        self._upload()
        self._steps()
        urgent.record(self._done)
        self._done.synchronize()
        self._graph = captured(network.name, urgent, lambda: self._plan.capturable(urgent.handle, 1), self._steps)

    def _upload(self) -> None:
        given = self._network.input
        self._streams.urgent.copy(self._memory[given], self._pinned[given], self._memory[given].nbytes)

    def _steps(self) -> None:
        """Enqueues the network and the downloads."""
        urgent, memory, given = self._streams.urgent, self._memory, self._network.input
        own = [self._plan.scratch] if self._plan.scratch is not None else []
        urgent.call(
            lambda handle: self._plan.enqueue(handle, 1),
            reads=[memory[given]],
            writes=[*(piece for name, piece in memory.items() if name != given), *own],
        )
        for name in self._network.outputs:
            urgent.copy(self._pinned[name], memory[name], memory[name].nbytes)

    def _enqueue(self) -> None:
        """`_steps`, by the graph where there is one."""
        if self._graph is not None:
            self._streams.urgent.replay(self._graph)
        else:
            self._steps()

    def __call__(self, rgb: Bytes) -> list[Float32]:
        """The outputs for a uint8 S×S×3 image, in the network's order. Raises EngineError and DeviceLost."""
        self._check()
        network, streams = self._network, self._streams
        image = rgb[:, :, ::-1] if network.bgr else rgb
        if network.layout == "NCHW":
            image = image.transpose(2, 0, 1)
        pinned = self._pinned[network.input].bytes().view(np.float32).reshape(image.shape)
        np.divide(image, np.float32(network.divisor), out=pinned)

        def put() -> None:
            self._upload()
            self._enqueue()
            streams.urgent.record(self._done)

        streams.run(put).result()
        self._done.synchronize()
        return self._outputs()

    def read(self, view: View, matrix: Float) -> tuple[list[Float32], Bytes]:
        """Outputs as of `protocols.ImageNetworkRunner.read`. A frame on this GPU is read there, with one wait."""
        self._check()
        network, size = self._network, (self._network.size, self._network.size)
        if not isinstance(view, GpuView) or view.streams is not self._streams:
            pixels = view.crop(matrix, size)
            return self(pixels), pixels
        pixels = view.crop(
            matrix,
            size,
            NetworkInput(
                self._memory[network.input], network.layout == "NCHW", network.bgr, network.divisor, self._enqueue
            ),
        )
        return self._outputs(), pixels

    def _check(self) -> None:
        if self._closed:
            raise EngineError("network {name} is closed", code="network_closed", name=self._network.name)

    def _outputs(self) -> list[Float32]:
        return [
            self._pinned[name].bytes().view(np.float32).reshape(1, *shape).copy()
            for name, shape in self._network.outputs.items()
        ]

    def close(self) -> None:
        """Frees everything; safe to call twice."""
        if self._closed:
            return
        self._closed = True

        def free() -> None:
            self._streams.settle(self._streams.urgent)
            if self._graph is not None:
                self._graph.close()
            self._plan.close()
            for piece in (*self._memory.values(), *self._pinned.values()):
                piece.close()

        try:
            self._streams.run(free).result()
        except EngineError:  # a lost GPU: what it held is lost with it
            return


def open_on(streams: StreamThread) -> Callable[[ImageNetwork], GpuNetwork]:
    """What makes networks ready on a GPU, through TensorRT: `create_tracker(gpu=…)` takes it.

    It raises MissingComponent and EngineError as `rtface.engine.tensorrt.open_network` does.
    """

    def opened(network: ImageNetwork) -> GpuNetwork:
        from rtface.engine.tensorrt import open_network  # what it needs is an extra

        plan = streams.run(lambda: open_network(ImageNetworkSpec(network), streams.gpu)).result()
        made = GpuNetwork(streams, network, plan)
        streams.run(plan.keep_kernels).result()
        return made

    return opened
