"""Checks of the installation, for ``rtface doctor``: each finding has a state and, for a fault, its repair."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from rtface._version import __version__
from rtface.config.option_sources import load
from rtface.config.policy import policies, site_path
from rtface.engine.recipe import find_recipes, load_recipe
from rtface.errors import Message, MissingComponent, RtfaceError
from rtface.jobs.queue.api import Queue, queue_path
from rtface.util.finding import Finding, State
from rtface.util.install import PIP, extra_line, reinstall_line
from rtface.util.paths import cache_dir, config_dir

# All four put the same cv2/ folder into site-packages, and the one installed last wins.
OPENCV_WHEELS = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
NEEDED_CODECS = ("libx264", "ffv1", "png", "mjpeg", "aac")
USEFUL_CODECS = ("libx265", "prores_ks", "libvpx-vp9", "libopus", "flac", "tiff")
OPTIONAL = {"onnxruntime": "onnx", "mediapipe": "mediapipe"}


def examine() -> list[Finding]:
    """Everything that can be found out without a film; never raises."""
    findings: list[Finding] = []
    for check in (
        check_python,
        check_packages,
        check_opencv,
        check_codecs,
        check_engines,
        check_tracker,
        check_folders,
        check_settings,
        check_policy,
        check_openvino,
        check_optional,
        check_onnxruntime,
        check_nvidia,
        check_live,
    ):
        try:
            findings.extend(check())
        except Exception as error:  # noqa: BLE001 - a check that breaks is itself a finding
            findings.append(
                Finding(
                    check.__name__.removeprefix("check_"), "fault", f"{type(error).__name__}: {error}", reinstall_line()
                )
            )
    return findings


def check_python() -> Iterator[Finding]:
    yield Finding(
        "python",
        "ok",
        Message(
            "{version} on {system}, {count} cores, {path}",
            code="python",
            version=platform.python_version(),
            system=f"{platform.system()} {platform.machine()}",
            count=os.cpu_count(),
            path=sys.executable,
        ),
    )
    yield Finding(
        "rtface",
        "ok",
        Message("{version} in {path}", code="rtface", version=__version__, path=Path(__file__).parents[1]),
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.split("+")[0]))


def satisfies(version: str, specifier: str) -> bool:
    """True if a version meets ``>=1.2,<2`` and the like (only the comparisons that rtface's own metadata uses)."""
    tests: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
        ">=": lambda a, b: a >= b,
        "<": lambda a, b: a < b,
        "==": lambda a, b: a == b,
    }
    wanted = re.findall(r"(>=|==|<)\s*([\d.]+)", specifier)
    return all(tests[sign](_numbers(version), _numbers(bound)) for sign, bound in wanted)


def check_packages() -> Iterator[Finding]:
    try:
        required = metadata.requires("rtface") or []
    except metadata.PackageNotFoundError:
        yield Finding(
            "packages",
            "warn",
            Message("rtface runs from a folder and was never installed", code="never_installed"),
            f"{PIP} -e {shlex.quote(str(Path(__file__).parents[2]))}",
        )
        return
    for line in required:
        match = re.match(r"([A-Za-z0-9_.-]+)\s*([^;]*)(;.*)?$", line)
        if match is None or match[3]:  # a marker: belongs to an extra
            continue
        name, wanted = match[1], match[2].strip()
        repair = f"{PIP} '{name}{wanted}'"
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name in OPENCV_WHEELS and any(_installed(wheel) for wheel in OPENCV_WHEELS):
                continue  # another wheel of it stands in; `check_opencv` looks at that one
            yield Finding(name, "fault", Message("not installed", code="missing"), repair)
            continue
        state: State = "ok" if satisfies(version, wanted) else "fault"
        needs = Message("{version}, but rtface needs {wanted}", code="needs", version=version, wanted=wanted)
        yield Finding(name, state, version if state == "ok" else needs, "" if state == "ok" else repair)


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def check_opencv() -> Iterator[Finding]:
    wheels = [f"{name} {version}" for name in OPENCV_WHEELS if (version := _installed(name))]
    repair = f"python -m pip uninstall -y {' '.join(OPENCV_WHEELS)} && {PIP} opencv-python-headless"
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as error:
        missing = "libGL" in str(error) or "libgthread" in str(error)
        why = Message("a wheel with windows was installed, which needs libGL", code="windows") if missing else error
        yield Finding("cv2", "fault", Message("cannot be imported: {why}", code="import", why=why), repair)
        return
    version = importlib.import_module("cv2.version")
    won = f"{'-contrib' if version.contrib else ''}-python{'-headless' if version.headless else ''}"
    if len(wheels) > 1:
        yield Finding(
            "cv2",
            "warn",
            Message(
                "{wheels} share one folder; opencv{won} was written last and is used. That works here; on a machine "
                "without libGL it does not",
                code="wheels",
                wheels=" and ".join(wheels),
                won=won,
            ),
            repair,
        )
    else:
        yield Finding(
            "cv2", "ok", Message("{version} from opencv{wheel}", code="wheel", version=cv2.__version__, wheel=won)
        )


