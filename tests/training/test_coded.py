"""Pairs at the encoded resolution, the network that learns from them, its export, and the fit of strengths."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

torch = pytest.importorskip("torch")

from rtface.engine.coded_network import CodedNetwork  # noqa: E402
from training.data.coded_pairs import CELL, CODECS, PATCH, Coding, coded, film  # noqa: E402
from training.data.portraits import Face  # noqa: E402
from training.export.export_coded import export  # noqa: E402
from training.loop.fit_strength import fitted, gains  # noqa: E402
from training.loop.train_coded import Learner, Pairs, validate  # noqa: E402
from training.model.coded import SMALL_BLOCKS, SMALL_WIDTHS, CodedNet, step_planes  # noqa: E402

PORTRAIT = data.astronaut()


def picture(side: int = 96) -> np.ndarray:
    return cv2.resize(PORTRAIT, (side, side), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(("codec", "fine", "coarse"), [
    ("libx264", {"crf": "18"}, {"crf": "36"}), ("mpeg2video", {"q": "3"}, {"q": "20"}),
    ("mpeg4", {"q": "3"}, {"q": "20"}),
    ("jpeg", 95, 30)])  # fmt: skip
def test_steps_rise_with_the_damage(codec: str, fine: object, coarse: object) -> None:
    images = [picture()] * 3
    found: list[tuple[float, float]] = []
    for setting in (fine, coarse):
        coding = Coding(codec, quality=setting) if isinstance(setting, int) else Coding(codec, dict(setting))  # type: ignore[call-overload]
        shown, steps = coded(images, coding)[1]
        assert steps.shape == (96 // CELL, 96 // CELL) and np.isfinite(steps).all()
        found.append((float(steps.mean()), float(((shown.astype(float) - images[1]) ** 2).mean())))
    assert found[1][0] > found[0][0] + 1 and found[1][1] > found[0][1]


def test_without_a_codec_nothing_is_known_of_steps() -> None:
    ((_, steps),) = coded([picture()], Coding("none"))
    assert np.isnan(steps).all()


def test_a_film_gives_patches_with_their_truth(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "astronaut.png"), PORTRAIT[:, :, ::-1])
    face = Face(tmp_path / "astronaut.png", 512, "own", "somebody", gray=False)
    samples = [s for n in range(6) for s in film([face], np.random.default_rng([3, n]), {})]
    assert samples and {s.codec for s in samples} <= set(range(len(CODECS)))
    for s in samples:
        assert s.seen.shape == s.truth.shape == (PATCH, PATCH, 3) and s.steps.shape == (PATCH // CELL, PATCH // CELL)
    np.savez(tmp_path / "1-0000.npz", seen=np.stack([s.seen for s in samples]),
             truth=np.stack([s.truth for s in samples]),
             steps=np.stack([s.steps for s in samples]).astype(np.float16),
             meta=np.array([(s.codec, s.px) for s in samples], np.float32))  # fmt: skip
    pairs = Pairs(tmp_path, 100, torch.device("cpu"))
    assert pairs.count == len(samples) and pairs.refresh() == len(samples)
    inputs = pairs.batch(torch.Generator().manual_seed(1), 2, 64)
    seen, truth, steps = inputs
    assert seen.shape == truth.shape == (2, 3, 64, 64) and steps.shape == (2, 8, 8)
    assert float(((seen - truth) ** 2).mean()) < 0.02  # varied alike
    learner = Learner(CodedNet(SMALL_WIDTHS, SMALL_BLOCKS), 2e-3, inputs)
    before = learner.state()["stem.weight"].clone()
    for _ in range(3):
        learner.step(0.0)
    assert torch.isfinite(learner.figures).all()
    assert all(torch.isfinite(v).all() for v in learner.state().values())
    assert not torch.equal(learner.state()["stem.weight"], before)
    found = learner.averaged(lambda net: validate(net, pairs, with_steps=True))
    assert found["worst"] <= found["gain"] < 1.0 and found["miss"] >= 0.0


def test_the_exported_network_answers_as_torch_does(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = CodedNet()
    torch.save({"ema": net.state_dict()}, tmp_path / "last.pt")
    digest = export(tmp_path / "last.pt", tmp_path / "model.onnx")
    shown = picture(64)
    steps = np.full((8, 8), 3.0, np.float32)
    change, errors = CodedNetwork(1, tmp_path / "model.onnx", digest)(shown, steps)
    with torch.no_grad():
        image = torch.from_numpy(shown).permute(2, 0, 1)[None].float() / 255
        d, log_error = net.eval()(image, step_planes(torch.from_numpy(steps)[None]))
    assert np.abs(change - d[0].numpy()).max() < 0.02  # it may run in 16 bits
    assert np.allclose(np.log(errors / 255**2), log_error[0].numpy(), atol=0.1)


def test_the_best_strength_is_found() -> None:
    r = np.random.default_rng(2)
    s = r.uniform(0.2, 1.0, 300)
    x = torch.tensor(np.c_[np.ones(300), s], dtype=torch.float32)
    rows = torch.tensor(
        np.c_[s * 900, np.full(300, 900.0), np.full(300, 2000.0), np.full(300, 300.0)], dtype=torch.float32
    )
    w = fitted(x, rows)
    assert torch.allclose(x @ w, x[:, 1], atol=0.05)
    assert (gains(x[:, 1], rows) >= gains(x[:, 1] - 0.1, rows)).all()
