"""Reads settings from CMX 3600 edit decision lists (EDL), and writes scenes.

Only the record times of video events, and comments ``* RTFACE: strength=0.5`` below them, are read.
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
        UsageError: the list cannot be used; the message contains the file and the line.
    """
    events: list[tuple[Shot, list[tuple[str, object]]]] = []
    current: list[tuple[str, object]] | None = None  # settings of the event that a comment belongs to
    drop = has_events = False
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{name}, line {number}"
        line = line.strip()
        if match := _FCM.match(line):
            drop = match[1] is None
        elif match := _COMMENT.match(line):
            if current is None:
                raise UsageError(
                    "{where}: settings belong below their video event, but there is none above this line",
                    code="edl_settings_place",
                    where=where,
                )
            current += _pairs(match[1], where)
        elif event := _event(line):
            has_events = True
            channels, *times = event
            begin, end = (clock.time_of(text, where, drop=drop) for text in times)
            current = None
            if begin != end and ("V" in channels or channels == "B"):
                current = []
                events.append((Shot(begin, end, AS_RUN, f"line {number}"), current))
    if not has_events:
        raise UsageError(
            "{name} contains no event of a CMX 3600 EDL (number, reel, channel, transition, four timecodes in a line)",
            code="edl_none",
            name=name,
        )
    return [replace(shot, settings=read_settings(pairs, f"{name}, {shot.where}")) for shot, pairs in events]


def write_edl(scenes: list[Scene], clock: FilmClock, title: str) -> str:
    """Returns an EDL with an event for each scene. Record and source times and the reel are those of the film."""
    ascii_title = re.sub(r"[^\x20-\x7e]", "_", title)
    start = clock.timecode_at(clock.first)
    reel = f"{clock.reel:8}" if clock.reel and _REEL.fullmatch(clock.reel) else _NO_REEL
    lines = [f"TITLE: {ascii_title[:70]}", f"FCM: {'DROP FRAME' if start.drop else 'NON-DROP FRAME'}", ""]
    for number, scene in enumerate(scenes, 1):
        begin, end = clock.timecode_at(scene.begin), clock.timecode_at(scene.end)
        if begin == end:  # frames are not evenly spaced, and two scene changes have the same timecode
            continue
        lines += [
            f"{number:03d}  {reel} V     C        {begin} {end} {begin} {end}",
            f"* FROM CLIP NAME: {ascii_title}",
        ]
    return "\n".join(lines) + "\n"


def _event(line: str) -> tuple[str, str, str] | None:
    """Parses an event: channels, record-in, record-out. Returns None for other lines."""
    cells = line.split()
    if len(cells) < 8 or not cells[0].isdigit() or not all(is_timecode(cell) for cell in cells[-4:]):
        return None
    for index in range(len(cells) - 5, 2, -1):
        if _TRANSITION.fullmatch(cells[index].upper()):
            return cells[index - 1].upper(), cells[-2], cells[-1]
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
