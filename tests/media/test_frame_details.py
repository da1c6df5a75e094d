"""Chroma location and field order of frames."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from rtface.media.read.frame_details import details_of, filter_for


def marked(place: str, order: str, format: str) -> av.VideoFrame:
    image = av.VideoFrame(64, 48, format)
    image.pts, image.time_base = 7, Fraction(1, 25)
    graph = filter_for(image, "setparams", chroma_location=place, field_mode=order)
    graph.push(image)
    return graph.pull()


@pytest.mark.parametrize(
    ("place", "order", "format"),
    [
        ("left", "tff", "yuv420p"),
        ("center", "bff", "yuvj420p"),
        ("topleft", "bff", "yuv420p10le"),
        ("bottomleft", "tff", "nv12"),
        ("unspecified", "bff", "yuv422p"),
        ("unspecified", "tff", "rgb24"),
        ("top", "prog", "yuv420p"),
    ],
)
def test_what_a_frame_says(place: str, order: str, format: str) -> None:
    image = marked(place, order, format)
    assert details_of(image) == (place if place != "unspecified" else None, "bff" if order == "bff" else "tff")
    assert (image.pts, image.time_base) == (7, Fraction(1, 25))
