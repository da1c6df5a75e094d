"""crops → engine → correction → composite: the step that changes pictures.

It sees devices, engines and trackers only through `rtface.protocols`. Work on one frame is split in two, so that an
engine can compute while the next frame's crops are being cut: `Enhance.submit` starts it, `Enhance.collect` ends it,
in order. A fault in one frame passes that frame through, is counted, and does not end the run.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import replace
from time import monotonic, perf_counter

from rtface.analysis.analyzer import Treatment
from rtface.analysis.look_ahead import look_ahead
from rtface.analysis.track_measurement import TrackMeasurement
from rtface.correct import ShapingOptions
from rtface.correct.correspondence import SIDE
from rtface.correct.keyframe_blend import AHEAD
from rtface.correct.mask import Region, shown_box
from rtface.enhance.engine_selection import EngineSelector
from rtface.enhance.face_filter import FaceFilter
from rtface.enhance.keyframes.sample import FaceSample, Pace
from rtface.enhance.tasks import Job, Wanted, Work, mesh_in
from rtface.enhance.track_store import MEMORY_S, TrackState, TrackStore, seed_of
from rtface.errors import DeviceLost, EngineError
from rtface.frame import Crops, Frame
from rtface.geometry.alignment import crop_matrix
from rtface.options import Options
from rtface.protocols import Device, Engine, Engines, Item, Restored, Retouch, Runtime
from rtface.quality.governor import UNSEEN, QualityGovernor
from rtface.quality.levels import kind_of
from rtface.stats import FAULTS_IN_A_ROW, Stats

log = logging.getLogger("rtface")

# Where a GPU was lost and its spare could not be opened, that is tried again after so long.
_TRY_AGAIN_S = 10.0


class Enhance:
    """Corrects the faces of frames that carry them.

    Args:
        device: cuts crops and composites.
        engines: restores crops.
        options: colour, grain, strength, faces, max_faces.
        stats: counters and stage times.
        treatments: a person's decisions by track id.
        analysis: False corrects every face fully, clean or not; else it goes by `options.correct`.
        governor: says, in a live run, which engine runs on which face when; without it the one that suits a face does,
            on every frame.
        small: name of the engine that works between the key frames of a slow one
        (`rtface.enhance.keyframes.scheduler`); None for none.

    Attributes:
        strength: 0…1, may be changed between frames.
        tracks: what is known of every track.
        coming: a runtime that is being made ready; it takes over between two frames (a live run starts at once on
            the CPU, and goes to the GPU when its plan has passed its gate).
        spare: opens what goes on with the run when a GPU is lost; without it the run ends there. Where it cannot be
            opened either, frames pass through as they are, and it is tried again every 10 s.
    """

    def __init__(self, device: Device, engines: Engines, options: Options, stats: Stats, *,
                 treatments: Mapping[int, Treatment] | None = None, analysis: bool = True,
                 governor: QualityGovernor | None = None, small: str | None = None) -> None:
        self._device, self._engines, self._options, self._stats = device, engines, options, stats
        self._choose = FaceFilter.parse(options.faces, options.max_faces)
        self.strength = options.strength
        self.tracks = TrackStore(treatments or {}, exposure=options.colour == "restore",
                              correct=options.correct if analysis else "always")
        self.coming: Future[Runtime] | None = None
        self.spare: Callable[[], Runtime] | None = None
        self._faults = 0
        self._stranded: float | None = None  # since when (monotonic) there has been nothing to work with
        self._select = EngineSelector(options, stats, self.tracks, governor, small)
        self._measure_tracks = TrackMeasurement(self.tracks.analyzer_of, stats, live=governor is not None)
        self._examined_ahead = False
        self._governor, self._hold = governor, 0
        self._pace: Pace = "each" if governor is None else "live"

    def __call__(self, items: Iterable[Item], *, ahead: int = 1) -> Iterator[Item]:
        """The step in the chain: up to `ahead` frames are in an engine's hands while the next one is prepared; with key
        frames so many that the next one is known."""
        self._pace = "film" if self._governor is None else "live"
        if self._governor is None:
            self._examined_ahead = True
            items = look_ahead(items, lambda frame: self._measure_tracks(frame,
            self._choose(frame.faces), self.runtime))
        waiting: deque[Job | Item] = deque()
        jobs = 0
        for item in items:
            if isinstance(item, Frame):
                waiting.append(self.submit(item))
                jobs += 1
            else:
                waiting.append(item)
            while waiting and (jobs > max(ahead, self._hold) or not isinstance(waiting[0], Job)):
                first = waiting.popleft()
                jobs -= isinstance(first, Job)
                yield self.collect(first) if isinstance(first, Job) else first
        for rest in waiting:
            yield self.collect(rest) if isinstance(rest, Job) else rest

    def passed(self, frame: Frame) -> None:
        """A frame of a live run went through as it is: its faces fade in again on the frames that follow."""
        if self._governor is not None:
            for face in frame.faces:
                self._governor.missing(face.track_id)

    def reset(self) -> None:
        """Forgets what corrections remember of the frames before."""
        self.tracks.reset()

    @property
    def runtime(self) -> Runtime:
        """What the next frame is worked on with."""
        return Runtime(self._device, self._engines)

    def move(self, to: Runtime) -> None:
        """Goes on elsewhere from the next frame on. What engines remember of faces stays behind; corrections go on."""
        self._device, self._engines = to.device, to.engines
        self.tracks.leave_engines()

    def _move_when_ready(self) -> None:
        if self.coming is None or not self.coming.done():
            return
        coming, self.coming = self.coming, None
        if (error := coming.exception()) is not None:
            self._stats.warn("device", f"the run stays on the {self._device.name}: {error}")
            return
        before = self.runtime
        self.spare = lambda: before
        self.move(coming.result())
        log.info("the run goes on with the %s", self._device.name)

    def submit(self, frame: Frame) -> Job:
        """Analyses the chosen faces, cuts their crops and hands them to their engines."""
        started = perf_counter()
        self._move_when_ready()
        if self._stranded is not None and monotonic() - self._stranded >= _TRY_AGAIN_S:
            self._take_spare("the GPU is still lost")
        job = Job(frame, self._device)
        try:
            if self._stranded is None:
                self._submit(job)
        except Exception as error:  # noqa: BLE001 - as for the tracker
            self._failed("enhance", error, job.device)
            job.give_up()
            job.frame = replace(job.frame, failed=True)
        job.seconds = perf_counter() - started
        return job

    def _submit(self, job: Job) -> None:
        frame = job.frame
        faces = self._choose(frame.faces)
        if frame.faces:
            self._stats.count("frames_with_faces", int(frame.field != 1 and not frame.lead_in))
        if not faces and self._governor is None:
            return
        if not self._examined_ahead:
            self._measure_tracks(frame, faces, self.runtime)
        wanted = self._select(frame, faces, self.runtime, self.strength)
        time = frame.time
        if wanted:
            if self._governor is not None:
                job.until = monotonic() + self._governor.patience(monotonic(), frame.captured_at)
            asked = [(w, side) for w in wanted
                     for side in (w.side or w.engine.size, *([w.small.size] if w.small else []))]
            with self._stats.time("crop"):
                job.crops = job.device.cut(frame, [(crop_matrix(w.face, side), side) for w, side in asked])
                kept = iter(job.device.to_host([crops for crops, (w, _) in zip(job.crops, asked, strict=True)
                                                if w.small is not None]))
            left = iter(job.crops)
            for want in wanted:
                crops = next(left)
                if want.small is None:
                    job.work.append(self._ask(want, crops, frame))
                else:
                    next(left)
                    job.work.append(self._ask_both(job, want, want.small, crops, next(kept), next(kept)))
            if self._pace == "film" and all(w.small is not None for w in wanted):
                job.rest()
        self.tracks.sweep(time)

    def _ask(self, want: Wanted, crops: Crops, frame: Frame) -> Work:
        track, engine = want.track, want.engine
        if not want.key or track.pending is not None:
            self._stats.count("crops:carried")
            return Work(want, crops, None)
        self._stats.count(f"crops:{engine.name}")
        if frame.new:
            track.answer = None
        return Work(want, crops, track.ask(engine, crops, frame.time))

    def _ask_both(self, job: Job, want: Wanted, small: Engine, crops: Crops, kept: Crops, own: Crops) -> Work:
        """The small engine, and on a key frame the slow one too. `kept` are the crops on the host, `own` the small
        one's."""
        track, keys, time = want.track, want.track.keys, job.frame.time
        self._stats.count(f"crops:{small.name}")
        sample = FaceSample(time, kept, own, track.ask(small, own, time))
        if self._governor is None:
            # As many again as are averaged, so that the slow engine has some time.
            self._hold = max(self._hold, want.every + AHEAD) if self._pace == "film" else 0
            key = keys.due(sample, want.every)
        else:
            key = want.key and keys.free(time, want.every, self._governor.period)
        if key:
            self._stats.count(f"crops:{want.engine.name}")
            last = keys.last
            after = last.key if last and time - last.time <= MEMORY_S else None
            if want.half:
                size = want.engine.size
                sample.large = job.device.cut(job.frame, [(crop_matrix(want.face, size), size)])[0]
            sample.ask = lambda crop: want.engine.submit(crop, after)
        keys.add(sample, self._pace)
        return Work(want, crops, track.answer, sample)

    def collect(self, job: Job) -> Frame:
        """Waits for the engines, shapes their answers into corrections, and adds them to the frame."""
        started = perf_counter()
        frame = job.frame
        try:
            if job.work:
                frame = self._correct(job)
                self._faults = 0
        except Exception as error:  # noqa: BLE001 - as for the tracker
            self._failed("enhance", error, job.device)
            job.give_up()
            frame = replace(frame, failed=True)
        seconds = job.seconds + perf_counter() - started
        self._stats.add("added", seconds)
        if self._governor is not None:
            self._governor.costs.spent(seconds, [(kind_of(w.want.engine.name, w.want.half), w.answer is not None)
                                                for w in job.work])
        return frame

    def _correct(self, job: Job) -> Frame:
        frame, stats = job.frame, self._stats
        with stats.time("crop"):
            job.wake()
        faces: list[Retouch] = []
        for work in job.work:
            if work.sample is None:
                self._take_late(job, work.want.track)
            with stats.time("engine wait"):
                restored = self._answer(job, work)
            faces.append(self._retouch(job, work, restored))
        with stats.time("correct"):
            corrections = job.device.shape(faces)
        shown = [work for work in job.work if work.want.amount > UNSEEN]
        for work in shown:
            if not frame.lead_in:
                work.want.track.apply(work.want.amount)
        with stats.time("composite"):
            frame = job.device.paste(frame, corrections)
        job.crops = []
        if not shown:  # a quality level is on trial (`rtface.quality.governor`)
            frame = replace(frame, touched=job.frame.touched)
        elif frame.touched:
            frame = replace(frame, corrected=True)
            stats.count("frames_corrected", int(frame.field != 1 and not frame.lead_in))
        return frame

    def _answer(self, job: Job, work: Work) -> Restored | None:
        """What the engine made of a face; None where it was not asked, or takes longer than there is time."""
        track, governor, sample = work.want.track, self._governor, work.sample
        if sample is not None:
            box = shown_box(SIDE, mesh_in(work), work.crops.size, self._region(work.want.engine))
            track.keys.prepare(sample, box, self._pace)
            if governor is None or job.until is None or wait_for([sample.small],
                                                               max(0.0, job.until - monotonic())).done:
                return track.keys.restored(sample, box, self._pace, work.want.share)
            if not (job.device.carries and track.correction.key.ready(job.frame.time)):
                governor.missing(track.id)
            return None
        if governor is None or job.until is None or not job.device.carries:
            return None if work.answer is None else work.answer.result()
        if work.answer is not None:
            wait = max(0.0, job.until - monotonic()) if governor.costs.waits(1e-3 * work.want.engine.ms) else 0.0
            if wait_for([work.answer], wait).done:
                return work.answer.result()
            track.pending = work.answer, self._retouch(job, work, None)
        if not track.correction.key.ready(job.frame.time):
            governor.missing(track.id)
        return None

    def _take_late(self, job: Job, track: TrackState) -> None:
        """An answer that has come since it was not waited for is a key frame, if not of this frame."""
        if track.pending is None or not track.pending[0].done():
            return
        (answer, retouch), track.pending = track.pending, None
        try:
            retouch.restored = answer.result()
            job.device.shape([retouch])
        except Exception as error:  # noqa: BLE001 - as for the tracker
            track.answer = None
            self._failed("enhance", error, job.device)

    def _retouch(self, job: Job, work: Work, restored: Restored | None) -> Retouch:
        frame, want = job.frame, work.want
        how = ShapingOptions(want.amount, self._options.colour, self._options.grain,
                      average=not (want.small or want.engine.recurrent or frame.new),
                      keep=self._governor is not None and job.device.carries, region=self._region(want.engine),
                      share=want.share if want.small is None else 1.0)
        return Retouch(work.crops, restored, mesh_in(work), want.track.correction, how, frame.time,
                       seed_of(want.face.track_id, frame.pts))

    def _region(self, engine: Engine) -> Region:
        """Where corrections may act; an engine that answers for the face only has nothing to show of the head."""
        return self._options.region if engine.whole else "face"

    def _take_spare(self, why: object) -> None:
        """Goes on with the spare, or remembers that there is nothing to go on with."""
        assert self.spare is not None
        try:
            self.move(self.spare())
        except Exception as error:  # noqa: BLE001 - whatever it is, frames go on passing through
            self._stranded = monotonic()
            self._stats.warn("stranded", f"{why}, and nothing can take its place ({error}): frames pass through as "
                             "they are; free memory or start the run again")
            return
        self._stranded = None
        log.warning("%s; the run goes on with the %s", why, self._device.name)

    def _failed(self, where: str, error: Exception, device: Device) -> None:
        if isinstance(error, DeviceLost):
            if self.spare is None:
                raise error
            # A frame that was still on the lost GPU when the run had moved changes nothing.
            if device is self._device and self._stranded is None:
                self._take_spare(error)
            if self._stranded is not None:
                return
        self._faults += 1
        self._stats.fault(where, error)
        # Films have one count for the whole run, whatever works on them (`rtface.pipeline.chain.end_at_faults`).
        if self._pace != "film" and self._faults >= FAULTS_IN_A_ROW:
            raise EngineError(f"{FAULTS_IN_A_ROW} frames in a row could not be enhanced, the last because of: "
                              f"{error}; rtface doctor checks the engines, --engine chooses another") from error
