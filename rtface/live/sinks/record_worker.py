"""Encodes a recording in a child process, and writes its file."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import BinaryIO, cast

import av
from av.container.core import Flags
from av.video.stream import VideoStream

from rtface.concurrency.child_main import ParentProcess
from rtface.errors import OutputError, UsageError
from rtface.live.messages import RecordingEnded, RecordJob, SinkOpened, SinkReport, WriteFrame
from rtface.live.protocols import SoundPacket
from rtface.live.sinks.live_encoder import I_FRAMES_S, TICKS, EncoderScaler
from rtface.live.sinks.stream_mux import SoundTrack
from rtface.media.files.workfile import WorkFile, full
from rtface.media.formats.mp4 import cut_to_whole_fragments
from rtface.media.formats.mp4_edits import reach_last_frame
from rtface.media.marks.changed_frames import ChangedFrames
from rtface.media.marks.provenance import NAMES, Change, append_xmp_box, true_tags, xmp
from rtface.media.marks.tags import rewrite
from rtface.media.write.codec import ALIASES
from rtface.media.write.encoder_options import set_quality
from rtface.media.write.encoders import EncoderRefused, VideoPlan, check, configure
from rtface.media.write.stream_plan import supported_encoders
from rtface.redaction import redacted

_STATUS_S = 0.25
_GRACE_S = 20.0  # longer than `RecordSink` waits before it kills this process
_INTERLEAVING = {"max_interleave_delta": "1000000"}
_FRAGMENTS = {
    "movflags": "hybrid_fragmented+delay_moov+use_metadata_tags",
    "use_editlist": "1",
    "frag_duration": "500000",
    "frag_size": str(1 << 20),
}
_CLUSTERS = {"cluster_time_limit": "500", "cluster_size_limit": str(1 << 20), "default_mode": "passthrough"}
_OPTIONS = {"mp4": _FRAGMENTS, "mov": _FRAGMENTS, "matroska": _CLUSTERS}


class Recording:
    """Writes a recording. Methods raise OSError or av.FFmpegError if the file cannot be written.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        file: working file.
        frames: number of encoded frames.
        changed: the changes of each frame.

    Raises:
        UsageError: the encoder cannot be opened with these options.
        OSError: the file cannot be created.
    """

    def __init__(self, job: RecordJob) -> None:
        self._job = job
        plan = _plan(job)
        self.encoder, self._scaler = plan.encoder, EncoderScaler(job.video, plan.pix_fmt)
        self.frames = 0
        self.changed = ChangedFrames()
        self._last: dict[int, int] = {}
        self.file = WorkFile(job.target, job.work)
        self._container = av.open(
            self.file,
            "w",
            format=job.container,
            buffer_size=1 << 16,
            container_options=_INTERLEAVING | _OPTIONS.get(job.container, {}),
        )
        self._container.flags |= Flags.flush_packets.value
        self._container.metadata.update(job.metadata)
        self._video = cast(VideoStream, self._container.add_stream(plan.encoder, rate=plan.rate))
        configure(self._video, plan)
        self._video.time_base = TICKS
        self._video.codec_context.gop_size = max(1, round(I_FRAMES_S * float(plan.rate)))
        self._sound = SoundTrack(self._container, job.sound) if job.sound is not None else None

    def write_frame(self, image: av.VideoFrame, seconds: float, change: Change = Change.NOTHING) -> None:
        """Writes the next frame, and records its changes."""
        self.changed.change |= change
        self.changed.extend(1, [(0, None)] if change else ())
        image = self._scaler(image)
        image.pts, image.time_base = self._next_pts(0, seconds), TICKS
        image.duration = round(1 / self._job.video.rate / TICKS)
        image.pict_type = 0
        packets = self._video.encode(image)
        self.frames += 1
        for packet in packets:
            self._container.mux_one(packet)

    def sound(self, sound: SoundPacket, seconds: float) -> None:
        """Writes the next packet of AAC. Drops sound that arrives before the first frame."""
        if self._sound is not None and self.frames:
            self._sound.write(sound, self._next_pts(1, seconds))

    def finish(self) -> None:
        """Completes and renames the file."""
        for packet in self._video.encode(None):
            self._container.mux_one(packet)
        self._container.close()
        job = self._job
        with self.file.edited() as file:
            if job.container in ("mp4", "mov"):
                reach_last_frame(file)
            self._mark(file)
        # Syncing takes time, so it is done only if an older file is replaced, which a crash could otherwise destroy.
        self.file.publish(sync=job.target.path.exists())

    def give_up(self) -> str | None:
        """Closes the incomplete file. Returns the path of its playable part, or None without frames."""
        self.file.seal()  # prevents PyAV from writing the trailer
        with suppress(OSError, av.FFmpegError, ValueError):
            self._container.close()
        with suppress(OSError, OutputError):
            if not self.frames or not self.file.size:
                self.file.discard()
                return None
            with self.file.edited() as file:
                if self._job.container in ("mp4", "mov"):
                    cut_to_whole_fragments(file)
                self._mark(file)
            return str(self.file.keep())
        return str(self.file.path)

    def _mark(self, file: BinaryIO) -> None:
        """Replaces the header's tags by those that apply, and appends the XMP."""
        job = self._job
        if not job.metadata:
            return
        tags = true_tags(job.metadata, self.changed.change)
        rewrite(file, job.container, {name: tags.get(name) for name in NAMES})
        if job.container in ("mp4", "mov") and self.changed.change:
            append_xmp_box(file, xmp(tags))

    def _next_pts(self, stream: int, seconds: float) -> int:
        self._last[stream] = max(round(seconds / TICKS), self._last.get(stream, -1) + 1)
        return self._last[stream]


