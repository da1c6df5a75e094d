"""The control that some networks have beside the crop, and engines that may not be used for everything."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rtface.config.look import LOOKS
from rtface.config.options import Options
from rtface.engine.engine_set import EngineRequest, EngineSet, engine_names
from rtface.engine.host_engine import HostEngine
from rtface.engine.recipe import load_recipe
from rtface.errors import EngineError, RestartNeeded, UsageError
from rtface.live.controls import LiveControls
from rtface.pipeline.runtime import engine_request
from tests.engine.conftest import Maker


@pytest.mark.parametrize("device", ["cpu", "onnx"])
@pytest.mark.parametrize(("fidelity", "gain"), [(None, 0.5), (0.0, 0.0), (1.0, 1.0), (0.25, 0.25)])
def test_a_control_is_given_to_the_network(
    make_faithful: Callable[..., Path], device: str, fidelity: float | None, gain: float
) -> None:
    make_faithful()
    engines = EngineSet(EngineRequest("faithful", fidelity), device=device, threads=1)
    crops = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    np.testing.assert_allclose(engines.pick(200).submit(crops).result().pixels, gain * crops, atol=6e-3)


def test_goldens_are_checked_with_default_options(make_faithful: Callable[..., Path]) -> None:
    make_faithful()
    engines = EngineSet(EngineRequest("faithful", 1.0), device="cpu", threads=1)
    engine = engines.named("faithful")
    assert isinstance(engine, HostEngine) and engine.psnr > 35


@pytest.mark.parametrize(
    ("given", "gain"),
    [({}, 0.5), ({"look": "faithful"}, 1.0), ({"look": "vivid"}, 0.0), ({"look": 0.25}, 0.25)],
)
def test_a_look_turns_an_engines_own_control(
    make_faithful: Callable[..., Path], given: dict[str, object], gain: float
) -> None:
    make_faithful()
    request = engine_request(Options.of({"engine": "faithful"} | given))
    crops = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    with closing(EngineSet(request, device="cpu", threads=1)) as engines:
        np.testing.assert_allclose(engines.pick(200).submit(crops).result().pixels, gain * crops, atol=6e-3)


def test_every_look_applies_to_an_engine_without_a_control(make_engine: Maker) -> None:
    make_engine("plain")
    for look in LOOKS:
        with closing(EngineSet(engine_request(Options(engine="plain", look=look)), device="cpu", threads=1)) as engines:
            assert engines.described[0] == "plain"


@pytest.mark.parametrize(
    ("given", "large"),
    [
        ({}, "rtface-m"),
        ({"look": "faithful"}, "rtface-m"),
        ({"look": 0.5}, "rtface-m"),
        ({"look": 0.49}, "rtface-m-vivid"),
        ({"look": "vivid"}, "rtface-m-vivid"),
    ],
)
def test_a_look_chooses_the_engine(given: dict[str, object], large: str) -> None:
    for asked, names in (("default", (large,)), ("auto", (large, "rtface-s")), ("rtface-s", ("rtface-s",))):
        assert engine_names(asked, Options.of(given).engine_control) == names


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "names"), [("default", "rtface-m-vivid"), ("auto", "rtface-m-vivid+rtface-s")])
def test_fidelity_chooses_the_vivid_engine(asked: str, names: str) -> None:
    with closing(EngineSet(EngineRequest(asked, 0.3), device="cpu", threads=1)) as engines:
        assert engines.described[0] == names
        large = engines.pick(400)
        assert large.name == "rtface-m-vivid" and engines.pick(400, current=large.name) is large
        assert isinstance(large, HostEngine) and large.recipe.fidelity == pytest.approx(0.6)  # it has the lower half
        if asked == "auto":
            assert engines.pick(60).name == "rtface-s"
    controls = LiveControls(engine=asked)
    controls.set("look", "faithful")
    with pytest.raises(RestartNeeded, match="loaded again for this look"):
        controls.set("look", "vivid")
    assert controls.look == "faithful"
    with closing(EngineSet(EngineRequest(asked, 1.0), device="cpu", threads=1)) as engines:
        assert engines.pick(400).name == "rtface-m"


def test_the_smaller_engine_of_a_run_need_not_have_it(make_faithful: Callable[..., Path]) -> None:
    make_faithful()
    engines = EngineSet(EngineRequest("faithful", 0.5), device="cpu", threads=1)
    assert engines.named("rtface-s").size == 256


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("default = 0.5", "default = 1.5", "controls.fidelity.default must be between 0 and 1, got 1.5"),
        ('name = "w", default = 0.5', 'name = "w"', "key controls.fidelity.default is missing"),
        ('kind = "restorer"', 'family = "cnn"', "family: invalid enum value 'cnn'"),
        ('kind = "restorer"', "fidelity = 0.5", "unknown key fidelity"),
    ],
)
def test_a_wrong_control_is_named(make_faithful: Callable[..., Path], old: str, new: str, message: str) -> None:
    folder = make_faithful(edit=lambda text: text.replace(old, new, 1))
    with pytest.raises(EngineError, match=message):
        load_recipe(folder / "recipe.toml")


def forbidden(text: str) -> str:
    return text.replace("commercial_use = true", "commercial_use = false").replace(
        'weights = "Apache-2.0"', 'weights = "S-Lab-1.0"'
    )


def test_commercial_use_refuses_and_names_what_is_allowed(make_engine: Maker) -> None:
    make_engine(edit=forbidden)
    make_engine("free")
    with pytest.raises(
        UsageError,
        match=r"engine tiny may not be used commercially \(code Apache-2.0, weights "
        r"S-Lab-1.0\).*allowed engines: .*rtface-m, .*free$",
    ):
        EngineSet(EngineRequest("tiny", commercial_use=True), device="cpu", threads=1)
    EngineSet("tiny", device="cpu", threads=1).close()


def test_commercial_use_holds_for_every_engine_of_a_run(make_engine: Maker) -> None:
    """A user's own engine may have the name of ours."""
    make_engine("rtface-s", edit=forbidden)
    with pytest.raises(UsageError, match="engine rtface-s may not be used commercially"):
        EngineSet(EngineRequest("auto", commercial_use=True), device="cpu", threads=1)
    make_engine("free")
    engines = EngineSet(EngineRequest("free", commercial_use=True), device="cpu", threads=1)
    with pytest.raises(UsageError, match="engine rtface-s may not be used commercially"):  # the ladder's step
        engines.named("rtface-s")
