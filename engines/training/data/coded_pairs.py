"""Makes training pairs at the encoded resolution: decoded patches, truth and quantiser steps.

``python -m training.data.coded_pairs --faces DIR --out runs/coded --films 3000 [--tuning]``

A portrait moves over a small canvas. A real encoder encodes this film, and a decoder decodes it. Most films are not
enlarged afterwards. The truth is the encoder's input before sensor noise: a portrait resampled only once, or its image
from a webcam with a soft lens (`training.degradation.webcam`). A fifth of the films are encoded lightly or not at all,
so that networks learn not to change good pictures. A tenth show text, line art or photographs without a face.

Each shard contains ``seen`` and ``truth`` (uint8 N×160×160×3 RGB), ``steps`` (float16 N×20×20) and ``meta`` (index of
the codec in `CODECS`, face width in pixels). ``steps`` is log2 of each 8×8 cell's quantiser step, in code values of an
orthonormal transform; NaN if unknown. Patches are aligned to the 8-pixel grid of the frame.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from rtface.enhance.coded_place import CODEC_TRAITS, CodecTraits
from rtface.frame import Quantisers
from rtface.media.formats.image_header import quantisation_tables
from rtface.media.formats.quantiser_tables import jpeg_step
from rtface.media.read.quantiser import QuantiserReader
from training.crop_space import F32, F64, U8, before_ground
from training.data.portraits import Face, load_faces, split, tuning_people
from training.degradation import single_image, video_codec
from training.degradation.webcam import draw_webcam
from training.degradation.ycbcr import from_rgb, shown

PATCH, CELL = 160, 8
CODECS = ("none", "libx264", "libx265", "libvpx", "libvpx-vp9", "mpeg2video", "mpeg4", "jpeg", "libsvtav1")
SHARES = (0.06, 0.46, 0.08, 0.09, 0.06, 0.09, 0.03, 0.09, 0.04)
SHARD, PATCHES = 250, 3
"""Number of films per shard; number of patches per film."""
FACELESS_SHARE = 0.1
BACKGROUND_SHARE = 0.2
"""Share of portraits with a replaced background."""
SOFT_SHARE = 0.25
"""Share of films whose truth is a webcam's picture."""
TWICE_SHARE = 0.12
"""Share of films that are encoded twice."""
ENLARGED_SHARE = 0.10
"""Share of films encoded at a smaller size and then enlarged; half of these films are encoded again, lightly."""
MAX_SMALL_SCALE = 0.6
"""Maximum scale of portraits with less than 512 pixels, because they may be soft at full size."""


@dataclass
class Coding:
    """How a film is encoded: ``codec`` (one of `CODECS`), encoder ``options``, ``bit_rate`` (0: constant quality), JPEG
    ``quality``. ``sigma``: sensor noise in code values; if ``grain``, this noise is part of the truth."""

    codec: str
    options: dict[str, str] = field(default_factory=dict[str, str])
    bit_rate: int = 0
    quality: int = 0
    sigma: float = 0.0
    grain: bool = False


def draw_coding(r: np.random.Generator, pixels: int) -> Coding:
    """Draws codec, quality and noise. ``pixels``: number of pixels of a frame; bit rates are proportional to it."""
    codec = str(r.choice(CODECS, p=SHARES))
    worse = float(r.uniform())  # 0: visually lossless … 1: poor
    sigma = 0.0 if r.uniform() < 0.4 else float(r.uniform(0.0, 1.0)) * (1.0 + 5.0 * worse)
    if codec == "none":
        sigma = 0.0 if r.uniform() < 0.25 else float(r.uniform(0.3, 8.0))
        return Coding(codec, sigma=sigma, grain=bool(r.uniform() < 0.8))
    grain = bool(r.uniform() < 0.75) if worse < 0.25 else False
    rate = int(pixels * 25 * 2 ** r.uniform(-5.3, -2.2))  # 0.025 … 0.22 bits per pixel
    if codec == "libx264":
        options = {
            "preset": str(
                r.choice(["ultrafast", "superfast", "veryfast", "medium", "slow"], p=[0.1, 0.1, 0.4, 0.3, 0.1])
            )
        }
        if r.uniform() < 0.5:
            options["tune"] = "zerolatency"
        if r.uniform() < 0.1:
            options["x264-params"] = "no-deblock=1"
        if r.uniform() < 0.12:
            return Coding(codec, options, bit_rate=rate, sigma=sigma)
        return Coding(codec, options | {"crf": f"{14 + 26 * worse:.1f}"}, sigma=sigma, grain=grain)
    if codec == "libx265":
        quality = f"crf={15 + 25 * worse:.1f}" if r.uniform() < 0.6 else f"qp={16 + round(24 * worse)}"
        options = {
            "preset": str(r.choice(["ultrafast", "veryfast", "medium"])),
            "x265-params": f"{quality}:log-level=none:pools=1:frame-threads=1:bframes={int(r.integers(4))}",
        }
        return Coding(codec, options, sigma=sigma, grain=grain)
    if codec in ("libvpx", "libvpx-vp9"):
        options = {"deadline": "realtime", "cpu-used": "-8" if codec == "libvpx" else "7", "lag-in-frames": "0"}
        if r.uniform() < 0.5:
            return Coding(codec, options, bit_rate=rate, sigma=sigma)
        low = 4 + 50 * worse
        return Coding(
            codec,
            options | {"crf": f"{low:.0f}", "b": "20M", "qmin": f"{low:.0f}", "qmax": f"{min(63, low + 4):.0f}"},
            sigma=sigma,
            grain=grain,
        )
    if codec == "libsvtav1":
        return Coding(
            codec, {"preset": "10", "crf": f"{18 + 40 * worse:.0f}", "svtav1-params": "lp=1"}, sigma=sigma, grain=grain
        )
    if codec == "jpeg":
        return Coding(codec, quality=round(97 - 77 * worse), sigma=sigma, grain=grain)
    scale = max(2, round(2 + 26 * worse**1.3)) if codec == "mpeg2video" else max(2, round(2 + 18 * worse))
    return Coding(codec, {"q": str(scale)}, sigma=sigma, grain=grain)


