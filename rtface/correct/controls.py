"""Decides a correction's parameters from measurements, identically on every device.

Shaping takes three steps: a device measures an engine's answer and its crop at full resolution (`Measures`), `decide`
sets the parameters (`Controls`), and the device applies them. `CpuShaper` does the first and the last step on the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rtface.correct.colour import (
    GRID,
    chroma_limit,
    enlarging,
    excess,
    low_frequencies,
    luma_of,
)
from rtface.correct.detail import DetailWeights
from rtface.correct.eyes import Iris, lost_colour, means_of_cells
from rtface.correct.face_region import FaceRegion, KeptMask
from rtface.correct.flecks import FleckLimit
from rtface.correct.grain import Grain, GrainMatcher, Texture, highpass
from rtface.correct.mask import residual_gate
from rtface.correct.openings import OpeningLimit
from rtface.correct.reproject import Reprojection
from rtface.correct.temporal import TemporalAverage
from rtface.errors import EngineError
from rtface.frame import Box, Float32
from rtface.protocols import ShapeTask, ShapingOptions


@dataclass(slots=True)
class CorrectionState:
    """State of one track's correction between frames."""

    average: TemporalAverage = field(default_factory=TemporalAverage)
    grain: GrainMatcher = field(default_factory=GrainMatcher)
    key: Reprojection = field(default_factory=Reprojection)
    openings: OpeningLimit = field(default_factory=OpeningLimit)
    flecks: FleckLimit = field(default_factory=FleckLimit)
    detail: DetailWeights = field(default_factory=DetailWeights)
    mask: KeptMask = field(default_factory=KeptMask)
    gate: Float32 | None = None
    time: float = 0.0

    def reset(self) -> None:
        """Resets everything, after a cut, a seek, or a long gap."""
        CorrectionState.__init__(self)


def state_of(task: ShapeTask) -> CorrectionState:
    """Returns the correction state of a face's track."""
    assert isinstance(task.state, CorrectionState)
    return task.state


@dataclass(frozen=True, slots=True)
class Measures:
    """Measurements of an engine's answer r and crop c in one `FaceRegion`. Both have the side S, and d = r − c.

    Attributes:
        cells: float32 3×64×64, averages of d.
        crop_cells: float32 3×64×64, averages of c.
        samples: float32 3×n×n, c at every `step`-th sample in both directions.
        irises: float32 2×3, each iris's mean colour in c.
        changes: float32 2×3, each iris's mean colour in d.
        texture: fine structure of c and d; None if `grain` is "none".
        detail: float32 2×64×64, `detail.products(…)`; None if no detail is scaled.
    """

    cells: Float32
    crop_cells: Float32
    samples: Float32
    irises: Float32
    changes: Float32
    texture: Texture | None
    detail: Float32 | None = None


@dataclass(frozen=True, slots=True)
class Controls:
    """Parameters of the full-resolution step. With mask m, gate g (enlarged bilinearly) and occlusion o:

        d ← (r − c) − up(excess) + the irises' colours + grain + scaled detail
        final mask = m·g·(1 − o)        correction = strength·d·final mask        in the box; 0 outside it

    Attributes:
        size: S, the side of the crop.
        box: x0, y0, x1, y1, as in `FaceRegion`.
        part: x0, y0, x1, y1, as in `FaceRegion`; grain is added to this part.
        strength: 0…1.
        excess: float32 3×32×32, low frequencies to remove; enlarged bilinearly.
        irises: the irises in the box.
        colours: float32 2×3, colours to add to the irises, see `eyes.lost_colour`.
        grain: the grain to add, or None.
        gate: float32 64×64; None if the gate is open everywhere.
        detail: float32 64×64, weights for `detail.add_scaled`; None if no detail is scaled.
    """

    size: int
    box: Box
    part: Box
    strength: float
    excess: Float32
    irises: tuple[Iris | None, ...]
    colours: Float32
    grain: Grain | None
    gate: Float32 | None
    detail: Float32 | None = None


def decide(
    measures: Measures, area: FaceRegion, state: CorrectionState, options: ShapingOptions, *, time: float, seed: int = 0
) -> Controls:
    """Decides the parameters of one face's correction.

    Args:
        measures: measurements of the answer and the crop.
        area: the face in its crop.
        state: state of the face's track; it is changed.
        options: the user's settings.
        time: seconds, rising within a track.
        seed: number that determines the synthetic grain of this track and frame.

    Raises:
        EngineError: the engine's answer contains NaN or infinity; `state` is reset.
    """
    if not math.isfinite(float(measures.cells.sum())):
        state.reset()
        raise EngineError(
            "an engine's answer contains NaN or infinite values; the frame is not changed", code="frame_not_finite"
        )
    gate = _gate(measures.cells, area.weight, state, time) if options.gate else None
    for limit in (
        state.openings.update(area.openings, measures.cells, measures.samples, time),
        state.flecks.update(measures.crop_cells, time),
    ):
        if limit is not None:
            gate = limit if gate is None else gate * limit
    removed = excess(low_frequencies(measures.cells), chroma_limit(measures.samples))
    changes = measures.changes - means_of_cells(removed, area.size, area.irises)
    grain: Grain | None = None
    if options.grain != "none":
        assert measures.texture is not None
        texture = _without_excess(measures.texture, area, removed)
        grain = state.grain.decide(texture, measures.samples, area, time=time, seed=seed)
    detail = None
    if measures.detail is not None:
        detail = state.detail.update(measures.detail, options.detail, time)
    state.time = time
    return Controls(
        area.size,
        area.box,
        area.part,
        options.strength,
        removed,
        area.irises,
        np.zeros_like(changes) if options.known else lost_colour(measures.irises, changes),
        grain,
        gate,
        detail,
    )


_RELEASE_S = 0.25  # time in which a closed gate opens again; gates close at once


def _gate(cells: Float32, weight: Float32, state: CorrectionState, time: float) -> Float32 | None:
    """Returns the residual gate, or None if open everywhere. The gate closes at once and opens slowly."""
    gate = residual_gate(cells, weight)
    previous = state.gate
    if previous is not None:
        step = np.float32(max(time - state.time, 0.0) / _RELEASE_S)
        np.minimum(gate, previous + step, out=gate)
    state.gate = gate
    return None if float(gate.min()) >= 1.0 else gate


def _without_excess(texture: Texture, area: FaceRegion, removed: Float32) -> Texture:
    """Returns the texture after removal of the excess from the correction."""
    x0, y0, x1, y1 = area.part
    larger = enlarging(GRID, area.size)
    lines = highpass(np.ascontiguousarray(larger[x0:x1].T), area.scale, rows=True)[:, :: area.step]
    change: Any = texture.change - larger[y0 : y1 : area.step] @ luma_of(removed) @ lines
    return Texture(texture.crop, change, texture.crop_grain)
