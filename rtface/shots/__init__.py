"""Reads settings by shot (``--shots``), and writes scenes: CSV, CMX 3600 EDL."""
