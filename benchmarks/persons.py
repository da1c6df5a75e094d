"""How well persons are recognised: pairs of tracks, and films of several people, of people who set no threshold.

usage: python -m benchmarks.persons --faces DIR [--kinds clean,call,heavy] [--others 120] [--save]

DIR holds portraits with MANIFEST.csv files (see engines/training/README.md). People are those with two photos: by the
identity of the manifest, and legislators by their names in different sources. Half of them, by a hash, set the
thresholds (``--half 0``); figures are of the other half. Every photo becomes a clip of a moving face, degraded by
`training.data.film_pairs` as in a call (or heavier), which goes through tracker, choice of crops and network as in a
run; "clean" is the clip without degradation. Two tracks of one photo are no pair. Other people with one photo add
different pairs.

Recall: of the pairs of one person, those joined; a track that stays unknown joins nothing. Precision: of the joined
pairs, those of one person, where every person meets ``--cast`` others, as in a film; the rate of false joins among all
different pairs is given, too. "films" are made casts of `--cast` people with three tracks each at most, through the
gallery.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.common import save
from rtface.device.cpu.device import CpuDevice
from rtface.frame import Bytes, Color, Float32, Frame
from rtface.persons.gallery import JOIN, Gallery, distance
from rtface.persons.network import PersonNetwork
from rtface.persons.recogniser import PersonRecogniser
from rtface.pipeline.chain import find_faces
from rtface.protocols import Tracker
from rtface.stats import Stats
from rtface.tracking import create_tracker
from rtface.util.av_arrays import image_from_array
from training.data.film_pairs import degraded, draw_recipe
from training.data.moving_face import Actor, Film
from training.data.portraits import Face, load_faces, skin_tone

FRAMES = 16
_LEGISLATORS = ("voteview/", "CivilServiceUSA/", "argentargenticle/")
_TONES = (("light", 41.0, 180.0), ("intermediate", 10.0, 41.0), ("brown and dark", -180.0, 10.0))


@dataclass
class Seen:
    """One track: whose, from which photo, of which kind of clip; what was found of it."""

    person: str
    photo: str
    kind: str
    tone: float
    gray: bool
    embedding: Float32 | None


def person_of(face: Face, row: dict[str, str]) -> str:
    """Who it is: the identity of the manifest; of a legislator first and last name, which sources write differently."""
    name = unicodedata.normalize("NFKD", row["identity"]).encode("ascii", "ignore").decode().lower()
    if not face.source.startswith(_LEGISLATORS):
        return f"{face.identity}"
    last, comma, first = name.partition(",")
    words = re.sub(
        "[^a-z ]", " ", (f"{first.split()[0]} {last}" if comma and first.split() else name).replace("-", " ")
    ).split()
    return f"{words[0]} {words[-1]}" if words else face.identity


def people_of(folder: Path) -> dict[str, list[Face]]:
    """All people with their photos."""
    rows: dict[str, dict[str, str]] = {}
    for part in ("train", "train_192"):
        with (folder / part / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
            rows |= {row["file"]: row for row in csv.DictReader(file)}
    found: dict[str, list[Face]] = defaultdict(list)
    for face in load_faces(folder, licensed_only=False):
        if not rows[face.path.name]["identity"] and face.source.startswith(_LEGISLATORS):
            continue  # may be somebody who is named in another source
        found[person_of(face, rows[face.path.name])].append(face)
    return found


def number(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def moving(face: Face, kind: str) -> tuple[Film, Actor, np.random.Generator]:
    """A film of one moving face, that face, and the generator that draws what comes next.

    The crop has 200 to 420 pixels, as in a call of 720 lines.
    """
    r = np.random.default_rng([number(face.path.name), len(kind)])
    image = face.load()
    side = min(face.px * 1.1, float(r.uniform(200, 420)))
    width = int(side * 1.6 / 2) * 2
    actor = Actor(image, side, (width / 2, width / 2), r, warp=float(r.random()))
    actor.speed *= 0.3
    return Film([actor], image, r, (width, width)), actor, r


def clip_of(face: Face, kind: str) -> Iterator[Bytes]:
    """A clip of a moving face, uint8 RGB."""
    film, _, r = moving(face, kind)
    times = [float(t) for t in range(FRAMES)]
    if kind == "clean":
        yield from (film.render(t) for t in times)
    else:
        yield from (seen for _, _, seen in degraded(film, draw_recipe(kind, r), times, set(range(FRAMES))))


def embedding_of(face: Face, kind: str, tracker: Tracker, network: PersonNetwork) -> Float32 | None:
    """What a run knows of the face at the end of its clip; None where it stays unknown."""
    stats, device = Stats(), CpuDevice()
    step = PersonRecogniser(network, Gallery(), stats)
    tracker.reset()
    for count, image in enumerate(clip_of(face, kind)):
        frame = Frame(image_from_array(image, "rgb"), count, Fraction(1, 25), color=Color("rgb", True), cut=not count)
        step(find_faces(frame, tracker, device, stats), device.view)
    if not step.tracks:
        return None
    return max(step.tracks.values(), key=lambda track: len(track.crops)).embedding()


def pairs(tracks: list[Seen]) -> tuple[list[tuple[Seen, Seen]], list[tuple[Seen, Seen]]]:
    """Pairs of one person (of two photos), and of two people."""
    same: list[tuple[Seen, Seen]] = []
    different: list[tuple[Seen, Seen]] = []
    for a, b in combinations(tracks, 2):
        if a.person != b.person:
            different.append((a, b))
        elif a.photo != b.photo:
            same.append((a, b))
    return same, different


def off(pair: tuple[Seen, Seen]) -> float:
    a, b = pair
    return distance(a.embedding, b.embedding) if a.embedding is not None and b.embedding is not None else np.inf


def figures(tracks: list[Seen], cast: int, limit: float = JOIN) -> dict[str, Any]:
    """Of pairs, at a threshold."""
    same, different = pairs(tracks)
    recall = float(np.mean([off(pair) <= limit for pair in same])) if same else 0.0
    false = float(np.mean([off(pair) <= limit for pair in different])) if different else 0.0
    # A track of one of `cast` people meets one of each other person for every one of its own.
    precision = recall / (recall + (cast - 1) * false) if recall else 0.0
    return {
        "same": len(same),
        "different": len(different),
        "recall": round(recall, 4),
        "false_joins": round(false, 6),
        "precision": round(precision, 4),
        "unknown": round(float(np.mean([track.embedding is None for track in tracks])), 4),
    }


def threshold(tracks: list[Seen], share: float) -> float:
    """The distance that so many of the different pairs fall below."""
    return float(np.quantile([off(pair) for pair in pairs(tracks)[1] if np.isfinite(off(pair))], share))


def films(tracks: list[Seen], cast: int, count: int = 60) -> dict[str, Any]:
    """Precision and recall of pairs of tracks after the gallery, over made casts."""
    by_person: dict[str, list[Seen]] = defaultdict(list)
    for track in tracks:
        by_person[track.person].append(track)
    names = sorted(name for name, of in by_person.items() if len({t.photo for t in of}) > 1)
    r = np.random.default_rng(0)
    joined = right = wanted = unknown = total = 0
    for _ in range(count):
        shown = [t for k in r.permutation(len(names))[:cast] for t in by_person[names[int(k)]][:4]]
        shown = [shown[int(k)] for k in r.permutation(len(shown))]
        gallery = Gallery()
        for track_id, track in enumerate(shown, 1):
            if track.embedding is not None:
                gallery.decide(track_id, track.embedding)
        of = [gallery.person_of(track_id) for track_id in range(1, len(shown) + 1)]
        total, unknown = total + len(of), unknown + sum(person is None for person in of)
        for i, j in combinations(range(len(shown)), 2):
            if shown[i].photo == shown[j].photo:
                continue
            same, together = shown[i].person == shown[j].person, of[i] is not None and of[i] is of[j]
            wanted, joined, right = wanted + same, joined + together, right + (same and together)
    return {
        "films": count,
        "pairs": wanted,
        "precision": round(right / max(joined, 1), 4),
        "recall": round(right / max(wanted, 1), 4),
        "unknown": round(unknown / max(total, 1), 4),
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--kinds", default="clean,call,heavy")
    p.add_argument("--half", type=int, default=1, help="0: the people who set the thresholds")
    p.add_argument("--others", type=int, default=120, help="people with one photo")
    p.add_argument("--cast", type=int, default=8, help="people in a film")
    p.add_argument("--save", action="store_true", help="write benchmarks/results/persons.json")
    a = p.parse_args()
    cv2.setNumThreads(1)
    people = {name: of for name, of in people_of(a.faces).items() if number(name) % 2 == a.half}
    chosen = {name: of for name, of in people.items() if 2 <= len(of) <= 4}
    single = sorted(name for name, of in people.items() if len(of) == 1)
    chosen |= {
        single[int(k)]: people[single[int(k)]] for k in np.random.default_rng(0).permutation(len(single))[: a.others]
    }
    tracker, network, kinds = create_tracker("auto"), PersonNetwork(), a.kinds.split(",")
    tracks: dict[str, list[Seen]] = {kind: [] for kind in kinds}
    for kind in kinds:
        for name, of in chosen.items():
            tracks[kind] += [
                Seen(
                    name,
                    face.path.name,
                    kind,
                    skin_tone(face.load()),
                    face.gray,
                    embedding_of(face, kind, tracker, network),
                )
                for face in of
            ]
        print(f"{kind}: {len(tracks[kind])} tracks", flush=True)
    tracker.close()
    out: dict[str, Any] = {
        "people": sum(len(of) > 1 for of in chosen.values()),
        "others": a.others,
        "cast": a.cast,
        "half": a.half,
        "join": JOIN,
    }
    for kind in kinds:
        of = tracks[kind]
        out[kind] = {
            "pairs": figures(of, a.cast),
            "films": films(of, a.cast),
            "threshold": {f"{share:g}": round(threshold(of, share), 3) for share in (1e-4, 2.5e-4, 1e-3)},
        }
        out[kind]["tones"] = {
            name: figures([t for t in of if not t.gray and low <= t.tone < high], a.cast) for name, low, high in _TONES
        }
        out[kind]["nearest"] = [
            [round(off(pair), 3), pair[0].photo, pair[1].photo] for pair in sorted(pairs(of)[1], key=off)[:8]
        ]
        if kind != "clean" and "clean" in tracks:
            out[kind]["with_photos"] = figures([*tracks["clean"], *of], a.cast)
    for key, value in out.items():
        print(key, value)
    if a.save:
        for kind in kinds:  # photos may be called after people
            out[kind]["nearest"] = [row[0] for row in out[kind]["nearest"]]
        save("persons", out)


if __name__ == "__main__":
    main()
