"""Extracts takes from films and photos. A take shows one face for about a second."""

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
"""Number of frames in a take."""
MAX_TAKES = 24
"""Maximum number of takes."""
CROP, MARGIN = 512, 1.6
"""Side of the engine's template in pixels; side of a take's picture relative to the template."""
MAX_SIDE, MIN_SIDE = 300, 90
"""Limits for the side of the template in a take's picture, pixels: larger faces are reduced, smaller ones skipped."""
_MAX_SCORES = {"compression": 0.4, "pixelation": 0.4, "missing": 0.4, "noise": 0.6, "over_exposure": 0.5}
"""Maximum analysis scores of a photo. Drawn and masked faces exceed them because the analysis takes a flat patch with a
hard edge for missing or coded detail. None of 100 portraits reached one of the first four."""
_MIN_STEP_S, _MAX_STARTS = 0.5, 96
"""Minimum seconds between the starts of two takes; maximum number of starts in a long film."""
_RETRIES, _LENGTH_FACTOR = 16, 4
"""Maximum attempts between two such starts if no face stays clear; assumed length of a film of unknown length, relative
to the part read."""


@dataclass(slots=True, eq=False)
class Take:
    """Consecutive pictures of a face, cut at the same place in frames.

    Attributes:
        time: position in the film in seconds, or the number of the photo.
        pictures: pictures, uint8 H×W×3 RGB. H and W are multiples of 32.
        matrices: 2×3 matrix for each picture, from the 512-px template to the picture (corner convention).
        embeddings: face embeddings of some of the pictures, float32, length 1.
        source: number of the source.
        whole: the entire photo, reduced to a width of 32 pixels; None for a film.
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
    """Yields takes of every face that a film shows clearly.

    Args:
        number: number of the source.
        notify_share: function called with the share of the film read (0…1) and the number of takes so far.

    Raises:
        InputError: the film cannot be read.
    """
    source, count = FileSource(path), 0
    length = source.info.duration_s or 0.0
    start: float | None = None

    def frames() -> Iterator[Frame]:
        nonlocal start
        for item in source:
            if isinstance(item, Frame):
                start = item.time if start is None else start
                notify_share(min(1.0, (item.time - start) / length) if length else 0.0, count)
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
    on_frame: Callable[[View, dict[int, Face], float], bool] | None = None,
) -> Iterator[Take]:
    """Yields takes of every face that the frames show clearly.

    Args:
        length: duration of all frames in seconds; 0 if unknown.
        number: number of the source.
        on_frame: function called with each frame, its faces, and the seconds since the first frame. If it returns
            False, no more frames are read. If it is None, frames between takes are skipped.
    """
    device, due = CpuDevice(), float("-inf")
    start, interval = None, _MIN_STEP_S
    running: dict[int, Take] = {}
    matrices: dict[int, Float] = {}
    try:
        for item in frames:
            first = start is None
            start = item.time if start is None else start
            if on_frame is None and not running and item.time < due:
                continue
            view = device.view(item)
            cut = first if on_frame is not None else not running
            faces = {face.track_id: face for face in tracker.update(view, item.time, cut=cut)}
            if not running and item.time >= due:
                running = {key: Take(item.time - start, number) for key, face in faces.items() if _is_clear(face, view)}
                matrices = {key: _picture_matrix(faces[key]) for key in running}
                interval = max(_MIN_STEP_S, (length or _LENGTH_FACTOR * (item.time - start)) / _MAX_STARTS)
                due = item.time + max(_MIN_STEP_S, interval / _RETRIES)  # try again soon if no face stays clear
            for key in [*running]:
                if key not in faces or not _is_clear(faces[key], view):
                    del running[key]  # the face left or turned away
                    continue
                _add_picture(running[key], view, faces[key], matrices[key], embed)
                if len(running[key].pictures) == FRAMES:
                    due = start + running[key].time + interval
                    yield running.pop(key)
            if on_frame is not None and not on_frame(view, faces, item.time - start):
                return
    finally:
        tracker.reset()


def photo_take(path: Path, number: int, tracker: Tracker, embed: Embedder) -> Take:
    """Makes a take from a photo with one face. The pictures are shifted by fractions of a pixel.

    Raises:
        InputError: the photo cannot be read, shows no face or several, or its face is too small, turned away or
            cannot be recognised.
    """
    view = CpuDevice().view(read_image(path).frame)
    faces = tracker.update(view, 0.0, cut=True)
    tracker.reset()
    if len(faces) != 1:
        if not faces:
            raise InputError("{path} shows no face of a person; use another photo", code="learn_no_face", path=path)
        raise InputError(
            "{path} shows {count} faces; use photos of one face, or crop this photo",
            code="learn_faces",
            path=path,
            count=len(faces),
        )
    if not _is_clear(faces[0], view):
        raise InputError(
            "the face in {path} is too small, turned away or cut off; use another photo", code="learn_small", path=path
        )
    analysis = analyze_face(view, faces[0])
    if any(getattr(analysis, score) > limit for score, limit in _MAX_SCORES.items()):
        raise InputError(
            "the face in {path} is drawn, masked, coarse, noisy or clipped; use another photo",
            code="learn_poor",
            path=path,
        )
    detail = analysis.detail / faces[0].width * CROP / _scale(faces[0])
    if detail < MIN_SIDE:
        raise InputError(
            "the face in {path} is blurred: it has the detail of a face {width} pixels wide, but {least} pixels are "
            "needed; use another photo",
            code="learn_blurred",
            path=path,
            width=round(detail),
            least=MIN_SIDE,
        )
    take, matrix = Take(float(number), number, whole=view.thumbnail(32)[0]), _picture_matrix(faces[0])
    _add_picture(take, view, faces[0], matrix, embed)
    if not take.embeddings:
        raise InputError(
            "the face in {path} is too dark or flat to be recognised; use another photo", code="learn_dark", path=path
        )
    rng = np.random.default_rng(number)
    for x, y in np.cumsum(rng.normal(0, 0.6, (FRAMES - 1, 2)), axis=0):
        moved_matrix = matrix.copy()
        moved_matrix[:, 2] += (x, y)
        _add_picture(take, view, faces[0], moved_matrix, None)
    return take


def _is_clear(face: Face, view: View) -> bool:
    return fitness(face, view.width, view.height) > 0.25 and 512 / _scale(face) >= MIN_SIDE


def _scale(face: Face) -> float:
    """Returns the number of template pixels per pixel of the displayed frame."""
    matrix = crop_matrix(face, CROP)
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def _picture_matrix(face: Face) -> Float:
    """Returns the 2×3 matrix from the displayed frame to a picture: an upright square around the head."""
    side = CROP / _scale(face)
    scale = min(1.0, MAX_SIDE / side)
    picture_side = _picture_side(side * scale)
    x, y = (invert(crop_matrix(face, CROP)) @ np.array([CROP / 2, CROP / 2, 1.0])).tolist()
    return np.array([[scale, 0.0, picture_side / 2 - scale * x], [0.0, scale, picture_side / 2 - scale * y]])


def _picture_side(side: float) -> int:
    return int(np.ceil(side * MARGIN / 32)) * 32


def _add_picture(take: Take, view: View, face: Face, picture_matrix: Float, embed: Embedder | None) -> None:
    matrix = compose(picture_matrix, invert(crop_matrix(face, CROP)))
    if not take.pictures:
        side = _picture_side(CROP * float(np.hypot(matrix[0, 0], matrix[1, 0])))
    else:
        side = len(take.pictures[0])
    take.pictures.append(view.crop(picture_matrix, (side, side)))
    take.matrices.append(matrix)
    if embed is not None and len(take.pictures) % 8 == 1 and (chip := cut_chip(view, face)) is not None:
        take.embeddings.append(embed(chip))


def person_takes(takes: Sequence[Take], references: Sequence[Float32] = ()) -> list[Take]:
    """Selects the takes of one person. Two takes with the same source and time always show two persons.

    Args:
        references: embeddings of photos of the person; may be empty.

    Raises:
        InputError: the takes show several persons about equally often.
    """
    means = {id(take): mean(take.embeddings) for take in takes if take.embeddings}
    takes = [take for take in takes if id(take) in means]
    centre = mean(list(references)) if references else None
    # Of two similar faces at the same time, the face that resembles the photos more is considered first.
    takes.sort(key=lambda t: (t.source, t.time, 0.0 if centre is None else distance(means[id(t)], centre)))
    groups: list[list[Take]] = [] if centre is None else [[]]
    for take in takes:
        candidates = [
            (
                distance(
                    means[id(take)], centre if centre is not None and k == 0 else mean([means[id(t)] for t in group])
                ),
                k,
            )
            for k, group in enumerate(groups)
            if all((take.source, take.time) != (other.source, other.time) for other in group)
        ]
        if candidates and min(candidates)[0] <= JOIN:
            groups[min(candidates)[1]].append(take)
        else:
            groups.append([take])
    if references:
        return groups[0]
    groups.sort(key=len, reverse=True)
    if len(groups) > 1 and 3 * len(groups[1]) > len(groups[0]):
        raise InputError(
            "{count} persons appear about equally often; add a photo of the right person: rtface learn NAME film.mp4 "
            "photo.jpg",
            code="learn_several",
            count=len(groups),
        )
    return groups[0] if groups else []


def most_varied(takes: Sequence[Take], count: int = MAX_TAKES) -> list[Take]:
    """Selects the most different takes by farthest-point sampling of small crops. Returns them sorted by time."""
    if len(takes) <= count:
        return sorted(takes, key=lambda take: take.time)
    thumbnails = [
        cv2.resize(crop_of(take, 0, 64), (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32) for take in takes
    ]
    vectors = np.stack([(t - t.mean()) / max(t.std(), 1.0) for t in thumbnails]).reshape(len(takes), -1)
    chosen = [0]
    distances = np.linalg.norm(vectors - vectors[0], axis=1)
    while len(chosen) < count:
        chosen.append(int(np.argmax(distances)))
        distances = np.minimum(distances, np.linalg.norm(vectors - vectors[chosen[-1]], axis=1))
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
    reduction = float(np.hypot(m[0, 0], m[1, 0]))
    if reduction > 1.05:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.5 * float(np.sqrt(reduction**2 - 1))), np.uint8)
    m[:, 2] += (m[:, 0] + m[:, 1]) / 2 - 0.5  # in OpenCV, pixel centres are at integers
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, m, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)
