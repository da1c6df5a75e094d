"""What `--scale` gains over its resampler, against real frames: the table of "Enlarged frames".

    python -m benchmarks.enlarged_frames CLIP... [--factors 2 4] [--coded none 23 28] [--smaller 1 2]

The first frames of a clip are the truth, reduced by area by `--smaller`; reduced further by a factor, coded (medium;
"none": FFV1), and enlarged again. Luma is compared in the oval of the widest face, on the last `MEASURED` frames.

    python -m benchmarks.enlarged_frames --harm [PICTURE...]

enlarges text, line art, foliage, a test chart, grain and pictures, and counts samples that are not the resampler's.

    python -m benchmarks.enlarged_frames --portraits tuning|set-aside --faces DIR [--people 6] [--widths ...]

measures sharp portraits (`--faces`): films of 16 frames, halved by area, coded, and run with
`--scale 2`, against what the resampler makes of them, and against a run without `--scale` that is enlarged afterwards.
RGB in the oval of the last 6 frames; `--output` keeps the rows as JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice, product
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np

import rtface
from rtface.device.cpu.device import CpuDevice
from rtface.frame import Bytes, Face, Float32, Frame
from rtface.media.read.enlarge import Enlarger
from rtface.media.read.source import FileSource
from rtface.media.stills.image_read import read_image
from rtface.pipeline.chain import track
from rtface.stats import Stats
from rtface.tracking import create_tracker
from training.crop_space import U8
from training.data.portraits import Face as Portrait
from training.data.portraits import load_faces
from training.degradation.coded_film import Level, coded_film, level
from training.evaluation.backgrounds import BACKGROUNDS
from training.evaluation.native_figures import Ruler
from training.evaluation.native_protocols import people, portrait

LOOK: Literal["faithful"] = "faithful"
"""The look that is measured: others add detail, which a soft truth counts as an error."""
FRAMES, MEASURED = 8, 5
PORTRAIT_FRAMES, PORTRAIT_WARM = 16, 10
LEVELS = ["clean/0", "h264/18", "h264/23", "h264/27", "h264/31", "h264/36"]


def faces_of(path: Path, end: float) -> list[tuple[Face, ...]]:
    """The faces of every frame of a clip."""
    stats, device = Stats(), CpuDevice()
    tracker = create_tracker("auto")
    source = FileSource(path, end=end, stats=stats)
    try:
        return [item.faces for item in track(iter(source), tracker, device, stats) if isinstance(item, Frame)]
    finally:
        source.close()
        tracker.close()


def frames_of(path: Path, scale: str | None = None) -> Iterator[av.VideoFrame]:
    """The frames of a film as a run reads them."""
    source = FileSource(path, scale=scale)
    try:
        yield from (item.image for item in source if isinstance(item, Frame))
    finally:
        source.close()


def reduced(image: av.VideoFrame, factor: int, multiple: int) -> av.VideoFrame:
    """An image as yuv420p, cut to multiples of a number of samples and reduced by area."""
    ours = image.reformat(format="yuv420p")
    small = av.VideoFrame(
        ours.width // multiple * multiple // factor, ours.height // multiple * multiple // factor, "yuv420p"
    )
    for mine, theirs in zip(ours.planes, small.planes, strict=True):
        part = np.frombuffer(mine, np.uint8).reshape(-1, mine.line_size)[
            : theirs.height * factor, : theirs.width * factor
        ]
        rows = np.frombuffer(theirs, np.uint8).reshape(-1, theirs.line_size)
        rows[:, : theirs.width] = cv2.resize(part, (theirs.width, theirs.height), interpolation=cv2.INTER_AREA)
    return small


def write(path: Path, images: list[av.VideoFrame], codec: str, **options: str) -> Path:
    """A film of these images, 25 a second."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, 25, options=options)
        stream.width, stream.height, stream.pix_fmt = images[0].width, images[0].height, images[0].format.name
        for number, image in enumerate(images):
            image.pts, image.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(image))
        file.mux(stream.encode())
    return path


def lumas(images: Iterator[av.VideoFrame]) -> list[Float32]:
    return [np.asarray(image.to_ndarray()[: image.height], np.float32) for image in images][-MEASURED:]


def above(luma: Float32, factor: int) -> Float32:
    """The part of a picture above the Nyquist limit of one that is smaller by a factor."""
    spectrum = np.fft.fft2(luma)
    y, x = (abs(np.fft.fftfreq(length)) < 0.5 / factor for length in luma.shape)
    spectrum[np.ix_(y, x)] = 0
    return np.fft.ifft2(spectrum).real.astype(np.float32)


