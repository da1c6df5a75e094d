"""How well faces that a generator made can be told from photographs: why `rtface inspect` gives no such likelihood.

    python -m benchmarks.generated_faces --faces DIR --networks DIR

DIR of faces has `train` and `train_synthetic`, each with a MANIFEST.csv; DIR of networks those of the package
random-face. Four groups of crops of 192 pixels: faces of generator A (of the StyleGAN2 family, from the previews of
SFHQ), faces of generator B (MobileStyleGAN), official portraits, and photographs of other sources. Three signals that
people name as telling are measured: frequencies, asymmetry, lighting and noise. A linear discriminant is trained on
half of one generator's faces against half of the official portraits. Prints, for stills and for a call, the area under
the ROC curve against the other half of the portraits for the generator that was seen and for the other one, and
against the other photographs; and the share of these that a threshold with 5 % false alarms on portraits takes for
generated. Nothing of this ships: the terms of both generators forbid commercial use.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtface.device.cpu.device import CpuDevice
from rtface.frame import Bytes, Color, Frame
from rtface.geometry.alignment import crop_matrix
from rtface.pipeline.chain import find_faces
from rtface.protocols import Tracker
from rtface.stats import Stats
from rtface.tracking import create_tracker
from rtface.util.av_arrays import image_from_array
from rtface_synthetic.generator import Generator

SIDE, COUNT = 192, 160
_LEAST_WIDTH = 150.0
"""Of a face in its source, pixels."""
_EYES = (np.s_[62:88, 45:85], np.s_[62:88, 107:147])
_CHEEKS = (np.s_[50:150, 35:96], np.s_[50:150, 96:157])
Signal = Callable[[Bytes], Any]


def crop_of(image: Bytes, tracker: Tracker) -> Bytes | None:
    """The crop of the one face of an RGB image, cut alike for all groups; None for no face or several."""
    image = cv2.copyMakeBorder(image, 40, 40, 40, 40, cv2.BORDER_REFLECT)
    device = CpuDevice()
    tracker.reset()
    frame = find_faces(
        Frame(
            image_from_array(np.ascontiguousarray(image), "rgb"), 0, Fraction(1, 25), color=Color("rgb", True), cut=True
        ),
        tracker,
        device,
        Stats(),
    )
    if len(frame.faces) != 1:
        return None
    crop = device.view(frame).crop(crop_matrix(frame.faces[0], 2 * SIDE), (2 * SIDE, 2 * SIDE))
    return cv2.resize(np.asarray(crop), (SIDE, SIDE), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def groups_of(faces: Path, networks: Path) -> dict[str, list[Bytes]]:
    """The crops of each group."""
    tracker, found = create_tracker("auto"), {name: list[Bytes]() for name in ("portraits", "others", "A", "B")}

    def add(group: str, image: Any) -> None:
        if len(found[group]) < COUNT and (crop := crop_of(image, tracker)) is not None:
            found[group].append(crop)

    with (faces / "train" / "MANIFEST.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for number in np.random.default_rng(5).permutation(len(rows)):
        row = rows[number]
        if "-nc" not in row["licence"].lower() and float(row["source_face_width_px"] or 0) >= _LEAST_WIDTH:
            group = "portraits" if row["source_repo"].startswith("CivilServiceUSA") else "others"
            if len(found[group]) < COUNT:
                add(group, cv2.imread(str(faces / "train" / row["file"]))[..., ::-1])
    for path in sorted((faces / "train_synthetic").glob("*.jpg")):
        add("A", cv2.imread(str(path))[..., ::-1])
    generator = Generator(networks, 2)
    for seed in range(COUNT + 10):
        add("B", cv2.resize(generator.face(seed, 0.7), (512, 512), interpolation=cv2.INTER_AREA))
    tracker.close()
    return found


def still(crop: Bytes, seed: int) -> Any:
    """As a photograph is stored."""
    return _jpeg(crop, 90)


def call(crop: Bytes, seed: int) -> Any:
    """As a call sends it: half the size, noise, strong compression."""
    noise = np.random.default_rng(seed).normal(0, 3, (SIDE // 2, SIDE // 2, 1))
    small = cv2.resize(crop, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA).astype(float) + noise
    return cv2.resize(_jpeg(np.clip(small, 0, 255).astype(np.uint8), 35), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def _jpeg(crop: Any, quality: int) -> Any:
    return cv2.imdecode(cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def frequencies(crop: Bytes) -> Any:
    """Power by spatial frequency, and peaks where upsampling leaves them (Durall et al. 2020; Frank et al. 2020)."""
    luma = _luma(crop)
    luma = (luma - luma.mean()) / (luma.std() + 1e-6) * np.outer(np.hanning(SIDE), np.hanning(SIDE))
    power = np.log(np.abs(np.fft.fftshift(np.fft.fft2(luma))) ** 2 + 1e-6)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    radius = np.hypot(y, x)
    rings = np.array([power[(radius >= low) & (radius < low + 4)].mean() for low in range(4, SIDE // 2, 4)])
    peaks = list[float]()
    for far in (SIDE // 4, SIDE // 8, SIDE // 2 - 2):
        for row, column in ((0, far), (far, 0), (far, far)):
            row, column = row + SIDE // 2, column + SIDE // 2
            around = power[row - 6 : row + 7, column - 6 : column + 7]
            peaks.append(float(power[row - 1 : row + 2, column - 1 : column + 2].max() - around.mean()))
    return np.r_[rings - rings[:6].mean(), peaks]


def asymmetry(crop: Bytes) -> Any:
    """Differences of the face and its mirror image at five scales, and of the eyes' highlights (Hu et al. 2021)."""
    luma, found = _luma(crop), list[float]()
    for scale in (1, 2, 4, 8, 16):
        blurred = cv2.GaussianBlur(luma, (0, 0), scale)
        off = np.abs(blurred - blurred[:, ::-1])
        found += [off[60:90, 40:152].mean(), off[90:130, 60:132].mean(), off[130:160, 60:132].mean()]
    eyes = list[Any]()
    for place in _EYES:
        eye = luma[place]
        row, column = np.unravel_index(eye.argmax(), eye.shape)
        eyes.append(np.array([row / eye.shape[0], column / eye.shape[1], eye.max(), eye.min()]))
    return np.r_[found, *eyes, np.abs(eyes[0] - eyes[1])[:3]]


