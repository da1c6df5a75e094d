"""Draws into native planes, in display space: images with alpha, boxes, veils over faces."""

from rtface.stages.draw.canvas import Canvas
from rtface.stages.draw.sprite import Sprite
from rtface.stages.draw.veil import covering, display_from_face

__all__ = ["Canvas", "Sprite", "covering", "display_from_face"]
