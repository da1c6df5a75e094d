"""What was learnt of a person: a difference to an engine's weights, with the person's embeddings, in one file.

The file is an npz without pickled objects, compressed by LZMA: ``meta`` (JSON as bytes), ``embeddings`` (float32
N×128), ``places`` (int64 K×4: where a tensor lies in the network file, its bytes a number, rows, columns), ``steps``
(fp16 K), ``signs`` (uint8) and ``delta`` (fp16). Of what was trained most numbers are 0 and the others one step up or
down: those tensors have their step, and each number's sign in `signs`, five in a byte; the others have the step 0, and
their numbers in `delta`. A tensor of `rtface-s` lies in `rtface-m` too, byte for byte, so one file serves both.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tokenize
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rtface.errors import EngineError, InputError, UsageError
from rtface.util.files import write_atomically
from rtface.util.foreign import Shape, check_shape, open_regular, text, too_deep
from rtface.util.parse import is_person_name
from rtface.util.paths import config_dir
from rtface.util.text import brief

try:
    from lzma import LZMAError
except ImportError:  # some builds of Python have no LZMA
    LZMAError = zipfile.BadZipFile

if TYPE_CHECKING:  # names of engines are looked up before anything large is imported
    from collections.abc import Iterator, Sequence

    import numpy as np

    from rtface.frame import Float32

BASE = "rtface-s"
"""The engine whose weights a difference is of."""
SUFFIX = ".person"
MARK = "@"
"""Between an engine's name and the person's, as in "rtface-m@anna"."""
PAIRS, KEY = "pairs.npz", "key"
"""The files of `unfinished` that is learnt from, and that says of what; empty where it is not to be continued."""
_MOST_BYTES, _MOST_PLACES, _MOST_META = 16 << 20, 512, 1 << 20
_FORMAT = 2
_POWERS = (1, 3, 9, 27, 81)
"""Of the five signs in a byte, each 0, 1 or 2."""
# What reading a damaged or made up file raises; NotImplementedError and RecursionError are RuntimeErrors. NumPy reads
# an array's header as Python text: OverflowError, SyntaxError, TokenError.
_FAULTS = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    MemoryError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
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

        out, begin, known, own = bytearray(model), 0, _weights(base), _weights(model)
        for offset, item, rows, columns in self.places.tolist():
            old = base[offset : offset + item * rows * columns]
            at = model.find(old)
            # A file of somebody else is to change weights, and nothing else of the network.
            fits = _within(known, offset, len(old)) and _within(own, at, len(old))
            if len(old) != item * rows * columns or not fits or model.find(old, at + 1) >= 0:
                raise EngineError(
                    "what was learnt of {person} does not fit this engine; learn again with: rtface learn {person} "
                    "SOURCE {--overwrite=True}",
                    code="learnt_unfit",
                    person=self.name,
                )
            change = self.delta[begin : begin + rows * columns].astype(np.float32)
            begin += rows * columns
            kind = "<f2" if item == 2 else "<f4"
            new = np.frombuffer(old, kind).astype(np.float32) + change
            out[at : at + len(old)] = new.astype(kind).tobytes()
        return bytes(out)


def _weights(model: bytes) -> list[range]:
    """Where the numbers of its weights lie in an ONNX file: `raw_data` (9) of each `initializer` (5) of its `graph` (7)
    that has the `name` (8) of a module. Others are shapes, scales and limits."""
    found = list[range]()
    with suppress(IndexError):  # no such file
        for field, graph in _fields(model, range(len(model))):
            for within, part in _fields(model, graph) if field == 7 else ():
                tensor = dict(_fields(model, part)) if within == 5 else {}
                if 9 in tensor and model.startswith(b"net.", tensor[8].start):
                    found.append(tensor[9])
    return found


def _fields(data: bytes, within: range) -> Iterator[tuple[int, range]]:
    """The fields of a Protocol Buffers message that have a length: their numbers, and where they lie."""
    at = within.start

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 128:
                return value

    while at < within.stop:
        key = number()
        if key & 7 == 2:
            size = number()
            yield key >> 3, range(at, at + size)
            at += size
        elif key & 7:
            at += 8 if key & 7 == 1 else 4
        else:
            number()


def _within(weights: Sequence[range], begin: int, size: int) -> bool:
    return any(begin in one and begin + size <= one.stop for one in weights)


def _is_date(value: Any) -> bool:
    return text(value) and re.fullmatch(r"\d{4}-\d\d-\d\d", value) is not None


def _are_gains(value: Any) -> bool:
    table = cast("dict[Any, Any]", value)
    return isinstance(value, dict) and all(isinstance(g, int | float) and abs(g) < 1000 for g in table.values())


_META: Shape = {"name?": text, "base?": text, "made?": _is_date, "sources?": [{"kind": text}], "figures?": _are_gains}


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

    held, told = io.BytesIO(), json.dumps({**meta, "format": _FORMAT, "name": name}, sort_keys=True).encode()
    places, delta = np.asarray(places, np.int64).reshape(-1, 4), np.asarray(delta, np.float16)
    counts, size = places[:, 2] * places[:, 3], np.abs(delta)
    begins = np.cumsum(counts) - counts
    steps = np.maximum.reduceat(size, begins)
    steps[~np.logical_and.reduceat((size == 0) | (size == np.repeat(steps, counts)), begins)] = 0
    stepped = np.repeat(steps, counts) > 0
    signs = np.sign(delta[stepped]) + 1
    arrays = {
        "meta": np.frombuffer(told, np.uint8),
        "embeddings": np.asarray(embeddings, np.float16).astype(np.float32),  # small in LZMA
        "places": places,
        "steps": steps,
        "signs": (np.pad(signs, (0, -len(signs) % 5)).reshape(-1, 5) @ np.array(_POWERS)).astype(np.uint8),
        "delta": delta[~stepped],
    }
    with zipfile.ZipFile(
        held, "w", zipfile.ZIP_DEFLATED if LZMAError is zipfile.BadZipFile else zipfile.ZIP_LZMA
    ) as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w") as file:
                np.lib.format.write_array(file, array)
    write_atomically(path, held.getvalue(), private=True)


def _unpacked(places: Any, steps: Any, signs: Any, delta: Any) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Every number that `write` was given. ValueError where the arrays do not fit each other."""
    import numpy as np

    kinds = [(array.dtype, array.ndim) for array in (places, steps, signs, delta)]
    if (
        kinds != [(np.int64, 2), (np.float16, 1), (np.uint8, 1), (np.float16, 1)]
        or not len(places) == len(steps) <= _MOST_PLACES
        or any(len(p) != 4 or min(p) < 0 or p[1] not in (2, 4) or not min(p[2:]) for p in places.tolist())
        or sum(counts := [p[2] * p[3] for p in places.tolist()]) > _MOST_BYTES
        or (signed := np.count_nonzero(stepped := (each := np.repeat(steps, counts)) > 0)) + len(delta) != len(each)
        or -(-signed // 5) != len(signs)
    ):
        raise ValueError("its weights have another form")
    found, flat = np.empty(len(each), np.float16), (signs[:, None] // np.array(_POWERS, np.uint8) % 3).ravel()
    found[~stepped] = delta
    found[stepped] = (flat[:signed].astype(np.float16) - 1) * each[stepped]
    return found


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
            told = bytes(held["meta"]).decode()
            if len(told) > _MOST_META or too_deep(told):
                raise ValueError("it is damaged")
            meta = json.loads(told)
            if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
                raise ValueError("it was made by another version of rtface")
            check_shape(meta, _META)
            embeddings, places, *packed = found = [
                held[name] for name in ("embeddings", "places", "steps", "signs", "delta")
            ]
        if not all(isinstance(array, np.ndarray) for array in found):  # numpy gives other members as bytes
            raise ValueError("it is damaged")
        if (
            embeddings.dtype != np.float32
            or embeddings.ndim != 2
            or embeddings.shape[1] != 128
            or not len(embeddings)
            or not np.allclose(np.linalg.norm(embeddings.astype(np.float64), axis=1), 1, atol=0.01)
        ):
            raise ValueError("its embeddings are not 128 numbers each, of length 1")
        if not all(np.isfinite(array).all() for array in packed):
            raise ValueError("its weights are no numbers")
        delta = _unpacked(places, *packed)
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
            "{path} cannot be used as what was learnt of a person: {why}; copy it anew, or learn again with: rtface "
            "learn {person} SOURCE {--overwrite=True}",
            code="learnt_unusable",
            path=path,
            person=path.stem,
            why=(isinstance(error, OSError) and error.strerror) or str(error),
        ) from error
    return Learned(path.stem, hashlib.sha256(data).hexdigest(), meta, embeddings, places, delta)
