"""Marks the person on each picture of a folder with MediaPipe's selfie segmentation, as gray PNGs of the same names.

usage: python person_masks.py PICTURES --out MASKS    (in a virtual environment that has mediapipe 0.10.21)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np


def main() -> None:
    import mediapipe  # type: ignore[import-not-found]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    network = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
    for path in sorted([*args.pictures.glob("*.jpg"), *args.pictures.glob("*.png")]):
        rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        mask = np.clip(network.process(rgb).segmentation_mask, 0, 1)
        cv2.imwrite(str(args.out / f"{path.stem}.png"), np.rint(255 * mask).astype(np.uint8))


if __name__ == "__main__":
    main()
