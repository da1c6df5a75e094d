"""Reads containers, frame headers, colour tags and pixel formats without FFmpeg."""
