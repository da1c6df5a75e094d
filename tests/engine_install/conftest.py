from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rtface.util import plugins
from rtface_engines import catalogue, environment
from tests.engine_install.checkpoints import write_zip
from tests.engine_install.published import Publisher
from tests.engine_install.server import Server, serving
from tests.entry_points import registered


@pytest.fixture(scope="session", autouse=True)
def entry_points(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with registered(tmp_path_factory.mktemp("site"), "rtface-engines"):
        yield


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes this user's settings and cache, or asks a proxy."""
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("RTFACE_TORCH_PYTHON", raising=False)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """An installation that offers two networks, and converts without torch."""
    made = Publisher(tmp_path / "installed" / "engines")
    monkeypatch.setattr(catalogue, "published_folder", lambda: made.root / "published")
    installed = plugins.installed
    monkeypatch.setattr(plugins, "installed", lambda kind: {} if kind == "engine" else installed(kind))
    monkeypatch.setattr(environment, "MODULES", ("json",))
    catalogue.converter_root.cache_clear()
    yield made
    catalogue.converter_root.cache_clear()


@pytest.fixture
def weights(tmp_path: Path, published: Publisher) -> Path:
    """A file that fits the first offer."""
    return write_zip(tmp_path / "mine.pth", {"params_ema": published.tensors})


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made
