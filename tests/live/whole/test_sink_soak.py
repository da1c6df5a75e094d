"""Ten minutes of a stream whose server is killed every minute: nothing drifts, nothing grows."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rtface.config.addresses import parse_address
from rtface.config.options import Options
from rtface.live.sinks.stream_sink import StreamSink
from tests.live.feed import MONO, Feed, Watcher, form, offsets
from tests.live.servers import Nginx, running

MINUTES = float(os.environ.get("RTFACE_TEST_MINUTES", "10"))


def resident(pid: int | str) -> float:
    """MiB of memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_stream_neither_drifts_nor_grows(tmp_path: Path):
    with running(Nginx(tmp_path / "nginx")) as nginx:
        sink = StreamSink(parse_address(nginx.url("soak")), Options(bitrate=1_000_000, encode="software"))
        sink.open(form(), sound=MONO)
        feed = Feed(sink, form(), texture=True)
        memory: list[tuple[float, float]] = []
        with Watcher(nginx.url("soak"), tmp_path) as watcher:
            until = time.monotonic() + 60 * MINUTES
            turns = 0
            while time.monotonic() < until:
                feed.run(55, {40: nginx.kill, 45: nginx.start})
                turns += 1
                feed.until_seen(watcher, time.monotonic() - 1, 10)
                memory.append((resident(sink.pid), resident("self")))  # type: ignore[attr-defined]
            found = offsets(watcher)
        assert sink.health.reopened == turns and sink.health.state == "live"
        frames, tones = np.array(found).T
        assert len(found) > 20 * MINUTES
        assert np.ptp(frames) < 0.003 and np.ptp(tones) < 0.005
        child, own = np.array(memory).T
        assert child[-1] - child[0] < 15 and own[-1] - own[0] < 15, memory
        feed.check_that_no_call_waited()
        sink.close()
