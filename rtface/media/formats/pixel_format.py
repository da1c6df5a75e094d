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
    """Returns the properties of a pixel format by FFmpeg's name. The model is "rgb", "yuv" or "gray"."""
    kind = av.VideoFormat(name, 64, 64)
    parts = kind.components
    alpha = kind.has_palette or any(c.is_alpha for c in parts)
    bits = 8 if kind.has_palette else max(c.bits for c in parts)
    if kind.is_rgb or kind.has_palette:
        return PixelFormatInfo("rgb", bits, (1, 1), alpha)
    if len(parts) <= 2:
        return PixelFormatInfo("gray", bits, (1, 1), alpha)
    return PixelFormatInfo("yuv", bits, (64 // kind.chroma_width(64), 64 // kind.chroma_height(64)), alpha)


def nearest(name: str, candidates: list[str], *, alpha: bool) -> tuple[str, list[str]]:
    """Returns the candidate that stores a pixel format best, and its losses.

    Args:
        name: pixel format of the frames.
        candidates: formats of the encoder; empty if it takes all formats.
        alpha: whether transparency matters.
    """
    if not candidates or name in candidates:
        return name, []
    want = pixel_format_info(name)

    def cost(candidate: str) -> tuple[int, ...]:
        have = pixel_format_info(candidate)
        sampling = [
            h // w if h > w else -(w // h) if w > h else 0 for w, h in zip(want.sampling, have.sampling, strict=True)
        ]
        model = 0 if have.model == want.model else 1 if want.model == "gray" else 2 if have.model != "gray" else 3
        return (
            model,
            int(alpha and want.alpha and not have.alpha),
            max(0, want.bits - have.bits),
            sum(s for s in sampling if s > 0),
            have.bits - want.bits,
            sum(-s for s in sampling if s < 0),
            int(have.alpha),
            int(candidate.startswith("yuvj") != name.startswith("yuvj")),
            int(candidate.endswith("be")),
            candidates.index(candidate),
        )

    best = min(candidates, key=cost)
    have = pixel_format_info(best)
    lost: list[str] = []
    if have.model != want.model and want.model != "gray":
        lost.append(f"{want.model.upper()} becomes {have.model.upper()} ({best})")
    if alpha and want.alpha and not have.alpha:
        lost.append("transparency is left out")
    if have.bits < want.bits:
        lost.append(f"{want.bits} bits a sample become {have.bits}")
    if (
        want.model == "yuv"
        and have.model == "yuv"
        and any(h > w for w, h in zip(want.sampling, have.sampling, strict=True))
    ):
        lost.append(f"colour is stored with less resolution ({best})")
    return best, lost
