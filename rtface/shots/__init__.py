"""Reads settings by shot (``--shots``) and writes scenes, in CSV and CMX 3600 EDL."""
