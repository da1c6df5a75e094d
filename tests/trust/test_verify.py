"""``rtface verify``: honest outputs are confirmed, and each kind of tampering that it promises to find is found."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli.app import app
from rtface.errors import Interrupted
from rtface.trust.sidecar import sidecar_path
from rtface.trust.verify import Verified, verify
from tests.pipeline.fakes import FakeEngine, portrait
from tests.pipeline.run_media import Engines, film, still, write_film

pytestmark = pytest.mark.usefixtures("engines")
FACES, FRAMES, SIZE = 3, 6, (320, 180)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A film with sound, half of it with a face, and its outputs with sidecars, lossless and lossy."""
    from rtface.pipeline import runtime

    made = tmp_path_factory.mktemp("films")
    gradient = np.tile(np.linspace(20, 230, SIZE[0])[None, :, None], (SIZE[1], 1, 3)).astype(np.uint8)
    faces = [portrait(shift=(0.5 * t, 0.0))[0] for t in range(FACES)]
    rest = [np.roll(gradient, 3 * t, axis=1) for t in range(FRAMES - FACES)]
    source = write_film(made / "in.mkv", [*faces, *rest], sound=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "EngineSet", lambda *a, **k: Engines(FakeEngine(amount=0.15)))
        rtface.run(source, made / "out.mkv", sidecar=True)
        rtface.run(source, made / "out.mp4", sidecar=True, codec="libx264")
    return {"in": source, "lossless": made / "out.mkv", "lossy": made / "out.mp4"}


def written(
    output: Path,
    target: Path,
    change: Callable[[list[np.ndarray]], list[np.ndarray]] = lambda frames: frames,
    *,
    times: Sequence[int] | None = None,
    packets: Callable[[list[av.Packet[Any]]], list[av.Packet[Any]]] = lambda packets: packets,
) -> Path:
    """The film with other frames or packets of sound, encoded as it was, and its sidecar next to it."""
    lossless = output.suffix == ".mkv"
    with av.open(str(output)) as source, av.open(str(output)) as heard, av.open(str(target), "w") as made:
        frames = [frame.to_ndarray() for frame in source.decode(video=0)]
        sound = packets([packet for packet in heard.demux(audio=0) if packet.size])
        video = made.add_stream("ffv1" if lossless else "libx264", rate=25, options={} if lossless else {"crf": "18"})
        own = source.streams.video[0]
        video.width, video.height, video.pix_fmt = own.width, own.height, "yuv420p"
        audio = made.add_stream_from_template(source.streams.audio[0])
        for number, array in enumerate(change(frames)):
            frame = av.VideoFrame.from_ndarray(array, "yuv420p")
            frame.pts, frame.time_base = (number if times is None else times[number]), Fraction(1, 25)
            made.mux(video.encode(frame))
        made.mux(video.encode(None))
        for packet in sound:
            packet.stream = audio
            made.mux(packet)
    shutil.copy(sidecar_path(output), sidecar_path(target))
    return target


def painted(place: int) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    """Inverts a corner of one frame, 2 % of it."""

    def change(frames: list[np.ndarray]) -> list[np.ndarray]:
        frames[place][4:36, 4:36] = 255 - frames[place][4:36, 4:36]
        return frames

    return change


def sample(frames: list[np.ndarray]) -> list[np.ndarray]:
    frames[4][90, 160] ^= 1
    return frames


def darker(frames: list[np.ndarray]) -> list[np.ndarray]:
    return [np.concatenate([np.maximum(one[: SIZE[1]], 26) - 10, one[SIZE[1] :]]) for one in frames]


