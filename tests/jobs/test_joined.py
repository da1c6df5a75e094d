"""A film that was made in segments is the film of one process: times, frames, and all other streams."""

from __future__ import annotations

import threading
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.config.options import Options
from rtface.errors import InputError
from rtface.jobs.job import FilmJob
from rtface.jobs.run import why_no_job
from rtface.media.marks.provenance import own_tags
from rtface.media.read.source import FileSource
from rtface.pipeline import runtime
from rtface.pipeline.film import run_file
from rtface.trust.sidecar import read_sidecar, sidecar_path
from rtface.trust.verify import verify
from tests.jobs import films
from tests.pipeline.fakes import FakeEngine, FakeEngines, portrait
from tests.pipeline.run_media import decoded, film, write_film


def in_segments(source: Path, output: Path | str, options: Options, stop_at: int | None = None):
    """Runs a job, and a second time where it was stopped after so many frames."""
    stop = threading.Event()

    def tick(progress):
        if progress.frames == stop_at:
            stop.set()

    job = FilmJob.open(source, output, options, length=films.LENGTH)
    assert isinstance(job, FilmJob), job
    try:
        return job.run(stop=stop, progress=tick)
    except KeyboardInterrupt:
        job = FilmJob.open(source, output, options, length=films.LENGTH)
        assert isinstance(job, FilmJob) and job.finished_earlier
        return job.run()


def same_film(one: Path, other: Path, *, lossless: bool = True) -> None:
    assert films.video_times(one) == films.video_times(other)
    assert films.packets(one, "audio") == films.packets(other, "audio")
    assert all(a < b for a, b in pairwise(films.decoding_times(other)))
    if lossless:
        assert films.frame_hashes(one) == films.frame_hashes(other)


@pytest.mark.slow
@pytest.mark.parametrize("by_s", [-1, 93])
def test_one_damaged_time_changes_neither_job_nor_film(tmp_path: Path, by_s: int):
    source = write_film(tmp_path / "in.ts", films.scenes(80), codec="libx264", sound=True)
    options, times = Options(tracker="none", codec="ffv1"), []
    for name in ("whole", "one", "job"):
        if name == "one":
            films.move_time(source, 45, by_s)
        (in_segments if name == "job" else run_file)(source, tmp_path / f"{name}.mkv", options)
        times.append([float(time) for time, *_ in films.video_times(tmp_path / f"{name}.mkv")])
    same_film(tmp_path / "one.mkv", tmp_path / "job.mkv")
    assert times[1] == pytest.approx(times[0], abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("kind", films.FILMS)
def test_lossless_output_is_that_of_one_process(kind: str, tmp_path: Path):
    source, options = films.FILMS[kind](tmp_path), Options(tracker="none", codec="ffv1")
    one, other = tmp_path / "one.mkv", tmp_path / "other.mkv"
    run_file(source, one, options)
    in_segments(source, other, options, stop_at=40)
    same_film(one, other)
    assert not list(tmp_path.glob("*.rtface"))


@pytest.mark.slow
def test_a_film_of_scans_is_that_of_one_process(tmp_path: Path):
    source = films.scans(tmp_path)
    options = Options.of({"tracker": "none", "codec": "ffv1", "sequence": True, "fps": 10})
    one, other = tmp_path / "one.mkv", tmp_path / "other.mkv"
    first, second = run_file(source, one, options), in_segments(source, other, options, stop_at=40)
    same_film(one, other)
    assert len(films.video_times(one)) == 80 and why_no_job(source, other, options) is None
    assert second.warnings == first.warnings and len(first.warnings) == 4
    third = replace(options, start=2.0, end=6.4)
    run_file(source, tmp_path / "cut-one.mkv", third)
    in_segments(source, tmp_path / "cut-job.mkv", third, stop_at=20)
    same_film(tmp_path / "cut-one.mkv", tmp_path / "cut-job.mkv")
    job = FilmJob.open(source, tmp_path / "changed.mkv", options, length=films.LENGTH)
    (source / "0050.png").rename(source / "0081.png")
    assert isinstance(job, FilmJob)
    with pytest.raises(InputError, match="is not the film that the job was planned for"):
        job.run()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("tiff", {"start": 2.0, "end": 6.4}),
        ("png", {"stages": ("tests.stages.trial_stages.Bar:where=half",)}),
    ],
)
def test_scans_into_a_folder_are_those_of_one_process(kind: str, more: dict, tmp_path: Path):
    source = films.scans(tmp_path)
    options = Options.of({"tracker": "none", "codec": kind, "sequence": True, "fps": 10, **more})
    one, other = tmp_path / "one", tmp_path / "other"
    other.mkdir()
    first = run_file(source, f"{one}/", replace(options, sidecar=True))
    second = in_segments(source, other, options, stop_at=20)
    assert films.files(one) == films.files(other) != {}
    assert (kind == "png") == (films.files(one).get("0060.png") == b"damaged")
    assert second.warnings == first.warnings and why_no_job(source, f"{one}/", options) is None
    one_said, other_said = (read_sidecar(sidecar_path(folder)) for folder in (one, other))
    assert one_said["changed"] == other_said["changed"] and one_said["output"]["files"] == other_said["output"]["files"]
    assert not list(tmp_path.glob("*.rtface"))


