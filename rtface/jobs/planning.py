"""Plans a job, and checks that another installation makes the same frames."""

from __future__ import annotations

import hashlib
import json
import secrets
from bisect import bisect_left
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any

from rtface.config.options import FaceOptions, Options, learnt_persons
from rtface.engine.engine_set import LIGHT, engine_names, names_of_persons, recipe_named
from rtface.errors import OptionFlag, RtfaceError, UsageError
from rtface.jobs.borders import SEGMENT_S, borders, image_times, read_times
from rtface.jobs.plan import JobPlan
from rtface.pipeline.film_plan import FilmPlan
from rtface.pipeline.plan import RunPlan, planned_options
from rtface.redaction import redacted_values
from rtface.stages.entry_points import stage_version
from rtface.stages.options import Spec
from rtface.trust.sidecar import codec_versions
from rtface.util.foreign import read_regular


def make_plan(film: FilmPlan, length: Fraction = SEGMENT_S) -> JobPlan | str:
    """Plans a job.

    Args:
        film: plan of the film, from a `RunPlan`.
        length: approximate length of a segment in seconds.

    Returns:
        The plan, or one line with the reason why the film cannot be divided.

    Raises:
        OutputError: the container cannot store a stream of the input.
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
                f"{source.name} is processed without a job, because its encoder stores transparency as a second stream"
            )
    first_pts = [times.pts[0], *borders(times, length)]
    offsets = [*(bisect_left(times.pts, pts) for pts in first_pts), len(times.pts)]
    step = (times.pts[-1] - times.pts[0]) // (len(times.pts) - 1) if len(times.pts) > 1 else 1
    return JobPlan(
        id=secrets.token_hex(8),
        run=run.to_dict() | {"options": redacted_values(planned_options(options))} | film.to_dict(),
        files=option_files(options),
        installed=installed(options),
        origin=info.origin,
        begins=info.clock_start,
        size=info.decoded or (info.width, info.height, info.pix_fmt),
        starts=[pts * times.base for pts in first_pts],
        frames=[after - before for before, after in pairwise(offsets)],
        ends=(times.pts[-1] + step) * times.base,
        numbered=names_faces(options),
        damage=times.damage,
    )


def option_files(options: FaceOptions) -> dict[str, str]:
    """Returns the SHA-256 of option files that frames depend on.

    Raises:
        UsageError: a file cannot be read.
    """
    hashes: dict[str, str] = {}
    for option, path in (("--shots", options.shots), ("--treatment", options.treatment)):
        if path is not None:
            try:
                hashes[f"the file of {option}"] = hashlib.sha256(read_regular(path)).hexdigest()
            except OSError as error:
                raise UsageError(
                    "{option:{path}}: cannot be read ({why})",
                    code="option_file_unreadable",
                    option=OptionFlag(option),
                    path=path,
                    why=error.strerror,
                ) from error
    return hashes


def names_faces(options: Options) -> bool:
    """Tells whether options or stages name tracks or persons."""
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
                    # A single name applies to any face; a list (1=Anna;P2=Ben) names tracks or persons.
                    for text in (values.get("faces", ""), values.get("name", "").partition("=")[1])
                ),
            )
        )
    )


def installed(options: Options) -> dict[str, str]:
    """Returns the installed versions on which a job's frames depend: rtface, PyAV, FFmpeg's libraries, stages, and each
    engine that may run, with the SHA-256 of its recipe, which in turn contains that of the network.

    Raises:
        UsageError, MissingComponent, InputError: an engine is not installed.
    """
    run_engines = engine_names(options.engine, options.engine_control)
    persons = names_of_persons(run_engines, learnt_persons(options.person))
    engines = {name: recipe_named(name) for name in (*run_engines, *persons, LIGHT)}
    stages = {name: stage_version(name) for name in (Spec.parse(text).name for text in options.stages)}
    return {
        **{f"the version of {name}": version for name, version in codec_versions().items()},
        **{f"engine {name}": f"{recipe.version} {recipe.digest}" for name, recipe in engines.items()},
        **{f"the stage {name}": " ".join(details.values()) for name, details in stages.items() if details is not None},
    }


def difference(
    planned: Mapping[str, Any], present: Mapping[str, Any], *, missing: str = "missing", when: str = "here"
) -> str | None:
    """Describes the first difference from the plan. Returns None if there is none.

    Args:
        planned, present: the values to compare, by name.
        missing: text for a missing value.
        when: text for the end of the line.
    """
    for name in {**planned, **present}:
        if planned.get(name) != present.get(name):
            was, now = (values.get(name, missing) for values in (planned, present))
            return f"{name} was {was} when the job began, and is {now} {when}"
    return None


class WorkerRefused(UsageError):
    """Signals that this installation would not make the frames of the plan."""


def check_worker(plan: JobPlan, options: Options) -> None:
    """Checks that this installation makes the frames of the plan.

    Raises:
        WorkerRefused: a version, an engine, a stage or a file differs; the message states which.
    """
    try:
        _raise_if(difference(plan.installed | plan.files, installed(options) | option_files(options)))
    except WorkerRefused:
        raise
    except RtfaceError as error:
        _raise_if(str(error))


def check_video(plan: JobPlan, film: FilmPlan) -> None:
    """Checks the encoders of output and additional films, like `check_worker`."""
    current = json.loads(json.dumps(film.to_dict()))
    _raise_if(difference(*({"the encoder": each["video"], **each["further"]} for each in (plan.run, current))))


def _raise_if(why: str | None) -> None:
    if why is not None:
        raise WorkerRefused(f"this worker cannot be used: {why}; its installation must match the job's")
