"""GFPGAN; see ``engines/README.md`` for what lies here."""
