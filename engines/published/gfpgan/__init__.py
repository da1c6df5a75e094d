"""GFPGAN; ``engines/README.md`` explains the files."""
