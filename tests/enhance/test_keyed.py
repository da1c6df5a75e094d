"""A heavy engine on keyframes over the light one: when it is asked, what is shown between, and what faults cost."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from rtface.analysis.analyzer import Analyzer
from rtface.config.options import Options
from rtface.correct.correspondence import SIDE, FaceFeatures, Warp, warp_between
from rtface.correct.keyframe_blend import (
    AHEAD_FRAMES,
    Key,
    blended_with_keys,
    take_key_output,
    temporally_averaged,
)
from rtface.device.cpu.device import CpuDevice
from rtface.enhance.corrector import Helpers
from rtface.enhance.film import FilmEnhancer
from rtface.enhance.live import FrameEnhancer, LiveEnhancer
from rtface.enhance.track_store import TrackState
from rtface.frame import Frame
from rtface.protocols import Restored, Runtime
from rtface.quality.governor import QualityGovernor
from rtface.stats import Stats
from tests.enhance.key_frames import Every, Sharpening, WhenTold, film, inside, luma, still
from tests.pipeline.fakes import FakeEngine, FakeEngines, portrait


class Heavy(Sharpening):
    """Sharpens on crops of twice the size, stronger on every other call by `more`."""

    def __init__(self, more: float = 0.0, **others: Any) -> None:
        super().__init__("heavy", 512, **others)
        self.more = more

    def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
        answer = super().submit(crops, after)
        if answer.exception() is None and self.calls % 2 == 0:
            answer.result().pixels += np.float32(self.more) * (answer.result().pixels - crops)
        return answer


class Smooth(FakeEngine):
    """A light engine that takes noise out."""

    def __init__(self) -> None:
        super().__init__("small", 256)

    def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
        answer: Future[Restored] = Future()
        answer.set_result(Restored(np.stack([cv2.GaussianBlur(p, (0, 0), 2.0) for p in crops[0]])[None]))
        return answer


class Small(FakeEngine):
    """Leaves the crop as it is, or adds its checkerboard."""

    def __init__(self, amount: float = 0.0) -> None:
        super().__init__("small", 256, amount)


def step(
    heavy: FakeEngine,
    light: FakeEngine | None = None,
    keyframe: int | str = 4,
    stats: Stats | None = None,
    of: type[FilmEnhancer | FrameEnhancer] = FilmEnhancer,
) -> Any:
    return of(
        Runtime(CpuDevice(), FakeEngines(heavy, light or Small())),
        Options(grain="none", keyframe=keyframe),
        stats or Stats(),
        analysis=False,
        helpers=Helpers(light="small"),
    )


def live(heavy: FakeEngine, light: FakeEngine, governor: QualityGovernor, stats: Stats | None = None) -> LiveEnhancer:
    return LiveEnhancer(
        Runtime(CpuDevice(), FakeEngines(heavy, light)),
        Options(grain="none"),
        stats or Stats(),
        governor,
        analysis=False,
        helpers=Helpers(light="small"),
    )


def shown(enhance: FilmEnhancer, frames: list[Frame]) -> list[np.ndarray]:
    return [luma(f) for f in enhance(frames) if isinstance(f, Frame)]


@pytest.mark.slow
def test_film_slow_engine_every_nth_frame_small_one_on_all() -> None:
    heavy, light = Heavy(), Small()
    frames = still(13)
    was = [luma(f) for f in frames]
    out = list(step(heavy, light)(frames))
    assert [f.pts for f in out if isinstance(f, Frame)] == list(range(13))
    assert heavy.calls == 4 and light.calls == 13
    every = shown(step(Heavy(), keyframe=1), still(13))
    part = inside(still(1)[0])
    for a, b, c in zip(was, every, out, strict=True):
        assert isinstance(c, Frame)
        change = np.abs(b[part] - a[part]).mean()
        assert change > 0.5
        assert np.abs(luma(c)[part] - b[part]).mean() < 0.2 * change


@pytest.mark.slow
def test_one_key_frame_goes_over_into_the_next_in_a_film() -> None:
    """Every other answer is twice as strong: on every frame that jumps, over keyframes it is a slope."""
    frames = still(17)
    was, part = luma(frames[0])[inside(frames[0])], inside(frames[0])

    def jump(keyframe: int) -> float:
        pictures = shown(step(Heavy(more=1.0), keyframe=keyframe), still(17))
        return float(np.abs(np.diff([np.abs(p[part] - was).mean() for p in pictures])).max())

    assert jump(4) < 0.5 * jump(1)


def test_where_the_face_has_changed_the_small_engine_shows() -> None:
    """Eyes closed between two keyframes: the pattern of the light engine there, the heavy one's work elsewhere."""
    picture, points = portrait(640, 480, scale=1.6, blur=1.0)
    closed = picture.copy()
    x, y = (round(float(v)) for v in points[0])
    closed[y - 14 : y + 14, x - 24 : x + 24] = cv2.GaussianBlur(picture[y + 40 : y + 68, x - 24 : x + 24], (0, 0), 3)
    pictures = [picture] * 3 + [closed] * 2 + [picture] * 4
    was = [luma(f) for f in film(pictures, [points] * 9)]
    core = np.s_[y - 7 : y + 7, x - 13 : x + 13]
    mouth = np.s_[round(points[3][1]) - 8 : round(points[3][1]) + 8, round(points[3][0]) - 8 : round(points[3][0]) + 8]
    out = shown(step(Heavy(), keyframe=8), film(pictures, [points] * 9))
    alone = shown(step(Small(0.0), Small(0.0), keyframe=1), film(pictures, [points] * 9))
    for k in (3, 4):
        assert np.abs(out[k] - alone[k])[core].mean() < 0.15 * np.abs(out[1] - was[1])[core].mean()
        assert np.abs(out[k] - was[k])[mouth].mean() > 0.5 * np.abs(out[1] - was[1])[mouth].mean()


