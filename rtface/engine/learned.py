"""What was learnt of a person: a difference to an engine's weights, with the person's embeddings, in one file.

The file is an npz without pickled objects: ``meta`` (JSON as bytes), ``embeddings`` (float32 N×128), ``places`` (int64
K×4: where a tensor lies in the network file, its bytes a number, rows, columns) and ``delta`` (fp16), what is added to
each of its numbers, tensor after tensor. A tensor of `rtface-s` lies in `rtface-m` too, byte for byte, so one file
serves both.
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

if TYPE_CHECKING:  # names of engines are looked up before anything large is imported
    import numpy as np

    from rtface.frame import Float32

BASE = "rtface-s"
"""The engine whose weights a difference is of."""
SUFFIX = ".person"
MARK = "@"
"""Between an engine's name and the person's, as in "rtface-m@anna"."""
PAIRS, KEY = "pairs.npz", "key"
"""The files of `unfinished` that is learnt from, and that says of what; empty where it is not to be continued."""
_MOST_BYTES = 16 << 20
_FORMAT = 3


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """One person.

    Attributes:
        name: of the person, as the file is called.
        digest: SHA-256 (hex) of the file.
        meta: `base` (SHA-256 of the weights that the difference belongs to), `made` (date), `sources` (SHA-256 and kind
            of each), `figures` (what a run gained on pictures that it had not learnt from), and `format`.
        embeddings: float32 N×128, each of length 1.
        places: see the module.
        delta: the change of each number of the places, one after the other.
    """

    name: str
    digest: str
    meta: dict[str, Any]
    embeddings: Float32
    places: np.ndarray[Any, np.dtype[np.int64]]
    delta: np.ndarray[Any, np.dtype[np.float16]]

    def adapted(self, model: bytes, base: bytes) -> bytes:
        """A network with the weights of this person.

        Args:
            model: the network file of an engine that holds the tensors of `BASE`.
            base: the network file of `BASE`.

        Raises:
            EngineError: a tensor is not there, or there twice.
        """
        import numpy as np

        out, begin = bytearray(model), 0
        for offset, item, rows, columns in self.places.tolist():
            old = base[offset : offset + item * rows * columns]
            if not old or model.count(old) != 1:
                raise EngineError(
                    "what was learnt of {person} does not fit this engine; learn again with: rtface learn {person} "
                    "SOURCE {--overwrite=True}",
                    code="learnt_unfit",
                    person=self.name,
                )
            change = self.delta[begin : begin + rows * columns].astype(np.float32)
            begin += rows * columns
            kind, at = "<f2" if item == 2 else "<f4", model.find(old)
            new = np.frombuffer(old, kind).astype(np.float32) + change
            out[at : at + len(old)] = new.astype(kind).tobytes()
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
    """Where the persons' files lie. UsageError where there is no home folder."""
    settings = config_dir()
    if settings is None:
        raise UsageError(
            "there is no home folder to keep persons in; set RTFACE_CONFIG_DIR to a folder of yours",
            code="no_home_persons",
        )
    return settings / "persons"


def shipped_name(engine: str) -> str:
    """The name of an engine without the person whose weights it has."""
    return engine.partition(MARK)[0]


def path_of(name: str) -> Path:
    """The file of a person. Raises UsageError where that cannot be a name."""
    if not is_person_name(name):
        raise UsageError(
            "{name} cannot name a person; give the name that rtface learn was given",
            code="learnt_name",
            name=brief(name),
        )
    return folder() / f"{name.lower()}{SUFFIX}"


def names() -> list[str]:
    """The persons who were learnt here, in order."""
    if config_dir() is None:
        return []
    return sorted(
        s for s in (path.stem for path in folder().glob(f"*{SUFFIX}")) if s == s.lower() and is_person_name(s)
    )


def unfinished() -> Path:
    """Where `rtface learn` keeps, in a folder for each person, what it continues with after an interruption."""
    return folder() / "unfinished"


def unfinished_names() -> list[str]:
    """The persons of whom something is kept there."""
    return [] if config_dir() is None else sorted(path.name for path in unfinished().glob("*/") if continues(path))


def continues(folder: Path) -> bool:
    """True if the next `rtface learn` can continue what lies in a folder of `unfinished`."""
    key = folder / KEY
    return (folder / PAIRS).is_file() and key.is_file() and key.stat().st_size > 0


def write(name: str, meta: dict[str, Any], embeddings: Float32, places: Any, delta: Any, path: Path) -> None:
    """Writes a person's file, readable by its owner alone, whole or not at all. Raises OSError."""
    import numpy as np

    held = io.BytesIO()
    told = json.dumps({**meta, "format": _FORMAT, "name": name}, sort_keys=True).encode()
    np.savez_compressed(
        held,
        meta=np.frombuffer(told, np.uint8),
        embeddings=np.asarray(embeddings, np.float32),
        places=np.asarray(places, np.int64).reshape(-1, 4),
        delta=np.asarray(delta, np.float16),
    )
    write_atomically(path, held.getvalue(), private=True)


def read(path: Path) -> Learned:
    """Reads a person's file, without running anything in it.

    Raises:
        InputError: it cannot be read, or is no such file.
    """
    import numpy as np

    try:
        data = read_regular(path, _MOST_BYTES)
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            meta = parse_json(bytes(held["meta"]), dict[str, Any])
            embeddings, places, delta = (held[name] for name in ("embeddings", "places", "delta"))
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
            raise ValueError(f"it is of {brief(meta['name'])}; give it that name again")
    except FileNotFoundError:
        raise InputError(
            "nothing was learnt of {person} on this machine; learn with: rtface learn {person} SOURCE, or give "
            "photos: {--person:{person}}=photo.jpg",
            code="learnt_not",
            person=path.stem,
        ) from None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            "{path} cannot be used as what was learnt of a person: {why}; copy it anew, or learn again with: rtface "
            "learn {person} SOURCE {--overwrite=True}",
            code="learnt_unusable",
            path=path,
            person=path.stem,
            why=(isinstance(error, OSError) and error.strerror) or str(error),
        ) from error
    return Learned(path.stem, hashlib.sha256(data).hexdigest(), meta, embeddings, places, delta)
