"""Makes the two ends of a live run from what a user named. Nothing is opened yet."""

from __future__ import annotations

from pathlib import Path

from rtface.config import Options
from rtface.live.endpoints import Endpoint, check_ends, unwrapped
from rtface.live.protocols import LiveSink, SoundSource
from rtface.live.run import Ends
from rtface.stats import Stats


def make_ends(source: Endpoint, sink: Endpoint, options: Options, stats: Stats) -> Ends:
    """What `run_live` takes.

    Raises:
        UsageError: an end that cannot be what it is given as.
        OutputError: a file that cannot be written there.
    """
    from rtface.live.source import open_live_source

    check_ends(source, sink)
    named = [sink]
    if options.also is not None:
        named.append(Endpoint("file", str(options.also)))
    sinks = [make_sink(one, source, options, stats) for one in named]
    return Ends(open_live_source(source, options, stats), sinks, _sound(options, stats), options.audio == "none",
                (str(source), *map(str, named)))


def make_sink(sink: Endpoint, source: Endpoint, options: Options, stats: Stats) -> LiveSink:
    """One output; raises as `make_ends`."""
    if sink.kind == "vcam":
        from rtface.live.virtual_camera import VirtualCamera

        return VirtualCamera(sink.name, stats=stats)
    from rtface.live.record_sink import RecordSink
    from rtface.live.stream_sink import NullSink, StreamSink

    if sink.kind == "null":
        return NullSink()
    if sink.kind == "stream":
        return StreamSink(sink, options, stats)
    return RecordSink(Path(sink.name), options, stats, inputs=[source.name])


def _sound(options: Options, stats: Stats) -> SoundSource | None:
    if options.audio in (None, "none"):
        return None
    from rtface.live.microphone import open_sound

    return open_sound(unwrapped(options.audio), options, stats)
