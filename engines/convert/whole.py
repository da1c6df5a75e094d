"""Converts a weights file to ``model.onnx`` and ``golden.npz``."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch

from .errors import ConvertError
from .graph import fold, match_nodes, to_onnx
from .int8 import ranges
from .offers import Offer, read_offer
from .states import load_weights

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Report = Callable[[str, float], None]
"""Function that is called with a stage (load, export, golden, check, int8) and its completed share, 0…1."""

TOLERANCE = 1e-3
"""Maximum difference of ONNX from torch, relative to the output's range."""

BATCH = 3
"""Number of crops in the batch that is checked in addition to single crops."""


def convert(folder: Path, name: str, weights: Path, crops: Path, out: Path, report: Report) -> dict[str, Any]:
    """Writes the converted network and its files into ``out``.

    The files are ``model.onnx``, ``golden.npz``, and ``int8.json`` if the offer sets a PSNR for int8. They are moved to
    ``out`` when all are complete and the network is checked. Returns the number of ``parameters``, ``fp32_nodes``
    (names), ``onnx_error`` (maximum difference from torch, relative to the output's range), ``left_out``, and ``bytes``
    and ``sha256`` of the network. ``left_out`` is the number of crops that differ more, at most a third: if two
    codebook entries are equally near, rounding chooses between them and changes a patch. Raises ConvertError.
    """
    report("load", 0.0)
    offer = read_offer(folder, name)
    pictures = read_crops(crops, offer.size)
    module = offer.build()
    load_weights(weights, offer, module)
    module.requires_grad_(requires_grad=False)
    report("load", 1.0)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".convert-") as scratch:
        result = _convert_into(Path(scratch), offer, module, pictures, report)
        for file in sorted(Path(scratch).iterdir()):
            file.replace(out / file.name)
    return result


def _convert_into(out: Path, offer: Offer, module: torch.nn.Module, pictures: U8, report: Report) -> dict[str, Any]:
    report("export", 0.0)
    model = export(offer, module)
    try:
        fp32_nodes = match_nodes(model, offer.fp32_nodes)
    except ValueError as error:
        raise ConvertError(f"{offer.folder / 'offers.toml'}: precision.fp32_nodes: {error}") from error
    path = out / "model.onnx"
    data = model.SerializeToString()
    path.write_bytes(data)
    size, digest = len(data), hashlib.sha256(data).hexdigest()
    del data
    report("export", 1.0)
    crops = as_floats(pictures, offer)
    answers = golden(offer, module, crops, report)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    errors = np.array([difference(offer, session, c[None], a[None], {}) for c, a in zip(crops, answers, strict=True)])
    is_golden = errors <= TOLERANCE
    if 3 * is_golden.sum() < 2 * len(crops):
        raise ConvertError(
            f"{offer.name}: ONNX differs from torch by {errors.max():.2g} of the range, more than {TOLERANCE:g}"
        )
    pictures, crops, answers = pictures[is_golden], crops[is_golden], answers[is_golden]
    with (out / "golden.npz").open("wb") as file:
        np.savez_compressed(file, crops=pictures, restored=in_unit(answers, offer))
    worst = max(errors[is_golden].max(), compare(offer, module, session, crops, answers, report))
    if not worst <= TOLERANCE:
        raise ConvertError(
            f"{offer.name}: ONNX differs from torch by {worst:.2g} of the range in a batch, more than {TOLERANCE:g}"
        )
    del session
    if offer.int8:
        calibrate(offer, model, digest, crops, out / "int8.json", report)
    return {
        "parameters": sum(p.numel() for p in module.parameters()),
        "fp32_nodes": fp32_nodes,
        "onnx_error": float(worst),
        "left_out": int((~is_golden).sum()),
        "bytes": size,
        "sha256": digest,
    }


def calibrate(offer: Offer, model: onnx.ModelProto, digest: str, crops: F32, path: Path, report: Report) -> None:
    """Writes ``int8.json``. Ranges are measured on all crops but the first, so that the golden gate, which uses all
    crops, also judges one that did not influence the ranges."""
    report("int8", 0.0)
    convolutions = ranges(model, (ports(offer, crop[None], {}) for crop in crops[1:]))
    table = {"weights": digest, "crops": list(range(len(crops))), "convolutions": convolutions}
    if convolutions:
        path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    report("int8", 1.0)


