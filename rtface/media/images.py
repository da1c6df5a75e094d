"""Still images: one by one, a folder of them, or a folder as a film."""

from rtface.media.image_read import IMAGE_KINDS, Still, list_images, read_image
from rtface.media.image_write import SUFFIXES, ImagePlan, plan_image, upright, write_image
from rtface.media.sequence import SequenceSource

__all__ = ["IMAGE_KINDS", "SUFFIXES", "ImagePlan", "SequenceSource", "Still", "list_images", "plan_image", "read_image",
           "upright", "write_image"]