def figures(truth: list[Float32], made: list[Float32], ovals: list[Bytes], factor: int) -> tuple[float, float]:
    """PSNR in dB in the ovals, and the correlation there of what lies above the small picture's Nyquist limit."""
    apart = np.concatenate([(t - m)[o > 0] for t, m, o in zip(truth, made, ovals, strict=True)])
    high = [(above(t, factor)[o > 0], above(m, factor)[o > 0]) for t, m, o in zip(truth, made, ovals, strict=True)]
    first, second = (np.concatenate(parts) for parts in zip(*high, strict=True))
    both = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return 10 * float(np.log10(255**2 / max(float((apart**2).mean()), 1e-9))), float(
        (first * second).sum()
    ) / both if both else 0.0


def of_clip(clip: Path, smaller: int, factor: int, coded: str, folder: Path, frames: int = FRAMES) -> dict[str, Any]:
    """The figures of one clip: face's width in the truth, and dB and correlation of Lanczos and of the run."""
    images = [reduced(image, smaller, 8 * smaller) for image in islice(frames_of(clip), frames)]
    truth_film = write(folder / "truth.mkv", images, "ffv1")
    truth, faces = lumas(frames_of(truth_film)), faces_of(truth_film, 1e3)[-MEASURED:]
    small = [reduced(image, factor, 1) for image in images]
    options = {} if coded == "none" else {"crf": coded, "preset": "medium"}
    given = write(folder / "given.mkv", small, "ffv1" if coded == "none" else "libx264", **options)
    report = rtface.run(given, folder / "made.mkv", scale=str(factor), look=LOOK, codec="ffv1", overwrite=True)
    ovals, widths = list[Bytes](), list[float]()
    for seen, luma in zip(faces, truth, strict=True):
        oval = np.zeros(luma.shape, np.uint8)
        if seen:
            widest = max(seen, key=lambda face: face.width)
            assert widest.mesh is not None
            widths.append(widest.width)
            cv2.fillConvexPoly(oval, cv2.convexHull(np.rint(widest.mesh[:, :2]).astype(np.int32)), 1)
        ovals.append(oval)
    plain, made = (lumas(found) for found in (frames_of(given, str(factor)), frames_of(folder / "made.mkv")))
    (before, low), (after, high) = (figures(truth, one, ovals, factor) for one in (plain, made))
    return {
        "clip": clip.stem,
        "face": round(float(np.mean(widths))),
        "corrected": report.frames_corrected,
        "lanczos_db": round(before, 2),
        "gain_db": round(after - before, 2),
        "lanczos_above": round(low, 3),
        "above": round(high, 3),
    }


def portrait_pictures(path: Path, scale: str | None) -> list[U8]:
    """A film or still as RGB, enlarged."""
    enlarger = Enlarger(scale)
    images = (
        (enlarger(read_image(path).frame).image for _ in range(1))
        if path.suffix in (".png", ".jpg")
        else frames_of(path, scale)
    )
    return [np.asarray(image.to_ndarray(format="rgb24"), np.uint8) for image in images]


