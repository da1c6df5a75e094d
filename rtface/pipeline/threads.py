"""The budget of threads of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rtface.util import machine

WAITING = 8
"""Frames that may wait on each side of the enhancement, fewer where they are large. Enough for an encoder or decoder
that stops for a short time; more would only hold memory (6 MB for 1080p at 10 bit)."""


@dataclass(frozen=True, slots=True)
class EngineThreads:
    """Cores of a runtime on the CPU; None leaves the number to the library.

    Attributes:
        engine: for a crop of an engine.
        background: for one without memory, which may be slow, and in a live run works while frames
            pass; None is as many as `engine`.
        opencv: for OpenCV.
        at_once: crops of an engine with memory that are computed at the same time, each on
            `engine` threads.
    """

    engine: int | None = None
    background: int | None = None
    opencv: int | None = None
    at_once: int = 1


@dataclass(frozen=True, slots=True)
class Threads:
    """One budget for a whole run, so that its parts do not each take every core.

    Attributes:
        decode, encode: of the codecs.
        engines: of the engines and of OpenCV.
    """

    decode: int
    encode: int
    engines: EngineThreads

    @classmethod
    def for_film(cls, threads: int | None) -> Threads:
        """Shares out `threads` cores, or all that this process may use."""
        cores = threads or machine.cores()
        # One core is left to the threads that track, correct and encode meanwhile: measured on
        # two cores, rtface-s gains 8 % of speed by that and rtface-m loses nothing.
        most = max(1, cores - 1)
        return cls(min(cores, 4), cores, EngineThreads(most, most, max(1, cores // 4)))

    @classmethod
    def for_live(cls, threads: int | None) -> Threads:
        """For a live run: while an engine works on a frame, nothing else does.

        Two faces are computed side by side, each on half of the cores. All cores for one after the
        other take 11.3 instead of 7.4 ms for two crops of rtface-s on two cores, and 8 % of a core
        more for one face, as OpenVINO's threads wait for each other in a loop.
        """
        film = cls.for_film(threads)
        cores = film.encode
        return replace(film, engines=replace(film.engines, engine=max(1, cores // 2), at_once=min(2, cores)))
