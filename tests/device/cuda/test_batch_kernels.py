"""Crops into a network's batch, and its answers out of it, against a few lines of numpy."""

import numpy as np
import pytest

from rtface.device.cuda.batch import BLOCK, CODE, KERNELS, NETWORK, ROW, gather_grid, scatter_grid
from tests.device.cuda.host_kernels import HostKernels, Runner, compile_kernels
from tests.pairs import pairs

S, X, Y, W, H = 32, 6, 4, 20, 24  # the crop's side, and the region that the network is given


@pytest.fixture(scope="session")
def batcher() -> HostKernels:
    return compile_kernels(CODE, KERNELS)


def network(shrink: int, state: int, maps: int, *, residual: bool, remembers: bool, low: float) -> np.ndarray:
    return np.array((S, X, Y, W, H, shrink, state, maps, residual, remembers, low, 1.0, low, 1.0), NETWORK)


def shrunk(pictures: np.ndarray, k: int) -> np.ndarray:
    n, c, h, w = pictures.shape
    return pictures.reshape(n, c, h // k, k, w // k, k).mean((3, 5))


KINDS = {
    "plain": (1, 0, 0, False, False, 0.0),
    "-1 to 1": (1, 0, 0, False, False, -1.0),
    "residual": (1, 0, 0, True, False, 0.0),
    "remembers": (1, 0, 35, True, True, 0.0),
    "at half size": (2, 0, 35, True, True, 0.0),
    "with a state": (2, 48, 35, True, True, 0.0),
}


@pytest.mark.parametrize(("kind", "batch"), pairs(list(KINDS), [1, 8, 32], ["with a state"]))
def test_batches_are_filled_and_emptied(kind: str, batch: int, batcher: Runner) -> None:
    k, state, maps, residual, remembers, low = KINDS[kind]
    rng = np.random.default_rng(batch)
    told = batcher.hold(network(k, state, maps, residual=residual, remembers=remembers, low=low)[None])
    h, w = H // k, W // k

    def some(*shape: int) -> np.ndarray:
        return batcher.hold(rng.random((batch, *shape), dtype=np.float32))

    def room(*shape: int) -> np.ndarray:
        return batcher.hold(np.full((batch, *shape), np.nan, np.float32))

    small, state_shape, map_shape = (3, h, w), (max(state, 1),), (max(maps, 1),)
    crops, kept, states = some(3, S, S), some(*small), some(*state_shape)
    shapes = {"kept_next": small, "state_next": state_shape, "occlusion": map_shape, "log_scale": map_shape}
    out = {"restored": room(3, S, S)} | {name: room(*shape) for name, shape in shapes.items()}
    new = np.arange(batch) % 3 == 1  # faces of which nothing is remembered
    rows = batcher.hold(np.zeros(batch, ROW))
    for name, array in {"crop": crops, "kept": kept, "state": states, **out}.items():
        rows[name] = [0 if name in ("kept", "state") and new[n] else one.ctypes.data for n, one in enumerate(array)]

    shapes = {"crop": (3, H, W), "past": small, "known": (1,), "state": state_shape, "shrunk": small}
    given = {name: room(*shape) for name, shape in shapes.items()}

    def launch(kernel: str, grid: tuple[int, int, int], *arrays: np.ndarray) -> None:
        batcher.launch(kernel, grid, BLOCK, *(np.uint64(a.ctypes.data) for a in (rows, told, *arrays)))

    launch("gather", gather_grid(told[0], batch), *given.values())
    region = crops[:, :, Y : Y + H, X : X + W]
    np.testing.assert_allclose(given["crop"], region * (1 - low) + low, atol=1e-6)
    if remembers:
        np.testing.assert_array_equal(given["past"], np.where(new[:, None, None, None], 0, kept))
        np.testing.assert_array_equal(given["known"][:, 0], ~new)
        if k > 1:
            np.testing.assert_allclose(given["shrunk"], shrunk(region, k), atol=1e-6)
        if state:
            np.testing.assert_array_equal(given["state"], np.where(new[:, None], 0, states))

    output, kept_out, state_out, occlusion, scale = (
        some(*shape) for shape in ((3, H, W), small, state_shape, map_shape, map_shape)
    )
    output -= 0.5
    output[0, 1, 2, 3] = np.nan
    launch("scatter", scatter_grid(told[0], batch), output, kept_out, given["shrunk"], state_out, occlusion, scale)
    value = (output - low) / (1 - low)
    value = np.clip(value + region if residual else value, 0, 1)
    wanted = crops.copy()
    wanted[:, :, Y : Y + H, X : X + W] = value
    np.testing.assert_allclose(out["restored"], wanted, atol=1e-6)
    assert np.isnan(out["restored"]).sum() == 1
    if not remembers:
        assert np.isnan(out["kept_next"]).all() and np.isnan(out["occlusion"]).all()
        return
    next_past = np.clip(kept_out + given["shrunk"], 0, 1) if k > 1 else value
    np.testing.assert_allclose(out["kept_next"], next_past, atol=1e-6)
    np.testing.assert_array_equal(out["occlusion"], occlusion)
    np.testing.assert_array_equal(out["log_scale"], scale)
    if state:
        np.testing.assert_array_equal(out["state_next"], state_out)


def test_an_empty_row_is_left_alone(batcher: Runner) -> None:
    told = batcher.hold(network(1, 0, 0, residual=False, remembers=True, low=0.0)[None])
    rows, batch = batcher.hold(np.zeros(1, ROW)), batcher.hold(np.full((5, 3, H, W), np.nan, np.float32))
    addresses = [np.uint64(a.ctypes.data) for a in (rows, told, *batch)]
    batcher.launch("gather", gather_grid(told[0], 1), BLOCK, *addresses)
    batcher.launch("scatter", scatter_grid(told[0], 1), BLOCK, *addresses, np.uint64(0))
    assert np.isnan(batch).all()
