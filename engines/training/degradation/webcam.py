"""Simulates webcams with soft lenses: blur, noise, noise reduction, sharpening, JPEG.

Portraits are sharper than webcam images. A network trained only on portraits would add detail that the camera of a call
cannot capture. So the truth of films with these webcams is the camera's image, not the portrait.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.crop_space import U8
from training.degradation import single_image


@dataclass(frozen=True)
class Webcam:
    """A webcam.

    Attributes:
        blur: σ of the lens's Gaussian blur, in pixels of a 1280×720 frame.
        sigma: σ of the noise in code values.
        smooth: range of the bilateral filter that removes noise, in code values; 0 for no filter.
        sharpen: factor with which the difference from a Gaussian blur of 1.2 pixels is added; 0 for none.
        quality: JPEG quality, 0…100.
    """

    blur: float
    sigma: float
    smooth: float
    sharpen: float
    quality: int

    def __call__(self, image: U8, rng: np.random.Generator) -> U8:
        """Renders the camera's image of a frame, uint8 h×w×3."""
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), self.blur), np.uint8)
        image = single_image.noise(image, self.sigma, rng, 1, 0.5)
        if self.smooth:
            image = np.asarray(cv2.bilateralFilter(image, 5, self.smooth, 1.6), np.uint8)
        if self.sharpen:
            soft = cv2.GaussianBlur(image, (0, 0), 1.2)
            image = np.asarray(cv2.addWeighted(image, 1 + self.sharpen, soft, -self.sharpen, 0), np.uint8)
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1]
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def draw_webcam(r: np.random.Generator) -> Webcam:
    """Draws a random webcam. Half of all webcams filter noise, and half sharpen."""
    blur, sigma = float(np.exp(r.uniform(np.log(0.6), np.log(2.2)))), r.uniform(0.5, 4)
    smooth, sharpen = float(r.integers(2)) * r.uniform(8, 30), float(r.integers(2)) * r.uniform(0.2, 1.0)
    return Webcam(blur, sigma, smooth, sharpen, int(r.integers(75, 96)))
