"""What the header of a finished film says of it: what was done, shape, HDR, spheres, languages, and its XMP."""

from __future__ import annotations

from typing import BinaryIO

from rtface.errors import Message
from rtface.media.formats import matroska, mp4
from rtface.media.formats.immersive import projection, sample_boxes
from rtface.media.marks.provenance import NAMES, Change, append_xmp_box, true_tags, xmp
from rtface.media.marks.tags import rewrite
from rtface.media.write.output_streams import OutputStreams
from rtface.media.write.stream_plan import OutputPlan
from rtface.stats import Stats


def note_header(
    file: BinaryIO, plan: OutputPlan, change: Change, *, number: int, streams: OutputStreams, stats: Stats
) -> None:
    """Puts what turned out to be true in the place of what the header says, and the XMP behind the film.

    Args:
        file: the film.
        plan: of it.
        change: what was changed on its frames.
        number: of the track of these among the video tracks.
        streams: what was written.
        stats: receives warnings.
    """
    tags, info, video, format = plan.metadata, plan.info, plan.video, plan.format
    said, size = true_tags(tags, change, plan.own_tags), (video.width, video.height)
    if tags:
        rewrite(file, format, {name: said.get(name) for name in NAMES})
    if format in ("matroska", "webm"):
        sphere, webm = projection(info.views), format == "webm"
        if not matroska.note_picture(file, number, size, video.aspect, hdr=info.hdr, projection=sphere, webm=webm):
            stats.warn(
                "header_full",
                Message(
                    "{path}: its header has no room for the HDR metadata of the input; {--codec:libx265} writes "
                    "it into the frames",
                    code="header_full",
                    path=plan.path,
                ),
            )
    if format in ("mp4", "mov"):
        mp4.note_picture(file, number, size, aspect=video.aspect, hdr=info.hdr, boxes=sample_boxes(info.views))
        mp4.note_tracks(file, streams.languages, streams.off)
        if packet := xmp(said, info.xmp) if tags and change else info.xmp:
            append_xmp_box(file, packet)
