"""Films of many kinds, made in the test, and what is in a film."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from rtface.jobs.job import FilmJob
from rtface.jobs.worker import Worker
from tests.pipeline.run_media import write_film

LENGTH = Fraction(1)
"""Seconds of a segment in these tests."""


def make_segment(job: FilmJob, number: int, threads: int | None = None) -> None:
    """Makes one segment of a job, by a worker of its own."""
    with Worker(job.folder, job.plan, threads=threads) as worker:
        given = iter((number,))
        worker.work(lambda wanted: next(given, None) if wanted is None else None)


def scenes(frames: int, *, size: tuple[int, int] = (160, 96), cut: int = 35) -> list[np.ndarray]:
    """Moving gradients with noise; another one from every `cut`-th frame on."""
    width, height = size
    across = np.tile(np.linspace(20, 230, width)[None, :, None], (height, 1, 3))
    noise = np.random.default_rng(0).integers(0, 12, (height, width, 3))
    kinds = across, across[:, ::-1]
    return [
        np.clip(np.roll(kinds[t // cut % 2], 3 * t, axis=1) + noise, 0, 255).astype(np.uint8) for t in range(frames)
    ]


def move_time(path: Path, number: int, by_s: int) -> None:
    """Damages the times of one frame of a transport stream: the `number`-th PES packet of its video."""
    data = bytearray(path.read_bytes())
    starts = [
        at + 4 + (data[at + 4] + 1 if data[at + 3] & 0x20 else 0)
        for at in range(0, len(data), 188)
        if data[at + 1] & 0x40
    ]
    at = [at for at in starts if data[at : at + 4] == b"\0\0\1\xe0"][number]
    for field in range(at + 9, at + 9 + 5 * (data[at + 7] >> 7) + 5 * (data[at + 7] >> 6 & 1), 5):
        first, middle, last = struct.unpack_from(">BHH", data, field)
        time = (first >> 1 & 7) << 30 | middle >> 1 << 15 | last >> 1
        time = max(0, time + 90_000 * by_s)
        struct.pack_into(
            ">BHH",
            data,
            field,
            first & 0xF0 | time >> 30 << 1 | 1,
            (time >> 15 & 0x7FFF) << 1 | 1,
            (time & 0x7FFF) << 1 | 1,
        )
    path.write_bytes(data)


def _plain(suffix: str, codec: str, **more: object) -> Callable[[Path], Path]:
    frames = int(more.pop("frames", 80))  # type: ignore[call-overload]
    size = more.pop("size", (160, 96))
    return lambda folder: write_film(
        folder / f"in{suffix}",
        scenes(frames, size=size),
        codec=codec,  # type: ignore
        **{"sound": True, **more},
    )  # type: ignore[arg-type]


def _rotated(folder: Path) -> Path:
    path, plain = folder / "in.mp4", _plain(".mov", "libx264")(folder)
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s, opaque=True) for s in source.streams}
        streams[0].set_display_matrix((0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))
        _copy(source, out, streams, shift={1: Fraction(7, 25)})
    return path


def _copy(source, out, streams, shift) -> None:
    for packet in source.demux():
        if not packet.size:
            continue
        late = shift.get(packet.stream_index, 0) / packet.time_base
        packet.pts, packet.dts = round(packet.pts + late), round(packet.dts + late)
        packet.stream = streams[packet.stream_index]
        out.mux(packet)


def _variable(folder: Path) -> Path:
    times = np.cumsum([[33, 17, 50, 41][k % 4] for k in range(80)]).tolist()
    return write_film(folder / "in.mkv", scenes(80), codec="libx264", pts=times, base=Fraction(1, 1000))


def scans(folder: Path) -> Path:
    """8 s at 10 images a second: the first cannot be read, 2.5 s are missing, another is larger."""
    path = folder / "scans"
    path.mkdir()
    for number, picture in enumerate(picture.astype(np.uint16) * 257 for picture in scenes(80)):
        if not 18 <= number <= 42:
            cv2.imwrite(str(path / f"{number:04}.png"), cv2.resize(picture, (192, 108)) if number == 55 else picture)
    for number in (0, 60):
        (path / f"{number:04}.png").write_bytes(b"damaged")
    return path


def packets(path: Path, kind: str) -> list[tuple]:
    """pts, duration (s) and bytes' hash of every packet of the streams of a kind."""
    with av.open(str(path)) as film:
        return [
            (p.stream_index, p.pts * p.time_base, (p.duration or 0) * p.time_base, hashlib.md5(bytes(p)).hexdigest())
            for p in film.demux()
            if p.size and p.stream.type == kind
        ]


def files(folder: Path) -> dict[str, bytes]:
    """The files of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def video_times(path: Path) -> list[tuple]:
    """Presentation times and durations of the frames, in their order."""
    return sorted(entry[1:3] for entry in packets(path, "video"))


def frame_hashes(path: Path) -> list[tuple]:
    """Time and MD5 of every decoded frame."""
    with av.open(str(path)) as film:
        return [(f.pts * f.time_base, hashlib.md5(f.to_ndarray().tobytes()).hexdigest()) for f in film.decode(video=0)]


def decoding_times(path: Path) -> list[Fraction]:
    """Times of decoding of the frames, in the order of the file."""
    with av.open(str(path)) as film:
        return [p.dts * p.time_base for p in film.demux(video=0) if p.size]


def hdr(folder: Path) -> Path:
    """HDR10 with metadata of the mastering display and of the light."""
    master = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    return _plain(
        ".mp4",
        "libx265",
        pix_fmt="yuv420p10le",
        options={
            "x265-params": (
                f"log-level=error:hdr10=1:master-display={master}:max-cll=1000,400:colorprim=bt2020:transfer=smpte2084:"
                "colormatrix=bt2020nc:keyint=20"
            )
        },
    )(folder)


def other_size(folder: Path) -> Path:
    """A film whose frames are smaller from the 40th on."""
    path = folder / "in.ts"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        encoders = [stream.codec_context, av.CodecContext.create("libx264", "w")]
        for encoder, (width, height) in zip(encoders, ((160, 96), (96, 64)), strict=True):
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
            encoder.options = {"g": "20", "bf": "0"}
        for k, encoder in enumerate(encoders):
            for t, image in enumerate(scenes(40, size=(encoder.width, encoder.height))):
                frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = 40 * k + t, Fraction(1, 25)
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    out.mux(packet)
            for packet in encoder.encode(None):
                packet.stream = stream
                out.mux(packet)
    return path


FILMS: dict[str, Callable[[Path], Path]] = {
    "h264 with B-frames": _plain(".mp4", "libx264", options={"bf": "3", "g": "20"}),
    "hevc with RASL": _plain(
        ".mkv", "libx265", options={"x265-params": "open-gop=1:keyint=15:bframes=3:log-level=error"}
    ),
    "mpeg2 transport stream": _plain(".ts", "mpeg2video", options={"bf": "2", "g": "15", "b": "3000000"}),
    "interlaced": _plain(".mkv", "libx264", options={"x264-params": "tff=1:keyint=20"}),
    "variable rate": _variable,
    "rotated, with late sound": _rotated,
    "lossless RGB of odd size": _plain(".mkv", "ffv1", size=(97, 75), pix_fmt="gbrp10le", sound=False),
    "AVI with B-frames": _plain(".avi", "mpeg4", options={"bf": "2", "g": "20"}),
    "few frames": _plain(".mp4", "libx264", frames=3),
    "another size": other_size,
    "one keyframe": _plain(".mp4", "libx264", options={"g": "500", "sc_threshold": "0"}),
}
