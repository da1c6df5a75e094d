"""``split``: original and enhanced frame, divided by a line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from rtface.stages import Canvas, Frame, Run, Sprite, option, state
from rtface.util.parse import number, path
from rtface_overlays.text import Rgba, check_colour, font_for, panel

_SWEEP = 0.35  # amplitude of a moving line, share of the width


@dataclass
class Split:
    """Before and after in one frame, with a line between them."""

    api = 1
    needs_before = True
    position: float = option(0.5, "position of the line, share of the width", number(0, 1))
    period: float = option(0.0, "seconds in which the line moves across and back; 0: it does not move", number(0, 600))
    before: str = option("before", "label of the left side; empty for none")
    after: str = option("after", "label of the right side; empty for none")
    width: float = option(0.004, "width of the line, share of the frame's height", number(0, 0.1))
    size: float = option(0.03, "height of the labels, share of the frame's height", number(0.005, 0.5))
    colour: Rgba = option("#ffffff", "colour of line and labels", check_colour)
    background: Rgba = option("#0000008c", "colour behind the labels; none for no panel", check_colour)
    font: Path | None = option(None, "a .ttf or .otf file", path)
    _sprites: dict[tuple[float, float], list[Sprite | None]] = state(dict)
    _run: Run = state(Run)

    def __post_init__(self) -> None:
        font_for(self.before + self.after, 20, self.font)

    def begin(self, run: Run) -> None:
        """Stores the run. Its clock moves the line."""
        self._run = run

    def __call__(self, frame: Frame) -> Frame:
        if frame.before is None:
            return frame
        canvas = Canvas(frame)
        share = self.position
        if self.period > 0:
            swing = math.sin(2 * math.pi * self._run.elapsed(frame) / self.period)
            share = min(max(share + _SWEEP * swing, 0.0), 1.0)
        line = share * canvas.width
        canvas.show(frame.before, (0.0, 0.0, line, canvas.height))
        edge = max(self.width * canvas.height / 2, 1.0)
        if self.width > 0:
            canvas.fill((line - edge, 0.0, line + edge, canvas.height), self.colour[:3], self.colour[3] / 255)
        margin = 0.8 * self.size * canvas.height
        for sprite, on_left in zip(self._labels(canvas), (True, False), strict=True):
            room = line if on_left else canvas.width - line
            if sprite is not None and room > sprite.width + 2 * margin:
                # Labels are placed next to the line, because the stage `label` uses the frame's corners.
                x = 2.0 * round((line - margin - sprite.width if on_left else line + margin) / 2)
                y = 2.0 * round(margin / 2)
                canvas.draw(sprite, (x, y, x + sprite.width, y + sprite.height))
        return canvas.frame

    def _labels(self, canvas: Canvas) -> list[Sprite | None]:
        size = canvas.width, canvas.height
        if size not in self._sprites:
            height = self.size * canvas.height
            self._sprites = {
                size: [
                    Sprite(
                        panel(
                            [(text, font_for(text, height, self.font), self.colour)],
                            self.background,
                            padding=0.5 * height,
                            radius=0.35 * height,
                        )
                    )
                    if text
                    else None
                    for text in (self.before, self.after)
                ]
            }
        return self._sprites[size]
