"""Reads what a film holds by PyAV; chroma siting and field order by rtface."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np

from rtface.media.read.frame_details import details_of
from tests.media.corpus.facts import Facts

# Tags that describe the file or its writer.
_TECHNICAL = re.compile(
    "encod|brand|minor_version|duration|handler|vendor|bps|number_of|_statistics|uid|umid|package|product|modification"
    "|company|application|toolkit|operational|(alpha|stereo)_mode|service|software|variant|filename|mimetype|id3v2",
    re.IGNORECASE,
)
_SIDE = {"A53_CC": 9999, "STEREO3D": 4, "CONTENT_LIGHT_LEVEL": 8, "DISPLAYMATRIX": 20}
"""Facts beside frames, and how many bytes of them matter: of a matrix those that turn and mirror."""


def film_facts(path: Path) -> Facts:
    """All that a film says and shows, by name."""
    with _opened(path) as box:
        facts = _tags("film ", dict(box.metadata))
        if chapters := box.chapters():
            ends = [[round(1000 * one[end] * one["time_base"]) for end in ("start", "end")] for one in chapters]
            facts["chapters"] = [(*end, one["metadata"].get("title")) for end, one in zip(ends, chapters, strict=True)]
        covers = [one for one in box.streams.video if one.disposition & av.stream.Disposition.attached_pic]
        numbers = [one.index for one in box.streams if one not in covers and one.type != "attachment"]
        for one in box.streams:
            if one.type == "attachment":
                facts[f"attachment {one.name}"] = one.data.rstrip(b"\0")
        if covers:
            facts["cover"] = next(bytes(packet) for packet in box.demux(covers[0]) if packet.size)
    counts: dict[str, int] = {}
    for number in numbers:
        with _opened(path) as box:
            kind = box.streams[number].type
            counts[kind] = counts.get(kind, -1) + 1
            facts |= _stream_facts(
                box, box.streams[number], (kind != "video") * f"{kind} " + (f"{counts[kind]} " if counts[kind] else "")
            )
    start = facts.pop("start")
    if "audio start" in facts:
        facts["audio start"] -= start
    return facts


def _opened(path: Path) -> Any:
    if not path.is_dir():
        return av.open(path)
    first = min(path.iterdir())
    pattern, number = re.sub(r"\d+", "%d", first.name), re.findall(r"\d+", first.name)[0]
    return av.open(path / pattern, format="image2", options={"start_number": number, "framerate": "25"})


def _tags(place: str, tags: dict[str, str]) -> Facts:
    said = {key.lower().removeprefix("comment_"): text for key, text in tags.items() if not _TECHNICAL.search(key)}
    alone = {"timecode", "reel_name"}
    return {key if key in alone else f"{place}{key}": text for key, text in said.items() if text not in ("", "und")}


def _stream_facts(box: Any, stream: Any, name: str) -> Facts:
    tags, flags = dict(stream.metadata), stream.disposition & ~av.stream.Disposition.default
    if "name" in tags:
        tags["title"] = tags.pop("name")
    tags.pop("creation_time", None)  # no container but MP4 dates its streams
    said = _tags(name, tags)
    if flags:
        said[f"{name}flags"] = int(flags)
    if stream.type == "data":
        packets = [bytes(packet) for packet in box.demux(stream) if packet.size]
        clock = {key: said[key] for key in ("timecode", "reel_name") if key in said}
        return clock or ({f"{name}packets": packets} if packets else {})
    said[f"{name}codec"] = stream.codec_context.name
    if stream.type == "video":
        return said | _video_facts(box, stream, name)
    if stream.type == "audio":
        blocks = list(box.decode(stream))
        wave = np.concatenate([_wave(block) for block in blocks], 1)
        heard = np.flatnonzero(np.abs(wave).max(0) > 1 / 64)
        said |= {f"{name}rate": stream.rate, f"{name}layout": stream.layout.name.replace("2 channels", "stereo")}
        if len(heard):
            said[f"{name}samples"] = wave[:, heard[0] : heard[-1] + 1]
            said[f"{name}start"] = float(blocks[0].time) + heard[0] / stream.rate
        return said
    texts = list[tuple[str, float, float]]()
    for packet in box.demux(stream):
        for event in stream.decode(packet) if packet.size else ():
            if text := re.sub(r"\{\\\w+\}", "", event.dialogue.decode()).strip():
                start = float(packet.pts * packet.time_base)
                texts.append((text, round(start, 2), round(start + float(packet.duration * packet.time_base), 2)))
    return said | {f"{name}texts": texts}


def _wave(block: av.AudioFrame) -> np.ndarray:
    data = block.to_ndarray()
    if block.format.is_packed:
        data = data.reshape(-1, block.layout.nb_channels).T
    full = 1 if data.dtype.kind == "f" else np.iinfo(data.dtype).max
    return data.astype(np.float64) / full


def _video_facts(box: Any, stream: Any, name: str) -> Facts:
    frames = list(box.decode(stream))
    first = frames[0]
    unit, rate = stream.time_base, stream.guessed_rate
    times = [n / rate if frame.pts is None else frame.pts * unit for n, frame in enumerate(frames)]
    siting, fields = details_of(first)
    said = {
        "frames": len(frames),
        "times": [round(1000 * (time - times[0])) for time in times],
        "rate": rate,
        "format": first.format.name,
        "size": (first.width, first.height),
        "aspect": stream.sample_aspect_ratio or 1,
        "fields": fields if first.interlaced_frame else "progressive",
    }
    colours = {"matrix": first.colorspace, "primaries": first.color_primaries, "transfer": first.color_trc}
    said |= {key: int(value) for key, value in colours.items() if value != 2}
    said |= {"range": "full"} if first.color_range == 2 and first.colorspace else {}
    said |= {"siting": siting} if siting else {}
    sides = {side.type.name: bytes(side) for frame in frames[:1] for side in frame.side_data}
    if (master := sides.get("MASTERING_DISPLAY_METADATA")) is not None:
        numbers = struct.unpack_from("20i", master)
        said["hdr"] = [round(a / b, 4) for a, b in zip(numbers[::2], numbers[1::2], strict=True) if b]
    for kind, size in _SIDE.items():
        if data := [bytes(side)[:size] for frame in frames for side in frame.side_data if side.type.name == kind]:
            said[kind.lower()] = list(dict.fromkeys(data))
    said["start"] = float(times[0])
    shown = [frame.to_ndarray(format="rgba64le", src_color_range=2) for frame in frames]
    return {f"{name}{key}": value for key, value in (said | {"picture": np.stack(shown)}).items()}
