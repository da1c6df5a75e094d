"""What `test_microphone.py` runs inside a machine with a sound card that hears itself (snd-aloop)."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import av
import numpy as np

from rtface.errors import RtfaceError
from rtface.live.protocols import SoundPacket
from rtface.live.sources import read_process
from rtface.live.sources.sound_sources import open_sound_source

# An emulated machine, on a busy one, takes long to start a process.
read_process.START_S, read_process.OPENING = 200.0, 60.0  # pyright: ignore
CONFIG = {"ALSA_CONFIG_PATH": "/usr/share/alsa/alsa.conf"}


def play(seconds: float) -> subprocess.Popen[bytes]:
    """A tone into the card's other end, by FFmpeg's alsa in a process of its own."""
    return subprocess.Popen([sys.executable, __file__, "play", str(seconds)])


def player(seconds: float) -> None:
    import os

    os.environ |= CONFIG
    with av.open("plughw:0,1", "w", format="alsa") as box:
        stream: Any = box.add_stream("pcm_s16le", rate=48_000)
        stream.codec_context.layout = "stereo"
        for n in range(round(seconds * 46.875)):
            wave = np.sin(2 * np.pi * 1000 * (np.arange(1024) + n * 1024) / 48_000) * 12_000
            frame = av.AudioFrame.from_ndarray(np.repeat(wave.astype(np.int16), 2)[None], "s16", "stereo")
            frame.sample_rate, frame.pts = 48_000, n * 1024
            for packet in stream.encode(frame):
                box.mux(packet)


def heard(name: str, seconds: float) -> dict[str, Any]:
    source = open_sound_source(name)
    assert source is not None
    sounds: list[tuple[float, SoundPacket]] = []
    enough = threading.Event()

    def take(sound: SoundPacket) -> None:
        sounds.append((time.monotonic(), sound))
        if sounds[-1][0] - sounds[0][0] > seconds:
            enough.set()

    try:
        source.start(take)
    except RtfaceError as error:
        return {"error": str(error), "kind": type(error).__name__}
    enough.wait(seconds + 100)
    described = source.described
    source.close()
    with av.open(io.BytesIO(b"".join(s.data for _, s in sounds)), format="aac") as box:
        samples = np.concatenate([f.to_ndarray()[0] for f in box.decode(audio=0)])
    peak = np.abs(np.fft.rfft(samples)).argmax() * 48_000 / len(samples)
    steps = np.diff([s.time for _, s in sounds])
    return {
        "described": described,
        "count": len(sounds),
        "rate": (len(sounds) - 1) / (sounds[-1][0] - sounds[0][0]),
        "peak": float(peak),
        "loud": float(np.abs(samples).max()),
        "late": max(at - s.time for at, s in sounds),
        "step": [float(steps.min()), float(steps.max())],
    }


if __name__ == "__main__":
    if sys.argv[1] == "play":
        player(float(sys.argv[2]))
    else:
        process = play(250)
        time.sleep(8)
        for name in sys.argv[1:]:
            print(json.dumps([name, heard(name, 4)]), flush=True)
        process.kill()
