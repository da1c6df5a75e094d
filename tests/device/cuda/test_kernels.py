"""The kernels make the crops that the CPU device makes, and their descriptors are what they read."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from rtface.device.cpu.device import CpuDevice
from rtface.device.cuda.crop import CropPlan
from rtface.frame import Color, Display, Float
from rtface.geometry.transforms import scaling, translation
from tests.device.cuda.kernel_runs import Block, cpu_crops, film, form_of, kernel_crops, run, similarity
from tests.pairs import pairs

S = 96
# One of each arrangement of planes, components, subsampling, word and shift; `geometry.planes` is tested for all.
PLANAR = ["yuv420p", "yuv411p", "yuv440p", "yuv410p", "yuva420p", "yuv420p10le", "yuv444p16le", "yuv444p10msble"]
SEMI_PLANAR = ["nv12", "nv21", "nv42", "nv20le", "p010le", "p412le"]
PACKED = ["yuyv422", "uyvy422", "y210le", "ayuv", "vuya", "xv36le", "gray", "gray10le", "ya16le"]
RGB = ["bgr24", "argb", "rgb48le", "bgra64le", "gbrap", "gbrp16le"]
FORMATS = [*PLANAR, *SEMI_PLANAR, *PACKED, *RGB]
DISPLAYS = [
    Display(),
    Display(1),
    Display(2, mirror=True),
    Display(3, aspect=Fraction(16, 11)),
    Display(0, aspect=Fraction(3, 4), fields="tff"),
    Display(0, fields="bff"),
    Display(1, mirror=True, fields="tff"),
]
COLORS = [Color("bt601"), Color("bt709", full_range=True, siting="center"), Color("bt2020", siting="topleft")]


def color_id(value: str | Color) -> str:
    return value if isinstance(value, str) else f"{value.matrix}-{value.siting}-{value.transfer}-{value.primaries}"


def close(got: np.ndarray, wanted: np.ndarray) -> None:
    """The same but for what single precision loses; one value in a thousand may round the other way in 8 bits.

    (Here none does. OpenCV's loops have a fused product or not, by processor.)
    """
    assert got.shape == wanted.shape and np.isfinite(got).all()
    error = np.abs(got - wanted)
    assert (error > 0.01 / 255).mean() < 1e-3 and error.max() < 3 / 255, (error.max() * 255, error.mean() * 255)


def faces(frame, *sides: float, size: int = S) -> Float:
    spots = [(0.45, 0.52, 0.2), (0.9, 0.1, -0.4), (0.02, 0.97, 1.9), (0.5, 0.4, 3.1)]
    return np.stack(
        [similarity(frame, side, size, angle=spots[n % 4][2], at=spots[n % 4][:2]) for n, side in enumerate(sides)]
    )


@pytest.mark.parametrize(("name", "color"), pairs(FORMATS, COLORS, ["yuv420p", "p010le"]), ids=color_id)
def test_crops_are_those_of_the_cpu(name, color, host):
    """Faces smaller than the crop, of about its size, larger (filtered), and over the frame's edge."""
    frame = film(name, color=color)
    matrices = faces(frame, 40.0, 100.0, 150.0, 330.0)
    close(kernel_crops(host, frame, matrices, S), cpu_crops(frame, matrices, S))


@pytest.mark.parametrize(
    ("name", "display"),
    pairs(["yuv420p", "nv12", "p010le", "yuyv422", "rgb24", "gray16le"], DISPLAYS, ["yuv420p"]),
    ids=str,
)
def test_crops_are_turned_mirrored_and_of_one_field(name, display, host):
    for field in (None,) if display.fields == "progressive" else (0, 1):
        frame = film(name, 322, 178, display=display, field=field)
        matrices = faces(frame, 50.0, 120.0, 200.0)
        close(kernel_crops(host, frame, matrices, S), cpu_crops(frame, matrices, S))


@pytest.mark.parametrize(
    ("name", "size"),
    pairs(
        ["yuv420p", "yuv410p", "yuv411p", "nv21", "p016le", "rgb24", "gbrp10le"],
        [(641, 359), (161, 97), (7, 5), (2, 2), (1, 1)],
        ["yuv420p"],
    ),
    ids=str,
)
def test_crops_of_odd_sizes(name, size, host):
    """And frames smaller than a crop; a crop's own side may be odd, too, and it may lie wholly outside the frame."""
    frame = film(name, *size)
    for side in (S, 33):
        outside = translation(5000.0, 0.0), translation(-4000.0, -4000.0), translation(0.0, 1.0 + size[1])
        whole = scaling(side / size[0], side / size[1])
        matrices = np.stack([*faces(frame, 30.0, 90.0, 260.0, size=side), whole, *outside])
        close(kernel_crops(host, frame, matrices, side), cpu_crops(frame, matrices, side))


@pytest.mark.parametrize(
    ("shrink", "name"), pairs([1.07, 1.5, 2.0, 2.5, 4.3, 5.0], ["yuv420p", "yuv411p", "yuv444p10le", "rgba"], [2.5])
)
def test_shrunk_crops_are_filtered_as_on_the_cpu(name, shrink, host):
    frame = film(name, 640, 360, noise=0.15)
    matrices = np.stack([similarity(frame, 64 * shrink, 64, angle=a, at=(0.4 + a, 0.6)) for a in (0.0, 0.3, 1.57)])
    close(kernel_crops(host, frame, matrices, 64), cpu_crops(frame, matrices, 64))


HDR = [
    Color("bt2020", transfer="pq", primaries=9),
    Color("bt2020", transfer="hlg", primaries=9),
    Color("bt709", transfer="pq", primaries=1),
    Color("bt2020", primaries=9),
    Color("rgb", full_range=True, transfer="linear", primaries=9),
]


@pytest.mark.parametrize(
    ("name", "color"),
    pairs(["p010le", "yuv420p10le", "yuv420p", "yuv444p16le", "gbrp12le"], HDR, ["p010le"]),
    ids=color_id,
)
def test_hdr_goes_through_the_curve(name, color, host):
    frame = film(name, color=color)
    matrices = faces(frame, 60.0, 150.0, 250.0)
    close(kernel_crops(host, frame, matrices, S), cpu_crops(frame, matrices, S))
    view = CpuDevice().view(frame)
    natives = np.stack([view.rgb(m, (S, S), native=True) for m in matrices])
    close(kernel_crops(host, frame, matrices, S, native=True), natives)


def test_a_common_crop_is_one_launch(host):
    """Nothing is filtered where no face is larger than its crop; and crops may lie apart."""
    frame = film("nv12", 640, 360)
    matrices = faces(frame, 60.0, 90.0, 100.0)
    plan = CropPlan(frame, form_of(frame), matrices, S)
    block, out = Block(host, frame, plan.parts), host.hold(np.full((3, 4, S, S), np.nan, np.float32))
    job = plan.job(block.surface, block.base, [crop.ctypes.data for crop in out])
    assert plan.scratch == 0 and [(kernel, grid) for kernel, grid, *_ in job.launches] == [("crop", (2, 4, 3))]
    run(host, job)
    close(np.ascontiguousarray(out[:, :3]), cpu_crops(frame, matrices, S))
    assert np.isnan(out[:, 3]).all()
    assert not CropPlan(frame, form_of(frame), np.zeros((0, 2, 3)), S).job(block.surface, block.base, []).launches


def test_bottom_up_frames_are_copied_in_place(host):
    """As `vflip` and raw RGB in AVI hand them out: line sizes are negative."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=320, height=176, format="yuv420p", time_base=Fraction(1, 25))
    flip, sink = graph.add("vflip"), graph.add("buffersink")
    source.link_to(flip)
    flip.link_to(sink)
    graph.configure()
    frame = film("yuv420p")
    source.push(frame.image)
    frame = replace(frame, image=sink.pull())
    assert frame.image.planes[0].line_size < 0
    matrices = faces(frame, 80.0, 100.0)
    close(kernel_crops(host, frame, matrices, S), cpu_crops(frame, matrices, S))
    before = kernel_crops(host, frame, matrices, S)
    block = Block(host, frame, CropPlan(frame, form_of(frame), matrices, S).parts)
    for view in block.views.values():
        view[...] = 9
    block.surface.store(block.views, block.block, block.surface.parts)
    np.testing.assert_array_equal(kernel_crops(host, frame, matrices, S), before)
