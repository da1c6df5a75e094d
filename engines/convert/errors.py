"""What goes wrong while converting."""


class ConvertError(Exception):
    """Its text is one line for a user: what, where, and what to do."""
