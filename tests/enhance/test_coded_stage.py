"""The first stage: where it looks, what it measures, what it changes, and what a frame with it is counted as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from threading import Event
from typing import Any, cast

import cv2
import numpy as np
import pytest

from rtface.analysis.analyzer import Analyzer
from rtface.analysis.measure import Analysis
from rtface.analysis.treatment import INSIDE, Treatment, gain_of, of_colours
from rtface.analysis.treatment_file import Treatments
from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.enhance.coded_place import CELL, LARGEST, MULTIPLE, place_of
from rtface.enhance.coded_stage import CodedStage, StageStrength
from rtface.enhance.corrector import Helpers
from rtface.enhance.film import FilmEnhancer
from rtface.enhance.live import FrameEnhancer, LiveEnhancer
from rtface.enhance.track_measurement import TrackMeasurement
from rtface.enhance.track_store import TrackRules, TrackState
from rtface.errors import MissingComponent
from rtface.frame import Bytes, Display, Face, Frame, Quantisers
from rtface.geometry.transforms import (
    Field,
    apply,
    compose,
    display_size,
    field_parity,
    invert,
    plane_matrix,
    sample_to_display,
)
from rtface.media.marks.provenance import Change
from rtface.media.read.enlarge import Enlarger
from rtface.protocols import Runtime
from rtface.quality.governor import QualityGovernor
from rtface.shots.settings import NO_SHOTS, ShotList
from rtface.stats import Stats
from rtface.util.fade import MOST_A_FRAME
from tests.pipeline.fakes import FakeCodedNetwork, FakeEngine, FakeEngines, coded_stage, face_at, frame_of, portrait

SIZE = 320, 180
DISPLAYS = [
    (Display(), None),
    (Display(quarter_turns=1), None),
    (Display(quarter_turns=2, mirror=True), None),
    (Display(aspect=Fraction(16, 11)), None),
    (Display(fields="tff"), 0),
    (Display(fields="bff"), 0),
    (Display(fields="tff"), 1),
    (Display(quarter_turns=3, fields="bff"), 1),
]


def face_in(
    box: tuple[float, float, float, float], track: int = 1, display: Display | None = None, size: tuple[int, int] = SIZE
) -> Face:
    """A face whose box is this one in stored samples."""
    x0, y0, x1, y1 = box
    corners = apply(sample_to_display(*size, display or Display()), np.array([(x0, y0), (x1, y1)]))
    low, high = corners.min(0), corners.max(0)
    shape = np.array([(0.3, 0.36), (0.7, 0.36), (0.5, 0.58), (0.34, 0.77), (0.66, 0.77)])
    return Face(track, np.concatenate([low, high]), low + shape * (high - low))


def frame_with(*faces: Face, size: tuple[int, int] = SIZE, fmt: str = "rgb24", **more: Any) -> Frame:
    """Noise with faces that only say so."""
    picture = np.random.default_rng(3).integers(110, 131, (size[1], size[0], 3)).astype(np.uint8)
    return frame_of(picture, 0, fmt, faces=faces, **more)


def stored(frame: Frame) -> Bytes:
    """The samples of an RGB frame."""
    return np.asarray(frame.image.to_ndarray(format="rgb24"))


def both(strength: float) -> StageStrength:
    """The same for the luma and the rest."""
    return StageStrength(strength, strength)


def planes(frame: Frame) -> list[np.ndarray]:
    return [np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width].copy() for p in frame.image.planes]


# -- where it looks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("display", "field"), DISPLAYS)
@pytest.mark.parametrize("box", [(120.0, 60.0, 171.0, 111.0), (3.3, 1.2, 52.0, 61.5), (268.0, 125.0, 319.0, 179.0)])
def test_a_place_lies_on_the_frames_own_samples(
    display: Display, field: Field | None, box: tuple[float, float, float, float]
) -> None:
    frame = frame_with(face_in(box, display=display), display=display, field=field)
    parity = field_parity(display, field)
    own = stored(frame) if parity is None else stored(frame)[parity::2]
    place = place_of(frame, frame.faces[0], 1.3, LARGEST)
    assert place.x % CELL == place.y % CELL == 0 and place.width % MULTIPLE == place.height % MULTIPLE == 0
    assert place.x >= 0 and place.y >= 0
    shift = compose(place.matrix, invert(plane_matrix(SIZE, display, field=field)))
    np.testing.assert_allclose(shift, [[1, 0, -place.x], [0, 1, -place.y]], atol=1e-9)
    seen = CpuDevice().view(frame).crop(place.matrix, (place.width, place.height))
    part = own[place.y : place.y + place.height, place.x : place.x + place.width]
    assert np.array_equal(seen[: part.shape[0], : part.shape[1]], part), "not resampled"
    # The whole face is on it, as far as it is on the frame.
    x0, y0, x1, y1 = box
    rows = 1 if parity is None else 2
    assert place.x <= x0 and place.x + place.width >= min(x1, SIZE[0])
    assert place.y <= y0 / rows and place.y + place.height >= min(y1, SIZE[1]) / rows


@pytest.mark.parametrize("side", [20.0, 24.6, 28.0, 47.0, 64.0, 69.5, 150.0])
@pytest.mark.parametrize("at", [0.0, 1.7, 3.9, 4.0, 6.2])
def test_a_correction_ends_softly_within_its_picture(side: float, at: float) -> None:
    """Wherever a face lies on the grid, its mask is 0 before the picture ends, so that no edge is seen."""
    size = 640, 640
    face = face_in((240 + at, 240 + at, 240 + at + side, 240 + at + side), size=size)
    frame = frame_with(face, size=size)
    made: list[HostCorrection] = []

    def make(*parts: Any) -> HostCorrection:
        made.append(HostCorrection(*parts))
        return made[-1]

    stage = CodedStage(FakeCodedNetwork(), CpuDevice(), make, Stats())
    for around in (0.0, 1.0):
        stage.process(frame, [(face, both(1.0), both(around))])
        mask = made[-1].mask
        assert mask.max() > 0.99
        assert max(edge.max() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])) < 0.01


# -- what the network is told ------------------------------------------------------------------------------------


def steps_of(rows: int, columns: int) -> np.ndarray:
    """A different step for each block."""
    return (1.0 + np.arange(rows * columns, dtype=np.float32)).reshape(rows, columns)


@pytest.mark.parametrize("block", [8, 16, 320])
@pytest.mark.parametrize("field", [None, 0, 1])
def test_cells_get_the_step_of_the_block_they_lie_in(block: int, field: Field | None) -> None:
    steps = steps_of(-(-SIZE[1] // block), -(-SIZE[0] // block))
    frame = frame_with(
        display=Display(fields="progressive" if field is None else "tff"),
        field=field,
        quantisers=Quantisers(steps, block, "h264"),
    )
    place = place_of(frame, face_in((200.0, 80.0, 251.0, 150.0)), 1.3, LARGEST)
    rows = 1 if field is None else 2
    told = place.steps(frame.quantisers, rows)
    assert told is not None and told.shape == (place.height // CELL, place.width // CELL)
    for j, i in np.ndindex(told.shape):
        x, y = place.x + CELL * i + CELL // 2, rows * (place.y + CELL * j + CELL // 2)
        assert 2.0 ** told[j, i] == pytest.approx(steps[min(y // block, len(steps) - 1), x // block], rel=1e-5)


def test_the_network_is_told_the_steps_or_that_they_are_unknown() -> None:
    network, face = FakeCodedNetwork(), face_in((120.0, 60.0, 171.0, 111.0))
    known = frame_with(face, quantisers=Quantisers(np.full((12, 20), 16.0, np.float32), 16, "h264"))
    for frame in (known, replace(known, quantisers=None)):
        coded_stage(network).process(frame, [(face, both(1.0), both(0.0))])
    assert [None if steps is None else set(steps.ravel().tolist()) for _, steps in network.seen] == [{4.0}, None]


@pytest.mark.parametrize(("around", "inferred"), [((0.0, 0.0, 0.0), 3), ((0.0, 0.0, 1.0), 4)])
def test_a_frame_begun_ahead_is_as_without(around: tuple[float, ...], inferred: int) -> None:
    """Also where the head was not expected; and once only where it is as expected."""
    face = face_in((120.0, 60.0, 171.0, 111.0))

    class Stepped(FakeCodedNetwork):
        def __call__(self, picture: np.ndarray, steps: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
            change, errors = super().__call__(picture, steps)
            return change * float(np.mean(cast("np.ndarray", steps))), errors

    def processed(network: Stepped, *, ahead: bool) -> list[np.ndarray]:
        stage = CodedStage(network, CpuDevice(), HostCorrection, Stats())
        frames = [
            replace(
                frame_with(face, quantisers=Quantisers(np.full((12, 20), 2.0**n, np.float32), 16, "h264")),
                pts=n,
                time_base=Fraction(1, 25),
            )
            for n in range(3)
        ]
        made: list[np.ndarray] = []
        for frame, following, ring in zip(frames, [*frames[1:], None], around, strict=True):
            if ahead and following is not None:
                stage.begin(following)
            made.append(stored(stage.process(frame, [(face, both(1.0), both(ring))])))
        return made

    plain, begun = Stepped(amount=0.01), Stepped(amount=0.01)
    for one, other in zip(processed(plain, ahead=False), processed(begun, ahead=True), strict=True):
        assert np.array_equal(one, other)
    assert (len(plain.seen), len(begun.seen)) == (3, inferred)


def test_nothing_is_begun_where_nothing_is_processed_any_more() -> None:
    """As after a shot that leaves its faces alone begins."""
    face, network = face_in((120.0, 60.0, 171.0, 111.0)), FakeCodedNetwork()
    stage = CodedStage(network, CpuDevice(), HostCorrection, Stats())
    stage.process(frame_with(face), [(face, both(1.0), both(0.0))])
    assert [stage.begin(frame_with(face)) for _ in range(4)] == [True, True, False, False]
    stage.process(frame_with(face), [(face, both(1.0), both(0.0))])
    assert stage.begin(frame_with(face))


def test_a_codec_that_leaves_less_error_counts_as_a_finer_step() -> None:
    frame = frame_with(face := face_in((120, 60, 184, 124)))
    told = {
        codec: float(
            2.0
            ** place_of(frame, face, 1.3, LARGEST)
            .steps(Quantisers(np.full((1, 1), 16, np.float32), 320, codec), 1)
            .mean()
        )
        for codec in ("h264", "vp9", "av1")
    }  # pyright: ignore
    assert told["h264"] == pytest.approx(16) and 16 > told["vp9"] > 2 * told["av1"] > 4


# -- what it measures --------------------------------------------------------------------------------------------


class Bright(FakeCodedNetwork):
    """Expects errors of `before` and `after` where the picture is bright, none elsewhere."""

    def __call__(self, picture: np.ndarray, steps: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        change, errors = super().__call__(picture, steps)
        h, w = picture.shape[:2]
        return change, errors * (picture.reshape(h // 8, 8, w // 8, 8, 3).mean((1, 3, 4)) > 128)


def test_errors_are_those_of_the_face_and_of_what_is_round_it() -> None:
    face = face_in((120.0, 60.0, 168.0, 108.0))
    picture = np.full((180, 320, 3), 20, np.uint8)
    for light, dark in (((48, 120, 112, 176), True), ((0, 180, 0, 320), False)):
        y0, y1, x0, x1 = light
        picture[y0:y1, x0:x1] = 230
        frame = frame_of(np.asarray(cv2.GaussianBlur(picture, (0, 0), 4.0), np.uint8), 0, "rgb24")
        found = coded_stage(Bright(40.0, 10.0)).measure(CpuDevice().view(frame), frame, face, Analysis(noise=0.3))
        assert found.noise == 0.3 and found.step == 0
        assert found.error == pytest.approx(40.0, rel=0.1 if dark else 1e-3)
        assert found.remaining == pytest.approx(found.error / 4)
        assert found.ring_remaining == pytest.approx(found.ring_error / 4)
        assert found.ring_error < 20 if dark else found.ring_error == pytest.approx(40.0)


def test_what_is_drawn_round_a_face_is_no_error_of_a_codec() -> None:
    """Text and charts are finer than hair: they are not corrected, and do not count as errors."""
    face = face_in((120.0, 50.0, 184.0, 122.0))
    picture = np.full((180, 320, 3), 120, np.uint8)
    picture[:, :, :] = np.where(np.arange(320) // 2 % 2, 240, 20)[None, :, None]
    picture[50:122, 120:184] = 120
    for steps in (None, np.full((23, 40), 8.0, np.float32)):
        frame = frame_of(picture, 0, "rgb24", quantisers=None if steps is None else Quantisers(steps, 8, "vp9"))
        found = coded_stage(FakeCodedNetwork(40.0, 10.0)).measure(CpuDevice().view(frame), frame, face, Analysis())
        assert found.error < 10 if steps is None else found.error == pytest.approx(40.0)
        was = stored(frame).astype(int)
        changed = np.abs(stored(coded_stage().process(frame, [(face, both(0.0), both(1.0))])).astype(int) - was)
        assert changed[25:40, 130:170].max() == 0


# -- what it changes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("display", "field"), DISPLAYS)
@pytest.mark.parametrize("around", [0.0, 1.0])
def test_outside_the_mask_every_bit_stays(display: Display, field: Field | None, around: float) -> None:
    box, stats = (120.0, 50.0, 184.0, 122.0), Stats()
    face = face_in(box, display=display)
    frame = frame_with(face, display=display, field=field)
    was = stored(frame).astype(int)
    out = coded_stage(stats=stats).process(frame, [(face, both(1.0), both(around))])
    changed = np.abs(stored(out).astype(int) - was).max(2)
    ys, xs = np.nonzero(changed)
    half = (1.14 if around else 0.75) * np.array([box[2] - box[0], box[3] - box[1]])
    middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    assert abs(xs - middle[0] + 0.5).max() < half[0] + 1 and abs(ys - middle[1] + 0.5).max() < half[1] + 2
    assert changed[86, 152] > 20 or changed[87, 152] > 20, "the middle of the face"
    if (parity := field_parity(display, field)) is not None:
        assert not changed[1 - parity :: 2].any(), "the other field"
    assert out.touched and out.quantisers is frame.quantisers and stats.counters["crops:coded"] == 1
    # What is said to have changed holds all that has.
    assert out.changed is not None
    x0, y0, x1, y1 = out.changed[0]
    shown = apply(sample_to_display(*SIZE, display), np.stack([xs + 0.5, ys + 0.5], 1).astype(float))
    assert ((shown > (x0 - 0.01, y0 - 0.01)) & (shown < (x1 + 0.01, y1 + 0.01))).all()


def test_luma_and_colours_have_strengths_of_their_own() -> None:
    class Red(FakeCodedNetwork):
        def __call__(self, *given: Any) -> Any:
            change, errors = super().__call__(*given)
            return change * np.array([1.0, 0.0, 0.0], np.float32)[:, None, None], errors

    face = face_in((120.0, 50.0, 200.0, 130.0))
    for inside, around in ((StageStrength(0.3, 0.9), both(0.0)), (both(0.0), StageStrength(0.3, 0.9))):
        frame = frame_with(face)
        was = stored(frame).astype(int)
        change = (stored(coded_stage(Red(amount=0.4)).process(frame, [(face, inside, around)])) - was).reshape(-1, 3)
        whole = change[change[:, 0] == change[:, 0].max()].mean(0)
        luma = 0.299 * 0.4 * 255
        wanted = 0.3 * luma + 0.9 * (np.array([0.4 * 255, 0.0, 0.0]) - luma)
        np.testing.assert_allclose(whole, wanted, atol=1.0)


def test_too_large_heads_are_faces_and_too_large_faces_are_left() -> None:
    size = (1280, 1080)
    for side, pictures in ((200.0, [480]), (300.0, [400]), (500.0, [])):
        network, face = FakeCodedNetwork(), face_in((300.0, 200.0, 300.0 + side, 200.0 + side), size=size)
        frame = frame_with(face, size=size)
        out = coded_stage(network).process(frame, [(face, both(1.0), both(1.0))])
        seen = [picture.shape[0] for picture, _ in network.seen]
        assert len(seen) == len(pictures) and all(a <= b <= LARGEST for a, b in zip(pictures, seen, strict=True))
        assert (out is frame) is not pictures
        if side == 300.0:
            assert seen[0] < 1.5 * side


@pytest.mark.parametrize(
    "display", [Display(), Display(quarter_turns=3, mirror=True), Display(aspect=Fraction(16, 11))]
)
@pytest.mark.parametrize("scale", ["2", "480p"])
def test_an_enlarged_frame_is_corrected_as_it_was_read(display: Display, scale: str) -> None:
    """The network sees blocks where the codec left them, and its correction lies where the face is now."""
    face, steps = face_in((120.0, 50.0, 184.0, 122.0), display=display), np.full((12, 20), 16.0, np.float32)
    enlarger, networks = Enlarger(scale), (FakeCodedNetwork(), FakeCodedNetwork())

    def read() -> Frame:
        return frame_with(face, display=display, quantisers=Quantisers(steps, 16, "h264"))

    expected = enlarger(coded_stage(networks[0]).process(read(), [(face, both(1.0), both(0.0))]))
    large = enlarger(read())
    was, size = stored(large).astype(int), (large.image.width, large.image.height)
    sizes = display_size(*size, large.display), display_size(*SIZE, display)
    factors = np.array(sizes[0]) / sizes[1]
    there = replace(face, box=face.box * np.tile(factors, 2), points=face.points * factors)
    out = coded_stage(networks[1]).process(large, [(there, both(1.0), both(0.0))])
    for mine, theirs in zip(networks[0].seen[0], networks[1].seen[0], strict=True):
        assert mine is not None and theirs is not None and np.array_equal(mine, theirs)
    assert np.abs(stored(out).astype(int) - stored(expected)).max() <= 3
    ys, xs = np.nonzero(np.abs(stored(out).astype(int) - was).max(2))
    shown = apply(sample_to_display(*size, large.display), np.stack([xs + 0.5, ys + 0.5], 1).astype(float))
    assert len(xs) and out.changed is not None
    x0, y0, x1, y1 = out.changed[0]
    assert ((shown > (x0 - 0.01, y0 - 0.01)) & (shown < (x1 + 0.01, y1 + 0.01))).all()


@pytest.mark.parametrize(("width", "shown"), [(40.0, 2.0), (24.0, 2.0), (14.0, 1.0)])
def test_an_enlarged_face_is_judged_as_it_was_read(width: float, shown: float) -> None:
    face = face_in((100.0, 40.0, 100.0 + width, 40.0 + width))
    large = Enlarger("2")(frame_with(quantisers=Quantisers(np.full((12, 20), 16.0, np.float32), 16, "h264")))
    learnt: list[tuple[Analysis, float]] = []

    class Noting(Analyzer):
        def learn(self, found: Analysis, width: float, time: float) -> None:
            learnt.append((found, width))

    measure = TrackMeasurement(lambda face, time: TrackState(1, Noting()), coded_stage(), Stats())
    measure(large, [replace(face, box=face.box * 2, points=face.points * 2)], CpuDevice())
    (found, at), *_ = learnt
    assert at == width * 2 / shown and found.shown == pytest.approx(shown)
    assert found.step == pytest.approx(16.0 if shown > 1 else 0.0)


def test_errors_of_a_decided_face_are_predicted_every_other_time() -> None:
    network, track, shown = FakeCodedNetwork(), TrackState(1, Analyzer()), real()
    measure = TrackMeasurement(lambda *_: track, coded_stage(network), Stats())
    errors = list[float]()
    for n in range(100):
        measure(replace(shown, pts=n, time_base=Fraction(1, 25)), shown.faces, CpuDevice())
        errors.append(track.analyzer.lately.error)
    assert len(network.seen) == 7 + 3, "every 0.2 s until 1.2 s, then every 0.8 s"
    assert errors[-1] == pytest.approx(errors[0]) and errors[0] > 0


def test_faces_on_a_frame_in_gpu_memory_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtface.enhance.coded_stage.on_gpu", lambda image: True)
    network, face = FakeCodedNetwork(), face_in((120.0, 60.0, 171.0, 111.0))
    frame = frame_with(face)
    stats = Stats()
    assert coded_stage(network, stats).process(frame, [(face, both(1.0), both(1.0))]) is frame and not network.seen
    assert "first_stage" in stats.warnings
    found = Stats()  # of a frame whose faces are only measured, which then seem to need nothing
    coded_stage(network, found).measure(CpuDevice().view(frame), frame, face, Analysis())
    assert "first_stage" in found.warnings


# -- in a run ----------------------------------------------------------------------------------------------------


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the strength of the engine's correction; what is gained suffices."""
    return lambda strength: monkeypatch.setattr("rtface.analysis.treatment.predicted", lambda *_: (strength, 1.0))


