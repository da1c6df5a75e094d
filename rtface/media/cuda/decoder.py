"""Decodes on a GPU if its first frame equals the software decoder's."""

from __future__ import annotations

from typing import Any

import av
import numpy as np

from rtface.errors import DeviceLost, InputError
from rtface.media.cuda import driver
from rtface.util.av_arrays import plane_rows
from rtface.util.av_gpu import FORMATS, native_format, on_gpu, repacked, software

# Pixel formats of software decoders, and the formats in which a GPU decodes the same streams.
ON_GPU = {"yuv420p": "nv12", "yuvj420p": "nv12", "yuv420p10le": "p010le"}
# If software has decoded more frames than this before the GPU returns its first frame, the GPU is not used.
_MAX_AHEAD = 16


class GpuDecoder:
    """Decodes the packets of a stream on the GPU.

    The first frame is decoded by both decoders. If a sample, tag or time differs, software decodes the film. This
    detects faults of the GPU or driver, and cropping at the left or top, which FFmpeg ignores on GPUs.

    Args:
        stream: the stream, with its software decoder.
        gpu: decoder that outputs frames on the GPU.
        format: pixel format of the frames on the GPU, "nv12" or "p010le".
        device: number of the CUDA device.
        keep: whether frames stay on the GPU; otherwise they are downloaded.

    Attributes:
        refusal: reason why software decodes, in a few words; None before the first frame and if the GPU decodes.
        first: the first frame decoded in software, with the container's metadata.
    """

    def __init__(
        self, stream: av.VideoStream, gpu: av.VideoCodecContext, format: str, *, device: int, keep: bool
    ) -> None:
        self._stream, self._gpu, self._format, self._device, self._keep = stream, gpu, format, device, keep
        self.refusal: str | None = None
        self.first: av.VideoFrame | None = None
        self._software_frames: list[av.VideoFrame] = []
        self._gpu_frames: list[av.VideoFrame] = []

    def decode(self, packet: av.Packet[Any] | None = None) -> list[av.VideoFrame]:
        """Decodes a packet to frames like `VideoStream.decode`. None flushes the decoder.

        Raises:
            av.FFmpegError: the packet is damaged, or no frame is left.
            InputError: the GPU failed after the first frame.
        """
        if self.refusal is not None:
            return self._stream.decode(packet)  # pyright: ignore[reportArgumentType]
        if self.first is None:
            return self._compare_first(packet)
        try:
            images = self._on_gpu(packet)
        except (av.EOFError, av.InvalidDataError):
            raise
        except (av.FFmpegError, DeviceLost, MemoryError) as error:
            raise InputError(
                "the GPU stopped decoding ({why}); {--decode:software} decodes without a GPU",
                code="gpu_decoding",
                why=driver.error_text(error),
            ) from error
        return self._deliver(images)

    def _on_gpu(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        images = self._gpu.decode(packet)
        if images:
            driver.settle(self._device)
        return images

    def _deliver(self, images: list[av.VideoFrame]) -> list[av.VideoFrame]:
        return images if self._keep else [software(image) for image in images]

    def _compare_first(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        """Decodes on the GPU and in software. Returns no frames until both have decoded the first one."""
        why = None
        try:
            self._gpu_frames += self._on_gpu(packet)
        except av.EOFError:
            pass
        except (av.FFmpegError, DeviceLost, MemoryError) as error:
            why = f"the GPU's decoder fails ({driver.error_text(error)})"
        self._software_frames += self._stream.decode(packet)  # pyright: ignore[reportArgumentType]
        if why is None and self._software_frames and self._gpu_frames:
            why = _difference(self._software_frames[0], self._gpu_frames[0], self._format)
            if why is None:
                self.first = self._software_frames[0]
                self._stream.codec_context.flush_buffers()  # releases a dozen decoded frames
        if self.first is None and (why or packet is None or len(self._software_frames) > _MAX_AHEAD):
            self.refusal = why or "the GPU returns no frame"
        if self.first is None and self.refusal is None:
            return []
        images = self._software_frames if self.refusal else self._deliver(self._gpu_frames)
        self._software_frames, self._gpu_frames = [], []
        return images


def _difference(expected: av.VideoFrame, gpu: av.VideoFrame, format: str) -> str | None:
    """Describes how a GPU's frame differs from the software decoder's. Returns None if both are equal."""
    if not on_gpu(gpu) or native_format(gpu) != format:
        return "the GPU does not decode this kind of stream"
    tags = [
        (
            i.width,
            i.height,
            int(i.color_range),
            int(i.colorspace),
            int(i.color_primaries),
            int(i.color_trc),
            i.pts,
            i.interlaced_frame,
        )
        for i in (expected, gpu)
    ]
    if tags[0] != tags[1]:
        return f"the GPU's frames have other properties ({tags[1]}, not {tags[0]})"
    unit = FORMATS[format] // 8
    for one, other in zip(repacked(expected, format).planes, software(gpu).planes, strict=True):
        row_bytes = -(-expected.width // 2) * 2 * unit if one.width < expected.width else expected.width * unit
        if not np.array_equal(plane_rows(one)[:, :row_bytes], plane_rows(other)[:, :row_bytes]):
            return "the GPU's samples differ from those of the software decoder"
    return None
