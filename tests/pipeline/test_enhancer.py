"""rtface.Enhancer: pictures in, pictures out."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

import rtface
from rtface.errors import Closed, UsageError
from rtface.pipeline import runtime
from tests.pipeline.fakes import FakeEngine, FakeEngines, face_at, portrait
from tests.pipeline.run_media import Engines


@pytest.mark.usefixtures("engines")
def test_finds_the_face_itself_and_never_writes_into_its_input() -> None:
    picture, _ = portrait(640, 360, scale=1.2)
    before = picture.copy()
    with rtface.Enhancer(grain="none") as e:
        out = e(picture)
        assert len(e.faces) == 1
        x0, y0, x1, y1 = e.faces[0].box
        e.reset()
        assert e.faces == ()
    assert np.array_equal(picture, before)
    changed = np.abs(out.astype(int) - picture).max(axis=2) > 0
    assert out.dtype == np.uint8 and out.shape == picture.shape
    assert changed[int(y0) : int(y1), int(x0) : int(x1)].mean() > 0.3
    # The head is about twice as large as the face.
    dx, dy = (round(0.62 * side) + 2 for side in (x1 - x0, y1 - y0))
    changed[max(int(y0) - dy, 0) : int(y1) + dy, max(int(x0) - dx, 0) : int(x1) + dx] = False
    assert not changed.any()


@pytest.mark.usefixtures("engines")
def test_bgr_is_rgb_with_its_channels_turned() -> None:
    picture, points = portrait()
    with (
        rtface.Enhancer(grain="none", analysis=False) as a,
        rtface.Enhancer(grain="none", analysis=False, format="bgr") as b,
    ):
        rgb = a(picture, faces=[points])
        bgr = b(np.ascontiguousarray(picture[..., ::-1]), faces=[points])
    assert np.array_equal(rgb, bgr[..., ::-1])
    assert not np.array_equal(rgb, picture)


def test_strength_and_enabled_change_between_frames(engines: Engines) -> None:
    picture, points = portrait()
    with rtface.Enhancer(grain="none", analysis=False) as e:
        assert not np.array_equal(e(picture, faces=[points]), picture)
        e.strength = 0.0
        assert np.array_equal(e(picture, faces=[points]), picture)
        e.strength, e.enabled = 1.0, False
        calls = engines.named("fake").calls
        assert np.array_equal(e(picture), picture)
        assert e.faces == () and engines.named("fake").calls == calls
        e.enabled = True
        assert not np.array_equal(e(picture, faces=[face_at(points)]), picture)
        with pytest.raises(UsageError, match="between 0 and 1"):
            e.strength = 1.5


@pytest.mark.usefixtures("engines")
@pytest.mark.parametrize("fmt", ["yuv420p", "nv12", "yuv444p10le", "gray"])
def test_av_frames_stay_in_their_format_with_their_times(fmt: str) -> None:
    picture, points = portrait()
    frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=fmt)
    frame.pts, frame.time_base = 1234, Fraction(1, 600)
    before = [bytes(p) for p in frame.planes]
    with rtface.Enhancer(grain="none", analysis=False) as e:
        out = e(frame, faces=[points])
    assert out is not frame
    assert (out.format.name, out.pts, out.time_base, out.width) == (fmt, 1234, Fraction(1, 600), 320)
    assert [bytes(p) for p in frame.planes] == before
    assert bytes(out.planes[0]) != before[0]


@pytest.mark.usefixtures("engines")
def test_stills_have_no_memory_of_each_other() -> None:
    first, points = portrait(shift=(0.0, 0.0))
    second, _ = portrait(blur=4.0)
    with rtface.Enhancer(grain="none", analysis=False) as e:
        e(first, faces=[points], still=True)
        after_other = e(second, faces=[points], still=True)
    with rtface.Enhancer(grain="none", analysis=False) as e:
        alone = e(second, faces=[points], still=True)
    assert np.abs(after_other.astype(int) - alone).max() <= 1  # the dither's place in time may differ


def test_a_failing_engine_gives_the_picture_back(monkeypatch: pytest.MonkeyPatch) -> None:
    made = FakeEngines(FakeEngine(fail={1}))
    monkeypatch.setattr(runtime, "EngineSet", lambda *a, **k: made)
    picture, points = portrait()
    with rtface.Enhancer(grain="none", analysis=False) as e:
        assert np.array_equal(e(picture, faces=[points]), picture)
        assert e.stats.counters["faults"] == 1
        assert not np.array_equal(e(picture, faces=[points]), picture)


@pytest.mark.usefixtures("engines")
def test_a_closed_enhancer_refuses_frames() -> None:
    picture, points = portrait()
    with rtface.Enhancer() as e:
        e(picture, faces=[points])
    e.close()  # twice is fine
    with pytest.raises(Closed, match="was closed; make a new one"):
        e(picture)
    with pytest.raises(ValueError, match="was closed"):
        e.reset()
    with pytest.raises(Closed), e:
        pass


@pytest.mark.usefixtures("engines")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda e, p, q: e(p.astype(np.float32) / 255), "255"),
        (lambda e, p, q: e(p, faces=[q[:4]]), r"\(5, 2\)"),
        (lambda e, p, q: e(p, faces=[q * np.nan]), "finite"),
        (lambda e, p, q: e(p, time=float("nan")), "time must be a number"),
        (lambda e, p, q: e(p, time="now"), "time must be a number"),
        (lambda e, p, q: setattr(e, "strength", "a"), "strength must be a number between 0 and 1, not 'a'"),
        (lambda e, p, q: e(p, faces=["x"]), r"faces\[0\] must be a Face or"),
        (lambda e, p, q: e(p, faces=[q, np.full((5, 2), 7.0)]), r"faces\[1\] must be .* which do not coincide"),
        (lambda e, p, q: e(p, faces=[face_at(q * 0)]), r"faces\[0\] must be"),
    ],
)
def test_wrong_types_say_the_fix(call: Any, says: str) -> None:
    picture, points = portrait()
    with rtface.Enhancer() as e, pytest.raises(UsageError, match=says):
        call(e, picture, points)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"start": 3}, r"^--start has no effect here: it is for films; leave it out$"),
        ({"compare": "x.mp4"}, r"^--compare has no effect here"),
        ({"grian": "none"}, r"^grian is not an option: the nearest is grain$"),
        ({"fps": float("nan")}, r"^fps must be frames a second"),
        ({"format": "rgba"}, '"bgr"'),
    ],
)
def test_an_enhancer_refuses_options_without_effect(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        rtface.Enhancer(**options)


SIGNALLED = """
import gc, signal
import numpy as np
import rtface

for _ in range(2):  # each with a tracker and an engine of its own
    with rtface.Enhancer(engine="rtface-s") as enhance:
        enhance(np.zeros((64, 96, 3), np.uint8))
    del enhance
    gc.collect()
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(1))
signal.raise_signal(signal.SIGINT)
print("signals:", len(seen))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="OpenVINO sets a signal stack on Linux only")
def test_a_signal_after_an_enhancer_was_closed_is_no_crash() -> None:
    """OpenVINO frees the stack that it gave the main thread for its signal handlers with the last of its objects."""
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "signals: 1"), done.stderr
