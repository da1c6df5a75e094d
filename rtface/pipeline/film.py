"""Enhances one file or folder: checks the outputs, runs the chain and writes the report.

Where a run ends early, it leaves a part that can be played.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from time import perf_counter

from rtface._version import __version__
from rtface.analysis.treatment import made_for_another, read_treatments
from rtface.enhance.face_filter import missing_tracks
from rtface.errors import Interrupted, OutputError, UsageError
from rtface.media.correction import CorrectionSink, check_correction_name
from rtface.media.credentials import can_hold
from rtface.media.encoders import VideoPlan
from rtface.media.file_sink import FileSink
from rtface.media.folder_sink import FolderSink
from rtface.media.image_write import ONLY_FROM_EXR
from rtface.media.images import IMAGE_KINDS, SUFFIXES, SequenceSource
from rtface.media.invented import InventedSink, check_map_name
from rtface.media.leftovers import clear_leftovers, remove_unfinished_files
from rtface.media.outputs import OutputPath, check_outputs, film_folder, names_folder
from rtface.media.probe import MediaInfo, open_container
from rtface.media.provenance import describe
from rtface.media.source import FileSource
from rtface.media.start_timecode import output_timecode
from rtface.media.stream_plan import FORMATS
from rtface.media.workfile import Target
from rtface.options import Options, Scope
from rtface.pipeline.build import film_parts, open_film, plan_film_output
from rtface.pipeline.chain import chain, end_at_faults
from rtface.pipeline.checksums import checksum_outputs, write_checksums
from rtface.pipeline.compare import Comparison, open_pairs, pair_tags
from rtface.pipeline.dry_run import describe_plan
from rtface.pipeline.enforce import enforce
from rtface.pipeline.film_writer import FilmOutputs, FilmWriter
from rtface.pipeline.invented import check_invented, measure_invented, wants_map
from rtface.pipeline.progress import Show
from rtface.pipeline.runtime import BuildProgress
from rtface.pipeline.segment_plan import plan_segments
from rtface.pipeline.segments import in_segments
from rtface.pipeline.show_invented import show_invented
from rtface.pipeline.sidecar import Made, sidecar_output, write_sidecar
from rtface.pipeline.signing import Signing
from rtface.pipeline.stills import is_image, is_stills_job, run_stills
from rtface.pipeline.threads import Threads
from rtface.protocols import Sink
from rtface.report import Report, metadata_options, report_options
from rtface.shots.clock import FilmClock
from rtface.shots.files import check_shots_file, read_shots
from rtface.shots.settings import NO_SHOTS
from rtface.stages.runner import Stages
from rtface.stats import Stats
from rtface.util.urls import Address

# Images that are not read; the demuxers that open some of them do not give the whole picture.
_OTHER_IMAGES = (".heic", ".heif", ".jxl", ".psd", ".ico")


def run_file(input: Path | Address, output: Path | str, options: Options, *, stats: Stats | None = None,
             progress: Show | None = None, stop: threading.Event | None = None,
             building: BuildProgress | None = None) -> Report:
    """Enhances the faces of one film, still or folder.

    Args:
        input: whatever PyAV opens (`Address`), a still, or a folder of stills.
        output: file or folder; a file's extension names its kind, and a name that ends in a slash means a folder.
        options: see `rtface.Options`.
        stats: receives counters, stage times and warnings; a new one without.
        progress: called after every frame.
        stop: ends the run when set: what was done is left as a whole, playable file whose name says partial.
        building: called with what is built for a GPU before the first frame, and the share done (0…1).

    Raises:
        UsageError, InputError, OutputError, MissingComponent, EngineError: see `rtface.errors`.
        Interrupted: `stop` was set, or Ctrl-C came; carries the partial file and where to go on from.
    """
    stats, stop = stats or Stats(), stop or threading.Event()
    if options.sequence and not input.is_dir():
        raise UsageError(f"{input} is not a folder: --sequence makes a film of a folder of stills")
    check_correction_name(options.keep_correction)
    check_invented(options)
    report = Report(str(input), os.fspath(output), __version__, options.engine, options.device,
                    options=report_options(options))
    stills = is_stills_job(input, output, options)
    enforce(options, Scope.STILLS if stills else Scope.FILM | Scope.ENCODED)
    check_map_name(options.invented, still=stills)
    written = [OutputPath(output, folder=_into_folder(input, output, stills), resumes=stills)]
    written += [OutputPath(path, f"--{name.replace('_', '-')}") for name in ("keep_correction", "compare", "invented",
                                                                                     "report")
                if (path := getattr(options, name))]
    sums = checksum_outputs(Path(output), film=not stills and not written[0].folder) if options.checksums else []
    written += sums
    signing = Signing.asked(options, input)
    inside = stills if written[0].folder else can_hold(Path(output))
    with_sidecar = options.sidecar or (signing is not None and (written[0].folder or not inside))
    sidecar = [sidecar_output(Path(output))] if with_sidecar else []
    written += sidecar
    read = [input, *(path for path in (options.treatment, options.shots) if path is not None)]
    if options.shots is not None:
        check_shots_file(options.shots)
    targets = check_outputs(written, inputs=read, overwrite=options.overwrite)
    treated = read_treatments(options.treatment) if options.treatment else {}
    if options.treatment and (other := made_for_another(options.treatment, input)):
        stats.warn("treatment", f"the treatment file {options.treatment} was made for {other}; its tracks may be other "
                                f"faces of {input}")
    if not options.dry_run:
        for target in targets:
            for line in clear_leftovers(target):
                stats.warn(f"leftover:{line}", line)
        if stills and written[0].folder:
            remove_unfinished_files(targets[0].path)
    began = perf_counter()
    made = Made()
    failure: BaseException | None = None
    try:
        if stills and isinstance(input, Path):
            if (options.segments or 1) > 1:
                report.notes.append(f"--segments {options.segments}: stills are worked on one by one")
            run_stills(input, Path(output), options, report, made, stats=stats, progress=progress, stop=stop,
                       building=building)
        else:
            _run_film(input, targets[0] if written[0].folder else Path(output), options, report, made, stats, progress,
                      stop, building)
    except BaseException as error:
        failure = error if isinstance(error, Interrupted) or not isinstance(error, KeyboardInterrupt) else Interrupted()
        report.ended_by(failure)
        if failure is error:
            raise
        raise failure from None
    finally:
        report.seconds = round(perf_counter() - began, 3)
        report.fps = report.fps or round(report.frames_out / max(report.seconds, 1e-3), 2)
        report.fill(stats)
        if failure is None:
            report.note_uncorrected()
            report.note_label()
            if not options.dry_run:
                report.notes += missing_tracks(options.faces, treated, [track.id for track in report.tracks],
                                               [track.person for track in report.tracks])
        # Of a run that ended before its first frame there is nothing to report, unless it was interrupted.
        if options.report and not options.dry_run and (failure is None or report.interrupted or report.frames_out):
            _save(report, targets[len(targets) - len(sums) - len(sidecar) - 1], failure, stats)
    if signing is not None and inside and isinstance(input, Path) and not options.dry_run:
        report.notes.append(signing.sign(targets[0].path, input, options, report, made))
    if sums and not options.dry_run:
        report.notes += write_checksums(
            Path(output), targets[len(targets) - len(sums) - len(sidecar):][:len(sums)], stop=stop.is_set,
            more=[options.keep_correction.resolve()] if options.keep_correction else [],
            doing=(lambda what, done: building(f"checksums ({what})", done)) if building else None)
    if sidecar and not options.dry_run:
        report.notes.append(write_sidecar(
            targets[-1], targets[0].path, input, options, report, made, stop=stop.is_set,
            key=signing.key if signing else None,
            doing=(lambda what, done: building(f"sidecar ({what})", done)) if building else None))
    return report


def _save(report: Report, target: Target, failure: BaseException | None, stats: Stats) -> None:
    """Writes the report; what ended the run is not hidden by a report that cannot be written."""
    try:
        report.save(target)
    except OutputError as error:
        if failure is None:
            raise
        stats.warn("report", str(error))


def _into_folder(input: Path | Address, output: Path | str, stills: bool) -> bool:
    """Whether stills are written into a folder; UsageError for a name that is no output's."""
    if stills:
        return input.is_dir()
    if Path(output).suffix.lower() in IMAGE_KINDS and not names_folder(output):
        if isinstance(input, Path) and input.suffix.lower() in _OTHER_IMAGES:
            raise UsageError(f"{input} is an image of a kind that is not read ({input.suffix[1:].upper()}); save it as "
                             "PNG, TIFF or JPEG")
        if isinstance(input, Path) and input.is_file():
            open_container(input).close()  # raises where it is neither
        raise UsageError(f"{input} is a film: name a film ({', '.join(FORMATS)}) or a folder for its images, "
                         f"not {Path(output).name}")
    still = isinstance(input, Path) and is_image(input)
    suffix = Path(output).suffix.lower()
    if still and suffix and suffix not in FORMATS and not names_folder(output):
        raise UsageError(f"{output}: {suffix} names no image format that is written; use one of "
                         f"{', '.join(IMAGE_KINDS)}")
    return film_folder(output, FORMATS, input, still=still)


