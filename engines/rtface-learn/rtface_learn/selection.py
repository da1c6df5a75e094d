"""Collects takes of one person, and holds some out from training."""

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
"""Minimum number of takes from films (each about a second); minimum number of photos."""
WANTED_TAKES = 6
"""Recommended number of takes. With fewer, the held-out takes resemble learnt ones, so the gain is overestimated."""
HELD_OUT_SHARE = 0.25
"""Share of the takes, from the end, that are held out to measure the gain."""
GAP_S = 3.0
"""Minimum seconds between the last learnt and the first held-out take."""
_SAME_DISTANCE, _OTHER_DISTANCE = 1.1 * JOIN, 1.5 * JOIN
"""Maximum distance of photos that show one person; minimum distance if they show two. Of 34,060 pairs of two people, 1
in 2,000 is below the first and 1 in 8 below the second. Of 131 pairs of one person, none is above the second."""
_MAX_NAMED = 6
"""Maximum number of rejected photos that a message lists."""
_COPY_DIFFERENCE, _FACE_WEIGHT = 3.0, 3.0
"""Maximum mean difference of copies of a photo, in code values; factor for the difference of their faces. Saving again
changes the face of a photo by 0.3 to 1.1; frames of a clip half a second apart differ by at least 1.2."""

Progress = Callable[[str, float], None]
"""Function called with the current step and the finished share of it, 0…1."""


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
    photo_takes = list[Take]()
    try:
        errors = list[RtfaceError]()
        for number, path in enumerate(photos):
            try:
                photo_takes.append(takes.photo_take(path, number, tracker, embed))
            except RtfaceError as error:
                errors.append(error)
            notify(Message("reading photos", code="learn_reading"), (number + 1) / len(photos))
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise InputError(
                "{count} of {all} photos cannot be used: {why}",
                code="learn_photos",
                count=len(errors),
                all=len(photos),
                why="; ".join(map(str, errors[:_MAX_NAMED])) + (" …" if len(errors) > _MAX_NAMED else ""),
            )
        _check_one_person(photos, photo_takes)
        # No photo may be used both to learn and to measure.
        photo_takes = _without_copies(photo_takes, _difference, _face_difference)
        photo_embeddings = [embedding for take in photo_takes for embedding in take.embeddings]
        videos = list[Take]()
        for number, address in enumerate(live):
            videos += record_takes(address, len(files) + number, tracker, embed, watch)
        for number, path in enumerate(films):

            def notify_share(share: float, count: int, path: Path = path) -> None:
                text = "searching {name} for the face, {count} takes so far"
                notify(Message(text, code="learn_looking", name=path.name, count=count), share)

            videos += takes.film_takes(path, len(photos) + number, tracker, embed, notify_share)
    finally:
        tracker.close()
    if films or live:
        names = dict(enumerate([*(path.name for path in films), *map(str, live)], len(photos)))
        has_faces, videos = any(take.embeddings for take in videos), takes.person_takes(videos, photo_embeddings)
        if has_faces and (missing := sorted({*names} - {take.source for take in videos})):
            raise InputError(
                "{name} does not clearly show the person of the other sources; use a film that does, or omit it",
                code="learn_other",
                name=names[missing[0]],
            )
        if len(videos) < MIN_TAKES:
            raise InputError(
                "{name}: a large, clear, frontal face stays in view for a second {count} times, but {least} times are "
                "needed; use a longer film, or one in better light",
                code="learn_short",
                name=", ".join(names.values()),
                count=len(videos),
                least=MIN_TAKES,
            )
    elif len(distinct_takes := _without_copies(photo_takes, _difference)) < MIN_PHOTOS:
        raise InputError(
            "only {count} photos differ from each other ({names}); the remaining photos are copies; use at least "
            "{least} different photos, or a film",
            code="learn_few",
            count=len(distinct_takes),
            names=", ".join(photos[take.source].name for take in distinct_takes),
            least=MIN_PHOTOS,
        )
    return [*photo_takes, *videos]


def _without_copies(photo_takes: Sequence[Take], *differences: Callable[[Take, Take], float]) -> list[Take]:
    """Drops copies. A photo is a copy if all measures of its difference from a kept photo are small."""
    originals = list[Take]()
    for take in photo_takes:
        if all(any(difference(take, other) > _COPY_DIFFERENCE for difference in differences) for other in originals):
            originals.append(take)
    return originals


