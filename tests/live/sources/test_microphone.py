"""Sound that does not come with the pictures."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtface.errors import InputMissing
from rtface.live.devices.microphone import alsa_device
from rtface.live.protocols import SoundPacket
from rtface.live.sources.sound_sources import open_sound_source
from tests.live.servers import program
from tests.live.watching import decoded

CARDS = """\
 0 [PCH            ]: HDA-Intel - HDA Intel PCH
                      HDA Intel PCH at 0x6001108000 irq 145
 1 [Snowball       ]: USB-Audio - Blue Snowball
                      BLUE MICROPHONE Blue Snowball at usb-0000:00:14.0-1, full speed
"""


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


def test_silence_is_paced_and_silent():
    sounds, source = heard("silent", 1.0)
    assert 42 <= len(sounds) <= 48
    assert all(0 <= at - (s.time + s.duration) < 0.1 for at, s in sounds)
    assert all(b.time - a.time == pytest.approx(1024 / 48_000) for (_, a), (_, b) in itertools.pairwise(sounds))
    assert np.abs(decoded([s for _, s in sounds])).max() == 0
    assert source.described == "silence"


def test_none_is_none():
    assert open_sound_source("none") is None


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


def test_alsa_is_asked_for_what_the_user_names():
    assert alsa_device("", CARDS) == "default"
    assert alsa_device("1", CARDS) == "plughw:1"
    assert alsa_device("snowball", CARDS) == "plughw:1"
    assert alsa_device("HDA Intel", CARDS) == "plughw:0"
    assert alsa_device("hw:1,0", CARDS) == "hw:1,0"
    with pytest.raises(InputMissing, match="microphone nobody is not there; rtface devices lists them"):
        alsa_device("nobody", CARDS)


@pytest.mark.skipif(sys.platform != "linux", reason="the words are those for ALSA")
def test_a_microphone_that_is_not_there_is_named():
    source = open_sound_source("nobody")
    assert source is not None
    began = time.monotonic()
    with pytest.raises(InputMissing, match="microphone nobody is not there"):
        source.start(lambda _: None)
    assert time.monotonic() - began < 5
    assert threading.active_count() < 20


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_alsa_in_a_machine_with_a_sound_card():
    cases = Path(__file__).with_name("sound_cases.py")
    done = subprocess.run([program("VM_RUN"), "--timeout", "380", "--no-vivid", "--module", "snd-aloop index=0", "--",
                           sys.executable, str(cases), "plughw:0,0"], capture_output=True, text=True, check=False)
    results = dict(json.loads(line) for line in done.stdout.splitlines())
    assert results["plughw:0,0"]["peak"] == pytest.approx(1000, abs=30), done.stderr
    assert results["plughw:0,0"]["loud"] > 0.2
