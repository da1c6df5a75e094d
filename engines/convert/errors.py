"""Errors of the conversion."""


class ConvertError(Exception):
    """Its message is one line for a user: what, where, and how to fix it."""