def of_portrait(face: Portrait, width: float, how: Level, folder: Path) -> dict[str, Any]:
    """Measures one sharp portrait, of so many pixels before it is enlarged."""
    truth = portrait(face, 2 * width, frames=1 if how.still else PORTRAIT_FRAMES, reduction=1.0)
    truth = replace(truth, first=min(PORTRAIT_WARM, len(truth.frames) - 1))
    given, kind = folder / f"given{how.suffix}", ".png" if how.still else ".mkv"
    halves = [
        np.asarray(cv2.resize(one, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
        for one in truth.frames
    ]
    coded_film(halves, how, given, 7)
    options: dict[str, Any] = {"overwrite": True, "look": LOOK, "grain": "none"}
    options |= {} if how.still else {"codec": "ffv1"}
    report = rtface.run(given, folder / f"made{kind}", scale="2", **options)
    alone = rtface.run(given, folder / f"alone{kind}", **options)
    ruler, plain = Ruler(truth), portrait_pictures(given, "2")
    made, after = portrait_pictures(folder / f"made{kind}", None), portrait_pictures(folder / f"alone{kind}", "2")
    rows = [ruler.row(plain, film) for film in (made, after)]
    return {
        "person": face.identity,
        "face": width,
        "level": how.name,
        "frames": report.frames_out,
        "corrected": report.frames_corrected,
        "corrected_alone": alone.frames_corrected,
        "lanczos_db": round(rows[0]["input"], 2),
        "gain_db": round(rows[0]["default"], 3),
        "luma_db": round(rows[0]["luma"], 3),
        "alone_db": round(rows[1]["default"], 3),
        "found": [round(rows[0][f"{name}_corr"], 3) for name in ("input", "default")],
        "energy": [round(rows[0][f"{name}_amp"], 3) for name in ("input", "default")],
        "ring_db": round(rows[0]["ring_default"], 3),
    }


def portraits(asked: argparse.Namespace, folder: Path) -> None:
    """Prints the rows and the table of `--portraits`."""
    faces, rows = people(load_faces(asked.faces), asked.portraits), list[dict[str, Any]]()
    for width, name in product(asked.widths, asked.levels):
        here: list[dict[str, Any]] = []
        for face in faces:
            try:
                here.append(of_portrait(face, width, level(name), folder))
            except ValueError:  # the photograph is too small
                continue
            print(json.dumps(here[-1]), flush=True)
            if len(here) == asked.people:
                break
        rows += here
        gains, alone = ([row[key] for row in here] for key in ("gain_db", "alone_db"))
        found, energy = (np.mean([row[key] for row in here], axis=0) for key in ("found", "energy"))
        shares = [
            sum(row[key] for row in here) / sum(row["frames"] for row in here)
            for key in ("corrected", "corrected_alone")
        ]
        print(
            f"| {width:g} → {2 * width:g} px | {name} | {np.mean([row['lanczos_db'] for row in here]):.2f} | "
            f"{np.mean(gains):+.2f} ({min(gains):+.2f}), {shares[0]:.0%} | "
            f"{np.mean(alone):+.2f} ({min(alone):+.2f}), {shares[1]:.0%} | {found[0]:.2f}, {found[1]:.2f} | "
            f"{energy[0]:.2f}, {energy[1]:.2f} |",
            flush=True,
        )
        if asked.output:
            asked.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def harm(path: Path, scale: str, folder: Path) -> tuple[int, int]:
    """Samples of an enlarged still that are not the resampler's, of how many."""
    out = folder / f"{path.stem}.png"
    rtface.run(path, out, scale=scale, overwrite=True)
    plain, made = Enlarger(scale)(read_image(path).frame).image, read_image(out).frame.image
    pair = [image.to_ndarray(format="rgb24") for image in (plain, made)]
    return int((pair[0] != pair[1]).sum()), pair[0].size


def main() -> None:
    """Prints a line of JSON for each clip or picture, then the rows of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", type=Path)
    parser.add_argument("--factors", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--coded", nargs="+", default=["none", "23", "28"])
    parser.add_argument("--smaller", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--harm", action="store_true")
    parser.add_argument("--portraits", choices=["tuning", "set-aside"])
    parser.add_argument("--faces", type=Path, help="folder with train/MANIFEST.csv, for --portraits")
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--widths", nargs="+", type=float, default=[37, 68, 100])
    parser.add_argument("--levels", nargs="+", default=LEVELS)
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    if asked.portraits and not asked.faces:
        parser.error("--portraits needs --faces")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.portraits:
            portraits(asked, folder)
            return
        if asked.harm:
            for kind, draw in BACKGROUNDS.items():
                page = draw(512, np.random.default_rng(1))
                cv2.imwrite(str(folder / f"made {kind}.png"), page[..., ::-1])
            for path, factor in product([*sorted(folder.glob("made *.png")), *asked.inputs], asked.factors):
                (target := folder / "out").mkdir(exist_ok=True)
                changed, of = harm(path, str(factor), target)
                print(json.dumps({"picture": path.stem, "factor": factor, "changed": changed, "of": of}), flush=True)
            return
        for smaller, factor, coded in product(asked.smaller, asked.factors, asked.coded):
            rows = [of_clip(clip, smaller, factor, coded, folder) for clip in asked.inputs]
            for row in rows:
                print(json.dumps({"factor": factor, "coded": coded, **row}), flush=True)
            mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key != "clip"}
            faces, worst = [row["face"] for row in rows], min(row["gain_db"] for row in rows)
            print(
                f"| {min(faces)} … {max(faces)} px (× {factor}) | {coded} | {mean['lanczos_db']:.2f} | "
                f"{mean['gain_db']:+.2f} ({worst:+.2f}) | {mean['lanczos_above']:.2f} | {mean['above']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
