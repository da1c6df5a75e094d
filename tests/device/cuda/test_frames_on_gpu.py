"""Frames in GPU memory: no sample leaves the GPU, and the output is the CPU's."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from rtface.device.cpu.device import CpuDevice
from rtface.device.cpu.view import CpuView
from rtface.device.cuda.device import CudaDevice
from rtface.device.cuda.view import GpuView
from rtface.errors import EngineError
from rtface.frame import Color, Display
from rtface.geometry.transforms import compose, scaling, translation
from rtface.stats import Stats
from tests.device.cuda.fake_gpu import FakeStream
from tests.device.cuda.gpu_rig import FakeGpuFrame
from tests.device.cuda.test_cuda_device import Only, codes, enhancer, film, near, one_by_one, run
from tests.pipeline.fakes import face_at, frame_of, portrait

PQ = Color("bt2020", transfer="pq", primaries=9)


def put(frame, streams, **more):
    """The frame in GPU memory."""
    return replace(frame, image=FakeGpuFrame(streams.gpu, frame.image, **more))


def back(frames):
    """The frames as a sink sees them."""
    return [replace(f, image=f.image.host() if isinstance(f.image, FakeGpuFrame) else f.image) for f in frames]


@pytest.mark.parametrize(
    ("fmt", "more"),
    [
        ("nv12", {}),
        pytest.param("p010le", {"color": PQ}, marks=pytest.mark.slow),
        pytest.param("nv12", {"display": Display(fields="bff")}, marks=pytest.mark.slow),
    ],
    ids=["nv12", "pq", "bff"],
)
def test_a_film_on_the_gpu_is_the_same_as_on_the_cpu(streams, device, on_cpu, engine_on, fmt, more, share_limit):
    engine, plan = engine_on(streams)
    frames, stats = [put(f, streams) for f in film(fmt, **more)], Stats()
    images = [f.image for f in frames]
    out = run(device, Only(engine), frames, stats)
    assert not stats.counters["faults"]
    assert all(f.image is image and f.touched for f, image in zip(out, images, strict=True))
    assert not any(image.downloads for image in images)
    mine, theirs = back(out), run(CpuDevice(), Only(on_cpu["rtface-s"]), film(fmt, **more))
    near(mine, theirs, share_limit, 64 if fmt == "p010le" else 1)  # p010 counts in steps of 64
    assert np.mean(codes(mine[0])[0] != codes(film(fmt, **more)[0])[0]) > 0.01
    assert max(plan.batches) == 2


def test_a_frame_on_another_gpu_is_brought_to_the_host(streams, on_cpu, engine_on):
    engine, _ = engine_on(streams)
    said = []
    device = CudaDevice(streams, warn=lambda key, text: said.append(text))
    (frame,) = [put(f, streams, device=1) for f in film("nv12", frames=1)]
    assert isinstance(device.view(frame), CpuView)
    (mine,) = run(device, Only(engine), [frame])
    assert mine.image.format.name == "nv12" and mine.touched and not said
    near([mine], run(CpuDevice(), Only(on_cpu["rtface-s"]), film("nv12", frames=1)), 1.0)
    device.close()


def test_gray_chroma_stays_bit_for_bit(streams, device, on_cpu, engine_on, share_limit):
    """A film in black and white: the GPU itself finds out, face by face."""

    def coloured(k):
        picture, points = portrait(480, 300, blur=1.2, scale=0.9, shift=(60.0, 30.0))
        gray = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if k == 2:  # colour in one corner of the face
            gray[200:206, 300:306] = (200, 60, 60)
        return replace(frame_of(picture if k == 1 else gray, k, "nv12"), faces=(face_at(points),))

    engine, _ = engine_on(streams)
    mine = back(run(device, Only(engine), [put(coloured(k), streams) for k in range(3)]))
    near(mine, run(CpuDevice(), Only(on_cpu["rtface-s"]), [coloured(k) for k in range(3)]), share_limit)
    assert [not np.array_equal(codes(m)[1], codes(coloured(k))[1]) for k, m in enumerate(mine)] == [False, True, True]


@pytest.mark.parametrize("place", [lambda frame, streams: frame, put], ids=["host", "gpu"])
def test_a_frame_whose_correction_could_not_be_made_stays(streams, device, engine_on, monkeypatch, place):
    """Its slot holds the correction of another frame then, which must not be pasted."""
    engine, _ = engine_on(streams)
    frames, stats, wrong = film("nv12", frames=3, faces=1), Stats(), {"now": False}
    before, launch = codes(frames[1]), FakeStream.launch

    def launched(self, kernel, *args, **more):
        if wrong["now"] and kernel == "shape_apply":
            raise EngineError("CUDA_ERROR_INVALID_VALUE when rtface wanted to run shape_apply")
        return launch(self, kernel, *args, **more)

    monkeypatch.setattr(FakeStream, "launch", launched)
    step = enhancer(device, Only(engine), stats, grain="none")
    placed = [place(frame, streams) for frame in frames]
    out = one_by_one(step, placed, lambda k: wrong.update(now=k == 1))
    assert [frame.touched for frame in out] == [True, False, True]
    assert all(np.array_equal(a, b) for a, b in zip(codes(back(out)[1]), before, strict=True))
    assert stats.counters["faults"] == 1


def test_a_view_is_the_cpus(streams, device):
    """Crops are black outside the frame; thumbnails are the CPU's crops to the last bit."""
    picture, _ = portrait(1280, 720, blur=0.6, scale=1.5)
    noise = np.random.default_rng(0).normal(0, 4, picture.shape)
    frame = frame_of(np.clip(picture + noise, 0, 255).astype(np.uint8), 3, "nv12")
    mine, theirs = device.view(put(frame, streams)), CpuDevice().view(frame)
    assert isinstance(mine, GpuView)
    matrix = compose(scaling(0.2, 0.2), translation(300, 200))
    a, b = mine.crop(matrix, (400, 300)), theirs.crop(matrix, (400, 300))
    assert np.mean((a == 0).all(-1) != (b == 0).all(-1)) < 0.01
    assert (a[:38] == 0).all() and (a[:, :58] == 0).all() and (a[190:] == 0).all()
    shown = (a > 0).any(-1) & (b > 0).any(-1)
    assert np.abs(a[shown].astype(int) - b[shown]).max() <= 2
    for side in (64, 4000):
        a, *scales = mine.thumbnail(side)
        assert scales == list(theirs.thumbnail(side)[1:]) and mine.thumbnail(side)[0] is a
        b = theirs.crop(scaling(1 / scales[0], 1 / scales[1]), a.shape[1::-1])
        assert np.abs(a.astype(int) - b).max() <= 1
