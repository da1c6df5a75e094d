"""Marks outputs with provenance and with their changed areas."""
