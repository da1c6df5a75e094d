"""The cases of the equality check. Each case runs one process in each checkout.

IN/ stands for the folder of the inputs, OUT/ for that of the case's outputs. Each format, engine and option occurs at
least once. Inputs, outputs (container and codec), options, and processing in one piece or as a job of two segments are
combined pairwise (`PAIRS`). Lossy libx264 uses a preset without macroblock trees, because they are not deterministic
with AVX-512. It uses 8 bits, because no preset is deterministic with 10 bits.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product


@dataclass(frozen=True)
class Case:
    """One process whose output is compared.

    Attributes:
        name: name in the table.
        command: arguments of the `rtface` command, or "python" and a function of the `worker` module.
        timed: False for a live run. Only its frames are compared, because times and report depend on the clock.
        refused: whether the command must fail.
    """

    name: str
    command: tuple[str, ...]
    timed: bool = True
    refused: bool = False


def _run(name: str, arguments: str) -> Case:
    """Creates a run with a report. `arguments` are input, output and options."""
    source, out, *options = shlex.split(arguments)
    report = ("--report", "OUT/report.json")
    return Case(name, ("run", f"IN/{source}", f"OUT/{out}", *options, *report))


def _other(name: str, arguments: str, timed: bool = True) -> Case:
    return Case(name, tuple(shlex.split(arguments)), timed)


def _pairwise(*factors: dict[str, str]) -> Iterator[tuple[str, ...]]:
    """Yields rows with one key of each factor. Any two keys of different factors occur together in a row."""

    def pairs(row: tuple[str, ...]) -> set[tuple[int, str, int, str]]:
        return {(i, a, j, b) for (i, a), (j, b) in combinations(enumerate(row), 2)}

    rows, counts = list(product(*factors)), Counter[str]()
    missing = {pair for row in rows for pair in pairs(row)}
    while missing:
        chosen = max(rows, key=lambda row: (len(pairs(row) & missing), -sum(counts[key] for key in row)))
        missing -= pairs(chosen)
        counts.update(chosen)
        yield chosen


# Inputs with one frame per second, because jobs then have two segments.
_INPUTS = {
    "8 bit": "slow.mp4",
    "422 10 bit": "slow-10.mkv",
    "fields": "slow-tff.mkv",
    "RGB 12 bit": "slow-rgb.mkv",
    "AVI": "slow.avi",
    "scans": "slow-scans",
}
_OUTPUTS = {
    "h265 mp4": "out.mp4 --codec libx265 --preset ultrafast",
    "ffv1 mkv": "out.mkv --codec ffv1",
    "prores mov": "out.mov --codec prores_ks",
    "mpeg2 ts": "out.ts --codec mpeg2video",
}
_OPTIONS = {
    "plain": "",
    "stage": "--stage label",
    "sidecar": "--sidecar --region face --strength 0.7",
    "cut": "--start 1 --correct always",
    "treatment": "--treatment IN/treatment.json --max-faces 1 --drop audio",
    "shots": "--shots IN/shots.csv --engine rtface-s --invented OUT/map.mkv",
}
_MODES = {"piece": "", "job": "--workers 1"}
PAIRS = [
    _run(
        f"{source}, {output}, {option}, {mode}",
        f"{_INPUTS[source]} {_OUTPUTS[output]} {_OPTIONS[option]} {_MODES[mode]}"
        f"{' --sequence --fps 1' if source == 'scans' else ''}",
    )
    for source, output, option, mode in _pairwise(_INPUTS, _OUTPUTS, _OPTIONS, _MODES)
]

CASES = [
    # Chroma formats, depths, engines
    _run("420p s", "yuv420p.mkv out.mkv --engine rtface-s"),
    _run("420p s x264", "yuv420p.mkv out.mp4 --preset superfast --codec libx264 --crf 20"),
    _run("420p onnx", "yuv420p.mkv out.mkv --engine rtface-s --device onnx --end 0.3"),
    _run("422p m x264", "yuv422p.mkv out.mp4 --preset superfast --engine rtface-m --codec libx264 --grain none"),
    _run("444p vivid half", "yuv444p.mkv out.mkv --engine rtface-m-vivid --strength 0.5"),
    _run("411p m", "yuv411p.mkv out.mkv --engine rtface-m --correct always"),
    _run("420p10 m blur", "yuv420p10le.mkv out.mkv --engine rtface-m --stage blur"),
    _run("422p10 compare", "yuv422p10le.mkv out.mkv --threads 1 --crf 0 --compare OUT/both.mkv"),
    _run("444p12 vivid", "yuv444p12le.mkv out.mkv --engine rtface-m-vivid"),
    _run("444p12 x265", "yuv444p12le.mkv out.mkv --codec libx265 --preset ultrafast --end 0.3"),
    _run("gray m", "gray.mkv out.mkv --engine rtface-m --correct always"),
    _run("gray10 vivid label", "gray10le.mkv out.mkv --engine rtface-m-vivid --grain none --stage label"),
    _run("420p alpha", "yuva420p.mkv out.mkv --engine rtface-s"),
    _run("gbrp10 m tag", "gbrp10le.mkv out.mkv --engine rtface-m --stage tag:name=Anna"),
    _run("nv12", "nv12.nut out.mkv --engine rtface-m-vivid"),
    _run("rgb24 mov", "rgb24.mov out.mov --engine rtface-m"),
    _run("rgb x264rgb", "gbrp.mkv out.mkv --preset superfast --engine rtface-s --strength 0.8"),
    _run("mjpeg full range", "yuvj420p.mov out.mp4 --preset superfast --engine rtface-s"),
    _run("full range webm", "full.mkv out.webm --engine rtface-m --end 0.3"),
    _run("h264 lossless", "h264-lossless.mp4 out.mp4 --engine rtface-m-vivid"),
    _run("prores", "prores.mov out.mov --engine rtface-m --strength 0.5"),
    # Fields, rotation, pixel aspect, HDR, size
    _run("tff m compare", "tff.mkv out.mkv --preset superfast --engine rtface-m --compare OUT/both.mp4"),
    _run("bff vivid", "bff.mkv out.mkv --engine rtface-m-vivid --strength 0.7 --codec ffv1 --stage label"),
    _run("tff 422p10 pixelate", "tff422.mkv out.mkv --codec ffv1 --stage pixelate:cells=4"),
    _run(
        "rotated mp4",
        "rotated.mp4 out.mp4 --preset superfast --engine auto"
        " --stage tag:name=Ben,place=above --stage label:place=top-left",
    ),
    _run("rotated compare", "rotated.mp4 out.mkv --codec ffv1 --crf 0 --compare OUT/both.mkv --correct always"),
    _run("upside down m", "upside-down.mkv out.mkv --engine rtface-m --codec ffv1 --grain none"),
    _run(
        "mirrored",
        "mirrored.mov out.mp4 --preset superfast --engine rtface-s"
        " --stage lower-third:title=Anna,subtitle=Example,start=0.1",
    ),
    _run("wide pixels", "wide-pixels.mkv out.mkv --engine rtface-m-vivid --crf 0 --compare OUT/both.mkv --stage split"),
    _run("hdr pq m", "pq.mkv out.mkv --engine rtface-m --preset ultrafast"),
    _run("hdr hlg blur label", "hlg.mkv out.mkv --engine rtface-s --stage blur:strength=0.5,margin=0.4 --stage label"),
    _run("size changes", "sizes.h264 out.mkv --engine rtface-s --codec ffv1"),
    _run("odd size mp4", "odd.mkv out.mp4 --preset superfast --engine rtface-m --codec libx264"),
    # Times, sound, containers
    _run("call mp4", "call.mp4 out.mp4 --preset superfast --json"),
    _run("call middle", "call.mp4 out.mkv --preset superfast --engine rtface-m --start 0.2 --end 0.7 --strength 50%"),
    _run("call webm", "call.mp4 out.webm --start 0.5 --engine rtface-s"),
    _run("ts", "long.mkv out.ts --preset superfast --end 0.9 --engine rtface-m-vivid"),
    _run("vfr pcm", "vfr.mkv out.mkv --engine rtface-s --codec ffv1"),
    _run("vfr mov start", "vfr.mkv out.mov --preset superfast --engine rtface-s --start 0.25"),
    # Faces, treatment, keyframes, segments
    _run("two faces auto", "two.mkv out.mkv --engine auto --stage noted.Faces:file=OUT/faces.jsonl"),
    _run("two faces treatment", "two.mkv out.mkv --treatment IN/treatment.json"),
    _run("two largest", "two.mkv out.mkv --faces largest --engine rtface-m"),
    _run(
        "three faces config", "three.mp4 out.mkv --config IN/options.toml --codec ffv1 --stage 'blur:faces=all but 1'"
    ),
    _run("large m every 3rd", "large.mkv out.mkv --engine rtface-m --keyframe 3"),
    _run("large vivid every 4th", "large.mkv out.mkv --engine rtface-m-vivid --keyframe 4 --strength 0.8"),
    _run("large auto", "large.mkv out.mp4 --preset superfast --engine auto --codec libx264"),
    _run(
        "face leaves, keyframes",
        "leaves.mkv out.mkv --engine rtface-m --keyframe 5 --correct always --stage noted.Faces:file=OUT/faces.jsonl",
    ),
    _run("dark vivid", "dark.mkv out.mkv --engine rtface-m-vivid"),
    _run("no face", "empty.mp4 out.mp4 --preset superfast"),
    _run("clean face", "clean.mkv out.mkv --engine rtface-m"),
    _run("clean face always", "clean.mkv out.mkv --engine rtface-m --correct always --max-faces 1"),
    _run("strength 0", "yuv420p.mkv out.mkv --strength 0 --tracker openvino"),
    _run("two workers", "slow.mp4 out.mkv --workers 2 --tracker none --stage label --codec ffv1"),
    _run("h264 job", "slow.mp4 out.mp4 --codec libx264 --preset superfast --workers 1 --sidecar"),
    _other("continued job", "python continued_job"),
    _run("keyframes", "long.mkv out.mkv --engine rtface-m --keyframe 4 --codec ffv1"),
    # Stills
    _other(
        "stills s",
        "run IN/still.png IN/alpha.png IN/gray.png IN/deep.png IN/deep.tiff"
        " IN/turned.jpg IN/fine.jpg IN/still.webp IN/still.bmp --output-dir OUT/out"
        " --engine rtface-s --json",
    ),
    _run("turned jpeg to png m", "turned.jpg out.png --engine rtface-m"),
    _run("deep png to tiff", "deep.png out.tiff --engine rtface-m-vivid --compare OUT/both.png"),
    _run("deep png to jpeg", "deep.png out.jpg --engine rtface-m --strength 0.5 --stage label"),
    _run("png to webp", "still.png out.webp --engine rtface-s --grain none --stage blur"),
    _run("folder of stills", "album out/ --engine rtface-m --correct always"),
    _run("sequence", "sequence out.mp4 --preset superfast --sequence --fps 12 --engine rtface-s"),
    _run("sequence rgb", "sequence out.mkv --sequence --codec ffv1 --engine rtface-m"),
    _run("film to stills", "yuv420p10le.mkv out/ --engine rtface-s --end 0.2"),
    # Analysis, and from Python
    _other("analyze two", "analyze IN/two.mkv --json"),
    _other("analyze call", "analyze IN/call.mp4 --json --end 0.6"),
    _other("analyze stills", "analyze IN/album --json --max-faces 1"),
    _run("dry run", "call.mp4 out.mkv --dry-run"),
    replace(_run("strict refuses", "prores.mov out.mp4 --strict"), refused=True),
    _other("python run", "python whole_file"),
    _other("python analyze", "python analysis"),
    _other("Enhancer rgb", "python enhancer_rgb"),
    _other("Enhancer bgr two faces", "python enhancer_bgr"),
    _other("Enhancer keyframes", "python enhancer_keyframes"),
    _other("Enhancer video frames", "python enhancer_video_frames"),
    _other("Enhancer own faces", "python enhancer_own_faces"),
    # Live
    _other(
        "live, uncorrected",
        "run IN/live.mkv null: --also OUT/out.mkv --codec ffv1 --latency 10000 --correct never --stage label",
        timed=False,
    ),
    _other("quality levels", "python quality_levels"),
    _other("live correction", "python live_correction"),
    *PAIRS,
]