def _difference(take: Take, other: Take) -> float:
    """Computes the mean difference of two entire photos in code values."""
    a, b = take.whole, other.whole
    assert a is not None and b is not None
    return float(np.abs(a.astype(np.float32) - b).mean()) if a.shape == b.shape else 255.0


def _face_difference(take: Take, other: Take) -> float:
    """Computes the mean difference of two faces in code values, times `_FACE_WEIGHT`."""
    a, b = (takes.crop_of(photo, 0, 32).astype(np.float32) for photo in (take, other))
    return _FACE_WEIGHT * float(np.abs(a - b).mean())


def _check_one_person(photos: Sequence[Path], photo_takes: Sequence[Take]) -> None:
    """Raises InputError if photos show several persons: if two faces differ much, or the faces form several groups."""
    pairs = [
        (distance(take_a.embeddings[0], take_b.embeddings[0]), path_a, path_b)
        for (path_a, take_a), (path_b, take_b) in combinations(zip(photos, photo_takes, strict=True), 2)
    ]
    group = set(photos[:1])
    while joining := [(a, b) for d, a, b in pairs if d <= _SAME_DISTANCE and (a in group) != (b in group)]:
        group.update(*joining)
    conflicts = [pair for pair in pairs if pair[0] > _OTHER_DISTANCE or (pair[1] in group) != (pair[2] in group)]
    if conflicts:
        *_, first, second = max(conflicts)
        raise InputError(
            "{path} and {other} seem to show two persons; use photos of one person",
            code="learn_two",
            path=first,
            other=second,
        )


def split(all_takes: Sequence[Take]) -> tuple[list[Take], list[Take]]:
    """Splits takes into learning and held-out takes. The last quarter, by source and time, is held out."""
    ordered = sorted(all_takes, key=lambda take: (take.source, take.time))
    held_out_count = max(1, round(HELD_OUT_SHARE * len(ordered)))
    learning, held_out = ordered[:-held_out_count], ordered[-held_out_count:]
    spaced = [t for t in learning if t.source != held_out[0].source or held_out[0].time - t.time >= GAP_S]
    # In a short film, the gap before the held-out takes may cost half of the takes or more. If so, there is no gap.
    return takes.most_varied(spaced if 2 * len(spaced) > len(learning) else learning), takes.most_varied(held_out, 8)


def without_numbers(
    learnt: Sequence[Take], held_out: Sequence[Take], omitted_numbers: frozenset[int]
) -> tuple[list[Take], list[Take]]:
    """Removes takes from a `split` by their numbers on the `sheet`.

    Raises:
        UsageError: a number is not on the sheet, or too few takes remain.
    """
    all_takes = [*learnt, *held_out]
    if unknown_numbers := sorted(omitted_numbers - {*range(1, len(all_takes) + 1)}):
        raise UsageError(
            "--without {number}: the faces on the sheet have the numbers 1 to {count}",
            code="learn_no_number",
            number=unknown_numbers[0],
            count=len(all_takes),
        )
    omitted = {all_takes[number - 1] for number in omitted_numbers}
    remaining = [take for take in learnt if take not in omitted], [take for take in held_out if take not in omitted]
    if not all(remaining) or sum(map(len, remaining)) < MIN_PHOTOS:
        raise UsageError(
            "--without leaves {learnt} faces for training and {judged} for measuring; at least {least} in total and "
            "one of each kind are needed: leave out fewer, or start with better sources (with new numbers)",
            code="learn_without",
            learnt=len(remaining[0]),
            judged=len(remaining[1]),
            least=MIN_PHOTOS,
        )
    return remaining


def sheet(all_takes: Sequence[Take], omitted_numbers: frozenset[int]) -> Bytes:
    """Draws a sheet (uint8 RGB) with numbered crops of all takes. Eight are in a row; omitted takes are dark."""
    crops = list[Bytes]()
    for number, take in enumerate(all_takes, 1):
        crop = takes.crop_of(take, len(take.pictures) // 2, 128)
        crop = np.ascontiguousarray(crop // 4 if number in omitted_numbers else crop)
        for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(crop, str(number), (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA)
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
