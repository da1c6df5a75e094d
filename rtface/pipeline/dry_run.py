"""Describes a film's planned run (``--dry-run``), and estimates its cost."""

from __future__ import annotations

from rtface.config.options import EnhanceOptions
from rtface.engine.engine_set import engine_names
from rtface.engine.listing import list_engines
from rtface.media.formats.coding import CLASSES
from rtface.media.read.media_info import MediaInfo
from rtface.media.write.encoders import FAMILIES, VideoPlan
from rtface.media.write.stream_choice import StreamPlan
from rtface.media.write.stream_plan import OutputPlan
from rtface.pipeline.runtime import may_take_gpu
from rtface.util.parse import format_time

# Seconds per frame on a CPU with two cores: for tracking, analysing and compositing one face, and for decoding and
# encoding a million pixels. Measured with the shipped engines and one face on each frame.
_FACE_S, _MEGAPIXEL_S = 0.010, 0.035
# Bits per pixel at an encoder's default quality: for x264, newer codecs, editing codecs and lossless codecs.
_X264_BITS, _NEWER_BITS, _EDITING_BITS, _LOSSLESS_BITS = 0.13, 0.08, 3.5, 5.0


def describe_plan(info: MediaInfo, plan: OutputPlan | None, options: EnhanceOptions) -> list[str]:
    """Returns the lines of the plan. `plan` is None for a folder of stills."""
    length = f", {format_time(info.duration_s)}" if info.duration_s else ""
    lines = [f"input: {info.codec}, {info.width}x{info.height}, {float(info.rate):g} fps{length}"]
    if plan is not None:
        video = plan.video
        lines.append(
            f"frames: {info.coding.described} become {CLASSES[video.coding]} ({video.described}, "
            f"{video.width}x{video.height}, {float(video.rate):g} fps, {video.pix_fmt})"
        )
        lines += [f"start timecode: {plan.timecode}"] if plan.timecode else []
        lines += [f"stream {stream_plan.stream.index}: {_describe_stream(stream_plan)}" for stream_plan in plan.streams]
    name = engine_names(options.engine, options.engine_control)[0]
    return [*lines, f"engine: {name} on {'an NVIDIA GPU' if may_take_gpu(options.device) else 'the CPU'}"]


def _describe_stream(plan: StreamPlan) -> str:
    stream = plan.stream
    text = f"{'sound' if stream.kind == 'audio' else stream.kind} ({stream.codec or 'unknown'}"
    text += f", {stream.language})" if stream.language else ")"
    sound = "keeps its samples" if plan.encoder == stream.codec else f"becomes {plan.encoder}"
    return (
        f"{text} "
        + {
            "copy": "is copied",
            "sound": sound,
            "text": f"becomes {plan.encoder}",
            "attach": "is attached",
            "drop": "is left out",
        }[plan.action]
    )


def cost_of(info: MediaInfo, plan: OutputPlan | None, options: EnhanceOptions) -> tuple[float | None, float | None]:
    """Estimates a run's seconds and its output's bytes, or None. One face is assumed on every frame.
    The arguments are those of `describe_plan`."""
    rows = {row.name: row for row in list_engines(measure=False)}
    row, pixels = rows.get(engine_names(options.engine, options.engine_control)[0]), info.width * info.height
    frames = info.expected_frames or (round(info.duration_s * float(info.rate)) if info.duration_s else 0)
    ms = None if row is None or may_take_gpu(options.device) else row.ms
    seconds = None if ms is None or not frames else frames * (_FACE_S + 1e-3 * ms + 1e-6 * pixels * _MEGAPIXEL_S)
    return seconds, frames * pixels * _bits(plan.video) / 8 if plan is not None and frames else None


def _bits(video: VideoPlan) -> float:
    if video.coding != "lossy":
        return _EDITING_BITS if video.coding == "mezzanine" else _LOSSLESS_BITS
    family = FAMILIES.get(video.encoder)
    bits = _X264_BITS if "264" in video.encoder else _NEWER_BITS
    if family is None or family.crf is None or not family.quality:
        return bits
    return bits * 2 ** ((float(family.quality) - float(video.options.get(family.crf, family.quality))) / 6)
