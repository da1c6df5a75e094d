"""Takes a kept correction back (``rtface undo``): the frames of an output become those of its input again."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import av

from rtface.config.options import EncodeOptions
from rtface.errors import InputError, Interrupted, UsageError
from rtface.frame import Frame
from rtface.media.files.outputs import OutputPath, check_outputs
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.marks.provenance import without_marks
from rtface.media.read.pipe import refuse_pipe
from rtface.media.read.probe import MediaInfo
from rtface.media.read.source import FileSource
from rtface.media.stills.folder_sink import FolderSink
from rtface.media.stills.images import SequenceSource
from rtface.media.stills.still_encoder import StillEncoder
from rtface.media.write.correction import SAME_S, Change, CorrectionTags, changes, md5_of, probe_of, taken_back
from rtface.media.write.file_sink import FileSink
from rtface.media.write.stream_plan import FORMATS, plan_output
from rtface.protocols import Sink
from rtface.stats import Stats
from rtface.trust.checksums import Doing
from rtface.trust.enforce import enforce_undo
from rtface.util.av_arrays import plane_rows, sample_bytes
from rtface.util.av_gpu import repacked
from rtface.util.parse import format_time

# Mean difference of the probed samples, as a share of the range, from which on two frames are not the same one.
_ANOTHER = 0.12


@dataclass(slots=True)
class Undone:
    """What `undo` did.

    Attributes:
        output: as given.
        frames: written.
        taken_back: frames from which the correction was taken, those in the range.
        exact: of these, the frames that equal the input's to the bit.
        lossless: whether the film that was corrected is lossless, so that all should be exact.
        psnr_db: how close the film's samples are to those that its encoder got, estimated from some samples of every
            frame; what is taken back is as close to the input. None for a lossless film.
        encoder: of the output.
        output_lossless: whether the output keeps every sample of these frames.
        notes: one line for each thing a user should know.
    """

    output: str
    frames: int = 0
    taken_back: int = 0
    exact: int = 0
    lossless: bool = True
    psnr_db: float | None = None
    encoder: str = ""
    output_lossless: bool = True
    notes: list[str] = field(default_factory=list[str])


def undo(
    film: Path,
    correction: Path,
    output: Path,
    *,
    start: float | None = None,
    end: float | None = None,
    encode: EncodeOptions | None = None,
    overwrite: bool = False,
    stats: Stats | None = None,
    doing: Doing | None = None,
    stop: Callable[[], bool] | None = None,
) -> Undone:
    """Writes a film without its correction; all other streams are copied.

    Args:
        film: the output of a run with ``--keep-correction``: a film, or a folder of images.
        correction: what that run kept.
        output: film to write, or folder.
        start, end: seconds of `film` between which the correction is taken back; other frames stay as they are.
        encode: codec, crf and preset; the class of the film's coding is kept without.
        overwrite: whether `output` may be replaced.
        stats: receives warnings.
        doing: receives progress.
        stop: ends the work with `Interrupted` once it is true; nothing is left then.

    Raises:
        UsageError, InputError, OutputError: see `rtface.errors`; InputError where film and correction do not belong
            together.
    """
    encode, stats, stop = encode or EncodeOptions(), stats or Stats(), stop or (lambda: False)
    enforce_undo()
    for path in (film, correction):
        refuse_pipe(path)
    if not film.is_dir() and Path(output).suffix.lower() not in FORMATS:
        raise UsageError("{path}: name a film ({formats})", code="undo_output", path=output, formats=", ".join(FORMATS))
    [target] = check_outputs([OutputPath(output, folder=film.is_dir())], inputs=[film, correction], overwrite=overwrite)
    if start is not None and end is not None and end <= start:
        raise UsageError(
            "{--end:{end}} must come after {--start:{start}}",
            code="undo_order",
            end=format_time(end),
            start=format_time(start),
        )
    with ExitStack() as stack:
        kept = FileSource(correction, stats=Stats())
        stack.callback(kept.close)
        tags = CorrectionTags.read(kept.info)
        source = (
            SequenceSource(film, fps=kept.info.rate, stats=stats, hold=False)
            if film.is_dir()
            else FileSource(film, stats=stats)
        )
        stack.callback(source.close)
        _check_pair(source.info, kept.info, tags)
        whole = start is None and end is None
        if whole:  # nothing of it was made by rtface any more
            info = source.info
            info.metadata, info.xmp = without_marks(info.metadata, info.xmp, tags.input)
        done = Undone(os.fspath(output), lossless=tags.exact)
        work = _Undo(source.info, tags, changes(iter(kept), tags), start, end, done)
        if isinstance(source, SequenceSource):
            stills = StillEncoder(source.info, source.kind, source, tags=None if whole else {}, own=lambda: work.marks)
            sink: Sink = FolderSink(target, source.info, stills, start=None, stats=stats)
            done.encoder = source.kind
        else:
            plan = plan_output(
                source.info, output, codec=encode.codec, crf=encode.crf, preset=encode.preset, overwrite=overwrite
            )
            done.encoder, done.notes = plan.video.described, list(plan.notes)
            done.output_lossless = plan.video.lossless and not plan.video.convert
            sink = FileSink(plan, stats)
        try:
            for item in source:
                if stop():
                    raise Interrupted(
                        "interrupted; nothing was written to {output}", code="undo_interrupted", output=output
                    )
                if isinstance(item, Frame):
                    item = work.frame(item)
                    if doing is not None and source.info.duration_s:
                        doing("frames", min(1.0, (item.time - work.origin) / source.info.duration_s))
                sink.write(item)
            work.end()
            sink.finish()
        except BaseException:
            sink.abort(keep_partial=False)
            raise
    return done


def _check_pair(info: MediaInfo, kept: MediaInfo, tags: CorrectionTags) -> None:
    ours, theirs = pixel_format_info(info.pix_fmt), pixel_format_info(tags.samples)
    if (info.width, info.height) != (kept.width, kept.height) or ours != replace(theirs, alpha=ours.alpha):
        raise InputError(
            "{path}: is the correction of another film ({of}, {width}×{height} {samples}); {film} is "
            "{width2}×{height2} {pix_fmt}",
            code="correction_other",
            path=kept.path,
            of=tags.of,
            width=kept.width,
            height=kept.height,
            samples=tags.samples,
            film=info.path,
            width2=info.width,
            height2=info.height,
            pix_fmt=info.pix_fmt,
        )


class _Undo:
    """Pairs frames with their corrections, checks the pairs, and takes the corrections back.

    Attributes:
        origin: time of the first frame.
        marks: what the still of the last frame said of itself before the correction, where that is known.
    """

    def __init__(
        self,
        info: MediaInfo,
        tags: CorrectionTags,
        found: Iterator[Change],
        start: float | None,
        end: float | None,
        done: Undone,
    ) -> None:
        self._name, self._tags, self._changes, self._done = info.path, tags, found, done
        self._start, self._end = start or 0.0, math.inf if end is None else end
        self.origin, self.marks = 0.0, None
        self._origin_of_changes = 0.0
        self._squares = self._probes = 0

    def frame(self, frame: Frame) -> Frame:
        """The frame without its correction where it lies in the range."""
        number, done = self._done.frames, self._done
        change = next(self._changes, None)
        self.marks = change.record.marks if change is not None and change.record is not None else None
        if change is None and number and not self._start <= frame.time - self.origin < self._end:
            done.frames += 1
            return frame
        if change is None:
            raise InputError(
                "the correction ends before frame {number} of {name}: it is that of a shorter film, or of a run "
                "that was interrupted; {--end:{time}} takes back what there is",
                code="correction_short",
                number=number,
                name=self._name,
                time=format_time(frame.time - self.origin),
            )
        if not number:
            self.origin, self._origin_of_changes = frame.time, change.time_s
        time = frame.time - self.origin
        if abs(time - (change.time_s - self._origin_of_changes)) > 2 * SAME_S:
            raise self._another(number, time, "its time is another")
        after = repacked(frame.image, self._tags.samples)
        self._check(after, change, number, time)
        done.frames += 1
        if not self._start <= time < self._end:
            return frame
        image = taken_back(after, change.image, exact=self._tags.exact)
        done.taken_back += 1
        done.exact += change.record is not None and md5_of(image) == change.record.input
        frame.make_writable()  # the frame itself is written to: it says which field comes first, and more
        for source, target in zip(repacked(image, frame.image.format.name).planes, frame.image.planes, strict=True):
            rows = plane_rows(source)
            used = source.width * sample_bytes(frame.image, target)
            plane_rows(target)[: len(rows), :used] = rows[:, :used]
        return replace(frame, touched=True)

    def end(self) -> None:
        """Says how close the film is, and where it ends before its correction (a part of an interrupted run)."""
        if next(self._changes, None) is not None:
            self._done.notes.append(f"{self._name} ends before its correction, after {self._done.frames} frames")
        if not self._tags.exact and self._probes:
            top = (1 << pixel_format_info(self._tags.samples).bits) - 1
            mean = self._squares / self._probes
            self._done.psnr_db = round(10 * math.log10(top * top / mean), 1) if mean else math.inf

    def _check(self, after: av.VideoFrame, change: Change, number: int, time: float) -> None:
        record = change.record
        if record is None:
            return
        if self._tags.exact:
            if md5_of(after) != record.output:
                raise self._another(number, time, "its samples are others")
            return
        apart = [a - b for a, b in zip(probe_of(after), record.probe, strict=True)]
        top = (1 << pixel_format_info(self._tags.samples).bits) - 1
        if sum(map(abs, apart)) > _ANOTHER * top * len(apart):
            raise self._another(number, time, "its samples are others")
        self._squares += sum(v * v for v in apart)
        self._probes += len(apart)

    def _another(self, number: int, time: float, why: str) -> InputError:
        return InputError(
            "{name}: frame {number} ({time}) is not the one that the correction was made with ({why}); the "
            "correction is that of {of}, as its run wrote it",
            code="correction_frame",
            name=self._name,
            number=number,
            time=format_time(time),
            why=why,
            of=self._tags.of,
        )
