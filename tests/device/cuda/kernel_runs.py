"""What the tests of the kernels share: frames with content, the kernels' way through a frame, and the CPU's."""

from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import av
import cv2
import numpy as np

from rtface.device.cpu.composite import neutral, neutral_rgb
from rtface.device.cpu.device import CpuDevice
from rtface.device.cuda.composite import PastePlan
from rtface.device.cuda.crop import CropPlan
from rtface.device.cuda.kernels import LaunchList, curve_tables, uncurve_job
from rtface.device.cuda.staging import StagedSamples
from rtface.frame import Box, Frame
from rtface.geometry.planes import Layout, Role, layout, planes
from rtface.geometry.transforms import compose, display_size, field_parity, translation
from tests.device.cuda.host_kernels import Runner


def film(
    name: str,
    width: int = 320,
    height: int = 176,
    *,
    seed: int = 0,
    gray: bool = False,
    noise: float = 0.02,
    **more: Any,
) -> Frame:
    """A frame of smooth shapes, edges and grain, over the whole range of codes; `gray`: without colour."""
    image = av.VideoFrame(width, height, name)
    for plane in image.planes:
        np.frombuffer(plane, np.uint8)[...] = 77
    image.pts, image.time_base = 17 + seed, Fraction(1, 25)
    form = layout(name)
    assert form is not None
    rng, first = np.random.default_rng(seed), None
    for n, view in enumerate(planes(image, form).values()):
        h, w = view.shape
        y, x = np.mgrid[0:h, 0:w] / max(h, w)
        values = 0.5 + 0.28 * np.sin(9 * x + 5 * n) * np.cos(7 * y + n) + 0.2 * (((x - 0.5) ** 2 + y**2) % 0.11 > 0.06)
        values = values + rng.normal(0, noise, (h, w))
        values[rng.random((h, w)) < 0.003] = rng.choice([0.0, 1.0])  # codes that are not legal, too
        top = (1 << form.bits) - 1
        codes = np.clip(np.rint(values * top), 0, top).astype(np.int64)
        if gray and n and form.kind == "yuv":
            codes = (1 << (form.bits - 1)) + rng.integers(-1, 2, (h, w)) * (1 << (form.bits - 8))
        if gray and form.kind == "rgb":
            codes = first = codes if first is None else first
        view[...] = (codes << form.shift).astype(np.uint32)
    return Frame(image, image.pts, Fraction(1, 25), **more)


def again(frame: Frame) -> Frame:
    """The frame with memory of its own."""
    image = av.VideoFrame(frame.image.width, frame.image.height, frame.image.format.name)
    for to, source in zip(image.planes, frame.image.planes, strict=True):
        memory: Any = to
        np.frombuffer(memory, np.uint8)[...] = np.frombuffer(source, np.uint8)
    image.pts, image.time_base = frame.image.pts, frame.image.time_base
    return replace(frame, image=image)


def similarity(
    frame: Frame, side: float, size: int, *, angle: float = 0.2, at: tuple[float, float] = (0.45, 0.52)
) -> np.ndarray:
    """Display → crop: a square of `side` display pixels round a point of the frame (as parts of its size)."""
    centre = np.array(at) * display_size(frame.image.width, frame.image.height, frame.display)
    c, d = size / side * np.cos(angle), size / side * np.sin(angle)
    turned = np.array([(c, -d, 0.0), (d, c, 0.0)])
    return compose(translation(size / 2, size / 2), turned, translation(*-centre))


def oval(size: int, *, reach: float = 0.8) -> np.ndarray:
    """A feathered mask with a soft edge that ends well inside the crop."""
    a = (np.arange(size) + 0.5) / size * 2 - 1
    radius = np.hypot(a[None] / 0.8, a[:, None])
    return np.clip((reach - radius) / 0.3, 0.0, 1.0).astype(np.float32)


def correction(size: int, mask: np.ndarray, *, seed: int = 1, strength: float = 0.12) -> np.ndarray:
    """S×S×3: a smooth change of every channel and detail down to single pixels, masked."""
    rng = np.random.default_rng(seed)
    d = cv2.GaussianBlur(rng.normal(0, 4, (size, size, 3)), (0, 0), size / 20) + rng.normal(0, 0.25, (size, size, 3))
    return (d * strength * mask[..., None]).astype(np.float32)


def form_of(frame: Frame) -> Layout:
    form = layout(frame.image.format.name)
    assert form is not None
    return form


def aligned(nbytes: int, fill: int = 0xAB) -> np.ndarray:
    """uint8 memory at a multiple of 256, filled with a byte that no test expects."""
    memory = np.full(nbytes + 256, fill, np.uint8)
    start = -memory.ctypes.data % 256
    return memory[start : start + nbytes]


