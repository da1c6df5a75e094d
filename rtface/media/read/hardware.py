"""Decides whether a GPU decodes a stream (NVDEC), and opens that decoder."""

from __future__ import annotations

import re
from dataclasses import dataclass

import av
from av.codec.hwaccel import HWAccel

from rtface.media.cuda import driver
from rtface.media.cuda.decoder import ON_GPU, GpuDecoder

# Codecs with bit-exact decoding, so that GPU and software agree. MPEG-2 and MPEG-4 do not specify the rounding.
_CODECS = ("h264", "hevc", "vp8", "vp9", "av1")


@dataclass(frozen=True, slots=True)
class Decoding:
    """The GPU that decodes frames, and whether they stay on it.

    Attributes:
        device: number of the CUDA device.
        keep: whether decoded frames stay on the device; otherwise they are downloaded.
    """

    device: int = 0
    keep: bool = False


def decoding(decode: str, device: str, *, keep: bool = True) -> Decoding | None:
    """Resolves ``--decode`` for a run on a device. None means software.

    Args:
        decode: "auto", "software", "cuda" for the run's GPU (0 if the run uses none), or "cuda:N". "auto" always means
            software: a GPU decoder provides no quantiser map, and frames that stay on the GPU skip the first stage, so
            that faces would be corrected less.
        device: the run's device.
        keep: whether the pipeline can process frames that stay on the GPU.
    """
    requested, run_gpu = gpu_number(decode), gpu_number(device)
    if requested is None:
        return None
    number = run_gpu or 0 if decode == "cuda" else requested
    return Decoding(number, keep and number == run_gpu)


def gpu_number(name: str) -> int | None:
    """Returns N for "cuda:N", 0 for "cuda", None for other names."""
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    return int(match[1] or 0) if match else None


def open_on_gpu(stream: av.VideoStream, decoding_gpu: Decoding) -> GpuDecoder | str:
    """Opens a GPU decoder for an unread stream. Returns the reason if that fails."""
    source = stream.codec_context
    codec, pix_fmt = source.codec.canonical_name, source.pix_fmt or "an unknown format"
    if codec not in _CODECS:
        return f"GPUs are not used for {codec}"
    if pix_fmt not in ON_GPU:
        return f"GPUs are used for 4:2:0 of 8 and 10 bits, not for {pix_fmt}"
    if why := driver.absent(decoding_gpu.device):
        return why
    driver.share_primary_context(decoding_gpu.device)
    try:
        context = open_context(stream, decoding_gpu.device)
    except (av.FFmpegError, NotImplementedError, ValueError) as error:
        return f"the GPU's decoder cannot be opened ({driver.error_text(error)})"
    return GpuDecoder(stream, context, ON_GPU[pix_fmt], device=decoding_gpu.device, keep=decoding_gpu.keep)


def open_context(stream: av.VideoStream, device: int) -> av.VideoCodecContext:
    """Opens a second decoder of a stream, on a GPU. The stream's own decoder uses software. Raises av.FFmpegError."""
    source = stream.codec_context
    # Frames share the primary context with all other libraries, and stay on the GPU until requested.
    accel = HWAccel("cuda", device, options={"primary_ctx": "1"}, is_hw_owned=True, allow_software_fallback=True)
    context = av.VideoCodecContext.create(av.Codec(source.codec.canonical_name, "r"), "r", accel)
    assert isinstance(context, av.VideoCodecContext)
    if not context.is_hwaccel:
        raise NotImplementedError(f"this build of FFmpeg cannot decode {source.codec.canonical_name} on a GPU")
    context.width, context.height = source.width, source.height
    context.pix_fmt = source.pix_fmt  # with PyAV's initial "cuda", FFmpeg's AV1 decoder never asks for the GPU
    context.extradata = source.extradata
    context.codec_tag = source.codec_tag
    context.reorder_depth = source.reorder_depth
    context.color_range, context.colorspace = source.color_range, source.colorspace
    context.color_primaries, context.color_trc = source.color_primaries, source.color_trc
    context.thread_count = 1  # more threads would only occupy surfaces
    return context
