"""What the wheel holds, what it needs, and that it runs in an empty environment.

The tests that build and install it take minutes: they run with RTFACE_TEST_WHEEL=1 (`.ci/run` sets it).
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from skimage import data

from tests.docs.syntax import parsed

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What a user installs; others are in extras, skimage is the demo's.
REQUIRED = {
    "numpy",
    "av",
    "cv2",
    "openvino",
    "msgspec",
    "platformdirs",
    "typer",
    "OpenEXR",
    "OpenImageIO",
    "pyvirtualcam",
    "starlette",
    "uvicorn",
}
WHEEL = pytest.mark.skipif(
    not os.environ.get("RTFACE_TEST_WHEEL"), reason="takes a minute or two: set RTFACE_TEST_WHEEL=1"
)
OPTIONAL = {
    "onnxruntime",
    "pillow_heif",
    "skimage",
    "cuda",
    "onnx",
    "tensorrt",
    "tensorrt_rtx_bindings",
    "cryptography",
    "PIL",
}


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return parsed((ROOT / "rtface").rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.split(".")[0]


@pytest.mark.slow
def test_the_library_imports_only_what_the_wheel_requires(trees: dict[Path, ast.Module]) -> None:
    allowed = REQUIRED | OPTIONAL | {"rtface"} | set(sys.stdlib_module_names)
    for path, tree in trees.items():
        assert set(imported(tree)) <= allowed, path
    names = {re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]}
    named = {"cv2": "opencv-python-headless"}
    assert names == {named.get(name, name) for name in REQUIRED}


def test_nothing_of_posix_alone_is_imported_on_import(trees: dict[Path, ast.Module]) -> None:
    posix = {"resource", "fcntl", "termios", "pwd", "grp", "pty", "tty", "posix"}
    for path, tree in trees.items():
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in top if isinstance(node, ast.ImportFrom)}
        assert not names & posix, path


def test_the_pins_cover_every_requirement_and_name_no_place():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = {line.split("==")[0].lower().replace("_", "-") for line in lines if line and not line.startswith("#")}
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines if line and not line.startswith("#"))
    extras = PROJECT["optional-dependencies"]
    lines = PROJECT["dependencies"] + extras["demo"] + extras["dev"] + extras["onnx"] + extras["rtx"] + extras["cuda"]
    for line in lines:
        if line.startswith("rtface["):  # one extra that takes another in
            continue
        assert re.match(r"[\w-]+", line)[0].lower() in pins, line


def test_no_major_version_that_is_not_tested_is_allowed():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").lower().replace("_", "-")
    tested = dict(re.findall(r"^([\w.-]+)==(\d+)", lock, re.MULTILINE))
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    for line in PROJECT["dependencies"] + [line for line in extras if ",<" in line]:
        name, below = re.match(r"([\w-]+)[^,]*(?:,<(\d+))?", line).groups()
        assert name not in tested or int(below) in (int(tested[name]), int(tested[name]) + 1), line


def clip(path):
    """The portrait, coming nearer, 320×180, 12 frames, H.264."""
    face = av.VideoFrame.from_ndarray(np.ascontiguousarray(data.astronaut()[:288]), "rgb24")
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        picture = face.reformat(320, 180, "yuv420p")
        for i in range(12):
            picture.pts, picture.time_base = i, Fraction(1, 25)
            film.mux(stream.encode(picture))
        film.mux(stream.encode(None))


def newest_python():
    """The newest Python here of those that rtface names: some releases are for newer ones only."""
    versions = [line.split()[-1] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    for version in reversed(versions):
        for python in (shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")):
            if python and subprocess.run([python, "-c", "import venv, ssl"], capture_output=True).returncode == 0:
                return python
    return sys.executable


def clean_environment() -> dict[str, str]:
    """The variables of this process, but for those that lead to this clone or to its virtual environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RTFACE_", "PYTHON", "VIRTUAL_ENV"))}
    return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def called(command: Sequence[object], cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheels of rtface and of rtface-engines, in one folder."""
    folder = tmp_path_factory.mktemp("dist")
    environment = clean_environment() | {"PIP_CONSTRAINT": str(ROOT / "requirements.lock")}
    for project in (ROOT, ROOT / "engines"):
        called([sys.executable, "-m", "build", "--wheel", "--outdir", folder], project, environment)
    (wheel,), (engines_wheel,) = folder.glob("rtface-*.whl"), folder.glob("rtface_engines-*.whl")
    return wheel, engines_wheel


@WHEEL
@pytest.mark.slow
def test_the_wheels_hold_all_files_and_no_others(wheels: tuple[Path, Path]) -> None:
    wheel, engines_wheel = wheels
    engines = ROOT / "engines"
    names = zipfile.ZipFile(wheel).namelist()
    inside = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "rtface").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    inside |= {
        f"rtface/models/{path.relative_to(engines / 'shipped')}"
        for path in (engines / "shipped").rglob("*")
        if path.is_file()
    }
    assert inside <= set(names)
    assert any(name.endswith(".onnx") for name in names)
    assert any(name.endswith("/licenses/NOTICE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"rtface"}
    published = {
        f"rtface_engines/_published/{path.relative_to(ROOT)}"
        for folder in [engines / "convert", *(path.parent for path in (engines / "published").glob("*/offers.toml"))]
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert not any("native" in name for name in names)
    names = zipfile.ZipFile(engines_wheel).namelist()
    assert len(published) > 10 and published <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"rtface_engines"}
    assert not any("codeformer" in name or "hifacegan" in name for name in names)


@WHEEL
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("versions", ["locked", "newest"])
def test_the_wheel_runs_in_an_empty_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wheels: tuple[Path, Path], versions: str
) -> None:
    wheel, engines_wheel = wheels
    environment = clean_environment() | {
        "RTFACE_CACHE": str(tmp_path / "cache"),
        "RTFACE_CONFIG_DIR": str(tmp_path / "settings"),
    }
    if versions == "locked":  # without it: what a user gets who installs it today
        environment["PIP_CONSTRAINT"] = str(ROOT / "requirements.lock")

    def call(*command: object) -> subprocess.CompletedProcess[str]:
        return called(command, tmp_path, environment)

    # Without a pip there, and without bytecode of modules that nobody imports: both take longer than all else here.
    call(sys.executable if versions == "locked" else newest_python(), "-m", "venv", "--without-pip", tmp_path / "empty")
    binaries = tmp_path / "empty" / ("Scripts" if os.name == "nt" else "bin")
    python = binaries / "python"
    pip = sys.executable, "-m", "pip", "--python", python
    call(*pip, "install", "-q", "--no-compile", wheel)
    packages = {row["name"].lower() for row in json.loads(call(*pip, "list", "--format=json").stdout)}
    assert not packages & {"torch", "scikit-image", "pillow", "onnxruntime", "opencv-python"}

    environment["PATH"] = str(binaries)  # no make, no shell, nothing of the system's
    clip(tmp_path / "in.mp4")
    assert call(binaries / "rtface", "--version").stdout == call(python, "-m", "rtface", "--version").stdout
    call(binaries / "rtface", "doctor")
    absent = subprocess.run(
        [binaries / "rtface", "engines", "add", "x"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert absent.returncode == 1 and "install it with: python -m pip install ./engines in a clone" in absent.stderr
    call(*pip, "install", "-q", "--no-compile", engines_wheel)
    offered = [row["name"] for row in json.loads(call(binaries / "rtface", "engines", "offers", "--json").stdout)]
    assert "gfpgan-1.4" in offered
    root = call(python, "-c", "from rtface_engines.catalogue import converter_root; print(converter_root())")
    assert Path(root.stdout.strip()).joinpath("engines", "convert", "__main__.py").is_file()
    # What `engines add` runs by a Python with torch, as it finds them there.
    call(
        python,
        "-c",
        "import importlib.util as u, sys; sys.path[0] = sys.argv[1]; assert all(u.find_spec(m) for m in sys.argv[2:])",
        root.stdout.strip(),
        "engines.convert.__main__",
    )
    report = json.loads(call(binaries / "rtface", "run", "in.mp4", "out.mp4", "--json").stdout)
    assert report["frames_out"] == 12
    assert report["frames_with_faces"] >= 10
    with av.open(str(tmp_path / "out.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 12

    site = Path(call(python, "-c", "import rtface; print(rtface.__file__)").stdout.strip()).parent.parent
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) / 1e6
    with capsys.disabled():
        print(f"\nwheel {wheel.stat().st_size / 1e6:.1f} MB; installed with all it needs {size:.0f} MB")
    assert size < 900
