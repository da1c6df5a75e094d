"""The trainer, in a Python that has torch."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rtface.engine import learned
from rtface.engine.engine_set import recipe_named
from rtface.errors import Interrupted, Message, UsageError
from rtface_learn import learn, pairs, selection

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
    network = trainer.Network(onnx.load(recipe.model_path)).only(recipe.output.name, memory.known)
    with torch.no_grad():
        found = network({name: torch.from_numpy(value) for name, value in given.items()}, {}).numpy()
    assert np.abs(found - wanted).max() < 1e-5


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "STEPS", 30)
    monkeypatch.setattr(learn, "MORE_STEPS", 30)
    monkeypatch.setattr(pairs, "PAIRS_PER_FILM", 2)


def test_a_person_is_learnt_and_used(film: Path, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = learned.path_of("anna")

    def learning(**how: Any) -> learn.TrainingOutcome:
        more = {"minutes": 60.0, "notify": lambda what, share: None, "shown": tmp_path / "s.png"}
        return learn.learn("Anna", [film], lambda: Path(sys.executable), **(more | how))

    steps = list[tuple[str, float]]()

    def stops(what: Message, share: float) -> None:
        if what.code == "learn_step" and share:
            raise Interrupted

    with pytest.raises(Interrupted, match="kept"):
        learning(notify=stops)
    assert not path.exists()
    monkeypatch.setattr(learn, "STEPS", 60)
    monkeypatch.setattr(selection, "collect", None)  # its pictures are kept
    done = learning(notify=lambda what, share: steps.append((what.code, share)))
    # From 30 steps of 60 on, and after it is known what is gained with what judged it, too.
    assert [s for s in steps if s[0] != "learn_judging" and s[1]] == [("learn_step", 1.0), ("learn_all", 1.0)]
    assert done.path == path and done.gains["call"] > learn.MIN_GAIN_DB
    assert cv2.imread(str(tmp_path / "s.png")) is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and learned.read(path).meta["figures"] == done.gains
    with pytest.raises(UsageError, match="--overwrite"):
        learning()


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., np.ndarray]:
    """The change that four steps of the trainer make, by the name of its files."""
    sys.path.insert(0, str(Path(learn.__file__).parent))
    import trainer

    recipe = recipe_named(learned.BASE)
    memory, (*_, w, h) = recipe.memory, recipe.region
    r = np.random.default_rng(1)
    shown = cv2.resize(r.integers(0, 255, (h // 8, w // 8, 3)).astype(np.uint8), (w, h))
    pairs_of = np.stack([np.stack([shown, cv2.GaussianBlur(shown, (0, 0), 2.0 + k)]) for k in range(4)])
    ones = np.ones((h, w), np.float32)
    np.savez(tmp_path / "pairs.npz", train=pairs_of, valid=pairs_of, kinds=np.array(["call"] * 4),
             others=pairs_of[:0, 1], mask=ones, weight=ones)  # fmt: skip
    job = {
        **{"network": str(recipe.model_path), "pairs": str(tmp_path / "pairs.npz"), "output": recipe.output.name},
        **{"input": recipe.input.name, "past": memory.past, "known": memory.known, "state": memory.state},
        **{"state_shape": list(memory.shape), "prefixes": ["core.head"], "cell": 8, "rate": 1e-3, "begin": ""},
        **{"steps": 4, "batch": 2, "kept": 0, "seconds": 3600, "threads": 1, "bf16": False, "seed": 1},
    }
    monkeypatch.setattr(trainer, "EVALUATION_STEPS", 2)

    def run(name: str, *, until: int = 9, **how: Any) -> np.ndarray:
        def said(**row: Any) -> None:
            if row["step"] == until and "done" not in row:
                raise Interrupted

        monkeypatch.setattr(trainer, "print_json", said)
        paths = {key: str(tmp_path / f"{name}.{key}") for key in ("checkpoint", "out")}
        (path := tmp_path / f"{name}.json").write_text(json.dumps(job | paths | how))
        trainer.main(str(path))
        with np.load(f"{paths['out']}.npz") as held:
            return held["delta"]

    return run


def test_training_that_was_cut_ends_the_same(trained: Callable[..., np.ndarray]) -> None:
    whole = trained("whole")
    with pytest.raises(Interrupted):
        trained("cut", until=2)
    assert np.array_equal(trained("cut"), whole) and np.abs(whole).max() > 0


def test_training_from_another_begins_again_with_it(trained: Callable[..., np.ndarray], tmp_path: Path) -> None:
    """It goes on where it was cut, but where the first one went on meanwhile."""
    first = trained("first", steps=2)
    begin = tmp_path / "first.checkpoint"
    whole = trained("whole", begin=str(begin))
    for late in (False, True):
        with pytest.raises(Interrupted):
            trained("cut", until=2, begin=str(begin))
        if late:
            assert not np.array_equal(trained("first"), first)
            os.utime(begin, (then := begin.stat().st_mtime + 9, then))
        ended = trained("cut", begin=str(begin))
        assert np.array_equal(ended, trained(f"late {late}", begin=str(begin)))
        assert np.array_equal(ended, whole) != late
        (tmp_path / "cut.checkpoint").unlink()


def test_steps_before_the_time_is_over_are_not_lost(
    trained: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count()
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert np.abs(trained("short", seconds=1)).max() > 0
    with pytest.raises(FileNotFoundError):  # nothing to write
        trained("none", seconds=0)


def test_what_a_look_takes_is_of_the_time(
    trained: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import trainer

    looked, loss = [0], trainer.Loss.__call__

    def slow(*given: Any) -> Any:
        looked[0] += not torch.is_grad_enabled()
        return loss(*given)

    monkeypatch.setattr(trainer.Loss, "__call__", slow)
    monkeypatch.setattr(time, "monotonic", lambda: looked[0])
    ended = trained("over", seconds=1)
    for seconds, steps in ((1, 2), (9, 4)):  # continued: it is over still, and with more it is not
        again = trained("over", seconds=seconds)
        kept = torch.load(tmp_path / "over.checkpoint", weights_only=True)
        assert kept["step"] == steps and kept["seconds"] == steps // 2
        assert np.array_equal(again, ended) == (seconds == 1)


def test_it_ends_with_the_rtface_that_started_it(tmp_path: Path) -> None:
    os.mkfifo(job := tmp_path / "job.json")  # so that it would wait forever
    trainer = Path(learn.__file__).with_name("trainer.py")
    with subprocess.Popen([sys.executable, "-P", trainer, job], stdin=subprocess.PIPE) as run:
        assert run.stdin is not None
        run.stdin.close()
        assert run.wait(120) == 1


@pytest.mark.parametrize("faster", [False, True])
def test_it_trains_in_the_faster_numbers(
    trained: Callable[..., np.ndarray], faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without instructions for bfloat16, that takes ten times as long as fp32."""
    clock = iter(np.cumsum([0, 0, 1 if faster else 3, 0, 0, 2]).tolist())
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert np.array_equal(trained("measured", bf16=True), trained("fp32")) != faster
