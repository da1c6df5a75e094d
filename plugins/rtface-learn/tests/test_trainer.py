"""The trainer, in a Python that has torch."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rtface.engine import learned
from rtface.engine.engine_set import recipe_named
from rtface.errors import Interrupted, Message, UsageError
from rtface_learn import learn, pairs

torch = pytest.importorskip("torch", reason="torch trains")


def test_the_trainer_computes_what_the_engine_does() -> None:
    import onnx
    import onnxruntime

    sys.path.insert(0, str(Path(learn.__file__).parent))
    import trainer

    recipe = recipe_named(learned.BASE)
    memory = recipe.memory
    given = {name: np.zeros((1, *shape), np.float32) for name, shape in recipe.inputs.items()}
    given[recipe.input.name] = np.random.default_rng(1).random((1, *recipe.inputs[recipe.input.name]), np.float32)
    session = onnxruntime.InferenceSession(str(recipe.model_path), providers=["CPUExecutionProvider"])
    (wanted,) = session.run([recipe.output.name], given)
    network = trainer.Network(onnx.load(recipe.model_path), {}).only(recipe.output.name, memory.known)
    with torch.no_grad():
        found = network({name: torch.from_numpy(value) for name, value in given.items()}, {}).numpy()
    assert np.abs(found - wanted).max() < 1e-5


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "STEPS", 30)
    monkeypatch.setattr(pairs, "FROM_EACH", 2)


def test_a_person_is_learnt_and_used(film: Path, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = learned.path_of("anna")

    def learning(**how: Any) -> learn.Outcome:
        more = {"minutes": 2.0, "tell": lambda what, share: None, "shown": tmp_path / "s.png"}
        return learn.learn("Anna", [film], lambda: Path(sys.executable), **(more | how))

    steps = list[float]()

    def stops(what: Message, share: float) -> None:
        if what.code == "learn_step":
            raise Interrupted

    with pytest.raises(Interrupted, match="kept"):
        learning(tell=stops)
    assert not path.exists()
    monkeypatch.setattr(learn, "STEPS", 60)
    monkeypatch.setattr(learn, "collect", None)  # its pictures are kept
    done = learning(tell=lambda what, share: steps.append(share))
    assert steps == [1.0]  # from 30 steps of 60 on
    assert done.path == path and done.gains["call"] > learn.WORTH_DB and cv2.imread(str(tmp_path / "s.png")) is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and learned.read(path).meta["figures"] == done.gains
    with pytest.raises(UsageError, match="--overwrite"):
        learning()
