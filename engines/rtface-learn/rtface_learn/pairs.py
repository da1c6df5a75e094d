"""Makes training pairs (truth, engine input) by encoding takes with real encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from threading import Event
from typing import Any

import av
import cv2
import numpy as np

from rtface.analysis.treatment import expected_share
from rtface.engine.golden import load_golden
from rtface.engine.recipe import Recipe
from rtface.frame import Bytes, Float, Float32
from rtface.media.read.quantiser import QuantiserReader
from rtface.protocols import CodedNetwork
from rtface.util.machine import cores
from rtface_learn.takes import Take, cut

FILMS = 2
"""Number of encodings of each take and kind ("call", "coded")."""
PAIRS_PER_FILM = 7
"""Number of pairs from each encoding of a take."""
_MAX_THREADS = 8  # limited because each thread keeps its pictures in memory
_OTHER_FACES, _SIDE = 36, 288
"""Number of other people's faces; side of their pictures in pixels."""
# Positions (x, y) of eyes, nose, mouth, cheeks and brows in a crop, in fractions of the side of the crop.
_PARTS = ((0.38, 0.47), (0.62, 0.47), (0.5, 0.58), (0.5, 0.725), (0.32, 0.68), (0.68, 0.68), (0.38, 0.36), (0.62, 0.36))
_KINDS = {"libx264": "h264", "mpeg2video": "mpeg2video"}


def make_pairs(
    takes: Sequence[Take], recipe: Recipe, network: Callable[[], CodedNetwork], seed: int, films: int = FILMS
) -> tuple[Bytes, list[str]]:
    """Returns pairs of truth and engine input, uint8 M×2×h×w×3. Also returns each pair's kind: "call" (as in a video
    call) or "coded" (as in a film, after the first stage).

    Args:
        network: function that creates a network. Each take has its own because a network is not thread-safe.
    """
    stop = Event()
    network()  # so that the network is compiled only once, before the threads start

    def encode_take(n: int) -> list[tuple[Bytes, str]]:
        r, stage, kinds = np.random.default_rng([seed, n]), network(), ("coded", "call") * films
        return [(p, kind) for kind in kinds if not stop.is_set() for p in _pairs_of(takes[n], kind, recipe, stage, r)]

    # After an interruption, the threads stop and do not encode the remaining takes.
    with ThreadPoolExecutor(min(cores(), _MAX_THREADS)) as pool, ExitStack() as stack:
        stack.callback(stop.set)
        pairs = [item for part in pool.map(encode_take, range(len(takes))) for item in part]
    return np.stack([pair for pair, _ in pairs]), [kind for _, kind in pairs]


def _pairs_of(take: Take, kind: str, recipe: Recipe, network: CodedNetwork, r: np.random.Generator) -> Iterator[Bytes]:
    truths = [*map(draw_light(r, take), take.pictures)] if r.random() < 0.8 else take.pictures
    side, template_side = len(truths[0]), 512 * float(np.hypot(*take.matrices[0][:, 0]))
    heavy = kind == "call" and r.random() < 0.5
    if kind == "coded":
        k, sigma = min(1.0, float(np.exp(r.uniform(np.log(0.4), 0.0)))), 0.0 if r.random() < 0.2 else r.uniform(0, 3.5)
        codec, options = _draw_coding(r)
    else:
        k = min(1.0, (0.25 if heavy else 0.5) * 256 / template_side * float(np.exp(r.normal(0, 0.15))))
        sigma = r.uniform(2, 8) if heavy else r.uniform(0.5, 5)
        preset = str(r.choice(["superfast", "veryfast", "veryfast", "faster"]))
        codec, options = (
            "libx264",
            {"preset": preset, "crf": f"{r.uniform(28, 36) if heavy else r.uniform(25, 34):.1f}"},
        )
    small = max(64, round(side * k / 16) * 16)
    inputs = [add_noise(cv2.resize(p, (small, small), interpolation=cv2.INTER_AREA), sigma, r) for p in truths]
    order = list(range(len(inputs)))[:: int(r.choice([-1, 1]))]
    decoded = list(_code([inputs[n] for n in order], codec, options))
    if len(decoded) < len(order):
        return
    x, y, w, h = recipe.region
    strength = float(r.uniform(0.2, 0.6))
    for n in r.permutation(len(order))[:PAIRS_PER_FILM]:
        picture, steps = decoded[n]
        if kind == "coded":
            picture = _apply_first_stage(picture, steps, strength, network)
        matrix = _perturb_matrix(take.matrices[order[n]], r)
        to_coded = np.array([[small / side], [small / side]])
        yield np.stack(
            [
                cut(truths[order[n]], matrix, recipe.input.size, (x, y, w, h)),
                cut(picture, matrix * to_coded, recipe.input.size, (x, y, w, h)),
            ]
        )


