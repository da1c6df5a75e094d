"""Faces on sampled frames of a film, by which the time left of its job is known.

Samples are taken on a thread, while the first segments are made. A sample at a time has the faces
of the keyframe before it: encoders put keyframes at scene changes, so that one frame with its faces
mostly stands for a scene, and need not be decoded twice.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from time import perf_counter, thread_time
from typing import Any

import av

from rtface.config.options import FaceOptions, Options
from rtface.device.cpu.device import CpuDevice
from rtface.errors import RtfaceError
from rtface.frame import Frame
from rtface.jobs.folder import JobFolder
from rtface.jobs.plan import JobPlan
from rtface.media.read.sampler import FrameSampler, spread
from rtface.protocols import ALL_FACES, Tracker
from rtface.tracking import create_tracker
from rtface.util.foreign import count, number, row

_FACES_SHARE, _LESS_SHARE = 0.006, 0.004
"""Processor seconds for a second of film; less without faces, where the work takes less, too."""
SHORTEST_S = 60.0
"""A film that is shorter is not sampled: it is finished too soon."""
_SPACING_S, _MOST = 1.0, 2400
"""Seconds between two samples at least, and their number at most."""
_REACH_S = 17.0
"""Seconds that a keyframe stands for at most: 250 frames, the spacing that encoders take by default, at 15 a second."""
FIRST_SAMPLES = 16
"""Samples that are written first, then each time there are twice as many."""


def read_samples(folder: JobFolder) -> dict[str, Any]:
    """What is in faces.json; nothing where it is not there. Raises InputError where it cannot be used."""
    return folder.read(folder.faces, {"samples": [row(number, count)]}) or {}


def wanted(folder: JobFolder, plan: JobPlan, options: Options) -> bool:
    """Whether a film is to be sampled, and was not yet."""
    return (
        plan.duration_s >= SHORTEST_S
        and not options.sequence  # in a folder nothing is sought
        and options.tracker != "none"
        and not read_samples(folder).get("whole")
    )


def shares(duration_s: float) -> list[float]:
    """Places of the samples in a film of some seconds, in 0…1, in their order."""
    return spread(min(_MOST, int(duration_s / _SPACING_S)))


def budget_s(duration_s: float, faces: bool) -> float:
    """Processor seconds that sampling a film of some seconds may take."""
    return duration_s * (_FACES_SHARE if faces else _LESS_SHARE)


def sample(
    folder: JobFolder,
    plan: JobPlan,
    options: FaceOptions,
    variant: str,
    stop: Callable[[float], bool],
    clock: Callable[[], float] = thread_time,
) -> None:
    """Counts the faces at times that are spread evenly, however early it ends; writes times and
    numbers of faces to faces.json, and continues what is there.

    A film that cannot be sought has no samples.

    Args:
        folder, plan, options: of the job.
        variant: of an HLS or DASH list (``--variant``).
        stop: waits for some seconds; whether the sampling is to end.
        clock: processor seconds, of which it takes no more than `budget_s`.
    """
    began = clock()
    samples: list[tuple[float, int]] = [(time, faces) for time, faces in read_samples(folder).get("samples", ())]
    due, over = max(FIRST_SAMPLES, 2 * len(samples)), False
    try:
        tracker = create_tracker(options.tracker, max_faces=options.max_faces or ALL_FACES)
        with closing(tracker), closing(FrameSampler(plan.source, variant=variant)) as film:
            counts = _Counts(film, tracker)
            for share in shares(plan.duration_s)[len(samples) :]:
                started = perf_counter()
                time = plan.starts[0] + Fraction(share) * (plan.ends - plan.starts[0])
                if (found := counts.at(time)) is not None:
                    samples.append(found)
                if len(samples) >= due:
                    folder.write(folder.faces, {"whole": False, "samples": samples}, sync=False)
                    due *= 2
                if clock() - began > budget_s(plan.duration_s, any(n for _, n in samples)):
                    break
                # Rests as long as it works: the film's own threads leave little time on two cores.
                if over := stop(perf_counter() - started):
                    break
    except (RtfaceError, av.FFmpegError, OSError) as error:
        folder.log(f"not sampled for faces: {' '.join(str(error).split())}")
    folder.write(folder.faces, {"whole": not over, "samples": samples}, sync=False)


class _Counts:
    """Numbers of faces on keyframes of a film, each counted once.

    Args:
        film: gives the frames.
        tracker: finds the faces.
    """

    def __init__(self, film: FrameSampler, tracker: Tracker) -> None:
        self._film, self._tracker, self._device = film, tracker, CpuDevice()
        self._known: dict[Fraction, int] = {}

    def at(self, time: Fraction) -> tuple[float, int] | None:
        """A time of the input's clock, and the number of faces at it; another time where no keyframe
        is near, and None where nothing can be decoded."""
        seconds = float(time - self._film.clock_start)
        key = self._film.keyframe_before(seconds)
        if key is not None and key in self._known and time - key < _REACH_S:
            return round(float(time), 3), self._known[key]
        frame = self._film.at(seconds)
        if frame is None:
            return None
        shown = frame.pts * frame.time_base
        self._known[shown] = faces = self._faces(frame)
        return round(float(time if 0 <= time - shown < _REACH_S else shown), 3), faces

    def _faces(self, frame: Frame) -> int:
        if frame.display.fields != "progressive":  # as a run does, by field
            frame = replace(frame, field=0)
        self._tracker.reset()
        return len(self._tracker.update(self._device.view(frame), float(frame.pts * frame.time_base), cut=True))
