"""Opens the source of a film, or of a folder of stills that is to be one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from rtface.concurrency import call_until_stopped
from rtface.errors import InputError, Interrupted
from rtface.media.hardware import decoding
from rtface.media.images import SequenceSource, open_sequence
from rtface.media.source import FileSource, open_source
from rtface.options import Options
from rtface.pipeline.chain import Threads
from rtface.pipeline.runtime import codec_device
from rtface.stats import Stats
from rtface.util.urls import Address


def open_until_stopped(input: Path | Address, options: Options, threads: Threads, stats: Stats,
                       stop: threading.Event, *, keep: bool = False) -> FileSource | SequenceSource:
    """`open_film`, which may be stopped while a pipe or a network drive gives nothing."""
    try:
        source = call_until_stopped(
            lambda: open_film(input, options, threads, stats, stop=stop.is_set, keep=keep), stop.is_set, name="open")
    except InputError:
        if stop.is_set():  # what came until then was no whole film
            raise Interrupted from None
        raise
    if source is None:
        raise Interrupted
    return source


def open_film(input: Path | Address, options: Options, threads: Threads, stats: Stats, *, stop: Callable[[], bool],
              keep: bool = False) -> FileSource | SequenceSource:
    """The source of a film, or of a folder that is to be one; with `keep`, pictures may stay on the run's GPU."""
    if options.sequence and isinstance(input, Path):
        return open_sequence(input, fps=options.fps, start=options.start, end=options.end, stats=stats)
    return open_source(input, start=options.start, end=options.end, threads=threads.decode, stats=stats,
                       strict=options.strict, stop=stop,
                       decode=decoding(options.decode, codec_device(options.device), keep=keep, strict=options.strict))
