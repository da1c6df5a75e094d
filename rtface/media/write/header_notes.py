"""Updates a finished film's header: provenance, aspect ratio, HDR, projection, languages, XMP."""

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
    """Replaces provisional header tags by the final ones, and appends the XMP.

    Args:
        file: the film.
        plan: plan of the film.
        change: kinds of changes to its frames.
        number: number of the frames' track among the video tracks.
        streams: streams of the film.
        stats: receives warnings.
    """
    tags, info, video, format = plan.metadata, plan.info, plan.video, plan.format
    marks, size = true_tags(tags, change, plan.own_tags), (video.width, video.height)
    if tags:
        rewrite(file, format, {name: marks.get(name) for name in NAMES})
    if format in ("matroska", "webm"):
        sphere, webm = projection(info.views), format == "webm"
        if not matroska.note_picture(file, number, size, video.aspect, hdr=info.hdr, projection=sphere, webm=webm):
            stats.warn(
                "header_full",
                Message(
                    "{path}: the header has no room for the input's HDR metadata; {--codec:libx265} writes "
                    "it into the frames",
                    code="header_full",
                    path=plan.path,
                ),
            )
    if format in ("mp4", "mov"):
        mp4.note_picture(file, number, size, aspect=video.aspect, hdr=info.hdr, boxes=sample_boxes(info.views))
        mp4.note_tracks(file, streams.languages, streams.off)
        if packet := xmp(marks, info.xmp) if tags and change else info.xmp:
            append_xmp_box(file, packet)
