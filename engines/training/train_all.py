"""Trains all engines, from portraits to engine folders.

``python -m training.train_all --faces DIR --runs runs --minutes 180``

The commands of each step are printed before they run. Finished steps are skipped; an interrupted step resumes. Engines
and figures are in ``runs/models``. A person must check them and move better engines into ``engines/shipped``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.losses.weight_files import VARIABLE

PAIRS, SEQUENCES, OBJECTS = 24_000, 6_400, 1_000
HIDDEN = "0.75"
"""Share of faces behind an object in the sequences for learning occlusion."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the training. The ``commands`` (module and arguments) run in parallel."""

    name: str
    commands: tuple[tuple[str, ...], ...]


def steps(faces: Path, runs: Path, minutes: float, workers: int) -> list[Step]:
    """Lists all steps in order. ``minutes``: time for training; ``workers``: number of CPU cores."""

    def train(run: str, share: float, *options: str) -> tuple[str, ...]:
        return ("loop.train", "--pairs", f"{runs}/pairs", "--run", f"{runs}/{run}", "--threads", str(workers),
                "--minutes", f"{share * minutes:.1f}", *options)  # fmt: skip

    def data_commands(module: str, out: str, *options: str) -> tuple[tuple[str, ...], ...]:
        return tuple((module, "--faces", str(faces), "--out", f"{runs}/{out}", "--worker", str(k), *options)
                     for k in range(workers))  # fmt: skip

    def held_out(module: str, out: str, *options: str) -> tuple[tuple[str, ...], ...]:
        return data_commands(module, out, *options, "--held-out", "--seed", "77")[:1]

    def package(engine: str, checkpoint: str) -> list[Step]:
        out = f"{runs}/models/{engine}"
        return [
            Step(f"export {engine}", (("export.export_engine", "--engine", engine, "--checkpoint", checkpoint,
                                       "--out", out),)),
            Step(f"calibrate {engine}", (("export.calibrate_int8", "--engine", engine, "--pairs", f"{runs}/pairs",
                                          "--out", out),)),
            Step(f"measure {engine}", (("evaluation.measure", "--faces", str(faces), "--people", "set-aside",
                                        "--model", out, "--json", f"{out}.json"),)),
        ]  # fmt: skip

    # Without these losses, engines get softer and change faces more. The losses need weights that must be downloaded.
    comparison_losses = ("--perceptual", "0.012", "--identity", "0.01") if os.environ.get(VARIABLE) else ()
    clips = ("--clips", f"{runs}/clips", "--valid", f"{runs}/clips-valid", "--wake", "0", "--length", "9",
             "--clean-share", "0.03", *comparison_losses)  # fmt: skip
    alignment = ("loop.pretrain_alignment", "--clips", f"{runs}/clips", "--valid", f"{runs}/clips-valid",
              "--run", f"{runs}/align", "--minutes", f"{0.2 * minutes:.1f}", "--threads", str(workers))  # fmt: skip
    stills = ("--valid", f"{runs}/valid", "--piece", "4", "--lr", "1.2e-3", "--lr-end", "1e-5", "--clean-share", "0.04",
             "--clean-weight", "0.5", *comparison_losses)  # fmt: skip
    return [
        Step("pairs", data_commands("data.film_pairs", "pairs", "--pairs", str(PAIRS // workers))),
        Step("pairs of people set aside", held_out("data.film_pairs", "valid", "--pairs", "256")),
        Step("sequences", data_commands("data.film_sequences", "clips", "--sequences", str(SEQUENCES // workers))),
        Step("sequences of people set aside", held_out("data.film_sequences", "clips-valid", "--sequences", "96")),
        Step("rtface-s", (train("s", 0.25, "--engine", "rtface-s", *stills),)),
        Step("alignment", (alignment,)),
        Step("rtface-s trusts", (train("s-trusts", 0.05, "--core", f"{runs}/s/last.pt", f"{runs}/align/last.pt", *clips,
                                       "--only", "trust,doubt", "--batch", "4", "--lr", "3e-3"),)),
        Step("rtface-s remembers", (train("s-remembers", 0.25, "--core", f"{runs}/s-trusts/last.pt", *clips,
                                          "--batch", "4", "--lr", "4.5e-4", "--lr-end", "1e-5"),)),
        Step("sequences with objects", data_commands("data.film_sequences", "hidden", "--hidden", HIDDEN, "--sequences",
                                            str(OBJECTS // workers))),
        Step("sequences with objects of people set aside", held_out("data.film_sequences", "hidden-valid", "--hidden",
                                                                    HIDDEN, "--sequences", "128")),
        Step("objects before faces", (("loop.train_occlusion", "--core", f"{runs}/s-remembers/last.pt", "--clips",
                                       f"{runs}/hidden", "--pairs", f"{runs}/pairs", "--valid", f"{runs}/hidden-valid",
                                       "--out", f"{runs}/objects.pt", "--minutes", f"{0.05 * minutes:.1f}"),)),
        Step("rtface-m", (train("m", 0.20, "--engine", "rtface-m", "--core", f"{runs}/objects.pt",
                                "--freeze", "core.", "--min-px", "300", *stills),)),
        *package("rtface-s", f"{runs}/objects.pt"),
        *package("rtface-m", f"{runs}/m/last.pt"),
    ]  # fmt: skip


def run(step: Step, done: Path) -> None:
    """Runs a step's commands in parallel.

    Raises:
        SystemExit: a command failed. All other commands are completed first.
    """
    if done.exists():
        print(f"{step.name}: already done", flush=True)
        return
    running: list[subprocess.Popen[bytes]] = []
    for module, *arguments in step.commands:
        print(f"{step.name}: python -m training.{module} {shlex.join(arguments)}", flush=True)
        command = [sys.executable, "-m", f"training.{module}", *arguments]
        # The trainer's threads each run a copy of the network, so OpenMP must not start more threads.
        running.append(subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}))
    failed = [p.returncode for p in running if p.wait() != 0]
    if failed:
        raise SystemExit(f"{step.name} failed (exit {failed[0]}); run the same command again to resume with this step")
    done.parent.mkdir(parents=True, exist_ok=True)
    done.touch()


def main(arguments: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", type=Path, required=True, help="folder with train/MANIFEST.csv (see README.md)")
    p.add_argument("--runs", type=Path, default=Path("runs"))
    p.add_argument("--minutes", type=float, default=180, help="total time of training, without the time to make data")
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    a = p.parse_args(arguments)
    for number, step in enumerate(steps(a.faces, a.runs, a.minutes, a.workers)):
        run(step, a.runs / "done" / f"{number:02d}-{step.name.replace(' ', '-')}")


if __name__ == "__main__":
    main()
