"""The benchmarks for machines with a GPU run: on the tests' own GPU, with small counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.device.cuda.host_kernels import compiler

ROOT = Path(__file__).parents[2]
HANG = "import time; print('begun', flush=True); time.sleep(60)"
WANTED = {
    "tensorrt": ("ways", "persons"),
    "in_place": ("1 faces",),
    "tracker": ("mesh", "detector"),
    "runs": ("tracked", "given faces", "rtface run"),
    "latency": ("rtface-m", "aim_p99_ms"),
    "path": ("rtface-m",),
}


@pytest.mark.slow
@pytest.mark.parametrize("part", WANTED)
def test_a_part_gives_its_figures(part: str, tmp_path: Path) -> None:
    compiler()
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", part, "--dry", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert " fails: " not in run.stderr, run.stderr[-3000:]
    told = json.loads((tmp_path / f"gpu_{part}.json").read_text())
    assert told["machine"]["dry"] and told["machine"]["command"].endswith(f"{part} --dry --out {tmp_path}")
    assert set(WANTED[part]) <= set(told)
    if part == "tracker":  # the tests' GPU computes in fp32 and captures graphs
        assert all(told[n]["f32"]["px"] < 0.01 and told[n]["f32"]["graphs"] == [1, 2, 4, 8] for n in WANTED[part])
    if part == "runs":  # all ways, but NVENC, pass all frames on
        ways = [way for n in WANTED[part][:2] for way in told[n].values() if "left out" not in way]
        assert len(ways) == 6 and all(way["frames_corrected"] == told["frames"] for way in ways)


@pytest.mark.slow
def test_each_part_of_the_first_contact_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu import first_contact

    def part(name: str, code: str, limit: int = 60) -> first_contact.Part:
        return first_contact.Part(name, limit, (sys.executable, "-c", code), ())

    parts = (
        part("crash", "import os; print('FAILED one', flush=True); os.abort()"),
        part("hang", HANG, 1),
        first_contact.Part("absent", 9, (str(tmp_path / "no-such-command"),), ()),
        part("good", "print(7)"),
    )
    monkeypatch.setattr(first_contact, "PARTS", parts)
    assert first_contact.main(["--out", str(tmp_path)]) == 1
    text = (tmp_path / "summary.txt").read_text()
    told = [line.split(" after ")[0] for line in text.splitlines() if not line.startswith(" ")]
    assert told[:2] + told[3:] == ["crash: exit status -6", "hang: ended at its limit", "good: exit status 0"]
    assert told[2].startswith("absent: not begun")
    assert "  FAILED one" in text and (tmp_path / "hang.log").read_text() == "begun\n"
    assert first_contact.main(["good", "--out", str(tmp_path)]) == 0
    assert first_contact.main(["good", "--out", str(tmp_path), "--seconds", "3"]) == 1
    assert (tmp_path / "summary.txt").read_text().endswith("good: left out, there is no time left\n")


def test_the_first_contact_asks_the_deciding_questions_first() -> None:
    from benchmarks.gpu import first_contact
    from benchmarks.gpu.__main__ import PARTS

    names = [part.name for part in first_contact.PARTS]
    assert names[2:6] == ["tensorrt", "in_place", "tracker", "runs"] and set(PARTS) <= set(names)
    files = {
        name
        for part in first_contact.PARTS
        for word in part.command
        if (name := word.removeprefix("tests/gpu/")) != word
    }
    assert files == {path.name for path in (ROOT / "tests" / "gpu").glob("test_*.py")}
