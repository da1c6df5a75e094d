"""``rtface engines``: every engine here, what it may be used for, whether it is whole, and how fast it is."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any
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
        name, version, summary: from the recipe.
        licence_code, licence_weights, commercial_use, data: what it may be used for.
        size: side of the crop in pixels.
        parameters, bytes: of the weights.
        fault: None when the weights are there and unchanged, else what is wrong with them or with the recipe.
        default: whether ``--engine default`` means this one.
        ms: least milliseconds of a crop on this machine, None when not measured yet.
        device, precision: how that was run, None with it.
        family: what kind of network it is: CNN, GAN, transformer, codebook or diffusion.
        terms: more about its licence.
        origin: where it comes from: "rtface", the host or the file that it was added from, or the user's folder.
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
        """Licence of code and weights, as `Licence.shown`."""
        return Licence(self.licence_code, self.licence_weights, self.commercial_use, self.data).shown

    def to_json(self) -> dict[str, Any]:
        """All attributes as a table."""
        return asdict(self)


def list_engines(
    *, measure: bool = False, device: str = "auto", threads: int | None = None, commercial_use: bool = False
) -> list[EngineInfo]:
    """Every engine found here; a broken one is a row with its `fault`, not an error. With `commercial_use` those that
    may not be used so are left out.

    With `measure` each is loaded and timed now; without, speed is what the last load on this machine found. Raises
    UsageError and MissingComponent for a `device` that cannot be used.
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
                speed = _speed(recipe, device, threads) if measure else _known_speed(recipe, device)
            except (EngineError, MissingComponent) as error:
                fault = str(error)
        ms, where, precision = speed or (None, None, None)
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
                where,
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
    """Opens the GPU for it: the kernels, the engine's plan (built where there is none kept), and a warm-up."""
    from rtface.engine.cuda.open import open_gpu_engine

    with ExitStack() as stack:
        streams, number = driver.take(device)
        stack.callback(streams.close)
        engine = open_gpu_engine(streams, recipe, number)
        stack.callback(engine.close)
        return engine.ms, engine.device, engine.precision


def _known_speed(recipe: Recipe, device: str) -> _Speed | None:
    """What an earlier load remembered; the same order of choice as `rtface.engine.backends.choose.open_engine`."""
    if device.startswith("cuda"):  # only the GPU could say
        return None
    for name in order(device):
        try:
            backend = find(name)
        except MissingComponent:
            continue
        found = {p: recall(backend.identify(recipe, p)) for p in candidates(recipe, backend.supported())}
        for precision, verdict in found.items():
            if verdict is not None and verdict.passed:
                return verdict.ms, backend.device, precision
        if None in found.values():  # not tried yet
            return None
    return None