def real(fmt: str = "yuv420p", **more: Any) -> Frame:
    picture, points = portrait(640, 360)
    return replace(frame_of(picture, 0, fmt, **more), faces=(face_at(points),))


@pytest.fixture(autouse=True)
def whole_first_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first stage has all of its strength from a gain of 0.15 dB on, whatever the coefficients are."""

    def strengths(found: Analysis, width: float) -> tuple[float, ...]:
        gains = gain_of(found.error, found.remaining), gain_of(found.ring_error, found.ring_remaining)
        return tuple(min(1.0, max(0.0, (gain - 0.04) / 0.11)) for gain in gains)

    monkeypatch.setattr("rtface.analysis.treatment.first_strengths", strengths)


def enhancer(
    engine: FakeEngine | None = None,
    network: FakeCodedNetwork | None = None,
    stats: Stats | None = None,
    treatments: dict[int, Treatment] | None = None,
    shots: ShotList = NO_SHOTS,
    **options: Any,
) -> FrameEnhancer:
    stats = stats or Stats()
    return FrameEnhancer(
        Runtime(CpuDevice(), FakeEngines(engine or FakeEngine())),
        Options(**{"grain": "none", **options}),
        stats,
        rules=TrackRules(Treatments(treatments or {}), shots),
        helpers=Helpers(coded=coded_stage(network, stats)),
    )


def test_a_frame_with_a_first_stage_alone_is_corrected(predict: Callable[[float], None]) -> None:
    predict(0.0)
    engine, stats = FakeEngine(), Stats()
    step, frame = enhancer(engine, stats=stats), real()
    was = planes(frame)[0]
    out = step.process(frame)
    assert engine.calls == 0 and not np.array_equal(planes(out)[0], was)
    assert out.touched and out.corrected and Change.of(out) == Change.CORRECTED
    assert (stats.counters["frames_corrected"], stats.counters["crops:coded"]) == (1, 1)
    (track,) = step.tracks.reports()
    assert (track.frames_corrected, track.treatment["on"], track.treatment["first"]) == (1, True, 1.0)


def test_the_engine_sees_the_corrected_frame() -> None:
    class Seeing(FakeEngine):
        crops: np.ndarray

        def submit(self, crops: np.ndarray, after: Any = None) -> Any:
            self.crops = crops
            return super().submit(crops, after)

    one, two = Seeing(), Seeing()
    enhancer(one, FakeCodedNetwork(amount=0.0)).process(real())
    enhancer(two, FakeCodedNetwork(amount=0.1)).process(real())
    middle = np.s_[:, :, 110:200, 90:170]
    assert (two.crops[middle] - one.crops[middle]).mean() == pytest.approx(0.1, abs=0.02)


def changed_area(
    treatments: dict[int, Treatment] | None = None,
    *,
    ring: tuple[float, float] = (40.0, 20.0),
    **options: Any,
) -> int:
    """Samples of luma that the first stage alone changes."""

    class Ringed(CodedStage):
        def measure(self, *found: Any) -> Analysis:
            return replace(super().measure(*found), ring_error=ring[0], ring_remaining=ring[1])

    step = FrameEnhancer(
        Runtime(CpuDevice(), FakeEngines()),
        Options(grain="none", **options),
        Stats(),
        rules=TrackRules(Treatments(treatments or {})),
        helpers=Helpers(coded=Ringed(FakeCodedNetwork(), CpuDevice(), HostCorrection, Stats())),
    )
    frame = real()
    was = planes(frame)[0]
    return int((planes(step.process(frame))[0] != was).sum())


def test_the_region_says_how_far_the_first_stage_reaches(predict: Callable[[float], None]) -> None:
    predict(0.0)
    face, head = changed_area(region="face"), changed_area(region="head")
    assert head > 1.5 * face > 0
    assert changed_area(region="auto") == head
    nothing, little = (40.0, 40.0), (40.0, 39.45)  # below 0.3 of the strength round the face
    assert changed_area(region="auto", ring=nothing) == face == changed_area(region="head", ring=nothing)
    assert changed_area(region="auto", ring=little) == face < changed_area(region="head", ring=little)


def test_colours_get_more_of_a_low_strength_and_fade_as_slowly(
    monkeypatch: pytest.MonkeyPatch, predict: Callable[[float], None]
) -> None:
    predict(0.5)
    gain = (40.0, 39.3)  # a low strength round the face
    seen = list[tuple[StageStrength, StageStrength]]()
    monkeypatch.setattr(CodedStage, "process", lambda self, frame, faces, **_: seen.append(faces[0][1:]) or frame)
    monkeypatch.setattr(
        CodedStage, "measure", lambda self, *found: Analysis(error=gain[0], remaining=gain[1], ring_error=gain[0],
                                                            ring_remaining=gain[1], detail=90.0)
    )  # fmt: skip
    step = enhancer(region="head")
    step.process(real())
    inside, around = seen[0]
    assert 0.2 < around.luma < 0.4
    assert inside.colour == pytest.approx(of_colours(inside.luma, INSIDE)) and inside.colour > inside.luma
    assert around.colour == pytest.approx(of_colours(around.luma, 1.0)) and around.colour > around.luma
    analyzer = step.tracks.states[1].analyzer
    monkeypatch.setattr(Analyzer, "due", lambda *_: False)
    for n in range(1, 120):
        there = 30 <= n < 80
        analyzer.treatment = Treatment(True, 0.5, first=0.4 * there, ring=0.9 * there, gain=1.0)
        analyzer.settle()
        step.process(replace(real(), pts=n, time_base=Fraction(1, 10)))
    assert len(set(seen)) > 20 and max(map(max, seen[-1])) <= MOST_A_FRAME, "nothing ends before it has faded out"
    for place in (0, 1):
        for part in (0, 1):
            values = [one[place][part] for one in seen]
            assert max(abs(b - a) for a, b in pairwise(values)) <= MOST_A_FRAME + 1e-9


def test_forced_treatments_have_no_first_stage() -> None:
    for more in ({"correct": "always"}, {"treatments": {1: Treatment(True, 0.7)}}):
        network, engine = FakeCodedNetwork(), FakeEngine()
        out = enhancer(engine, network, **cast(Any, more)).process(real())
        assert out.corrected and engine.calls == 1 and not network.seen
        plain = FrameEnhancer(
            Runtime(CpuDevice(), FakeEngines()),
            Options(grain="none"),
            Stats(),
            analysis=False,
            rules=TrackRules(Treatments(more.get("treatments", {}))),
        ).process(real())  # type: ignore[arg-type]
        assert all(np.array_equal(a, b) for a, b in zip(planes(out), planes(plain), strict=True))


@pytest.mark.parametrize(
    ("vivid", "strength", "treatments", "applied"),
    [
        (True, 0.6, None, 0.36),
        (True, 1.4, None, 1.0),
        (False, 1.4, None, 1.4),
        (False, 0.6, {1: Treatment(True, 0.6)}, 0.6),
        (True, 0.6, {1: Treatment(True, 0.6)}, 0.36),
    ],
)
def test_detail_that_is_made_up_has_less_of_a_low_strength(
    predict: Callable[[float], None], vivid: bool, strength: float, treatments: Any, applied: float
) -> None:
    predict(strength)
    engine = FakeEngine()
    engine.vivid = vivid
    step = enhancer(engine, treatments=treatments)
    step.process(real())
    assert step.tracks.states[1].report().strength == pytest.approx(applied)


def test_a_fault_of_the_first_stage_lets_the_frame_through() -> None:
    class Broken(CodedStage):
        def process(self, frame: Frame, faces: Any) -> Frame:
            raise ValueError("a broken picture")

    stats, frame = Stats(), real()
    was = planes(frame)
    step = FrameEnhancer(
        Runtime(CpuDevice(), FakeEngines()),
        Options(grain="none"),
        stats,
        helpers=Helpers(coded=Broken(FakeCodedNetwork(), CpuDevice(), HostCorrection, stats)),
    )
    out = step.process(frame)
    assert out.failed and not out.touched and stats.counters["faults"] == 1
    assert all(np.array_equal(a, b) for a, b in zip(was, planes(out), strict=True))


class Failing(FakeCodedNetwork):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def __call__(self, picture: np.ndarray, steps: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        raise self.error


def test_a_film_whose_faces_cannot_be_measured_says_so() -> None:
    """Else it would look as if there were nothing to gain on any of them."""
    stats = Stats()
    step = FilmEnhancer(
        Runtime(CpuDevice(), FakeEngines()),
        Options(grain="none"),
        stats,
        helpers=Helpers(coded=coded_stage(Failing(RuntimeError("no memory left")))),
    )
    out = list(step([replace(real(), pts=k) for k in range(4)]))
    assert len(out) == 4 and stats.counters["faults"] >= 1 and "no memory left" in " ".join(stats.warned())
    without = FilmEnhancer(
        Runtime(CpuDevice(), FakeEngines()),
        Options(grain="none"),
        Stats(),
        helpers=Helpers(coded=coded_stage(Failing(MissingComponent("reinstall rtface")))),
    )
    with pytest.raises(MissingComponent, match="reinstall"):
        list(without([real()]))


@pytest.mark.parametrize(("room", "whole", "light"), [(1.0, 1, 0), (0.008, 0, 1), (0.0, 0, 0)])
def test_live_it_is_the_first_thing_that_is_left_out(
    monkeypatch: pytest.MonkeyPatch, room: float, whole: int, light: int
) -> None:
    monkeypatch.setattr(QualityGovernor, "has_room", lambda self, seconds: seconds <= room)
    stats, engine, network = Stats(), FakeEngine(), FakeCodedNetwork()
    stage = CodedStage(FakeCodedNetwork(), CpuDevice(), HostCorrection, stats, light=network)
    step = LiveEnhancer(
        Runtime(CpuDevice(), FakeEngines(engine)),
        Options(grain="none"),
        stats,
        QualityGovernor(0.04, 0.2),
        helpers=Helpers(coded=stage),
    )
    out = step.collect(step.submit(replace(real(), captured_at=0.0)))
    assert (stats.counters["crops:coded"], stats.counters["crops:coded-light"]) == (whole, light)
    assert len(network.seen) == light and engine.calls == 1 and out.corrected


def test_live_it_fades_where_time_becomes_short(monkeypatch: pytest.MonkeyPatch) -> None:
    room = [True]
    monkeypatch.setattr(QualityGovernor, "has_room", lambda self, seconds: room[0])
    step = LiveEnhancer(
        Runtime(CpuDevice(), FakeEngines()),
        Options(grain="none"),
        Stats(),
        QualityGovernor(0.04, 0.2),
        helpers=Helpers(coded=coded_stage()),
    )
    strengths: list[float] = []
    monkeypatch.setattr(
        CodedStage, "process", lambda self, frame, faces, **_: strengths.append(faces[0][1].luma) or frame
    )
    found: list[float] = []
    for n in range(60):
        room[0] = n < 4 or n >= 30
        strengths.clear()
        step.collect(step.submit(replace(real(), pts=n, time_base=Fraction(1, 25), captured_at=0.0)))
        found += strengths or [0.0]
    assert found[3] == found[-1] > 0.0 and found[29] == 0.0
    assert max(abs(b - a) for a, b in pairwise(found)) <= MOST_A_FRAME + 1e-9


def test_live_no_frame_waits_for_a_measurement() -> None:
    go_on, done = Event(), Event()

    class Slow(FakeCodedNetwork):
        def __call__(self, *given: Any) -> Any:
            first = not self.seen
            try:
                assert first or go_on.wait(20.0), "the measurement is in a thread of its own"
                return super().__call__(*given)
            finally:
                done.set()

    stage = coded_stage(Slow(), measures_only=True)
    step = LiveEnhancer(
        Runtime(CpuDevice(), FakeEngines()),
        Options(grain="none"),
        Stats(),
        QualityGovernor(0.04, 0.2),
        helpers=Helpers(coded=stage),
    )

    def show(frames: range) -> float:
        for n in frames:
            step.collect(step.submit(replace(real(), pts=n, time_base=Fraction(1, 25), captured_at=0.0)))
        return step.tracks.states[1].analyzer.last_s

    assert show(range(12)) == 0.0, "the first frame was measured at once, and nothing was learnt since"
    done.clear()
    go_on.set()
    assert done.wait(20.0)
    until = (show(range(n, n + 1)) for n in range(12, 500))
    assert next(last for last in until if last > 0.0) == 0.2, "of the frame that was due"


class Later(CodedStage):
    """Counts the measurements of each face, and fails those that are asked for."""

    def __init__(self, fail: bool = False) -> None:
        super().__init__(FakeCodedNetwork(), CpuDevice(), HostCorrection, Stats())
        self.go_on, self.done, self.prepared = Event(), Event(), False
        self.fail, self.counts = fail, dict[int, int]()

    def measurement(self, view: Any, frame: Frame, face: Face, found: Analysis) -> Callable[[], Analysis]:
        first = face.track_id not in self.counts
        self.prepared = not first

        def measure() -> Analysis:
            assert first or self.go_on.wait(20.0)
            self.counts[face.track_id] = self.counts.get(face.track_id, 0) + 1
            self.done.set()
            if self.fail and self.counts[face.track_id] > 1:
                raise ValueError("measured in vain")
            return found

        return measure


def shown_later(stage: Later, faces: int, frames: int) -> int:
    """So many frames, 25 a second, whose measurements end on every third of them; returns the faults."""
    tracks = {k: TrackState(k, Analyzer()) for k in range(faces)}
    measure = TrackMeasurement(lambda face, _: tracks[face.track_id], stage, Stats(), waits=False)
    shown, device, faults = real(), CpuDevice(), 0
    every = [replace(shown.faces[0], track_id=k) for k in range(faces)]
    for n in range(frames):
        try:
            measure(replace(shown, pts=n, time_base=Fraction(1, 25)), every, device)
        except ValueError:
            faults += 1
        measure.begin()
        if n % 3 == 2 and stage.prepared:
            stage.prepared = False
            stage.done.clear()
            stage.go_on.set()
            assert stage.done.wait(20.0)
            stage.go_on.clear()
    return faults


def test_a_measurement_that_fails_is_not_tried_on_every_frame() -> None:
    assert 1 <= shown_later(Later(fail=True), 1, 100) <= 4, "once a second"


def test_round_the_face_another_process_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose lead-in has the strength of the border."""
    monkeypatch.setattr(Analyzer, "due", lambda *_: False)
    found = dict[int, float]()
    monkeypatch.setattr(
        CodedStage, "process", lambda self, frame, faces, **_: found.update({frame.pts: faces[0][2].luma}) or frame
    )

    def process(step: FrameEnhancer, frames: range) -> list[float]:
        for n in frames:
            analyzer = step.tracks.track_of(real().faces[0], n / 10).analyzer
            analyzer.treatment = Treatment(True, 0.0, first=1.0, ring=0.8 if n >= 30 else 0.15)
            step.process(replace(real(), pts=n, time_base=Fraction(1, 10)))
        return [found[n] for n in frames]

    here, there = enhancer(region="auto"), enhancer(region="auto")
    shown = process(here, range(60))
    there.tracks.track_of(real().faces[0], 3.0).take_over(here.tracks.states[1].handed_over(0.0, 4.0))
    assert 0.1 < shown[40] < 0.7
    assert process(there, range(35, 60)) == pytest.approx([shown[40]] * 6 + shown[41:])


