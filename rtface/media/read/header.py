"""What the header of a film says of its picture that its frames do not show."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtface.media.formats import matroska, mp4
from rtface.media.formats.mp4 import Header
from rtface.media.read.file_reader import disk_error
from rtface.redaction import is_url, shown

_HIDDEN = {
    "MVC": "a second view (MVC)",
    "SVC": "a finer layer (SVC)",
    "layer": "a second view or layer (MV-HEVC, SHVC)",
    "alpha": "a layer of transparency (alpha)",
}


def read_header(
    path: str | os.PathLike[str], container: InputContainer, video: VideoStream, image: VideoFrame
) -> Header:
    """What the header of a file says of a video track, of which `image` is a frame; nothing of other containers than
    Matroska and MP4, and of addresses. A crop that would leave nothing is none."""
    name = container.format.name
    if is_url(path) or not Path(path).is_file() or not name.startswith(("matroska", "mov")):
        return Header()
    number = container.streams.video.index(video)
    try:
        with Path(path).open("rb") as file:
            header = (matroska if name.startswith("matroska") else mp4).read_header(file, number)
    except OSError as error:
        raise disk_error(shown(path), error) from error
    left, top, right, bottom = header.crop or (0, 0, 0, 0)
    return header if left + right < image.width and top + bottom < image.height else replace(header, crop=None)


def not_shown(header: Header, video: VideoStream, hidden: Mapping[str, int], *, alpha: bool) -> list[str]:
    """What FFmpeg's decoder does not give of the frames: the transparency of VP8 and VP9 (`alpha` says that it does),
    further views and layers (`hidden`: units by kind), and the colours of Dolby Vision without a base layer that
    others read."""
    lines = [
        f"its first packets hold {_HIDDEN[kind]}, which is not decoded here (NAL units: {count}): it is left out"
        for kind, count in hidden.items()
        if not (alpha or (kind == "layer" and "alpha" in hidden))
    ]
    if {key.lower(): text for key, text in video.metadata.items()}.get("alpha_mode") == "1" and not alpha:
        lines.append("its transparency is a second stream that cannot be decoded here: it is left out")
    found = header.dolby_vision
    if found and len(found) > 4 and not found[4] >> 4:  # no compatibility, as in profile 5
        lines.append(
            f"it is Dolby Vision of profile {found[2] >> 1}, whose samples are not the colours that "
            "others read: players will show the output green and purple; convert it to HDR10 first"
        )
    return lines
