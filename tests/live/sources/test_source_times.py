"""The jitter buffer and the source's clock by scripted arrivals: bursts lose no frame, quiet networks add nothing."""

from __future__ import annotations

import itertools
import random

import pytest

from rtface.live.sources.source_times import LONGEST_S, JitterBuffer, SourceClock

PERIOD = 1 / 30


def arrivals(seconds: float, held: float) -> list[tuple[float, float]]:
    """Stamp and arrival of packets that a network gives out every `held` seconds, all that came meanwhile at once."""
    out = []
    for k in range(round(seconds / PERIOD)):
        made = k * PERIOD
        out.append((made, 100.0 + (held * -(-made // held) if held else made)))
    return out


def shown(packets: list[tuple[float, float]], buffer: JitterBuffer) -> list[float]:
    return [buffer.due(stamp, arrived) for stamp, arrived in packets]


def lost(due: list[float], work: float = 0.02) -> int:
    """Frames that a consumer gives up which takes `work` seconds for each and keeps the newest one only."""
    free, count = 0.0, 0
    for at, following in zip(due, [*due[1:], float("inf")], strict=True):
        begin = max(at, free)
        if following <= begin:
            count += 1
        else:
            free = begin + work
    return count


@pytest.mark.parametrize("held", [0.12, 0.25])
def test_bursts_lose_no_frame(held: float):
    packets = arrivals(20, held)
    assert lost([arrived for _, arrived in packets]) > 0.15 * len(packets)  # without a buffer
    buffer = JitterBuffer()
    due = shown(packets, buffer)
    assert lost(due) == 0
    assert held - PERIOD <= buffer.seconds <= held + 0.02
    late = [at for at, (stamp, _) in zip(due, packets, strict=True) if stamp > 8.0]
    steps = [b - a for a, b in itertools.pairwise(late)]
    assert max(steps) < 1.05 * PERIOD and min(steps) > 0.95 * PERIOD


def test_a_quiet_network_adds_nothing():
    noise = random.Random(1)
    packets = [(k * PERIOD, 5.0 + k * PERIOD + noise.uniform(0, 0.04)) for k in range(900)]
    buffer = JitterBuffer()
    due = shown(packets, buffer)
    assert buffer.seconds == 0.0
    assert all(at - arrived < 0.04 for at, (_, arrived) in zip(due, packets, strict=True))


def test_the_buffer_shrinks_slowly_after_a_burst():
    packets = arrivals(60, 0.0)
    packets[30:38] = [(stamp, packets[38][1]) for stamp, _ in packets[30:38]]
    buffer = JitterBuffer()
    due = shown(packets, buffer)
    assert min(b - a for a, b in itertools.pairwise(due)) > 0.9 * PERIOD
    assert buffer.seconds == 0.0


@pytest.mark.parametrize("rate", [24.5, 26])
def test_a_clock_that_runs_otherwise_is_no_jitter(rate: float):
    packets = [(k / 25, 9.0 + k / rate) for k in range(900)]
    due = shown(packets, JitterBuffer())
    assert all(at - arrived < 0.02 for at, (_, arrived) in zip(due, packets, strict=True))


@pytest.mark.parametrize("stall", [1.5, 4.0])
def test_a_stall_that_no_buffer_holds_is_no_jitter(stall: float):
    packets = [(stamp, max(arrived, 102 + stall) if stamp >= 2 else arrived) for stamp, arrived in arrivals(10, 0.0)]
    buffer = JitterBuffer()
    due = shown(packets, buffer)
    assert due == [arrived for _, arrived in packets] and buffer.seconds == 0.0


def test_a_fixed_buffer_keeps_its_length():
    buffer = JitterBuffer(0.3)
    due = shown(arrivals(5, 0.25), buffer)
    assert due == pytest.approx([100.3 + k * PERIOD for k in range(len(due))])


def test_the_buffer_is_bounded_and_survives_a_new_clock():
    buffer = JitterBuffer()
    shown(arrivals(10, 1.9), buffer)
    assert buffer.seconds == LONGEST_S
    assert buffer.due(5000.0, 300.0) == pytest.approx(300.0 + buffer.seconds)
    assert buffer.due(None, 300.5) >= 300.5


def test_order_is_kept_whatever_stamps_say():
    buffer = JitterBuffer(0.1)
    due = shown([(0.0, 0.0), (0.2, 0.01), (0.1, 0.02), (0.15, 0.03)], buffer)
    assert due == sorted(due)


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
