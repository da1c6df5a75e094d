"""Draws texts and panels as images with alpha."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont

from rtface.errors import UsageError
from rtface.frame import Bytes
from rtface.util.foreign import open_regular
from rtface.util.parse import hint

Rgba = tuple[int, int, int, int]
Font = Any  # ImageFont.FreeTypeFont; Pillow's stubs type the result of `load_default` as a union

# Common system fonts, for glyphs that the built-in font (Aileron, ASCII) lacks.
_FALLBACK = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "segoeui.ttf",
    "arial.ttf",
    "Arial.ttf",
    "Arial Unicode.ttf",
    "Helvetica.ttc",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
    "PingFang.ttc",
)
_FACTOR = 4  # factor by which panels are drawn larger, for smooth corners


def check_colour(value: object, option_name: str) -> object:
    """Parses a colour to R, G, B, A (0…255): #rgb, #rrggbb, #rrggbbaa, a CSS name, rgb(…), or none."""
    text = str(value).strip().lower()
    if text == "none":
        return (0, 0, 0, 0)
    try:
        return ImageColor.getcolor(text, "RGBA")
    except ValueError:
        raise UsageError(
            "{option} must be a colour such as #ffcc00, #00000080, white or none, not {value!r}{hint}",
            code="colour_value",
            option=option_name,
            value=value,
            hint=hint(text, ImageColor.colormap),
        ) from None


def font_for(text: str, size: float, path: Path | None = None) -> Font:
    """Finds a font that has every letter of a text. With `path`, opens this font without checking its letters.

    Raises:
        UsageError: `path` is not a font, or no available font has all letters.
    """
    size = max(size, 4.0)
    if path is not None:
        try:
            open_regular(path).close()  # a pipe would block
            return ImageFont.truetype(str(path), size)
        except OSError as error:
            raise UsageError(
                "font={path} cannot be used ({why}); choose a .ttf or .otf file",
                code="font_unusable",
                path=path,
                why=error.strerror or error,
            ) from None
    built_in: Font = ImageFont.load_default(size)
    missing = _missing_letters(built_in, text)
    if not missing:
        return built_in
    for name in _FALLBACK:
        try:
            font = ImageFont.truetype(name, size)
        except OSError:
            continue
        missing = min(missing, lacking := _missing_letters(font, text), key=len)  # keeps the shortest list
        if not lacking:
            return font
    raise UsageError(
        "no installed font has {letters!r}; choose another with font=FILE.ttf", code="font_missing", letters=missing
    )


def _missing_letters(font: Font, text: str) -> str:
    placeholder = bytes(font.getmask("\uffff"))
    return "".join(dict.fromkeys(c for c in text if not c.isspace() and bytes(font.getmask(c)) == placeholder))


def panel(
    lines: Sequence[tuple[str, Font, Rgba]],
    background: Rgba,
    *,
    padding: float,
    radius: float = 0.0,
    gap: float = 0.0,
    align: str = "left",
    accent: tuple[float, Rgba] | None = None,
) -> Bytes:
    """Draws lines of text on a panel.

    Args:
        lines: text, font and colour of each line.
        background: colour of the panel; alpha 0 draws only the text.
        padding: pixels left and right of the text; half as many above and below.
        radius: radius of the corners in pixels.
        gap: pixels between lines.
        align: "left", "right" or "center".
        accent: width and colour of a bar on the side to which lines are aligned.

    Returns:
        uint8 h×w×4, straight alpha.
    """
    bar = accent[0] if accent else 0.0
    metrics = [font.getmetrics() for _, font, _ in lines]
    widths = [font.getlength(text) for text, font, _ in lines]
    width = round(max(widths) + 2 * padding + bar)
    height = round(sum(up + down for up, down in metrics) + gap * (len(lines) - 1) + padding)
    image = _rounded_panel((width, height), radius, background)
    bar_on_left = align != "right"
    if accent:
        bar_area = (0, 0, round(bar), height) if bar_on_left else (width - round(bar), 0, width, height)
        image.paste(accent[1], bar_area)
    y = padding / 2
    for (text, font, fill), extent, (up, down) in zip(lines, widths, metrics, strict=True):
        x = {"left": bar + padding, "right": width - bar - padding - extent}.get(align, (width - extent) / 2)
        if not background[3]:  # without a panel, a soft shadow keeps the text readable on any frame
            shadow = Image.new("L", image.size, 0)
            ImageDraw.Draw(shadow).text((x, y), text, font=font, fill=230, stroke_width=max(1.0, 0.03 * (up + down)))
            blurred = shadow.filter(ImageFilter.GaussianBlur(0.06 * (up + down)))
            shadow_layer = Image.new("RGBA", image.size, (0, 0, 0, 0) if sum(fill[:3]) > 380 else (255, 255, 255, 0))
            shadow_layer.putalpha(blurred)
            image = Image.alpha_composite(image, shadow_layer)
        text_layer = Image.new("RGBA", image.size, (*fill[:3], 0))
        ImageDraw.Draw(text_layer).text((x, y), text, font=font, fill=fill)
        image = Image.alpha_composite(image, text_layer)
        y += up + down + gap
    return np.array(image)


def _rounded_panel(size: tuple[int, int], radius: float, fill: Rgba) -> Image.Image:
    image = Image.new("RGBA", size, fill)
    if radius > 0 and fill[3]:
        mask = Image.new("L", (size[0] * _FACTOR, size[1] * _FACTOR), 0)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), radius * _FACTOR, fill[3])
        image.putalpha(mask.resize(size, Image.Resampling.BOX))
    return image
