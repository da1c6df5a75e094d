"""Reads and writes AAC's two headers: ADTS of a frame, AudioSpecificConfig of a stream (ISO 14496-3)."""

from __future__ import annotations

from rtface.media.formats.coded_headers.bits import Bits

RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_LOW_COMPLEXITY, _SBR, _PARAMETRIC_STEREO = 2, 5, 29
_HEADER_BYTES = 7


def adts_config(data: bytes) -> tuple[bytes, int]:
    """Returns the AudioSpecificConfig and length of a frame's ADTS header. (b"", 0) if there is no header."""
    if len(data) < _HEADER_BYTES or data[0] != 0xFF or data[1] & 0xF6 != 0xF0:
        return b"", 0
    kind, rate = (data[2] >> 6) + 1, data[2] >> 2 & 15
    channels = (data[2] & 1) << 2 | data[3] >> 6
    return _config(kind, rate, channels), _HEADER_BYTES if data[1] & 1 else 9


def config_for(rate: int, channels: int) -> bytes:
    """Returns an AAC-LC AudioSpecificConfig. b"" if ADTS has no code for the rate or channels."""
    number = {8: 7}.get(channels, channels)
    if rate not in RATES or not 1 <= number <= 7 or channels == 7:
        return b""
    return _config(_LOW_COMPLEXITY, RATES.index(rate), number)


def plain_config(extradata: bytes) -> bytes:
    """Returns an AudioSpecificConfig without extensions, for ADTS. b"" if ADTS cannot express it: other object
    types, rates without a code, frames of 960 samples. Decoders find SBR and parametric stereo in the frames."""
    if len(extradata) < 2:
        return b""
    bits = Bits(extradata[:8].ljust(8, b"\0"))
    kind, rate, channels = bits.take(5), bits.take(4), bits.take(4)
    if kind in (_SBR, _PARAMETRIC_STEREO):
        if rate == 15 or bits.take(4) == 15:
            return b""
        kind = bits.take(5)
    short_frames, depends_on_core, extended = bits.take(1), bits.take(1), bits.take(1)
    if (
        not 1 <= kind <= 4
        or rate >= len(RATES)
        or not 1 <= channels <= 7
        or short_frames
        or depends_on_core
        or extended
    ):
        return b""
    return _config(kind, rate, channels)


def of_config(config: bytes) -> tuple[int, int]:
    """Returns the rate and channels of a plain AudioSpecificConfig."""
    number = int.from_bytes(config[:2], "big")
    channels = number >> 3 & 15
    return RATES[number >> 7 & 15], 8 if channels == 7 else channels


def adts_frame(config: bytes, body: bytes) -> bytes:
    """Returns an AAC frame with the ADTS header for a plain config."""
    number = int.from_bytes(config[:2], "big")
    kind, rate, channels = number >> 11, number >> 7 & 15, number >> 3 & 15
    size = len(body) + _HEADER_BYTES
    return (
        bytes(
            [
                0xFF,
                0xF1,
                kind - 1 << 6 | rate << 2 | channels >> 2,
                (channels & 3) << 6 | size >> 11,
                size >> 3 & 255,
                (size & 7) << 5 | 31,
                0xFC,
            ]
        )
        + body
    )


def _config(kind: int, rate: int, channels: int) -> bytes:
    return (kind << 11 | rate << 7 | channels << 3).to_bytes(2, "big")
