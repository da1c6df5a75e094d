"""Sound that does not come with the frames."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from rtface.errors import InputMissing
from rtface.live.devices.capture import alsa_device
from rtface.live.protocols import SoundFormat
from rtface.live.sources.open_source import open_sound_source

CARDS = """\
 0 [PCH            ]: HDA-Intel - HDA Intel PCH
                      HDA Intel PCH at 0x6001108000 irq 145
 1 [Snowball       ]: USB-Audio - Blue Snowball
                      BLUE MICROPHONE Blue Snowball at usb-0000:00:14.0-1, full speed
"""


def test_no_sound_and_silence():
    assert open_sound_source("none") is None
    source = open_sound_source("silent")
    source.start(lambda _: None, lambda sound: pytest.fail("the gap filler makes the silence"))
    assert (source.health.state, source.described, source.sound_format) == ("live", "silence", SoundFormat())
    source.close()
    assert source.health.state == "closed"


def test_alsa_is_asked_for_what_the_user_names():
    assert alsa_device("", CARDS) == "default"
    assert alsa_device("1", CARDS) == "plughw:1"
    assert alsa_device("snowball", CARDS) == "plughw:1"
    assert alsa_device("HDA Intel", CARDS) == "plughw:0"
    assert alsa_device("hw:1,0", CARDS) == "hw:1,0"
    with pytest.raises(InputMissing, match="there is no microphone nobody; 'rtface devices' lists the available ones"):
        alsa_device("nobody", CARDS)


@pytest.mark.skipif(sys.platform != "linux", reason="the words are those for ALSA")
def test_a_microphone_that_is_not_there_is_named():
    source = open_sound_source("nobody")
    assert source is not None
    began = time.monotonic()
    with pytest.raises(InputMissing, match="no microphone nobody"):
        source.start(lambda _: None, lambda _: None)
    assert time.monotonic() - began < 5
    assert threading.active_count() < 20
