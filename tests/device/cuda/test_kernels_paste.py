"""The kernels add corrections as the CPU device does, to the same samples, with the same rounding."""

import cv2
import numpy as np
import pytest

from rtface.device.cpu.device import CpuDevice
from rtface.device.cuda.composite import PastePlan
from rtface.device.cuda.crop import CropPlan
from rtface.device.cuda.staging import StagedSamples
from rtface.frame import Color, Frame
from rtface.geometry.planes import planes
from rtface.geometry.transforms import compose, invert, plane_matrix, to_cv2
from tests.device.corrections import composite
from tests.device.cuda.host_kernels import HostKernels, Runner
from tests.device.cuda.kernel_runs import (
    Block,
    again,
    all_bytes,
    codes,
    correction,
    film,
    form_of,
    kernel_paste,
    oval,
    similarity,
)
from tests.device.cuda.test_kernels import COLORS, DISPLAYS, FORMATS, HDR, color_id
from tests.pairs import pairs

S = 96


def both(host: Runner, frame: Frame, matrices, masks, *, share=0.005, strength=0.12, probe=False):
    """Corrects two copies of a frame, by the kernels and by the CPU, and compares them; the CPU's samples."""
    ds = [correction(len(mask), mask, seed=1 + n, strength=strength) for n, mask in enumerate(masks)]
    mine, theirs, before = again(frame), again(frame), codes(frame)
    kernel_paste(host, mine, ds, masks, matrices, probe=probe)
    theirs = composite(CpuDevice(), theirs, ds, masks, list(matrices))
    got, wanted = codes(mine), codes(theirs)
    shift = form_of(frame).shift
    changed = sum(int((wanted[role] != before[role]).sum()) for role in wanted)
    differ = 0
    for role in wanted:
        other = got[role] != wanted[role]
        differ += int(other.sum())
        assert np.abs(got[role] - wanted[role]).max() <= 1 << shift, role
        untouched = wanted[role] == before[role]
        # What the CPU leaves, but for a rounding, stays: every sample outside every mask.
        assert (other & untouched).sum() <= share * max(1, changed), role
    assert changed > 50 and differ <= share * changed, (differ, changed)
    strange = all_bytes(mine) != all_bytes(theirs)
    assert strange.sum() <= 2 * differ, "alpha or padding was written"
    return wanted


