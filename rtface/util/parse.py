"""Checks and converts option values from text (flag, variable), TOML or Python.

Each message contains the expected and the actual value, and the nearest valid value, if any.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Generic, TypeVar

from rtface.errors import UsageError
from rtface.util import plugins
from rtface.util.paths import expanded
from rtface.util.spelling import hint
from rtface.util.text import brief

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check(Generic[T]):
    """Checks and converts one value, given its name in messages.

    Raises:
        UsageError: the value is not valid; the message begins with the name.

    Attributes:
        convert: function of (value, name) that returns the converted value, or raises.
        metavar: placeholder of the value in help texts.
        words: fixed values, for shell completion.
    """

    convert: Callable[[object, str], T]
    metavar: str
    words: tuple[str, ...] = ()

    def __call__(self, value: object, display_name: str) -> T:
        return self.convert(value, display_name)


def _check(metavar: str, *words: str) -> Callable[[Callable[[object, str], T]], Check[T]]:
    return lambda convert: Check(convert, metavar, words)


def _make_check(metavar: str, message: str, *words: str, code: str) -> Callable[[Callable[[Any], T | None]], Check[T]]:
    """Converts a function to a check. Values for which it returns None or raises ValueError are invalid.

    `message` may contain {option}, {value}, and {hint} for the nearest of the words.
    """

    def decorate(convert: Callable[[Any], T | None]) -> Check[T]:
        @_check(metavar, *words)
        def check(value: object, display_name: str) -> T:
            with suppress(ValueError, ZeroDivisionError, OverflowError):
                if (converted := convert(value)) is not None:
                    return converted
            suggestion = hint(str(value).strip().lower(), words)
            raise UsageError(message, code=code, option=display_name, value=_show(value), hint=suggestion)

        return check

    return decorate


def _text(metavar: str, pattern: str, message: str, *words: str, code: str) -> Check[str]:
    """Returns a check for the first group of a pattern."""

    @_make_check(metavar, message, *words, code=code)
    def check(value: Any) -> str | None:
        match = re.fullmatch(pattern, str(value).strip().lower())
        return match and match[1]

    return check


def parse_time(value: object) -> float:
    """Parses seconds: a number, ``"90.5"``, ``"MM:SS.mmm"`` or ``"HH:MM:SS.mmm"``. Raises ValueError for others."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError
    if isinstance(value, str) and ":" in value:
        match = re.fullmatch(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d*)?)", value.strip())
        if match is None or int(match[2]) > 59 or float(match[3].replace(",", ".")) >= 60:
            raise ValueError
        hours, minutes, seconds = match[1] or "0", match[2], match[3].replace(",", ".")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    seconds = float(str(value))  # a whole number that is too large becomes infinity
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError
    return seconds


def format_time(seconds: float) -> str:
    """Formats seconds as ``H:MM:SS.mmm``, which ``--start`` reads without loss."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60}:{minutes % 60:02d}:{milliseconds / 1000:06.3f}"


def format_clock(seconds: float) -> str:
    """Formats seconds for display, rounded to whole seconds."""
    return format_time(round(seconds)).removesuffix(".000")


def format_start(seconds: float | Fraction) -> str:
    """Formats a ``--start`` whose first frame is the one at `seconds`. The result is up to 1 µs earlier but never
    later, because a time rounded up would skip that frame."""
    exact = seconds if isinstance(seconds, Fraction) else Fraction(seconds).limit_denominator(10**9)
    minutes, microseconds = divmod(exact.numerator * 10**6 // exact.denominator, 60_000_000)
    text = f"{minutes // 60}:{minutes % 60:02d}:{microseconds // 10**6:02d}.{microseconds % 10**6:06d}"
    return text.removesuffix("000")


def _show(value: object) -> str:
    return brief(value) if isinstance(value, str | int | float | list | tuple | dict) else str(value)[:80]


def _join_words(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def choice(*choices: str, extension: str = "") -> Check[object]:
    """Accepts one of `choices`, or a plugin's name. `extension` is the kind of plugin."""

    @_check("|".join(choices), *choices)
    def check(value: object, display_name: str) -> object:
        if value in choices:
            return value
        text = str(value).strip().lower()
        if text in choices or (extension and text in plugins.installed(extension)):
            return text
        raise UsageError(
            "{option} must be {choices}, not {value}{hint}",
            code="value_choice",
            option=display_name,
            choices=_join_words(choices),
            value=_show(value),
            hint=hint(text, choices),
        )

    return check


