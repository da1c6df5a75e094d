"""Making a decoded frame fit the encoder without touching what need not be touched."""

from __future__ import annotations

import av

from rtface.media.encoders import VideoPlan
from rtface.media.pixel_format import pixel_format_info
from rtface.util.av_arrays import plane_rows, sample_bytes
from rtface.util.av_gpu import FULL_RANGE, on_gpu, repacked, software


def fit(image: av.VideoFrame, plan: VideoPlan) -> av.VideoFrame:
    """The frame in the encoder's format and size; the same object where nothing has to be done.

    An encoder on the GPU takes frames from the GPU as they are, and others too: PyAV uploads those.
    """
    if on_gpu(image) and plan.on_gpu:
        return image
    image = software(image)
    if image.format.name != plan.pix_fmt:
        image = _convert(image, plan) if plan.convert else repacked(image, plan.pix_fmt)
    if (image.width, image.height) != (plan.width, plan.height):
        image = pad(image, plan.width, plan.height)
    return image


def _convert(image: av.VideoFrame, plan: VideoPlan) -> av.VideoFrame:
    source, target = pixel_format_info(image.format.name), pixel_format_info(plan.pix_fmt)
    if source.model == target.model:
        return repacked(image, plan.pix_fmt)
    if target.model == "rgb":
        return image.reformat(format=plan.pix_fmt)
    return image.reformat(format=plan.pix_fmt, dst_colorspace="ITU709" if plan.tags.matrix == 1 else "ITU601",
                          src_color_range=FULL_RANGE, dst_color_range=1, interpolation="BICUBIC")


def pad(image: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """A copy enlarged to the right and below by repeating the last column and row of every plane."""
    out = av.VideoFrame(width, height, image.format.name)
    for source, target in zip(image.planes, out.planes, strict=True):
        unit = sample_bytes(image, source)
        old = plane_rows(source)[: source.height, : source.width * unit]
        new = plane_rows(target)[: target.height, : target.width * unit]
        new[: old.shape[0], : old.shape[1]] = old
        for x in range(old.shape[1], new.shape[1], unit):
            new[: old.shape[0], x : x + unit] = old[:, -unit:]
        new[old.shape[0] :] = new[old.shape[0] - 1]
    out.color_range, out.colorspace = image.color_range, image.colorspace
    out.color_primaries, out.color_trc = image.color_primaries, image.color_trc
    return out
