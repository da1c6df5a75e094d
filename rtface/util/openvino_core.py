"""Compiles OpenVINO networks and caches them. Reading, quantising and compiling take up to half a second."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import openvino as ov

from rtface.errors import MissingComponent, log
from rtface.util.checksummed_file import read_checksummed, write_checksummed
from rtface.util.install import check_shipped, reinstall_line
from rtface.util.paths import cache_dir

CompileOptions = dict[str, str | int | bool]
"""Properties of OpenVINO by name, for compiling and loading."""


@functools.cache
def core() -> ov.Core:
    """Returns the process's only OpenVINO Core.

    OpenVINO's CPU plugin gives the thread that loads it a signal stack (`sigaltstack`), and frees that stack with the
    last object of its Core. If there were two Cores, the second would leave the thread with the first one's freed
    stack. The next signal would end the process: Ctrl-C would be a crash.
    """
    return ov.Core()


def compile_once(
    name: str,
    identity: object,
    options: CompileOptions,
    build: Callable[[], ov.Model],
    device: str = "CPU",
    *,
    keep: bool = True,
) -> ov.CompiledModel:
    """Loads a network from the cache, or builds, compiles and caches it.

    Args:
        name: prefix of its cache file.
        identity: everything on which the result of `build` depends; its `repr` is hashed, with OpenVINO's version, the
            device and the options.
        options: options for compiling and for loading.
        build: makes the model.
        device: OpenVINO's name of the device, such as "CPU" or "GPU.1".
        keep: whether to cache the network.

    Raises:
        RuntimeError: OpenVINO cannot compile the network. Errors of `build` are raised, too.
    """
    if not keep:
        return core().compile_model(build(), device, options)
    system = (ov.get_version(), device, core().get_property(device, "FULL_DEVICE_NAME"), sorted(options.items()))
    key = hashlib.sha256(repr((identity, system)).encode()).hexdigest()[:20]
    path = cache_dir() / "networks" / f"{name}-{key}.blob"
    network = _load(path, options, device)
    if network is None:
        network = core().compile_model(build(), device, options)
        _store(network, path)
    return network


def halves(device: str) -> str | None:
    """Returns the 16-bit format of a device, or None. It is "bf16" on CPUs and "f16" on others."""
    precision = "bf16" if device == "CPU" else "f16"
    capabilities = core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    return precision if {"bf16": "BF16", "f16": "FP16"}[precision] in capabilities else None


def open_shipped(
    name: str,
    path: Path,
    sha256: str,
    options: CompileOptions,
    changed: tuple[str, Callable[[ov.Model], None]] | None = None,
) -> ov.InferRequest:
    """Opens one of rtface's networks on the CPU, for single images. It runs in fp32 unless `options` specify another
    precision.

    Args:
        name: name of the network in messages.
        path, sha256: path and SHA-256 of the ONNX file.
        options: options in addition to precision and latency.
        changed: a change before the network is compiled: digest of its parameters, and the function that makes it.

    Raises:
        MissingComponent: the file is missing or damaged, or OpenVINO cannot use it.
    """
    check_shipped(path, sha256, f"the {name} network")
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", **options}

    def build() -> ov.Model:
        model = core().read_model(path)
        if changed is not None:
            changed[1](model)
        return model

    try:
        identity = sha256 if changed is None else (sha256, changed[0])
        return compile_once(name, identity, options, build).create_infer_request()
    except RuntimeError as error:
        raise MissingComponent(
            "OpenVINO cannot load the {name} network {path} ({why}): {repair}",
            code="network_load",
            name=name,
            path=path,
            why=str(error).strip().splitlines()[-1],
            repair=reinstall_line(path),
        ) from error


def _load(path: Path, options: CompileOptions, device: str) -> ov.CompiledModel | None:
    """Loads a cached network. Returns None if it is missing, damaged or for another OpenVINO."""
    blob = read_checksummed(path)
    if blob is None:
        return None
    try:
        return core().import_model(BytesIO(blob), device, options)
    except RuntimeError as error:
        log.info("the cached network %s cannot be used; it is rebuilt: %s", path, str(error).strip().splitlines()[-1])
        return None


def _store(network: ov.CompiledModel, path: Path) -> None:
    """Caches a network as a whole or not at all. If the cache is not writable, every start compiles."""
    try:
        stream: Any = network.export_model()
    except RuntimeError as error:
        log.info("the compiled network %s cannot be cached: %s", path, error)
    else:
        write_checksummed(path, stream.getvalue())
