"""Peak memory of the join by number of frames and segments: segments of raw frames are made without decoding.

    python -m benchmarks.jobs.join_memory [--segments 10 100 1000] [--frames 100]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def film(path: Path, frames: int) -> Path:
    """A small film of equal frames with sound."""
    with av.open(str(path), "w") as out:
        video, sound = out.add_stream("mpeg4", rate=25), out.add_stream("aac", rate=48000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        image = av.VideoFrame.from_ndarray(np.full((72, 64), 90, np.uint8), "yuv420p")
        for k in range(frames):
            image.pts, image.time_base = k, Fraction(1, 25)
            out.mux(video.encode(image))
            if k % 8 == 0:
                block = av.AudioFrame.from_ndarray(np.zeros((1, 8 * 1920), np.float32), "fltp", "mono")
                block.sample_rate, block.pts, block.time_base = 48000, k * 1920, Fraction(1, 48000)
                out.mux(sound.encode(block))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


def join(folder: Path, segments: int, frames: int) -> None:
    """Makes the segments, then joins them in a forked process and prints what that took."""
    from rtface.frame import Frame
    from rtface.jobs import FilmJob
    from rtface.jobs.join import Join
    from rtface.jobs.plan import encoder_of
    from rtface.jobs.segment_file import SegmentWriter
    from rtface.media.outputs import check_target
    from rtface.media.source import FileSource
    from rtface.options import Options
    from rtface.report import Report
    from rtface.stats import Stats

    source = film(folder / f"in{segments}.mp4", segments * frames)
    options = Options(tracker="none", codec="ffv1")
    job = FilmJob.open(source, folder / f"out{segments}.mkv", options, length=Fraction(frames, 25))
    assert isinstance(job, FilmJob), job
    plan = job.plan
    opened = FileSource(source)
    video = encoder_of(opened.info, plan.container, options)
    base = opened.info.time_base
    image = av.VideoFrame.from_ndarray(np.full((72, 64), 90, np.uint8), "yuv420p")
    for number, start in enumerate(plan.starts):
        path = job.folder.segments / f"{number:05}-1.video"
        writer = SegmentWriter(path, video, plan.container, plan.origin, Stats())
        for k in range(plan.frames[number]):
            step = round(Fraction(1, 25) / base)
            writer.write(Frame(image, round(start / base) + k * step, base, step))
        job.folder.write(job.folder.record(number), {
            "segment": number, "run": "made", "seconds": 0.0, "engine": "none", "device": "cpu", "corrected": 0,
            "counters": {"frames_out": plan.frames[number]}, "stages": {}, "warnings": [], "tracks": [],
            "faces_before": [], "faces_last": [], "treatments": {}, **writer.finish()}, sync=False)
    opened.close()
    child = os.fork()
    if child == 0:
        target = check_target(plan.target, inputs=[source], overwrite=False)
        Join(job.folder, plan, target, options, Report("", "", "", "", ""), Stats(), threading.Event()).run()
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    print(json.dumps({"segments": len(plan), "frames": sum(plan.frames), "ok": status == 0,
                      "cpu_s": round(used.ru_utime + used.ru_stime, 2), "peak_mb": round(used.ru_maxrss / 1024, 1)}),
          flush=True)


def main() -> None:
    """Measures each number of segments in a process by itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--frames", type=int, default=100)
    asked = parser.parse_args()
    for segments in asked.segments:
        child = os.fork()
        if child == 0:
            with tempfile.TemporaryDirectory() as name:
                join(Path(name), segments, asked.frames)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
