"""Reads recipes, which describe engines as data.

A recipe is a folder with ``recipe.toml``, the network (ONNX) and its golden crops (npz). Shipped recipes are
in ``engines/shipped/<name>``, the user's in ``<config folder>/engines/<name>``. Keys are strict: the error for an
unknown key suggests the nearest valid key, and the error for a missing key contains its name.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rtface.engine.learned import BASE, MARK, Learned
from rtface.engine.recipe_tables import (
    Alignment,
    Batch,
    CropRegion,
    EngineControls,
    Family,
    Golden,
    Licence,
    Output,
    Port,
    Precisions,
    Psnr,
    RecurrentTensors,
    SourceFile,
    WeightsFile,
)
from rtface.engine.weights import weights_fault
from rtface.errors import EngineError, MissingComponent, UsageError
from rtface.util.install import reinstall_line
from rtface.util.paths import config_dir
from rtface.util.spelling import hint
from rtface.util.text import brief
from rtface.util.toml_dataclass import from_table

NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"
"""Valid names of engines, which become parts of paths."""
_PACKAGE = Path(__file__).resolve().parent.parent
SHIPPED = packed if (packed := _PACKAGE / "models").is_dir() else _PACKAGE.parent / "engines" / "shipped"
"""The folder of shipped engines: in a wheel, inside the package; in a clone, next to it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One engine; see the module. The file contains all attributes except these.

    Attributes:
        folder: folder of the engine's files.
        digest: SHA-256 (hex) of ``recipe.toml``.
        fidelity: value of the fidelity control; None for its default.
        learned: weights of a person (see `of_person`); None for the engine's own.
    """

    name: str
    version: str
    summary: str
    licence: Licence
    weights: WeightsFile
    input: Port
    output: Output
    golden: Golden
    kind: Literal["restorer"] = "restorer"
    family: Family = "CNN"
    memory: RecurrentTensors | None = None
    alignment: Alignment = field(default_factory=Alignment)
    batch: Batch = field(default_factory=Batch)
    precision: Precisions = field(default_factory=Precisions)
    controls: EngineControls = field(default_factory=EngineControls)
    source: SourceFile | None = None
    folder: Path = Path()
    digest: str = ""
    fidelity: float | None = None
    learned: Learned | None = None

    @property
    def recurrent(self) -> bool:
        """True if the engine has a state for each face."""
        return self.memory is not None

    @property
    def vivid(self) -> bool:
        """True if the engine invents detail: it has a fidelity control, or its family is not CNN."""
        return self.family != "CNN" or self.controls.fidelity is not None

    @property
    def region(self) -> CropRegion:
        """The part of the crop that the network processes: x, y, width, height."""
        return self.input.region or (0, 0, self.input.size, self.input.size)

    @property
    def shrink(self) -> int:
        """The factor by which the recurrent memory is smaller than the crop."""
        return self.input.size // self.memory.grid if self.memory is not None and self.memory.grid else 1

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """The network's float32 inputs for one crop: shapes without the batch, by tensor name."""
        *_, w, h = self.region
        shapes: dict[str, tuple[int, ...]] = {self.input.name: (3, h, w)}
        if (memory := self.memory) is not None:
            small = (3, h // self.shrink, w // self.shrink)
            shapes |= {memory.past: small, memory.known: (1, 1, 1)}
            if self.shrink > 1:
                shapes[memory.shrunk] = small
            if memory.shape:
                shapes[memory.state] = memory.shape
        return shapes | dict.fromkeys(self.constants, (1,))

    @property
    def constants(self) -> dict[str, float]:
        """Inputs (N×1) with the same value for all crops: values by tensor name."""
        control = self.controls.fidelity
        if control is None:
            return {}
        return {control.name: control.default if self.fidelity is None else self.fidelity}

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """The network's float32 outputs, like `inputs`."""
        *_, w, h = self.region
        shapes: dict[str, tuple[int, ...]] = {self.output.name: (3, h, w)}
        if (memory := self.memory) is not None:
            if self.shrink > 1:
                shapes[memory.kept] = (3, h // self.shrink, w // self.shrink)
            if memory.shape:
                shapes[memory.next] = memory.shape
            if memory.heads:
                shapes |= dict.fromkeys((memory.log_scale, memory.occlusion), (1, *memory.maps))
        return shapes

    @property
    def model_path(self) -> Path:
        return self.folder / self.weights.file

    @property
    def network(self) -> Path | bytes:
        """The network's file; with a person's weights, the network's bytes."""
        if self.learned is None:
            return self.model_path
        base = load_recipe(SHIPPED / BASE / "recipe.toml")
        base.check_weights()
        return self.learned.adapted(self.model_path.read_bytes(), base.model_path.read_bytes())

    @property
    def golden_path(self) -> Path:
        return self.folder / self.golden.file

    def fault(self, *, reread: bool = False) -> str | None:
        """Checks the weights like `weights_fault`. Returns a fault or None."""
        return weights_fault(self.model_path, self.weights.bytes, self.weights.sha256, reread=reread)

    @property
    def repair_line(self) -> str:
        """The command that restores damaged weights."""
        return f"rtface engines add {self.name} --overwrite" if self.source else reinstall_line(self.model_path)

    def check_weights(self) -> None:
        """Raises MissingComponent if the weights differ from the recipe's."""
        if fault := self.fault():
            raise MissingComponent(
                "engine {name}: weights {path} {fault}; repair it with: {repair}, or restore the file",
                code="weights_wrong",
                name=self.name,
                path=self.model_path,
                fault=fault,
                repair=self.repair_line,
            )


LEARNED_PSNR = 30.0
"""Minimum PSNR in dB of a person's weights against the engine's golden answers, because they must not change other
people's faces much. Networks that collapse in reduced precision are below 20 dB."""


def of_person(recipe: Recipe, learned: Learned) -> Recipe:
    """Returns an engine with the weights of a person.

    Raises:
        UsageError: the person's weights were learnt for other base weights, or the engine is not a shipped one.
    """
    if recipe.folder.parent != SHIPPED:
        raise UsageError(
            "the weights learnt for {person} need rtface's own {engine}, which {folder} replaces; remove that folder, "
            "or leave out {--person}",
            code="learnt_engine",
            person=learned.name,
            folder=recipe.folder,
            engine=recipe.name,
        )
    base = load_recipe(SHIPPED / BASE / "recipe.toml")
    if learned.meta.get("base") != base.weights.sha256:
        raise UsageError(
            "the weights learnt for {person} belong to another version of {base}; learn again with: "
            "rtface learn {person} SOURCE {--overwrite=True}",
            code="learnt_old",
            person=learned.name,
            base=BASE,
        )
    psnr = recipe.golden.psnr
    lower_limits = Psnr(
        LEARNED_PSNR, *(None if v is None else min(v, LEARNED_PSNR) for v in (psnr.bf16, psnr.fp16, psnr.int8))
    )
    return replace(
        recipe,
        name=f"{recipe.name}{MARK}{learned.name.lower()}",
        digest=hashlib.sha256(f"{recipe.digest} {learned.digest}".encode()).hexdigest(),
        golden=replace(recipe.golden, psnr=lower_limits),
        learned=learned,
    )


def load_recipe(path: Path) -> Recipe:
    """Reads one ``recipe.toml``. Raises EngineError; the message contains the file and the key."""
    try:
        text = path.read_bytes()
        table = tomllib.loads(text.decode())
    except OSError as error:
        raise EngineError(
            "recipe {path} cannot be read: {why}", code="recipe_unreadable", path=path, why=error.strerror
        ) from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise EngineError("recipe {path} is not valid TOML: {why}", code="recipe_toml", path=path, why=error) from error
    internal = {"folder", "digest", "fidelity", "learned"} & table.keys()
    if internal:
        raise EngineError("recipe {path}: unknown key {key}", code="recipe_key", path=path, key=sorted(internal)[0])
    try:
        recipe = from_table(Recipe, table | {"folder": path.parent, "digest": hashlib.sha256(text).hexdigest()}, "")
    except UsageError as error:
        raise EngineError("recipe {path}: {why}", code="recipe_wrong", path=path, why=error) from error
    if fault := _inconsistency(recipe):
        raise EngineError("recipe {path}: {fault}", code="recipe_fault", path=path, fault=fault)
    return recipe


def _inconsistency(recipe: Recipe) -> str | None:
    """Returns the first inconsistency in a recipe; None if there is none. The golden gate finds others."""
    size, (x, y, w, h) = recipe.input.size, recipe.region
    if size < 32 or size % 16:
        return f"input.size must be a multiple of 16 and at least 32, got {size}"
    if not re.fullmatch(NAME, recipe.name):
        return f"name must contain only letters, digits and . _ + -, got {brief(recipe.name)}"
    if min(x, y) < 0 or min(w, h) < 32 or max(x + w, y + h) > size:
        return f"input.region must lie in the crop of {size} px and be at least 32 px wide and high, got {[x, y, w, h]}"
    control = recipe.controls.fidelity
    if control is not None and not 0 <= control.default <= 1:
        return f"controls.fidelity.default must be between 0 and 1, got {control.default:g}"
    return None


def unknown_engine(name: str) -> UsageError:
    """Returns the error for an unknown engine name."""
    valid = ["auto", "default", *find_recipes()]
    return UsageError(
        "unknown engine {name!r}{hint}; available: {names}; if others published it, add it with: rtface engines add "
        "{name} ('rtface engines offers' lists what can be added)",
        code="engine_unknown",
        name=name,
        hint=hint(name, valid),
        names=", ".join(valid),
    )


def find_recipes() -> dict[str, Path]:
    """Returns the ``recipe.toml`` of every engine, by name. A user's engine replaces a shipped one of the same name."""
    recipes: dict[str, Path] = {}
    settings = config_dir()
    for folder in (SHIPPED, *([settings / "engines"] if settings else [])):
        for path in sorted(folder.glob("*/recipe.toml")):
            recipes[path.parent.name] = path
    return recipes
