"""Before|after: nothing is done unless somebody looks, and what is shown is right."""

from __future__ import annotations

import asyncio
import http.client
import threading
from contextlib import aclosing, contextmanager
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from rtface.concurrency.mailbox import Mailbox
from rtface.config.options import Options
from rtface.device.cpu.device import CpuView
from rtface.device.cpu.swscale import Swscale
from rtface.frame import Color, Display, Frame
from rtface.live.control.control_routes import control_routes
from rtface.live.control.http_server import LocalHttpServer
from rtface.live.control.preview import PairEncoder, Preview
from rtface.live.controls import LiveControls
from rtface.live.frame_filters import FrameFilters
from rtface.stats import Stats
from tests.live.live_fakes import SteppedClock


def frame(value, pts=0, size=(320, 180), **more):
    """A plain gray frame of luma `value`."""
    image = av.VideoFrame(*size, "yuv420p")
    for plane, level in zip(image.planes, (value, 128, 128), strict=True):
        np.frombuffer(plane, np.uint8)[:] = level
    return Frame(image, pts, Fraction(1, 1_000_000), color=Color("bt601"), **more)


def decoded(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


@contextmanager
def shows(preview, first=40, then=200, **more):
    """Shows a pair every 10 ms, and closes the preview."""

    def loop():
        for pts in range(500):
            preview.show(frame(first, pts, **more), frame(then, pts, **more))
            if done.wait(0.01):
                return

    done = threading.Event()
    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        preview.close()


def looked_at(preview, **more):
    """What one viewer sees."""

    async def look():
        async with aclosing(preview.watch()) as pairs:
            with shows(preview, **more):
                return decoded(await newest(pairs))

    return asyncio.run(look())


async def newest(pairs):
    return await anext(pairs) or await anext(pairs)


def test_before_is_left_and_after_is_right():
    found = looked_at(Preview())
    assert found.shape == (180, 640, 3)
    left, right = found[:, :310].mean(), found[:, 330:].mean()
    assert left == pytest.approx((40 - 16) * 255 / 219, abs=3)
    assert right == pytest.approx((200 - 16) * 255 / 219, abs=3)


def test_a_side_has_at_most_640_pixels_and_square_ones():
    assert looked_at(Preview(), size=(1920, 1080)).shape == (360, 1280, 3)
    assert looked_at(Preview(), size=(320, 360), display=Display(aspect=Fraction(2))).shape == (360, 1280, 3)


def test_nothing_is_wanted_or_made_when_nobody_looks():
    pairs = Mailbox()
    preview = Preview(pairs=pairs)
    for pts in range(100):
        assert not preview.wanted
        preview.show(frame(50, pts), frame(90, pts))
    assert "rtface-preview" not in [thread.name for thread in threading.enumerate()]
    assert pairs.take(0) is None

    async def come_and_go():
        async with aclosing(preview.watch()) as pairs:
            assert await anext(pairs) is None
            assert preview.wanted

    asyncio.run(come_and_go())
    assert not preview.wanted
    preview.close()


def test_at_most_thirty_previews_a_second_at_every_rate():
    clock, taken = SteppedClock(50.0), []
    pairs = Mailbox(taken.append)
    pairs.close()  # hands every pair back at once
    preview = Preview(clock, pairs)

    async def look():
        async with aclosing(preview.watch()) as watching:
            await anext(watching)
            for rate, expected in ((60, 30), (30, 30), (25, 25), (10, 10)):
                wanted = 0
                for pts in range(4 * rate):
                    clock.step(1 / rate)
                    due = preview.wanted
                    wanted += due
                    # Also where a stage needed the untouched frame, so that the loop has one though none is wanted.
                    preview.show(frame(20, pts, size=(64, 64)), frame(20, pts, size=(64, 64)))
                    assert len(taken) == due
                    taken.clear()
                assert 4 * expected - 3 <= wanted <= 4 * expected + 2, rate

    asyncio.run(look())
    preview.close()


def test_the_stream_is_motion_jpeg_and_its_end_frees_the_viewer():
    clock = SteppedClock()
    preview = Preview(clock)
    status, filters = SimpleNamespace(controls=LiveControls(), snapshot=dict), SimpleNamespace(preview=preview)
    server = LocalHttpServer(control_routes(status, None, filters), port=0)
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", "/preview.mjpeg")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"].startswith("multipart/x-mixed-replace; boundary=")

    def show():
        clock.step(1.0)
        preview.show(frame(90, int(clock())), frame(90, int(clock())))

    while not preview.wanted:  # the viewer counts a moment after its headers
        pass
    for _ in range(3):
        show()
        head = [answer.readline() for _ in range(4)]
        assert head[0] == b"--rtface-picture\r\n"
        size = int(head[2].split()[1])
        assert decoded(answer.read(size)).shape == (180, 640, 3)
        assert answer.readline() == b"\r\n"
    answer.close()
    connection.close()
    clock.step(1.0)
    while preview.wanted:
        show()
        clock.step(1.0)
    preview.close()
    server.close()
    assert asyncio.run(all_of(preview.watch())) == []


