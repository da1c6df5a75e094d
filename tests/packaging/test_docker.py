"""The images and compose files say what they should; no daemon is needed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMPOSE = sorted((ROOT / "docker").glob("compose.*.yaml"))


def instructions():
    """Every (stage, instruction, rest) of the Dockerfile; the stage is "" before the first FROM."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "docker/Dockerfile").read_text(encoding="utf-8"), flags=re.M)
    found, stage = [], ""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip():
            word, rest = line.split(maxsplit=1)
            stage = rest.split(" AS ")[1] if word == "FROM" else stage
            found.append((stage, word, rest))
    return found


def of(stage, word):
    return [rest for where, what, rest in instructions() if (where, what) == (stage, word)]


def test_the_build_context_holds_what_is_copied_only():
    sources = {source for rest in of("build", "COPY") for source in rest.split()[:-1]}
    assert all((ROOT / source).exists() for source in sources)
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == sources
    assert patterns[-1] == "**/__pycache__"
    needed = {
        "pyproject.toml",
        "requirements.lock",
        PROJECT["project"]["readme"],
        *PROJECT["project"]["license-files"],
        *(place.split("/")[0] for place in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]),
        "engines",
        "plugins/rtface-studio",
    }
    assert needed == sources


def test_the_images_run_as_somebody_who_is_not_root():
    order = [word for stage, word, _ in instructions() if stage == "runtime"]
    (user,) = of("runtime", "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert order.index("USER") < order.index("ENTRYPOINT")
    assert not of("cpu", "USER") + of("cuda", "USER")


def test_nothing_names_a_registry_or_an_index():
    images = [rest.split(" AS ")[0] for _, word, rest in instructions() if word == "FROM"]
    images += [rest.partition("=")[2] for _, word, rest in instructions() if word == "ARG"]
    images += [name for path in COMPOSE for name in re.findall(r"image: (\S+)", path.read_text(encoding="utf-8"))]
    for image in images:
        assert "/" not in image, image  # a place comes before the first slash
    text = (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^ARG BASE=\w+:\d+\.\d+-[\w-]+$", text, re.M)  # a tag that stays
    assert "://" not in text
    assert not re.search(r"^#\s*(syntax|escape)=|index-url|find-links|trusted-host", text, re.M | re.I)
