"""Checks of a command line that need no heavy import, so that errors in it appear at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rtface.config.options import Options
from rtface.errors import InputMissing, UsageError
from rtface.util.urls import Address


def check_names(options: Options) -> None:
    """UsageError for an engine or a stage that is not installed; it says how to add one that can be added."""
    from rtface.stages.entry_points import check_stage
    from rtface.stages.options import Spec

    _check_engine(options.engine)
    if options.codec:
        from rtface.media.write.codec import check_encoder

        check_encoder(options.codec)
    for text in options.stages:
        check_stage(Spec.parse(text).name)


def _check_engine(name: str) -> None:
    from rtface.engine.recipe import find_recipes, unknown_engine

    if name in ("auto", "default") or name in find_recipes():
        return
    from rtface.engine_install.catalogue import PLUGINS, find_offers

    offer = find_offers().get(name)
    if offer is not None and not offer.published.refused:
        source = "" if offer.published.url else " --from FILE"
        raise UsageError(f"engine {name} is not installed; add it with: rtface engines add {name}{source}")
    if offer is not None or name in PLUGINS:
        raise UsageError(f"engine {name} is not installed; for its state run: rtface engines add {name}")
    raise unknown_engine(name)


def check_inputs(inputs: Sequence[Path | Address]) -> None:
    """InputMissing for a single input that does not exist; of several inputs the others are processed first."""
    if len(inputs) == 1 and isinstance(inputs[0], Path):
        try:
            inputs[0].stat()
        except FileNotFoundError as error:
            raise InputMissing(
                "{path}: there is no such file; check the name", code="no_file", path=inputs[0]
            ) from error
        except OSError:
            return  # reported when it is opened
