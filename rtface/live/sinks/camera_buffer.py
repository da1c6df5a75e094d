"""Frames packed as a virtual camera takes them: I420 or NV12, even sizes, BT.601 of limited range.

A virtual camera carries no word on colour, and what reads one takes BT.601 of limited range for granted (V4L2 defines
it so for such devices). Frames that are so already are copied sample for sample; others are converted, once.
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


def even(size: float | Fraction) -> int:
    """The nearest even number that is not smaller, 2 at least."""
    return max(2, 2 * -(-round(size) // 2))


class CameraBuffer:
    """Buffer for one frame.

    Attributes:
        width, height: even.
        pix_fmt: "yuv420p" or "nv12".
        data: uint8 of width · height · 3/2, the planes one after another.
    """

    def __init__(self, width: int, height: int, pix_fmt: str) -> None:
        self.width, self.height, self.pix_fmt = width, height, pix_fmt
        self.data: Bytes = np.empty(width * height * 3 // 2, np.uint8)
        luma, chroma = self.data[: width * height].reshape(height, width), self.data[width * height :]
        rest = (
            [chroma.reshape(height // 2, width)]
            if pix_fmt == "nv12"
            else list(chroma.reshape(2, height // 2, width // 2))
        )
        self._planes = [luma, *rest]
        self._context = VideoReformatter()
        self._place: tuple[int, int, int, int] | None = None
        self.clear()

    def clear(self) -> None:
        """Makes it black."""
        self._planes[0][:] = 16
        for plane in self._planes[1:]:
            plane[:] = 128

    def draw(self, image: av.VideoFrame, color: Color, aspect: Fraction = Fraction(1)) -> None:
        """Writes a frame: as it is or an odd side padded by one sample, else scaled, on black.

        Args:
            image: in any format that swscale reads.
            color: how to read it.
            aspect: of one sample; readers know square ones only.
        """
        image = software(image)
        if (
            color.matrix in _SWS
            and not color.full_range
            and aspect == 1
            and image.format.name == self.pix_fmt
            and (image.width, image.height) == (self.width, self.height)
        ):
            self._place = None
            self._change_matrix(image, color.matrix)
            return
        place = self._fit(image.width * aspect, image.height)
        if place != self._place:
            self.clear()
            self._place = place
        left, top, width, height = place
        whole = aspect == 1 and (even(image.width), even(image.height)) == (width, height)
        if not whole or image.format.name != self.pix_fmt or color.full_range or color.matrix != "bt601":
            image = self._converted(image, color, None if whole else (width, height))
        for plane, source in zip(self._planes, image.planes, strict=True):
            step = self.height // plane.shape[0]  # 2 for chroma
            unit = 2 if step == 2 and self.pix_fmt == "nv12" else 1
            rows, columns = source.height, source.width * unit
            first = left * unit // step
            inner = plane[top // step : (top + height) // step, first : first + width * unit // step]
            inner[:rows, :columns] = plane_rows(source)[:rows, :columns]
            inner[:rows, columns:] = inner[:rows, columns - 1 : columns]  # of luma only: chroma is rounded up already
            inner[rows:] = inner[rows - 1]

    def _change_matrix(self, image: av.VideoFrame, matrix: str) -> None:
        """Converts the matrix alone. swscale goes over RGB for that: five times the time,
        and less exact."""
        (_, yu, yv), (_, uu, uv), (_, vu, vv) = ycbcr_from_rgb("bt601") @ np.linalg.inv(ycbcr_from_rgb(matrix))
        yu, yv = yu * 219 / 224, yv * 219 / 224  # of code values
        luma, *rest = (
            plane_rows(plane)[:, : out.shape[1]] for plane, out in zip(image.planes, self._planes, strict=True)
        )
        both = self.pix_fmt == "nv12"
        u, v = cv2.split(rest[0].reshape(self.height // 2, self.width // 2, 2)) if both else rest
        more = cv2.addWeighted(u, yu, v, yv, -128 * (yu + yv), dtype=cv2.CV_16S)
        cv2.add(luma, cv2.resize(more, (self.width, self.height)), self._planes[0], dtype=cv2.CV_8U)
        new = [cv2.addWeighted(u, a, v, b, 128 * (1 - a - b)) for a, b in ((uu, uv), (vu, vv))]
        if both:
            cv2.merge(new, self._planes[1].reshape(self.height // 2, self.width // 2, 2))
        else:
            self._planes[1][:], self._planes[2][:] = new

    def _fit(self, width: Fraction, height: int) -> tuple[int, int, int, int]:
        """Left, top, width, height of a frame's place, all even."""
        if (even(width), even(height)) == (self.width, self.height):
            return 0, 0, self.width, self.height
        scale = min(self.width / width, Fraction(self.height, height))
        w, h = (min(room, even(scale * side)) for room, side in ((self.width, width), (self.height, height)))
        return (self.width - w) // 4 * 2, (self.height - h) // 4 * 2, w, h

    def _converted(self, image: av.VideoFrame, color: Color, size: tuple[int, int] | None) -> av.VideoFrame:
        source = _SWS.get(color.matrix, Colorspace.ITU601)
        # Changing the matrix, swscale is 4 dB off without exact rounding; elsewhere that would only cost time.
        exact = 0 if source == Colorspace.ITU601 else Interpolation.ACCURATE_RND
        return self._context.reformat(
            image,
            *(size or (None, None)),
            self.pix_fmt,
            src_colorspace=source,
            dst_colorspace=Colorspace.ITU601,
            src_color_range=_FULL if color.full_range else _LIMITED,
            dst_color_range=_LIMITED,
            interpolation=Interpolation.BILINEAR | exact,
            threads=1,
        )
