"""Engines: how each network that rtface runs is made. Nothing here is imported at run time."""
