"""The shaping's kernels, run on the host, against the shaping on the CPU: real faces, every option."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from rtface.correct import (
    FACE_OVAL,
    CorrectionState,
    FaceRegion,
    Measures,
    ShapingOptions,
    TemporalAverage,
    decide,
    face_mask,
    face_region_of,
    irises,
    whole,
)
from rtface.correct.colour import CELLS
from rtface.correct.grain import sheet
from rtface.correct.mask import small_mask
from rtface.correct.motion import FINE, ROWS
from rtface.correct.shape import CpuShaper
from rtface.correct.temporal import low_box
from rtface.device.cuda import averaging, shape_structs, shaping
from rtface.device.cuda.kernels import KernelCall
from rtface.device.cuda.shape_structs import STRUCTS
from rtface.device.cuda.shaping import CODE, KERNELS, FaceAddresses
from rtface.engine.crop_runner import spread
from rtface.errors import EngineError
from rtface.geometry.transforms import FFHQ_512, to_cv2
from tests.device.cuda.host_kernels import HostKernels, Runner, compile_kernels
from tests.device.cuda.kernel_runs import run as kernel_run
from tests.pairs import pairs

POINTS = np.array([(204.10, 101.68), (246.99, 103.90), (223.59, 131.79), (202.59, 139.46), (244.68, 140.88)])
SIZES = (256, 320)


@pytest.fixture(scope="session")
def shaper() -> HostKernels:
    return compile_kernels(CODE, KERNELS, STRUCTS)


def mesh_of(size: int, aside: float) -> np.ndarray:
    """478 points: an oval that is not the template's, and irises a little aside; all moved by a part of the size."""
    mesh = np.full((478, 2), size / 2.0)
    t = np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    mesh[list(FACE_OVAL), 0] = size * (0.52 + 0.27 * np.sin(t))
    mesh[list(FACE_OVAL), 1] = size * (0.58 - 0.31 * np.cos(t))
    around = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
    for first, centre in zip((468, 473), FFHQ_512[:2] * size / 512, strict=True):
        mesh[first] = centre + 0.007 * size
        mesh[first + 1 : first + 5] = mesh[first] + 0.023 * size * around
    return mesh + aside * size


@dataclass
class Case:
    """One face: r, c and everything else that `shape` is given."""

    r: np.ndarray
    c: np.ndarray
    area: FaceRegion
    options: ShapingOptions
    mask: np.ndarray
    small: np.ndarray
    maps: np.ndarray | None
    region: tuple[int, int, int, int]

    @property
    def occlusion(self) -> np.ndarray | None:
        return None if self.maps is None else spread(self.maps, self.area.size, self.region)


