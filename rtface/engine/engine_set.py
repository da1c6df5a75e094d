"""Loads engines by name, and chooses the engine for a face."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rtface.engine.host_engine import HostEngine
from rtface.engine.learned import MARK, path_of, read
from rtface.engine.learned import names as learned_names
from rtface.engine.recipe import Recipe, find_recipes, load_recipe, of_person, unknown_engine
from rtface.errors import EngineError, Message, MissingComponent, UsageError, log
from rtface.protocols import Engine, Engines
from rtface.util.install import reinstall_line

if TYPE_CHECKING:
    from rtface.engine.cuda.engine import GpuEngine


RunningEngine: TypeAlias = "HostEngine | GpuEngine"

DEFAULT = "rtface-m"
LIGHT = "rtface-s"
VIVID = "rtface-m-vivid"
"""Replaces `DEFAULT` in a run with a fidelity below `_VIVID_BELOW`."""
_VIVID_BELOW = 0.5


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """The engine that a run requests.

    Attributes:
        name: an engine's name, "default" or "auto".
        fidelity: the look's fidelity, 0…1, for engines with a fidelity control; None selects the engine's default.
        commercial_use: whether to reject engines that forbid commercial use.
        persons: weights files of the persons whose faces are restored with these weights.
    """

    name: str = "default"
    fidelity: float | None = None
    commercial_use: bool = False
    persons: tuple[Path, ...] = ()


def load_engine(name: str = "default", *, device: str = "auto", threads: int | None = None) -> HostEngine:
    """Loads an engine, checks it against its golden crops, and warms up.

    Args:
        name: an engine's name, or "default" (`DEFAULT`).
        device: one of `rtface.util.parse.DEVICES` except "cuda", whose engines use crops in GPU memory (`EngineSet`
            with `rtface.engine.cuda.open`); "auto" is OpenVINO on the CPU, else ONNX Runtime.
        threads: cores that the engine may use; None means all cores of this process.

    Raises:
        UsageError: unknown name or device.
        MissingComponent: weights, golden crops or the device's package are missing.
        EngineError: the network does not match its reference in any precision.
    """
    return HostEngine(recipe_named(name), device=device, threads=threads)


def recipe_named(name: str) -> Recipe:
    """Loads the recipe of an engine, by name or "default". A name like "rtface-m@anna" selects that person's weights.
    Raises like `load_engine`, and InputError if no weights were learnt for the person."""
    recipes = find_recipes()
    name, _, person = name.partition(MARK)
    if person:
        return of_person(recipe_named(name), read(path_of(person)))
    resolved = DEFAULT if name == "default" else name
    if resolved in recipes:
        return load_recipe(recipes[resolved])
    if name == "default":
        raise MissingComponent(
            "the default engine {name} is missing; repair it with: {repair}, or choose {--engine}",
            code="default_engine",
            name=DEFAULT,
            repair=reinstall_line(),
        )
    if name == "auto":
        raise UsageError(
            '"auto" is not one engine but a choice for every face; open it with EngineSet("auto")',
            code="auto_is_choice",
        )
    raise unknown_engine(name)


def engine_names(name: str, fidelity: float | None = None) -> tuple[str, ...]:
    """Returns the engines that ``--engine`` `name` and the look's fidelity select."""
    large = VIVID if fidelity is not None and fidelity < _VIVID_BELOW else DEFAULT
    return {"auto": (large, LIGHT), "default": (large,)}.get(name, (name,))


def engines_of_look(name: str, fidelity: float | None) -> list[tuple[str, dict[str, float]]]:
    """Returns the engines for a look, with their controls' positions."""
    recipes = [_with_fidelity(recipe_named(engine), fidelity) for engine in engine_names(name, fidelity)]
    return [(recipe.name, recipe.constants) for recipe in recipes]


def is_here(engine: str) -> bool:
    """Returns whether an engine is installed. The weights of the person in its name must exist, too."""
    name, _, person = engine.partition(MARK)
    return name in find_recipes() and (not person or person in learned_names())


_PERSONAL = (DEFAULT, LIGHT)
"""The engines that support weights of persons."""


