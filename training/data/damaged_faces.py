"""Faces with made damage, their truth and its mask: what the damage network trains on and is judged by.

Faces come as canonical 256-px crops. What is no damage is drawn on some of them and belongs to the
truth: moles, hair, frames of glasses, captions, microphones, cigarettes, earrings, glints, halftone,
hatching, paper and grain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from rtface.correct.damage import REGION, SIZE
from training.crop_space import F32, U8, cut, similarity
from training.data.portraits import Face
from training.degradation import broken_print, single_image
from training.degradation.archive_film import fade, grain, monochrome
from training.degradation.single_image import rounded

SEEN, SURE = 4.0, 14.0
"""Code values of change at which damage begins to count, and from which on it counts fully."""
SHARES = {"scratches": 0.22, "cracks": 0.2, "dust": 0.18, "crease": 0.15, "stain": 0.08, "torn": 0.17}
"""How often the kinds are drawn. Smears are left out: what is filled in is further from the truth than a smear is."""


class Sample(NamedTuple):
    """``seen`` and ``truth`` uint8 256×256×3 RGB, and ``mask`` float32 256×256, 1 where the image is damaged."""

    seen: U8
    truth: U8
    mask: F32


def load(faces: Sequence[Face]) -> list[U8]:
    """The portraits at 288 px, for crops with some freedom."""
    return [np.asarray(cv2.resize(f.load(), (288, 288), interpolation=cv2.INTER_AREA), np.uint8) for f in faces]


def crop_of(portrait: U8, r: np.random.Generator | None = None) -> U8:
    """A 256-px crop of a loaded portrait: exactly aligned, or with ``r`` a little off, mirrored at times."""
    side = portrait.shape[0]
    middle, scale, angle = (side - 1) / 2, side / SIZE, 0.0
    centre = (middle, middle)
    if r is not None:
        if r.random() < 0.5:
            portrait = np.ascontiguousarray(portrait[:, ::-1])
        scale, angle = scale * np.exp(r.normal(0, 0.03)), r.normal(0, 0.035)
        centre = (middle + r.normal(0, 3), middle + r.normal(0, 3))
    return cut(portrait, similarity(scale, angle, centre, SIZE), SIZE)


def toned(image: U8, r: np.random.Generator) -> U8:
    """Black and white, sepia, faded or as it is."""
    p = r.random()
    if p < 0.5:
        image = monochrome(image)
        if p < 0.28:
            image = rounded(image * r.uniform([0.9, 0.72, 0.45], [1.05, 0.95, 0.85]).astype(np.float32))
    if r.random() < 0.5:
        image = fade(image, r.uniform(0.5, 1.1), r.uniform(0, 40))
    if r.random() < 0.5:
        image = rounded(255 * (image.astype(np.float32) / 255) ** np.float32(np.exp(r.normal(0, 0.3))))
    return image


def _moles(image: U8, r: np.random.Generator) -> U8:
    out = image.astype(np.float32)
    mask = np.zeros((SIZE, SIZE), np.float32)
    for _ in range(int(np.exp(r.uniform(0, np.log(40))))):
        x, y, size = r.uniform(70, 186), r.uniform(90, 230), np.exp(r.uniform(np.log(0.6), np.log(3.5)))
        cv2.circle(mask, (int(x * 16), int(y * 16)), int(size * 16), r.uniform(0.25, 0.7), -1, cv2.LINE_8, 4)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), r.uniform(0.8, 1.6)), np.float32)[..., None]
    return rounded(out * (1 - mask * np.array([0.75, 1.0, 1.1], np.float32)))


def _hair(image: U8, r: np.random.Generator) -> U8:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    x0, spread = r.uniform(60, 200), r.uniform(3, 40)
    lean, bend = np.pi / 2 + r.normal(0, 0.5), r.normal(0, 0.04)
    for _ in range(int(r.integers(1, 25))):
        n = int(r.integers(12, 40))
        angles = lean + r.normal(0, 0.08) + bend * np.arange(n) + np.cumsum(r.normal(0, 0.03, n))
        at = np.array([x0 + r.normal(0, spread), r.uniform(20, 80)])
        points = at + np.cumsum(5 * np.stack([np.cos(angles), np.sin(angles)], 1), 0)
        cv2.polylines(mask, [np.rint(points * 16).astype(np.int32)], False, int(r.uniform(90, 255)), 1, cv2.LINE_AA, 4)
    colour = r.choice([r.uniform(5, 60), r.uniform(60, 190)]) * r.uniform([1.0, 0.8, 0.5], [1.1, 1.0, 0.95])
    opaque = np.asarray(cv2.GaussianBlur(mask, (0, 0), r.uniform(0.5, 1.0)), np.float32)[..., None] / 255
    return rounded(image + (colour.astype(np.float32) - image) * opaque)


def _glasses(image: U8, r: np.random.Generator) -> U8:
    out = image.copy()
    colour = tuple(int(v) for v in np.clip(r.choice([20, 60, 150, 215]) + r.normal(0, 15, 3), 0, 255))
    wide, high, thick = int(r.uniform(24, 38)), int(r.uniform(15, 30)), int(r.choice([1, 1, 2, 3, 5]))
    y = int(r.uniform(118, 130))
    for x in (97, 159):
        if r.random() < 0.5:
            cv2.ellipse(out, (x, y), (wide, high), 0, 0, 360, colour, thick, cv2.LINE_AA)
        else:
            cv2.rectangle(out, (x - wide, y - high), (x + wide, y + high), colour, thick, cv2.LINE_AA)
    cv2.line(out, (97 + wide, y), (159 - wide, y), colour, thick, cv2.LINE_AA)
    cv2.line(out, (97 - wide, y), (20, y - 6), colour, thick, cv2.LINE_AA)
    cv2.line(out, (159 + wide, y), (236, y - 6), colour, thick, cv2.LINE_AA)
    if r.random() < 0.4:  # a reflection
        x = int(r.choice([97, 159]) + r.uniform(-10, 10))
        shine = np.zeros((SIZE, SIZE), np.uint8)
        cv2.ellipse(shine, (x, y), (int(r.uniform(3, 14)), int(r.uniform(2, 8))), r.uniform(0, 180), 0, 360, 255, -1)
        a = np.asarray(cv2.GaussianBlur(shine, (0, 0), r.uniform(0.6, 3)), np.float32)[..., None] / 255
        out = rounded(out + (255 - out.astype(np.float32)) * a * np.float32(r.uniform(0.4, 1)))
    return np.asarray(cv2.addWeighted(out, 0.9, image, 0.1, 0), np.uint8)


def _caption(image: U8, r: np.random.Generator) -> U8:
    out = image.copy()
    light = r.random() < 0.7
    text = "".join(r.choice(list("ABCDEFGHIKLMNOPRSTUVWabcdefghiklmnoprstuvw 0123456789:-"), int(r.integers(3, 16))))
    where, size, thick = (int(r.uniform(-30, 150)), int(r.uniform(50, 250))), r.uniform(0.3, 1.6), int(r.integers(1, 4))
    font = int(r.integers(0, 8))
    if r.random() < 0.5:
        cv2.putText(out, text, where, font, size, (0, 0, 0) if light else (255, 255, 255), thick + 2, cv2.LINE_AA)
    colour = tuple(int(v) for v in np.clip((240 if light else 15) + r.normal(0, 25, 3), 0, 255))
    cv2.putText(out, text, where, font, size, colour, thick, cv2.LINE_AA)
    a = r.uniform(0.6, 1)
    return np.asarray(cv2.addWeighted(out, a, image, 1 - a, 0), np.uint8)


def _object(image: U8, r: np.random.Generator) -> U8:
    """A thing in front of the face: a rod, a ball or a hand's outline with its own texture, soft or hard edges."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    x, y = r.uniform(50, 206), r.uniform(90, 250)
    if r.random() < 0.5:
        a = r.uniform(0, 2 * np.pi)
        end = (int(x + 220 * np.cos(a)), int(y + 220 * np.sin(a)))
        cv2.line(mask, (int(x), int(y)), end, 255, int(r.uniform(3, 45)), cv2.LINE_AA)
    else:
        axes = int(r.uniform(8, 55)), int(r.uniform(8, 55))
        cv2.ellipse(mask, (int(x), int(y)), axes, r.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
    z = np.asarray(cv2.resize(r.standard_normal((64, 64, 1), np.float32), (SIZE, SIZE)), np.float32)[..., None]
    skin = image[150:160, 90:100].reshape(-1, 3).mean(0)
    colour = skin * r.uniform(0.7, 1.1) if r.random() < 0.4 else r.uniform(10, 235, 3)
    light = np.linspace(-1, 1, SIZE, dtype=np.float32)[None, :, None] * r.normal(0, 30)
    thing = colour.astype(np.float32) + np.float32(r.uniform(0, 22)) * z + light
    opaque = np.asarray(cv2.GaussianBlur(mask, (0, 0), r.uniform(0.5, 2)), np.float32)[..., None] / 255
    return rounded(image + (thing - image) * opaque)


def _bright(image: U8, r: np.random.Generator) -> U8:
    """What is small, bright and no damage: a cigarette, earrings, glints on eyes, lips, skin and glasses."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    what = str(r.choice(["cigarette", "earrings", "glints"]))
    if what == "cigarette":
        a, start = r.uniform(0, np.pi), np.array([128 + r.normal(0, 14), 188 + r.normal(0, 5)])
        end = start + r.uniform(18, 60) * np.array([np.cos(a), 0.7 * np.sin(a)])
        cv2.line(mask, start.astype(int).tolist(), end.astype(int).tolist(), 255, int(r.integers(3, 9)), cv2.LINE_AA)
    elif what == "earrings":
        for x in (52 + r.normal(0, 5), 204 + r.normal(0, 5)):
            axes = int(r.uniform(1, 7)), int(r.uniform(2, 16))
            cv2.ellipse(mask, (int(x), int(180 + r.normal(0, 6))), axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
    else:
        for _ in range(int(r.integers(1, 6))):
            x, y = r.uniform(75, 181), r.choice([122.0, 150.0, 192.0]) + r.normal(0, 5)
            axes = int(np.exp(r.uniform(0, 2.6))), int(np.exp(r.uniform(0, 2.2)))
            light = int(r.uniform(90, 255))
            cv2.ellipse(mask, (int(x), int(y)), axes, r.uniform(0, 180), 0, 360, light, -1, cv2.LINE_AA)
    opaque = np.asarray(cv2.GaussianBlur(mask, (0, 0), np.exp(r.uniform(-0.7, 1.5))), np.float32)[..., None] / 255
    return rounded(image + (r.uniform([190, 180, 160], 255).astype(np.float32) - image) * opaque)


def _printed(image: U8, r: np.random.Generator) -> U8:
    """Halftone dots or an engraver's lines all over."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    a, pitch = r.uniform(0, np.pi), r.uniform(2.2, 7)
    u = (x * np.cos(a) + y * np.sin(a)) * np.float32(2 * np.pi / pitch)
    v = (y * np.cos(a) - x * np.sin(a)) * np.float32(2 * np.pi / pitch)
    if r.random() < 0.5:
        u = u + np.float32(r.uniform(0, 3)) * np.sin(y / r.uniform(8, 30), dtype=np.float32)
        screen = np.sin(u)
    else:
        screen = (np.sin(u) + np.sin(v)) / 2
    return rounded(image + (np.float32(r.uniform(6, 60)) * screen)[..., None])


HARMLESS = (_moles, _hair, _glasses, _caption, _object, _bright, _bright)


def scene(image: U8, r: np.random.Generator) -> U8:
    """The crop with what is no damage: at most two things in front of the face, a tone, a printing screen at times."""
    for _ in range(int(r.choice([0, 1, 2], p=(0.5, 0.35, 0.15)))):
        image = HARMLESS[int(r.integers(len(HARMLESS)))](image, r)
    image = toned(image, r)
    return _printed(image, r) if r.random() < 0.1 else image


def scanned(seen: U8, truth: U8, mask: F32, r: np.random.Generator) -> Sample:
    """Both images after the same size, softness, grain and JPEG quality, and the mask where the change can be seen."""
    factor = float(np.exp(r.uniform(0, np.log(4)))) if r.random() < 0.6 else 1.0
    small = (round(SIZE / factor),) * 2
    sigma = r.uniform(0.3, 1.2) if r.random() < 0.4 else 0.0

    def through(image: U8) -> U8:
        if sigma:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)
        return np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8) if factor > 1 else image

    def back(image: U8) -> U8:
        return np.asarray(cv2.resize(image, (SIZE, SIZE), interpolation=up), np.uint8) if factor > 1 else image

    up = int(r.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
    a, b = through(seen), through(truth)
    change = np.abs(back(a).astype(np.float32) - back(b)).max(2)
    change = np.asarray(cv2.GaussianBlur(change, (0, 0), 0.7), np.float32)
    soft = np.asarray(cv2.resize(mask, small, interpolation=cv2.INTER_AREA), np.float32) if factor > 1 else mask
    soft = np.asarray(cv2.resize(soft, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR), np.float32)
    # Nothing lies outside the damage, and damage of the face's own colour is not seen as such.
    mask = np.clip((change - SEEN) / (SURE - SEEN), 0, 1) * (soft > 0.04)
    core = np.asarray(cv2.GaussianBlur((soft > 0.85).astype(np.float32), (0, 0), 1.0), np.float32)
    mask = np.maximum(mask, core * (mask.max() > 0)).astype(np.float32)
    seed, strong = int(r.integers(2**31)), r.uniform(1, 9) if r.random() < 0.35 else 0.0
    noisy, quality = r.uniform(0.3, 3.5) if r.random() < 0.5 else 0.0, int(r.integers(55, 97))
    compressed = r.random() < 0.7

    def finish(image: U8) -> U8:
        q = np.random.default_rng(seed)
        if strong:
            image = grain(image, strong, q.uniform(1, 2.5), q, q.choice([0.0, 0.3]))
        image = single_image.noise(image, noisy, q, int(q.integers(0, 4)), 0.7)
        return back(single_image.jpeg(image, quality) if compressed else image)

    return Sample(finish(a), finish(b), mask)


def sample(portrait: U8, r: np.random.Generator, kinds: Sequence[str] | None = None, *, free: bool = True) -> Sample:
    """A face with made damage of the given kinds, or of 0 to 3 drawn ones (0 in three of ten)."""
    truth = scene(crop_of(portrait, r if free else None), r)
    if kinds is None:
        names, p = list(SHARES), list(SHARES.values())
        count = int(r.choice([0, 1, 2, 3], p=(0.3, 0.4, 0.2, 0.1)))
        kinds = [str(v) for v in r.choice(names, count, replace=False, p=p)]
    seen, mask = truth, np.zeros((SIZE, SIZE), np.float32)
    for kind in kinds:
        seen, opaque = broken_print.damaged(seen, r, kind)
        mask = np.maximum(mask, opaque)
    return scanned(seen, truth, mask, r)


def region(image: U8 | F32) -> U8 | F32:
    """The part of a crop that the network is given."""
    x, y, w, h = REGION
    return np.ascontiguousarray(image[y : y + h, x : x + w])
