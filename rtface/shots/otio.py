"""OpenTimelineIO files (``.otio``, extra ``otio``): settings in the metadata of clips, and scenes as clips."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from typing import Any

from rtface.errors import MissingComponent, UsageError
from rtface.shots.clock import FilmClock
from rtface.shots.scenes import Scene
from rtface.shots.settings import AS_RUN, Shot, read_settings
from rtface.util.install import extra_line

_KEY = "rtface"


def open_library() -> Any:
    """The package opentimelineio; MissingComponent where it is not installed."""
    try:
        import opentimelineio
    except ImportError as error:
        raise MissingComponent(
            "files of OpenTimelineIO need the package opentimelineio: {repair} (or use CSV or EDL)",
            code="otio_package",
            repair=extra_line("otio"),
        ) from error
    return opentimelineio


def read_otio(text: str, name: str, clock: FilmClock) -> list[Shot]:
    """Shots of a timeline that shows the film from its first frame on, or from its global start time.

    Clips (and nested stacks) of the video tracks have settings as ``metadata["rtface"]``: {"strength": 0.5}.

    Raises:
        MissingComponent: opentimelineio is not installed.
        UsageError: names the file and the clip.
    """
    otio = open_library()
    try:
        # A key that stands twice crashes the library: of each the last one is taken.
        timeline: Any = otio.core.deserialize_json_from_string(json.dumps(json.loads(text)))
    except (ValueError, KeyError, TypeError, RecursionError, otio.exceptions.OTIOError) as error:
        raise UsageError(
            "{name}: is no OpenTimelineIO file ({why})",
            code="otio_damaged",
            name=name,
            why=" ".join(str(error).split())[:200],
        ) from error
    if not isinstance(timeline, otio.schema.Timeline):
        raise UsageError(
            "{name}: holds {type} and not a timeline; export the timeline of the film",
            code="otio_timeline",
            name=name,
            type=type(timeline).__name__,
        )
    shift = _shift(timeline, name, clock)
    shots: list[Shot] = []
    for track in timeline.video_tracks():
        for number, item in enumerate(track, 1):
            if isinstance(item, otio.schema.Gap | otio.schema.Transition):
                continue
            where = f"clip {item.name[:60] or number}"
            try:
                times = item.range_in_parent()
            except otio.exceptions.OTIOError as error:
                raise UsageError(
                    "{name}, {where}: has no times ({why})",
                    code="otio_times",
                    name=name,
                    where=where,
                    why=" ".join(str(error).split())[:200],
                ) from error
            rate = times.start_time.rate
            begin = clock.frames(times.start_time.value, rate, f"{name}, {where}")
            end = clock.frames(times.end_time_exclusive().rescaled_to(rate).value, rate, f"{name}, {where}")
            settings = AS_RUN
            if _KEY in item.metadata:
                given: object = item.metadata[_KEY]
                if not isinstance(given, Mapping):
                    raise UsageError(
                        '{name}, {where}: metadata "rtface" must be a table of settings, such as {{"strength": 0.5}}',
                        code="otio_settings",
                        name=name,
                        where=where,
                    )
                settings = read_settings([(str(key), value) for key, value in given.items()], f"{name}, {where}")
            shots.append(Shot(clock.first + shift + begin, clock.first + shift + end, settings, where))
    if not shots:
        raise UsageError("{name}: the timeline has no clip in a video track", code="otio_no_clip", name=name)
    return shots


def write_otio(scenes: list[Scene], clock: FilmClock, title: str) -> str:
    """A timeline with a clip for each scene; clips have an empty table of settings.

    Raises:
        MissingComponent: opentimelineio is not installed.
    """
    otio = open_library()
    time = partial(otio.opentime.RationalTime, rate=float(clock.rate))
    timeline, start = otio.schema.Timeline(title), clock.start.frame if clock.start else 0
    if clock.start:
        timeline.global_start_time = time(start)
    track = otio.schema.Track("V1", kind=otio.schema.TrackKind.Video)
    timeline.tracks.append(track)
    if scenes and (before := clock.frame_at(scenes[0].begin)) > 0:
        track.append(otio.schema.Gap(otio.opentime.TimeRange(time(0), time(before))))
    for number, scene in enumerate(scenes, 1):
        first, last = clock.frame_at(scene.begin), clock.frame_at(scene.end)
        if last > first:
            media = otio.schema.ExternalReference(target_url=title)
            track.append(
                otio.schema.Clip(
                    f"shot {number}",
                    media,
                    otio.opentime.TimeRange(time(start + first), time(last - first)),
                    {_KEY: {}},
                )
            )
    return str(timeline.to_json_string())


def _shift(timeline: Any, name: str, clock: FilmClock) -> Fraction:
    """Seconds from the film's first frame to the beginning of the timeline."""
    begin = timeline.global_start_time
    if begin is None:
        return Fraction(0)
    clock.frames(begin.value, begin.rate, name)  # the rates must agree
    if clock.start is None:  # without a timecode in the film the timeline begins with it
        return Fraction(0)
    return Fraction(round(begin.value) - clock.start.frame) / clock.rate
