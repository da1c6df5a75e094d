"""Capturing work in a CUDA graph, where that can be done."""

from __future__ import annotations

import logging
from collections.abc import Callable

from rtface.device.cuda.gpu import Graph, Stream
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory

log = logging.getLogger("rtface")


def captured(name: str, stream: Stream, capturable: Callable[[], bool], steps: Callable[[], None]) -> Graph | None:
    """A graph of what `steps` puts on the stream; None where that cannot be captured.

    A network without a graph is slower, no more: a capture that fails is logged and must not cost the GPU.

    Args:
        name: of the network, for the log.
        stream: nothing else is put on it meanwhile.
        capturable: asked first; see `gpu_batch.GpuPlan.capturable`.
        steps: puts the work on the stream, having done so once before.

    Raises:
        OutOfDeviceMemory, DeviceLost.
    """
    try:
        return stream.capture(steps) if capturable() else None
    except (OutOfDeviceMemory, DeviceLost):
        raise
    except EngineError as error:
        log.warning("%s runs without CUDA graphs, which is slower: %s", name, error)
        return None
