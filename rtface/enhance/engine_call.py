"""The call of an engine: every crop that a run restores passes `submit_crop`."""

from __future__ import annotations

from concurrent.futures import Future

from rtface.frame import PixelsT
from rtface.protocols import MEMORY_S, Engine, Restored


def submit_crop(
    engine: Engine,
    pixels: PixelsT,
    time: float = 0.0,
    last: tuple[Future[Restored[PixelsT]] | None, float] | None = None,
) -> Future[Restored[PixelsT]]:
    """Submits a crop to an engine, for a correction, a keyframe or the analysis.

    Args:
        pixels: `Crops.pixels` of one face.
        time: of the frame, seconds.
        last: the engine's last answer for this face, done or not, and the time of that frame,
            seconds. A recurrent engine continues from its state, unless it is older than
            `MEMORY_S`.

    Returns:
        The answer, not waited for; its `result()` raises what the engine raised.
    """
    return engine.submit(pixels, last[0] if last and time - last[1] <= MEMORY_S else None)