def check_codecs() -> Iterator[Finding]:
    import av
    from av.codec import Codec
    from av.error import FFmpegError

    def lacks(name: str) -> bool:
        try:
            Codec(name, "w")
        except (ValueError, FFmpegError):
            return True
        return False

    needed, useful = ([name for name in names if lacks(name)] for names in (NEEDED_CODECS, USEFUL_CODECS))
    if needed:
        yield Finding(
            "encoders",
            "fault",
            Message(
                "PyAV {version} lacks {names}", code="encoders_missing", version=av.__version__, names=", ".join(needed)
            ),
            f"{PIP} --force-reinstall --only-binary av av",
        )
    elif useful:
        yield Finding(
            "encoders",
            "warn",
            Message(
                "PyAV {version} lacks {names}: those cannot be written",
                code="encoders_some",
                version=av.__version__,
                names=", ".join(useful),
            ),
            f"{PIP} --force-reinstall --only-binary av av",
        )
    else:
        yield Finding("encoders", "ok", ", ".join(NEEDED_CODECS + USEFUL_CODECS))


def check_engines() -> Iterator[Finding]:
    recipes = find_recipes()
    if not recipes:
        yield Finding("engines", "fault", Message("none is installed", code="no_engines"), reinstall_line())
    for name, path in recipes.items():
        try:
            recipe = load_recipe(path)
            fault = recipe.fault(anew=True)
        except RtfaceError as error:
            own = not path.is_relative_to(Path(__file__).parents[1])
            yield Finding(
                f"engine {name}",
                "fault",
                error.message,
                f"rtface engines remove {name}" if own else reinstall_line(path),
            )
            continue
        if fault:
            yield Finding(
                f"engine {name}",
                "fault",
                Message("weights {path}: {why}", code="weights_fault", path=recipe.model_path, why=fault),
                recipe.repair_line,
            )
        else:
            yield Finding(
                f"engine {name}",
                "ok",
                Message(
                    "{version}, weights {size} MB, SHA-256 right",
                    code="weights",
                    version=recipe.version,
                    size=f"{recipe.weights.bytes / 1e6:.1f}",
                ),
            )


def check_tracker() -> Iterator[Finding]:
    from rtface.tracking import models

    for name in models.SHA256:
        try:
            models.path(name)
        except RtfaceError as error:
            yield Finding(
                f"tracker {name}", "fault", str(error).split("; repair")[0], reinstall_line(models.file_of(name))
            )
        else:
            yield Finding(f"tracker {name}", "ok", Message("SHA-256 right", code="sum"))


def check_folders() -> Iterator[Finding]:
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Finding(
            "cache",
            "warn",
            Message(
                "{folder} cannot be written ({why}): every start compiles again",
                code="cache",
                folder=folder,
                why=error.strerror,
            ),
            Message("set RTFACE_CACHE to a folder that you may write", code="cache_repair"),
        )
    else:
        yield Finding("cache", "ok", str(folder))
    yield _queue_finding()


def _queue_finding() -> Finding:
    """The user's queue; a database that is not there is not made."""
    try:
        path = queue_path()
        if not path.exists():
            return Finding("queue", "ok", Message("empty ({path} is not there)", code="queue_empty", path=path))
        items = Queue(path).items()
    except RtfaceError as error:
        return Finding(
            "queue",
            "warn",
            error.message,
            Message("set RTFACE_DATA to a folder of yours, or move the database away", code="queue_repair"),
        )
    waiting = sum(item.state in ("waiting", "interrupted") for item in items)
    return Finding(
        "queue",
        "ok",
        Message(
            "{path}; items: {count}, waiting: {waiting}", code="queue", path=path, count=len(items), waiting=waiting
        ),
    )


def check_settings() -> Iterator[Finding]:
    folder = config_dir()
    path = folder / "rtface.toml" if folder else "rtface.toml"
    try:
        loaded = load({})
    except RtfaceError as error:
        yield Finding(
            "configuration",
            "fault",
            error.message,
            Message("mend it there, or remove {path}", code="settings_repair", path=path),
        )
        return
    given = [f"{key} by {source}" for key, source in loaded.sources.items() if source != "default"]
    if folder is None:
        yield Finding(
            "configuration",
            "warn",
            Message("there is no home folder, so no settings and no engines of your own", code="no_home"),
            Message("set RTFACE_CONFIG_DIR to a folder of yours", code="no_home_repair"),
        )
        return
    yield Finding(
        "configuration", "ok", ", ".join(given) or Message("defaults ({path} is not there)", code="defaults", path=path)
    )


