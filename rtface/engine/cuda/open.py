"""Opens an engine on a GPU by its recipe, through TensorRT."""

from __future__ import annotations

from rtface.device.cuda.stream_thread import StreamThread
from rtface.engine.cuda.engine import GpuEngine
from rtface.engine.recipe import Recipe
from rtface.engine.tensorrt import open_tensorrt


def open_gpu_engine(streams: StreamThread, recipe: Recipe, ordinal: int = 0) -> GpuEngine:
    """Opens an engine with its cached plan, or builds one.

    The plan must pass the golden gate. Then the engine warms up and captures its graphs.

    Args:
        streams: the GPU's stream thread.
        recipe: recipe of the engine.
        ordinal: number of the GPU in the driver's order.

    Raises:
        MissingComponent: files of the engine, or a TensorRT that supports this GPU, are missing.
        EngineError: no precision matches the reference.
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
    streams.run(plan.keep_kernels).result()  # caches what was compiled during the warm-up
    return engine
