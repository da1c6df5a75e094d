"""The kernels add corrections as the CPU device does, to the same samples, with the same rounding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtface.device.cpu.device import CpuDevice
from rtface.device.cuda.composite import PastePlan
from rtface.device.cuda.crop import CropPlan
from rtface.frame import Color, Frame
from rtface.geometry.planes import planes
from rtface.geometry.transforms import apply, compose, field_parity, invert, plane_matrix
from tests.device.corrections import composite
from tests.device.cuda.host_kernels import HostKernels, Runner
from tests.device.cuda.kernel_runs import (
    Block,
    again,
    aligned,
    all_bytes,
    codes,
    correction,
    film,
    form_of,
    kernel_paste,
    oval,
    run,
    similarity,
)
from tests.device.cuda.test_kernels import COLORS, DISPLAYS, FORMATS, HDR, color_id
from tests.pairs import pairs

S = 96


def both(
    host: Runner,
    frame: Frame,
    matrices: np.ndarray,
    masks: list[np.ndarray],
    *,
    supports: bool = True,
    share: float = 0.005,
    strength: float = 0.12,
    seeds: int = 1,
    probe: bool = False,
) -> dict[str, np.ndarray]:
    """Corrects two copies of a frame, by the kernels and by the CPU, and compares them; the CPU's samples."""
    size = len(masks[0])
    ds = [correction(size, mask, seed=seeds + n, strength=strength) for n, mask in enumerate(masks)]
    mine, theirs, before = again(frame), again(frame), codes(frame)
    kernel_paste(host, mine, ds, masks, matrices, supports=supports, probe=probe)
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
    """Whether a sample of a component lies where every mask is 0, by arithmetic of the test's own."""
    form = form_of(frame)
    image = frame.image
    to_plane = plane_matrix(
        (image.width, image.height),
        frame.display,
        subsampling=form.role_subsampling(role),
        siting=frame.color.siting,
        field=frame.field,
    )
    shape = codes(frame)[role].shape
    parity = field_parity(frame.display, frame.field)
    if parity is not None:
        shape = ((shape[0] - parity + 1) // 2, shape[1])
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    out = np.ones(shape, bool)
    for matrix, mask in zip(matrices, masks, strict=True):
        at = apply(compose(matrix, invert(to_plane)), np.stack([x + 0.5, y + 0.5], axis=-1)) - 0.5
        near = np.floor(at).astype(int)
        padded = np.pad(mask, 2)
        for dx in (0, 1):
            for dy in (0, 1):
                i = np.clip(near[..., 0] + dx + 2, 0, padded.shape[1] - 1)
                j = np.clip(near[..., 1] + dy + 2, 0, padded.shape[0] - 1)
                out &= padded[j, i] == 0
    return out


@pytest.mark.parametrize(("name", "color"), pairs(FORMATS, COLORS, ["yuv420p", "p010le"]), ids=color_id)
def test_pastes_are_those_of_the_cpu(name, color, host):
    """Two faces apart, one smaller than its crop and one over the frame's edge."""
    frame = film(name, 322, 178, color=color)
    matrices = np.stack([similarity(frame, 70.0, S), similarity(frame, 110.0, S, angle=-0.7, at=(0.97, 0.15))])
    both(host, frame, matrices, [oval(S), oval(S, reach=0.95)])


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
    ("name", "size"),
    pairs(["yuv420p", "yuv410p", "nv21", "p016le", "bgra", "gray"], [(641, 359), (161, 97), (35, 23)], ["yuv410p"]),
    ids=str,
)
def test_pastes_of_odd_sizes(name, size, host):
    frame = film(name, *size)
    side = min(0.7 * size[1], 120.0)
    matrices = np.stack([similarity(frame, side, S), similarity(frame, side, S, at=(1.0, 1.0))])
    both(host, frame, matrices, [oval(S), np.ones((S, S), np.float32)], share=0.01)


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
    wanted = both(host, frame, matrices, [oval(S)] * 4, share=0.01)
    # The order of the faces does not matter but for roundings.
    other = again(frame)
    ds = [correction(S, oval(S), seed=1 + n) for n in range(4)]
    kernel_paste(host, other, ds[::-1], [oval(S)] * 4, matrices[::-1])
    for role, samples in codes(other).items():
        assert (samples != wanted[role]).mean() < 0.001


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


