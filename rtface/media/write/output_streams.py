"""Creates an output's streams as planned: encoders, copies, conversions, chapters, tags. Updates a finished film's
header: provenance, aspect ratio, HDR, projection, languages, XMP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, BinaryIO

import av
from av.container import OutputContainer
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream

from rtface.errors import Message
from rtface.frame import Packet
from rtface.media.formats import matroska, mp4
from rtface.media.formats.immersive import projection, sample_boxes, stereo_mode
from rtface.media.formats.mp4_texts import text_clock
from rtface.media.formats.pcm import PcmClock
from rtface.media.marks.provenance import NAMES, Change, append_xmp_box, header_tags, own_tags, true_tags, xmp
from rtface.media.marks.tags import rewrite
from rtface.media.read.start_timecode import KEY
from rtface.media.read.timeline import PRIMING
from rtface.media.write.frame_encoder import add_video
from rtface.media.write.muxer import AnyPacket, Muxer
from rtface.media.write.pcm_sound import PcmFiller
from rtface.media.write.stream_choice import COVERS, StreamPlan, add_copy
from rtface.media.write.stream_plan import OutputPlan
from rtface.media.write.transcode import AudioTranscoder, SubtitleTranscoder, without_adts
from rtface.stats import Stats

# Tags that describe the input file rather than the film.
_STALE = {
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "duration",
    "bps",
    "number_of_frames",
    "number_of_bytes",
    "source_id",
    "vendor_id",
    "alpha_mode",  # signals alpha in a second layer, which no encoder writes by default
}
_REEL = "reel_name"
_TIMECODE_IN_TAGS = ("matroska", "webm", "mxf")  # containers whose film tags store timecode and reel
# The longest gap in PCM that is filled with silence if the film's length is unknown.
_LONGEST_GAP_S = 3600.0


class OutputStreams:
    """Creates the planned streams in input order. Routes the packets of all streams except the video.

    Attributes:
        video: the video stream, with a configured encoder.
        muxer: receives the packets of all streams.
        languages: languages of all streams.
        off: indexes of the subtitle streams that are not shown by default.
    """

    def __init__(self, plan: OutputPlan, container: OutputContainer, stats: Stats) -> None:
        self._plan, self._container, self._stats = plan, container, stats
        self._routes: dict[int, tuple[Stream, Callable[[AnyPacket], Iterable[AnyPacket]]]] = {}
        self._transcoders: dict[int, AudioTranscoder] = {}
        self._omits_start: dict[int, bool] = {}  # by stream: whether to omit the sound before the start
        self._started = set[int]()  # streams with a visible packet so far
        texts: list[Stream] = []
        awaited: list[int] = []
        container.metadata.update(
            {k: v for k, v in _without_stale(plan.info.metadata).items() if not own_tags({k: v})}
            | header_tags(plan.metadata, plan.own_tags)
        )
        if plan.timecode is not None and plan.format in _TIMECODE_IN_TAGS:
            container.metadata[KEY] = str(plan.timecode)
        if plan.info.reel and plan.format in _TIMECODE_IN_TAGS:
            container.metadata[_REEL] = plan.info.reel
        plans = {p.stream.index: p for p in plan.streams}
        self._dropped_sounds = {p.stream.index for p in plan.streams if p.action == "drop" and p.stream.silent}
        # The MXF muxer takes the rate of sound packets from the video stream, which must therefore be the first.
        for stream in sorted(plan.info.streams, key=lambda one: plan.format == "mxf" and not one.enhanced):
            if stream.enhanced:
                self.video = self._add_video(stream.metadata, stream.disposition)
            elif stream.index in plans and plans[stream.index].action != "drop":
                self._add_other(plans[stream.index], texts, awaited)
        for text in texts:
            text.time_base = text_clock(container, plan.video.time_base)
        self.languages = [one.metadata.get("language", "") for one in container.streams]
        self.off = {one.index for one in container.streams.subtitles if not one.disposition & Disposition.default}
        if chapters := self._chapters():
            container.set_chapters(chapters)  # pyright: ignore[reportArgumentType]
        self.muxer = Muxer(container, plan, self.video.index, texts=texts, awaited=awaited, stats=stats)

    def take(self, item: Packet) -> None:
        """Routes a packet of the input as planned."""
        index, packet = item.stream_index, item.packet
        if index in self._routes:
            target, convert = self._routes[index]
            shift = round(self._plan.info.origin / packet.time_base)
            if packet.pts is not None:
                packet.pts -= shift
            if packet.dts is not None:
                packet.dts -= shift
            if index in self._transcoders or not self._is_hidden(packet, index, target):
                self.muxer.wait(target, convert(packet))
        elif index in self._dropped_sounds:
            self._stats.warn(
                f"sound_left_out:{index}",
                f"{self._plan.path}: stream {index}: the sound is left out because it starts too late in the film",
            )

    def _is_hidden(self, packet: AnyPacket, index: int, target: Stream) -> bool:
        """Tells whether to leave out a packet that an edit list hides. After the start, its time is invalid, so it
        is always left out; before the start, only if the output would play it and it is not just decoder priming."""
        if not packet.is_discard:
            self._started.add(index)
            return False
        plays = target.type == "audio" and self._plan.format not in ("mp4", "mov")
        is_priming = -PRIMING <= (packet.pts or 0) * packet.time_base < 0
        return (
            index in self._started
            or (packet.pts or 0) >= 0
            or (plays and self._omits_start.setdefault(index, not is_priming))
        )

    def finish(self, frames: int) -> None:
        """Muxes the sound encoders' remaining packets and all waiting ones. `frames` is the number of frames."""
        length = frames / self._plan.video.rate if self._plan.format == "mxf" else None
        for index, sound in self._transcoders.items():
            self.muxer.wait(self._routes[index][0], sound.finish(length))
        self.muxer.flush()

    def _add_video(self, metadata: dict[str, str], disposition: Disposition) -> av.VideoStream:
        stream = add_video(self._container, self._plan.video, self._plan.path)
        stream.disposition = disposition
        stream.metadata.update(_without_stale(metadata))
        stream.metadata.pop("stereo_mode", None)
        if mode := stereo_mode(self._plan.info.views, metadata, self._plan.format):
            stream.metadata["stereo_mode"] = mode
        if self._plan.timecode is not None and self._plan.format in ("mp4", "mov"):
            stream.metadata[KEY] = str(self._plan.timecode)  # the muxer creates a tmcd track from it
            if self._plan.info.reel:
                stream.metadata[_REEL] = self._plan.info.reel
        if self._plan.info.matrix is not None:
            stream.set_display_matrix(self._plan.info.matrix)
        return stream

    def _add_other(self, plan: StreamPlan, texts: list[Stream], awaited: list[int]) -> None:
        info, source, container = plan.stream, plan.stream.template, self._container
        if plan.action == "attach":
            assert info.cover is not None
            name, kind = COVERS[info.codec]
            container.add_attachment(
                info.metadata.get("filename", name), info.metadata.get("mimetype", kind), info.cover
            )
            return
        target: Any
        if plan.action == "sound":
            assert isinstance(source, av.AudioStream)
            target = container.add_stream(plan.encoder, rate=48_000)
            AudioTranscoder.configure(source, target)
            sound = AudioTranscoder(source, target, self._stats, fills=self._plan.format == "mxf")
            self._transcoders[info.index], convert = sound, sound.push
        elif plan.action == "text":
            assert isinstance(source, SubtitleStream)
            target = container.add_stream(plan.encoder)
            convert = SubtitleTranscoder(source, target, self._stats).push
        else:
            target = add_copy(container, source)
            convert = self._packet_converter(plan, target)
        target.disposition = info.disposition
        target.metadata.update(_without_stale(info.metadata))
        if isinstance(source, av.VideoStream) and (code := self._plan.timecode_of(source)):
            target.metadata[KEY] = str(code)
        if info.kind == "attachment":
            return
        self._routes[info.index] = target, convert
        if self._plan.format in ("mp4", "mov") and (plan.action == "text" or info.codec == "mov_text"):
            texts.append(target)
        else:
            awaited.append(target.index)

    def _packet_converter(self, plan: StreamPlan, target: Stream) -> Callable[[AnyPacket], Iterable[AnyPacket]]:
        """Returns a function that converts the packets of a copied stream."""
        source, format = plan.stream.template, self._plan.format
        if format in ("mp4", "mov") and (clock := PcmClock.of(source)) is not None:
            label = f"{self._plan.path}: stream {plan.stream.index}"
            return PcmFiller(clock, self._plan.info.duration_s or _LONGEST_GAP_S, self._stats, label).push
        return lambda packet: (without_adts(packet, source, target, format),)

    def _chapters(self) -> list[dict[str, Any]]:
        info, chapters = self._plan.info, list[dict[str, Any]]()
        for chapter in info.chapters:
            start = max(chapter.start - info.origin, Fraction(0))
            end = (chapter.end if info.end is None else min(chapter.end, info.end)) - info.origin
            is_marker = chapter.end == chapter.start >= info.origin and self._plan.format in ("matroska", "webm")
            if end > start or (is_marker and end == start):
                chapters.append(
                    {
                        "id": len(chapters) + 1,
                        "start": round(start * 1_000_000),
                        "end": round(end * 1_000_000),
                        "time_base": Fraction(1, 1_000_000),
                        "metadata": chapter.metadata,
                    }
                )
        return chapters


def _without_stale(metadata: dict[str, str]) -> dict[str, str]:
    return {
        k: v
        for k, v in metadata.items()
        if k.lower() not in _STALE and k.lower() != KEY and not k.upper().startswith("_STATISTICS")
    }


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
