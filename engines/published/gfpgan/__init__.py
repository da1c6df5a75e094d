"""GFPGAN; see ``engines/README.md`` for the files."""
