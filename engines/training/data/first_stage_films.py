"""Degrades films that are not enlarged after coding. Also applies the first stage."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from rtface.analysis.treatment import expected_share
from rtface.engine.coded_network import CodedNetwork
from training.crop_space import F32, U8
from training.data.coded_pairs import before_coding, coded
from training.data.moving_face import Film

HIDDEN_SHARE = 0.3
"""Share of films with hidden quantiser steps."""
SHARE_RANGE = (0.4, 1.0)
"""Range of the share of the first stage's correction that is applied, if the correction is expected to help."""


def degrade(film: Film, times: list[float], keep: set[int]) -> Iterator[tuple[int, U8, U8]]:
    """Yields (frame number, clean, engine input) for frames in ``keep``. Yields nothing if the codec drops frames."""
    r = film.rng
    truths, inputs, coding = before_coding([film.render(t) for t in times], r)
    seen = coded(inputs, coding)
    if len(seen) < len(times):
        return
    steps_hidden, share = bool(r.uniform() < HIDDEN_SHARE), float(r.uniform(*SHARE_RANGE))
    for i in sorted(keep):
        picture, steps = seen[i]
        yield i, truths[i], clean(picture, None if steps_hidden or not np.isfinite(steps).all() else steps, share)


def clean(picture: U8, steps: F32 | None, share: float) -> U8:
    """Applies the first stage to a picture with strength ``share``. Sides must be multiples of 16."""
    change, (before, after) = _network()(picture, steps)
    share *= expected_share(float(before.mean()), float(after.mean()))
    return np.rint(np.clip(picture + 255 * share * change.transpose(1, 2, 0), 0, 255)).astype(np.uint8)


@cache
def _network() -> CodedNetwork:
    return CodedNetwork(1)
