from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from rtface.engine import golden as plans
from rtface.engine.crop_runner import CropRunner, spread
from rtface.engine.engine_set import EngineSet, load_engine, needs_large_engine
from rtface.engine.golden import load_golden
from rtface.engine.host_engine import HostEngine
from rtface.engine.listing import list_engines
from rtface.enhance.keyframes.scheduler import spacing
from rtface.errors import EngineError, MissingComponent, UsageError
from rtface.protocols import Engine, Restored
from rtface.util.paths import cache_dir
from tests.engine.conftest import Maker
from tests.engine.tiny_onnx import keeping, remembering

# x + 256 keeps no digit of x after the point in bf16 (8 bits of mantissa): every picture becomes one finite colour.
COLLAPSING = ((1.0, 256.0), (1.0, -256.0))


def _crops(n: int, size: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 3, size, size), np.float32)


@pytest.mark.parametrize("device", ["cpu", "onnx"])
def test_crops_are_restored_in_order(make_engine: Maker, device: str) -> None:
    make_engine()
    engine = load_engine("tiny", device=device, threads=1)
    crops = _crops(3)
    kept = crops.copy()
    futures = [engine.submit(c[None]) for c in crops] + [engine.submit(crops)]
    single = np.concatenate([f.result().pixels for f in futures[:3]])
    whole = futures[3].result()
    np.testing.assert_allclose(single, 0.5 * crops + 0.25, atol=4e-3)
    np.testing.assert_array_equal(whole.pixels, single)
    assert whole.pixels.dtype == np.float32
    assert whole.state is None
    np.testing.assert_array_equal(crops, kept)


def test_an_answer_belongs_to_the_caller(make_engine: Maker) -> None:
    make_engine()
    engine: Engine = load_engine("tiny", threads=1)
    first = engine.submit(_crops(1)).result().pixels
    kept = first.copy()
    engine.submit(_crops(1, seed=5)).result()
    np.testing.assert_array_equal(first, kept)
    assert (engine.name, engine.size, engine.recurrent) == ("tiny", 64, False)


def test_the_networks_own_range_is_kept_inside(make_engine: Maker) -> None:
    # The network sees -1…1, so its 0.5·x is 0.5·x + 0.25 outside.
    make_engine(layers=((0.5, 0.0),), range_="[-1.0, 1.0]")
    engine = load_engine("tiny", threads=1)
    crops = _crops(1)
    np.testing.assert_allclose(engine.submit(crops).result().pixels, 0.5 * crops + 0.25, atol=4e-3)


def test_answers_are_clipped(make_engine: Maker) -> None:
    make_engine(layers=((3.0, -1.0),), answer=lambda x: np.clip(3 * x - 1, 0, 1))
    engine = load_engine("tiny", threads=1)
    answer = engine.submit(_crops(1)).result().pixels
    assert answer.min() == 0
    assert answer.max() == 1


def test_strided_and_read_only_crops(make_engine: Maker) -> None:
    make_engine()
    engine = load_engine("tiny", threads=1)
    flipped = _crops(1)[:, :, :, ::-1]
    flipped.flags.writeable = False
    np.testing.assert_allclose(engine.submit(flipped).result().pixels, 0.5 * flipped + 0.25, atol=4e-3)
    frozen = np.ascontiguousarray(flipped)
    frozen.flags.writeable = False
    np.testing.assert_allclose(engine.submit(frozen).result().pixels, 0.5 * flipped + 0.25, atol=4e-3)


@pytest.mark.parametrize("device", ["cpu", "onnx"])
def test_what_is_not_a_number_is_an_error(make_engine: Maker, device: str) -> None:
    make_engine()
    engine = load_engine("tiny", device=device, threads=1)
    crops = _crops(1)
    crops[0, 0, 3, 3] = np.nan
    with pytest.raises(EngineError, match="not numbers"):
        engine.submit(crops).result()
    engine.submit(_crops(1)).result()  # and the engine lives on


def test_closing_does_not_wait_for_a_slow_crop(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    make_engine()
    engine = load_engine("tiny", threads=1)
    begun, go_on = threading.Event(), threading.Event()
    restore = CropRunner.restore

    def slow(*given: Any) -> Any:
        begun.set()
        go_on.wait(30)
        return restore(*given)

    monkeypatch.setattr(CropRunner, "restore", slow)
    crops = np.zeros((1, 3, 64, 64), np.float32)
    first, second = engine.submit(crops), engine.submit(crops)
    assert begun.wait(30)
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < 1.0
    assert second.cancelled()
    go_on.set()
    assert first.result(30).pixels.shape == crops.shape  # the network is freed behind it
    engine.close()


def test_a_closed_engine_refuses(make_engine: Maker) -> None:
    make_engine()
    engine = load_engine("tiny", threads=1)
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError):
        engine.submit(_crops(1))