def coded(images: list[U8], coding: Coding) -> list[tuple[U8, F32]]:
    """Encodes and decodes pictures. Returns (picture uint8 H×W×3 RGB, log2 of quantiser steps per cell or NaN)."""
    cells = images[0].shape[0] // CELL, images[0].shape[1] // CELL
    unknown = np.full(cells, np.nan, np.float32)
    if coding.codec == "none":
        return [(shown(from_rgb(image, "yuv420p")), unknown) for image in images]
    if coding.codec == "jpeg":
        return [_encode_jpeg(image, coding.quality, cells) for image in images]
    return list(_encode_video(images, coding))


def _encode_video(images: list[U8], coding: Coding) -> Iterator[tuple[U8, F32]]:
    height, width = images[0].shape[:2]
    siting = "center" if coding.codec == "libvpx" else "left"
    options, rate = dict(coding.options), coding.bit_rate
    if scale := options.pop("q", ""):
        options, rate = options | {"qmin": scale, "qmax": scale}, 40_000_000
    decoder = video_codec.decoder_of(coding.codec)
    reader = QuantiserReader(decoder)
    frames = (from_rgb(image, "yuv420p", siting) for image in images)
    for packet in video_codec.packets(frames, coding.codec, options, 25, rate):
        if packet is not None:
            reader.note(packet)
        for frame in decoder.decode(packet):
            yield shown(frame, siting), _cell_steps(reader.of(frame), (height // CELL, width // CELL))


def _cell_steps(quantisers: Quantisers | None, cells: tuple[int, int]) -> F32:
    """Returns log2 of the quantiser steps of 8×8 cells, on H.264's scale. Unknown steps are NaN."""
    if quantisers is None:
        return np.full(cells, np.nan, np.float32)
    rows, columns = ((np.arange(n) * CELL + CELL // 2) // quantisers.block for n in cells)
    return np.log2(quantisers.steps[rows][:, columns]) - CODEC_TRAITS.get(quantisers.codec, CodecTraits()).finer


def _encode_jpeg(image: U8, quality: int, cells: tuple[int, int]) -> tuple[U8, F32]:
    success, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    tables = quantisation_tables(data.tobytes())
    assert success and tables is not None
    out: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(out[:, :, ::-1]), np.full(cells, np.log2(jpeg_step(tables[0])), np.float32)


# --- pictures ---


def change_tones(image: U8, r: np.random.Generator) -> U8:
    out = image.astype(np.float32) / 255
    if r.uniform() < 0.5:
        out = out ** float(r.uniform(0.7, 1.6))
        low, high = float(r.uniform(0.0, 0.12)), float(r.uniform(0.6, 1.0))
        out = low + out * (high - low)
    if r.uniform() < 0.3:
        gray = out.mean(2, keepdims=True)
        out = gray + (out - gray) * float(r.choice([0.0, r.uniform(0.4, 1.3)]))
        out = out * r.uniform(0.85, 1.1, 3).astype(np.float32)
    out = np.clip(out, 0, 1)
    return np.ascontiguousarray((out[:, ::-1] if r.uniform() < 0.5 else out) * 255 + 0.5).astype(np.uint8)


def warp(image: U8, r: np.random.Generator) -> U8:
    """Warps a picture by a few percent. Thus one portrait yields many faces."""
    if r.uniform() < 0.3:
        return image
    side = image.shape[0]
    shift = cv2.resize(r.normal(0, 0.02 * side, (4, 4, 2)).astype(np.float32), (side, side),
                       interpolation=cv2.INTER_CUBIC)  # fmt: skip
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    half, stretch = side / 2, np.exp(r.normal(0, 0.06, 2))
    x = (columns - half) * np.float32(stretch[0]) + half + shift[..., 0]
    y = (rows - half) * np.float32(stretch[1]) + half + shift[..., 1]
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def _draw_chart(r: np.random.Generator) -> U8:
    """Draws text, lines and simple shapes on a smooth background, uint8 512×512×3."""
    ground = cv2.resize(r.uniform(0, 255, (3, 3, 3)).astype(np.float32), (512, 512), interpolation=cv2.INTER_CUBIC)
    image = np.clip(ground, 0, 255).astype(np.uint8)
    for _ in range(int(r.integers(10, 60))):
        colour = tuple(int(v) for v in r.integers(0, 256, 3))
        x, y, x1, y1 = (int(v) for v in r.integers(0, 512, 4))
        shape = int(r.integers(4))
        if shape == 0:
            cv2.line(image, (x, y), (x1, y1), colour, int(r.integers(1, 6)), cv2.LINE_AA)
        elif shape == 1:
            cv2.circle(image, (x, y), int(r.integers(2, 60)), colour, int(r.integers(-1, 5)) or 1, cv2.LINE_AA)
        else:
            text = "".join(chr(int(c)) for c in r.integers(33, 127, int(r.integers(4, 24))))
            cv2.putText(
                image,
                text,
                (x - 60, y),
                int(r.integers(0, 5)),
                float(r.uniform(0.5, 2.0)),
                colour,
                int(r.integers(1, 4)),
                cv2.LINE_AA,
            )
    return image


def _draw_page(r: np.random.Generator) -> U8:
    """Draws lines of small characters, uint8 512×512×3. They are drawn at twice the size and then reduced."""
    ink, paper = (r.uniform(0, 110, 3), r.uniform(150, 255, 3)) if r.uniform() < 0.7 else r.uniform(0, 255, (2, 3))
    page = np.full((1024, 1024, 3), paper, np.uint8)
    y, size, font = 0, float(r.uniform(0.6, 2.2)), int(r.integers(0, 8))
    while y < 1060:
        if r.uniform() < 0.3:
            size, font = float(r.uniform(0.6, 2.2)), int(r.integers(0, 8))
        line = "".join(chr(int(c)) for c in r.choice([32, *range(48, 58), *range(65, 91), *range(97, 123)], 60))
        thickness = int(r.integers(1, 4))
        cv2.putText(page, line, (-int(r.integers(0, 80)), y), font, size, tuple(map(int, ink)), thickness, cv2.LINE_AA)
        y += int(size * r.uniform(26, 50)) + 4
    return np.asarray(cv2.resize(page, (512, 512), interpolation=cv2.INTER_AREA), np.uint8)


def _draw_waves(r: np.random.Generator) -> U8:
    """Draws waves, bars, checks and rings of varying frequency, uint8 512×512×3."""
    y, x = np.mgrid[:512, :512] / 512
    wave = np.zeros((512, 512))
    for _ in range(int(r.integers(1, 4))):
        angle, waves = r.uniform(0, np.pi), float(np.exp(r.uniform(np.log(6), np.log(110))))
        across = x * np.cos(angle) + y * np.sin(angle)
        if r.uniform() < 0.3:
            across = np.hypot(x - r.uniform(-0.2, 1.2), y - r.uniform(-0.2, 1.2))
        part = np.sin(2 * np.pi * waves * (across + r.uniform(-0.6, 0.6) * across * across) + r.uniform(0, 6.28))
        wave = wave + (np.sign(part) if r.uniform() < 0.4 else part)
    wave = np.clip(0.5 + wave / 2, 0, 1)[..., None]
    dark, light = r.uniform(0, 255, (2, 3)) if r.uniform() < 0.5 else (r.uniform(0, 60), r.uniform(190, 255))
    return np.rint(dark + (light - dark) * wave * np.ones(3)).astype(np.uint8)


def _draw_scraps(r: np.random.Generator) -> U8:
    """Draws thousands of overlapping small polygons or strokes, uint8 512×512×3."""
    base = r.uniform(0, 255, 3)
    image = np.full((512, 512, 3), base * 0.3, np.uint8)
    largest, strokes = float(r.uniform(4, 22)), r.uniform() < 0.4
    for _ in range(int(r.integers(800, 4000))):
        place, colour = (
            r.uniform(0, 512, 2),
            tuple(map(int, np.clip(base * r.uniform(0.2, 1.6) + r.normal(0, 20, 3), 0, 255))),
        )
        corners = np.int32(16 * (place + r.normal(0, largest / 2, (2 if strokes else int(r.integers(3, 6)), 2))))
        if strokes:
            cv2.polylines(image, [corners], False, colour, 1, cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(image, [corners], colour, cv2.LINE_AA, 4)
    return image


def _draw_background(r: np.random.Generator, cache: dict[str, U8]) -> U8:
    """Draws a picture without a face, uint8 512×512×3. ``cache`` stores photographs."""
    return (_draw_chart, _draw_page, _draw_waves, _draw_scraps, lambda r: _photograph(r, cache))[
        int(r.choice(5, p=(0.2, 0.3, 0.2, 0.15, 0.15)))
    ](r)


def _replace_background(image: U8, ground: U8, r: np.random.Generator) -> U8:
    """Replaces the background of a canonical portrait with ``ground``."""
    (x, across), (y, down) = ((r.normal(0.5, 0.02), r.uniform(low, high)) for low, high in ((0.3, 0.44), (0.38, 0.5)))
    ground = np.asarray(cv2.resize(ground, image.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)
    return before_ground(image, ground, (x, y), (across, down), (1.05 - float(r.uniform(0.03, 0.2)), 1.05))


def _photograph(r: np.random.Generator, cache: dict[str, U8]) -> U8:
    """Returns a random 512-px window of one of scikit-image's photographs. ``cache`` stores photographs."""
    from skimage import data

    names = ("coffee", "chelsea", "rocket", "camera", "coins", "page", "text", "brick", "grass", "gravel", "moon")
    name = str(r.choice(names))
    if name not in cache:
        image = np.asarray(getattr(data, name)(), np.uint8)
        cache[name] = np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, 2))
    image = cache[name]
    h, w = image.shape[:2]
    side = min(h, w, 512)
    y, x = int(r.integers(h - side + 1)), int(r.integers(w - side + 1))
    return np.asarray(
        cv2.resize(image[y : y + side, x : x + side], (512, 512), interpolation=cv2.INTER_CUBIC), np.uint8
    )


def render(image: U8, scale: float, places: list[tuple[float, float, float, float]], side: int) -> list[U8]:
    """Renders a picture at each of ``places`` (x, y, angle, zoom): uint8 side×side×3. Resamples only once."""
    reduction = 1 / scale
    if reduction > 1.05:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.42 * float(np.sqrt(reduction * reduction - 1))), np.uint8)
    out: list[U8] = []
    half = image.shape[0] / 2
    for x, y, angle, zoom in places:
        k = scale * zoom
        c, s = k * np.cos(angle), k * np.sin(angle)
        m: F64 = np.array([[c, -s, x - c * half + s * half], [s, c, y - s * half - c * half]], np.float64)
        flags = cv2.INTER_CUBIC
        out.append(
            np.asarray(cv2.warpAffine(image, m, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101), np.uint8)
        )
    return out


@dataclass
class Sample:
    """One patch: ``seen`` and ``truth`` uint8, ``steps`` float32, ``codec`` (index), ``px`` (width of the face)."""

    seen: U8
    truth: U8
    steps: F32
    codec: int
    px: float


def enlarged_after(images: list[U8], coding: Coding, r: np.random.Generator) -> list[tuple[U8, F32]]:
    """Encodes pictures at a smaller size, then enlarges them. Half are encoded again at full size."""
    side = images[0].shape[0]
    small = max(48, 16 * round(side / float(np.exp(r.uniform(np.log(1.3), np.log(4)))) / 16))
    reduced = [np.asarray(cv2.resize(i, (small, small), interpolation=cv2.INTER_AREA), np.uint8) for i in images]
    mode = int(r.choice([cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4], p=[0.6, 0.25, 0.15]))
    large = [np.asarray(cv2.resize(i, (side, side), interpolation=mode), np.uint8) for i, _ in coded(reduced, coding)]
    second = Coding("libx264", {"preset": "veryfast", "crf": f"{r.uniform(8, 22):.1f}"})
    return coded(large, second if r.uniform() < 0.5 else Coding("none")) if large else []


def before_coding(truths: list[U8], r: np.random.Generator) -> tuple[list[U8], list[U8], Coding]:
    """Draws a coding and adds its noise. Returns truths (with any grain), the encoder's input, and the coding."""
    pixels = truths[0].shape[0] * truths[0].shape[1]
    coding, inputs = draw_coding(r, pixels), truths
    if coding.sigma:
        blur = int(r.integers(3))
        inputs = [single_image.noise(t, coding.sigma, r, blur, 0.8) for t in truths]
        if coding.grain:
            truths = inputs
    if r.uniform() < TWICE_SHARE and coding.codec != "none":
        first = draw_coding(r, pixels)
        if first.codec != "none" and len(first_pass := coded(inputs, first)) == len(inputs):
            inputs = [image for image, _ in first_pass]
    return truths, inputs, coding


def film(faces: list[Face], r: np.random.Generator, cache: dict[str, U8]) -> list[Sample]:
    """Makes a film and cuts patches out of it. ``cache`` stores photographs."""
    empty = r.uniform() < FACELESS_SHARE
    if empty:
        image, scale = _draw_background(r, cache), float(r.uniform(0.35, 0.9))
        px = 0.0
    else:
        face = faces[int(r.integers(len(faces)))]
        image = face.load()
        if image.shape[0] > 512:
            image = np.asarray(cv2.resize(image, (512, 512), interpolation=cv2.INTER_AREA), np.uint8)
        px = float(np.exp(r.uniform(np.log(26), np.log(142)))) if r.uniform() < 0.75 else float(r.uniform(100, 230))
        scale = px / (0.556 * image.shape[0])
        if image.shape[0] < 512:
            scale = min(scale, MAX_SMALL_SCALE)
            px = scale * 0.556 * image.shape[0]
        image = warp(change_tones(image, r), r)
        if r.uniform() < BACKGROUND_SHARE:
            image = _replace_background(image, _draw_background(r, cache), r)
    side = 224 if scale < 0.6 else 288
    frames = int(r.integers(7, 14))
    speed = 10 ** r.uniform(-1.5, 0.8)
    steps = r.normal(0, 1, (frames, 4)) * [speed, speed, 0.006 * speed, 0.004 * speed]
    path = np.cumsum(steps + r.normal(0, 1, (1, 4)) * [speed, speed, 0, 0], 0)
    path -= path[frames // 2]
    shift = r.normal(0, 0.12 * side, 2)
    places = [(side / 2 + shift[0] + p[0], side / 2 + shift[1] + p[1], float(p[2]), float(np.exp(p[3]))) for p in path]
    truths = render(image, scale, places, side)
    if r.uniform() < SOFT_SHARE:
        camera = draw_webcam(r)
        truths = [camera(t, r) for t in truths]
    truths, inputs, coding = before_coding(truths, r)
    seen = enlarged_after(inputs, coding, r) if r.uniform() < ENLARGED_SHARE and not empty else coded(inputs, coding)
    if len(seen) != len(truths):
        return []
    out: list[Sample] = []
    for number in r.permutation(np.arange(0 if coding.codec in ("none", "jpeg") else 1, frames))[:PATCHES]:
        last_cell = (side - PATCH) // CELL
        x, y = (int(v) for v in r.integers(0, last_cell + 1, 2))
        box = np.s_[y * CELL : y * CELL + PATCH, x * CELL : x * CELL + PATCH]
        part = seen[number][1][y : y + PATCH // CELL, x : x + PATCH // CELL]
        out.append(Sample(seen[number][0][box], truths[number][box], part, CODECS.index(coding.codec), px))
    return out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--films", type=int, default=3000)
    p.add_argument("--tuning", action="store_true", help="use the people excluded from training, for validation")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.PANIC)
    everyone = load_faces(a.faces)
    tuning = tuning_people(everyone)
    faces = [f for f in split(everyone)[0] if (f.identity in tuning) == a.tuning and (f.px >= 384 or not a.tuning)]
    a.out.mkdir(parents=True, exist_ok=True)
    cache: dict[str, U8] = {}
    start = time.monotonic()
    for shard in range((a.films + SHARD - 1) // SHARD):
        path = a.out / f"{a.seed}-{shard:04d}.npz"
        if path.is_file():
            continue
        samples: list[Sample] = []
        for number in range(shard * SHARD, min(a.films, (shard + 1) * SHARD)):
            samples += film(faces, np.random.default_rng([a.seed, number]), cache)
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, seen=np.stack([s.seen for s in samples]), truth=np.stack([s.truth for s in samples]),
                 steps=np.stack([s.steps for s in samples]).astype(np.float16),
                 meta=np.array([(s.codec, s.px) for s in samples], np.float32))  # fmt: skip
        temporary.replace(path)
        print(f"{path.name}: {len(samples)} patches, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
