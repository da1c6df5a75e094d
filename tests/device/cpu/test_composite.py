"""Corrections land with the right value in the right place, and nothing else changes."""

from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from rtface.device.cpu.device import CpuDevice
from rtface.errors import EngineError
from rtface.frame import Color, Display
from rtface.geometry.planes import layout, planes
from rtface.geometry.transforms import apply, compose, display_size, invert, plane_matrix, scaling, translation
from tests.device.corrections import composite
from tests.pairs import pairs

YUV = [
    "yuv420p",
    "yuv422p",
    "yuv444p",
    "yuv411p",
    "yuv440p",
    "yuv410p",
    "yuvj420p",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p12le",
    "yuv420p16le",
    "yuv420p10be",
    "yuva420p",
    "yuva444p10le",
    "nv12",
    "nv21",
    "nv16",
    "nv24",
    "p010le",
    "p016le",
    "p210le",
    "p412le",
    "yuyv422",
    "uyvy422",
    "y210le",
    "vuya",
    "xv36le",
]
GRAY = ["gray", "gray10le", "gray16le", "ya8"]
RGB = [
    "rgb24",
    "bgr24",
    "rgba",
    "argb",
    "bgra",
    "abgr",
    "0rgb",
    "rgb48le",
    "rgba64le",
    "gbrp",
    "gbrp10le",
    "gbrp12le",
    "gbrap",
    "gbrp16be",
]
FORMATS = YUV + GRAY + RGB

DISPLAYS = [
    Display(),
    Display(1),
    Display(2, mirror=True),
    Display(3, aspect=Fraction(16, 11)),
    Display(0, aspect=Fraction(3, 4), fields="tff"),
    Display(0, fields="bff"),
    Display(1, mirror=True, fields="tff"),
]

S = 64


def disc(size: int = S, inner: float = 0.55, outer: float = 0.9) -> np.ndarray:
    """A round mask: 1 up to `inner`, 0 from `outer` on (of the half side)."""
    a = (np.arange(size) + 0.5) / size * 2 - 1
    radius = np.hypot(a[None], a[:, None])
    return np.clip((outer - radius) / (outer - inner), 0.0, 1.0).astype(np.float32)


def face_matrix(
    width: float,
    height: float,
    *,
    side: float = 60.0,
    angle: float = 0.2,
    size: int = S,
    at: tuple[float, float] = (0.45, 0.52),
) -> np.ndarray:
    """Display → crop: a square of `side` display pixels, turned by `angle`, round a point of the picture."""
    s = size / side
    c, d = s * np.cos(angle), s * np.sin(angle)
    turn = np.array([(c, -d, 0.0), (d, c, 0.0)])
    return compose(translation(size / 2, size / 2), turn, translation(-at[0] * width, -at[1] * height))


def plane_bytes(image: av.VideoFrame) -> list[np.ndarray]:
    return [
        np.frombuffer(p, np.uint8)[: p.line_size * p.height].reshape(p.height, p.line_size).copy() for p in image.planes
    ]


