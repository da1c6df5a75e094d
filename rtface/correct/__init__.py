"""Turns a restored crop `r` into a correction `d = r − c`. Works on aligned face crops, with numpy and OpenCV."""

from rtface.correct.controls import Controls, CorrectionState, Measures, decide, state_of
from rtface.correct.eyes import irises
from rtface.correct.face_region import FaceRegion, face_region_of
from rtface.correct.openings import openings_of
from rtface.correct.shape import carried, shape_part
from rtface.protocols import ShapingOptions

__all__ = [
    "Controls",
    "CorrectionState",
    "FaceRegion",
    "Measures",
    "ShapingOptions",
    "carried",
    "decide",
    "face_region_of",
    "irises",
    "openings_of",
    "shape_part",
    "state_of",
]
