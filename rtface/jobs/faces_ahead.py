"""Faces on sampled frames of a film, by which the time left of its job is known."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import av

from rtface.contact_sheet.search import search
from rtface.errors import RtfaceError
from rtface.jobs.folder import JobFolder
from rtface.jobs.plan import JobPlan
from rtface.options import Options
from rtface.protocols import Device, Tracker

FACES_SHARE, _LESS_SHARE = 0.006, 0.002
"""Seconds of sampling for a second of film; less without faces and on a GPU, which work faster."""
SHORTEST_S = 60.0
"""A film that is shorter is not sampled: too few frames would be."""


def wanted(folder: JobFolder, plan: JobPlan, options: Options) -> bool:
    """Whether a film is to be sampled, and was not yet."""
    return (plan.duration_s >= SHORTEST_S and options.tracker != "none"
            and not folder.faces.exists())


def sample(folder: JobFolder, plan: JobPlan, options: Options, tracker: Tracker,
           device: Device, stopped: Callable[[], bool]) -> None:
    """Counts the faces on frames that are spread evenly; writes their times and numbers of faces
    to faces.json.

    A film that cannot be sought has no samples.

    Args:
        folder, plan, options: of the job.
        tracker, device: of the worker; the tracker is reset.
        stopped: whether the work is to end; nothing is written then.
    """
    began, faces = monotonic(), 0

    def found(_: int, __: int, count: int) -> None:
        nonlocal faces
        faces = count

    def over() -> bool:
        share = FACES_SHARE if faces and device.name == "cpu" else _LESS_SHARE
        return stopped() or monotonic() - began > share * plan.duration_s

    samples: list[tuple[float, int]] = []
    try:
        result = search(plan.source, options, tracker, device, found=found, stop=over,
                        limit_s=FACES_SHARE * plan.duration_s)
        samples = [(float(one.time), len(one.faces)) for one in result.samples]
    except (RtfaceError, av.FFmpegError, OSError) as error:
        folder.log(f"not sampled for faces: {' '.join(str(error).split())}")
    finally:
        tracker.reset()
    if not stopped():
        folder.write(folder.faces, samples, sync=False)