def test_no_correction_changes_nothing(host):
    for name in ("yuv420p", "yuv444p16le", "p010le", "gray16le"):
        frame = film(name)
        before = all_bytes(frame)
        for side in (40.0, 90.0, 250.0):
            kernel_paste(host, frame, [np.zeros((S, S, 3), np.float32)], [oval(S)], similarity(frame, side, S)[None])
        np.testing.assert_array_equal(all_bytes(frame), before)


def test_low_bits_of_a_shifted_word_stay(host):
    frame = film("p010le")
    for plane in frame.image.planes:
        np.frombuffer(plane, np.uint16)[...] |= 0x2B
    both(host, frame, similarity(frame, 100.0, S)[None], [oval(S)])
    kernel_paste(host, frame, [correction(S, oval(S))], [oval(S)], similarity(frame, 100.0, S)[None])
    assert all((np.frombuffer(plane, np.uint16)[:300] & 0x3F == 0x2B).all() for plane in frame.image.planes)


def test_strong_corrections_are_clipped_to_the_legal_range(host):
    for name, color in (
        ("yuv420p", Color()),
        ("yuv420p10le", Color()),
        ("yuv444p16le", Color(full_range=True)),
        ("rgb24", Color("rgb", True)),
    ):
        frame = film(name, color=color)
        both(host, frame, similarity(frame, 110.0, S)[None], [oval(S)], strength=3.0)


