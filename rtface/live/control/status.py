"""Status of a live run, for the terminal, HTTP and Prometheus metrics."""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from rtface.errors import Message
from rtface.live.controls import LiveControls
from rtface.live.protocols import Endpoint
from rtface.pipeline.progress import PLAIN_INTERVAL, TERMINAL_INTERVAL, LineOutput
from rtface.redaction import redacted
from rtface.stats import Histogram, Stats

Paint = Callable[[str, str], str]

PASS_THROUGH = "pass-through"
"""How the ladder names a face that is left as it is."""
# Share of dropped frames from which an output is reported.
_LOSS = 0.02
# Share of frames that come too late to be enhanced from which enhancement counts as paused.
_MOSTLY = 0.9


class DropShares:
    """Shares of an output's frames dropped in the last ten seconds, by cause."""

    SECONDS = 10.0

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, dict[str, int]]] = deque()

    def update(self, now: float, frames: int, causes: dict[str, int]) -> dict[str, float]:
        """Takes the counts at `now`; shares (0…1) of the causes that there were lately."""
        while len(self._seen) > 1 and self._seen[1][0] <= now - self.SECONDS:
            self._seen.popleft()
        if not self._seen or now - self._seen[-1][0] >= 0.5:
            self._seen.append((now, frames, dict(causes)))
        _, taken, before = self._seen[0]
        lost = {cause: n - before.get(cause, 0) for cause, n in causes.items()}
        came = frames - taken + sum(lost.values())
        return {cause: n / came for cause, n in lost.items() if n > 0 and came > 0}


class LatencyWindow:
    """Durations of the last ten seconds, and how many a second there were in the last three.

    Each second has a histogram of its own; the ten that are kept are summed on request. Safe to use from
    several threads.
    """

    SECONDS = 10
    RATE_SECONDS = 3.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._slots: deque[tuple[int, Histogram]] = deque(maxlen=self.SECONDS)
        self._times: deque[float] = deque(maxlen=1024)

    def add(self, seconds: float) -> None:
        """One duration, now."""
        now = self._clock()
        with self._lock:
            if not self._slots or self._slots[-1][0] != int(now):
                self._slots.append((int(now), Histogram()))
            self._slots[-1][1].add(seconds)
            self._times.append(now)

    def histogram(self) -> Histogram:
        """Of the last ten seconds."""
        oldest = int(self._clock()) - self.SECONDS
        merged = Histogram()
        with self._lock:
            for second, slot in self._slots:
                if second > oldest:
                    merged.bins += slot.bins
                    merged.total += slot.total
                    merged.count += slot.count
                    merged.max = max(merged.max, slot.max)
        return merged

    @property
    def rate(self) -> float:
        """How many a second lately; falls to 0 when none come."""
        now = self._clock()
        with self._lock:
            while self._times and self._times[0] < now - self.RATE_SECONDS:
                self._times.popleft()
            if len(self._times) < 2:
                return 0.0
            n, span = len(self._times) - 1, self._times[-1] - self._times[0]
            quiet = now - self._times[-1]
        # Between two of them the silence says nothing; one that lasts longer counts.
        return n / max(1e-6, span + (quiet if quiet > 2.0 * span / n else 0.0))


