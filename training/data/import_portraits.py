"""More people to train on: portraits found, aligned and compared with everyone who is known already.

``python -m training.data.import_portraits add ROOT --images SUB --source OWNER/NAME --licence TEXT --prefix gov
--known FACES --out NEW`` reads the images below ROOT/SUB, one person each, and adds those that are fit to
NEW/train and NEW/train_192 with their MANIFEST.csv. ``… join FACES NEW --into ALL`` makes one folder of both.

A face is found by the run time's tracker, aligned to the FFHQ template and written as a JPEG of 512, 384, 320, 256 or
192 px. It is left out where the source is too small, blurred, turned by more than 60 degrees, cut off, or shows several
people. People are compared by dlib's embedding (`training.losses.identity`) and by name, before anything is written:

- whoever is set aside (`portraits.split`) or fresh (`portraits.load_fresh`) is left out;
- whoever is in training already keeps the identity that the manifest has, so that a split never parts one person;
- an image that is nearly the same as a known one is left out.

The licence is whatever ``--licence`` says: read the repository's licence file first. Needs ``torch``.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from training.crop_space import F32, F64, U8, at, cut, frame_matrix
from training.data.portraits import Face, load_faces, load_fresh, normalised, split

COLUMNS: tuple[str, ...] = (
    "file", "crop_px", "source_repo", "original_path", "licence", "source_w", "source_h", "source_face_width_px",
    "source_eye_dist_px", "scale_source_to_crop", "sharpness_lapvar_core256", "sharpness_lapvar_full256", "gray",
    "yaw_deg", "outside_frac", "identity")  # fmt: skip
"""Columns of MANIFEST.csv. Sizes in pixels of the source; sharpness is the variance of the Laplacian of the grey crop
at 256 px, of its core and of all of it; yaw in degrees; ``outside_frac`` is the share of the crop that is reflected."""
SIDES = (512, 384, 320, 256, 192)
"""Sides of the crops. Those below 256 px go to the folder ``train_192``."""
ENLARGED = {512: 1.0, 384: 1.0}
"""How much a crop may be enlarged over its source; other sides by `MOST_ENLARGED`."""
MOST_ENLARGED = 1.15
SHARP = 70.0
TURNED = 60.0
OUTSIDE = 0.22
SEARCHED = 1600
"""Faces are searched for in an image whose longer side is at most this."""
SAME = 0.45
"""Embeddings of two images closer than this count as one person. dlib's own limit is 0.6; of 10,000 pairs of different
people in the training set, 50 lie below 0.6, 3 below 0.5 and 1 below 0.45. `pair_sheet` shows those between by eye."""
GUARDED = 0.5
"""The same for people who are set aside or fresh: rather leave out one more."""
AHEAD = 0.1
"""By how much someone in training must lie closer than anyone set aside to be taken for that person."""
SAME_PHOTOGRAPH = 0.2
EQUAL = 0.975
"""Closer than the one (embeddings of someone in training), or with 32×32 thumbnails that correlate by more than the
other, two images are the same photograph."""
ENDINGS = re.compile(r"([-_. ]+(head-?shot|portrait|photo|profile|thumb|square|cropped|official|new|\d+(x\d+)?))+$")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class Unfit(Exception):
    """Why an image is left out."""


@dataclass(frozen=True)
class Portrait:
    """An aligned face: ``crop`` uint8 S×S×3 RGB and its row of the manifest, without file and identity."""

    crop: U8
    row: dict[str, str]


@dataclass(frozen=True)
class Known:
    """Someone who is in a manifest: name, group (training, held out, fresh, other), embedding and thumbnail."""

    face: Face
    group: str
    embedding: F32
    thumbnail: F32


@dataclass(frozen=True)
class Verdict:
    """What the comparison says of one image: the identity to write (None: leave it out), why, and the nearest people
    who are set aside or fresh, and in training, with their distances, nearest first."""

    identity: str | None
    reason: str
    alike: tuple[tuple[Known, float], ...] = ()


def crop_side(source: float) -> int | None:
    """The largest of `SIDES` for a crop that covers ``source`` pixels of its image; None where none fits."""
    return next((s for s in SIDES if s <= source * ENLARGED.get(s, MOST_ENLARGED)), None)


def outside(matrix: F64, side: int, width: int, height: int) -> float:
    """Share of a crop (``matrix`` 2×3, crop → image, pixel centres at integers) that lies outside of its image."""
    steps = np.linspace(0, side - 1, 64)
    x, y = np.meshgrid(steps, steps)
    px, py = (m[0] * x + m[1] * y + m[2] for m in matrix)
    return float(((px < -0.5) | (py < -0.5) | (px > width - 0.5) | (py > height - 0.5)).mean())


def sharpness(crop: U8) -> tuple[float, float]:
    """Variance of the Laplacian at 256 px: of the face (brow to chin), and of the whole crop."""
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    if len(grey) != 256:
        shrinks = len(grey) > 256
        grey = cv2.resize(grey, (256, 256), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    found = cv2.Laplacian(grey, cv2.CV_64F)
    return float(found[64:224, 64:192].var()), float(found.var())


def is_grey(crop: U8) -> bool:
    """Whether an image has (nearly) no colour."""
    lab = cv2.cvtColor(crop, cv2.COLOR_RGB2Lab).astype(np.float32)
    return bool(np.hypot(lab[..., 1] - 128, lab[..., 2] - 128).mean() < 4 and lab[..., 1:].std((0, 1)).max() < 3)


def thumbnail(crop: U8) -> F32:
    """What two images of one photograph share: 1,024 values of mean 0 and length 1."""
    grey = cv2.cvtColor(np.asarray(cv2.resize(crop, (32, 32), interpolation=cv2.INTER_AREA), np.uint8),
                        cv2.COLOR_RGB2GRAY).astype(np.float32).ravel()  # fmt: skip
    grey -= grey.mean()
    return grey / max(1e-6, float(np.linalg.norm(grey)))


def name_of(path: Path) -> str:
    """The person's name as a file has it: ``Jane-Doe_headshot_512.jpg`` → ``jane-doe``."""
    return normalised(ENDINGS.sub("", path.stem.lower()))


