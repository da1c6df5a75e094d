"""What was learnt of a person: its file, and engines with its weights."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rtface.engine import learned
from rtface.engine.engine_set import (
    EngineRequest,
    EngineSet,
    names_of_persons,
    open_light,
    recipe_named,
)
from rtface.engine.host_engine import HostEngine
from rtface.engine.learned import Learned
from rtface.engine.recipe import SHIPPED, of_person
from rtface.errors import InputError, RtfaceError, UsageError
from rtface.trust.sidecar import engine_fields
from tests.persons.made import ANNA, learnt


@pytest.fixture
def learn(tmp_path: Path) -> Callable[..., Path]:
    """Writes Anna's file; see `learnt`."""
    return partial(learnt, tmp_path / "anna.person", ANNA)


def test_a_file_is_read_as_it_was_written(learn: Callable[..., Path]) -> None:
    path = learn(amount=0.25, figures={"call": 0.4})
    found = learned.read(path)
    assert (found.name, found.meta["figures"], found.digest) == (
        "anna",
        {"call": 0.4},
        hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    assert np.array_equal(found.embeddings, ANNA[None]) and (found.delta == 0.25).all()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def forged(path: Path, **arrays: Any) -> None:
    with np.load(path) as held:
        kept = dict(held.items())
    with io.BytesIO() as made:
        np.savez(made, **(kept | arrays))
        path.write_bytes(made.getvalue())


def meta(**values: Any) -> Any:
    return np.frombuffer(json.dumps(values).encode(), np.uint8)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda p: p.unlink(), "no weights were learnt for anna"),
        (lambda p: p.write_bytes(p.read_bytes()[:300]), "zip"),
        (lambda p: forged(p, delta=np.array([object()])), "pickle"),
        (lambda p: forged(p, delta=np.full_like(np.load(p)["delta"], np.nan)), "is damaged"),
        (lambda p: forged(p, delta=np.zeros(9, np.float16)), "is damaged"),
        (lambda p: forged(p, embeddings=np.zeros((2, 9), np.float32)), "is damaged"),
        (
            lambda p: forged(p, meta=meta(format=1)),
            r"another version .* learn again with: rtface learn anna SOURCE --overwrite",
        ),
        (lambda p: forged(p, meta=meta(format=3, name="Ben")), "Ben"),
        (lambda p: forged(p, meta=meta(format=3, name="anna", made="yesterday")), "at .made."),
        (lambda p: (p.unlink(), p.mkdir()), "regular"),
    ],
    ids=["absent", "cut", "pickled", "nan", "short", "embeddings", "version", "name", "made", "folder"],
)
def test_a_file_that_is_none_is_refused(learn: Callable[..., Path], change: Any, why: str) -> None:
    path = learn()
    change(path)
    with pytest.raises(InputError, match=why):
        learned.read(path)


def test_a_file_is_for_whoever_may_read_it(learn: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = learn()
    path.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
    assert learned.read(path).name == "anna"
    assert stat.S_IMODE(learn().stat().st_mode) == 0o600  # learnt again it is private again

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(learned, "read_regular", refuse)
    with pytest.raises(InputError, match=r"anna\.person cannot be used .* Permission denied"):
        learned.read(path)


@pytest.mark.parametrize("at", [0.3, 0.6])
def test_a_file_with_damaged_numbers_is_refused(learn: Callable[..., Path], at: float) -> None:
    """What is compressed is spoilt, the folder of the archive whole."""
    path = learn()
    data = bytearray(path.read_bytes())
    data[int(at * len(data)) : int(at * len(data)) + 40] = b"\xff" * 40
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot be used"):
        learned.read(path)


@pytest.mark.parametrize(
    "numbers",
    [[0.25], [-0.0, 0.5, -0.5], [6e-8, 0.0, -6e-8], [65504.0, -65504.0]],
    ids=["one", "minus", "least", "largest"],
)
def test_any_numbers_are_read_as_written(tmp_path: Path, numbers: list[float]) -> None:
    delta = np.array([0.5, 0.0, *numbers, 0.1, 0.2], np.float16)
    places, path = [(0, 2, 1, 2), (9, 2, 1, len(numbers)), (99, 4, 2, 1)], tmp_path / "anna.person"
    learned.write("Anna", {}, ANNA[None], places, delta, path)
    assert np.array_equal(learned.read(path).delta, delta)


@pytest.mark.parametrize("engine", ["rtface-s", "rtface-m"])
def test_both_engines_take_the_weights(learn: Callable[..., Path], engine: str) -> None:
    base = (SHIPPED / "rtface-s" / "model.onnx").read_bytes()
    model = (SHIPPED / engine / "model.onnx").read_bytes()
    assert learned.read(learn(amount=0.0)).adapted(model, base) == model
    full = learned.read(learn(amount=0.0625)).adapted(model, base)
    assert full != model and len(full) == len(model)


def test_the_weights_of_a_person_are_those_of_that_person_alone(
    learn: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path / "cache"))
    engines = EngineSet(EngineRequest("rtface-s", persons=(learn(amount=0.002),)), threads=1)
    shipped = engines.pick(100.0)
    own = engines.of_person(shipped, "Anna")
    assert own is not shipped and own.name == "rtface-s@anna"
    assert engines.of_person(shipped, "Ben") is engines.of_person(shipped, "unknown") is shipped
    crop = np.random.default_rng(1).random((1, 3, 256, 256), np.float32)
    a, b = (engine.submit(crop).result().pixels for engine in (shipped, own))
    assert 1e-4 < np.abs(a - b).max() < 0.2
    engines.close()
    assert not [path for path in (tmp_path / "cache").rglob("*") if "anna" in path.name]


