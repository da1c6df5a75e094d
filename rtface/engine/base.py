"""The base class of loaded engines on any device."""

from __future__ import annotations

from rtface.engine.golden import GoldenResult
from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Recipe

# In films, engines with larger weights run on keyframes only: the limits for a CPU and an NVIDIA GPU.
_HEAVY_BYTES, _HEAVY_ON_GPU_BYTES = 64 << 20, 1 << 30


class EngineBase:
    """The base class of engines (`rtface.protocols.Engine`), with figures for the report.

    Attributes:
        recipe: the engine's recipe.
        size: S, the side in pixels of the engine's square crop.
        whole: whether the engine restores the whole crop, so that `--region head` has an effect.
        vivid: whether the engine invents detail.
        heavy: whether films run the engine on keyframes only, unless another spacing is requested. Depends on the size
            of the weights and on the device, but not on measured times, so that the output does not depend on load.
        device, backend, precision: how the engine runs, such as "cpu", "openvino 2026.4.1" and "int8".
        threads: text for the report, such as "3 threads" per crop, if the answers depend on it; else empty.
        psnr: PSNR in dB of the worst golden crop.
        ms: minimum measured milliseconds for one crop, close to the time on an idle machine.
        reason: one line about the choice of backend and precision.
    """

    threads = ""

    def __init__(
        self, recipe: Recipe, identity: PlanIdentity, verdict: GoldenResult, device: str, placement: str, reason: str
    ) -> None:
        self.recipe, self.device = recipe, device
        self.name, self.size, self.whole = recipe.name, recipe.input.size, recipe.input.region is None
        self.recurrent, self.vivid = recipe.recurrent, recipe.vivid
        self.heavy = recipe.weights.bytes >= (_HEAVY_ON_GPU_BYTES if "cuda" in device else _HEAVY_BYTES)
        self.backend = f"{identity.backend} {identity.library.split('-')[0]}"
        self.precision, self.psnr, self.ms = identity.precision, verdict.psnr, verdict.ms
        self.reason = f"{recipe.name}: {self.backend} in {self.precision}{placement} ({reason})"

    def stand_back(self) -> None:
        """Lowers the priority of the engine's work. Does nothing where priorities are not supported."""
