"""Finds or sets up a Python with torch for the converter."""

from __future__ import annotations

import json
import os
import shutil
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtface.errors import MissingComponent
from rtface.util.file_lock import file_lock
from rtface.util.paths import cache_dir, expanded
from rtface_engines import child

VARIABLE = "RTFACE_TORCH_PYTHON"
MODULES = ("numpy", "torch", "onnx", "onnxruntime", "safetensors")
PACKAGES = ("numpy>=2.1,<3", "torch==2.13.0", "onnx==1.23.2", "onnxruntime==1.31.1", "safetensors==0.8.0")
_READY = "ready.json"
_NEEDED_BYTES = 8 << 30  # disk space for the environment if pip installs torch with CUDA

LineOutput = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SetupOutput:
    """Outputs for progress: `log` prints a permanent line, `status` a line that the next one replaces."""

    log: LineOutput
    status: LineOutput


def environment_folder() -> Path:
    """Returns the folder of the environment that `make` sets up."""
    return cache_dir() / "torch-environment"


def find_python(requested: Path | None, output: SetupOutput, needed: Sequence[str] = ()) -> Path:
    """Returns a Python that has the `needed` modules (default: all `MODULES`).

    Tries in order: `requested`, ``RTFACE_TORCH_PYTHON``, the running Python, and an environment that `make` sets up.
    Raises MissingComponent if the user's choice lacks a module, or if no environment can be set up.
    """

    def lacks(python: Path) -> list[str]:
        return [module for module in missing(python) if not needed or module in needed]

    chosen = requested or (expanded(os.environ[VARIABLE], VARIABLE) if os.environ.get(VARIABLE) else None)
    if chosen is not None:
        # Absolute, because the converter runs in another folder. Links are not resolved, because they identify a venv.
        chosen = (chosen if chosen.exists() else Path(shutil.which(str(chosen)) or chosen)).absolute()
        if absent := lacks(chosen):
            what = "--python" if requested else VARIABLE
            raise MissingComponent(
                "{kind} {path}: {names} not installed there; install with: {path} -m pip install {packages}",
                code="python_lacks",
                kind=what,
                path=chosen,
                names=", ".join(absent),
                packages=" ".join(absent),
            )
        return chosen
    running = Path(sys.executable)
    if not lacks(running):
        return running
    folder = environment_folder()
    with file_lock(
        folder.with_name(f"{folder.name}.lock"),
        lambda: output.log(f"another rtface is setting up an environment with torch in {folder}; waiting for it"),
    ):
        python = _python_in(folder)
        if (folder / _READY).is_file() and python.is_file() and not missing(python):
            return python
        return make(folder, output)


def missing(python: Path) -> list[str]:
    """Lists the `MODULES` that a Python lacks. Raises MissingComponent if Python does not start."""
    lines: list[str] = []
    try:
        status = child.run(
            [
                python,
                "-c",
                f"import importlib.util as u; print('missing', *[m for m in {MODULES!r} if u.find_spec(m) is None])",
            ],
            lines.append,
        )
    except OSError as error:
        raise MissingComponent(
            "{python} cannot be started: {why}; set a Python with --python",
            code="python_unstarted",
            python=python,
            why=error.strerror,
        ) from error
    absent = next((line.split()[1:] for line in lines if line.startswith("missing")), None)
    if status.code or absent is None:
        raise MissingComponent(
            "{python} does not work as a Python: {why}; set another with --python",
            code="python_unfit",
            python=python,
            why=status.why,
        )
    return absent


def make(folder: Path, output: SetupOutput) -> Path:
    """Sets up an environment with torch. Removes it on failure. Raises MissingComponent."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    output.log(
        f"setting up an environment with torch in {folder}: once, pip downloads 0.3 to 3 GB, which need 1 to 7 GB of "
        f"disk space; instead, a Python that has {', '.join(MODULES)} can be set with --python or {VARIABLE}"
    )
    if free < _NEEDED_BYTES:
        output.log(f"{folder.parent} has {free / 1e9:.1f} GB free, which may be too little")
    try:
        venv.create(folder, with_pip=True)
        python = _python_in(folder)
        command = [
            python,
            "-P",
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--no-input",
            "--progress-bar",
            "off",
            *PACKAGES,
        ]
        status = child.run(command, lambda line: output.status(_step(line)))
        if status.code:
            reason = next((e for e in status.errors if e.startswith("ERROR:")), status.why).removeprefix("ERROR: ")
            raise MissingComponent(
                "the environment for converting cannot be set up: {why}; its files were removed. With --python, "
                "set a Python that has {modules}",
                code="environment_failed",
                why=reason,
                modules=", ".join(MODULES),
            )
        if absent := missing(python):
            raise MissingComponent(
                "the environment for converting lacks {names}; its files were removed",
                code="environment_lacks",
                names=", ".join(absent),
            )
        (folder / _READY).write_text(json.dumps({"packages": PACKAGES}))
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, MissingComponent):
            raise MissingComponent(
                "the environment for converting cannot be set up in {folder}: {why}",
                code="environment_folder",
                folder=folder,
                why=error.strerror or error,
            ) from error
        raise
    return python


def _step(line: str) -> str:
    """Shortens a line of pip's output and removes addresses from it."""
    words = line.split()
    if words[:1] == ["Downloading"]:
        return f"downloading {words[1].rsplit('/', 1)[-1]} {' '.join(words[2:])}"
    return line.strip().split(" (from")[0]


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