class Block:
    """Samples as they would lie on a GPU, with a rim that must stay as it is."""

    def __init__(self, host: Runner, frame: Frame, parts: list) -> None:
        form = form_of(frame)
        self.surface = StagedSamples(form, parts)
        self.memory = host.hold(aligned(self.surface.nbytes + 512))
        self.block = self.memory[256 : 256 + self.surface.nbytes]
        self.base = self.block.ctypes.data
        self.views = planes(frame.image, form, field_parity(frame.display, frame.field))
        self.surface.load(self.views, self.block)

    def check_rim(self) -> None:
        assert (self.memory[:256] == 0xAB).all() and (self.memory[-256:] == 0xAB).all(), "written outside the block"


def run(host: Runner, job: LaunchList) -> None:
    data = host.hold(aligned(max(16, job.nbytes)))
    data[: job.nbytes] = job.descriptors
    for launch in job.steps(data.ctypes.data):
        host.launch(launch.kernel, launch.grid, launch.block, *launch.args)


def kernel_crops(host: Runner, frame: Frame, matrices: np.ndarray, size: int, *, native: bool = False) -> np.ndarray:
    """The crops as the kernels make them, float32 N×3×S×S; with `native` those that are not mapped."""
    plan = CropPlan(frame, form_of(frame), matrices, size)
    block = Block(host, frame, plan.parts)
    scratch, tables = host.hold(aligned(max(1, plan.scratch))), host.hold(curve_tables(frame.color))
    out = host.hold(np.full((2, len(matrices), 3, size, size), np.nan, np.float32))
    crops, natives = ([crop.ctypes.data for crop in kind] for kind in out)
    more = {"tables": tables.ctypes.data, "scratch": scratch.ctypes.data, "native": natives if native else None}
    run(host, plan.job(block.surface, block.base, crops, **more))
    block.check_rim()
    return out[1] if native else out[0]


def gray_in(views: dict[Role, np.ndarray], form: Layout, box: Box) -> bool:
    """Whether a box of samples has no colour."""
    if form.kind == "rgb":
        return neutral_rgb(views, box, form)
    return all(neutral(views[role], box, form) for role in ("u", "v"))


def kernel_paste(
    host: Runner, frame: Frame, corrections: list, masks: list, matrices: np.ndarray, *, probe: bool = False
) -> None:
    """Corrects the frame in place as the kernels do, with what a crop of the same faces would have copied; with `probe`
    the kernels find out which chroma is gray."""
    form = form_of(frame)
    sizes = [len(mask) for mask in masks]
    planar = [host.hold(d.transpose(2, 0, 1)) for d in corrections]
    drawn, held = [host.hold(mask) for mask in masks], []
    tables = host.hold(curve_tables(frame.color))
    if frame.color.primaries == 9 or len(tables):
        rows = []
        for d, matrix, size in zip(planar, matrices, sizes, strict=True):
            native = host.hold(kernel_crops(host, frame, matrix[None], size, native=True)[0])
            held.append(native)
            rows.append((d.ctypes.data, native.ctypes.data, d.ctypes.data, size))
        run(host, uncurve_job(frame.color, rows, tables.ctypes.data))
    parts = [CropPlan(frame, form, m[None], s).parts[0] for m, s in zip(matrices, sizes, strict=True)]
    block = Block(host, frame, parts)
    gray = None if probe else partial(gray_in, block.views, form)
    rects = [cv2.boundingRect((mask > 0).astype(np.uint8)) for mask in masks]
    supports = [(x, y, x + w, y + h) for x, y, w, h in rects]
    plan = PastePlan(frame, form, matrices, sizes, supports, gray, probe=probe)
    for crop, part in zip(parts, plan.parts, strict=True):
        for role, box in part.items():
            x0, y0, x1, y1 = crop[role]
            assert x0 <= box[0] < box[2] <= x1 and y0 <= box[1] < box[3] <= y1, "a paste reaches further than its crop"
    scratch = host.hold(aligned(max(1, plan.scratch)))
    ds, ms = ([a.ctypes.data for a in arrays] for arrays in (planar, drawn))
    run(host, plan.job(block.surface, block.base, ds, ms, scratch.ctypes.data))
    block.check_rim()
    back = np.full_like(block.block, 0x5C)  # what is not copied back must not be needed
    for at, nbytes in block.surface.spans(plan.parts):
        back[at : at + nbytes] = block.block[at : at + nbytes]
    block.surface.store(block.views, back, plan.parts)


def cpu_crops(frame: Frame, matrices: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([crop.pixels for crop in CpuDevice().cut(frame, [(m, size) for m in matrices])])


def codes(frame: Frame) -> dict[str, np.ndarray]:
    """Whole storage words of every component, int64."""
    return {role: view.astype(np.int64) for role, view in planes(frame.image, form_of(frame)).items()}


def all_bytes(frame: Frame) -> np.ndarray:
    return np.concatenate([np.frombuffer(plane, np.uint8) for plane in frame.image.planes])
