"""A small film with a face for the studio's tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.studio.conftest import RunningStudio
from tests.studio.test_access import ask


def make_film(path: Path, seconds: float = 1.2, rate: int = 10) -> Path:
    """Writes a film of a blurred portrait (scikit-image's astronaut) that moves a little."""
    import cv2
    from skimage.data import astronaut

    face = cv2.resize(np.asarray(astronaut()[:256, 100:356]), (128, 128), interpolation=cv2.INTER_AREA)
    face = cv2.resize(face, (256, 256), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"crf": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 288, "yuv420p"
        for number in range(round(seconds * rate)):
            canvas = np.full((288, 320, 3), 90, np.uint8)
            left = 20 + number % 44
            canvas[16:272, left : left + 256] = face
            container.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def newest(studio: RunningStudio) -> str:
    """The path of the film that was opened last, below which its routes are."""
    return f"/api/films/{ask(studio, 'GET', '/api/films')[1]['films'][0]['id']}"