def number(low: float, high: float, *, whole: bool = False) -> Check[float]:
    """Accepts a number in a closed range."""
    kind = "a whole number" if whole else "a number"

    @_check("N")
    def check(value: object, display_name: str) -> float:
        limits = f"between {low:g} and {high:g}" if math.isfinite(high) else f"of at least {low:g}"
        try:
            number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except OverflowError:  # a whole number is too large
            number = math.inf
        except (TypeError, ValueError):
            number = math.nan
        is_invalid = math.isnan(number) or (whole and not math.isinf(number) and number != int(number))
        if is_invalid or math.isinf(number) or not low <= number <= high:
            suggestion = "" if is_invalid else f": the nearest is {low if number < low else high:g}"
            raise UsageError(
                "{option} must be {kind} {range}, not {value}{hint}",
                code="value_number",
                option=display_name,
                kind=kind,
                range=limits,
                value=_show(value),
                hint=suggestion,
            )
        return int(number) if whole else number

    return check


@_check("0..1")
def share(value: object, display_name: str) -> float:
    """Accepts a number from 0 to 1; 50% is 0.5."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)):
        value = float(match[1]) / 100
    return number(0, 1)(value, display_name)


@_make_check("1..100%", "{option} must be a share from 1% to 100%, as in 50% or 0.5, not {value}", code="value_share")
def budget(value: Any) -> float | None:
    """Accepts a share of the whole, 0.01 to 1; 50% is 0.5."""
    return part if (part := share(value, "")) >= 0.01 else None


def or_words(check: Check[T], *words: str) -> Check[object]:
    """Accepts the values of `check`, or one of `words`."""

    @_check("|".join((check.metavar, *words)), *words)
    def checked(value: object, display_name: str) -> object:
        text = str(value).strip().lower()
        if text in words:
            return text
        try:
            return check(value, display_name)
        except UsageError as error:
            raise UsageError(
                "{why}; or {words}{hint}",
                code="value_or_words",
                why=error,
                words=_join_words(words),
                hint=hint(text, words),
            ) from None

    return checked


AUTO_LIGHT = 0.8
"""The meaning of ``--light auto``."""


@_check("auto|0..1", "auto")
def light(value: object, display_name: str) -> object:
    """Accepts a share; ``auto`` is `AUTO_LIGHT`."""
    amount = or_words(share, "auto")(value, display_name)
    return AUTO_LIGHT if amount == "auto" else amount


@_make_check("yes|no", "{option} must be true or false, not {value}", code="value_boolean")
def boolean(value: object) -> bool | None:
    """Accepts True or False, or a word for it."""
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    return words.get(str(value).strip().lower())


@_check("TIME")
def time(value: object, display_name: str) -> object:
    """Accepts seconds into a film, see `parse_time`."""
    try:
        return parse_time(value)
    except ValueError:
        raise UsageError(
            "{name} must be seconds or HH:MM:SS.mmm, not {value}: write 90.5 or 00:01:30.500",
            code="time_value",
            name=display_name,
            value=_show(value),
        ) from None


timecode = _text(
    "TIMECODE",
    r"(\d{1,2}:\d{2}:\d{2}[:;,]\d{2,3})",
    "{option} must be a timecode, 01:00:00:00, or 01:00:00;00 for drop-frame, not {value}",
    code="value_timecode",
)
"""A timecode; it is checked against a film's rate once that is known."""


@_check("FILE")
def path(value: object, display_name: str) -> object:
    """Accepts the path of a file."""
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        raise UsageError(
            "{option} must be the path of a file, not {value}",
            code="value_path",
            option=display_name,
            value=_show(value),
        )
    return expanded(value, display_name)


