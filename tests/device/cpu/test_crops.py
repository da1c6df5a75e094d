"""Crops and views: the right place, the right colour, no aliasing."""

from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import Interpolation

from rtface.device.cpu.device import CpuDevice
from rtface.frame import Color, Display, Frame
from rtface.geometry.planes import fallback, layout
from rtface.geometry.transforms import compose, display_size, scaling, translation
from rtface.protocols import Device, View
from rtface.util.av_arrays import copy_image, plane_rows
from tests.device.corrections import composite

FORMATS = [
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
    "gbrap",
    "gbrp16be",
]

DISPLAYS = [
    Display(),
    Display(1),
    Display(2, mirror=True),
    Display(3, aspect=Fraction(4, 3)),
    Display(0, aspect=Fraction(1, 2), mirror=True),
]


def smooth_rgb(height: int = 96, width: int = 160, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 8)
    soft = (soft - soft.min()) / (soft.max() - soft.min())
    return (40 + 170 * soft).astype(np.uint8)


def frame_of(rgb: np.ndarray, name: str, color: Color | None = None, display: Display | None = None, **kwargs) -> Frame:
    color = color or Color("bt601")
    planar = "yuv422p" if name in ("yuyv422", "uyvy422") else name  # swscale's own way from RGB to these is rough
    image = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(
        format=planar,
        dst_colorspace={"bt601": "ITU601", "bt709": "ITU709"}.get(color.matrix),
        dst_color_range="JPEG" if color.full_range else "MPEG",
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
    )
    image = image.reformat(format=name)
    image.pts = 0
    return Frame(image, 0, Fraction(1, 25), color=color, display=display or Display(), **kwargs)


@pytest.mark.parametrize("name", FORMATS)
def test_colours_come_out_right(name):
    """Against swscale's way into each format, on a smooth picture."""
    rgb = smooth_rgb()
    for color in (Color("bt601", siting="center"), Color("bt709", full_range=True, siting="center")):
        if name.startswith("yuvj") and not color.full_range:
            continue
        frame = frame_of(rgb, name, color)
        crop = CpuDevice().cut(frame, [(translation(-16.0, -16.0), 64)])[0]
        assert crop.pixels.dtype == np.float32 and crop.pixels.shape == (1, 3, 64, 64)
        found, wanted = crop.pixels[0].transpose(1, 2, 0) * 255, rgb[16:80, 16:80].astype(np.float64)
        error, colours = found - wanted, wanted - wanted.mean(axis=2, keepdims=True)
        colours -= colours.mean(axis=(0, 1))
        if layout(name).subsampling[0] < 4:  # coarser chroma is paler
            assert np.vdot(found, colours) == pytest.approx(np.vdot(wanted, colours), rel=0.012)
        # swscale writes full-range 8-bit chroma half a code too low, up to 1.6 in blue, and 8 bits into 16 as x·256.
        biased = color.full_range and layout(name).kind == "yuv" and layout(name).bits == 8
        assert np.abs(error.mean(axis=(0, 1))).max() < (1.7 if biased else 0.6)
        assert np.abs(error).max() < 7


@pytest.mark.parametrize("display", DISPLAYS, ids=str)
@pytest.mark.parametrize("name", ["yuv420p", "rgb24", "gray"])
def test_views_and_crops_are_upright(name, display):
    upright = smooth_rgb(96, 128)
    if name == "gray":
        upright = upright[..., :1].repeat(3, axis=2)
    picture = upright[:, ::-1] if display.mirror else upright
    picture = np.ascontiguousarray(np.rot90(picture, display.quarter_turns))
    width = int(picture.shape[1] / display.aspect)
    stored = cv2.resize(picture, (width, picture.shape[0]), interpolation=cv2.INTER_AREA)
    frame = frame_of(stored, name, Color("bt601", full_range=True, siting="center"), display)
    device = CpuDevice()
    view: View = device.view(frame)
    assert (view.width, view.height) == (128, 96)
    thumbnail, sx, sy = view.thumbnail(64)
    assert thumbnail.shape == (48, 64, 3) and thumbnail.dtype == np.uint8 and (sx, sy) == (2.0, 2.0)
    wanted = cv2.resize(upright, (64, 48), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(thumbnail - wanted).mean() < 2.0
    whole = view.crop(scaling(0.5, 0.5), (64, 48))
    assert np.abs(whole - wanted).mean() < 1.5
    crop = device.cut(frame, [(translation(-20.0, -10.0), 64)])[0].pixels[0].transpose(1, 2, 0) * 255
    assert np.abs(crop - upright[10:74, 20:84]).mean() < 1.5


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le", "p010le", "yuv420p16be", "gray", "gray12le", "rgb24"])
def test_luma_of_a_region_is_that_of_its_crop(name):
    view = CpuDevice().view(frame_of(smooth_rgb(), name, Color("bt601", full_range=True, siting="center")))
    for matrix in (scaling(0.5, 0.5), translation(-20.0, -10.0)):
        found = view.luma(matrix, (64, 48))
        assert found.shape == (48, 64) and found.dtype == np.uint8
        wanted = cv2.cvtColor(view.crop(matrix, (64, 48)), cv2.COLOR_RGB2GRAY).astype(int)
        assert np.abs(found - wanted).mean() < 1.0


def test_thumbnails_are_never_enlarged():
    view = CpuDevice().view(frame_of(smooth_rgb(), "yuv420p"))
    pixels, sx, sy = view.thumbnail(4000)
    assert pixels.shape == (96, 160, 3) and (sx, sy) == (1.0, 1.0)
    assert view.thumbnail(4000)[0] is pixels


def test_a_view_is_shared_until_the_frame_is_made_writable():
    device, frame = CpuDevice(), frame_of(smooth_rgb(), "yuv420p")
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(template=None, width=160, height=96, format=frame.image.format, time_base=Fraction(1, 25)),
        graph.add("buffersink"),
    ).configure()
    graph.push(frame.image)
    held = graph.pull()  # the same memory: the frame's own moves when it is made writable
    view = device.view(frame)
    was = view.thumbnail(64)[0], view.crop(scaling(0.5, 0.5), (64, 48))
    assert device.view(replace(frame, faces=())) is view
    for other in (
        replace(frame, field=0, display=Display(fields="tff")),
        replace(frame, color=Color("bt709")),
        replace(frame, image=copy_image(frame.image)),
    ):
        assert device.view(other) is not view
    assert device.view(frame) is view
    at = frame.image.planes[0].buffer_ptr
    assert held.planes[0].buffer_ptr == at
    frame.make_writable()
    assert frame.image.planes[0].buffer_ptr != at
    plane_rows(frame.image.planes[0])[:] = 16
    new = device.view(frame)
    assert new.thumbnail(64)[0].max() < was[0].max() and new.crop(scaling(0.5, 0.5), (64, 48)).max() < was[1].max()


