"""Checks the frames of an output that were copied as they are coded, without decoding them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from math import inf
from pathlib import Path

from rtface.errors import Interrupted
from rtface.media.formats.coded_headers.bits import annex_b, length_size, prefixed
from rtface.media.read.container import choose_video, open_container, time_base_of
from rtface.trust.check_sidecar import Checked
from rtface.util.text import counted

_SAME_S = 0.004
_SLICES = range(1, 6)  # kinds of units with samples: the others name and describe, and differ between containers


def check_copied(
    found: Checked,
    output: Path,
    input: Path,
    begins: tuple[float, float],
    said: Sequence[Sequence[int]],
    stop: Callable[[], bool] | None = None,
) -> None:
    """Whether the coded frames that a sidecar names are those of the input, slice for slice, at the same times.

    Args:
        found: takes what comes out.
        output, input: films in H.264.
        begins: time of the first frame that was compared, in the output and in the input.
        said: first and last number of the frames that were copied together, in the order of presentation.
    """
    made, source = (_slices(film, first, stop) for film, first in zip((output, input), begins, strict=True))
    known = iter(source)
    time, digest = next(known, (inf, ""))
    for number in (number for first, last in said for number in range(first, last + 1)):
        own, wanted = made[number] if number < len(made) else (inf, "")
        while time < own - _SAME_S:
            time, digest = next(known, (inf, ""))
        if not wanted or abs(time - own) > _SAME_S or digest != wanted:
            found.problems.append(f"frame {number} was copied as it is coded, and is not that of the input any more")
            return
    frames = counted(sum(last + 1 - first for first, last in said))
    found.proofs.append(f"{frames} of {len(made)} are coded as in the input (SHA-256 of their slices)")


def _slices(film: Path, begins: float, stop: Callable[[], bool] | None) -> list[tuple[float, str]]:
    """Time after the first frame, and SHA-256 of the slices, of each coded frame in the order of presentation."""
    rows: list[tuple[float, str]] = []
    with closing(open_container(film)) as container:
        video, _ = choose_video(container, str(film))
        size, base = length_size(bytes(video.codec_context.extradata or b"")), time_base_of(video)
        for packet in container.demux(video):
            if stop is not None and stop():
                raise Interrupted
            if not packet.size or packet.pts is None:
                continue
            data, digest = bytes(packet), hashlib.sha256()
            for unit in prefixed(data, size) if size else annex_b(data):
                if unit and unit[0] & 31 in _SLICES:
                    digest.update(unit.rstrip(b"\0"))
            rows.append((float(packet.pts * base) - begins, digest.hexdigest()))
    return sorted(row for row in rows if row[0] > -_SAME_S)
