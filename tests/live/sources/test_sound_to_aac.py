"""A source's sound in one form: AAC as it is, and decoded and encoded where its form changes."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.live.protocols import SoundFormat
from rtface.live.sources.sound_to_aac import AacConverter, silent_frame
from rtface.media.formats.adts_headers import adts_config, adts_frame, config_for, of_config, plain_config


def tone(path: Path, rate: int, layout: str, seconds: float, hertz: float = 1000.0, codec: str = "aac") -> Path:
    """A file with a tone."""
    with av.open(str(path), "w") as box:
        stream = box.add_stream(codec, rate=rate, layout=layout)
        count = round(seconds * rate)
        wave = (0.3 * np.sin(2 * np.pi * hertz * np.arange(count) / rate)).astype(np.float32)
        channels = {"mono": 1, "stereo": 2}[layout]
        for at in range(0, count, 1024):
            frame = av.AudioFrame.from_ndarray(np.tile(wave[None, at : at + 1024], (channels, 1)), "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            box.mux(stream.encode(frame))
        box.mux(stream.encode(None))
    return path


def samples(data: bytes) -> tuple[int, np.ndarray]:
    """Rate and samples of the first channel, as a player of ADTS gets them."""
    with av.open(io.BytesIO(data), format="aac") as box:
        frames = list(box.decode(audio=0))
        return frames[0].sample_rate, np.concatenate([f.to_ndarray()[0] for f in frames])


def hertz(wave: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(spectrum.argmax()) * rate / len(wave)


@pytest.mark.parametrize("suffix", ["flv", "ts"])
@pytest.mark.parametrize(("rate", "layout"), [(48_000, "stereo"), (44_100, "mono"), (44_100, "stereo")])
def test_aac_of_its_own_form_goes_through_as_it_is(tmp_path: Path, suffix: str, rate: int, layout: str):
    with av.open(str(tone(tmp_path / f"a.{suffix}", rate, layout, 1.0))) as box:
        stream = box.streams.audio[0]
        track = AacConverter(stream)
        assert track.form == SoundFormat(rate, 1 if layout == "mono" else 2)
        packets = [p for p in box.demux(stream) if p.size]
        heard = [h for p in packets for h in track.push(p, 0.0)]
    body = [p if suffix == "ts" else adts_frame(config_for(rate, track.form.channels), p) for p in map(bytes, packets)]
    assert [h.data for h in heard] == body


def joined(path: Path, *parts: Path) -> Path:
    """FLV as a server sends it when another encoder takes over within a connection, two seconds each."""
    data = bytearray(b"FLV\x01\x04\0\0\0\x09" + bytes(4))
    for number, part in enumerate(parts):
        flv, at = part.read_bytes(), 13
        while at < len(flv):
            kind, size, time = flv[at], *(int.from_bytes(flv[at + k : at + k + 3], "big") for k in (1, 4))
            if kind == 8:
                later = (time + 2000 * number).to_bytes(3, "big")
                data += flv[at : at + 4] + later + flv[at + 7 : at + size + 15]
            at += size + 15
    path.write_bytes(data)
    return path


def test_aac_that_changes_within_a_connection_keeps_its_pitch(tmp_path: Path):
    one, other = tone(tmp_path / "a.flv", 48_000, "stereo", 2.0), tone(tmp_path / "b.flv", 44_100, "mono", 2.0)
    with av.open(str(joined(tmp_path / "joined.flv", one, other, one))) as box:
        stream = box.streams.audio[0]
        track = AacConverter(stream)
        heard = [h for p in box.demux(stream) if p.size for h in track.push(p, 0.0)]
    assert {adts_config(h.data)[0] for h in heard} == {config_for(48_000, 2)}
    for begin in (0.0, 2.0, 4.0):
        part = [h.data for h in heard if begin + 0.2 <= (h.stamp or 0.0) < begin + 1.9]
        rate, wave = samples(b"".join(part))
        assert rate == 48_000 and len(wave) / rate == pytest.approx(1.7, abs=0.05)
        assert hertz(wave[4800:], rate) == pytest.approx(1000, abs=3)


def test_configurations_are_read():
    assert of_config(config_for(44_100, 2)) == (44_100, 2) and config_for(48_000, 7) == config_for(47_999, 2) == b""
    # HE-AAC, signalled: 24 kHz with SBR up to 48 kHz; then LC of 960 samples, and a rate without a number.
    he = (5 << 27 | 6 << 23 | 2 << 19 | 3 << 15 | 2 << 10).to_bytes(4, "big")
    assert plain_config(he) == config_for(24_000, 2)
    assert plain_config((2 << 11 | 3 << 7 | 2 << 3 | 4).to_bytes(2, "big")) == b""
    assert plain_config((2 << 11 | 15 << 7).to_bytes(2, "big") + bytes(4)) == b"" == plain_config(b"")
    frame = adts_frame(config_for(48_000, 6), b"x" * 3000)
    assert adts_config(frame) == (config_for(48_000, 6), 7) and len(frame) == 3007


@pytest.mark.parametrize("form", [SoundFormat(), SoundFormat(44_100, 1), SoundFormat(24_000, 6)])
def test_silence_of_every_form_is_silent(form: SoundFormat):
    rate, wave = samples(silent_frame(form) * 10)
    assert rate in (form.rate, 2 * form.rate) and not wave.any()
    assert adts_config(silent_frame(form))[0] == config_for(form.rate, form.channels)
    assert silent_frame(SoundFormat(48_000, 7)) == b""
