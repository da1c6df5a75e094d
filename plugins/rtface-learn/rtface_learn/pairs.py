"""Pairs of what is true and what the engine sees, made of takes by real encoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from rtface.analysis.treatment import expected_share
from rtface.engine.coded_network import CodedNetwork
from rtface.engine.plan import load_golden
from rtface.engine.recipe import Recipe
from rtface.frame import Bytes, Float, Float32
from rtface.media.read.quantiser import QuantiserReader
from rtface_learn.takes import Take, cut

FILMS = 2
"""How often each take is coded in each of the two ways."""
FROM_EACH = 7
"""Pictures of a coded take that become pairs."""
COPIES, _OTHERS = 4, 288
"""Takes that are made of each golden crop, for the faces of other people, and the side of their pictures."""
_KINDS = {"libx264": "h264", "mpeg2video": "mpeg2video"}


def of_takes(
    takes: Sequence[Take], recipe: Recipe, network: CodedNetwork, seed: int, films: int = FILMS
) -> tuple[Bytes, list[str]]:
    """uint8 M×2×h×w×3, truth and what the engine sees, and the kind of each: "coded" at its own size, or a "call" whose
    picture was made larger after coding."""
    r = np.random.default_rng(seed)
    pairs, kinds = list[Bytes](), list[str]()
    for take in takes:
        for kind in ("coded", "call") * films:
            for pair in _film(take, kind, recipe, network, r):
                pairs.append(pair)
                kinds.append(kind)
    return np.stack(pairs), kinds


def _film(take: Take, kind: str, recipe: Recipe, network: CodedNetwork, r: np.random.Generator) -> Iterator[Bytes]:
    shown = [*map(lit(r, take), take.pictures)] if r.random() < 0.8 else take.pictures
    side, template = len(shown[0]), 512 * float(np.hypot(*take.matrices[0][:, 0]))
    heavy = kind == "call" and r.random() < 0.5
    if kind == "coded":
        k, sigma = min(1.0, float(np.exp(r.uniform(np.log(0.4), 0.0)))), 0.0 if r.random() < 0.2 else r.uniform(0, 3.5)
        codec, options = _coding(r)
    else:
        k = min(1.0, (0.25 if heavy else 0.5) * 256 / template * float(np.exp(r.normal(0, 0.15))))
        sigma = r.uniform(2, 8) if heavy else r.uniform(0.5, 5)
        preset = str(r.choice(["superfast", "veryfast", "veryfast", "faster"]))
        codec, options = (
            "libx264",
            {"preset": preset, "crf": f"{r.uniform(28, 36) if heavy else r.uniform(25, 34):.1f}"},
        )
    small = max(64, round(side * k / 16) * 16)
    given = [noisy(cv2.resize(p, (small, small), interpolation=cv2.INTER_AREA), sigma, r) for p in shown]
    order = list(range(len(given)))[:: int(r.choice([-1, 1]))]
    seen = list(_coded([given[n] for n in order], codec, options))
    if len(seen) < len(order):
        return
    x, y, w, h = recipe.region
    share = float(r.uniform(0.2, 0.6))
    for n in r.permutation(len(order))[:FROM_EACH]:
        picture, steps = seen[n]
        if kind == "coded":
            picture = _cleaned(picture, steps, share, network)
        matrix = _shaken(take.matrices[order[n]], r)
        scale = np.array([[small / side], [small / side]])
        yield np.stack(
            [
                cut(shown[order[n]], matrix, recipe.input.size, (x, y, w, h)),
                cut(picture, matrix * scale, recipe.input.size, (x, y, w, h)),
            ]
        )


def _coding(r: np.random.Generator) -> tuple[str, dict[str, str]]:
    if r.random() < 0.25:
        return "mpeg2video", {"q": str(int(r.integers(4, 25)))}
    options = {
        "preset": str(r.choice(["superfast", "veryfast", "veryfast", "medium"])),
        "crf": f"{r.uniform(20, 37):.1f}",
    }
    return "libx264", options | ({"tune": "zerolatency"} if r.random() < 0.4 else {})


def lit(r: np.random.Generator, take: Take) -> Any:
    """Another light (gamma, colour, ramps over the face) and another lens, softer or sharpened."""
    side, (height, width, _) = 512 * float(np.hypot(*take.matrices[0][:, 0])), take.pictures[0].shape
    centre = take.matrices[0] @ np.array([256.0, 256.0, 1.0])
    gamma, gains = float(np.exp(r.normal(0, 0.22))), np.exp(r.normal(0, 0.09, 3)) * float(np.exp(r.normal(0, 0.12)))
    across, down = (
        1 + r.normal(0, amount) * np.clip((np.arange(size) - c) / side, -0.5, 0.5)
        for amount, c, size in ((0.45, centre[0], width), (0.25, centre[1], height))
    )
    light = (np.clip(down[:, None] * across[None], 0.4, 1.8)[..., None] * gains).astype(np.float32)
    u, k = r.random(), side / 256
    blur = 0.0 if u < 0.35 else float(np.exp(r.uniform(np.log(0.4), np.log(1.6)))) * k
    sharp = float(r.uniform(0.3, 0.9)) if 0.2 < u < 0.35 or u > 0.85 else 0.0

    def act(picture: Bytes) -> Bytes:
        z = (picture.astype(np.float32) / 255) ** np.float32(gamma) * light
        if blur > 0.25:
            z = cv2.GaussianBlur(z, (0, 0), blur)
        if sharp:
            z = z + np.float32(sharp) * (z - cv2.GaussianBlur(z, (0, 0), 1.2 * k))
        return np.clip(np.rint(255 * z), 0, 255).astype(np.uint8)

    return act


def noisy(picture: Any, sigma: float, r: np.random.Generator) -> Bytes:
    """The picture with noise of that many code values, part of it grey."""
    if not sigma:
        return np.asarray(picture, np.uint8)
    own, grey = r.normal(0, sigma, picture.shape), r.normal(0, sigma, (*picture.shape[:2], 1))
    return np.clip(np.rint(picture + np.sqrt(0.7) * own + np.sqrt(0.3) * grey), 0, 255).astype(np.uint8)


def _shaken(matrix: Float, r: np.random.Generator) -> Float:
    """The alignment as a tracker sees it: off by some pixels, a degree, a per cent."""
    scale, angle = float(np.exp(r.normal(0, 0.008))), r.normal(0, 0.008)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[c, -s, 256 - 256 * c + 256 * s], [s, c, 256 - 256 * s - 256 * c], [0, 0, 1]])
    turn[:2, 2] += r.normal(0, 1.4, 2)
    return matrix @ turn


def _coded(pictures: Sequence[Bytes], codec: str, options: dict[str, str]) -> Iterator[tuple[Bytes, Float32 | None]]:
    """Decoded pictures, and log2 of the quantiser step of each 8×8 cell, where it is known."""
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

    def decoded(packet: Any) -> Iterator[tuple[Bytes, Float32 | None]]:
        if packet is not None:
            reader.note(packet)
        for frame in decoder.decode(packet):
            found, cells = reader.of(frame), (np.arange(side // 8) * 8 + 4)
            steps = None
            if found is not None:
                at = cells // found.block
                steps = np.log2(found.steps[at][:, at], dtype=np.float32)
            yield to_rgb(frame), steps

    for pts, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(to_yuv(picture), "yuv420p")
        frame.pts, frame.time_base = pts, Fraction(1, 25)
        for packet in encoder.encode(frame):
            yield from decoded(packet)
    for packet in encoder.encode(None):
        yield from decoded(packet)
    yield from decoded(None)


_TO_YUV = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], np.float32) / 255
"""BT.601, limited range. OpenCV's own conversion moves colour by half a pixel, and swscale's darkens a little."""


def to_yuv(picture: Bytes) -> Bytes:
    """RGB → the planes of yuv420p as PyAV takes them, chroma averaged."""
    y, u, v = np.moveaxis(picture.astype(np.float32) @ _TO_YUV.T + (16, 128, 128), 2, 0)
    side = len(picture)
    small = [cv2.resize(c, (side // 2, side // 2), interpolation=cv2.INTER_AREA).reshape(-1, side) for c in (u, v)]
    return np.clip(np.rint(np.concatenate([y, *small])), 0, 255).astype(np.uint8)


def to_rgb(frame: av.VideoFrame) -> Bytes:
    """What `to_yuv` made, back."""
    side = frame.width
    planes = frame.to_ndarray().astype(np.float32)
    u, v = (
        cv2.resize(c.reshape(side // 2, side // 2), (side, side), interpolation=cv2.INTER_LINEAR)
        for c in np.split(planes[side:].reshape(-1), 2)
    )
    yuv = np.stack([planes[:side] - 16, u - 128, v - 128], 2)
    return np.clip(np.rint(yuv @ np.linalg.inv(_TO_YUV).T.astype(np.float32)), 0, 255).astype(np.uint8)


def _cleaned(picture: Bytes, steps: Float32 | None, share: float, network: CodedNetwork) -> Bytes:
    """The picture after a share of the first stage."""
    change, (before, after) = network(picture, steps)
    share *= expected_share(float(before.mean()), float(after.mean()))
    return np.clip(np.rint(picture + 255 * share * change.transpose(1, 2, 0)), 0, 255).astype(np.uint8)


def others(recipes: Sequence[Recipe], region: Recipe, network: CodedNetwork, seed: int) -> Bytes:
    """Faces of other people as the engine sees them, uint8 M×h×w×3: golden crops of the engines, bent so that few
    people look like many, and coded like the person's own."""
    r, made = np.random.default_rng(seed), list[Take]()
    for recipe in recipes:
        for crop in load_golden(recipe)[0]:
            picture = cv2.resize(255 * crop.transpose(1, 2, 0), (_OTHERS, _OTHERS), interpolation=cv2.INTER_AREA)
            made += [_moved(_bent(picture, r), r) for _ in range(COPIES)]
    return of_takes(made, region, network, seed, films=1)[0][:, 1]


