"""All overlays: in every format and on turned pictures, and what cannot be asked of them."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from scene import changed, drawn, frame, rgb, stages

from rtface.errors import UsageError
from rtface.frame import Display
from rtface.stages.entry_points import load_stage
from rtface.stages.options import Spec, described, make_stage
from rtface.util import plugins
from tests.pairs import pairs

ALL = {
    "tag": "tag:name=Anna",
    "picture": "picture:file={png}",
    "lower-third": "lower-third:title=Anna,fade=0",
    "blur": "blur",
    "pixelate": "pixelate",
    "split": "split",
    "label": "label",
}


def test_the_entry_points_are_these_stages() -> None:
    assert set(ALL) <= set(plugins.installed("stage"))
    for name in ALL:
        kind = load_stage(name)
        assert kind.api == 1 and kind.__doc__
        assert kind.__module__.startswith("rtface_overlays.")
        assert described(name).count("\n") >= 3


def test_it_is_a_distribution_of_its_own() -> None:
    here = Path(__file__).resolve().parent.parent
    project = tomllib.loads((here / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(line.startswith("pillow") for line in project["dependencies"])
    # rtface is on no package index, where pip would look for a dependency of that name.
    assert not any(line.startswith("rtface") for line in project["dependencies"])


@pytest.mark.parametrize(
    ("name", "fmt"),
    pairs(
        list(ALL),
        ["yuv420p", "nv12", "yuv422p10le", "gray", "rgb24", "yuv444p", "yuyv422", "p010le"],
        ["label", "blur"],
    ),
)
def test_every_overlay_in_every_format(name: str, fmt: str, png: Path) -> None:
    out, plain = drawn(ALL[name].format(png=png), fmt=fmt)
    assert out.image.format.name == fmt
    assert changed(out, plain) is not None


@pytest.mark.parametrize(("name", "turns"), pairs(list(ALL), [1, 2, 3], ["label"]))
def test_every_overlay_on_turned_pictures(name: str, turns: int, png: Path) -> None:
    """Drawn into a picture that is stored turned is the same as drawn upright and then turned."""
    upright = frame(size=(640, 360))
    turned_size = (360, 640) if turns % 2 else (640, 360)
    stored = np.ascontiguousarray(np.rot90(rgb(upright).astype(np.uint8), turns))
    given = replace(
        upright,
        image=av.VideoFrame.from_ndarray(stored, "rgb24"),
        color=frame(fmt="rgb24").color,
        display=Display(turns),
    )
    assert (given.image.width, given.image.height) == turned_size
    straight = replace(
        given, image=av.VideoFrame.from_ndarray(rgb(upright).astype(np.uint8), "rgb24"), display=Display()
    )
    spec = ALL[name].format(png=png)
    results = []
    for one in (given, straight):
        chain, stats = stages(spec)
        results.append(rgb(chain.process(replace(one, new=True), one.image.reformat(format="rgb24"))))
        assert not stats.counters["stage_faults"], stats.warnings
    back = np.rot90(results[0], -turns)
    difference = np.abs(back - results[1]).max(2)
    if name == "pixelate":  # its grid begins at the stored corner
        assert (difference > 40).mean() < 0.06
    else:
        assert (difference > 12).mean() < 0.001


@pytest.mark.parametrize(
    "spec",
    [
        "label:colour=blu",
        "label:size=2",
        "label:place=topleft",
        "label:txet=x",
        "label:font=/no/such.ttf",
        "label:text=\U00013000",
        "tag",
        "tag:name=1=Anna;Ben",
        "tag:name=x,faces=so me",
        "picture",
        "picture:file=/no/such.png",
        "lower-third",
        "lower-third:title=x,start=5,end=4",
        "lower-third:title=x,template=boxx",
        "blur:strength=0",
        "blur:faces=all but",
        "pixelate:cells=0",
        "split:position=2",
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(spec: str) -> None:
    with pytest.raises(UsageError) as error:
        make_stage(Spec.parse(spec))
    assert str(error.value).startswith(f"--stage {spec.split(':')[0]}")
    assert "\n" not in str(error.value) and "fault" not in str(error.value)
