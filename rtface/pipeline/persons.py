"""Opens the person recogniser and the identity guard (`--guard`) of a run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rtface.config.options import EnhanceOptions, FaceOptions, assigned_persons, person_photos
from rtface.device.cpu.device import CpuDevice
from rtface.engine.engine_set import engine_names, inventive_engines
from rtface.engine.learned import path_of, read
from rtface.enhance.face_filter import FaceFilter
from rtface.enhance.identity_guard import FILM_S, IdentityGuard
from rtface.errors import InputError, Message
from rtface.frame import Bytes, Float32
from rtface.media.files.image_names import list_images
from rtface.media.stills.image_read import read_image
from rtface.persons.chip import cut_chip, fitness
from rtface.persons.gallery import JOIN, Gallery, distance
from rtface.persons.guard import FILTERING, INVENTIVE
from rtface.persons.recogniser import Embedder, PersonRecogniser
from rtface.protocols import Tracker
from rtface.stats import Stats
from rtface.tracking import create_tracker

if TYPE_CHECKING:
    from rtface.persons.network import PersonNetwork

_network_lock = threading.Lock()
_MAX_PHOTO_DISTANCE = 1.5 * JOIN
"""Maximum distance between the embeddings of two photos of the same person."""


def open_persons(
    options: FaceOptions, stats: Stats, *, wanted: bool = False, keep_faces: int | None = None
) -> PersonRecogniser | None:
    """Opens the person recogniser. Returns None if it is not needed.

    Args:
        options: the options `person`, `faces` and `tracker`.
        wanted: whether persons are needed even if no option requires them.
        keep_faces: see `PersonRecogniser`.

    Raises:
        InputError: a photo cannot be read, or does not show exactly one clear face.
        MissingComponent: the network is missing.
    """
    if not (wanted or options.person or FaceFilter.parse(options.faces).persons):
        return None
    from rtface.persons.network import PersonNetwork  # loads OpenVINO

    embed = PersonNetwork()
    paths_by_name = person_photos(options.person)
    photos = {name: list(read(path_of(name)).embeddings) for name, paths in paths_by_name.items() if not paths}
    if with_photos := {name: paths for name, paths in paths_by_name.items() if paths}:
        with closing(create_tracker(options.tracker)) as tracker:  # the run's tracker must number its tracks from 1
            for name, paths in with_photos.items():
                photos[name] = embeddings_of(
                    name,
                    [photo for path in paths for photo in (list_images(path) if path.is_dir() else [path])],
                    tracker,
                    embed,
                )
    gallery = Gallery(photos, assigned=assigned_persons(options.person))
    return PersonRecogniser(embed, gallery, stats, keep_faces=keep_faces)


def embeddings_of(name: str, photos: Sequence[Path], tracker: Tracker, embed: Embedder) -> list[Float32]:
    """Returns the embeddings of a person's photos. Raises as `open_persons`."""
    device, embeddings = CpuDevice(), list[Float32]()
    for path in photos:
        view = device.view(read_image(path).frame)
        try:
            faces = tracker.update(view, 0.0, cut=True)
        finally:
            tracker.reset()
        if len(faces) != 1:
            raise InputError(
                "{--person:{name}}: {path} shows {found}; use a photo with one face{advice}",
                code="photo_faces",
                name=name,
                path=path,
                found=Message("{count} faces", code="faces", count=len(faces))
                if faces
                else Message("no face", code="no_face"),
                advice=Message(", or cut it out", code="or_cut_out") if faces else "",
            )
        chip = cut_chip(view, faces[0]) if fitness(faces[0], view.width, view.height) > 0.0 else None
        if chip is None:
            raise InputError(
                "{--person:{name}}: the face in {path} is too small, turned away, cut off or without contrast; "
                "use another photo",
                code="photo_poor",
                name=name,
                path=path,
            )
        embeddings.append(embed(chip))
        if distance(embeddings[0], embeddings[-1]) > _MAX_PHOTO_DISTANCE:
            raise InputError(
                "{--person:{name}}: {first} and {second} seem to show two people; use photos of one person",
                code="photo_two",
                name=name,
                first=photos[0],
                second=path,
            )
    return embeddings


def open_guard(options: EnhanceOptions, stats: Stats, *, period: float = FILM_S) -> IdentityGuard | None:
    """Opens the identity guard. Returns None if no engine is guarded.

    The network is loaded only once per process: now if the run's engine is guarded, otherwise when the first face gets
    a guarded engine from a treatment file or a shot.

    Args:
        options: the option `guard`, and the engine.
        period: seconds between comparisons of a track.

    Raises:
        MissingComponent: the network is missing.
    """
    if options.guard == "off":
        return None
    inventive, limits = inventive_engines(), FILTERING if options.guard == "on" else None
    if not (inventive or limits):
        return None
    if limits or not inventive.isdisjoint(engine_names(options.engine, options.engine_control)):
        with _network_lock:
            _network()
    return IdentityGuard(_embedding, lambda name: INVENTIVE if name in inventive else limits, stats, period=period)


@cache
def _network() -> PersonNetwork:
    from rtface.persons.network import PersonNetwork  # loads OpenVINO

    return PersonNetwork()


def _embedding(chip: Bytes) -> Float32:
    """Returns the embedding of a chip. Serialises calls from threads of different segments."""
    with _network_lock:
        return _network()(chip)
