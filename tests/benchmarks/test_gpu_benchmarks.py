"""The benchmarks for machines with a GPU run: on the tests' own GPU, with small counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.device.cuda.host_kernels import compiler

ROOT = Path(__file__).parents[2]
WANTED = {"kernels": ("device_copy_gb_per_s", "2 faces of 512 in 1080p nv12", "shaping of 2 faces"),
          "overlap": ("rtface-m",), "latency": ("rtface-m", "aim_p99_ms"), "path": ("rtface-m", "beside_the_gpu"),
          "engines": ("rtface-m",)}


@pytest.mark.slow
@pytest.mark.parametrize("part", WANTED)
def test_a_part_gives_its_figures(part: str, tmp_path: Path) -> None:
    compiler()
    run = subprocess.run([sys.executable, "-m", "benchmarks.gpu", part, "--dry", "--out", str(tmp_path)], cwd=ROOT,
                         capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr[-3000:]
    assert " fails: " not in run.stderr, run.stderr[-3000:]
    told = json.loads((tmp_path / f"gpu_{part}.json").read_text())
    assert told["machine"]["dry"] and told["machine"]["command"].endswith(f"{part} --dry --out {tmp_path}")
    assert set(WANTED[part]) <= set(told)


def test_operations_are_counted_as_they_are(tmp_path: Path) -> None:
    """A network small enough to count by hand."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    from benchmarks.gpu import flops

    def port(name: str, *shape: int | str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def weight(name: str, *shape: int) -> object:
        count = 1
        for side in shape:
            count *= side
        return helper.make_tensor(name, TensorProto.FLOAT, shape, [0.5] * count)

    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2]),
             helper.make_node("ConvTranspose", ["y", "v"], ["z"], strides=[2, 2])]
    graph = helper.make_graph(nodes, "g", [port("x", "n", 3, 8, 8)], [port("z", "n", 5, 8, 8)],
                              [weight("w", 4, 3, 3, 3), weight("v", 4, 5, 2, 2)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    onnx.save(model, str(tmp_path / "m.onnx"))
    total, convolutions = flops.read(tmp_path / "m.onnx", {"x": (3, 8, 8)})
    assert total == 2 * 16 * (4 * 27) + 2 * 16 * (4 * 5 * 4)
    (only,) = convolutions
    assert (only.channels, only.out, only.stride, only.height, only.flops) == (3, 4, (2, 2), 8, 2 * 16 * 108)
