"""``tag``: name tags that follow faces."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rtface.errors import UsageError
from rtface.frame import Float
from rtface.stages import Canvas, Frame, Sprite, option, state
from rtface.util.parse import choice, is_person_name, is_person_number, number, path
from rtface_overlays.follow import FaceChoice, Fade, Spot, Steady, check_faces
from rtface_overlays.places import inside
from rtface_overlays.text import Rgba, check_colour, font_for, panel

_DRAWN = 48.0  # size of the text on the sprite, which is scaled with the face
_LEAST = 11.0  # minimum readable size of the text in pixels
_FADE_S, _GONE_S = 0.25, 2.0
# Anchor points in the face's 512×512 square, and the point of the tag placed there (as shares of the tag's size).
_ANCHORS = {
    "below": ((256.0, 500.0), (0.5, 0.0)),
    "above": ((256.0, -25.0), (0.5, 1.0)),
    "left": ((60.0, 256.0), (1.0, 0.5)),
    "right": ((452.0, 256.0), (0.0, 0.5)),
}


@dataclass(slots=True)
class _Worn:
    """A tag on a face: its place and opacity."""

    text: str
    seen: float
    fade: Fade = field(default_factory=lambda: Fade(_FADE_S))
    steady: Steady = field(default_factory=lambda: Steady(0.6))
    size: Steady = field(default_factory=lambda: Steady(0.04))
    anchor: Float = field(default_factory=lambda: np.zeros(2))
    scale: float = 1.0


@dataclass
class Tag:
    """Name tags that follow faces."""

    api = 1
    name: str = option("", "text of the tag; for several people by track number or person: 1=Anna;P2=Ben;carl=Carl")
    faces: str = option("largest", "faces that get the tag: largest, all, 1,3 or all but 2", check_faces)
    place: str = option("below", "below, above, left or right of the face", choice(*_ANCHORS))
    size: float = option(0.13, "height of the text, share of the face's width", number(0.02, 1))
    colour: Rgba = option("#ffffff", "colour of the text", check_colour)
    background: Rgba = option("#141820be", "colour of the tag; none for no panel", check_colour)
    font: Path | None = option(None, "a .ttf or .otf file", path)
    _sprites: dict[str, Sprite] = state(dict)
    _worn: dict[int, _Worn] = state(dict)

    def __post_init__(self) -> None:
        self._choose = FaceChoice(self.faces)
        self._by_id = _split(self.name) if "=" in self.name else {}
        self.name = "" if self._by_id else self.name
        if not self.name and not self._by_id:
            raise UsageError("say who: name=Anna, or name=1=Anna;2=Ben", code="names_needed")
        for text in {self.name, *self._by_id.values()} - {""}:
            font = font_for(text, _DRAWN, self.font)
            self._sprites[text] = Sprite(
                panel([(text, font, self.colour)], self.background, padding=0.55 * _DRAWN, radius=0.4 * _DRAWN)
            )

    def __call__(self, frame: Frame) -> Frame:
        canvas, now = Canvas(frame), frame.time
        if frame.cut or frame.new:
            self._worn.clear()
        named = {face.track_id for face in self._choose(frame)} if self.name else set[int]()
        here: set[int] = set()
        for face in frame.faces:
            text = (
                self._by_id.get(face.track_id)
                or self._by_id.get(face.person.lower())
                or (self.name if face.track_id in named else "")
            )
            if not text:
                continue
            here.add(face.track_id)
            worn = self._worn.get(face.track_id)
            if worn is None or worn.text != text:
                worn = self._worn[face.track_id] = _Worn(text, now)
            self._move(worn, Spot.of(face), canvas)
            worn.seen = now
        for track, worn in list(self._worn.items()):
            opacity = worn.fade(track in here, now)
            if frame.new and track in here:
                opacity = 1.0  # a still image has no time to fade in
            if not 0 <= now - worn.seen <= _GONE_S:
                del self._worn[track]
            elif opacity > 0:
                self._draw(canvas, worn, opacity)
        return canvas.frame

    def _move(self, worn: _Worn, spot: Spot, canvas: Canvas) -> None:
        wanted = min(max(self.size * spot.width, _LEAST), 0.12 * canvas.height) / _DRAWN
        worn.scale = float(np.exp(worn.size(np.log(np.array([wanted])))[0]))
        worn.anchor = worn.steady(spot.at(*_ANCHORS[self.place][0]))

    def _draw(self, canvas: Canvas, worn: _Worn, opacity: float) -> None:
        sprite = self._sprites[worn.text]
        scale = min(worn.scale, 0.95 * canvas.width / sprite.width)
        wide, high = scale * sprite.width, scale * sprite.height
        offset = _ANCHORS[self.place][1]
        x = inside(worn.anchor[0] - offset[0] * wide, wide, canvas.width)
        y = inside(worn.anchor[1] - offset[1] * high, high, canvas.height)
        canvas.draw(sprite, (x, y, x + wide, y + high), opacity)


def _split(text: str) -> dict[int | str, str]:
    """Splits ``1=Anna;P2=Ben`` into names. The keys are track numbers, or persons in lower case."""
    out: dict[int | str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, name = (word.strip() for word in part.partition("="))
        if (face := _face(key)) is None or not equals or not name:
            raise UsageError(
                "name: {value!r} is no track number or person, and name, as 1=Anna or P2=Ben",
                code="names_entry",
                value=part,
            )
        out[face] = name
    return out


def _face(key: str) -> int | str | None:
    """Parses a track number, or a person (in lower case). Returns None for other texts."""
    if re.fullmatch(r"[1-9]\d*", key):
        return int(key)
    return key.lower() if is_person_number(key) or is_person_name(key) else None
