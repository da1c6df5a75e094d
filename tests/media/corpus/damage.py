"""Runs rtface over damaged copies of a file: ``python -m tests.media.corpus.damage FOLDER KIND COUNT``.

Each copy has some bytes changed, moved or cut off. What is not an error of rtface ends the program with a traceback; a
library that crashes ends it by a signal.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import rtface
from rtface.errors import RtfaceError
from tests.media.conftest import make_film
from tests.media.corpus.files import FILES, cineon, noise

FILMS = {
    ".mp4": "libx264",
    ".mov": "prores_ks",
    ".mkv": "libx265",
    ".webm": "libvpx-vp9",
    ".avi": "mpeg4",
    ".ts": "mpeg2video",
    ".flv": "flv1",
    ".mxf": "mpeg2video",
}
STILLS = sorted({Path(name).suffix for name in FILES} | {".cin"})


def damaged(data: bytes, draw: np.random.Generator) -> bytes:
    """Changes up to eight bytes, most of them in the header, and at times cuts or doubles a part."""
    changed = bytearray(data)
    for _ in range(draw.integers(1, 9)):
        end = min(len(changed), 600) if draw.random() < 0.7 else len(changed)
        changed[draw.integers(0, end)] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.integers(0, 256)])
    at, size = int(draw.integers(0, len(changed))), int(draw.integers(1, 64))
    match draw.integers(0, 6):
        case 0:
            del changed[at:]
        case 1:
            del changed[at : at + size]
        case 2:
            changed[at:at] = changed[at : at + size]
    return bytes(changed)


def originals(folder: Path, kind: str) -> list[bytes]:
    """The corpus' files of a kind of still, or a film."""
    if kind in FILMS:
        codec, pix_fmt = FILMS[kind], "yuv422p10le" if kind == ".mov" else "yuv420p"
        return [make_film(folder / f"a{kind}", codec=codec, pix_fmt=pix_fmt, frames=4, size=(64, 48)).read_bytes()]
    if kind == ".cin":
        return [cineon(noise(3, np.uint16) >> 6)]
    return [make() for name, make in FILES.items() if Path(name).suffix == kind]


def main() -> None:
    """Runs over so many copies; prints how many became an output."""
    folder, kind, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    files, draw, done = originals(folder, kind), np.random.default_rng(1), 0
    source, output = folder / f"damaged{kind}", folder / ("out.mkv" if kind in FILMS else "out.png")
    for number in range(count):
        source.write_bytes(damaged(files[number % len(files)], draw))
        print(number, flush=True)
        try:
            rtface.run(source, output, tracker="none", engine="rtface-s", threads=1, overwrite=True)
        except RtfaceError:
            continue
        done += 1
    print(f"{kind}: {done} of {count} became an output")


if __name__ == "__main__":
    main()
