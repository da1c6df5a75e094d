"""The tracker's networks as ONNX answer batches as on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks.gpu.tracker import NETWORKS, crops_for, recipe_of
from rtface.engine.tensorrt.builder import build
from rtface.engine.tensorrt.library import installed
from rtface.tracking import models
from rtface.tracking.network import TrackerNetwork

pytest.importorskip("onnx", reason="onnx is not installed (extra rtx)")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_answers_as_single_crops_on_the_cpu(name: str, tmp_path: Path) -> None:
    from engines.convert.tracker import to_onnx

    file, size, layout, more = NETWORKS[name]
    network, crops = TrackerNetwork(file, size, 1, layout=layout, **more), crops_for(name)[2:6]
    wanted = [np.concatenate(each) for each in zip(*([o.copy() for o in network(c)] for c in crops), strict=True)]
    model = to_onnx(models.path(file), size, layout, **more)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32) / 255
    for part in (slice(0, 4), slice(1, 2)):
        for answer, want in zip(session.run(None, {"crop": rows[part]}), wanted, strict=True):
            assert answer.shape == want[part].shape
            assert np.abs(answer - want[part]).max() <= 1e-5 * max(1.0, float(np.abs(want).max()))
    for library in installed():  # only TensorRT for RTX builds without a GPU
        if library.targets:
            assert build(recipe_of(tmp_path, name, model), "fp16", library, (8, 9))
