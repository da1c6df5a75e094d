"""Operators of ONNX on pictures: convolution, pooling, resampling (see `rtface.engine.torch_backend.onnx_ops`)."""
# pyright: reportMissingImports=false, reportUnknownParameterType=false, reportUnknownLambdaType=false

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from rtface.engine.torch_backend.onnx_ops import Node, Table

PICTURES = Table()

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAXIMA = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _pads(node: Node, sizes: list[int], kernel: list[int], strides: list[int],
          dilations: list[int]) -> tuple[list[int], list[int]]:
    """Padding before and after, by axis."""
    kind, n = node.get("auto_pad", "NOTSET"), len(sizes)
    if kind == "VALID":
        return [0] * n, [0] * n
    if kind == "NOTSET":
        pads = node.get("pads", [0] * 2 * n)
        return pads[:n], pads[n:]
    missing = [max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
               for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)]
    small, large = [m // 2 for m in missing], [m - m // 2 for m in missing]
    return (large, small) if kind == "SAME_LOWER" else (small, large)


def _padded(x: torch.Tensor, before: list[int], after: list[int], value: float = 0.0) -> torch.Tensor:
    flat = [size for pair in zip(before[::-1], after[::-1], strict=True) for size in pair]
    return F.pad(x, flat, value=value)


@PICTURES.add("Conv")
def _conv(node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    n = x.ndim - 2
    strides, dilations = node.get("strides", [1] * n), node.get("dilations", [1] * n)
    before, after = _pads(node, list(x.shape[2:]), list(weight.shape[2:]), strides, dilations)
    if before != after:
        x, before = _padded(x, before, after), [0] * n
    return _CONVOLVE[n](x, weight, bias, strides, before, dilations, node.get("group", 1))


@PICTURES.add("ConvTranspose")
def _conv_transpose(node: Node, x: torch.Tensor, weight: torch.Tensor,
                    bias: torch.Tensor | None = None) -> torch.Tensor:
    n = x.ndim - 2
    if "output_shape" in node.attributes or node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise node.refuse("output_shape or auto_pad")
    strides, dilations = node.get("strides", [1] * n), node.get("dilations", [1] * n)
    more = node.get("output_padding", [0] * n)
    before, after = _pads(node, list(x.shape[2:]), list(weight.shape[2:]), strides, dilations)
    same = before == after
    full = _TRANSPOSED[n](x, weight, bias, strides, before if same else [0] * n, more, node.get("group", 1), dilations)
    if not same:
        for axis, (first, last) in enumerate(zip(before, after, strict=True), 2):
            full = full.narrow(axis, first, full.shape[axis] - first - last)
    return full


@PICTURES.add("MaxPool")
def _max_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    n, kernel = x.ndim - 2, node.get("kernel_shape")
    strides, dilations = node.get("strides", [1] * n), node.get("dilations", [1] * n)
    before, after = _pads(node, list(x.shape[2:]), kernel, strides, dilations)
    if before != after or any(2 * pad > size for pad, size in zip(before, kernel, strict=True)):
        x, before = _padded(x, before, after, -math.inf), [0] * n
    return _MAXIMA[n](x, kernel, strides, before, dilations, bool(node.get("ceil_mode", 0)))


@PICTURES.add("AveragePool")
def _average_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    n, kernel = x.ndim - 2, node.get("kernel_shape")
    strides = node.get("strides", [1] * n)
    before, after = _pads(node, list(x.shape[2:]), kernel, strides, [1] * n)
    ceil, whole = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))
    if any(d != 1 for d in node.get("dilations", [])) or (ceil and any(before + after)):
        raise node.refuse("dilations, or ceil_mode and pads")
    if before == after and not any(2 * pad > size for pad, size in zip(before, kernel, strict=True)):
        return _AVERAGES[n](x, kernel, strides, before, ceil, whole)
    means = _AVERAGES[n](_padded(x, before, after), kernel, strides)
    if whole:
        return means
    inside = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    return means / _AVERAGES[n](_padded(inside, before, after), kernel, strides)


