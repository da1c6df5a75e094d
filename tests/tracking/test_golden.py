"""The golden answers, the networks' other forms, and OpenVINO's other devices."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from rtface.errors import EngineError
from rtface.tracking import golden, models, network
from rtface.tracking.detector import Detector
from rtface.tracking.facemesh import FaceMesh
from rtface.tracking.network import TrackerNetwork

onnxruntime = pytest.importorskip("onnxruntime")


class Changed:
    """A network whose answers are changed, by number."""

    def __init__(self, network, change) -> None:
        self.network, self.change = network, change

    def __call__(self, rgb):
        return [self.change(k, o) for k, o in enumerate(self.network(rgb))]


def off(network, number: int, by: float) -> Changed:
    """One answer is off by a little."""
    return Changed(network, lambda k, o: o + by * (k == number))


def run(spec, rgb):
    session = onnxruntime.InferenceSession(str(spec.path), providers=["CPUExecutionProvider"])
    picture = (rgb[:, :, ::-1] if spec.bgr else rgb).astype(np.float32) / spec.divisor
    picture = picture[None] if spec.layout == "NHWC" else np.ascontiguousarray(picture.transpose(2, 0, 1))[None]
    return session.run(list(spec.outputs), {spec.input: picture})


def pictures(side):
    yield golden.mesh_image() if side == 256 else golden.detector_image()
    yield np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_the_onnx_mesh_is_the_original():
    mesh = FaceMesh()
    for rgb in pictures(256):
        (points, presence), theirs = run(models.face_mesh(), rgb), mesh.network(rgb)
        assert np.abs(points.ravel() - theirs[0].ravel()).max() < 0.005  # pixels of 256
        assert np.abs(presence.ravel() - theirs[1].ravel()).max() < 0.005


def test_the_detector_for_384_is_the_original():
    exact = TrackerNetwork("face_detection_yunet_2023mar.onnx", 384, 1, layout="NCHW", bgr=True)
    for rgb in pictures(384):
        outputs, theirs = run(models.yunet(), rgb), exact(rgb)
        assert len(outputs) == len(theirs) == 12
        for (name, shape), a, b in zip(models.yunet().outputs.items(), outputs, theirs, strict=True):
            assert a.shape == (1, *shape) == b.shape, name
            assert np.abs(a - b).max() < 0.002, name


def test_this_cpu_passes_and_what_is_off_does_not():
    mesh, detector = FaceMesh(), Detector()
    golden.check_mesh(mesh)
    golden.check_detector(detector)
    golden.check_mesh(FaceMesh(network=off(mesh.network, 0, 0.3)))
    for number, by in ((0, 0.7), (0, np.nan), (1, -1000.0)):
        with pytest.raises(EngineError, match="face mesh does not give its reference's answers"):
            golden.check_mesh(FaceMesh(network=off(mesh.network, number, by)))
    for change in (lambda k, o: o + 0.5 * (k > 8), lambda k, o: o * (1.0 - 0.1 * (k < 3)), lambda k, o: o * np.nan):
        with pytest.raises(EngineError, match="face detector"):
            golden.check_detector(Detector(network=Changed(detector.network, change)))
    with pytest.raises(EngineError, match="finds 0 faces"):
        golden.check_detector(Detector(network=Changed(detector.network, lambda k, o: o * (k > 2))))


@pytest.mark.parametrize(
    ("device", "exact", "wanted"),
    [
        ("GPU.1", True, {"INFERENCE_PRECISION_HINT": "f32"}),
        ("GPU", False, {}),
        ("NPU", True, {}),
        ("CPU", True, {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 3}),
    ],
)
def test_each_device_is_asked_for_what_it_has(monkeypatch, device, exact, wanted):
    asked = []

    def compile_once(name, identity, options, build, where="CPU"):
        asked.append((options, where))
        return SimpleNamespace(outputs=[], create_infer_request=lambda: None)

    monkeypatch.setattr(network, "compile_once", compile_once)
    TrackerNetwork("face_landmarks_detector.tflite", 256, 3, divisor=255.0, exact=exact, device=device)
    assert asked == [({"PERFORMANCE_HINT": "LATENCY", **wanted}, device)]