class Aligner:
    """Finds the face of a portrait with the run time's tracker and aligns it; use as a context manager."""

    def __init__(self, threads: int = 1) -> None:
        import rtface

        self._enhancer = rtface.Enhancer(correct="never", threads=threads)

    def __enter__(self) -> Aligner:
        return self

    def __exit__(self, *_: object) -> None:
        self._enhancer.close()

    def align(self, image: U8) -> Portrait:
        """The one face of an image (uint8 H×W×3 RGB).

        Raises:
            Unfit: no face or several, or one that is too small, blurred, turned too far or cut off.
        """
        height, width = image.shape[:2]
        k = min(1.0, SEARCHED / max(height, width))
        seen = image
        if k < 1:
            seen = np.asarray(cv2.resize(image, None, fx=k, fy=k, interpolation=cv2.INTER_AREA), np.uint8)
        seen = np.ascontiguousarray(seen[: seen.shape[0] // 2 * 2, : seen.shape[1] // 2 * 2])
        self._enhancer(seen, still=True)
        faces = sorted(self._enhancer.faces, key=lambda f: -f.width)
        if not faces:
            raise Unfit("no face")
        if len(faces) > 1 and faces[1].width > 0.5 * faces[0].width:
            raise Unfit("several faces")
        face = faces[0]
        m = frame_matrix(face, k)
        scale = float(np.hypot(m[0, 0], m[1, 0]))
        side = crop_side(512 * scale)
        if side is None:
            raise Unfit("too small")
        yaw = face.pose[0] if face.pose else 0.0
        if abs(yaw) > TURNED:
            raise Unfit("turned too far")
        m = at(np.asarray(m, np.float64), side)
        beyond = outside(m, side, width, height)
        if beyond > OUTSIDE:
            raise Unfit("cut off")
        crop = cut(image, m, side)
        core, full = sharpness(crop)
        if core < SHARP:
            raise Unfit("blurred")
        eyes = float(np.linalg.norm(face.points[1, :2] - face.points[0, :2])) / k
        values = (side, width, height, round(face.width / k), round(eyes, 1), round(side / (512 * scale), 3),
                  round(core, 1), round(full, 1), int(is_grey(crop)), round(yaw), round(beyond, 3))  # fmt: skip
        columns = ("crop_px", *COLUMNS[5:15])
        return Portrait(crop, {c: str(v) for c, v in zip(columns, values, strict=True)})


class People:
    """Everyone who is known, and who a new image shows."""

    def __init__(self, known: Sequence[Known]) -> None:
        self.known = list(known)
        self.names = {k.face.identity: k.group for k in known if k.group != "other"}

    def judge(self, name: str, embedding: F32, image: F32, apart: bool = False) -> Verdict:
        """Compare an image (its ``name``, embedding, and thumbnail ``image``) with everyone who is known.

        ``apart``: someone has looked, and it shows none of those whose embeddings are similar; names and equal
        photographs still count.
        """
        known = [k for k in self.known if k.group != "other"]
        if not known:
            return Verdict(name, "new")
        far = np.linalg.norm(np.stack([k.embedding for k in known]) - embedding, axis=1)
        nearest = sorted(((k, float(d)) for k, d in zip(known, far, strict=True)), key=lambda pair: pair[1])
        guarded = next((pair for pair in nearest if pair[0].group != "training"), (None, np.inf))
        trained = next((pair for pair in nearest if pair[0].group == "training"), (None, np.inf))
        alike = tuple((k, d) for k, d in sorted((guarded, trained), key=lambda pair: pair[1]) if k)
        group = self.names.get(name)
        if group in ("held out", "fresh"):
            return Verdict(None, f"{group}, by name", alike)
        correlation = np.stack([k.thumbnail for k in known]) @ image
        twin = known[int(correlation.argmax())]
        if correlation.max() > EQUAL:
            return Verdict(None, "same photograph" if twin.group == "training" else twin.group, alike)
        if apart:
            return Verdict(name, "known, by name" if group else "new", alike)
        if guarded[0] and guarded[1] < min(GUARDED, trained[1] + AHEAD):
            return Verdict(None, guarded[0].group, alike)
        if trained[1] < SAME_PHOTOGRAPH:
            return Verdict(None, "same photograph", alike)
        if trained[0] and trained[1] < SAME:
            return Verdict(trained[0].face.identity, "known", alike)
        return Verdict(name, "known, by name" if group else "new", alike)

    def add(self, face: Face, embedding: F32, image: F32) -> None:
        """Count a face that was just added among those in training."""
        self.known.append(Known(face, "training", embedding, image))
        self.names.setdefault(face.identity, "training")


def grouped(root: Path) -> list[tuple[Face, str]]:
    """All faces below ``root`` with what they are for: training, held out, fresh or other (neither)."""
    train, held = split(load_faces(root))
    groups = {f.path: "training" for f in train} | {f.path: "held out" for f in held}
    groups |= {f.path: "fresh" for f in load_fresh(root)}
    return [(f, groups.get(f.path, "other")) for f in load_faces(root, licensed_only=False)]


def known_people(roots: Sequence[Path], cache: Path, weights: Path | None) -> People:
    """Everyone below ``roots``; embeddings are kept in the file ``cache`` (.npz), by folder and file name."""
    from training.losses.identity import Identity

    faces = [pair for root in roots if (root / "train" / "MANIFEST.csv").is_file() for pair in grouped(root)]
    kept: dict[str, F32] = {}
    if cache.is_file():
        with np.load(cache) as stored:
            kept = dict(zip(stored["names"].tolist(), stored["embeddings"], strict=True))
    net = None
    known: list[Known] = []
    for face, group in faces:
        image, key = face.load(), f"{face.path.parent.name}/{face.path.name}"
        if key not in kept:
            net = net or Identity(weights)
            kept[key] = net.embed(image)[0]
        known.append(Known(face, group, kept[key], thumbnail(image)))
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, names=np.array(list(kept)), embeddings=np.stack(list(kept.values())))
    return People(known)


def images(root: Path, folder: str, skipped: frozenset[str]) -> Iterator[tuple[Path, U8]]:
    """The images below ``root``/``folder`` (path, uint8 H×W×3 RGB), sorted, without those named in ``skipped``."""
    for path in sorted((root / folder).rglob("*")):
        if path.suffix.lower() not in SUFFIXES or path.relative_to(root).as_posix() in skipped:
            continue
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is not None and min(bgr.shape[:2]) >= 64:
            yield path, np.ascontiguousarray(bgr[:, :, ::-1]).astype(np.uint8, copy=False)


def written(out: Path, rows: list[dict[str, str]]) -> None:
    """Add rows to the MANIFEST.csv of their folders below ``out``."""
    for folder in ("train", "train_192"):
        mine = [r for r in rows if (folder == "train") == (int(r["crop_px"]) >= 256)]
        path = out / folder / "MANIFEST.csv"
        if not mine and path.is_file():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.is_file()
        with path.open("a", newline="", encoding="utf-8") as f:
            w = csv.DictWriter(f, COLUMNS)
            if new:
                w.writeheader()
            w.writerows(mine)


def pair_sheet(pairs: list[tuple[U8, U8, float, str]], path: Path) -> None:
    """A PNG of pairs, six in a row: new image | known image, with distance and verdict, to judge by eye."""
    tiles: list[U8] = []
    for new, old, distance, says in sorted(pairs, key=lambda p: p[2]):
        both = np.hstack([cv2.resize(z, (128, 128), interpolation=cv2.INTER_AREA) for z in (new, old)])
        tile = np.zeros((150, 264, 3), np.uint8)
        tile[:128, :256] = both
        cv2.putText(tile, f"{distance:.3f} {says}", (2, 144), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
        tiles.append(tile)
    while len(tiles) % 6:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[i : i + 6]) for i in range(0, len(tiles), 6)]
    if rows:
        cv2.imwrite(str(path), np.vstack(rows)[:, :, ::-1])