@PICTURES.add("GridSample")
def _grid_sample(node: Node, x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(node.get("mode", "linear"), node.get("mode", "linear"))
    return F.grid_sample(x, grid, mode, node.get("padding_mode", "zeros"), bool(node.get("align_corners", 0)))


@PICTURES.add("Upsample", host=(1,))
def _upsample(node: Node, x: torch.Tensor, scales: list[float] | None = None) -> torch.Tensor:
    scales = node.get("scales", scales)
    attributes = {"mode": node.get("mode", "nearest"), "coordinate_transformation_mode": "asymmetric",
                  "nearest_mode": "floor"}
    return _resize(Node("Upsample", node.name, node.inputs, node.outputs, attributes, node.opset), x, None, scales)


@PICTURES.add("Resize", host=(1, 2, 3))
def _resize(node: Node, x: torch.Tensor, roi: list[float] | None = None, scales: list[float] | None = None,
            sizes: list[int] | None = None) -> torch.Tensor:
    if node.opset == 10:  # X, scales
        scales, roi = roi, None
    mode = node.get("mode", "nearest")
    where = node.get("coordinate_transformation_mode", "asymmetric" if node.opset == 10 else "half_pixel")
    if where not in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        raise node.refuse(f"coordinate_transformation_mode={where}")
    if any(node.get(key, 0) not in (0, "stretch") for key in ("antialias", "exclude_outside",
                                                              "keep_aspect_ratio_policy")):
        raise node.refuse("antialias, exclude_outside or keep_aspect_ratio_policy")  # PyTorch's antialias is another
    axes = [a % x.ndim for a in node.get("axes", range(x.ndim))]
    factors, wanted = [1.0] * x.ndim, list(x.shape)
    for i, axis in enumerate(axes):
        if sizes:
            wanted[axis], factors[axis] = sizes[i], sizes[i] / x.shape[axis]
        elif scales:
            wanted[axis], factors[axis] = math.floor(x.shape[axis] * scales[i]), scales[i]
    if wanted[:2] != list(x.shape[:2]):
        raise node.refuse("a change of batch or channels")
    if mode == "cubic" or (mode == "linear" and where in ("half_pixel", "align_corners")):
        return _interpolated(node, x, mode, where, wanted, factors)
    for axis in range(2, x.ndim):
        if wanted[axis] != x.shape[axis]:
            x = _along(node, x, axis, wanted[axis], factors[axis], mode, where)
    return x


def _interpolated(node: Node, x: torch.Tensor, mode: str, where: str, wanted: list[int],
                  factors: list[float]) -> torch.Tensor:
    """By PyTorch's own kernels, where they compute what ONNX defines."""
    kind = {"linear": {3: "linear", 4: "bilinear", 5: "trilinear"}, "cubic": {4: "bicubic"}}[mode].get(x.ndim)
    if kind is None or where == "asymmetric" or (mode == "cubic" and node.get("cubic_coeff_a", -0.75) != -0.75):
        raise node.refuse(f"mode={mode} of {x.ndim} axes, coordinate_transformation_mode={where} or this cubic_coeff_a")
    corners = where == "align_corners"
    if any(f != w / s for f, w, s in zip(factors[2:], wanted[2:], x.shape[2:], strict=True)):
        return F.interpolate(x, scale_factor=factors[2:], mode=kind, align_corners=corners,
                             recompute_scale_factor=False)
    return F.interpolate(x, wanted[2:], mode=kind, align_corners=corners)


def _along(node: Node, x: torch.Tensor, axis: int, wanted: int, factor: float, mode: str, where: str) -> torch.Tensor:
    """Nearest or linear resampling of one axis, by any of ONNX's coordinates."""
    size = x.shape[axis]
    place = torch.arange(wanted, device=x.device, dtype=torch.float32)
    if where == "align_corners":
        place = place * ((size - 1) / (wanted - 1) if wanted > 1 else 0)
    elif where == "asymmetric":
        place = place / factor
    else:
        place = (place + 0.5) / factor - 0.5 if where == "half_pixel" or wanted > 1 else place * 0
    if mode == "nearest":
        near = node.get("nearest_mode", "round_prefer_floor")
        place = {"floor": torch.floor, "ceil": torch.ceil, "round_prefer_floor": lambda p: torch.ceil(p - 0.5),
                 "round_prefer_ceil": lambda p: torch.floor(p + 0.5)}[near](place)
        return x.index_select(axis, place.clamp(0, size - 1).long())
    place = place.clamp(0, size - 1)
    low = place.floor()
    share = (place - low).to(x.dtype).reshape([-1] + [1] * (x.ndim - axis - 1))
    first = low.long()
    return torch.lerp(x.index_select(axis, first), x.index_select(axis, (first + 1).clamp(max=size - 1)), share)
