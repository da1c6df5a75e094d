"""Plans an output before any work: container, encoder and every stream."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import av
from av.stream import Disposition

from rtface.errors import Message, OutputError, UsageError
from rtface.media.cuda.nvenc import Encoding, choose_encoder, names_gpu
from rtface.media.files.outputs import check_target, folder_gone
from rtface.media.files.workfile import Target
from rtface.media.formats.facts import unheld
from rtface.media.marks.provenance import own_tags
from rtface.media.read.container import FARTHEST, rate_of
from rtface.media.read.media_info import MediaInfo
from rtface.media.read.probe import find_first_packets
from rtface.media.read.start_timecode import KEY, find_timecode, output_timecode
from rtface.media.write.encoders import VideoPlan
from rtface.media.write.packet_copy import PacketCopy
from rtface.media.write.stream_choice import StreamPlan, called, chapter_losses, choose, is_pcm, named, untimed, without
from rtface.util.timecode import Timecode

# AVI is missing: it cannot store variable frame rates, delayed sound, aspect ratio, colour tags or field order.
FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
    ".m2ts": "mpegts",
    ".mxf": "mxf",
}
# Containers to suggest, by preference.
_ORDER = ("matroska", "mov", "mp4", "mpegts", "webm")
_SUFFIX = {"matroska": "mkv", "mpegts": "ts", "mov": "mov", "mp4": "mp4", "webm": "webm"}
_MAX_LISTED = 6  # maximum number of items listed in a message
_WITH_CHAPTERS = ("mp4", "mov", "matroska", "webm")  # containers with chapters and rotation


@dataclass(slots=True)
class OutputPlan:
    """All decisions about an output before any work.

    Attributes:
        target: path of the output.
        format: FFmpeg's name of the container.
        video: plan of the encoding.
        streams: plans of the other streams.
        info: the input.
        timecode: timecode of the output's first frame, or None.
        notes: one line for each thing a user should know: transcodes, drops, choices.
        warnings: lines to show at the start, for example that a requested GPU encoder cannot be used.
        copy: settings for copying packets of unchanged frames; None if every frame is encoded.
        metadata: tags of the run (`rtface.media.marks.provenance.describe`); set it before the sink is created. The
            film gets the tags that still apply at the end.
    """

    target: Target
    format: str
    video: VideoPlan
    streams: list[StreamPlan]
    info: MediaInfo
    timecode: Timecode | None = None
    notes: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    copy: PacketCopy | None = None

    @property
    def path(self) -> str:
        """Path of the output as the user wrote it."""
        return self.target.shown

    @property
    def own_tags(self) -> dict[str, str]:
        """The input's provenance tags, see `rtface.media.marks.provenance.own_tags`."""
        return own_tags(self.info.metadata, self.info.xmp)

    def timecode_of(self, video: av.VideoStream) -> Timecode | None:
        """Returns the timecode of another video stream's first frame."""
        rate, _ = rate_of(video)
        return output_timecode(find_timecode([video.metadata], rate), None, rate, self.info.skipped)

    def reopened(self, info: MediaInfo) -> None:
        """Switches to the streams of the reopened input. After that, the previous source may be closed."""
        templates = {stream.index: stream.template for stream in info.streams}
        for each in self.streams:
            each.stream.template = templates[each.stream.index]