@pytest.mark.slow
def test_a_film_into_a_folder_is_that_of_one_process(tmp_path: Path):
    source = films.FILMS["variable rate"](tmp_path)
    options = Options(tracker="none", codec="dpx", start=0.4, timecode="01:00:00:00")
    run_file(source, f"{tmp_path}/one/", options)
    in_segments(source, f"{tmp_path}/other/", options, stop_at=30)
    assert films.files(tmp_path / "one") == films.files(tmp_path / "other")
    assert sorted(films.files(tmp_path / "other"))[-1] == "000068.dpx"


def test_a_label_follows_the_time_of_the_film(tmp_path: Path):
    source = films.FILMS["h264 with B-frames"](tmp_path)
    options = Options(tracker="none", codec="ffv1", start=0.4)
    plain, one, other = (tmp_path / f"{name}.mkv" for name in ("plain", "one", "other"))
    run_file(source, plain, options)
    options = replace(options, stages=("label:seconds=1.4,size=0.3",))
    run_file(source, one, options)
    in_segments(source, other, options)
    same_film(one, other)
    labelled = [a != b for a, b in zip(films.frame_hashes(plain), films.frame_hashes(one), strict=True)]
    assert labelled == [True] * 35 + [False] * (len(labelled) - 35)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "suffix", "more"),
    [
        ("libx265", ".mp4", {}),
        ("mpeg2video", ".ts", {}),
        ("libsvtav1", ".mkv", {}),
        ("libvpx-vp9", ".webm", {}),
        ("prores_ks", ".mov", {}),
        ("libx264", ".mp4", {"start": 0.1, "end": 1.7}),
    ],
)
def test_every_encoder_can_be_joined(codec: str, suffix: str, more: dict, tmp_path: Path):
    source = write_film(
        tmp_path / "in.mp4", films.scenes(45), codec="libx264", options={"bf": "3", "g": "20"}, sound=True
    )
    options = Options(tracker="none", codec=codec, **more)
    one, other = tmp_path / f"one{suffix}", tmp_path / f"other{suffix}"
    run_file(source, one, options)
    in_segments(source, other, options, stop_at=30)
    same_film(one, other, lossless=False)
    with av.open(str(one)) as a, av.open(str(other)) as b:
        for x, y in zip(a.decode(video=0), b.decode(video=0), strict=True):
            difference = np.abs(x.to_ndarray(format="gray").astype(int) - y.to_ndarray(format="gray"))
            assert difference.mean() < 3
        for x, y in [(a, b), *zip(a.streams, b.streams, strict=True)]:
            assert [*x.metadata.items()] == [*y.metadata.items()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "codec", "coding"),
    [
        (".ts", "libx264", {"g": "10", "sc_threshold": "0", "crf": "24"}),
        (".mkv", "mjpeg", {"color_range": "pc"}),
    ],
)
def test_copied_packets_are_those_of_one_process(suffix: str, codec: str, coding: dict[str, str], tmp_path: Path):
    pictures = films.scenes(60, size=(320, 180), cut=200)
    pictures[32:45] = [portrait(shift=(0.5 * t, 0.0))[0] for t in range(13)]
    form = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    source = write_film(tmp_path / f"in{suffix}", pictures, codec=codec, pix_fmt=form, options=coding, sound=True)
    options = Options(correct="always", copy="require", sidecar=True)
    one = tmp_path / f"one{suffix}"
    copied = run_file(source, one, options).packets_copied
    assert 40 <= copied < 50
    made = tmp_path / f"made{suffix}"
    assert in_segments(source, made, options, stop_at=30).packets_copied == copied
    assert films.frame_hashes(one) == films.frame_hashes(made)
    for kind in ("video", "audio"):
        assert films.packets(one, kind) == films.packets(made, kind)
    assert read_sidecar(sidecar_path(made))["copied"] == read_sidecar(sidecar_path(one))["copied"]


