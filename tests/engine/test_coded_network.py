"""The shipped network of the first stage: what holds of its answers whatever its weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from rtface.engine.coded_network import CodedNetwork
from rtface.errors import MissingComponent
from rtface.frame import Bytes, Float32


@pytest.fixture(scope="module")
def network() -> CodedNetwork:
    return CodedNetwork(threads=1)


def face() -> Bytes:
    return np.ascontiguousarray(data.astronaut()[32:224, 144:320])


def coded(quality: int) -> Bytes:
    _, packed = cv2.imencode(".jpg", face()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1])


def steps(picture: Bytes, step: float) -> Float32:
    return np.full((picture.shape[0] // 8, picture.shape[1] // 8), np.log2(step), np.float32)


@pytest.mark.parametrize("size", [(32, 32), (48, 112), (256, 144), (512, 512)])
@pytest.mark.parametrize("step", [None, 0.5, 20.0, 200.0])
def test_answers_fit_the_picture(network: CodedNetwork, size: tuple[int, int], step: float | None) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    correction, errors = network(noise, None if step is None else steps(noise, step))
    assert correction.dtype == errors.dtype == np.float32
    assert correction.shape == (3, *size) and errors.shape == (2, size[0] // 8, size[1] // 8)
    assert np.isfinite(correction).all() and np.isfinite(errors).all()
    assert np.abs(correction).max() < 1 and errors.min() > 0 and errors.max() <= 255.0 ** 2


@pytest.mark.parametrize("step", [None, 4.0, 40.0])
@pytest.mark.parametrize("value", [16, 128, 235])
def test_a_flat_picture_is_left_nearly_as_it_is(network: CodedNetwork, value: int, step: float | None) -> None:
    flat = np.full((128, 128, 3), value, np.uint8)
    correction, _ = network(flat, None if step is None else steps(flat, step))
    assert np.abs(correction[:, 16:-16, 16:-16]).max() < 4 / 255


def test_it_corrects_what_was_coded_coarsely(network: CodedNetwork) -> None:
    """And expects more of an error there than where hardly anything was lost."""
    fine, coarse = ([part.copy() for part in network(coded(quality), None)] for quality in (98, 15))
    lost = coded(15).astype(np.float32) - face()
    left = lost + 255 * coarse[0].transpose(1, 2, 0)
    assert (left ** 2).mean() < (lost ** 2).mean()
    assert coarse[1][0].mean() > fine[1][0].mean() and coarse[1][1].mean() < coarse[1][0].mean()


def test_steps_matter(network: CodedNetwork) -> None:
    picture = coded(30)
    first, second = (network(picture, steps(picture, step))[1].copy() for step in (2.0, 40.0))
    assert np.abs(np.log(second / first)).mean() > 0.02


def test_the_same_picture_gets_the_same_answer(network: CodedNetwork) -> None:
    picture = coded(30)
    first = [part.copy() for part in network(picture, steps(picture, 8.0))]
    network(np.zeros((64, 64, 3), np.uint8), None)
    again = network(picture, steps(picture, 8.0))
    other = CodedNetwork(threads=1)(picture, steps(picture, 8.0))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_damaged_network_says_how_to_repair_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    with pytest.raises(MissingComponent, match="coded network"):
        CodedNetwork(path=path)
