"""Makes blind pairs of pictures and counts what readers answer.

    python -m benchmarks.blind_pairs make --data DIR --out DIR [--runs DIR] [--look LOOK] [--against LOOK] [--films]
    python -m benchmarks.blind_pairs count --out DIR ANSWERS.json… [--json FILE]

``make`` runs rtface with its defaults, and ``--look``, on 1.2 seconds of every clip of `CLIPS` and on the photographs
`PHOTOS`, writes pair-NN.png for each, A on the left and B on the right in an order drawn by the seed, and key.json. A
picture shows what a viewer has before them: a frame that fills 780×900 pixels, or where its largest face would have
less than 240 of these, the part round that face that shows it so. Nothing in a picture says what it is. ``--runs``
keeps the outputs (by default a folder in ``--out``), so that a look in several pairs runs once; delete it after a
change of rtface. ``--films`` shows how three seconds of every clip with a corrected face go on instead: the line
through the eyes and the upright line through the nose of each frame, the face held still, one below the other, so
that flicker is seen as stripes across.

A reader sees nothing but the pictures, and answers for each pair, as JSON: ``{"01": {"clearer": "A" | "B" | "none",
"same_person": true, "wrong": ""}, …}``; of films ``{"01": {"flickers_more": …}, …}``. Each pair is read twice.
``count`` says in how many of the pairs in which a face was corrected the output was clearer in all readings, in how
many the input, and in how many of the others a reader saw a difference.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

import rtface
from rtface.analysis.verdict import LEFT_ALONE
from rtface.frame import Bytes, Face
from rtface.geometry.alignment import crop_matrix

CLIPS = "clips"
"""The folder of `--data` whose clips are all shown."""
PHOTOS = (
    "bopbtl_a.jpg", "bopbtl_b.jpg", "bopbtl_c.jpg", "bopbtl_e.jpg", "bopbtl_g.jpg", "codeformer_crop_0143.jpg",
    "codeformer_crop_0240.jpg", "codeformer_crop_0342.jpg", "codeformer_crop_0444.jpg", "codeformer_crop_0717.jpg",
    "codeformer_crop_0885.jpg", "codeformer_whole_00.jpg", "codeformer_whole_03.jpg", "dfdnet_test1.jpg",
    "dfdnet_test4.jpg", "diffbir_1.jpg", "diffbir_29.jpg", "gfpgan_00.jpg", "gfpgan_10045.jpg",
    "psfrgan_Solvay-conference-1927.jpg",
)  # fmt: skip
START_S, LENGTH_S, SHOWN_S, FILM_S = 1.0, 1.2, 0.8, 3.0
"""Seconds: where a clip's run begins (a shorter one at 0), its length, the frame that is shown, and a film's length."""
WIDTH, HEIGHT, LEAST_FACE = 780, 900, 240
"""Pixels of one picture, and of the width of its largest face."""
HELD, EYES, NOSE = 256, 0.47, 0.5
"""Side in pixels of the face that is held still in a film; height of its eyes and place of its nose, as a share."""


def frames_of(path: Path) -> list[Bytes]:
    """The frames of a film or a still, RGB."""
    with av.open(str(path)) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


def output_of(source: Path, folder: Path, look: str | None, length: float) -> tuple[list[Bytes], dict[str, Any]]:
    """Runs a part of a clip, or a photograph, unless that was done before.

    Args:
        source: the clip or photograph.
        folder: for the output.
        look: of the run; None for the input as it is.
        length: of a clip's part, seconds.

    Returns:
        The frames; and how many were corrected ("frames"), and what rtface says of the widest corrected face ("word").
    """
    still = source.suffix.lower() in (".jpg", ".png")
    options: dict[str, Any] = {"correct": "never"} if look is None else {"look": look}
    out = folder / f"{source.name}-{look or 'input'}{'.png' if still else f'-{length}.mkv'}"
    notes = out.with_suffix(".json")
    if not still:
        start = START_S if duration_of(source) > START_S + length else 0.0
        options |= {"codec": "ffv1", "start": start, "end": start + length}
    if not notes.exists():
        report = rtface.run(source, out, overwrite=True, **options)
        faces = [track for track in report.tracks if track.frames_corrected]
        word = max(faces, key=lambda track: track.mean_width_px).verdict.word if faces else LEFT_ALONE
        notes.write_text(json.dumps({"frames": report.frames_corrected, "word": word}), encoding="utf-8")
    return frames_of(out), json.loads(notes.read_text(encoding="utf-8"))


def duration_of(path: Path) -> float:
    """Seconds of a clip."""
    with av.open(str(path)) as container:
        return (container.duration or 0) / 1e6


def window(before: Bytes, after: Bytes) -> tuple[int, int, int, int]:
    """Chooses the part of a frame round the largest face that differs, or the largest: x0, y0, x1, y1."""
    height, width = before.shape[:2]
    with rtface.Enhancer(correct="never") as enhance:
        enhance(before)
        faces = enhance.faces
    differs = np.any(before != after, axis=2)
    scale = min(WIDTH / width, HEIGHT / height)
    largest = max(faces, key=lambda face: (bool(part_of(differs, face).any()), face.width), default=None)
    if largest is None or largest.width * scale >= LEAST_FACE:
        return 0, 0, width, height
    w, h = (min(side * largest.width / LEAST_FACE, most) for side, most in ((WIDTH, width), (HEIGHT, height)))
    (x, y) = largest.points.mean(axis=0)
    x0, y0 = min(max(x - w / 2, 0), width - w), min(max(y - h / 2, 0), height - h)
    return round(x0), round(y0), round(x0 + w), round(y0 + h)


def part_of(picture: Any, face: Face) -> Any:
    """The part of an array in the box of a face."""
    x0, y0, x1, y1 = (max(0, round(float(v))) for v in face.box)
    return picture[y0:y1, x0:x1]


def picture(frame: Bytes, box: tuple[int, int, int, int]) -> Bytes:
    """The part of a frame, at the size at which it is shown."""
    x0, y0, x1, y1 = box
    part = frame[y0:y1, x0:x1]
    scale = min(WIDTH / part.shape[1], HEIGHT / part.shape[0])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, None, fx=scale, fy=scale, interpolation=how), np.uint8)


def lines_of(before: list[Bytes], after: list[Bytes]) -> tuple[Bytes, Bytes] | None:
    """Takes the eyes' and the nose's line of each frame; None without a face.

    The face of `before` is held still in both.
    """
    rows: tuple[list[Bytes], list[Bytes]] = [], []
    with rtface.Enhancer(correct="never") as enhance:
        for pair in zip(before, after, strict=True):
            enhance(pair[0])
            if not (faces := enhance.faces):
                continue
            face = max(faces, key=lambda one: one.width)
            matrix = crop_matrix(face, HELD)
            for frame, lines in zip(pair, rows, strict=True):
                held = cv2.warpAffine(frame, matrix, (HELD, HELD), flags=cv2.INTER_CUBIC)
                middle = round(EYES * HELD), round(NOSE * HELD)
                lines.append(np.asarray(np.concatenate([held[middle[0]], held[:, middle[1]]])))
    if not rows[0]:
        return None
    scale = HEIGHT / len(rows[0])
    a, b = (
        np.asarray(cv2.resize(np.array(lines), None, fx=1.5, fy=scale, interpolation=cv2.INTER_NEAREST), np.uint8)
        for lines in rows
    )
    return a, b


def make(data: Path, out: Path, runs: Path, look: str, against: str, seed: int, *, films: bool) -> None:
    """Writes the pairs and their key."""
    for folder in (out, runs):
        folder.mkdir(parents=True, exist_ok=True)
    clips = sorted(path for path in (data / CLIPS).iterdir() if path.suffix in (".mp4", ".avi", ".mkv"))
    sources = clips if films else [*clips, *(data / "photos" / name for name in PHOTOS)]
    length = FILM_S if films else LENGTH_S
    rng = np.random.default_rng(seed)
    order, sides = rng.permutation(len(sources)), rng.integers(0, 2, len(sources))
    key: dict[str, Any] = {"look": look, "against": against, "seed": seed, "pairs": {}}
    for number, k in enumerate(order, 1):
        source = sources[k]
        after, notes = output_of(source, runs, look, length)
        if films and not notes["frames"]:
            continue
        before, _ = output_of(source, runs, None if against == "input" else against, length)
        n = min(len(after) - 1, round(SHOWN_S / LENGTH_S * len(after)))
        if films:
            if (lines := lines_of(before, after)) is None:
                continue
            pair = [*lines]
        else:
            box = window(before[n], after[n])
            pair = [picture(before[n], box), picture(after[n], box)]
        if sides[k]:
            pair.reverse()
        gap = np.full((pair[0].shape[0], 8, 3), 128, np.uint8)
        cv2.imwrite(str(out / f"pair-{number:02d}.png"), np.concatenate([pair[0], gap, pair[1]], 1)[:, :, ::-1])
        same = bool(np.array_equal(before[n], after[n]))
        entry = {"source": source.name, "output": "A" if sides[k] else "B", "word": notes["word"]}
        key["pairs"][f"{number:02d}"] = entry | {"corrected": notes["frames"] > 0 and not same}
        print(f"{number:02d} {source.name}: corrected on {notes['frames']} frames, {notes['word']}", flush=True)
        (out / "key.json").write_text(json.dumps(key, indent=1), encoding="utf-8")


def count(out: Path, readings: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of some readings."""
    key = json.loads((out / "key.json").read_text(encoding="utf-8"))
    rows: dict[str, Any] = {}
    films = any("flickers_more" in one for one in readings[0].values())
    for number, pair in key["pairs"].items():
        answers = [reading[number] for reading in readings]
        named = [one["flickers_more" if films else "clearer"] for one in answers]
        seen = ["none" if one == "none" else "output" if one == pair["output"] else "other" for one in named]
        rows[number] = pair | {
            "readings": seen,
            "same_person": all(one.get("same_person", True) for one in answers),
            "wrong": [one.get("wrong", "") for one in answers],
        }
    if films:
        outputs = [row["readings"].count("output") for row in rows.values()]
        return {
            "look": key["look"],
            "against": key["against"],
            "films": len(rows),
            "output_flickers_more_in_all": outputs.count(len(readings)),
            "output_flickers_more_in_one": sum(map(bool, outputs)),
            "input_flickers_more_in_one": sum("other" in row["readings"] for row in rows.values()),
            "pairs": rows,
        }
    corrected, left = ([row for row in rows.values() if row["corrected"] is wanted] for wanted in (True, False))
    words = sorted({row["word"] for row in corrected})
    return {
        "look": key["look"],
        "against": key["against"],
        "corrected": len(corrected),
        "clearer_in_all": sum(set(row["readings"]) == {"output"} for row in corrected),
        "clearer_in_one": sum("output" in row["readings"] for row in corrected),
        "worse_in_any": sum("other" in row["readings"] for row in corrected),
        "another_person": sum(not row["same_person"] for row in corrected),
        "clearer_in_all_by_word": {
            word: [
                sum(set(row["readings"]) == {"output"} for row in corrected if row["word"] == word),
                sum(row["word"] == word for row in corrected),
            ]
            for word in words
        },
        "left": len(left),
        "left_with_a_difference": sum(set(row["readings"]) != {"none"} for row in left),
        "pairs": rows,
    }


def main() -> None:
    """Makes pairs, or counts answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "count"))
    parser.add_argument("answers", nargs="*", type=Path)
    parser.add_argument("--data", type=Path, help="folder with clips/ and photos/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, help="folder that keeps the outputs of runs (default: runs in --out)")
    parser.add_argument("--look", default="clear")
    parser.add_argument("--against", default="input")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--films", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_intermixed_args()
    if asked.what == "make":
        runs = asked.runs or asked.out / "runs"
        make(asked.data, asked.out, runs, asked.look, asked.against, asked.seed, films=asked.films)
        return
    figures = count(asked.out, [json.loads(path.read_text(encoding="utf-8")) for path in asked.answers])
    print(json.dumps({name: value for name, value in figures.items() if name != "pairs"}, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