def read_crops(path: Path, size: int) -> U8:
    """Reads ``crops`` from an npz file, uint8 N×size×size×3. Raises ConvertError if they are unusable."""
    try:
        with np.load(path, allow_pickle=False) as file:
            crops = file["crops"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConvertError(f"crops {path} cannot be read: {error}") from error
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (size, size, 3) or not len(crops):
        raise ConvertError(f"crops {path} must be uint8 N×{size}×{size}×3, got {crops.dtype} {crops.shape}")
    return crops


def as_floats(crops: U8, offer: Offer) -> F32:
    """Converts uint8 N×S×S×3 to float32 N×3×S×S in the network's input range."""
    low, high = offer.range
    return np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(np.float32) / 255 * np.float32(high - low) + low


def in_unit(answers: F32, offer: Offer) -> npt.NDArray[np.float16]:
    """Scales answers to 0…1 in fp16, clipped as at run time. fp16 compresses better than float32, and its step is
    only a quarter of the tolerance."""
    low, high = offer.answers
    return np.clip((answers - low) / (high - low), 0, 1).astype(np.float16)


def export(offer: Offer, module: torch.nn.Module) -> onnx.ModelProto:
    """Exports and checks a static graph. Only its batch size is variable."""
    ports = {offer.input: torch.zeros(2, 3, offer.size, offer.size)}
    ports |= {port: torch.full((2, 1), value) for port, value in offer.controls.items()}
    model = to_onnx(module, ports, [offer.output])
    fold(model)
    model.graph.name = offer.name
    model.doc_string = f"{offer.name} {offer.version}"
    onnx.checker.check_model(model)
    return model


def golden(offer: Offer, module: torch.nn.Module, crops: F32, report: Report) -> F32:
    """Runs each crop alone in torch (fp32, default controls). Returns the answers, N×3×S×S in the output's range."""
    answers: list[F32] = []
    for i, crop in enumerate(crops):
        report("golden", i / len(crops))
        answers.append(run(offer, module, crop[None], {}))
    stacked = np.concatenate(answers)
    if stacked.shape != crops.shape:
        raise ConvertError(f"{offer.name}: the network returns {stacked.shape} for {crops.shape}")
    if not np.isfinite(stacked).all():
        raise ConvertError(f"{offer.name}: the network returns values that are not numbers; the weights may be damaged")
    report("golden", 1.0)
    return stacked


def run(offer: Offer, module: torch.nn.Module, crops: F32, controls: dict[str, F32]) -> F32:
    """Runs the module on a batch. ``controls``: values N×1 by port; defaults are used for missing controls."""
    with torch.no_grad():
        inputs = ports(offer, crops, controls)
        return module(*(torch.from_numpy(v) for v in inputs.values())).numpy()


def ports(offer: Offer, crops: F32, controls: dict[str, F32]) -> dict[str, F32]:
    defaults = {port: np.full((len(crops), 1), value, np.float32) for port, value in offer.controls.items()}
    return {offer.input: crops} | defaults | controls


def compare(offer: Offer, module: torch.nn.Module, session: onnxruntime.InferenceSession, crops: F32, answers: F32,
            report: Report) -> float:  # fmt: skip
    """Returns ONNX Runtime's maximum relative difference from torch on a batch. If the network has controls,
    also compares a batch in which each crop has different control values."""
    batch = np.resize(np.arange(len(crops)), BATCH)
    cases: list[tuple[F32, dict[str, F32]]] = [(answers[batch], {})]
    if offer.controls:
        varied = {port: np.linspace(0, 1, BATCH, dtype=np.float32)[:, None] for port in offer.controls}
        cases.append((run(offer, module, crops[batch], varied), varied))
    worst = 0.0
    for i, (expected, controls) in enumerate(cases):
        report("check", i / len(cases))
        worst = max(worst, difference(offer, session, crops[batch], expected, controls))
    report("check", 1.0)
    return worst


def difference(offer: Offer, session: onnxruntime.InferenceSession, crops: F32, expected: F32,
               controls: dict[str, F32]) -> float:  # fmt: skip
    """Returns ONNX Runtime's maximum difference from ``expected``, relative to the output's range."""
    actual = session.run(None, ports(offer, crops, controls))[0]
    return float(np.abs(actual - expected).max()) / (offer.answers[1] - offer.answers[0])
