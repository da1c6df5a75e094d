"""``rtface engines``: lists all engines with licence, integrity and speed."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

from rtface.engine.backends.choose import check_device, find, order
from rtface.engine.cuda import driver
from rtface.engine.engine_set import DEFAULT
from rtface.engine.golden import candidates, recall
from rtface.engine.host_engine import HostEngine
from rtface.engine.recipe import SHIPPED, Recipe, find_recipes, load_recipe
from rtface.engine.recipe_tables import Licence
from rtface.errors import EngineError, MissingComponent

_Speed = tuple[float, str, str]  # milliseconds, device, precision


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """One row of ``rtface engines``.

    Attributes:
        name, version, summary: the recipe's texts.
        licence_code, licence_weights, commercial_use, data: the recipe's licence; see `Licence`.
        size: side of the crop in pixels.
        parameters: number of parameters.
        bytes: size of the weights file.
        fault: fault of the weights or the recipe; None if the weights exist and are unchanged.
        default: whether ``--engine default`` selects the engine.
        ms: minimum milliseconds per crop on this machine; None if not measured yet.
        device, precision: device and precision of that measurement; None if there is none.
        family: kind of network: CNN, GAN, transformer, codebook or diffusion.
        terms: additional terms of the licence.
        origin: "rtface", the host or file that the engine was added from, or the user's folder.
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
    family: str = ""
    terms: str = ""
    origin: str = ""

    @property
    def licence(self) -> str:
        """Licence of code and weights, like `Licence.shown`."""
        return Licence(self.licence_code, self.licence_weights, self.commercial_use, self.data).shown


def list_engines(
    *, measure: bool = False, device: str = "auto", threads: int | None = None, commercial_use: bool = False
) -> list[EngineInfo]:
    """Lists every engine. For a broken engine, the row has a `fault`. `commercial_use` omits engines that
    forbid commercial use.

    With `measure`, each engine is loaded and timed now; otherwise, the speed is that of its last load on this machine.
    Raises UsageError and MissingComponent for an unusable `device`.
    """
    if device != "auto":
        if not check_device(device).startswith("cuda"):
            find(device)
        else:
            driver.check(int(device.partition(":")[2] or 0))
    rows: list[EngineInfo] = []
    for name, path in find_recipes().items():
        try:
            recipe = load_recipe(path)
            if commercial_use and not recipe.licence.commercial_use:
                continue
            fault = recipe.fault()
        except EngineError as error:
            rows.append(EngineInfo(name, fault=str(error), default=name == DEFAULT))
            continue
        speed: _Speed | None = None
        if fault is None:
            try:
                speed = _speed(recipe, device, threads) if measure else _cached_speed(recipe, device)
            except (EngineError, MissingComponent) as error:
                fault = str(error)
        ms, speed_device, precision = speed or (None, None, None)
        rows.append(
            EngineInfo(
                recipe.name,
                recipe.version,
                recipe.summary,
                recipe.licence.code,
                recipe.licence.weights,
                recipe.licence.commercial_use,
                recipe.licence.data,
                recipe.input.size,
                recipe.weights.parameters,
                recipe.weights.bytes,
                fault,
                recipe.name == DEFAULT,
                ms,
                speed_device,
                precision,
                recipe.family,
                recipe.licence.terms,
                _origin(recipe),
            )
        )
    return rows


def _origin(recipe: Recipe) -> str:
    if recipe.folder.parent == SHIPPED:
        return "rtface"
    if recipe.source is None:
        return str(recipe.folder)
    return urlsplit(recipe.source.url).hostname or recipe.source.file


def _speed(recipe: Recipe, device: str, threads: int | None) -> _Speed:
    if check_device(device).startswith("cuda"):
        return _speed_on_gpu(recipe, device)
    engine = HostEngine(recipe, device=device, threads=threads)
    try:
        return engine.measure(), engine.device, engine.precision
    finally:
        engine.close()


def _speed_on_gpu(recipe: Recipe, device: str) -> _Speed:
    """Measures an engine on a GPU. Opens the GPU, its kernels and the engine's plan (built if not cached)."""
    from rtface.engine.cuda.open import open_gpu_engine

    with ExitStack() as stack:
        streams, number = driver.take(device)
        stack.callback(streams.close)
        engine = open_gpu_engine(streams, recipe, number)
        stack.callback(engine.close)
        return engine.ms, engine.device, engine.precision


def _cached_speed(recipe: Recipe, device: str) -> _Speed | None:
    """Returns the cached speed, in the order of `rtface.engine.backends.choose.open_engine`."""
    if device.startswith("cuda"):  # only an open GPU gives the identity of its plans
        return None
    for name in order(device):
        try:
            backend = find(name)
        except MissingComponent:
            continue
        verdicts = {p: recall(backend.identify(recipe, p)) for p in candidates(recipe, backend.supported())}
        for precision, verdict in verdicts.items():
            if verdict is not None and verdict.passed:
                return verdict.ms, backend.device, precision
        if None in verdicts.values():  # not tried yet
            return None
    return None
