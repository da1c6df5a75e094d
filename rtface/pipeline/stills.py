"""Enhances separate stills: a photo, or each image of a folder independently."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from rtface.errors import InputError, Interrupted, Message, OptionFlag, OutputError, RtfaceError, UsageError
from rtface.frame import Frame
from rtface.media.files.image_names import list_images, warn_left_out
from rtface.media.files.workfile import full
from rtface.media.marks.provenance import FILLED, Change, made_by_machine, own_tags, true_tags
from rtface.media.read.enlarge import Enlarger
from rtface.media.read.faults import Faults
from rtface.media.stills.images import IMAGE_KINDS, ImagePlan, Still, plan_image, read_image, write_image
from rtface.media.stills.losses import losses
from rtface.media.write.invented import map_frame
from rtface.pipeline.build import film_networks
from rtface.pipeline.compare import pair_frame
from rtface.pipeline.fading import NONE
from rtface.pipeline.film_chain import FilmChain
from rtface.pipeline.plan import RunPlan
from rtface.pipeline.progress import Progress, Show
from rtface.pipeline.repair import StillPreparation, map_filled, repair_notes
from rtface.pipeline.runtime import BuildProgress
from rtface.protocols import Item
from rtface.report import ImageReport, Report
from rtface.stages.runner import Stages
from rtface.stats import Stats
from rtface.trust.sidecar import OutputDetails


@dataclass(frozen=True, slots=True)
class StillsPlan:
    """The stills of a run.

    Attributes:
        pairs: each still's path and the path of its output.
        notes: notes for the user.
    """

    pairs: list[tuple[Path, Path]]
    notes: list[str]

    def to_dict(self) -> dict[str, object]:
        """Returns the plan as JSON values. They do not include the run's plan and the notes."""
        return {"images": [[str(source), str(target)] for source, target in self.pairs]}


def plan_stills(plan: RunPlan, stats: Stats) -> StillsPlan:
    """Plans the outputs of separate stills.

    Raises:
        UsageError: a comparison or a map of a folder was requested, or a comparison without an image's extension.
    """
    input, output, options = plan.input, Path(plan.output), plan.options
    assert isinstance(input, Path)
    if input.is_dir():
        warn_left_out(input, stats)
        for flag, path, what in (
            ("--compare", options.compare, "before|after can be made"),
            ("--invented", options.map_file, "a map can be made"),
        ):
            if path is not None:
                raise UsageError(
                    "{option:{path}}: {folder} is a folder of stills, but {what} only of a single image or film; use "
                    "one of the images as INPUT",
                    code="folder_one_file",
                    option=OptionFlag(flag),
                    path=path,
                    folder=input,
                    what=what,
                )
    if options.compare and options.compare.suffix.lower() not in IMAGE_KINDS:
        raise UsageError(
            "{--compare:{path}}: the comparison of a still must be an image ({kinds})",
            code="compare_still",
            path=options.compare,
            kinds=", ".join(IMAGE_KINDS),
        )
    return StillsPlan(
        _pairs(input, output),
        Stages.planned(options.stages, commercial_use=options.commercial_use),
    )


def run_stills(
    plan: RunPlan,
    report: Report,
    *,
    stats: Stats,
    progress: Show | None = None,
    stop: threading.Event,
    building: BuildProgress | None = None,
) -> OutputDetails:
    """Enhances every still, and fills the report's engine, device and notes.

    Otherwise works like `rtface.pipeline.film.run_file`. In a folder, existing outputs are skipped (unless
    `overwrite`), and a bad image does not stop the run; at the end, InputError reports how many images failed.
    """
    stills = plan_stills(plan, stats)
    report.notes += stills.notes
    if plan.folder:
        Path(plan.output).mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        networks = film_networks(plan, stats, stack, building)
        steps = FilmChain(plan, None, networks, stats, stack)
        report.engine, report.device = steps.runtime.engines.described
        work = _Stills(plan, stills.pairs, steps, StillPreparation(plan, stack), stats)
        try:
            work.run(progress, stop)
        finally:
            report.tracks = steps.tracks.reports()
            report.frames_out, report.images = work.done, work.images
            report.notes += work.notes
    return work.details


def _pairs(input: Path, output: Path) -> list[tuple[Path, Path]]:
    if not input.is_dir():
        return [(input, output)]
    images = list_images(input)
    stem_counts = Counter(path.stem for path in images)
    # Images of formats that cannot be written become PNG.
    return [
        (
            path,
            output
            / (
                path.name
                if path.suffix.lower() in IMAGE_KINDS
                else f"{path.stem if stem_counts[path.stem] == 1 else path.name}.png"
            ),
        )
        for path in images
    ]