@pytest.mark.slow
def test_open_groups_are_copied_at_borders_too(tmp_path: Path):
    """Other frames are copied than in one piece, because the frames that lead to a border's CRA frame are not."""
    pictures = films.scenes(80, size=(320, 180), cut=200)
    for first in (30, 60):
        pictures[first : first + 3] = [portrait(shift=(0.5 * t, 0.0))[0] for t in range(3)]
    coding = {"x265-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0:log-level=error", "preset": "fast"}
    source = write_film(tmp_path / "in.mp4", pictures, codec="libx265", options=coding)
    options, times = Options(correct="always", copy="require", sidecar=True), list[list[float]]()
    for name, work in (("one", run_file), ("other", in_segments)):
        made = tmp_path / f"{name}.mp4"
        report = work(source, made, options)
        assert report.packets_copied > 30 and verify(made, input=source).same
        with av.open(str(made)) as film:
            times.append([frame.time for frame in film.decode(video=0)])
    assert len(times[0]) == 80 and times[0] == times[1]


def test_a_job_without_a_corrected_face_keeps_the_own_mark(tmp_path: Path):
    own = {"digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"}
    source = film(tmp_path / "in.mkv", frames=40)
    with av.open(str(source)) as read, av.open(str(tmp_path / "marked.mkv"), "w") as out:
        stream = out.add_stream_from_template(read.streams.video[0])
        out.metadata.update(own)
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    in_segments(tmp_path / "marked.mkv", tmp_path / "out.mkv", Options(codec="ffv1", correct="never"))
    with av.open(str(tmp_path / "out.mkv")) as made:
        assert own_tags(made.metadata) == own


class WavesEngine(FakeEngine):
    """Adds waves of 64 pixels to a crop: what a small shift of the crop changes is in proportion to the shift."""

    def __init__(self) -> None:
        super().__init__()
        y, x = np.mgrid[:256, :256] * (2 * np.pi / 64)
        self._pattern = (0.1 * np.sin(x) * np.sin(y)).astype(np.float32)


@pytest.mark.slow
def test_faces_behind_a_border_are_those_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime, "EngineSet", lambda *_, **__: FakeEngines(WavesEngine()))
    noise = np.random.default_rng(0).normal(0, 3, (100, 180, 320, 1))
    source = write_film(
        tmp_path / "in.mkv",
        (
            np.clip(portrait(shift=(0.7 * t - 25, 6 * np.sin(t / 5)))[0] + noise[t], 0, 255).astype(np.uint8)
            for t in range(100)
        ),
    )
    one, other, options = tmp_path / "one.mkv", tmp_path / "other.mkv", Options(codec="ffv1")
    run_file(source, one, options)
    job = FilmJob.open(source, other, options, length=Fraction(27, 10))
    assert isinstance(job, FilmJob) and len(job.plan) == 2
    for number in range(2):
        films.make_segment(job, number)  # by a worker of its own
    job.run()
    errors = [np.square(a - b).mean() for a, b in zip(decoded(one), decoded(other), strict=True)]
    assert not any(errors[: job.plan.frames[0]])
    assert max(errors) < 255**2 / 10**6  # 60 dB


@pytest.mark.slow
def test_a_face_keeps_its_engine_with_another_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str | None] = []
    pick = FakeEngines.pick
    monkeypatch.setattr(
        FakeEngines,
        "pick",
        lambda self, width, faces=0, current=None: (asked.append(current), pick(self, width, faces, current))[1],
    )
    source = film(tmp_path / "in.mkv", frames=50)
    job = FilmJob.open(source, tmp_path / "out.mkv", Options(codec="ffv1", correct="always"), length=films.LENGTH)
    assert isinstance(job, FilmJob) and len(job.plan) == 2
    for number in range(2):
        asked.clear()
        films.make_segment(job, number)
        assert asked[0] == (FakeEngine().name if number else None)


def test_hdr_is_that_of_one_process(tmp_path: Path):
    source, options = films.hdr(tmp_path), Options(tracker="none", codec="libx265")
    one, other = tmp_path / "one.mp4", tmp_path / "other.mp4"
    run_file(source, one, options)
    in_segments(source, other, options, stop_at=30)
    same_film(one, other, lossless=False)
    infos = [FileSource(path).info for path in (one, other)]
    assert infos[0].hdr is not None and infos[0].hdr.light == (1000, 400)
    assert infos[0].hdr == infos[1].hdr and infos[0].color == infos[1].color and infos[0].tags == infos[1].tags
