"""Sidecars of outputs, what ``rtface verify`` shows by them and by the input, and that every change is found."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

import rtface
from rtface.analysis.analyzer import Analyzer, Treatment
from rtface.cli.app import app
from rtface.config.options import Options
from rtface.enhance.track_store import TrackState
from rtface.errors import InputError, InputMissing, OutputError, RtfaceError
from rtface.jobs import FilmJob
from rtface.report import Report
from rtface.trust.check_sidecar import check_sidecar
from rtface.trust.sidecar import SUFFIX, first_stage_said, read_sidecar
from rtface.trust.verify import Verified, verify
from tests.pipeline.fakes import portrait
from tests.pipeline.run_media import still, write_film
from tests.util.mutations import mutated

pytestmark = pytest.mark.usefixtures("engines")

FRAMES = 12


def half_faces(path: Path) -> Path:
    """Frames with a face, then as many without; and sound."""
    gradient = np.tile(np.linspace(20, 230, 320)[None, :, None], (180, 1, 3)).astype(np.uint8)
    faces = [portrait(shift=(0.5 * t, 0.0))[0] for t in range(FRAMES // 2)]
    return write_film(path, [*faces, *(np.roll(gradient, 3 * t, axis=1) for t in range(FRAMES // 2))], sound=True)


def other_film(path: Path) -> Path:
    return write_film(path, [portrait(shift=(30.0 + t, 8.0))[0] for t in range(5)], sound=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A film, its lossless output with a sidecar, and another film with its own."""
    from rtface.pipeline import runtime
    from tests.pipeline.fakes import FakeEngine
    from tests.pipeline.run_media import Engines

    made = tmp_path_factory.mktemp("sidecar")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "EngineSet", lambda *a, **k: Engines(FakeEngine(amount=0.15)))
        rtface.run(half_faces(made / "in.mkv"), made / "out.mkv", sidecar=True)
        rtface.run(other_film(made / "other-in.mkv"), made / "other.mkv", sidecar=True)
    yield made


@pytest.fixture
def out(folder: Path, tmp_path: Path) -> Path:
    """A copy of all of it, to be changed."""
    shutil.copytree(folder, tmp_path / "films")
    return tmp_path / "films" / "out.mkv"


def tampered(path: Path, case: str, chance: random.Random) -> None:
    """Changes one thing of a film, or of what lies next to it."""
    if case == "bit":
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        return
    if case == "sidecar":
        shutil.copy(path.with_name("other.mkv" + SUFFIX), path.with_name(path.name + SUFFIX))
        return
    with (
        av.open(str(path)) as source,
        av.open(str(path.with_name("other-in.mkv") if case == "sound" else path)) as heard,
    ):
        frames = list(source.decode(video=0))
        sound = [p for p in heard.demux(audio=0) if p.size]
        place = chance.randrange(len(frames) - 1)
        if case == "dropped":
            del frames[place]
        elif case == "doubled":
            frames.insert(place, frames[place])
        elif case == "swapped":
            frames[place], frames[place + 1] = frames[place + 1], frames[place]
        elif case == "sample":
            array = frames[place].to_ndarray()
            array[chance.randrange(180), chance.randrange(320)] ^= 1 << chance.randrange(8)
            frames[place] = av.VideoFrame.from_ndarray(array, "yuv420p")
        with av.open(str(path.with_name("again.mkv")), "w") as made:
            made.metadata.update({k: v for k, v in source.metadata.items() if k != "ENCODER"})
            if case == "tag":
                name = chance.choice(["DIGITAL_SOURCE_TYPE", "ENHANCED_BY", "RTFACE_ENGINE", "title"])
                made.metadata.update({name: f"other {chance.random()}"})
            video = made.add_stream("ffv1", rate=25)
            video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
            audio = made.add_stream_from_template(source.streams.audio[0])
            for number, frame in enumerate(frames):
                image = frame.reformat(format="yuv420p")
                copy = av.VideoFrame.from_ndarray(image.to_ndarray(), "yuv420p")
                copy.pts, copy.time_base = number, video.codec_context.time_base or frame.time_base
                made.mux(video.encode(copy))
            made.mux(video.encode(None))
            for packet in sound:
                packet.stream = audio
                made.mux(packet)
    path.with_name("again.mkv").replace(path)


