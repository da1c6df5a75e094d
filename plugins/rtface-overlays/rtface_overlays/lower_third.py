"""``lower-third``: a name and what somebody is, low in the frame, for a while."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtface.errors import UsageError
from rtface.stages import Canvas, Frame, Run, Sprite, option, state
from rtface.util.foreign import read_regular
from rtface.util.parse import choice, hint, number, time
from rtface.util.toml_dataclass import parse_toml
from rtface_overlays.places import stand
from rtface_overlays.text import Rgba, check_colour, font_for, panel

_PLACES = {"left": "bottom-left", "center": "bottom", "right": "bottom-right"}


@dataclass(frozen=True)
class Template:
    """What a lower third looks like. Lengths are shares of the title's height, but for `size`.

    Attributes:
        size: height of the title, share of the frame's height.
        subtitle_size: of the title's.
        title, subtitle, background, accent: colours.
        bar: width of a bar in the accent colour on the side of the text.
        padding, radius, gap: around the text, of the corners, between the lines.
        font: a file, or "".
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
    font: str = ""


TEMPLATES = {
    "bar": Template(),
    "box": Template(
        background=(255, 255, 255, 235), title=(16, 20, 28, 255), subtitle=(70, 78, 90, 255), bar=0.0, radius=0.35
    ),
    "plain": Template(background=(0, 0, 0, 0), bar=0.0, padding=0.1),
}


def check_template(value: object, shown: str) -> object:
    """A template by name, or from a TOML file with the fields of `Template`."""
    text = str(value)
    if text in TEMPLATES:
        return TEMPLATES[text]
    if not text.endswith(".toml"):
        raise UsageError(
            "{option} must be {templates} or a .toml file, not {value!r}{hint}",
            code="template_choice",
            option=shown,
            templates=", ".join(TEMPLATES),
            value=text,
            hint=hint(text, TEMPLATES),
        )
    try:
        data = parse_toml(read_regular(Path(text).expanduser()).decode())
    except OSError as error:
        raise UsageError(
            "{option}: {path} cannot be read: {why}",
            code="template_unreadable",
            option=shown,
            path=text,
            why=error.strerror,
        ) from None
    except ValueError as error:
        raise UsageError(
            "{option}: {path} is not valid TOML: {why}", code="template_toml", option=shown, path=text, why=error
        ) from None
    known = {field.name: field.default for field in dataclasses.fields(Template)}
    values: dict[str, Any] = {}
    for written, given in data.items():
        key, where = written.replace("-", "_"), f"{text}: {written}"
        if key not in known:
            raise UsageError(
                "{where} is not a key of templates{hint}", code="template_key", where=where, hint=hint(key, known)
            )
        if isinstance(known[key], str):
            values[key] = str(given)
        else:
            values[key] = (check_colour if isinstance(known[key], tuple) else number(0, 10))(given, where)
    return Template(**values)


@dataclass
class LowerThird:
    """A title and a subtitle near the bottom of the frame, from a template, for a limited time."""

    api = 1
    title: str = option(help="the upper line")
    subtitle: str = option("", "the lower line")
    template: Template = option("bar", "bar, box, plain, or a .toml file", check_template)
    place: str = option("left", "left, center or right", choice(*_PLACES))
    start: float = option(0.0, "when it appears: seconds or MM:SS", time)
    end: float | None = option(None, "when it disappears; never without it", time)
    fade: float = option(0.4, "seconds of fading in and out", number(0, 10))
    margin: float = option(0.07, "to the edges, share of the frame's height", number(0, 0.5))
    _made: dict[tuple[float, float], Sprite] = state(dict)
    _run: Run = state(Run)

    def __post_init__(self) -> None:
        if self.end is not None and self.end <= self.start:
            raise UsageError(
                "end={end:g} must come after start={start:g}", code="overlay_end", end=self.end, start=self.start
            )
        self._lines(720.0)

    def begin(self, run: Run) -> None:
        """Takes the clock."""
        self._run = run

    def __call__(self, frame: Frame) -> Frame:
        opacity = self._opacity(self._run.elapsed(frame))
        if opacity <= 0.0:
            return frame
        canvas = Canvas(frame)
        size = canvas.width, canvas.height
        if size not in self._made:
            look, unit = self.template, self.template.size * canvas.height
            made = panel(
                self._lines(canvas.height),
                look.background,
                padding=look.padding * unit,
                radius=look.radius * unit,
                gap=look.gap * unit,
                align=self.place,
                accent=(look.bar * unit, look.accent) if look.bar else None,
            )
            self._made = {size: Sprite(made)}
        sprite = self._made[size]
        shrink = min(1.0, (canvas.width - 2 * self.margin * canvas.height) / sprite.width)
        wide, high = sprite.width * shrink, sprite.height * shrink
        x, y = stand(_PLACES[self.place], (wide, high), size, self.margin * canvas.height)
        canvas.draw(sprite, (x, y, x + wide, y + high), opacity)
        return canvas.frame

    def _opacity(self, seconds: float) -> float:
        if seconds < self.start or (self.end is not None and seconds >= self.end):
            return 0.0
        if self.fade <= 0:
            return 1.0
        left = self.fade if self.end is None else self.end - seconds
        return min(1.0, (seconds - self.start) / self.fade, left / self.fade)

    def _lines(self, height: float) -> list[tuple[str, Any, Rgba]]:
        look, unit = self.template, self.template.size * height
        font = Path(look.font).expanduser() if look.font else None
        both = self.title + self.subtitle  # one font for the two
        lines = [(self.title, font_for(both, unit, font), look.title)]
        if self.subtitle:
            lines.append((self.subtitle, font_for(both, unit * look.subtitle_size, font), look.subtitle))
        return lines
