"""What the header of an image says of how its samples are shown, apart from profile and orientation."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from rtface.media.formats.tiff_tags import Directory, order_of, read_directory

View: TypeAlias = dict[str, Any]
"""By what it concerns; what is usual is left out, so that an empty one says nothing."""

# TIFF tags that go along with the samples: unit and numbers of resolution, limits and curves of the values, white,
# primaries, black and white.
TIFF_SHOWN = (280, 281, 282, 283, 296, 301, 318, 319, 340, 341, 532)
TIFF_OF_VALUES = (280, 281, 301, 340, 341, 532)
"""Those that hold for samples of the same kind and depth only."""
TIFF_FORM = (258, 262, 277, 339)
"""Bits, kind of colours, number and format of samples."""
TIFF_READ = (254, 320, 338, *TIFF_FORM, *TIFF_SHOWN)
"""Numbers of the tags that `tiff_view` looks at."""

_COLOURS_OF = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # samples of a pixel by photometric interpretation
_INTEGER, _STRAIGHT, _MASK, _PALETTE, _YCBCR, _SRGB = 1, 2, 4, 3, 6, 1
_USUAL_BMP = (b"BGRs", b" niW")  # sRGB, and whatever the system has
_RATIONAL, _UNIT = 5, 296
_NUMBERS = {3: 1, 4: 1, _RATIONAL: 2, 11: 1, 12: 1}  # by type: short, long, rational, float, double
_SRGB_PNG = {
    "gAMA": struct.pack(">I", 45455),
    "cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
}
_RATIO = Fraction(1, 50)


def shape_view(across: int | Fraction, down: int | Fraction) -> View:
    """The shape of samples by their numbers along the same length."""
    shape = Fraction(down) / Fraction(across) if across > 0 < down else Fraction(1)
    return {} if abs(shape - 1) < _RATIO else {"shape": shape.limit_denominator(1000)}


def numbers(value: Any) -> tuple[Any, ...]:
    """A tag's value as plain numbers."""
    return tuple(np.ravel(value).tolist()) if isinstance(value, Sequence | np.ndarray) else (value,)


def writable(tag: int, kind: int, count: int, values: tuple[Any, ...]) -> bool:
    """Whether a tag of `TIFF_SHOWN` has a type and as many numbers as TIFF says, so that it can go along."""
    each = _NUMBERS.get(kind, 0)
    whole = each and len(values) == count * each and all(isinstance(value, int | float) for value in values)
    if tag == _UNIT:
        return bool(whole) and values in ((1,), (2,), (3,))
    return bool(whole) and (tag not in (282, 283) or (kind == _RATIONAL and count == 1 and values[1] > 0))


def tiff_view(tags: Mapping[int, Any]) -> View:
    """Of a TIFF by its tags: numbers, tuples of numbers, or bytes."""
    try:
        return _tiff_view(tags)
    except (TypeError, ValueError, OverflowError):  # of another type than TIFF has
        return {"tags": "damaged"}


def _tiff_view(tags: Mapping[int, Any]) -> View:
    view, kind, samples = View(), int(tags.get(262, 1)), int(tags.get(277, 1))
    extra, form = numbers(tags.get(338, ())), numbers(tags.get(339, _INTEGER))
    alpha = samples - _COLOURS_OF.get(kind, 0)
    if kind not in _COLOURS_OF or alpha not in (0, 1) or len(extra) > alpha or (kind == _PALETTE and 320 not in tags):
        view["kind of colours"] = kind, samples, extra
    elif alpha and extra != (_STRAIGHT,):
        view["transparency"] = extra or (0,)
    if set(form) - {_INTEGER, 4}:
        view["sample format"] = form
    if int(tags.get(254, 0)) & _MASK:
        view["mask"] = True
    if 282 in tags and 283 in tags:
        view |= shape_view(*(_ratio(tags[number]) for number in (282, 283)))
    usual = {280: {0}, 281: {(1 << bits) - 1 for bits in numbers(tags.get(258, 1)) if 0 < bits <= 64}}
    for number in (280, 281, 301, 318, 319, 340, 341, 532):
        said = numbers(tags.get(number, ()))
        if said and not (number == 532 and kind == _YCBCR) and set(said) != usual.get(number):
            view[f"tag {number}"] = said
    return view


def png_view(chunks: Iterable[tuple[bytes, bytes]], colours: set[bytes]) -> View:
    """Of a PNG: `colours` names the chunks by which samples are shown. Such behind the samples are not read."""
    view = View()
    for kind, body in chunks:
        if kind == b"IDAT":
            break
        if kind in colours:
            view.setdefault(kind.decode("latin-1"), body)
        elif kind == b"pHYs" and len(body) >= 9:
            view |= shape_view(*struct.unpack_from(">II", body))
    usual = {name for name, body in _SRGB_PNG.items() if view.get(name) == body}
    if view.keys() & {"gAMA", "cHRM"} <= usual:
        view = {name: said for name, said in view.items() if name not in {*usual, "sRGB"}}
    return view


def jfif_view(body: bytes) -> View:
    """Of the JFIF segment of a JPEG."""
    return shape_view(*struct.unpack_from(">HH", body, 8)) if len(body) >= 12 else {}


def bmp_view(data: bytes) -> View:
    """Of a BMP."""
    view = View()
    with suppress(struct.error):
        view |= shape_view(*map(abs, struct.unpack_from("<ii", data, 38)))
        if struct.unpack_from("<I", data, 14)[0] >= 108 and data[70:74] not in _USUAL_BMP and any(data[70:122]):
            view["colours"] = data[70:122]
    return view


def exif_view(exif: bytes) -> View:
    """Of EXIF: a colour space other than sRGB, a gamma, Adobe RGB by its interoperability."""
    order, inner = order_of(exif), _inner(read_directory(exif), 34665)
    space, gamma, rule = (
        value if isinstance(value, bytes) else b""
        for _, _, value in (inner.get(40961, _NONE), inner.get(42240, _NONE), _inner(inner, 40965).get(1, _NONE))
    )
    view = View()
    if len(space) == 2 and (said := struct.unpack(f"{order}H", space)[0]) != _SRGB:
        view["EXIF colour space"] = said
    if len(gamma) == 8:
        view["EXIF gamma"] = _ratio(struct.unpack(f"{order}II", gamma))
    if rule[:3] == b"R03":
        view["EXIF colours"] = "Adobe RGB"
    return view


_NONE = 0, 0, b""


def _inner(tags: Directory, tag: int) -> Directory:
    value = tags.get(tag, _NONE)[2]
    return value if isinstance(value, dict) else {}


def _ratio(value: Any) -> Fraction:
    over, under = (int(part) for part in (*numbers(value), 1)[:2])
    return Fraction(over, under or 1)
