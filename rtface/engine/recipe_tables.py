"""The tables of a ``recipe.toml``, key by key (docs/engines.md shows them); `rtface.engine.recipe` reads it whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FloatPrecision = Literal["bf16", "f32"]
Precision = Literal["int8", "fp16", "bf16", "f32"]
Family = Literal["CNN", "GAN", "transformer", "codebook", "diffusion"]


@dataclass(frozen=True, slots=True)
class Licence:
    """Who may use the engine and for what: SPDX names of code and weights, where the training data came from, and what
    more there is to say to who wants to use it."""

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
    """The network's file (relative to the recipe), its size in bytes, SHA-256 (hex) and number of parameters."""

    file: str
    bytes: int
    sha256: str
    parameters: int


CropRegion = tuple[int, int, int, int]
"""x, y, width and height in pixels."""


@dataclass(frozen=True, slots=True)
class Port:
    """The image that the network takes: tensor name, side of the crop in pixels, layout, value range, colour order;
    and the `region` of the crop that it is given and answers for, where that is not all of it."""

    name: str
    size: int
    region: CropRegion | None = None
    layout: Literal["NCHW"] = "NCHW"
    range: tuple[float, float] = (0.0, 1.0)
    colour: Literal["rgb"] = "rgb"


@dataclass(frozen=True, slots=True)
class Output:
    """What the network gives: tensor name and value range; size and colour are the input's. `residual`: not the
    restored image, but what is to be added to the input."""

    name: str
    range: tuple[float, float] = (0.0, 1.0)
    residual: bool = False


@dataclass(frozen=True, slots=True)
class RecurrentTensors:
    """Tensors of a recurrent network besides the crop.

    It remembers its answer for the input's region on a crop of side `grid`: the crop itself, or, where given, one
    smaller by a whole factor. Then the region of that smaller crop is the input `shrunk`, and the answer to it the
    output `kept`, both 1×3×h×w.

    Inputs: `past`, 1×3×h×w, 0…1, the answer for the frame before, as it was (to align it is the network's affair);
    `known`, 1×1×1×1, is 1, and 0 on a face's first frame. A network's own state, 1×`shape`, is the input `state` and
    the output `next`.

    A network with `heads` also gives `log_scale` (of the error left) and `occlusion` (0…1), each 1×1×`maps` (rows,
    columns), over the region.
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
    """Which template the crop is aligned to (see `rtface.geometry.alignment`)."""

    template: Literal["ffhq"] = "ffhq"


@dataclass(frozen=True, slots=True)
class Batch:
    """Smallest and largest number of crops in one run of the network, for backends that gain by batching; `opt` is the
    number that a backend tunes for which tunes for one (no more than `max` counts)."""

    min: int = 1
    opt: int = 4
    max: int = 8


@dataclass(frozen=True, slots=True)
class Precisions:
    """Arithmetic to use where a CPU has it, what to fall back to, and the ONNX nodes that stay in fp32 everywhere."""

    default: FloatPrecision = "f32"
    fallback: FloatPrecision = "f32"
    fp32_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Control:
    """A number of 0…1 that the network takes besides the crop.

    Attributes:
        name: of its float32 input, N×1.
        default: its value unless the user sets another; also that of the golden crops.
    """

    name: str
    default: float


@dataclass(frozen=True, slots=True)
class EngineControls:
    """What a user may turn: `strength` scales the correction; `fidelity`, of some networks, is how near the answer has
    to stay to the crop (1) instead of being beautiful (0)."""

    strength: bool = True
    fidelity: Control | None = None


@dataclass(frozen=True, slots=True)
class Psnr:
    """Least PSNR in dB against the golden outputs, by precision; None where the recipe does not allow it."""

    f32: float
    bf16: float | None = None
    fp16: float | None = None
    int8: float | None = None


@dataclass(frozen=True, slots=True)
class Golden:
    """An npz with ``crops`` (uint8 N×S×S×3 RGB) and the reference's answers ``restored`` (float N×3×S×S, 0…1).

    Of a recurrent engine also ``next_crops`` and ``next_restored``: the frames after those, with what it remembers.
    `sha256` (hex) of the file, where it is given, is part of what a verdict is remembered by, as all of a recipe is.
    """

    file: str
    psnr: Psnr
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """The published file that an engine was made of (``rtface engines add``): its name, size in bytes and SHA-256
    (hex), and the address that it was fetched from, "" for a file of the user's own."""

    file: str
    bytes: int
    sha256: str
    url: str = ""
