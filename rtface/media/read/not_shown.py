"""Names what FFmpeg's decoder does not give of a film's frames, and what its container hides of them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import av
from av.container import InputContainer

from rtface.media.formats import matroska, mp4
from rtface.media.formats.color import UNSPECIFIED, ColorTags, HdrMetadata
from rtface.redaction import is_url

_HIDDEN = {
    "MVC": "a second view (MVC)",
    "SVC": "a finer layer (SVC)",
    "layer": "a second view, a finer layer or transparency (MV-HEVC, SHVC)",
}


def not_shown(
    metadata: Mapping[str, str],
    hidden: Mapping[str, int],
    tags: ColorTags,
    hdr: HdrMetadata | None,
    *,
    alpha: bool,
    header: Iterable[str],
) -> list[str]:
    """Names what outputs lack or show in excess, one line each.

    Args:
        metadata: tags of the stream.
        hidden: units of views and layers, by kind.
        tags, hdr: of the first frame.
        alpha: whether transparency is decoded.
        header: what FFmpeg does not read of the container's header, from `unread_header`.
    """
    lines = [
        f"its first packets hold {_HIDDEN[kind]}, which is not decoded here (NAL units: {count}): it is left out"
        for kind, count in hidden.items()
        if not alpha
    ]
    if {key.lower(): text for key, text in metadata.items()}.get("alpha_mode") == "1" and not alpha:
        lines.append("its transparency is a second stream that cannot be decoded here: it is left out")
    if hdr and "Dolby Vision" in hdr.dynamic and tags.transfer == UNSPECIFIED:  # profile 5
        lines.append(
            "it is Dolby Vision without a layer of colours that others read (profile 5): players will show the output "
            "green and purple; convert it to HDR10 first"
        )
    return [*lines, *header]


def unread_header(path: str | os.PathLike[str], container: InputContainer, video: av.VideoStream) -> list[str]:
    """Names what FFmpeg does not read of the header of a Matroska or MP4 file, one line each."""
    name, lines = container.format.name, list[str]()
    if is_url(path) or not Path(path).is_file() or not name.startswith(("matroska", "mov")):
        return lines
    number = container.streams.video.index(video)
    with suppress(OSError, struct.error, ValueError, IndexError), Path(path).open("rb") as file:
        # of a damaged header; what cannot be read is said where its packets are
        tracks = matroska.read_tracks(file) if name.startswith("matroska") else None
        if mp4.hides_borders(file, number) if tracks is None else matroska.hides_borders(tracks, number):
            lines.append("its container hides borders of the frames (clap, PixelCrop): the output shows them")
        if tracks and (tags := matroska.regional_languages(tracks)):
            lines.append(
                f"region and script of its languages are left out ({', '.join(tags)}): the output has a code each"
            )
    return lines
