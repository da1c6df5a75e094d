"""Collects takes of one person, and splits them for training and judging."""

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
from rtface_learn.camera import Watch, ignore_progress, record_takes
from rtface_learn.takes import Take

MIN_TAKES, MIN_PHOTOS = 3, 3
"""Minimum number of takes of a film (each about a second), and of photos."""
WANTED_TAKES = 6
"""Number of takes wanted. With fewer, judging takes are close to learnt ones, which overstates the gain."""
JUDGING_SHARE = 0.25
"""Share of the takes, from the end, that judge the result."""
GAP_S = 3.0
"""Seconds between the last learnt and the first judging take."""
_SAME_DISTANCE, _OTHER_DISTANCE = 1.1 * JOIN, 1.5 * JOIN
"""Distance up to which two photos show one person, and above which two. Of 34,060 pairs of two people, 1 in 2,000 is
below the first and 1 in 8 below the second; of 131 pairs of one person, 80 from two sources, none is above."""
_MAX_NAMED = 6
"""Maximum number of photos named with their faults."""
_COPY_DIFFERENCE, _FACE_WEIGHT = 3.0, 3.0
"""Mean difference, code values, up to which two photos are copies; weight of the faces' difference among copies. Saving
a photo again changes its face by 0.3 to 1.1; frames of a clip half a second apart differ by 1.2 and more."""

Progress = Callable[[str, float], None]
"""Takes the current step and its share done, 0…1."""


def collect(sources: Sequence[Path | LiveAddress], notify: Progress, watch: Watch = ignore_progress) -> list[Take]:
    """Collects takes of one person from live sources, films and photos.

    Args:
        watch: see `rtface_learn.camera.record_takes`.

    Raises:
        InputError: a source is unusable, or shows several persons or too little of one.
    """
    tracker, embed = create_tracker(), PersonNetwork()
    files, live = list_files(sources), [source for source in sources if isinstance(source, LiveAddress)]
    photos, films = [p for p in files if has_still_name(p)], [p for p in files if not has_still_name(p)]
    shown = list[Take]()
    try:
        refused = list[RtfaceError]()
        for number, path in enumerate(photos):
            try:
                shown.append(takes.photo_take(path, number, tracker, embed))
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
                why="; ".join(map(str, refused[:_MAX_NAMED])) + (" …" if len(refused) > _MAX_NAMED else ""),
            )
        _check_one(photos, shown)
        shown = _without_copies(shown, _difference, _face_difference)  # no photo may be both learnt and judged
        photo_embeddings = [embedding for take in shown for embedding in take.embeddings]
        filmed = list[Take]()
        for number, address in enumerate(live):
            filmed += record_takes(address, len(files) + number, tracker, embed, watch)
        for number, path in enumerate(films):

            def notify_share(share: float, count: int, path: Path = path) -> None:
                what = "looking for the face in {name}, {count} takes"
                notify(Message(what, code="learn_looking", name=path.name, count=count), share)

            filmed += takes.film_takes(path, len(photos) + number, tracker, embed, notify_share)
    finally:
        tracker.close()
    if films or live:
        names = dict(enumerate([*(path.name for path in films), *map(str, live)], len(photos)))
        seen, filmed = any(take.embeddings for take in filmed), takes.person_takes(filmed, photo_embeddings)
        if seen and (others := sorted({*names} - {take.source for take in filmed})):
            raise InputError(
                "{name} does not clearly show the person of the other sources; give a film that does, or leave it out",
                code="learn_other",
                name=names[others[0]],
            )
        if len(filmed) < MIN_TAKES:
            raise InputError(
                "{name}: one face is large, clear and seen from the front for a second {count} times, and {least} "
                "times are needed; give a longer film, or one in better light",
                code="learn_short",
                name=", ".join(names.values()),
                count=len(filmed),
                least=MIN_TAKES,
            )
    elif len(kept := _without_copies(shown, _difference)) < MIN_PHOTOS:
        raise InputError(
            "photos that differ: {count} ({names}); the others are too similar; give at least {least} different ones, "
            "or a film",
            code="learn_few",
            count=len(kept),
            names=", ".join(photos[take.source].name for take in kept),
            least=MIN_PHOTOS,
        )
    return [*shown, *filmed]


