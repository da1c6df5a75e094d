"""Builds the steps between reading and writing frames."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from math import inf

from rtface.device.cpu.fading import all_unfaded
from rtface.enhance.track_store import StateLookup
from rtface.errors import InputError
from rtface.pipeline.build import FilmNetworks, film_parts
from rtface.pipeline.chain import chain, end_at_faults, join_fields
from rtface.pipeline.film_plan import FilmPlan
from rtface.pipeline.invented import measure_invented, show_invented
from rtface.pipeline.plan import FramePlan
from rtface.pipeline.threads import WAITING
from rtface.protocols import Item
from rtface.shots.settings import NO_SHOTS
from rtface.stages.runner import Stages
from rtface.stats import Stats


class FilmChain:
    """Runs frames once through decode │ track │ enhance │ fault check │ `--invented show` │ stages.

    Args:
        plan: plan of the frames.
        film: plan of the film; None for stills and previews.
        networks: networks of the run.
        stats: receives counters and times.
        stack: stack that closes the stages.
        state_of, begins: as in `rtface.pipeline.build.film_parts`.

    Attributes:
        runtime: the device and the engines of the next frame.
        tracks: the state of every track.

    Raises:
        UsageError: a shot or a map requires something that these networks do not support, or a stage cannot start.
        MissingComponent, EngineError: as in `rtface.pipeline.build.film_parts`.
    """

    def __init__(
        self,
        plan: FramePlan,
        film: FilmPlan | None,
        networks: FilmNetworks,
        stats: Stats,
        stack: ExitStack,
        *,
        state_of: StateLookup | None = None,
        begins: float = -inf,
    ) -> None:
        options, origin = plan.options, None if film is None else float(film.info.clock_start)
        shots = NO_SHOTS if film is None else film.shots
        self._plan, self._stats, self.runtime = plan, stats, networks.runtime
        self._curve = film.curve if film is not None else None
        self._streams = film.streams if film is not None else None
        self._tracker = networks.tracker
        self._corrector = film_parts(
            networks,
            plan,
            stats,
            shots=shots,
            state_of=state_of,
            begins=begins,
            invented=measure_invented(networks.runtime, plan),
        )
        self.tracks = self._corrector.tracks
        self._stages = Stages.open(
            options.stages,
            stats,
            origin=origin,
            begins=None if film is None else float(film.begins),
            commercial_use=options.commercial_use,
        )
        stack.callback(self._stages.close)
        self._stages.check_tracker(options.tracker)

    def enhanced(self, items: Iterator[Item]) -> Iterator[Item]:
        """Enhances tracked frames in the calling thread, without stages. For previews."""
        return join_fields(self._corrector(items))

    def remember(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yields the items. Frames get a copy of their image if stages or ``--compare`` need it."""
        return self._stages.remember(items, always=self._plan.options.compare is not None)

    def frames(
        self,
        items: Iterator[Item],
        *,
        stop: Callable[[], bool] | None = None,
        waiting: int = WAITING,
        hold: bool = True,
    ) -> Generator[Item]:
        """Yields the finished frames, and packets in between.

        Args:
            items: items of the source; a thread reads them.
            stop: if it returns True while the source blocks, iteration ends after the items already read.
            waiting: as in `rtface.pipeline.chain.chain`.
            hold: as in `rtface.pipeline.chain.end_at_faults`.

        Raises:
            EngineError: too many frames in a row failed.
            InputError: the only audio of a pipe may have been lost.
        """
        options, ended = self._plan.options, threading.Event()
        items = all_unfaded(self.remember(items), self._curve)
        enhanced_items = chain(
            items,
            self._tracker,
            self._corrector,
            self._stats,
            watchful=self._stages.hides,
            waiting=waiting,
            stop=lambda: ended.is_set() or (stop is not None and stop()),
        )
        with closing(enhanced_items), ExitStack() as stack:
            stack.callback(ended.set)  # called before the steps are closed, because they would wait for a blocking read
            items = end_at_faults(enhanced_items, self._stats, hold=hold)
            yield from self._stages(show_invented(items, options.look_name) if options.invented == "show" else items)
        silent = self._streams is not None and all(stream.kind != "audio" for stream in self._streams.info.streams)
        if silent and "unannounced" in self._stats.warnings and "audio" not in options.drop:
            raise InputError(
                "{path}: a stream, perhaps the only audio, was left out because the start of the input did not "
                "declare it; save the input as a file first, or use {--drop:audio}",
                code="sound_unannounced",
                path=self._plan.input,
            )
