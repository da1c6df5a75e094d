"""Old films and missing parts: every degradation does what it says, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from training.crop_space import F32, U8
from training.degradation import archive_film, single_image


def flat(value: int, h: int = 192, w: int = 256) -> U8:
    return np.full((h, w, 3), value, np.uint8)


def photo(seed: int, h: int = 192, w: int = 256) -> U8:
    """Something smooth with all tones."""
    r = np.random.default_rng(seed)
    y, x = np.mgrid[:h, :w] / 40.0
    waves = [np.sin(x * r.normal() + y * r.normal() + r.uniform(0, 6)) for _ in range(3)]
    return np.clip(128 + 70 * np.dstack(waves), 0, 255).astype(np.uint8)


def changed(a: U8, b: U8) -> F32:
    """How far two pictures are apart: float32 H×W, the three channels' mean."""
    return np.abs(a.astype(np.float32) - b).mean(2)


def test_grain_has_its_width_and_is_strongest_in_mid_tones() -> None:
    def correlation(size: float, lag: int) -> float:
        z = archive_film.grain(flat(128), 10.0, size, np.random.default_rng(1), 0.0)[..., 0].astype(float) - 128
        return float((z[:, lag:] * z[:, :-lag]).mean() / z.var())

    assert abs(correlation(1.0, 1)) < 0.12 < 0.3 < correlation(2.0, 1) < 0.6 < correlation(3.0, 1) < 0.85
    assert correlation(3.0, 5) < 0.05
    spread = [archive_film.grain(flat(v), 10.0, 1.5, np.random.default_rng(2)).std() for v in (0, 26, 128, 230, 255)]
    assert spread[0] == spread[4] == 0 and 9 < spread[2] < 11
    assert 0.4 < spread[1] / spread[2] < 0.8 and 0.4 < spread[3] / spread[2] < 0.8


def test_grain_of_black_and_white_film_has_no_colour() -> None:
    def apart(colour: float) -> float:
        z = archive_film.grain(flat(128), 10.0, 1.5, np.random.default_rng(3), colour).astype(float)
        return float((z[..., 0] - z[..., 2]).std())

    assert apart(0.0) == 0 and 6 < apart(0.3) < 10


