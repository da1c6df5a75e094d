"""Extracts takes from films and photos. A take is about a second of one face."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from rtface.analysis.analyzer import analyze_face
from rtface.device.cpu.device import CpuDevice
from rtface.errors import InputError
from rtface.frame import Bytes, Face, Float, Float32, Frame
from rtface.geometry.alignment import crop_matrix
from rtface.geometry.transforms import compose, invert
from rtface.media.read.source import FileSource
from rtface.media.stills.image_read import read_image
from rtface.persons.chip import cut_chip, fitness
from rtface.persons.gallery import JOIN, distance, mean
from rtface.persons.recogniser import Embedder
from rtface.protocols import Tracker, View

FRAMES = 24
"""Frames of a take."""
MAX_TAKES = 24
"""Maximum number of takes."""
CROP, MARGIN = 512, 1.6
"""Side of the engine's template; side of a take's picture relative to it."""
MAX_SIDE, MIN_SIDE = 300, 90
"""Side of the template in a take's picture, in pixels: larger faces are scaled down, smaller ones are skipped."""
_MAX_SCORES = {"compression": 0.4, "pixelation": 0.4, "missing": 0.4, "noise": 0.6, "over_exposure": 0.5}
"""Analysis scores above which a photo is refused. Drawn and masked faces exceed them, as a flat patch with a hard edge
reads as missing or coded. None of 100 portraits reached one of the first four."""
_MIN_STEP_S, _MAX_PLACES = 0.5, 96
"""Minimum seconds between starts of takes; maximum number of places for takes in a long film."""
_RETRIES, _LENGTH_FACTOR = 16, 4
"""Tries between two such places if no face stays clear; assumed length of a film without one, relative to the part
read."""


@dataclass(slots=True, eq=False)
class Take:
    """Consecutive pictures of a face, cut from one place of the frame.

    Attributes:
        time: position in the film in seconds, or the number of the photo.
        pictures: pictures, uint8 H×W×3 RGB. Their sides are multiples of 32.
        matrices: 2×3 matrix of each picture, from the 512-px template to the picture (corner convention).
        embeddings: face embeddings of some of the pictures, float32, length 1.
        source: number of the source.
        whole: the entire photo, reduced to 32 pixels in width; None for a film.
    """

    time: float
    source: int
    pictures: list[Bytes] = field(default_factory=list[Bytes])
    matrices: list[Float] = field(default_factory=list[Float])
    embeddings: list[Float32] = field(default_factory=list[Float32])
    whole: Bytes | None = None


def film_takes(
    path: Path, number: int, tracker: Tracker, embed: Embedder, notify_share: Callable[[float, int], None]
) -> Iterator[Take]:
    """Yields takes of every face that a film shows well.

    Args:
        number: number of the source.
        notify_share: function called with the share of the film read (0…1) and the number of takes so far.

    Raises:
        InputError: the film cannot be read.
    """
    source, count = FileSource(path), 0
    length = source.info.duration_s or 0.0
    begin: float | None = None

    def frames() -> Iterator[Frame]:
        nonlocal begin
        for item in source:
            if isinstance(item, Frame):
                begin = item.time if begin is None else begin
                notify_share(min(1.0, (item.time - begin) / length) if length else 0.0, count)
                yield item

    try:
        for take in frame_takes(frames(), length, number, tracker, embed):
            count += 1
            yield take
    finally:
        source.close()