SAID = {
    "bit": "not those that the sidecar names",
    "sidecar": "another file",
    "dropped": "is missing",
    "doubled": "a copy of another",
    "swapped": "another order",
    "sample": "differs",
    "tag": "the tag ",
    "sound": "stream 1 (audio)",
}
CASES = [(case, seed) for seed in range(13) for case in SAID][:104]


@pytest.mark.parametrize(
    ("case", "seed"), [pytest.param(case, seed, marks=[] if seed == 0 else pytest.mark.slow) for case, seed in CASES]
)
def test_every_change_is_found_and_named(out: Path, case: str, seed: int) -> None:
    tampered(out, case, random.Random(f"{case}{seed}"))
    found = verify(out)
    assert found.sidecar == "differs" and not found.same
    assert any(SAID[case] in line for line in found.problems), found.problems
    if case in ("tag", "sound", "dropped"):
        assert sum(line.startswith(("the tag", "stream", "frame")) for line in found.problems) == 1


def test_a_film_written_again_has_the_same_frames(out: Path) -> None:
    tampered(out, "nothing", random.Random(0))
    found = verify(out)
    assert found.same and found.proofs[0] == f"all {FRAMES} frames of its picture are as the run wrote them (MD5)"
    assert found.proofs[1].startswith("only the container was written again")
    whole = out.read_bytes()
    for damaged in (whole + b"\0", whole[:-1], whole + whole):
        out.write_bytes(damaged)
        assert verify(out).sidecar == "differs"


