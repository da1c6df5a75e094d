"""How each network that rtface runs is made and added; see ``engines/README.md``."""
