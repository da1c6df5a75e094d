"""A film worked on in several places at once: the same film as from one, in bounded memory, however it ends."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest

import rtface
from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice
from rtface.engine.engine_set import EngineSet
from rtface.enhance.film import FilmEnhancer
from rtface.errors import DeviceLost, InputError, Interrupted
from rtface.frame import Color, Display, Frame, Packet
from rtface.pipeline import runtime, segments
from rtface.pipeline.build import RunParts
from rtface.pipeline.film import run_file
from rtface.pipeline.plan import FramePlan
from rtface.pipeline.progress import Progress
from rtface.pipeline.segment_plan import SegmentPlan, plan_segments, same_tracks
from rtface.pipeline.segments import in_segments
from rtface.protocols import Runtime
from rtface.stats import Stats
from rtface.tracking import NoTracker
from tests.pipeline.fakes import FakeEngine, FakeEngines, face_at, frame_of, portrait
from tests.pipeline.run_media import Engines, decoded, write_film

FRAMES = FramePlan(Path("film.mkv"), Options(tracker="none"))


def film(
    path: Path,
    frames: int = 75,
    *,
    face: bool = True,
    cuts: tuple[int, ...] = (),
    pts: list[int] | None = None,
    **how: Any,
) -> Path:
    """320×180, 25 frames a second: the portrait moving and nodding, in another place after each cut."""

    def picture(t: int) -> np.ndarray:
        scene = sum(t >= cut for cut in cuts)
        shown, _ = portrait(shift=(0.7 * t - 25, 6 * np.sin(t / 5)), scale=(0.9, 0.6, 1.1)[scene % 3])
        return shown if face else shown[:: -1 if scene % 2 else 1, ::-1] // 4 + t

    return write_film(
        path, map(picture, range(frames)), base=Fraction(1, 100), pts=pts or range(0, 4 * frames, 4), **how
    )


def packets(path: Path) -> dict[int, list[tuple[Any, ...]]]:
    """Times and bytes of every packet, by stream."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    with av.open(str(path)) as container:
        for p in container.demux():
            if p.size:
                found.setdefault(p.stream_index, []).append((p.pts, p.dts, p.duration, bytes(p)))
    return found


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 99.0 if np.array_equal(a, b) else float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


def of_segments() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(("rtface-segment", "rtface-decode"))]


# -- the same film ---------------------------------------------------------------------------------------------------

VARIABLE = [0, 4, 9, 10, 40, 44, 45, 46, 90, *range(100, 364, 4)]