def names_of_persons(engines: Iterable[str], persons: Iterable[str]) -> list[str]:
    """Returns names of engines with persons' weights. Skips `engines` that do not support such weights."""
    supporting = [name for name in _resolved_names(engines) if name in _PERSONAL]
    return [f"{name}{MARK}{person.lower()}" for name in supporting for person in persons]


def _resolved_names(engines: Iterable[str]) -> list[str]:
    """Returns distinct engine names, with "default" resolved."""
    return list(dict.fromkeys(DEFAULT if name == "default" else name for name in engines))


def check_persons(engines: Iterable[str], persons: Iterable[str]) -> None:
    """Raises like a run if persons' weights are missing or unfit."""
    person_names, engines = list(persons), list(engines)
    for name in person_names:
        read(path_of(name))
    for name in names_of_persons(engines, person_names):
        recipe_named(name)


def without_persons(engines: Iterable[str], persons: Sequence[str]) -> Message | None:
    """Returns a note if some `engines` ignore persons' weights; else None."""
    if not persons or not (unsupporting := [name for name in _resolved_names(engines) if name not in _PERSONAL]):
        return None
    return Message(
        "the weights learnt for {person} have no effect on faces that {engine} restores: they only fit {fits}; choose "
        "one of these by {--engine}, without {--look:vivid}",
        code="person_unused",
        person=", ".join(persons),
        engine=", ".join(unsupporting),
        fits=", ".join(_PERSONAL),
    )


def check_allowed(recipe: Recipe, *, commercial_use: bool) -> None:
    """Raises UsageError for an engine that `commercial_use` forbids. The message lists licence and allowed engines."""
    licence = recipe.licence
    if licence.commercial_use or not commercial_use:
        return
    allowed = [r.name for r in _load_recipes() if r.licence.commercial_use]
    raise UsageError(
        "engine {name} may not be used commercially ({licence}), and commercial-use is on; allowed engines: {engines}",
        code="engine_licence_use",
        name=recipe.name,
        licence=licence.shown,
        engines=", ".join(allowed) or Message("none is installed", code="none_here"),
    )


def _with_fidelity(recipe: Recipe, fidelity: float | None) -> Recipe:
    """Sets a recipe's fidelity control, if any. `VIVID` covers only the lower half of the look's scale."""
    if recipe.controls.fidelity is None or fidelity is None:
        return recipe
    return replace(recipe, fidelity=min(1.0, fidelity / _VIVID_BELOW) if recipe.name == VIVID else fidelity)


def inventive_engines() -> frozenset[str]:
    """Returns the names of engines whose family invents faces."""
    return frozenset(recipe.name for recipe in _load_recipes() if recipe.family != "CNN")


def _load_recipes() -> list[Recipe]:
    """Loads the recipes of all engines except broken ones."""
    recipes: list[Recipe] = []
    for path in find_recipes().values():
        with suppress(EngineError):
            recipes.append(load_recipe(path))
    return recipes


# A face's box is about 2.26 times as wide as the distance between its eyes, which is 126/512 of the crop in the FFHQ
# template. A face up to 142 px wide therefore fits into a 256 crop without shrinking. Slight shrinking is invisible.
_SMALL_FACE_PX = 160.0
# Time per frame for engines under "auto". It allows twenty frames per second, including all other work.
_BUDGET_S = 0.05


def needs_large_engine(face_width: float, faces: int, ms: float, *, large: bool | None = None) -> bool:
    """Returns whether a face gets the larger engine under ``--engine auto``.

    Small faces get the smaller engine. In a live run, all faces get it if time is short.

    Args:
        face_width: width of the face's box in display pixels.
        faces: number of faces that share a live frame's budget. For films it is 0: the measured speed is then ignored,
            because a film's result must not depend on the computer's load.
        ms: milliseconds per crop of the large engine.
        large: whether this face has the large engine now; None for a new face. A face keeps its engine until its width
            is 15 % past the threshold.
    """
    threshold = _SMALL_FACE_PX * (1.0 if large is None else 0.85 if large else 1.15)
    return face_width > threshold and 1e-3 * ms * faces <= _BUDGET_S