def _run_film(input: Path | Address, output: Path | Target, options: Options, report: Report, made: Made,
              stats: Stats, progress: Show | None, stop: threading.Event,
              building: BuildProgress | None) -> None:
    """Enhances a film into a film (a path) or into a folder of stills (the checked target)."""
    began = perf_counter()
    threads = Threads.for_film(options.threads)
    with ExitStack() as stack:
        loading = None
        if not options.dry_run:  # engine and tracker take 0.3 s, in which the film can be opened
            opened = stack.enter_context(ExitStack())
            loading = stack.enter_context(ThreadPoolExecutor(1)).submit(
                film_parts, options, threads, stats, opened, building)
        # Stills, comparisons, repairs of damage and what stages draw are made by the host.
        source = open_film(input, options, threads, stats, stop, stack, hold=isinstance(output, Path),
                           on_gpu=isinstance(output, Path) and options.compare is None
                           and options.keep_correction is None and not options.stages and options.damage == "none"
                           and not wants_map(options))
        check_invented(options, source.info.color.transfer)
        if isinstance(output, Target) and options.codec == "exr" and not (
                isinstance(source, SequenceSource) and source.kind == "exr"):
            raise UsageError(f"--codec exr: {ONLY_FROM_EXR}")
        info = source.info
        stages = Stages.open(options.stages, stats, origin=float(info.clock_start),
                             begins=float(info.video_start if info.start is None else info.start),
                             commercial_use=options.commercial_use)
        stack.callback(stages.close)
        report.notes += stages.notes(comparing=options.compare is not None)
        plan = None
        if isinstance(output, Path):
            plan = plan_film_output(source.info, output, options, report, stats)
            if options.dry_run:  # else the sink warns
                report.notes += plan.video.warnings
        else:
            report.notes += source.info.notes
            report.notes += ["a folder of stills holds no sound: it is left out"] if source.info.has_audio else []
        shots = NO_SHOTS
        if options.shots is not None:
            shots, notes = read_shots(options.shots, FilmClock.of(source.info, options.timecode))
            report.notes += notes
        segments, why = plan_segments(options, source.info, shots)
        report.notes += [why] if why else []
        if loading is None:
            report.notes += describe_plan(source.info, plan, options)
            return
        parts = loading.result()
        parts.use_shots(shots)
        measure_invented(parts, options)
        stages.watch(parts.tracker, options.tracker)
        report.engine, report.device = parts.runtime.engines.described
        tags = describe(report.engine, __version__, options.strength, metadata_options(options))
        sink: Sink
        correction: CorrectionSink | None = None
        if plan is None:
            assert isinstance(output, Target)
            stills = _folder_sink(output, source, options, tags, report, stats)
            report.notes += stills.notes
            sink, video = stills, _video_of(stills, source)
            made.changed, made.lossless, made.names = stills.changed, video is not None, stills.names
            output_path = output.path
        else:
            plan.metadata.update(tags)
            sink = film = FileSink(plan, stats=stats, threads=threads.encode)
            made.changed, made.lossless = film.changed, plan.video.lossless and not plan.video.convert
            video, output_path = plan.video, plan.target.path
        if options.keep_correction:
            sink = correction = _with_correction(sink, video, source, output_path, options, threads, stats)
        if options.invented is not None:
            sink = _with_map(sink, source.info, options, threads)
        try:
            pairs = (open_pairs(options.compare, source.info, options, tags=pair_tags(report.engine, options),
                                overwrite=options.overwrite, threads=threads.encode, stats=stats)
                     if options.compare else None)
        except BaseException:
            sink.abort(keep_partial=False)
            raise
        run = FilmWriter(source, FilmOutputs(sink, pairs, stats), stop, progress, began)
        items = run.times.noted(source)
        items = stages.remember(correction.remember(items) if correction else items)
        if segments:
            items = in_segments(items, parts, options, stats, segments, run.over)
        else:
            items = chain(items, parts, stats, stop=run.over,
                          comparison=Comparison(run.outputs.take_pair) if pairs else None)
        try:
            done = end_at_faults(items, stats)
            run.write(items, stages(show_invented(done) if options.show == "invented" else done))
        finally:
            report.frames_out = run.frames
            report.decoder = source.info.decoder
            report.tracks = parts.enhance.tracks.reports(float(source.info.clock_start))
            report.fps = round(run.frames / run.writing_s, 2) if run.writing_s else 0.0
            report.first_frame_s = (round(run.first_frame_s, 3) if run.first_frame_s is not None
                                    else None)