def test_a_converted_image_is_not_kept_with_the_frame():
    device, frame = CpuDevice(), frame_of(smooth_rgb(), "x2rgb10le")
    assert device.view(frame) is not device.view(frame)


@pytest.mark.parametrize("fields", ["tff", "bff"])
def test_a_field_shows_its_own_rows(fields):
    """Two moments woven into one frame come apart, each in its own place."""
    early, late = smooth_rgb(seed=1), smooth_rgb(seed=2)
    woven = early.copy()
    first = 0 if fields == "tff" else 1
    woven[1 - first :: 2] = late[1 - first :: 2]
    display = Display(fields=fields)
    for field, moment in ((0, early), (1, late)):
        frame = frame_of(woven, "rgb24", display=display, field=field)
        device = CpuDevice()
        crop = device.cut(frame, [(translation(-16.0, -16.0), 64)])[0].pixels[0].transpose(1, 2, 0) * 255
        assert np.abs(crop - moment[16:80, 16:80]).max() < 4
        thumbnail, sx, sy = device.view(frame).thumbnail(80)
        assert thumbnail.shape == (48, 80, 3) and (sx, sy) == (2.0, 2.0)
        assert np.abs(thumbnail - cv2.resize(moment, (80, 48), interpolation=cv2.INTER_AREA).astype(int)).max() < 4


@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_a_large_face_is_filtered_before_it_is_shrunk(angle):
    """Stripes at the picture's Nyquist, eight times finer than the crop can hold, come out as plain gray."""
    rgb = np.zeros((512, 512, 3), np.uint8)
    rgb[:, ::2] = 255
    frame = frame_of(rgb, "yuv444p", Color("bt601", full_range=True))
    s = 64 / 480
    turn = np.array([(s * np.cos(angle), -s * np.sin(angle), 32.0), (s * np.sin(angle), s * np.cos(angle), 32.0)])
    matrix = compose(turn, translation(-256.0, -256.0))
    inner = CpuDevice().cut(frame, [(matrix, 64)])[0].pixels[0, :, 12:52, 12:52]
    assert np.abs(inner - 0.5).max() < 0.08  # a box of 7 samples holds 3 or 4 white ones; unfiltered it would be 0.5
    seen = CpuDevice().view(frame).crop(matrix, (64, 64))[12:52, 12:52]
    assert np.abs(seen.astype(int) - 128).max() < 20


@pytest.mark.parametrize("shrink", [1.3, 1.6, 2.6])
def test_shrinking_by_a_part_of_a_whole_factor_is_clean_too(shrink):
    """Stripes just above the crop's Nyquist are damped well; far below it they pass."""
    x = np.arange(512) + 0.5
    kept = []
    for cycles_per_crop_pixel in (0.12, 0.75):
        wave = 127.5 + 100 * np.sin(2 * np.pi * cycles_per_crop_pixel * x / shrink)
        if cycles_per_crop_pixel / shrink > 0.5:
            continue
        rgb = np.broadcast_to(wave[None, :, None], (512, 512, 3)).astype(np.uint8).copy()
        crop = CpuDevice().cut(
            frame_of(rgb, "gray", Color("rgb", full_range=True)), [(scaling(1 / shrink, 1 / shrink), 128)]
        )[0]
        kept.append(crop.pixels[0, 0, 16:112, 16:112].std() * 255 / (100 / np.sqrt(2)))
    assert kept[0] > 0.85
    assert len(kept) == 1 or kept[1] < 0.45