def _draw_coding(r: np.random.Generator) -> tuple[str, dict[str, str]]:
    if r.random() < 0.25:
        return "mpeg2video", {"q": str(int(r.integers(4, 25)))}
    options = {
        "preset": str(r.choice(["superfast", "veryfast", "veryfast", "medium"])),
        "crf": f"{r.uniform(20, 37):.1f}",
    }
    return "libx264", options | ({"tune": "zerolatency"} if r.random() < 0.4 else {})


def draw_light(r: np.random.Generator, take: Take) -> Any:
    """Draws a random change of light (gamma, colour, gradients) and sharpness. Returns a function that applies it."""
    side, (height, width, _) = 512 * float(np.hypot(*take.matrices[0][:, 0])), take.pictures[0].shape
    centre = take.matrices[0] @ np.array([256.0, 256.0, 1.0])
    table = (np.arange(256, dtype=np.float32) / 255) ** np.float32(np.exp(r.normal(0, 0.22)))
    channel_gains = np.exp(r.normal(0, 0.09, 3)) * float(np.exp(r.normal(0, 0.12)))
    across_gain, down_gain = (
        1 + r.normal(0, amount) * np.clip((np.arange(size) - c) / side, -0.5, 0.5)
        for amount, c, size in ((0.45, centre[0], width), (0.25, centre[1], height))
    )
    light = (np.clip(down_gain[:, None] * across_gain[None], 0.4, 1.8)[..., None] * channel_gains).astype(np.float32)
    chance, blur_unit = r.random(), side / 256
    blur = 0.0 if chance < 0.35 else float(np.exp(r.uniform(np.log(0.4), np.log(1.6)))) * blur_unit
    sharpening = float(r.uniform(0.3, 0.9)) if 0.2 < chance < 0.35 or chance > 0.85 else 0.0

    def apply(picture: Bytes) -> Bytes:
        z = table[picture] * light
        if blur > 0.25:
            z = cv2.GaussianBlur(z, (0, 0), blur)
        if sharpening:
            z = z + np.float32(sharpening) * (z - cv2.GaussianBlur(z, (0, 0), 1.2 * blur_unit))
        return np.clip(np.rint(255 * z), 0, 255).astype(np.uint8)

    return apply


def add_noise(picture: Any, sigma: float, r: np.random.Generator) -> Bytes:
    """Adds noise with a standard deviation of `sigma` code values. 30 % of its variance is common to all channels."""
    if not sigma:
        return np.asarray(picture, np.uint8)
    colour, grey = (r.standard_normal((*picture.shape[:2], channels), np.float32) for channels in (3, 1))
    return np.clip(np.rint(picture + sigma * (0.7**0.5 * colour + 0.3**0.5 * grey)), 0, 255).astype(np.uint8)


def _perturb_matrix(matrix: Float, r: np.random.Generator) -> Float:
    """Adds random errors like a tracker's to an alignment: about 1.4 px, half a degree, and 1 % in scale."""
    scale, angle = float(np.exp(r.normal(0, 0.008))), r.normal(0, 0.008)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    perturbation = np.array([[c, -s, 256 - 256 * c + 256 * s], [s, c, 256 - 256 * s - 256 * c], [0, 0, 1]])
    perturbation[:2, 2] += r.normal(0, 1.4, 2)
    return matrix @ perturbation


def _code(pictures: Sequence[Bytes], codec: str, options: dict[str, str]) -> Iterator[tuple[Bytes, Float32 | None]]:
    """Encodes and decodes pictures. Yields each with log2 of the quantiser steps of its 8×8 cells; None if unknown."""
    side = len(pictures[0])
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width = encoder.height = side
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 25), Fraction(25, 1)
    encoder.thread_count = 1
    if "q" in options:
        encoder.qmin = encoder.qmax = int(options["q"])
        encoder.bit_rate = 40_000_000
    encoder.options = {key: value for key, value in options.items() if key != "q"}
    decoder: Any = av.CodecContext.create(_KINDS[codec], "r")
    decoder.thread_count = 1
    reader = QuantiserReader(decoder)

    def decode(packet: Any) -> Iterator[tuple[Bytes, Float32 | None]]:
        if packet is not None:
            reader.note(packet)
        for frame in decoder.decode(packet):
            quantiser, cell_centres = reader.of(frame), (np.arange(side // 8) * 8 + 4)
            steps = None
            if quantiser is not None:
                block_indices = cell_centres // quantiser.block
                steps = np.log2(quantiser.steps[block_indices][:, block_indices], dtype=np.float32)
            yield to_rgb(frame), steps

    for pts, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(to_yuv(picture), "yuv420p")
        frame.pts, frame.time_base = pts, Fraction(1, 25)
        for packet in encoder.encode(frame):
            yield from decode(packet)
    for packet in encoder.encode(None):
        yield from decode(packet)
    yield from decode(None)


_TO_YUV = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], np.float32) / 255
"""BT.601, limited range. OpenCV's conversion shifts colour by half a pixel, and swscale's darkens slightly."""


