"""Makes soft faces, and faces that somebody hid, from the licensed portraits: to train `rtface.analysis.hidden`.

usage: python -m training.data.hidden_samples --faces FACES --persons MASKS --out SAMPLES.npz [--held-out] [--each 20]
       [--seed 1]

Each portrait gives as many of both, at widths of 45 to 200 px of the face, cut off anywhere, and coded. `MASKS`
has a gray PNG of each portrait's name that marks the person with all hair, as MediaPipe's selfie segmentation
(Apache-2.0) gives it (`training.data.person_masks`). GrabCut often leaves hair out, and sharp hair round a soft face is
how hidden faces look. The portraits of `benchmarks.hidden_faces` are left out.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

import rtface
from benchmarks.hidden_faces import EVERY
from rtface.analysis.hidden import CELLS, maps_of
from rtface.device.cpu.crop import sample
from rtface.frame import Bytes, Face, Float, Float32
from training.data.portraits import load_faces, split

Random = np.random.Generator


class Picture:
    """A gray picture as a view."""

    def __init__(self, gray: Bytes) -> None:
        self.gray, (self.height, self.width) = gray, gray.shape

    def luma(self, matrix: Float, size: tuple[int, int]) -> Any:
        """The region that the matrix maps to this size, as frames give it."""
        return sample(self.gray, np.asarray(matrix, np.float64), size)


def blurred(x: Float32, sigma: float) -> Float32:
    """A Gaussian blur; of none, the same."""
    return np.asarray(cv2.GaussianBlur(x, (0, 0), sigma), np.float32) if sigma > 0.2 else x


def uniform_log(rng: Random, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def kernel_of(rng: Random, length: float) -> Float32:
    """A straight or bent motion of this many pixels."""
    side = int(length) | 1
    kernel = np.zeros((side, side), np.float32)
    angle, bend = rng.uniform(0, np.pi), rng.normal(0, 0.25)
    t = np.linspace(-0.5, 0.5, 4 * side) * (side - 1)
    x, y = t * np.cos(angle) - bend * t * t / side * np.sin(angle), t * np.sin(angle) + bend * t * t / side
    at = np.rint(np.stack([x, y]) + side // 2).astype(int).clip(0, side - 1)
    np.add.at(kernel, (at[1], at[0]), 1)
    return kernel / kernel.sum()


def shape_of(rng: Random, size: tuple[int, int], box: Float) -> Float32:
    """A mask of what hides this box: a box, an ellipse, a rounded box or a polygon; turned, feathered or neither."""
    (x0, y0, x1, y1), wide = box, box[2] - box[0]
    centre, half = ((x0 + x1) / 2, (y0 + y1) / 2), ((x1 - x0) / 2, (y1 - y0) / 2)
    mask = np.zeros(size, np.float32)
    kind, t = rng.choice(4, p=(0.4, 0.4, 0.1, 0.1)), np.linspace(0, 2 * np.pi, 65)[:-1]
    power = (0.05, 1.0, 0.4, 1.0)[kind]
    x, y = (half[k] * np.sign(f(t)) * abs(f(t)) ** power for k, f in enumerate((np.cos, np.sin)))
    if kind == 3:
        few = np.sort(rng.choice(64, rng.integers(7, 14), replace=False))
        x, y = x[few], y[few]
    turn = rng.normal(0, 0.15) if rng.random() < 0.25 else 0.0
    x, y = x * np.cos(turn) - y * np.sin(turn) + centre[0], x * np.sin(turn) + y * np.cos(turn) + centre[1]
    cv2.fillPoly(mask, [np.rint(np.stack([x, y], 1)).astype(np.int32)], (1.0,))
    return blurred(mask, uniform_log(rng, 0.008, 0.05) * wide) if rng.random() < 0.35 else mask


def hide(rng: Random, x: Float32, box: Float) -> Float32:
    """Blurs, or makes a mosaic of, a shape about the face; strong enough that it hides."""
    w, h = box[2] - box[0], box[3] - box[1]
    grow = np.full(2, rng.uniform(0, 0.5)) if rng.random() < 0.7 else rng.uniform(0, 0.5, 2)
    half = 0.5 * np.array((w, h)) * (1 + grow)
    centre = (box[:2] + box[2:]) / 2 + rng.normal(0, 0.04, 2) * w
    mask = shape_of(rng, x.shape, np.concatenate([centre - half, centre + half]))
    unit, kind = w / 170, rng.choice(5, p=(0.55, 0.15, 0.08, 0.12, 0.1))
    sigma = uniform_log(rng, 3.2, 22) * unit
    # Some blur the cut-out box alone, others the whole picture under it.
    (a, b), (c, d) = np.maximum(0, np.rint(centre - half)).astype(int), np.rint(centre + half).astype(int) + 1
    cut = np.s_[b:d, a:c] if rng.random() < 0.6 else np.s_[:, :]
    part, done = x[cut], x.copy()
    if kind == 0:
        laid = blurred(part, sigma)
    elif kind == 1:
        side = 2 * round(1.7 * sigma) + 1
        laid = cv2.blur(part, (side, side))
    elif kind == 2:
        side = min(2 * round(1.7 * sigma) + 1, 99)
        laid = cv2.medianBlur(part.clip(0, 255).astype(np.uint8), max(3, side)).astype(np.float32)
    else:
        cell = uniform_log(rng, 7, 26) * unit
        few = tuple(max(1, round(side / cell)) for side in part.shape[::-1])
        smooth = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(2)] if kind == 3 else cv2.INTER_NEAREST
        laid = cv2.resize(cv2.resize(part, few, interpolation=cv2.INTER_AREA), part.shape[::-1], interpolation=smooth)
        if kind == 3 and rng.random() < 0.5:
            laid = blurred(np.asarray(laid), 0.4 * cell)
    done[cut] = laid
    return x + mask * (done - x)


def through(rng: Random, x: Float32, wide: float, *, least: float = 0.004) -> Float32:
    """Out of focus by a Gaussian or a disc, moved, or enlarged."""
    kind, sigma = rng.choice(4, p=(0.5, 0.2, 0.2, 0.1)), uniform_log(rng, least, 0.13) * wide
    if kind == 0:
        return blurred(x, sigma)
    if kind == 3:
        times = max(1.5, 2.5 * sigma)
        few = tuple(max(2, round(side / times)) for side in x.shape[::-1])
        how = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)[rng.integers(3)]
        small = cv2.resize(x, few, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, x.shape[::-1], interpolation=how), np.float32)
    radius = max(1, round(2 * sigma))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2).astype(np.float32)
    kernel = kernel_of(rng, 3.5 * sigma + 3) if kind == 2 else disc / disc.sum()
    return np.asarray(cv2.filter2D(x, -1, kernel, borderType=cv2.BORDER_REFLECT), np.float32)


def layered(rng: Random, x: Float32, front: Float32, ground: Float32, wide: float) -> Float32:
    """What `front` marks is soft, before a ground that is not."""
    both = np.stack([x * front, front, x], 2)
    state = rng.bit_generator.state
    parts = list[Float32]()
    for k in range(2):  # the same blur for both
        rng.bit_generator.state = state
        parts.append(through(rng, np.ascontiguousarray(both[..., k]), wide))
    return parts[0] + (1 - parts[1].clip(0, 1)) * ground


def soften(rng: Random, x: Float32, person: Float32, box: Float, other: tuple[Float32, Float32]) -> tuple[int, Float32]:
    """A soft face that nobody hid, and the number of its kind."""
    (h, w), wide = x.shape, box[2] - box[0]
    kind = int(rng.choice(9, p=(0.1, 0.02, 0.19, 0.18, 0.18, 0.1, 0.11, 0.06, 0.06)))
    if rng.random() < 0.3:  # what is close to the person is as soft
        person = cv2.dilate(person, np.ones((1 + int(rng.uniform(0, 0.15) * wide),) * 2, np.uint8))
    if kind == 0:
        return kind, through(rng, x, wide)
    if kind in (2, 3, 4):  # out of focus before its own ground, another, and behind another person or thing
        scene = (
            x if kind == 2 or (kind == 4 and rng.random() < 0.5) else blurred(other[0], rng.exponential(0.006) * wide)
        )
        x = layered(rng, x, person, scene, wide)
        if kind == 4:
            shift = (rng.uniform(-0.8, 0.8) * w, box[3] + rng.uniform(0.02, 0.6) * wide - rng.uniform(0, 0.35) * h)
            move = np.array([[1, 0, shift[0]], [0, 1, max(shift[1], box[3] - 0.1 * wide)]])
            picture, alpha = (cv2.warpAffine(one, move, (w, h)) for one in other)
            if rng.random() < 0.4:  # any thing: of another's texture, at any place but the middle of the face
                at = (box[:2] + box[2:]) / 2 + rng.choice((-1, 1), 2) * rng.uniform(0.45, 1.3, 2) * wide
                alpha, picture = np.zeros((h, w), np.float32), other[0]
                axes = np.rint(rng.uniform(0.15, 0.5, 2) * wide).astype(int)
                cv2.ellipse(
                    alpha, np.rint(at).astype(int).tolist(), axes.tolist(), 360 * rng.random(), 0, 360, (1.0,), -1
                )
            x = x + alpha * (picture - x)
    if kind == 5:  # a moved head on a still body: the blur ends gradually at the neck
        line = box[3] + rng.uniform(-0.05, 0.25) * wide
        head = person * np.clip((line - np.arange(h)[:, None]) / (rng.uniform(0.05, 0.4) * wide) + 0.5, 0, 1)
        kernel = kernel_of(rng, uniform_log(rng, 0.05, 0.4) * wide + 3)
        light, there = (cv2.filter2D(one.astype(np.float32), -1, kernel) for one in (x * head, head))
        x = np.asarray(light + (1 - there) * x, np.float32)
    if kind == 6:  # the focus before or behind the face, so that sharpness changes gradually; fog and vignettes
        y, across = np.mgrid[:h, :w].astype(np.float32)
        angle, span = rng.normal(np.pi / 2, 0.6), rng.uniform(0.6, 2.5) * wide
        along = ((across - (box[0] + box[2]) / 2) * np.cos(angle) + (y - (box[1] + box[3]) / 2) * np.sin(angle)) / span
        depth = np.clip((along + rng.uniform(-0.2, 0.8)) * rng.choice((-1, 1)) + rng.uniform(0, 0.4), 0, 1)
        most = uniform_log(rng, 0.01, 0.1) * wide
        for k in range(4):
            x = x + np.clip(4 * depth - k, 0, 1) * (blurred(x, most / 3) - x)
    if kind == 7:  # a poor picture in a good one: a window, a print on a page
        half = rng.uniform(1.0, 1.7, 2) * wide
        centre = (box[:2] + box[2:]) / 2 + (0, rng.uniform(0, 0.3) * wide)
        window = np.zeros((h, w), np.float32)
        (a, b), (c, d) = (np.rint(centre + sign * half).astype(int).tolist() for sign in (-1, 1))
        cv2.rectangle(window, (a, b), (c, d), (1.0,), -1)
        if rng.random() < 0.3:
            window[:] = 0
            cv2.ellipse(window, ((a + c) // 2, (b + d) // 2), ((c - a) // 2, (d - b) // 2), 0, 0, 360, (1.0,), -1)
        x = other[0] + window * (through(rng, x, wide) - other[0])
    if kind == 8:  # smoothed skin
        soft = cv2.bilateralFilter(x, -1, rng.uniform(8, 30), uniform_log(rng, 0.01, 0.03) * wide)
        where = person if rng.random() < 0.5 else shape_of(rng, (h, w), box)
        x = x + blurred(where, 0.08 * wide) * (np.asarray(soft) - x)
    return kind, x


def coded(rng: Random, gray: Bytes, low: int) -> Bytes:
    """As a JPEG, or as a frame of H.264; `low`: how poor at most."""
    if rng.random() < 0.3:
        quality = int(rng.integers(6 if low > 40 else 45, 97))
        return cv2.imdecode(cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)  # type: ignore[return-value]
    even = np.ascontiguousarray(gray[: len(gray) // 2 * 2, : gray.shape[1] // 2 * 2])
    codec: Any = av.CodecContext.create("libx264", "w")
    codec.height, codec.width = even.shape
    codec.pix_fmt, codec.time_base, codec.thread_count = "yuv420p", Fraction(1, 25), 1
    codec.options = {"preset": "veryfast", "crf": str(rng.integers(12, low)), "tune": "zerolatency"}
    code = np.full((len(even) * 3 // 2, even.shape[1]), 128, np.uint8)
    code[: len(even)] = even
    packets = [*codec.encode(av.VideoFrame.from_ndarray(code, "yuv420p")), *codec.encode(None)]
    reader: Any = av.CodecContext.create("h264", "r")
    frames = [frame for packet in [*packets, None] for frame in reader.decode(packet)]
    return np.ascontiguousarray(frames[0].to_ndarray()[: len(even)])


def window_of(rng: Random, portrait: tuple[Bytes, Float32, Float], wide: float) -> tuple[Float32, Float32, Float]:
    """A gray portrait at this width of its face, cut off anywhere; its person; the box. Mirrored beyond its edge."""
    gray, person, box = portrait
    scale = wide / (box[2] - box[0])
    x, there = (cv2.resize(one, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for one in (gray, person))
    h, w = x.shape
    reach = rng.uniform((0.55, 0.6, 0.55, 0.6), (1.7, 1.5, 1.7, 1.9)) * wide
    centre = np.tile((box[:2] + box[2:]) / 2, 2) * scale
    x0, y0, x1, y1 = np.rint(centre + (-1, -1, 1, 1) * reach).astype(int).tolist()
    if rng.random() < 0.4:
        x0, y0, x1, y1 = max(0, x0), max(0, y0), min(w, x1), min(h, y1)
    pads = max(0, -y0), max(0, y1 - h), max(0, -x0), max(0, x1 - w)
    x, there = (cv2.copyMakeBorder(one, *pads, cv2.BORDER_REFLECT) for one in (x, there))
    part = np.s_[y0 + pads[0] : y1 + pads[0], x0 + pads[2] : x1 + pads[2]]
    x, there, box = x[part].astype(np.float32), there[part].astype(np.float32), box * scale - (x0, y0, x0, y0)
    if rng.random() < 0.5:
        x, there = np.ascontiguousarray(x[:, ::-1]), np.ascontiguousarray(there[:, ::-1])
        box = np.array([x.shape[1] - box[2], box[1], x.shape[1] - box[0], box[3]])
    return x, there, box


def sample_of(
    rng: Random, portrait: tuple[Bytes, Float32, Float], other: tuple[Bytes, Float32, Float]
) -> tuple[Any, int]:
    """Maps of a face, and its kind; -1: hidden."""
    wide, hidden = uniform_log(rng, 45, 200), bool(rng.random() < 0.5)
    wide = min(wide, 1.1 * (portrait[2][2] - portrait[2][0]))
    x, person, box = window_of(rng, portrait, wide)
    size = x.shape[::-1]
    second = tuple(cv2.resize(one, size, interpolation=cv2.INTER_AREA).astype(np.float32) for one in other[:2])
    x = blurred(x, rng.exponential(0.004) * wide if hidden else 0.0)
    if rng.random() < 0.4:
        x = x + blurred(rng.normal(0, rng.exponential(3), x.shape).astype(np.float32), rng.uniform(0, 0.7))
    kind, x = (-1, hide(rng, x, box)) if hidden else soften(rng, x, person, box, second)  # type: ignore[arg-type]
    if rng.random() < (0.1 if hidden else 0.4):
        x = x + blurred(rng.normal(0, rng.exponential(3), x.shape).astype(np.float32), rng.uniform(0, 0.7))
    if rng.random() < 0.06:  # bars
        bar = int(rng.uniform(0, 0.1) * len(x))
        x[:bar], x[len(x) - bar :] = 0, 0
    x = rng.uniform(0, 40) + uniform_log(rng, 0.2, 0.95) * x if rng.random() < 0.5 else x
    gray = coded(rng, np.rint(x.clip(0, 255)).astype(np.uint8), 31 if hidden else 42)
    width, height = box[2] - box[0], box[3] - box[1]
    box = box + rng.normal(0, 0.02, 4) * (width, height, width, height) + np.tile(rng.normal(0, 0.03, 2), 2) * width
    return maps_of(Picture(gray), Face(1, box, np.zeros((5, 2)))).astype(np.float16), kind  # type: ignore[arg-type]


def portraits_of(faces: Path, persons: Path, *, held_out: bool) -> list[tuple[Bytes, Float32, Float]]:
    """Gray portraits, their persons and the boxes of their faces; none of whom the benchmark measures."""
    names = sorted(path.name for path in (faces / "train").glob("*.jpg"))
    measured = {name for places in EVERY.values() for name in names[places]}
    everyone = load_faces(faces, licensed_only=False)
    aside = {one.identity for one in everyone if one.path.name in measured and one.path.parent.name == "train"}
    out = list[tuple[Bytes, Float32, Float]]()
    with rtface.Enhancer(correct="never") as enhancer:
        for one in split(load_faces(faces))[held_out]:
            mask, picture = cv2.imread(str(persons / f"{one.path.stem}.png"), cv2.IMREAD_GRAYSCALE), one.load()
            enhancer.reset()
            enhancer(picture, still=True)
            face = max(enhancer.faces, key=lambda face: face.width, default=None)
            if (
                one.identity not in aside
                and face
                and face.width > 60
                and mask is not None
                and mask.shape == picture.shape[:2]
            ):
                gray = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
                out.append((gray, np.asarray(mask / 255, np.float32), face.box))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--persons", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--each", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    portraits = portraits_of(args.faces, args.persons, held_out=args.held_out)
    print(len(portraits), "portraits", flush=True)
    maps = np.zeros((len(portraits) * args.each, 5, CELLS, CELLS), np.float16)
    kinds = np.zeros(len(maps), np.int8)
    for k in range(len(maps)):
        maps[k], kinds[k] = sample_of(rng, portraits[k % len(portraits)], portraits[rng.integers(len(portraits))])
    np.savez(args.out, maps=maps, kinds=kinds)
    print(len(maps), "samples")


if __name__ == "__main__":
    main()
