"""The contact sheet as one HTML file with a before|after slider for each face; it loads nothing else."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files

import numpy as np

from rtface.contact_sheet.draw import crop_of
from rtface.contact_sheet.labels import cell_label, row_label
from rtface.contact_sheet.restore import SheetRow, Variant, usual
from rtface.frame import Bytes
from rtface.media.stills.image_write import encode_by
from rtface.pipeline.show_invented import legend_image
from rtface.util.av_arrays import image_from_array


def page(
    rows: Sequence[SheetRow], variants: Sequence[Variant], title: str, generator: str, command: Callable[[Variant], str]
) -> str:
    """The page as text.

    Args:
        rows, variants: of the sheet.
        title: its heading.
        generator: the program and its version.
        command: the command line that enhances the whole input as a variant does.
    """
    shell = (files("rtface.contact_sheet") / "page.html").read_text(encoding="utf-8")
    parts = {
        "TITLE": escape(title),
        "GENERATOR": escape(generator),
        "COMMAND": escape(command(usual(variants))),
        "LEGEND": _legend() if any(variant.invented for variant in variants) else "",
        "ROWS": "\n".join(_row(number, row, variants, command) for number, row in enumerate(rows, 1)),
    }
    for name, text in parts.items():  # rows come last: their texts are not searched
        shell = shell.replace(f"@{name}@", text)
    return shell


def _row(number: int, row: SheetRow, variants: Sequence[Variant], command: Callable[[Variant], str]) -> str:
    place, *facts = (escape(line) for line in row_label(row, scale=False))
    first = usual(variants)
    names = {variant: escape(cell_label(row, variant), quote=True) for variant in variants}
    images = "\n".join(
        f'<img class="after" src="{_data(crop_of(row, variant))}" alt="face {number}, {name}"'
        f"{'' if variant is first else ' hidden'}>"
        for variant, name in names.items()
    )
    choices = "\n".join(
        f'<label><input type="radio" name="face{number}" data-name="{name}" '
        f'data-command="{escape(command(variant), quote=True)}"{" checked" if variant is first else ""}> '
        f"{name}</label>"
        for variant, name in names.items()
    )
    return f"""<section aria-labelledby="face{number}">
<div class="seen"><div class="pair">
<img src="{_data(row.shown.before)}" alt="face {number}, input">
{images}
<span class="left" aria-hidden="true">input</span><span class="right" aria-hidden="true">{names[first]}</span>
</div>
<input type="range" min="0" max="100" value="50" aria-label="face {number}: share of the input that is shown"></div>
<div><h2 id="face{number}">Face {number}: {place}</h2>
<fieldset><legend>Engine and strength</legend>
{choices}
</fieldset>
<ul>{"".join(f"<li>{fact}</li>" for fact in facts)}</ul></div>
</section>"""


def _legend() -> str:
    what = "a scale of colours: from blue, off by 0 of 255, to yellow, by 40 or more; nine of ten samples are nearer"
    return (
        "<p>“Invented” shows how far a sample may be from the truth:<br>"
        f'<img src="{_data(legend_image()[..., :3])}" alt="{what}"></p>'
    )


def _data(crop: Bytes) -> str:
    """A crop (uint8 RGB) as the address of an image that is part of the page: lossless WebP, half of a PNG's size."""
    image = image_from_array(np.ascontiguousarray(crop), "rgb").reformat(format="bgra")
    webp = encode_by("libwebp", image, {"lossless": "1", "compression_level": "1"})
    return "data:image/webp;base64," + base64.b64encode(webp).decode()
