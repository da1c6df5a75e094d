"""MediaPipe's face mesh as a torch network, so that a loss can say where features have moved.

Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019 (Apache-2.0; the file is
the run time's own). OpenVINO reads it; the dozen kinds of operations that it is made of are run by torch here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rtface.geometry.alignment import RIGID
from training.crop_space import roi
from training.landmarks import EYES, LIPS

SIZE = 256
SQUARE = 1.3
"""Side of what the mesh is read in, over the height of the region of interest: about the run time's."""


def _padded(x: Tensor, kernel: tuple[int, ...], attributes: dict[str, Any], value: float = 0.0) -> Tensor:
    """An N×C×h×w picture with the margin that a convolution or pooling asks for."""
    if attributes["auto_pad"] in ("same_upper", "same_lower"):
        total = [max(0, (-(-n // s) - 1) * s + k - n)
                 for n, s, k in zip(x.shape[2:], attributes["strides"], kernel, strict=True)]  # fmt: skip
        before = [t // 2 if attributes["auto_pad"] == "same_upper" else t - t // 2 for t in total]
        after = [t - b for t, b in zip(total, before, strict=True)]
    else:
        before, after = list(attributes["pads_begin"]), list(attributes["pads_end"])
    return F.pad(x, (before[1], after[1], before[0], after[0]), value=value)


def _convolution(attributes: dict[str, Any], x: Tensor, weight: Tensor) -> Tensor:
    groups = 1
    if weight.ndim == 5:  # groups × channels out × in × rows × columns
        groups, weight = len(weight), weight.flatten(0, 1)
    x = _padded(x, tuple(weight.shape[2:]), attributes)
    return F.conv2d(x, weight, None, tuple(attributes["strides"]), 0, tuple(attributes["dilations"]), groups)


def _pool(attributes: dict[str, Any], x: Tensor) -> Tensor:
    kernel = tuple(attributes["kernel"])
    return F.max_pool2d(_padded(x, kernel, attributes, -torch.inf), kernel, tuple(attributes["strides"]))


def _pad(_: dict[str, Any], x: Tensor, begin: Tensor, end: Tensor, *__: Tensor) -> Tensor:
    margins = [int(n) for pair in zip(begin.tolist(), end.tolist(), strict=True) for n in pair[::-1]]
    return F.pad(x, margins[::-1])


def _unsqueeze(_: dict[str, Any], x: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(int(a) for a in axes.ravel().tolist()):
        x = x.unsqueeze(axis)
    return x


def _reshape(attributes: dict[str, Any], x: Tensor, shape: Tensor) -> Tensor:
    wanted = [x.shape[i] if n == 0 and attributes["special_zero"] else int(n) for i, n in enumerate(shape.tolist())]
    wanted[0] = len(x)  # the batch
    return x.reshape(wanted)


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Convert": lambda _, x: x.float() if x.is_floating_point() else x,
    "Unsqueeze": _unsqueeze,
    "Add": lambda _, a, b: a + b,
    "Transpose": lambda _, x, order: x.permute(order.tolist()),
    "Convolution": _convolution,
    "GroupConvolution": _convolution,
    "PRelu": lambda _, x, slope: torch.where(x > 0, x, x * slope),
    "Reshape": _reshape,
    "MaxPool": _pool,
    "Pad": _pad,
    "Sigmoid": lambda _, x: torch.sigmoid(x),
}
"""By OpenVINO's name: attributes and inputs → output."""


class MeshNet:
    """Pictures N×3×256×256 RGB of 0..1 → points N×478×3 in their pixels; differentiable, its weights are fixed.

    Raises:
        ValueError: the file holds an operation that is not known here.
    """

    def __init__(self) -> None:
        import openvino as ov

        with resources.as_file(resources.files("rtface.tracking.models") / "face_landmarks_detector.tflite") as path:
            model: Any = ov.Core().read_model(path)
        model.reshape([1, SIZE, SIZE, 3])
        self.fixed: dict[str, Tensor] = {}
        self.steps: list[tuple[str, str, dict[str, Any], list[str]]] = []
        self.answer = model.outputs[0].get_node().input_value(0).get_node().get_friendly_name()
        for node in model.get_ordered_ops():
            name, kind = node.get_friendly_name(), node.get_type_name()
            sources = [node.input_value(i).get_node().get_friendly_name() for i in range(node.get_input_size())]
            if kind == "Parameter":
                self.given = name
            elif kind == "Constant":
                self.fixed[name] = torch.from_numpy(np.array(node.get_data()))
            elif kind in OPERATIONS:
                if all(s in self.fixed for s in sources):  # weights stored in half precision
                    self.fixed[name] = OPERATIONS[kind](node.get_attributes(), *(self.fixed[s] for s in sources))
                else:
                    self.steps.append((name, kind, node.get_attributes(), sources))
            elif kind != "Result":
                raise ValueError(f"the face mesh holds an operation that is not known here: {kind}")

    def __call__(self, pictures: Tensor) -> Tensor:
        values = {self.given: pictures.permute(0, 2, 3, 1)}
        for name, kind, attributes, sources in self.steps:
            values[name] = OPERATIONS[kind](attributes, *(values[s] if s in values else self.fixed[s] for s in sources))
            if name == self.answer:
                break
        return values[self.answer].reshape(len(pictures), -1, 3)


class Places:
    """How far the features of two pictures lie apart."""

    def __init__(self) -> None:
        self.net = MeshNet()
        self.points = torch.from_numpy(np.unique(np.concatenate([RIGID, EYES, LIPS])))

    def __call__(self, a: Tensor, b: Tensor, size: int) -> Tensor:
        """N mean distances, in pixels of a canonical crop of 512, of lids, lips and rigid points in the regions of
        interest N×3×h×w (0..1) of two crops of side ``size``; differentiable in the first."""
        _, _, w, h = roi(size)
        at = (torch.arange(SIZE, dtype=torch.float32) + 0.5) / SIZE * 2 - 1
        y, x = torch.meshgrid(at * SQUARE, at * SQUARE * h / w, indexing="ij")
        grid = torch.stack([x, y], -1)[None]
        p, q = (F.grid_sample(z.float(), grid.expand(len(z), -1, -1, -1), padding_mode="border", align_corners=False)
                for z in (a, b))  # fmt: skip
        with torch.no_grad():
            truth = self.net(q)[:, self.points, :2]
        scale = SQUARE * h / SIZE * 512 / size
        return (self.net(p)[:, self.points, :2] - truth).norm(dim=2).mean(1) * scale
