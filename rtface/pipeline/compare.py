"""Makes before|after pairs (`--compare`): images as read and as written, side by side.

Rows are copied as bytes in the frame's pixel format, so a pair contains exactly the samples of both images.
"""

from __future__ import annotations

from dataclasses import replace

import av

from rtface.config.options import EncodeOptions
from rtface.device.cpu.view import native_image
from rtface.frame import Display, Frame
from rtface.media.files.workfile import Target
from rtface.media.marks.provenance import made_by_machine, own_tags
from rtface.media.read.media_info import MediaInfo
from rtface.media.write.encoder_options import limit_look_ahead
from rtface.media.write.file_sink import FurtherFrames
from rtface.media.write.invented import map_frame
from rtface.media.write.stream_plan import OutputPlan, plan_frames
from rtface.util.av_arrays import plane_rows, sample_bytes

# Number of pairs that libx264 looks ahead. With the 20 of its default preset, 250 MB of 1080p would be in memory.
_LOOK_AHEAD_PAIRS = 10


def pair_frame(frame: Frame) -> Frame:
    """Returns the before|after pair of a frame with `before`. The pair is displayed twice as wide."""
    before, after, display = frame.before, frame.image, frame.display
    assert before is not None
    if before.format.name != after.format.name:  # the correction changed the pixel format
        before = native_image(before)
    pair = av.VideoFrame(*_pair_size(after.width, after.height, display.quarter_turns), after.format.name)
    pair.pts, pair.time_base, pair.duration = frame.pts, frame.time_base, frame.duration
    pair.colorspace, pair.color_range = before.colorspace, before.color_range
    pair.color_primaries, pair.color_trc = before.color_primaries, before.color_trc
    _copy_half(before, pair, display, first=_upright_first(display))
    _copy_half(after, pair, display, first=not _upright_first(display))
    return replace(frame, image=pair, before=None)


FURTHER: dict[str, FurtherFrames] = {"comparison": pair_frame, "map": map_frame}
"""By name of an additional film: the function that makes its frames."""


def _upright_first(display: Display) -> bool:
    """Returns whether the first stored half (left, top) is displayed left."""
    # A clockwise quarter turn moves the stored bottom to the left; a half turn moves the right side to the left.
    return (display.quarter_turns % 4 in (0, 3)) != display.mirror


def _pair_size(width: int, height: int, quarter_turns: int) -> tuple[int, int]:
    """Returns the stored width and height of a before|after pair."""
    return (2 * width, height) if quarter_turns % 2 == 0 else (width, 2 * height)


def _copy_half(image: av.VideoFrame, pair: av.VideoFrame, display: Display, *, first: bool) -> None:
    side_by_side = display.quarter_turns % 2 == 0
    for source, target in zip(image.planes, pair.planes, strict=True):
        height, row_bytes = source.height, source.width * sample_bytes(image, source)
        top, left = (0, 0) if first else (0, row_bytes) if side_by_side else (height, 0)
        plane_rows(target)[top : top + height, left : left + row_bytes] = plane_rows(source)[:height, :row_bytes]


def plan_pairs(info: MediaInfo, target: Target, encode: EncodeOptions) -> OutputPlan:
    """Plans a film of pairs.

    Args:
        info: the input.
        target: the output's path, checked.
        encode: quality and speed.

    Raises:
        UsageError: as in `rtface.media.write.stream_plan.plan_frames`.
    """
    width, height = _pair_size(info.width, info.height, info.display.quarter_turns)
    # A "captured" tag of the input is not true of a pair; a "generated" tag is.
    metadata = {k: v for k, v in info.metadata.items() if not own_tags({k: v})} | made_by_machine(
        own_tags(info.metadata, info.xmp)
    )
    wide = replace(info, width=width, height=height, display_width=2 * info.display_width, metadata=metadata, xmp=None)
    plan = plan_frames(wide, target, crf=encode.crf, preset=encode.preset)
    limit_look_ahead(plan.video, _LOOK_AHEAD_PAIRS)
    return plan
