"""Sets encoder options: quality, speed, slices, memory, HDR metadata."""

from __future__ import annotations

from fractions import Fraction

import av

from rtface.errors import UsageError
from rtface.media.formats.color import HdrMetadata
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.write.encoders import FAMILIES, CodecFamily, VideoPlan, new_context

# Most bytes of libx264's look-ahead frames, and the look-ahead of its presets in frames.
_AHEAD_BYTES = 1 << 30
_X264_AHEAD = {"ultrafast": 0, "superfast": 0, "veryfast": 10, "faster": 20, "fast": 30, "medium": 40, "slow": 50}
_SLICES = 16  # slices of an FFV1 frame
# Each encoder's option for parameters, its parameters for mastering display and light level, and fixed parameters.
_HDR_OPTIONS = {
    "libx265": ("x265-params", "master-display", "max-cll", "hdr10=1"),
    "libx264": ("x264-params", "mastering-display", "cll"),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
}


def set_quality(plan: VideoPlan, crf: float | None, preset: str | None) -> None:
    """Sets quality and speed under each encoder's option names."""
    family = FAMILIES.get(plan.encoder, CodecFamily())
    plan.options |= family.options
    if crf == 0 and family.lossless is not None:
        plan.options |= family.lossless
        plan.options.pop("rc", None)
        plan.lossless = True
    elif crf is not None and family.crf is None:
        raise UsageError(
            "{encoder} has no {--crf}; leave it out{why}",
            code="encoder_no_crf",
            encoder=plan.encoder,
            why=" (it is always lossless)" if family.lossless is not None else "",
        )
    elif family.crf is not None:
        if crf == 0 and family.crf == "cq":
            crf = 1  # 0 lets the encoder choose
        plan.options[family.crf] = family.quality if crf is None else f"{crf:g}"
    else:
        plan.lossless = family.lossless is not None
    if preset is not None and family.preset is None:
        raise UsageError("{encoder} has no {--preset}; leave it out", code="encoder_no_preset", encoder=plan.encoder)
    if family.preset is not None:
        plan.options[family.preset] = family.names.get(preset, preset) if preset else family.speed


def set_slices(plan: VideoPlan) -> None:
    """Gives FFV1 16 slices, or the nearest number that works. Tiny frames keep the default.

    FFmpeg's default depends on the number of threads. Its encoder refuses numbers that split a chroma sample of an odd
    width or height, and with some numbers drops the last samples of 4:1:1 and 4:1:0.
    """
    if plan.encoder != "ffv1" or min(plan.width, plan.height) < 128:
        return
    sampling = pixel_format_info(plan.pix_fmt).sampling
    for number in sorted(range(1, 129), key=lambda number: abs(number - _SLICES)):
        down = next((n for n in range(1, number + 1) if number % n == 0 and n <= number // n <= 2 * n), number)
        if not all(map(_covered, (plan.width, plan.height), (number // down, down), sampling)):
            continue
        plan.options["slices"] = str(number)
        try:
            new_context(plan).open()
        except NotImplementedError:  # FFmpeg raises it for a number that does not fit
            continue
        except (av.FFmpegError, ValueError):  # it fails for another reason, which `check` reports
            break
        return
    plan.options["slices"] = str(_SLICES)


def _covered(length: int, slices: int, sampling: int) -> bool:
    """Tells whether FFV1 slices cover a row's or column's chroma samples. FFmpeg's last slice may begin inside one."""
    begin = length * (slices - 1) // slices
    return begin // sampling - (begin - length) // sampling >= -(-length // sampling)


def limit_look_ahead(plan: VideoPlan, most: int | None = None) -> None:
    """Bounds libx264's memory. It holds three bytes per sample of every look-ahead frame: 10 GB for frames of 90
    megapixels. Frames up to 4K keep the number of the default preset. `most` replaces a preset's number."""
    preset_ahead = _X264_AHEAD.get(plan.options.get("preset", ""), 60)
    ahead = min(_AHEAD_BYTES // (3 * plan.width * plan.height), preset_ahead if most is None else most)
    if plan.encoder.startswith("libx264") and ahead < preset_ahead:
        plan.options["rc-lookahead"] = str(ahead)


def set_hdr(plan: VideoPlan, hdr: HdrMetadata, *, held: bool) -> None:
    """Sets static HDR metadata as encoder parameters. FFmpeg ignores metadata on frames from PyAV. `held` tells
    whether the container stores it."""
    plan.warnings += [
        f"{kind} metadata that changes from frame to frame is left out; HDR10 stays" for kind in hdr.dynamic
    ]
    display, light = _display_text(hdr, plan.encoder), hdr.light
    if plan.encoder in _HDR_OPTIONS:
        key, display_key, light_key, *more = _HDR_OPTIONS[plan.encoder]
        display_part = f"{display_key}={display}" if display else ""
        light_part = f"{light_key}={light[0]},{light[1]}" if light else ""
        if parts := [p for p in (plan.options.get(key), display_part, light_part, *more) if p]:
            plan.options[key] = ":".join(parts)
    elif (display or light) and not held:
        plan.warnings.append(f"{plan.encoder} cannot carry the HDR mastering metadata; --codec libx265 can")


def _display_text(hdr: HdrMetadata, encoder: str) -> str:
    if hdr.primaries is None or hdr.luminance is None:
        return ""
    decimal = encoder == "libsvtav1"  # the other encoders take multiples of 0.00002 and 0.0001 cd/m²

    def number(value: Fraction, unit: int) -> str:
        return f"{float(value):.5f}" if decimal else str(round(value * unit))

    rx, ry, gx, gy, bx, by, wx, wy = (number(v, 50_000) for v in hdr.primaries)
    dark, bright = (number(v, 10_000) for v in hdr.luminance)
    return f"G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({bright},{dark})"