@_make_check(
    "RATE",
    "{option} must be frames a second as 25, 29.97 or 30000/1001, at most 1000, not {value}",
    code="value_fps",
)
def rate(value: Any) -> Fraction | None:
    """Accepts frames a second, as an exact fraction."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Fraction)):
        return None
    rate = Fraction(value).limit_denominator(1_000_000)
    return rate if 0 < rate <= 1000 else None


UNKNOWN_PERSON = "unknown"
"""The name of a person who is not recognised."""
_FACE_WORDS = ("all", "largest", UNKNOWN_PERSON)


def _is_track(word: str) -> bool:
    return re.fullmatch(r"[1-9]\d{0,8}", word) is not None


def is_person_number(word: str) -> bool:
    """Checks whether a word is a person's number, such as P1."""
    return re.fullmatch(r"[Pp][1-9]\d{0,5}", word) is not None


def is_person_name(word: str) -> bool:
    """Checks whether a word can name a person. A name is a letter, then up to 31 letters, digits, - and _. It must be
    neither a person's number nor another word of ``--faces``."""
    return (
        all(re.fullmatch(r"[^\W\d_][\w-]{0,31}", part) for part in (word, word.lower()))  # file names are in lower case
        and not is_person_number(word)
        and word.lower() not in _FACE_WORDS
    )


@_make_check(
    "all|largest|ID,...",
    "{option} must be all, largest, or track numbers and persons as 1,P2,anna, not {value}{hint}",
    "all",
    "largest",
    code="value_faces",
)
def faces(value: Any) -> str | None:
    """Accepts "all", "largest", or track numbers and persons (1, anna, P2)."""
    words = [word.strip() for word in str(value).lower().split(",")]
    text = ",".join(words)
    valid = all(_is_track(word) or is_person_number(word) or is_person_name(word) for word in words)
    return text if valid or text in ("all", "largest") else None


@_check("NAME[@P2,...][=PHOTO,...]")
def persons(value: object, display_name: str) -> object:
    """Accepts names of persons, with photos unless learnt. Returns "NAME" or "NAME=PHOTO,PHOTO" for each person. After
    a name, "@P2,5" means that person P2 and track 5 are that person."""
    entries = [entry for entry in value.split(";") if entry.strip()] if isinstance(value, str) else value
    if not isinstance(entries, list | tuple):
        raise UsageError(
            "{option} must be a name and photos of the person, as anna=photo1.jpg, not {value}",
            code="value_person",
            option=display_name,
            value=_show(value),
        )
    by_name: dict[str, str] = {}
    for entry in entries:
        head, equals, photos = str(entry).partition("=")
        name, at_sign, labels = (part.strip() for part in head.partition("@"))
        labels = labels.upper().replace(" ", "")
        valid_labels = [label for label in labels.split(",") if is_person_number(label) or _is_track(label)]
        if (
            not is_person_name(name)
            or (at_sign and len(valid_labels) <= labels.count(","))
            or (equals and not all(part.strip() for part in photos.split(",")))
        ):
            raise UsageError(
                "{option} must be a name and photos of the person, as anna=photo1.jpg,photo2.jpg, or a name and "
                "labels of the person, as anna@P2, not {value}; a name starts with a letter and is not {names} or P1",
                code="value_person_name",
                option=display_name,
                value=_show(entry),
                names=", ".join(_FACE_WORDS),
            )
        if name.lower() in by_name:
            raise UsageError(
                "{option} contains {name} twice; list all photos together, as {name}=photo1.jpg,photo2.jpg",
                code="value_person_twice",
                option=display_name,
                name=name,
            )
        by_name[name.lower()] = f"{name}{at_sign}{labels}{equals}{photos}"
    return tuple(by_name.values())


DEVICES = ("auto", *plugins.BUILT_IN["backend"])
"""Devices for engines. `cuda:1` and `openvino:gpu.1` are the second of several GPUs."""


def device_kind(device: str) -> tuple[str, int]:
    """Splits a device's name into backend and GPU number: "cuda:1" is ("cuda", 1)."""
    match = re.fullmatch(r"(.+?)(?:[:.](\d{1,3}))?", device)
    return (match[1], int(match[2] or 0)) if match else (device, 0)


@_check("auto|cpu|cuda[:N]|...", *DEVICES)
def device(value: object, display_name: str) -> str:
    """Accepts one of `DEVICES` or a plugin's backend. `cuda` and `openvino:gpu` may have a GPU's number."""
    text = str(value).strip().lower()
    kind = re.sub(r"^(cuda):\d{1,3}$|^(openvino:gpu)\.\d{1,3}$", r"\1\2", text)
    if kind not in DEVICES and device_kind(text)[0] not in plugins.installed("backend"):
        raise UsageError(
            "{option} must be {devices}, not {value}{hint}",
            code="value_device",
            option=display_name,
            devices=_join_words(DEVICES),
            value=_show(value),
            hint=hint(text, DEVICES),
        )
    return text


