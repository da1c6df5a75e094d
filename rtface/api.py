"""Provides functions for whole files: `run` and `analyze`. For single frames see `rtface.enhancer`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any

from rtface.config.options import WHAT_IS_LIVE, Options, Scope, check_scope
from rtface.errors import Interrupted, UsageError, log
from rtface.pipeline.progress import Progress

if TYPE_CHECKING:
    from rtface.analysis.track_report import TrackReport
    from rtface.live.session import LiveSession
    from rtface.report import Report


@contextmanager
def _interruptible() -> Generator[None]:
    """Converts Ctrl-C in the block to `Interrupted`."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted from None


def run(
    input: str | PathLike[str],
    output: str | PathLike[str],
    *,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    restart: bool = False,
    **options: Any,
) -> Report:
    """Enhances the faces of a film, stills, a camera or a stream.

    Outside the faces every sample stays unchanged until encoding (but `colour="restore"` puts all samples through one
    curve). A lossy encoder changes the whole frame a little.

    Args:
        input: anything that PyAV opens (a film, an address such as https://…), a still, or a folder of stills. For a
            live run: "camera:0" or a stream's URL.
        output: file or folder. The extension of a file selects its format; a folder must exist, or its name must end
            in a slash. For a live run: "vcam:", a URL, "null:" or a recording. A live run ends with its input, or when
            the process is interrupted (docs/live.md).
        progress: called after every frame, and five times a second in a live run, on the thread that called `run`.
        cancel: ends the run when another thread sets it. A live run then returns its report. Other runs raise
            Interrupted, and leave a playable part or, for a long film, a state from which the same call continues
            (docs/films.md).
        restart: whether to start from the beginning, even if this call could continue an earlier one.
        options: fields of `rtface.Options`. These are the options of ``rtface run``.

    Returns:
        The report; docs/report.md explains its keys.

    Raises:
        RtfaceError: see `rtface.errors`; each is also a builtin error. Ctrl-C raises Interrupted; its message says
            which part was written.
    """
    from rtface.config.addresses import is_live, live_scope, parse_address, resolve_address
    from rtface.util.urls import place

    with _interruptible():
        addresses = [resolve_address(_path(input, "input", "run")), resolve_address(_path(output, "output", "run"))]
        settings = Options.of(options)
        ends = parse_address(addresses[0]), parse_address(addresses[1])
        if is_live(*ends):
            from rtface.live.endpoint_factory import make_endpoints
            from rtface.live.session import run_live
            from rtface.stats import Stats

            if restart:
                raise UsageError(
                    "{--restart=True} has no effect here: it is for films; leave it out; {advice}",
                    code="restart_films",
                    advice=WHAT_IS_LIVE,
                )
            check_scope(options, settings, live_scope(*ends, settings))
            stats = Stats()
            return run_live(
                make_endpoints(*ends, settings, stats),
                settings,
                stats=stats,
                stop=cancel,
                monitor=_live_progress(progress) if progress else None,
            )
        from rtface.jobs.run import Resumable, run_film
        from rtface.pipeline.plan import scope_of

        source, target = place(addresses[0]), addresses[1]
        check_scope(options, settings, scope_of(source, target, settings))
        return run_film(
            source, target, settings, Resumable(restart=restart), progress=progress, stop=cancel, notify=log.info
        )


def analyze(
    input: str | PathLike[str],
    *,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    **options: Any,
) -> list[TrackReport]:
    """Analyses each face and returns the treatment that `run` would choose.

    Args:
        input: see `run`; a live input is not possible.
        progress, cancel: see `run`.
        options: options of ``rtface analyze``: tracker, faces, max_faces, start, end, threads, sequence, fps.

    Returns:
        One report for each track, in order of track numbers; see docs/report.md.

    Raises:
        RtfaceError: see `rtface.errors`; Interrupted if `cancel` was set.
    """
    from pathlib import Path

    from rtface.config.addresses import resolve_address
    from rtface.pipeline.analysis import analyze_file
    from rtface.pipeline.plan import scope_of
    from rtface.util.urls import place

    with _interruptible():
        source = place(resolve_address(_path(input, "input", "analyze")))
        settings = Options.of(options)
        check_scope(options, settings, Scope.ANALYSIS)
        check_scope(options, settings, scope_of(source, Path("analysis"), settings))
        return analyze_file(source, settings, progress=progress, stop=cancel)


def _path(value: object, name: str, function: str) -> str:
    if isinstance(value, str | PathLike) and (text := os.fsdecode(value)):  # pyright: ignore[reportUnknownArgumentType]
        return text
    raise UsageError(
        "{name} must be a path or an address as str or pathlib.Path, not {value}; call rtface.{function} once per file",
        code="argument_path",
        name=name,
        value=type(value).__name__ if value else repr(value),
        function=function,
    )


def _live_progress(progress: Callable[[Progress], None]) -> Callable[[LiveSession], None]:
    """Makes a monitor that passes a live run's state to `progress`."""

    def report(live: LiveSession) -> None:
        state = live.status.snapshot()
        progress(Progress(state["frames_out"], state["seconds"], None, state["fps"], state["faces"]))

    return report
