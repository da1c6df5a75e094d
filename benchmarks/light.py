"""Measures `--light` on portraits under made light.

usage: python -m benchmarks.light --faces DIR [--count N] [--amount A]

Portraits whose light is even are relit by another model than the correction inverts: lamps with Lambert's law, cast
shadows and highlights on the mesh's height, noise, 4:2:0. Eight rooms are tried on N portraits of each of three
tones of skin (individual typology angle over 41°, 15° and below). Files with an odd CRC of their name are set aside for
this; constants were chosen with the others. Reported before and after: shading error (root mean square of smoothed log2
luma over the face, without its mean), level error (with its mean), and ΔE (CIE 1976) of skin at equal luminance. Then
the share of all portraits, as they are, that each filter changes, and the time of each filter at 1280×720 for a face of
some 250 pixels.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from scipy.interpolate import LinearNDInterpolator

from benchmarks.common import machine, save
from rtface.device.cpu.device import CpuDevice
from rtface.frame import Color, Face, Float, Frame
from rtface.live.brighten import Brightening
from rtface.live.light import Light
from rtface.live.side_light import SideLight
from rtface.live.white_balance import WhiteBalance
from rtface.tracking import create_tracker

SIDE = 308  # pixels of a relit portrait
WEIGHTS = np.array([0.2126, 0.7152, 0.0722])
WHITE, WARM, COOL = np.ones(3), np.array([1.32, 1.0, 0.48]), np.array([0.82, 1.0, 1.35])
ROOMS: dict[str, tuple[Sequence[tuple[float, float, Float]], Float, float]] = {
    # lamps (azimuth, height in degrees, power), ambient light, light of the background
    "side": ([(65, 15, WHITE)], 0.22 * WHITE, 1.0),
    "soft side": ([(45, 15, 0.7 * WHITE)], 0.4 * WHITE, 1.0),
    "hard side": ([(78, 25, 1.3 * WHITE)], 0.12 * WHITE, 1.0),
    "two lamps": (
        [(60, 10, 0.8 * np.array([0.9, 1.0, 1.15])), (-70, 5, 0.3 * np.array([1.1, 0.95, 0.7]))],
        0.15 * WHITE,
        1.0,
    ),
    "back": ([(20, 40, 0.12 * WHITE)], 0.2 * WHITE, 1.5),
    "dark": ([(-30, 30, 0.12 * WHITE)], 0.05 * WHITE, 0.2),
    "warm": ([(20, 35, 0.8 * WARM)], 0.25 * WARM, 1.0),
    "screen": ([(0, -25, 0.25 * COOL)], 0.06 * COOL, 0.3),
}
BRIGHT = ("side", "soft side", "hard side", "two lamps", "warm")  # rooms in which the camera exposes the face well


def relit(rgb: Float, mesh: Float, room: str, flip: bool, seed: int) -> Float:
    """Returns a portrait in made light: float64 RGB 0…1."""
    lamps, ambient, around = ROOMS[room]
    shape, width, linear = rgb.shape[:2], float(np.ptp(mesh[:, 0])), rgb**2.2
    hull = cv2.convexHull(mesh[:, :2].astype(np.float32))[:, 0]
    middle, rim = mesh[:, :2].mean(0), float(np.median(mesh[:, 2]) + 0.2 * width)
    beyond = [np.column_stack([(hull - middle) * k + middle, np.full(len(hull), rim + k * width)]) for k in (1.3, 4.0)]
    points = np.vstack([mesh[:468], *beyond])
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    depth = np.nan_to_num(LinearNDInterpolator(points[:, :2], points[:, 2])(columns, rows), nan=rim + 4 * width)
    depth = cv2.GaussianBlur(depth.astype(np.float32), (0, 0), 0.03 * width)
    normals = np.dstack([*(cv2.Sobel(depth, -1, 1 - k, k, scale=1 / 8) for k in (0, 1)), -np.ones_like(depth)])
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    energy, shine = np.ones((*shape, 3)) * ambient, np.zeros(shape)
    for azimuth, height, power in lamps:
        a, b = np.radians([-azimuth if flip else azimuth, height])
        ray = np.array([np.sin(a) * np.cos(b), -np.sin(b), -np.cos(a) * np.cos(b)])
        lit = np.ones(shape, np.float32)
        for step in np.linspace(0.04, 0.9, 22) * width:
            there = (np.float32(columns + step * ray[0]), np.float32(rows + step * ray[1]))
            height_there = cv2.remap(depth, *there, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            lit = np.minimum(lit, np.clip(1 - (depth + step * ray[2] - height_there) / (0.05 * width), 0, 1))
        lit = cv2.GaussianBlur(lit, (0, 0), 0.02 * width)
        energy += (np.clip(normals @ ray, 0, None) * lit)[..., None] * power
        half = (ray + (0, 0, -1)) / np.linalg.norm(ray + (0, 0, -1))
        shine += np.clip(normals @ half, 0, None) ** 24 * lit * np.mean(power)
    face = filled(hull, shape)
    if room in BRIGHT:
        scale = 1 / np.percentile(energy.mean(2)[face], 80)
        energy, shine = energy * scale, shine * scale
    person = filled((hull - hull.mean(0)) * 1.35 + hull.mean(0) - (0, 0.1 * np.ptp(hull[:, 1])), shape)
    body = np.array([(-0.45, 0.3), (0.45, 0.3), (1.6, 1.6), (-1.6, 1.6)]) * np.ptp(hull, 0) + hull.mean(0)
    share = cv2.GaussianBlur((person | filled(body, shape)).astype(np.float32), (0, 0), 0.03 * width)[..., None]
    tint = np.mean([power for *_, power in lamps], 0) if room in ("warm", "screen") else WHITE
    tint = tint / tint.mean()
    out = linear * (share * energy + (1 - share) * around * tint) + 0.06 * (share[..., 0] * shine)[..., None] * tint
    return np.clip(out, 0, 1) ** (1 / 2.2) + np.random.default_rng(seed).normal(0, 0.006, out.shape)


def filled(outline: Float, shape: Sequence[int]) -> Any:
    """Returns a mask of a polygon."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 1)
    return mask > 0