def test_a_keyframe_that_no_longer_fits_is_replaced() -> None:
    picture, points = portrait()
    rng = np.random.default_rng(0)
    other = cv2.GaussianBlur(rng.integers(0, 255, picture.shape, np.uint8), (0, 0), 6)
    heavy = Heavy()
    shown(step(heavy, keyframe=12), film([picture] * 5 + [other] * 3, [points] * 8))
    assert heavy.calls == 2


def test_a_fault_of_the_slow_engine_costs_one_frame() -> None:
    stats = Stats()
    frames = still(9)
    out = list(step(Heavy(fail={2}), Small(0.02), stats=stats)(frames))
    assert [f.touched for f in out if isinstance(f, Frame)].count(False) == 1
    assert stats.counters["faults"] == 1


@pytest.mark.slow
def test_little_is_remembered_of_a_long_film() -> None:
    enhance = step(Heavy())
    most = 0
    for _ in enhance(still(24)):
        most = max(most, *(len(r.keys.samples) for r in enhance.tracks.states.values()))
    assert 4 < most <= 3 * 4 + AHEAD_FRAMES


class Late(WhenTold, Heavy):
    ms = 700.0


def test_live_small_engine_at_once_and_the_slow_one_fades_in() -> None:
    heavy, light = Late(), Small(0.03)
    enhance = live(heavy, light, Every(1))
    pictures = still(40)
    part, changed = inside(pictures[0]), list[float]()
    for k, frame in enumerate(pictures):
        was = luma(frame)
        if k % 10 == 9:
            heavy.answer()
        changed.append(float(np.abs(luma(enhance.process(frame)) - was)[part].mean()))
    assert 4 <= len(heavy.asked) <= 5  # never asked again before it has answered
    assert min(changed[:9]) > 0.3 and max(changed[:9]) < 1.3 * min(changed[:9])
    assert changed[-1] < 0.3 * changed[8]  # the pattern has given warp to what the heavy engine makes of the face
    assert 0.0 < np.max(-np.diff(changed[8:18])) < 0.5 * (changed[8] - changed[-1])
    first = enhance.tracks.states[1].keys
    assert len(first.samples) <= 4


def changes(enhance: LiveEnhancer, heavy: Late, frames: list[Frame]) -> list[float]:
    part, out = inside(frames[0]), list[float]()
    for frame in frames:
        was = luma(frame)
        if heavy.asked:
            heavy.answer()
        out.append(float(np.abs(luma(enhance.process(frame)) - was)[part].mean()))
    return out


