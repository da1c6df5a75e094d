"""Describes pixel formats, and finds the one that stores a frame best."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import av


@dataclass(frozen=True, slots=True)
class PixelFormatInfo:
    """The colour model, depth, subsampling and alpha of a pixel format."""

    model: str
    bits: int
    sampling: tuple[int, int]
    alpha: bool


@lru_cache(maxsize=256)
def pixel_format_info(name: str) -> PixelFormatInfo:
    """Returns the properties of a pixel format, given FFmpeg's name. The model is "rgb", "yuv" or "gray"."""
    layout = av.VideoFormat(name, 64, 64)
    components = layout.components
    alpha = layout.has_palette or any(c.is_alpha for c in components)
    bits = 8 if layout.has_palette else max(c.bits for c in components)
    if layout.is_rgb or layout.has_palette:
        return PixelFormatInfo("rgb", bits, (1, 1), alpha)
    if len(components) <= 2:
        return PixelFormatInfo("gray", bits, (1, 1), alpha)
    return PixelFormatInfo("yuv", bits, (64 // layout.chroma_width(64), 64 // layout.chroma_height(64)), alpha)


def nearest(name: str, candidates: list[str], *, alpha: bool) -> tuple[str, list[str]]:
    """Returns the candidate that stores a pixel format best, and its losses.

    Args:
        name: pixel format of the frames.
        candidates: pixel formats of the encoder; empty if it accepts all formats.
        alpha: whether transparency matters.
    """
    if not candidates or name in candidates:
        return name, []
    old = pixel_format_info(name)

    def cost(candidate: str) -> tuple[int, ...]:
        new = pixel_format_info(candidate)
        sampling = [
            h // w if h > w else -(w // h) if w > h else 0 for w, h in zip(old.sampling, new.sampling, strict=True)
        ]
        model = 0 if new.model == old.model else 1 if old.model == "gray" else 2 if new.model != "gray" else 3
        return (
            model,
            int(alpha and old.alpha and not new.alpha),
            max(0, old.bits - new.bits),
            sum(s for s in sampling if s > 0),
            new.bits - old.bits,
            sum(-s for s in sampling if s < 0),
            int(new.alpha),
            int(candidate.startswith("yuvj") != name.startswith("yuvj")),
            int(candidate.endswith("be")),
            candidates.index(candidate),
        )

    best = min(candidates, key=cost)
    new = pixel_format_info(best)
    losses: list[str] = []
    if new.model != old.model and old.model != "gray":
        losses.append(f"{old.model.upper()} becomes {new.model.upper()} ({best})")
    if alpha and old.alpha and not new.alpha:
        losses.append("transparency is left out")
    if new.bits < old.bits:
        losses.append(f"{old.bits} bits a sample become {new.bits}")
    if (
        old.model == "yuv"
        and new.model == "yuv"
        and any(h > w for w, h in zip(old.sampling, new.sampling, strict=True))
    ):
        losses.append(f"colour is stored with less resolution ({best})")
    return best, losses
