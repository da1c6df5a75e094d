"""The base class of engines that are ready to run, on any device."""

from __future__ import annotations

from rtface.engine.golden import GoldenResult
from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Recipe

# Bytes of weights from which on a film asks an engine about keyframes only: on a CPU, and on an NVIDIA GPU.
_HEAVY, _HEAVY_ON_GPU = 64 << 20, 1 << 30


class EngineBase:
    """The part of `rtface.protocols.Engine` that follows from its recipe, and figures for the report.

    Attributes:
        recipe: what it is.
        size: S, the side in pixels of the square crop it takes.
        whole: it answers for all of the crop, so that `--region head` has something to show.
        vivid: it makes up detail.
        heavy: films run it on keyframes only, unless another spacing is asked for. It follows from the size of its
            weights and from where it runs, not from a measured time: two runs of a film give the same bits whatever
            else the computer does.
        device, backend, precision: where and how it runs, as "cpu", "openvino 2026.4.1" and "int8".
        threads: how many threads compute a crop, in words, where the answers depend on that; else empty.
        psnr: dB against its golden crops.
        ms: milliseconds that one crop takes where nothing else runs, as far as that was seen.
        reason: one line saying what runs where, and why.
    """

    threads = ""

    def __init__(
        self, recipe: Recipe, identity: PlanIdentity, verdict: GoldenResult, device: str, where: str, why: str
    ) -> None:
        self.recipe, self.device = recipe, device
        self.name, self.size, self.whole = recipe.name, recipe.input.size, recipe.input.region is None
        self.recurrent, self.vivid = recipe.recurrent, recipe.vivid
        self.heavy = recipe.weights.bytes >= (_HEAVY_ON_GPU if "cuda" in device else _HEAVY)
        self.backend = f"{identity.backend} {identity.library.split('-')[0]}"
        self.precision, self.psnr, self.ms = identity.precision, verdict.psnr, verdict.ms
        self.reason = f"{recipe.name}: {self.backend} in {self.precision}{where} ({why})"

    def stand_back(self) -> None:
        """Nothing: on a GPU, or where the system has no such thing."""
