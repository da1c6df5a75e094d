"""Networks of rtface, made and added; see ``engines/README.md``."""
