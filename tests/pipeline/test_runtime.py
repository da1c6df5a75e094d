"""Where a run works: the GPU when it can be used, else the CPU with the reason; at once on the CPU for live."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest

import rtface
from rtface.config.options import Options
from rtface.engine.cuda import driver
from rtface.errors import EngineError, MissingComponent, UsageError
from rtface.pipeline.build_live import frame_parts
from rtface.pipeline.film import run_file
from rtface.pipeline.runtime import codec_device, open_cpu_then_gpu, open_runtime
from rtface.util.av_gpu import FORMATS
from tests.device.cuda.gpu_rig import FakeGpu, engine_on
from tests.media.test_hardware_decoding import Gpu
from tests.pipeline.fakes import portrait
from tests.pipeline.run_media import write_film


class Machine:
    """One with the fake GPU; `gate` holds its engines back, `grey` makes them fail their check.

    `enhancers` are the inner ones of every `rtface.Enhancer` made.
    """

    def __init__(self, host_kernels):
        self.kernels, self.gpus, self.gate = host_kernels, [], threading.Event()
        self.grey, self.memory, self.lacks = False, 1 << 30, ""
        self.enhancers = []
        self.gate.set()

    def open_gpu(self, number=0):
        self.gpus.append(FakeGpu(self.kernels, memory=self.memory))
        return self.gpus[-1]

    def frame_parts(self, *given, **more):
        made = frame_parts(*given, **more)
        self.enhancers.append(made[1])
        return made

    def open_engine(self, streams, recipe, number):
        self.gate.wait(20)
        if self.grey or recipe.name == self.lacks:
            raise EngineError(f"engine {recipe.name} does not match its reference's answers on this machine")
        return engine_on(streams, recipe.name)[0]


@pytest.fixture
def machine(host_kernels, monkeypatch):
    machine = Machine(host_kernels)
    monkeypatch.setattr(driver, "unusable", lambda number: None if number == 0 else f"there is no GPU {number}")
    monkeypatch.setattr("rtface.device.cuda.modules.open_gpu", machine.open_gpu)
    monkeypatch.setattr("rtface.engine.cuda.open.open_gpu_engine", machine.open_engine)
    monkeypatch.setattr("rtface.enhancer.frame_parts", machine.frame_parts)
    yield machine
    for gpu in machine.gpus:
        if not gpu.lost:
            gpu.close()  # a leak fails the test


def pictures(count):
    return [portrait(480, 300, blur=1.2, scale=0.9, shift=(1.5 * t, 0.0))[0] for t in range(count)]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("grey", "does not match its reference's answers"),
        ("full", "has 100 MiB of free memory, but 512 MiB are needed"),
        ("no driver", "there is no NVIDIA driver"),
    ],
)
def test_auto_takes_the_cpu_and_says_why(machine, monkeypatch, caplog, fault, said):
    machine.grey = fault == "grey"
    machine.memory = 100 << 20 if fault == "full" else machine.memory
    if fault == "no driver":
        monkeypatch.setattr(driver, "unusable", lambda number: "there is no NVIDIA driver (libcuda.so.1 is not found)")
    with caplog.at_level("INFO", "rtface"), ExitStack() as stack:
        runtime = open_runtime("rtface-s", "auto", stack)
        assert runtime.device.name == "cpu"
    lines = [r.message for r in caplog.records if "processed on the CPU" in r.message]
    assert len(lines) == 1 and said in lines[0]


def test_a_gpu_that_was_asked_for_is_not_replaced(machine):
    with ExitStack() as stack, pytest.raises(MissingComponent, match="there is no GPU 1"):
        open_runtime("rtface-s", "cuda:1", stack)
    machine.grey = True
    with ExitStack() as stack, pytest.raises(EngineError, match="reference's answers"):
        open_runtime("rtface-s", "cuda", stack)
    with ExitStack() as stack, pytest.raises(UsageError, match="nearest is cuda"):
        open_runtime("rtface-s", "cud", stack)


@pytest.mark.slow
def test_a_live_run_starts_at_once_and_moves_to_the_gpu(machine):
    machine.gate.clear()
    with rtface.Enhancer("default", wait=False, analysis=False) as e:
        enhance, devices = machine.enhancers[-1], []
        for k, picture in enumerate(pictures(4)):
            if k == 2:
                machine.gate.set()
                assert {*enhance.switch.upgrade.result(60).engines.engines} == {"rtface-m", "rtface-s"}
            e(picture)
            devices.append((enhance.runtime.device.name, enhance.runtime.engines.described[0]))
        assert devices == [("cpu", "rtface-s")] * 2 + [("cuda", "rtface-m")] * 2
        assert e.stats.counters["frames_corrected"] == 4
        machine.gpus[-1].lost = True  # and back, with the loss of a frame's correction at most
        for picture in pictures(3):
            e(picture)
        assert enhance.runtime.device.name == "cpu"
        assert e.stats.counters["faults"] == 1
        assert e.stats.counters["frames_corrected"] == 6


def test_a_live_run_ends_while_the_gpu_is_still_being_made_ready(machine):
    machine.gate.clear()
    e = rtface.Enhancer("rtface-s", wait=False)
    coming = machine.enhancers[-1].switch.upgrade
    began = time.monotonic()
    e.close()
    e.close()
    assert time.monotonic() - began < 1.0
    machine.gate.set()
    assert "the run ended" in str(coming.exception(60))
    assert not machine.gpus[0].live


def test_without_a_gpu_nothing_is_coming():
    with ExitStack() as stack:
        now, coming = open_cpu_then_gpu("rtface-s", "cpu", stack)
        assert now.device.name == "cpu" and coming is None


@pytest.mark.slow
def test_a_film_on_the_gpu_and_the_loss_of_it(machine, tmp_path, monkeypatch):
    source = write_film(tmp_path / "in.mp4", pictures(6), codec="libx264")
    report = run_file(source, tmp_path / "out.mp4", Options(engine="rtface-s", device="cuda"))
    assert report.device == "cuda (fake 1.0, f32)"
    assert report.frames_out == report.frames_corrected == 6
    assert report.faults == 0
    lost = machine.open_gpu

    def breaking(number=0):
        gpu = lost(number)
        first, pasted = gpu.run_kernel, []

        def run_kernel(kernel, *more):
            pasted.extend([kernel] * (kernel == "paste"))
            gpu.lost = len(pasted) > 3
            first(kernel, *more)

        gpu.run_kernel = run_kernel
        return gpu

    monkeypatch.setattr("rtface.device.cuda.modules.open_gpu", breaking)
    with pytest.raises(
        EngineError, match=r"stopped responding.*the finished part is in .*partial.*continue with --start"
    ):
        run_file(source, tmp_path / "lost.mp4", Options(engine="rtface-s", device="cuda"))


@pytest.mark.slow
def test_a_default_run_corrects_on_a_gpu_as_on_the_cpu(machine, tmp_path, monkeypatch):
    """The decoder of the GPU, which could be used, would say less of the coding, by which strengths are chosen."""
    monkeypatch.setattr("rtface.media.cuda.driver.absent", lambda device=0: None)
    monkeypatch.setattr("rtface.media.cuda.driver.settle", lambda device: None)
    monkeypatch.setattr("rtface.media.cuda.decoder.on_gpu", lambda image: image.format.name in FORMATS)
    monkeypatch.setattr("rtface.media.read.hardware.open_context", lambda stream, device: Gpu(stream))
    coarse = {"crf": "34", "preset": "veryfast"}
    source = write_film(tmp_path / "in.mp4", pictures(4), codec="libx264", options=coarse)
    cuda, cpu = (
        run_file(source, tmp_path / f"{device}.mp4", Options(engine="rtface-s", device=device))
        for device in ("cuda", "cpu")
    )
    assert cuda.device.startswith("cuda") and (cuda.decoder, cpu.decoder) == ("software", "software")
    assert cuda.frames_corrected == cpu.frames_corrected == 4 and not cuda.warnings
    assert [(t.analysis, t.treatment, t.spans) for t in cuda.tracks] == [
        (t.analysis, t.treatment, t.spans) for t in cpu.tracks
    ]


@pytest.mark.parametrize(
    ("device", "usable", "codecs"),
    [("auto", True, "cuda"), ("auto", False, "auto"), ("cpu", True, "cpu"), ("cuda:1", True, "cuda:1")],
)
def test_decoder_and_encoder_follow_the_gpu_that_auto_finds(monkeypatch, device, usable, codecs):
    monkeypatch.setattr(driver, "unusable", lambda ordinal: None if usable else "no driver")
    assert codec_device(device) == codecs
