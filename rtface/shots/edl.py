"""Reads settings from CMX 3600 edit decision lists (EDL), and writes scenes.

Only the record times of video events are read, and comments ``* RTFACE: strength=0.5`` below them.
"""

from __future__ import annotations

import re
from dataclasses import replace

from rtface.errors import UsageError
from rtface.shots.clock import FilmClock, is_timecode
from rtface.shots.scenes import Scene
from rtface.shots.settings import AS_RUN, Shot, read_settings

_TRANSITION = re.compile(r"C|D|W\d{3}|K|KB|KO")
_COMMENT = re.compile(r"\*\s*RTFACE\s*:?\s*(.*)", re.IGNORECASE)
_FCM = re.compile(r"FCM\s*:\s*(NON[- ])?DROP[- ]?FRAME", re.IGNORECASE)
_REEL, _NO_REEL = re.compile(r"[A-Za-z0-9_.-]{1,32}"), "AX      "


def read_edl(text: str, name: str, clock: FilmClock) -> list[Shot]:
    """Reads shots of an EDL with record times of the film.

    Below ``FCM: DROP FRAME``, colons in timecodes mean drop-frame, too. Sound-only events, and events without length
    (the outgoing side of a dissolve), are left out.

    Raises:
        UsageError: the list cannot be used; the message names the file and the line.
    """
    events: list[tuple[Shot, list[tuple[str, object]]]] = []
    current: list[tuple[str, object]] | None = None  # settings of the event that a comment belongs to
    drop = seen = False
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{name}, line {number}"
        line = line.strip()
        if match := _FCM.match(line):
            drop = match[1] is None
        elif match := _COMMENT.match(line):
            if current is None:
                raise UsageError(
                    "{where}: settings belong below their video event, and there is none above this line",
                    code="edl_settings_place",
                    where=where,
                )
            current += _pairs(match[1], where)
        elif event := _event(line):
            seen = True
            channels, *times = event
            begin, end = (clock.time_of(text, where, drop=drop) for text in times)
            current = None
            if begin != end and ("V" in channels or channels == "B"):
                current = []
                events.append((Shot(begin, end, AS_RUN, f"line {number}"), current))
    if not seen:
        raise UsageError(
            "{name}: has no event of a CMX 3600 EDL (number, reel, channel, transition and four timecodes in a line)",
            code="edl_none",
            name=name,
        )
    return [replace(shot, settings=read_settings(pairs, f"{name}, {shot.where}")) for shot, pairs in events]


def write_edl(scenes: list[Scene], clock: FilmClock, title: str) -> str:
    """Returns an EDL with an event for each scene. Record and source times and the reel are those of the film."""
    plain = re.sub(r"[^\x20-\x7e]", "_", title)
    start = clock.timecode_at(clock.first)
    reel = f"{clock.reel:8}" if clock.reel and _REEL.fullmatch(clock.reel) else _NO_REEL
    lines = [f"TITLE: {plain[:70]}", f"FCM: {'DROP FRAME' if start.drop else 'NON-DROP FRAME'}", ""]
    for number, scene in enumerate(scenes, 1):
        begin, end = clock.timecode_at(scene.begin), clock.timecode_at(scene.end)
        if begin == end:  # frames are uneven, and two scene changes have one timecode
            continue
        lines += [
            f"{number:03d}  {reel} V     C        {begin} {end} {begin} {end}",
            f"* FROM CLIP NAME: {plain}",
        ]
    return "\n".join(lines) + "\n"


def _event(line: str) -> tuple[str, str, str] | None:
    """Parses an event to channels, record-in and record-out; None for other lines."""
    words = line.split()
    if len(words) < 8 or not words[0].isdigit() or not all(is_timecode(word) for word in words[-4:]):
        return None
    for place in range(len(words) - 5, 2, -1):
        if _TRANSITION.fullmatch(words[place].upper()):
            return words[place - 1].upper(), words[-2], words[-1]
    return None


def _pairs(text: str, where: str) -> list[tuple[str, object]]:
    """Parses keys and values of a comment: ``strength=0.5 off``."""
    text = re.sub(r"\s*=\s*", "=", text.strip())
    if text == text.upper():  # some programs write comments in capitals
        text = text.lower()
    pairs: list[tuple[str, object]] = []
    for word in text.split():
        key, sign, value = word.rstrip(";").partition("=")
        if not sign and key.lower() != "off":
            raise UsageError(
                "{where}: {word!r} is not a setting; write settings as * RTFACE: strength=0.5, or * RTFACE: off",
                code="edl_setting",
                where=where,
                word=word[:40],
            )
        pairs.append((key, value if sign else "yes"))
    return pairs
