"""The version of rtface."""

__version__ = "0.1.0"
