"""Counts hidden faces that are corrected, and honest soft ones that are refused.

usage: python -m benchmarks.hidden_faces --data DIR [--set tuning|confirming] [--persons MASKS]

`DIR` has `clips`, `faces/train` and `photos`. Hidden: each face of a clip is blurred or made a mosaic in a box or an
ellipse, standing still or moving with it; sigma and cells are those of a face of 170 pixels, and grow with a larger
one. Each is coded as a film of `FRAMES` frames, and `rtface analyze` decides about it as a run would. Honest: clips and
photographs as they are; portraits and frames of clips that are blurred as a whole, enlarged, strongly compressed, or
out of focus before a sharp background, without and with a sharp foreground. `MASKS` has a gray PNG of the name of each
portrait and clip that marks the person on it (of a clip, on the frame that is taken); one that it lacks is cut out with
GrabCut, which often leaves the hair out: a soft face in sharp hair is what a laid-over blur looks like. The rule was
tuned on the first of both lists of names, and the result is that of the second; photographs, and clips as they are, are
the same in both.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

import rtface
from benchmarks.common import save
from rtface.analysis.treatment import HIDDEN
from rtface.config.options import Options
from rtface.frame import Bytes, Face, Float, Float32
from rtface.pipeline.analysis import analyze_file
from rtface.report import TrackReport

CLIPS = {
    "tuning": ("obama_address_512x388", "phone_selfie_glasses_720x1280", "webcam_glasses_512x480", "dark_night_480"),
    "confirming": (
        *("hand_gestures_512", "actress_closeup_512", "webcam_streamer_mic", "extreme_expressions_480"),
        *("press_two_men_crowd_720p", "greenscreen_hq_512"),
    ),
}
EVERY = {"tuning": slice(0, None, 48), "confirming": slice(7, None, 48)}
"""Of the portraits in order of their names."""
FRAMES = 60
HIDDEN_BY = (
    *(("blur", sigma) for sigma in (4, 7, 12, 20)),
    *(("mosaic", cell) for cell in (8, 12, 16, 24)),
)
SHAPES = ("box", "ellipse", "feathered", "moving")


def frames_of(path: Path, most: int = FRAMES) -> list[Bytes]:
    """The first frames of a film, RGB."""
    with av.open(str(path)) as film:
        shown = zip(film.decode(video=0), range(most), strict=False)
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame, _ in shown]


def coded(path: Path, pictures: Iterable[Bytes], crf: int) -> Path:
    """Codes pictures as a film."""
    with av.open(str(path), "w") as film:
        stream: Any = film.add_stream("libx264", 25, options={"preset": "veryfast", "crf": str(crf)})
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            even = np.ascontiguousarray(picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2])
            if not stream.codec_context.is_open:
                stream.height, stream.width = even.shape[:2]
            film.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        film.mux(stream.encode())
    return path


def hidden(picture: Bytes, boxes: Iterable[Float], by: str, amount: float, shape: str) -> Bytes:
    """Blurs these boxes or their ellipses, or makes them a mosaic."""
    out = picture.copy()
    for box in boxes:
        (x0, y0), (x1, y1) = np.maximum(0, np.rint(box[:2])).astype(int), np.rint(box[2:]).astype(int)
        part = out[y0:y1, x0:x1].astype(np.float32)
        h, w = part.shape[:2]
        if by == "blur":
            laid = cv2.GaussianBlur(part, (0, 0), amount)
        else:
            small = (max(1, round(w / amount)), max(1, round(h / amount)))
            laid = cv2.resize(
                cv2.resize(part, small, interpolation=cv2.INTER_AREA), (w, h), interpolation=cv2.INTER_NEAREST
            )
        mask = np.ones((h, w), np.float32)
        if shape in ("ellipse", "feathered"):
            mask[:] = 0
            cv2.ellipse(mask, (w // 2, h // 2), (w // 2 - 1, h // 2 - 1), 0, 0, 360, (1.0,), -1)
        if shape == "feathered":
            mask = cv2.GaussianBlur(cv2.erode(mask, np.ones((7, 7))), (0, 0), 2.5)
        out[y0:y1, x0:x1] = np.rint(part + mask[..., None] * (laid - part)).astype(np.uint8)
    return out


def hidden_films(clip: Path, to: Path, faces: list[list[Face]], pictures: list[Bytes]) -> Iterator[tuple[str, Path]]:
    """The films of a clip whose faces are hidden, with what was done."""
    grown = [[_grown(face.box, 0.15) for face in on] for on in faces]
    whole: dict[int, Float] = {}
    for on, boxes in zip(faces, grown, strict=True):
        for face, box in zip(on, boxes, strict=True):
            known = whole.get(face.track_id, box)
            whole[face.track_id] = np.concatenate([np.minimum(known[:2], box[:2]), np.maximum(known[2:], box[2:])])
    large = max(1.0, float(np.median([face.width for on in faces for face in on])) / 170)
    for k, (by, amount) in enumerate(HIDDEN_BY):
        shape = SHAPES[(k + len(clip.stem)) % 4]
        laid = (
            hidden(picture, boxes if shape == "moving" else whole.values(), by, amount * large, shape)
            for picture, boxes in zip(pictures, grown, strict=True)
        )
        yield f"{by} {amount} {shape}", coded(to / f"{by}{amount}.mp4", laid, (16, 20, 26)[k % 3])


def _grown(box: Float, share: float) -> Float:
    half = (box[2:] - box[:2]) * share / 2
    return np.concatenate([box[:2] - half, box[2:] + half])


def person_of(picture: Bytes, face: Face, known: Path | None = None) -> Float32:
    """Marks head, hair and shoulders, 0…1, as the file does, or with GrabCut."""
    if known is not None and known.is_file():
        return np.asarray(cv2.imread(str(known), cv2.IMREAD_GRAYSCALE) / 255, np.float32)
    h, w = (max(64, round(side / 4)) for side in picture.shape[:2])
    small = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
    scale = w / picture.shape[1]
    (x0, y0), (x1, y1) = face.box[:2] * scale, face.box[2:] * scale
    x, y, wide = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0
    labels = np.full((h, w), cv2.GC_PR_BGD, np.uint8)
    cv2.ellipse(
        labels, (int(x), int(y - 0.1 * wide)), (int(0.75 * wide), int(0.9 * wide)), 0, 0, 360, cv2.GC_PR_FGD, -1
    )
    cv2.ellipse(labels, (int(x), int(y)), (int(0.45 * wide), int(0.55 * wide)), 0, 0, 360, cv2.GC_FGD, -1)
    down = h + wide
    neck = [(x - 0.3 * wide, y), (x + 0.3 * wide, y), (x + 0.35 * wide, y1 + 0.15 * wide)]
    body = [(x + wide, y1 + 0.55 * wide), (x + 1.2 * wide, down), (x - 1.2 * wide, down), (x - wide, y1 + 0.55 * wide)]
    outline = np.rint([*neck, *body, (x - 0.35 * wide, y1 + 0.15 * wide)]).astype(np.int32)
    cv2.fillPoly(labels, [outline], cv2.GC_FGD)
    cv2.grabCut(small, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    there = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    smooth = cv2.GaussianBlur(cv2.resize(there, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC), (0, 0), 2.5)
    return np.asarray(smooth > 0.5, np.float32)


def defocused(picture: Bytes, person: Float32, ground: Bytes, sigma: float) -> Bytes:
    """The person out of focus before a sharp background."""
    there = cv2.GaussianBlur(person, (0, 0), sigma)[..., None]
    light = cv2.GaussianBlur(picture.astype(np.float32) * person[..., None], (0, 0), sigma)
    return np.clip(light + (1 - there) * ground, 0, 255).astype(np.uint8)


def honest_stills(
    pictures: list[tuple[Bytes, Face]], people: list[Float32], grounds: list[Bytes]
) -> Iterator[tuple[str, Bytes]]:
    """Soft faces that nobody hid, with what was done."""
    rng = np.random.default_rng(5)
    for k, (picture, face) in enumerate(pictures):
        size, person = picture.shape[1::-1], people[k]
        sigma, ground = face.width * rng.uniform(0.012, 0.05), cv2.resize(grounds[k % len(grounds)], size)
        if k % 2:
            yield "whole picture blurred", np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)
            times = rng.uniform(2, 8)
            few = (round(size[0] / times), round(size[1] / times))
            small = cv2.resize(picture, few, interpolation=cv2.INTER_AREA)
            yield "enlarged", np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        else:
            bits = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(5, 20))])[1]
            yield "JPEG of quality 5 to 19", np.asarray(cv2.imdecode(bits, cv2.IMREAD_COLOR), np.uint8)
            yield (
                "out of focus before a new background",
                defocused(picture, person, np.asarray(ground, np.uint8), sigma),
            )
        soft = defocused(picture, person, picture, sigma)
        yield "out of focus before its own background", soft
        # Another person, sharp, before the body of this one.
        before, front = pictures[(k + 1) % len(pictures)][0], people[(k + 1) % len(people)]
        top = round(face.box[3] + face.width * rng.uniform(0.1, 0.5))
        if (room := size[1] - top) > 16:
            scale = size[0] / before.shape[1]
            cut = [cv2.resize(one, None, fx=scale, fy=scale)[:room, : size[0]] for one in (before, front)]
            alpha = np.zeros((size[1], size[0], 1), np.float32)
            alpha[top : top + cut[1].shape[0], : cut[1].shape[1], 0] = cut[1]
            layer = np.zeros_like(picture)
            layer[top : top + cut[0].shape[0], : cut[0].shape[1]] = cut[0]
            yield (
                "out of focus behind another person",
                np.rint(soft + alpha * (layer.astype(float) - soft)).astype(np.uint8),
            )


def refused(track: TrackReport) -> bool:
    """True if a face counted as hidden on any frame."""
    return any(span.kind[1] for span in track.spans)


def measure(data: Path, which: str, persons: Path | None) -> dict[str, Any]:
    """Both rates."""
    options = Options.of({})
    clips = sorted(path for path in (data / "clips").iterdir() if path.suffix in (".mp4", ".avi"))
    result: dict[str, Any] = {"set": which, "clips_hidden": CLIPS[which], "hidden": {}, "honest": {}}
    with tempfile.TemporaryDirectory() as temporary, rtface.Enhancer(correct="never") as enhancer:
        to = Path(temporary)

        def found(pictures: Iterable[Bytes], *, still: bool = False) -> list[list[Face]]:
            enhancer.reset()
            faces = list[list[Face]]()
            for picture in pictures:
                enhancer(picture, still=still)
                faces.append([*enhancer.faces])
            return faces

        for name in CLIPS[which]:
            clip = next(path for path in clips if path.stem == name)
            pictures = frames_of(clip)
            for what, film in hidden_films(clip, to, found(pictures), pictures):
                tracks = analyze_file(film, options, persons=False)
                result["hidden"][f"{name}: {what}"] = {
                    "frames_with_face": sum(track.frames for track in tracks),
                    "frames_corrected": sum(track.frames_corrected for track in tracks),
                }
                print(name, what, result["hidden"][f"{name}: {what}"], flush=True)
        photos = [cv2.imread(str(path)) for path in sorted((data / "photos").glob("*.jpg"))]
        paths = sorted((data / "faces/train").glob("*.jpg"))[EVERY[which]]
        portraits = [cv2.imread(str(path)) for path in paths]
        shots = [cv2.cvtColor(frames_of(path, 20)[-1], cv2.COLOR_RGB2BGR) for path in clips]
        pictures = [np.asarray(one, np.uint8) for one in (*portraits, *shots)]
        seen = [max(on, key=lambda face: face.width, default=None) for on in found(pictures, still=True)]
        known = [persons and persons / f"{path.stem}.png" for path in (*paths, *clips)]
        all_of = zip(pictures, seen, known, strict=True)
        found_on = [(picture, face, mask) for picture, face, mask in all_of if face and face.width > 50]
        chosen = [(picture, face) for picture, face, _ in found_on]
        people = [person_of(*one) for one in found_on]
        made = [("photographs", np.asarray(one, np.uint8)) for one in photos]
        grounds = [picture for _, picture in made[::5]]
        folders: dict[str, Path] = {}
        for k, (kind, picture) in enumerate((*made, *honest_stills(chosen, people, grounds))):
            folder = folders.setdefault(kind, to / kind.replace(" ", "-"))
            folder.mkdir(exist_ok=True)
            cv2.imwrite(str(folder / f"{k:04}.png"), picture)
        count: Counter[str] = Counter()
        taken: Counter[str] = Counter()
        for kind, path in (*folders.items(), *(("clips", clip) for clip in clips)):
            film = coded(to / "clip.mp4", frames_of(path), 12) if kind == "clips" else path
            tracks = analyze_file(film, options, persons=False)
            count[kind] += len(tracks)
            taken[kind] += sum(map(refused, tracks))
            print(kind, count[kind], taken[kind], flush=True)
    result["honest"] = {kind: {"faces": count[kind], "refused": taken[kind]} for kind in count}
    totals = [list(one.values()) for one in result["hidden"].values()]
    result["frames_with_face"], result["frames_corrected"] = (sum(column) for column in zip(*totals, strict=True))
    result["faces_honest"], result["faces_refused"] = count.total(), taken.total()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=tuple(CLIPS), default="confirming", dest="which")
    parser.add_argument("--persons", type=Path)
    args = parser.parse_args()
    save("hidden_faces", {"reason": HIDDEN.reasons[0], **measure(args.data, args.which, args.persons)})


if __name__ == "__main__":
    main()
