"""Server to server over a bad network: ``netem.py NETWORK SECONDS``, as root in a throw-away machine whose loopback it
makes bad. The last line is what was seen, as JSON.

Source, presenter and sink of a run without its engine, and small frames: such a machine may be emulated, where
opening an engine takes minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rtface.config.addresses import parse_address
from rtface.config.options import Options
from rtface.live.frame_filters import FrameFilters
from rtface.live.output_scheduler import OutputScheduler
from rtface.live.sinks import child_sink
from rtface.live.sinks.stream_sink import StreamSink
from rtface.live.sources import read_process
from rtface.live.sources.reconnecting_source import open_live_source
from rtface.stats import Stats
from tests.live.feed import Watcher
from tests.live.live_fakes import live_status
from tests.live.servers import Nginx, Publisher, running
from tests.soak.rig import came, windows


def main() -> None:
    network, length = sys.argv[1], float(sys.argv[2])
    # How long an emulated machine takes to start a process is not what is looked at.
    read_process.START_S = 120.0
    read_process.OPENING, child_sink.OPENING = 60.0, 180.0
    folder, stats = Path(tempfile.mkdtemp()), Stats()
    options = Options(preset="ultrafast", bitrate=300_000)
    with (
        running(Nginx(folder / "a")) as a,
        running(Nginx(folder / "b")) as b,
        running(Publisher(a.url("in"), "flv", folder / "publisher", size="320x64", fps="5", gop="5")),
    ):
        source = open_live_source(parse_address(a.url("in")), stats=stats)
        sink = StreamSink(parse_address(b.url("out")), options)
        presenter: OutputScheduler | None = None
        source.start(
            lambda frame: presenter and presenter.put(frame), lambda packet: presenter and presenter.sound(packet)
        )
        sink.open(source.video_format, sound=source.sound_format)
        status = live_status(("in", source), [("out", sink)], stats=stats, form=source.video_format)
        presenter = OutputScheduler(status.state, FrameFilters(Options(), stats), status)
        presenter.start()
        with Watcher(b.url("out"), folder / "watch") as watcher:
            came(watcher, 10, 120)
            subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "netem", *network.split()], check=True)
            time.sleep(length)
            subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)
            time.sleep(max(4.0, length / 6))
            seen = list(windows(watcher, max(6.0, length / 6)))
            opened = len(watcher.seen("open"))
        ends = [asdict(source.health), asdict(sink.health)]
        began = time.monotonic()
        source.close()
        presenter.close()
        sink.close()
        took = time.monotonic() - began
    print(
        json.dumps(
            {
                "windows": seen,
                "figures": {
                    "ended in s": round(took, 2),
                    "faults": stats.counters["faults"],
                    "latency": {k: v for k, v in stats.stages_ms()["latency"].items() if k != "mean"},
                    "viewer opened": opened,
                    "reopened": [e["reopened"] for e in ends],
                    "states": [e["state"] for e in ends],
                    "dropped": [e["dropped"] for e in ends],
                },
            }
        )
    )


if __name__ == "__main__":
    main()