@pytest.mark.parametrize(
    ("name", "made", "asked"),
    [
        ("plain.mkv", {}, {}),
        ("b_frames.mp4", {"codec": "libx264", "options": {"bf": "3", "g": "40"}}, {}),
        ("variable.mkv", {"pts": VARIABLE}, {}),
        pytest.param(
            "late.mp4",
            {"codec": "libx264", "options": {"bf": "2"}, "pts": [170 + 4 * t for t in range(75)]},
            {},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "broadcast.ts", {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}}, {}, marks=pytest.mark.slow
        ),
        pytest.param(
            "cut_out.mp4",
            {"codec": "libx264", "options": {"bf": "3", "g": "250"}},
            {"start": 0.3, "end": 2.6},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_times_pictures_and_sound_are_those_of_one_chain(
    name: str, made: dict[str, Any], asked: dict[str, Any], tmp_path: Path, engines: Engines
) -> None:
    source = film(tmp_path / name, face=False, sound=True, **made)
    # Lossless; what x264 makes of the same pictures is not the same every time.
    how = {"tracker": "none", **({"codec": "ffv1"} if source.suffix == ".mkv" else {"crf": 0}), **asked}
    for count in (1, 3):
        output = tmp_path / f"out{count}{source.suffix}"
        report = rtface.run(source, output, segments=count, **how)
        assert not [note for note in report.notes if "segments" in note]
        found, pictures = packets(output), decoded(output)
        video = sorted((pts, duration) for pts, _, duration, _ in found.pop(0))
        if count == 1:
            alone, times, seen = found, video, pictures
            assert len(video) == report.frames_out > 55 and len(found[1]) > 90
        assert found == alone and video == times
        assert all(np.array_equal(a, b) for a, b in zip(pictures, seen, strict=True))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_cannot_be_sought_is_dealt_out_too(tmp_path: Path, engines: Engines) -> None:
    whole = film(tmp_path / "in.mkv", face=False, sound=True)
    pipe = tmp_path / "pipe.mkv"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: pipe.write_bytes(whole.read_bytes()))
        rtface.run(pipe, tmp_path / "piped.mkv", segments=3, tracker="none", codec="ffv1")
        writing.result()
    rtface.run(whole, tmp_path / "out.mkv", tracker="none", codec="ffv1")
    assert packets(tmp_path / "piped.mkv") == packets(tmp_path / "out.mkv")


def test_a_folder_of_stills_as_a_film_is_dealt_out_too(tmp_path: Path, engines: Engines) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(40):
        cv2.imwrite(str(folder / f"{k:03}.png"), np.full((48, 64, 3), 3 * k, np.uint8))
    for count in (1, 2):
        rtface.run(folder, tmp_path / f"{count}.mkv", sequence=True, fps=12, segments=count, codec="ffv1")
    assert len(packets(tmp_path / "1.mkv")[0]) == 40
    assert packets(tmp_path / "1.mkv") == packets(tmp_path / "2.mkv")


# -- how far from one chain -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_moving_face_differs_little_and_keeps_its_id(tmp_path: Path, engines: Engines) -> None:
    source = film(tmp_path / "in.mkv", cuts=(25,))
    one, three = (rtface.run(source, tmp_path / f"{n}.mkv", codec="ffv1", segments=n) for n in (1, 3))
    assert three.frames_out == three.frames_in == three.frames_with_faces == three.frames_corrected == 75
    assert [(t.id, t.frames, t.first_s, t.last_s) for t in one.tracks] == [(1, 25, 0.0, 0.96), (2, 50, 1.0, 2.96)]
    for mine, other in zip(three.tracks, one.tracks, strict=True):
        assert (mine.id, mine.frames) == (other.id, other.frames)
        assert (mine.first_s, mine.last_s) == (other.first_s, other.last_s)
        assert mine.mean_width_px == pytest.approx(other.mean_width_px, abs=0.5)
        assert mine.treatment["engine"] == "fake" and mine.strength == pytest.approx(other.strength, abs=0.02)
        assert mine.analysis == pytest.approx(other.analysis, abs=0.05)
    likeness = [psnr(a, b) for a, b in zip(decoded(tmp_path / "1.mkv"), decoded(tmp_path / "3.mkv"), strict=True)]
    moved = [psnr(a, b) for a, b in zip(decoded(source), decoded(tmp_path / "1.mkv"), strict=True)]
    print(f"PSNR to one chain {np.mean(likeness):.1f}, least {min(likeness):.1f}; of the film {np.mean(moved):.1f}")
    assert likeness[:25] == [99.0] * 25  # the first piece is what one chain makes of it
    assert min(likeness) > max(moved) + 6


@pytest.mark.slow
def test_with_a_shipped_engine_differences_are_below_one_code(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", 50)
    how = {"engine": "rtface-s", "device": "cpu", "codec": "ffv1", "grain": "none"}
    for n in (1, 2):
        report = rtface.run(source, tmp_path / f"{n}.mkv", segments=n, **how)
        assert report.frames_corrected == 50 and [t.id for t in report.tracks] == [1]
    likeness = [psnr(a, b) for a, b in zip(decoded(tmp_path / "1.mkv"), decoded(tmp_path / "2.mkv"), strict=True)]
    print(f"PSNR to one chain {np.mean(likeness):.1f}, least {min(likeness):.1f}")
    assert min(likeness) > 48.2  # an error of one code value everywhere


class SlowEngine(FakeEngine):
    """Answers 60 ms later, however much it was asked meanwhile: as a GPU does."""

    def __init__(self) -> None:
        super().__init__(amount=0.15)
        self.lock, self.asked, self.most = threading.Lock(), 0, 0
        self.pool = ThreadPoolExecutor(16)

    def submit(self, crops: np.ndarray, after: Any = None) -> Any:
        with self.lock:
            self.asked += 1
            self.most = max(self.most, self.asked)
        return self.pool.submit(self._answer, crops)

    def _answer(self, crops: np.ndarray) -> Any:
        threading.Event().wait(0.06)
        with self.lock:
            self.asked -= 1
        return super().submit(crops).result()


@pytest.mark.slow
def test_an_engine_is_asked_from_all_places_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, most = film(tmp_path / "in.mkv", 40, pts=[*range(0, 400, 10)], rate=10), dict[int, int]()
    for count in (1, 4):
        engine = SlowEngine()
        made = Engines(engine)
        monkeypatch.setattr(runtime, "EngineSet", lambda *a, made=made, **k: made)
        report = rtface.run(source, tmp_path / f"{count}.mkv", codec="ffv1", segments=count)
        most[count] = engine.most
        print(f"{count} places: {report.fps} fps, at most {engine.most} crops in the engine's hands")
    assert most[1] <= 2 and most[4] >= 4


@pytest.mark.slow
def test_segments_cut_at_scene_changes_equal_one_chain(tmp_path: Path, engines: Engines) -> None:
    source = film(tmp_path / "in.mkv", 60, cuts=(20, 40))
    one, two = (rtface.run(source, tmp_path / f"{n}.mkv", codec="ffv1", grain="none", segments=n) for n in (1, 2))
    assert [(t.id, t.frames, t.first_s) for t in one.tracks] == [(1, 20, 0.0), (2, 20, 0.8), (3, 20, 1.6)]
    assert two.tracks == one.tracks
    assert two.frames_corrected == 60
    assert np.array_equal(decoded(tmp_path / "1.mkv"), decoded(tmp_path / "2.mkv"))


@pytest.mark.parametrize("name", ["rtface-s"])
def test_two_chains_on_one_engine_give_what_each_gives_alone(name: str) -> None:
    def moving(shift: float, scale: float) -> list[Frame]:
        out: list[Frame] = []
        for t in range(12):
            picture, points = portrait(shift=(shift * t, 0.0), scale=scale)
            out.append(replace(frame_of(picture, t), faces=(face_at(points),)))
        return out

    def planes(frames: list[Any]) -> list[bytes]:
        return [bytes(p) for f in frames for p in f.image.planes]

    engines, films = EngineSet(name, device="cpu", threads=1), [(1.0, 0.9), (-2.0, 0.7), (0.5, 1.1)]
    device = CpuDevice()
    try:

        def work(how: tuple[float, float]) -> list[bytes]:
            step = FilmEnhancer(Runtime(device, engines), Options(), Stats(), analysis=False)
            return planes(list(step(moving(*how))))

        alone = [work(how) for how in films]
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(work, films))
    finally:
        engines.close()
    assert together == alone
    assert alone[0] != planes(moving(*films[0]))


def test_tracks_are_known_again_by_their_places() -> None:
    _, points = portrait()

    def sight(pts: int, **places: float) -> tuple[int, Any]:
        return pts, tuple(face_at(points + [dx, 0.0], int(k[1:])) for k, dx in places.items())

    before = [sight(t, a4=0.0 + t, a7=200.0, a9=600.0) for t in range(5)]
    after = [
        sight(1, b1=201.0),
        sight(2, b1=202.0, b2=1.0),
        sight(3, b1=200.0, b2=4.0, b3=400.0),
        sight(4, b1=200.0, b2=4.0, b3=400.0),
        sight(5, b5=600.0),
    ]
    assert same_tracks(before, after) == {1: 7, 2: 4}
    assert same_tracks([], after) == {}


# -- memory -----------------------------------------------------------------------------------------------------------


class Alive:
    """Pictures whose memory is counted."""

    def __init__(self) -> None:
        self.now = self.peak = self.made = 0
        self._lock = threading.Lock()

    def image(self, array: np.ndarray) -> av.VideoFrame:
        array = array.copy()
        with self._lock:
            self.now, self.made = self.now + 1, self.made + 1
            self.peak = max(self.peak, self.now)
        weakref.finalize(array, self._gone)
        return av.VideoFrame.from_numpy_buffer(array, "gray")

    def _gone(self) -> None:
        with self._lock:
            self.now -= 1


def parts_without_faces() -> RunParts[FilmEnhancer]:
    device, engines, options = CpuDevice(), FakeEngines(), Options(tracker="none")
    return RunParts(NoTracker(), FilmEnhancer(Runtime(device, engines), options, Stats()))  # type: ignore[arg-type]


PACKET: Any = SimpleNamespace(size=100)


@pytest.mark.slow
@pytest.mark.parametrize("display", [Display(), Display(fields="tff")])
def test_memory_is_bounded_whatever_the_length(display: Display, monkeypatch: pytest.MonkeyPatch) -> None:
    alive, how = Alive(), SegmentPlan(3, 20, 6, 60)
    monkeypatch.setattr(segments, "copy_image", lambda image: alive.image(image.to_ndarray()))
    count = 2000

    def source() -> Iterator[Frame | Packet]:
        rng = np.random.default_rng(0)
        texture = rng.integers(0, 255, (48, 64), np.uint8)
        for pts in range(count):
            yield Frame(alive.image(texture), pts, Fraction(1, 25), 1, Color("bt601"), display, cut=pts % 150 == 70)
            yield Packet(PACKET, pts)

    got: list[int] = []
    for item in in_segments(source(), parts_without_faces(), FRAMES, Stats(), how):
        got.append(item.pts if isinstance(item, Frame) else -1)
        if len(got) == 500:  # a sink that pauses is waited for
            threading.Event().wait(0.3)
    assert got == [x for pts in range(count) for x in (pts, -1)]
    print(f"{alive.peak} pictures at most; the bound is {how.most}")
    assert how.window <= alive.peak <= how.most
    assert count + 300 < alive.made < 1.4 * count  # lead-ins


def test_sound_after_all_frames_of_the_file_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "PACKET_BYTES", 1000)

    def source() -> Iterator[Frame | Packet]:
        for pts in range(60):
            if pts == 30:
                yield from (Packet(PACKET, 7) for _ in range(100))
            yield Frame(av.VideoFrame(64, 48, "gray"), pts, Fraction(1, 25), 1)
        yield from (Packet(PACKET, 8) for _ in range(100))

    items = in_segments(source(), parts_without_faces(), FRAMES, Stats(), SegmentPlan(2, 20, 5, 40))
    got = [item.pts if isinstance(item, Frame) else -item.stream_index for item in items]
    assert got == [*range(30), *[-7] * 100, *range(30, 60), *[-8] * 100]


