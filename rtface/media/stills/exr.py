"""Reads OpenEXR images as video. Rewrites only their changed samples.

The samples are unbounded linear light. They are mapped to 16-bit display-like RGB, in which faces are detected and
corrected. For writing, the inverse curve converts the change of each sample to light, which is added to the original.
Unchanged samples, other channels, parts, attributes and windows stay. The OpenEXR library reads and writes the file.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from rtface.errors import OutputError
from rtface.frame import Float32
from rtface.media.stills.dpx import timecode_of
from rtface.util.av_arrays import plane_rows
from rtface.util.timecode import Timecode

MAGIC = b"v/1\x01"
# A float channel in the header's bytes. The library reports a channel's type only together with its samples.
_FLOAT = re.compile(rb"\0[RGBY]\0\x02\0\0\0")
_STABLE = ("NO", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "ZSTD", "HTJ2K32", "HTJ2K256")
"""Compressions that do not change the values of unchanged samples."""
# The curve is linear up to 0.75 of diffuse white and rolls off towards 1 above that; then gamma 1/2.2 is applied, like
# for HDR in `rtface.geometry.color_curves`. `_MAX_GAIN` limits how much a change in the highlights is amplified.
_KNEE, _GAMMA, _MAX_GAIN = 0.75, 2.2, 4.0
_MAX_SAMPLES = 1_400_000_000  # the largest still with four channels

Samples = NDArray[Any]
Window = tuple[int, int, int, int]


def shown(light: Samples) -> Float32:
    """Maps linear light (diffuse white is 1) to display-like values 0…1."""
    light = np.clip(np.nan_to_num(np.asarray(light, np.float32), nan=0.0), 0.0, 1e6)
    room = 1.0 - _KNEE
    above = np.maximum(light, _KNEE)
    rolled = np.where(light <= _KNEE, light, _KNEE + room * (1.0 - np.exp((_KNEE - above) / room)))
    return np.power(rolled, 1.0 / _GAMMA).astype(np.float32)


def light_of(value: Samples) -> Float32:
    """Maps display-like values to linear light (the inverse of `shown`)."""
    rolled = np.power(np.clip(value, 0.0, 1.0 - 1e-5), _GAMMA)
    room = 1.0 - _KNEE
    over = np.clip((rolled - _KNEE) / room, 0.0, 1.0 - 1e-6)
    return np.where(rolled <= _KNEE, rolled, _KNEE - room * np.log1p(-over)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ExrHeader:
    """The header of an EXR file's first part.

    Attributes:
        compression: OpenEXR's name of the compression.
        data, display: data window and display window as x0, y0, x1, y1 (inclusive).
        bits: bits per colour sample.
        rate: frames per second, or None.
        timecode: the image's timecode as (text, drop-frame flag), or None.
    """

    compression: str
    data: Window
    display: Window
    bits: int
    rate: Fraction | None
    timecode: tuple[str, bool] | None

    @classmethod
    def read(cls, data: bytes) -> ExrHeader:
        """Reads the header. Raises ValueError if there is no valid one."""
        header = _open_exr(data, header_only=True).parts[0].header
        rate, time = header.get("framesPerSecond"), _time(header)
        return cls(
            header["compression"].name.removesuffix("_COMPRESSION"),
            _window(header, "dataWindow"),
            _window(header, "displayWindow"),
            32 if _FLOAT.search(data, 0, 1 << 16) else 16,
            rate if isinstance(rate, Fraction) and 1 <= rate <= 240 else None,
            (f"{time.hours:02}:{time.minutes:02}:{time.seconds:02}:{time.frame:02}", bool(time.dropFrame))
            if time
            else None,
        )

    @property
    def described(self) -> str:
        """Format, samples and compression in words."""
        name = "no compression" if self.compression == "NO" else self.compression
        return f"EXR of {'float' if self.bits == 32 else 'half'} samples ({name}, linear)"

    def timecode_at(self, rate: Fraction) -> Timecode | None:
        """Returns the timecode (attribute timeCode) at a frame rate. Returns None if it does not exist at this rate."""
        return timecode_of(self.timecode, rate)


def _time(header: Mapping[str, Any]) -> Any:
    """Returns the attribute timeCode, or None if absent or of another type."""
    import OpenEXR

    time = header.get("timeCode")
    return time if isinstance(time, OpenEXR.TimeCode) else None


def _window(header: Mapping[str, Any], name: str) -> Window:
    (x0, y0), (x1, y1) = (each.tolist() for each in header[name])
    return x0, y0, x1, y1


def _open_exr(data: bytes, *, header_only: bool = False) -> Any:
    """Opens an EXR with the OpenEXR library. Raises ValueError if it is damaged, too large or unsupported."""
    import OpenEXR  # imported only for an EXR

    library_output = io.StringIO()
    if not header_only:
        _check_size(part.header for part in _open_exr(data, header_only=True).parts)
    try:
        with redirect_stdout(library_output):  # the library prints why it skips parts
            file = OpenEXR.File(io.BytesIO(data), separate_channels=True, header_only=header_only, num_threads=0)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(error) from error
    if library_output.getvalue() or not file.parts:
        raise ValueError(library_output.getvalue().strip().partition(" - ")[2] or "no image")
    return file


def _check_size(headers: Iterable[Mapping[str, Any]]) -> None:
    """Raises ValueError for deep images or too many samples. A pixel of a deep image can have any number of samples."""
    samples = 0
    for header in headers:
        _, _, width, height = _data_rectangle(header)
        samples += width * height * len(header["channels"])
        if "deep" in header["type"].name or samples > _MAX_SAMPLES:
            raise ValueError("deep samples or too many samples")


def _light(file: Any) -> dict[str, Samples]:
    """Returns half or float samples of R, G and B, or Y. Raises ValueError unless they fill the first data window."""
    channels = file.parts[0].channels
    names = "RGB" if {*"RGB"} <= channels.keys() else "Y"
    light = {name: channels[name].pixels for name in names if name in channels}
    _, _, width, height = _data_rectangle(file.parts[0].header)
    if not light or any(each.dtype.kind != "f" or each.shape != (height, width) for each in light.values()):
        raise ValueError("it has neither R, G and B nor Y as half or float channels with one sample per pixel")
    return light


def _data_rectangle(header: Mapping[str, Any]) -> Window:
    """Returns left, top, width and height of the data window. Left and top are relative to the display window."""
    data, display = _window(header, "dataWindow"), _window(header, "displayWindow")
    return data[0] - display[0], data[1] - display[1], data[2] - data[0] + 1, data[3] - data[1] + 1


def _overlap(header: Mapping[str, Any], image: av.VideoFrame) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Returns the overlap of data window and image, as slices of each."""
    left, top, width, height = _data_rectangle(header)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, image.width), min(top + height, image.height)
    x1, y1 = max(x0, x1), max(y0, y1)
    return (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)), (slice(y0, y1), slice(x0, x1))