decoder = _text(
    "auto|cuda[:N]|software",
    r"(auto|software|cuda(?::\d{1,3})?)",
    "{option} must be auto, software, cuda or cuda:N, not {value}{hint}",
    "auto",
    "cuda",
    "software",
    code="value_codec_device",
)
"""The decoder: "auto", "software", "cuda" or "cuda:N"."""


variant = _text(
    "best|HEIGHT|INDEX",
    r"(best|[1-9]\d{0,4})p?",
    "{option} must be best, a height as 720, or a number in the list as 1, not {value}",
    "best",
    code="value_variant",
)
"""A variant of an HLS list: "best", or a height or number as text."""


@_make_check("NAME", "{option} must be a name, not {value}", code="value_name")
def name(value: Any) -> str | None:
    """Accepts a name. The module that uses the name checks it."""
    return (value.strip() or None) if isinstance(value, str) else None


@_check("NAME;...")
def names(value: object, display_name: str) -> object:
    """Accepts names: a list, or text separated by semicolons. Empty names are rejected."""
    items = value.split(";") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise UsageError(
            "{option} must be a name or a list of names, not {value}",
            code="value_names",
            option=display_name,
            value=_show(value),
        )
    return tuple(name(item, display_name) for item in items)


_STREAMS = ("audio", "video", "subtitle", "data", "attachment", "cover", "chapters")


@_check("STREAM;...", *_STREAMS)
def streams(value: object, display_name: str) -> object:
    """Accepts numbers and kinds of streams: a list, or text separated by semicolons."""
    items = value.split(";") if isinstance(value, str) else value
    words = [str(item).strip().lower() for item in items] if isinstance(items, list | tuple) else [""]
    for word in words:
        if word not in _STREAMS and not re.fullmatch(r"\d{1,4}", word):
            raise UsageError(
                "{option} must be the number of a stream, or one of {streams}, not {value}{hint}",
                code="value_stream",
                option=display_name,
                streams=_join_words(_STREAMS),
                value=_show(word or value),
                hint=hint(word, _STREAMS),
            )
    return tuple(word if word in _STREAMS else str(int(word)) for word in words)


@_make_check("WxH", "{option} must be WIDTHxHEIGHT in pixels, such as 1280x720, not {value}", code="value_size")
def size(value: Any) -> tuple[int, int] | None:
    """Accepts width and height in pixels, 16 to 16384."""
    match = re.fullmatch(r"(\d{1,5})\s*[x×:]\s*(\d{1,5})", value.strip().lower()) if isinstance(value, str) else None
    if match is None and not isinstance(value, list | tuple):
        return None
    width, height = map(int, match.groups()) if match else list[Any](value)
    return (width, height) if all(isinstance(x, int) and 16 <= x <= 16384 for x in (width, height)) else None


SCALE = r"\A([2-4]|[1-9]\d{1,4}(p|x[1-9]\d{1,4}))\Z"
"""Pattern of the values of `scale`."""


@_check("N|LINESp|WIDTHxHEIGHT", "1", "2", "3", "4", "1080p", "2160p")
def scale(value: object, display_name: str) -> str | None:
    """Accepts a factor, lines, or a size: "2", "1080p", "1920x1080"; None for 1."""
    text = "" if isinstance(value, bool) else re.sub(r"\s*[x×:]\s*", "x", str(value).strip().lower())
    if text == "1" or re.match(SCALE, text):
        return None if text == "1" else text
    raise UsageError(
        "{option} must be a factor (1 to 4), lines as 1080p, or a size as 1920x1080, not {value}",
        code="value_scale",
        option=display_name,
        value=_show(value),
    )


@_make_check(
    "BITS", "{option} must be bits a second from 10k to 1000M, such as 4500k or 6M, not {value}", code="value_bitrate"
)
def bitrate(value: Any) -> int | None:
    """Accepts bits a second: 4500k, 6M, or a number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([km]?)", str(value).strip().lower())
    bits = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6}[match[2]] if match else 0.0
    return round(bits) if 10_000 <= bits <= 1e9 else None
