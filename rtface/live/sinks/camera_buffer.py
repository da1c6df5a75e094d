"""Packs frames for a virtual camera: I420, even sizes, limited-range BT.601.

A virtual camera has no colour metadata, and its readers assume limited-range BT.601 (V4L2 defines it for such devices).
Frames in this format are copied sample for sample. Other frames are converted.
"""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from rtface.frame import Bytes, Color
from rtface.geometry.color_curves import ycbcr_from_rgb
from rtface.util.av_arrays import plane_rows
from rtface.util.av_gpu import software

_SWS = {
    "bt709": Colorspace.ITU709,
    "bt2020": Colorspace.BT2020,
    "smpte240m": Colorspace.SMPTE240M,
    "fcc": Colorspace.FCC,
}
_FULL, _LIMITED = 2, 1
_I420 = "yuv420p"


def even(size: float | Fraction) -> int:
    """Rounds up to the nearest even number, at least 2."""
    return max(2, 2 * -(-round(size) // 2))


class CameraBuffer:
    """A buffer for one frame.

    Attributes:
        width, height: size in samples, both even.
        data: uint8 samples of the three planes, one after the other; width · height · 3/2 in all.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.data: Bytes = np.empty(width * height * 3 // 2, np.uint8)
        luma, chroma = self.data[: width * height].reshape(height, width), self.data[width * height :]
        self._planes = [luma, *chroma.reshape(2, height // 2, width // 2)]
        self._context = VideoReformatter()
        self._area: tuple[int, int, int, int] | None = None
        self.clear()

    def clear(self) -> None:
        """Makes the buffer black."""
        self._planes[0][:] = 16
        for plane in self._planes[1:]:
            plane[:] = 128

    def draw(self, image: av.VideoFrame, color: Color, aspect: Fraction = Fraction(1)) -> None:
        """Writes a frame: unchanged, padded to even sizes, or scaled with bars.

        Args:
            image: a frame in any format that swscale reads.
            color: colour of the frame.
            aspect: aspect ratio of one sample; readers assume square samples.
        """
        image = software(image)
        if (
            color.matrix in _SWS
            and not color.full_range
            and aspect == 1
            and image.format.name == _I420
            and (image.width, image.height) == (self.width, self.height)
        ):
            self._area = None
            self._change_matrix(image, color.matrix)
            return
        area = self._frame_area(image.width * aspect, image.height)
        if area != self._area:
            self.clear()
            self._area = area
        left, top, width, height = area
        same_size = aspect == 1 and (even(image.width), even(image.height)) == (width, height)
        if not same_size or image.format.name != _I420 or color.full_range or color.matrix != "bt601":
            image = self._convert(image, color, None if same_size else (width, height))
        for plane, source in zip(self._planes, image.planes, strict=True):
            step = self.height // plane.shape[0]  # 2 for chroma
            rows, columns = source.height, source.width
            inner = plane[top // step : (top + height) // step, left // step : (left + width) // step]
            inner[:rows, :columns] = plane_rows(source)[:rows, :columns]
            inner[:rows, columns:] = inner[:rows, columns - 1 : columns]  # for luma; chroma is rounded up already
            inner[rows:] = inner[rows - 1]

    def _change_matrix(self, image: av.VideoFrame, matrix: str) -> None:
        """Converts only the matrix. swscale would convert to RGB and back, less exactly and five times as slowly."""
        (_, yu, yv), (_, uu, uv), (_, vu, vv) = ycbcr_from_rgb("bt601") @ np.linalg.inv(ycbcr_from_rgb(matrix))
        yu, yv = yu * 219 / 224, yv * 219 / 224  # in code values
        luma, u, v = (
            plane_rows(plane)[:, : out.shape[1]] for plane, out in zip(image.planes, self._planes, strict=True)
        )
        luma_change = cv2.addWeighted(u, yu, v, yv, -128 * (yu + yv), dtype=cv2.CV_16S)
        cv2.add(luma, cv2.resize(luma_change, (self.width, self.height)), self._planes[0], dtype=cv2.CV_8U)
        for plane, a, b in zip(self._planes[1:], (uu, vu), (uv, vv), strict=True):
            plane[:] = cv2.addWeighted(u, a, v, b, 128 * (1 - a - b))

    def _frame_area(self, width: Fraction, height: int) -> tuple[int, int, int, int]:
        """Returns left, top, width and height of the frame in the buffer."""
        if (even(width), even(height)) == (self.width, self.height):
            return 0, 0, self.width, self.height
        scale = min(self.width / width, Fraction(self.height, height))
        w, h = (min(limit, even(scale * side)) for limit, side in ((self.width, width), (self.height, height)))
        return (self.width - w) // 4 * 2, (self.height - h) // 4 * 2, w, h

    def _convert(self, image: av.VideoFrame, color: Color, size: tuple[int, int] | None) -> av.VideoFrame:
        source = _SWS.get(color.matrix, Colorspace.ITU601)
        # Without exact rounding, swscale's change of matrix loses 4 dB. Without such a change, exact rounding only
        # costs time.
        exact = 0 if source == Colorspace.ITU601 else Interpolation.ACCURATE_RND
        return self._context.reformat(
            image,
            *(size or (None, None)),
            _I420,
            src_colorspace=source,
            dst_colorspace=Colorspace.ITU601,
            src_color_range=_FULL if color.full_range else _LIMITED,
            dst_color_range=_LIMITED,
            interpolation=Interpolation.BILINEAR | exact,
            threads=1,
        )
