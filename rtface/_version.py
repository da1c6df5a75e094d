"""Defines the version of rtface."""

__version__ = "0.1.0"

VERSION_LINE = f"rtface {__version__}"
"""The output of `rtface --version`."""
