"""What is learnt from: takes of one person out of live sources, films and photos, and which of them judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from rtface.config.addresses import LiveAddress
from rtface.errors import InputError, Message, RtfaceError, UsageError
from rtface.frame import Bytes
from rtface.media.files.image_names import has_still_name, list_images
from rtface.persons.gallery import JOIN, distance
from rtface.persons.network import PersonNetwork
from rtface.tracking import create_tracker
from rtface_learn import takes
from rtface_learn.camera import Watch, of_camera, unwatched
from rtface_learn.takes import Take

LEAST, LEAST_PHOTOS = 3, 3
"""Takes of a film (each is about a second of it), and photos, below which nothing is learnt."""
ASKED = 6
"""Number of takes wanted. With fewer, the judging takes lie beside the learnt ones: the gain is overstated."""
HELD = 0.25
"""Share of the takes, the last ones, on which the result is judged."""
GAP_S = 3.0
"""Seconds between the last take that is learnt and the first that judges."""
_LINKED, _ALIKE = 1.1 * JOIN, 1.5 * JOIN
"""Distance up to which two photos are of one person, and from which on of two. Of 34,060 pairs of two people 1 in 2,000
is nearer than the first, 1 in 8 than the second; of 131 pairs of one person, 80 from two sources, none is farther."""
_NAMED = 6
"""Photos that are named with what is wrong with them."""
_SAME, _FACE = 3.0, 3.0
"""Up to this mean difference, code values, two photos are the same one; weight of the faces' difference where a copy is
left out. A photo that is saved again changes by 0.3 to 1.1 in its face, frames of a clip half a second apart by
1.2 and more."""

Tell = Callable[[str, float], None]
"""Called with what is being done and the share that is done, 0…1."""


def collect(sources: Sequence[Path | LiveAddress], notify: Tell, watch: Watch = unwatched) -> list[Take]:
    """The takes of one person from live sources, films and photos.

    Args:
        watch: as of `rtface_learn.camera.of_camera`.

    Raises:
        InputError: a source cannot be used, shows several persons, or too little of one.
    """
    tracker, embed = create_tracker(), PersonNetwork()
    files, live = files_of(sources), [source for source in sources if isinstance(source, LiveAddress)]
    photos, films = [p for p in files if has_still_name(p)], [p for p in files if not has_still_name(p)]
    shown = list[Take]()
    try:
        refused = list[RtfaceError]()
        for number, path in enumerate(photos):
            try:
                shown.append(takes.of_photo(path, number, tracker, embed))
            except RtfaceError as error:
                refused.append(error)
            notify(Message("reading photos", code="learn_reading"), (number + 1) / len(photos))
        if len(refused) == 1:
            raise refused[0]
        if refused:
            raise InputError(
                "{count} of {all} photos cannot be used: {why}",
                code="learn_photos",
                count=len(refused),
                all=len(photos),
                why="; ".join(map(str, refused[:_NAMED])) + (" …" if len(refused) > _NAMED else ""),
            )
        _check_one(photos, shown)
        shown = _different(shown, _change, _change_of_face)  # else what judges may be what was learnt
        known = [embedding for take in shown for embedding in take.embeddings]
        found = list[Take]()
        for number, address in enumerate(live):
            found += of_camera(address, len(files) + number, tracker, embed, watch)
        for number, path in enumerate(films):

            def notify_share(share: float, count: int, path: Path = path) -> None:
                what = "looking for the face in {name}, {count} takes"
                notify(Message(what, code="learn_looking", name=path.name, count=count), share)

            found += takes.of_film(path, len(photos) + number, tracker, embed, notify_share)
    finally:
        tracker.close()
    if films or live:
        names = dict(enumerate([*(path.name for path in films), *map(str, live)], len(photos)))
        seen, found = any(take.embeddings for take in found), takes.of_person(found, known)
        if seen and (others := sorted({*names} - {take.source for take in found})):
            raise InputError(
                "{name} does not clearly show the person of the other sources; give a film that does, or leave it out",
                code="learn_other",
                name=names[others[0]],
            )
        if len(found) < LEAST:
            raise InputError(
                "{name}: one face is shown large, clear and from the front for a second {count} times, and {least} are "
                "needed; give a longer film, or one in better light",
                code="learn_short",
                name=", ".join(names.values()),
                count=len(found),
                least=LEAST,
            )
    elif len(kept := _different(shown, _change)) < LEAST_PHOTOS:
        raise InputError(
            "photos that differ: {count} ({names}), the others show the same again; give at least {least} different "
            "ones, or a film",
            code="learn_few",
            count=len(kept),
            names=", ".join(photos[take.source].name for take in kept),
            least=LEAST_PHOTOS,
        )
    return [*shown, *found]


def _different(shown: Sequence[Take], *changes: Callable[[Take, Take], float]) -> list[Take]:
    """The photos without those that show the same again, by all of these measures."""
    kept = list[Take]()
    for take in shown:
        if all(any(change(take, other) > _SAME for change in changes) for other in kept):
            kept.append(take)
    return kept


def _change(take: Take, other: Take) -> float:
    """Mean difference of two photos, code values."""
    a, b = take.whole, other.whole
    assert a is not None and b is not None
    return float(np.abs(a.astype(np.float32) - b).mean()) if a.shape == b.shape else 255.0


def _change_of_face(take: Take, other: Take) -> float:
    """`_FACE` times the mean difference of their faces, code values."""
    a, b = (takes.crop_of(one, 0, 32).astype(np.float32) for one in (take, other))
    return _FACE * float(np.abs(a - b).mean())


def _check_one(photos: Sequence[Path], shown: Sequence[Take]) -> None:
    """Raises InputError where photos show several persons: two are far apart, or no chain of near ones joins all."""
    pairs = [
        (distance(a.embeddings[0], b.embeddings[0]), one, other)
        for (one, a), (other, b) in combinations(zip(photos, shown, strict=True), 2)
    ]
    joined = set(photos[:1])
    while near := [(one, other) for d, one, other in pairs if d <= _LINKED and (one in joined) != (other in joined)]:
        joined.update(*near)
    apart = [pair for pair in pairs if pair[0] > _ALIKE or (pair[1] in joined) != (pair[2] in joined)]
    if apart:
        *_, path, other = max(apart)
        raise InputError(
            "{path} and {other} seem to show two persons; give photos of one",
            code="learn_two",
            path=path,
            other=other,
        )


def split(every: Sequence[Take]) -> tuple[list[Take], list[Take]]:
    """Takes to learn from, and to judge by: the last quarter of all, by source and time."""
    ordered = sorted(every, key=lambda take: (take.source, take.time))
    count = max(1, round(HELD * len(ordered)))
    learning, judging = ordered[:-count], ordered[-count:]
    apart = [t for t in learning if t.source != judging[0].source or judging[0].time - t.time >= GAP_S]
    # A short film has none to spare.
    return takes.varied(apart if 2 * len(apart) > len(learning) else learning), takes.varied(judging, 8)


def left_after(
    learnt: Sequence[Take], judged: Sequence[Take], without: frozenset[int]
) -> tuple[list[Take], list[Take]]:
    """Those of `split` less some, by their numbers on the `sheet`.

    Raises:
        UsageError: there is no such number; too few are left.
    """
    every = [*learnt, *judged]
    if none := sorted(without - {*range(1, len(every) + 1)}):
        raise UsageError(
            "--without {number}: the sheet has the faces 1 to {count}",
            code="learn_no_number",
            number=none[0],
            count=len(every),
        )
    gone = {every[number - 1] for number in without}
    left = [take for take in learnt if take not in gone], [take for take in judged if take not in gone]
    if not all(left) or sum(map(len, left)) < LEAST_PHOTOS:
        raise UsageError(
            "--without leaves {learnt} faces to learn from and {judged} to judge by; {least} are needed, and one of "
            "each: leave out fewer, or begin with better sources (their faces have other numbers)",
            code="learn_without",
            learnt=len(left[0]),
            judged=len(left[1]),
            least=LEAST_PHOTOS,
        )
    return left


def sheet(shown: Sequence[Take], without: frozenset[int]) -> Bytes:
    """One crop of each take with its number, to look at: uint8 rows of eight; those left out are dark."""
    crops = list[Bytes]()
    for number, take in enumerate(shown, 1):
        crop = takes.crop_of(take, len(take.pictures) // 2, 128)
        crop = np.ascontiguousarray(crop // 4 if number in without else crop)
        for ink, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(crop, str(number), (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, thick, cv2.LINE_AA)
        crops.append(crop)
    crops += [np.zeros_like(crops[0])] * (-len(crops) % 8)
    return np.concatenate([np.concatenate(crops[k : k + 8], 1) for k in range(0, len(crops), 8)])


def files_of(sources: Sequence[Path | LiveAddress]) -> list[Path]:
    return [
        p
        for source in sources
        if isinstance(source, Path)
        for p in (list_images(source) if source.is_dir() else [source])
    ]
