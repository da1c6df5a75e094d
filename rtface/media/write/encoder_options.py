"""Options of encoders: quality, speed, slices, memory, HDR metadata."""

from __future__ import annotations

from fractions import Fraction

import av

from rtface.errors import UsageError
from rtface.media.formats.color import HdrMetadata
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.write.encoders import FAMILIES, CodecFamily, VideoPlan, new_context

# Bytes of the frames that libx264 looks ahead, and how many frames its presets look ahead.
_AHEAD_BYTES = 1 << 30
_X264_AHEAD = {"ultrafast": 0, "superfast": 0, "veryfast": 10, "faster": 20, "fast": 30, "medium": 40, "slow": 50}
_SLICES = 16  # of a frame of FFV1
# Each encoder's option for parameters, and in those the mastering display, the light level, and what is set always.
_HDR_OPTIONS = {
    "libx265": ("x265-params", "master-display", "max-cll", "hdr10=1"),
    "libx264": ("x264-params", "mastering-display", "cll"),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
}


def set_quality(plan: VideoPlan, crf: float | None, preset: str | None) -> None:
    """Sets quality and speed, by the names that each encoder has for them."""
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
            crf = 1  # 0 would leave it to the encoder
        plan.options[family.crf] = family.quality if crf is None else f"{crf:g}"
    else:
        plan.lossless = family.lossless is not None
    if preset is not None and family.preset is None:
        raise UsageError("{encoder} has no {--preset}; leave it out", code="encoder_no_preset", encoder=plan.encoder)
    if family.preset is not None:
        plan.options[family.preset] = family.names.get(preset, preset) if preset else family.speed


def set_slices(plan: VideoPlan) -> None:
    """Gives FFV1 16 slices, or the nearest number that opens for frames of an odd size; none to tiny frames.

    FFmpeg's own number depends on the number of threads. Its encoder refuses numbers that would end an odd width or
    height in the middle of a chroma sample, and of 4:1:1 and 4:1:0 leaves out the last samples with some.
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
        except NotImplementedError:  # FFmpeg's answer to a number that does not fit
            continue
        except (av.FFmpegError, ValueError):  # another reason, which `check` tells
            break
        return
    plan.options["slices"] = str(_SLICES)


def _covered(length: int, slices: int, sampling: int) -> bool:
    """Whether FFmpeg's FFV1 slices hold all chroma samples of a row or column: the last one may begin within one."""
    begin = length * (slices - 1) // slices
    return begin // sampling - (begin - length) // sampling >= -(-length // sampling)


def limit_look_ahead(plan: VideoPlan, most: int | None = None) -> None:
    """Bounds libx264's memory: it holds three bytes a sample of every frame that it looks ahead, which with frames of
    90 megapixels would be 10 GB. At the default preset frames up to 4K keep the preset's number, or `most`."""
    usual = _X264_AHEAD.get(plan.options.get("preset", ""), 60)
    ahead = min(_AHEAD_BYTES // (3 * plan.width * plan.height), usual if most is None else most)
    if plan.encoder.startswith("libx264") and ahead < usual:
        plan.options["rc-lookahead"] = str(ahead)


def set_hdr(plan: VideoPlan, hdr: HdrMetadata, *, held: bool) -> None:
    """Static HDR metadata as encoder parameters: FFmpeg takes them from no frame that PyAV hands over. With `held` the
    container has them."""
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
    exact = encoder == "libsvtav1"  # it takes decimal numbers, the others multiples of 0.00002 and 0.0001 cd/m²

    def number(value: Fraction, unit: int) -> str:
        return f"{float(value):.5f}" if exact else str(round(value * unit))

    rx, ry, gx, gy, bx, by, wx, wy = (number(v, 50_000) for v in hdr.primaries)
    dark, bright = (number(v, 10_000) for v in hdr.luminance)
    return f"G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({bright},{dark})"
