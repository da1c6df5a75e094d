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
    rows: Sequence[SheetRow],
    variants: Sequence[Variant],
    title: str,
    generator: str,
    command: Callable[[Variant], str],
    look: str,
) -> str:
    """The page as text.

    Args:
        rows, variants: of the sheet.
        title: its heading.
        generator: the program and its version.
        command: the command line that enhances the whole input as a variant does.
        look: of the run.
    """
    legend = _legend(look) if any(variant.invented for variant in variants) and rows[0].corrected else ""
    rows_of = "\n".join(_row(number, row, variants, command) for number, row in enumerate(rows, 1))
    folder = files("rtface.contact_sheet")
    text, header, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.html", "try.html", "try.js"))
    parts = {
        "HEADER": header,
        "SCRIPT": script,
        "TITLE": escape(title),
        "GENERATOR": escape(generator),
        "COMMAND": escape(command(usual(variants))),
        "LEGEND": legend,
        "ROWS": rows_of,
    }
    for name, part in parts.items():  # rows come last: their texts are not searched
        text = text.replace(f"@{name}@", part)
    return text


def _pair(before: Bytes, afters: str, alt: str, name: str) -> str:
    """A pair as HTML: the crop of the input (uint8 RGB), images of what a run gave, and the slider between them.

    Args:
        alt: whose face it is.
        name: of what is shown at the right, escaped.
    """
    return f"""<div class="seen"><div class="pair">
<img src="{_data_address(before)}" alt="{alt}, input">
{afters}
<span class="left" aria-hidden="true">input</span><span class="right" aria-hidden="true">{name}</span>
</div>
<input type="range" min="0" max="100" value="50" aria-label="{alt}: share of the input that is shown"></div>"""


def _row(number: int, row: SheetRow, variants: Sequence[Variant], command: Callable[[Variant], str]) -> str:
    place, *facts = (escape(line) for line in row_label(row, scale=False))
    heading = f'<h2 id="face{number}">Face {number}: {place}</h2>'
    listed = f"<ul>{''.join(f'<li>{fact}</li>' for fact in facts)}</ul>"
    if not row.corrected:  # all pictures are the same
        image = f'<img src="{_data_address(row.shown.before)}" alt="face {number}, input">'
        return f'<section aria-labelledby="face{number}">\n{image}\n<div>{heading}\n{listed}</div>\n</section>'
    first = usual(variants)
    names = {variant: escape(cell_label(row, variant), quote=True) for variant in variants}
    images = "\n".join(
        f'<img class="after" src="{_data_address(crop_of(row, variant))}" alt="face {number}, {name}"'
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
{_pair(row.shown.before, images, f"face {number}", names[first])}
<div>{heading}
<fieldset><legend>Engine and strength</legend>
{choices}
</fieldset>
{listed}</div>
</section>"""


def _legend(look: str) -> str:
    what = "a scale of colours: from blue, off by 0 of 255, to yellow, by 40 or more"
    what += "; nine of ten samples are nearer" if look == "faithful" else "; an estimate"
    return (
        "<p>“Invented” shows how far a sample may be from the truth:<br>"
        f'<img src="{_data_address(legend_image(look)[..., :3])}" alt="{what}"></p>'
    )


def _data_address(crop: Bytes) -> str:
    """A crop (uint8 RGB) as the address of an image that is part of the page: lossless WebP, half of a PNG's size."""
    image = image_from_array(np.ascontiguousarray(crop), "rgb").reformat(format="bgra")
    webp = encode_by("libwebp", image, {"lossless": "1", "compression_level": "1"})
    return "data:image/webp;base64," + base64.b64encode(webp).decode()
