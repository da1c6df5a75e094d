"""Learns a person: weights of the face engine for one face, from a camera, a film or photos."""
