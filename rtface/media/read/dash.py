"""Converts DASH manifests to HLS playlists. FFmpeg in PyAV's wheels cannot read DASH."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice, pairwise
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

from av.container import InputContainer

from rtface.errors import InputError, Message
from rtface.redaction import is_url
from rtface.util.av_input import open_input
from rtface.util.urls import file_path

# Maximum size of a manifest in KiB, and maximum number of segments of a track. Real films stay below both.
_MAX_KIB, _MAX_SEGMENTS = 16 << 10, 200_000


def is_dash(path: str) -> bool:
    """Returns whether a path or URL has the extension of DASH manifests."""
    return (urlsplit(path).path if is_url(path) else path).lower().endswith(".mpd")


def open_listed(file: Any, name: str, options: Mapping[str, str], **arguments: Any) -> InputContainer:
    """Opens an input with FFmpeg. Converts DASH manifests to temporary HLS playlists.

    Args:
        file: a URL, ``file:`` and a path, or a reader.
        name: name of the input, for messages.
        options: options of FFmpeg.
        arguments: additional arguments of `open_input`.

    Raises:
        InputError: a DASH manifest is live, encrypted or damaged.
        av.FFmpegError: the input cannot be opened.
    """
    if not isinstance(file, str) or not is_dash(file):
        return open_input(file, container_options=dict(options), **arguments)
    why = Message("it is damaged, or refers to files that it may not open", code="dash_damaged")
    with open_input(file, container_options=dict(options), **arguments | {"format": "data"}) as container:
        text = b"".join(bytes(packet) for packet in islice(container.demux(), _MAX_KIB))
    base = file if is_url(file) else Path(file.removeprefix("file:")).absolute().as_uri()
    with TemporaryDirectory(prefix="rtface-dash-") as folder:
        try:
            for number, lines in enumerate(_hls_lists(ElementTree.fromstring(text), base)):
                Path(folder, f"{number}.m3u8").write_text("\n".join(["#EXTM3U", *lines, ""]), encoding="utf-8")
            allowed = {  # these playlists are local even if the film is not; segments that are playlists open no file
                "protocol_whitelist": f"file,{options['protocol_whitelist']}",
                "allowed_extensions": "ALL",
                "allowed_segment_extensions": "ALL",
                "extension_picky": "0",
            }
            why = Message("it lists no readable video", code="dash_no_video")
            return open_input(f"file:{folder}/0.m3u8", container_options={**options, **allowed}, **arguments)
        except (ElementTree.ParseError, ValueError, ArithmeticError) as error:  # also FFmpeg's InvalidDataError
            raise InputError(
                "{name}: this DASH list cannot be read: {why}; use the HLS list (.m3u8) of the same film",
                code="no_dash",
                name=name,
                why=next((reason for reason in error.args if isinstance(reason, Message)), why),
            ) from error


def _hls_lists(root: ElementTree.Element, base: str) -> list[list[str]]:
    """Returns the lines of the master playlist and of each track's. Raises ValueError with the reason for a failure."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    periods, lists, entries = root.findall("Period"), list[list[str]](), {"audio": list[str](), "video": list[str]()}
    for applies, why in (
        (root.get("type") == "dynamic", Message("it is live", code="dash_live")),
        (root.find(".//ContentProtection") is not None, Message("it is encrypted (DRM)", code="dash_encrypted")),
        (len(periods) != 1, Message("it has {count} periods", code="dash_periods", count=len(periods))),
    ):
        if applies:
            raise ValueError(why)
    length = _seconds(periods[0].get("duration") or root.get("mediaPresentationDuration", ""))
    for track in (
        track
        for track in periods[0].findall("AdaptationSet")
        if not any("trickmode" in item.get("schemeIdUri", "") for item in track.iter("EssentialProperty"))
    ):
        variants = sorted(track.findall("Representation"), key=lambda item: int(item.get("bandwidth", "0")))
        kind = max(item.get("mimeType") or item.get("contentType") or "" for item in (track, *variants)).partition("/")[
            0
        ]
        for item in {"video": variants, "audio": variants[-1:]}.get(kind, ()):  # FFmpeg would load all audio tracks
            lists.append(_segment_lines([root, periods[0], track, item], base, length))
            uri, language = f"{len(lists)}.m3u8", re.sub(r"[^\w-]", "", track.get("lang", ""))
            entries[kind] += {
                "audio": [f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sounds",LANGUAGE="{language}",URI="{uri}"'],
                "video": [f'#EXT-X-STREAM-INF:BANDWIDTH={int(item.get("bandwidth", "1"))},AUDIO="sounds"', uri],
            }[kind]
    return [entries["audio"] + entries["video"], *lists]


def _segment_lines(levels: list[ElementTree.Element], base: str, length: float) -> list[str]:
    """Returns the playlist of a track, given its XML elements, outermost first."""
    attributes, parts, urls = dict(levels[-1].attrib), dict[str, ElementTree.Element](), list[ElementTree.Element]()
    local = base.startswith("file:")  # local manifests may refer only to local files, remote ones only to URLs
    for level in levels:
        base = urljoin(base, (level.findtext("BaseURL") or "").strip())
        for segments in (child for child in level if child.tag.startswith("Segment")):
            attributes |= segments.attrib
            parts |= {part.tag: part for part in segments}
            urls = segments.findall("SegmentURL") or urls

    def address(template: str, number: int = 0, time: int = 0) -> str:
        values = {"": "$", "Number": number, "Time": time}
        values |= {"RepresentationID": attributes.get("id"), "Bandwidth": attributes.get("bandwidth")}
        uri = re.sub(r"\$(\w*)(?:%0(\d+)d)?\$", lambda at: str(values.get(at[1])).zfill(int(at[2] or 0)), template)
        resolved = urljoin(base, uri)
        if not re.fullmatch(r'%s:[^\x00-\x1f"]+' % ("file" if local else "https?"), resolved):
            raise ValueError(resolved)
        return f"file:{file_path(urlsplit(resolved).path)}" if local else resolved

    scale, first = int(attributes.get("timescale", "1")), int(attributes.get("startNumber", "1"))
    spans = list(islice(_spans(attributes, parts.get("SegmentTimeline"), length * scale, len(urls)), _MAX_SEGMENTS))
    lines = ["#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{ceil(max(duration for _, duration in spans) / scale)}"]
    init = parts.get("Initialization", ElementTree.Element(""))
    init_uri = attributes.get("initialization") or init.get("sourceURL", "")
    if init_uri or (urls and init.attrib):
        lines.append(f'#EXT-X-MAP:URI="{address(init_uri)}"' + _byte_range(init.get("range"), ',BYTERANGE="{}"'))
    for index, (time, duration) in enumerate(spans):
        segment = urls[index] if urls else attributes
        part = _byte_range(segment.get("mediaRange"), "#EXT-X-BYTERANGE:{}\n")
        lines += [f"#EXTINF:{duration / scale:.6f},", part + address(segment.get("media", ""), first + index, time)]
    return [*lines, "#EXT-X-ENDLIST"]


def _spans(
    attributes: Mapping[str, str], timeline: ElementTree.Element | None, end: float, urls: int
) -> Iterator[tuple[int, float]]:
    """Yields time and duration of each segment in the track's time units."""
    if timeline is None:
        duration = int(attributes.get("duration", "0")) or end
        count = urls or (ceil(end / duration - 1e-6) if "media" in attributes else 1)  # 0 if the length is unknown
        yield from ((round(index * duration), duration) for index in range(count))
        return
    time = 0
    for span, after in pairwise([*timeline, ElementTree.Element("S", t=str(ceil(end)))]):
        time, duration, repeats = int(span.get("t", time)), int(span.get("d", "0")), int(span.get("r", "0"))
        for _ in range(repeats + 1 if repeats >= 0 else ceil((int(after.get("t", time)) - time) / duration)):
            yield time, duration
            time += duration


def _byte_range(text: str | None, line: str) -> str:
    """Converts a DASH byte range (first-last) to HLS (length@offset)."""
    first, last = map(int, (text or "0-0").split("-"))
    return line.format(f"{last - first + 1}@{first}") if text else ""


def _seconds(text: str) -> float:
    """Parses an XML duration such as PT1H2M3.5S into seconds. Returns 0 for other text."""
    match = re.fullmatch(r"P(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?", text)
    return (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))
        if match
        else 0.0
    )