def test_outside_the_picture_crops_replicate_and_views_are_black():
    frame = frame_of(np.full((96, 160, 3), 200, np.uint8), "rgb24")
    matrix = translation(40.0, 30.0)
    crop = CpuDevice().cut(frame, [(matrix, 64)])[0]
    np.testing.assert_allclose(crop.pixels, 200 / 255, atol=1e-6)
    seen = CpuDevice().view(frame).crop(matrix, (64, 64))
    assert (seen[:29] == 0).all() and (seen[:, :39] == 0).all() and (seen[31:, 41:] == 200).all()
    far = CpuDevice().cut(frame, [(translation(5000.0, 0.0), 32)])[0]
    np.testing.assert_allclose(far.pixels, 200 / 255, atol=1e-6)


@pytest.mark.parametrize(("transfer", "white"), [("pq", 0.58), ("hlg", 0.75)])
def test_hdr_looks_like_sdr_to_an_engine(transfer, white):
    """The mapping is monotone, reference white comes out bright, and black stays black."""
    ramp = np.broadcast_to((np.arange(160) * 1.6).astype(np.uint8)[None, :, None], (96, 160, 3)).copy()
    frame = frame_of(ramp, "rgb48le", Color("rgb", True, transfer, 9))
    crop = CpuDevice().cut(frame, [(translation(-0.0, -16.0), 64)])[0].pixels[0, 1, 32]
    wide = CpuDevice().view(frame).crop(scaling(1, 1), (160, 64))[32, :, 1].astype(int)
    assert (np.diff(wide) >= 0).all() and wide[0] == 0 and crop[0] < 0.01
    at_white = wide[round(white * 255 / 1.6)]
    assert 200 <= at_white <= 250
    assert wide[-1] >= at_white


def test_every_format_matches_ffmpegs_description():
    known = [name for name in av.video.format.names if layout(name)]
    assert len(known) > 150
    for name in known:
        form, description = layout(name), av.VideoFormat(name)
        parts = [c for c in description.components if not c.is_alpha]
        roles = {"yuv": "yuv", "gray": "y", "rgb": "rgb"}[form.kind]
        assert len(parts) == len(form.components)
        for role, part in zip(roles, parts, strict=True):
            assert part.bits == form.bits and part.plane == form.components[role][0], (name, role)
        sizes = {
            role: (-(-64 // form.role_subsampling(role)[0]), -(-64 // form.role_subsampling(role)[1]))
            for role in form.components
        }
        described = av.VideoFormat(name, 64, 64).components
        for role, part in zip(roles, [c for c in described if not c.is_alpha], strict=True):
            assert (part.width, part.height) == sizes[role], (name, role)


@pytest.mark.parametrize("name", ["pal8", "monob", "bgr565le", "x2rgb10le", "rgb8", "gbrpf32le", "grayf32le"])
def test_other_formats_have_a_supported_neighbour(name):
    assert layout(name) is None
    assert layout(fallback(name)) is not None


def test_bottom_up_pictures_are_read_and_written_in_place():
    """Raw RGB in AVI and the vflip filter hand out planes with negative line sizes."""
    rgb = smooth_rgb()
    graph = av.filter.Graph()
    source = graph.add_buffer(width=160, height=96, format="yuv444p", time_base=Fraction(1, 25))
    flip, sink = graph.add("vflip"), graph.add("buffersink")
    source.link_to(flip)
    flip.link_to(sink)
    graph.configure()
    source.push(frame_of(rgb, "yuv444p", Color("bt601")).image)
    image = sink.pull()
    assert image.planes[0].line_size < 0
    frame = Frame(image, 0, Fraction(1, 25), color=Color("bt601"))
    crop = CpuDevice().cut(frame, [(translation(-16.0, -16.0), 64)])[0].pixels[0].transpose(1, 2, 0) * 255
    assert np.abs(crop - rgb[::-1][16:80, 16:80]).max() < 4
    d = np.full((1, 64, 64, 3), 20 / 255, np.float32)
    out = composite(CpuDevice(), frame, d, np.ones((1, 64, 64), np.float32), translation(-16.0, -16.0)[None])
    after = CpuDevice().cut(out, [(translation(-16.0, -16.0), 64)])[0].pixels[0].transpose(1, 2, 0) * 255
    np.testing.assert_allclose((after - crop)[8:56, 8:56].mean(axis=(0, 1)), 20, atol=0.6)


def test_device_meets_its_protocol():
    device: Device = CpuDevice()
    assert device.name == "cpu"
    assert display_size(720, 576, Display(aspect=Fraction(16, 11))) == pytest.approx((1047.27, 576), abs=0.01)
