"""Sound that does not come with the frames."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest

from rtface.live.protocols import SoundPacket
from rtface.live.sources.sound_sources import open_sound_source
from tests.live.watching import decoded


def heard(name: str, seconds: float, **options: Any) -> tuple[list[tuple[float, SoundPacket]], Any]:
    """What comes in a time, and the source, closed."""
    source = open_sound_source(name, **options)
    assert source is not None
    sounds: list[tuple[float, SoundPacket]] = []
    source.start(lambda sound: sounds.append((time.monotonic(), sound)))
    assert source.health.state == "live"
    time.sleep(seconds)
    began = time.monotonic()
    source.close()
    assert time.monotonic() - began < 1
    assert source.health.state == "closed"
    return sounds, source


def test_a_device_is_read_in_time_and_encoded():
    # A stand-in for the platform's device; it runs in the same process, by the same code.
    sounds, source = heard("sine=frequency=1000:sample_rate=44100,arealtime", 3, format="lavfi")
    assert "sound pcm" in source.described
    assert {(s.rate, s.channels) for _, s in sounds} == {(48_000, 1)}
    assert len(sounds) == pytest.approx(3 * 46.875, abs=12)
    assert all(abs(at - s.time) < 0.3 for at, s in sounds)
    steps = [b.time - a.time for (_, a), (_, b) in itertools.pairwise(sounds)]
    assert max(abs(step - 1024 / 48_000) for step in steps) < 0.001
    samples = decoded([s for _, s in sounds])
    assert np.abs(np.fft.rfft(samples)).argmax() * 48_000 / len(samples) == pytest.approx(1000, abs=2)
