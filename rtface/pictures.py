"""Small networks over one square picture, which find faces and their points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rtface.frame import Bytes, Float32


@dataclass(frozen=True, slots=True)
class PictureNetwork:
    """A small network that a tracker runs on one square picture at a time.

    Attributes:
        name: for messages and file names.
        path, sha256: of its ONNX file, which takes one picture.
        size: side of the picture in pixels.
        input: tensor name of the picture, float32.
        layout: of the picture, 1×S×S×3 or 1×3×S×S.
        bgr: whether it wants BGR.
        divisor: what the samples are divided by.
        outputs: shapes without the batch, float32, by tensor name in the order in which they are wanted.
    """

    name: str
    path: Path
    sha256: str
    size: int
    input: str
    outputs: Mapping[str, tuple[int, ...]]
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    bgr: bool = False
    divisor: float = 1.0


class PictureRunner(Protocol):
    """Such a network, ready on some device. Not for use from several threads."""

    def __call__(self, rgb: Bytes) -> Sequence[Float32]:
        """The outputs for a uint8 S×S×3 picture; valid until the next call."""
        ...

    def close(self) -> None: ...