def frame_takes(
    frames: Iterable[Frame],
    length: float,
    number: int,
    tracker: Tracker,
    embed: Embedder,
    *,
    seen: Callable[[View, dict[int, Face], float], bool] | None = None,
) -> Iterator[Take]:
    """Yields takes of every face that frames show well.

    Args:
        length: duration of all frames in seconds; 0 if unknown.
        number: number of the source.
        seen: function that gets each frame, its faces, and the seconds since the first frame. If it returns False, no
            more frames are read. Without it, frames outside takes are skipped.
    """
    device, due = CpuDevice(), float("-inf")
    begin, step = None, _MIN_STEP_S
    running: dict[int, Take] = {}
    places: dict[int, Float] = {}
    try:
        for item in frames:
            first = begin is None
            begin = item.time if begin is None else begin
            if seen is None and not running and item.time < due:
                continue
            view = device.view(item)
            cut = first if seen is not None else not running
            faces = {face.track_id: face for face in tracker.update(view, item.time, cut=cut)}
            if not running and item.time >= due:
                running = {key: Take(item.time - begin, number) for key, face in faces.items() if _clear(face, view)}
                places = {key: _place(faces[key]) for key in running}
                step = max(_MIN_STEP_S, (length or _LENGTH_FACTOR * (item.time - begin)) / _MAX_PLACES)
                due = item.time + max(_MIN_STEP_S, step / _RETRIES)  # try again soon if no face stays for a whole take
            for key in [*running]:
                if key not in faces or not _clear(faces[key], view):
                    del running[key]  # the face left or turned away
                    continue
                _add(running[key], view, faces[key], places[key], embed)
                if len(running[key].pictures) == FRAMES:
                    due = begin + running[key].time + step
                    yield running.pop(key)
            if seen is not None and not seen(view, faces, item.time - begin):
                return
    finally:
        tracker.reset()


def photo_take(path: Path, number: int, tracker: Tracker, embed: Embedder) -> Take:
    """Makes a take from a photo with one face. It moves by fractions of a pixel.

    Raises:
        InputError: the photo cannot be read, shows no face or several, or its face is too small, turned away or
            cannot be recognised.
    """
    view = CpuDevice().view(read_image(path).frame)
    faces = tracker.update(view, 0.0, cut=True)
    tracker.reset()
    if len(faces) != 1:
        if not faces:
            raise InputError("{path} shows no face of a person; give another photo", code="learn_no_face", path=path)
        raise InputError(
            "{path} shows {count} faces; give photos of one face, or cut it out",
            code="learn_faces",
            path=path,
            count=len(faces),
        )
    if not _clear(faces[0], view):
        raise InputError(
            "the face in {path} is too small, turned away or cut off; give another photo", code="learn_small", path=path
        )
    analysis = analyze_face(view, faces[0])
    if any(getattr(analysis, score) > limit for score, limit in _MAX_SCORES.items()):
        raise InputError(
            "the face in {path} is drawn, masked, coarse, noisy or clipped; give another photo",
            code="learn_poor",
            path=path,
        )
    detail = analysis.detail / faces[0].width * CROP / _scale(faces[0])
    if detail < MIN_SIDE:
        raise InputError(
            "the face in {path} is blurred: it shows no more detail than a face {width} pixels wide, and {least} are "
            "needed; give another photo",
            code="learn_blurred",
            path=path,
            width=round(detail),
            least=MIN_SIDE,
        )
    take, place = Take(float(number), number, whole=view.thumbnail(32)[0]), _place(faces[0])
    _add(take, view, faces[0], place, embed)
    if not take.embeddings:
        raise InputError(
            "the face in {path} is too dark or flat to be recognised; give another photo", code="learn_dark", path=path
        )
    r = np.random.default_rng(number)
    for x, y in np.cumsum(r.normal(0, 0.6, (FRAMES - 1, 2)), axis=0):
        moved = place.copy()
        moved[:, 2] += (x, y)
        _add(take, view, faces[0], moved, None)
    return take


def _clear(face: Face, view: View) -> bool:
    return fitness(face, view.width, view.height) > 0.25 and 512 / _scale(face) >= MIN_SIDE


def _scale(face: Face) -> float:
    """Returns the number of template pixels per pixel of the displayed frame."""
    matrix = crop_matrix(face, CROP)
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def _place(face: Face) -> Float:
    """Returns the 2×3 matrix from the displayed frame to a picture: an upright square around the head."""
    side = CROP / _scale(face)
    k = min(1.0, MAX_SIDE / side)
    size = _size(side * k)
    x, y = (invert(crop_matrix(face, CROP)) @ np.array([CROP / 2, CROP / 2, 1.0])).tolist()
    return np.array([[k, 0.0, size / 2 - k * x], [0.0, k, size / 2 - k * y]])


def _size(side: float) -> int:
    return int(np.ceil(side * MARGIN / 32)) * 32


