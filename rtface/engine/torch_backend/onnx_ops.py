"""The operators of ONNX that restorers use, computed in PyTorch: arithmetic, and what all of them share. ONNX's own
documentation of its operators says what each does.

What PyTorch cannot compute exactly as ONNX defines it is refused with EngineError before the network runs, not
approximated. Nothing here looks at the values of a tensor or copies from the host, so no device is ever waited for.
"""
# pyright: reportMissingImports=false, reportUnknownParameterType=false, reportMissingParameterType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from onnx import TensorProto

from rtface.errors import EngineError


@dataclass(frozen=True, slots=True)
class Node:
    """One node: operator, name, tensors, attributes, the opset it is of, and the floating-point type to compute in."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    opset: int = 0
    dtype: torch.dtype = torch.float32

    def computing_in(self, dtype: torch.dtype) -> Node:
        return replace(self, dtype=dtype)

    def get(self, key: str, default: Any = None) -> Any:
        return self.attributes.get(key, default)

    def refuse(self, what: str) -> EngineError:
        return EngineError(f"node {self.name}: the PyTorch backend does not know {self.op} with {what}")


@dataclass(frozen=True, slots=True)
class Operator:
    """How one operator is computed.

    Attributes:
        compute: takes the node and its inputs (None for those left out), gives its output or a sequence of them.
        host: inputs that come as plain Python numbers and lists: they have to be known before the network runs.
        of_shape: the answer follows from the shapes of the inputs.
    """

    compute: Callable[..., Any]
    host: tuple[int, ...] = ()
    of_shape: bool = False


class Table(dict[str, Operator]):
    """Operators by ONNX's name."""

    def add(self, *names: str, host: tuple[int, ...] = (), of_shape: bool = False) -> Callable[[Any], Any]:
        """Registers a function for operators of these names; see `Operator`."""
        def register(compute: Any) -> Any:
            self.update(dict.fromkeys(names, Operator(compute, host, of_shape)))
            return compute
        return register


MATH = Table()


def _plain(**functions: Callable[..., Any]) -> None:
    """Operators without attributes."""
    for name, function in functions.items():
        MATH[name] = Operator(lambda node, *given, _function=function: _function(*given))


def _divide(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _fold(function: Callable[..., Any]) -> Callable[..., Any]:
    def over(first: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        for other in rest:
            first = function(first, other)
        return first
    return over


_plain(
    Abs=torch.abs, Neg=torch.neg, Sqrt=torch.sqrt, Exp=torch.exp, Log=torch.log, Erf=torch.erf, Floor=torch.floor,
    Ceil=torch.ceil, Round=torch.round, Sign=torch.sign, Sin=torch.sin, Cos=torch.cos, Tanh=torch.tanh,
    Sigmoid=torch.sigmoid, Relu=torch.relu, Reciprocal=torch.reciprocal, Softplus=F.softplus, Softsign=F.softsign,
    Mish=F.mish, HardSwish=F.hardswish, Identity=lambda x: x, Not=torch.logical_not, And=torch.logical_and,
    Or=torch.logical_or, Xor=torch.logical_xor, Add=torch.add, Sub=torch.sub, Mul=torch.mul, Div=_divide,
    Equal=torch.eq, Less=torch.lt, Greater=torch.gt, LessOrEqual=torch.le, GreaterOrEqual=torch.ge, Where=torch.where,
    Pow=lambda x, y: torch.pow(x, y).to(x.dtype), PRelu=lambda x, slope: torch.where(x < 0, x * slope, x),
    Min=_fold(torch.minimum), Max=_fold(torch.maximum), Sum=_fold(torch.add),
    Mean=lambda *xs: _fold(torch.add)(*xs) / len(xs), MatMul=torch.matmul,
    GlobalAveragePool=lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    GlobalMaxPool=lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True))

MATH.update({
    "LeakyRelu": Operator(lambda node, x: F.leaky_relu(x, node.get("alpha", 0.01))),
    "Elu": Operator(lambda node, x: F.elu(x, node.get("alpha", 1.0))),
    "HardSigmoid": Operator(lambda node, x: (x * node.get("alpha", 0.2) + node.get("beta", 0.5)).clamp(0, 1)),
    "Gelu": Operator(lambda node, x: F.gelu(x, approximate=node.get("approximate", "none"))),
    "Dropout": Operator(lambda node, x, *_: x),
    "Mod": Operator(lambda node, a, b: torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)),
    "Einsum": Operator(lambda node, *xs: torch.einsum(node.get("equation"), *xs)),
    "Concat": Operator(lambda node, *xs: torch.cat(xs, node.get("axis"))),
    "Transpose": Operator(lambda node, x: x.permute(node.get("perm", list(range(x.ndim))[::-1]))),
    "Shape": Operator(lambda node, x: torch.tensor(list(x.shape)[node.get("start", 0):node.get("end")]), (), True),
    "Size": Operator(lambda node, x: torch.tensor(math.prod(x.shape)), (), True),
    "Expand": Operator(lambda node, x, shape: x.expand(torch.broadcast_shapes(x.shape, shape)), (1,)),
    "Tile": Operator(lambda node, x, repeats: x.repeat(repeats), (1,)),
    "Range": Operator(lambda node, start, limit, step: torch.arange(start, limit, step), (0, 1, 2)),
})

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_TYPES = {TensorProto.INT64: torch.int64, TensorProto.INT32: torch.int32, TensorProto.INT16: torch.int16,
          TensorProto.INT8: torch.int8, TensorProto.UINT8: torch.uint8, TensorProto.BOOL: torch.bool}


