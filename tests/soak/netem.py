"""Server to server over a bad network: ``netem.py NETWORK SECONDS``, as root in a throw-away machine whose loopback it
makes bad. The last line is what was seen, as JSON. Pictures are small, for the machine may be emulated."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.live.command import Command
from tests.live.feed import watching
from tests.live.servers import Nginx, Publisher, running
from tests.soak.rig import came, windows


def main() -> None:
    network, length = sys.argv[1], float(sys.argv[2])
    folder = Path(tempfile.mkdtemp())
    with running(Nginx(folder / "a")) as a, running(Nginx(folder / "b")) as b, running(
            Publisher(a.url("in"), "flv", folder / "publisher", size="320x180", fps="10", gop="10")), Command(
            folder / "rtface", a.url("in"), b.url("out"), "--tracker", "none", "--control", "0", "--json",
            "--preset", "ultrafast", "--bitrate", "300k", patience=240) as run:
        run.runs(10)
        with watching(b.url("out"), folder / "watch") as watcher:
            came(watcher, 10, 120)
            subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "netem", *network.split()], check=True)
            time.sleep(length)
            subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)
            time.sleep(max(4.0, length / 6))
            seen = list(windows(watcher, max(6.0, length / 6)))
            opened = len(watcher.seen("open"))
        status = run.status()
        took = run.end()
        done = run.json
    print(json.dumps({"windows": seen, "figures": {
        "code": run.process.returncode, "ended in s": round(took, 2), "faults": done["faults"],
        "latency": done["latency_ms"], "dropped": done["dropped"], "fps": done["fps"], "viewer opened": opened,
        "reopened": [e["reopened"] for e in done["ends"]], "states": [status["source"]["state"],
                                                                       status["sinks"][0]["state"]]}}))


if __name__ == "__main__":
    main()
