"""What the frame path costs on one core: cutting crops, shaping corrections, adding them; milliseconds.

    python benchmarks/paste.py [--rounds 40] [--json]

Every figure is CPU time of the one thread that works: the least, the median and the 95th percentile over the rounds,
on synthetic frames, with OpenCV on one thread.
The baseline is a copy of the frame, which a frame with a face needs anyway.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np

from rtface.correct import CorrectionState, ShapingOptions, face_mask, shape_part
from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.frame import Frame, SharedViews
from rtface.geometry.transforms import compose, scaling, translation


def picture(name: str, width: int, height: int, pts: int = 0) -> Frame:
    rng = np.random.default_rng(0)
    rgb = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3)).astype(np.uint8), (0, 0), 2.0)
    image = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=name)
    image.pts = pts
    return Frame(image, pts, Fraction(1, 25))


def measure(rounds: int, call: Callable[[], object], before: Callable[[], object] = lambda: None) -> dict[str, float]:
    times = []
    for _ in range(rounds):
        before()
        start = time.thread_time()
        call()
        times.append(1e3 * (time.thread_time() - start))
    return {
        "min": round(min(times), 3),
        "p50": round(float(np.median(times)), 3),
        "p95": round(float(np.percentile(times, 95)), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    device = CpuDevice(threads=1)
    rng = np.random.default_rng(1)
    results: dict[str, dict[str, float]] = {}

    for name, (width, height) in {"yuv420p": (1920, 1080), "yuv420p10le": (1920, 1080), "rgb24": (1280, 720)}.items():
        frame = picture(name, width, height)
        label = f"{width}x{height} {name}"
        # The baseline copy, made writable by a second owner of the buffer as a decoder is one.
        buffers = [bytes(p) for p in frame.image.planes]
        results[f"{label}: copy of the frame"] = measure(args.rounds, lambda b=buffers: [bytearray(x) for x in b])
        results[f"{label}: thumbnail 640"] = measure(
            args.rounds, lambda f=frame: device.view(replace(f, views=SharedViews())).thumbnail(640)
        )
        for size, face in ((256, 256), (512, 512), (512, 900)):
            matrix = compose(
                translation(size / 2, size / 2),
                scaling(size / face, size / face),
                np.array([(0.99, -0.1, 0.0), (0.1, 0.99, 0.0)]),
                translation(-width / 2, -height / 2),
            )[None]
            mask = face_mask(size)[None]
            d = rng.normal(0, 0.03, (1, size, size, 3)).astype(np.float32) * mask[..., None]
            at = f"{label}: {size} crop of {face} px"
            results[f"{at}: crops"] = measure(args.rounds, lambda f=frame, m=matrix, s=size: device.cut(f, [(m[0], s)]))
            counter = iter(range(10**6))
            results[f"{at}: composite"] = measure(
                args.rounds,
                lambda f=frame, a=d, k=mask, m=matrix, n=counter: device.paste(
                    replace(f, pts=next(n)), [HostCorrection(a[0], k[0], m[0])]
                ),
            )

    for size in (256, 512):
        c = np.clip(rng.normal(0.5, 0.02, (3, size, size)), 0, 1).astype(np.float32)
        r = cv2.GaussianBlur(c.transpose(1, 2, 0), (0, 0), 1.5).transpose(2, 0, 1).copy()
        mask = face_mask(size)
        for what, options in {
            "lock": ShapingOptions(grain="none", gate=False),
            "lock, gate": ShapingOptions(grain="none"),
            "lock, gate, grain": ShapingOptions(),
            "lock, gate, grain, average": ShapingOptions(average=True),
        }.items():
            state, clock = CorrectionState(), iter(np.arange(10**5) / 25)
            results[f"shape {size}: {what}"] = measure(
                args.rounds,
                lambda r=r, c=c, m=mask, s=state, o=options, t=clock: shape_part(r, c, m, s, o, time=float(next(t))),
            )
        mesh = np.stack(
            [
                size / 2 + 0.3 * size * np.cos(np.arange(478) * 0.7),
                size / 2 + 0.35 * size * np.sin(np.arange(478) * 0.7),
            ],
            axis=1,
        )
        results[f"mesh mask {size}"] = measure(args.rounds, lambda s=size, m=mesh: face_mask(s, m))

    if args.json:
        print(json.dumps(results, indent=1))
    else:
        for what, figures in results.items():
            print(f"{what:60s} min {figures['min']:7.3f}  p50 {figures['p50']:7.3f}  p95 {figures['p95']:7.3f} ms")


if __name__ == "__main__":
    main()