@MATH.add("Cast")
def _cast(node: Node, x: torch.Tensor) -> torch.Tensor:
    to = node.get("to")
    if to not in _FLOATS and to not in _TYPES:
        raise node.refuse(f"to={TensorProto.DataType.Name(to)}")
    return x.to(node.dtype if to in _FLOATS else _TYPES[to])


@MATH.add("Constant")
def _constant(node: Node) -> torch.Tensor:
    key, value = next(iter(node.attributes.items()))
    if key == "value":
        return value
    if key in ("value_float", "value_floats", "value_int", "value_ints"):
        return torch.tensor(value, dtype=torch.float32 if "float" in key else torch.int64)
    raise node.refuse(key)


@MATH.add("ConstantOfShape", host=(0,))
def _constant_of_shape(node: Node, shape: list[int]) -> torch.Tensor:
    value = node.get("value", torch.zeros(1))
    return torch.full(shape, value.item(), dtype=value.dtype)


@MATH.add("Gemm")
def _gemm(node: Node, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
    product = (a.T if node.get("transA", 0) else a) @ (b.T if node.get("transB", 0) else b)
    if (alpha := node.get("alpha", 1.0)) != 1:
        product = product * alpha
    return product if c is None else product + c * node.get("beta", 1.0)


@MATH.add("Clip", host=(1, 2))
def _clip(node: Node, x: torch.Tensor, low: float | None = None, high: float | None = None) -> torch.Tensor:
    low, high = node.get("min", low), node.get("max", high)
    return x if low is None and high is None else torch.clamp(x, low, high)


@MATH.add("Softmax", "LogSoftmax")
def _softmax(node: Node, x: torch.Tensor) -> torch.Tensor:
    function = torch.softmax if node.op == "Softmax" else torch.log_softmax
    if node.opset >= 13:
        return function(x, node.get("axis", -1))
    flat = x.flatten(node.get("axis", 1))  # the axis and all after it count as one
    return function(flat, -1).reshape(x.shape)


@MATH.add("CumSum", host=(1,))
def _cumsum(node: Node, x: torch.Tensor, axis: int) -> torch.Tensor:
    if node.get("exclusive", 0) or node.get("reverse", 0):
        raise node.refuse("exclusive or reverse")
    return torch.cumsum(x, axis)


@MATH.add("TopK", host=(1,))
def _topk(node: Node, x: torch.Tensor, k: list[int]) -> Sequence[torch.Tensor]:
    return tuple(torch.topk(x, k[0], node.get("axis", -1), bool(node.get("largest", 1)), bool(node.get("sorted", 1))))


@MATH.add("ArgMax", "ArgMin")
def _arg(node: Node, x: torch.Tensor) -> torch.Tensor:
    if node.get("select_last_index", 0):
        raise node.refuse("select_last_index")
    function = torch.argmax if node.op == "ArgMax" else torch.argmin
    return function(x, node.get("axis", 0), keepdim=bool(node.get("keepdims", 1)))


_REDUCERS: dict[str, Callable[..., Any]] = {
    "ReduceSum": torch.sum, "ReduceMean": torch.mean, "ReduceMax": torch.amax, "ReduceMin": torch.amin,
    "ReduceLogSumExp": torch.logsumexp, "ReduceL1": lambda x, *a: torch.sum(x.abs(), *a),
    "ReduceL2": lambda x, *a: torch.sqrt(torch.sum(x * x, *a)), "ReduceSumSquare": lambda x, *a: torch.sum(x * x, *a)}


@MATH.add(*_REDUCERS, host=(1,))
def _reduce(node: Node, x: torch.Tensor, axes: list[int] | None = None) -> torch.Tensor:
    axes = axes or node.get("axes")
    if not axes:
        if node.get("noop_with_empty_axes", 0):
            return x
        axes = list(range(x.ndim))
    return _REDUCERS[node.op](x, axes, bool(node.get("keepdims", 1)))


@MATH.add("ReduceProd", host=(1,))
def _product(node: Node, x: torch.Tensor, axes: list[int] | None = None) -> torch.Tensor:
    chosen: list[int] = axes or node.get("axes") or list(range(x.ndim))
    for axis in sorted((a % x.ndim for a in chosen), reverse=True):
        x = x.prod(axis, keepdim=bool(node.get("keepdims", 1)))
    return x


@MATH.add("BatchNormalization")
def _batch_norm(node: Node, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor,
                variance: torch.Tensor) -> torch.Tensor:
    if node.get("training_mode", 0):
        raise node.refuse("training_mode")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, node.get("epsilon", 1e-5))


@MATH.add("InstanceNormalization")
def _instance_norm(node: Node, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


@MATH.add("LayerNormalization")
def _layer_norm(node: Node, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    shape = x.shape[node.get("axis", -1):]
    normal = F.layer_norm(x, shape, eps=node.get("epsilon", 1e-5)) * scale
    return normal if bias is None else normal + bias


@MATH.add("GroupNormalization")
def _group_norm(node: Node, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    groups = node.get("num_groups")
    if len(scale) != x.shape[1]:  # up to opset 20 there was one value for each group
        scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
    return F.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


@MATH.add("LpNormalization")
def _lp_norm(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x / torch.linalg.vector_norm(x, node.get("p", 2), node.get("axis", -1), keepdim=True)
