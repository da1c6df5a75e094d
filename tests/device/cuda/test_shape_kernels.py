"""The shaping's kernels, run on the host, against the shaping on the CPU: real faces, every option."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from rtface.correct import CorrectionState, FaceRegion, Measures, ShapingOptions, decide, face_region_of, irises
from rtface.correct.grain import sheet
from rtface.correct.mask import FACE_OVAL, face_mask, small_mask
from rtface.correct.motion import FINE, ROWS
from rtface.correct.shape import CpuShaper, whole
from rtface.correct.temporal import TemporalAverage, low_box
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
SIZES = (256, 272, 320)


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


def case(size, options, *, what="", aside=None, noise=0.03, up=2.0, seed=0) -> Case:
    """A face out of an image enlarged by `up`, blurred, noisy and out of a JPEG; the answer sharper and warmer.

    Args:
        what: "covered": a bar over the mouth that the answer knows nothing of; "green": the answer's eyes; "bare": the
            noise is beside the mask only; "occluded": the network says what covers the face.
        aside: the face has a mesh, moved by this part of the size.
    """
    rng = np.random.default_rng(seed)
    astronaut = pytest.importorskip("skimage.data").astronaut().astype(np.float32) / 255
    clear = cv2.resize(astronaut, None, fx=up, fy=up, interpolation=cv2.INTER_CUBIC)
    matrix, _ = cv2.estimateAffinePartial2D(POINTS * up, FFHQ_512 * size / 512)
    points = None if aside is None else mesh_of(size, aside)
    mask, small = face_mask(size, points), small_mask(size, points)
    grain = rng.normal(0, noise, clear.shape[:2]).astype(np.float32)
    if "bare" in what:
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
    if "green" in what:
        y, x = np.mgrid[:size, :size] + 0.5
        for ex, ey, radius in eyes:
            r[:, np.hypot(x - ex, y - ey) < radius] = np.array([0.1, 0.35, 0.2], np.float32)[:, None]
    if "covered" in what:
        c[:, size * 17 // 25 : size * 21 // 25, size // 4 : size * 3 // 4] = np.float32([0.2, 0.3, 0.6])[:, None, None]
    maps = None
    if "occluded" in what:
        maps = cv2.GaussianBlur(rng.normal(0.3, 0.6, (48, 44)).astype(np.float32), (0, 0), 1.5)
    region = tuple(v * size // 256 for v in (40, 56, 176, 192))
    area = face_region_of(mask, size, eyes, float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))))
    assert area is not None
    return Case(np.clip(r, 0, 1).astype(np.float32), c, area, options, mask, small, maps, region)


def on_the_cpu(given: Case, state: CorrectionState, time: float = 0.0, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    pixels = CpuShaper(given.r, given.c, given.area)
    controls = decide(pixels.measure(given.options), given.area, state, given.options, time=time, seed=seed)
    occlusion = None if given.maps is None else spread(given.maps, given.area.size, given.region)
    d, mask = whole(pixels.apply(controls, given.mask, occlusion), controls.size)
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
        self.measured, self.results, self._held = [], [], list[np.ndarray]()
        for n, k in enumerate(cases):
            s = k.area.size
            shapes = [(3, s, s), (s, s), (shaping.measure_floats(s),), (shaping.scratch_floats(s),)]
            out = [shaper.hold(np.full(shape, np.nan, np.float32)) for shape in shapes]
            maps = np.zeros((48, 44), np.float32) if k.maps is None else k.maps
            given = [shaper.hold(a.copy()) for a in (k.r, k.c, k.small if small else k.mask, maps)]
            self._held += [*out, *given]
            if in_place:
                out[0] = given[0]
            (d, final, into, work), (r, c, m, said) = ([a.ctypes.data for a in side] for side in (out, given))
            said = 0 if k.maps is None else said
            at = FaceAddresses(r, c, d, final, m, len(given[2]), into, work, said, maps.shape, k.region)
            self._faces[n : n + 1] = np.frombuffer(shaping.face_of(k.area, k.options, at), shape_structs.FACE)
            self.measured.append(out[2])
            self.results.append((out[0], out[1]))

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
            b"".join(map(shaping.control_of, controls, addresses)), shape_structs.CONTROL
        )
        self._run(shaping.apply_launches(self._largest, self._count, self._faces.ctypes.data, told.ctypes.data))
        return self.results

    def shape(self, states: list[CorrectionState], time: float = 0.0) -> list[tuple[np.ndarray, np.ndarray]]:
        faces = zip(self.measure(), self._cases, states, strict=True)
        return self.apply([decide(m, k.area, state, k.options, time=time, seed=3) for m, k, state in faces])


def check(got: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> None:
    """A correction and a mask are the CPU's, and there is one."""
    d = 255.0 * np.abs(got[0] - wanted[0])
    assert np.abs(wanted[0]).max() > 0.02 and wanted[1].max() > 0.9
    assert d.max() < 0.02 and d.mean() < 0.001 and np.abs(got[1] - wanted[1]).max() < 1e-5, (d.max(), d.mean())
    assert (got[0][:, got[1] == 0] == 0).all()


