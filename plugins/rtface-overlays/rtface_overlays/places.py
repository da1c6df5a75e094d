"""Computes the places of overlays that follow no face."""

from __future__ import annotations

PLACES = ("top-left", "top", "top-right", "left", "center", "right", "bottom-left", "bottom", "bottom-right")


def stand(place: str, size: tuple[float, float], frame: tuple[float, float], margin: float) -> tuple[float, float]:
    """Returns the upper left corner of an overlay in a frame. Both coordinates are even, so the overlay stays sharp."""
    x = margin if "left" in place else frame[0] - size[0] - margin if "right" in place else (frame[0] - size[0]) / 2
    y = margin if "top" in place else frame[1] - size[1] - margin if "bottom" in place else (frame[1] - size[1]) / 2
    return 2.0 * round(x / 2), 2.0 * round(y / 2)


def inside(low: float, size: float, limit: float, margin: float = 4.0) -> float:
    """Returns the start of an interval moved into 0…limit. Centres an interval that is too long."""
    if size + 2 * margin > limit:
        return (limit - size) / 2
    return min(max(low, margin), limit - size - margin)
