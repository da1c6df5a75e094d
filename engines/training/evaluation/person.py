"""Protocol *person*: measures the gain of a learnt person over the shipped engine.

``python -m training.evaluation.person --clips DIR --work runs/person --python TORCH_PYTHON --protocols real/call,h264/22``

`rtface_learn` learns from the first part of a clip. The last part, after a gap of `GAP_S`, is degraded; ``rtface.run``
restores it with default options (*shipped*) and with ``person=[NAME]`` (*own*). A clip counts as 0 dB and ×1 if it is
too short or if learning keeps no result.

| protocol | film to restore |
| --- | --- |
| ``real/call``, ``real/heavy`` | `clip_protocols`: enlarged after coding |
| ``h264/22`` … | the clip at half width and height (area averages), encoded at this size |

- **own**: gain over *shipped* in dB, in the feathered oval, over all measured frames of a clip;
- **identity**: distance to the truth relative to *shipped*, mean of every `IDENTITY_STEP`-th frame, by rtface's
  recogniser and (with ``RTFACE_METRIC_WEIGHTS``) EdgeFace; **flicker**: change of the error, relative to *shipped*.
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from training.crop_space import TEMPLATE_512, U8, cut
from training.degradation.coded_film import coded_film, decoded, level
from training.evaluation.clip_protocols import PROTOCOLS, SETS, Clip, choose_clips, load_clip
from training.evaluation.figures import Ruler
from training.evaluation.runs import enhance, level_film

GAP_S = 3.0
"""Minimum seconds between the learnt and the tested part."""
LEARN_S, TEST_S, MIN_TEST_S = 3.0, 1.2, 0.6
"""Minimum length of the learnt part; maximum and minimum length of the tested part; seconds."""
MIN_TAKES = 3
"""Minimum number of takes in this protocol, because the clips are shorter than users' films should be."""
WARM_UP_FRAMES, IDENTITY_STEP, MAX_FRAMES = 12, 8, 1000
"""Unmeasured frames at the start; step between frames for identity; maximum number of frames of a clip."""
LEVELS = ("real/call", "real/heavy", "h264/22", "h264/31", "mpeg2/18")

Distance = Callable[[U8, U8, Any], float]
"""Function that computes the distance of the faces in two frames. Third argument: matrix, 512-px canonical → frame."""


@dataclass
class Subject:
    """The person in a clip: ``name``, ``film`` to learn from, and ``clip`` to test. ``refused``: reason why nothing was
    learnt. ``told``: gains in dB that learning reported."""

    name: str
    film: Path
    clip: Clip
    refused: str = ""
    told: dict[str, float] = field(default_factory=dict[str, float])


def parts(frames: int, fps: float) -> tuple[int, int]:
    """Returns the number of learnt frames, and the first tested frame.

    Raises:
        ValueError: the clip is too short for both parts.
    """
    test = min(TEST_S, frames / fps - GAP_S - LEARN_S)
    if test < MIN_TEST_S - 1e-6:
        least = LEARN_S + GAP_S + MIN_TEST_S
        raise ValueError(f"one face is visible for {frames / fps:.1f} s, but {least:.1f} s are needed")
    first = frames - round(test * fps)
    return first - int(np.ceil(GAP_S * fps)), first


def subject_of(path: Path, work: Path) -> Subject:
    """Splits a clip into learnt and tested part. Writes the learnt part as a lossless film."""
    clip = load_clip(path, MAX_FRAMES, work / "tracks")
    with av.open(str(path)) as file:
        fps = float(file.streams.video[0].average_rate or 25)
    name = "p" + "".join(c for c in path.stem if c.isalnum())
    try:
        count, first = parts(len(clip.clean), fps)
    except ValueError as error:
        return Subject(name, path, clip, refused=str(error))
    tested_frames = slice(first - WARM_UP_FRAMES, None)
    tested = replace(clip, clean=clip.clean[tested_frames], matrices=clip.matrices[tested_frames])
    source = work / "sources" / f"{name}.mkv"
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        coded_film(clip.clean[:count], level("clean/0"), source)
    return Subject(name, source, tested)


def learn_subject(subject: Subject, python: Path, minutes: float) -> None:
    """Learns the person, unless this was done before. If pictures are rejected, stores the reason."""
    from rtface.engine import learned
    from rtface.errors import InputError
    from rtface_learn.learn import learn

    path = learned.path_of(subject.name)
    notes = path.with_suffix(".json")
    if not notes.is_file():
        start = time.monotonic()
        try:
            done = learn(subject.name, [subject.film], lambda: python, minutes=minutes, notify=lambda what, share: None)
            result = {"told": done.gains, "takes": done.takes, "seconds": done.seconds,
                      "all_seconds": time.monotonic() - start, "refused": "" if done.path else "no gain"}  # fmt: skip
        except InputError as error:  # the pictures were rejected; other errors propagate
            result = {"told": {}, "refused": str(error)}
        notes.parent.mkdir(parents=True, exist_ok=True)
        notes.write_text(json.dumps(result))
    result = json.loads(notes.read_text())
    subject.told, subject.refused = result["told"], result["refused"]


# --- measuring ---


