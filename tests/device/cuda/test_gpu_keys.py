"""Keyframes on a GPU, against the same on the CPU: a heavy engine over the light one, in films and live."""

# ruff: noqa: F811
from concurrent.futures import Future
from functools import partial

import numpy as np
import pytest

from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice
from rtface.engine.host_engine import HostEngine
from rtface.enhance.corrector import Helpers
from rtface.enhance.film import FilmEnhancer
from rtface.enhance.live import LiveEnhancer
from rtface.enhance.runtime_switch import RuntimeSwitch
from rtface.frame import Color, Display
from rtface.pipeline.chain import join_fields, split_fields
from rtface.protocols import Runtime
from rtface.stats import Stats
from tests.device.cuda.gpu_rig import open_with
from tests.device.cuda.test_cuda_device import Only, codes, film, near
from tests.device.cuda.test_frames_on_gpu import back, put
from tests.engine.cuda.test_stateless_engines import recipe  # noqa: F401
from tests.enhance.key_frames import Every

pytestmark = pytest.mark.slow


class Engines(Only):
    """The first suits every face; all are there by name."""

    def pick(self, *_):
        return self.engines[0]


@pytest.fixture
def open_plain(streams, recipe):
    """Opens an engine without memory on the GPU, for crops of 128."""
    engine = open_with(streams, recipe)[0]
    yield lambda: engine
    engine.close()


@pytest.fixture
def engines(streams, open_plain, engine_on):
    """That one over rtface-s."""
    return Engines(open_plain(), engine_on(streams)[0])


@pytest.fixture
def host(recipe, on_cpu):
    """The same on the CPU."""
    plain = HostEngine(recipe, device="onnx")
    yield Engines(plain, on_cpu["rtface-s"])
    plain.close()


def enhance(device, engines, stats=None, governor=None, keyframe=3):
    stats = stats or Stats()
    common = RuntimeSwitch(Runtime(device, engines), stats), Options(keyframe=keyframe), stats
    if governor is None:
        return FilmEnhancer(*common, analysis=False, helpers=Helpers(light="rtface-s"))
    return LiveEnhancer(*common, governor, analysis=False, helpers=Helpers(light="rtface-s"))


@pytest.mark.parametrize(
    ("fmt", "more"),
    [("yuv420p", {}), ("yuv420p10be", {}), ("yuv420p", {"display": Display(fields="tff")})],
    ids=["420", "be", "tff"],
)
def test_a_film_is_the_same_as_on_the_cpu(device, engines, host, fmt, more, share_limit):
    before, stats = [codes(f) for f in film(fmt, frames=4, **more)], Stats()
    mine, theirs = (
        list(join_fields(enhance(where, names, stats)(split_fields(iter(film(fmt, frames=4, **more))))))
        for where, names in ((device, engines), (CpuDevice(), host))
    )
    assert not stats.counters["faults"]
    pictures = 8 if "display" in more else 4
    assert (stats.counters["crops:plain"], stats.counters["crops:rtface-s"]) == (4 * -(-pictures // 3), 4 * pictures)
    near(mine, theirs, max(1e-3, share_limit))
    assert all(np.mean(codes(f)[0] != b[0]) > 0.01 for f, b in zip(mine, before, strict=True))


def test_gpu_frames_are_cropped_twice_without_a_download(streams, device, engines, host, share_limit):
    mine = list(enhance(device, engines)(put(frame, streams) for frame in film("nv12", frames=4)))
    assert not any(frame.image.downloads for frame in mine)
    theirs = list(enhance(CpuDevice(), host)(film("nv12", frames=4)))
    near(back(mine), theirs, max(1e-3, share_limit))


def test_a_large_engine_that_remembers_may_have_key_frames_too(streams, device, on_cpu, engine_on, share_limit):
    made = [engine_on(streams, name)[0] for name in ("rtface-m", "rtface-s")]
    frames = partial(film, "yuv420p10le", frames=4, faces=1, color=Color("bt2020", transfer="pq", primaries=9))
    mine = list(enhance(device, Engines(*made), keyframe=2)(frames()))
    theirs = list(enhance(CpuDevice(), Engines(on_cpu["rtface-m"], on_cpu["rtface-s"]), keyframe=2)(frames()))
    near(mine, theirs, max(1e-3, share_limit))


class Late:
    """An engine that answers when it is told to."""

    def __init__(self, engine, ms=700.0):
        self.engine, self.ms, self.asked = engine, ms, []

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def submit(self, crops, after=None):
        self.asked.append((crops, after, Future()))
        return self.asked[-1][2]

    def answer(self):
        for crops, after, promised in self.asked:
            if not promised.done():
                promised.set_result(self.engine.submit(crops, after).result(60))


def test_live_no_frame_waits_for_the_slow_engine(device, engines, host, share_limit):
    """Its answers come some frames later, for both faces; until then no slot is held for them."""
    outs, stats = [], Stats()
    for where, names in ((device, engines), (CpuDevice(), host)):
        heavy = Late(names.named("plain"))
        step, shown = enhance(where, Engines(heavy, names.named("rtface-s")), stats, Every(1), "auto"), []
        for k, frame in enumerate(film(frames=10)):
            if k in (3, 7):
                heavy.answer()
            shown.append(step.collect(step.submit(frame)))
        assert [len(heavy.asked), sum(promised.done() for *_, promised in heavy.asked)] == [6, 4]
        outs.append(shown)
    assert all(frame.touched for frame in outs[0]) and not stats.counters["faults"]
    near(*outs, max(1e-3, share_limit))
