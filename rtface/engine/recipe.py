"""Recipes: all that rtface needs to know about an engine, as data.

A recipe is a folder with ``recipe.toml``, the network (ONNX) and its golden crops (npz). The shipped ones are in
``engines/shipped/<name>``, the user's in ``<config folder>/engines/<name>``. Keys are strict: the error for an unknown
key suggests the nearest valid key, and the error for a missing key names it.
"""

from __future__ import annotations

import hashlib
import re
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
from rtface.util.toml_dataclass import from_table, parse_toml

NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"
"""Valid names of engines, which become parts of paths."""
_PACKAGE = Path(__file__).resolve().parent.parent
SHIPPED = packed if (packed := _PACKAGE / "models").is_dir() else _PACKAGE.parent / "engines" / "shipped"
"""The shipped engines: inside the package of a wheel, next to it in a clone."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One engine; see the module.

    The file lacks these attributes: `folder` contains the engine's files, `digest` is the SHA-256 of ``recipe.toml``,
    `fidelity` sets that control (None: its default), `learned` is the person whose weights it has (see `of_person`).
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
        """True if the engine keeps state of a face between frames."""
        return self.memory is not None

    @property
    def vivid(self) -> bool:
        """True if the engine invents detail: it has a fidelity control, or its family does."""
        return self.family != "CNN" or self.controls.fidelity is not None

    @property
    def region(self) -> CropRegion:
        """The part of the crop that the network takes and returns."""
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
        """The network: a file or, with a person's weights, its bytes."""
        if self.learned is None:
            return self.model_path
        base = load_recipe(SHIPPED / BASE / "recipe.toml")
        base.check_weights()
        return self.learned.adapted(self.model_path.read_bytes(), base.model_path.read_bytes())

    @property
    def golden_path(self) -> Path:
        return self.folder / self.golden.file

    def fault(self, *, reread: bool = False) -> str | None:
        """Checks the weights. Takes `reread` and returns a fault or None, like `weights_fault`."""
        return weights_fault(self.model_path, self.weights.bytes, self.weights.sha256, reread=reread)

    @property
    def repair_line(self) -> str:
        """The command that restores damaged weights."""
        return f"rtface engines add {self.name} --overwrite" if self.source else reinstall_line(self.model_path)

    def check_weights(self) -> None:
        """Raises MissingComponent if the weights differ from the recipe's."""
        if fault := self.fault():
            raise MissingComponent(
                "engine {name}: weights {path} {fault}; repair it with: {repair}, or put the right file there",
                code="weights_wrong",
                name=self.name,
                path=self.model_path,
                fault=fault,
                repair=self.repair_line,
            )


LEARNED_PSNR = 30.0
"""Minimum PSNR in dB of a person's weights against the engine's golden answers: they must not change other people's
faces. Networks that collapse in reduced precision are below 20 dB."""


def of_person(recipe: Recipe, learned: Learned) -> Recipe:
    """Returns an engine with the weights of a person.

    Raises:
        UsageError: the person's weights were learnt for other base weights, or the engine is not a shipped one.
    """
    if recipe.folder.parent != SHIPPED:
        raise UsageError(
            "the weights learnt of {person} are for the engines of rtface, and {folder} hides {engine}; remove that "
            "folder, or leave out {--person}",
            code="learnt_engine",
            person=learned.name,
            folder=recipe.folder,
            engine=recipe.name,
        )
    base = load_recipe(SHIPPED / BASE / "recipe.toml")
    if learned.meta.get("base") != base.weights.sha256:
        raise UsageError(
            "the weights learnt of {person} belong to another version of {base}; learn again with: "
            "rtface learn {person} SOURCE {--overwrite=True}",
            code="learnt_old",
            person=learned.name,
            base=BASE,
        )
    psnr = recipe.golden.psnr
    looser = Psnr(
        LEARNED_PSNR, *(None if v is None else min(v, LEARNED_PSNR) for v in (psnr.bf16, psnr.fp16, psnr.int8))
    )
    return replace(
        recipe,
        name=f"{recipe.name}{MARK}{learned.name.lower()}",
        digest=hashlib.sha256(f"{recipe.digest} {learned.digest}".encode()).hexdigest(),
        golden=replace(recipe.golden, psnr=looser),
        learned=learned,
    )


def load_recipe(path: Path) -> Recipe:
    """Reads one ``recipe.toml``. Raises EngineError, which names the file and the key."""
    try:
        text = path.read_bytes()
        table = parse_toml(text.decode())
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
    if fault := _misfit(recipe):
        raise EngineError("recipe {path}: {fault}", code="recipe_fault", path=path, fault=fault)
    return recipe


def _misfit(recipe: Recipe) -> str | None:
    """Returns the first inconsistency in a recipe, or None."""
    size, (x, y, w, h) = recipe.input.size, recipe.region
    for name, (low, high) in (("input.range", recipe.input.range), ("output.range", recipe.output.range)):
        if not high > low:
            return f"{name} is empty: [{low}, {high}]"
    if size < 32 or size % 16:
        return f"input.size must be a multiple of 16 from 32 up, got {size}"
    if not re.fullmatch(NAME, recipe.name):
        return f"name must be letters, digits and . _ + - only, got {brief(recipe.name)}"
    if min(x, y) < 0 or min(w, h) < 32 or max(x + w, y + h) > size:
        return f"input.region must lie in the crop of {size} and be 32 or wider and higher, got {[x, y, w, h]}"
    if (recipe.memory or recipe.output.residual) and (recipe.input.range, recipe.output.range) != ((0, 1), (0, 1)):
        return "a network with memory or of a residual must take and give values of 0…1"
    control = recipe.controls.fidelity
    if control is not None and not 0 <= control.default <= 1:
        return f"controls.fidelity.default must be between 0 and 1, got {control.default:g}"
    if control is not None and control.name in replace(recipe, controls=EngineControls()).inputs:
        return f"controls.fidelity.name is that of another input: {control.name}"
    grid = recipe.memory.grid if recipe.memory else None
    if grid is not None and (grid < 32 or size % grid or any(v % recipe.shrink for v in recipe.region)):
        return f"memory.grid must go into input.size and input.region without remainder, got {grid}"
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
    """Returns the ``recipe.toml`` of every engine, by name. A user's engine hides a shipped one of the same name."""
    recipes: dict[str, Path] = {}
    settings = config_dir()
    for folder in (SHIPPED, *([settings / "engines"] if settings else [])):
        for path in sorted(folder.glob("*/recipe.toml")):
            recipes[path.parent.name] = path
    return recipes
