"""Peak memory of the join by number of frames and segments: segments of raw frames are made without decoding.

    python -m benchmarks.jobs.join_memory [--segments 10 100 1000] [--frames 100] [--container mp4]

Containers keep an index of all their packets in memory: ``--container ts`` has none. ``remuxed`` is what PyAV alone
takes to write packets of the same number, size and kind: the sound of the input, and frames without segments.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np

from benchmarks.jobs.cost import measured


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


def join(folder: Path, segments: int, frames: int, container: str) -> None:
    """Makes the segments, then joins them in a forked process and prints what that took."""
    from rtface.config.options import Options
    from rtface.frame import Frame
    from rtface.jobs import FilmJob
    from rtface.jobs.join import Join
    from rtface.jobs.segment_file import FilmPackets, SegmentWriter
    from rtface.media.read.source import FileSource
    from rtface.pipeline.plan import plan_film, plan_run
    from rtface.report import Report
    from rtface.stats import Stats

    source = film(folder / f"in{segments}.{container}", segments * frames)
    options = Options(tracker="none", codec="ffv1")
    job = FilmJob.open(source, folder / f"out{segments}.mkv", options, length=Fraction(frames, 25))
    assert isinstance(job, FilmJob), job
    plan = job.plan
    opened = FileSource(source)
    run = plan_run(source, plan.target, options, job=True)
    planned = plan_film(run, opened)
    video = planned.video
    base = opened.info.time_base
    image = av.VideoFrame.from_ndarray(np.full((72, 64), 90, np.uint8), "yuv420p")
    for number, start in enumerate(plan.starts):
        path = job.folder.segments / f"{number:05}-1.video"
        writer = SegmentWriter(path, FilmPackets(video, plan.run["container"], plan.origin, Stats(), str(path)))
        for k in range(plan.frames[number]):
            step = round(Fraction(1, 25) / base)
            writer.write(Frame(image, round(start / base) + k * step, base, step))
        job.folder.write(
            job.folder.record(number),
            {
                "segment": number,
                "run": "made",
                "seconds": 0.0,
                "engine": "none",
                "device": "cpu",
                "corrected": 0,
                "counters": {"frames_out": plan.frames[number]},
                "stages": {},
                "warnings": [],
                "tracks": [],
                "faces_before": [],
                "faces_last": [],
                "treatments": {},
                "change": 0,
                "changed": [],
                **writer.finish(),
            },
            sync=False,
        )
    opened.close()
    joining = Join(job.folder, plan, planned, Report("", "", "", "", ""), Stats(), threading.Event())
    print(
        json.dumps(
            {
                "segments": len(plan),
                "frames": sum(plan.frames),
                **measured(joining.run),
                "remuxed": measured(partial(remux, source, folder / "plain.mkv", sum(plan.frames))),
            }
        ),
        flush=True,
    )


def remux(source: Path, output: Path, frames: int) -> None:
    """Writes the sound of a film and equal frames in FFV1, by PyAV alone."""
    with av.open(str(source)) as read, av.open(str(output), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream_from_template(read.streams.audio[0])
        image = av.VideoFrame.from_ndarray(np.full((72, 64), 90, np.uint8), "yuv420p")
        data = bytes((video.encode(image) + video.encode(None))[0])
        done = 0
        for packet in read.demux(audio=0):
            if packet.dts is None:
                continue
            while done < frames and done / 25 <= float(packet.pts * packet.time_base):
                frame = av.Packet(data)
                frame.stream, frame.time_base, frame.duration = video, Fraction(1, 25), 1
                frame.pts = frame.dts = done
                frame.is_keyframe = True
                out.mux(frame)
                done += 1
            packet.stream = sound
            out.mux(packet)


def main() -> None:
    """Measures each number of segments in a process by itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--container", default="mp4", help="suffix of the input: mp4, mkv, ts")
    asked = parser.parse_args()
    for segments in asked.segments:
        with tempfile.TemporaryDirectory() as name:
            measured(partial(join, Path(name), segments, asked.frames, asked.container))


if __name__ == "__main__":
    main()
