"""Stores the endpoints and the shared state of a live run."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from operator import methodcaller
from pathlib import Path

from rtface.concurrency.threads import call_in_thread
from rtface.errors import log, reason
from rtface.live.control.preview import Preview
from rtface.live.controls import LiveControls
from rtface.live.protocols import Endpoint, LiveSink, LiveSource, SoundFormat, SoundSource, VideoFormat
from rtface.live.sinks.record_sink import CLOSING_S, SETTLING_S, RecordSink
from rtface.live.slate import Slate
from rtface.stats import Stats

CLOSE_S, FILE_S = 0.9, CLOSING_S + SETTLING_S + 0.5
"""Maximum seconds to wait for all endpoints, which close at the same time, and for recordings. On a busy machine, it
takes longer to complete and rename a file."""


@dataclass(slots=True)
class Endpoints:
    """Source and sinks of a live run.

    Attributes:
        source: source of frames, and of sound unless `sound` is set.
        sinks: the output, then its recording, if there is one.
        sound: separate source of sound; None for the source's own sound.
        silent: whether the run has no sound.
        buffer: part of the run's delay, in seconds, that frames wait in the source's jitter buffer.
        slate: image for viewers while the source is away.
        names: names of source and sinks in messages and metrics, without secrets.
        sound_name: name of `sound` in messages and metrics, without secrets.
        film: path of the source if it is a film in a file.
        whole: whether no frame may be dropped, because a stream is recorded and has no viewers.
    """

    source: LiveSource
    sinks: list[LiveSink]
    sound: SoundSource | None = None
    silent: bool = False
    names: tuple[str, ...] = ()
    sound_name: str = "sound"
    buffer: float = 0.0
    slate: Slate = field(default_factory=Slate)
    film: Path | None = None
    whole: bool = False

    @property
    def sound_format(self) -> SoundFormat | None:
        """Format of the sinks' sound; None without sound. Valid after the source has started."""
        if self.sound is not None:
            return self.sound.sound_format
        return None if self.silent else self.source.sound_format

    @property
    def notes(self) -> list[str]:
        """Differences from the request, a line each."""
        return [note for end in self._all() for note in end.notes]

    @property
    def titles(self) -> Sequence[str]:
        """Names of source and sinks; their descriptions if `names` is empty."""
        return self.names or [end.described for end in (self.source, *self.sinks)]

    def close(self) -> None:
        """Closes all endpoints at the same time, within a second. Recordings get more time to complete."""
        closing = {end: call_in_thread("close", methodcaller("close"), end) for end in self._all()}
        finished = wait(closing.values(), CLOSE_S).done
        finished |= wait([closing[end] for end in self.sinks if isinstance(end, RecordSink)], FILE_S).done
        for future in finished:
            if (error := future.exception()) is not None:
                log.error("a source or sink could not be closed: %s", reason(error))
                log.debug("closing failed", exc_info=error)

    def _all(self) -> list[Endpoint]:
        return [self.source, *([self.sound] if self.sound else []), *self.sinks]


@dataclass(frozen=True, slots=True)
class RunState:
    """State that the steps of a live run share; thread-safe.

    Attributes:
        ends: open endpoints.
        controls: settings that users can change during the run.
        stats: statistics that receive counters, stage times and warnings.
        preview: preview, whose viewers count like those of an output.
        form: frame format that the sinks were opened with.
        delay: constant seconds from capture to output; with None, frames are written as soon as possible.
    """

    ends: Endpoints
    controls: LiveControls
    stats: Stats
    preview: Preview
    form: VideoFormat
    delay: float | None = None

    @property
    def watched(self) -> bool:
        """True if the preview has viewers, or an output may have some."""
        return self.preview.viewers > 0 or any(sink.wanted is not False for sink in self.ends.sinks)

    @property
    def lost(self) -> bool:
        """True if the source is away."""
        return self.ends.source.health.state == "away"