def plan_output(
    info: MediaInfo,
    output: str | os.PathLike[str],
    *,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    strict: bool = False,
    overwrite: bool = False,
    encode: Encoding | None = None,
    timecode: str | None = None,
    drop: Sequence[str] = (),
) -> OutputPlan:
    """Plans container, codec and streams, and checks the output's path.

    Args:
        info: the opened input; its source must stay open until the sink is created.
        output: file to write; the extension determines the container.
        codec: encoder or alias (h264, h265, av1, vp9, ffv1, prores …). None: an encoder that keeps bit depth, chroma
            and, if the container can store it, the class of the input's coding (lossless, mezzanine).
        crf: quality; None for the default, 0 for lossless if the encoder supports it.
        preset: speed; None for the default.
        strict: whether to raise an error if anything at all would be lost.
        overwrite: whether an existing output may be replaced.
        timecode: timecode that the user sets for the input's first frame; None: the input's own timecode.
        drop: streams to leave out, by number or kind; also "cover" and "chapters".
        encode: whether to use a GPU encoder (`nvenc.encoding`); None: use one if the frames are on the GPU.

    Raises:
        UsageError: an extension, codec or option cannot be used.
        OutputError: the path is not writable, or the container cannot hold the input's streams; the message
            suggests one that can.
    """
    format = _format_of(output)
    target = check_target(output, inputs=[info.path], overwrite=overwrite)
    info = without(info, drop)
    video, refused = choose_encoder(
        info,
        format,
        supported_encoders(format),
        codec=codec,
        crf=crf,
        preset=preset,
        wanted=encode or Encoding(),
        keep=True,
    )
    find_first_packets(info)
    timecode_out = output_timecode(info.timecode, timecode, info.rate, info.skipped)
    plan = OutputPlan(target, format, video, [], info, timecode_out, list(info.notes))
    if refused:
        asked = names_gpu(codec) or (encode is not None and encode.mode == "cuda")
        (plan.warnings if asked else plan.notes).append(refused)
    lost, video.strict = [*video.warnings, *_plan_streams(plan)], strict
    if strict and lost:
        raise OutputError("{path}: {what} ({--strict=True})", code="strict_path", path=plan.path, what=lost[0])
    return plan


def plan_frames(info: MediaInfo, target: Target, *, crf: float | None = None, preset: str | None = None) -> OutputPlan:
    """Plans a film of frames only, with its container's default encoder. Used for ``--compare``. The output
    path is not checked.

    Raises:
        UsageError: the same errors as `plan_output`.
    """
    format = _format_of(target.path)
    video, _ = choose_encoder(
        info,
        format,
        supported_encoders(format),
        codec=None,
        crf=crf,
        preset=preset,
        wanted=Encoding(),
    )
    return OutputPlan(target, format, video, [], info)


def _format_of(output: str | os.PathLike[str]) -> str:
    suffix = Path(output).suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(
            "{path}: not a film container ({suffix}); use one of {formats}",
            code="output_container",
            path=os.fspath(output),
            suffix=suffix or "no extension",
            formats=", ".join(FORMATS),
        )
    return FORMATS[suffix]


@lru_cache(maxsize=16)
def supported_encoders(format: str) -> set[str]:
    """Returns names of the encoders that a container supports."""
    if format == "mpegts":  # its muxer does not list them
        return {"libx264", "libx265", "h264_nvenc", "hevc_nvenc", "mpeg2video"}
    if format == "mxf":  # the MXF muxer does not list them either
        return {"prores_ks", "dnxhd", "ffv1", "libx264", "mpeg2video"}
    with av.open(io.BytesIO(), "w", format=format) as container:
        return container.supported_codecs


