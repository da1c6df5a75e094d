"""Cameras and virtual cameras: what there is, what they can do, and pictures for a virtual one."""
