"""What the networks are trained on: crops, people set aside, obstacles, films, pairs and sequences."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from skimage import data

from training.crop_space import TEMPLATE_512, cut, oval_mask, roi, similarity
from training.data import film_sequences
from training.data.film_pairs import (
    KINDS,
    SHARES,
    close_film,
    degrade,
    draw_recipe,
    film_pairs,
)
from training.data.moving_face import Actor
from training.data.occluders import KINDS as OBSTACLES
from training.data.occluders import Occluder
from training.data.portraits import Face, load_faces, split
from training.degradation import single_image, video_codec
from training.degradation.webcam import Webcam
from training.degradation.ycbcr import shown
from training.train_all import Step, run, steps


@pytest.fixture
def faces(tmp_path: Path) -> list[Face]:
    cv2.imwrite(str(tmp_path / "a.png"), data.astronaut()[:, :, ::-1])
    return [Face(tmp_path / "a.png", 512, "x", "a", False)]


def test_oval_lies_inside_the_region_and_covers_the_template() -> None:
    for size in (256, 512):
        x, y, w, h = roi(size)
        outside = oval_mask(size)
        assert np.allclose(outside, outside[:, ::-1], atol=1e-6)
        for px, py in TEMPLATE_512 * size / 512:
            assert outside[round(py), round(px)] > 0.99
        outside[y : y + h, x : x + w] = 0
        assert outside.max() == 0
        assert x * 2 + w == size and x % (size // 32) == 0 and y % (size // 32) == 0


def test_cut_is_the_identity_where_it_should_be() -> None:
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    same = cut(image, similarity(1.0, 0.0, (127.5, 127.5), 256), 256)
    assert np.array_equal(same, image)
    x, y, w, h = roi(256)
    part = cut(image, similarity(1.0, 0.0, (127.5, 127.5), 256), 256, roi(256))
    assert np.array_equal(part, image[y : y + h, x : x + w])


def test_split_keeps_people_whole_and_licences_out(tmp_path: Path) -> None:
    head = "file,crop_px,source_repo,licence,gray,identity\n"
    rows = [f"h{i}.jpg,512,CivilServiceUSA/us-house,repository MIT,0,person {i // 2}\n" for i in range(200)]
    rows += [f"s{i}.jpg,512,CivilServiceUSA/us-senate,repository MIT,0,Person-{i}\n" for i in range(60)]
    rows += [
        "w.jpg,512,writethedocs/www,CC BY-NC-SA 4.0,0,w\n",
        "v.jpg,512,voteview/member_photos,no licence file,0,v\n",
        "x.jpg,512,writethedocs/www,CC BY-NC-SA 4.0,0,Person 0\n",
    ]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "MANIFEST.csv").write_text(head + "".join(rows), encoding="utf-8")
    faces = load_faces(tmp_path)
    assert len(faces) == 260
    train, held = split(faces)
    assert len(train) + len(held) == 260 and len(held) >= 20
    assert not {f.identity for f in train} & {f.identity for f in held}
    assert split(list(reversed(faces)))[1] == list(reversed(held))


def test_an_obstacle_hides_its_share_and_nothing_else() -> None:
    for number, kind in enumerate(OBSTACLES):
        r = np.random.default_rng(number)
        actor = Actor(r.integers(0, 256, (512, 512, 3), dtype=np.uint8), 400.0, (640.0, 360.0), r)
        obstacle = Occluder(actor, 0.33, kind, r)
        oval = oval_mask(512) > 0.5
        assert 0.25 < float(obstacle.alpha[oval].mean()) < 0.41
        canvas = np.full((720, 1280, 3), 128, np.uint8)
        obstacle.draw(canvas, 7.0, 1.0)
        seen, cover = cut(canvas, actor.matrix(7.0), 512), obstacle.cover(7.0)
        assert (seen[cover == 0] == 128).mean() > 0.995
        assert (np.abs(seen[cover == 1].astype(int) - 128).max(1) > 2).mean() > 0.9


def test_codec_gives_every_frame_back() -> None:
    r = np.random.default_rng(1)
    images = [r.integers(0, 256, (90, 160, 3), dtype=np.uint8) for _ in range(5)]
    for name, options, rate in ((*video_codec.x264(30), 0), (*video_codec.x265(30), 0),
                                (*video_codec.vp8(200), 200_000)):  # fmt: skip
        assert len(list(video_codec.through(images, name, options, bit_rate=rate))) == 5
    flat = np.full((64, 64, 3), (180, 90, 60), np.uint8)
    assert np.abs(shown(video_codec.to_yuv(flat), "center").astype(int) - flat).max() <= 2


@pytest.mark.parametrize(("tag", "full", "yuv", "rgb"), [
    (6, False, (16, 128, 128), (0, 0, 0)), (6, False, (81, 90, 240), (255, 0, 0)),
    (1, False, (63, 102, 240), (255, 0, 0)), (6, True, (76, 85, 255), (255, 0, 0)),
    (9, False, (74, 97, 240), (255, 0, 0))])  # fmt: skip
def test_frames_are_converted_by_their_tags(tag: int, full: bool, yuv: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    """Primaries as ITU-R BT.601, BT.709 and BT.2020 code them."""
    planes = np.concatenate([np.full(64, yuv[0]), np.full(16, yuv[1]), np.full(16, yuv[2])]).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(planes.reshape(12, 8), "yuv420p")
    frame.colorspace, frame.color_range = tag, 2 if full else 1
    found = shown(frame)
    assert np.abs(found.astype(int) - rgb).max() <= 2 and found.shape == (8, 8, 3)


def test_kinds_keep_their_numbers() -> None:
    assert KINDS == ("call", "heavy", "light", "camera", "tv", "still", "clean", "archive",
                     "blind", "h265", "webcam", "native")  # fmt: skip
    assert len(SHARES) == len(KINDS)


@pytest.mark.parametrize("kind", ["call", "archive", "blind", "h265", "webcam"])
def test_pairs_are_aligned_and_seeded(kind: str, faces: list[Face]) -> None:
    made = [film_pairs(faces, np.random.default_rng(4), kind) for _ in range(2)]
    assert len(made[0]) >= 4
    for p, q in zip(*made, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(p[:4], q[:4], strict=True))
    for truth, seen, small_truth, small_seen, meta in made[0]:
        assert truth.shape == seen.shape == (384, 352, 3) and small_truth.shape == small_seen.shape == (192, 176, 3)
        error = np.abs(truth.astype(float) - seen)
        assert error.mean() > 0 and meta[0] == KINDS.index(kind)
        assert (error**2).mean() < 900 or kind != "call"
        assert np.median(error.mean(2)) < 15  # most of the face is preserved


def test_a_blurred_film_is_blurred_before_it_is_shrunk(faces: list[Face]) -> None:
    recipes = [draw_recipe("blind", np.random.default_rng(seed)) for seed in range(60)]
    assert all(r.kernel is not None and r.kernel.shape == (21, 21) and 2 <= 1 / r.scale <= 5 for r in recipes)
    peaks = [float(r.kernel.max()) for r in recipes if r.kernel is not None]
    assert min(peaks) < 0.006 and max(peaks) > 0.5  # from hardly blurred to beyond recognition
    sharp, soft = (single_image.gaussian_kernel(s, s, 0.0) for s in (0.5, 3.0))
    fine = []
    for kernel in (sharp, soft):
        rec = replace(recipes[0], kernel=kernel, sigma=0.0, scale=0.5, options={"crf": "10"}, codec="libx264")
        _, _, film = close_film(faces, np.random.default_rng(2), "blind")
        *_, (_, clean, seen) = degrade(film, rec, [0.0, 1.0], {1})
        assert clean.shape == seen.shape == (*film.size, 3)
        fine.append(cv2.Laplacian(seen.mean(2), cv2.CV_64F).var())
    assert fine[1] < 0.5 * fine[0]


def test_the_truth_of_a_webcam_film_is_the_image_of_its_camera(faces: list[Face]) -> None:
    fine = []
    for camera in (Webcam(2.0, 0.0, 0.0, 0.0, 95), None):
        rec = replace(draw_recipe("webcam", np.random.default_rng(3)), camera=camera, scale=0.5, sigma=0.0)
        _, _, film = close_film(faces, np.random.default_rng(2), "blind")
        *_, (_, clean, _) = degrade(film, rec, [0.0, 1.0], {1})
        fine.append(cv2.Laplacian(clean.mean(2), cv2.CV_64F).var())
    assert fine[0] < 0.3 * fine[1]


@pytest.mark.slow
def test_sequences_hold_successive_frames_and_what_hides_them(faces: list[Face]) -> None:
    def carried_gap(clip: film_sequences.Clip) -> list[list[float]]:
        """How far the clean frame before is from each frame: as it was, and fetched by the flow."""
        gaps = []
        grid = np.stack(np.meshgrid(np.arange(176, dtype=np.float32), np.arange(192, dtype=np.float32)), -1)
        for before, now, flow in zip(clip.pictures[:-1, 0], clip.pictures[1:, 0], clip.flow[1:], strict=True):
            fetched = cv2.remap(before, grid + cv2.resize(flow.astype(np.float32), (176, 192)), None, cv2.INTER_CUBIC)
            gaps.append([float(np.abs(p.astype(float) - now)[8:-8, 8:-8].mean()) for p in (before, fetched)])
        return gaps

    hidden, gaps = 0, []
    for seed in range(12):
        for clip in film_sequences.film_clips(faces, np.random.default_rng(seed), "call"):
            assert clip.pictures.shape == (film_sequences.FRAMES, 2, 192, 176, 3)
            assert clip.flow.shape == (film_sequences.FRAMES, 24, 22, 2) and not clip.flow[0].any()
            gaps += carried_gap(clip)
            error = clip.pictures[:, 0].astype(float) - clip.pictures[:, 1]
            assert 0 < (error**2).mean() < 900
            hidden += int(clip.cover.max() > 250)
        if hidden:
            break
    assert hidden
    as_it_was, fetched = np.mean(gaps, 0)
    assert fetched < 0.7 * as_it_was


def test_the_whole_recipe_stops_at_a_fault_and_goes_on_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = steps(tmp_path / "faces", tmp_path / "runs", 100, 2)
    assert [len(s.commands) for s in found[:5]] == [2, 1, 2, 1, 1]
    options = [pair for s in found for c in s.commands for pair in pairwise(c) if pair[0].startswith("--")]
    assert sum(float(value) for flag, value in options if flag == "--minutes") == pytest.approx(100)
    made = {value for flag, value in options if flag in ("--out", "--run")}
    takes = ("--pairs", "--clips", "--valid", "--core", "--into", "--from", "--checkpoint")
    read = {value for flag, value in options if flag in takes}
    assert {v.removesuffix("/last.pt") for v in read if "/" in v} <= made  # what a step reads, another writes
    done = tmp_path / "done" / "00-x"
    with pytest.raises(SystemExit, match="x failed"):
        run(Step("x", (("data.film_pairs", "--nothing"),)), done)
    assert not done.exists()
    run(Step("x", (("data.film_pairs", "--help"),)), done)
    assert done.exists()
    capfd.readouterr()
    run(Step("x", (("data.film_pairs", "--nothing"),)), done)
    assert capfd.readouterr().out == "x: already done\n"