class ProcessorMeter:
    """The share of all cores that is in use, over the last ten seconds in which it was asked for.

    Args:
        spent: gives seconds of processor time.
        cores: that there are.
        clock: seconds.
    """

    SECONDS, APART = 10.0, 0.2

    def __init__(self, spent: Callable[[], float], cores: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._spent, self._cores, self._clock = spent, cores, clock
        self._read: deque[tuple[float, float]] = deque([(clock(), spent())])
        self._began = self._read[0]

    @property
    def share(self) -> float:
        """0…1, lately."""
        now = self._clock()
        if now - self._read[-1][0] >= self.APART:
            self._read.append((now, self._spent()))
        while len(self._read) > 2 and self._read[1][0] <= now - self.SECONDS:
            self._read.popleft()
        return self._between(self._read[0], self._read[-1])

    @property
    def run_share(self) -> float:
        """0…1, since the beginning."""
        return self._between(self._began, (self._clock(), self._spent()))

    def _between(self, first: tuple[float, float], last: tuple[float, float]) -> float:
        return max(0.0, last[1] - first[1]) / max(last[0] - first[0], self.APART) / self._cores


class LiveStatus:
    """Rates, latency, drops and endpoint states of a live run. All its texts are without secrets.

    Args:
        stats: of the run; `latency`, `frames_in`, `frames_out`, `dropped:…`, `passed:…` and `faults` are read.
        controls: their values.
        source, sinks: each with the name that messages and metrics know it by, as ``camera:0``.
        sound: likewise where sound comes from; None is the source.
        ladder: gives in a few words how faces are done now, "" where nothing is left out.
        unwatched: whether neither an output nor the preview has a viewer, so that faces are not enhanced.
        guarded: gives the number of faces whose correction the identity guard weakens now.
        persons: gives the persons in view (`PersonsInView.listed`).
        processor: the processor time of the run; None leaves it out.
        delay: seconds from capture to output that the run holds constant, None where it is as soon as possible.
        clock: seconds, of the kind that `EndpointHealth.since` counts.
    """

    def __init__(
        self,
        stats: Stats,
        controls: LiveControls,
        *,
        source: tuple[str, Endpoint],
        sinks: Sequence[tuple[str, Endpoint]],
        sound: tuple[str, Endpoint] | None = None,
        ladder: Callable[[], str] = str,
        processor: ProcessorMeter | None = None,
        delay: float | None = None,
        unwatched: Callable[[], bool] = bool,
        guarded: Callable[[], int] = int,
        persons: Callable[[], list[dict[str, Any]] | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats, self.controls = stats, controls
        self.source = (redacted(source[0]), source[1])
        self.sound = sound and (redacted(sound[0]), sound[1])
        self.sinks: list[tuple[str, Endpoint]] = []
        for name, sink in sinks:
            taken = sum(other.split(" #")[0] == redacted(name) for other, _ in self.sinks)
            self.sinks.append((f"{redacted(name)} #{taken + 1}" if taken else redacted(name), sink))
        self.ends = [self.source, *([self.sound] if self.sound else []), *self.sinks]
        self._losses = {name: DropShares() for name, _ in self.sinks}
        self._late = DropShares()
        self._unwatched, self._guarded, self._persons = unwatched, guarded, persons
        self._ladder, self._delay, self._clock = ladder, delay, clock
        self.processor = processor
        self.window = LatencyWindow(clock)
        self.faces = 0

    def wrote(self, latency: float, faces: int) -> None:
        """Counts a frame handed to the sinks `latency` seconds after its capture."""
        self.window.add(latency)
        self.faces = faces
        self._lost_lately()
        self._late_share()

    def _late_share(self) -> float:
        """Share of the frames of the last ten seconds that came too late to be enhanced."""
        counters = self.stats.counters
        late = counters["passed:late"]
        return sum(self._late.update(self._clock(), counters["frames_out"] - late, {"late": late}).values())

    def _lost_lately(self) -> dict[str, dict[str, float]]:
        """Shares of dropped frames of each output."""
        now = self._clock()
        return {name: self._losses[name].update(now, end.health.frames, end.health.causes) for name, end in self.sinks}

    @property
    def alerts(self) -> list[str]:
        """Connected outputs that drop frames, a line each: "rtmp://…: 52 % dropped (network)"."""
        return [f"{loss['name']}: {loss['percent']} % dropped ({loss['cause']})" for loss in self.losses]

    @property
    def losses(self) -> list[dict[str, Any]]:
        """The same as tables with "name", "percent" and "cause"."""
        return [
            {"name": name, "percent": round(100 * share), "cause": cause}
            for name, losses in self._lost_lately().items()
            for cause, share in losses.items()
            if cause != "away" and share >= _LOSS
        ]

    @property
    def paused(self) -> str:
        """Why no face is enhanced though enhancement is on, "" where that is not so."""
        if not self.controls.enabled:
            return ""
        if self._unwatched():
            return "nobody watches"
        if not self.faces:
            return ""
        if self._late_share() > _MOSTLY:
            return "frames come too late"
        return "computer too busy" if set(self.ladder.split(", ")) == {PASS_THROUGH} else ""

    @property
    def dropped(self) -> dict[str, int]:
        """Frames that were given up, by cause, "sink" for all outputs together; the usual causes also where there
        were none."""
        sinks = sum(end.health.dropped for _, end in self.sinks)
        return {"late": 0, "source": 0} | self._counted("dropped:") | {"sink": sinks}

    @property
    def passed(self) -> dict[str, int]:
        """Frames that went through as they came though there were faces, by cause."""
        return {"late": 0} | self._counted("passed:")

    def _counted(self, prefix: str) -> dict[str, int]:
        counters = self.stats.counted().items()
        return {name.removeprefix(prefix): n for name, n in counters if name.startswith(prefix)}

    @property
    def ladder(self) -> str:
        """How faces are done now."""
        return self._ladder()

    @property
    def audio_offset(self) -> float | None:
        """Seconds by which to delay the sound of another program; None before the first frame."""
        if self._delay is not None:
            return self._delay
        recent = self.window.histogram()
        return recent.percentile(50) + self.buffer if recent.count else None

    @property
    def buffer(self) -> float:
        """Seconds that frames wait in the source's jitter buffer now, before what `latency` counts."""
        return self.source[1].health.buffer

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain dictionaries, lists, numbers and strings."""
        counters, offset = self.stats.counters, self.audio_offset
        run = self.stats.stages_ms().get("latency", {})
        return {
            "seconds": round(time.monotonic() - self.stats.started, 1),
            **self.controls.values(),
            "fps": round(self.window.rate, 2),
            "faces": self.faces,
            "guarded": self._guarded(),
            "persons": self._persons(),
            "latency_ms": _percentiles(self.window.histogram()),
            "latency_run_ms": {key: run.get(key, 0.0) for key in ("p50", "p95", "p99")},
            "frames_in": counters["frames_in"],
            "frames_out": counters["frames_out"],
            "damaged": counters["frames_corrupt"],
            "dropped": self.dropped,
            "passed": self.passed,
            "faults": counters["faults"],
            "cpu_share": None if self.processor is None else round(self.processor.share, 3),
            "ladder": redacted(self.ladder),
            "paused": self.paused,
            "watched": not self._unwatched(),
            "alerts": self.alerts,
            "losses": self.losses,
            "buffer_ms": round(1e3 * self.buffer),
            "delay_ms": None if self._delay is None else round(1e3 * self._delay),
            "audio_offset_ms": None if offset is None else round(1e3 * offset),
            "source": self._end(*self.source),
            "sound": self._end(*self.sound) if self.sound else None,
            "sinks": [self._end(*sink) for sink in self.sinks],
            "warnings": [redacted(text) for text in self.stats.warned()],
            "messages": [Message(text).to_dict() for text in self.stats.warned()],
        }

    def _end(self, name: str, end: Endpoint) -> dict[str, Any]:
        health = asdict(end.health)
        return {
            "name": name,
            "described": redacted(end.described),
            "state": health["state"],
            "detail": redacted(health["detail"]),
            "message": Message(health["detail"]).to_dict(),
            "for_s": round(max(0.0, self._clock() - health["since"]), 1),
            **{key: health[key] for key in ("frames", "dropped", "causes", "bytes", "reopened", "size")},
        }

    def line(self, width: int = 79, paint: Paint = lambda kind, text: text) -> str:
        """The run in one line of at most `width` characters: what is wrong first; what matters least is left out
        where there is no room.

        Args:
            width: of the terminal.
            paint: colours a text, given "fault", "warn" or "ok".
        """
        return _fitted(self._troubles() + self._parts(), width, paint)

    def _troubles(self) -> list[_Part]:
        parts: list[_Part] = []
        for name, end in self.ends:
            health = end.health
            if health.state != "live":
                seconds = "" if health.state == "closed" else f" {max(0.0, self._clock() - health.since):.0f} s"
                detail = f" ({redacted(health.detail)})" if health.detail else ""
                parts.append(
                    _Part(
                        f"{name} {health.state}{seconds}", 0, "warn" if health.state == "opening" else "fault", detail
                    )
                )
        return parts + [_Part(text, 1, "fault") for text in self.alerts]

    def _parts(self) -> list[_Part]:
        recent, values, counters = self.window.histogram(), self.controls.values(), self.stats.counters
        dropped, faults = sum(self.dropped.values()), counters["faults"]
        parts = [
            _Part(f"live {self.window.rate:.1f} fps", 0),
            _Part("1 face" if self.faces == 1 else f"{self.faces} faces", 5),
        ]
        if recent.count:
            parts.append(_Part("latency " + "/".join(f"{v:.0f}" for v in _percentiles(recent).values()) + " ms", 2))
        if self.buffer >= 0.001:
            parts.append(_Part(f"buffer {1e3 * self.buffer:.0f} ms", 6))
        if guarded := self._guarded():
            parts.append(_Part(f"{guarded} guarded", 4))
        paused = self.paused
        if self.ladder and not paused:
            parts.append(_Part(redacted(self.ladder), 4))
        if self.processor is not None and values["cpu_budget"] < 1.0:
            parts.append(_Part(f"cpu {100 * self.processor.share:.0f} of {100 * values['cpu_budget']:.0f} %", 4))
        if self._delay is not None:
            parts.append(_Part(f"audio offset {1e3 * self._delay:.0f} ms", 6))
        parts.append(_Part(f"{dropped} dropped", 3 if dropped else 9))
        if damaged := counters["frames_corrupt"]:
            parts.append(_Part(f"{damaged} damaged", 3, "warn"))
        if faults:
            parts.append(_Part("1 fault" if faults == 1 else f"{faults} faults", 3, "warn"))
        if values["light"]:
            parts.append(_Part(f"light {values['light']:.3g}", 8))
        parts.append(_Part(f"strength {values['strength']:.1f}", 7))
        parts.append(
            _Part(f"paused: {paused}", 1, "warn")
            if paused
            else _Part("on", 1, "ok")
            if values["enabled"]
            else _Part("off", 1, "warn")
        )
        return parts


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of the line; of rank 0 stays, the highest is left out first. The detail is what is cut at last."""

    text: str
    rank: int
    kind: str = ""
    detail: str = ""


def _fitted(parts: list[_Part], width: int, paint: Paint) -> str:
    details = True

    def plain() -> str:
        return "  ".join(part.text + (part.detail if details else "") for part in parts)

    while len(plain()) > width and (least := max(part.rank for part in parts)) > 1:
        parts = [part for part in parts if part.rank != least]
    if len(plain()) > width:
        details = False
    if len(plain()) > width:
        return plain()[: max(0, width - 1)] + "…"
    return "  ".join(
        paint(part.kind, part.text + (part.detail if details else "")) if part.kind else part.text for part in parts
    )


def _percentiles(histogram: Histogram) -> dict[str, float]:
    return {f"p{q}": round(1e3 * histogram.percentile(q), 1) for q in (50, 95, 99)}


class StatusScreen(LineOutput, Protocol):
    """A `LineOutput` with colours (see `rtface.cli.console.Console`)."""

    def paint(self, kind: str, text: str) -> str: ...


class StatusLine:
    """Shows the line: five times a second on a terminal and at once when a control changes, every 10 s elsewhere.

    Call it as often as you like, also while no frames come.
    """

    def __init__(
        self, screen: StatusScreen, status: LiveStatus, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._screen, self._status, self._clock = screen, status, clock
        self._interval = TERMINAL_INTERVAL if screen.live else PLAIN_INTERVAL
        self._shown = clock() - (self._interval if screen.live else 0.0)
        if screen.live:
            status.controls.listen(lambda name, value: self.show())

    def __call__(self) -> None:
        if self._clock() - self._shown >= self._interval:
            self.show()

    def show(self) -> None:
        """Shows it now."""
        self._shown = self._clock()
        if self._screen.live:
            line = self._status.line(shutil.get_terminal_size().columns - 1, self._screen.paint)
        else:
            line = self._status.line(200)
        self._screen.status(line)