@pytest.mark.parametrize("box", [(-40, 20, 60, 150), (270, 60, 380, 200)])
def test_beyond_the_frame_its_edge_is_repeated(box: tuple[float, float, float, float]) -> None:
    """Black there would look like a contour to the network."""
    seen: list[Bytes] = []

    def network(picture: Bytes, steps: object) -> tuple[Any, Any]:
        seen.append(picture)
        h, w = picture.shape[:2]
        return np.zeros((3, h, w), np.float32), np.ones((2, h // CELL, w // CELL), np.float32)

    face = face_in(box)
    stage = CodedStage(network, CpuDevice(), HostCorrection, Stats())
    stage.process(frame_with(face), [(face, both(1.0), both(1.0))])
    assert seen[0].min() >= 40  # as the darkest of the noise


# -- grain -------------------------------------------------------------------------------------------------------


def grainy(*faces: Face, size: tuple[int, int] = (320, 240), seed: int = 4) -> Frame:
    noise = np.random.default_rng(seed).normal(110, 8, (size[1], size[0])).clip(0, 255).astype(np.uint8)
    return frame_of(np.repeat(noise[..., None], 3, 2), 0, "rgb24", faces=faces)


def cleared(face: Face, share: float, make: Callable[[int], Frame]) -> tuple[Frame, np.ndarray]:
    """The second of two frames without the share of its grain; how much of that is left at each place, by rows of 8."""
    network = FakeCodedNetwork()
    stage = CodedStage(network, CpuDevice(), HostCorrection, Stats())
    faces = [(face, StageStrength(), StageStrength(share))]
    stage.take_grain(make(1), faces)
    made = stage.take_grain(make(2), faces)
    assert not network.seen
    now, then = (stored(frame).astype(float)[..., 1] - 110 for frame in (made, make(2)))
    power, whole = (cv2.blur(image * image, (24, 9)) for image in (now, then))
    return made, np.sqrt(power / whole)


@pytest.mark.parametrize(("share", "least", "most"), [(1.0, 0.0, 0.35), (0.5, 0.4, 0.7)])
def test_grain_is_taken_out_over_the_head_and_nowhere_else(share: float, least: float, most: float) -> None:
    face = face_in((130.0, 90.0, 190.0, 150.0), size=(320, 240))
    made, left = cleared(face, share, lambda n: grainy(face, seed=n))
    assert least < left[90:150, 130:190].mean() < most, "the face"
    assert least < left[74:90, 140:180].mean() < most, "forehead and hair"
    x0, y0, x1, y1 = made.changed[0] if made.changed else (0, 0, 0, 0)
    outside = np.ones((240, 320), bool)
    outside[y0:y1, x0:x1] = False
    assert np.array_equal(stored(made)[outside], stored(grainy(seed=2))[outside]) and outside.mean() > 0.6


def test_a_frame_that_repeats_the_one_before_loses_its_grain_too() -> None:
    face = face_in((130.0, 90.0, 190.0, 150.0), size=(320, 240))
    stage = CodedStage(FakeCodedNetwork(), CpuDevice(), HostCorrection, Stats())
    made = [
        stored(stage.take_grain(grainy(face, seed=n), [(face, StageStrength(), StageStrength(1.0))])) for n in (1, 2, 2)
    ]
    deviations = [image[90:150, 130:190].std() for image in made]
    assert deviations[2] < 1.2 * deviations[1] < 3.0


@pytest.mark.parametrize(
    ("wish", "kept"),
    [
        ({}, False),
        ({"grain": "less"}, False),
        ({"grain": "match"}, True),
        ({"correct": "never"}, True),
        ({"treatments": {1: Treatment(False)}}, True),
        ({"strength": 0.0}, True),
    ],
)
def test_grain_goes_where_the_user_wants_it(predict: Callable[[float], None], wish: dict[str, Any], kept: bool) -> None:
    """Also out of a face that is otherwise left alone, but not where that is the user's wish."""
    predict(0.0)
    face, step = face_in((130.0, 60.0, 190.0, 120.0)), enhancer(network=FakeCodedNetwork(amount=0.0), **wish)
    for n in range(3):
        out = step.process(replace(grainy(face, size=SIZE, seed=n), pts=n))
    left = stored(out)[70:110, 140:180].std() / stored(grainy(size=SIZE, seed=2))[70:110, 140:180].std()
    assert (left == 1.0) == kept
