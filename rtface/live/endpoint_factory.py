"""Creates the source and sinks of a live run, without opening them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rtface._version import __version__
from rtface.config.addresses import LiveAddress, check_addresses, resolve_address
from rtface.config.options import LiveOptions, Options, OutputOptions, learnt_persons
from rtface.engine.engine_set import check_persons, engine_names, without_persons
from rtface.errors import UsageError
from rtface.live.protocols import LiveSink, LiveSource
from rtface.live.run_state import Endpoints
from rtface.live.slate import Slate
from rtface.media.files.leftovers import clear_leftovers
from rtface.media.files.outputs import OutputPath, check_outputs
from rtface.media.marks.provenance import describe
from rtface.media.read.pipe import is_pipe
from rtface.pipeline.build_live import live_engine
from rtface.redaction import shown
from rtface.report import metadata_options
from rtface.stats import Stats
from rtface.util import plugins


def make_endpoints(source: LiveAddress, sink: LiveAddress, options: Options, stats: Stats) -> Endpoints:
    """Creates the endpoints for `run_live`, without opening them.

    Raises:
        UsageError: an address cannot serve as a source or sink.
        OutputError: a file cannot be written.
    """
    from rtface.live.sources.open_source import open_sound_source

    check_addresses(source, sink)
    outputs = [sink]
    also = None if options.also is None else resolve_address(str(options.also))
    if also is not None:
        outputs.append(LiveAddress("file", also))
    for number, end in enumerate(ends := [source, *outputs]):
        if end.kind == "stream" and end in ends[:number]:  # `_check_files` compares files
            raise UsageError(
                "{address} is given twice; input and outputs must differ",
                code="end_twice",
                address=end,
            )
    _check_files(source, sink, also, options, stats)
    learnt, engines = learnt_persons(options.person), engine_names(live_engine(options), options.engine_control)
    if options.dry_run:
        check_persons(engines, learnt)
    if (unused := without_persons(engines, learnt)) is not None:
        stats.warn("person", unused)
    content = describe(live_engine(options), __version__, options.strength, metadata_options(options))
    only_files = sink.kind == "file" or (sink.kind == "null" and also is not None)
    whole = {"whole": True} if source.kind == "stream" and only_files else {}
    sinks: list[LiveSink] = [plugins.load("sink", end.kind)(end, options, metadata=content, **whole) for end in outputs]
    source_sound, buffer = options.audio is None, buffer_of(source, options)
    live_source: LiveSource = plugins.load("source", source.kind)(
        replace(source, variant=options.variant),
        size=options.size,
        fps=options.fps,
        sound=source_sound,
        buffer=buffer,
        stats=stats,
        **({"loop": True} if options.loop and source.kind == "file" else whole),
    )
    sound = None if source_sound else open_sound_source(resolve_address(str(options.audio)), stats=stats)
    return Endpoints(
        live_source,
        sinks,
        sound,
        silent=not source_sound,
        names=(str(source), *map(str, outputs)),
        sound_name=f"sound {shown(str(options.audio))}",
        buffer=buffer if options.delay is not None and buffer else 0.0,
        slate=Slate(options.slate),
        film=Path(source.name) if source.kind == "file" and not is_pipe(source.name) else None,
        whole=bool(whole),
    )


def buffer_of(source: LiveAddress, options: LiveOptions) -> float | None:
    """Returns the jitter buffer's length in seconds. None adapts it to the jitter.

    With `--delay`, every frame waits anyway, so the buffer uses the part of the delay not reserved for processing.
    """
    network = source.kind == "stream" and not source.scheme.startswith("http")
    if not network:  # a stream that turns out to be a film has no jitter buffer
        return None if options.delay is None and source.kind in ("stream", "file") else 0.0
    return None if options.delay is None else max(0.0, options.delay - options.latency) / 1e3


def _check_files(
    source: LiveAddress, sink: LiveAddress, also: str | None, options: OutputOptions, stats: Stats
) -> None:
    """Checks output files for conflicts. Warns about files that killed runs left behind."""
    outputs = [OutputPath(sink.name)] if sink.kind == "file" else []
    outputs += [OutputPath(path, name) for path, name in ((also, "--also"), (options.report, "--report")) if path]
    targets = check_outputs(outputs, inputs=[source.name] if source.kind == "file" else [], overwrite=options.overwrite)
    for target in targets if not options.dry_run else ():
        for line in clear_leftovers(target, live=True):
            stats.warn(f"leftover:{line}", line)
