"""Enhances one film, as a job or in one piece. The command line, Python, queue and studio call `run_film`.

Functions import what needs codecs, because the command line uses `Resumable` before it knows whether it needs any.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtface.config.options import Options
from rtface.errors import Message, RtfaceError, UsageError
from rtface.util.urls import Address

if TYPE_CHECKING:
    from rtface.jobs.job import FilmJob
    from rtface.pipeline.progress import Show
    from rtface.pipeline.runtime import BuildProgress
    from rtface.report import Report
    from rtface.stats import Stats

LONG_S = 120.0
"""Films of at least this length become jobs automatically; shorter ones can quickly be restarted."""


@dataclass(frozen=True, slots=True)
class Resumable:
    """Contains the flags of ``rtface run`` for jobs.

    Attributes:
        workers: ``--workers``.
        restart: ``--restart``.
        farm: ``--farm``.
    """

    workers: str | None = None
    restart: bool = False
    farm: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the flags that the user gave, by name, for JSON."""
        return {name: value for name, value in asdict(self).items() if value}

    def check(self) -> None:
        """Raises UsageError for unusable values and for flags that exclude each other."""
        if self.farm is None:
            return
        from rtface.jobs.local_workers import farm_of

        farm_of(self.farm)
        if self.workers is not None:
            raise UsageError(
                "--workers counts processes on this machine, but with --farm a cluster does the work; leave one of "
                "them out",
                code="workers_farm",
            )

    @property
    def given(self) -> str | None:
        """The first of these flags that the user gave, or None."""
        return next((f"--{name}" for name in self.to_dict()), None)


def run_film(
    input: Path | Address,
    output: Path | str,
    options: Options,
    flags: Resumable = Resumable(),
    *,
    stats: Stats | None = None,
    progress: Show | None = None,
    stop: threading.Event | None = None,
    building: BuildProgress | None = None,
    notify: Callable[[str], object] = lambda _: None,
) -> Report:
    """Enhances a film as a job if possible, otherwise in one piece. Stills are always processed in one piece.

    Args:
        input, output, options, stats, progress, stop, building: see `rtface.pipeline.film.run_file`.
        flags: flags for jobs.
        notify: called with lines for the user.

    Raises:
        see `rtface.pipeline.film.run_file` and `FilmJob.run`.
    """
    from rtface.pipeline.film import run_file

    flags.check()
    job = _open_job(input, output, options, flags, notify, stop)
    if job is None:
        return run_file(input, output, options, stats=stats, progress=progress, stop=stop, building=building)
    if job.finished_earlier:
        notify(f"resumed: {job.finished_earlier} of {len(job.plan)} segments are done")
    return job.run(
        workers=flags.workers or 1,
        farm=flags.farm,
        stats=stats,
        progress=progress,
        stop=stop,
        building=building,
        notify=notify,
    )


def _open_job(
    input: Path | Address,
    output: Path | str,
    options: Options,
    flags: Resumable,
    notify: Callable[[str], object],
    stop: threading.Event | None,
) -> FilmJob | None:
    """Returns the job of a film, or None if none is needed."""
    why = why_no_job(input, output, options)
    if why is None:
        from rtface.jobs.folder import folder_of
        from rtface.jobs.job import FilmJob

        assert isinstance(input, Path)
        has_folder = os.path.isdir(folder_of(Path(output).resolve()))  # noqa: PTH112 - accepts names that are too long
        if not (flags.given or has_folder or _seconds(input, options) >= LONG_S):
            return None
        job = FilmJob.open(input, output, options, restart=flags.restart, stop=stop)
        if not isinstance(job, str):
            return job
        why = job
        if not flags.given:
            notify(why)
            return None
    if flags.given:
        raise UsageError(
            "{option} has no effect here: {why}; leave it out", code="option_no_effect", option=flags.given, why=why
        )
    return None


def why_no_job(input: Path | Address, output: Path | str, options: Options) -> str | None:
    """Returns the reason why a run cannot be a job, or None."""
    from rtface.media.files.image_names import is_image
    from rtface.media.files.outputs import names_folder
    from rtface.media.write.stream_plan import FORMATS

    film = isinstance(input, Path) and (input.is_dir() if options.sequence else input.is_file() and not is_image(input))
    if not film:
        return Message("the INPUT is neither a film in a file nor a folder with {--sequence=True}", code="no_job_input")
    if Path(output).suffix.lower() not in FORMATS and not names_folder(output):
        return "the OUTPUT is neither a film nor a folder"
    if options.dry_run:
        return Message("{--dry-run=True} is given", code="no_job_dry_run")
    return None


def _seconds(path: Path, options: Options) -> float:
    """Returns the length of the selected part of a film. If the length is unknown, returns 0."""
    from rtface.media.read.container import open_container

    try:
        if options.sequence:
            from rtface.pipeline.build import open_scans
            from rtface.stats import Stats

            return open_scans(path, options, Stats(logs=False)).info.duration_s or 0.0
        with open_container(path) as container:
            length = (container.duration or 0) / 1e6
    except RtfaceError:  # the run itself reports the error
        return 0.0
    return min(length, options.end or length) - (options.start or 0.0)
