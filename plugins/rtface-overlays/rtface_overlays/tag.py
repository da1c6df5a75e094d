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

_TEXT_SIZE = 48.0  # size of the text on the sprite in pixels; the sprite is scaled with the face
_MIN_TEXT_SIZE = 11.0  # minimum readable size of the text in the frame, in pixels
_FADE_S, _GONE_S = 0.25, 2.0  # time of fading; time after which the tag of a lost face is removed
# Anchor points on the 512×512 face template, and the point of the tag placed there (as shares of the tag's size).
_ANCHORS = {
    "below": ((256.0, 500.0), (0.5, 0.0)),
    "above": ((256.0, -25.0), (0.5, 1.0)),
    "left": ((60.0, 256.0), (1.0, 0.5)),
    "right": ((452.0, 256.0), (0.0, 0.5)),
}


@dataclass(slots=True)
class _FaceTag:
    """A tag on one face, with its place and opacity."""

    text: str
    last_seen: float
    fade: Fade = field(default_factory=lambda: Fade(_FADE_S))
    steady: Steady = field(default_factory=lambda: Steady(0.6))
    size: Steady = field(default_factory=lambda: Steady(0.04))
    anchor: Float = field(default_factory=lambda: np.zeros(2))
    scale: float = 1.0


@dataclass
class Tag:
    """Name tags that follow faces."""

    api = 1
    name: str = option("", "text of the tag, or a text for each track number or person: 1=Anna;P2=Ben;carl=Carl")
    faces: str = option("largest", "faces that get the tag: largest, all, 1,3 or all but 2", check_faces)
    place: str = option("below", "below, above, left or right of the face", choice(*_ANCHORS))
    size: float = option(0.13, "height of the text, share of the face's width", number(0.02, 1))
    colour: Rgba = option("#ffffff", "colour of the text", check_colour)
    background: Rgba = option("#141820be", "colour of the tag; none for no panel", check_colour)
    font: Path | None = option(None, "a .ttf or .otf file", path)
    _sprites: dict[str, Sprite] = state(dict)
    _tags: dict[int, _FaceTag] = state(dict)

    def __post_init__(self) -> None:
        self._choose = FaceChoice(self.faces)
        self._texts = _parse_texts(self.name) if "=" in self.name else {}
        self.name = "" if self._texts else self.name
        if not self.name and not self._texts:
            raise UsageError("the tag has no text; set name=Anna, or name=1=Anna;2=Ben", code="names_needed")
        for text in {self.name, *self._texts.values()} - {""}:
            font = font_for(text, _TEXT_SIZE, self.font)
            self._sprites[text] = Sprite(
                panel([(text, font, self.colour)], self.background, padding=0.55 * _TEXT_SIZE, radius=0.4 * _TEXT_SIZE)
            )

    def __call__(self, frame: Frame) -> Frame:
        canvas, now = Canvas(frame), frame.time
        if frame.cut or frame.new:
            self._tags.clear()
        chosen = {face.track_id for face in self._choose(frame)} if self.name else set[int]()
        visible_tracks: set[int] = set()
        for face in frame.faces:
            text = (
                self._texts.get(face.track_id)
                or self._texts.get(face.person.lower())
                or (self.name if face.track_id in chosen else "")
            )
            if not text:
                continue
            visible_tracks.add(face.track_id)
            tag = self._tags.get(face.track_id)
            if tag is None or tag.text != text:
                tag = self._tags[face.track_id] = _FaceTag(text, now)
            self._move(tag, Spot.of(face), canvas)
            tag.last_seen = now
        for track, tag in list(self._tags.items()):
            opacity = tag.fade(track in visible_tracks, now)
            if frame.new and track in visible_tracks:
                opacity = 1.0  # a still image has no time to fade in
            if not 0 <= now - tag.last_seen <= _GONE_S:
                del self._tags[track]
            elif opacity > 0:
                self._draw(canvas, tag, opacity)
        return canvas.frame

    def _move(self, tag: _FaceTag, spot: Spot, canvas: Canvas) -> None:
        target = min(max(self.size * spot.width, _MIN_TEXT_SIZE), 0.12 * canvas.height) / _TEXT_SIZE
        tag.scale = float(np.exp(tag.size(np.log(np.array([target])))[0]))
        tag.anchor = tag.steady(spot.at(*_ANCHORS[self.place][0]))

    def _draw(self, canvas: Canvas, tag: _FaceTag, opacity: float) -> None:
        sprite = self._sprites[tag.text]
        scale = min(tag.scale, 0.95 * canvas.width / sprite.width)
        width, height = scale * sprite.width, scale * sprite.height
        offset = _ANCHORS[self.place][1]
        x = inside(tag.anchor[0] - offset[0] * width, width, canvas.width)
        y = inside(tag.anchor[1] - offset[1] * height, height, canvas.height)
        canvas.draw(sprite, (x, y, x + width, y + height), opacity)


def _parse_texts(text: str) -> dict[int | str, str]:
    """Parses ``1=Anna;P2=Ben``. The keys are track numbers, or persons in lower case; the values are the texts."""
    texts: dict[int | str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, name = (word.strip() for word in part.partition("="))
        if (face := _parse_key(key)) is None or not equals or not name:
            raise UsageError(
                "name: {value!r} must be a track number or person with a text, such as 1=Anna or P2=Ben",
                code="names_entry",
                value=part,
            )
        texts[face] = name
    return texts


def _parse_key(key: str) -> int | str | None:
    """Parses a track number, or a person (in lower case). Returns None if it is neither."""
    if re.fullmatch(r"[1-9]\d*", key):
        return int(key)
    return key.lower() if is_person_number(key) or is_person_name(key) else None
