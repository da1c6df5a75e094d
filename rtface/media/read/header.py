"""What the header of a film says of its picture that its frames do not show, or contradict."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtface.media.formats import matroska, mp4
from rtface.media.formats.color import NOT_READ, UNSPECIFIED, alike, hdr_of, same_tag, tags_of, views_of
from rtface.media.formats.mp4 import Header
from rtface.media.read.file_reader import disk_error
from rtface.redaction import is_url, shown

_HIDDEN = {
    "MVC": "a second view (MVC)",
    "SVC": "a finer layer (SVC)",
    "layer": "a second view or layer (MV-HEVC, SHVC)",
    "alpha": "a layer of transparency (alpha)",
}
_ALIKE = 0.01  # headers give whole samples


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


def contradictions(header: Header, video: VideoStream, image: VideoFrame) -> list[str]:
    """Where the header contradicts the first frame, which is `image`."""
    lines: list[str] = []
    coded, shape = (Fraction(each.sample_aspect_ratio or 0) for each in (video.codec_context, video))
    tags = tags_of(image)
    for what, a, b in zip(
        ("range", "primaries", "transfer", "matrix"),
        header.colors or (),
        (tags.range, tags.primaries, tags.transfer, tags.matrix),
        strict=False,
    ):
        made_up = what in NOT_READ.get(video.codec_context.codec.canonical_name, ())
        unsaid = {0} if what == "range" else {0, UNSPECIFIED}
        if not (made_up or same_tag(what, a, b) or {a, b} & unsaid):
            lines.append(
                f"its header says other colours than its frames ({what} {a}, and {b}; numbers of H.273): the "
                "frames are believed"
            )
    eyes = (
        (1, 2, Fraction(1, 2)) if views_of(image).get("STEREO3D", "").strip("0") else (1,)
    )  # each may be wider than both
    if coded and shape and all(abs(float(coded / shape * wider) - 1) > _ALIKE for wider in eyes):
        lines.append(
            f"its frames say that a sample has the shape {coded}, and its header {shape}: the header is believed"
        )
    own = hdr_of(image)
    for what in ("primaries", "luminance", "light"):
        a, b = getattr(header.hdr, what, None), getattr(own, what, None)
        if a and b and not alike(a, b):
            lines.append(f"its header says other HDR metadata than its frames ({what}): the frames are believed")
    size, (left, top, right, bottom) = header.shown_size, header.crop or (0, 0, 0, 0)
    shapes = [
        Fraction(width * each) / height
        for each in (1, shape or 1)  # many writers take the width of the samples
        for width, height in ((image.width, image.height), (image.width - left - right, image.height - top - bottom))
    ]
    if size and all(size) and all(abs(size[0] / size[1] / float(each) - 1) > _ALIKE for each in shapes):
        lines.append(
            f"its header shows the picture at {size[0] / 65536:.0f}×{size[1] / 65536:.0f}, which some players "
            "do: its shape is left out"
        )
    return lines