def add(a: argparse.Namespace) -> None:
    """The command ``add``."""
    from training.losses.identity import Identity

    skipped, apart = (frozenset[str](f.read_text(encoding="utf-8").split("\n") if f else ()) for f in (a.skip, a.apart))
    names: dict[str, str] = {}
    if a.names:
        with a.names.open(newline="", encoding="utf-8") as f:
            names = {r["image"]: normalised(r["name"]) for r in csv.DictReader(f)}
    people = known_people((a.known, a.out), a.out / "embeddings.npz", a.weights)
    net, counts = Identity(a.weights), Counter[str]()
    rows: list[dict[str, str]] = []
    pairs: list[tuple[U8, U8, float, str]] = []
    taken = {k.face.path.name for k in people.known}
    with Aligner(a.threads) as aligner:
        for path, image in images(a.root, a.images, skipped):
            original = path.relative_to(a.root).as_posix()
            try:
                found = aligner.align(image)
            except Unfit as why:
                counts[str(why)] += 1
                print(f"{original}: {why}")
                continue
            embedding, small = net.embed(found.crop)[0], thumbnail(found.crop)
            verdict = people.judge(names.get(original) or name_of(path), embedding, small,
                                   original in apart)  # fmt: skip
            pairs += [(found.crop, k.face.load(), d, f"{k.group}: {verdict.reason}") for k, d in verdict.alike
                      if d < a.show]  # fmt: skip
            counts[verdict.reason] += 1
            if verdict.reason != "new":
                near = ", ".join(f"{k.face.identity} ({k.group}) at {d:.3f}" for k, d in verdict.alike)
                print(f"{original}: {verdict.reason}; nearest {near}")
            if verdict.identity is None:
                continue
            side = int(found.row["crop_px"])
            folder = a.out / ("train" if side >= 256 else "train_192")
            stem = f"{a.prefix}_{normalised(path.stem)}"
            file = next(n for n in (f"{stem}{e}.jpg" for e in ("", *(f"-{i}" for i in range(2, 99)))) if n not in taken)
            taken.add(file)
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / file), found.crop[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
            rows.append({"file": file, "source_repo": a.source, "original_path": original, "licence": a.licence,
                         "identity": verdict.identity, **found.row})  # fmt: skip
            face = Face(folder / file, side, a.source, verdict.identity, found.row["gray"] == "1")
            people.add(face, embedding, small)
            counts[f"{side} px"] += 1
    written(a.out, rows)
    if a.sheet:
        pair_sheet(pairs, a.sheet)
    print(f"{a.source}: {len(rows)} faces of {len({r['identity'] for r in rows})} people added; "
          + ", ".join(f"{n} {what}" for what, n in counts.most_common()))  # fmt: skip


def join(sets: Sequence[Path], into: Path) -> list[Face]:
    """Make one folder of several sets of faces (hard links where the disk allows, else links), with one MANIFEST.csv.

    Returns:
        Its faces.

    Raises:
        ValueError: two files of one name, or a person of the first set would change sides of `portraits.split`.
    """
    for folder in ("train", "train_192"):
        rows: list[dict[str, str]] = []
        for root in sets:
            manifest = root / folder / "MANIFEST.csv"
            if not manifest.is_file():
                continue
            with manifest.open(newline="", encoding="utf-8") as f:
                rows += [{**r, "file": f"{root / folder / r['file']}"} for r in csv.DictReader(f)]
        names = Counter(Path(r["file"]).name for r in rows)
        if twice := [n for n, count in names.items() if count > 1]:
            raise ValueError(f"{len(twice)} files of one name in {folder}, such as {twice[0]}: rename them first")
        (into / folder).mkdir(parents=True, exist_ok=True)
        with (into / folder / "MANIFEST.csv").open("w", newline="", encoding="utf-8") as f:
            w = csv.DictWriter(f, COLUMNS)
            w.writeheader()
            for r in rows:
                source = Path(r["file"]).resolve()
                target = into / folder / source.name
                target.unlink(missing_ok=True)
                try:
                    os.link(source, target)
                except OSError:
                    target.symlink_to(source)
                w.writerow({**r, "file": source.name})
    faces = load_faces(into)
    before, after = ([{f.identity for f in side} for side in split(z)] for z in (load_faces(sets[0]), faces))
    if moved := (before[0] & after[1]) | (before[1] & after[0]):
        raise ValueError(f"{len(moved)} people of {sets[0]} would change sides, such as {sorted(moved)[0]}: "
                         "list their new source in portraits.ADDED")  # fmt: skip
    fresh = [{f.identity for f in load_fresh(root)} for root in (sets[0], into)]
    if lost := fresh[0] - fresh[1]:
        raise ValueError(f"{len(lost)} fresh people are in training now, such as {sorted(lost)[0]}: leave them out")
    return faces


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    one = commands.add_parser("add", help="align the portraits of one source and compare them with everyone known")
    one.add_argument("root", type=Path, help="a copy of the source repository")
    one.add_argument("--images", default=".", help="folder of the images below it")
    one.add_argument("--source", required=True, help="owner/name of the repository")
    one.add_argument("--licence", required=True, help="what its licence file says of the images")
    one.add_argument("--prefix", required=True, help="beginning of the new files' names")
    one.add_argument("--known", type=Path, required=True, help="the faces there are")
    one.add_argument("--out", type=Path, required=True, help="folder of the new faces")
    one.add_argument("--skip", type=Path, help="text file: images (paths below ROOT, one a line) that are unfit by eye")
    one.add_argument("--apart", type=Path, help="text file: images that show, by eye, nobody they are similar to")
    one.add_argument("--names", type=Path, help="CSV (image, name): names of people whose files do not say them")
    one.add_argument("--sheet", type=Path, help="PNG of the pairs that are alike, to judge by eye")
    one.add_argument("--show", type=float, default=0.58, help="distance up to which pairs go to the sheet")
    one.add_argument("--weights", type=Path, help="folder of dlib's weights (default: $RTFACE_METRIC_WEIGHTS)")
    one.add_argument("--threads", type=int, default=1)
    both = commands.add_parser("join", help="make one folder of several sets of faces")
    both.add_argument("sets", type=Path, nargs="+", help="the known set first")
    both.add_argument("--into", type=Path, required=True)
    a = p.parse_args()
    try:
        if a.command == "add":
            add(a)
            return 0
        for source, n in Counter(f.source for f in join(a.sets, a.into)).most_common():
            print(f"{n:6} {source}")
        return 0
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
