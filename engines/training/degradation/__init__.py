"""Degradations: single images, real video codecs, archive film, webcams."""
