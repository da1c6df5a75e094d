"""Engines by name: what is there, which one suits a face, and loading it ready to run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

from rtface.engine import cuda
from rtface.engine.backends import check_device, find, order
from rtface.engine.loaded import LoadedEngine
from rtface.engine.plan import candidates, recall
from rtface.engine.recipe import SHIPPED, Licence, Recipe, find_recipes, load_recipe
from rtface.errors import EngineError, MissingComponent, UsageError
from rtface.protocols import Engine
from rtface.tables import nearest

log = logging.getLogger("rtface")

DEFAULT = "rtface-m"
SMALL = "rtface-s"


@dataclass(frozen=True, slots=True)
class Asked:
    """Which engine a run asks for.

    Attributes:
        name: an engine's name, "default" or "auto".
        fidelity: what that control is turned to, 0…1; None leaves it at the engine's own.
        commercial_use: whether engines that may not be used commercially are refused.
    """

    name: str = "default"
    fidelity: float | None = None
    commercial_use: bool = False


def load_engine(name: str = "default", *, device: str = "auto", threads: int | None = None) -> LoadedEngine:
    """Loads an engine, checks it against its golden crops and warms it up.

    Args:
        name: an engine's name, or "default" (`DEFAULT`).
        device: where it runs, one of `rtface.values.DEVICES` but "cuda", whose engines take crops that lie on the card
            (`EngineSet` with `rtface.engine.card_open`); "auto" is OpenVINO on the CPU, else ONNX Runtime.
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
    if name == "auto":
        raise UsageError('"auto" is not one engine but a choice for every face; open it with EngineSet("auto")')
    valid = ["auto", "default", *recipes]
    raise UsageError(f"unknown engine {name!r}{nearest(name, valid)}; there is: {', '.join(valid)}; 'rtface engines "
                     "offers' lists what can be added")


def check_commercial(recipe: Recipe) -> None:
    """Raises UsageError for an engine that may not be used commercially, naming its licence and what may."""
    licence = recipe.licence
    if licence.commercial_use:
        return
    allowed = [r.name for r in _readable() if r.licence.commercial_use]
    raise UsageError(f"engine {recipe.name} may not be used commercially ({licence.shown}), and commercial-use is on; "
                     f"allowed are: {', '.join(allowed) or 'none that is here'}")


def _check_fidelity(recipes: list[Recipe]) -> None:
    if any(recipe.controls.fidelity for recipe in recipes):
        return
    having = [r.name for r in _readable() if r.controls.fidelity]
    raise UsageError(f"engine {' and '.join(r.name for r in recipes)} has no fidelity to turn; leave it away"
                     + (f", or choose --engine {' or '.join(having)}" if having else ""))


def _readable() -> list[Recipe]:
    """The recipes of all engines here, without those that are broken."""
    found: list[Recipe] = []
    for path in find_recipes().values():
        with suppress(EngineError):
            found.append(load_recipe(path))
    return found


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
        """Of code and weights, as `Licence.shown`."""
        return Licence(self.licence_code, self.licence_weights, self.commercial_use, self.data).shown

    def to_json(self) -> dict[str, Any]:
        """All attributes as a table."""
        return asdict(self)


def list_engines(*, measure: bool = False, device: str = "auto", threads: int | None = None,
                 commercial_use: bool = False) -> list[EngineInfo]:
    """Every engine found here; a broken one is a row with its `fault`, not an error. With `commercial_use` those that
    may not be used so are left out.

    With `measure` each is loaded and timed now; without, speed is what the last load on this machine found. Raises
    UsageError and MissingComponent for a `device` that cannot be used.
    """
    if device != "auto":
        if not check_device(device).startswith("cuda"):
            find(device)
        elif (reason := cuda.unusable(int(device.partition(":")[2] or 0))) is not None:
            raise MissingComponent(f"CUDA is not usable here because {reason}")
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
            recipe.weights.bytes, fault, recipe.name == DEFAULT, ms, where, precision, recipe.family,
            recipe.licence.terms, _origin(recipe)))
    return rows


def _origin(recipe: Recipe) -> str:
    if recipe.folder.parent == SHIPPED:
        return "rtface"
    if recipe.source is None:
        return str(recipe.folder)
    return urlsplit(recipe.source.url).hostname or recipe.source.file


def remembers(name: str) -> bool:
    """Whether an engine, "default" or "auto" has a memory of its own; raises as `load_engine`."""
    return name in ("default", "auto") or _recipe(name).recurrent


def measure(name: str = "default", *, device: str = "auto", threads: int | None = None) -> float:
    """Loads an engine and returns the median milliseconds it takes for one crop; remembered for `list_engines`."""
    return _speed(_recipe(name), device, threads)[0]


def _speed(recipe: Recipe, device: str, threads: int | None) -> tuple[float, str, str]:
    if check_device(device).startswith("cuda"):
        return _speed_on_card(recipe, device)
    engine = LoadedEngine(recipe, device=device, threads=threads)
    try:
        return engine.measure(), engine.device, engine.precision
    finally:
        engine.close()


