"""The ends of a live run, and what its steps read of it while it lasts."""

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
"""All ends are closed at once, and none may keep the program longer than this; a recording, whose file is completed and
gets its name then, needs more on a busy machine."""


@dataclass(slots=True)
class Endpoints:
    """Source and sinks of a live run.

    Attributes:
        source: of frames, and of sound unless `sound` is given.
        sinks: the output first, then what it is recorded to.
        sound: where sound comes from instead; None is the source's own.
        silent: no sound at all.
        buffer: seconds of the run's delay that frames wait in the source's jitter buffer.
        slate: what viewers see while the source is away.
        names: of source and sinks as messages and metrics know them, without secrets.
        sound_name: likewise of `sound`.
        film: the source where it is a film in a file.
        whole: whether no frame may be dropped: a stream is recorded, and nobody watches.
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
        """Format of the sound that the sinks get, None for none; once the source has begun."""
        if self.sound is not None:
            return self.sound.sound_format
        return None if self.silent else self.source.sound_format

    @property
    def notes(self) -> list[str]:
        """What differs from what was asked for, a line each."""
        return [note for end in self._all() for note in end.notes]

    @property
    def titles(self) -> Sequence[str]:
        """The names of source and sinks; without any, what they say of themselves."""
        return self.names or [end.described for end in (self.source, *self.sinks)]

    def close(self) -> None:
        """Closes all at the same time, in at most a second; recordings once they are complete."""
        closing = {end: call_in_thread("close", methodcaller("close"), end) for end in self._all()}
        done = wait(closing.values(), CLOSE_S).done
        done |= wait([closing[end] for end in self.sinks if isinstance(end, RecordSink)], FILE_S).done
        for closed in done:
            if (error := closed.exception()) is not None:
                log.error("a source or sink could not be closed: %s", reason(error))
                log.debug("closing failed", exc_info=error)

    def _all(self) -> list[Endpoint]:
        return [self.source, *([self.sound] if self.sound else []), *self.sinks]


@dataclass(frozen=True, slots=True)
class RunState:
    """What the steps of a live run read of it; safe to use from several threads.

    Attributes:
        ends: begun and open.
        controls: what users may change meanwhile.
        stats: receives counters, stage times and warnings.
        preview: its viewers count as those of an output.
        form: of the frames that the sinks were opened for.
        delay: seconds from capture to output, held constant; None is as soon as possible.
    """

    ends: Endpoints
    controls: LiveControls
    stats: Stats
    preview: Preview
    form: VideoFormat
    delay: float | None = None

    @property
    def watched(self) -> bool:
        """True if an output, as far as that is known, or the preview has a viewer."""
        return self.preview.viewers > 0 or any(sink.wanted for sink in self.ends.sinks)

    @property
    def lost(self) -> bool:
        """True if the source is away."""
        return self.ends.source.health.state == "away"
