"""Plans the thread budget of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rtface.util import machine

WAITING = 8
"""Frames that may wait before and after the enhancement; fewer if they are large. They bridge a short stall of the
encoder or decoder; more frames would only occupy memory (6 MB each for 1080p at 10 bit)."""


@dataclass(frozen=True, slots=True)
class EngineThreads:
    """Thread counts of a runtime on the CPU. None means the library's default.

    Attributes:
        engine: threads that compute one crop.
        background: threads that compute one crop of a non-recurrent engine. It may be slow, and in a live run
            frames do not wait for it. None means as many as `engine`.
        opencv: threads of OpenCV.
        at_once: number of crops of a recurrent engine that are computed at the same time, each on
            `engine` threads.
    """

    engine: int | None = None
    background: int | None = None
    opencv: int | None = None
    at_once: int = 1


@dataclass(frozen=True, slots=True)
class Threads:
    """Divides a run's threads, so that no part occupies every core.

    Attributes:
        decode, encode: threads of the decoder and of the encoder.
        engines: threads of the engines and of OpenCV.
    """

    decode: int
    encode: int
    engines: EngineThreads

    @classmethod
    def for_film(cls, threads: int | None) -> Threads:
        """Divides `threads` cores; None for all cores that this process may use."""
        cores = threads or machine.cores()
        # One core is left for threads that track, correct and encode at the same time. On two cores,
        # rtface-s is 8 % faster this way, and rtface-m is not slower.
        engine_threads = max(1, cores - 1)
        return cls(min(cores, 4), cores, EngineThreads(engine_threads, engine_threads, max(1, cores // 4)))

    @classmethod
    def for_live(cls, threads: int | None) -> Threads:
        """Divides a live run's cores. Other steps wait while an engine runs, so engines may use all cores.

        Two faces are computed in parallel, each on half of the cores. On two cores, two crops of rtface-s
        take 7.4 ms this way, and 11.3 ms one after the other on both cores. For a single face, both cores would
        cost 8 % of a core more than one, because OpenVINO's threads busy-wait for each other.
        """
        film = cls.for_film(threads)
        cores = film.encode
        return replace(film, engines=replace(film.engines, engine=max(1, cores // 2), at_once=min(2, cores)))