def check_policy() -> Iterator[Finding]:
    from rtface.trust.enforce import check_words

    try:
        found = policies()
        for policy in found:
            check_words(policy)
    except RtfaceError as error:
        yield Finding(
            "policy",
            "fault",
            error.message,
            Message("mend the file as its administrator, or remove it", code="policy_repair"),
        )
        return
    for policy in found:
        keys = ", ".join(f"{key} = {json.dumps(value)}" for key, value in policy.given.items())
        yield Finding(
            "policy",
            "ok",
            f"{keys} ({policy.path})" if keys else Message("no key is set ({path})", code="no_key", path=policy.path),
        )
    if not found:
        yield Finding(
            "policy", "ok", Message("none ({path} is not there)", code="no_policy", path=site_path() or "policy.toml")
        )


def check_openvino() -> Iterator[Finding]:
    from rtface.util.openvino_core import core

    devices: list[str] = core().available_devices
    repair = f"{PIP} --force-reinstall openvino"
    if "CPU" not in devices:
        yield Finding(
            "openvino", "fault", Message("finds no CPU device (only {names})", code="no_cpu", names=devices), repair
        )
    for device in devices:
        name: Any = core().get_property(device, "FULL_DEVICE_NAME")
        able: Any = core().get_property(device, "OPTIMIZATION_CAPABILITIES")
        native = [kind for kind in ("BF16", "FP16", "INT8") if kind in able]
        flag = "cpu" if device == "CPU" else f"openvino:{device.lower()}"
        yield Finding(
            f"openvino {device}",
            "ok",
            f"{name} ({', '.join(native)}): --device {flag}"
            if native
            else Message("{name} (FP32 only): {--device:{flag}}", code="single_precision", name=name, flag=flag),
        )


def check_optional() -> Iterator[Finding]:
    for name, extra in OPTIONAL.items():
        version = _installed(name)
        if version:
            try:
                importlib.import_module(name)
            except (ImportError, OSError) as error:
                yield Finding(
                    name,
                    "warn",
                    Message("{version} cannot be imported: {why}", code="import_version", version=version, why=error),
                    f"{PIP} --force-reinstall {name}",
                )
                continue
        repair = "" if version else extra_line(extra)
        yield Finding(name, "ok", version or Message("not installed; optional", code="optional"), repair)


def check_onnxruntime() -> Iterator[Finding]:
    from rtface.engine.backends import onnx_runtime

    try:
        onnx_runtime.runtime()
    except RtfaceError:
        return  # `check_optional` says so
    providers = {"onnx": onnx_runtime.CPU, "coreml": onnx_runtime.COREML, "directml": onnx_runtime.DIRECTML}
    for flag, provider in providers.items():
        if provider.system not in ("", platform.system()):
            continue
        try:
            onnx_runtime.check_here(provider)
        except RtfaceError as error:
            yield Finding(f"device {flag}", "ok", str(error).split(";")[0], provider.repair)
        else:
            yield Finding(
                f"device {flag}", "ok", Message("{name} of ONNX Runtime", code="provider", name=provider.name)
            )


def check_nvidia() -> Iterator[Finding]:
    from rtface.engine.cuda import driver

    try:
        found = driver.driver()
    except RtfaceError as error:
        yield Finding("nvidia", "ok", Message("{why}; engines do not run on CUDA", code="no_cuda", why=error))
        return
    gpus = ", ".join(found.gpus)
    if absent := driver.missing():
        yield Finding(
            "nvidia",
            "warn",
            Message(
                "{gpus}, driver for CUDA {version}; engines do not run there without {names}",
                code="cuda_lacks",
                gpus=gpus,
                version=found.cuda,
                names=", ".join(absent),
            ),
            extra_line("rtx"),
        )
    else:
        yield Finding("nvidia", "ok", f"{gpus}, driver for CUDA {found.cuda}; {driver.unusable(0)}")


def check_live() -> Iterator[Finding]:
    from rtface.live.sinks.listing import devices
    from rtface.live.sources import srt

    found, unusable = devices()
    for device in found:
        if device.kind not in ("screen", "microphone"):
            names = ", ".join(device.users)
            yield Finding(
                device.address,
                "warn" if device.advice else "ok",
                Message(
                    "{where}: {state}, open in {names}" if names else "{where}: {state}",
                    code="device_open" if names else "device",
                    where=f"{device.name} ({device.node})" if device.node else device.name,
                    state=device.state or Message("is there", code="is_there"),
                    names=names,
                ),
                device.advice,
            )
    for sink in unusable:  # most runs need no virtual camera
        state = "ok" if sink.name == "vcam" else "warn"
        yield Finding(sink.name, state, Message("cannot be used here", code="sink_unusable"), sink.unusable or "")
    try:
        srt.library()
    except MissingComponent as error:
        what = Message("srt:// needs SRT's library; only srt:// addresses need it", code="no_srt_library")
        yield Finding("srt", "ok", what, error.values["how"])
    else:
        yield Finding("srt", "ok", Message("libsrt is there", code="srt"))
