"""What holds for all tests."""

import importlib.util
import os
import shutil
import signal
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

# What a variable's program or package lets run (CONTRIBUTING.md).
SWITCHES = {
    "CHROMIUM": "the studio's page",
    "DBUS": "the icon in the tray",
    "FFMPEG": "live with ffmpeg",
    "GST_PYTHON": "RTSP servers",
    "NGINX": "RTMP servers",
    "RANDOM_FACE": "rtface-synthetic's generator",
    "SRT": "SRT",
    "VM_RUN": "virtual cameras of a kernel",
    "WHEEL": "the wheel, built and installed",
}
SLOW = tuple(
    Path(__file__).parent / name for name in ("live/whole", "device/cuda", "engine/cuda", "engine/tensorrt", "training")
)
SLOWEST = frozenset((Path(__file__).parent / "slow.txt").read_text().split())  # by `python -m tests.durations`
LIBRARY = Path(__file__).parents[1] / "rtface"
# Slow tests of these folders take turns in CI; those of sources that changed always run.
TURNS = {
    "tests/live/whole/test_sink": "rtface/live/sinks/",
    "tests/live/whole/test_source": "rtface/live/sources/",
    "engines/published/": "engines/published/",
    "engines/rtface-learn/": "engines/rtface-learn/",
    "plugins/rtface-farm/": "plugins/rtface-farm/",
    "plugins/rtface-overlays/": "plugins/rtface-overlays/",
    "plugins/rtface-synthetic/": "plugins/rtface-synthetic/",
    "tests/benchmarks/": "benchmarks/",
    "tests/engine_install/": "engines/rtface_engines/",
    "tests/engines/": "engines/rtface_engines/",
    "tests/packaging/": "pyproject.toml",
    "tests/studio/": "plugins/rtface-studio/",
    "tests/training/": "engines/training/",
} | {f"tests/{package.name}/": f"rtface/{package.name}/" for package in LIBRARY.iterdir() if package.is_dir()}


def pytest_configure() -> None:
    """Signals as on a terminal: what runs in the background of a shell, or under nohup, was started with some of them
    ignored, and would hand that on to the programs whose end by a signal is tested."""
    if os.name == "posix":
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Says before a run of everything what is left out, and what would enable it."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    everything = session.config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if terminal is None or not everything or hasattr(session.config, "workerinput"):
        return
    chosen = session.config.getoption("markexpr")
    for marker, command in (("slow", "make test-all"), ("soak", "make soak")):
        if f"not {marker}" in chosen:
            terminal.write_line(f"left out: tests marked {marker}; they run with: {command}")
    for name, what in SWITCHES.items():
        if not os.environ.get(f"RTFACE_TEST_{name}"):
            terminal.write_line(f"left out: {what}; set RTFACE_TEST_{name} (CONTRIBUTING.md)")
    if importlib.util.find_spec("torch") is None:
        terminal.write_line("left out: what needs torch; it runs with: make test-engines")
    if shutil.which("nvidia-smi") is None:
        terminal.write_line("left out: what needs an NVIDIA GPU (tests/gpu)")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than cores, as tests wait for a fifth of their time."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks slow tests by folder, fixture and list, and keeps those whose turn it is.

    Whole live programs go by the clock and by real servers; a simulated GPU, training and a browser take time.
    """
    for item in items:
        listed = item.nodeid.split("[")[0] in SLOWEST or any(item.path.is_relative_to(folder) for folder in SLOW)
        if listed or "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    if turn := os.environ.get("RTFACE_TEST_TURN"):
        waiting = {item for item in items if item.get_closest_marker("slow") and not takes_turn(item, int(turn))}
        config.hook.pytest_deselected(items=list(waiting))
        items[:] = [item for item in items if item not in waiting]


def takes_turn(item: pytest.Item, turn: int) -> bool:
    """Tells whether a slow test runs: each third turn, and whenever its sources or folder changed."""
    path = item.path.relative_to(Path(__file__).parents[1]).as_posix()
    folder = next((folder for folder in TURNS if path.startswith(folder)), None)
    changed = os.environ.get("RTFACE_TEST_CHANGED", "").split()
    if folder is None or any(path.startswith((TURNS[folder], folder)) for path in changed):
        return True
    return zlib.crc32(item.nodeid.split("[")[0].encode()) % 3 == turn


@pytest.fixture(scope="session", autouse=True)
def no_engines_ahead() -> Iterator[None]:
    """Commands that are called in this process open no engine ahead: its thread would outlast the test, and pytest,
    which changes the environment between tests, would crash OpenVINO, whose threads read it without a lock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtface.pipeline.runtime.open_ahead", lambda *_: None)
        yield
