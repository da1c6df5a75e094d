"""What MXF (SMPTE ST 377-1, one file for frames and sound: OP1a) holds as FFmpeg writes it.

MXF has no times of frames: they are evenly spaced and begin at 0, and so does the sound, which is PCM of 48 kHz and as
long as the frames (`rtface.media.write.pcm_sound`). H.264 is written without B-frames, whose order of display
FFmpeg does not note in MXF.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import BinaryIO

from rtface.errors import OutputError

ENCODERS = frozenset({"prores_ks", "dnxhd", "ffv1", "libx264", "mpeg2video"})
"""FFmpeg's encoders whose frames MXF holds."""
FIELDLESS = frozenset({"prores_ks", "ffv1"})
"""Of these its muxer writes another field order than they have: progressive frames, or bottom field first."""
ENCODER_OPTIONS = {"libx264": {"bf": "0"}}
_EXACT = {"flac", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_u8", "pcm_bluray", "pcm_dvd"}
_RATES = {Fraction(n, d) for n in (24, 25, 30, 48, 50, 60, 100, 120) for d in (1, Fraction(1001, 1000))}


def muxer_options(rate: Fraction) -> dict[str, str]:
    """Options of FFmpeg's muxer: other rates than those of television (silent films) have to be allowed."""
    return {} if rate in _RATES else {"strict": "unofficial"}


def sound_encoder(codec: str, sample_format: str) -> tuple[str, bool]:
    """The PCM that a sound becomes, and whether its samples stay what they are.

    Args:
        codec: FFmpeg's name of the sound's codec.
        sample_format: FFmpeg's name of its decoded samples.
    """
    short = sample_format.startswith(("s16", "u8"))
    return "pcm_s16le" if short else "pcm_s24le", codec in _EXACT


def check_spacing(shown: str, stem: str, number: int, late: Fraction) -> None:
    """Refuses a frame that is not at its place.

    Args:
        shown: the output as the user named it.
        stem: its name without extension.
        number: of the frame, from 0 on.
        late: frames by which it comes late (negative: early).

    Raises:
        OutputError: it is half a frame or more from its place.
    """
    if abs(late) >= Fraction(1, 2):
        raise OutputError(
            "{path}: MXF holds frames at even distances only, and frame {number} comes {late:.1f} frames "
            "{direction} (a variable frame rate, or missing frames); name the output {stem}.mkv or {stem}.mov, "
            "which keep the times",
            code="mxf_rate",
            path=shown,
            number=number,
            late=abs(float(late)),
            direction="late" if late > 0 else "early",
            stem=stem,
        )


def check_times(shown: str, stem: str, pts: Sequence[int], base: Fraction, rate: Fraction) -> None:
    """`check_spacing` for all frames of a film: their times in units of `base`, rising."""
    for number, time in enumerate(pts):
        check_spacing(shown, stem, number, (time - pts[0]) * base * rate - number)


# -- tags: comments of the material package -------------------------------------------------------------------------

_PREFIX = "comment_"
# Of an input that is MXF itself; these describe that file.
_OWN = ("_ul", "uid", "umid", "company_name", "product_", "application_platform", "toolkit_", "modification_date")
_NAME, _TEXT = 0x5001, 0x5003
_TYPE_BYTES = 17  # byte order and type, in front of a text
_LARGEST_HEADER = 16 << 20


def user_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags under the names by which FFmpeg writes them as comments of the material package."""
    return {
        name if name.startswith(_PREFIX) else _PREFIX + name: text
        for name, text in tags.items()
        if not any(part in name.lower() for part in _OWN)
    }


def rewrite_comments(file: BinaryIO, texts: Mapping[str, str | None]) -> None:
    """Overwrites comments in a finished file of FFmpeg's with texts that are not longer; None leaves an empty one."""
    file.seek(0)
    before = file.read(_LARGEST_HEADER)
    data = bytearray(before)
    for name, text in texts.items():
        named, new = f"{name}\0".encode("utf-16-be"), (text or "").encode("utf-16-le")
        head = struct.pack(">HH", _NAME, len(named)) + named + struct.pack(">H", _TEXT)
        for found in re.finditer(re.escape(head) + b"(..).{%d}" % _TYPE_BYTES, before, re.DOTALL):
            room = int.from_bytes(found[1], "big") - _TYPE_BYTES
            if len(new) <= room:
                data[found.end() : found.end() + room] = new.ljust(room, b"\0")
    if bytes(data) != before:
        file.seek(0)
        file.write(data)
