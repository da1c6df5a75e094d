"""Checks the frames of an output that were copied as they are coded, without decoding them."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from rtface.trust.check_sidecar import Checked
from rtface.trust.packet_hashes import PacketHashes
from rtface.util.text import counted

_SAME_S = 0.004


def check_copied(
    found: Checked,
    made: PacketHashes,
    source: PacketHashes,
    begins: tuple[float, float],
    said: Sequence[Sequence[int]],
) -> None:
    """Whether the coded frames that a sidecar names are those of the input, slice for slice, at the same times.

    Args:
        found: takes what comes out.
        made, source: the picture of output and input, with `slices`.
        begins: time of the first frame that was compared, in the output and in the input.
        said: first and last number of the frames that were copied together, in the order of presentation.
    """
    own_rows, known_rows = (
        sorted((time, digest) for pts, digest in one.rows if (time := float(pts * one.base) - first) > -_SAME_S)
        for one, first in zip((made, source), begins, strict=True)
    )
    known = iter(known_rows)
    time, digest = next(known, (inf, ""))
    for number in (number for first, last in said for number in range(first, last + 1)):
        own, wanted = own_rows[number] if number < len(own_rows) else (inf, "")
        while time < own - _SAME_S:
            time, digest = next(known, (inf, ""))
        if not wanted or abs(time - own) > _SAME_S or digest != wanted:
            found.problems.append(f"frame {number} was copied as it is coded, and is not that of the input any more")
            return
    frames = counted(sum(last + 1 - first for first, last in said))
    found.proofs.append(f"{frames} of {len(own_rows)} are coded as in the input (SHA-256)")
