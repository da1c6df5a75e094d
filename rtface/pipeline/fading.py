"""Estimates the curve against fading when a film is planned (``--colour restore``)."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from rtface.analysis.fading import curve_of, line_of
from rtface.config.options import FaceOptions, Options
from rtface.device.cpu.device import CpuDevice
from rtface.errors import InputError, Message
from rtface.frame import Color, FadingCurve, Float, Frame, Transfer
from rtface.media.files.image_names import has_still_name
from rtface.media.read.media_info import MediaInfo
from rtface.media.read.sampler import FrameSampler, spread
from rtface.media.stills.images import list_images, read_image
from rtface.pipeline.build import open_tracker
from rtface.pipeline.chain import find_faces, until
from rtface.pipeline.film_plan import FilmPlan
from rtface.protocols import Device
from rtface.stats import Stats

_SAMPLES, _SIDE, _LONGEST_S = 60, 128, 1e6  # maximum frames of a film, their side in samples, longest film


class FadingSearch:
    """Estimates curves with a separate tracker.

    Args:
        options: options of the tracker.
        stack: stack that closes the tracker.
    """

    def __init__(self, options: FaceOptions, stack: ExitStack) -> None:
        self._tracker, self._device = open_tracker(options, stack), CpuDevice()

    def curve(self, frames: Iterable[Frame]) -> FadingCurve | None:
        """Returns the curve of a film's frames, or of a still. Frames without a face are skipped."""
        device, stats = self._device, Stats(logs=False)
        return curve_on(
            (find_faces(replace(frame, new=True), self._tracker, device, stats) for frame in frames), device
        )


def curve_on(frames: Iterable[Frame], device: Device) -> FadingCurve | None:
    """Returns the curve of tracked frames: a film's, or one still."""
    lines: list[Float] = []
    skins: list[Float] = []
    for frame in frames:
        if not frame.faces or frame.color.transfer != "sdr":
            continue
        picture, across, down = device.view(frame).thumbnail(_SIDE)
        x0, y0, x1, y1 = max(frame.faces, key=lambda face: face.width).box / [across, down, across, down]
        rows, columns = (
            slice(max(0, int(a + 0.35 * (b - a))), max(1, int(a + 0.7 * (b - a)) + 1)) for a, b in ((y0, y1), (x0, x1))
        )
        skin = np.median(picture[rows, columns].reshape(-1, 3), axis=0) / 255
        if (line := line_of(picture, skin)) is not None:
            lines.append(line)
            skins.append(skin)
    return curve_of(lines, skins)


def film_curve(
    path: Path, info: MediaInfo, options: Options, stop: threading.Event | None = None
) -> FadingCurve | None:
    """Returns the curve of a film or still, or None without fading.

    Raises:
        InputError, UsageError: as in `FrameSampler`.
        Interrupted: `stop` was set.
    """
    with ExitStack() as stack:
        if has_still_name(path) and not info.is_sequence:
            frames = iter([read_image(path).frame])
        else:
            frames = (
                _scans_in(path, info.color.transfer) if info.is_sequence else _sample(path, info.color, options.variant)
            )
        return FadingSearch(options, stack).curve(until(stop, frames))


def with_curve(film: FilmPlan, stats: Stats | None = None, stop: threading.Event | None = None) -> FilmPlan:
    """Adds the curve of a film to its plan if required. The curve is estimated on the whole film, even if
    only a part is processed. Raises the errors of `film_curve`."""
    options, path = film.frames.options, film.frames.input
    if options.colour != "restore" or not isinstance(path, Path):
        return film
    return add_curve(film, film_curve(path, film.info, options, stop), stats)


NONE = Message("{--colour:restore}: no fading was detected, so colours are not changed", code="fading_none")


def add_curve(film: FilmPlan, curve: FadingCurve | None, stats: Stats | None) -> FilmPlan:
    """Adds a curve to a film's plan. A warning in `stats` reports the curve; without `stats`, the plan's notes do."""
    film = replace(film, curve=curve)
    if film.frames.options.colour != "restore":
        return film
    message = (
        NONE
        if curve is None
        else Message(
            "{--colour:restore}: a curve against fading (powers {powers}) changes every sample of the frames",
            code="fading_curve",
            powers=", ".join(f"{power:.2f}" for power, _ in curve),
        )
    )
    if curve is None or stats is None:
        return replace(film, notes=[*film.notes, message])
    stats.warn("fading", message)
    return film


def _sample(path: Path, color: Color, variant: str) -> Iterator[Frame]:
    with closing(FrameSampler(path, variant=variant)) as sampler:
        length = sampler.duration_s
        if length is None:  # the container lacks the length, but contains the time of the last I-frame
            last = sampler.keyframe_before(_LONGEST_S)
            length = 0.0 if last is None else float(last - sampler.clock_start)
        for place in spread(min(_SAMPLES, int(2 * length) + 1)):
            if (frame := sampler.at(place * length)) is not None:
                yield replace(frame, color=color)


def _scans_in(folder: Path, transfer: Transfer) -> Iterator[Frame]:
    paths = list_images(folder)
    for place in sorted({int(k * len(paths)) for k in spread(min(_SAMPLES, len(paths)))}):
        with suppress(InputError):  # the run reports the error
            frame = read_image(paths[place]).frame
            yield replace(frame, color=replace(frame.color, transfer=transfer))
