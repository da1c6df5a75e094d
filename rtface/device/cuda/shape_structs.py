"""The structs of `shape.cu`, field by field."""

from __future__ import annotations

from typing import Any

import numpy as np

from rtface.correct.colour import CELLS, GRID
from rtface.device.cuda.structs import struct_type

_INT, _FLOAT, _ADDRESS = np.int32, np.float32, np.uint64
LINES, TAPS, MIDDLE = 64, 13, 16  # sizes of arrays, as in `shape.cu`
_RESULTS = (
    "cells",
    "crop_cells",
    "samples",
    "texture",
    "change",
    "irises",
    "grain",
    "middle",
    "above",
    "below",
    "detail",
)


def _struct(addresses: tuple[str, ...], **fields: Any) -> np.dtype[np.void]:
    return struct_type(**dict.fromkeys(addresses, _ADDRESS), **fields)


FACE = _struct(
    ("r", "c", "correction", "final", "mask", "occlusion", "across", "own", "power", "soft", "fine", *_RESULTS),
    size=_INT,
    step=_INT,
    side=_INT,
    mask_side=_INT,
    rows=_INT,
    columns=_INT,
    region=(_INT, 4),
    box=(_INT, 4),
    part=(_INT, 4),
    detail_box=(_INT, 4),
    windows=(_INT, (2, 4)),
    eyes=(_FLOAT, (2, 3)),
    wide=_INT,
    own_wide=_INT,
    first=_INT,
    lines=_INT,
    above_rows=(_INT, MIDDLE),
    below_rows=(_INT, MIDDLE),
    taps=(_FLOAT, TAPS),
    own_taps=(_FLOAT, TAPS),
    match=_INT,
    detail_step=_INT,
)
CONTROL = _struct(
    ("sheet",),
    excess=(_FLOAT, (3, GRID, GRID)),
    gate=(_FLOAT, (CELLS, CELLS)),
    detail=(_FLOAT, (CELLS, CELLS)),
    colours=(_FLOAT, (2, 3)),
    own=_FLOAT,
    deviation=_FLOAT,
    made=_FLOAT,
    strength=_FLOAT,
    sheet_x=_INT,
    sheet_y=_INT,
    gated=_INT,
)
SMALL = _struct(("c", "to"), size=_INT, unused=_INT)
AVERAGE = _struct(("r", "mean", "flow", "gate"), size=_INT, x=_INT, y=_INT, columns=_INT, rows=_INT, cubic=_INT)
STRUCTS = {"ShapeFace": FACE, "ShapeControl": CONTROL, "ShapeSmall": SMALL, "ShapeAverage": AVERAGE}
"""The structs by their names in `shape.cu`."""
