"""Makes the contact sheet of ``rtface try``: faces of a film, restored by several engines."""
