from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rtface.engine.golden import load_golden, psnr
from rtface.engine.host_engine import HostEngine
from rtface.engine.recipe import find_recipes, load_recipe
from rtface.errors import EngineError, MissingComponent
from tests.engine.conftest import Maker


def test_a_recipe_is_read_whole(make_engine: Maker) -> None:
    recipe = load_recipe(make_engine() / "recipe.toml")
    assert recipe.name == "tiny"
    assert recipe.input.size == 64
    assert recipe.input.range == (0.0, 1.0)
    assert recipe.precision.default == "bf16"
    assert recipe.golden.psnr.int8 is None
    assert recipe.fault() is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("summary =", "sumary =", r"unknown key sumary: the nearest is summary"),
        ("size = 64", "siez = 64", r"unknown key input\.siez: the nearest is size"),
        ('version = "1.0"\n', "", "key version is missing"),
        ("size = 64", 'size = "64"', r"input\.size: expected `int`, got `str`"),
        ("commercial_use = true", "commercial_use = 1", r"licence\.commercial_use: expected `bool`, got `int`"),
        ("range = [0.0, 1.0]", "range = [0.0]", r"input\.range: expected `array` of length 2, got 1"),
        ('default = "bf16"', 'default = "bf61"', r"precision\.default: invalid enum value 'bf61'"),
        ("size = 64", "size = 60", "multiple of 16"),
        ("size = 64", "size = 64\nregion = [40, 0, 32, 32]", r"input\.region must lie in the crop"),
        ("[controls]", "[controls", "not valid TOML"),
        ('name = "tiny"', 'name = "../../escape"', "name must contain only letters"),
        ('name = "tiny"', 'name = "\\u001b]0;owned"', "name must contain only letters"),
        ('name = "tiny"', 'name = "tiny"\nfolder = "/"', "unknown key folder"),
    ],
)
def test_a_wrong_key_is_named(make_engine: Maker, old: str, new: str, message: str) -> None:
    folder = make_engine(edit=lambda text: text.replace(old, new, 1))
    with pytest.raises(EngineError, match=message) as caught:
        load_recipe(folder / "recipe.toml")
    assert str(folder) in str(caught.value)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"), [(_cut, "bytes instead of"), (_flip, "SHA-256"), (Path.unlink, "missing")]
)
def test_weights_that_are_not_the_recipes_are_refused(
    make_engine: Maker, damage: Callable[[Path], None], message: str
) -> None:
    folder = make_engine()
    damage(folder / "model.onnx")
    recipe = load_recipe(folder / "recipe.toml")
    with pytest.raises(MissingComponent, match=message):
        recipe.check_weights()


def test_golden_crops_are_checked(make_engine: Maker) -> None:
    folder = make_engine()
    recipe = load_recipe(folder / "recipe.toml")
    crops, answers = load_golden(recipe)
    assert crops.dtype == answers.dtype == np.float32
    assert crops.min() >= 0 and crops.max() == 1
    (folder / "golden.npz").write_bytes(b"PK nothing")
    with pytest.raises(EngineError, match=r"golden\.npz cannot be read"):
        load_golden(recipe)
    np.savez(folder / "golden.npz", crops=np.zeros((2, 64, 64, 3), np.uint8), restored=answers[:, :, :32])
    with pytest.raises(EngineError, match="golden crops must be"):
        load_golden(recipe)
    (folder / "golden.npz").unlink()
    with pytest.raises(MissingComponent, match="are missing"):
        load_golden(recipe)


SHIPPED = sorted((Path(__file__).parents[2] / "engines" / "shipped").glob("*/recipe.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.parent.name)
def test_shipped_recipes_are_whole_and_true(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.parent.name
    assert recipe.fault() is None
    engine = HostEngine(recipe, threads=1)
    crops, answers = load_golden(recipe)
    assert psnr(engine.submit(crops[:1]).result().pixels, answers[:1]) > 38


def test_a_users_engine_is_found(make_engine: Maker) -> None:
    folder = make_engine("mine")
    assert find_recipes()["mine"] == folder / "recipe.toml"
