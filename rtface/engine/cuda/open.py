"""Opens an engine on a GPU by its recipe, through TensorRT."""

from __future__ import annotations

from rtface.device.cuda.stream_thread import StreamThread
from rtface.engine.cuda.engine import GpuEngine
from rtface.engine.recipe import Recipe
from rtface.engine.tensorrt import open_tensorrt


def open_gpu_engine(streams: StreamThread, recipe: Recipe, ordinal: int = 0) -> GpuEngine:
    """Opens the plan that is kept, or builds it, lets it pass the golden gate, warms up and captures.

    Args:
        streams: of the GPU.
        recipe: the engine.
        ordinal: the GPU's number, as the driver counts.

    Raises:
        MissingComponent: the engine's files are not there, or no TensorRT that runs on this GPU.
        EngineError: no precision gives the reference's answers.
        OutOfDeviceMemory, DeviceLost.
    """
    plan, verdict = streams.run(lambda: open_tensorrt(recipe, streams.gpu)).result()
    why = f"{verdict.psnr:.0f} dB against its golden crops"
    name = f"cuda:{ordinal}" if ordinal else "cuda"
    try:
        engine = GpuEngine(streams, recipe, plan, verdict, why, name)
    except BaseException:
        streams.run(plan.close)
        raise
    streams.run(plan.keep_kernels).result()  # what the library compiled while it was warmed up
    return engine
