"""Tries looks and brightening on a few seconds of a camera, and measures what each would change.

The frames of a short live run without corrections are kept in memory. Each trial is a live run that plays them again,
so every figure is that of a call on this computer.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from time import monotonic

import cv2
import numpy as np

from rtface.analysis.patch import patch_of_view
from rtface.analysis.verdict import HARDLY_VISIBLE, LEFT_ALONE, MILD, faults_of
from rtface.concurrency.child_process import processor_seconds
from rtface.concurrency.threads import start_thread
from rtface.config.addresses import LiveAddress
from rtface.config.look import LOOKS
from rtface.config.options import Options, locked
from rtface.device.cpu.device import CpuDevice
from rtface.errors import InputError, Interrupted, Message
from rtface.frame import Face, Frame
from rtface.live.endpoint_factory import make_endpoints
from rtface.live.protocols import LiveSource, SoundPacket, VideoFormat
from rtface.live.run_state import Endpoints
from rtface.live.session import LiveSession, run_live
from rtface.live.sinks.null_sink import NullSink
from rtface.report import Report
from rtface.stats import Stats
from rtface.util.av_arrays import copy_image

SECONDS = 5.0
"""Duration of the recording."""
_MAX_FRAMES, _MAX_BYTES = 150, 512 << 20
_SETTLED_S, _EVERY = 1.5, 3  # a treatment is decided by then; of the later frames, every third may be shown
_BRIGHTER = 0.03  # smallest change of a face's brightness that is visible


@dataclass(frozen=True, slots=True)
class Trial:
    """What one setting would change.

    Attributes:
        setting: the option, such as "--look vivid".
        helps: whether the change is visible.
        words: the change in words.
        strength: applied strength of the correction, 0…1.5.
        gain_db: expected gain in the face; None if it is unknown.
        detail: energy of the face's fine detail at equal brightness, as a factor of that in the camera's frame.
        brightness: median luma of the face, 0…1.
        cores: processor seconds per second of video.
    """

    setting: str
    helps: bool
    words: str
    strength: float
    gain_db: float | None
    detail: float
    brightness: float
    cores: float


@dataclass(slots=True)
class CameraTrial:
    """The result of a test of a camera.

    Attributes:
        camera: the camera with its format.
        frames: number of recorded frames.
        width: width of the face in display pixels.
        brightness: median luma of the face, 0…1.
        cores: processor seconds per second for reading the camera and finding faces.
        shown: frame of the first trial that helps, else of the first one. Its `before` is the camera's image.
        faults: the face's faults with their scores, the worst first.
        trials: one for brightening with the wanted look, then one for each look, the wanted one first.
        engine, device: engine and device of the trials.
    """

    camera: str
    frames: int
    width: float
    brightness: float
    cores: float
    shown: Frame
    faults: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    trials: list[Trial] = field(default_factory=list[Trial])
    engine: str = ""
    device: str = ""

    @property
    def advice(self) -> Message:
        """One line about the settings that help."""
        if helpful := [one.setting for one in self.trials if one.helps]:
            return Message("visible changes: {options}", code="camera_helps", options=", ".join(helpful))
        if any(score >= MILD for _, score in self.faults):
            return Message("no setting would visibly change your face", code="camera_same")
        return Message("your camera is sharp and well lit: nothing would be gained", code="camera_good")

    def to_dict(self) -> dict[str, object]:
        """Returns the figures as JSON values."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "shown"}
        return {**values, "trials": [asdict(one) for one in self.trials], "advice": self.advice.to_dict()}


class _Recorder(NullSink):
    """Keeps copies of frames that were captured at `first` or later."""

    def __init__(self, first: float = 0.0, count: int = _MAX_FRAMES) -> None:
        super().__init__()
        self.first, self._count, self._bytes = first, count, 0
        self.frames = list[Frame]()

    def write(self, frame: Frame) -> None:
        if frame.captured_at is None or frame.captured_at < self.first or len(self.frames) >= self._count:
            return  # a repeated frame has no time of capture
        self._bytes += sum(plane.buffer_size for plane in frame.image.planes)
        if self._bytes <= _MAX_BYTES or not self.frames:
            self.frames.append(replace(frame, image=copy_image(frame.image)))


def _ignore(frame: Frame) -> None:
    """Does nothing with a frame."""


class _Replay(LiveSource):
    """Plays recorded frames once, at the intervals at which they came. `recorder` keeps the frame number `shown`."""

    def __init__(self, frames: Sequence[Frame], form: VideoFormat, shown: int, recorder: _Recorder) -> None:
        self._frames, self._form, self._shown, self._recorder = frames, form, shown, recorder
        self._stop, self._ended, self._give = threading.Event(), False, _ignore
        self.numbers = dict[float, int]()

    @property
    def described(self) -> str:
        return "recorded frames"

    @property
    def video_format(self) -> VideoFormat:
        return self._form

    @property
    def ended(self) -> bool:
        return self._ended

    def start(self, frame: Callable[[Frame], None], sound: Callable[[SoundPacket], None]) -> None:
        self._give = frame

    def hold(self, held: bool) -> None:
        if not held:
            start_thread("replay", self._play)

    def close(self) -> None:
        self._stop.set()

    def _play(self) -> None:
        began = monotonic()
        for number, frame in enumerate(self._frames):
            if self._stop.wait(max(0.0, began + frame.time - self._frames[0].time - monotonic())):
                return
            now = monotonic()
            self.numbers[now] = number
            if number == self._shown:
                self._recorder.first = now
            image = copy_image(frame.image)
            self._give(replace(frame, image=image, pts=round(1e6 * now), captured_at=now, faces=(), before=None))
        self._ended = True


