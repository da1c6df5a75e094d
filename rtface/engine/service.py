"""Engines by name: what is there, which one suits a face, and loading it ready to run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rtface.engine.loaded import LoadedEngine, check_device
from rtface.engine.plan import candidates, recall
from rtface.engine.recipe import Recipe, find_recipes, load_recipe, nearest
from rtface.errors import EngineError, MissingComponent, UsageError

log = logging.getLogger("rtface")

DEFAULT = "rtface-m"
SMALL = "rtface-s"


def load_engine(name: str = "default", *, device: str = "auto", threads: int | None = None) -> LoadedEngine:
    """Loads an engine, checks it against its golden crops and warms it up.

    Args:
        name: an engine's name, or "default" (`DEFAULT`).
        device: "auto" (OpenVINO, or ONNX Runtime where that cannot be), "cpu" (OpenVINO) or "onnx" (ONNX Runtime).
        threads: cores it may use; all of this process when None.

    Raises:
        UsageError: unknown name or device.
        MissingComponent: weights, golden crops or the device's package are not there.
        EngineError: the network does not give its reference's answers in any precision.
    """
    return LoadedEngine(_recipe(name), device=device, threads=threads)


def _recipe(name: str) -> Recipe:
    recipes = find_recipes()
    wanted = DEFAULT if name == "default" else name
    if wanted in recipes:
        return load_recipe(recipes[wanted])
    if name == "default":
        raise MissingComponent(f"the default engine {DEFAULT} is missing; install rtface again, or choose --engine")
    valid = ["auto", "default", *recipes]
    raise UsageError(f"unknown engine {name!r}{nearest(name, valid)}; there is: {', '.join(valid)}")


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """One row of ``rtface engines``.

    Attributes:
        name, version, summary: from the recipe.
        licence_code, licence_weights, commercial_use, data: what it may be used for.
        size: side of the crop in pixels.
        parameters, bytes: of the weights.
        fault: None when the weights are there and unchanged, else what is wrong with them or with the recipe.
        default: whether ``--engine default`` means this one.
        ms: median milliseconds a crop on this machine, None when not measured yet.
        device, precision: how that was run, None with it.
    """

    name: str
    version: str = ""
    summary: str = ""
    licence_code: str = ""
    licence_weights: str = ""
    commercial_use: bool = False
    data: str = ""
    size: int = 0
    parameters: int = 0
    bytes: int = 0
    fault: str | None = None
    default: bool = False
    ms: float | None = None
    device: str | None = None
    precision: str | None = None

    def to_json(self) -> dict[str, Any]:
        """All attributes as a table."""
        return asdict(self)


def list_engines(*, measure: bool = False, device: str = "auto", threads: int | None = None) -> list[EngineInfo]:
    """Every engine found here; a broken one is a row with its `fault`, not an error.

    With `measure` each is loaded and timed now; without, speed is what the last load on this machine found.
    """
    check_device(device)
    rows: list[EngineInfo] = []
    for name, path in find_recipes().items():
        try:
            recipe = load_recipe(path)
            fault = recipe.fault()
        except EngineError as error:
            rows.append(EngineInfo(name, fault=str(error), default=name == DEFAULT))
            continue
        speed: tuple[float, str, str] | None = None
        if fault is None:
            try:
                speed = _speed(recipe, device, threads) if measure else _known_speed(recipe, device)
            except (EngineError, MissingComponent) as error:
                fault = str(error)
        ms, where, precision = speed or (None, None, None)
        rows.append(EngineInfo(
            recipe.name, recipe.version, recipe.summary, recipe.licence.code, recipe.licence.weights,
            recipe.licence.commercial_use, recipe.licence.data, recipe.input.size, recipe.weights.parameters,
            recipe.weights.bytes, fault, recipe.name == DEFAULT, ms, where, precision))
    return rows


def measure(name: str = "default", *, device: str = "auto", threads: int | None = None) -> float:
    """Loads an engine and returns the median milliseconds it takes for one crop; remembered for `list_engines`."""
    return _speed(_recipe(name), device, threads)[0]


def _speed(recipe: Recipe, device: str, threads: int | None) -> tuple[float, str, str]:
    engine = LoadedEngine(recipe, device=device, threads=threads)
    try:
        return engine.measure(), engine.device, engine.precision
    finally:
        engine.close()


def _known_speed(recipe: Recipe, device: str) -> tuple[float, str, str] | None:
    """What an earlier load remembered; the same order of choice as `_open`."""
    if device != "onnx":
        try:
            from rtface.engine import openvino
        except ImportError:
            if device == "cpu":
                return None
        else:
            for precision in candidates(recipe, openvino.supported()):
                verdict = recall(openvino.identify(recipe, precision))
                if verdict is not None and verdict.passed:
                    return verdict.ms, "cpu", precision
            return None
    from rtface.engine import onnx
    verdict = recall(onnx.identify(recipe, "f32"))
    return (verdict.ms, "onnx", "f32") if verdict is not None and verdict.passed else None


# A face's box is about 2.26 times as wide as its eyes are apart, and in the FFHQ template they are 126/512 of the crop
# apart: a face up to 142 px wide fits into a 256 crop without being made smaller. A little more is not seen.
_SMALL_FACE = 160.0


def choose_engine(face_width: float, faces: int, budget_s: float, ms: Mapping[str, float]) -> tuple[str, str]:
    """Which engine a face gets under ``--engine auto``, and why.

    Args:
        face_width: of the face's box, display pixels.
        faces: how many faces share the frame's budget.
        budget_s: seconds that engines may take for one frame; infinity where time does not matter.
        ms: milliseconds a crop of each engine that is loaded.
    """
    if DEFAULT not in ms or SMALL not in ms:
        name = next(iter(ms))
        return name, "the only one loaded"
    if face_width <= _SMALL_FACE:
        return SMALL, f"a face of {face_width:.0f} px fits its crop"
    needed = 1e-3 * ms[DEFAULT] * max(faces, 1)
    if needed <= budget_s:
        return DEFAULT, f"a face of {face_width:.0f} px, and there is time"
    return SMALL, f"{faces} faces would take {1e3 * needed:.0f} ms of {1e3 * budget_s:.0f} ms"


# What engines may take of one frame under ``--engine auto``: with tracking and correction beside it, some 20 frames a
# second stay possible.
AUTO_BUDGET_S = 0.040


class EngineSet:
    """The engines of one run: one by name, or for "auto" the small and the large one, chosen face by face."""

    def __init__(self, name: str = "default", *, device: str = "auto", threads: int | None = None) -> None:
        """Loads what `name` needs; raises as `load_engine`."""
        self._device, self._threads = device, threads
        self.engines: dict[str, LoadedEngine] = {}
        try:
            self._own = [self.named(wanted).name for wanted in ((DEFAULT, SMALL) if name == "auto" else (name,))]
        except BaseException:
            self.close()
            raise
        # The speeds at loading, not the latest ones: the same film gets the same engines throughout.
        self._ms = {n: self.engines[n].ms for n in self._own}

    def pick(self, face_width: float, faces: int = 1, budget_s: float = AUTO_BUDGET_S) -> LoadedEngine:
        """The engine for one of `faces` faces on a picture (see `choose_engine`)."""
        name, _ = choose_engine(face_width, faces, budget_s, self._ms)
        return self.engines[name]

    def named(self, name: str) -> LoadedEngine:
        """An engine by name, loaded on first use; raises as `load_engine`."""
        wanted = DEFAULT if name == "default" else name
        if wanted not in self.engines:
            engine = load_engine(wanted, device=self._device, threads=self._threads)
            self.engines[wanted] = engine
            log.info("%s", engine.reason)
        return self.engines[wanted]

    @property
    def described(self) -> tuple[str, str]:
        """For reports: the engines' names, and where each runs, as "rtface-m" and "cpu bf16"."""
        loaded = list(self.engines.values())
        return "+".join(e.name for e in loaded), "+".join(dict.fromkeys(f"{e.device} {e.precision}" for e in loaded))

    def close(self) -> None:
        """Frees every network; safe to call twice."""
        for engine in self.engines.values():
            engine.close()
