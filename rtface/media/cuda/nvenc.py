"""Chooses between NVENC and software encoders before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rtface.errors import UsageError
from rtface.media.cuda import driver
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.read.hardware import gpu_number
from rtface.media.read.media_info import MediaInfo
from rtface.media.write.codec import ALIASES, default_encoder, lossy_notes, plan_video
from rtface.media.write.encoders import SPEEDS, EncoderRefused, VideoPlan, check
from rtface.util.av_gpu import FORMATS

_SOFTWARE = {"h264_nvenc": "libx264", "hevc_nvenc": "libx265", "av1_nvenc": "libsvtav1"}
_GPU = {software: gpu for gpu, software in _SOFTWARE.items()}
# Values of ``--codec`` that name standards, not encoders.
_STANDARDS = ("h264", "avc", "h265", "hevc", "av1")


@dataclass(frozen=True, slots=True)
class Encoding:
    """The value of ``--encode``, and the GPU to use.

    Attributes:
        mode: "cuda" or "software" if the user chose it. "auto" uses the GPU encoder if the frames are already on the
            GPU and this loses nothing.
        device: number of the CUDA device.
    """

    mode: Literal["auto", "cuda", "software"] = "auto"
    device: int = 0


def encoding(encode: Literal["auto", "cuda", "software"], device: str) -> Encoding:
    """Resolves ``--encode`` for a run's device ("cpu", "cuda", "cuda:N" …)."""
    return Encoding(encode, gpu_number(device) or 0)


def choose_encoder(
    info: MediaInfo,
    format: str,
    supported: set[str],
    *,
    codec: str | None,
    crf: float | None,
    preset: str | None,
    wanted: Encoding,
    keep: bool = False,
) -> tuple[VideoPlan, str | None]:
    """Plans an encoder and tests that it opens. Also returns a note if software replaces the GPU.

    Args: those of `codec.plan_video`. An NVENC encoder as `codec` also requests the GPU. `keep` is set for a run's
        main output, which keeps the class of the input's coding if possible, and otherwise warns.

    Raises:
        UsageError: the errors of `codec.plan_video`; or the codec contradicts ``--encode``.
    """
    name = _gpu_encoder(info, format, supported, codec, crf, wanted)
    if name is None:
        plan = plan_video(info, format, supported, codec=codec, crf=crf, preset=preset, keep=keep, say=keep)
        try:
            check(plan)
        except UsageError:
            fallback = plan_video(info, format, supported, codec=codec, crf=crf, preset=preset, say=keep)
            if fallback.encoder == plan.encoder:
                raise
            check(fallback)  # for example, DNxHR cannot store fields
            return fallback, None
        return plan, None
    try:
        plan = plan_video(info, format, supported, codec=name, crf=crf, preset=preset)
        if plan.warnings and not names_gpu(codec):
            raise EncoderRefused(plan.warnings[0])
        plan.warnings += lossy_notes(plan, info) if keep else []
        _test_encoder(plan, info, wanted.device)
    except EncoderRefused as error:
        software = default_encoder(info, format, supported) if codec is None else _SOFTWARE[name]
        if software == "libsvtav1" or preset in SPEEDS.values():
            preset = None  # the software encoder does not have this preset
        plan = plan_video(info, format, supported, codec=software, crf=crf, preset=preset, say=keep)
        check(plan)
        return plan, f"{name} cannot be used ({error}); {plan.encoder} encodes instead"
    return plan, None


def names_gpu(codec: str | None) -> bool:
    """Tells whether ``--codec`` is an NVENC encoder."""
    return codec is not None and codec.lower() in _SOFTWARE


def _gpu_encoder(
    info: MediaInfo, format: str, supported: set[str], codec: str | None, crf: float | None, wanted: Encoding
) -> str | None:
    """Returns the NVENC encoder to try, or None for software."""
    codec_name = codec.lower() if codec else None
    if names_gpu(codec):
        if wanted.mode == "software":
            raise UsageError(
                "{--codec:{codec}} and {--encode:software} contradict each other; leave one out",
                code="encode_software",
                codec=codec,
            )
        return codec_name
    if wanted.mode == "software":
        return None
    if codec_name is not None and codec_name not in _STANDARDS:
        if wanted.mode == "cuda":
            raise UsageError(
                "{--codec:{codec}} has no GPU encoder; with {--encode:cuda} choose {codecs}, or leave {--codec} out",
                code="encode_cuda",
                codec=codec,
                codecs=", ".join(_SOFTWARE),
            )
        return None
    if wanted.mode == "auto" and not (info.on_gpu and crf != 0 and info.hdr is None and info.coding.kind == "lossy"):
        return None
    software = ALIASES[codec_name] if codec_name else default_encoder(info, format, supported)
    if codec_name is None and pixel_format_info(info.pix_fmt).bits > 8 and "hevc_nvenc" in supported:
        return "hevc_nvenc"  # most GPUs and many players do not support 10-bit H.264
    gpu = _GPU.get(software)
    if gpu is None and wanted.mode == "cuda":
        gpu = "hevc_nvenc" if "hevc_nvenc" in supported else "av1_nvenc"
    return gpu if gpu in supported else None


def _test_encoder(plan: VideoPlan, info: MediaInfo, device: int) -> None:
    """Tests that the encoder opens. Plans to use frames in GPU memory if their format fits.

    Raises:
        EncoderRefused: the GPU encoder cannot be used.
    """
    why = driver.absent(device)
    if why is None and plan.fields != "progressive":
        why = "GPUs no longer encode interlaced video"
    if why:
        raise EncoderRefused(why)
    plan.device = device
    plan.on_gpu = info.on_gpu and plan.pix_fmt in FORMATS and (plan.width, plan.height) == (info.width, info.height)
    if plan.on_gpu:
        driver.share_primary_context(device)
    check(plan)
