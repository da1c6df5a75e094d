"""Reads and writes AAC headers (ISO 14496-3): ADTS for a frame, AudioSpecificConfig for a stream."""

from __future__ import annotations

from rtface.media.formats.coded_headers.bits import Bits

RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_LOW_COMPLEXITY, _SBR, _PARAMETRIC_STEREO = 2, 5, 29
_HEADER_BYTES = 7


def adts_config(data: bytes) -> tuple[bytes, int]:
    """Returns the AudioSpecificConfig and length of a frame's ADTS header. Returns (b"", 0) if it has none."""
    if len(data) < _HEADER_BYTES or data[0] != 0xFF or data[1] & 0xF6 != 0xF0:
        return b"", 0
    object_type, rate_index = (data[2] >> 6) + 1, data[2] >> 2 & 15
    channels = (data[2] & 1) << 2 | data[3] >> 6
    return _pack_config(object_type, rate_index, channels), _HEADER_BYTES if data[1] & 1 else 9


def config_for(rate: int, channels: int) -> bytes:
    """Returns an AAC-LC AudioSpecificConfig. Returns b"" if ADTS has no code for the rate or channels."""
    channel_code = {8: 7}.get(channels, channels)
    if rate not in RATES or not 1 <= channel_code <= 7 or channels == 7:
        return b""
    return _pack_config(_LOW_COMPLEXITY, RATES.index(rate), channel_code)


def plain_config(extradata: bytes) -> bytes:
    """Removes extensions from an AudioSpecificConfig, for ADTS. Decoders still find SBR and parametric stereo in the
    frames. Returns b"" if ADTS cannot express the object type, the rate, or frames of 960 samples."""
    if len(extradata) < 2:
        return b""
    bits = Bits(extradata[:8].ljust(8, b"\0"))
    object_type, rate_index, channels = bits.take(5), bits.take(4), bits.take(4)
    if object_type in (_SBR, _PARAMETRIC_STEREO):
        if rate_index == 15 or bits.take(4) == 15:
            return b""
        object_type = bits.take(5)
    short_frames, depends_on_core, extended = bits.take(1), bits.take(1), bits.take(1)
    if (
        not 1 <= object_type <= 4
        or rate_index >= len(RATES)
        or not 1 <= channels <= 7
        or short_frames
        or depends_on_core
        or extended
    ):
        return b""
    return _pack_config(object_type, rate_index, channels)


def of_config(config: bytes) -> tuple[int, int]:
    """Returns the rate and channels of an AudioSpecificConfig without extensions."""
    value = int.from_bytes(config[:2], "big")
    channels = value >> 3 & 15
    return RATES[value >> 7 & 15], 8 if channels == 7 else channels


def adts_frame(config: bytes, body: bytes) -> bytes:
    """Puts an ADTS header before an AAC frame. `config` has no extensions."""
    value = int.from_bytes(config[:2], "big")
    object_type, rate_index, channels = value >> 11, value >> 7 & 15, value >> 3 & 15
    size = len(body) + _HEADER_BYTES
    return (
        bytes(
            [
                0xFF,
                0xF1,
                object_type - 1 << 6 | rate_index << 2 | channels >> 2,
                (channels & 3) << 6 | size >> 11,
                size >> 3 & 255,
                (size & 7) << 5 | 31,
                0xFC,
            ]
        )
        + body
    )


def _pack_config(object_type: int, rate_index: int, channels: int) -> bytes:
    return (object_type << 11 | rate_index << 7 | channels << 3).to_bytes(2, "big")