def tinted(frames: list[np.ndarray]) -> list[np.ndarray]:
    for one in frames:
        one[SIZE[1] : SIZE[1] * 5 // 4] += 11
    return frames


def answer(output: Path, films: dict[str, Path]) -> Verified:
    return verify(output, input=films["in"])


@pytest.mark.parametrize("kind", ["lossless", "lossy"])
def test_an_honest_output_is_confirmed(films: dict[str, Path], tmp_path: Path, kind: str) -> None:
    found = answer(films[kind], films)
    assert found.same and (found.sidecar, found.input) == ("same", "same")
    [frames] = [line for line in found.proofs if line.startswith(f"{FRAMES} frames, {FACES} with boxes, which cover")]
    assert ("every sample outside the boxes equals the input's" in frames) == (kind == "lossless")
    assert ("within an encoder's error (PSNR" in frames) == (kind == "lossy")
    assert any("packets equal those of the input" in line for line in found.proofs)
    again = answer(written(films[kind], tmp_path / films[kind].name), films)
    assert (again.sidecar, again.input) == ("differs", "same")  # other bytes, the same film


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("lossless", painted(1), "frame 1: "),
        ("lossless", sample, "frame 4: differs from the input outside the boxes (1 sample)"),
        ("lossless", lambda frames: [*frames[:4], *frames[5:]], "fewer frames"),
        ("lossless", lambda frames: [*frames[:3], frames[4], frames[3], *frames[5:]], "frame 3: "),
        ("lossless", lambda frames: [*frames[:4], frames[3], *frames[5:]], "frame 4: "),
        ("lossy", painted(1), "frame 1: "),
        ("lossy", lambda frames: [*frames[:4], *frames[3:]], "more frames"),
        ("lossy", lambda frames: [np.roll(frame, 9, axis=1) for frame in frames], "frames differ from the input's"),
        ("lossy", darker, "frames differ from the input's"),
        ("lossy", tinted, "frames differ from the input's"),
    ],
)
def test_a_changed_picture_is_found(
    films: dict[str, Path], tmp_path: Path, kind: str, change: Callable[[list[np.ndarray]], list[np.ndarray]], says: str
) -> None:
    found = answer(written(films[kind], tmp_path / films[kind].name, change), films)
    assert found.input == "differs" and says in str(found.problems)


def test_a_frame_at_another_time_is_found(films: dict[str, Path], tmp_path: Path) -> None:
    found = answer(written(films["lossless"], tmp_path / "out.mkv", times=[0, 1, 2, 4, 5, 6]), films)
    assert "frame 3 has another time than in in.mkv" in found.problems


def _moved(packets: list[av.Packet[Any]]) -> list[av.Packet[Any]]:
    for packet in packets:
        packet.pts = packet.dts = packet.pts + round(Fraction(3, 100) / packet.time_base)
    return packets


def _replaced(packets: list[av.Packet[Any]]) -> list[av.Packet[Any]]:
    other = av.Packet(bytes(packets[3])[:-1] + b"\0")
    other.pts, other.dts, other.time_base = packets[3].pts, packets[3].dts, packets[3].time_base
    return [*packets[:3], other, *packets[4:]]


@pytest.mark.parametrize(
    ("packets", "says"),
    [
        (_replaced, "packet 3 differs from that of the input"),
        (_moved, "is 0.030 s later"),
        (lambda packets: packets[:-2], "the last 2 packets of the input are missing"),
        (lambda packets: packets[:2] + packets[3:], "packet 2 differs from that of the input"),
    ],
    ids=["replaced", "moved", "cut", "left out"],
)
def test_other_packets_of_sound_are_found(
    films: dict[str, Path], tmp_path: Path, packets: Callable[[list[Any]], list[Any]], says: str
) -> None:
    found = answer(written(films["lossless"], tmp_path / "out.mkv", packets=packets), films)
    assert found.input == "differs" and says in str(found.problems)


def test_converted_and_dropped_streams_are_named(films: dict[str, Path], tmp_path: Path) -> None:
    source = films["in"]
    rtface.run(source, tmp_path / "a.webm", sidecar=True, end=0.2)
    found = verify(tmp_path / "a.webm", input=source)
    assert found.input == "not checked" and "was converted or split differently" in str(found.gaps)
    rtface.run(source, tmp_path / "b.mkv", sidecar=True, drop=("audio",))
    found = verify(tmp_path / "b.mkv", input=source)
    assert found.same and "the run left it out (--drop)" in str(found.notes)