def to_yuv(picture: Bytes) -> Bytes:
    """Converts RGB to an array of PyAV's yuv420p planes. Chroma is averaged."""
    y, u, v = np.moveaxis(picture.astype(np.float32) @ _TO_YUV.T + (16, 128, 128), 2, 0)
    side = len(picture)
    small = [cv2.resize(c, (side // 2, side // 2), interpolation=cv2.INTER_AREA).reshape(-1, side) for c in (u, v)]
    return np.clip(np.rint(np.concatenate([y, *small])), 0, 255).astype(np.uint8)


def to_rgb(frame: av.VideoFrame) -> Bytes:
    """Converts a decoded yuv420p frame to RGB: the inverse of `to_yuv`."""
    side = frame.width
    planes = frame.to_ndarray().astype(np.float32)
    u, v = (
        cv2.resize(c.reshape(side // 2, side // 2), (side, side), interpolation=cv2.INTER_LINEAR)
        for c in np.split(planes[side:].reshape(-1), 2)
    )
    yuv = np.stack([planes[:side] - 16, u - 128, v - 128], 2)
    return np.clip(np.rint(yuv @ np.linalg.inv(_TO_YUV).T.astype(np.float32)), 0, 255).astype(np.uint8)


def _apply_first_stage(picture: Bytes, steps: Float32 | None, share: float, network: CodedNetwork) -> Bytes:
    """Applies the first stage (`network`) to a picture, with strength `share`."""
    change, (before, after) = network(picture, steps)
    share *= expected_share(float(before.mean()), float(after.mean()))
    return np.clip(np.rint(picture + 255 * share * change.transpose(1, 2, 0)), 0, 255).astype(np.uint8)


def other_faces(
    takes: Sequence[Take], golden: Recipe, region: Recipe, network: Callable[[], CodedNetwork], seed: int
) -> Bytes:
    """Makes engine inputs with other people's faces, uint8 M×h×w×3. They are made from the portrait in
    an engine's golden crops and the person's face, in turn, by warping and coding."""
    r, portrait = np.random.default_rng(seed), 255 * load_golden(golden)[0][0].transpose(1, 2, 0)
    faces = [cv2.resize(portrait, (_SIDE, _SIDE)), *(cut(t.pictures[0], t.matrices[0], _SIDE) for t in takes)]
    warped = [_shift(_warp_face(faces[n % 2 * (1 + n // 2 % len(takes))], r), r) for n in range(_OTHER_FACES)]
    return make_pairs(warped, region, network, seed, films=1)[0][:, 1]


def _warp_face(picture: Any, r: np.random.Generator) -> Bytes:
    """Warps a face to another person's: changes parts, proportions and skin. Half of the faces are mirrored."""
    x_row = [r.choice([-1, 1]) + r.normal(0, 0.06), r.normal(0, 0.05)]
    grid = np.stack(np.meshgrid(*[np.arange(_SIDE) / _SIDE] * 2), 2)
    at = (grid - 0.5) @ np.array([x_row, [r.normal(0, 0.03), 1 + r.normal(0, 0.06)]]).T + 0.5 + r.normal(0, 0.014, 2)
    for part in _PARTS:
        shift = np.expm1(r.normal(0, 0.2, 2)) * (grid - part) + r.normal(0, 0.018, 2)
        at += shift * np.exp(-70 * ((grid - part) ** 2).sum(2, keepdims=True))
    z = (
        cv2.remap(
            picture,
            np.asarray(_SIDE * at, np.float32),
            np.empty(0),
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT,
        )
        / 255
    )
    return np.rint(255 * np.clip(z, 0, 1) ** np.exp(r.normal(0.2, 0.35) + r.normal(0, 0.08, 3))).astype(np.uint8)


def _shift(picture: Bytes, r: np.random.Generator) -> Take:
    """Makes a take from one crop. The pictures are shifted by fractions of a pixel."""
    take, scale = Take(0.0, 0), _SIDE / 512
    for x, y in np.cumsum(r.normal(0, 0.6, (8, 2)), axis=0):
        shifted = cv2.warpAffine(
            picture, np.array([[1, 0, x], [0, 1, y]]), (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE
        )
        take.pictures.append(np.asarray(shifted, np.uint8))
        take.matrices.append(np.array([[scale, 0.0, x], [0.0, scale, y]]))
    return take
