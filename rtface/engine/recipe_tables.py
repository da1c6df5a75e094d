"""The tables of a ``recipe.toml`` (see docs/engines.md), which `rtface.engine.recipe` reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FloatPrecision = Literal["bf16", "f32"]
Precision = Literal["int8", "fp16", "bf16", "f32"]
Family = Literal["CNN", "GAN", "transformer", "codebook", "diffusion"]


@dataclass(frozen=True, slots=True)
class Licence:
    """The licence of an engine: SPDX names of code and weights, origin of the training data, and additional terms
    for users."""

    code: str
    weights: str
    commercial_use: bool
    data: str
    terms: str = ""

    @property
    def shown(self) -> str:
        """Text such as "Apache-2.0" or "code Apache-2.0, weights S-Lab-1.0"."""
        return self.code if self.code == self.weights else f"code {self.code}, weights {self.weights}"


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """The network's file: path relative to the recipe, bytes, SHA-256 (hex), number of parameters."""

    file: str
    bytes: int
    sha256: str
    parameters: int


CropRegion = tuple[int, int, int, int]
"""x, y, width and height in pixels."""


@dataclass(frozen=True, slots=True)
class Port:
    """The network's input image: tensor name, side of the crop in pixels, layout, value range, colour order. `region`
    is the part of the crop that the network processes; None for the whole crop."""

    name: str
    size: int
    region: CropRegion | None = None
    layout: Literal["NCHW"] = "NCHW"
    range: tuple[float, float] = (0.0, 1.0)
    colour: Literal["rgb"] = "rgb"


@dataclass(frozen=True, slots=True)
class Output:
    """The network's output: tensor name and value range. Size and colour order are the input's. With `residual`, the
    output is the difference from the input, not the restored image."""

    name: str
    range: tuple[float, float] = (0.0, 1.0)
    residual: bool = False


@dataclass(frozen=True, slots=True)
class RecurrentTensors:
    """Tensors of a recurrent network besides the crop.

    The answer for the region is an input for the next frame. If `grid` is set, it refers to a copy of the crop that is
    reduced by a whole factor to side `grid`: input `shrunk` is the copy's region, output `kept` the answer for it, both
    1×3×h×w.

    Input `past` (1×3×h×w, 0…1) is the answer for the previous frame, which the network aligns. Input `known` (1×1×1×1)
    is 0 on a face's first frame, else 1. The network's internal state, 1×`shape`, is input `state` and output `next`.

    A network with `heads` also returns `log_scale` (of the remaining error) and `occlusion` (0…1), each 1×1×`maps`
    (rows, columns), over the region.
    """

    shape: tuple[int, int, int] | None = None
    grid: int | None = None
    past: str = "past"
    state: str = "state"
    known: str = "known"
    shrunk: str = "shrunk"
    kept: str = "kept"
    next: str = "next"
    maps: tuple[int, int] = (1, 1)
    heads: bool = False
    log_scale: str = "log_scale"
    occlusion: str = "occlusion"


@dataclass(frozen=True, slots=True)
class Alignment:
    """The template that the crop is aligned to (see `rtface.geometry.alignment`)."""

    template: Literal["ffhq"] = "ffhq"


@dataclass(frozen=True, slots=True)
class Batch:
    """Minimum and maximum number of crops per run, for backends that batch. Backends that optimise for one size use
    `opt` (limited to `max`)."""

    min: int = 1
    opt: int = 4
    max: int = 8


@dataclass(frozen=True, slots=True)
class Precisions:
    """The preferred CPU precision, the fallback, and ONNX nodes kept in fp32."""

    default: FloatPrecision = "f32"
    fallback: FloatPrecision = "f32"
    fp32_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Control:
    """An input of the network besides the crop: a number, 0…1.

    Attributes:
        name: name of the float32 input, N×1.
        default: value if the user sets none; also used for the golden crops.
    """

    name: str
    default: float


@dataclass(frozen=True, slots=True)
class EngineControls:
    """The controls for users. `strength` scales the correction. Some networks have a `fidelity` control: 1 keeps the
    answer close to the crop, 0 makes it look best."""

    strength: bool = True
    fidelity: Control | None = None


@dataclass(frozen=True, slots=True)
class Psnr:
    """Minimum PSNR in dB against the golden outputs, by precision. None forbids a precision."""

    f32: float
    bf16: float | None = None
    fp16: float | None = None
    int8: float | None = None


@dataclass(frozen=True, slots=True)
class Golden:
    """The golden crops and the reference's answers, in an npz file.

    Arrays: ``crops`` (uint8 N×S×S×3 RGB) and ``restored`` (float N×3×S×S, 0…1); for a recurrent engine also
    ``next_crops`` and ``next_restored``, the following frames, restored with the engine's state. An optional `sha256`
    (hex) of the file is, like the whole recipe, part of the identity of a cached verdict.
    """

    file: str
    psnr: Psnr
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """The published file that an engine was converted from (``rtface engines add``): name, size in bytes, SHA-256
    (hex), and download URL, "" for the user's file."""

    file: str
    bytes: int
    sha256: str
    url: str = ""