def lighting(crop: Bytes) -> Any:
    """Shading of both cheeks (a quadratic fit each, and how they differ), and noise by brightness."""
    luma = _luma(crop)
    blurred, found, fits = cv2.GaussianBlur(luma, (0, 0), 6), list[float](), list[Any]()
    for place in _CHEEKS:
        values = blurred[place]
        y, x = np.mgrid[-1 : 1 : values.shape[0] * 1j, -1 : 1 : values.shape[1] * 1j]
        terms = np.stack([np.ones_like(y), y, x, x * y, y * y, x * x], -1).reshape(-1, 6)
        fit, rest, *_ = np.linalg.lstsq(terms, values.ravel(), rcond=None)
        fits.append(fit)
        found += [*fit, float(rest[0])]
    noise = luma - cv2.GaussianBlur(luma, (0, 0), 1.0)
    for low, high in ((0.1, 0.35), (0.35, 0.6), (0.6, 0.9)):
        part = noise[(blurred > low) & (blurred < high)]
        found.append(float(np.log(part.std() + 1e-4)) if part.size > 50 else -6.0)
    return np.r_[found, np.abs(fits[0] - fits[1])[1:]]


def together(crop: Bytes) -> Any:
    """All three."""
    return np.r_[frequencies(crop), asymmetry(crop), lighting(crop)]


def _luma(crop: Bytes) -> Any:
    return cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(float) / 255


def area(made: Any, real: Any) -> float:
    """Under the ROC curve, 0…1."""
    ranks = np.concatenate([made, real]).argsort().argsort()
    return float((ranks[: len(made)].sum() - len(made) * (len(made) - 1) / 2) / (len(made) * len(real)))


def trained(made: Any, real: Any) -> Callable[[Any], Any]:
    """A linear discriminant with a ridge: features → score."""
    rows = np.concatenate([made, real])
    mean, deviation = rows.mean(0), rows.std(0) + 1e-9
    scaled = (rows - mean) / deviation
    wanted = np.r_[np.full(len(made), 1 / len(made)), np.full(len(real), -1 / len(real))] * len(rows) / 2
    spread = scaled.T @ scaled / len(rows) + 0.1 * np.eye(rows.shape[1])
    weights = np.linalg.solve(spread, scaled.T @ wanted / len(rows))
    return lambda features: (features - mean) / deviation @ weights


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--networks", type=Path, required=True)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    groups = groups_of(asked.faces, asked.networks)
    print({name: len(crops) for name, crops in groups.items()}, flush=True)
    print("| input | signal | trained on | seen generator | other generator | other photographs | false alarms there |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for degrade in (still, call):
        for signal in (frequencies, asymmetry, lighting, together):
            rows = {
                name: np.array([signal(degrade(crop, k)) for k, crop in enumerate(crops)])
                for name, crops in groups.items()
            }
            for seen, other in (("A", "B"), ("B", "A")):
                score = trained(rows[seen][::2], rows["portraits"][::2])
                portraits, photographs = score(rows["portraits"][1::2]), score(rows["others"])
                made = score(rows[seen][1::2])
                alarms = float((photographs > np.quantile(portraits, 0.95)).mean())
                print(
                    f"| {degrade.__name__} | {signal.__name__} | {seen} | {area(made, portraits):.2f} | "
                    f"{area(score(rows[other]), portraits):.2f} | {area(made, photographs):.2f} | "
                    f"{100 * alarms:.0f} % |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