def _speed_on_card(recipe: Recipe, device: str) -> tuple[float, str, str]:
    """Opens the card for it: the kernels, the engine's plan (built where there is none kept), and a warm-up."""
    from rtface.engine.card_open import open_card_engine
    with ExitStack() as stack:
        owner, number = cuda.take(device)
        stack.callback(owner.close)
        engine = open_card_engine(owner, recipe, number)
        stack.callback(engine.close)
        return engine.ms, engine.device, engine.precision


def _known_speed(recipe: Recipe, device: str) -> tuple[float, str, str] | None:
    """What an earlier load remembered; the same order of choice as `rtface.engine.backends.open_engine`."""
    if device.startswith("cuda"):  # only the card could say
        return None
    for name in order(device):
        try:
            backend = find(name)
        except MissingComponent:
            continue
        found = {p: recall(backend.identify(recipe, p)) for p in candidates(recipe, backend.supported(), backend.mixed)}
        for precision, verdict in found.items():
            if verdict is not None and verdict.passed:
                return verdict.ms, backend.device, precision
        if None in found.values():  # not tried yet
            return None
    return None


# A face's box is about 2.26 times as wide as its eyes are apart, and in the FFHQ template they are 126/512 of the crop
# apart: a face up to 142 px wide fits into a 256 crop without being made smaller. A little more is not seen.
_SMALL_FACE = 160.0
# What engines may take of a frame under "auto": twenty pictures a second with everything else beside it.
_BUDGET_S = 0.05


def choose_engine(face_width: float, faces: int, ms: Mapping[str, float], *, budget_s: float = _BUDGET_S,
                  current: str | None = None) -> str:
    """Which engine a face gets under ``--engine auto``: the small one for small faces, and where time is short.

    Args:
        face_width: of the face's box, display pixels.
        faces: how many faces share the frame's budget.
        ms: milliseconds a crop of the small and of the large engine.
        budget_s: seconds that engines may take for one frame.
        current: the engine that this face has, which it keeps until its width is 15 % past the border.
    """
    border = _SMALL_FACE * {DEFAULT: 0.85, SMALL: 1.15}.get(current or "", 1.0)
    if face_width <= border or 1e-3 * ms[DEFAULT] * faces > budget_s:
        return SMALL
    return DEFAULT


class RunningEngine(Engine, Protocol):
    """What a run needs of its engines, wherever they are; see `LoadedEngine`."""

    @property
    def device(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def ms(self) -> float: ...
    @property
    def reason(self) -> str: ...


class EngineSet:
    """The engines of one run: one by name, or for "auto" the small and the large one, chosen face by face.

    Attributes:
        engines: all that are loaded, by name.
    """

    def __init__(self, asked: Asked | str = "default", *, device: str = "auto", threads: int | None = None,
                 opener: Callable[[Recipe], RunningEngine] | None = None) -> None:
        """Loads what `asked` needs, by `opener` where one is given (engines on a card).

        Raises as `load_engine`; UsageError also for an engine that may not be used commercially where that is asked
        for, and for `fidelity` where the engine has no such control.
        """
        self._asked = Asked(asked) if isinstance(asked, str) else asked
        name = self._asked.name

        def load(recipe: Recipe) -> RunningEngine:
            return LoadedEngine(recipe, device=device, threads=threads)

        self._opener = opener or load
        self.engines: dict[str, RunningEngine] = {}
        names = (DEFAULT, SMALL) if name == "auto" else (name,)
        if self._asked.fidelity is not None:
            _check_fidelity([_recipe(wanted) for wanted in names])
        try:
            self._chosen = tuple(self.named(wanted) for wanted in names)
        except BaseException:
            self.close()
            raise

    def named(self, name: str) -> RunningEngine:
        """The engine of that name, loaded when it is not yet; raises as `load_engine`, and UsageError where it may not
        be used commercially and that is asked for."""
        name = DEFAULT if name == "default" else name
        if name not in self.engines:
            recipe = _recipe(name)
            if self._asked.commercial_use:
                check_commercial(recipe)
            if recipe.controls.fidelity is not None:
                recipe = replace(recipe, fidelity=self._asked.fidelity)
            self.engines[name] = self._opener(recipe)
            log.info("%s", self.engines[name].reason)
        return self.engines[name]

    def pick(self, face_width: float, faces: int = 1, current: str | None = None) -> RunningEngine:
        """The engine for one face of the frame; see `choose_engine`."""
        if len(self._chosen) == 1:
            return self._chosen[0]
        return self.engines[choose_engine(face_width, faces, {e.name: e.ms for e in self._chosen}, current=current)]

    @property
    def described(self) -> tuple[str, str]:
        """Names and device for the report, as ("rtface-m", "cpu (openvino 2026.4.1, bf16)")."""
        devices = dict.fromkeys(f"{e.device} ({e.backend}, {e.precision})" for e in self._chosen)
        return "+".join(e.name for e in self._chosen), ", ".join(devices)

    def close(self) -> None:
        """Closes all; safe to call twice."""
        for engine in self.engines.values():
            engine.close()
