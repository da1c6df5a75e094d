"""Turns a restored crop `r` into a correction `d = r − c`. Works on aligned face crops, with numpy and OpenCV."""

from rtface.correct.colour import cells_of, lock_colour, low_frequencies, luma_of
from rtface.correct.controls import Controls, CorrectionState, Measures, decide, state_of
from rtface.correct.eyes import irises
from rtface.correct.face_region import FaceRegion, face_region_of
from rtface.correct.mask import FACE_OVAL, face_mask, residual_gate, support_box
from rtface.correct.openings import openings_of
from rtface.correct.shape import carried, shape_part, whole
from rtface.correct.temporal import TemporalAverage
from rtface.protocols import ShapingOptions

__all__ = [
    "FACE_OVAL",
    "Controls",
    "CorrectionState",
    "FaceRegion",
    "Measures",
    "ShapingOptions",
    "TemporalAverage",
    "carried",
    "cells_of",
    "decide",
    "face_mask",
    "face_region_of",
    "irises",
    "lock_colour",
    "low_frequencies",
    "luma_of",
    "openings_of",
    "residual_gate",
    "shape_part",
    "state_of",
    "support_box",
    "whole",
]
