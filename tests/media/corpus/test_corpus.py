"""What each format of still keeps when a part of its image is changed; the table of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import rtface
from rtface.errors import InputError, OutputError
from rtface.media.stills.images import plan_image, read_image, write_image
from rtface.util.av_arrays import copy_image, plane_rows
from tests.media.corpus.facts import facts_of, lacking
from tests.media.corpus.files import FILES, OTHERS
from tests.media.corpus.film_facts import film_facts
from tests.media.corpus.films import FILMS, write_film

_PRIVATE = "-exif 65000"
LOST = {
    ("420.jpg", ".jpg"): "samples: ≤3",
    ("444.jpg", ".jpg"): "samples: ≤3",
    ("progressive.jpg", ".jpg"): "samples: ≤3",
    ("gray.jpg", ".jpg"): "samples: ≤1",
    ("lossy.webp", ".webp"): "samples: ≤11",
    **{(name, ".tif"): _PRIVATE for name in FILES if name.endswith(".tif")},
    **{(name, ".tif"): "+exif 274" for name in ("jpeg.tif", "lzw.tif", "ink.tif")},
    ("palette.tif", ".tif"): "samples: ≤1 +exif 274",
    ("float.tif", ".tif"): f"{_PRIVATE} samples: float32→uint16",
    ("420.jpg", ".png"): "-iptc ≠exif 274",
    ("420.jpg", ".tif"): "-text Comment",
    ("420.jpg", ".webp"): "-dpi -iptc -text Comment",
    ("rgb8.png", ".jpg"): "-text Title -text Note -tIME",
    ("rgb8.png", ".tif"): "-text Title -text Note -tIME",
    ("rgb8.png", ".webp"): "-dpi -text Title -text Note -tIME",
    ("rgb16.tif", ".png"): f"≠exif 274 {_PRIVATE} -iptc -iim",
    ("rgb16.tif", ".jpg"): f"{_PRIVATE} -iim",
    ("alpha.webp", ".png"): "≠exif 274",
}
"""What an output does not keep, by file and extension: "-" gone, "≠" other, "+" added, "≤" how far samples are off."""


def through(source: Path, output: Path) -> None:
    """Writes a still again with 8×8 samples changed."""
    still = read_image(source)
    image = copy_image(still.frame.image)
    rows = plane_rows(image.planes[0])
    size = rows.shape[1] // image.width if image.format.is_planar else image.format.padded_bits_per_pixel // 8
    rows[8:16, 8 * max(1, size) : 16 * max(1, size)] ^= 16 if image.format.components[0].bits == 8 else 1
    write_image(replace(still.frame, image=image, corrected=True), plan_image(output, still=still), still=still)


def found(folder: Path, name: str, suffix: str) -> str:
    """What is not kept of a file of the corpus that becomes another of a kind; how the run refuses it."""
    source, output = folder / name, folder / f"out{suffix}"
    source.write_bytes(FILES[name]())
    try:
        through(source, output)
    except (InputError, OutputError) as error:
        return f"refused: {error.code}"
    same = suffix == source.suffix
    before, after = (facts_of(path.read_bytes(), path.suffix[1:]) for path in (source, output))
    return lacking(before, after, samples=same)


CASES = [
    *((name, Path(name).suffix) for name in FILES),
    *((name, suffix) for name, suffixes in OTHERS.items() for suffix in suffixes),
]


@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_what_is_kept(tmp_path: Path, name: str, suffix: str) -> None:
    assert found(tmp_path, name, suffix) == LOST.get((name, suffix), "")


TABLE = Path(__file__).with_name("films.txt")
"""What outputs of films do not keep: a little other is "~"; "unsaid" where no message says it."""


def film_losses(folder: Path, name: str) -> list[str]:
    """Lines of the table: a film that becomes others, each of a container and maybe a codec."""
    source, lines = write_film(name, folder / name), list[str]()
    before = film_facts(source)
    for kind in FILMS[name][1].split(","):
        suffix, _, codec = kind.partition(" ")
        output = folder / f"{name}-{len(lines)}{suffix}"
        try:
            report = rtface.run(source, output, tracker="none", sequence=source.is_dir(), codec=codec or None)
        except (InputError, OutputError) as error:
            lines.append(f"{name} → {kind}: refused: {error.code}")
            continue
        lost = lacking(before, film_facts(output), samples=False)
        said = any("no face was" not in note for note in report.notes + report.warnings)
        if not said and re.search(r"[-≠](?!((audio |subtitle )?codec|format|rate|siting))", lost):
            lost += " unsaid"
        lines.append(f"{name} → {kind}: {lost}".rstrip())
    return lines


@pytest.mark.parametrize("name", FILMS)
def test_what_is_kept_of_films(tmp_path: Path, name: str) -> None:
    table = TABLE.read_text(encoding="utf-8").splitlines()
    assert film_losses(tmp_path, name) == [line for line in table if line.startswith(f"{name} ")]


if __name__ == "__main__":  # prints the table of films
    with TemporaryDirectory() as temporary:
        for film in FILMS:
            print(*film_losses(Path(temporary), film), sep="\n", flush=True)
