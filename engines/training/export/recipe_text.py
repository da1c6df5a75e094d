"""Writes the recipe of an exported engine."""

from __future__ import annotations

from training.crop_space import roi

VERSION = "0.4.0"
GRID = 256
"""Side in pixels of the crop for which rtface-s and rtface-m store their previous output."""
MAPS = (48, 44)
"""Rows and columns of the maps of error and occlusion, which networks with memory also output."""
FLOAT_LAYERS = ("/spread", "/enlarge", "/carry", "/low", "/mid_band", "/trust/Conv", "/recall", "/expect", "/sure",
         "/head_motion", "/unpatterned")  # fmt: skip
"""Parts of the names of convolutions that are not quantised to int8: convolutions with fixed weights
(``layers.Spread``, ``layers.Enlarge``, ``layers.LowPass``, ``layers.MidBand``, ``layers.Unpatterned``,
``recurrence.Carry``, the rule of ``recurrence.Trust``), and those of the state of ``recurrence.Align``, because two
frames are too few to measure its range."""
CONTROLLED = ("rtface-m-vivid",)
"""Engines that have the input ``fidelity``."""
PSNR = {"f32": 55.0, "bf16": 38.0, "fp16": 45.0, "int8": 32.0}
"""Minimum PSNR of golden crops per precision, in dB. Broken plans are far below, correct plans far above."""


def recipe_text(engine: str, size: int, size_bytes: int, digest: str, parameters: int, data: str) -> str:
    """Formats the recipe of an engine as TOML."""
    grade = {
        "rtface-s": "small: real time beside anything else", "rtface-m": "medium: finer detail for larger faces",
        "rtface-m-vivid": "medium and vivid: sharper, and more of it invented",
    }[engine]  # fmt: skip
    fidelity = 'fidelity = { name = "fidelity", default = 0.0 }\n\n' if engine in CONTROLLED else "\n"
    return f'''name = "{engine}"
version = "{VERSION}"
summary = "Our own residual network on {size}-px crops, {grade}"
kind = "restorer"
family = "CNN"

[licence]
code = "Apache-2.0"
weights = "Apache-2.0"
commercial_use = true
data = "{data}"

[weights]
file = "model.onnx"
bytes = {size_bytes}
sha256 = "{digest}"
parameters = {parameters}

[input]
name = "crop"
size = {size}
region = {list(roi(size))}
layout = "NCHW"
range = [0, 1]
colour = "rgb"

[output]
name = "residual"
range = [0, 1]
residual = true

[alignment]
template = "ffhq"

[batch]
min = 1
max = 16

[precision]
default = "bf16"
fallback = "f32"
fp32_nodes = []

[controls]
strength = true
{fidelity}[golden]
file = "golden.npz"

[golden.psnr]
f32 = {PSNR["f32"]}
bf16 = {PSNR["bf16"]}
fp16 = {PSNR["fp16"]}
int8 = {PSNR["int8"]}
'''


def memory_text(size: int, state: list[int]) -> str:
    """Formats the memory section of a recipe. ``state``: shape of the state."""
    return f"""
[memory]
shape = {state}
{f"grid = {GRID}" if size != GRID else ""}
maps = {list(MAPS)}
heads = true
"""