def distance_functions() -> dict[str, Distance]:
    """Returns the distances by rtface's recogniser and, if available, by EdgeFace."""
    from fractions import Fraction

    from rtface.device.cpu.device import CpuDevice
    from rtface.enhancer import own_face
    from rtface.frame import Color, Frame
    from rtface.geometry.transforms import apply
    from rtface.persons.chip import cut_chip
    from rtface.persons.gallery import distance
    from rtface.persons.network import PersonNetwork
    from rtface.util.av_arrays import image_from_array

    network, device = PersonNetwork(), CpuDevice()

    def recogniser_distance(a: U8, b: U8, matrix: Any) -> float:
        face, embeddings = own_face(apply(matrix, TEMPLATE_512) + 0.5, 0), []
        for picture in (a, b):
            frame = Frame(image_from_array(picture, "rgb"), 0, Fraction(1, 25), color=Color("rgb", True))
            chip = cut_chip(device.view(frame), face)
            if chip is None:
                return float("nan")
            embeddings.append(network(chip))
        return distance(*embeddings)

    distances: dict[str, Distance] = {"identity": recogniser_distance}
    if os.environ.get("RTFACE_METRIC_WEIGHTS"):
        from training.evaluation.edgeface import EdgeFace

        edge = EdgeFace()
        distances["edgeface"] = lambda a, b, matrix: edge.distance(cut(a, matrix, 512), cut(b, matrix, 512))
    return distances


def measure_subject(subject: Subject, protocol: str, distances: dict[str, Distance], work: Path) -> dict[str, Any]:
    """Measures the gain for one person and protocol."""
    no_gain = {"shipped": float("nan"), "own": 0.0, "flicker": 1.0, **dict.fromkeys(distances, 1.0)}
    row = {"clip": subject.clip.name, "protocol": protocol, "refused": subject.refused, **no_gain}
    if subject.refused:
        return row
    truth, coding, film = level_film(subject.clip, protocol, work / "films", WARM_UP_FRAMES)
    coded, ruler = list(decoded(film, coding.siting)), Ruler(truth)
    films = [enhance(film, work, coding, options)[0] for options in ({}, {"person": (subject.name,)})]
    shipped, personal = (ruler.row(coded, frames) for frames in films)
    row |= {"shipped": shipped["default"], "own": personal["default"] - shipped["default"]}
    row["flicker"] = personal["flicker"] / shipped["flicker"]
    for name, distance in distances.items():
        means = [np.nanmean([distance(frames[n], truth.frames[n], truth.matrices[n])
                           for n in range(WARM_UP_FRAMES, len(truth.frames), IDENTITY_STEP)])
                 for frames in films]  # fmt: skip
        row[name] = float(means[1] / means[0])
    return row


# --- tables ---


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Formats a Markdown table with one row per protocol. Figures include people who could not be learnt."""
    ratios = [k for k in rows[0] if k not in ("clip", "protocol", "refused", "shipped", "own")]
    heads = [
        "protocol",
        "people (refused)",
        "shipped",
        "own: mean, median, worst",
        *(f"{k}: mean, worst" for k in ratios),
    ]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for protocol in dict.fromkeys(r["protocol"] for r in rows):
        protocol_rows = [r for r in rows if r["protocol"] == protocol]
        gains = [r["own"] for r in protocol_rows]
        cells = [protocol, f"{len(protocol_rows)} ({sum(bool(r['refused']) for r in protocol_rows)})",
                 f"{np.nanmean([r['shipped'] for r in protocol_rows]):+.2f}",
                 f"{np.mean(gains):+.2f}, {np.median(gains):+.2f}, {min(gains):+.2f}",
                 *(f"×{np.mean([r[k] for r in protocol_rows]):.2f}, ×{max(r[k] for r in protocol_rows):.2f}"
                   for k in ratios)]  # fmt: skip
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    import rtface
    from rtface_learn import selection

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--clips", type=Path, nargs="+", required=True, help="files, or a folder with the set of --people")
    p.add_argument("--people", choices=tuple(SETS), default="tuning")
    p.add_argument("--protocols", default=",".join(LEVELS), help="protocols, separated by commas")
    p.add_argument("--python", type=Path, required=True, help="Python interpreter with numpy, torch and onnx")
    p.add_argument("--work", type=Path, required=True, help="folder for all results; existing results are reused")
    p.add_argument("--minutes", type=float, default=30.0, help="maximum training time per person")
    p.add_argument("--json", type=Path)
    a = p.parse_args()
    selection.MIN_TAKES = MIN_TAKES
    cv2.setNumThreads(1)
    a.work.mkdir(parents=True, exist_ok=True)
    os.environ["RTFACE_CONFIG_DIR"] = str(a.work.resolve() / f"learnt-{a.minutes:g}")
    try:
        protocols = [p.strip() for p in a.protocols.split(",") if p.strip()]
        for protocol in set(protocols) - set(PROTOCOLS):
            level(protocol)
        subjects = [subject_of(path, a.work) for path in choose_clips(a.clips, a.people)]
        rows, distances = list[dict[str, Any]](), distance_functions()
        for s in subjects:
            if not s.refused:
                learn_subject(s, a.python, a.minutes)
            print(f"{s.clip.name}: {s.refused or s.told}", flush=True)
            for protocol in protocols:
                rows.append(measure_subject(s, protocol, distances, a.work))
                print(rows[-1], flush=True)
    except (rtface.RtfaceError, OSError, ValueError) as e:
        p.error(str(e))
    print(table(rows))
    if a.json:
        a.json.write_text(json.dumps({"rtface": rtface.__version__, "people": a.people, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
