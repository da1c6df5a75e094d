"""Frames around a time are those of the film, however the reader came there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import av
import pytest

from rtface.errors import InputError
from rtface.frame import Frame
from rtface_studio import frame_reader
from rtface_studio.frame_reader import FrameReader
from tests.studio.films import make_film


def digest(image: av.VideoFrame) -> str:
    return hashlib.sha256(image.to_ndarray().tobytes()).hexdigest()


def shown(frames: list[Frame]) -> list[tuple[float, str]]:
    return [(round(frame.time, 3), digest(frame.image)) for frame in frames]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("reader") / "film.mp4", seconds=4.0)


@pytest.fixture(scope="module")
def decoded(film: Path) -> list[tuple[float, str]]:
    with av.open(str(film)) as container:
        return [(round(float(frame.time or 0), 3), digest(frame)) for frame in container.decode(video=0)]


@pytest.mark.parametrize("memory", [256 << 20, 1])
def test_any_way_through_a_film_gives_its_frames(film: Path, decoded: list[tuple[float, str]], memory: int) -> None:
    reader = FrameReader(film, memory=memory)
    step = decoded[1][0]
    for time in (2.0, 2.0 + step, 2.0 - step, 2.0, 3.5, 0.0, step, 1.25, 3.9, 0.3, 1.0, 0.95):
        frames = shown(reader.read(time))
        at = max(k for k, (begin, _) in enumerate(decoded) if begin <= time + 1e-4)
        lead_in = [one for one in decoded[:at] if one[0] >= time - 0.3 - 1e-4]
        assert frames == [*lead_in, decoded[at]][-len(frames) :]
        assert len(frames) == len(lead_in) + 1 if memory > 1 else len(frames) <= 2
    reader.close()
    assert shown(reader.read(2.0))[-1][0] == 2.0  # opens it again
    reader.close()


def test_steps_near_by_seldom_open_the_film_again(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[Path]()
    before = frame_reader.open_film

    def open_film(path: Path, *others: Any) -> Any:
        opened.append(path)
        return before(path, *others)

    monkeypatch.setattr(frame_reader, "open_film", open_film)
    reader = FrameReader(film)
    for times, openings in (((2.0, 2.1, 2.2, 2.1, 2.0, 1.9), 1), ((1.8, 1.6, 1.3, 2.0, 2.9, 3.8), 2), ((0.5,), 3)):
        for time in times:
            reader.read(time)
        assert len(opened) == openings, times
    large = FrameReader(film, memory=1)  # as if a frame took all of it
    for time in (2.0, 2.1, 2.2):
        large.read(time)
    assert len(opened) == 4
    large.close()
    with pytest.raises(InputError, match="no frame at 60"):
        reader.read(60.0)
    assert reader.read(2.0)
    reader.close()
