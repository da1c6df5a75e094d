"""What was learnt of a person: a difference to an engine's weights, with the person's embeddings, in one file.

The file is an npz without pickled objects: ``meta`` (JSON as bytes), ``embeddings`` (float32 N×128), ``places`` (int64
K×5: where a tensor lies in the network file, its bytes a number, rows, columns, rank) and ``delta`` (fp16, one after
the other: rows × columns numbers of a tensor with rank 0, else the factors rows × rank and rank × columns). Of what was
trained most numbers are 0 and the others one step up or down, so that LZMA makes the file small. A tensor of `rtface-s`
lies in `rtface-m` too, byte for byte, so one file serves both.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtface.errors import EngineError, InputError, UsageError
from rtface.util.files import write_atomically
from rtface.util.foreign import open_regular
from rtface.util.parse import is_person_name
from rtface.util.paths import config_dir
from rtface.util.text import brief

try:
    from lzma import LZMAError
except ImportError:  # some builds of Python have no LZMA
    LZMAError = zipfile.BadZipFile

if TYPE_CHECKING:  # names of engines are looked up before anything large is imported
    import numpy as np

    from rtface.frame import Float32

BASE = "rtface-s"
"""The engine whose weights a difference is of."""
SUFFIX = ".person"
MARK = "@"
"""Between an engine's name and the person's, as in "rtface-m@anna"."""
PAIRS = "pairs.npz"
"""The file of `unfinished` that is learnt from."""
_MOST_BYTES = 16 << 20
_MOST_PLACES = 512
_FORMAT = 1
# What reading a damaged or made up file raises; NotImplementedError and RecursionError are RuntimeErrors.
_FAULTS = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
)


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """One person.

    Attributes:
        name: of the person, as the file is called.
        digest: SHA-256 (hex) of the file.
        meta: `base` (SHA-256 of the weights that the difference belongs to), `made` (date), `sources` (SHA-256 and kind
            of each), `figures` (what it measured on crops that it had not learnt from), and `format`.
        embeddings: float32 N×128, each of length 1.
        places, delta: see the module.
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
        for offset, item, rows, columns, rank in self.places.tolist():
            old = base[offset : offset + item * rows * columns]
            at = model.find(old)
            if len(old) != item * rows * columns or at < 0 or model.find(old, at + 1) >= 0:
                raise EngineError(
                    "what was learnt of {person} does not fit this engine; learn again",
                    code="learnt_unfit",
                    person=self.name,
                )
            count = _count(rows, columns, rank)
            values = self.delta[begin : begin + count].astype(np.float32)
            begin += count
            change = (
                values[: rows * rank].reshape(rows, rank) @ values[rows * rank :].reshape(rank, columns)
                if rank
                else values.reshape(rows, columns)
            )
            kind = "<f2" if item == 2 else "<f4"
            new = np.frombuffer(old, kind).astype(np.float32).reshape(rows, columns) + change
            out[at : at + len(old)] = new.astype(kind).tobytes()
        return bytes(out)


def _count(rows: int, columns: int, rank: int) -> int:
    """How many numbers of `delta` belong to a place."""
    return rank * (rows + columns) if rank else rows * columns


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
    return [] if config_dir() is None else sorted(path.parent.name for path in unfinished().glob(f"*/{PAIRS}"))


def write(name: str, meta: dict[str, Any], embeddings: Float32, places: Any, delta: Any, path: Path) -> None:
    """Writes a person's file, readable by its owner alone, whole or not at all. Raises OSError."""
    import numpy as np

    held, text = io.BytesIO(), json.dumps({**meta, "format": _FORMAT, "name": name}, sort_keys=True).encode()
    arrays = {
        "meta": np.frombuffer(text, np.uint8),
        "embeddings": np.asarray(embeddings, np.float32),
        "places": np.asarray(places, np.int64).reshape(-1, 5),
        "delta": np.asarray(delta, np.float16),
    }
    # Of deltas a third smaller than numpy's own.
    packing = zipfile.ZIP_DEFLATED if LZMAError is zipfile.BadZipFile else zipfile.ZIP_LZMA
    with zipfile.ZipFile(held, "w", packing) as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w") as file:
                np.lib.format.write_array(file, array)
    write_atomically(path, held.getvalue(), private=True)


def read(path: Path) -> Learned:
    """Reads a person's file, without running anything in it.

    Raises:
        InputError: it cannot be read, or is no such file.
    """
    import numpy as np

    try:
        with open_regular(path) as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ValueError("it is too large")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MOST_BYTES:
                raise ValueError("it is too large")
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            meta = json.loads(bytes(held["meta"]).decode())
            embeddings, places, delta = found = [held[name] for name in ("embeddings", "places", "delta")]
        if not all(isinstance(array, np.ndarray) for array in found):  # numpy gives other members as bytes
            raise ValueError("it is damaged")
        if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
            raise ValueError("it was made by another version of rtface")
        if embeddings.dtype != np.float32 or embeddings.ndim != 2 or embeddings.shape[1] != 128 or not len(embeddings):
            raise ValueError("its embeddings are not 128 numbers each")
        if places.dtype != np.int64 or places.shape[1:] != (5,) or delta.dtype != np.float16 or delta.ndim != 1:
            raise ValueError("its weights have another form")
        if not (np.isfinite(delta).all() and np.isfinite(embeddings).all()):
            raise ValueError("its weights are no numbers")
        if (
            len(places) > _MOST_PLACES
            or any(min(p) < 0 or p[1] not in (2, 4) or not p[4] <= min(p[2:4]) > 0 for p in places.tolist())
            or sum(_count(*place[2:]) for place in places.tolist()) != len(delta)
        ):
            raise ValueError("its weights have another form")
        if str(meta.get("name")).casefold() != path.stem.casefold():
            raise ValueError(f"it is of {brief(meta.get('name'))}; give it that name again")
    except FileNotFoundError:
        raise InputError(
            "nothing was learnt of {person} on this machine; learn with: rtface learn {person} SOURCE, or give "
            "photos: {--person:{person}}=photo.jpg",
            code="learnt_not",
            person=path.stem,
        ) from None
    except _FAULTS as error:
        raise InputError(
            "{path} cannot be used as what was learnt of a person: {why}",
            code="learnt_unusable",
            path=path,
            why=(isinstance(error, OSError) and error.strerror) or str(error),
        ) from error
    return Learned(path.stem, hashlib.sha256(data).hexdigest(), meta, embeddings, places, delta)
