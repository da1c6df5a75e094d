"""Scales whole frames to RGB with FFmpeg's swscale."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter

_MATRIX = {"bt601": "ITU601", "bt709": "ITU709", "bt2020": "BT2020", "smpte240m": "SMPTE240M", "fcc": "FCC"}


class Swscale:
    """A scaling context that is reused for each frame. PyAV is imported on first use, because the rest of the frame
    path does not need it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context: VideoReformatter | None = None

    def rgb(self, image: av.VideoFrame, size: tuple[int, int], matrix: str, *, full: bool, area: bool) -> av.VideoFrame:
        """Converts the frame to rgb24.

        Args:
            image: any format that swscale reads.
            size: w, h.
            matrix: the YUV matrix, named as in `Color.matrix`.
            full: whether the image's samples have full range.
            area: whether to filter by area (for shrinking) instead of bilinearly.
        """
        from av.video.reformatter import Colorspace, VideoReformatter

        name = _MATRIX.get(matrix)
        with self._lock:
            self._context = self._context or VideoReformatter()
            return self._context.reformat(
                image,
                *size,
                "rgb24",
                src_colorspace=Colorspace[name] if name else None,
                src_color_range="JPEG" if full else "MPEG",
                dst_color_range="JPEG",
                interpolation="AREA" if area else "BILINEAR",
                threads=1,
            )