def _folder_sink(output: Target, source: FileSource | SequenceSource, options: Options, tags: dict[str, str],
                 report: Report, stats: Stats) -> FolderSink:
    """The sink of a folder of stills; ``--codec`` names their kind, which is that of INPUT's images without."""
    read = source if isinstance(source, SequenceSource) else None
    kind = read.kind if read is not None and read.kind in SUFFIXES else "png"
    if options.codec in SUFFIXES:
        kind = options.codec
    elif options.codec is not None:
        stats.warn("codec", f"--codec {options.codec}: a folder takes images ({', '.join(SUFFIXES)}); "
                   f"{kind.upper()} is written")
    info = source.info
    timecode = output_timecode(info.timecode, options.timecode, info.rate,
                               Fraction(0) if info.start is None else info.start - info.video_start)
    report.timecode = str(timecode) if timecode else None
    # The headers of scans that were read have their own timecodes.
    given = timecode if options.timecode is not None or read is None or read.kind != kind else None
    return FolderSink(output, info, start=options.start, tags=tags, stats=stats, kind=kind, source=read,
                      timecode=given if kind in ("dpx", "exr") else None)


def _video_of(sink: FolderSink, source: FileSource | SequenceSource) -> VideoPlan | None:
    """How the samples of a folder of stills compare with the frames: as an encoder that keeps them. None where the
    stills hold other samples."""
    if not isinstance(source, SequenceSource) or sink.kind != source.kind or sink.kind == "exr":
        return None
    info = source.info
    return VideoPlan(sink.kind, info.pix_fmt, info.width, info.height, info.rate, info.time_base, info.tags,
                     info.aspect, lossless=True)


