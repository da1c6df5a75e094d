"""Stores a person's learnt weights as differences from an engine's weights.

The file is an npz without pickled objects. ``meta`` is JSON as bytes, ``embeddings`` is float32 N×128. ``places``
(int64 K×4) lists the changed tensors: offset in the network file, bytes per number, rows, columns. ``delta`` (fp16) is
the change of each of their numbers. `rtface-m` contains the tensors of `rtface-s` byte for byte, so one file is enough.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import UNSET, Meta, UnsetType, defstruct

from rtface.errors import EngineError, InputError, UsageError
from rtface.util.files import write_atomically
from rtface.util.foreign import Text, converted, read_regular
from rtface.util.parse import is_person_name
from rtface.util.paths import config_dir
from rtface.util.text import brief
from rtface.util.toml_dataclass import parse_json

if TYPE_CHECKING:  # so that looking up engine names does not import large packages
    import numpy as np

    from rtface.frame import Float32

BASE = "rtface-s"
"""The engine whose weights the differences refer to."""
SUFFIX = ".person"
MARK = "@"
"""Separates the names of engine and person, as in "rtface-m@anna"."""
PAIRS, KEY = "pairs.npz", "key"
"""Files of an `unfinished` run: its training pairs, and the key of their sources (empty: the run cannot continue)."""
_FORMAT = 3


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """The weights and embeddings of one person.

    Attributes:
        name: name of the person and of the file.
        digest: SHA-256 (hex) of the file.
        meta: `base` (SHA-256 of the base weights), `made` (date), `sources` (SHA-256 and kind of each), `figures`
            (gains measured on pictures that were not used for learning), and `format`.
        embeddings: float32 N×128, each of length 1.
        places: the changed tensors; see the module.
        delta: the change of each number of these tensors, in order.
    """

    name: str
    digest: str
    meta: dict[str, Any]
    embeddings: Float32
    places: np.ndarray[Any, np.dtype[np.int64]]
    delta: np.ndarray[Any, np.dtype[np.float16]]

    def adapted(self, model: bytes, base: bytes) -> bytes:
        """Applies this person's weights to a network.

        Args:
            model: the network file of an engine that contains the tensors of `BASE`.
            base: the network file of `BASE`.

        Raises:
            EngineError: a tensor is missing, or occurs twice.
        """
        import numpy as np

        out, start = bytearray(model), 0
        for offset, item, rows, columns in self.places.tolist():
            old = base[offset : offset + item * rows * columns]
            if not old or model.count(old) != 1:
                raise EngineError(
                    "the weights learnt for {person} do not fit this engine; learn again with: rtface learn {person} "
                    "SOURCE {--overwrite=True}",
                    code="learnt_unfit",
                    person=self.name,
                )
            change = self.delta[start : start + rows * columns].astype(np.float32)
            start += rows * columns
            dtype, at = "<f2" if item == 2 else "<f4", model.find(old)
            new = np.frombuffer(old, dtype).astype(np.float32) + change
            out[at : at + len(old)] = new.astype(dtype).tobytes()
        return bytes(out)


_META = defstruct(
    "_META",
    [
        ("name", Text),
        ("base", Text | UnsetType, UNSET),
        ("made", date | UnsetType, UNSET),
        ("sources", list[defstruct("_SOURCE", [("kind", Text)])] | UnsetType, UNSET),
        ("figures", dict[str, Annotated[float, Meta(gt=-1000, lt=1000)]] | UnsetType, UNSET),
    ],
)


def folder() -> Path:
    """Returns the folder of the persons' files. Raises UsageError if there is no home folder."""
    settings = config_dir()
    if settings is None:
        raise UsageError(
            "there is no home folder to store persons in; set RTFACE_CONFIG_DIR to a folder",
            code="no_home_persons",
        )
    return settings / "persons"


def shipped_name(engine: str) -> str:
    """Returns an engine's name without the person's name."""
    return engine.partition(MARK)[0]


def path_of(name: str) -> Path:
    """Returns the file of a person. Raises UsageError for an invalid name."""
    if not is_person_name(name):
        raise UsageError(
            "{name} is not a valid name of a person; use the name that was passed to rtface learn",
            code="learnt_name",
            name=brief(name),
        )
    return folder() / f"{name.lower()}{SUFFIX}"


def names() -> list[str]:
    """Lists the learnt persons, sorted."""
    if config_dir() is None:
        return []
    return sorted(
        s for s in (path.stem for path in folder().glob(f"*{SUFFIX}")) if s == s.lower() and is_person_name(s)
    )


def unfinished() -> Path:
    """Returns the folder for interrupted `rtface learn` runs, by person."""
    return folder() / "unfinished"


def unfinished_names() -> list[str]:
    """Lists the persons for whom an interrupted `rtface learn` can be continued."""
    return [] if config_dir() is None else sorted(path.name for path in unfinished().glob("*/") if continues(path))


def continues(folder: Path) -> bool:
    """Returns whether `rtface learn` can continue the run in a folder."""
    key = folder / KEY
    return (folder / PAIRS).is_file() and key.is_file() and key.stat().st_size > 0


def write(name: str, meta: dict[str, Any], embeddings: Float32, places: Any, delta: Any, path: Path) -> None:
    """Writes a person's file atomically, readable only by its owner. Raises OSError."""
    import numpy as np

    buffer = io.BytesIO()
    header = json.dumps({**meta, "format": _FORMAT, "name": name}, sort_keys=True).encode()
    np.savez_compressed(
        buffer,
        meta=np.frombuffer(header, np.uint8),
        embeddings=np.asarray(embeddings, np.float32),
        places=np.asarray(places, np.int64).reshape(-1, 4),
        delta=np.asarray(delta, np.float16),
    )
    write_atomically(path, buffer.getvalue(), private=True)


def read(path: Path) -> Learned:
    """Reads a person's file without executing its contents.

    Raises:
        InputError: the file cannot be read, or is not a person's file.
    """
    import numpy as np

    try:
        data = read_regular(path)
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            meta = parse_json(bytes(arrays["meta"]), dict[str, Any])
            embeddings, places, delta = (arrays[name] for name in ("embeddings", "places", "delta"))
        if (
            meta.get("format") != _FORMAT
            or (embeddings.dtype, embeddings.shape[1:]) != (np.float32, (128,))
            or (places.dtype, delta.dtype, places.shape[1:]) != (np.int64, np.float16, (4,))
            or (places[:, 2] * places[:, 3]).sum() != len(delta)
            or not len(embeddings)
            or not np.isfinite(delta).all()
        ):
            raise ValueError("it was made by another version of rtface, or is damaged")
        converted(meta, _META)
        if meta["name"].casefold() != path.stem.casefold():
            raise ValueError(f"it belongs to {brief(meta['name'])}; rename it to that name")
    except FileNotFoundError:
        raise InputError(
            "no weights were learnt for {person} on this machine; learn with: rtface learn {person} SOURCE, or "
            "pass photos: {--person:{person}}=photo.jpg",
            code="learnt_not",
            person=path.stem,
        ) from None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            "{path} cannot be used as weights of a person: {why}; copy it again, or learn again with: rtface "
            "learn {person} SOURCE {--overwrite=True}",
            code="learnt_unusable",
            path=path,
            person=path.stem,
            why=(isinstance(error, OSError) and error.strerror) or str(error),
        ) from error
    return Learned(path.stem, hashlib.sha256(data).hexdigest(), meta, embeddings, places, delta)
