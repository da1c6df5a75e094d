"""Plans the thread budget of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rtface.util import machine

WAITING = 8
"""Frames that may wait on each side of the enhancement; fewer if they are large. They bridge a short stall of the
encoder or decoder; more would only hold memory (6 MB for 1080p at 10 bit)."""


@dataclass(frozen=True, slots=True)
class EngineThreads:
    """Thread counts of a runtime on the CPU. None means the library's default.

    Attributes:
        engine: threads that compute one crop.
        background: threads that compute one crop of a non-recurrent engine, which may be slow; in a live run
            it works while frames pass. None means as many as `engine`.
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
    """Divides a run's threads, so that no part takes every core.

    Attributes:
        decode, encode: threads of the codecs.
        engines: threads of the engines and of OpenCV.
    """

    decode: int
    encode: int
    engines: EngineThreads

    @classmethod
    def for_film(cls, threads: int | None) -> Threads:
        """Divides `threads` cores, or all that this process may use."""
        cores = threads or machine.cores()
        # One core is left for threads that track, correct and encode meanwhile: on two cores, this
        # makes rtface-s 8 % faster and rtface-m no slower.
        most = max(1, cores - 1)
        return cls(min(cores, 4), cores, EngineThreads(most, most, max(1, cores // 4)))

    @classmethod
    def for_live(cls, threads: int | None) -> Threads:
        """Divides a live run's cores; while an engine runs, other steps wait.

        Two faces are computed in parallel, each on half of the cores. On two cores, two crops of rtface-s
        take 7.4 ms this way, and 11.3 ms one after the other on both cores. Even a single face costs 8 % of a
        core more on both cores, because OpenVINO's threads busy-wait for each other.
        """
        film = cls.for_film(threads)
        cores = film.encode
        return replace(film, engines=replace(film.engines, engine=max(1, cores // 2), at_once=min(2, cores)))
