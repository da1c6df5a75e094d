"""Cameras, microphones and virtual cameras: listing, opening, and writing to a virtual camera."""