def try_camera(
    address: LiveAddress,
    options: Options,
    *,
    seconds: float = SECONDS,
    stop: threading.Event | None = None,
    status: Callable[[str], None] = lambda line: None,
) -> CameraTrial:
    """Measures what each look and brightening would change on a camera. Takes about 40 seconds.

    Args:
        address: camera, live stream, or film that stands in for them.
        options: options of the live run to try, except its look and its light.
        seconds: duration of the recording; at most 150 frames and 512 MB are kept.
        stop: when set, ends the test.
        status: called with the current step.

    Raises:
        InputError: the camera cannot be read, or shows no face.
        Interrupted: `stop` was set.
        UsageError, MissingComponent, EngineError: see `rtface.run`.
    """
    stop, recorder = stop or threading.Event(), _Recorder()
    status("recording: look into the camera")
    quiet = replace(options, correct="never", audio="none", light=0.0)
    ends = replace(make_endpoints(address, LiveAddress("null", ""), quiet, Stats()), sinks=[recorder])
    report, cores = _run(ends, quiet, stop, seconds)
    number, face = _best_face(recorder.frames, str(address))
    frames, shown = recorder.frames, recorder.frames[number]
    width, level = round(face.width, 1), round(_figures(shown, face)[0], 3)
    shown = replace(shown, before=shown.image)
    test = CameraTrial(report.input, len(frames), width, level, round(cores, 3), shown)
    looks = (options.look, *(look for look in LOOKS if look != options.look and "look" not in locked()))
    settings = [*([] if "light" in locked() else [{"light": 1}]), *({"look": look} for look in looks)]
    for setting in settings:
        (flag,) = (f"--{key} {value}" for key, value in setting.items())
        status(f"trying {flag}")
        recorder = _Recorder(math.inf, 1)
        replay = _Replay(frames, ends.source.video_format, number, recorder)
        report, cores = _run(
            Endpoints(replay, [recorder], silent=True), replace(options, **{"light": 0.0} | setting), stop
        )
        if not recorder.frames or not report.tracks:
            line = "{camera}: the computer was too busy for a test; end other programs"
            raise InputError(line, code="camera_busy", camera=address)
        after = recorder.frames[0]
        original = frames[replay.numbers[after.captured_at or 0.0]]
        before, (brightness, detail) = _figures(original, face), _figures(after, face)
        track = max(report.tracks, key=lambda track: track.frames * track.mean_width_px)
        verdict, light = track.verdict, "light" in setting
        helps = brightness - before[0] >= _BRIGHTER if light else verdict.word not in (LEFT_ALONE, HARDLY_VISIBLE)
        change = f"brightness of the face {100 * before[0]:.0f} % before, {100 * brightness:.0f} % after"
        if not test.trials or (helps and not any(one.helps for one in test.trials)):
            test.shown = replace(after, before=original.image)
        test.trials.append(
            Trial(
                flag,
                helps,
                f"{'visible' if helps else HARDLY_VISIBLE}: {change}" if light else verdict.sentence(),
                verdict.applied,
                track.treatment["gain_db"],
                round(detail / max(before[1], 1e-6), 3),
                round(brightness, 3),
                round(cores, 3),
            )
        )
        if not light:
            test.faults, test.engine, test.device = faults_of(track.analysis), report.engine, report.device
    return test


def _run(ends: Endpoints, options: Options, stop: threading.Event, seconds: float = math.inf) -> tuple[Report, float]:
    """Runs live. Returns the report, and the processor time per second."""
    readings, ended = list[tuple[float, float]](), threading.Event()
    ended.set()

    def read(live: LiveSession) -> None:
        readings.append((monotonic(), processor_seconds()))
        if stop.is_set() or readings[-1][0] - readings[0][0] >= seconds:
            live.controls.stop = ended

    report = run_live(ends, options, stop=stop, monitor=read)
    if stop.is_set():
        raise Interrupted
    (began, before), (end, after) = readings[0], readings[-1]
    return report, (after - before) / max(end - began, 1e-3)


def _best_face(frames: Sequence[Frame], camera: str) -> tuple[int, Face]:
    """Returns the number of the frame with the largest and sharpest face, and this face. Raises InputError."""
    found = list[tuple[float, int, Face]]()
    for number, frame in enumerate(frames):
        face = max(frame.faces, key=lambda face: face.width, default=None)
        if face is not None and (number % _EVERY == 0 or not found):
            settled = frame.time - frames[0].time >= _SETTLED_S
            found.append((face.width * math.sqrt(_figures(frame, face)[1]) * (1.0 if settled else 1e-3), number, face))
    if not found:
        raise InputError(
            "{camera}: no face was found on {count} frames; sit in front of the camera, with light on your face",
            code="camera_no_face",
            camera=camera,
            count=len(frames),
        )
    return max(found, key=lambda one: one[:2])[1:]


def _figures(frame: Frame, face: Face) -> tuple[float, float]:
    """Returns the median luma of a face, 0…1, and the energy of its fine detail relative to that."""
    patch = patch_of_view(CpuDevice().view(frame), face)
    if patch is None:
        return 0.0, 0.0
    level = max(1.0, float(np.median(patch[0])))
    fine = (patch[0] - cv2.GaussianBlur(patch[0], (0, 0), 2.0)) / level
    return level / 255.0, float(np.mean(fine * fine))