def _force_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bf16: the collapse in bf16 cannot be shown here")


def test_a_network_that_collapses_in_bf16_runs_in_f32(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    _force_bf16(monkeypatch)
    make_engine(layers=COLLAPSING, answer=lambda x: x)
    engine = load_engine("tiny", device="cpu", threads=1)
    assert engine.precision == "f32"
    assert "too far from the reference" in engine.reason
    crops = _crops(1)
    np.testing.assert_allclose(engine.submit(crops).result().pixels, crops, atol=1e-4)

    verdicts = {
        path.name.split("-")[1]: json.loads(path.read_text())["verdict"]
        for path in (Path(cache_dir()) / "engines").glob("*.json")
    }
    assert verdicts["bf16"]["psnr"] < 20  # it is finite, and it is wrong
    assert verdicts["f32"]["psnr"] > 60


def test_the_gate_runs_once(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    make_engine()
    load_engine("tiny", threads=1)

    def forbidden(*_: object) -> plans.GoldenResult:
        raise AssertionError("the gate ran again")

    monkeypatch.setattr(plans, "gate", forbidden)
    engine = load_engine("tiny", threads=1)
    assert engine.psnr > 35


def test_a_changed_recipe_or_damaged_cache_reruns_the_check(
    make_engine: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_engine()
    load_engine("tiny", device="cpu", threads=1)
    ran: list[object] = []
    real = plans.gate
    monkeypatch.setattr(plans, "gate", lambda *a: (ran.append(a), real(*a))[1])
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('version = "1.0"', 'version = "1.1"'))
    load_engine("tiny", device="cpu", threads=1)
    assert len(ran) == 1
    for path in (cache_dir() / "engines").glob("*.json"):
        path.write_text("{damaged")
    load_engine("tiny", device="cpu", threads=1)
    assert len(ran) == 2


def test_a_cache_that_cannot_be_written_is_no_error(
    make_engine: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_engine()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path / "file"))
    engine = load_engine("tiny", threads=1)
    assert engine.name == "tiny" and (tmp_path / "file").read_text() == ""


def test_a_network_that_is_wrong_everywhere_is_refused(make_engine: Maker) -> None:
    make_engine(answer=lambda x: x)
    for device in ("auto", "cpu", "onnx"):
        with pytest.raises(EngineError, match="does not match its reference's answers"):
            load_engine("tiny", device=device, threads=1)


def test_a_network_that_does_nothing_is_refused(make_engine: Maker) -> None:
    # The reference changes little: leaving the crops as they are reaches 40 dB, more than the recipe asks for.
    make_engine(
        layers=((1.0, 0.0),),
        answer=lambda x: 0.98 * x + 0.01,
        edit=lambda text: text.replace("f32 = 60.0", "f32 = 35.0"),
    )
    with pytest.raises(EngineError, match="does not match its reference's answers"):
        load_engine("tiny", device="cpu", threads=1)


@pytest.mark.parametrize("device", ["cpu", "onnx"])
@pytest.mark.parametrize(("old", "new"), [('name = "output"', 'name = "outptu"'), ('name = "input"', 'name = "inptu"')])
def test_a_tensor_that_the_network_does_not_have(make_engine: Maker, device: str, old: str, new: str) -> None:
    make_engine(edit=lambda text: text.replace(old, new))
    with pytest.raises(EngineError, match="engine tiny"):
        load_engine("tiny", device=device, threads=1)


def test_unknown_names_and_devices(make_engine: Maker) -> None:
    make_engine("sharpener")
    with pytest.raises(UsageError, match=r"unknown engine 'sharpner': the nearest is sharpener"):
        load_engine("sharpner")
    with pytest.raises(UsageError, match=r"device must be auto, cpu, .*not 'openvin:gpu': the nearest is openvino:gpu"):
        load_engine("sharpener", device="openvin:gpu")
    with pytest.raises(UsageError, match="EngineSet"):
        load_engine("auto")


ALL = (0, 0, 256, 256)


def _remembering(make_engine: Maker, wrong: float = 0.0, heads: str = "") -> Path:
    """A recurrent engine in the user's folder; `wrong` is added to its goldens of second frames."""
    folder = make_engine(answer=lambda x: x)
    data = remembering(64)
    old, new = (hashlib.sha256(d).hexdigest() for d in ((folder / "model.onnx").read_bytes(), data))
    text = (folder / "recipe.toml").read_text()
    text = text.replace(old, new).replace(f"bytes = {(folder / 'model.onnx').stat().st_size}", f"bytes = {len(data)}")
    (folder / "recipe.toml").write_text(text + f"[memory]\nshape = [2, 1, 1]\n{heads}")
    (folder / "model.onnx").write_bytes(data)
    with np.load(folder / "golden.npz") as golden:
        crops, restored = golden["crops"], golden["restored"]
    # The same picture again: ¾ of what was restored, ¼ of the crop.
    np.savez(folder / "golden.npz", crops=crops, restored=restored, next_crops=crops, next_restored=restored + wrong)
    return folder


@pytest.mark.parametrize(("device", "at_once"), [("cpu", 1), ("cpu", 2), ("onnx", 2)])
def test_a_recurrent_engine_remembers_each_face(make_engine: Maker, device: str, at_once: int) -> None:
    if device == "onnx":
        pytest.importorskip("onnxruntime")
    _remembering(make_engine)
    engine = EngineSet("tiny", device=device, threads=1, at_once=at_once).named("tiny")
    assert engine.recurrent
    flat = [np.full((1, 3, 64, 64), v, np.float32) for v in (0.2, 0.6, 0.8)]
    first = engine.submit(flat[0])
    second = engine.submit(flat[1], first)  # perhaps before the first is done
    other = engine.submit(flat[2])
    third = engine.submit(flat[1], second)
    for answer, value in ((first, 0.2), (second, 0.3), (other, 0.8), (third, 0.375)):
        np.testing.assert_allclose(answer.result().pixels, value, atol=4e-3)
    assert [float(f.result().state[0].state[0, 0, 0]) for f in (first, second, other, third)] == [1, 2, 1, 3]


def test_a_face_does_not_wait_for_another(make_engine: Maker) -> None:
    """Of two answers at once, one waits for the frame before; the engine is closed while it does."""
    _remembering(make_engine)
    engines = EngineSet("tiny", device="cpu", threads=1, at_once=2)
    engine, crop = engines.named("tiny"), np.full((1, 3, 64, 64), 0.5, np.float32)
    before: Future[Restored[Any]] = Future()
    waiting = engine.submit(crop, before)
    assert engine.submit(crop).result(30).pixels.shape == crop.shape
    assert not waiting.done()
    engines.close()
    before.set_exception(EngineError("it failed"))
    np.testing.assert_allclose(waiting.result(30).pixels, 0.5, atol=4e-3)


@pytest.mark.parametrize("device", ["cpu", "onnx"])
def test_a_network_may_see_a_region_and_remember_less(make_engine: Maker, device: str) -> None:
    """Given 104×96 of the crop's 128×128, it answers with what to add, and keeps what it makes of half the size."""
    if device == "onnx":
        pytest.importorskip("onnxruntime")
    x, y, w, h = 8, 16, 104, 96
    more = np.zeros((3, 128, 128), np.float32)
    more[:, y : y + h, x : x + w] = 0.1
    folder = make_engine(size=128, answer=lambda c: np.minimum(c + more, 1.0))
    data, old = keeping(h, w), (folder / "model.onnx").read_bytes()
    text = (folder / "recipe.toml").read_text()
    text = text.replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(data).hexdigest())
    text = text.replace(f"bytes = {len(old)}", f"bytes = {len(data)}").replace(
        "size = 128", f"size = 128\nregion = {[x, y, w, h]}"
    )
    text = text.replace('name = "output"', 'name = "output"\nresidual = true') + "[memory]\ngrid = 64\n"
    (folder / "recipe.toml").write_text(text)
    (folder / "model.onnx").write_bytes(data)
    with np.load(folder / "golden.npz") as golden:
        np.savez(folder / "golden.npz", **golden, next_crops=golden["crops"], next_restored=golden["restored"])
    engine = load_engine("tiny", device=device, threads=1)
    first = engine.submit(np.full((1, 3, 128, 128), 0.2, np.float32))
    second = engine.submit(np.full((1, 3, 128, 128), 0.22, np.float32), first)
    pixels = second.result().pixels[0]
    np.testing.assert_allclose(pixels[:, y : y + h, x : x + w], 0.32, atol=2e-3)
    assert pixels[:, :y].max() == pixels[:, y + h :].max() == pixels[:, :, :x].max() == np.float32(0.22)
    for answer, kept in ((first, 0.2), (second, 0.75 * 0.2 + 0.25 * 0.22)):
        memory = answer.result().state[0].kept
        assert memory.shape == (3, h // 2, w // 2)
        np.testing.assert_allclose(memory, kept, atol=2e-3)


def test_heads_are_spread_over_the_crop(make_engine: Maker) -> None:
    _remembering(make_engine, heads="heads = true\n")
    engine = load_engine("tiny", device="cpu", threads=1)
    first = engine.submit(_crops(2))
    second = engine.submit(_crops(2), first).result()
    for answer, hidden, scale in ((first.result(), 0.0, -0.75), (second, 0.5, 0.25)):
        assert answer.occlusion is not None and answer.log_scale is not None
        assert answer.occlusion.shape == (2, 64, 64) and answer.log_scale.shape == (2, 1, 1)
        np.testing.assert_allclose(answer.occlusion, hidden, atol=4e-3)
        np.testing.assert_allclose(answer.log_scale, scale, atol=4e-3)
    part = spread(np.array([[0.0, 1.0], [0.0, 1.0]], np.float32), 64, (8, 16, 32, 40))
    assert np.all(np.diff(part[16:56, 8:40], axis=1) >= 0) and part[16:56, 39].min() == 1
    assert not part[:16].any() and not part[56:].any() and not part[:, :8].any() and not part[:, 40:].any()


def test_a_fault_is_not_remembered(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    _remembering(make_engine)
    engine = load_engine("tiny", device="cpu", threads=1)
    bad = engine.submit(np.full((1, 3, 64, 64), np.nan, np.float32))
    after = engine.submit(np.full((1, 3, 64, 64), 0.5, np.float32), bad)
    with pytest.raises(EngineError, match="not numbers"):
        bad.result()
    np.testing.assert_allclose(after.result().pixels, 0.5, atol=4e-3)


def test_the_gate_looks_at_second_frames_too(make_engine: Maker) -> None:
    _remembering(make_engine, wrong=0.05)
    with pytest.raises(EngineError, match="does not match its reference's answers"):
        load_engine("tiny", device="cpu", threads=1)


def test_without_onnxruntime_the_line_that_repairs_it(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    make_engine()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingComponent, match=r"pip install .*\[onnx\]'"):
        load_engine("tiny", device="onnx")
    load_engine("tiny", device="auto", threads=1)


def test_engines_are_listed_with_their_faults(make_engine: Maker) -> None:
    make_engine("good")
    (make_engine("torn") / "model.onnx").write_bytes(b"")
    make_engine("odd", edit=lambda text: text.replace("kind =", "knid ="))
    rows = {row.name: row for row in list_engines(device="cpu")}
    assert rows["good"].fault is None
    assert rows["good"].ms is None
    assert rows["good"].commercial_use
    assert "bytes instead" in str(rows["torn"].fault)
    assert "the nearest is kind" in str(rows["odd"].fault)
    ms = load_engine("good", device="cpu", threads=1).measure()
    rows = {row.name: row for row in list_engines(device="cpu")}
    assert rows["good"].ms == ms
    assert rows["good"].device == "cpu"
    json.dumps(asdict(rows["good"]))


def test_a_face_of_changing_width_keeps_its_engine() -> None:
    widths = 160 + np.random.default_rng(2).normal(0, 6, 200)
    assert not any(needs_large_engine(float(width), 1, 20.0, large=False) for width in widths)
    assert needs_large_engine(190, 1, 20.0, large=False)
    assert not needs_large_engine(130, 1, 20.0, large=True)


def _ours(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks under our engines' names."""
    make_engine("rtface-m", size=64)
    make_engine("rtface-s", size=32)
    real = HostEngine.__init__

    def init(self: HostEngine, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        self.ms = 20.0

    monkeypatch.setattr(HostEngine, "__init__", init)


def test_auto_has_both_and_says_so(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    _ours(make_engine, monkeypatch)
    engines = EngineSet("auto", device="cpu", threads=1)
    assert engines.pick(300).name == engines.pick(300, 1).name == "rtface-m"
    assert engines.pick(300, 4).name == engines.pick(50).name == "rtface-s"
    names, device = engines.described
    assert names == "rtface-m+rtface-s"
    assert device.startswith("cpu (openvino 20")
    assert device.endswith(", 1 thread)") == ("bf16" in device)  # the answers depend on it


def test_a_set_of_one_and_one_more_by_name(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    _ours(make_engine, monkeypatch)
    make_engine()
    engines = EngineSet("tiny", threads=1)
    assert engines.named("rtface-s").size == 32
    assert engines.named("rtface-s") is engines.named("rtface-s")
    assert engines.named("default").name == "rtface-m"
    assert engines.pick(40).name == engines.pick(400, 5).name == "tiny"
    assert engines.described[0] == "tiny"
    with pytest.raises(UsageError, match="unknown engine"):
        engines.named("none")


def test_a_set_that_cannot_be_whole_leaves_nothing_open(
    make_engine: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ours(make_engine, monkeypatch)
    closed: list[str] = []
    real = HostEngine.close
    monkeypatch.setattr(HostEngine, "close", lambda self: (closed.append(self.name), real(self))[1])
    (tmp_path / "config" / "engines" / "rtface-s" / "model.onnx").write_bytes(b"")
    with pytest.raises(MissingComponent, match="rtface-s"):
        EngineSet("auto", threads=1)
    assert closed == ["rtface-m"]


@pytest.mark.slow
def test_the_number_of_threads_changes_no_answer_of_ours() -> None:
    answers: list[np.ndarray] = []
    for threads in (1, 4):
        engine = load_engine("rtface-s", device="cpu", threads=threads)
        assert not engine.threads
        crop = load_golden(engine.recipe)[0][:1]
        first = engine.submit(crop)
        answers.append(np.stack([first.result().pixels, engine.submit(crop, first).result().pixels]))
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("colour", [(0.25, 0.4, 0.7), (0.1, 0.1, 0.1)], ids=["blue", "black"])
def test_an_object_before_a_face_is_told_from_it(colour: tuple[float, float, float]) -> None:
    """A bar over the nose and one cheek of the public-domain portrait of the golden crops."""
    engine = load_engine("rtface-s", device="cpu", threads=1)
    crop = load_golden(engine.recipe)[0][0]
    hidden = np.zeros(crop.shape[1:], np.float32)
    hidden[120:165, 80:150] = 1
    image = crop + cv2.GaussianBlur(hidden, (0, 0), 1) * (np.array(colour, np.float32)[:, None, None] - crop)
    shown, free = (engine.submit(z[None]).result().occlusion for z in (image, crop))
    assert shown is not None and free is not None
    face = np.zeros(hidden.shape, bool)
    face[70:220, 70:190] = True
    away = face & (cv2.dilate(hidden, np.ones((17, 17))) == 0)
    assert shown[0][hidden > 0].mean() > 0.8 and shown[0][away].mean() < 0.15
    assert free[0][face].mean() < 0.1


@pytest.mark.slow
def test_vivid_draws_no_dots_in_a_blurred_face() -> None:
    """What its answer holds of the finest structure, by that of ``rtface-m``: dots would add to it."""
    fine: dict[str, float] = {}
    for name in ("rtface-m", "rtface-m-vivid"):
        engine = load_engine(name, device="cpu", threads=1)
        blurred = cv2.GaussianBlur(load_golden(engine.recipe)[0][0].transpose(1, 2, 0), (0, 0), 12)
        seen = engine.submit(np.ascontiguousarray(blurred.transpose(2, 0, 1))[None]).result().pixels[0]
        shown = seen.transpose(1, 2, 0)
        fine[name] = float((shown - cv2.GaussianBlur(shown, (0, 0), 1.5))[140:440, 130:380].std())
    assert 0.5 < fine["rtface-m-vivid"] / fine["rtface-m"] < 1.1


@pytest.mark.parametrize("ms", [0.01, 1e6])
def test_films_do_not_depend_on_measured_speed(ms: float) -> None:
    def opened(recipe: Any) -> Any:
        return SimpleNamespace(name=recipe.name, ms=ms, reason="", recurrent=recipe.recurrent, heavy=False)

    engines = EngineSet("auto", opener=opened)
    assert [engines.pick(width).name for width in (100.0, 300.0)] == ["rtface-s", "rtface-m"]
    assert spacing("auto", engines.pick(300.0)) == 1
    assert needs_large_engine(300.0, 1, ms) == (ms < 50.0)  # a live run does
