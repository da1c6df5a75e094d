"""The enhance step: what it touches, what it leaves, and what a fault costs."""

from __future__ import annotations

import itertools
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from rtface.analysis.treatment import Treatment, gain_of
from rtface.analysis.treatment_file import Treatments
from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice
from rtface.enhance.corrector import Helpers
from rtface.enhance.film import FilmEnhancer
from rtface.enhance.live import FrameEnhancer
from rtface.enhance.runtime_switch import RuntimeSwitch
from rtface.enhance.strength import strength_by_edge
from rtface.enhance.track_store import TrackRules
from rtface.errors import DeviceLost, EngineError, MissingComponent
from rtface.frame import Display, Frame, Packet
from rtface.pipeline.chain import join_fields, split_fields, track
from rtface.protocols import Runtime
from rtface.stats import Stats
from tests.pipeline.fakes import FakeCodedNetwork, FakeEngine, FakeEngines, coded_stage, face_at, frame_of, portrait


def enhance(
    engines: FakeEngines | None = None,
    *,
    stats: Stats | None = None,
    analysis: bool = False,
    treatments: dict[int, Treatment] | None = None,
    ahead: int = 1,
    **options: Any,
) -> FilmEnhancer:
    return FilmEnhancer(
        Runtime(CpuDevice(), engines or FakeEngines(), ahead),
        Options(**{"grain": "none", **options}),
        stats or Stats(),
        analysis=analysis,
        rules=TrackRules(Treatments(treatments or {})),
        helpers=Helpers(coded=coded_stage(stats=stats) if analysis else None),
    )


def single(runtime: Runtime | RuntimeSwitch, stats: Stats | None = None, **more: Any) -> FrameEnhancer:
    return FrameEnhancer(runtime, Options(grain="none"), stats or Stats(), **{"analysis": False, **more})


def film(frames: int = 6, fmt: str = "yuv420p", **more: Any) -> list[Frame]:
    out: list[Frame] = []
    for t in range(frames):
        picture, points = portrait(shift=(t, 0.0))
        out.append(replace(frame_of(picture, t, fmt, **more), faces=(face_at(points),)))
    return out


def planes(frame: Frame) -> list[np.ndarray]:
    return [np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width].copy() for p in frame.image.planes]


def test_corrects_the_face_and_nothing_else() -> None:
    before = [planes(f) for f in film()]
    after = list(enhance()(film()))
    assert [f.pts for f in after] == list(range(6))
    for was, frame in zip(before, after, strict=True):
        luma = planes(frame)[0].astype(int) - was[0]
        ys, xs = np.nonzero(luma)
        box = frame.faces[0].box
        assert frame.touched
        assert np.abs(luma).max() > 10
        assert xs.min() > box[0] - 25 and xs.max() < box[2] + 25
        assert ys.min() > box[1] - 40 and ys.max() < box[3] + 40


def test_strength_scales_and_may_change_between_frames() -> None:
    step, before = enhance(), [planes(f)[0].astype(int) for f in film(2)]
    full = step.collect(step.submit(film(2)[0]))
    step.strength = 0.5
    half = step.collect(step.submit(film(2)[1]))
    a, b = (np.abs(planes(f)[0] - was).mean() for f, was in zip((full, half), before, strict=True))
    assert 0.4 < b / a < 0.6


@pytest.mark.parametrize(("cut", "low", "high"), [(0.0, 1.0, 1.0), (0.3, 1.0, 1.0), (0.44, 0.2, 0.8), (0.5, 0.0, 0.0)])
def test_a_face_fades_as_it_leaves_the_frame(cut: float, low: float, high: float) -> None:
    (frame,) = film(1)
    x, y = (v.ravel() for v in np.meshgrid(np.linspace(-cut, 1 - cut, 201) * 50, np.linspace(20, 70, 9)))
    mesh = np.stack([x, y, 0 * x], 1)
    face = replace(frame.faces[0], box=np.array([x.min(), 20.0, x.max(), 70.0]), mesh=mesh)
    assert low <= strength_by_edge(face, frame) <= high
    assert strength_by_edge(face, replace(frame, new=True)) == 1.0  # nothing pops in a still


