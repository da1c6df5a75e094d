"""Tries light and looks on a few seconds of a camera.

The recorded frames stay in memory. Each trial passes them through the steps of a live run, at full quality.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import cv2
import numpy as np

from rtface.analysis.patch import patch_of_view
from rtface.analysis.track_report import TrackReport
from rtface.analysis.verdict import HARDLY_VISIBLE, LEFT_ALONE, MILD, faults_of
from rtface.concurrency.child_process import processor_seconds
from rtface.concurrency.threads import call_in_thread
from rtface.config.addresses import LiveAddress
from rtface.config.look import LOOKS
from rtface.config.options import Options, locked
from rtface.device.cpu.device import CpuDevice
from rtface.errors import InputError, Interrupted, Message
from rtface.frame import Bytes, Color, Face, Frame
from rtface.live.endpoint_factory import make_endpoints
from rtface.live.frame_filters import FrameFilters
from rtface.live.protocols import TIME_BASE
from rtface.pipeline.build_live import frame_parts, live_engine
from rtface.pipeline.chain import bytes_of, find_faces, until
from rtface.stats import Stats
from rtface.util.av_arrays import copy_image, image_from_array
from rtface.util.parse import AUTO_LIGHT

_MAX_FRAMES, _MAX_BYTES = 150, 512 << 20
# A treatment is decided after _SETTLED_S; of the later frames, every third may be shown. _LIT is the smallest visible
# change of light, as a share of white.
_SETTLED_S, _EVERY, _LIT = 1.5, 3, 0.02
_TILE = 400  # pixels of a tile's side


@dataclass(frozen=True, slots=True)
class CameraTrial:
    """Holds the result of a test of a camera.

    Attributes:
        table: the figures, as JSON values (docs/cli.md explains them).
        heading: one line about the camera and the face.
        rows: cells of a table of the trials.
        advice: one line about the settings that help.
        shown: a labelled row of the face: the camera's image, then each trial's, as in `rows`.
    """

    table: dict[str, object]
    heading: str
    rows: list[list[str]]
    advice: Message
    shown: Frame


def try_camera(
    address: LiveAddress,
    options: Options,
    *,
    seconds: float = 5.0,
    stop: threading.Event | None = None,
    status: Callable[[str], None] = lambda line: None,
) -> CameraTrial:
    """Measures the effect of light and of each look on a camera.

    Args:
        address: camera, live stream, or film that stands in for them.
        options: options of the live run to try, except its light.
        seconds: duration of the recording; at most 150 frames and 512 MB are kept.
        stop: when set, ends the test.
        status: called with the current step.

    Raises:
        InputError: the camera cannot be read, or shows no face.
        Interrupted: `stop` was set.
        UsageError, MissingComponent, EngineError: see `rtface.run`.
    """
    stop, frames = stop or threading.Event(), list[Frame]()
    options = replace(options, engine=live_engine(options), audio="none", light=0.0)

    def keep(frame: Frame) -> None:
        if len(frames) < min(_MAX_FRAMES, 1 + _MAX_BYTES // bytes_of(frame)):
            frames.append(replace(frame, image=copy_image(frame.image)))

    status("recording; look into the camera")
    source = make_endpoints(address, LiveAddress("null", ""), options, Stats()).source
    with closing(source):
        opening = call_in_thread("camera", source.start, keep, len)
        while stop.is_set() or not opening.done():
            if stop.wait(0.05):
                raise Interrupted
        opening.result()
        spent = processor_seconds()
        stop.wait(seconds)
        reading, camera = round((processor_seconds() - spent) / seconds, 3), source.described
    others = [look for look in LOOKS if look != options.look and "look" not in locked()]
    settings = [
        *([] if "light" in locked() else [("light", AUTO_LIGHT)]),
        *(("look", look) for look in (options.look, *others)),
    ]
    helpful, tiles, trials, rows = list[tuple[str, object]](), list[Bytes](), list[object](), list[list[str]]()
    width, level, faults, corrected = 0.0, 0.0, list[tuple[str, float]](), False
    for name, value in settings:
        status(f"trying --{name} {value}")
        original, after, face, track, cores = _play(frames, replace(options, **{name: value}), stop, camera)
        (level, energy), (bright, detail) = _figures(original, face), _figures(after, face)
        width, faults, detail = round(face.width, 1), faults_of(track.analysis), detail / energy
        helps, words = track.verdict.word not in (LEFT_ALONE, HARDLY_VISIBLE), track.verdict.sentence()
        tiles += [] if tiles else [_tile(original, face, "camera")]
        tiles, corrected = [*tiles, _tile(after, face, f"--{name} {value}")], corrected or after.corrected
        if name == "light":  # detail does not count
            before, lit = (cv2.blur(tile[28:], (25, 25)).astype(np.float32) for tile in (tiles[0], tiles[-1]))
            change = float(np.abs(lit - before).mean()) / 255.0
            words = f"brightness of your face: {level:.0%} before, {bright:.0%} after; light changes by {change:.1%}"
            helps = change >= _LIT
        helpful += [(name, value)] * helps
        rows.append([f"--{name} {value}", f"x {detail:.2f}", f"{bright:.0%}", f"{cores:.2f}", words])
        trials.append(
            {"option": name, "value": value, "helps": helps, "words": words}
            | {"verdict": None if name == "light" else track.verdict.to_dict()}
            | {"detail": round(detail, 3), "brightness": round(bright, 3), "cores": round(cores, 3)}
        )
    advice = (
        Message(
            "visible changes: {options}. Use {use}",
            code="camera_helps",
            options=", ".join(f"--{name} {value}" for name, value in helpful),
            use=" ".join(f"--{name} {value}" for name, value in dict(reversed(helpful)).items()),
        )
        if helpful
        else Message("nothing here would help visibly", code="camera_same")
        if any(score >= MILD for _, score in faults)
        else Message("your camera is sharp and well lit: nothing would be gained", code="camera_good")
    )
    table: dict[str, object] = {"camera": camera, "frames": len(frames), "cores": reading, "engine": options.engine}
    table |= {"width": width, "brightness": round(level, 3), "faults": faults, "trials": trials}
    heading = ", ".join(
        (
            f"{camera}: {len(frames)} frames, {reading:.2f} cores, face {width:.0f} px wide, brightness {level:.0%}",
            *(f"{name} {score:.2f}" for name, score in faults),
        )
    )
    row = image_from_array(np.hstack(tiles), "rgb")
    shown = Frame(row, 0, TIME_BASE, color=Color("rgb", True), corrected=corrected, filtered=True)
    return CameraTrial(table | {"advice": advice.to_dict()}, heading, rows, advice, shown)


def _play(
    frames: Sequence[Frame], options: Options, stop: threading.Event, camera: str
) -> tuple[Frame, Frame, Face, TrackReport, float]:
    """Passes frames through the steps of a live run.

    Returns:
        The recorded frame with the largest and sharpest face; its result; this face; the report of its track; and the
        processor seconds per second.

    Raises:
        InputError: no frame shows a face.
        Interrupted: `stop` was set.
    """
    stats, faces, best, rank = Stats(), tuple[Face, ...](), None, (False, 0.0)
    with ExitStack() as stack:
        tracker, enhance = frame_parts(options, stats, stack, analysis=True, wait=True)
        filters, spent = stack.enter_context(closing(FrameFilters(options, stats))), processor_seconds()
        for number, original in enumerate(until(stop, frames)):
            frame = filters.before(replace(original, image=copy_image(original.image)), options.light, faces)
            frame = enhance.process(find_faces(frame, tracker, enhance.runtime.device, stats))
            if (faces := frame.faces) and number % _EVERY == 0:
                face = max(faces, key=lambda face: face.width)
                score = original.time - frames[0].time >= _SETTLED_S, face.width * _figures(original, face)[1] ** 0.5
                best, rank = ((original, frame, face), score) if score > rank else (best, rank)
        if best is None:
            raise InputError(
                "{camera}: no face was found on {count} frames; sit in front of the camera, with light on your face",
                code="camera_no_face",
                camera=camera,
                count=len(frames),
            )
        cores = (processor_seconds() - spent) / max(frames[-1].time - frames[0].time, 1e-3)
        (track,) = (one for one in enhance.tracks.reports() if one.id == best[2].track_id)
        return *best, track, cores


def _tile(frame: Frame, face: Face, label: str) -> Bytes:
    """Returns a face and its surroundings with a label."""
    scale, x, y = 0.5 * _TILE / face.width, *(face.box[:2] + face.box[2:])
    matrix = np.array([[scale, 0, 0.5 * (_TILE - scale * x)], [0, scale, 0.5 * (_TILE - scale * y)]])
    tile = CpuDevice().view(frame).crop(matrix, (_TILE, _TILE)).copy()
    tile[:28] //= 4
    cv2.putText(tile, label, (8, 20), (255, 255, 255), cv2.FontFace("sans"), 16, 400)
    return tile


def _figures(frame: Frame, face: Face) -> tuple[float, float]:
    """Returns a face's median luma, 0…1, and its relative detail energy."""
    (luma, *_) = patch_of_view(CpuDevice().view(frame), face) or (np.zeros((24, 24), np.float32),)
    level = max(1.0, float(np.median(luma)))
    return level / 255.0, float(np.mean((luma - cv2.GaussianBlur(luma, (0, 0), 2.0)) ** 2)) / level**2 + 1e-9
