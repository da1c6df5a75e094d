"""What can be added, and what is said of what cannot."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from rtface.errors import EngineError, InputError, MissingComponent, UsageError
from rtface.util import plugins
from rtface_engines.catalogue import find_offers, offer_named, published_folder, read_offers
from rtface_engines.checkpoint import read_contents
from rtface_engines.download import digest
from rtface_engines.identify import check, compare, recognise
from tests.engine_install.checkpoints import Tensor, write_zip
from tests.engine_install.published import KEYS, Publisher

PUBLISHED = Path(__file__).parents[2] / "engines" / "published"


def test_offers_are_read_whole(published: Publisher) -> None:
    found = find_offers()
    assert list(found) == ["tiny-1", "tiny-2", "other"]
    offer = found["tiny-1"]
    assert offer.keys() == KEYS and offer.table.input.range == (-1, 1) and offer.published.states[0] == "params_ema"
    assert not offer.table.licence.commercial_use and offer.table.architecture.family == "GAN"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('family = "GAN"', 'famly = "GAN"', r"unknown key architecture\.famly: the nearest is family"),
        ('family = "GAN"', 'family = "GANs"', r"architecture\.family: invalid enum value 'GANs'"),
        ('version = "1"\n', "", r"key offers\[0\]\.version is missing"),
        ('file = "tiny1.pth"', 'variant = "wide"', r"offers\[0\]\.variant: expected `object"),
        ("[input]", "[input", "Expected"),
    ],
)
def test_a_wrong_key_is_named(
    published: Publisher, old: str, new: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    published.edit(old, new)
    with pytest.raises(EngineError, match=message) as caught:
        read_offers(published.folder)
    assert str(published.folder) in str(caught.value)
    assert find_offers() == {} and "the offers of tiny are omitted" in caplog.text


def test_a_name_that_is_not_offered(published: Publisher) -> None:
    found = find_offers()
    with pytest.raises(UsageError, match=r"no offer 'tiny1': the nearest is tiny-1; available: tiny-1, tiny-2"):
        offer_named("tiny1", found)
    with pytest.raises(
        MissingComponent, match=r"CodeFormer comes with .* install it with: .*engines/published/codeformer"
    ):
        offer_named("CodeFormer", found)
    with pytest.raises(UsageError, match=r"the nearest is hifacegan"):
        offer_named("hifacgan", found)


def test_other_distributions_offer_too(
    published: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = tmp_path / "site" / "rtface_more"
    package.parent.mkdir()
    published.folder.rename(package)
    (package / "__init__.py").write_text("raise RuntimeError('nothing of a plugin is run')")
    monkeypatch.syspath_prepend(str(package.parent))
    importlib.invalidate_caches()
    points = [EntryPoint(name, f"rtface_{end}", "rtface.engines") for name, end in (("tiny", "more"), ("gone", "gone"))]
    monkeypatch.setattr(plugins, "installed", lambda kind: {point.name: point for point in points if kind == "engine"})
    assert "tiny-1" in find_offers() and "rtface_more" not in sys.modules
    assert "the offers of gone are omitted: there is no package rtface_gone" in caplog.text


def test_weights_are_recognised_by_their_keys(published: Publisher, tmp_path: Path) -> None:
    found = find_offers()
    path = write_zip(
        tmp_path / "a.ckpt",
        {"state_dict": {f"net.{n}": t for n, t in published.tensors.items()} | {"lost.weight": Tensor((2,))}},
    )
    assert recognise(path, read_contents(path), "", [found["other"], found["tiny-1"]]).name == "other"


def test_offers_with_the_same_keys_are_told_apart_by_hash(published: Publisher, weights: Path, tmp_path: Path) -> None:
    contents = read_contents(weights)
    with pytest.raises(
        UsageError,
        match=r"fits tiny-1 and tiny-2, and its SHA-256 matches no published "
        r"file; give the engine, as in: rtface engines add tiny-1 --from ",
    ):
        recognise(weights, contents, digest(weights), find_offers().values())
    published.edit('file = "tiny2.pth"', f'sha256 = "{digest(weights)}"')
    assert recognise(weights, contents, digest(weights), find_offers().values()).name == "tiny-2"
    called = tmp_path / "Tiny1.pth"
    weights.rename(called)
    with pytest.raises(UsageError, match="add tiny-1 --from"):
        recognise(called, contents, "", find_offers().values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("stem.bias"), r"1 of 3 tensors are missing \(first: stem.bias\)"),
        (lambda t: t.update({"x.y": Tensor((2,))}), r"1 do not belong to the network \(first: x.y\)"),
        (lambda t: t.update({"stem.bias": Tensor((4,))}), r"1 have another shape \(first: stem.bias\)"),
    ],
)
def test_what_does_not_fit_is_said(published: Publisher, tmp_path: Path, change: Any, message: str) -> None:
    change(published.tensors)
    path, found = write_zip(tmp_path / "a.pth", {"params": published.tensors}), find_offers()
    with pytest.raises(InputError, match=f"does not contain the weights of tiny-1: {message}"):
        check(path, read_contents(path), found["tiny-1"], found)
    with pytest.raises(InputError, match=f"weights of a known engine; the nearest is tiny-1: {message}"):
        recognise(path, read_contents(path), "", found.values())


def test_a_file_like_none_of_them(published: Publisher, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.pth", {"params": {"x": Tensor((2,))}})
    with pytest.raises(
        InputError,
        match=r"an engine that can be added \(tiny-1, tiny-2, other\); separate "
        r"distributions contain codeformer \(.*/published/codeformer\) "
        r"and hifacegan \(",
    ):
        recognise(path, read_contents(path), "", find_offers().values())


def test_the_weights_of_another_offer_are_named(published: Publisher, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.pth", {f"net.{n}": t for n, t in published.tensors.items()})
    found = find_offers()
    with pytest.raises(
        InputError,
        match=r"contains the weights of other.*, not of tiny-1; add it with: rtface "
        r"engines add other --from",
    ):
        check(path, read_contents(path), found["tiny-1"], found)


def test_ours_can_be_read_and_their_keys_are_whole() -> None:
    found = find_offers()
    assert published_folder() == PUBLISHED
    for folder in {path.parent for path in PUBLISHED.glob("*/offers.toml")}:
        for offer in read_offers(folder):
            assert offer.name in found
            assert len(offer.keys()) > 50 and offer.published.file
            assert offer.table.licence.terms.strip()
            state = {name: Tensor(shape) for name, shape in offer.keys().items()}
            first = offer.published.states[0]
            assert not compare({first: read(state)} if first else read(state), offer).count


@pytest.mark.parametrize("prefix", ["", "vqvae."])
@pytest.mark.parametrize("name", ["restoreformer", "restoreformer-plus-plus"])
def test_a_network_alone_or_in_a_checkpoint(name: str, prefix: str) -> None:
    found = find_offers()
    state = read({f"{prefix}{key}": Tensor(shape) for key, shape in found[name].keys().items()})
    for contents in (state, {"params_ema": state}, {"state_dict": state}):
        assert recognise(Path("a.ckpt"), contents, "", found.values()).name == name


def read(state: dict[str, Tensor]) -> dict[str, object]:
    from rtface_engines.checkpoint import Tensor as Seen

    return {name: Seen(tensor.shape, "float32") for name, tensor in state.items()}
