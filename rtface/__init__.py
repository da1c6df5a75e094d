"""rtface: real-time face enhancement for video."""

__version__ = "0.1.0"
