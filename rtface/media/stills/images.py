"""Exports the classes and functions for stills and folders of stills."""

from rtface.media.files.image_names import IMAGE_KINDS, list_images
from rtface.media.stills.image_read import Still, read_image
from rtface.media.stills.image_write import SUFFIXES, ImagePlan, plan_image, upright, write_image
from rtface.media.stills.sequence import SequenceSource

__all__ = [
    "IMAGE_KINDS",
    "SUFFIXES",
    "ImagePlan",
    "SequenceSource",
    "Still",
    "list_images",
    "plan_image",
    "read_image",
    "upright",
    "write_image",
]
