"""Decoding on a GPU, and going over to software wherever the GPU cannot do what software can."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import av
import numpy as np
from av.stream import Stream
from av.video.stream import VideoStream

from rtface.errors import DeviceLost
from rtface.media.cuda.driver import told
from rtface.util.av_arrays import plane_rows
from rtface.util.av_gpu import FORMATS, native_format, on_gpu, repacked, software

# What a decoder gives in software, and what the same stream is on a GPU.
ON_GPU = {"yuv420p": "nv12", "yuvj420p": "nv12", "yuv420p10le": "p010le"}
# Compressed frames kept so that software can take over in the middle: two groups of pictures, and no fewer than a
# decoder may hold back; but never more bytes than this.
KEPT_FRAMES, KEPT_BYTES = 40, 128 << 20
# Frames that software may be ahead of the GPU before the first one is given up on.
_PATIENCE = 16


class Context(Protocol):
    """The part of av.VideoCodecContext that decodes; the tests have another."""

    def decode(self, packet: Any = None) -> list[av.VideoFrame]: ...


class GpuDecoder:
    """Decodes the packets of a stream on the GPU; in software once the GPU has failed, without losing a frame.

    The first frame is decoded both ways. Where they differ, in a sample, a tag or a time, the GPU is not used:
    that catches cropping at the left and top, which FFmpeg leaves out for GPUs, and whatever else may be wrong with
    GPU or driver. Later the last packets are kept; when the GPU fails, software decodes them again and continues.

    Args:
        stream: what is decoded; its own decoder is the software one.
        gpu: decoder that gives frames on the GPU, with `copy_opaque`.
        format: of their samples, "nv12" or "p010le"; frames that software decodes instead get it too.
        keep: whether frames stay on the GPU; else they come out in memory of the host.
        settle: waits until the GPU has done what was asked for.
        refused: called once with the reason, in a few words, why software continues.

    Attributes:
        state: "proving" until the first frame, then "gpu" or "software".
        first: the first frame as software decoded it, with everything that the container says of it.
    """

    def __init__(
        self,
        stream: VideoStream,
        gpu: Context,
        format: str,
        *,
        keep: bool,
        settle: Callable[[], None],
        refused: Callable[[str], None],
    ) -> None:
        self._stream, self._gpu, self._format, self._keep = stream, gpu, format, keep
        self._settle, self._refused = settle, refused
        self.state = "proving"
        self.first: av.VideoFrame | None = None
        self._software: list[av.VideoFrame] = []
        self._proven: list[av.VideoFrame] = []
        self._late: list[av.VideoFrame] = []
        self._kept: deque[list[av.Packet[Stream]]] = deque([[]])
        self._kept_bytes = 0
        self._count = 0
        self._given: dict[tuple[int | None, int | None], int] = {}  # frames, and the packet after which they came
        # FFmpeg's AV1 for GPUs numbers frames by the packet that codes them, its AV1 for software by the one that
        # shows them; their times are sound.
        self._numbered = stream.codec_context.codec.canonical_name != "av1"
        self._depth = stream.codec_context.reorder_depth
        stream.codec_context.copy_opaque = True

    def decode(self, packet: av.Packet[Any] | None = None) -> list[av.VideoFrame]:
        """Frames, as `VideoStream.decode` gives them; None flushes. Raises av.FFmpegError where software does too."""
        if packet is not None and self.state != "software":
            self._remember(packet)
        if self.state == "proving":
            return self._prove(packet)
        if self.state == "gpu":
            try:
                return self._on_gpu(packet)
            except av.EOFError:
                raise
            except (av.FFmpegError, DeviceLost, MemoryError, _NotOnGpu) as error:
                return self._take_over(told(error), flush=packet is None)
        try:
            images = self._in_software(packet)
        except av.EOFError:
            if not self._late:
                raise
            images = []
        late, self._late = self._late, []
        return late + images

    @property
    def kept(self) -> tuple[int, int]:
        """Bytes of the packets kept for software to take over, and frames known to be given already."""
        return sum(packet.size for group in self._kept for packet in group), len(self._given)

    # -- the first frame --------------------------------------------------------------------------------------

    def _prove(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        why = None
        try:
            self._proven += self._gpu.decode(packet)
            self._settle()
        except av.EOFError:
            pass
        except (av.FFmpegError, DeviceLost, MemoryError) as error:
            why = f"the GPU's decoder fails ({told(error)})"
        try:
            self._software += self._stream.decode(packet)  # pyright: ignore[reportArgumentType]
        except av.FFmpegError:
            if why or packet is None:
                self._late = self._stay_in_software(why or "the GPU gives no frame")
            raise
        if why is None and self._software and self._proven:
            why = _difference(self._software[0], self._proven[0], self._format)
            if why is None:
                return self._go_on_gpu()
        if why or packet is None or len(self._software) > _PATIENCE:
            return self._stay_in_software(why or "the GPU gives no frame")
        return []

    def _stay_in_software(self, why: str) -> list[av.VideoFrame]:
        self._refused(why)
        self.state = "software"
        self._format = ""  # what software gave from the first frame on stays as it is
        images = self._software
        self._forget()
        return images

    def _go_on_gpu(self) -> list[av.VideoFrame]:
        self.state = "gpu"
        self.first = self._software[0]
        self._software = []
        self._stream.codec_context.flush_buffers()  # it holds a dozen frames
        images, self._proven = self._proven, []
        return self._out(images)

    def _forget(self) -> None:
        self._software, self._proven = [], []
        self._kept.clear()
        self._kept_bytes = 0

    # -- on the GPU, and off it --------------------------------------------------------------------------------

    def _remember(self, packet: av.Packet[Stream]) -> None:
        """Keeps a packet and gives it a number, which its frame carries whatever its times are."""
        if packet.is_keyframe and self._kept[-1]:
            self._kept.append([])
        self._count += 1
        packet.opaque = (self._count,)  # a separate object: PyAV 18 finds it by its address
        self._kept[-1].append(packet)
        self._kept_bytes += packet.size
        while len(self._kept) > 2 and (
            self._kept_bytes > KEPT_BYTES or sum(len(group) for group in self._kept) - len(self._kept[0]) >= KEPT_FRAMES
        ):
            self._drop_oldest()
        while self._kept_bytes > KEPT_BYTES:  # not even one group fits: frames will be missing if the GPU fails
            self._drop_oldest()
            if not self._kept:
                self._kept.append([])

    def _drop_oldest(self) -> None:
        self._kept_bytes -= sum(packet.size for packet in self._kept.popleft())
        first = self._count - sum(len(group) for group in self._kept)
        self._given = {mark: packet for mark, packet in self._given.items() if packet > first}

    def _on_gpu(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        images = self._gpu.decode(packet)
        if not images:
            return []
        if any(not on_gpu(image) or native_format(image) != self._format for image in images):
            raise _NotOnGpu("the frames change to something that the GPU does not decode")
        self._settle()
        return self._out(images)

    def _out(self, images: list[av.VideoFrame]) -> list[av.VideoFrame]:
        out = images if self._keep else [software(image) for image in images]
        self._given.update((self._mark(image), self._count) for image in images)
        return out

    def _mark(self, image: av.VideoFrame) -> tuple[int | None, int | None]:
        """The key of a frame, whichever decoder gives it; one packet can bring several, at different times."""
        number: Any = image.opaque
        return number[0] if self._numbered and isinstance(number, tuple) else None, image.pts

    def _take_over(self, why: str, *, flush: bool) -> list[av.VideoFrame]:
        """Decodes the kept packets in software and gives what the GPU has not."""
        self._refused(why)
        self.state = "software"
        context = self._stream.codec_context
        context.flush_buffers()
        context.reorder_depth = self._depth  # a flush forgets it, and then frames would be dropped
        packets = [packet for group in self._kept for packet in group]
        self._forget()
        images: list[av.VideoFrame] = []
        last: av.FFmpegError | None = None
        for packet in [*packets, None] if flush else packets:
            last = None
            try:
                images += self._in_software(packet)
            except av.EOFError:
                pass
            except av.FFmpegError as error:
                last = error
        if last is not None:  # software cannot decode the newest packet either: the file is damaged there
            self._late = images
            raise last
        return images

    def _in_software(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        """Software's frames without those that the GPU has given; threads let some of them come late."""
        images = self._stream.decode(packet)  # pyright: ignore[reportArgumentType]
        return [
            repacked(image, self._format) if self._format and image.format.name in ON_GPU else image
            for image in images
            if self._mark(image) not in self._given
        ]


class _NotOnGpu(Exception):
    pass


def _difference(have: av.VideoFrame, gpu: av.VideoFrame, format: str) -> str | None:
    """What the GPU's frame does not share with software's, in a few words; None where they are the same."""
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
        for i in (have, gpu)
    ]
    if tags[0] != tags[1]:
        return f"the GPU reports other properties of its frames ({tags[1]}, not {tags[0]})"
    unit = FORMATS[format] // 8
    for one, other in zip(repacked(have, format).planes, software(gpu).planes, strict=True):
        used = -(-have.width // 2) * 2 * unit if one.width < have.width else have.width * unit
        if not np.array_equal(plane_rows(one)[:, :used], plane_rows(other)[:, :used]):
            return "the GPU decodes other samples than software does"
    return None
