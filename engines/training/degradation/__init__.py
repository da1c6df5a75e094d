"""Degradations: of single images, by real video codecs, of archive film, and missing regions."""
