"""Planning a job, and whether another installation makes the same frames by the plan."""

from __future__ import annotations

import hashlib
import json
import secrets
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from typing import Any

from rtface.config.options import FaceOptions, Options, OutputOptions, learnt_persons
from rtface.engine.engine_set import (
    DEFAULT,
    LIGHT,
    engine_names,
    is_here,
    names_of_persons,
    recipe_named,
)
from rtface.errors import OptionFlag, UsageError
from rtface.jobs.borders import SEGMENT_S, borders, image_times, read_times
from rtface.jobs.plan import JobPlan
from rtface.pipeline.plan import FilmPlan, RunPlan, planned_options
from rtface.redaction import redacted_values
from rtface.stages.entry_points import stage_version
from rtface.stages.options import Spec
from rtface.trust.sidecar import codec_versions
from rtface.util.foreign import read_regular


def make_plan(film: FilmPlan, length: Fraction = SEGMENT_S) -> JobPlan | str:
    """Plans a job.

    Args:
        film: what becomes of the film, in a `RunPlan`.
        length: of a segment, about, in seconds.

    Returns:
        The plan, or one line that says why the film cannot be divided.

    Raises:
        OutputError: the container cannot hold what the input has.
    """
    info, run, source = film.info, film.frames, film.frames.input
    assert isinstance(run, RunPlan)
    options = run.options
    times = (
        image_times(info)
        if info.is_sequence
        else read_times(source, info.start, info.end, strict=options.strict, variant=options.variant)
    )
    if times.fault or not times.pts:
        return f"{source.name} is processed without a job, because {times.fault or 'no frame was found'}"
    for each in (*([film.streams] if film.streams is not None else []), *film.further.values()):
        if "vp" in each.video.encoder and each.video.pix_fmt.startswith("yuva"):
            return (
                f"{source.name} is processed without a job, because its transparency is a second stream in the encoder"
            )
    named = engine_names(options.engine, options.engine_control)
    firsts = [times.pts[0], *borders(times, length)]
    places = [*(bisect_left(times.pts, pts) for pts in firsts), len(times.pts)]
    return JobPlan(
        id=secrets.token_hex(8),
        run=run.to_dict() | {"options": redacted_values(planned_options(options))} | film.to_dict(),
        files=option_files(options),
        engines=engines_of((*named, *names_of_persons(named, learnt_persons(options.person)), LIGHT)),
        versions=codec_versions(),
        stages=stages_of(options),
        origin=info.origin,
        begins=info.clock_start,
        size=info.decoded or (info.width, info.height, info.pix_fmt),
        starts=[pts * times.base for pts in firsts],
        frames=[after - before for before, after in pairwise(places)],
        ends=_end(times.pts, times.base),
        numbered=names_faces(options),
        damage=times.damage,
    )


def _end(pts: array[int], base: Fraction) -> Fraction:
    step = (pts[-1] - pts[0]) // (len(pts) - 1) if len(pts) > 1 else 1
    return (pts[-1] + step) * base


def option_files(options: FaceOptions) -> dict[str, str]:
    """SHA-256 of the files that options name and frames depend on.

    Raises:
        UsageError: one cannot be read.
    """
    found: dict[str, str] = {}
    for name, path in (("shots", options.shots), ("treatment", options.treatment)):
        if path is not None:
            try:
                found[name] = hashlib.sha256(read_regular(path)).hexdigest()
            except OSError as error:
                raise UsageError(
                    "{option:{path}}: cannot be read ({why})",
                    code="option_file_unreadable",
                    option=OptionFlag(f"--{name}"),
                    path=path,
                    why=error.strerror,
                ) from error
    return found


def names_faces(options: Options) -> bool:
    """Whether options or stages name tracks or persons."""
    return bool(
        options.treatment
        or options.person
        or any(
            text not in ("", "all", "largest")
            for text in (
                options.faces,
                *(
                    text
                    for values in ((Spec.parse(stage).values or {}) for stage in options.stages)
                    # One name is for any face; several, as 1=Anna;P2=Ben, are for tracks or persons.
                    for text in (values.get("faces", ""), values.get("name", "").partition("=")[1])
                ),
            )
        )
    )


def engines_of(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Version and digest of engines, by name; raises as `rtface.engine.engine_set.recipe_named`."""
    recipes = {DEFAULT if name == "default" else name: recipe_named(name) for name in names}
    return {name: {"version": recipe.version, "recipe_sha256": recipe.digest} for name, recipe in recipes.items()}


def stages_of(options: OutputOptions) -> dict[str, dict[str, str]]:
    """Versions of the stages of a run that are there, by name."""
    return {
        name: version
        for name in dict.fromkeys(Spec.parse(text).name for text in options.stages)
        if (version := stage_version(name)) is not None
    }


def difference(
    name: str, planned: dict[str, Any], found: dict[str, Any], *, missing: str = "missing", when: str = "here"
) -> str | None:
    """One line that names the first difference between a part of a plan and what was found; None where they are the
    same.

    Args:
        name: of a value, with {} for its key.
        planned, found: the two.
        missing: the word for a value that is not there.
        when: ends the line.
    """
    for key in {**planned, **found}:
        if planned.get(key) != found.get(key):
            was, now = (_shown(values[key]) if key in values else missing for values in (planned, found))
            return f"{name.format(key)} was {was} when the job began, and is {now} {when}"
    return None


def _shown(value: object) -> str:
    return " ".join(map(str, value.values())) if isinstance(value, dict) else str(value)


class WorkerRefused(UsageError):
    """This installation would make other frames than the one that planned the job."""


def check_worker(plan: JobPlan, options: Options) -> None:
    """Checks that this installation makes the same frames as the one that planned the job.

    Raises:
        WorkerRefused: a version, an engine, a stage or FFmpeg differs; the message names it.
    """
    found = (
        difference("the version of {}", plan.versions, codec_versions())
        or difference("engine {}", plan.engines, engines_of(name for name in plan.engines if is_here(name)))
        or difference("the stage {}", plan.stages, stages_of(options))
        or difference("the file of {}", plan.files, option_files(options))
    )
    if found:
        raise WorkerRefused(f"this worker cannot take part: {found}; install the same")


def check_video(plan: JobPlan, film: FilmPlan) -> None:
    """`check_worker` for the encoders of the output and of the further films."""
    here = json.loads(json.dumps(film.to_dict()))
    found = difference("the encoder's {}", plan.video or {}, here["video"] or {})
    for name, values in here["further"].items():
        found = found or difference(f"the {name}'s {{}}", plan.run["further"].get(name, {}), values)
    if found:
        raise WorkerRefused(f"this worker cannot take part: {found}")