OPTIONS: dict[str, dict] = {
    "lock": {"options": ShapingOptions(grain="none", gate=False)},
    "gate": {"options": ShapingOptions(grain="none"), "what": "covered"},
    "own grain": {"options": ShapingOptions()},
    "coarse grain": {"options": ShapingOptions(), "up": 0.4, "noise": 0.08},
    "synthetic grain": {"options": ShapingOptions(gate=False), "what": "bare"},
    "coarse synthetic grain": {"options": ShapingOptions(gate=False), "what": "bare", "up": 0.5, "noise": 0.08},
    "mesh, green eyes": {"options": ShapingOptions(), "aside": 0.0, "what": "green"},
    "occlusion": {"options": ShapingOptions(), "what": "occluded"},
    "detail": {"options": ShapingOptions(grain="none", detail=1.0)},
    "detail at the crop's edge": {"options": ShapingOptions(detail=1.5), "aside": -0.35},
    "all at 0.3": {
        "options": ShapingOptions(strength=0.3, detail=1.5),
        "aside": 0.0,
        "what": "occluded, covered, green",
    },
}


@pytest.mark.parametrize(("what", "size"), pairs(list(OPTIONS), SIZES, [next(iter(OPTIONS))]))
def test_corrections_are_the_cpus(size, what, shaper):
    """Two frames of a track: what is remembered of it does not drift apart either."""
    states = CorrectionState(), CorrectionState()
    for k in range(2):
        given = case(size, seed=k, **OPTIONS[what])
        check(Gpu(shaper, [given]).shape([states[1]], k / 25)[0], on_the_cpu(given, states[0], k / 25))


def test_faces_of_several_sides_in_one_launch(shaper):
    """Their corrections take the place of the answers, and two rows stay empty."""
    cases = [
        case(576, ShapingOptions(detail=1.0), what="occluded"),
        case(256, ShapingOptions(), aside=0.0, seed=1),
        case(80, ShapingOptions(grain="none", detail=1.5), seed=2),
        case(64, ShapingOptions(detail=1.0)),
    ]
    wanted = [on_the_cpu(given, CorrectionState()) for given in cases]
    gpu = Gpu(shaper, cases, room=2, in_place=True)
    for got, want in zip(gpu.shape([CorrectionState() for _ in cases]), wanted, strict=True):
        check(got, want)


@pytest.mark.parametrize(("size", "mesh"), pairs(SIZES, [False, True], [SIZES[0]]))
def test_a_small_mask_is_enlarged_on_the_gpu(size, mesh, shaper):
    given = case(size, ShapingOptions(), aside=0.0 if mesh else None)
    wanted = on_the_cpu(given, CorrectionState())
    area = face_region_of(given.small, size, given.area.eyes, given.area.scale)
    assert area is not None and area.box == given.area.box
    np.testing.assert_allclose(area.weight, given.area.weight, rtol=0, atol=1e-6)
    check(Gpu(shaper, [given], small=True).shape([CorrectionState()])[0], wanted)
    assert mesh == (given.small.shape == (128, 128))


@pytest.mark.parametrize(("value", "size"), pairs([np.nan, np.inf, -np.inf], [256, 80]))
def test_what_is_not_a_number_is_found_wherever_it_lies(size, value, shaper):
    given = case(size, ShapingOptions())
    for at in [(0, 0, 0), (2, size - 1, size - 1), (1, size // 3, size // 2)]:
        broken = Case(**{**vars(given), "r": given.r.copy()})
        broken.r[at] = value
        (measures,) = Gpu(shaper, [broken]).measure()
        with pytest.raises(EngineError, match="NaN or infinite"):
            decide(measures, given.area, CorrectionState(), given.options, time=0.0)


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
            gate, flow = held[-2].ctypes.data, held[-1].ctypes.data if moves else 0
            at = size, 4 * x0, 4 * y0, x1 - x0, y1 - y0
            rows.append((answers[size].ctypes.data, kept[size].ctypes.data, flow, gate, *at, scale < FINE))
        told = shaper.hold(np.array(rows, shape_structs.AVERAGE))
        for launch in shaping.average_launches(told, told.ctypes.data) if rows else ():
            shaper.launch(launch.kernel, launch.grid, launch.block, *launch.args)
        blended += len(rows)
        for size, r in answers.items():
            np.testing.assert_allclose(np.array(r), wanted[size], rtol=0, atol=5e-5)
            kept[size][...] = r
    assert blended == 3 + 2
