"""Collects the status of a live run for the terminal and HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from os import cpu_count
from typing import Any

from rtface.concurrency.child_process import processor_seconds
from rtface.enhance.identity_guard import IdentityGuard
from rtface.enhance.track_store import TrackStore
from rtface.errors import Message
from rtface.live.control.meters import DropShares, LatencyWindow, ProcessorMeter
from rtface.live.control.remarks import NO_FACE, pause_of, remarks_of
from rtface.live.light import Light
from rtface.live.persons_in_view import PersonsInView
from rtface.live.protocols import Endpoint
from rtface.live.run_state import RunState
from rtface.quality.governor import QualityGovernor
from rtface.quality.levels import FULL, PASS_THROUGH
from rtface.redaction import redacted
from rtface.util.machine import busy_seconds, cores

# An output that drops at least this share of its frames is reported.
_LOSS_SHARE = 0.02
# Enhancement counts as paused if more than this share of frames is too late for it.
_PAUSE_SHARE = 0.9
# Seconds without a face after which a remark reports this.
_NO_FACE_S = 3.0


class LiveStatus:
    """Rates, latency, drops and endpoint states of a live run. No text contains secrets.

    Args:
        state: state of the run. Reads the counters `frames_in`, `frames_out`, `dropped:…`, `passed:…` and `faults`, and
            the stage `latency`.
        governor: provides the current quality levels.
        persons: persons in view.
        tracks: store with the treatment of each face; None if faces are not enhanced.
        guard: guard that counts the corrections that it currently weakens; None without a guard.
        processor: meter of the run's processor time; None creates one.
        machine: meter of the processor time of all programs; None creates one.
        clock: returns seconds on the same clock as `EndpointHealth.since`.
        light: filters that improve the light.

    Attributes:
        source, sound, sinks: endpoints, each with its name in messages and metrics, such as ``camera:0``. `sound` is
            empty if the source provides the sound.
        ends: all endpoints.
        window: latency of the last frames.
        faces: number of faces on the last frame.
    """

    def __init__(
        self,
        state: RunState,
        governor: QualityGovernor,
        persons: PersonsInView,
        *,
        tracks: TrackStore | None = None,
        guard: IdentityGuard | None = None,
        processor: ProcessorMeter | None = None,
        machine: ProcessorMeter | None = None,
        clock: Callable[[], float] = time.monotonic,
        light: Light | None = None,
    ) -> None:
        self._light = light
        self.state, self.stats, self.controls = state, state.stats, state.controls
        self._governor, self._persons, self._guard, self._clock = governor, persons, guard, clock
        self._tracks, self._face_at = tracks, clock()
        self._tracks_in_view: Sequence[int] = ()
        self._machine = machine or ProcessorMeter(lambda: busy_seconds() or 0.0, cpu_count() or 1, clock)
        ends = state.ends
        source, *sinks = zip(ends.titles, (ends.source, *ends.sinks), strict=True)
        sound = [(ends.sound_name, ends.sound)] if ends.sound else []
        self.ends = _unique_names([source, *sound, *sinks])
        first = 1 + len(sound)
        self.source, self.sound, self.sinks = self.ends[0], self.ends[1:first], self.ends[first:]
        self._losses = {name: DropShares() for name, _ in self.sinks}
        self._late = DropShares()
        self.processor = processor or ProcessorMeter(processor_seconds, cores(), clock)
        self.window = LatencyWindow(clock)
        self.faces = 0

    def wrote(self, latency: float, tracks: Sequence[int]) -> None:
        """Counts a written frame: its latency in seconds, and the tracks of its faces."""
        self.window.add(latency)
        self.faces, self._tracks_in_view = len(tracks), tracks
        if tracks:
            self._face_at = self._clock()
        self._drop_shares()
        self._missed_shares()

    def _missed_shares(self) -> dict[str, float]:
        """Returns the shares of "late" and "unseen" frames in ten seconds. A late frame was not enhanced. An unseen
        frame was not tracked, and neither was any frame in the second before it."""
        counters = self.stats.counters
        counts = {"late": counters["passed:late"], "unseen": counters["frames_unseen"]}
        return self._late.update(self._clock(), counters["frames_out"] - sum(counts.values()), counts)

    def _drop_shares(self) -> dict[str, dict[str, float]]:
        """Returns the shares of dropped frames of each output."""
        now = self._clock()
        return {name: self._losses[name].update(now, end.health.frames, end.health.causes) for name, end in self.sinks}

    @property
    def losses(self) -> list[dict[str, Any]]:
        """Connected outputs that drop frames, as tables with "name", "percent" and "cause"."""
        return [
            {"name": name, "percent": round(100 * share), "cause": cause}
            for name, losses in self._drop_shares().items()
            for cause, share in losses.items()
            if cause != "away" and share >= _LOSS_SHARE
        ]

    @property
    def paused(self) -> str:
        """Reason why enhancement is on but enhances no face; otherwise ""."""
        if not self.controls.enabled:
            return ""
        if not self.state.watched:
            return "no viewers"
        missed = self._missed_shares()
        if self.faces and missed.get("late", 0.0) > _PAUSE_SHARE:
            return "frames come too late"
        idle = set(self._governor.levels) == {PASS_THROUGH} if self.faces else missed.get("unseen", 0.0) > _PAUSE_SHARE
        return "computer too busy" if idle else ""

    @property
    def levels(self) -> str:
        """Quality levels in use; "" if all faces get the full level."""
        levels = self._governor.levels
        return ", ".join(levels) if set(levels) - {FULL} else ""

    @property
    def remarks(self) -> list[Message]:
        """Reasons why enhancement is on but changes nothing, and possible improvements."""
        controls, tracks = self.controls, self._tracks
        if not controls.enabled or tracks is None:
            return []
        if why := self.paused:
            run_share = self.processor.share * cores() / (cpu_count() or 1)
            return [pause_of(why, self._machine.share - run_share if self.state.watched else 0.0)]
        if not self._tracks_in_view:
            return [NO_FACE] if self._clock() - self._face_at >= _NO_FACE_S else []
        analyzers = [track.analyzer for number in self._tracks_in_view if (track := tracks.states.get(number))]
        faces = [(analyzer.treatment, analyzer.lately) for analyzer in analyzers]
        return remarks_of(
            faces, always=controls.always, light=controls.light, uneven=bool(self._light and self._light.uneven)
        )

    def snapshot(self) -> dict[str, Any]:
        """Returns the whole status as plain dictionaries, lists, numbers and strings."""
        counters, delay, recent, source = self.stats.counters, self.state.delay, self.window.histogram(), self.source[1]
        buffer = source.health.buffer
        # Seconds by which to delay the sound of another program; None before the first frame.
        offset = delay if delay is not None else recent.percentile(50) + buffer if recent.count else None
        return {
            "seconds": round(time.monotonic() - self.stats.started, 1),
            **self.controls.values(),
            "fps": round(self.window.rate, 2),
            "faces": self.faces,
            "guarded": self._guard.weakened if self._guard else 0,
            "persons": self._persons.listed(),
            "latency_ms": {f"p{q}": round(1e3 * recent.percentile(q), 1) for q in (50, 95, 99)},
            "frames_in": counters["frames_in"],
            "frames_out": counters["frames_out"],
            "damaged": counters["frames_corrupt"],
            # The usual causes are always listed; "sink" is the sum of all outputs.
            "dropped": {"late": 0, "source": 0}
            | self._counters_of("dropped:")
            | {"sink": counters["dropped:sink"] + sum(end.health.dropped for _, end in self.sinks)},
            "passed": {"late": 0} | self._counters_of("passed:"),
            "faults": counters["faults"],
            "cpu_share": round(self.processor.share, 3),
            "ladder": self.levels,
            "paused": self.paused,
            "remarks": [remark.to_dict() for remark in self.remarks],
            "watched": self.state.watched,
            "losses": self.losses,
            "buffer_ms": round(1e3 * buffer),
            "backlog_ms": round(1e3 * source.health.backlog),
            "delay_ms": None if delay is None else round(1e3 * delay),
            "audio_offset_ms": None if offset is None else round(1e3 * offset),
            "source": self._endpoint(*self.source),
            "sound": self._endpoint(*self.sound[0]) if self.sound else None,
            "sinks": [
                self._endpoint(*named) | {"wanted": sink.wanted}
                for named, sink in zip(self.sinks, self.state.ends.sinks, strict=True)
            ],
            "messages": [Message(text).to_dict() for text in self.stats.warned()],
        }

    def _counters_of(self, prefix: str) -> dict[str, int]:
        return {name.removeprefix(prefix): n for name, n in self.stats.counted().items() if name.startswith(prefix)}

    def _endpoint(self, name: str, end: Endpoint) -> dict[str, Any]:
        health = asdict(end.health)
        return {
            "name": name,
            "described": redacted(end.described),
            "state": health["state"],
            "detail": redacted(health["detail"]),
            "message": Message(health["detail"]).to_dict(),
            "for_s": round(max(0.0, self._clock() - health["since"]), 1),
            "backlog": round(health["backlog"], 2),
            **{key: health[key] for key in ("frames", "dropped", "causes", "bytes", "reopened", "size")},
        }


def _unique_names(ends: Sequence[tuple[str, Endpoint]]) -> list[tuple[str, Endpoint]]:
    """Numbers endpoints with equal names, such as addresses without secrets."""
    titles = [redacted(name) for name, _ in ends]
    names = (f"{name} #{n + 1}" if (n := titles[:k].count(name)) else name for k, name in enumerate(titles))
    return [(name, end) for name, (_, end) in zip(names, ends, strict=True)]
