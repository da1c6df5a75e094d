"""Records to a file: that of ``--also FILE``, or OUTPUT."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from rtface.concurrency.child_process import KILLED
from rtface.config.addresses import LiveAddress
from rtface.config.options import Options
from rtface.errors import Message, OutputError, UsageError
from rtface.live.messages import RecordingEnded, RecordJob
from rtface.live.protocols import SoundFormat, VideoFormat
from rtface.live.sinks.child_sink import ChildSink
from rtface.media.files.outputs import check_target
from rtface.media.files.workfile import work_name
from rtface.media.write.stream_plan import FORMATS

# Maximum number of frames that wait for the encoder.
_SLOTS = 16
# Time limit for completing the file. After that, the recording is kept as a partial file.
CLOSING_S = 9.5
# Seconds that a frame waits for the encoder if none may be dropped.
_PATIENCE_S = 5.0
SETTLING_S = 5.0
"""Maximum seconds until the file of a killed child is renamed. Usually this takes milliseconds."""


class RecordSink(ChildSink):
    """Records into a hidden file, and renames it when it is complete.

    The hidden file is in the target's folder, and playable at any time. A full disk ends the recording, but not the
    run.

    Args:
        endpoint: file to write; its extension determines the format.
        options: options of the run.
        metadata: tags to write.
        whole: whether frames wait for a slow encoder, because none may be dropped.

    Raises:
        OutputError, UsageError: the file cannot be written, or its extension is not supported.

    Attributes:
        recorded: result of the recording; None until it has ended.
    """

    def __init__(
        self, endpoint: LiveAddress, options: Options, *, metadata: dict[str, str], whole: bool = False
    ) -> None:
        path = endpoint.name
        self.patience = _PATIENCE_S if whole else 0.0
        super().__init__("rtface.live.sinks.record_worker:record", path, _SLOTS)
        suffix = Path(path).suffix.lower()
        suffixes = [name for name in FORMATS if name not in (".webm", ".mxf")]
        if suffix not in suffixes:
            raise UsageError(
                "{path}: a live run can be recorded as {known}; .mkv is the safest",
                code="record_kind",
                path=path,
                known=", ".join(suffixes),
            )
        self._format = FORMATS[suffix]
        self._target_file = check_target(path, inputs=[], overwrite=options.overwrite)
        self.path = self._target_file.path
        self._work = work_name(self.path)
        self._options, self._metadata = options, metadata
        self.recorded: RecordingEnded | None = None
        self._settled = threading.Event()  # set when the child has ended and its file is renamed

    def open(self, form: VideoFormat, *, sound: SoundFormat | None) -> None:
        """Starts the child; see `rtface.live.protocols.LiveSink`."""
        job = RecordJob(self._work, self._target_file, self._format, form, sound, self._options, self._metadata)
        self._open(form, job)

    def close(self) -> None:
        """Completes and renames the file; safe to call twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._stop(CLOSING_S)
        if self.encoder:
            self._settled.wait(SETTLING_S)
        self._report_closed()

    def _receive(self, message: Any) -> None:
        if isinstance(message, RecordingEnded):
            self._finish(message)
        else:
            super()._receive(message)

    def _end(self, why: str) -> None:
        super()._end(why)
        if self.recorded is None and self.encoder:
            late = f"it was not complete {CLOSING_S:g} s after the end"
            self._finish(RecordingEnded(self._keep_partial(), late if why == KILLED else why or "its process ended"))
        self._report_closed()
        self._settled.set()

    def _finish(self, ended: RecordingEnded) -> None:
        """Stores the result. For an incomplete recording, adds a note with the path of the finished part."""
        if ended.why:
            location = Message("; the finished part is in {path}", code="done_is_in", path=ended.path)
            ended = replace(ended, why=Message(ended.why) + (location if ended.path else "; no file was kept"))
            self._notes.append(f"{self._title}: {ended.why}")
        self.recorded = ended

    def _report_closed(self) -> None:
        recorded = self.recorded
        if recorded is not None:
            self._health = self._health.turned("closed", recorded.why or f"recorded to {self._title}")

    def _keep_partial(self) -> str | None:
        """Renames the working file of a killed child to a partial file."""
        if not self._work.exists():
            return None
        try:
            return str(self._target_file.keep(self._work))
        except (OSError, OutputError):
            return str(self._work)
