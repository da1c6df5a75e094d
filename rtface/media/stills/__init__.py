"""Reads and writes single stills, folders of stills, and folders as films."""
