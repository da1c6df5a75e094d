"""Opens an engine on a GPU by its recipe, through TensorRT."""

from __future__ import annotations

from collections.abc import Callable

from rtface.device.cuda.stream_thread import StreamThread
from rtface.engine.cuda.batch import GpuPlan
from rtface.engine.cuda.engine import GpuEngine
from rtface.engine.plan import GoldenResult
from rtface.engine.recipe import Recipe

Progress = Callable[[str, float], None]
Found = tuple[GpuPlan, GoldenResult, str]


def open_gpu_engine(owner: StreamThread, recipe: Recipe, ordinal: int = 0, *,
                    progress: Progress | None = None) -> GpuEngine:
    """Opens the plan that is kept, or builds it, lets it pass the golden gate, warms up and captures.

    Args:
        owner: of the GPU.
        recipe: the engine.
        ordinal: the GPU's number, as the driver counts.
        progress: told what is being built, and how far it is (0…1).

    Raises:
        MissingComponent: the engine's files are not there, or no TensorRT that runs on this GPU.
        EngineError: no precision gives the reference's answers.
        OutOfDeviceMemory, DeviceLost.
    """
    recipe.check_weights()
    plan, verdict, why = owner.run(lambda: _tensorrt(owner, recipe, progress)).result()
    name = f"cuda:{ordinal}" if ordinal else "cuda"
    try:
        engine = GpuEngine(owner, recipe, plan, verdict, why, name)
    except BaseException:
        owner.run(plan.close)
        raise
    keep = getattr(plan, "keep_kernels", None)
    if keep is not None:  # what the library compiled while it was warmed up
        owner.run(keep).result()
    return engine


def _tensorrt(owner: StreamThread, recipe: Recipe, progress: Progress | None) -> Found:
    from rtface.engine.tensorrt import open_tensorrt  # its packages are an extra

    plan, verdict = open_tensorrt(recipe, owner.gpu, progress=progress)
    return plan, verdict, f"{verdict.psnr:.0f} dB against its golden crops"
