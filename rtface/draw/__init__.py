"""Drawing into native planes, in display space: pictures with alpha, filled boxes, veils over faces."""

from rtface.draw.canvas import Canvas
from rtface.draw.sprite import Sprite
from rtface.draw.veil import covering, display_from_face

__all__ = ["Canvas", "Sprite", "covering", "display_from_face"]