class _Stills:
    """Enhances a list of images, each with its own output."""

    def __init__(
        self,
        plan: RunPlan,
        jobs: list[tuple[Path, Path]],
        steps: FilmChain,
        preparation: StillPreparation,
        stats: Stats,
    ) -> None:
        self.jobs, self.options, self.steps, self.stats = jobs, plan.options, steps, stats
        self.preparation = preparation
        self.tags, self.folder = plan.tags(steps.runtime.engines.described[0]), plan.folder
        self.done = self.skipped = 0
        self.details = OutputDetails()
        self.details.lossless = all(
            target.suffix.lower() in (".png", ".tif", ".tiff", ".bmp", ".dpx") for _, target in jobs
        )
        self.failed: list[str] = []
        self.images: list[ImageReport] = []
        self.notes: list[str] = []
        self._waiting: list[tuple[Still, ImagePlan, list[str]]] = []  # images in the chain, in order, with their losses

    def run(self, progress: Show | None, stop: threading.Event) -> None:
        """Reads, enhances and writes every image."""
        started = perf_counter()
        frames = self._prepare(self.steps.remember(self._read()))
        items = self.steps.frames(frames, stop=stop.is_set, hold=False, waiting=1)  # photos are large
        try:
            for item in items:
                if isinstance(item, Frame):
                    self._write(item)
                    if progress:
                        speed = self.done / max(perf_counter() - started, 1e-3)
                        progress(Progress(self.done, float(self.done), float(len(self.jobs)), speed, len(item.faces)))
                if stop.is_set():
                    break
        finally:
            items.close()
        if stop.is_set() and self.done + self.skipped + len(self.failed) < len(self.jobs):
            line = "interrupted after {done} of {count} images; the same command continues from there"
            raise Interrupted(line, code="interrupted_stills", done=self.done, count=len(self.jobs))
        if self.options.colour == "restore":
            line, count = (
                "{--colour:restore}: {count} of {all} images had faded; each got its own curve",
                self.details.unfaded,
            )
            self.notes.append(Message(line, code="fading_stills", count=count, all=self.done) if count else NONE)
        if self.options.repair:
            filled = [one.filled for one in self.images]
            self.notes += repair_notes(self.options.repair, [still for still, _ in self.jobs], filled)
        if self.skipped:
            line = "the outputs of {count} images already existed ({--overwrite=True} replaces them)"
            self.notes.append(Message(line, code="images_there", count=self.skipped))
        if self.failed:
            raise InputError(
                self.failed[0]
                if len(self.jobs) == 1
                else f"{len(self.failed)} of {len(self.jobs)} images failed: {'; '.join(self.failed[:3])}"
                f"{'; …' if len(self.failed) > 3 else ''} ({self.done} done, {self.skipped} existed already)"
            )

    def _read(self) -> Iterator[Item]:
        for source, target in self.jobs:
            if self.folder and target.exists() and not self.options.overwrite:
                self.skipped += 1
                continue
            try:
                still = read_image(source)
                still.frame = self.preparation.enlarger(still.frame)
                plan = plan_image(target, still=still, overwrite=self.options.overwrite)
                if lost_parts := losses(still, plan.kind):
                    faults = Faults(str(source), self.stats, strict=self.options.strict)
                    faults.count("image_parts", ", ".join(lost_parts))
            except RtfaceError as error:
                self._count_failure(source, error)
                continue
            self.stats.count("frames_in")
            self._waiting.append((still, plan, lost_parts))
            yield still.frame

    def _prepare(self, items: Iterator[Item]) -> Iterator[Item]:
        for item in items:
            assert isinstance(item, Frame)
            frame, path = item, Path(self._waiting[-1][0].path)
            try:
                for step, changed in self.preparation.steps(frame, path):
                    frame, self.details.unfaded = changed, self.details.unfaded + (step == "fading removed")
            except RtfaceError as error:
                self._waiting.pop()
                self._count_failure(path, error)
            else:
                yield frame

    def _write(self, frame: Frame) -> None:
        still, plan, lost_parts = self._waiting.pop(0)
        try:
            if self.options.map_file is not None:
                write_image(
                    map_frame(map_filled(frame)), plan_image(self.options.map_file, overwrite=self.options.overwrite)
                )
            filled = 0 if frame.filled is None else int(np.count_nonzero(frame.filled))
            tags = self.tags | ({FILLED: f"{filled} pixels"} if filled else {})
            write_image(frame, plan, still=still, tags=tags)
            if self.options.compare is not None:
                self._write_pair(self.options.compare, frame, still)
        except OutputError as error:
            if full(error.__cause__):  # the disk is full, so every other image would fail too
                raise
            self._count_failure(Path(still.path), error)
            return
        tracks = [face.track_id for face in frame.faces]
        more = "; ".join(lost_parts)
        self.images.append(ImageReport(Path(still.path).name, tracks, frame.corrected, more, filled=filled))
        self.details.changed.add(frame)
        self.details.names.append(plan.target.path.name)
        self.done += 1

    def _write_pair(self, path: Path, frame: Frame, still: Still) -> None:
        machine_tags = made_by_machine(own_tags({}, still.meta.xmp))
        plan = plan_image(path, overwrite=self.options.overwrite)
        write_image(pair_frame(frame), plan, tags=true_tags(self.tags, Change.of(frame), machine_tags))

    def _count_failure(self, source: Path, error: RtfaceError) -> None:
        """Counts an image that cannot be read or written. Ends the run if there is only one image."""
        self.images.append(ImageReport(source.name, error=str(error)))
        if len(self.jobs) == 1:
            raise error
        self.failed.append(_name_image(source, error))
        self.stats.warn(f"image:{len(self.failed)}", self.failed[-1])


def _name_image(path: Path, error: RtfaceError) -> str:
    """Returns an error's message. Adds the image's name if it is missing."""
    return str(error) if path.name in str(error) else f"{path.name}: {error}"


def frames_of_stills(paths: Sequence[Path], stats: Stats, scale: str | None = None) -> Iterator[tuple[Path, Frame]]:
    """Yields the path and frame of each image, enlarged by `scale`.

    An unreadable image is skipped with a warning, and counted as "unreadable". A single one raises InputError.
    """
    enlarger = Enlarger(scale)
    for path in paths:
        try:
            frame = enlarger(read_image(path).frame)
        except RtfaceError as error:
            if len(paths) == 1:
                raise
            stats.warn(f"image:{path}", _name_image(path, error))
            stats.count("unreadable")
            continue
        yield path, frame