@pytest.mark.parametrize(("chosen", "persons"), [("rtface-m", True), ("rtface-m-vivid", False)])
def test_the_light_engine_has_weights_where_the_chosen_one_has(
    chosen: str, persons: bool, learn: Callable[..., Path]
) -> None:
    def opened(recipe: Any) -> Any:
        return SimpleNamespace(name=recipe.name, reason="", close=lambda: None)

    engines = EngineSet(EngineRequest(chosen, persons=(learn(),)), opener=opened)
    open_light(engines)
    assert ("rtface-s@anna" in engines.engines) == persons and "rtface-s" in engines.engines


@pytest.mark.slow
def test_faces_judge_in_every_precision(learn: Callable[..., Path]) -> None:
    request = EngineRequest("rtface-s", persons=(learn(amount=0.01),))  # 37 dB on faces, 29 dB on what is none
    engines = EngineSet(request, device="onnx", threads=1)
    assert engines.engines["rtface-s@anna"].precision == "f32"
    engines.close()


@pytest.mark.slow
def test_weights_that_ruin_faces_are_refused(learn: Callable[..., Path]) -> None:
    with pytest.raises(RtfaceError, match=r"rtface-s@anna .* learn anna again, or leave out --person"):
        EngineSet(EngineRequest("rtface-s", persons=(learn(amount=4.0),)), threads=1)


def test_what_belongs_to_other_weights_is_to_be_learnt_again(learn: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="rtface learn anna"):
        EngineSet(EngineRequest("rtface-s", persons=(learn(base="0" * 64),)), threads=1)


@pytest.mark.parametrize("name", ["../anna", "P1", "", "a" * 40, "\u0130x"])
def test_a_name_that_is_none_has_no_file(name: str) -> None:
    with pytest.raises(UsageError, match="not a valid name of a person"):
        learned.path_of(name)


def test_persons_are_called_as_their_files(learn: Callable[..., Path]) -> None:
    learned.folder().mkdir(parents=True)
    for name in ("anna.person", "Ben.person", "P1.person"):
        learn().rename(learned.folder() / name)
    assert learned.names() == ["anna"]


def test_a_tensor_that_is_not_there(learn: Callable[..., Path]) -> None:
    found: Learned = learned.read(learn())
    base = (SHIPPED / "rtface-s" / "model.onnx").read_bytes()
    with pytest.raises(RtfaceError, match="learn again"):
        found.adapted(b"another network", base)


def test_a_place_past_the_end_of_the_network(learn: Callable[..., Path]) -> None:
    found = learned.read(learn())
    with pytest.raises(RtfaceError, match="learn again"):
        replace(found, places=found.places + (1 << 40, 0, 0, 0)).adapted(b"network", b"base")


@pytest.mark.parametrize("name", ["rtface-s@anna", "default@anna"])
def test_a_run_names_no_engine_of_a_person(learn: Callable[..., Path], name: str) -> None:
    learned.folder().mkdir(parents=True)
    learn().rename(learned.path_of("anna"))
    assert recipe_named("rtface-s@anna").learned
    with pytest.raises(UsageError, match="unknown engine"):
        EngineSet(name, threads=1)
    with pytest.raises(UsageError, match="unknown engine"):
        EngineSet("rtface-s", opener=lambda recipe: HostEngine(recipe, threads=1)).named(name)


def test_only_shipped_engines_take_the_weights(learn: Callable[..., Path], tmp_path: Path) -> None:
    found = learned.read(learn())
    with pytest.raises(UsageError, match="leave out --person"):
        of_person(replace(recipe_named("rtface-s"), folder=tmp_path / "engines" / "rtface-s"), found)


def test_a_damaged_file_fails_no_finished_film(learn: Callable[..., Path]) -> None:
    learned.folder().mkdir(parents=True)
    path = learn().rename(learned.path_of("anna"))
    report: Any = SimpleNamespace(engine="rtface-s@anna")
    assert engine_fields(report)["rtface-s@anna"]["learnt_of"] == "anna"
    path.write_bytes(b"")
    assert engine_fields(report) == {"rtface-s@anna": {}}


def test_default_of_a_shot_takes_the_weights_of_persons() -> None:
    assert names_of_persons(("rtface-s", "default", "rtface-m"), ["Anna"]) == ["rtface-s@anna", "rtface-m@anna"]