def _plan_streams(plan: OutputPlan) -> list[str]:
    """Plans all streams. Returns a line for each loss, and adds these lines to the plan's notes."""
    format, info, lost = plan.format, plan.info, list[str]()
    # Things that the container cannot hold: description, value for --drop, containers that can.
    unsupported: list[tuple[str, str, set[str]]] = []
    stored_timecodes = {
        info.timecode and str(info.timecode),
        *(one.metadata.get(KEY) for one in info.streams if one.kind == "video"),
    }
    for stream in info.streams:
        if stream.enhanced:
            continue
        choice, note = choose(stream, format)
        if choice is None:
            alternatives = {f for f in _ORDER if f != format and choose(stream, f)[0] is not None}
            if alternatives:
                unsupported.append((f"stream {called(stream)}", str(stream.index), alternatives))
                continue
            choice, note = StreamPlan(stream, "drop"), f"{named(stream)} is left out because no container can hold it"
        plan.streams.append(choice)
        if stream.kind == "data" and (code := stream.metadata.get(KEY)) and code not in stored_timecodes:
            note = f"its timecode {code} is left out because it is not attached to a frame"
        if note:
            plan.notes.append(f"stream {stream.index}: {note}")
            if choice.action == "drop" or (
                choice.action == "sound" and is_pcm(stream.codec) and not choice.encoder.startswith("pcm_")
            ):
                lost.append(plan.notes[-1])
    sounds, input_path = [one for one in info.streams if one.kind == "audio"], Path(info.path)
    if sounds and all(one.silent for one in sounds) and not (input_path.is_file() and (info.size or 0) <= FARTHEST):
        raise OutputError(
            "{path}: the input's header declares sound, but the first {most} MB contain none, so it would be lost; use "
            "a file whose sound starts earlier, or leave the sound out: {--drop:audio}",
            code="sound_lost",
            most=FARTHEST >> 20,
            path=plan.path,
        )
    if info.matrix is not None and format not in _WITH_CHAPTERS and (info.display.quarter_turns or info.display.mirror):
        unsupported.append(("the rotation", "", set(_WITH_CHAPTERS)))
    if info.chapters and format not in _WITH_CHAPTERS:
        unsupported.append((f"{len(info.chapters)} chapters", "chapters", set(_WITH_CHAPTERS)))
    lines: list[str] = [*chapter_losses(info, format), *untimed(info), *_metadata_lost(plan)]
    if plan.timecode is not None and format == "mpegts":
        lines.insert(0, f"{plan.path}: the start timecode {plan.timecode} is left out because MPEG-TS cannot hold it")
    plan.notes += lines
    if unsupported:
        fit = [f for f in _ORDER if all(f in alternatives for _, _, alternatives in unsupported)]
        advice = (
            f"name the output {plan.target.path.stem}.{_SUFFIX[fit[0]]}, which can"
            if fit
            else "no single container can"
        )
        if all(name for _, name, _ in unsupported):
            advice = Message(advice) + Message(
                ", or leave out what it cannot hold: {drops}",
                code="or_drop",
                drops=Message(" ".join(f"{{--drop:{name}}}" for _, name, _ in unsupported), code="drops"),
            )
        raise OutputError(
            "{path}: {container} cannot hold {what}; {advice}",
            code="container_lacks",
            path=plan.path,
            container=format,
            what=", ".join((what for what, _, _ in unsupported)),
            advice=advice,
        )
    return [*lost, *lines]


def _metadata_lost(plan: OutputPlan) -> list[Message]:
    """Returns a message about metadata that the container cannot store."""
    kept_streams = {one.stream.index for one in plan.streams if one.action not in ("attach", "drop")}
    streams = [one for one in plan.info.streams if one.enhanced or one.index in kept_streams]
    # Without flags, players choose the first stream of a kind, so this stream needs no default flag.
    defaults = {one.kind: Disposition.default & one.disposition for one in reversed(streams)}
    tags = [{k: v for k, v in one.metadata.items() if not (one.enhanced and k == "language")} for one in streams]
    facts = [
        (one.index, texts, one.disposition & ~defaults[one.kind]) for one, texts in zip(streams, tags, strict=True)
    ]
    in_tags = plan.format == "mp4" and "reel_name" in map(str.lower, plan.info.metadata)
    reel = ["the name of the reel"] * (bool(plan.info.reel) and plan.format in ("mp4", "mpegts") and not in_tags)
    lost = [*reel, *unheld(plan.format, plan.info.metadata, facts)]
    better = next((one for one in _ORDER if not unheld(one, plan.info.metadata, facts)), None)
    message = Message(
        "{container} cannot hold some details of the input's streams ({facts}): they are left out{advice}",
        code="facts_lost",
        container=plan.format,
        facts=", ".join(lost[:_MAX_LISTED]) + f" + {len(lost) - _MAX_LISTED}" * (len(lost) > _MAX_LISTED),
        advice=Message("; use a .{suffix} output", code="name_suffix", suffix=_SUFFIX[better]) if better else "",
    )
    return [message] if lost else []


def check_folder(plan: OutputPlan) -> None:
    """Raises OutputError if the output's folder is missing. No folder is created for a film."""
    if not plan.target.path.parent.is_dir():
        raise folder_gone(plan.path, plan.target.path.parent)
