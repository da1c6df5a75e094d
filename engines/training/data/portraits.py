"""Loads training faces, filters them by licence, and splits off held-out people."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from training.crop_space import U8

ALLOWED = (
    "CivilServiceUSA/us-house",
    "CivilServiceUSA/us-senate",
    "debruine/webmorphR.stim",
    "18F/18f.gsa.gov",
    "open-life-science/open-life-science.github.io",
    "djangocon/",
    "rladies/rladies.github.io",
    "pyladies/pyladies",
    "codeforamerica/brigade",
    "CivilServiceUSA/us-governors",
    "presidential-innovation-fellows/pif-website",
    "GSA/digitalcorps.gsa.gov",
    "angular/angular.io",
)
"""Sources whose licences allow shipping weights: public domain, CC0, CC BY, MIT, BSD. Only these are read."""
ADDED = ("CivilServiceUSA/us-governors", "presidential-innovation-fellows/", "GSA/", "angular/")
"""Sources added later. `split` ignores those of their people who are also in an earlier source."""
FORBIDDEN_WORDS = ("-nc", "non-commercial", "no licence file", "synthetic")
HELD_OUT_SHARE = 0.08
SPLIT_SEED = "rtface-split-1"


@dataclass(frozen=True, slots=True)
class Face:
    """An aligned face picture: side ``px``, ``source`` repository, ``identity`` (normalised name), whether ``gray``."""

    path: Path
    px: int
    source: str
    identity: str
    gray: bool

    def load(self) -> U8:
        """Loads the picture as uint8 px×px×3 RGB."""
        bgr = cv2.imread(str(self.path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise OSError(f"cannot read {self.path}")
        return np.ascontiguousarray(bgr[:, :, ::-1]).astype(np.uint8, copy=False)


def allowed(source: str, licence: str) -> bool:
    """Checks whether a picture's source and licence allow shipping weights."""
    return source.startswith(ALLOWED) and not any(w in licence.lower() for w in FORBIDDEN_WORDS)


def _rank(identity: str) -> str:
    return hashlib.sha256(f"{SPLIT_SEED}:{identity}".encode()).hexdigest()


def normalise(name: str) -> str:
    """Normalises a name to lower-case letters, digits and hyphens, to compare identities."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def load_faces(root: Path) -> list[Face]:
    """Loads usable faces, sorted. ``root`` contains folders ``train`` and ``train_192``, each with a MANIFEST.csv."""
    faces: list[Face] = []
    for folder in ("train", "train_192"):
        manifest = root / folder / "MANIFEST.csv"
        if not manifest.is_file():
            continue
        with manifest.open(newline="", encoding="utf-8") as f:
            for row in csv.DictReader(f):
                if not allowed(row["source_repo"], row["licence"]):
                    continue
                name = normalise(row["identity"] or row["file"])
                path = root / folder / row["file"]
                faces.append(Face(path, int(row["crop_px"]), row["source_repo"], name, row["gray"] == "1"))
    if not faces:
        raise ValueError(f"no faces under {root}: train/MANIFEST.csv is required (see the model card)")
    return sorted(faces, key=lambda f: f.path.name)


def split(faces: list[Face]) -> tuple[list[Face], list[Face]]:
    """Splits faces into (training, held-out), by person.

    In every source, people are ranked by a hash of their name, and the first 8 % (at least one) are held out. A person
    who is held out in one source is held out in all. Sources added later (`ADDED`) never move people in earlier ones.
    """
    earlier = {f.identity for f in faces if not f.source.startswith(ADDED)}
    people: dict[str, set[str]] = defaultdict(set)
    for f in faces:
        if not (f.source.startswith(ADDED) and f.identity in earlier):
            people[f.source].add(f.identity)
    held_out: set[str] = set()
    for names in people.values():
        ranked = sorted(names, key=_rank)
        held_out.update(ranked[: max(1, round(HELD_OUT_SHARE * len(ranked)))])
    return [f for f in faces if f.identity not in held_out], [f for f in faces if f.identity in held_out]


TUNING_PEOPLE = 20


def tuning_people(faces: list[Face]) -> set[str]:
    """Returns people of the training split on whom thresholds are tuned. Networks for coded films must not see them."""
    people = {f.identity for f in split(faces)[0] if f.px >= 384 and not f.gray}
    ranked = sorted(people, key=lambda p: hashlib.sha256(f"rtface-native-tuning:{p}".encode()).hexdigest())
    return set(ranked[:TUNING_PEOPLE])
