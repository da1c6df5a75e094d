"""Drawing into native planes: the right colours at the right place, rounded once, and nothing anywhere else."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import av
import cv2
import numpy as np
import pytest

from rtface.errors import UsageError
from rtface.frame import Color, Display, Face, Frame
from rtface.geometry.color_curves import HDR_WHITE_NITS, pq_to_nits
from rtface.geometry.planes import layout, planes
from rtface.geometry.transforms import apply, compose, display_size, invert, plane_matrix, scaling
from rtface.stages.draw import Canvas, Sprite, covering, display_from_face
from rtface.stages.draw.veil import INNER
from tests.pipeline.fakes import face_at, portrait

FORMATS = [
    "yuv420p",
    "yuv422p",
    "yuv444p",
    "yuvj420p",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p12le",
    "yuv420p10be",
    "yuva420p",
    "nv12",
    "nv21",
    "nv16",
    "p010le",
    "yuyv422",
    "uyvy422",
    "gray",
    "gray10le",
    "rgb24",
    "bgr24",
    "rgba",
    "bgr0",
    "gbrp",
    "gbrp10le",
    "rgb48le",
    "yuv411p",
    "yuv440p",
]
RED = (200, 40, 30)


def color_for(fmt: str) -> Color:
    return (
        Color("rgb", True) if fmt.startswith(("rgb", "bgr", "gbr", "gray")) else Color("bt601", fmt.startswith("yuvj"))
    )


def flat(fmt: str, size: tuple[int, int] = (97, 61), level: int = 100, **more) -> Frame:
    """A picture of one gray, in odd sizes where the format allows."""
    if fmt in ("yuyv422", "uyvy422", "nv12", "nv21", "nv16", "p010le"):
        size = (size[0] + 1, size[1] + 1)
    image = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), level, np.uint8), "rgb24").reformat(format=fmt)
    return Frame(image, 0, Fraction(1, 25), 1, color=color_for(fmt), **more)


def copies(frame: Frame) -> dict[str, np.ndarray]:
    form = layout(frame.image.format.name)
    return {role: np.array(view) for role, view in planes(frame.image, form).items()}


def sprite_of(rgba: tuple[int, int, int, int], width: int = 20, height: int = 16) -> Sprite:
    return Sprite(np.tile(np.array(rgba, np.uint8), (height, width, 1)))


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("how", ["draw", "fill"])
def test_a_colour_is_right_inside_and_nothing_changes_outside(fmt: str, how: str) -> None:
    frame = flat(fmt)
    was = copies(frame)
    canvas = Canvas(frame)
    if how == "draw":
        canvas.draw(sprite_of((*RED, 255)), (24, 16, 64, 48))
    else:
        canvas.fill((24, 16, 64, 48), RED)
    assert canvas.frame.touched and not frame.touched
    form = layout(fmt)
    wanted = RED if form.kind != "gray" else (round(0.299 * RED[0] + 0.587 * RED[1] + 0.114 * RED[2]),) * 3
    middle = frame.image.to_ndarray(format="rgb24")[24:40, 34:54].reshape(-1, 3).astype(int)
    assert np.abs(middle - wanted).max() <= 4  # swscale's own error among it
    for role, view in copies(frame).items():
        sx, sy = form.role_subsampling(role)
        outside = np.ones(view.shape, bool)
        # A subsampled sample reaches as far as two of its own spacing.
        outside[max(16 // sy - 2, 0) : 48 // sy + 2, max(24 // sx - 2, 0) : 64 // sx + 2] = False
        np.testing.assert_array_equal(view[outside], was[role][outside], err_msg=role)


@pytest.mark.parametrize(
    ("turns", "mirror", "aspect", "sub", "siting"),
    [
        *product(range(4), (False, True), [Fraction(1)], ["420"], ["left"]),
        (0, False, Fraction(16, 11), "420", "left"),
        (1, True, Fraction(10, 11), "422", "left"),
        (0, False, Fraction(1), "420", "center"),
        (0, False, Fraction(1), "420", "topleft"),
        (2, False, Fraction(1), "422", "center"),
        (3, False, Fraction(4, 3), "420", "topleft"),
        (0, False, Fraction(1), "444", "left"),
    ],
)
def test_a_dot_lies_where_it_was_put_in_every_plane(turns, mirror, aspect, sub, siting) -> None:
    """The centre of gravity of a soft coloured dot, plane by plane, against the matrices of `geometry`."""
    display = Display(turns, mirror, aspect)
    frame = flat(f"yuv{sub}p", (160, 120), display=display)
    frame = Frame(frame.image, 0, Fraction(1, 25), 1, color=Color("bt601", siting=siting), display=display)
    axis = np.arange(64) + 0.5 - 32
    alpha = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 8.0**2))
    alpha[alpha < 0.02] = 0
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[...] = 255, 30, 0, 0
    rgba[..., 3] = np.rint(255 * alpha)
    w, h = display_size(160, 120, display)
    at = np.array([0.45 * w + 0.3, 0.55 * h + 0.2])
    was = copies(frame)
    Canvas(frame).draw(Sprite(rgba), np.array([[1.0, 0, at[0] - 32], [0, 1.0, at[1] - 32]]))
    form = layout(f"yuv{sub}p")
    for role, view in copies(frame).items():
        change = np.abs(view.astype(float) - was[role])
        ys, xs = np.mgrid[: view.shape[0], : view.shape[1]] + 0.5
        centre = np.array([(xs * change).sum(), (ys * change).sum()]) / change.sum()
        back = invert(plane_matrix((160, 120), display, subsampling=form.role_subsampling(role), siting=siting))
        assert np.abs(apply(back, centre) - at).max() < 0.12, role


@pytest.mark.parametrize(("fmt", "top"), [("yuv444p", 255), ("yuv444p12le", 4095), ("gbrp10le", 1023)])
def test_alpha_is_blended_in_float_and_rounded_once(fmt: str, top: int) -> None:
    rng = np.random.default_rng(3)
    frame = flat(fmt, (64, 48))
    form = layout(fmt)
    for view in planes(frame.image, form).values():
        view[...] = rng.integers(0, top + 1, view.shape)
    was = copies(frame)
    rgba = rng.integers(0, 256, (20, 30, 4), np.uint8)
    rgba[5:9] = (9, 8, 7, 0)
    sprite = Sprite(rgba)
    Canvas(frame).draw(sprite, (8, 10, 38, 30))
    opaque = flat(fmt, (64, 48))
    Canvas(opaque).draw(Sprite(np.dstack([rgba[..., :3], np.full((20, 30), 255, np.uint8)])), (8, 10, 38, 30))
    alpha = rgba[..., 3].astype(float) / 255
    for role, view in copies(frame).items():
        old, value = was[role][10:30, 8:38].astype(float), copies(opaque)[role][10:30, 8:38].astype(float)
        # `value` was rounded itself, so there is half a step of doubt times alpha, and the one rounding.
        assert np.abs(view[10:30, 8:38] - (old * (1 - alpha) + value * alpha)).max() <= 0.5 + 0.5 + 1e-3
        np.testing.assert_array_equal(view[15:19, 8:38], was[role][15:19, 8:38])
        view[10:30, 8:38] = was[role][10:30, 8:38]
        np.testing.assert_array_equal(view, was[role])


def test_opacity_and_the_low_bits_that_a_format_does_not_use() -> None:
    frame = flat("p010le", (64, 48))
    form = layout("p010le")
    for view in planes(frame.image, form).values():
        view[...] |= 21  # below the ten significant bits
    was = copies(frame)
    Canvas(frame).draw(sprite_of((255, 255, 255, 255)), (0, 0, 64, 48), 0.25)
    now = copies(frame)
    assert (now["y"] & 63 == was["y"] & 63).all()
    old, new = was["y"][24, 32] >> 6, now["y"][24, 32] >> 6
    assert abs(new - (0.75 * old + 0.25 * 940)) <= 0.51
    Canvas(frame).draw(sprite_of((0, 0, 0, 255)), (0, 0, 64, 48), 0.0)
    np.testing.assert_array_equal(copies(frame)["y"], now["y"])


def test_a_still_sprite_is_drawn_the_same_from_the_cache() -> None:
    sprite = sprite_of((10, 200, 90, 130))
    first, second, moved = flat("yuv420p"), flat("yuv420p"), flat("yuv420p")
    for frame, x in ((first, 20.25), (second, 20.25), (moved, 23.0)):
        Canvas(frame).draw(sprite, (x, 10.5, x + 20, 30))
    np.testing.assert_array_equal(copies(first)["y"], copies(second)["y"])
    assert (copies(first)["y"] != copies(moved)["y"]).any()
    other = flat("yuv444p")
    Canvas(other).draw(sprite, (20.25, 10.5, 40.25, 30))  # the same place in another format
    assert np.abs(copies(other)["y"].astype(int) - copies(first)["y"]).max() <= 1


def test_shrinking_filters_and_a_turned_edge_is_smooth() -> None:
    fine = np.zeros((160, 160, 4), np.uint8)
    fine[..., 3] = 255
    fine[..., :3] = ((np.indices((160, 160)).sum(0) % 2) * 255)[..., None]
    frame = flat("gray", (64, 64))
    Canvas(frame).draw(Sprite(fine), (12, 12, 52, 52))
    assert np.ptp(copies(frame)["y"][16:48, 16:48].astype(int)) <= 3  # no moiré of the checkerboard
    frame = flat("gray", (64, 64), 0)
    turn = np.deg2rad(20)
    Canvas(frame).draw(
        sprite_of((255, 255, 255, 255), 40, 40),
        np.array([[np.cos(turn), -np.sin(turn), 20], [np.sin(turn), np.cos(turn), 5]]),
    )
    values = np.unique(copies(frame)["y"])
    assert len(values) > 20  # an edge of many levels, not a staircase
    assert abs(copies(frame)["y"].sum() / 255 - 1600) < 25  # and it covers what it should


def test_edges_of_a_box_fall_on_fractions_of_a_pixel() -> None:
    frame = flat("gray", (32, 32), 0)
    Canvas(frame).fill((4.25, 8, 10.5, 20), (255, 255, 255))
    assert copies(frame)["y"][10, 3:12].tolist() == [0, 191, 255, 255, 255, 255, 255, 128, 0]


def test_white_has_reference_brightness_on_hdr() -> None:
    image = av.VideoFrame(64, 48, "yuv420p10le")
    frame = Frame(image, 0, Fraction(1, 25), 1, color=Color("bt2020", False, "pq", 9))
    for view in planes(image, layout("yuv420p10le")).values():
        view[...] = 512
    Canvas(frame).fill((0, 0, 64, 48), (255, 255, 255))
    now = copies(frame)
    nits = pq_to_nits((now["y"].astype(float) - 64) / 876)
    assert np.abs(nits / HDR_WHITE_NITS - 1).max() < 0.02
    assert (np.abs(now["u"].astype(int) - 512) <= 1).all()
    Canvas(frame).fill((0, 0, 64, 48), (255, 0, 0))
    assert copies(frame)["v"][12, 16] < 700  # BT.709's red is far inside of BT.2020's gamut


def test_what_lies_outside_the_picture_changes_nothing() -> None:
    frame = flat("yuv420p")
    was = copies(frame)
    canvas = Canvas(frame)
    canvas.draw(sprite_of((255, 0, 0, 255)), (-80, 5, -40, 25))
    canvas.fill((200, 0, 220, 30), (255, 0, 0))
    canvas.blur(np.array([[5.0, 0, -40], [0, 5.0, 20]]), 4)
    canvas.pixelate(np.array([[5.0, 0, 20], [0, 5.0, 400]]), 4)
    assert canvas.frame is frame
    canvas.draw(sprite_of((255, 0, 0, 255)), (90, 50, 130, 90))  # partly
    assert copies(frame)["y"][60, 96] != was["y"][60, 96]


def test_a_format_is_checked() -> None:
    with pytest.raises(UsageError, match="nothing can be drawn into rgb8"):
        Canvas(flat("rgb8"))


# -- veils ------------------------------------------------------------------------------------------------------


def scene(fmt: str = "yuv420p", **more) -> tuple[Frame, Face]:
    picture, points = portrait(640, 360, blur=0, scale=1.2, **more)
    image = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=fmt)
    return Frame(image, 0, Fraction(1, 25), 1, color=color_for(fmt)), face_at(points)


def likeness(a: np.ndarray, b: np.ndarray, face: Face) -> float:
    """What a recogniser could go by: the correlation of eyes, nose and mouth (details of a twentieth to a fifth of the
    face's width) on the aligned face."""
    onto = invert(compose(display_from_face(face), scaling(4, 4)))  # 128 pixels
    crops = [
        cv2.warpAffine(picture.astype(np.float32), onto, (128, 128), flags=cv2.INTER_AREA)[28:120, 30:98]
        for picture in (a, b)
    ]
    bands = [cv2.GaussianBlur(crop, (0, 0), 1.5) - cv2.GaussianBlur(crop, (0, 0), 5) for crop in crops]
    return float(np.corrcoef(bands[0].ravel(), bands[1].ravel())[0, 1])


@pytest.mark.parametrize("fmt", ["yuv420p", "nv12", "yuv422p10le", "gray", "rgb24", "yuyv422"])
@pytest.mark.parametrize("how", ["blur", "pixelate"])
def test_a_veil_leaves_nothing_to_recognise_and_the_rest_alone(fmt: str, how: str) -> None:
    frame, face = scene(fmt)
    gray, was = frame.image.to_ndarray(format="gray").copy(), copies(frame)
    disc, width = covering(face), 320 * np.hypot(*display_from_face(face)[:, 0])
    if how == "blur":
        Canvas(frame).blur(disc, 0.22 * width)
    else:
        Canvas(frame).pixelate(disc, width / 5)
    veiled = frame.image.to_ndarray(format="gray")
    noisy = gray + np.random.default_rng(1).normal(0, 8, gray.shape)
    assert likeness(gray, noisy, face) > 0.95
    assert likeness(gray, cv2.GaussianBlur(gray, (0, 0), 0.05 * width), face) > 0.65  # a weak blur hides nothing
    assert likeness(gray, veiled, face) < 0.4
    detail = [np.abs(cv2.Laplacian(picture, cv2.CV_64F)[150:200, 290:350]).mean() for picture in (gray, veiled)]
    assert detail[1] < 0.5 * detail[0]  # a mosaic has edges of its own
    form = layout(fmt)
    for role, view in copies(frame).items():
        to_plane = plane_matrix((640, 360), frame.display, subsampling=form.role_subsampling(role))
        onto = invert(compose(to_plane, disc))
        at = np.stack(np.meshgrid(np.arange(view.shape[1]) + 0.5, np.arange(view.shape[0]) + 0.5), -1)
        radius = np.hypot(*np.moveaxis(apply(onto, at), -1, 0))
        np.testing.assert_array_equal(view[radius > 1.06], was[role][radius > 1.06], err_msg=role)


@pytest.mark.parametrize("mesh", [False, True])
def test_the_covered_part_holds_the_whole_face(mesh: bool) -> None:
    _, face = scene()
    corners = face.box.reshape(2, 2)
    if mesh:  # an oval of points, tilted
        t = np.linspace(0, 2 * np.pi, 478)
        oval = apply(display_from_face(face), np.stack([256 + 150 * np.cos(t), 290 + 190 * np.sin(t)], 1))
        oval[:5] = face.points
        full = np.concatenate([oval, np.zeros((478, 1))], 1)
        # The points by which a mesh is aligned have to be those of a face.
        from rtface.geometry.alignment import RIGID, RIGID_TEMPLATE

        full[RIGID, :2] = apply(display_from_face(face), RIGID_TEMPLATE[:, :2])
        face = Face(1, face.box, face.points, full)
        edge = oval
    else:
        (x0, y0), (x1, y1) = corners
        edge = np.array([[x0, (y0 + y1) / 2], [x1, (y0 + y1) / 2], [(x0 + x1) / 2, y0], [(x0 + x1) / 2, y1]])
    for margin, limit in ((0.0, INNER), (0.2, INNER / 1.15)):
        radius = np.linalg.norm(apply(invert(covering(face, margin)), edge), axis=1)
        assert radius.max() <= limit + 1e-9


def test_tiles_are_flat_and_lie_on_a_grid_of_the_picture() -> None:
    frame, face = scene("yuv420p")
    Canvas(frame).pixelate(covering(face), 16)
    luma, chroma = copies(frame)["y"], copies(frame)["u"]
    x, y = (int(v) // 16 * 16 for v in face.points[2])
    for row, column in product((y - 16, y, y + 16), (x - 16, x, x + 16)):
        assert np.ptp(luma[row : row + 16, column : column + 16].astype(int)) == 0
        assert np.ptp(chroma[row // 2 : row // 2 + 8, column // 2 : column // 2 + 8].astype(int)) == 0


def test_a_blur_does_not_flicker_at_subpixel_motion() -> None:
    values = []
    for n in range(8):
        frame, face = scene("gray", shift=(0.25 * n, 0.0))
        Canvas(frame).blur(covering(face), 12.0)
        x, y = face.points[2]
        gray = frame.image.to_ndarray(format="gray").astype(np.float32)
        values.append(cv2.getRectSubPix(gray, (9, 9), (x, y)).mean())
    assert np.abs(np.diff(values)).max() < 0.8


def test_samples_of_another_picture_are_shown_as_they_are() -> None:
    for fmt, display in (
        ("yuv420p", Display()),
        ("yuv420p", Display(1)),
        ("nv12", Display(3, True)),
        ("yuyv422", Display()),
        ("rgb24", Display(2)),
    ):
        frame, _ = scene(fmt)
        frame = Frame(frame.image, 0, Fraction(1, 25), color=frame.color, display=display)
        other, _ = scene(fmt, shift=(30.0, 4.0))
        canvas = Canvas(frame)
        was, form = copies(frame), layout(fmt)
        canvas.show(other.image, (0, 0, canvas.width / 2, canvas.height))
        for role, view in copies(frame).items():
            sub = form.role_subsampling(role)
            ys, xs = np.mgrid[: view.shape[0], : view.shape[1]] + 0.5
            back = invert(plane_matrix((640, 360), display, subsampling=sub))
            left = apply(back, np.stack([xs, ys], -1))[..., 0] < canvas.width / 2
            near = np.abs(apply(back, np.stack([xs, ys], -1))[..., 0] - canvas.width / 2) < 2
            np.testing.assert_array_equal(view[left & ~near], copies(other)[role][left & ~near])
            np.testing.assert_array_equal(view[~left & ~near], was[role][~left & ~near])
