"""``python -m rtface_synthetic SHEET.png [SEED]``: draws the faces of sixteen seeds, starting at SEED (default: 1)."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from rtface.errors import RtfaceError
from rtface_synthetic.generator import Generator, find_networks

_SIDE = 256  # side of a face on the sheet, in pixels


def main(arguments: list[str]) -> int:
    """Draws the sheet. Returns the exit code: 2 for wrong arguments."""
    if not 1 <= len(arguments) <= 2 or not all(a.isdigit() for a in arguments[1:]):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    first = int(arguments[1]) if len(arguments) == 2 else 1
    try:
        generator = Generator(find_networks())
    except RtfaceError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    images: list[np.ndarray] = []
    for seed in range(first, first + 16):
        image = cv2.resize(generator.face(seed), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
            cv2.putText(image, str(seed), (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, thickness, cv2.LINE_AA)
        images.append(image)
    sheet = np.vstack([np.hstack(images[k : k + 4]) for k in range(0, 16, 4)])
    encoded, data = cv2.imencode(".png", sheet[..., ::-1])
    try:
        Path(arguments[0]).write_bytes(data.tobytes() if encoded else b"")
    except OSError as error:
        sys.stderr.write(f"error: {arguments[0]} cannot be written: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
