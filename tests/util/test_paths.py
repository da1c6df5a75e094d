"""Where files are kept, also where there is no home folder."""

import pytest

from rtface.config.option_sources import load
from rtface.config.options import Options
from rtface.engine.recipe import find_recipes
from rtface.errors import UsageError
from rtface.util import paths


@pytest.fixture
def homeless(monkeypatch):
    """No HOME and no entry in the passwd file, as in a container with ``--user``."""

    def unknown(*a, **k):
        raise RuntimeError("could not determine the home directory")

    for variable in (paths.CACHE, paths.CONFIG, "RTFACE_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(paths.platformdirs, "user_cache_dir", unknown)
    monkeypatch.setattr(paths.platformdirs, "user_config_dir", unknown)
    monkeypatch.setattr(paths.Path, "expanduser", unknown)
    yield
    paths.clean()


@pytest.mark.usefixtures("homeless")
def test_without_a_home_the_cache_is_temporary(caplog):
    folder = paths.cache_dir()
    assert folder.is_dir() and folder.stat().st_mode & 0o077 == 0
    assert paths.cache_dir() == folder
    assert [r.message for r in caplog.records if "RTFACE_CACHE" in r.message] == [caplog.records[0].message]
    paths.clean()
    assert not folder.exists()


@pytest.mark.usefixtures("homeless")
def test_without_a_home_there_are_no_settings():
    assert paths.config_dir() is None
    assert load({}).options.strength == 1.0
    assert "rtface-m" in find_recipes()


@pytest.mark.usefixtures("homeless")
def test_a_home_that_is_not_known_is_said():
    with pytest.raises(UsageError, match=r"^--report: ~nobody-here/x.json refers to an unknown home folder"):
        load({"report": "~nobody-here/x.json"})


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "~nobody-has-this-name/a"])
def test_what_is_no_files_name_is_refused(name):
    for key, value in (("report", name), ("sign", f"{name},k.pem"), ("person", f"anna={name}")):
        with pytest.raises(UsageError, match=r"name of a file|home folder"):
            Options.of({key: value}).to_dict()
    assert Options.of({"report": "\udcff"}).report == paths.Path("\udcff")  # bytes that are no UTF-8
