"""What MXF (SMPTE ST 377-1, one file for frames and sound: OP1a) holds as FFmpeg writes it.

MXF has no times of frames: they are evenly spaced and begin at 0, and so does the sound, which is PCM of 48 kHz and as
long as the frames (`rtface.media.pcm_sound`). H.264 is written without B-frames, whose order of display FFmpeg does not
note in MXF.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from rtface.errors import OutputError

ENCODERS = frozenset({"prores_ks", "dnxhd", "ffv1", "libx264"})
"""FFmpeg's encoders whose frames MXF holds."""
ENCODER_OPTIONS = {"libx264": {"bf": "0"}}
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
    exact = codec in ("flac", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_u8", "pcm_bluray",
                      "pcm_dvd")
    return "pcm_s16le" if short else "pcm_s24le", exact


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
        raise OutputError(f"{shown}: MXF holds frames at even distances only, and frame {number} comes "
                          f"{abs(float(late)):.1f} frames {'late' if late > 0 else 'early'} (a variable frame rate, or "
                          f"missing frames); name the output {stem}.mkv or {stem}.mov, which keep the times")


def check_times(shown: str, stem: str, pts: Sequence[int], base: Fraction, rate: Fraction) -> None:
    """`check_spacing` for all frames of a film: their times in units of `base`, rising."""
    for number, time in enumerate(pts):
        check_spacing(shown, stem, number, (time - pts[0]) * base * rate - number)


def user_tags(tags: dict[str, str]) -> dict[str, str]:
    """Tags under the names by which FFmpeg writes them as comments of the material package."""
    return {f"comment_{name}": text for name, text in tags.items()}
