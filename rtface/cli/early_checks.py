"""Checks a command line early, without heavy imports. Errors therefore appear at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rtface.config.options import Options
from rtface.util.paths import check_there
from rtface.util.urls import Address


def check_names(options: Options) -> None:
    """Raises UsageError for an engine or stage that is not installed."""
    from rtface.engine.recipe import find_recipes, unknown_engine
    from rtface.stages.entry_points import check_stage
    from rtface.stages.options import Spec

    if options.engine not in ("auto", "default") and options.engine not in find_recipes():
        raise unknown_engine(options.engine)
    if options.codec:
        from rtface.media.write.codec import encoder_of

        encoder_of(options.codec)
    for text in options.stages:
        check_stage(Spec.parse(text).name)


def check_inputs(inputs: Sequence[Path | Address]) -> None:
    """Raises InputMissing for a single missing input. With several inputs, each missing one is reported in its turn."""
    if len(inputs) == 1 and isinstance(inputs[0], Path):
        check_there(inputs[0])