@pytest.mark.parametrize(
    ("name", "probe"), pairs(["yuv420p", "nv12", "p010le", "yuv444p12le"], [False, True], ["nv12"])
)
def test_a_gray_film_keeps_its_chroma(name, probe, host):
    """And where one of two faces is gray, only that one."""
    frame = film(name, 640, 360, gray=True)
    matrices = np.stack([similarity(frame, 90.0, S, at=(0.2, 0.5)), similarity(frame, 90.0, S, at=(0.8, 0.5))])
    before = codes(frame)
    wanted = both(host, frame, matrices, [oval(S)] * 2, probe=probe)
    np.testing.assert_array_equal(wanted["u"], before["u"])
    mixed = film(name, 640, 360, gray=True)
    colourful = codes(film(name, 640, 360, seed=3))
    for role, view in planes(mixed.image, form_of(mixed)).items():
        if role != "y":
            view[:, view.shape[1] // 2 :] = colourful[role][:, view.shape[1] // 2 :]
    wanted, before = both(host, mixed, matrices, [oval(S)] * 2, probe=probe), codes(mixed)
    half = before["v"].shape[1] // 2
    np.testing.assert_array_equal(wanted["v"][:, :half], before["v"][:, :half])
    assert (wanted["v"] != before["v"]).any()


@pytest.mark.parametrize("name", ["rgb24", "gbrp12le"])
def test_rgb_without_colour_gets_none(name, host):
    frame = film(name, 640, 360, gray=True)
    matrices = np.stack([similarity(frame, 90.0, S, at=(0.2, 0.5)), similarity(frame, 90.0, S, at=(0.8, 0.5))])
    wanted = both(host, frame, matrices, [oval(S)] * 2)
    np.testing.assert_array_equal(wanted["r"], wanted["g"])
    np.testing.assert_array_equal(wanted["b"], wanted["g"])


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
    # The CPU takes the slope at a crop cut to the mask; where chroma is halved, that crop's grid is another one.
    ds = [correction(S, oval(S), seed=n) for n in (1, 2)]
    mine, theirs = again(frame), again(frame)
    kernel_paste(host, mine, ds, [oval(S)] * 2, matrices)
    theirs = composite(CpuDevice(), theirs, ds, [oval(S)] * 2, list(matrices))
    got, wanted, before = codes(mine), codes(theirs), codes(frame)
    for role in got:
        assert np.square(got[role] - wanted[role]).sum() < 0.06**2 * np.square(wanted[role] - before[role]).sum(), role


@pytest.mark.parametrize(("value", "side"), pairs([np.nan, np.inf, -np.inf, 3e38], [30.0, 90.0, 250.0], [np.nan]))
def test_what_is_not_finite_is_not_written(value, side, host):
    frame = film("yuv420p10le")
    matrices = np.stack([similarity(frame, side, S), similarity(frame, side, S, at=(0.5, 0.5))])
    before = codes(frame)
    d = np.full((S, S, 3), value, np.float32)
    kernel_paste(host, frame, [d, np.zeros_like(d)], [oval(S)] * 2, matrices)
    for role, samples in codes(frame).items():
        np.testing.assert_array_equal(samples, before[role])


@pytest.mark.parametrize(
    ("name", "display"),
    pairs(["yuv420p", "yuv444p10le", "nv12", "rgb24", "gbrp12le", "gray"], DISPLAYS, ["yuv420p"]),
    ids=str,
)
def test_a_dot_lands_in_its_place(name, display, host):
    """A small bright dot in the crop, found again in every component's own plane; no other device is asked."""
    size = (320, 192)
    frame = film(name, *size, display=display)
    for view in planes(frame.image, form_of(frame)).values():
        view[...] = 13 << (form_of(frame).bits - 5)  # not the zero of chroma
    matrix = similarity(frame, 56.0, S)
    a, dot = np.arange(S) + 0.5, np.array([57.0, 43.0])
    blob = np.exp(-((a[None] - dot[0]) ** 2 + (a[:, None] - dot[1]) ** 2) / (2 * 7.0**2)).astype(np.float32)
    d = blob[..., None] * np.array([0.5, -0.1, 0.35], np.float32)
    before = codes(frame)
    where = apply(invert(matrix), dot)
    for field in (None,) if display.fields == "progressive" else (0, 1):
        kernel_paste(host, replace(frame, field=field), [d], [np.ones((S, S), np.float32)], matrix[None])
    form = form_of(frame)
    for role, samples in codes(frame).items():
        moved = np.abs(samples - before[role]).astype(np.float64)
        to_plane = plane_matrix(size, display, subsampling=form.role_subsampling(role), siting=frame.color.siting)
        y, x = np.mgrid[0 : moved.shape[0], 0 : moved.shape[1]] + 0.5
        found = np.array([(moved * x).sum(), (moved * y).sum()]) / moved.sum()
        np.testing.assert_allclose(found, apply(to_plane, where), atol=0.12)


def test_a_common_paste_is_one_launch(host):
    """Nothing is filtered where no face is smaller than its crop; and a grid may be larger than its patches."""
    frame = film("yuv444p", 640, 360)
    form, mask = form_of(frame), host.hold(oval(S))
    matrices = np.stack([similarity(frame, 96.0, S), similarity(frame, 150.0, S, at=(0.8, 0.4))])
    plan = PastePlan(frame, form, matrices, [S, S])
    assert plan.scratch == 0
    block = Block(host, frame, CropPlan(frame, form, matrices, S).parts)
    d = host.hold(correction(S, mask).transpose(2, 0, 1))
    job = plan.job(block.surface, block.base, [d.ctypes.data] * 2, [mask.ctypes.data] * 2)
    assert [kernel for kernel, *_ in job.launches] == ["paste"]
    data, first = host.hold(aligned(job.nbytes)), block.block.copy()
    data[...] = job.descriptors
    host.launch("paste", (20, 40, 7), (32, 8, 1), np.uint64(data.ctypes.data))
    run_once = block.block.copy()
    block.block[...] = first
    run(host, job)
    np.testing.assert_array_equal(block.block, run_once)
    assert (run_once != first).any()


def test_faces_outside_the_frame_or_unmasked_launch_nothing(host: HostKernels):
    frame = film("yuv420p")
    matrices = np.stack([similarity(frame, 60.0, S, at=(9.0, 9.0)), similarity(frame, 60.0, S)])
    plan = PastePlan(frame, form_of(frame), matrices, [S, S], [None, (0, 0, 0, 0)])
    assert not plan.boxes and not plan.scratch
    block = Block(host, frame, CropPlan(frame, form_of(frame), matrices, S).parts)
    assert not plan.job(block.surface, block.base, [0, 0], [0, 0]).launches


def test_faces_of_different_sizes_go_together(host):
    frame = film("yuv420p", 640, 360)
    masks = [oval(64), oval(128)]
    matrices = np.stack([similarity(frame, 70.0, 64, at=(0.3, 0.5)), similarity(frame, 120.0, 128, at=(0.45, 0.5))])
    ds = [correction(len(m), m, seed=n) for n, m in enumerate(masks)]
    mine, theirs = again(frame), again(frame)
    kernel_paste(host, mine, ds, masks, matrices)
    composite(CpuDevice(), theirs, ds, masks, list(matrices))
    for role, samples in codes(mine).items():
        assert np.abs(samples - codes(theirs)[role]).max() <= 1
        assert (samples != codes(theirs)[role]).sum() < 0.005 * (samples != codes(frame)[role]).sum()
