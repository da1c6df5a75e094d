"""The contact sheet of ``rtface try``: a few faces of a film, restored by several engines."""