def case(
    size: int,
    options: ShapingOptions,
    *,
    mesh: bool = False,
    aside: float = 0.0,
    occluded: bool = False,
    covered: bool = False,
    green: bool = False,
    bare: bool = False,
    noise: float = 0.03,
    up: float = 2.0,
    seed: int = 0,
) -> Case:
    """A face out of an image enlarged by `up`, blurred, noisy and out of a JPEG; the answer sharper and warmer.

    covered: a bar over the mouth that the answer knows nothing of; green: so are the answer's eyes; bare: the noise is
    beside the mask only.
    """
    rng = np.random.default_rng(seed)
    astronaut = pytest.importorskip("skimage.data").astronaut().astype(np.float32) / 255
    clear = cv2.resize(astronaut, None, fx=up, fy=up, interpolation=cv2.INTER_CUBIC)
    matrix, _ = cv2.estimateAffinePartial2D(POINTS * up, FFHQ_512 * size / 512)
    points = mesh_of(size, aside) if mesh else None
    mask, small = face_mask(size, points), small_mask(size, points)
    grain = rng.normal(0, noise, clear.shape[:2]).astype(np.float32)
    if bare:
        inside = cv2.warpAffine(mask, to_cv2(matrix), clear.shape[1::-1], flags=cv2.WARP_INVERSE_MAP)
        grain[inside > 0] = 0.0
    bad = cv2.GaussianBlur(clear, (0, 0), 1.0) + grain[..., None]
    coded = cv2.imencode(".jpg", np.clip(bad * 255, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    bad = cv2.imdecode(coded, cv2.IMREAD_COLOR).astype(np.float32) / 255

    def crop(picture: np.ndarray) -> np.ndarray:
        out = cv2.warpAffine(picture, to_cv2(matrix), (size, size), borderMode=cv2.BORDER_REPLICATE)
        return np.ascontiguousarray(np.clip(out, 0, 1).transpose(2, 0, 1))

    c, r = crop(bad), crop(clear)
    r += 0.5 * (r - np.stack([cv2.GaussianBlur(p, (0, 0), 2.0) for p in r]))
    r += np.array([0.05, 0.01, -0.03], np.float32)[:, None, None]
    eyes = irises(size, points)
    if green:
        y, x = np.mgrid[:size, :size] + 0.5
        for ex, ey, radius in eyes:
            r[:, np.hypot(x - ex, y - ey) < radius] = np.array([0.1, 0.35, 0.2], np.float32)[:, None]
    if covered:
        c[:, size * 17 // 25 : size * 21 // 25, size // 4 : size * 3 // 4] = np.float32([0.2, 0.3, 0.6])[:, None, None]
    maps = None
    if occluded:
        maps = cv2.GaussianBlur(rng.normal(0.3, 0.6, (48, 44)).astype(np.float32), (0, 0), 1.5)
    region = tuple(v * size // 256 for v in (40, 56, 176, 192))
    area = face_region_of(mask, size, eyes, float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))))
    assert area is not None
    return Case(np.clip(r, 0, 1).astype(np.float32), c, area, options, mask, small, maps, region)


def on_the_cpu(given: Case, state: CorrectionState, time: float = 0.0, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    pixels = CpuShaper(given.r, given.c, given.area)
    controls = decide(pixels.measure(given.options), given.area, state, given.options, time=time, seed=seed)
    d, mask = whole(pixels.apply(controls, given.mask, given.occlusion), controls.size)
    return d.transpose(2, 0, 1), mask


class Gpu:
    """A batch of faces in the kernels' hands; `small`: masks as small as they are drawn; `in_place`: corrections
    take the place of the answers."""

    def __init__(
        self, shaper: Runner, cases: list[Case], *, small: bool = False, room: int = 0, in_place: bool = False
    ) -> None:
        self._shaper, self._cases = shaper, cases
        self._largest, self._count = max(k.area.size for k in cases), len(cases) + room
        self._faces = shaper.hold(np.zeros(self._count, shape_structs.FACE))  # the room stays empty
        self._held: list[np.ndarray] = []
        self.measured, self.results = [], []
        for n, k in enumerate(cases):
            s = k.area.size
            empty = [(3, s, s), (s, s), (shaping.measure_floats(s),), (shaping.scratch_floats(s),)]
            made = [shaper.hold(np.full(shape, np.nan, np.float32)) for shape in empty]
            given = [
                shaper.hold(a.copy())
                for a in (k.r, k.c, k.small if small else k.mask, *([] if k.maps is None else [k.maps]))
            ]
            self._held += [*made, *given]
            if in_place:
                made[0] = given[0]
            (d, final, into, work), (r, c, m, *rest) = ([a.ctypes.data for a in side] for side in (made, given))
            self._faces[n : n + 1] = np.frombuffer(
                shaping.face_of(
                    k.area,
                    k.options,
                    FaceAddresses(
                        r,
                        c,
                        d,
                        final,
                        m,
                        len(given[2]),
                        into,
                        work,
                        rest[0] if rest else 0,
                        (48, 44) if k.maps is None else k.maps.shape,
                        k.region,
                    ),
                ),
                shape_structs.FACE,
            )
            self.measured.append(made[2])
            self.results.append((made[0], made[1]))

    def _run(self, launches: list[KernelCall]) -> None:
        for launch in launches:
            self._shaper.launch(launch.kernel, launch.grid, launch.block, *launch.args)

    def measure(self) -> list[Measures]:
        self._run(shaping.measure_launches(self._largest, self._count, self._faces.ctypes.data))
        return [shaping.unpack(data, k.area, k.options) for data, k in zip(self.measured, self._cases, strict=True)]

    def apply(self, controls: list) -> list[tuple[np.ndarray, np.ndarray]]:
        sheets = {k: self._shaper.hold(sheet(k)[:512, :512]) for k in (1, 2, 4, 8)}
        addresses = [sheets[c.grain.coarseness].ctypes.data if c.grain and c.grain.synthetic else 0 for c in controls]
        told = self._shaper.hold(np.zeros(self._count, shape_structs.CONTROL))
        told[: len(controls)] = np.frombuffer(
            b"".join(map(shaping.control_of, controls, addresses)),
            shape_structs.CONTROL,
        )
        self._run(shaping.apply_launches(self._largest, self._count, self._faces.ctypes.data, told.ctypes.data))
        return self.results

    def shape(
        self, states: list[CorrectionState], time: float = 0.0, seed: int = 3
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        return self.apply(
            [
                decide(m, k.area, state, k.options, time=time, seed=seed)
                for m, k, state in zip(self.measure(), self._cases, states, strict=True)
            ]
        )


def apart(got: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> tuple[float, float, float]:
    """Largest and mean difference of the corrections in code values of 8 bits, and the largest of the masks."""
    d = 255.0 * np.abs(got[0] - wanted[0])
    return float(d.max()), float(d.mean()), float(np.abs(got[1] - wanted[1]).max())


@pytest.mark.parametrize("size", [64, 256, 384, 576, 80, 272])
def test_figures(size, shaper):
    given = case(size, ShapingOptions(detail=1.0), mesh=size == 384)
    (got,) = Gpu(shaper, [given]).measure()
    wanted = CpuShaper(given.r, given.c, given.area).measure(given.options)
    for name in ("cells", "crop_cells", "samples", "irises", "changes"):
        np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), atol=3e-6, err_msg=name)
    for name in ("crop", "change"):
        np.testing.assert_allclose(getattr(got.texture, name), getattr(wanted.texture, name), atol=1e-6, err_msg=name)
    assert wanted.detail.max() > 1e-4
    np.testing.assert_allclose(got.detail, wanted.detail, atol=1e-7, rtol=1e-4)
    own, other = got.texture.crop_grain(), wanted.texture.crop_grain()
    for name in ("grain", "middle", "above", "below"):
        np.testing.assert_allclose(getattr(own, name), getattr(other, name), atol=1e-6, rtol=1e-4, err_msg=name)


OPTIONS: dict[str, dict] = {
    "lock": {"options": ShapingOptions(grain="none", gate=False)},
    "gate": {"options": ShapingOptions(grain="none"), "covered": True},
    "own grain": {"options": ShapingOptions()},
    "coarse grain": {"options": ShapingOptions(), "up": 0.4, "noise": 0.08},
    "synthetic grain": {"options": ShapingOptions(gate=False), "bare": True},
    "coarse synthetic grain": {"options": ShapingOptions(gate=False), "bare": True, "up": 0.5, "noise": 0.08},
    "mesh, green eyes": {"options": ShapingOptions(), "mesh": True, "green": True},
    "occlusion": {"options": ShapingOptions(), "occluded": True},
    "detail": {"options": ShapingOptions(grain="none", detail=1.0)},
    "detail at the crop's edge": {"options": ShapingOptions(detail=1.5), "mesh": True, "aside": -0.35},
    "all at 0.3": {
        "options": ShapingOptions(strength=0.3, detail=1.5),
        "mesh": True,
        "occluded": True,
        "covered": True,
        "green": True,
    },
}


@pytest.mark.parametrize(("what", "size"), pairs(list(OPTIONS), SIZES, [next(iter(OPTIONS))]))
def test_corrections_are_the_cpus(size, what, shaper):
    """Two frames of a track: what is remembered of it does not drift apart either."""
    states = CorrectionState(), CorrectionState()
    for k in range(2):
        given = case(size, seed=k, **OPTIONS[what])
        wanted = on_the_cpu(given, states[0], k / 25)
        (got,) = Gpu(shaper, [given]).shape([states[1]], k / 25)
        most, mean, mask = apart(got, wanted)
        assert np.abs(wanted[0]).max() > 0.02 and wanted[1].max() > 0.9
        assert most < 0.02 and mean < 0.001 and mask < 1e-5, (most, mean, mask)
        assert (got[0][:, got[1] == 0] == 0).all()


def test_the_options_do_what_they_are_tested_for():
    """So that no case above passes because a step never came to its turn."""
    decided = {
        what: decide(CpuShaper(g.r, g.c, g.area).measure(g.options), g.area, CorrectionState(), g.options, time=0.0)
        for what, g in ((w, case(256, **o)) for w, o in OPTIONS.items())
    }
    assert decided["gate"].gate is not None and decided["lock"].gate is None and decided["lock"].grain is None
    assert decided["own grain"].grain.crop_share > 0.3 and decided["coarse grain"].grain.crop_share > 0.3
    assert decided["synthetic grain"].grain.synthetic > 0.008 and decided["synthetic grain"].grain.coarseness == 1
    assert decided["coarse synthetic grain"].grain.synthetic > 0.01
    assert decided["coarse synthetic grain"].grain.coarseness > 1
    assert np.abs(decided["mesh, green eyes"].colours).max() > 0.01
    assert decided["own grain"].detail is None and decided["detail"].detail.max() > 0.5
    assert max(decided["detail at the crop's edge"].box[:2]) < 256 // CELLS
    assert decided["detail at the crop's edge"].detail[0].max() > 0.5


def test_faces_of_several_sides_in_one_launch(shaper):
    cases = [
        case(512, ShapingOptions(detail=1.0), occluded=True),
        case(256, ShapingOptions(), mesh=True, seed=1),
        case(80, ShapingOptions(grain="none", detail=1.5), seed=2),
    ]
    states = [CorrectionState() for _ in cases]
    for got, given in zip(Gpu(shaper, cases, room=2).shape(states), cases, strict=True):
        most, mean, mask = apart(got, on_the_cpu(given, CorrectionState()))
        assert most < 0.02 and mean < 0.001 and mask < 1e-5


@pytest.mark.parametrize("size", [64, 576])
def test_detail_is_added_in_place_of_the_answer(size, shaper):
    given = case(size, ShapingOptions(detail=1.0))
    wanted = on_the_cpu(given, CorrectionState())
    without = on_the_cpu(Case(**{**vars(given), "options": ShapingOptions()}), CorrectionState())
    assert apart(wanted, without)[0] > 5.0
    (got,) = Gpu(shaper, [given], in_place=True).shape([CorrectionState()])
    most, mean, mask = apart(got, wanted)
    assert most < 0.02 and mean < 0.001 and mask < 1e-5


@pytest.mark.parametrize(("size", "mesh"), pairs(SIZES, [False, True], [SIZES[0]]))
def test_a_small_mask_is_enlarged_on_the_gpu(size, mesh, shaper):
    given = case(size, ShapingOptions(), mesh=mesh)
    wanted = on_the_cpu(given, CorrectionState())
    area = face_region_of(given.small, size, given.area.eyes, given.area.scale)
    assert area is not None and area.box == given.area.box
    np.testing.assert_allclose(area.weight, given.area.weight, rtol=0, atol=1e-6)
    (got,) = Gpu(shaper, [given], small=True).shape([CorrectionState()])
    most, mean, mask = apart(got, wanted)
    assert most < 0.02 and mean < 0.001 and mask < 1e-5
    assert mesh == (given.small.shape == (128, 128))


@pytest.mark.parametrize(("value", "size"), pairs([np.nan, np.inf, -np.inf], [256, 80]))
def test_what_is_not_a_number_is_found_wherever_it_lies(size, value, shaper):
    given = case(size, ShapingOptions())
    rng = np.random.default_rng(0)
    for at in [(0, 0, 0), (2, size - 1, size - 1), *rng.integers((3, size, size), size=(4, 3)).tolist()]:
        broken = Case(**{**vars(given), "r": given.r.copy()})
        broken.r[tuple(at)] = value
        (measures,) = Gpu(shaper, [broken]).measure()
        state = CorrectionState()
        with pytest.raises(EngineError, match="not numbers"):
            decide(measures, given.area, state, given.options, time=0.0)
        assert state.gate is None


def test_reduced_crops_of_several_sizes(shaper):
    rng = np.random.default_rng(0)
    crops = [shaper.hold(rng.random((3, size, size)).astype(np.float32)) for size in (64, 264, 512)]
    ends = np.cumsum([shaping.small_floats(len(c[0])) for c in crops])
    out = shaper.hold(np.full(ends[-1] + 8, np.nan, np.float32))
    kernel_run(shaper, shaping.small_job([(c.ctypes.data, len(c[0])) for c in crops], out.ctypes.data))
    for c, values in zip(crops, np.split(np.array(out), ends), strict=False):
        now, rows = averaging.small_of(values, len(c[0]))
        wanted = [cv2.resize(plane, now.shape[1:], interpolation=cv2.INTER_AREA) for plane in np.array(c)]
        np.testing.assert_allclose(now, wanted, rtol=0, atol=2e-7)
        np.testing.assert_array_equal(rows, np.array(c)[1, ::ROWS])
    assert np.isnan(out[-8:]).all()


@pytest.mark.parametrize(
    ("moves", "scale", "box"),
    [(0.0, 1.0, None), (0.9, 1.0, (33, 50, 222, 256)), (0.9, 2.0, None), (0.0, 2.0, (33, 50, 222, 256))],
    ids=["still-cubic", "moving-cubic-box", "moving-linear", "still-linear-box"],
)
def test_averages_over_time_are_those_of_the_cpu(moves, scale, box, shaper):
    """Four frames of faces of two sizes; the second begins a frame later, and so is followed a frame later."""
    rng = np.random.default_rng(2)
    given = {size: case(size, ShapingOptions(), noise=0.0) for size in (256, 320)}
    mine, theirs = ({size: TemporalAverage() for size in given} for _ in range(2))
    kept = {size: shaper.hold(np.full((3, size, size), np.nan, np.float32)) for size in given}
    blended = 0
    for t in range(4):
        rows, held, answers, wanted = [], [], {}, {}
        for size, face in list(given.items())[: 1 + (t > 0)]:
            shift = np.array([(1, 0.004 * moves * t, -moves * t), (0, 1, 0.7 * moves * t)])
            r, c = (
                np.stack([cv2.warpAffine(plane, shift, (size, size), flags=cv2.INTER_CUBIC) for plane in picture])
                + rng.normal(0, noise, (3, size, size)).astype(np.float32)
                for picture, noise in ((face.r, 0.03), (face.c, 0.01))
            )
            wanted[size] = theirs[size].update(r, c, t / 25, scale, box).copy()
            now = np.stack([cv2.resize(plane, (size // 4, size // 4), interpolation=cv2.INTER_AREA) for plane in c])
            blend = mine[size].follow(now, c[1, ::ROWS], t / 25, scale, has_average=True)
            answers[size] = shaper.hold(r)
            if blend is None:
                continue
            assert (blend.flow is not None) == (moves > 0)
            x0, y0, x1, y1 = low_box(box or (0, 0, size, size))
            flow = np.zeros((size // 4, size // 4, 2), np.float32) if blend.flow is None else blend.flow
            held += [shaper.hold(blend.gate[y0:y1, x0:x1]), shaper.hold(flow[y0:y1, x0:x1].transpose(2, 0, 1))]
            rows.append(
                (
                    answers[size].ctypes.data,
                    kept[size].ctypes.data,
                    held[-1].ctypes.data if moves else 0,
                    held[-2].ctypes.data,
                    size,
                    4 * x0,
                    4 * y0,
                    x1 - x0,
                    y1 - y0,
                    scale < FINE,
                )
            )
        if rows:
            told = shaper.hold(np.array(rows, shape_structs.AVERAGE))
            (launch,) = shaping.average_launches(told, told.ctypes.data)
            shaper.launch(launch.kernel, launch.grid, launch.block, *launch.args)
        blended += len(rows)
        for size, r in answers.items():
            np.testing.assert_allclose(np.array(r), wanted[size], rtol=0, atol=5e-5)
            kept[size][...] = r
    assert blended == 3 + 2
