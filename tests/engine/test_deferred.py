"""Engines of films: built for the first face, checked before the output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rtface
from rtface.engine.backends import choose
from rtface.engine.engine_set import EngineSet, load_engine
from rtface.errors import EngineError, MissingComponent
from tests.engine.conftest import Maker
from tests.pipeline.fakes import portrait
from tests.pipeline.run_media import write_film


def _builds(monkeypatch: pytest.MonkeyPatch, device: str) -> list[str]:
    """Returns the names of the engines that are built from now on."""
    built, backend = list[str](), choose.find(device)

    def build(recipe: Any, *given: Any) -> Any:
        built.append(recipe.name)
        return backend.open(recipe, *given)

    monkeypatch.setattr(choose, "find", lambda device: replace(backend, open=build))
    return built


@pytest.mark.parametrize("device", ["cpu", "onnx"])
def test_a_checked_network_is_built_for_its_first_crop(
    make_engine: Maker, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    make_engine()
    checked = load_engine("tiny", device=device, threads=1)
    built = _builds(monkeypatch, device)
    engines = EngineSet("tiny", device=device, threads=1, deferred=True)
    engine = engines.named("tiny")
    assert (engine.reason, engine.psnr, built) == (checked.reason, checked.psnr, [])
    crop = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(engine.submit(crop).result().pixels, checked.submit(crop).result().pixels)
    assert built == ["tiny"]
    engines.close()
    assert EngineSet("tiny", device=device, threads=1).named("tiny")
    assert built == ["tiny"] * 2  # where the first face must not wait


def test_a_network_that_cannot_be_built_gives_way(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    make_engine()
    checked = load_engine("tiny", device="auto", threads=1)
    find = choose.find

    def refuse(*given: Any) -> Any:
        raise EngineError("no memory", code="none")

    monkeypatch.setattr(choose, "find", lambda name: replace(find(name), open=refuse) if name == "cpu" else find(name))
    engine = EngineSet("tiny", device="auto", threads=1, deferred=True).named("tiny")
    crop = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    answer = engine.submit(crop).result().pixels
    np.testing.assert_allclose(answer, checked.submit(crop).result().pixels, atol=1e-2)


def test_an_unchecked_network_is_checked_at_once(make_engine: Maker) -> None:
    make_engine(answer=lambda x: 1 - x)
    with pytest.raises(EngineError, match="does not match"):
        EngineSet("tiny", device="cpu", threads=1, deferred=True)


def test_a_film_without_corrections_builds_no_engine(
    make_engine: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, out = make_engine(), tmp_path / "out.mkv"
    load_engine("tiny", device="cpu", threads=1).close()
    built = _builds(monkeypatch, "cpu")
    film = write_film(tmp_path / "in.mkv", [portrait()[0]] * 2)
    report = rtface.run(film, out, engine="tiny", device="cpu", correct="never")
    assert (report.engine, report.device[:3], built) == ("tiny", "cpu", [])
    rtface.run(film, out, engine="tiny", device="cpu", correct="always", overwrite=True)
    assert built == ["tiny"]
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(MissingComponent, match="weights"):
        rtface.run(film, tmp_path / "none.mkv", engine="tiny", device="cpu", correct="never")
    assert not (tmp_path / "none.mkv").exists()
