"""Sets encoder options: quality, speed, slices, memory, HDR metadata."""

from __future__ import annotations

from fractions import Fraction

import av

from rtface.errors import UsageError
from rtface.media.formats.color import HdrMetadata
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.write.encoders import FAMILIES, CodecFamily, VideoPlan, new_context

# Maximum bytes of libx264's look-ahead frames; number of look-ahead frames of its presets.
_AHEAD_BYTES = 1 << 30
_X264_AHEAD = {"ultrafast": 0, "superfast": 0, "veryfast": 10, "faster": 20, "fast": 30, "medium": 40, "slow": 50}
_SLICES = 16  # slices of an FFV1 frame
# By encoder: its parameter option, the parameters for mastering display and content light level, and constant ones.
_HDR_OPTIONS = {
    "libx265": ("x265-params", "master-display", "max-cll", "hdr10=1"),
    "libx264": ("x264-params", "mastering-display", "cll"),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
}


def set_quality(plan: VideoPlan, crf: float | None, preset: str | None) -> None:
    """Sets quality and speed through the encoder's own options. Raises UsageError if it has none."""
    family = FAMILIES.get(plan.encoder, CodecFamily())
    plan.options |= family.options
    if crf == 0 and family.lossless is not None:
        plan.options |= family.lossless
        plan.options.pop("rc", None)
        plan.lossless = True
    elif crf is not None and family.crf is None:
        raise UsageError(
            "{encoder} has no {--crf}{why}; omit it",
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
        raise UsageError("{encoder} has no {--preset}; omit it", code="encoder_no_preset", encoder=plan.encoder)
    if family.preset is not None:
        plan.options[family.preset] = family.names.get(preset, preset) if preset else family.speed


def set_slices(plan: VideoPlan) -> None:
    """Sets 16 slices for FFV1, or the nearest number that works. Tiny frames keep FFmpeg's default.

    A fixed number makes the output independent of the number of threads, unlike the default. FFmpeg rejects numbers
    that split a chroma sample of an odd width or height; some numbers lose the last samples of 4:1:1 and 4:1:0.
    """
    if plan.encoder != "ffv1" or min(plan.width, plan.height) < 128:
        return
    sampling = pixel_format_info(plan.pix_fmt).sampling
    for number in sorted(range(1, 129), key=lambda number: abs(number - _SLICES)):
        down = next((n for n in range(1, number + 1) if number % n == 0 and n <= number // n <= 2 * n), number)
        if not all(map(_slices_cover, (plan.width, plan.height), (number // down, down), sampling)):
            continue
        plan.options["slices"] = str(number)
        try:
            new_context(plan).open()
        except NotImplementedError:  # FFmpeg raises it for a number that does not fit
            continue
        except (av.FFmpegError, ValueError):  # another reason; `encoders.check` reports it
            break
        return
    plan.options["slices"] = str(_SLICES)


def _slices_cover(length: int, slices: int, sampling: int) -> bool:
    """Tells whether slices cover all chroma samples of a row or column. The last may start inside a sample."""
    begin = length * (slices - 1) // slices
    return begin // sampling - (begin - length) // sampling >= -(-length // sampling)


def limit_look_ahead(plan: VideoPlan, limit: int | None = None) -> None:
    """Limits the memory of libx264's look-ahead: 3 bytes per pixel and frame, 10 GB for 90-megapixel frames. Frames
    up to 4K keep the look-ahead of the default preset. `limit` replaces a preset's number of frames."""
    preset_ahead = _X264_AHEAD.get(plan.options.get("preset", ""), 60)
    ahead = min(_AHEAD_BYTES // (3 * plan.width * plan.height), preset_ahead if limit is None else limit)
    if plan.encoder.startswith("libx264") and ahead < preset_ahead:
        plan.options["rc-lookahead"] = str(ahead)


def set_hdr(plan: VideoPlan, hdr: HdrMetadata, *, in_container: bool) -> None:
    """Passes static HDR metadata as encoder parameters. FFmpeg ignores the metadata of frames from PyAV.
    `in_container` tells whether the container stores the metadata."""
    plan.warnings += [
        f"{kind} metadata that changes from frame to frame is left out; HDR10 metadata is kept" for kind in hdr.dynamic
    ]
    display, light = _display_text(hdr, plan.encoder), hdr.light
    if plan.encoder in _HDR_OPTIONS:
        key, display_key, light_key, *more = _HDR_OPTIONS[plan.encoder]
        display_part = f"{display_key}={display}" if display else ""
        light_part = f"{light_key}={light[0]},{light[1]}" if light else ""
        if parts := [p for p in (plan.options.get(key), display_part, light_part, *more) if p]:
            plan.options[key] = ":".join(parts)
    elif (display or light) and not in_container:
        plan.warnings.append(f"{plan.encoder} cannot carry the HDR mastering metadata; --codec libx265 can")


def _display_text(hdr: HdrMetadata, encoder: str) -> str:
    if hdr.primaries is None or hdr.luminance is None:
        return ""
    decimal = encoder == "libsvtav1"  # the others expect multiples of 0.00002 (colours) and 0.0001 cd/m²

    def number(value: Fraction, unit: int) -> str:
        return f"{float(value):.5f}" if decimal else str(round(value * unit))

    rx, ry, gx, gy, bx, by, wx, wy = (number(v, 50_000) for v in hdr.primaries)
    darkest, brightest = (number(v, 10_000) for v in hdr.luminance)
    return f"G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({brightest},{darkest})"
