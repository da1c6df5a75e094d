"""A tracker's networks on the fake GPU: their answers are the CPU's, and where they are not the CPU runs them."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from rtface.device.cpu.device import CpuDevice
from rtface.device.cuda.stream_thread import StreamThread
from rtface.engine.cuda.network import GpuNetwork
from rtface.engine.spec import ImageNetworkSpec
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory
from rtface.tracking import create_tracker, golden, models
from rtface.tracking.detector import Detector
from rtface.tracking.facemesh import FaceMesh, Region
from rtface.tracking.network import TrackerNetwork
from tests.device.cuda.gpu_rig import FakeGpu, FakeGpuFrame, FakePlan
from tests.pipeline.fakes import frame_of, portrait


def opener(streams, plans=None, **how):
    """As `gpu_network.open_on`, with ONNX Runtime in TensorRT's place."""

    def opened(network):
        plan = FakePlan(ImageNetworkSpec(network), streams.gpu, max_batch=1, **how)
        if plans is not None:
            plans.append(plan)
        return GpuNetwork(streams, network, plan)

    return opened


@pytest.mark.parametrize("capturable", [True, False], ids=["graph", "steps"])
def test_answers_are_the_cpus(streams, capturable):
    open_network = opener(streams, capturable=capturable)
    mesh, detector = FaceMesh(network=open_network(models.face_mesh())), Detector(network=open_network(models.yunet()))
    exact = Detector(network=TrackerNetwork("face_detection_yunet_2023mar.onnx", 384, 1, layout="NCHW", bgr=True))
    for turn in range(2):  # buffers are used again
        picture = golden.mesh_image() if turn else np.ascontiguousarray(golden.mesh_image()[:, ::-1])
        points, score = mesh.infer(picture)
        wanted, other = FaceMesh().infer(picture)
        assert np.abs(points - wanted).max() < 0.01 and abs(score - other) < 1e-4
    (a,), (b,) = (d.detect(golden.detector_image(), 0.5) for d in (detector, exact))
    assert np.abs(a.points - b.points).max() < 0.01 and np.abs(a.box - b.box).max() < 0.01
    assert abs(a.score - b.score) < 1e-4
    golden.check_mesh(mesh), golden.check_detector(detector)
    assert bool(streams.gpu.replays) == capturable
    assert {text.split(":")[0] for text in streams.gpu.operations} == {"stream 3"}  # not the engines'
    mesh.close(), detector.close()
    mesh.close()
    with pytest.raises(EngineError, match="face-mesh is closed"):
        mesh.infer(picture)


def film(frames=5):
    for t in range(frames):
        picture, _ = portrait(640, 360, blur=0.7, scale=0.9, shift=(4.0 * t, 0.0))
        yield frame_of(picture, t)


def test_a_tracker_on_the_gpu_sees_the_same_faces(streams, caplog):
    plans = []
    mine, theirs, device = create_tracker(device="cuda", gpu=opener(streams, plans)), create_tracker(), CpuDevice()
    for frame in film():
        ours, others = (tracker.update(device.view(frame), frame.time) for tracker in (mine, theirs))
        assert [f.track_id for f in ours] == [f.track_id for f in others] == [1]
        assert np.abs(ours[0].mesh[:, :2] - others[0].mesh[:, :2]).max() < 0.5
    assert len(plans) == 2 and all(len(plan.batches) > 1 for plan in plans) and not caplog.records
    mine.close()
    mine.close()
    assert all(plan.closed for plan in plans)


def test_a_frame_on_the_gpu_is_read_there(streams, device):
    """A network's image does not leave the GPU and come back: one wait, and nothing but descriptors goes up."""
    gpu, open_network = streams.gpu, opener(streams)
    mesh, detector = FaceMesh(network=open_network(models.face_mesh())), Detector(network=open_network(models.yunet()))
    picture, points = portrait(640, 360, scale=0.9)
    (x, y), eyes = points.mean(0), float(np.linalg.norm(points[1] - points[0]))
    frame = frame_of(picture, 0, "nv12")
    view = device.view(replace(frame, image=FakeGpuFrame(gpu, frame.image)))
    region, where = Region(x, y, 4.2 * eyes, 0.1), Region(x, y, 8.0 * eyes, 0.0).matrix(384)
    for _ in range(2):  # buffers are used again
        waits, up, down = gpu.waits, gpu.copied["up"], gpu.copied["down"]
        found = mesh.read(view, region)
        assert gpu.waits - waits == 1 and gpu.copied["up"] - up < 4096
        assert gpu.copied["down"] - down < 3 * 256 * 256 + 8192
        assert found.score > 0.9
        mine, score = mesh.infer(view.crop(region.matrix(), (256, 256)))
        assert np.array_equal(found.points, region.to_display(mine)) and found.score == score
    (a,), (b,) = detector.detect_in(view, where, 0.5), detector.detect(view.crop(where, (384, 384)), 0.5)
    assert a.score == b.score and np.array_equal(a.points, b.points)  # BGR planes
    mesh.close(), detector.close()
    with pytest.raises(EngineError, match="face-mesh is closed"):
        mesh.read(view, region)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (
            {"spoil": lambda name, v: v + 1.0 if name == "points" else v * 0.0 if name.startswith("cls") else v},
            ["the face mesh does not give", "the face detector finds 0 faces"],
        ),
        ({"spoil": lambda name, v: v * np.nan}, ["the face mesh does not give", "the face detector finds 0 faces"]),
    ],
    ids=["off", "nan"],
)
def test_wrong_answers_are_refused_and_the_cpu_takes_over(streams, caplog, how, says):
    plans = []
    with caplog.at_level(logging.WARNING, "rtface"):
        tracker = create_tracker(device="cuda", gpu=opener(streams, plans, **how))
    assert [r.getMessage() for r in caplog.records if "runs on the CPU" in r.getMessage()]
    assert all(any(text in r.getMessage() for r in caplog.records) for text in says)
    assert all(plan.closed for plan in plans)
    (frame,) = film(1)
    assert len(tracker.update(CpuDevice().view(frame), 0.0)) == 1


def test_a_full_gpu_and_a_plan_without_its_tensors_leave_nothing(streams):
    plan = FakePlan(ImageNetworkSpec(models.face_mesh()), streams.gpu)
    streams.gpu.refuse = 1
    with pytest.raises(OutOfDeviceMemory):
        GpuNetwork(streams, models.face_mesh(), plan)
    assert plan.closed
    with pytest.raises(EngineError, match="yunet: its plan has no tensor bbox_16"):
        GpuNetwork(streams, models.yunet(), FakePlan(ImageNetworkSpec(models.face_mesh()), streams.gpu))


def test_a_lost_gpu_is_no_reason_to_go_on_in_silence(host_kernels):
    streams = StreamThread(lambda: FakeGpu(host_kernels))
    mesh = FaceMesh(network=opener(streams)(models.face_mesh()))
    streams.gpu.lost = True
    with pytest.raises(DeviceLost):
        mesh.infer(golden.mesh_image())
    with pytest.raises(DeviceLost):
        create_tracker(gpu=opener(streams))
    mesh.close()
    streams.close()


def test_a_device_that_openvino_does_not_have_is_done_without(caplog):
    with caplog.at_level(logging.WARNING, "rtface"):
        tracker = create_tracker(device="openvino:gpu.7")
    assert sum("runs on the CPU: OpenVINO cannot load" in r.getMessage() for r in caplog.records) == 2
    (frame,) = film(1)
    assert len(tracker.update(CpuDevice().view(frame), 0.0)) == 1
