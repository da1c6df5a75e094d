"""The jitter buffer, by a scripted clock: bursts lose no frame, quiet networks add nothing."""

from __future__ import annotations

import itertools
import random

import pytest

from rtface.live.sources.source_times import LONGEST_S, JitterBuffer

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