class EngineSet:
    """The `engines` of one run, by name. With "auto", there are two, and each face is restored by one of them."""

    def __init__(
        self,
        request: EngineRequest | str = "default",
        *,
        device: str = "auto",
        threads: int | None = None,
        background_threads: int | None = None,
        at_once: int = 1,
        deferred: bool = False,
        opener: Callable[[Recipe], RunningEngine] | None = None,
    ) -> None:
        """Loads the engines of `request`, by default on the host. For GPU engines, `opener` loads them.

        Recurrent engines use `threads` cores for each of `at_once` crops; others `background_threads` (default:
        `threads`) for one at a time. With `deferred`, networks checked earlier are compiled for their first crop.

        Raises like `load_engine` and `check_allowed`.
        """
        self._request = EngineRequest(request) if isinstance(request, str) else request
        name = self._request.name

        def load(recipe: Recipe) -> RunningEngine:
            cores, plans = (threads, at_once) if recipe.recurrent else (background_threads or threads, 1)
            return HostEngine(recipe, device=device, threads=cores, at_once=plans, deferred=deferred)

        self._opener = opener or load
        self.engines: dict[str, RunningEngine] = {}
        names = engine_names(name, self._request.fidelity)
        try:
            self._chosen = tuple(self.named(engine_name) for engine_name in names)
            self._open_persons(*self._chosen)
        except BaseException:
            self.close()
            raise

    def named(self, name: str) -> RunningEngine:
        """Returns the engine `name`, and loads it if necessary. Raises like `load_engine` and `check_allowed`."""
        name = DEFAULT if name == "default" else name
        if MARK in name:  # persons are selected only by the request
            raise unknown_engine(name)
        if name not in self.engines:
            self._open(name, _with_fidelity(recipe_named(name), self._request.fidelity))
        return self.engines[name]

    def _open(self, name: str, recipe: Recipe) -> None:
        check_allowed(recipe, commercial_use=self._request.commercial_use)
        self.engines[name] = self._opener(recipe)
        log.info("%s", self.engines[name].reason)

    def prepare(self, name: str) -> None:
        """Loads an engine in advance, with persons' weights. Raises like `named`."""
        self._open_persons(self.named(name))

    def _open_persons(self, *engines: RunningEngine) -> None:
        """Loads the engines of persons before the first frame."""
        for path in self._request.persons:
            learned = read(path)
            for engine in (e for e in engines if e.name in _PERSONAL):
                recipe = of_person(recipe_named(engine.name), learned)
                if recipe.name not in self.engines:
                    self._open(recipe.name, recipe)

    def of_person(self, engine: Engine, person: str) -> Engine:
        """Returns the engine with a person's weights. Returns `engine` itself if those are not loaded."""
        return self.engines.get(f"{engine.name}{MARK}{person.lower()}", engine)

    def pick(self, face_width: float, faces: int = 0, current: str | None = None) -> RunningEngine:
        """Chooses the engine for one face of the frame (`needs_large_engine`)."""
        if len(self._chosen) == 1:
            return self._chosen[0]
        large, small = self._chosen
        has_large = current == large.name if current in (large.name, small.name) else None
        return large if needs_large_engine(face_width, faces, large.ms, large=has_large) else small

    @property
    def described(self) -> tuple[str, str]:
        """Names and device for the report: ("rtface-m", "cpu (openvino 2026.4.1, bf16, 3 threads)")."""
        devices = dict.fromkeys(
            f"{e.device} ({', '.join(filter(None, (e.backend, e.precision, e.threads)))})" for e in self._chosen
        )
        return "+".join(e.name for e in self._chosen), ", ".join(devices)

    def close(self) -> None:
        """Closes all engines. Safe to call twice."""
        for engine in self.engines.values():
            engine.close()


def open_light(engines: Engines) -> None:
    """Loads the light engine, with persons' weights if the engine supports them."""
    (engines.prepare if engines.pick(0.0).name in _PERSONAL else engines.named)(LIGHT)
