"""Lists parts of films that FFmpeg ignores or the container hides."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from urllib.parse import urljoin

import av
from av.container import InputContainer

from rtface.media.formats import matroska, mp4
from rtface.media.formats.color import UNSPECIFIED, ColorTags, HdrMetadata
from rtface.media.read.container import NETWORK_OPTIONS
from rtface.redaction import is_url
from rtface.util.av_input import open_input
from rtface.util.parse import parse_time

_HIDDEN = {
    "MVC": "a second view (MVC)",
    "SVC": "a finer layer (SVC)",
    "layer": "a second view, a finer layer or transparency (MV-HEVC, SHVC)",
}

_CLOCK = re.compile(r"X-TIMESTAMP-MAP=(?=.*MPEGTS:(\d+))(?=.*LOCAL:([\d:.]+))")
_LINKS = (re.compile(r'#EXT-X-MEDIA:(?=.*TYPE=SUBTITLES).*?URI="([^"]+)"'), re.compile(r"^([^#\s].*)", re.MULTILINE))
_MAX_KIB = 1024  # maximum size of a manifest


def early_s(path: str | os.PathLike[str]) -> float:
    """Reads by how many seconds an HLS manifest's subtitles are early. FFmpeg ignores their X-TIMESTAMP-MAP.
    Returns 0 if the first subtitle file has no such line."""
    uri, text = os.fspath(path), ""
    with suppress(av.FFmpegError, ValueError):
        for link in (*_LINKS, None):
            opts = NETWORK_OPTIONS if is_url(uri) else {"protocol_whitelist": "file"}
            with open_input(uri if is_url(uri) else f"file:{uri}", format="data", container_options=opts) as container:
                text = b"".join(bytes(part) for part in islice(container.demux(), _MAX_KIB)).decode("utf-8", "replace")
            if link and (match := link.search(text)):
                uri = urljoin(uri, match[1]) if is_url(uri) else str(Path(uri).parent / match[1])
        if clock := _CLOCK.search(text):
            return int(clock[1]) / 90_000 - parse_time(clock[2])
    return 0.0


def find_lost_parts(
    metadata: Mapping[str, str],
    hidden: Mapping[str, int],
    tags: ColorTags,
    hdr: HdrMetadata | None,
    *,
    alpha: bool,
    header: Iterable[str],
) -> list[str]:
    """Lists what outputs lack, or show although players hide it. Each item has one line.

    Args:
        metadata: tags of the stream.
        hidden: number of NAL units of views and layers, by kind.
        tags, hdr: colour tags and HDR metadata of the first frame.
        alpha: whether transparency is decoded.
        header: lines of `unread_header`.
    """
    lines = [
        f"its first packets contain {_HIDDEN[kind]}, which cannot be decoded (NAL units: {count}): it is left out"
        for kind, count in hidden.items()
        if not alpha
    ]
    if {key.lower(): text for key, text in metadata.items()}.get("alpha_mode") == "1" and not alpha:
        lines.append("its transparency is a second stream that cannot be decoded: it is left out")
    if hdr and "Dolby Vision" in hdr.dynamic and tags.transfer == UNSPECIFIED:  # profile 5
        lines.append(
            "it is Dolby Vision without a compatible base layer (profile 5): the output will look green and purple; "
            "convert it to HDR10 first"
        )
    return [*lines, *header]


def unread_header(path: str | os.PathLike[str], container: InputContainer, video: av.VideoStream) -> list[str]:
    """Lists what FFmpeg ignores in Matroska and MP4 headers. Each item has one line."""
    name, lines = container.format.name, list[str]()
    if is_url(path) or not Path(path).is_file() or not name.startswith(("matroska", "mov")):
        return lines
    number = container.streams.video.index(video)
    with suppress(OSError, struct.error, ValueError, IndexError), Path(path).open("rb") as file:
        # The header may be damaged; reading the packets reports that.
        tracks = matroska.read_tracks(file) if name.startswith("matroska") else None
        if mp4.hides_borders(file, number) if tracks is None else matroska.hides_borders(tracks, number):
            lines.append("its container crops the frames (clap, PixelCrop): the output shows the cropped borders")
        if tracks and (tags := matroska.regional_languages(tracks)):
            lines.append(
                f"region and script of its languages ({', '.join(tags)}) are lost: the output has only language codes"
            )
    return lines