def _planes(image: av.VideoFrame, light: Mapping[str, Samples]) -> dict[str, NDArray[np.uint16]]:
    """Returns an image's planes by channel name."""
    rows = [plane_rows(plane)[:, : 2 * plane.width].view("<u2") for plane in image.planes]
    return dict(zip(("Y",) if "Y" in light else ("G", "B", "R"), rows, strict=False))


def decode_exr(data: bytes) -> av.VideoFrame:
    """Decodes the display window to display-like gbrp16le or gray16le. Raises ValueError if that fails."""
    file = _open_exr(data)
    light, header = _light(file), file.parts[0].header
    x0, y0, x1, y1 = _window(header, "displayWindow")
    image = av.VideoFrame(x1 - x0 + 1, y1 - y0 + 1, "gray16le" if "Y" in light else "gbrp16le")
    in_window, in_image = _overlap(header, image)
    for name, plane in _planes(image, light).items():
        plane[:] = 0
        plane[in_image] = _encode(light[name][in_window])
    return image


def _encode(light: Samples) -> NDArray[np.uint16]:
    return np.round(shown(light) * 65535.0).astype(np.uint16)


def rewrite_exr(
    data: bytes, image: av.VideoFrame, *, tags: Mapping[str, str] | None = None, timecode: Timecode | None = None
) -> bytes:
    """Applies the changes made to an image since `decode_exr` to its file.

    Args:
        data: the original file.
        image: the changed image, gbrp16le or gray16le of the same size.
        tags: string attributes to add if a sample has changed.
        timecode: timecode that replaces an existing attribute timeCode.

    Raises:
        OutputError: the file contains smaller copies of its image (mipmaps), or the image has another size.
        ValueError: the file cannot be read.
    """
    import OpenEXR

    file = _open_exr(data)
    light, first = _light(file), file.parts[0].header
    x0, y0, x1, y1 = _window(first, "displayWindow")
    planes = _planes(image, light)
    if len(planes) < len(light) or (image.width, image.height) != (x1 - x0 + 1, y1 - y0 + 1):
        raise OutputError("the EXR cannot hold an image of another size or with other channels", code="exr_channels")
    in_window, in_image = _overlap(first, image)
    changed = False
    for name, plane in planes.items():
        old, new = light[name][in_window], plane[in_image]
        if (differs := new != _encode(old)).any():
            old[differs] = _apply_change(old[differs], new[differs])
            changed = True
    if timecode is not None and (time := _time(first)):
        time.hours, time.minutes, time.seconds, time.frame = map(int, re.findall(r"\d+", str(timecode))[:4])
        time.dropFrame = timecode.drop
    elif not changed:
        return data
    for part in file.parts:
        header = part.header
        if "tiles" in header and header["tiles"].mode.name != "ONE_LEVEL":
            raise OutputError(
                "an EXR with mipmaps cannot be written; save it without them first",
                code="exr_tiled",
            )
        if changed and header["compression"].name.removesuffix("_COMPRESSION") not in _STABLE:
            header["compression"] = OpenEXR.ZIP_COMPRESSION
    first.update({key: text for key, text in (tags or {}).items() if changed and key not in first and len(key) < 32})
    out = io.BytesIO()
    file.write(out)
    return out.getvalue()


def _apply_change(light: Samples, coded: NDArray[np.uint16]) -> Samples:
    """Applies to light the change of display-like values from `_encode(light)` to `coded`."""
    old = shown(light)
    step = coded / np.float32(65535.0) - np.round(old * 65535.0) / np.float32(65535.0)
    light_step = light_of(old + step) - light_of(old)
    return light.astype(np.float32) + np.clip(light_step, -_MAX_GAIN * np.abs(step), _MAX_GAIN * np.abs(step))