def bilinear(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The mask at points (…, 2) of the crop (corner convention); 0 outside."""
    padded = np.pad(mask, 2)
    x, y = (np.clip(points[..., k] + 1.5, 0, padded.shape[1 - k] - 1.001) for k in (0, 1))
    i, j = x.astype(int), y.astype(int)
    fx, fy = x - i, y - j
    return (
        (1 - fx) * (1 - fy) * padded[j, i]
        + fx * (1 - fy) * padded[j, i + 1]
        + (1 - fx) * fy * padded[j + 1, i]
        + fx * fy * padded[j + 1, i + 1]
    )


def component_bytes(name: str, raw: list[np.ndarray], role: str, width: int, height: int) -> np.ndarray:
    """One component's samples out of raw plane bytes, whole storage words."""
    form = layout(name)
    index, first, step = form.components[role]
    sx, sy = form.role_subsampling(role)
    words = raw[index].view(form.dtype)
    return words[: -(-height // sy), first::step][:, : -(-width // sx)]


def mask_on_plane(frame, role, mask, matrix) -> np.ndarray:
    form = layout(frame.image.format.name)
    sub = form.role_subsampling(role)
    size = (frame.image.width, frame.image.height)
    to_plane = plane_matrix(size, frame.display, subsampling=sub, siting=frame.color.siting, field=frame.field)
    w, h = -(-size[0] // sub[0]), -(-size[1] // sub[1])
    if frame.field is not None:
        h //= 2
    grid = np.stack(np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5), axis=-1)
    return bilinear(mask, apply(compose(matrix, invert(to_plane)), grid))


@pytest.mark.parametrize(("name", "display"), pairs(FORMATS, DISPLAYS, ["yuv420p", "p010le", "rgb24"]), ids=str)
def test_samples_outside_the_mask_stay_bit_for_bit(name, display, noise_frame):
    rng = np.random.default_rng(3)
    mask = disc()
    d = rng.normal(0, 0.2, (S, S, 3)).astype(np.float32) * mask[..., None]
    for field in (None,) if display.fields == "progressive" else (0, 1):
        frame = noise_frame(name, display=display, field=field)
        before = plane_bytes(frame.image)
        matrix = face_matrix(*display_size(frame.image.width, frame.image.height, display))
        out = composite(CpuDevice(), frame, d[None], mask[None], matrix[None])
        after = plane_bytes(out.image)
        assert out.touched
        form = layout(name)
        changed_bytes = [a != b for a, b in zip(before, after, strict=True)]
        for role in form.components:
            old, new = (
                component_bytes(name, raw, role, frame.image.width, frame.image.height) for raw in (before, after)
            )
            changed = old != new
            if field is not None:
                parity = field if display.fields == "tff" else 1 - field
                assert not changed[1 - parity :: 2].any(), "the other field was written"
                changed = changed[parity::2]
            weight = mask_on_plane(frame, role, mask, matrix)[: changed.shape[0]]
            assert not changed[weight == 0].any()
            assert changed[weight > 0.7].mean() > 0.6, role
            for raw in changed_bytes:  # what is left below are alpha and padding
                if raw is changed_bytes[form.components[role][0]]:
                    component_bytes(
                        name, [r.view(np.uint8) for r in changed_bytes], role, frame.image.width, frame.image.height
                    )[...] = 0
        assert not any(raw.any() for raw in changed_bytes), "alpha or padding was written"


@pytest.mark.parametrize("name", ["yuv420p", "yuva444p10le", "gray", "rgb24"])
def test_no_correction_is_the_identity(name, noise_frame):
    frame = noise_frame(name)
    before = plane_bytes(frame.image)
    mask = disc()
    out = composite(CpuDevice(), frame, np.zeros((1, S, S, 3), np.float32), mask[None], face_matrix(160, 96)[None])
    assert out is frame
    for a, b in zip(before, plane_bytes(out.image), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["rgb24", "bgra", "rgb48le", "gbrp10le", "gbrp16be"])
def test_rgb_without_colour_gets_none(name, flat_frame):
    frame = flat_frame(name, (120, 120, 120))
    d = np.random.default_rng(0).normal(0, 0.05, (S, S, 3)).astype(np.float32) * disc()[..., None]
    form = layout(name)
    before = planes(frame.image, form)["g"].copy()
    out = composite(CpuDevice(), frame, [d], [disc()], face_matrix(160, 96)[None])
    r, g, b = (planes(out.image, form)[role] for role in "rgb")
    assert not np.array_equal(g, before)
    np.testing.assert_array_equal(r, g)
    np.testing.assert_array_equal(b, g)


@pytest.mark.parametrize(
    ("name", "shift"), [*pairs(YUV + RGB, [(8, -6, 4), (-3, 2, 12)], ["nv12"]), *pairs(GRAY, [(10, 10, 10)])], ids=str
)
def test_a_known_correction_lands_with_its_value(name, shift, flat_frame, mean_rgb):
    for color in (Color("bt601"), Color("bt709", full_range=True)):
        if name in YUV and (layout(name).full_range and not color.full_range):
            continue
        if name in GRAY and not color.full_range:
            continue  # swscale, the judge here, takes every gray format for full range
        frame = flat_frame(name, (120, 120, 120) if name in GRAY else (130, 120, 100), color=color)
        box = (66, 42, 78, 54)
        before = mean_rgb(frame, box)
        mask = disc()
        d = np.array(shift, np.float32) / 255 * mask[..., None]
        out = composite(CpuDevice(), frame, d[None], mask[None], face_matrix(160, 96)[None])
        tolerance = 0.8 if layout(name).bits == 8 else 0.2  # swscale rounds a flat colour by half a code of its own
        np.testing.assert_allclose(mean_rgb(out, box) - before, shift, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "display"),
    pairs(["yuv420p", "yuv444p10le", "nv12", "rgb24", "gbrp12le", "gray"], DISPLAYS, ["yuv420p"]),
    ids=str,
)
def test_a_dot_lands_in_its_place(name, display, flat_frame):
    """A small bright dot in the crop, found again in every component's own plane."""
    frame = flat_frame(name, (110, 110, 110) if name == "gray" else (130, 110, 90), display=display)
    size = (frame.image.width, frame.image.height)
    matrix = face_matrix(*display_size(*size, display), side=48.0)
    a = np.arange(S) + 0.5
    dot = np.array([38.0, 29.0])
    blob = np.exp(-((a[None] - dot[0]) ** 2 + (a[:, None] - dot[1]) ** 2) / (2 * 5.0**2)).astype(np.float32)
    d = blob[..., None] * np.array([0.5, -0.1, 0.35], np.float32)
    mask = np.ones((S, S), np.float32)
    form = layout(name)
    before = plane_bytes(frame.image)
    where = apply(invert(matrix), dot)
    for field in (None,) if display.fields == "progressive" else (0, 1):
        frame = composite(CpuDevice(), replace(frame, field=field), d[None], mask[None], matrix[None])
    after = plane_bytes(frame.image)
    for role in form.components:
        old, new = (component_bytes(name, raw, role, *size).astype(np.int64) for raw in (before, after))
        for field in (None,) if display.fields == "progressive" else (0, 1):
            parity = None if field is None else field if display.fields == "tff" else 1 - field
            moved = np.abs((new - old) >> form.shift).astype(float)
            moved = moved if parity is None else moved[parity::2]
            moved[moved < 0.15 * moved.max()] = 0  # dither
            x, y = np.arange(moved.shape[1]) + 0.5, np.arange(moved.shape[0]) + 0.5
            found = np.array([(moved * x).sum(), (moved * y[:, None]).sum()]) / moved.sum()
            to_plane = plane_matrix(
                size, display, subsampling=form.role_subsampling(role), siting=frame.color.siting, field=field
            )
            np.testing.assert_allclose(found, apply(to_plane, where), atol=0.25, err_msg=f"{role} {field}")


def test_siting_moves_chroma_against_luma(flat_frame):
    """The same correction, the three sitings: chroma samples move by half a luma pixel, luma does not."""
    found = {}
    for siting in ("left", "center", "topleft"):
        frame = flat_frame("yuv420p16le", (130, 110, 90), color=Color(siting=siting))
        a = np.arange(S) + 0.5
        blob = np.exp(-((a[None] - 32) ** 2 + (a[:, None] - 32) ** 2) / (2 * 8.0**2)).astype(np.float32)
        d = blob[..., None] * np.array([0.3, -0.1, -0.1], np.float32)
        before = plane_bytes(frame.image)
        out = composite(
            CpuDevice(), frame, d[None], np.ones((1, S, S), np.float32), face_matrix(160, 96, angle=0.0)[None]
        )
        for role in "yv":
            moved = np.abs(
                component_bytes("yuv420p16le", plane_bytes(out.image), role, 160, 96).astype(float)
                - component_bytes("yuv420p16le", before, role, 160, 96)
            )
            moved[moved < 0.02 * moved.max()] = 0
            found[siting, role] = (
                np.array(
                    [
                        (moved * (np.arange(moved.shape[1]) + 0.5)).sum(),
                        (moved * (np.arange(moved.shape[0])[:, None] + 0.5)).sum(),
                    ]
                )
                / moved.sum()
            )
    np.testing.assert_allclose(found["left", "y"], found["topleft", "y"], atol=0.01)
    np.testing.assert_allclose(found["left", "v"] - found["center", "v"], (0.25, 0.0), atol=0.03)
    np.testing.assert_allclose(found["topleft", "v"] - found["center", "v"], (0.25, 0.25), atol=0.03)


@pytest.mark.parametrize("value", [0.0, 0.2, 0.5, 0.73, -0.4])
def test_dither_is_unbiased(value, flat_frame):
    """A correction of a fraction of a code shows as that fraction on average, and moves with pts."""
    frame = flat_frame("gray", (120, 120, 120), width=320, height=180, color=Color("rgb", full_range=True))
    matrix = scaling(64 / 320, 64 / 180)[None]
    before = plane_bytes(frame.image)[0]
    d = np.full((1, 64, 64, 3), value / 255, np.float32)
    patterns = []
    for pts in (5, 6):
        copy = replace(flat_frame("gray", (120, 120, 120), width=320, height=180, color=frame.color), pts=pts)
        out = composite(CpuDevice(), copy, d, np.ones((1, 64, 64), np.float32), matrix)
        inner = (plane_bytes(out.image)[0].astype(float) - before)[8:172, 8:312]
        patterns.append(inner)
        assert inner.mean() == pytest.approx(value, abs=0.012)
        assert set(np.unique(inner)) <= {np.floor(value), np.ceil(value)}
    assert value == 0.0 or (patterns[0] != patterns[1]).any()


def test_dither_differs_between_components(flat_frame):
    """A pattern that is the same in all three would be visible as brightness."""
    frame = flat_frame("gbrp", (130, 120, 110), color=Color("rgb", full_range=True))
    d = np.full((1, S, S, 3), 0.5 / 255, np.float32)
    matrix = scaling(S / 160, S / 96)[None]
    before = plane_bytes(frame.image)
    after = plane_bytes(composite(CpuDevice(), frame, d, np.ones((1, S, S), np.float32), matrix).image)
    red, green, blue = (new - old for new, old in zip(after, before, strict=True))
    assert (red != green).any() and (green != blue).any() and (red != blue).any()


def test_film_without_colour_keeps_its_chroma_planes(noise_frame):
    frame = noise_frame("yuv420p")
    for plane in frame.image.planes[1:]:
        np.frombuffer(plane, np.uint8)[...] = 128
    before = plane_bytes(frame.image)
    mask = disc()
    d = (np.array([0.2, -0.1, 0.1], np.float32) * mask[..., None])[None]
    after = plane_bytes(composite(CpuDevice(), frame, d, mask[None], face_matrix(160, 96)[None]).image)
    assert (before[0] != after[0]).any()
    np.testing.assert_array_equal(before[1], after[1])
    np.testing.assert_array_equal(before[2], after[2])


def test_clips_to_the_wider_of_legal_range_and_source(flat_frame):
    frame = flat_frame("yuv420p", (128, 128, 128))
    luma = np.frombuffer(frame.image.planes[0], np.uint8)
    luma[...] = np.resize(np.array([3, 16, 230, 235, 250], np.uint8), luma.size)
    before = plane_bytes(frame.image)[0]
    one = np.ones((1, S, S), np.float32)
    matrix = scaling(S / 160, S / 96)[None]
    after = plane_bytes(composite(CpuDevice(), frame, np.full((1, S, S, 3), 0.3, np.float32), one, matrix).image)[0]
    inner = (slice(8, 88), slice(8, 152))
    assert (after[inner][before[inner] == 230] == 235).all()
    assert (after[inner][before[inner] == 250] == 250).all()
    before = after
    after = plane_bytes(composite(CpuDevice(), frame, np.full((1, S, S, 3), -1.2, np.float32), one, matrix).image)[0]
    assert (after[inner][before[inner] >= 16] == 16).all()


@pytest.mark.parametrize("side", [S, 2 * S])
def test_two_overlapping_faces_do_not_correct_twice(side, flat_frame, mean_rgb):
    """Crops of one engine, and of two with different sides."""
    frame = flat_frame("yuv444p", (100, 100, 100), color=Color("bt601"))
    masks = [disc(S), disc(side)]
    corrections = [np.float32(20 / 255) * m[..., None].repeat(3, axis=2) for m in masks]
    second = side / S * face_matrix(160, 96, at=(0.48, 0.52))
    out = composite(CpuDevice(), frame, corrections, masks, [face_matrix(160, 96), second])
    np.testing.assert_allclose(mean_rgb(out, (70, 46, 78, 54)), 120, atol=0.6)
    luma = np.frombuffer(out.image.planes[0], np.uint8)
    assert luma.min() + 10 < luma.max() <= luma.min() + 19, "nowhere more than one correction"


def test_no_seam_at_the_edge_of_the_mask(flat_frame):
    """A constant correction under a feathered mask rises no faster than the mask itself."""
    frame = flat_frame("yuv420p", (110, 110, 110), width=320, height=240)
    mask = disc(128, inner=0.5, outer=0.95)
    d = np.float32(30 / 255) * mask[..., None].repeat(3, axis=2)
    before = plane_bytes(frame.image)[0].astype(int)
    matrix = face_matrix(320, 240, side=128.0, size=128, angle=0.3)
    out = composite(CpuDevice(), frame, d[None], mask[None], matrix[None])
    step = np.diff(plane_bytes(out.image)[0].astype(int) - before, axis=1)
    assert np.abs(step).max() <= 2  # the ramp is 0.9 codes a pixel; one more for dither


def test_shrinking_a_correction_does_not_alias(flat_frame):
    """A correction at the crop's Nyquist, brought into a quarter of the size, leaves almost nothing behind."""
    frame = flat_frame("gray16le", (120, 120, 120), color=Color("rgb", full_range=True))
    size = 256
    stripes = np.where(np.arange(size) % 2, 0.2, -0.2).astype(np.float32)
    d = np.broadcast_to(stripes[None, None, :, None], (1, size, size, 3)).copy()
    before = plane_bytes(frame.image)[0].view(np.uint16).astype(float)
    matrix = face_matrix(160, 96, side=61.0, size=size)
    out = composite(CpuDevice(), frame, d, np.ones((1, size, size), np.float32), matrix[None])
    left = np.abs(plane_bytes(out.image)[0].view(np.uint16) - before)[36:62, 58:86] / 65535
    assert left.max() < 0.02


def test_a_decoded_frame_is_not_written_through(noise_frame):
    """The decoder's own reference (here: a second owner of the buffer) must not change."""
    frame = noise_frame("yuv420p")
    graph = av.filter.Graph()
    source = graph.add_buffer(width=160, height=96, format="yuv420p", time_base=Fraction(1, 25))
    split, a, b = graph.add("split"), graph.add("buffersink"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(a, 0)
    split.link_to(b, 1)
    graph.configure()
    source.push(frame.image)
    ours, theirs = a.pull(), b.pull()
    before = plane_bytes(theirs)
    mask = disc()
    d = (np.float32(0.2) * mask[..., None].repeat(3, axis=2))[None]
    out = composite(CpuDevice(), replace(frame, image=ours), d, mask[None], face_matrix(160, 96)[None])
    assert (plane_bytes(out.image)[0][:, :160] != before[0][:, :160]).any()
    for x, y in zip(before, plane_bytes(theirs), strict=True):
        np.testing.assert_array_equal(x, y)


def test_pixel_formats_that_need_conversion_are_said(noise_frame):
    said = []
    frame = noise_frame("bgr565le")
    mask = disc()
    d = (np.float32(0.2) * mask[..., None].repeat(3, axis=2))[None]
    device = CpuDevice(warn=lambda key, message: said.append((key, message)))
    out = composite(device, frame, d, mask[None], face_matrix(160, 96)[None])
    assert out.image.format.name == "rgb24"
    assert said and said[0][0] == "pixel_format" and "bgr565le" in said[0][1]


@pytest.mark.parametrize("side", [25.0, 60.0, 200.0])
def test_a_part_of_a_correction_is_pasted_as_the_whole(noise_frame, side):
    mask = disc()
    d = np.random.default_rng(3).normal(0, 0.05, (S, S, 3)).astype(np.float32) * mask[..., None]
    matrix = face_matrix(160, 96, side=side)
    x, y, w, h = cv2.boundingRect((mask > 0).astype(np.uint8))
    part = np.s_[y - 1 : y + h + 1, x - 1 : x + w + 1]
    pasted = [
        composite(CpuDevice(), noise_frame("yuv420p"), [pixels], [weight], [place])
        for pixels, weight, place in (
            (d, mask, matrix),
            (d[part], mask[part], compose(translation(1 - x, 1 - y), matrix)),
        )
    ]
    whole, less = (np.concatenate([p.ravel() for p in plane_bytes(f.image)]).astype(int) for f in pasted)
    before = np.concatenate([p.ravel() for p in plane_bytes(noise_frame("yuv420p").image)])
    assert (whole != before).any()
    # The matrices may differ in their last bit.
    assert np.abs(whole - less).max() <= 1 and np.mean(whole != less) < 1e-3


def test_bad_corrections_are_refused_before_anything_is_written(noise_frame):
    frame = noise_frame("yuv420p")
    before = plane_bytes(frame.image)
    mask = disc()[None]
    d = np.zeros((1, S, S, 3), np.float32)
    d[0, 30, 30] = np.nan
    with pytest.raises(EngineError, match="contains NaN or infinity"):
        composite(CpuDevice(), frame, d, mask, face_matrix(160, 96)[None])
    np.testing.assert_array_equal(before[0], plane_bytes(frame.image)[0])


@pytest.mark.parametrize("name", ["yuv420p", "nv12", "yuv410p", "yuyv422", "p010le", "rgb24", "gbrp10le"])
@pytest.mark.parametrize("size", [(161, 97), (7, 5), (1, 1)])
def test_odd_sizes(name, size, noise_frame):
    """A correction over the whole of a picture of odd size reaches its last samples and stays inside its memory."""
    if name == "yuyv422" and size[0] % 2:
        size = (size[0] + 1, size[1])  # swscale writes past a line of odd width in this format
    frame = noise_frame(name, width=size[0], height=size[1])
    for field in (None, 0, 1) if size[1] > 8 else (None,):
        frame = replace(frame, field=field, display=Display(fields="tff"))
        d = np.full((1, S, S, 3), 0.1, np.float32)
        d[..., 2] = -0.1
        matrix = scaling(S / size[0], S / size[1])
        before = plane_bytes(frame.image)
        crops = CpuDevice().cut(frame, [(matrix, S)])[0]
        assert np.isfinite(crops.pixels).all()
        after = plane_bytes(composite(CpuDevice(), frame, d, np.ones((1, S, S), np.float32), matrix[None]).image)
        if size == (161, 97):
            for role in layout(name).components:
                old, new = (component_bytes(name, raw, role, *size).astype(int) for raw in (before, after))
                rows = slice(None) if field is None else slice(field, None, 2)
                assert (old != new)[rows][-2:, -2:].any(), role


def test_a_face_outside_the_picture_is_ignored(noise_frame):
    frame = noise_frame("yuv420p")
    before = plane_bytes(frame.image)
    mask = disc()[None]
    d = np.float32(0.2) * mask[..., None].repeat(3, axis=3)
    out = composite(CpuDevice(), frame, d, mask, face_matrix(160, 96, at=(9.0, 9.0))[None])
    np.testing.assert_array_equal(before[0], plane_bytes(out.image)[0])


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_hdr_corrections_go_back_through_the_slope(transfer, noise_frame):
    """A small correction made on the mapped crop reads back as itself from the corrected frame."""
    device = CpuDevice()
    color = Color("bt2020", transfer=transfer, primaries=9)
    frame = noise_frame("yuv444p16le", color=color)
    matrix = face_matrix(160, 96, side=float(S), angle=0.0)[None]
    smooth = cv2.GaussianBlur(np.random.default_rng(1).random((96, 160)).astype(np.float32), (0, 0), 4)
    code = (0.42 + 0.6 * (smooth - smooth.mean())) if transfer == "pq" else (0.5 + 0.6 * (smooth - smooth.mean()))
    np.frombuffer(frame.image.planes[0], np.uint16).reshape(96, -1)[:, :160] = (16 + 219 * code) * 256
    for plane in frame.image.planes[1:]:
        np.frombuffer(plane, np.uint16)[...] = 32768 + 600
    (before,) = device.cut(frame, [(matrix[0], S)])
    d = (np.array([0.02, 0.01, -0.01], np.float32) * disc()[..., None])[None]
    (after,) = device.cut(composite(device, frame, d, disc()[None], matrix), [(matrix[0], S)])
    moved = (after.pixels - before.pixels)[0, :, 26:38, 26:38].mean(axis=(1, 2))
    np.testing.assert_allclose(moved, (0.02, 0.01, -0.01), atol=0.003)
