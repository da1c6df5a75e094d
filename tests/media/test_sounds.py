"""Sounds that a container or an encoder refuses late: found out before the work, and carried where it can be."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtface.errors import OutputError
from rtface.media.formats.adts_headers import adts_frame, plain_config
from rtface.media.formats.pcm import PcmClock
from rtface.media.read.source import FileSource
from rtface.media.write.pcm_sound import PcmFiller
from rtface.media.write.stream_plan import OutputPlan, plan_output
from rtface.stats import Stats
from tests.media.conftest import make_film, passthrough
from tests.media.encoded import coded, film_with_sound


def _planned(source: Path, output: Path, *, strict: bool = False) -> OutputPlan:
    opened = FileSource(source)
    try:
        return plan_output(opened.info, output, strict=strict)
    finally:
        opened.close()


def _sound(path: Path) -> list[av.AudioFrame]:
    with av.open(path) as box:
        return list(box.decode(audio=0))


def _with_adts(folder: Path) -> Path:
    """AAC with a header for the whole stream and another on every packet, as bad muxers leave it."""
    path = folder / "in.nut"
    with av.open(make_film(folder / "in.mp4", sound="aac")) as plain, av.open(path, "w", format="nut") as box:
        targets = [box.add_stream_from_template(stream, opaque=True) for stream in plain.streams]
        config = plain_config(bytes(plain.streams.audio[0].codec_context.extradata))
        for packet in plain.demux():
            if packet.size:
                put = packet if packet.stream.type == "video" else av.Packet(adts_frame(config, bytes(packet)))
                put.pts, put.dts, put.time_base = packet.pts, packet.dts, packet.time_base
                put.stream = targets[packet.stream_index]
                box.mux(put)
    return path


def test_aac_of_broadcasts_is_copied_into_a_transport_stream(media, tmp_path: Path):
    source = media.make_film(tmp_path / "in.ts", sound="aac", mux={"mpegts_flags": "latm"})
    plan = media.passthrough(source, tmp_path / "out.ts")
    assert [(stream.stream.codec, stream.action) for stream in plan.streams] == [("aac_latm", "copy")]
    with av.open(str(tmp_path / "out.ts")) as box:
        assert box.streams.audio[0].codec_context.codec.canonical_name == "aac_latm"


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_aac_with_two_kinds_of_headers_keeps_one(tmp_path: Path, suffix: str) -> None:
    source = _with_adts(tmp_path)
    passthrough(source, tmp_path / f"out{suffix}")
    with av.open(tmp_path / f"out{suffix}") as box:
        assert [stream.type for stream in box.streams] == ["video", "audio"]
    packets = coded(tmp_path / f"out{suffix}", "audio")
    assert packets and not [data for data in packets if data[:2] == b"\xff\xf1"]
    assert len(_sound(tmp_path / f"out{suffix}")) == len(packets)


def test_damaged_headers_of_aac_do_not_end_the_film(tmp_path: Path) -> None:
    data, header = bytearray(make_film(tmp_path / "in.ts", frames=25, sound="aac").read_bytes()), b"\xff\xf1"
    places = [at for at in range(len(data)) if data.startswith(header, at)]
    for at in places[5::5]:
        data[at + 3 + at % 2] ^= 0xFF  # its length
    (tmp_path / "in.ts").write_bytes(data)
    passthrough(tmp_path / "in.ts", tmp_path / "out.mp4")
    assert len(coded(tmp_path / "out.mp4", "audio")) >= 10


@pytest.mark.parametrize(
    ("layout", "becomes"),
    [
        ("2.1", "5.1"),
        ("3.0", "3.0"),
        ("3.1", "5.1"),
        ("4.0", "6.1"),
        ("quad(side)", "quad"),
        ("5.1(side)", "5.1"),
        ("7.0", "7.1"),
    ],
)
def test_every_usual_layout_becomes_opus(tmp_path: Path, layout: str, becomes: str) -> None:
    source = film_with_sound(tmp_path / "in.mov", "pcm_s16le", layout)
    passthrough(source, tmp_path / "out.webm")
    assert _sound(tmp_path / "out.webm")[0].layout.name == becomes


def test_sound_that_no_encoder_takes_stops_before_the_work(tmp_path: Path) -> None:
    source = film_with_sound(tmp_path / "in.mkv", "pcm_s16le", "hexadecagonal")
    with pytest.raises(OutputError, match=r"stream 1 \(audio.*out\.mkv"):
        _planned(source, tmp_path / "out.webm")


@pytest.mark.parametrize(("suffix", "stops"), [(".mkv", False), (".mov", False), (".ts", True), (".webm", True)])
def test_strict_stops_where_lossless_sound_becomes_lossy(tmp_path: Path, suffix: str, stops: bool) -> None:
    source = film_with_sound(tmp_path / "in.mkv", "flac", "stereo")
    if stops:
        with pytest.raises(OutputError, match="flac"):
            _planned(source, tmp_path / f"out{suffix}", strict=True)
    else:
        _planned(source, tmp_path / f"out{suffix}", strict=True)


@pytest.mark.parametrize(("encoder", "suffix"), [("pcm_mulaw", ".mkv"), ("flac", ".mov")])
def test_sound_without_loss_becomes_pcm_of_the_same_samples(tmp_path: Path, encoder: str, suffix: str) -> None:
    source = film_with_sound(tmp_path / ("in.mov" if encoder == "pcm_mulaw" else "in.mkv"), encoder, "stereo")
    plan = passthrough(source, tmp_path / f"out{suffix}")
    assert [stream.encoder for stream in plan.streams] == ["pcm_s16le"]
    before, after = (_samples(_sound(path)) for path in (source, tmp_path / f"out{suffix}"))
    assert np.array_equal(before, after[:, : before.shape[1]])


def _samples(frames: Sequence[av.AudioFrame]) -> np.ndarray:
    return np.concatenate([frame.to_ndarray() for frame in frames], axis=1)


def test_sound_that_its_decoder_keeps_without_a_time_is_written(tmp_path: Path) -> None:
    def rate(box: Any) -> None:
        box.streams.audio[0].bit_rate = 96_000

    source = make_film(tmp_path / "in.wmv", codec="wmv2", sound="wmav2", extra=rate)
    passthrough(source, tmp_path / "out.mkv")
    seconds = [sum(frame.samples for frame in _sound(path)) / 48_000 for path in (source, tmp_path / "out.mkv")]
    assert seconds[1] == pytest.approx(seconds[0], abs=0.05)


def test_damaged_sound_that_is_converted_is_told(tmp_path: Path):
    whole, stats = make_film(tmp_path / "whole.mkv", sound="flac"), Stats()
    passthrough(whole, tmp_path / "out.webm", stats=stats)
    assert not stats.counters["sound_packets_lost"]
    body = coded(whole, "audio")[-1]
    (tmp_path / "in.mkv").write_bytes(whole.read_bytes().replace(body, bytes(len(body))))
    passthrough(tmp_path / "in.mkv", tmp_path / "out.webm", stats=stats)
    assert stats.counters["sound_packets_lost"] == 1 and any("sound" in line for line in stats.warned())


@pytest.mark.parametrize("off_ms", [30, -30])
def test_jitter_of_pcm_makes_sound_no_later(off_ms: int) -> None:
    filler, size = PcmFiller(PcmClock(Fraction(1, 1000), 8000, 1, 0xD5), 60, Stats(logs=False), "out.mov"), 0
    for number in range(500):
        packet = av.Packet(bytes(160))
        packet.pts = number * 20 + (off_ms if number % 50 == 25 else 0)
        packet.time_base = Fraction(1, 1000)
        if number % 50 == 40:
            packet.pts = None
        size += sum(made.size for made in filler.push(packet))
    assert abs(size - 80000) <= 240