def test_scratches_are_upright_and_stay_for_several_frames() -> None:
    scratches = archive_film.Scratches(6, 80.0, np.random.default_rng(4))
    columns: list[set[int]] = []
    for t in range(archive_film.PERIOD):
        z = changed(scratches(flat(128), t), flat(128))
        assert bool(z.any()) == bool(scratches.at(t))
        if not scratches.at(t):
            columns.append(set())
            continue
        # Few columns, and each of them long.
        deep = np.flatnonzero((z > 6).mean(0) > 0.2)
        assert (z.max(0) > 6).sum() <= 8 * len(scratches.at(t))
        columns.append({int(c) // 4 for c in deep})
    for k in range(scratches.count):
        there = np.array([k in scratches.at(t) for t in range(2 * archive_film.PERIOD)])
        runs = np.diff(np.flatnonzero(np.diff(there.astype(int)) != 0))
        assert runs.max() >= 4 and scratches.duration[k] == there[: archive_film.PERIOD].sum()
    both = [len(a & b) / len(a | b) for a, b in pairwise(columns) if a and b]
    assert np.mean(both) > 0.5  # where they were on the frame before, about


def test_dust_is_small_and_on_one_frame_only() -> None:
    dust = archive_film.Dust(20.0, np.random.default_rng(5))
    one, two = (changed(dust(flat(128), t), flat(128)) > 8 for t in (7, 8))
    assert 0.0005 < one.mean() < 0.03 and 0.0005 < two.mean() < 0.03
    assert (one & two).sum() < 0.2 * min(one.sum(), two.sum())
    inks = np.concatenate([dust(flat(128), t)[changed(dust(flat(128), t), flat(128)) > 30][:, 0] for t in range(9)])
    assert (inks < 128).any() and (inks > 128).any()
    assert not changed(archive_film.Dust(0.0, np.random.default_rng(5))(flat(128), 7), flat(128)).any()


def test_flicker_changes_the_light_and_not_the_details() -> None:
    flicker = archive_film.Flicker(0.05, np.random.default_rng(6))
    light = np.array([[f[:, :128].mean(), f[:, 128:].mean()] for f in (flicker(flat(128), t) for t in range(60))])
    assert 0.025 < light.mean(1).std() / 128 < 0.1
    assert 0.1 < (light[:, 0] - light[:, 1]).std() < light.mean(1).std()
    fine = np.diff(flicker(flat(128), 3).astype(int), axis=1)
    assert np.abs(fine).max() <= 1


def test_combs_show_where_something_moves_and_nowhere_else() -> None:
    frame, later = flat(90), flat(90)
    frame[40:120, 60:100], later[40:120, 64:104] = 200, 200
    z = archive_film.comb(frame, later).astype(int)[..., 0]
    teeth = np.abs(2 * z[1:-1] - z[:-2] - z[2:])[5:-5]
    inside = teeth[45:100]
    assert (inside[:, 60:64] > 200).all() and (inside[:, 100:104] > 200).all()
    assert not inside[:, :60].any() and not inside[:, 64:100].any() and not inside[:, 104:].any()
    assert np.array_equal(archive_film.comb(frame, frame), frame)
    ghost = archive_film.blend(frame, later).astype(int)[80, :, 0]
    assert np.array_equal(np.unique(ghost), [90, 145, 200]) and (ghost == 145).sum() == 8


def test_a_bobbed_field_has_half_the_lines() -> None:
    frame = np.random.default_rng(7).integers(0, 256, (192, 256, 3), dtype=np.uint8)
    doubled, smooth = (archive_film.bob(frame, how) for how in (True, False))
    assert np.array_equal(doubled[1::2], doubled[::2])
    assert np.abs(doubled[::2] - (frame[::2].astype(float) + frame[1::2]) / 2).max() <= 1
    assert changed(smooth[1::2], smooth[::2]).mean() > 5
    ramp = np.tile(np.arange(0, 192, dtype=np.uint8)[:, None, None], (1, 256, 3))
    for how in (True, False):  # in its place
        assert abs(float((archive_film.bob(ramp, how)[2:-2].astype(float) - ramp[2:-2]).mean())) < 0.6
        assert changed(archive_film.bob(ramp, how), ramp).max() <= 1


def test_chroma_bleeds_to_the_right_and_luma_stays() -> None:
    frame = flat(120)
    frame[:, 120:136] = (190, 96, 76)  # a red of the same luma
    out = single_image.chroma_bleed(frame, 5.0, 4.0, 0.0, np.random.default_rng(8))
    assert np.abs(archive_film.luma(out) - archive_film.luma(frame)).max() < 2

    def red(picture: U8) -> F32:
        return np.clip(picture[96, :, 0].astype(np.float32) - archive_film.luma(picture)[96], 0, None)

    before, after, x = red(frame), red(out), np.arange(256)
    centre = [(z * x).sum() / z.sum() for z in (before, after)]
    assert 3 < centre[1] - centre[0] < 5
    assert (after > 2).sum() > 1.5 * (before > 2).sum() and 0.85 < after.sum() / before.sum() < 1.15
    noisy = single_image.chroma_bleed(flat(120), 5.0, 4.0, 6.0, np.random.default_rng(8)).astype(float)
    hue = noisy[..., 0] - noisy[..., 2]
    assert np.abs(np.diff(hue, axis=1)).mean() < 0.3 * np.abs(np.diff(hue, axis=0)).mean()  # it runs along the lines
    assert np.abs(archive_film.luma(noisy.astype(np.uint8)) - 120).max() < 2


def test_ringing_follows_an_edge_on_its_right() -> None:
    frame = flat(80)
    frame[:, 128:] = 160
    line = single_image.ringing(frame, 0.8, 0.4, 3.0)[90, :, 1].astype(int)
    assert line[128:134].max() > 180 and np.abs(line[:124] - 80).max() <= 1 and np.abs(line[142:] - 160).max() <= 1


def test_uneven_lines_are_only_moved_along_themselves() -> None:
    assert not changed(single_image.line_jitter(flat(99), 1.0, np.random.default_rng(9)), flat(99)).any()
    bars = np.tile((np.arange(192) * 1.3).astype(np.uint8)[:, None, None], (1, 256, 3))
    assert np.array_equal(single_image.line_jitter(bars, 1.0, np.random.default_rng(9)), bars)
    assert changed(single_image.line_jitter(photo(9), 1.0, np.random.default_rng(9)), photo(9)).mean() > 0.3


def test_prints_lose_contrast_and_sharpness() -> None:
    bars = flat(60)
    bars[:, ::2] = 200
    assert bars.std() * 0.85 < archive_film.degrade_print(bars, 0.0, 0.9).std() < bars.std() * 0.95
    assert archive_film.degrade_print(bars, 1.0, 1.0).std() < 0.3 * bars.std()
    assert archive_film.fade(flat(0), 1.0, 12.0).max() == 12 and archive_film.fade(flat(255), 1.0, 12.0).min() == 255


def test_an_aged_film_repeats_and_its_truth_keeps_the_details() -> None:
    seen: set[str] = set()
    for seed in range(24):
        drawn = archive_film.draw_archive(np.random.default_rng(seed))
        seen.add(drawn.medium)
        assert drawn.lines in (480, 540, 576) and 0.8 <= drawn.contrast <= 1 and drawn.grain[0] <= 10
        one, two = (archive_film.Ageing(drawn, np.random.default_rng(seed)) for _ in range(2))
        two(lambda _: photo(1), 1)  # in any order
        assert np.array_equal(one(lambda _: photo(1), 5), two(lambda _: photo(1), 5))
    assert seen == {"35 mm", "16 mm", "tape", "vhs"}
    faded = replace(archive_film.Archive("35 mm", 576), contrast=0.82, flicker=0.05)
    ageing = archive_film.Ageing(faded, np.random.default_rng(1))
    fine = np.where(np.add.outer(np.arange(192), np.arange(256)) % 2, 110, 146).astype(np.uint8)[..., None].repeat(3, 2)
    aged, truth = ageing(lambda _: fine, 2), ageing.truth(fine, 2)
    assert abs(float(aged.mean()) - truth.mean()) < 0.6
    assert truth.std() > 0.97 * fine.std() > 1.15 * aged.std()
    archive = archive_film.Archive("16 mm", 576, mono=True, grain=(5.0, 1.5))
    grey = archive_film.Ageing(archive, np.random.default_rng(1))
    for picture in (grey(lambda _: photo(2), 0), grey.truth(photo(2), 0)):
        assert np.array_equal(picture[..., 0], picture[..., 1]) and np.array_equal(picture[..., 0], picture[..., 2])


def test_fields_lie_half_before_and_half_after() -> None:
    asked: list[float] = []

    def shoot(after: float) -> U8:
        asked.append(after)
        return photo(3)

    archive_film.Ageing(archive_film.Archive("vhs", 480, fields="comb", half=1.5), np.random.default_rng(1))(shoot, 0)
    assert asked == [-0.75, 0.75]
