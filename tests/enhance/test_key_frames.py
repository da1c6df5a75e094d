"""Keyframes in the enhance step: what is carried between them, and what a fault, a cut and a late answer cost."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice
from rtface.enhance.corrector import Helpers
from rtface.enhance.live import FrameEnhancer, LiveEnhancer
from rtface.frame import Frame
from rtface.protocols import Restored, Runtime
from rtface.quality.governor import QualityGovernor
from rtface.stats import Stats
from tests.enhance.key_frames import Every, Sharpening, WhenTold, film, inside, luma, still
from tests.pipeline.fakes import FakeEngine, FakeEngines, face_at, frame_of, portrait


def live(
    engines: FakeEngines, governor: QualityGovernor, stats: Stats | None = None, light: str | None = None
) -> LiveEnhancer:
    return LiveEnhancer(
        Runtime(CpuDevice(), engines),
        Options(grain="none"),
        stats or Stats(),
        governor,
        analysis=False,
        helpers=Helpers(light=light),
    )


def step(engine: FakeEngine, every: int | None, stats: Stats | None = None) -> FrameEnhancer:
    if every:
        return live(FakeEngines(engine), Every(every), stats)
    return FrameEnhancer(
        Runtime(CpuDevice(), FakeEngines(engine)), Options(grain="none"), stats or Stats(), analysis=False
    )


def run(enhance: FrameEnhancer, frames: list[Frame]) -> list[np.ndarray]:
    return [luma(enhance.process(frame)) for frame in frames]


def test_a_still_face_looks_as_with_the_engine_on_every_frame() -> None:
    engine = Sharpening()
    part = inside(still(1)[0])
    before = [luma(f)[part] for f in still()]
    every = run(step(Sharpening(), None), still())
    keyed = run(step(engine, 4), still())
    assert engine.calls == 2
    for was, a, b in zip(before, every, keyed, strict=True):
        change = np.abs(a[part] - was).mean()
        assert change > 2.0
        assert np.abs(a[part] - b[part]).mean() < 0.15 * change


def test_noise_is_removed_between_keyframes_too() -> None:
    """The engine leaves no noise: carrying the correction itself would leave the noise of the
    frame, and that of the keyframe on top of it."""

    class Cleaning(FakeEngine):
        def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
            soft = np.stack([cv2.GaussianBlur(plane, (0, 0), 4) for plane in crops[0]])[None]
            answer: Future[Restored] = Future()
            answer.set_result(Restored(soft))
            return answer

    part = inside(still(1)[0])
    films = [[luma(f) for f in still(9, noise=5.0)], *(run(step(Cleaning(), n), still(9, noise=5.0)) for n in (1, 4))]
    raw, every, keyed = (np.std(np.diff([p[part] for p in pictures], axis=0)) for pictures in films)
    assert every < 0.7 * raw
    assert keyed < 1.05 * every


def test_the_correction_moves_with_the_face() -> None:
    frames = []
    for k in range(6):
        picture, points = portrait(shift=(3.0 * k, 1.5 * k), scale=0.9 + 0.01 * k)
        frames.append(replace(frame_of(picture, k), faces=(face_at(points),)))
    copies = [luma(f) for f in frames]
    again = [
        replace(f, image=g.image)
        for f, g in zip(
            frames,
            [frame_of(portrait(shift=(3.0 * k, 1.5 * k), scale=0.9 + 0.01 * k)[0], k) for k in range(6)],
            strict=True,
        )
    ]
    every, keyed = run(step(Sharpening(), None), frames), run(step(Sharpening(), 6), again)
    for frame, was, a, b in zip(frames, copies, every, keyed, strict=True):
        part = inside(frame)
        wanted, got = (a - was)[part].ravel(), (b - was)[part].ravel()
        assert np.corrcoef(wanted, got)[0, 1] > 0.8
        assert got @ wanted > 0.6 * wanted @ wanted


def test_a_blink_is_not_covered_by_the_open_eye() -> None:
    picture, points = portrait(640, 480, scale=1.6, blur=1.0)
    closed = picture.copy()
    x, y = (round(float(v)) for v in points[0])
    eye = np.s_[y - 14 : y + 14, x - 24 : x + 24]
    skin = picture[y + 40 : y + 68, x - 24 : x + 24]
    closed[eye] = cv2.GaussianBlur(skin, (0, 0), 3)
    shown = [picture, picture, closed, closed, picture, picture]
    was = [luma(f) for f in film(shown, [points] * 6)]
    out = run(step(Sharpening(), 6), film(shown, [points] * 6))
    core = np.s_[y - 8 : y + 8, x - 14 : x + 14]
    open_eye = np.abs(out[1] - was[1])[core].mean()
    assert open_eye > 1.0
    for k in (2, 3):
        assert np.abs(out[k] - was[k])[core].mean() < 0.1 * open_eye
        other = np.s_[
            round(points[3][1]) - 8 : round(points[3][1]) + 8, round(points[3][0]) - 8 : round(points[3][0]) + 8
        ]
        assert np.abs(out[k] - was[k])[other].mean() > 0.5 * np.abs(out[1] - was[1])[other].mean()
    # Open again it comes back within a few frames, not at once.
    assert np.abs(out[4] - was[4])[core].mean() < np.abs(out[5] - was[5])[core].mean() + 1e-9


def test_a_closed_gate_holds_for_the_next_engine_too() -> None:
    picture, points = portrait(640, 480, scale=1.6, blur=1.0)
    hand = picture.copy()
    x, y = (round(float(v)) for v in points[0])
    hand[y - 14 : y + 14, x - 24 : x + 24] = 90
    large, light, stats = Sharpening("large", 512), Sharpening("small", 256), Stats()

    class Falling(Every):
        """The large engine, and from the fourth frame on the light one."""

        def plan(self, now: float, seen: Any, **more: Any) -> Any:
            plans = super().plan(now, seen, **more)
            falls = self._turn >= 4
            return [replace(p, engine="small" if falls else "large", key=self._turn in (1, 4)) for p in plans]

    enhance = live(FakeEngines(large, light), Falling(1), stats, light="small")
    shown = [picture, picture, hand, hand, hand, hand]
    was = [luma(f) for f in film(shown, [points] * 6)]
    out = [luma(enhance.process(frame)) for frame in film(shown, [points] * 6)]
    assert (large.calls, light.calls, stats.counters["faults"]) == (1, 1, 0)
    assert all(np.abs(a - b).max() > 1 for a, b in zip(out, was, strict=True))


def test_nan_answers_pass_the_frame_and_leave_no_trace() -> None:
    class Breaking(Sharpening):
        def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
            answer = super().submit(crops, after)
            if self.calls == 2:
                answer.result().pixels[...] = np.nan
            return answer

    stats, engine = Stats(), Breaking()
    was = [luma(f) for f in still()]
    out = run(step(engine, 3, stats), still())
    changed = [bool(np.abs(a - b).max() > 0) for a, b in zip(out, was, strict=True)]
    assert changed == [True] * 3 + [False] * 3 + [True] * 2
    assert stats.counters["faults"] == 1 and all(np.isfinite(p).all() for p in out)


class Slow(WhenTold, Sharpening):
    ms = 300.0


def test_a_far_too_slow_engine_is_not_waited_for() -> None:
    engine = Slow()
    enhance = live(FakeEngines(engine), QualityGovernor(1 / 25, 0.1))
    changed: list[float] = []
    for k, frame in enumerate(still(40)):
        was = luma(frame)
        if k % 8 == 7:
            engine.answer()
        changed.append(float(np.abs(luma(enhance.process(frame)) - was).mean()))
    assert 4 <= len(engine.asked) <= 6  # never asked again before it has answered
    assert changed[:7] == [0.0] * 7 and all(changed[7:])
    assert changed[7] < 0.4 * changed[-1]  # it fades in
    assert changed[7:16] == sorted(changed[7:16])


def test_an_engine_that_fails_late_costs_one_fault_and_no_frame() -> None:
    engine, stats = Slow(), Stats()
    enhance = live(FakeEngines(engine), QualityGovernor(1 / 25, 0.1), stats)
    touched: list[bool] = []
    for k, frame in enumerate(still(12)):
        if k == 2:
            engine.answer()
        if k == 6:
            engine.asked[-1][1].set_exception(RuntimeError("no answer"))
        touched.append(enhance.process(frame).touched)
    assert touched == [False] * 2 + [True] * 10
    assert stats.counters["faults"] == 1 and len(engine.asked) == 3


def test_another_engine_fades_in() -> None:
    class Switch(Every):
        def plan(self, now: float, seen: Any, **more: Any) -> Any:
            plans = super().plan(now, seen, **more)
            k = self._turn - 1
            name, share = ("two", min(1.0, (k - 2) / 4)) if k >= 3 else ("one", 1.0)
            return [replace(p, engine=name, key=True, share=share) for p in plans]

    one, two = FakeEngine("one", amount=0.2), FakeEngine("two", amount=0.05)
    enhance = live(FakeEngines(one, two), Switch(1))
    was = luma(still(1)[0])
    strength = [np.abs(p - was).mean() for p in run(enhance, still(9))]
    assert strength[2] > 2.5 * strength[-1]
    falls = -np.diff(strength[2:])
    assert falls.max() < 0.5 * (strength[2] - strength[-1])