def frame_of(rgb: Float, pts: int = 0) -> Frame:
    """Returns a 4:2:0 frame at 30 a second."""
    image = av.VideoFrame.from_ndarray(np.rint(255 * np.clip(rgb, 0, 1)).astype(np.uint8), format="rgb24")
    return Frame(image.reformat(format="yuv420p", dst_colorspace="ITU709"), pts, Fraction(1, 30), color=Color())


def rgb_of(frame: Frame) -> Float:
    """Returns a frame as RGB 0…1."""
    return frame.image.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray() / 255.0


def errors(rgb: Float, truth: Float, face: Any, width: float) -> list[float]:
    """Returns shading error, level error, ΔE."""
    stops = [np.log2(cv2.GaussianBlur(one**2.2 @ WEIGHTS, (0, 0), 0.05 * width) + 0.01)[face] for one in (rgb, truth)]
    lab: list[Float] = []
    for one in (rgb, truth):
        colour = np.median(np.abs(cv2.blur(one, (5, 5))[face]) ** 2.2, 0)
        colour = np.clip(colour * (0.25 / (colour @ WEIGHTS + 1e-6)), 0, 1) ** (1 / 2.2)
        lab.append(cv2.cvtColor(colour[None, None].astype(np.float32), cv2.COLOR_RGB2LAB)[0, 0])
    off = stops[0] - stops[1]
    return [float(np.std(off)), float(np.sqrt(np.mean(off**2))), float(np.hypot(*(lab[0] - lab[1])[1:]))]


def portraits(folder: Path) -> Iterator[tuple[str, Float, Face]]:
    """Yields name, RGB and face of each portrait that is set aside."""
    tracker, device = create_tracker(), CpuDevice()
    for path in sorted(folder.glob("*.jpg")):
        picture = cv2.imread(str(path))
        if zlib.crc32(path.name.encode()) % 2 == 0 or picture is None or np.ptp(picture, 2).mean() < 3:
            continue  # used for tuning, or grey
        scale = SIDE / max(picture.shape[:2])
        rgb = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[..., ::-1] / 255.0
        rgb = rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2]
        faces = tracker.update(device.view(frame_of(rgb)), 0.0, cut=True)
        if faces and faces[0].mesh is not None and abs((faces[0].pose or (0.0,))[0]) < 15:
            yield path.name, rgb, faces[0]


