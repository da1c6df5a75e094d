"""``label``: a fixed disclosure in the frame, such as "AI-enhanced"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rtface.stages import Canvas, Frame, Run, Sprite, option, state
from rtface.util.parse import choice, number, path
from rtface_overlays.places import PLACES, stand
from rtface_overlays.text import Rgba, check_colour, font_for, panel

PRESETS = {"none": ("AI-enhanced", "bottom-right"), "eu-modified": ("AI MODIFIED", "top-right")}
"""Text and place of each preset. eu-modified follows the EU's code of practice for modified films."""
# Seconds without a frame after which a live source counts as paused.
_PAUSE_S = 1.0


@dataclass
class Label:
    """A fixed text, such as "AI-enhanced"."""

    api = 1
    preset: str = option("none", "eu-modified: AI MODIFIED, top right", choice(*PRESETS))
    text: str = option("", "the text; empty: the preset's text")
    place: str = option(
        "auto", "top-left, top, top-right, left, center, … bottom-right; auto: the preset's", choice("auto", *PLACES)
    )
    seconds: float = option(
        0.0, "seconds it is shown at the start and, in live runs, after every pause; 0: always", number(0, 86_400)
    )
    size: float = option(0.03, "height of the text, share of the frame's height", number(0.005, 0.5))
    margin: float = option(0.025, "distance to the frame's edge, share of its height", number(0, 0.5))
    opacity: float = option(0.85, "0…1", number(0, 1))
    colour: Rgba = option("#ffffff", "colour of the text", check_colour)
    background: Rgba = option("#0000008c", "colour of the panel; none for no panel", check_colour)
    font: Path | None = option(None, "a .ttf or .otf file", path)
    _sprites: dict[tuple[float, float], Sprite] = state(dict)
    _run: Run = state(Run)
    _start: float | None = state(lambda: None)
    _last_time: float = state(float)

    def __post_init__(self) -> None:
        text, place = PRESETS[self.preset]
        self.text, self.place = self.text or text, place if self.place == "auto" else self.place
        font_for(self.text, 20, self.font)  # reports a font that lacks a letter before the run starts

    def begin(self, run: Run) -> None:
        """Stores the run. Its clock times the label."""
        self._run = run

    def _is_due(self, frame: Frame) -> bool:
        """Tests whether the label must be shown on a frame."""
        if not frame.enhancing and not frame.generated and re.match(r"AI\b", self.text):
            self._start = None  # the label's time restarts when the correction does
            return False
        output_start, paused = self._run.begins, self._run.live and frame.time - self._last_time > _PAUSE_S
        if output_start is not None:
            self._start = output_start  # a time of the film, because a segment may start in the middle of the film
        elif self._start is None or paused:
            self._start = frame.time
        self._last_time = frame.time
        return not self.seconds or frame.new or frame.time - self._start < self.seconds

    def __call__(self, frame: Frame) -> Frame:
        if not self._is_due(frame):
            return frame
        canvas = Canvas(frame)
        size = canvas.width, canvas.height
        if size not in self._sprites:
            height = self.size * canvas.height
            font = font_for(self.text, height, self.font)
            self._sprites = {
                size: Sprite(
                    panel([(self.text, font, self.colour)], self.background, padding=0.5 * height, radius=0.35 * height)
                )
            }
        sprite = self._sprites[size]
        x, y = stand(self.place, (sprite.width, sprite.height), size, self.margin * canvas.height)
        canvas.draw(sprite, (x, y, x + sprite.width, y + sprite.height), self.opacity)
        return canvas.frame