@pytest.mark.parametrize("suffixes", [("mov", "mkv"), ("mkv", "mov")])
def test_pcm_is_compared_however_containers_cut_it(tmp_path: Path, suffixes: tuple[str, str]) -> None:
    source, out = (tmp_path / f"{name}.{suffix}" for name, suffix in zip(("in", "out"), suffixes, strict=True))
    noise = np.random.default_rng(1).integers(-9000, 9000, (1, 19200)).astype(np.int16)
    with av.open(str(source), "w") as made:
        video, track = made.add_stream("mpeg4", rate=25), made.add_stream("pcm_s16le", rate=48000)
        video.width, video.height, video.pix_fmt, track.layout = 64, 48, "yuv420p", "mono"
        for start in range(0, 19200, 960):
            block = av.AudioFrame.from_ndarray(noise[:, start : start + 960], "s16", "mono")
            block.sample_rate, block.pts = 48000, start
            made.mux([*track.encode(block), *(video.encode(av.VideoFrame(64, 48, "yuv420p")) if start % 1920 else [])])
        made.mux(video.encode(None))
    rtface.run(source, out, sidecar=True)
    found = verify(out, input=source)
    assert found.same and any("pcm_s16le, 48000 Hz, 1 channels" in line for line in found.proofs)
    found = verify(written(out, tmp_path / f"short.{suffixes[1]}", packets=lambda all: all[:-1]), input=source)
    assert found.input == "differs" and "stream 1 (audio, pcm_s16le" in str(found.problems)


def test_a_part_of_a_film_is_compared_by_its_manifest(films: dict[str, Path], tmp_path: Path) -> None:
    part = tmp_path / "out.mkv"
    rtface.run(films["in"], part, start=0.08, end=0.2, correct="never", sidecar=True)
    assert verify(part, input=films["in"]).same


def test_boxes_over_the_whole_frame_are_seen(films: dict[str, Path], tmp_path: Path) -> None:
    false = written(films["lossless"], tmp_path / "out.mkv", painted(1))
    values = json.loads(sidecar_path(false).read_text())
    values["changed"] = [[1, [[0, 0, *SIZE]]], *(row for row in values["changed"] if row[0] != 1)]
    sidecar_path(false).write_text(json.dumps(values))
    assert "which cover 100% of a frame at most" in str(answer(false, films).proofs)
    values["changed"] = [[number, "a stage drew on it"] for number in range(FRAMES)]
    sidecar_path(false).write_text(json.dumps(values))
    found = answer(false, films)
    assert found.input == "not checked" and f"{FRAMES} frames changed as a whole" in str(found.gaps)


def test_samples_of_another_format_are_not_compared(tmp_path: Path) -> None:
    rtface.run(still(tmp_path / "in.png"), tmp_path / "out.jpg", sidecar=True)
    found = verify(tmp_path / "out.jpg", input=tmp_path / "in.png")
    assert found.input == "not checked" and "another size or sample format" in str(found.gaps)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_stills(tmp_path: Path, suffix: str) -> None:
    source, out = still(tmp_path / f"in.{suffix}"), tmp_path / f"out.{suffix}"
    rtface.run(source, out, sidecar=True)
    found = verify(out, input=source)
    assert found.same and "1 frame, 1 with boxes" in str(found.proofs)
    other = still(tmp_path / f"other.{suffix}", blur=9.0)
    assert verify(out, input=other).input == "differs"