async def all_of(pairs):
    return [pair async for pair in pairs]


def test_a_slate_pairs_with_the_last_frame_of_the_same_time():
    pairs, filters = [], FrameFilters(Options(), Stats())
    filters.preview.close()
    filters.preview = SimpleNamespace(
        wanted=True, show=lambda before, after: pairs.append((before, after)), close=lambda: None
    )
    filters.shown(frame(90, 1, captured_at=1.0))  # nobody wanted it when it came
    assert not pairs
    first = frame(90, 2, captured_at=2.0, before=frame(40).image)
    filters.shown(first)
    filters.shown(frame(95, 3, captured_at=3.0))
    slate = frame(24, 4)
    filters.shown(slate)
    filters.preview.wanted = False
    filters.shown(first)
    assert [(before.image, after) for before, after in pairs] == [(first.before, first), (first.before, slate)]
    filters.close()


def test_a_frame_keeps_its_original_through_the_filters():
    pairs, filters = [], FrameFilters(Options(), Stats())
    filters.preview.close()
    filters.preview = SimpleNamespace(
        wanted=True, show=lambda before, after: pairs.append((before, after)), close=lambda: None
    )
    came = filters.before(frame(40, 2, captured_at=2.0), None, ())
    came.make_writable()
    np.frombuffer(came.image.planes[0], np.uint8)[:] = 90  # the enhancement
    filters.shown(filters.after(came))
    (pair,) = pairs
    assert [int(np.frombuffer(one.image.planes[0], np.uint8)[0]) for one in pair] == [40, 90]
    filters.close()


def colourful(width, height):
    """RGB that changes slowly, of strong colours, other ones in every corner."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.stack([40 + 180 * x, 40 + 180 * y, 220 - 160 * x * y], axis=-1).round().astype(np.uint8)


def coloured(fmt="yuv420p", matrix="bt709", full=False, size=(320, 180)):
    image = av.VideoFrame.from_ndarray(colourful(*size), format="rgb24").reformat(
        format=fmt,
        dst_colorspace={"bt601": "ITU601", "bt709": "ITU709"}[matrix],
        dst_color_range="JPEG" if full else "MPEG",
    )
    return Frame(image, 0, Fraction(1, 1000), color=Color(matrix, full_range=full))


@pytest.mark.parametrize(
    ("fmt", "matrix", "full", "size"),
    [
        ("yuv420p", "bt601", False, (320, 180)),
        ("yuv420p", "bt709", False, (1280, 720)),
        ("yuv420p", "bt709", True, (1922, 1082)),
        ("yuvj422p", "bt601", True, (1280, 720)),
        ("yuvj422p", "bt709", True, (320, 180)),
        ("yuv444p", "bt709", False, (1922, 1082)),
        ("yuv444p", "bt601", True, (320, 180)),
        ("nv12", "bt709", False, (1280, 720)),
        ("yuv420p10le", "bt709", False, (320, 180)),
        ("bgr24", "bt601", True, (1922, 1082)),
    ],
)
def test_colours_are_those_of_the_frame(fmt, matrix, full, size):
    given = coloured(fmt, matrix, full or fmt.startswith("yuvj"), size)
    found = decoded(PairEncoder()(given, given, 640))[..., ::-1].astype(int)
    found = found[:, : found.shape[1] // 2]
    wanted = CpuView(given, Swscale()).thumbnail(640)[0]
    wanted = cv2.resize(wanted, found.shape[1::-1], interpolation=cv2.INTER_LINEAR).astype(int)
    assert abs((found - wanted).mean(axis=(0, 1))).max() < 2.5  # a matrix or range that is mixed up: 8 or more
    assert np.percentile(abs(found - wanted), 99) < 8
