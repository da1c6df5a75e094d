"""Simulates ageing of film and tape: grain, scratches, dirt, flicker, prints, interlacing.

Frames are uint8 H×W×3 RGB at the resolution of film or tape (480 to 576 lines). Sizes are in pixels of these frames,
strengths in code values (0..255). Effects that vary over time are seeded objects; they can process frames ``t`` in any
order. The effects of tape on single frames (colour bleeding, ringing, line jitter) are in ``single_image``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from training.crop_space import F32, U8
from training.degradation import single_image
from training.degradation.single_image import rounded

Rng = np.random.Generator
PERIOD = 40
"""Frames after which scratches repeat."""


def luma(frame: U8) -> F32:
    """Computes 0.299 R + 0.587 G + 0.114 B: float32 H×W, 0..255."""
    return frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def monochrome(frame: U8) -> U8:
    """Copies luma to all three channels."""
    return np.repeat(rounded(luma(frame))[..., None], 3, 2)


def grain(frame: U8, sigma: float, size: float, rng: Rng, colour: float = 0.3) -> U8:
    """Adds film grain of ``sigma`` code values in mid-grey.

    Grains are about ``size`` pixels wide (1..3). Where grains cover a share u of the film, variance is proportional to
    u·(1 - u): largest in mid-tones, zero in black and white (Newson et al., A Stochastic Film Grain Model for
    Resolution-Independent Rendering, 2017). ``colour`` 0..1: share of the variance that differs between colour layers.
    """
    z = rng.standard_normal((*frame.shape[:2], 4 if colour > 0 else 1), np.float32)
    z = np.asarray(cv2.GaussianBlur(z, (0, 0), size / 3.33), np.float32).reshape(*frame.shape[:2], -1)
    z /= z.std()
    if colour > 0:
        z = z[..., :3] * np.float32(np.sqrt(colour)) + z[..., 3:] * np.float32(np.sqrt(1 - colour))
    u = luma(frame) / 255
    strength = np.float32(sigma) * np.sqrt(np.clip(4 * u * (1 - u), 0, 1))
    return rounded(frame + strength[..., None] * z)


class Scratches:
    """Thin vertical scratches, light or dark: ``count`` in 40 frames. A scratch lasts 4 to 30 frames and sways."""

    def __init__(self, count: int, strength: float, rng: Rng) -> None:
        self.count, self.seed = count, int(rng.integers(2**31))
        self.start, self.duration = rng.integers(0, PERIOD, count), rng.integers(4, 31, count)
        self.left, self.slope = rng.uniform(0, 1, count), rng.normal(0, 1.2, count)
        self.width = rng.uniform(0.45, 1.1, count)
        self.strength = strength * rng.uniform(0.4, 1.0, count) * np.where(rng.random(count) < 0.6, 1, -1)
        self.sway, self.rate = rng.uniform(1, 5, count), rng.uniform(0.05, 0.25, count)
        self.top, self.length = rng.uniform(-1.5, 0.5, count), rng.uniform(0.8, 3.0, count)

    def at(self, t: int) -> list[int]:
        """Lists scratches that are visible at frame ``t``."""
        return [int(k) for k in np.flatnonzero((t - self.start) % PERIOD < self.duration)]

    def __call__(self, frame: U8, t: int) -> U8:
        h, w = frame.shape[:2]
        out = frame.astype(np.float32)
        for k in self.at(t):
            r = np.random.default_rng([self.seed, k, t])
            y = np.arange(h, dtype=np.float32) / h
            # The scratching object is fixed and the film moves, so a scratch stays in place, but its depth changes.
            depth = np.asarray(cv2.resize(r.uniform(0.3, 1, (9, 1)), (1, h), interpolation=cv2.INTER_CUBIC))[:, 0]
            depth = depth * np.clip((y - self.top[k]) * 8, 0, 1) * np.clip((self.top[k] + self.length[k] - y) * 8, 0, 1)
            x = self.left[k] * w + self.sway[k] * np.sin(self.rate[k] * t + k) + r.normal(0, 0.15) + self.slope[k] * y
            columns = np.arange(int(x.min()) - 4, int(x.max()) + 6)
            columns = columns[(columns >= 0) & (columns < w)]
            profile = np.exp(-0.5 * ((columns[None] - x[:, None]) / self.width[k]) ** 2)
            out[:, columns] += (self.strength[k] * depth[:, None] * profile)[..., None].astype(np.float32)
        return rounded(out)


class Dust:
    """Specks and hairs. Each is in one frame only; ``density`` is the mean number per frame.

    Sizes are 0.6 to 3 px. Dirt on the print is dark; dirt on the negative is light.
    """

    def __init__(self, density: float, rng: Rng) -> None:
        self.density, self.seed = density, int(rng.integers(2**31))
        self.light_share = rng.uniform(0.1, 0.7)

    def __call__(self, frame: U8, t: int) -> U8:
        r = np.random.default_rng([self.seed, t])
        h, w = frame.shape[:2]
        out = frame.astype(np.float32)
        for _ in range(int(r.poisson(self.density))):
            mask = np.zeros((40, 40), np.uint8)
            turn = np.sort(r.uniform(0, 2 * np.pi, 9))
            if r.random() < 0.1:  # a hair
                line = 320 + np.cumsum(r.normal(0, 14, (14, 2)) + 16 * np.array([np.cos(turn[0]), np.sin(turn[0])]), 0)
                cv2.polylines(mask, [(line - line.mean(0) + 320).astype(np.int32)], False, 255, 1, cv2.LINE_AA, 4)
            else:
                radii = 16 * np.exp(r.uniform(np.log(0.6), np.log(3.0))) * r.uniform(0.6, 1.3, 9)
                speck = 320 + radii[:, None] * np.stack([np.cos(turn) * r.uniform(0.7, 1.6), np.sin(turn)], 1)
                cv2.fillPoly(mask, [speck.astype(np.int32)], 255, cv2.LINE_AA, 4)
            x, y = int(r.integers(-20, w - 20)), int(r.integers(-20, h - 20))
            x0, y0, x1, y1 = max(0, x), max(0, y), min(w, x + 40), min(h, y + 40)
            opacity = cv2.GaussianBlur(mask, (0, 0), 0.5)[y0 - y : y1 - y, x0 - x : x1 - x, None].astype(np.float32)
            level = r.uniform(190, 245) if r.random() < self.light_share else r.uniform(5, 60)
            part = out[y0:y1, x0:x1]
            part += (np.float32(level) - part) * opacity * np.float32(r.uniform(0.4, 0.95) / 255)
        return rounded(out)


class Flicker:
    """Random changes of brightness between frames. ``amount``: standard deviation of the gain (0.02: mild).

    The gain also varies across the picture, by a third of ``amount``. An independent random offset is added (standard
    deviation: 25 code values × ``amount``).
    """

    def __init__(self, amount: float, rng: Rng) -> None:
        self.amount, self.seed = amount, int(rng.integers(2**31))

    def __call__(self, frame: U8, t: int) -> U8:
        gain, sx, sy, offset = np.random.default_rng([self.seed, t]).normal(0, self.amount, 4)
        h, w = frame.shape[:2]
        x, y = np.linspace(-1, 1, w, dtype=np.float32), np.linspace(-1, 1, h, dtype=np.float32)
        light = np.float32(1 + gain) + np.float32(sx / 3) * x[None] + np.float32(sy / 3) * y[:, None]
        return rounded(np.asarray(frame * light[..., None] + np.float32(25 * offset), np.float32))


def fade(frame: U8, contrast: float, lift: float) -> U8:
    """Scales contrast about mid-grey by ``contrast`` (0..1). Also adds ``lift`` code values to black, 0 to white."""
    x = np.arange(256, dtype=np.float32)
    y = 127.5 + contrast * (x - 127.5) + lift * (1 - x / 255)
    table = rounded(np.asarray(y, np.float32))
    return np.asarray(cv2.LUT(frame, table), np.uint8)


def degrade_print(frame: U8, sigma: float, contrast: float, lift: float = 0.0) -> U8:
    """Simulates a copy of a print: a Gaussian blur of ``sigma`` pixels, then ``fade``."""
    if sigma > 0:
        frame = np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma), np.uint8)
    return fade(frame, contrast, lift)


def comb(frame: U8, later: U8) -> U8:
    """Weaves two fields into a frame: even lines of ``frame``, odd lines of ``later``."""
    out = frame.copy()
    out[1::2] = later[1::2]
    return out


def blend(frame: U8, later: U8, share: float = 0.5) -> U8:
    """Blends two fields like a simple deinterlacer. ``share`` (0..1): weight of ``later``."""
    return np.asarray(cv2.addWeighted(frame, 1 - share, later, share, 0), np.uint8)


def bob(frame: U8, double: bool) -> U8:
    """Keeps one field. Repeats its lines if ``double``; otherwise interpolates the missing ones.

    Like an interlaced camera, averages pairs of lines. The one-line offset between fields is ignored, because the input
    does not reveal which field was kept.
    """
    h, w = frame.shape[:2]
    field = cv2.resize(frame, (w, h // 2), interpolation=cv2.INTER_AREA)
    interpolation = cv2.INTER_NEAREST if double else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(field, (w, h), interpolation=interpolation), np.uint8)


@dataclass(frozen=True)
class Archive:
    """Parameters of an aged film. 0 or "none" disables an effect.

    ``lines``: height in pixels. ``fields``: none, comb, blend, bob, double. ``half``: time between the two fields, in
    frames. ``bleed``, ``ring``: arguments of `single_image.chroma_bleed` and `ringing`.
    """

    medium: str
    lines: int
    mono: bool = False
    soft: float = 0.0
    contrast: float = 1.0
    lift: float = 0.0
    grain: tuple[float, float] = (0.0, 1.0)
    scratches: tuple[int, float] = (0, 0.0)
    dust: float = 0.0
    flicker: float = 0.0
    fields: str = "none"
    half: float = 0.0
    bleed: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ring: tuple[float, float, float] = (0.0, 0.0, 0.0)
    jitter: float = 0.0
    noise: float = 0.0


def draw_archive(r: Rng) -> Archive:
    """Draws an archive film: a 35 or 16 mm print, broadcast tape or VHS."""
    medium = str(r.choice(["35 mm", "16 mm", "tape", "vhs"], p=(0.25, 0.3, 0.2, 0.25)))
    lines = int(r.choice([480, 540, 576]))
    if medium in ("35 mm", "16 mm"):
        is_16_mm = medium == "16 mm"
        has_scratches, has_dust, is_copy = r.random() < (0.6 if is_16_mm else 0.45), r.random() < 0.6, r.random() < 0.5
        return Archive(
            medium, lines, mono=bool(r.random() < 0.4),
            soft=r.uniform(0.3, 1.3 if is_16_mm else 0.9) if is_copy else 0.0,
            contrast=r.uniform(0.82, 1.0) if is_copy else 1.0, lift=r.uniform(0, 14) if is_copy else 0.0,
            grain=(r.uniform(3, 9), r.uniform(1.2, 2.8)) if is_16_mm else (r.uniform(1.5, 6), r.uniform(1.0, 1.8)),
            scratches=(int(r.integers(6, 27)), r.uniform(30, 90)) if has_scratches else (0, 0.0),
            dust=r.uniform(2, 16) if has_dust else 0.0, flicker=abs(r.normal(0, 0.02)),
        )  # fmt: skip
    vhs = medium == "vhs"
    fields = str(r.choice(["none", "comb", "blend", "bob", "double"], p=(0.25, 0.25, 0.25, 0.15, 0.1)))
    return Archive(
        medium, lines, mono=bool(r.random() < 0.15), fields=fields, half=r.uniform(0.5, 2.5),
        soft=r.uniform(0, 0.7), contrast=r.uniform(0.88, 1.0), lift=r.uniform(0, 8),
        bleed=(r.uniform(4, 9), r.uniform(0, 5), r.uniform(1, 6)) if vhs
        else (r.uniform(1.5, 3), r.uniform(0, 1.5), r.uniform(0, 2)),
        ring=(r.uniform(0.9, 1.8), r.uniform(0.1, 0.45), r.uniform(2.0, 4.0)) if vhs
        else (r.uniform(0.5, 0.9), r.uniform(0, 0.35), r.uniform(1.5, 2.5)),
        jitter=r.uniform(0, 0.6) if vhs else 0.0, noise=r.uniform(1, 5) if vhs else r.uniform(0, 3),
    )  # fmt: skip


class Ageing:
    """An aged film. Renders degraded frames, and the truth for each frame."""

    def __init__(self, archive: Archive, rng: Rng) -> None:
        self.archive, self.seed = archive, int(rng.integers(2**31))
        self.scratches, self.dust = Scratches(*archive.scratches, rng), Dust(archive.dust, rng)
        self.flicker = Flicker(archive.flicker, rng)

    def tone(self, frame: U8, t: int) -> U8:
        """Applies only fading and flicker."""
        return self.flicker(fade(frame, self.archive.contrast, self.archive.lift), t)

    def truth(self, frame: U8, t: int) -> U8:
        """Returns the clean frame with the brightness of frame ``t``. It is monochrome if the film is monochrome.

        A run's colour lock preserves low frequencies, so networks cannot correct fading and flicker. If the truth did
        not have them, this uncorrectable error would dominate the loss.
        """
        if self.archive.mono:
            frame = monochrome(frame)
        h, w = frame.shape[:2]
        change = self.tone(frame, t).astype(np.float32) - frame
        small = cv2.resize(change, (max(1, w // 16), max(1, h // 16)), interpolation=cv2.INTER_AREA)
        return rounded(frame + cv2.resize(cv2.GaussianBlur(small, (0, 0), 0.8), (w, h), interpolation=cv2.INTER_LINEAR))

    def __call__(self, shoot: Callable[[float], U8], t: int) -> U8:
        """Renders the aged frame ``t``. ``shoot(offset)`` returns the clean frame at ``t`` + ``offset`` frames."""
        a, r = self.archive, np.random.default_rng([self.seed, t])
        if a.fields in ("comb", "blend"):
            frame = (comb if a.fields == "comb" else blend)(shoot(-a.half / 2), shoot(a.half / 2))
        elif a.fields in ("bob", "double"):
            frame = bob(shoot(0.0), a.fields == "double")
        else:
            frame = shoot(0.0)
        frame = self.flicker(degrade_print(monochrome(frame) if a.mono else frame, a.soft, a.contrast, a.lift), t)
        if a.grain[0] > 0:
            frame = grain(frame, *a.grain, r, 0.0 if a.mono else 0.3)
        frame = self.dust(self.scratches(frame, t), t)
        if a.ring[0] > 0:
            frame = single_image.ringing(frame, *a.ring)
        frame = single_image.noise(frame, a.noise, r, 2, 1.0 if a.mono else 0.5)
        if a.bleed[0] > 0 and not a.mono:
            frame = single_image.chroma_bleed(frame, *a.bleed, r)
        return single_image.line_jitter(frame, a.jitter, r) if a.jitter > 0 else frame
