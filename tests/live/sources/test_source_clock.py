"""The source's clock on the monotonic one."""

from __future__ import annotations

import itertools
import random

import pytest

from rtface.live.sources.source_times import SourceClock


def test_pictures_and_sound_keep_their_distance():
    clock, noise = SourceClock(), random.Random(1)
    for n in range(500):
        stamp = 100 + n / 25
        arrived = stamp + 5000 + noise.random() * 0.05
        video = clock.time("video", stamp, arrived)
        sound = clock.time("sound", stamp - 0.3, arrived + 0.001)
        assert video - sound == pytest.approx(0.3, abs=1e-3)
    # A network only ever delays: the quickest arrivals tell the offset.
    assert video == pytest.approx(stamp + 5000, abs=0.015)


def test_a_slow_drift_is_followed_without_a_jump():
    clock = SourceClock()
    times = []
    for n in range(25 * 600):  # ten minutes, 200 ppm
        stamp = n / 25
        arrived = 1000 + stamp * 1.0002
        times.append(clock.time("video", stamp, arrived))
    assert times[-1] == pytest.approx(arrived, abs=0.005)
    steps = [b - a for a, b in itertools.pairwise(times)]
    assert min(steps) > 0.039
    assert max(steps) < 0.041


@pytest.mark.parametrize("jump", [-90_000.0, -2.0, 3.0, 86_400.0])
def test_a_jump_of_its_clock_rebases_both(jump: float):
    clock = SourceClock()
    for n in range(100):
        arrived = 50 + n / 25
        assert clock.time("video", n / 25, arrived) == pytest.approx(arrived)
        clock.time("sound", n / 25 - 0.1, arrived)
    for n in range(100, 150):
        arrived = 50 + n / 25
        assert clock.time("video", n / 25 + jump, arrived) == pytest.approx(arrived, abs=0.05)
        late = 0.0 if n < 105 else jump  # the sound from before the jump comes a little later
        assert clock.time("sound", n / 25 - 0.1 + late, arrived) == pytest.approx(arrived - 0.1, abs=0.05)


def test_what_comes_late_after_a_stall_keeps_its_time():
    clock = SourceClock()
    for n in range(50):
        clock.time("video", n / 25, 10 + n / 25)
    for n in range(50, 100):  # all of two seconds at once
        assert clock.time("video", n / 25, 14.0) == pytest.approx(10 + n / 25, abs=0.05)
    assert clock.time("video", 4.04, 14.04) == pytest.approx(14.04, abs=0.05)


def test_a_source_that_stood_still_is_taken_as_late_for_good():
    clock = SourceClock()
    for n in range(50):
        clock.time("video", n / 25, 10 + n / 25)
    for n in range(50, 150):
        time = clock.time("video", n / 25, 15 + n / 25)
    assert time == pytest.approx(15 + 149 / 25, abs=0.05)


def test_without_a_stamp_it_is_the_arrival():
    assert SourceClock().time("video", None, 7.5) == 7.5
