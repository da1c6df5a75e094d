"""Reads and writes stills: single ones, folders, or folders as films."""