class Sinking(Every):
    """From one frame on faces go by the light engine, on every 4th."""

    def plan(self, now: float, seen: Any, **more: Any) -> Any:
        plans, turn = super().plan(now, seen, **more), self._turn - 13
        if turn < 0:
            return plans
        return [replace(p, engine="small", key=turn % 4 == 0, share=min(1.0, 0.14 * turn)) for p in plans]


def test_live_slow_keyframes_fade_into_the_small_engines() -> None:
    heavy, stats = Late(), Stats()
    changed = changes(live(heavy, Small(0.03), Sinking(1), stats), heavy, still(40))
    assert stats.counters["crops:carried"] >= 18 and stats.counters["faults"] == 0
    assert min(changed[8:]) > 0.8 * min(changed[8], changed[-1])


def test_live_an_engine_that_fails_late_costs_one_frame() -> None:
    heavy, stats = Late(), Stats()
    enhance = live(heavy, Small(0.03), Every(1), stats)
    touched: list[bool] = []
    for k, frame in enumerate(still(12)):
        if k == 4:
            heavy.asked[-1][1].set_exception(RuntimeError("no answer"))
        touched.append(enhance.process(frame).touched)
    assert touched.count(False) == 1 and stats.counters["faults"] == 1 and len(heavy.asked) == 2


def features(seed: int, time: float = 0.0) -> FaceFeatures:
    rng = np.random.default_rng(seed)
    light = np.stack([cv2.GaussianBlur(rng.random((256, 256), np.float32), (0, 0), 3)] * 3)
    return FaceFeatures(time, light, light)


def test_detail_common_to_two_keyframes_is_kept_noise_is_not() -> None:
    rng = np.random.default_rng(3)
    before, now = features(1), features(1, 0.1)

    def texture() -> np.ndarray:
        out: Any = cv2.GaussianBlur(rng.standard_normal((512, 512)).astype(np.float32), (0, 0), 8)
        return np.stack([0.05 * out / out.std()] * 3)

    base = np.stack([cv2.resize(p, (512, 512)) for p in now.guide])
    common, chance = texture(), texture()
    take_key_output(before, base + common, base, None)
    warp = warp_between(now, before)
    for added, low, high in ((common, 0.65, 1.01), (chance, 0.0, 0.3)):
        take_key_output(now, base + added, base, (before, warp))
        assert now.key is not None
        left = now.key - base
        assert low < float((left * added).sum() / (added * added).sum()) < high


def test_with_small_changes_a_frame_keeps_its_own_detail() -> None:
    """Motion is found to a part of a sample of a small picture: what is carried of a clean film would blur it."""
    rng = np.random.default_rng(2)
    scene = np.stack([cv2.GaussianBlur(rng.random((512, 520), np.float32), (0, 0), 1.5)] * 3)
    crop, moved = scene[:, :, 2:514], scene[:, :, :512]
    texture = np.float32(0.1) * rng.standard_normal((512, 512)).astype(np.float32)
    own, there = (np.stack([cv2.resize(p, (256, 256), interpolation=cv2.INTER_AREA) for p in c]) for c in (crop, moved))
    still = Warp(None, np.ones((SIDE, SIDE), np.float32))
    left: list[float] = []
    for added in (np.float32(0.01) * texture, texture):
        key = FaceFeatures(0.0, there, there)
        take_key_output(key, moved + added, moved, None)
        error = blended_with_keys(crop, own, own, [Key(1.0, key, there, still)]) - crop
        left.append(float((error * added).sum() / (3 * (added * added).sum())))
        if not left[1:]:
            assert np.abs(error).mean() < 0.1 * np.abs(moved - crop).mean()
    assert left[1] > 0.6  # where it changes more than motion gets wrong, that is shown