def _without_copies(shown: Sequence[Take], *changes: Callable[[Take, Take], float]) -> list[Take]:
    """Drops photos that are copies. A photo is a copy if it differs little from a kept photo by all measures."""
    kept = list[Take]()
    for take in shown:
        if all(any(change(take, other) > _COPY_DIFFERENCE for change in changes) for other in kept):
            kept.append(take)
    return kept


def _difference(take: Take, other: Take) -> float:
    """Returns the mean difference of two whole photos in code values."""
    a, b = take.whole, other.whole
    assert a is not None and b is not None
    return float(np.abs(a.astype(np.float32) - b).mean()) if a.shape == b.shape else 255.0


def _face_difference(take: Take, other: Take) -> float:
    """Returns the mean difference of two faces in code values, times `_FACE_WEIGHT`."""
    a, b = (takes.crop_of(one, 0, 32).astype(np.float32) for one in (take, other))
    return _FACE_WEIGHT * float(np.abs(a - b).mean())


def _check_one(photos: Sequence[Path], shown: Sequence[Take]) -> None:
    """Raises InputError if photos show several persons: two faces differ much, or the faces form several groups."""
    pairs = [
        (distance(a.embeddings[0], b.embeddings[0]), one, other)
        for (one, a), (other, b) in combinations(zip(photos, shown, strict=True), 2)
    ]
    joined = set(photos[:1])
    while near := [(a, b) for d, a, b in pairs if d <= _SAME_DISTANCE and (a in joined) != (b in joined)]:
        joined.update(*near)
    apart = [pair for pair in pairs if pair[0] > _OTHER_DISTANCE or (pair[1] in joined) != (pair[2] in joined)]
    if apart:
        *_, path, other = max(apart)
        raise InputError(
            "{path} and {other} seem to show two persons; give photos of one",
            code="learn_two",
            path=path,
            other=other,
        )


def split(every: Sequence[Take]) -> tuple[list[Take], list[Take]]:
    """Splits takes into those for learning and those for judging: the last quarter by source and time."""
    ordered = sorted(every, key=lambda take: (take.source, take.time))
    count = max(1, round(JUDGING_SHARE * len(ordered)))
    learning, judging = ordered[:-count], ordered[-count:]
    apart = [t for t in learning if t.source != judging[0].source or judging[0].time - t.time >= GAP_S]
    # If the gap before the judging takes would cost half of the learning takes (a short film), leave no gap.
    return takes.most_varied(apart if 2 * len(apart) > len(learning) else learning), takes.most_varied(judging, 8)


def without_numbers(
    learnt: Sequence[Take], judged: Sequence[Take], without: frozenset[int]
) -> tuple[list[Take], list[Take]]:
    """Removes takes from a `split` by their numbers on the `sheet`.

    Raises:
        UsageError: a number is not on the sheet, or too few takes are left.
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
    if not all(left) or sum(map(len, left)) < MIN_PHOTOS:
        raise UsageError(
            "--without leaves {learnt} faces to learn from and {judged} to judge by; {least} in all and one of each "
            "are needed: leave out fewer, or begin with better sources (their faces get new numbers)",
            code="learn_without",
            learnt=len(left[0]),
            judged=len(left[1]),
            least=MIN_PHOTOS,
        )
    return left


def sheet(shown: Sequence[Take], without: frozenset[int]) -> Bytes:
    """Draws a sheet with a numbered crop of each take: uint8, eight in a row. Omitted takes are dark."""
    crops = list[Bytes]()
    for number, take in enumerate(shown, 1):
        crop = takes.crop_of(take, len(take.pictures) // 2, 128)
        crop = np.ascontiguousarray(crop // 4 if number in without else crop)
        for ink, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(crop, str(number), (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, thick, cv2.LINE_AA)
        crops.append(crop)
    crops += [np.zeros_like(crops[0])] * (-len(crops) % 8)
    return np.concatenate([np.concatenate(crops[k : k + 8], 1) for k in range(0, len(crops), 8)])


def list_files(sources: Sequence[Path | LiveAddress]) -> list[Path]:
    return [
        p
        for source in sources
        if isinstance(source, Path)
        for p in (list_images(source) if source.is_dir() else [source])
    ]
