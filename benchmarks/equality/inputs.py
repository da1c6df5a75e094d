"""The inputs of the equality check: small films and stills of scikit-image's portrait (NASA).

The inputs are always the same. They are written by PyAV, OpenCV and Pillow, not by the code under test.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image
from skimage import data

Rgb = np.ndarray[Any, np.dtype[np.float32]]
"""An image, float32 H×W×3, RGB, 0…1."""

# Colour tags as numbers of ITU-T H.273. A color_range of 1 is limited range, 2 is full range.
BT709 = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}
PQ = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
HLG = {"colorspace": 9, "color_primaries": 9, "color_trc": 18, "color_range": 1}
FULL = {"colorspace": 5, "color_range": 2}

# Display matrices in FFmpeg's layout (16.16 fixed point).
CLOCKWISE = [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]
UPSIDE_DOWN = [-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30]
MIRRORED = [-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30]

# Options of libx264 without macroblock trees, because they are not deterministic with AVX-512.
CALL = {"preset": "veryfast", "tune": "zerolatency", "crf": "33"}
FINE = {"preset": "superfast", "crf": "12"}


# Frames of inputs with one frame per second, so that a job has two segments.
SLOW = 38


@cache
def _portrait() -> Rgb:
    return data.astronaut().astype(np.float32) / np.float32(255)


def scene(
    t: float,
    width: int = 320,
    height: int = 180,
    *,
    faces: int = 1,
    zoom: float = 0.9,
    blur: float = 1.8,
    noise: float = 0.0,
    mirror: bool = False,
) -> Rgb:
    """Renders a frame with slowly moving portraits, side by side.

    Args:
        t: time in frames.
        zoom: scale of the portrait; at 1, its face is about 95 px wide.
        blur: standard deviation in px.
        noise: standard deviation, relative to full scale.
    """
    portrait = _portrait()[:, ::-1] if mirror else _portrait()
    face_x = 512.0 - 226.0 if mirror else 226.0
    image = np.empty((height, width, 3), np.float32)
    for k in range(faces):
        x = width * (k + 0.5) / faces + 4.0 * np.sin(t / 5 + k)
        y = height * 0.5 + 2.0 * np.cos(t / 7 + 2 * k)
        tilt = 3.0 * float(np.sin(t / 6 + k))
        matrix = cv2.getRotationMatrix2D((face_x, 128.0), tilt, zoom * (1 + 0.004 * t))
        matrix[:, 2] += (x - face_x, y - 128.0)
        layer = cv2.warpAffine(portrait, matrix, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        left, right = width * k // faces, width * (k + 1) // faces
        image[:, left:right] = layer[:, left:right]
    if blur:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    if noise:
        random = np.random.default_rng(round(10 * t))
        image = image + random.normal(0, noise, image.shape).astype(np.float32)
    return np.clip(image, 0, 1).astype(np.float32)


def _empty(t: float) -> Rgb:
    x = np.linspace(0.1, 0.9, 320, dtype=np.float32)
    return np.repeat(np.repeat(np.roll(x, round(3 * t))[None, :, None], 180, 0), 3, 2)


def _pq(image: Rgb) -> Rgb:
    """Encodes the image in SMPTE ST 2084, with white at 203 cd/m²."""
    y = (np.power(image, 2.2) * 0.0203) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def _hlg(image: Rgb) -> Rgb:
    """Encodes the image in ARIB STD-B67, at a quarter of its brightness."""
    light = np.power(image, 2.2) * 0.26
    bright = 0.17883277 * np.log(np.maximum(12 * light - 0.28466892, 1e-6)) + 0.55991073
    return np.where(light <= 1 / 12, np.sqrt(3 * light), bright).astype(np.float32)


def _frame(image: Rgb, pix_fmt: str, tags: dict[str, int]) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.round(image * 65535).astype(np.uint16), "rgb48le")
    matrix = "ITU709" if tags.get("colorspace") in (1, 9) else "ITU601"
    full = tags.get("color_range") == 2
    if not pix_fmt.startswith(("rgb", "gbr", "bgr")):
        frame = frame.reformat(
            format=pix_fmt, dst_colorspace=matrix, src_color_range="JPEG", dst_color_range="JPEG" if full else "MPEG"
        )
    else:
        frame = frame.reformat(format=pix_fmt)
    for name, value in tags.items():
        setattr(frame, name, value)
    return frame


def film(
    path: Path,
    pix_fmt: str = "yuv420p",
    *,
    codec: str = "ffv1",
    options: dict[str, str] | None = None,
    frames: int = 16,
    rate: int = 25,
    picture: Callable[[float], Rgb] = scene,
    fields: str | None = None,
    pts_ms: list[int] | None = None,
    tags: dict[str, int] | None = None,
    matrix: list[int] | None = None,
    aspect: Fraction | None = None,
    sound: str | None = None,
    sound_start_ms: int = 0,
    metadata: dict[str, str] | None = None,
    chapters: bool = False,
) -> None:
    """Writes a film.

    Args:
        picture: function that returns the image at a time in frames; with `fields` also at half frames.
        fields: first field of interlaced frames, "top" or "bottom"; the fields show two times. None: progressive.
        pts_ms: times of the frames; by default, they are evenly spaced at `rate`.
        matrix: display matrix; `picture` then returns the image as stored.
        sound: encoder of a stereo tone; None for no audio.
    """
    tags = tags or {}
    base = Fraction(1, 1000) if pts_ms else Fraction(1, rate)
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        video: Any = container.add_stream(codec, rate=rate, options=options or {})
        video.codec_context.thread_count = 1
        first = picture(0.0)
        video.width, video.height, video.pix_fmt = first.shape[1], first.shape[0], pix_fmt
        video.codec_context.time_base = base
        if pts_ms:
            video.time_base = base
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        for name, value in tags.items():
            setattr(video.codec_context, name, value)
        if matrix:
            video.set_display_matrix(matrix)
        audio: Any = container.add_stream(sound, rate=48_000) if sound else None
        if audio:
            audio.codec_context.layout = "stereo"
        container.metadata.update(metadata or {})
        if chapters:
            container.set_chapters(
                [
                    {
                        "id": i,
                        "start": 300 * i,
                        "end": 300 * i + 300,
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": f"part {i}"},
                    }
                    for i in (0, 1, 2)
                ]
            )
        container.start_encoding()
        if audio:
            _tone(container, audio, 48 * (1000 * frames // rate), sound_start_ms)
        for t in range(frames):
            image = picture(float(t))
            if fields:
                image = image.copy()
                second_field = 1 if fields == "top" else 0
                image[second_field::2] = picture(t + 0.5)[second_field::2]
            frame = _frame(image, pix_fmt, tags)
            frame.pts, frame.time_base = pts_ms[t] if pts_ms else t, base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))


def _tone(container: Any, stream: Any, samples: int, start_ms: int) -> None:
    pitch = np.array([[440.0], [555.0]])
    wave = (0.1 * np.sin(2 * np.pi * pitch * np.arange(samples) / 48_000)).astype(np.float32)
    for start in range(0, samples, 960):
        part = np.ascontiguousarray(wave[:, start : start + 960])
        block = av.AudioFrame.from_ndarray(part, "fltp", "stereo")
        block.sample_rate, block.time_base = 48_000, Fraction(1, 48_000)
        block.pts = start + 48 * start_ms
        container.mux(stream.encode(block))
    container.mux(stream.encode(None))


def _large(t: float) -> Rgb:
    return scene(t, 480, 270, zoom=1.7, blur=2.5, noise=0.01)


def _noisy(t: float) -> Rgb:
    return scene(t, noise=0.03)


def _two(t: float) -> Rgb:
    """Renders two faces, and after a cut two different faces."""
    after_cut = t >= 9
    return scene(t, 480, 270, faces=2, zoom=1.4 if after_cut else 1.1, mirror=after_cut)


def _leaves(t: float) -> Rgb:
    """Renders a face that leaves and returns."""
    return _empty(t) if 6 <= t < 10 else scene(t)


def _dark(t: float) -> Rgb:
    image = scene(t, noise=0.02) * np.array([0.5, 0.42, 0.33], np.float32)
    return image.astype(np.float32)


def films(folder: Path) -> None:
    """Writes the films."""
    for pix_fmt in (
        "yuv420p",
        "yuv422p",
        "yuv444p",
        "yuv411p",
        "yuv420p10le",
        "yuv422p10le",
        "yuv444p12le",
        "gray",
        "gray10le",
        "yuva420p",
        "gbrp10le",
    ):
        film(
            folder / f"{pix_fmt}.mkv",
            pix_fmt,
            tags=BT709 if pix_fmt == "yuv444p" else None,
            picture=_noisy if pix_fmt in ("yuv420p", "yuv422p10le", "gray") else scene,
        )
    film(folder / "nv12.nut", "nv12", codec="rawvideo", frames=12)
    film(folder / "rgb24.mov", "rgb24", codec="qtrle", frames=12)
    film(folder / "gbrp.mkv", "rgb24", codec="libx264rgb", options=FINE, frames=12)
    film(
        folder / "yuvj420p.mov",
        "yuvj420p",
        codec="mjpeg",
        tags=FULL,
        frames=12,
        options={"flags": "qscale", "global_quality": "354"},
    )
    film(folder / "full.mkv", "yuv420p", codec="libx264", options=FINE, tags=FULL, frames=12)
    film(folder / "h264-lossless.mp4", codec="libx264", tags=BT709, options={"preset": "ultrafast", "qp": "0"})
    film(folder / "prores.mov", "yuv422p10le", codec="prores_ks", tags=BT709, frames=12)
    top, bottom = {**FINE, "x264-params": "tff=1"}, {**FINE, "x264-params": "bff=1"}
    film(folder / "tff.mkv", codec="libx264", options=top, fields="top")
    film(folder / "bff.mkv", codec="libx264", options=bottom, fields="bottom")
    film(folder / "tff422.mkv", "yuv422p10le", codec="libx264", options=top, fields="top", frames=12)
    film(
        folder / "rotated.mp4",
        codec="libx264",
        options=CALL,
        matrix=CLOCKWISE,
        sound="aac",
        picture=lambda t: np.ascontiguousarray(np.rot90(scene(t))),
    )
    film(
        folder / "upside-down.mkv",
        codec="libx264",
        options=CALL,
        matrix=UPSIDE_DOWN,
        picture=lambda t: np.ascontiguousarray(scene(t)[::-1, ::-1]),
    )
    film(
        folder / "mirrored.mov",
        codec="libx264",
        options=FINE,
        matrix=MIRRORED,
        picture=lambda t: np.ascontiguousarray(scene(t)[:, ::-1]),
    )
    film(
        folder / "wide-pixels.mkv",
        aspect=Fraction(4, 3),
        picture=lambda t: cv2.resize(scene(t), (240, 180), interpolation=cv2.INTER_AREA),
    )
    hdr = (
        "log-level=error:pools=1:frame-threads=1:max-cll=1000,400:master-display="
        "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    )
    film(
        folder / "pq.mkv",
        "yuv420p10le",
        codec="libx265",
        tags=PQ,
        frames=12,
        picture=lambda t: _pq(scene(t)),
        options={"preset": "ultrafast", "crf": "12", "x265-params": hdr},
    )
    film(folder / "hlg.mkv", "yuv420p10le", tags=HLG, picture=lambda t: _hlg(scene(t)), frames=12)
    film(
        folder / "call.mp4",
        codec="libx264",
        options=CALL,
        tags=BT709,
        sound="aac",
        frames=24,
        chapters=True,
        metadata={"title": "a call", "comment": "portrait: NASA, public domain"},
        picture=lambda t: scene(t, 480, 270, zoom=1.3, blur=1.2, noise=0.02),
    )
    film(
        folder / "vfr.mkv",
        codec="libx264",
        options=FINE,
        sound="pcm_s16le",
        sound_start_ms=20,
        pts_ms=[100, 140, 180, 260, 300, 301, 340, 500, 533, 567, 600, 640, 700, 720, 760, 801],
    )
    film(folder / "two.mkv", picture=_two, frames=18)
    film(
        folder / "three.mp4",
        codec="libx264",
        options=FINE,
        frames=14,
        picture=lambda t: scene(t, 640, 240, faces=3, zoom=1.0),
    )
    film(folder / "large.mkv", picture=_large, frames=14)
    film(folder / "leaves.mkv", picture=_leaves)
    film(folder / "dark.mkv", picture=_dark)
    film(folder / "empty.mp4", codec="libx264", options=FINE, picture=_empty, frames=12)
    film(folder / "clean.mkv", picture=lambda t: scene(t, 480, 270, blur=0), frames=12)
    film(folder / "odd.mkv", "yuv444p", picture=lambda t: scene(t, 321, 181), frames=12)
    film(folder / "long.mkv", codec="libx264", options=FINE, frames=36, rate=12, sound="aac")
    film(folder / "live.mkv", frames=12, rate=10)
    slow: dict[str, Any] = {"frames": SLOW, "rate": 1}
    film(folder / "slow.mp4", codec="libx264", options=CALL, tags=BT709, sound="aac", **slow)
    film(folder / "slow.avi", codec="mpeg4", options={"bf": "2", "global_quality": "354"}, **slow)
    film(folder / "slow-10.mkv", "yuv422p10le", picture=_two, **slow)
    film(folder / "slow-tff.mkv", codec="libx264", options=top, fields="top", sound="pcm_s16le", **slow)
    film(folder / "slow-rgb.mkv", "gbrp12le", picture=_noisy, **slow)
    for k, size in enumerate([(320, 180), (256, 144)]):
        film(
            folder / f"part{k}.h264",
            codec="libx264",
            options=FINE,
            frames=8,
            picture=lambda t, size=size: scene(t, *size, zoom=0.8),
        )
    parts = [(folder / f"part{k}.h264").read_bytes() for k in (0, 1)]
    (folder / "sizes.h264").write_bytes(b"".join(parts))


def stills(folder: Path) -> None:
    """Writes the stills, and folders of stills."""

    def image(t: float = 0.0, **options: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.round(scene(t, 360, 270, zoom=1.3, **options) * 255).astype(np.uint8)

    def deep(t: float = 0.0) -> np.ndarray[Any, np.dtype[np.uint16]]:
        return np.round(scene(t, 360, 270, zoom=1.3) * 65535).astype(np.uint16)

    first = Image.fromarray(image())
    first.save(folder / "still.png", icc_profile=b"not a profile, but kept", dpi=(150, 150))
    first.save(folder / "still.webp", lossless=True)
    first.save(folder / "still.bmp")
    first.convert("L").save(folder / "gray.png")
    alpha = np.tile(np.linspace(0, 255, 360).astype(np.uint8), (270, 1))
    Image.fromarray(np.dstack([image(), alpha])).save(folder / "alpha.png")
    cv2.imwrite(str(folder / "deep.png"), deep()[..., ::-1])
    cv2.imwrite(str(folder / "deep.tiff"), deep()[..., ::-1])
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a portrait"  # orientation (clockwise) and description
    turned = first.transpose(Image.Transpose.ROTATE_90)
    turned.save(folder / "turned.jpg", quality=88, exif=exif, subsampling=2)
    first.save(folder / "fine.jpg", quality=96, subsampling=0)
    album, sequence = folder / "album", folder / "sequence"
    album.mkdir()
    sequence.mkdir()
    Image.fromarray(image(3.0)).save(album / "a.png")
    Image.fromarray(image(5.0, mirror=True)).save(album / "b.jpg", quality=80)
    Image.fromarray(np.round(_empty(0) * 255).astype(np.uint8)).save(album / "c.png")
    for t in range(12):
        cv2.imwrite(str(sequence / f"{t:03}.png"), image(float(t))[..., ::-1])
    scans = folder / "slow-scans"
    scans.mkdir()
    for t in range(SLOW):
        if t != 30:  # number 30 is missing, so that a run repeats a frame
            cv2.imwrite(str(scans / f"{t:03}.png"), deep(float(t))[..., ::-1])
    (scans / "033.png").write_bytes(b"damaged")


def texts(folder: Path) -> None:
    """Writes a treatment, a configuration, and a stage that records faces."""
    (folder / "treatment.json").write_text(
        '{"version": 1, "tracks": {"1": {"on": true, "strength": 0.6}, '
        '"2": {"on": false}, "3": {"on": true, "strength": 1.0}}}'
    )
    (folder / "options.toml").write_text('strength = 0.5\ngrain = "none"\nmax-faces = 2\n')
    (folder / "shots.csv").write_text("start,end,strength,off\n0,10,0.5,\n20,28,,1\n")
    (folder / "noted.py").write_text(_STAGE)


_STAGE = '''"""A stage that writes the faces of every frame to a file and changes nothing."""
import json
from dataclasses import dataclass
from rtface.stages import option


@dataclass
class Faces:
    """Notes faces."""
    api = 1
    file: str = option("", "where to")

    def __call__(self, frame):
        faces = [[face.track_id, face.box.tolist(), face.points.tolist(),
                  None if face.mesh is None else face.mesh.tolist()] for face in frame.faces]
        with open(self.file, "a") as out:
            out.write(json.dumps([frame.time, frame.cut, frame.new, faces]) + "\\n")
        return frame
'''


def arrays(path: Path, picture: Callable[[float], Rgb], times: range) -> None:
    """Writes frames for the Enhancer: uint8 N×H×W×3, RGB."""
    np.save(path, np.stack([np.round(picture(float(t)) * 255).astype(np.uint8) for t in times]))


def make(folder: Path) -> None:
    """Writes every input into an empty folder."""
    folder.mkdir(parents=True)
    films(folder)
    stills(folder)
    texts(folder)
    arrays(folder / "frames.npy", _noisy, range(10))
    arrays(folder / "two.npy", _two, range(4, 14))