def test_the_average_over_time_removes_a_frames_errors() -> None:
    rng = np.random.default_rng(4)
    scene = np.stack([cv2.GaussianBlur(rng.random((256, 260), np.float32), (0, 0), 1.5)] * 3)
    frame, still = scene[:, :, 1:257], Warp(None, np.ones((SIDE, SIDE), np.float32))
    clean = np.full((SIDE, SIDE), 1e-6, np.float32)
    others = [(1, scene[:, :, :256], still), (1, scene[:, :, 2:258], still)]
    blurred = np.abs(sum(p for _, p, _ in others) / 2 - frame).mean()
    assert np.abs(temporally_averaged(frame, others, clean) - frame).mean() < 0.1 * blurred
    noise = [np.float32(0.1) * rng.standard_normal(frame.shape).astype(np.float32) for _ in range(5)]
    noisy = [(1, frame + n, still) for n in noise[1:]]
    averaged = temporally_averaged(frame + noise[0], noisy, np.full((SIDE, SIDE), 0.01, np.float32)) - frame
    assert averaged.std() < 0.6 * noise[0].std()


def test_an_engine_for_heads_enhances_them_on_request() -> None:
    changed: list[float] = []
    for region, whole in (("face", True), ("head", True), ("head", False)):
        engine = FakeEngine()
        engine.whole = whole
        enhance = FrameEnhancer(
            Runtime(CpuDevice(), FakeEngines(engine)),
            Options.of({"grain": "none", "region": region}),
            Stats(),
            analysis=False,
        )
        frame = still(1, width=640, height=480)[0]
        was = luma(frame)
        changed.append(float((luma(enhance.process(frame)) != was).sum()))
    assert changed[1] > 1.5 * changed[0], "in the same crop"
    assert changed[2] == changed[0], "not by an engine for faces"


@pytest.mark.slow
def test_film_the_slow_engine_gets_averaged_neighbours() -> None:
    class Watched(Heavy):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[np.ndarray] = []

        def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
            self.seen.append(crops[0])
            return super().submit(crops, after)

    clean, film_, single = Watched(), Watched(), Watched()
    shown(step(clean, Smooth()), still(9))
    shown(step(film_, Smooth()), still(9, noise=6.0))
    enhance = step(single, Smooth(), of=FrameEnhancer)
    for frame in still(9, noise=6.0):
        enhance.process(frame)
    part = np.s_[:, 200:400, 160:350]
    noise = [float(np.std((e.seen[1] - clean.seen[1])[part])) for e in (film_, single)]
    assert len(film_.seen) == len(single.seen) == 3 and noise[0] < 0.6 * noise[1]


def test_film_output_is_averaged_with_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    def trembles() -> float:
        rng = np.random.default_rng(0)
        picture, points = portrait()
        noisy: list[np.ndarray] = []
        for _ in range(13):
            blotches: Any = cv2.GaussianBlur(rng.standard_normal(picture.shape), (0, 0), 2.0)
            noisy.append(np.clip(picture + 4 * blotches / blotches.std(), 0, 255).astype(np.uint8))
        pictures = np.stack(shown(step(Heavy(), Smooth()), film(noisy, [points] * 13)))
        return float(np.abs(np.diff(pictures, axis=0))[3:-3][(slice(None), *inside(still(1)[0]))].mean())

    averaged = trembles()
    monkeypatch.setattr("rtface.enhance.keyframes.smoothing.SHOWN_FRAMES", 0)
    assert averaged < 0.8 * trembles()


def test_an_engine_is_not_given_what_another_remembers() -> None:
    """A remembering engine may work alone on one frame of a live run, and over the light one on the next."""

    class Remembering(FakeEngine):
        recurrent = True

        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.given: list[Future[Restored] | None] = []
            self.gave: list[Future[Restored]] = []

        def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
            self.given.append(after)
            self.gave.append(super().submit(crops, after))
            return self.gave[-1]

    track, crop = TrackState(1, Analyzer()), np.zeros((1, 3, 256, 256), np.float32)

    light, heavy = Remembering("small"), Remembering("heavy")
    for k, engine in enumerate((light, light, heavy, heavy, light)):
        track.ask(engine, crop, 0.04 * k)
    track.ask(light, crop, 1.0)  # long after
    assert light.given == [None, light.gave[0], None, None] and heavy.given == [None, heavy.gave[0]]