def remuxed(source: Path, target: Path, change: dict[str, str | None]) -> Verified:
    """What is found of a film that was only written again, with its sidecar: all tags but XMP, and those in `change`;
    None leaves one out."""
    with av.open(str(source)) as film, av.open(str(target), "w", options={"movflags": "use_metadata_tags"}) as made:
        tags = {**film.metadata, **change, "xmp": None}
        made.metadata.update({key: text for key, text in tags.items() if text is not None})
        streams = [made.add_stream_from_template(stream) for stream in film.streams]
        for packet in film.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                made.mux(packet)
    shutil.copy(source.with_name(source.name + SUFFIX), target.with_name(target.name + SUFFIX))
    return verify(target)


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MP4 in which faces were corrected, with its sidecar."""
    from rtface.pipeline import runtime
    from tests.pipeline.fakes import FakeEngine
    from tests.pipeline.run_media import Engines

    made = tmp_path_factory.mktemp("mp4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "EngineSet", lambda *a, **k: Engines(FakeEngine(amount=0.15)))
        rtface.run(half_faces(made / "in.mkv"), made / "out.mp4", sidecar=True)
    return made / "out.mp4"


@pytest.mark.parametrize("lost", ["", "enhanced_by"])
def test_an_mp4_written_again_as_mkv_keeps_its_tags(mp4: Path, lost: str, tmp_path: Path) -> None:
    statistics = {"BPS": "1000", "NUMBER_OF_BYTES": "1", "NUMBER_OF_FRAMES": "1"}  # as mkvmerge writes them
    found = remuxed(mp4, tmp_path / "again.mkv", {lost: None, **statistics})
    assert [line for line in found.problems if "the tag" in line] == (
        [f"the tag enhanced_by is missing, and was {('rtface ' + rtface.__version__)!r}"] if lost else []
    )
    assert found.same != bool(lost), found.problems


def test_sound_is_the_same_in_mpeg_ts(mp4: Path, tmp_path: Path) -> None:
    """There AAC has headers of its own."""
    found = remuxed(mp4, tmp_path / "again.ts", {})
    assert [line for line in found.problems if not line.startswith("its bytes")] == []


@pytest.mark.parametrize("chapters", [[""], [[0.0, 1.0]], ["abc"], {"0": 1}])
def test_chapters_of_another_form_are_no_sidecar(mp4: Path, tmp_path: Path, chapters: object) -> None:
    values = json.loads(mp4.with_name(mp4.name + SUFFIX).read_text())
    values["layout"]["chapters"] = chapters
    other = tmp_path / "other.json"
    other.write_text(json.dumps(values))
    with pytest.raises(InputError, match="is no sidecar"):
        read_sidecar(other)


@pytest.mark.parametrize(("aspect", "same"), [("1001/1000", True), ("2", False)])
def test_a_container_may_round_the_shape_of_samples(mp4: Path, tmp_path: Path, aspect: str, same: bool) -> None:
    remuxed(mp4, again := tmp_path / "again.mkv", {})
    sidecar = again.with_name(again.name + SUFFIX)
    values = json.loads(sidecar.read_text())
    values["layout"]["aspect"] = aspect
    sidecar.write_text(json.dumps(values))
    assert verify(again).same == same


@pytest.mark.parametrize(
    ("change", "answer", "named"),
    [
        ({}, "same", "XMP packet"),
        ({"enhanced_by": None}, "not checked", "(enhanced_by, xmp)"),
        ({"title": "other"}, "differs", "the tag title"),
        ({"enhanced_by": "nobody"}, "differs", "the tag enhanced_by"),
    ],
)
def test_tags_that_an_mp4_loses_are_told_from_others(
    mp4: Path, tmp_path: Path, change: dict[str, str | None], answer: str, named: str
) -> None:
    found = remuxed(mp4, tmp_path / "again.mp4", change)
    assert found.sidecar == answer and found.same == (answer == "same"), found
    assert any(named in line for line in [*found.notes, *found.gaps, *found.problems])
    if answer == "not checked":
        run = CliRunner().invoke(app, ["verify", str(tmp_path / "again.mp4")])
        assert run.exit_code == 4 and "nothing could be checked" not in run.stderr


@pytest.mark.parametrize(
    ("change", "says"), [("chapter", "its chapters differ"), ("sound", "its packets come 0.200 s later")]
)
def test_what_only_the_container_says_is_compared(out: Path, change: str, says: str) -> None:
    again = out.with_name("again.mkv")
    with av.open(str(out)) as source, av.open(str(again), "w") as made:
        made.metadata.update(source.metadata)
        streams = [made.add_stream_from_template(stream) for stream in source.streams]
        if change == "chapter":
            made.set_chapters([{"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {}}])
        for packet in source.demux():
            if packet.size:
                late = round(Fraction(1, 5) / packet.time_base) if change == "sound" and packet.stream_index else 0
                packet.pts, packet.dts = packet.pts + late, packet.dts + late
                packet.stream = streams[packet.stream_index]
                made.mux(packet)
    again.replace(out)
    found = verify(out)
    assert found.sidecar == "differs" and any(says in line for line in found.problems), found.problems


@pytest.mark.parametrize(
    ("times", "title", "same"),
    [
        ((0, 200, 400), "B", True),
        ((7, 207, 407), "B", True),  # FFmpeg's delay of Opus
        ((0, 200, 420), "B", True),  # mkvmerge ends the last with the film
        ((0, 207, 400), "B", False),
        ((90, 290, 490), "B", False),
        ((0, 200, 400), "C", False),
    ],
)
def test_chapters_may_come_later_with_their_film(
    mp4: Path, tmp_path: Path, times: tuple[int, int, int], title: str, same: bool
) -> None:
    remuxed(mp4, again := tmp_path / "again.mkv", {})
    beside = again.with_name(again.name + SUFFIX)
    said = json.loads(beside.read_bytes())
    said["layout"]["chapters"] = [[0.0, 0.2, "A"], [0.2, 0.4, "B"]]
    if times[1] == 200:  # as FFmpeg sees them in MP4
        said["streams"].append({"kind": "data", "codec": "bin_data", "packets": 0, "md5": "", "times": [], "setup": ""})
        said["layout"]["played"].append(["data", 0])
        said["tags"][f"{len(said['streams']) - 1}:language"] = "eng"
    beside.write_text(json.dumps(said))
    with av.open(str(again)) as source, av.open(str(tmp_path / "new.mkv"), "w") as made:
        made.metadata.update(source.metadata)
        streams = [made.add_stream_from_template(stream) for stream in source.streams]
        spans = list(zip(times, times[1:], ("A", title), strict=False))
        made.set_chapters(
            [
                {"id": k, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": name}}
                for k, (a, b, name) in enumerate(spans, 1)
            ]
        )
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                made.mux(packet)
    (tmp_path / "new.mkv").replace(again)
    assert verify(again).same == same, verify(again).problems


def test_the_first_stage_is_named_by_its_weights(out: Path) -> None:
    from rtface.engine.coded_network import SHA256

    assert read_sidecar(out.with_name(out.name + SUFFIX))["first_stage"] == {"weights_sha256": SHA256}


@pytest.mark.parametrize(("first", "ring"), [(0.5, 0.0), (0.0, 0.5), (0.0, 0.0)])
def test_a_forced_first_stage_is_named_too(first: float, ring: float) -> None:
    report, track = Report("in", "out", "1", "e", "d"), TrackState(1, Analyzer())
    track.decide(0.0, counted=True, forced=Treatment(True, 0.9, first=first, ring=ring))
    report.tracks = [track.report()]
    assert (first_stage_said(report) is None) == (first == ring == 0.0)


def test_everything_outside_the_faces_is_proven(out: Path) -> None:
    found = verify(out, input=out.with_name("in.mkv"))
    assert found.same and found.input == "same"
    assert any("every sample is the input's" in line and line.startswith("6 frames without") for line in found.proofs)
    assert any("every sample outside the faces" in line and line.startswith("6 frames with") for line in found.proofs)
    assert any("packets are those of stream 1" in line for line in found.proofs)


@pytest.mark.parametrize(("place", "at"), [(2, (2, 2)), (8, (90, 160))])
def test_a_sample_outside_the_faces_is_found(out: Path, place: int, at: tuple[int, int]) -> None:
    """Also where sidecar and hashes were made anew for the changed film."""
    with av.open(str(out)) as source:
        arrays = [frame.to_ndarray() for frame in source.decode(video=0)]
    arrays[place][at] ^= 1
    with av.open(str(out), "w") as made:
        video = made.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        for array in arrays:
            made.mux(video.encode(av.VideoFrame.from_ndarray(array, "yuv420p")))
        made.mux(video.encode(None))
    found = verify(out, input=out.with_name("in.mkv"))
    assert f"frame {place}: 1 samples outside the faces are not the input's" in found.problems


def test_another_input_is_refused(out: Path) -> None:
    found = verify(out, input=out.with_name("other-in.mkv"))
    assert found.input == "differs" and any("is not the file that the run read" in line for line in found.problems)
    with pytest.raises(InputError, match="the output itself"):
        verify(out, input=out)


def test_a_part_needs_its_sidecar(tmp_path: Path) -> None:
    source, part = half_faces(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    rtface.run(source, part, start=0.08, end=0.4, correct="never", sidecar=True)
    assert verify(part, input=source).same
    Path(str(part) + SUFFIX).unlink()
    assert any("fewer frames" in line and "--sidecar" in line for line in verify(part, input=source).problems)


def test_a_lossy_output_is_the_input_within_its_error(tmp_path: Path) -> None:
    source = half_faces(tmp_path / "in.mkv")
    rtface.run(source, tmp_path / "out.mp4", sidecar=True, codec="libx264")
    found = verify(tmp_path / "out.mp4", input=source)
    assert found.same and any("within the encoder's error" in line for line in found.proofs)
    with av.open(str(tmp_path / "out.mp4")) as box:
        arrays = [frame.to_ndarray() for frame in box.decode(video=0)]
    arrays[9] = arrays[2]  # a frame without a face is replaced
    with av.open(str(tmp_path / "out.mp4"), "w") as made:
        video = made.add_stream("libx264", rate=25, options={"crf": "18"})
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        for array in arrays:
            made.mux(video.encode(av.VideoFrame.from_ndarray(array, "yuv420p")))
        made.mux(video.encode(None))
    assert any(
        line.startswith("frame 9 is not the input's") for line in verify(tmp_path / "out.mp4", input=source).problems
    )


def test_stills_and_folders_have_sidecars(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    still(tmp_path / "photos" / "a.png")
    still(tmp_path / "photos" / "b.png", face=False)
    rtface.run(tmp_path / "photos", tmp_path / "out", sidecar=True)
    rtface.run(tmp_path / "photos" / "a.png", tmp_path / "one.png", sidecar=True)
    for output, source in (("out", "photos"), ("one.png", "photos/a.png")):
        found = verify(tmp_path / output, input=tmp_path / source)
        assert found.same and any("outside the faces" in line for line in found.proofs), found
    (tmp_path / "out" / "b.png").write_bytes((tmp_path / "out" / "a.png").read_bytes())
    assert "b.png: its bytes are not those that the sidecar names (SHA-256)" in verify(tmp_path / "out").problems


def test_a_job_always_has_one_of_packets(tmp_path: Path) -> None:
    source = half_faces(tmp_path / "in.mkv")
    job = FilmJob.open(source, tmp_path / "out.mkv", Options())
    assert isinstance(job, FilmJob)
    job.run()
    values = read_sidecar(tmp_path / f"out.mkv{SUFFIX}")
    assert values["frames"]["of"] == "packets" and len(values["frames"]["rows"]) == FRAMES
    assert [number for number, boxes in values["changed"] if boxes] == list(range(FRAMES // 2))
    assert verify(tmp_path / "out.mkv", input=source).same
    assert not (tmp_path / "out.mkv.rtface").exists()
    planned = rtface.run(source, tmp_path / "other.mkv", dry_run=True).plan
    assert values["plan"]["streams"] and values["plan"].items() <= planned.items()


def test_no_paths_and_no_images_are_in_it(out: Path) -> None:
    text = out.with_name(f"out.mkv{SUFFIX}").read_text()
    values = json.loads(text)
    assert str(out.parent) not in text and values["input"]["name"] == "in.mkv"
    assert values["format"] == "rtface sidecar" and values["version"] == 1 and values["changes"] == ["corrected"]
    assert values["marks"]["digital_source_type"].endswith("compositeWithTrainedAlgorithmicMedia")


def test_sidecars_that_cannot_be_used(out: Path) -> None:
    sidecar = out.with_name(f"out.mkv{SUFFIX}")
    values = json.loads(sidecar.read_text())
    whole = sidecar.read_text()
    box = [0, [[-9, 0, 5, 5]]]
    for text in (
        "{",
        "{}",
        '{"format": "rtface sidecar"}',
        json.dumps({**values, "frames": {"rows": 3}}),
        whole.replace("{", '{"changed": [], ', 1),
        json.dumps({**values, "changed": [[0, []], [0, None]]}),
        json.dumps({**values, "changed": [box]}),
    ):
        sidecar.write_text(text)
        with pytest.raises(InputError, match="no sidecar of rtface"):
            verify(out)
    sidecar.write_text(json.dumps({**values, "version": 9}))
    with pytest.raises(InputError, match="version 9"):
        verify(out)
    with pytest.raises(OutputError, match="exists already"):
        rtface.run(out.with_name("in.mkv"), _taken(out.with_name("new.mkv")), sidecar=True)
    assert not out.with_name("new.mkv").exists()


def test_rows_of_frames_that_are_not_there_are_refused(out: Path) -> None:
    side = out.with_name(out.name + SUFFIX)
    values = json.loads(side.read_text())
    values["frames"]["rows"] += [[10**6 + number, "0" * 32] for number in range(50)]
    side.write_text(json.dumps(values))
    with pytest.raises(InputError, match="more than the packets"):
        verify(out)
    values["streams"][0]["packets"] += 50
    side.write_text(json.dumps(values))
    found = verify(out, input=out.with_name("in.mkv"))
    assert found.sidecar == "same" and any("names more frames" in line for line in found.problems)
    side.write_text(json.dumps({**values, "more": " " * (20 * out.stat().st_size + (4 << 20))}))
    with pytest.raises(InputMissing, match="larger than"):  # before it is parsed
        verify(out)


def _taken(path: Path) -> Path:
    """The path, whose sidecar's name is taken."""
    path.with_name(path.name + SUFFIX).write_text("mine")
    return path


def test_the_command_says_what_was_shown(out: Path) -> None:
    run = CliRunner().invoke
    result = run(app, ["verify", str(out), str(out.with_name("in.mkv"))])
    assert result.exit_code == 0 and "every sample outside the faces is the input's" in result.stderr
    said: Verified = json.loads(run(app, ["verify", str(out), "--json"]).stdout)
    assert said["sidecar"] == "same" and said["input"] == "not checked"
    tampered(out, "sidecar", random.Random(0))
    result = run(app, ["verify", str(out)])
    assert result.exit_code == 3 and "of another file (other.mkv)" in result.stderr
    out.write_bytes(out.read_bytes()[:5000])
    assert run(app, ["verify", str(out)]).exit_code == 3


def test_a_sidecar_of_others_is_used_or_refused(out: Path) -> None:
    side = out.with_name(out.name + SUFFIX)
    whole = json.loads(side.read_bytes())
    whole["output"]["sha256"] = "0" * 64
    for number, data in enumerate(mutated(whole, 400)):
        side.write_bytes(data)
        try:
            values = read_sidecar(side)
            if not number % 20:
                check_sidecar(out, values)
        except RtfaceError as error:
            assert "\n" not in str(error)
