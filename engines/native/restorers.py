"""What is compared with what: an exported engine, the classic baseline, and the run time's lock around both."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtface.engine.memory import Carrier, FaceMemory, small_of

from .space import F32, U8, oval_mask, roi

MAPS = (48, 44)
"""Rows and columns of the heads' maps and of the trust in the past, over the region of interest."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def lowpass(z: F32) -> F32:
    """The colour lock's low-pass of an S×S×C picture."""
    size = z.shape[0]
    g = cv2.resize(z, (32, 32), interpolation=cv2.INTER_AREA)
    g = cv2.GaussianBlur(g, (5, 5), 1.0, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(g, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


def locked(crop: F32, restored: F32) -> F32:
    """``crop + mask · shape(restored − crop)``: float32 S×S×3, 0..1."""
    d = restored - crop
    y = d @ LUMA
    chroma = d - y[..., None]
    chroma -= lowpass(chroma)
    low = lowpass(y)
    limit = 6 / 255
    y = y - low + limit * np.tanh(low / limit)
    return np.clip(crop + (chroma + y[..., None]) * oval_mask(crop.shape[0])[..., None], 0, 1).astype(np.float32)


def weighted(z: F32, mask: F32) -> float:
    """Mean of an S×S×3 picture, weighted with the mask."""
    return float((z * mask[..., None]).mean() / mask.mean())


def psnr(a: F32, b: F32, mask: F32) -> float:
    """dB between two S×S×3 pictures of 0..1, weighted with the mask."""
    return float(-10 * np.log10(max(weighted((a - b) ** 2, mask), 1e-10)))


class Network:
    """An exported engine run by OpenVINO, with bf16 where the CPU has it: uint8 S×S×3 RGB crop → float32 S×S×3, 0..1.

    ``begin`` comes before every film and still: a network with memory forgets then. ``times`` are its milliseconds.
    """

    def __init__(self, model: Path) -> None:
        import openvino as ov

        core: Any = ov.Core()
        bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        config = {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32", "PERFORMANCE_HINT": "LATENCY"}
        net: Any = core.read_model(str(model))
        self.side = int(net.input("crop").get_partial_shape()[2].get_length())
        self.remembers = len(net.inputs) > 1
        picture = [1, 3, self.side, self.side]
        shapes: dict[str, Any] = {"crop": picture}
        if self.remembers:
            shapes |= {"still": picture, "moved": picture, "known": [1, 2, *MAPS]}
            if any(port.get_any_name() == "state" for port in net.inputs):
                shapes["state"] = [1, *(d.get_length() for d in list(net.input("state").get_partial_shape())[1:])]
        net.reshape(shapes)
        self.shape = shapes.get("state")
        self.request: Any = core.compile_model(net, "CPU", config).create_infer_request()
        self.times: list[float] = []
        self.carrier = Carrier()
        self.memory: FaceMemory | None = None

    def begin(self) -> None:
        """Forgets the face."""
        self.memory = None

    def __call__(self, crop: U8) -> F32:
        x = np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32) / 255
        start = time.perf_counter()
        inputs: dict[str, Any] = {"crop": x}
        small = small_of(x[0])
        if self.remembers:
            inputs |= {"still": x, "moved": x, "known": np.zeros((1, 2, *MAPS), np.float32)}
            if self.shape:
                inputs["state"] = np.zeros(self.shape, np.float32)
        if self.memory is not None:
            past = self.carrier.carry(self.memory, small, roi(self.side), MAPS)
            inputs |= {"still": self.memory.restored[None], "moved": past.moved[None], "known": past.known[None]}
            if self.memory.state is not None:
                inputs["state"] = self.memory.state[None]
        self.request.infer(inputs)
        restored = np.array(self.request.get_tensor("restored").data[0])
        if self.remembers:
            state = np.array(self.request.get_tensor("next").data[0]) if self.shape else None
            self.memory = FaceMemory(restored, small, state)
        self.times.append((time.perf_counter() - start) * 1e3)
        return restored.transpose(1, 2, 0)


def classic(crop: U8) -> F32:
    """The baseline without learning: non-local means, then an unsharp mask."""
    calm = cv2.fastNlMeansDenoisingColored(crop, None, 4, 4, 5, 15)
    soft = cv2.GaussianBlur(calm, (0, 0), 1.5)
    return np.clip(calm.astype(np.float32) * 1.6 - soft.astype(np.float32) * 0.6, 0, 255).astype(np.float32) / 255