def tone_of(rgb: Float, mesh: Float) -> str:
    """Returns the tone of the skin of cheeks and forehead."""
    columns, rows = mesh[[50, 280, 205, 425, 101, 330, 36, 266, 151, 9], :2].astype(int).T
    lab = cv2.cvtColor(cv2.blur(rgb.astype(np.float32), (7, 7)), cv2.COLOR_RGB2LAB)[rows, columns]
    angle = float(np.degrees(np.arctan2(np.median(lab[:, 0]) - 50, np.median(lab[:, 2]))))
    return "light" if angle > 41 else "medium" if angle > 15 else "dark"


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--count", type=int, default=14)
    parser.add_argument("--amount", type=float, default=1.0)
    arguments = parser.parse_args()
    results, changed = defaultdict[tuple[str, str], list[list[float]]](list), defaultdict[str, list[bool]](list)
    taken = defaultdict[str, int](int)
    for name, rgb, face in portraits(arguments.faces):
        assert face.mesh is not None
        tone, side, balance = tone_of(rgb, face.mesh), SideLight(), WhiteBalance()
        for key, one in (("side light", side), ("colour", balance)):
            changed[f"{key}, {tone}"].append(one.apply(frame_of(rgb), 1.0, [face]).filtered)
        if taken[tone] >= arguments.count or changed[f"side light, {tone}"][-1]:
            continue
        taken[tone] += 1
        hull = cv2.convexHull(face.mesh[:, :2].astype(np.float32))[:, 0]
        mask, width = filled((hull - hull.mean(0)) * 0.9 + hull.mean(0), rgb.shape[:2]), float(np.ptp(hull[:, 0]))
        truth = rgb_of(frame_of(rgb))
        for room in ROOMS:
            picture, light = relit(rgb, face.mesh, room, zlib.crc32(name.encode()) % 4 == 1, taken[tone]), Light()
            for second in range(4):  # all filters have settled
                result = light.apply(frame_of(picture, 30 * second), arguments.amount, [face])
            before, after = (errors(rgb_of(f), truth, mask, width) for f in (frame_of(picture), result))
            results[room, tone].append([*before, *after])
    table: dict[str, Any] = {}
    for room in ROOMS:
        rows = np.array([row for tone in taken for row in results[room, tone]])
        names = ("shading", "level", "colour")
        table[room] = {name: [round(float(rows[:, k + j].mean()), 3) for j in (0, 3)] for k, name in enumerate(names)}
        means = {tone: np.mean(results[room, tone], 0) for tone in taken}
        table[room]["shading left"] = {tone: round(float(mean[3] / mean[0]), 2) for tone, mean in means.items()}
        print(f"{room:10}", table[room], flush=True)
    shares = {key: [round(float(np.mean(values)), 3), len(values)] for key, values in sorted(changed.items())}
    print("changed as they are:", shares)
    times = timings(0.6 * relit(rgb, face.mesh, "side", False, 0), face)
    print("ms of processor time a frame at 1280×720, median, p95:", times)
    save("light", {"machine": machine(), "amount": arguments.amount, "rooms": table, "changed": shares, "ms": times})


def timings(rgb: Float, face: Face) -> dict[str, list[float]]:
    """Returns the processor time of each filter in milliseconds, median and p95."""
    picture = np.full((720, 1280, 3), 0.3)
    picture[: 2 * rgb.shape[0], : 2 * rgb.shape[1]] = np.repeat(np.repeat(rgb, 2, 0), 2, 1)
    assert face.mesh is not None
    large = Face(1, 2 * face.box, 2 * face.points, 2 * face.mesh)
    cv2.setNumThreads(1)  # as in live runs
    result: dict[str, list[float]] = {}
    for one in (WhiteBalance(), SideLight(), Brightening()):
        spent: list[float] = []
        for n in range(120):
            fresh = frame_of(picture, n)
            started = time.process_time()
            one.apply(fresh, 1.0, [large])
            spent.append(1e3 * (time.process_time() - started))
        result[type(one).__name__] = [round(float(np.percentile(spent, q)), 2) for q in (50, 95)]
    return result


if __name__ == "__main__":
    main()
