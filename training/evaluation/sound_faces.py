"""Counts the sound faces that `--damage halftone` alters: ``python -m training.evaluation.sound_faces --data DIR``.

DIR has `faces`, `photos` and `clips`. The list of faces is fixed: portraits set aside, reduced until the face is as
wide as `SIZES` say; the same as black-and-white prints with grain; photographs at their own size and enlarged; every
`EVERY`-th frame of the clips. All of a person, photograph and clip belongs to one part: rules are made by part 0,
and part 1 is looked at when all is decided; part 2, generated faces, when that has altered a rule. ``--sheet``
writes each altered face before and after, enlarged.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.enhance.descreen import Descreening
from rtface.frame import Color, Frame
from rtface.pipeline.chain import find_faces
from rtface.stats import Stats
from rtface.tracking import create_tracker
from rtface.util.av_arrays import array_from_image, image_from_array
from training.crop_space import U8
from training.data.portraits import load_faces, load_fresh, split
from training.degradation.archive_film import grain, monochrome
from training.degradation.single_image import rounded

SIZES = (50, 60, 80, 100, 140, 250)
"""Widths in pixels of the faces of portraits; those that a portrait has to be enlarged for are left out."""
PRINTED = (140, 250)
"""Widths at which portraits are made prints, too."""
EVERY = 8
LARGER = 2
"""How far photographs are enlarged: group portraits have small faces."""
DAMAGED = ("bopbtl_", "oldfilm_")
"""Photographs and clips that are not sound."""
NOISE = 4
"""Code values of 255 that a pixel of a sound face may change by."""


class Sound(NamedTuple):
    """An RGB image, and the kind, name and part (0, 1 or 2) that its faces are counted by."""

    image: U8
    kind: str
    name: str
    part: int


def part_of(name: str) -> int:
    """The part that a person, photograph or clip belongs to."""
    return hashlib.sha256(f"sound-1:{name}".encode()).digest()[0] % 2


class Descreened:
    """Finds the faces of an image by the run time's own means and descreens them."""

    def __init__(self) -> None:
        self.device, self.tracker, self.stats = CpuDevice(), create_tracker("auto"), Stats()
        self.step = Descreening(self.device, HostCorrection, Options.of({"damage": "halftone"}), self.stats)

    def found(self, image: U8) -> Frame:
        self.tracker.reset()
        frame = Frame(
            image_from_array(np.ascontiguousarray(image), "rgb"),
            0,
            Fraction(1, 25),
            color=Color("rgb", True),
            cut=True,
            new=True,
        )
        return find_faces(frame, self.tracker, self.device, self.stats)

    def __call__(self, frame: Frame) -> U8:
        return np.asarray(array_from_image(self.step.process(frame).image), np.uint8)


def read(path: Path) -> U8:
    """An image as RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert image is not None, path
    return np.asarray(image[:, :, ::-1], np.uint8)


def portraits(root: Path, descreened: Descreened, part: int | None) -> Iterator[Sound]:
    """The portraits set aside, those of sources that nothing trains on, and generated ones."""
    people = [(face.path, part_of(face.identity)) for face in (*split(load_faces(root))[1], *load_fresh(root))]
    for path, which in (*people, *((path, 2) for path in sorted((root / "train_synthetic").glob("*.jpg")))):
        if part not in (None, which):
            continue
        image = read(path)
        faces = descreened.found(image).faces
        if len(faces) != 1:
            continue
        for size in SIZES:
            k = 1.02 * size / faces[0].width  # not a little below the size
            if k > 1:
                break
            small = np.asarray(cv2.resize(image, None, fx=k, fy=k, interpolation=cv2.INTER_AREA), np.uint8)
            yield Sound(small, f"portrait {size}", path.name, which)
            if size in PRINTED:
                r = np.random.default_rng(int(hashlib.sha256(path.name.encode()).hexdigest()[:8], 16))
                print_ = rounded(monochrome(small) * np.array([1.0, 0.93, 0.8], np.float32))
                print_ = grain(print_, r.uniform(2, 8), r.uniform(1, 2.5), r, 0.0)
                yield Sound(print_, f"print {size}", path.name, which)


def photographs(root: Path, part: int | None) -> Iterator[Sound]:
    for path in sorted(root.glob("*.jpg")):
        which = part_of(path.name)
        if path.name.startswith(DAMAGED) or part not in (None, which):
            continue
        rgb = read(path)
        yield Sound(rgb, "photograph", path.name, which)
        larger = cv2.resize(rgb, None, fx=LARGER, fy=LARGER, interpolation=cv2.INTER_CUBIC)
        yield Sound(np.asarray(larger, np.uint8), f"photograph x{LARGER}", path.name, which)


def frames(root: Path, part: int | None) -> Iterator[Sound]:
    for path in sorted(p for p in root.iterdir() if p.suffix in (".mp4", ".avi")):
        which = part_of(path.name)
        if path.name.startswith(DAMAGED) or part not in (None, which):
            continue
        with av.open(str(path)) as film:
            for number, frame in enumerate(film.decode(video=0)):
                if number % EVERY == 0:
                    yield Sound(frame.to_ndarray(format="rgb24"), "film", f"{path.name}:{number}", which)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--part", type=int, choices=(0, 1, 2), help="one part only")
    p.add_argument("--sheet", type=Path, help="folder for what was altered")
    p.add_argument("--json", type=Path)
    a = p.parse_args()
    cv2.setNumThreads(1)
    descreened = Descreened()
    counts: dict[str, dict[str, int]] = defaultdict(lambda: {"faces": 0, "altered": 0, "dots filtered": 0})
    for sound in (s for source in (photographs(a.data / "photos", a.part), frames(a.data / "clips", a.part),
                                   portraits(a.data / "faces", descreened, a.part)) for s in source):  # fmt: skip
        frame = descreened.found(sound.image)
        if not frame.faces:
            continue
        screens = descreened.stats.counted().get("faces_descreened", 0)
        after = descreened(frame)
        count = counts[sound.kind]
        count["faces"] += len(frame.faces)
        screens = descreened.stats.counted().get("faces_descreened", 0) - screens
        if screens:  # these are printed with dots, or are looked at
            count["dots filtered"] += screens
            print(f"{sound.kind}, {sound.name}: dots filtered on {screens} faces", flush=True)
            continue
        for face in frame.faces:
            x0, y0, x1, y1 = (max(0, int(v)) for v in face.box)
            change = np.abs(after[y0:y1, x0:x1].astype(int) - sound.image[y0:y1, x0:x1])
            if int(change.max(initial=0)) <= NOISE:
                continue
            count["altered"] += 1
            print(f"{sound.kind}, {sound.name}: face of {face.width:.0f} px at {x0},{y0}", flush=True)
            if a.sheet:
                a.sheet.mkdir(parents=True, exist_ok=True)
                m = int(0.3 * face.width)
                around = np.s_[max(0, y0 - m) : y1 + m, max(0, x0 - m) : x1 + m]
                pair = np.hstack([sound.image[around], after[around]])
                k = 420 / pair.shape[0]
                pair = cv2.resize(pair, None, fx=k, fy=k, interpolation=cv2.INTER_CUBIC)
                name = f"{sound.kind}_{sound.name}_{x0}_{y0}.png".replace(" ", "_").replace(":", "_")
                cv2.imwrite(str(a.sheet / name), pair[:, :, ::-1])
    total = {key: sum(count[key] for count in counts.values()) for key in next(iter(counts.values()))}
    text = json.dumps({"total": total, **counts}, indent=1)
    print(text)
    if a.json:
        a.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
