"""Starts and monitors the process that reads a source."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from math import inf

import av

from rtface.concurrency.child_process import ChildProcess
from rtface.concurrency.shared_frames import FrameRing
from rtface.errors import InputMissing, Message, MissingComponent, RtfaceError
from rtface.live.messages import (
    Heartbeat,
    SoundPacketReady,
    SourceMessage,
    SourceOpened,
    SourceRequest,
    VideoFrameReady,
)

# Number of slots, and size of the largest frame: 8K in 4:2:0, 16 bits a sample. Unused memory costs nothing.
_SLOTS, _MAX_FRAME_BYTES = 8, 7680 * 4320 * 3
# Time limits for the first frame. The second one applies while data arrives, because some streams have an I-frame only
# every ten seconds.
OPENING_S = 10.0
_FIRST_FRAME_S = 20.0
# Seconds without data after which a source counts as lost. Playlists arrive in segments, and disks have to spin up.
_QUIET_S = {"stream": 3.5, "camera": 3.5, "microphone": 3.5, "file": 30.0}
_QUIET_PLAYLIST_S = 15.0
# Seconds without data after which a playlist is reported as away, although it is not reopened yet.
_STALL_S = 2.5
# Seconds without a frame after which a source counts as lost.
_NO_FRAME_S = 10.0
# Maximum time without a message from the process, and until its first message, which takes long on a busy machine.
MUTE_S = 3.5
START_S = 30.0
# Seconds that the process has to end.
_END_S = 0.3


def _with_descriptor(request: SourceRequest) -> tuple[SourceRequest, int | None]:
    """Duplicates the descriptor in a request's name (/dev/stdin, /dev/fd/N) for the child. None if there is none."""
    match = re.fullmatch(r"/dev/(?:stdin|fd/(\d+))", request.name) if request.kind == "file" else None
    if match is None or sys.platform == "win32":
        return request, None
    try:
        descriptor = os.dup(int(match[1] or 0))
    except (OSError, OverflowError) as error:
        raise InputMissing(
            "{name}: is not open in this process; let another program write to it, or use a file or a FIFO",
            code="input_closed",
            name=request.name,
        ) from error
    return replace(request, name=f"/dev/fd/{descriptor}"), descriptor


class ReadProcess:
    """Runs a read process once. A thread passes its messages to the callbacks.

    Args:
        request: request that identifies the source.
        frame: called with every video frame.
        sound: called with every packet of sound.
        stalled: called with a reason if data stalls but the source is not lost yet.
        clock: returns seconds.
        start: function that starts the process.

    Attributes:
        opened: description of the source; None until it is open.
        refusal: error if the source could not be opened.
        frames, sounds: numbers of received frames and sound packets.
        heartbeat: last heartbeat.
    """

    def __init__(
        self,
        request: SourceRequest,
        frame: Callable[[VideoFrameReady, av.VideoFrame], None],
        sound: Callable[[SoundPacketReady], None],
        stalled: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        start: Callable[..., ChildProcess] = ChildProcess,
    ) -> None:
        self._request, self._frame, self._sound, self._stalled = request, frame, sound, stalled
        self._clock, self._start = clock, start
        self.opened: SourceOpened | None = None
        self.refusal: RtfaceError | None = None
        self.frames = self.sounds = 0
        self.heartbeat = Heartbeat()
        self._ring = FrameRing(_SLOTS, _MAX_FRAME_BYTES) if request.video else None
        self._message_at = self._frame_at = clock()
        self._silent = 0
        self._started_at: float | None = None  # time when the process was ready to open the source
        self._reason: str | None = None
        self._ended = threading.Event()
        self._abandoned = False
        self._child: ChildProcess | None = None

    def run_until(self, closed: threading.Event) -> str:
        """Runs until the source is lost or `closed` is set. Returns the reason in one line.

        Raises:
            MissingComponent: the process could not be started.
        """
        request, descriptor = _with_descriptor(self._request)
        try:
            child = self._start(
                "rtface.live.sources.read_worker:read",
                request,
                files=[] if descriptor is None else [descriptor],
                name="reader",
                frames=self._ring,
                on_message=self._receive,
                on_end=self._end,
            )
        except MissingComponent:
            self._free()
            raise
        finally:
            if descriptor is not None:
                os.close(descriptor)
        self._child = child
        child.send(self._request)  # `follow` may have changed it
        why = ""
        while not closed.is_set() and not self._ended.wait(0.05):
            if why := self._watch():
                break
        self._abandoned = True
        child.kill(_END_S)
        if not child.alive:
            self._free()
        if self.refusal is not None:
            return self.refusal.message
        ended = Message("the source ended the stream", code="source_ended")
        return why or (f"reading failed ({self._reason})" if self._reason else ended)

    def follow(self, request: SourceRequest) -> None:
        """Applies a changed request. It can let the source rest, or end the pause of a film."""
        if not request.held:
            self._frame_at = self._clock() if self._request.held else self._frame_at
        self._request = request
        if self._child is not None:
            self._child.send(request)

    def _watch(self) -> str:
        """Returns the reason why the source counts as lost, or ""."""
        now = self._clock()
        patience = START_S if self._started_at is None else OPENING_S if self.opened is None else MUTE_S
        if now - self._message_at > patience:
            self._silent += 1  # if this process was halted, it reads the messages of that time first
            return Message("the reading process does not respond", code="reader_silent") if self._silent > 5 else ""
        if self._started_at is None:
            return ""
        quiet = self.heartbeat.quiet
        if not (self.frames if self._request.video else self.sounds):
            waited = now - self._started_at
            data_arrives = self.opened is not None and quiet < 2 and self.heartbeat.counts["bytes"] > 0
            if waited > (_FIRST_FRAME_S if data_arrives else OPENING_S):
                media = "frame" if self._request.video else "sound"
                return f"no {media} arrived within {waited:.0f} s; check that the source is sending"
            return ""
        patience = _QUIET_PLAYLIST_S if self._request.name.lower().startswith("http") else _QUIET_S[self._request.kind]
        if _STALL_S < quiet <= patience == _QUIET_PLAYLIST_S:
            self._stalled(f"no data for {quiet:.1f} s")
        if quiet > patience:
            return f"no data for {quiet:.1f} s"
        if self._request.video and not self._request.held and now - self._frame_at > max(_NO_FRAME_S, patience):
            return f"no frame for {now - self._frame_at:.0f} s"
        return ""

    def _receive(self, message: SourceMessage) -> None:
        self._message_at, self._silent = self._clock(), 0
        self._started_at = self._started_at or self._message_at
        if self._abandoned:
            return
        match message:
            case VideoFrameReady():
                assert self._ring is not None
                self.frames += 1
                self._message_at = inf  # while the callback runs, which may wait
                self._frame(message, self._ring.get(message.slot, message.layout))
                self._message_at = self._frame_at = self._clock()
            case SoundPacketReady():
                self.sounds += 1
                self._sound(message)
            case Heartbeat():
                # A heartbeat that was built before the end may arrive after the last one, so `over` stays set.
                self.heartbeat = replace(message, over=message.over or self.heartbeat.over)
            case SourceOpened():
                self.opened, self.heartbeat = message, replace(self.heartbeat, quiet=0.0)  # the opening does not count
            case RtfaceError():
                self.refusal = message

    def _end(self, reason: str) -> None:
        self._reason = reason
        self._ended.set()

    def _free(self) -> None:
        if self._ring is not None:
            self._ring.close()
