"""``lower-third``: a name and a description near the bottom of the frame, for a limited time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtface.errors import UsageError
from rtface.stages import Canvas, Frame, Run, Sprite, option, state
from rtface.util.parse import choice, number, path, time
from rtface_overlays.places import stand
from rtface_overlays.text import Rgba, check_colour, font_for, panel

_PLACES = {"left": "bottom-left", "center": "bottom", "right": "bottom-right"}


@dataclass(frozen=True)
class Template:
    """Look of a lower third. Lengths are shares of the title's height, except `size`.

    Attributes:
        size: height of the title, share of the frame's height.
        subtitle_size: height of the subtitle.
        title, subtitle, background, accent: colours of the parts.
        bar: width of a bar in the accent colour beside the text; 0 for none.
        padding, radius, gap: space around the text, radius of the corners, and space between the lines.
    """

    size: float = 0.05
    subtitle_size: float = 0.62
    title: Rgba = (255, 255, 255, 255)
    subtitle: Rgba = (214, 220, 228, 255)
    background: Rgba = (16, 20, 28, 205)
    accent: Rgba = (255, 170, 0, 255)
    bar: float = 0.16
    padding: float = 0.55
    radius: float = 0.0
    gap: float = 0.0


TEMPLATES = {
    "bar": Template(),
    "box": Template(
        background=(255, 255, 255, 235), title=(16, 20, 28, 255), subtitle=(70, 78, 90, 255), bar=0.0, radius=0.35
    ),
    "plain": Template(background=(0, 0, 0, 0), bar=0.0, padding=0.1),
}


@dataclass
class LowerThird:
    """A title and subtitle near the bottom, for a limited time."""

    api = 1
    title: str = option(help="the upper line")
    subtitle: str = option("", "the lower line")
    template: str = option("bar", "bar, box or plain", choice(*TEMPLATES))
    accent: Rgba | None = option(None, "colour of the bar; default: the template's", check_colour)
    place: str = option("left", "left, center or right", choice(*_PLACES))
    start: float = option(0.0, "when it appears: seconds or MM:SS", time)
    end: float | None = option(None, "when it disappears; default: never", time)
    fade: float = option(0.4, "seconds of fading in and out", number(0, 10))
    margin: float = option(0.07, "distance to the edges, share of the frame's height", number(0, 0.5))
    font: Path | None = option(None, "a .ttf or .otf file", path)
    _sprites: dict[tuple[float, float], Sprite] = state(dict)
    _run: Run = state(Run)

    def __post_init__(self) -> None:
        if self.end is not None and self.end <= self.start:
            raise UsageError(
                "end={end:g} must come after start={start:g}", code="overlay_end", end=self.end, start=self.start
            )
        self._lines(720.0)  # reports a font that lacks a letter before the run starts

    def begin(self, run: Run) -> None:
        """Stores the run. Its clock times the overlay."""
        self._run = run

    def __call__(self, frame: Frame) -> Frame:
        opacity = self._opacity(self._run.elapsed(frame))
        if opacity <= 0.0:
            return frame
        canvas = Canvas(frame)
        size = canvas.width, canvas.height
        if size not in self._sprites:
            style = TEMPLATES[self.template]
            unit = style.size * canvas.height
            image = panel(
                self._lines(canvas.height),
                style.background,
                padding=style.padding * unit,
                radius=style.radius * unit,
                gap=style.gap * unit,
                align=self.place,
                accent=(style.bar * unit, self.accent or style.accent) if style.bar else None,
            )
            self._sprites = {size: Sprite(image)}
        sprite = self._sprites[size]
        shrink = min(1.0, (canvas.width - 2 * self.margin * canvas.height) / sprite.width)
        width, height = sprite.width * shrink, sprite.height * shrink
        x, y = stand(_PLACES[self.place], (width, height), size, self.margin * canvas.height)
        canvas.draw(sprite, (x, y, x + width, y + height), opacity)
        return canvas.frame

    def _opacity(self, seconds: float) -> float:
        if seconds < self.start or (self.end is not None and seconds >= self.end):
            return 0.0
        if self.fade <= 0:
            return 1.0
        remaining = self.fade if self.end is None else self.end - seconds
        return min(1.0, (seconds - self.start) / self.fade, remaining / self.fade)

    def _lines(self, height: float) -> list[tuple[str, Any, Rgba]]:
        style = TEMPLATES[self.template]
        unit = style.size * height
        text = self.title + self.subtitle  # both lines use the same font
        lines = [(self.title, font_for(text, unit, self.font), style.title)]
        if self.subtitle:
            lines.append((self.subtitle, font_for(text, unit * style.subtitle_size, self.font), style.subtitle))
        return lines
