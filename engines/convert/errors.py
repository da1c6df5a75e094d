"""Errors of the conversion."""


class ConvertError(Exception):
    """A conversion failed. The message is one line for the user: what is wrong, where, and how to mend it."""
