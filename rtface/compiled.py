"""Compiled OpenVINO networks, kept in the cache folder: reading, quantising and compiling cost up to half a second."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import openvino as ov

from rtface.paths import cache_dir
from rtface.sealed import read_sealed, write_sealed

log = logging.getLogger("rtface")


def compile_once(core: ov.Core, name: str, identity: object, options: dict[str, Any],
                 build: Callable[[], ov.Model], device: str = "CPU") -> ov.CompiledModel:
    """A network for a device: from the cache where a whole one fits, else built, compiled and kept.

    Args:
        core: OpenVINO's.
        name: how its file in the cache begins.
        identity: everything that decides what `build` makes (its `repr` is hashed); OpenVINO's version, the device
            and the options are added here.
        options: for compiling and for loading.
        build: makes the model.
        device: OpenVINO's name of it, as "CPU" or "GPU.1".

    Raises:
        RuntimeError: OpenVINO cannot compile it; and whatever `build` raises.
    """
    where = (ov.get_version(), device, core.get_property(device, "FULL_DEVICE_NAME"), sorted(options.items()))
    key = hashlib.sha256(repr((identity, where)).encode()).hexdigest()[:20]
    kept = cache_dir() / "networks" / f"{name}-{key}.blob"
    found = _load(core, kept, options, device)
    if found is None:
        found = core.compile_model(build(), device, options)
        _keep(found, kept)
    return found


def _load(core: ov.Core, kept: Path, options: dict[str, Any], device: str) -> ov.CompiledModel | None:
    """None where there is no kept network that is whole and fits this OpenVINO."""
    blob = read_sealed(kept)
    if blob is None:
        return None
    try:
        return core.import_model(BytesIO(blob), device, options)
    except RuntimeError as error:
        log.info("the kept network %s cannot be used and is made anew: %s", kept, str(error).strip().splitlines()[-1])
        return None


def _keep(network: ov.CompiledModel, kept: Path) -> None:
    """Whole or not at all; without a writable cache every start compiles."""
    try:
        stream: Any = network.export_model()
    except RuntimeError as error:
        log.info("the compiled network %s cannot be kept: %s", kept, error)
    else:
        write_sealed(kept, stream.getvalue())