def _with_correction(sink: Sink, video: VideoPlan | None, source: FileSource | SequenceSource, output: Path,
                     options: Options, threads: Threads, stats: Stats) -> CorrectionSink:
    """The sink of a film that writes its correction too (``--keep-correction``)."""
    assert options.keep_correction is not None
    try:
        [target] = check_outputs([OutputPath(options.keep_correction, "--keep-correction")], inputs=[],
                                 overwrite=options.overwrite)
        if video is None and isinstance(sink, FolderSink) and sink.kind == "exr":
            raise UsageError(f"--keep-correction {options.keep_correction}: a correction of EXR's floating-point "
                             "samples cannot be kept to the bit; keep the scan, and leave the option out")
        if video is None:
            raise UsageError(f"--keep-correction {options.keep_correction}: for a folder of images it needs a folder "
                             "of the same kind as INPUT (PNG, TIFF or DPX); name a film, or leave it out")
        marks = source.marks_of if isinstance(sink, FolderSink) and isinstance(source, SequenceSource) else None
        return CorrectionSink(sink, target, video, source.info, output=output.name, stats=stats, threads=threads.encode,
                              marks=marks)
    except BaseException:
        sink.abort(keep_partial=False)
        raise


def _with_map(sink: Sink, info: MediaInfo, options: Options, threads: Threads) -> InventedSink:
    """The sink of a film that writes the map of what was invented too (``--invented``)."""
    assert options.invented is not None
    try:
        [target] = check_outputs([OutputPath(options.invented, "--invented")], inputs=[], overwrite=options.overwrite)
        return InventedSink(sink, target, info, threads.encode)
    except BaseException:
        sink.abort(keep_partial=False)
        raise