def _plan(job: RecordJob) -> VideoPlan:
    form, options = job.video, job.options
    name = ALIASES.get(options.codec.lower(), options.codec) if options.codec else "libx264"
    if name not in supported_encoders(job.container):
        raise UsageError(
            "{container} cannot contain {codec}; choose another {--codec}, or a .mkv file",
            code="record_codec",
            container=job.container,
            codec=name,
        )
    scaler = EncoderScaler(form, "yuv420p")
    plan = VideoPlan(name, scaler.pix_fmt, scaler.width, scaler.height, form.rate, TICKS, scaler.tags, form.aspect)
    set_quality(
        plan, options.crf, options.preset or ("veryfast" if name.startswith(("libx26", "h264_", "hevc_")) else None)
    )
    if name == "libx264":  # no delayed frames, because a killed process would lose them
        plan.options |= {"bf": "0", "rc-lookahead": "10"}
    if job.container in ("mp4", "mov") and name in ("libx265", "hevc_nvenc"):
        plan.tag = "hvc1"
    plan.threads = min(4, os.cpu_count() or 1)
    try:
        check(plan)
    except EncoderRefused as error:
        raise UsageError("{codec} cannot be used ({why})", code="record_unusable", codec=name, why=error) from None
    return plan


def record(parent: ParentProcess, job: RecordJob) -> None:
    """Runs in the child process of a `RecordSink`: records until the parent asks it to end."""
    parent.grace = _GRACE_S
    try:
        recording = Recording(job)
    except UsageError as error:
        parent.send(error)
        return
    except OSError as error:
        parent.send(OutputError("the working file cannot be created ({why})", code="record_file", why=error.strerror))
        return
    parent.send(SinkOpened(recording.encoder, ()))
    path: str | None = str(job.target.path)
    why = ""
    try:
        _record_all(parent, recording)
        if recording.frames:
            recording.finish()
        else:
            why = "no frames arrived"
    except (OSError, av.FFmpegError, ValueError) as error:
        why = _failure(recording, error)
    if why:
        path = recording.give_up()
    _report(parent, recording)
    parent.send(RecordingEnded(path, why, recording.changed))


def _report(parent: ParentProcess, recording: Recording) -> None:
    size = recording.file.size
    parent.send(SinkReport("live", f"{size / 1e6:.1f} MB", size, frames=recording.frames))


def _record_all(parent: ParentProcess, recording: Recording) -> None:
    """Writes frames and sound from the parent until it asks to end."""
    frames, reported = parent.frames, 0.0
    assert frames is not None
    while (message := parent.receive()) is not None:
        if isinstance(message, WriteFrame):
            recording.write_frame(frames.get(message.slot, message.layout), message.time, message.change)
        elif isinstance(message, SoundPacket):
            recording.sound(message, message.time)
        if time.monotonic() - reported > _STATUS_S:
            reported = time.monotonic()
            _report(parent, recording)


def _failure(recording: Recording, error: Exception) -> str:
    """Explains why a recording ends early."""
    cause = recording.file.fault or error
    full_disk = full(cause)
    if full_disk is not None:
        return f"{full_disk} after {recording.file.size / 1e6:.1f} MB; the recording ended; free some disk space"
    text = str(getattr(cause, "strerror", None) or cause)
    return f"writing failed ({redacted(' '.join(text.split()))})"