# -- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_stopped_it_leaves_a_whole_part_and_says_where_to_go_on(tmp_path: Path, engines: Engines) -> None:
    source, target = film(tmp_path / "in.mp4", codec="libx264", sound=True), tmp_path / "out.mp4"
    stop, seen = threading.Event(), list[Progress]()

    def after_thirty(progress: Progress) -> None:
        seen.append(progress)
        if progress.frames == 30:
            stop.set()

    with pytest.raises(Interrupted) as info:
        run_file(source, target, Options(segments=3), progress=after_thirty, stop=stop)
    assert [p.frames for p in seen] == list(range(1, 31)) and {p.faces for p in seen} == {1}
    assert not target.exists() and info.value.partial is not None
    assert len(decoded(Path(info.value.partial))) == 30
    assert info.value.resume_at == pytest.approx(1.2)
    assert rtface.run(source, tmp_path / "rest.mp4", start=info.value.resume_at, segments=2).frames_out == 45
    assert not of_segments()


@pytest.mark.slow
def test_a_lost_device_is_said_once_behind_all_that_came_before(
    tmp_path: Path, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, lost = CpuDevice.cut, list[int]()

    def sometimes(self: CpuDevice, frame: Frame, places: Any) -> Any:
        if frame.pts >= 1600:  # frame 40 of 75, in the second of three pieces and in the lead-in of the third
            lost.append(frame.pts)
            raise DeviceLost("the GPU stopped answering")
        return cut(self, frame, places)

    monkeypatch.setattr(CpuDevice, "cut", sometimes)
    source = film(tmp_path / "in.mkv")
    for count in (1, 3):  # the frame before is in the engine's hands, and lost with it
        match = rf"stopped answering; what was done is in .*{count}\.partial\.mkv; go on with start=0:00:01\.560"
        with pytest.raises(DeviceLost, match=match):
            rtface.run(source, tmp_path / f"{count}.mkv", codec="ffv1", segments=count)
        assert len(decoded(tmp_path / f"{count}.partial.mkv")) == 39 and lost
        assert not of_segments()


def test_a_truncated_source_ends_after_its_last_frame() -> None:
    def source() -> Iterator[Frame]:
        for pts in range(33):
            yield Frame(av.VideoFrame(64, 48, "gray"), pts, Fraction(1, 25), 1)
        raise InputError("the share is gone")

    got: list[int] = []
    with pytest.raises(InputError, match="the share is gone"):
        how = SegmentPlan(2, 10, 3, 20)
        for item in in_segments(source(), parts_without_faces(), FRAMES, Stats(), how):
            got += [item.pts]  # type: ignore[union-attr]
    assert got == list(range(33))
    assert not of_segments()


def test_a_consumer_that_leaves_ends_every_thread() -> None:
    def source() -> Iterator[Frame]:
        for pts in range(1000):
            yield Frame(av.VideoFrame(64, 48, "gray"), pts, Fraction(1, 25), 1)

    items = in_segments(source(), parts_without_faces(), FRAMES, Stats(), SegmentPlan(2, 10, 3, 20))
    assert next(items).pts == 0  # type: ignore[union-attr]
    assert of_segments()
    items.close()
    assert not of_segments()


# -- the plan ---------------------------------------------------------------------------------------------------------


def info(
    width: int = 1920, height: int = 1080, pix_fmt: str = "yuv420p", rate: int = 25, frames: int | None = 100_000
) -> Any:
    return SimpleNamespace(width=width, height=height, pix_fmt=pix_fmt, rate=Fraction(rate), expected_frames=frames)


def test_one_place_is_the_default_and_needs_no_plan() -> None:
    assert plan_segments(Options(), info()) == plan_segments(Options(segments=1), info()) == (None, None)


@pytest.mark.parametrize("more", [{"faces": "1,3"}, {"treatment": "t.json"}, {"compare": "c.mkv"}])
def test_options_that_need_one_chain_get_one_and_it_is_said(more: dict[str, Any]) -> None:
    plan, why = plan_segments(Options(segments=4, **more), info())
    assert plan is None and why is not None
    assert f"--{next(iter(more))}" in why and "\n" not in why


def test_a_short_film_is_shared_out_or_left_to_one_chain() -> None:
    assert plan_segments(Options(segments=4), info(frames=160))[0] == SegmentPlan(4, 40, 15, 190)
    assert plan_segments(Options(segments=4), info(frames=60))[0] == SegmentPlan(2, 30, 15, 90)
    plan, why = plan_segments(Options(segments=4), info(frames=40))
    assert plan is None and why is not None and "short" in why
    assert plan_segments(Options(segments=4), info(frames=None))[0] == SegmentPlan(4, 100, 15, 430)


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((1280, 720, "yuv420p", 30), 1280 * 720 * 1.5),
        ((1920, 1080, "yuv420p10le", 60), 1920 * 1080 * 3),
        ((3840, 2160, "yuv420p10le", 24), 3840 * 2160 * 3),
        ((3840, 2160, "yuv444p10le", 24), 3840 * 2160 * 6),
        ((7680, 4320, "yuv420p10le", 24), 7680 * 4320 * 3),
    ],
)
def test_what_is_held_follows_the_size_of_a_picture(picture: tuple[Any, ...], size: float) -> None:
    for wanted in (2, 4, 8):
        plan, why = plan_segments(Options(segments=wanted), info(*picture))
        if plan is None:
            assert why is not None and "memory" in why
            assert size > 40e6  # not two pieces as long as their lead-ins
            continue
        assert plan.most * size <= 3.03 * 2**30
        assert plan.chains * plan.length <= plan.window
        assert 0.6 * picture[3] <= plan.lead_in <= min(0.6 * picture[3] + 1, plan.length)
        assert (plan.chains < wanted) == (why is not None)
        assert plan.chains == wanted or picture[0] == 3840
        assert plan.length == 4 * picture[3] or picture[0] > 1280


def test_stills_are_not_dealt_out(tmp_path: Path, engines: Engines) -> None:
    picture, _ = portrait()
    cv2.imwrite(str(tmp_path / "in.png"), picture[..., ::-1])
    report = rtface.run(tmp_path / "in.png", tmp_path / "out.png", segments=2)
    assert report.frames_out == 1 and any("segments" in note for note in report.notes)
