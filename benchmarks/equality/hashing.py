"""Hashes the files of a case in parts, to locate differences."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import av

# Keys of a report or sidecar whose values depend on time, on the version or, in a live run, on the clock; and of hashes
# of complete files, because Matroska files contain random identifiers.
_VARIABLE = {
    *("rtface_version", "seconds", "fps", "latency_ms", "stages_ms", "first_frame_s", "peak_rss_mb", "ends"),
    *("finished", "sha256"),
}
# Keys of lists of sentences, and of a single sentence. Only their number is compared, because the wording may change.
_SENTENCE_LISTS = {"warnings", "notes", "reasons"}
_SENTENCE = "error"
_FILMS = {".mp4", ".mkv", ".mov", ".webm", ".ts"}

Parts = dict[str, str]


def _hash(*parts: bytes | str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def together(parts: Parts) -> str:
    """Combines the hashes of all parts into one hash."""
    return _hash(*(f"{name}={value}" for name, value in sorted(parts.items())))


def parts_of(folder: Path, timed: bool = True) -> Parts:
    """Hashes all files in a case's folder. The keys are "FILE" or "FILE: PART".

    Args:
        timed: False if times depend on the clock (live). Then only the samples of films are hashed, and no reports.
    """
    parts: Parts = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name == "log.txt":
            continue
        if path.suffix in _FILMS:
            for part, value in _film(path).items():
                if timed or part.endswith("samples"):
                    parts[f"{name}: {part}"] = value
        elif path.suffix == ".json" or name == "stdout":
            if timed:
                parts[name] = _hash(*_json(path))
        else:
            parts[name] = _hash(path.read_bytes())
    return parts


def _json(path: Path) -> list[str]:
    """Normalises JSON or JSON lines, without variable values. For other text, returns only the number of lines."""
    text = path.read_text()
    try:
        values = [json.loads(text)]
    except ValueError:
        try:
            values = [json.loads(line) for line in text.splitlines()]
        except ValueError:
            values = [f"{len(text.splitlines())} lines"]
    return [json.dumps(_clean(value), sort_keys=True) for value in values]


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: len(v)
            if key in _SENTENCE_LISTS and isinstance(v, list)
            else bool(v)
            if key == _SENTENCE
            else _clean(v)
            for key, v in value.items()
            if key not in _VARIABLE
        }
    if isinstance(value, list):
        return [_clean(v) for v in value]
    if isinstance(value, str) and "/" in value:  # reduces a path to the file name
        return value.rstrip("/").rsplit("/", 1)[-1]
    return value


def _film(path: Path) -> Parts:
    """Hashes a film's container, tags and streams: video by samples, times and colour, other streams by packets."""
    with av.open(str(path)) as film:
        chapters = [(c["start"], c["end"], c["time_base"], c["metadata"]) for c in film.chapters()]
        parts = {
            "container": _hash(
                film.format.name, str(sorted(film.metadata.items())), str((film.start_time, film.duration, chapters))
            )
        }
        times = {stream.index: hashlib.sha256() for stream in film.streams}
        samples = {stream.index: hashlib.sha256() for stream in film.streams}
        for stream in film.streams:
            parts[f"{stream.type} {stream.index} tags"] = _hash(*_tags(stream))
        for packet in film.demux():
            index = packet.stream.index
            if packet.stream.type != "video":
                times[index].update(str((packet.pts, packet.dts, packet.duration)).encode())
                samples[index].update(bytes(packet))
                continue
            for frame in packet.decode():
                times[index].update(_frame_tags(frame).encode())
                samples[index].update(f"{frame.format.name} {frame.width} {frame.height}".encode())
                for plane in frame.planes:
                    samples[index].update(_rows(frame, plane))
        for stream in film.streams:
            name = f"{stream.type} {stream.index}"
            parts[f"{name} times"] = times[stream.index].hexdigest()[:12]
            parts[f"{name} samples"] = samples[stream.index].hexdigest()[:12]
    return parts


def _tags(stream: Any) -> list[str]:
    codec = stream.codec_context
    tags: list[Any] = [
        codec.name if codec else "",
        stream.time_base,
        stream.duration,
        stream.disposition,
        sorted(stream.metadata.items()),
    ]
    if stream.type == "video":
        tags += [
            codec.pix_fmt,
            codec.width,
            codec.height,
            stream.sample_aspect_ratio,
            codec.profile,
            stream.average_rate,
            codec.color_range,
            codec.colorspace,
            codec.color_primaries,
            codec.color_trc,
        ]
    elif stream.type == "audio":
        tags += [codec.layout.name, codec.sample_rate, codec.format and codec.format.name]
    return [str(tag) for tag in tags]


def _frame_tags(frame: av.VideoFrame) -> str:
    """Describes a frame: time, fields, colour, and side data (rotation, HDR) except the encoder's name."""
    side = [(s.type.name, bytes(s)) for s in frame.side_data if s.type.name != "SEI_UNREGISTERED"]
    return str(
        (
            frame.pts,
            frame.time_base,
            frame.interlaced_frame,
            frame.color_range,
            frame.colorspace,
            frame.color_primaries,
            frame.color_trc,
            frame.rotation,
            side,
        )
    )


def _rows(frame: av.VideoFrame, plane: Any) -> bytes:
    """Returns a plane's samples without the padding of its rows."""
    pixel_format = frame.format
    if pixel_format.is_planar or len(pixel_format.components) == 1:
        size = plane.width * (2 if max(c.bits for c in pixel_format.components) > 8 else 1)
    else:
        size = plane.width * pixel_format.padded_bits_per_pixel // 8
    data, stride = memoryview(plane), plane.line_size
    return b"".join(data[y * stride : y * stride + size] for y in range(plane.height))