def _add(take: Take, view: View, face: Face, place: Float, embed: Embedder | None) -> None:
    matrix = compose(place, invert(crop_matrix(face, CROP)))
    if not take.pictures:
        side = _size(CROP * float(np.hypot(matrix[0, 0], matrix[1, 0])))
    else:
        side = len(take.pictures[0])
    take.pictures.append(view.crop(place, (side, side)))
    take.matrices.append(matrix)
    if embed is not None and len(take.pictures) % 8 == 1 and (chip := cut_chip(view, face)) is not None:
        take.embeddings.append(embed(chip))


def person_takes(takes: Sequence[Take], references: Sequence[Float32] = ()) -> list[Take]:
    """Selects the takes of one person. Two takes from the same time and source always show two persons.

    Args:
        references: embeddings of photos of the person, if there are any.

    Raises:
        InputError: the takes show several persons about equally often.
    """
    means = {id(take): mean(take.embeddings) for take in takes if take.embeddings}
    takes = [take for take in takes if id(take) in means]
    centre = mean(list(references)) if references else None
    # If two similar faces are seen at the same time, the face nearer to the photos is the person's.
    takes.sort(key=lambda t: (t.source, t.time, 0.0 if centre is None else distance(means[id(t)], centre)))
    groups: list[list[Take]] = [] if centre is None else [[]]
    for take in takes:
        near = [
            (
                distance(
                    means[id(take)], centre if centre is not None and k == 0 else mean([means[id(t)] for t in group])
                ),
                k,
            )
            for k, group in enumerate(groups)
            if all((take.source, take.time) != (other.source, other.time) for other in group)
        ]
        if near and min(near)[0] <= JOIN:
            groups[min(near)[1]].append(take)
        else:
            groups.append([take])
    if references:
        return groups[0]
    groups.sort(key=len, reverse=True)
    if len(groups) > 1 and 3 * len(groups[1]) > len(groups[0]):
        raise InputError(
            "{count} persons appear about equally often; add a photo of the one to learn: rtface learn NAME film.mp4 "
            "photo.jpg",
            code="learn_several",
            count=len(groups),
        )
    return groups[0] if groups else []


def most_varied(takes: Sequence[Take], most: int = MAX_TAKES) -> list[Take]:
    """Selects the most different takes, sorted by time. Samples the farthest points among small crops."""
    if len(takes) <= most:
        return sorted(takes, key=lambda take: take.time)
    small = [
        cv2.resize(crop_of(take, 0, 64), (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32) for take in takes
    ]
    flat = np.stack([(s - s.mean()) / max(s.std(), 1.0) for s in small]).reshape(len(takes), -1)
    chosen = [0]
    near = np.linalg.norm(flat - flat[0], axis=1)
    while len(chosen) < most:
        chosen.append(int(np.argmax(near)))
        near = np.minimum(near, np.linalg.norm(flat - flat[chosen[-1]], axis=1))
    return sorted((takes[k] for k in chosen), key=lambda take: take.time)


def crop_of(take: Take, k: int, size: int) -> Bytes:
    """Cuts the face crop of picture `k`, uint8 size×size×3."""
    return cut(take.pictures[k], take.matrices[k], size)


def cut(picture: Bytes, matrix: Float, size: int, box: tuple[int, int, int, int] | None = None) -> Bytes:
    """Cuts a face crop out of a picture, without aliasing. With `box` (x, y, w, h), cuts only this part.

    Args:
        matrix: matrix from the 512-px template to the picture (corner convention).
    """
    x, y, w, h = box or (0, 0, size, size)
    k = CROP / size
    m = matrix.copy()
    m[:, 2] += k * (m[:, 0] * x + m[:, 1] * y)
    m[:, :2] *= k
    shrinks = float(np.hypot(m[0, 0], m[1, 0]))
    if shrinks > 1.05:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.5 * float(np.sqrt(shrinks**2 - 1))), np.uint8)
    m[:, 2] += (m[:, 0] + m[:, 1]) / 2 - 0.5  # in OpenCV, pixel centres lie at integers
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, m, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)