@pytest.mark.parametrize("fields", ["progressive", "tff"])
def test_frames_that_repeat_give_the_same_answer(fields: Literal["progressive", "tff"]) -> None:
    """A freeze or animation on twos: the tracker trembles on, and the grain is drawn anew, but nothing may move."""
    frames: list[Frame] = []
    for k, drawing in enumerate([0, 0, 0, 1, 1, 0]):
        picture, points = portrait(shift=(4 * drawing, 0.0))
        frame = frame_of(picture, k, display=Display(fields=fields))
        frames.append(replace(frame, faces=(face_at(points + 0.3 * (k % 2)),)))
    was, stats = [planes(frame) for frame in frames], Stats()
    split = (
        replace(frame, pts=k, faces=frames[k // 2].faces)
        for k, frame in enumerate(split_fields(iter(frames)))
        if isinstance(frame, Frame)
    )
    out = list(enhance(stats=stats, ahead=2)(split if fields == "tff" else frames))
    shown = [planes(frame) for frame in (out[::2] if fields == "tff" else out) if isinstance(frame, Frame)]
    equal = [all(map(np.array_equal, a, b)) for a, b in itertools.pairwise(shown)]
    assert equal == [True, True, False, True, False]
    assert all(np.abs(a[0].astype(int) - b[0]).max() > 10 for a, b in zip(was, shown, strict=True))
    assert stats.counters["frames_corrected"] == 6


def test_packets_keep_their_place_among_the_frames() -> None:
    frames = film(4)
    packets = [Packet(None, k) for k in range(4)]  # type: ignore[arg-type]  # never looked into
    items = [x for pair in zip(frames, packets, strict=True) for x in pair]
    out = list(enhance(ahead=2)(iter(items)))
    assert [type(x).__name__ for x in out] == ["Frame", "Packet"] * 4
    assert [x.pts if isinstance(x, Frame) else x.stream_index for x in out] == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("network", "touched"),
    [
        (FakeCodedNetwork(40.0, 40.0), False),
        (FakeCodedNetwork(40.0, 42.0), False),
        (FakeCodedNetwork(40.0, 20.0), True),
        (None, False),
    ],
)
def test_a_face_without_a_gain_is_left_bit_for_bit(
    network: FakeCodedNetwork | None, touched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rtface.analysis.treatment.predicted",
        lambda found, width: (1.0, found.error and gain_of(found.error, found.remaining)),
    )
    picture, points = portrait(640, 480, blur=3.0, scale=1.0)
    frame = replace(frame_of(picture, 0), faces=(face_at(points),))
    was, engines = planes(frame), FakeEngines()
    step = single(Runtime(CpuDevice(), engines), analysis=True, helpers=Helpers(coded=network and coded_stage(network)))
    out = step.collect(step.submit(frame))
    assert out.touched is out.corrected is touched, step.tracks.reports()[0]
    assert engines.named("fake").calls == touched
    if not touched:
        assert all(np.array_equal(a, b) for a, b in zip(was, planes(out), strict=True))
        assert step.tracks.reports()[0].treatment["reasons"] == ["nothing to gain"]


def test_a_failing_engine_lets_that_frame_through_and_is_counted() -> None:
    stats = Stats()
    before = [planes(f) for f in film()]
    out = list(enhance(FakeEngines(FakeEngine(fail={2, 3})), stats=stats)(film()))
    assert [f.touched for f in out] == [True, False, False, True, True, True]
    assert all(np.array_equal(a, b) for a, b in zip(before[1], planes(out[1]), strict=True))
    assert stats.counters["faults"] == 2
    assert len(stats.warnings) == 1
    assert "fake engine fails" in next(iter(stats.warnings.values()))


def test_an_engine_that_never_answers_ends_the_run() -> None:
    step = single(Runtime(CpuDevice(), FakeEngines(FakeEngine(fail=set(range(1, 200))))))
    with pytest.raises(EngineError, match="100 frames in a row"):
        for frame in film(1) * 150:
            step.collect(step.submit(frame))


def test_a_tracker_whose_gpu_is_lost_ends_the_run() -> None:
    class Lost:
        def update(self, view: object, time: float, *, cut: bool = False) -> tuple[()]:
            raise DeviceLost("the GPU stopped responding")

    with pytest.raises(DeviceLost):
        list(track(film(3), Lost(), CpuDevice(), Stats()))  # type: ignore[arg-type]


def test_a_treatment_decides_for_its_track_alone() -> None:
    engines = FakeEngines(FakeEngine())
    picture, points = portrait(640, 180)
    frame = frame_of(picture, 0)
    faces = tuple(face_at(points + [dx, 0.0], k) for k, dx in ((1, -160.0), (2, 0.0), (3, 160.0)))
    step = single(
        Runtime(CpuDevice(), engines),
        analysis=True,
        rules=TrackRules(Treatments({1: Treatment(False), 2: Treatment(True, 0.5), 3: Treatment(True, 1.0)})),
    )
    out = step.collect(step.submit(replace(frame, faces=faces)))
    assert out.touched
    reports = {r.id: r for r in step.tracks.reports()}
    assert (reports[1].strength, reports[2].strength, reports[3].strength) == (0.0, 0.5, 1.0)
    assert engines.named("fake").calls == 2


def test_both_fields_of_interlaced_frames_are_corrected() -> None:
    picture, points = portrait()
    for fields in ("tff", "bff"):
        frame = frame_of(picture, 0, display=Display(fields=fields))  # type: ignore[arg-type]
        was = planes(frame)[0].astype(int)
        seen: list[int | None] = []

        def faces_on(items: Any, seen: list[int | None] = seen) -> Any:
            for item in items:
                seen.append(item.field)
                yield replace(item, faces=(face_at(points),) if item.field == 1 else ())

        out = list(join_fields(enhance()(faces_on(split_fields(iter([frame]))))))
        assert seen == [0, 1]
        assert len(out) == 1 and isinstance(out[0], Frame) and out[0].touched and out[0].field is None
        changed = np.abs(planes(out[0])[0] - was)
        first = 0 if fields == "tff" else 1
        assert changed[first::2].max() == 0
        assert changed[1 - first :: 2].max() > 10


def test_a_recurrent_engine_gets_its_previous_state() -> None:
    class Counting(FakeEngine):
        recurrent = True
        seen: ClassVar[list[Any]] = []

        def submit(self, crops: np.ndarray, after: Any = None) -> Any:
            state = after and after.result().state
            self.seen.append(state)
            answer = super().submit(crops)
            answer.result().state = (state or 0) + 1
            return answer

    engine = Counting()
    step = enhance(FakeEngines(engine), ahead=2)
    list(step(film(4)))
    assert engine.seen == [None, 1, 2, 3]
    step.reset()
    step.submit(film(1)[0])
    assert engine.seen[-1] is None


def test_a_recurrent_engine_begins_anew_after_a_pause() -> None:
    class Noting(FakeEngine):
        recurrent = True
        known: ClassVar[list[bool]] = []

        def submit(self, crops: np.ndarray, after: Any = None) -> Any:
            self.known.append(after is not None)
            return super().submit(crops)

    frames = film(4)
    late = [replace(f, pts=f.pts + (25 if i >= 2 else 0)) for i, f in enumerate(frames)]
    list(enhance(FakeEngines(Noting()))(late))
    assert Noting.known == [False, True, False, True]


class LosableDevice(CpuDevice):
    """The CPU's work under another name, until it is lost."""

    lost = False

    @property
    def name(self) -> str:
        return "gpu"

    def cut(self, frame: Frame, places: Any) -> Any:
        if self.lost:
            raise DeviceLost("the GPU stopped responding")
        return super().cut(frame, places)


def test_a_run_moves_to_another_device_between_two_frames() -> None:
    there = Runtime(LosableDevice(), FakeEngines(FakeEngine("there")))
    upgrade: Future[Runtime] = Future()
    step = single(RuntimeSwitch(Runtime(CpuDevice(), FakeEngines(FakeEngine("here"))), Stats(), upgrade=upgrade))
    names, waiting = [], []
    for k, frame in enumerate(film(6)):
        if k == 3:
            upgrade.set_result(there)
        waiting.append(step.submit(frame))
        names.append(waiting[-1].faces[0].engine.name)
        if len(waiting) > 1:  # a frame is in the engine's hands while the move happens
            assert step.collect(waiting.pop(0)).touched
    assert step.collect(waiting.pop()).touched
    assert names == ["here"] * 3 + ["there"] * 3
    assert step.runtime == there and step.switch.upgrade is None


def test_a_lost_device_ends_a_film_and_not_a_live_run() -> None:
    device, stats = LosableDevice(), Stats()
    spare = Runtime(CpuDevice(), FakeEngines(FakeEngine("spare")))
    for live in (False, True):
        device.lost = False
        fallback = (lambda: spare) if live else None
        step = single(RuntimeSwitch(Runtime(device, FakeEngines()), stats, fallback=fallback), stats)
        done = []
        try:
            for k, frame in enumerate(film(6)):
                device.lost = k >= 3
                done.append(step.collect(step.submit(frame)).touched)
        except DeviceLost as error:
            assert not live and "stopped responding" in str(error)
        assert done == ([True] * 3 + [False] + [True] * 2 if live else [True] * 3)


def test_without_a_fallback_frames_pass() -> None:
    device, stats, asked = LosableDevice(), Stats(), list[int]()

    def spare() -> Runtime:
        asked.append(1)
        raise MissingComponent("no memory")

    step = single(RuntimeSwitch(Runtime(device, FakeEngines()), stats, fallback=spare), stats)
    device.lost = True
    assert [step.collect(step.submit(f)).touched for f in film(3)] == [False] * 3
    assert len(asked) == 1
    assert "pass through unchanged" in stats.warnings["stranded"]
    assert stats.counters["faults"] == 0


def test_the_state_of_a_failed_frame_is_not_used_again() -> None:
    class Remembering(FakeEngine):
        recurrent = True
        given: list[Any]

        def submit(self, crops: np.ndarray, after: Any = None) -> Any:
            self.given.append(after)
            return super().submit(crops)

    class Failing(CpuDevice):
        fail = False

        def shape(self, faces: Any) -> Any:
            if self.fail:
                raise EngineError("not a number")
            return super().shape(faces)

    engine, device = Remembering(), Failing()
    engine.given = []
    step = FilmEnhancer(Runtime(device, FakeEngines(engine)), Options(grain="none"), Stats(), analysis=False)
    for k, frame in enumerate(film(4)):
        device.fail = k == 1
        step.collect(step.submit(frame))
    assert [after is None for after in engine.given] == [True, False, True, False]