def _bent(picture: Any, r: np.random.Generator) -> Bytes:
    turn = np.array([[1 + r.normal(0, 0.06), r.normal(0, 0.05)], [r.normal(0, 0.03), 1 + r.normal(0, 0.06)]])
    shift = np.full(2, _OTHERS / 2) - turn @ np.full(2, _OTHERS / 2) + r.normal(0, 4, 2)
    z = cv2.warpAffine(
        picture[:, ::-1] if r.random() < 0.5 else picture,
        np.column_stack([turn, shift]),
        (_OTHERS, _OTHERS),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.clip(np.rint(z), 0, 255).astype(np.uint8)


def _moved(picture: Bytes, r: np.random.Generator) -> Take:
    """A take of a crop that moves by parts of a pixel."""
    take, k = Take(0.0, 0), _OTHERS / 512
    for x, y in np.cumsum(r.normal(0, 0.6, (8, 2)), axis=0):
        moved = cv2.warpAffine(
            picture, np.array([[1, 0, x], [0, 1, y]]), (_OTHERS, _OTHERS), borderMode=cv2.BORDER_REPLICATE
        )
        take.pictures.append(np.asarray(moved, np.uint8))
        take.matrices.append(np.array([[k, 0.0, x], [0.0, k, y]]))
    return take