def test_a_folder_of_stills(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name, blur in (("a.png", 2.0), ("b.png", 2.0), ("c.png", 3.0)):
        still(tmp_path / "photos" / name, blur=blur, face=name != "b.png")
    out = tmp_path / "out"
    rtface.run(tmp_path / "photos", out, sidecar=True)
    found = verify(out, input=tmp_path / "photos")
    assert found.same and "3 frames, 2 with boxes" in str(found.proofs)
    shutil.copy(out / "a.png", out / "c.png")
    (out / "b.png").unlink()
    still(out / "d.png")
    found = verify(out, input=tmp_path / "photos")
    assert found.sidecar == found.input == "differs"
    for said in ("b.png: is missing", "c.png: its bytes differ", "d.png: was added", "frame c.png: "):
        assert said in str(found.problems)


def test_a_damaged_scan_is_named_and_the_rest_compared(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for name in ("1.png", "2.png", "3.png"):
        still(tmp_path / "scans" / name)
    (tmp_path / "scans" / "2.png").write_bytes(b"damaged")
    rtface.run(tmp_path / "scans", f"{tmp_path}/out/", sequence=True, fps=24, sidecar=True)
    found = verify(tmp_path / "out", input=tmp_path / "scans")
    assert (found.sidecar, found.input) == ("same", "not checked")
    assert "2.png is not compared" in str(found.gaps) and "2 frames, 2 with boxes" in str(found.proofs)


def test_any_changed_bit_and_another_manifest_are_found(films: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(sidecar_path(films["lossless"]), tmp_path / "out.mkv.rtface.json")
    data = films["lossless"].read_bytes()
    for at in range(0, len(data), len(data) // 40):
        (tmp_path / "out.mkv").write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        assert verify(tmp_path / "out.mkv").sidecar == "differs"
    (tmp_path / "out.mkv").write_bytes(data)
    assert verify(tmp_path / "out.mkv").same
    shutil.copy(sidecar_path(films["lossy"]), tmp_path / "out.mkv.rtface.json")
    assert verify(tmp_path / "out.mkv").sidecar == "differs"
    other = film(tmp_path / "other.mkv", frames=FRAMES)
    found = verify(films["lossless"], input=other)
    assert found.input == "differs" and "other.mkv: its bytes differ from the manifest" in str(found.problems)


def test_progress_and_the_end_on_request(films: dict[str, Path]) -> None:
    seen = list[tuple[str, float]]()
    verify(films["lossless"], input=films["in"], doing=lambda what, done: seen.append((what, done)))
    assert {what for what, _ in seen} == {"SHA-256", "comparison"} and all(0 <= done <= 1 for _, done in seen)
    for calls in (0, 3, 12):
        stop, left = threading.Event(), iter(range(calls))
        stop.is_set = lambda left=left: next(left, None) is None  # type: ignore[method-assign]
        with pytest.raises(Interrupted):
            verify(films["lossless"], input=films["in"], stop=stop)


def test_the_command_says_what_was_shown(films: dict[str, Path], tmp_path: Path) -> None:
    def run(*words: object) -> Any:
        return CliRunner().invoke(app, ["verify", *map(str, words)])

    shutil.copytree(films["in"].parent, tmp_path / "films")
    out, source = tmp_path / "films" / "out.mkv", tmp_path / "films" / "in.mkv"
    result = run(out, source)
    assert result.exit_code == 0 and "every sample outside the boxes equals the input's" in result.stderr
    assert "out.mkv: its bytes match the manifest" in result.stderr and "out.mkv: out.mkv" not in result.stderr
    assert run(out, out.with_name("out.mp4")).exit_code == 0  # two outputs
    said = json.loads(run(out, "--json").stdout)
    assert said["same"] and (said["sidecar"], said["input"]) == ("same", "not checked")
    with out.open("ab") as file:
        file.write(b"more")
    assert (result := run(out)).exit_code == 3 and run(out.with_name("none.mkv")).exit_code == 1
    assert "out.mkv: its bytes differ from the manifest" in result.stderr
    assert run(source).exit_code == 2  # it has no manifest