def outside(frame: Frame, role: str, matrices: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    """Whether a sample of a component lies where every mask is 0, as OpenCV sees it."""
    size, subsampling = (frame.image.width, frame.image.height), form_of(frame).role_subsampling(role)
    to_plane = plane_matrix(size, frame.display, subsampling=subsampling, siting=frame.color.siting)
    height, width = codes(frame)[role].shape
    inside = np.zeros((height, width), np.uint8)
    for matrix, mask in zip(matrices, masks, strict=True):
        reach = cv2.dilate((mask > 0).astype(np.uint8), np.ones((3, 3)))
        to_crop = to_cv2(compose(matrix, invert(to_plane)))
        inside |= cv2.warpAffine(reach, to_crop, (width, height), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return inside == 0


@pytest.mark.parametrize(("name", "color"), pairs(FORMATS, COLORS, ["yuv420p", "p010le"]), ids=color_id)
def test_pastes_are_those_of_the_cpu(name, color, host):
    """Two faces apart with crops of two sizes, one smaller than its crop and one over the frame's edge."""
    frame = film(name, 323, 179, color=color)
    matrices = np.stack([similarity(frame, 70.0, 64), similarity(frame, 110.0, S, angle=-0.7, at=(0.97, 0.15))])
    both(host, frame, matrices, [np.ones((64, 64), np.float32), oval(S, reach=0.95)])


@pytest.mark.parametrize(
    ("side", "name"),
    pairs(
        [12.0, 20.0, 48.0, 96.0, 140.0, 330.0],
        ["yuv420p", "yuv411p", "yuv444p12le", "nv12", "rgb24", "gbrp16le"],
        [48.0, 140.0],
    ),
)
def test_pastes_of_every_size(name, side, host):
    """A crop up to eight times as large as the face (low-passed), and a face 3.4 times as large as the crop (cubic)."""
    frame = film(name, 480, 360)
    both(host, frame, similarity(frame, side, S, angle=0.5)[None], [oval(S)], share=0.01 if side < 40 else 0.005)


@pytest.mark.parametrize(
    ("name", "display"),
    pairs(["yuv420p", "nv12", "p010le", "yuyv422", "rgb24", "gray16le", "gbrp10le"], DISPLAYS, ["nv12"]),
    ids=str,
)
def test_pastes_are_turned_mirrored_and_in_one_field(name, display, host):
    for field in (None,) if display.fields == "progressive" else (0, 1):
        frame = film(name, 322, 178, display=display, field=field)
        for side in (50.0, 210.0):
            both(host, frame, similarity(frame, side, S)[None], [oval(S)], share=0.01)


@pytest.mark.parametrize(
    ("name", "side"), pairs(["yuv420p", "p010le", "yuyv422", "rgba", "gray10le"], [40.0, 100.0, 260.0], ["yuv420p"])
)
def test_overlapping_faces_share_a_sample(name, side, host):
    """Two that overlap, a third that touches the second only, and one far away."""
    frame = film(name, 640, 360)
    step = 0.45 * side / 640
    matrices = np.stack(
        [
            similarity(frame, side, S, at=(0.4, 0.5)),
            similarity(frame, side, S, angle=1.0, at=(0.4 + step, 0.5)),
            similarity(frame, 0.8 * side, S, angle=-0.3, at=(0.4 + 2.2 * step, 0.55)),
            similarity(frame, 30.0, S, at=(0.05, 0.1)),
        ]
    )
    both(host, frame, matrices, [oval(S)] * 4, share=0.01)


@pytest.mark.parametrize(
    ("name", "side"),
    pairs(
        ["yuv420p", "yuva420p", "nv20le", "p010le", "uyvy422", "ayuv", "xv36le", "ya16le", "argb", "gbrap"],
        [30.0, 80.0, 250.0],
        ["yuv420p", "uyvy422"],
    ),
)
def test_samples_outside_the_masks_stay_bit_for_bit(name, side, host):
    frame = film(name)
    matrices = np.stack([similarity(frame, side, S), similarity(frame, side, S, at=(0.8, 0.6))])
    masks = [oval(S), oval(S, reach=0.6)]
    before = codes(frame)
    kernel_paste(host, frame, [correction(S, m, strength=0.5) for m in masks], masks, matrices)
    for role, samples in codes(frame).items():
        changed = samples != before[role]
        assert changed.any() and not changed[outside(frame, role, matrices, masks)].any(), role


def set_low_bits(frame):
    """Sets bits that lie below the samples of a shifted word."""
    for plane in frame.image.planes if form_of(frame).shift else ():
        np.frombuffer(plane, np.uint16)[...] |= 0x2B


@pytest.mark.parametrize(
    ("value", "name"), pairs([0.0, np.nan, np.inf, -np.inf, 3e38], ["yuv420p10le", "p010le", "gray16le"], [0.0])
)
def test_what_is_nothing_or_not_finite_is_not_written(value, name, host):
    """Nor are the low bits of a shifted word."""
    frame = film(name)
    set_low_bits(frame)
    before, d = all_bytes(frame), np.full((S, S, 3), value, np.float32)
    for side in (30.0, 90.0, 250.0):
        matrices = np.stack([similarity(frame, side, S), similarity(frame, side, S, at=(0.5, 0.5))])
        kernel_paste(host, frame, [d, np.zeros_like(d)], [oval(S)] * 2, matrices)
    np.testing.assert_array_equal(all_bytes(frame), before)


@pytest.mark.parametrize("name", ["yuv420p", "p010le", "yuv444p16le", "rgb24"])
def test_strong_corrections_are_clipped_to_the_legal_range(name, host):
    """And the low bits of a shifted word stay."""
    frame = film(name, color=Color("rgb", True) if name == "rgb24" else Color(full_range=name == "yuv444p16le"))
    set_low_bits(frame)
    both(host, frame, similarity(frame, 110.0, S)[None], [oval(S)], strength=3.0)


@pytest.mark.parametrize(
    ("name", "probe"),
    [("yuv420p", False), ("nv12", False), ("nv12", True), ("p010le", True), ("rgb24", False), ("gbrp12le", False)],
)
def test_a_gray_film_stays_without_colour(name, probe, host):
    """And where one of two faces is gray, only that one."""
    frame = film(name, 640, 360, gray=True)
    matrices = np.stack([similarity(frame, 90.0, S, at=(0.2, 0.5)), similarity(frame, 90.0, S, at=(0.8, 0.5))])
    before = codes(frame)
    wanted = both(host, frame, matrices, [oval(S)] * 2, probe=probe)
    if form_of(frame).kind == "rgb":
        np.testing.assert_array_equal([wanted["r"], wanted["b"]], [wanted["g"]] * 2)
        return
    np.testing.assert_array_equal(wanted["u"], before["u"])
    colourful = codes(film(name, 640, 360, seed=3))
    half = before["v"].shape[1] // 2
    for role, view in planes(frame.image, form_of(frame)).items():
        if role != "y":
            view[:, half:] = colourful[role][:, half:]
    wanted, before = both(host, frame, matrices, [oval(S)] * 2, probe=probe), codes(frame)
    np.testing.assert_array_equal(wanted["v"][:, :half], before["v"][:, :half])
    assert (wanted["v"] != before["v"]).any()


@pytest.mark.parametrize("where", [(0, 0), (-1, -1), (7, 31), (8, 32)], ids=str)
def test_one_coloured_sample_is_enough(where, host):
    """In the first and last sample of the box, and where another thread begins."""
    frame = film("nv12", 640, 360, gray=True)
    matrix, boxes = similarity(frame, 150.0, S)[None], []
    PastePlan(frame, form_of(frame), matrix, [S], None, lambda box: bool(boxes.append(box)))
    x0, y0, x1, y1 = boxes[0]
    for role in ("u", "v"):
        one = again(frame)
        view = planes(one.image, form_of(one))[role]
        view[y0 + where[0] if where[0] >= 0 else y1 - 1, x0 + where[1] if where[1] >= 0 else x1 - 1] = 131
        wanted, before = both(host, one, matrix, [np.ones((S, S), np.float32)], probe=True), codes(one)
        assert (wanted["u"] != before["u"]).any()


@pytest.mark.parametrize(
    ("name", "color"),
    pairs(["p010le", "yuv420p10le", "yuv420p", "yuv444p12le", "gbrp12le"], HDR, ["p010le"]),
    ids=color_id,
)
def test_hdr_corrections_go_back_through_the_slope(name, color, host):
    frame = film(name, color=color, noise=0.005)
    matrices = np.stack([similarity(frame, 90.0, S), similarity(frame, 60.0, S, at=(0.85, 0.3))])
    both(host, frame, matrices, [np.ones((S, S), np.float32)] * 2)


def test_a_common_paste_is_one_launch():
    """Nothing is filtered where no face is smaller than its crop."""
    frame = film("yuv444p", 640, 360)
    matrices = np.stack([similarity(frame, 96.0, S), similarity(frame, 150.0, S, at=(0.8, 0.4))])
    parts = CropPlan(frame, form_of(frame), matrices, S).parts
    plan = PastePlan(frame, form_of(frame), matrices, [S, S])
    job = plan.job(StagedSamples(form_of(frame), parts), 0, [0, 0], [0, 0])
    assert plan.scratch == 0 and [kernel for kernel, *_ in job.launches] == ["paste"]


def test_faces_outside_the_frame_or_unmasked_launch_nothing(host: HostKernels):
    frame = film("yuv420p")
    matrices = np.stack([similarity(frame, 60.0, S, at=(9.0, 9.0)), similarity(frame, 60.0, S)])
    plan = PastePlan(frame, form_of(frame), matrices, [S, S], [None, (0, 0, 0, 0)])
    assert not plan.boxes and not plan.scratch
    block = Block(host, frame, CropPlan(frame, form_of(frame), matrices, S).parts)
    assert not plan.job(block.surface, block.base, [0, 0], [0, 0]).launches
