"""Returns addresses of frames in GPU memory; copies them for encoders.

Such a frame is an av.VideoFrame whose format is "cuda" and whose samples are nv12 or p010le. FFmpeg has copied it out
of the decoder's own surfaces, so it may be kept indefinitely, and may be written to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

# Formats of frames on a GPU, with the bits of a stored sample.
FORMATS = {"nv12": 8, "p010le": 16}
# In swscale, "full range" on both sides disables range conversion: samples move, values stay.
FULL_RANGE = 2


@dataclass(frozen=True, slots=True)
class GpuPlanes:
    """Holds the addresses of a frame's samples on a GPU.

    Attributes:
        device: number of the CUDA device.
        luma, chroma: device addresses; chroma has half as many rows, with Cb and Cr interleaved.
        luma_pitch, chroma_pitch: bytes from one row to the next.
    """

    device: int
    luma: int
    chroma: int
    luma_pitch: int
    chroma_pitch: int


def on_gpu(image: av.VideoFrame) -> bool:
    """Checks whether a frame's samples are in GPU memory. The host cannot read the planes of such a frame."""
    return image.format.name == "cuda"


def native_format(image: av.VideoFrame) -> str:
    """Returns FFmpeg's pixel format of the samples, on host or GPU."""
    samples = image.sw_format if on_gpu(image) else image.format
    assert samples is not None
    return samples.name


def surface_of(image: av.VideoFrame) -> GpuPlanes:
    """Returns the addresses of a frame on a GPU. Its samples have one of `FORMATS`. The addresses are valid as long as
    the frame is kept. Nothing is copied, and there is no wait, because the decoder has finished the frame."""
    luma, chroma = image.planes
    return GpuPlanes(
        luma.__dlpack_device__()[1],
        luma.buffer_ptr,
        chroma.buffer_ptr,
        luma.line_size,
        chroma.line_size,
    )


def software(image: av.VideoFrame) -> av.VideoFrame:
    """Returns the frame in host memory, with times, tags and side data. A frame in host memory is returned
    unchanged."""
    return image.reformat(format=native_format(image)) if on_gpu(image) else image


def repacked(image: av.VideoFrame, pix_fmt: str) -> av.VideoFrame:
    """Converts a host frame to another layout of the same colour model. Only a lower bit depth changes samples."""
    if image.format.name == pix_fmt:
        return image
    # One thread: with more, the SIMD code of swscale (FFmpeg 8.1) writes past the end of one slice of rows, into the
    # first samples of the next slice. It happened from p010le to yuv420p10le, at widths not divisible by 16.
    out = image.reformat(format=pix_fmt, src_color_range=FULL_RANGE, dst_color_range=FULL_RANGE, threads=1)
    out.color_range, out.colorspace = image.color_range, image.colorspace
    return out
