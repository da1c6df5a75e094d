"""OSDFace, which cannot be added: names and shapes, and what its denoising network is told."""

from __future__ import annotations

import tomllib

import numpy as np

from tests.engines.common import PARITY, PUBLISHED, ROOT, gap, has_published_keys, offers, torch
from tests.engines.drawn import drawn_crops, drawn_state
from tests.engines.osdface_fixtures import COUNT, SIZE, WIDTH

from engines.published.osdface.model import Prompter, Widen, build  # isort: skip

FOLDER = PUBLISHED / "osdface"
(OFFER,) = offers(FOLDER)


def test_names_and_shapes_are_the_published_ones() -> None:
    has_published_keys(OFFER, FOLDER / "osdface.keys.txt")


def test_it_is_refused_while_it_has_no_licence() -> None:
    table = tomllib.loads((FOLDER / "offers.toml").read_text(encoding="utf-8"))
    assert "no licence" in table["offers"][0]["refused"] and not table["licence"]["commercial_use"]


def test_the_network_is_told_what_the_published_one_is() -> None:
    """In float64, because the order of the entries hangs on distances that may be close."""
    look, widen = Prompter(WIDTH, 1024, 512, SIZE), Widen(512, 1024)
    for net in (look, widen):
        state = drawn_state({name: tuple(value.shape) for name, value in net.state_dict().items()})
        net.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        net.double()
    with torch.no_grad(), np.load(ROOT / "tests" / "engines" / "osdface.npz") as file:
        found = widen(look(torch.from_numpy(drawn_crops(COUNT, SIZE)).double()))
        assert gap(found[:, :, ::16], file["told"]) < PARITY


def test_a_small_one_answers() -> None:
    net = build(widths=(32, 64, 64, 64), pictures=(32, 32, 64, 64), head=16, width=32, size=64)
    with torch.no_grad():
        answer = net(torch.from_numpy(drawn_crops(2, 64)))
    assert answer.shape == (2, 3, 64, 64) and bool(answer.isfinite().all())
