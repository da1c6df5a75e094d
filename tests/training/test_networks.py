"""The networks, their losses and the training loop: what can be checked in seconds, without the faces."""
# ruff: noqa: E402 - what follows needs torch, and is skipped without it

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is needed for training only")

import torch.nn.functional as F

import training
from rtface.correct.colour import chroma_limit as crop_limit
from rtface.correct.colour import lock_colour
from rtface.engine.golden import load_golden
from rtface.engine.recipe import load_recipe
from training.crop_space import oval_mask, roi
from training.loop.checkpoints import Ema, resume, save
from training.loop.dead_channels import dead_channels, revive
from training.loop.initial_weights import weights
from training.loop.muon import Muon
from training.loop.pretrain_alignment import Motion, augment_clip, clip_error
from training.loop.sequences import Batch, add_jitter, clip_loss
from training.loop.train import parser
from training.loop.train_occlusion import augment_frame, roc_area
from training.loop.trainer import Trainer
from training.losses.adversarial import Adversary, octaves
from training.losses.restoration import Loss, chroma_limit, shape, uneven
from training.model.layers import Bounded, Enlarge, MidBand, Spread, Unpatterned, Window, fold, unfold
from training.model.networks import DAMPING, Whole, build
from training.model.recurrence import DRIFT_PX, LOW_SHARE, MOTION_CHANNELS, Carry, Past, Trust, drift, empty_past


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_lock_of_the_loss_is_the_run_times() -> None:
    r = np.random.default_rng(2)
    for size in (256, 512):
        x, y, w, h = roi(size)
        crop = r.random((size, size, 3), np.float32) * 0.5 + 0.25
        d = np.zeros_like(crop)
        d[y : y + h, x : x + w] = r.normal(0.02, 0.03, (h, w, 3))
        planar = np.ascontiguousarray(crop.transpose(2, 0, 1))
        shaped = lock_colour(np.ascontiguousarray(d.transpose(2, 0, 1)), chroma=crop_limit(planar))
        want = np.clip(crop + shaped.transpose(1, 2, 0) * oval_mask(size)[..., None], 0, 1)[y : y + h, x : x + w]
        t, c = (torch.from_numpy(z[y : y + h, x : x + w].transpose(2, 0, 1)[None].copy()) for z in (d, crop))
        ours = shape(t, size // 32, chroma_limit(c, size // 32))[0].permute(1, 2, 0).numpy()
        ours *= oval_mask(size)[y : y + h, x : x + w, None]
        assert np.abs(want - np.clip(crop[y : y + h, x : x + w] + ours, 0, 1)).max() < 2e-3


def test_network_starts_near_the_identity_and_exports_its_shapes() -> None:
    for name in ("rtface-s", "rtface-m"):
        net = Whole(build(name)).eval()
        *_, w, h = roi(net.net.size)
        with torch.no_grad():
            residual = net(torch.rand(1, 3, h, w))
        assert residual.shape == (1, 3, h, w) and float(residual.abs().mean()) < 0.05


@pytest.mark.parametrize("name", ["rtface-s", "rtface-m", "rtface-m-vivid"])
def test_training_goes_on_from_an_engine(name: str) -> None:
    """What is read back from an exported engine is the network whose answers its goldens are."""
    folder = Path(__file__).parents[2] / "engines" / "shipped" / name
    given = weights(folder)
    net = build(name, memory=True, like=given)
    net.core.damping = DAMPING
    assert set(given) == {k for k, _ in net.named_parameters()}
    net.load_state_dict(net.state_dict() | given)
    crops, answers = load_golden(load_recipe(folder / "recipe.toml"))
    x, y, w, h = roi(net.size)
    seen = torch.from_numpy(crops[:2].copy())[:, :, y : y + h, x : x + w]
    half = F.interpolate(seen, size=(192, 176), mode="area")
    with torch.no_grad():
        ours = (seen + net(seen, empty_past(half))[0]).clamp(0, 1)
    assert float((ours - torch.from_numpy(answers[:2])[:, :, y : y + h, x : x + w]).abs().max()) < 4e-3


def test_folded_pictures_are_pictures() -> None:
    r = torch.Generator().manual_seed(0)
    picture, one = torch.rand(2, 3, 32, 24, generator=r), torch.rand(2, 1, 8, 6, generator=r)
    inner = np.s_[:, :, 8:-8, 8:-8]  # at the edge what lies beyond counts as 0
    assert torch.equal(unfold(fold(picture)), picture)
    wide = F.interpolate(picture, scale_factor=2.0, mode="bilinear", align_corners=False)
    torch.testing.assert_close(unfold(Enlarge()(fold(picture)))[inner], wide[inner])
    fine = F.interpolate(one, scale_factor=4.0, mode="bilinear", align_corners=False)
    for colour in unfold(Spread()(one)).split(1, 1):
        torch.testing.assert_close(colour[inner], fine[inner])
    for size, edge in ((256, 4), (512, 8)):
        *_, w, h = roi(size)
        shown = unfold(Window(size)(fold(torch.ones(1, 3, h, w))))
        assert shown[..., edge:-edge, edge:-edge].min() == 1 and shown[..., 0, 0].max() < 0.1
        torch.testing.assert_close(shown, shown.flip(2).flip(3))
        assert (shown[0, 0, h // 2, : edge + 1].diff() > 0).all()


def test_every_module_can_be_imported() -> None:
    for module in pkgutil.walk_packages(training.__path__, "training."):
        importlib.import_module(module.name)


def test_memory_changes_nothing_where_nothing_is_known() -> None:
    for name, h, w in (("rtface-s", 192, 176), ("rtface-m", 384, 352)):
        plain, remembers = build(name), build(name, memory=True)
        remembers.load_state_dict(plain.state_dict(), strict=False)
        x, anything = torch.rand(2, 3, h, w), torch.rand(2, 3, 192, 176)
        near = F.interpolate(x, size=(192, 176), mode="area") + 0.01
        with torch.no_grad():
            want = plain(x)[0]
            unknown = remembers(x, empty_past(anything))
            known = remembers(x, Past(near, torch.ones(2, 1, 1, 1), unknown[4]))
        assert torch.equal(unknown[0], want)
        assert not unknown[4][:, -MOTION_CHANNELS:].any() and known[4][:, -MOTION_CHANNELS:].any()
        assert float((known[0] - want).abs().mean()) > 1e-3


def test_fidelity_scales_the_detail_of_the_vivid_network() -> None:
    plain, vivid = build("rtface-m", memory=True), build("rtface-m-vivid", memory=True)
    vivid.load_state_dict(plain.state_dict(), strict=False)
    torch.nn.init.normal_(vivid.detail_head.weight, std=0.1)
    x, half = torch.rand(2, 3, 384, 352), torch.rand(2, 3, 192, 176)
    given = {"crop": x, **empty_past(half)._asdict(), "shrunk": half}
    given["past"] = given.pop("picture")
    with torch.no_grad():
        want = Whole(plain)(**given)[0]
        true, vague, full = (Whole(vivid)(**given, fidelity=torch.full((2, 1), f))[0] for f in (1.0, 0.5, 0.0))
    torch.testing.assert_close(true, want)
    torch.testing.assert_close(2 * (vague - true), full - true, atol=1e-4, rtol=0)
    assert float((full - true).abs().mean()) > 1e-3


def test_occlusion_does_not_teach_the_core() -> None:
    core = build("rtface-s", memory=True).core
    heads = core(torch.rand(1, 3, 192, 176), empty_past(torch.rand(1, 3, 192, 176))).heads
    heads[:, 1].sum().backward()
    taught = {name for name, p in core.named_parameters() if p.grad is not None and p.grad.abs().any()}
    assert taught and all(name.startswith("occlusion.") for name in taught)


def test_frames_for_occlusion_are_changed_with_their_maps() -> None:
    r = np.random.default_rng(3)
    cover, shape = torch.zeros(1, 1, 48, 44), torch.zeros(1, 1, 48, 44)
    cover[..., 10:30, 10:30] = 1
    shape[..., 30:46, 4:40] = 1
    image = F.interpolate(cover, scale_factor=4.0).expand(1, 3, 192, 176) * 0.8 + 0.1
    grown = 0
    for _ in range(12):
        got, hidden = augment_frame(image, cover, torch.full_like(image, 0.5), shape, r)
        assert got.shape == image.shape and hidden.shape == cover.shape
        assert float(got.min()) >= 0 and float(got.max()) <= 1 and 0 <= float(hidden.min()) <= float(hidden.max()) <= 1
        grown += float(hidden.sum()) > 1.3 * float(cover.sum())
    assert 1 <= grown <= 8  # pasted objects are in the map too


def test_area_under_the_roc_curve() -> None:
    hidden = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.5])
    assert roc_area(torch.tensor([3.0, 2.0, 1.0, 0.0, 9.0]), hidden) == 1.0
    assert roc_area(torch.tensor([3.0, 0.5, 1.0, 0.0, 9.0]), hidden) == 0.75


def test_rtface_m_learns_its_own_part_beside_a_past(tmp_path: Path) -> None:
    torch.save({"ema": build("rtface-s", memory=True).state_dict()}, tmp_path / "s.pt")
    a = ["--engine", "rtface-m", "--pairs", str(tmp_path), "--run", str(tmp_path), "--core", str(tmp_path / "s.pt"),
         "--freeze", "core.", "--threads", "1"]  # fmt: skip
    trainer = Trainer(parser().parse_args(a))
    truth = torch.rand(2, 3, 384, 352)
    seen = (truth + 0.1).clamp(0, 1)
    past = trainer.recalled(truth, seen)
    assert past is not None and past.picture.shape == (2, 3, 192, 176)
    right, half = (F.avg_pool2d(z, 2) for z in (truth, seen))
    assert float((past.picture - right).abs().mean()) < float((half - right).abs().mean())
    before = {k: v.clone() for k, v in trainer.net.state_dict().items()}
    trainer.train_step((truth, seen, torch.tensor([False, False])))
    changed = {k for k, v in trainer.net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and not any(k.startswith("core.") for k in changed)


def test_the_past_is_fetched_from_where_the_flow_says_it_was() -> None:
    carried = Carry()
    picture = F.avg_pool2d(torch.rand(1, 3, 194, 178), 3, 1)
    whole = torch.tensor([2.0, -3.0])[None, :, None, None].expand(1, 2, 24, 22)
    inner = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(carried(picture, whole)[inner], picture.roll((3, -2), (2, 3))[inner], atol=1e-4, rtol=0)
    rough, pixel = torch.randn(1, 2, 24, 22), torch.tensor([2 / 176, 2 / 192])[:, None, None]
    fine = F.interpolate(rough * pixel, scale_factor=8.0, mode="bilinear")
    y, x = torch.meshgrid((torch.arange(192) + 0.5) / 96 - 1, (torch.arange(176) + 0.5) / 88 - 1, indexing="ij")
    at = (torch.stack([x, y]) + fine).permute(0, 2, 3, 1)
    want = F.grid_sample(picture, at, "bicubic", "border", align_corners=False)
    torch.testing.assert_close(carried(picture, rough), want, atol=1e-4, rtol=0)
    there = carried(carried(picture, 0.2 * whole), -0.2 * whole)  # cubic: two steps cost little sharpness
    assert float((there - picture)[inner].abs().mean()) < 0.25 * float(picture[inner].std())


def test_what_was_not_there_before_is_not_trusted() -> None:
    way = 0.02 * torch.rand(2, 3, 192, 176)
    way[1, :, 96:160, 48:112] = 0.6  # a mouth opens, a hand comes
    agrees = Trust(48).agreement(fold(way))
    assert agrees[0].min() == 1
    assert agrees[1, :, 24:40, 12:28].max() == 0
    assert agrees[1, :, :20].min() == 1 and agrees[1, :, 44:].min() == 1


def test_the_low_band_of_the_past_is_trusted_less() -> None:
    trust = Trust(48)
    way = torch.rand(1, 3, 192, 176) - 0.5
    low = cv2.GaussianBlur(way[0].permute(1, 2, 0).numpy(), (9, 9), 1.5)
    inner = (..., slice(8, -8), slice(8, -8))
    nothing = torch.zeros(1, 48, 48, 44)
    ours = unfold(trust.blended(nothing, fold(way), torch.full((1, 1, 48, 44), 0.8)))
    blurred = torch.from_numpy(low).permute(2, 0, 1)[None]
    want = 0.8 * (way - blurred) + 0.8 * LOW_SHARE * blurred
    torch.testing.assert_close(ours[inner], want[inner], atol=2e-5, rtol=0)


def test_damping_takes_from_the_middle_band_only() -> None:
    _, x = torch.meshgrid(torch.arange(192.0), torch.arange(176.0), indexing="ij")
    inner = (..., slice(32, -32), slice(32, -32))
    shares = []
    for period in (3.0, 16.0, 200.0):
        wave = torch.sin(2 * torch.pi * x / period).expand(1, 3, -1, -1)
        shares.append(float(unfold(MidBand()(fold(wave)))[inner].std() / wave[inner].std()))
    assert shares[0] < 0.2 and shares[1] > 0.6 and shares[2] < 0.1
    net, given = build("rtface-s", memory=True), torch.rand(1, 3, 192, 176)
    with torch.no_grad():
        plain = net.core(given).residual
        net.core.damping = 0.4
        torch.testing.assert_close(net.core(given).residual, plain - 0.4 * net.core.mid_band(plain))


def test_regular_dots_cost_more_than_texture() -> None:
    r = torch.Generator().manual_seed(1)
    noise = 0.02 * torch.randn(4, 3, 384, 352, generator=r)
    dots = torch.zeros(384, 352)
    dots[::8, ::8] = 1
    sparse = 0.06 * dots * (torch.rand(4, 1, 384, 352, generator=r) > 0.5)
    assert 20 * float(uneven(noise)) < 0.002 < float(uneven(noise + sparse))


def test_unpatterned_takes_regular_dots_and_leaves_texture() -> None:
    generator = torch.Generator().manual_seed(3)
    texture = torch.randn(1, 3, 96, 96, generator=generator)
    dots = torch.randn(1, 3, 8, 8, generator=generator).repeat(1, 1, 12, 12)
    inner = (..., slice(24, -24), slice(24, -24))
    only_dots = unfold(Unpatterned()(fold(dots)))[inner]
    both = unfold(Unpatterned()(fold(texture + dots)))[inner]
    assert only_dots.abs().max() < 1e-5
    assert float(((both - texture[inner]) ** 2).mean()) < 0.06 * float((texture[inner] ** 2).mean())


def test_unpatterned_with_shade_keeps_light_and_colour() -> None:
    inner = (..., slice(24, -24), slice(24, -24))
    colour = torch.rand(1, 3, 1, 1).expand(1, 3, 96, 88).contiguous()
    dots = torch.zeros(1, 3, 96, 88)
    dots[..., ::4, ::4] = 0.16
    even = unfold(Unpatterned()(fold(colour + dots), shade=True))
    assert torch.allclose(even[inner], (colour + 0.01)[inner], atol=1e-5)  # the dots' light, without the dots


def test_bounded_takes_detail_from_smooth_skin_only() -> None:
    torch.manual_seed(3)
    image = torch.full((1, 3, 96, 88), 0.6)
    image[..., 48:, :] = 0.6 + 0.2 * torch.randn(1, 1, 48, 88)  # hair
    detail = 0.02 * torch.randn(1, 3, 96, 88)
    left = unfold(Bounded()(fold(detail), fold(2 * image - 1), torch.zeros(1, 48, 24, 22)))
    assert left[..., 8:32, 8:-8].std() < 0.02 * detail.std()
    assert torch.allclose(left[..., 64:-8, 8:-8], detail[..., 64:-8, 8:-8], atol=1e-4)


def test_bounded_sees_no_structure_in_a_soft_edge() -> None:
    torch.manual_seed(3)
    edge = 0.2 + 0.6 * torch.sigmoid((torch.arange(88) - 44.0) / 6).expand(1, 3, 96, 88)
    detail = 0.02 * torch.randn(1, 3, 96, 88)
    left = unfold(Bounded()(fold(detail), fold(2 * edge - 1), torch.zeros(1, 48, 24, 22)))
    assert left[..., 8:-8, 36:52].std() < 0.1 * detail.std()


def test_eyes_and_mouth_weigh_more_and_figures_do_not() -> None:
    loss, truth = Loss(256), torch.zeros(1, 3, 192, 176)
    x, y, *_ = roi(256)
    eye, cheek = torch.zeros_like(truth), torch.zeros_like(truth)
    eye[..., 118 - y : 122 - y, 94 - x : 98 - x] = 0.1
    cheek[..., 158 - y : 162 - y, 94 - x : 98 - x] = 0.1
    (at_eye, square_eye, _), (at_cheek, square_cheek, _) = (loss(truth, z, truth) for z in (eye, cheek))
    assert float(at_eye / at_cheek) > 2 and float(square_eye / square_cheek) == pytest.approx(1, rel=0.05)


def test_alignment_learns_the_true_motion() -> None:
    net, weight = Motion(), torch.ones(1, 1, 192, 176)
    opt = Muon(net, 3e-3)
    first = F.avg_pool2d(torch.rand(2, 3, 202, 186), 11, 1) * 4 - 1.5
    moved = torch.stack([first[0].roll((1, 2), (1, 2)), first[1].roll((-2, 1), (1, 2))])
    flow = torch.tensor([[-2.0, -1.0], [-1.0, 2.0]])[:, None, :, None, None].expand(2, 2, 2, 24, 22)
    both = torch.stack([first, moved], 1)
    film = Batch(both, both, flow, torch.zeros(2, 2, 48, 44), torch.zeros(2, dtype=torch.bool))
    off: list[float] = []
    for _ in range(30):
        found = clip_error(net, film, weight, 0.9, 0.0).mean()
        off.append(float(found.detach()))
        opt.zero_grad()
        (100 * found).backward()
        opt.step()
    assert off[0] == pytest.approx(5**0.5, abs=0.2)
    assert off[-1] < 0.6 * off[0]


def test_varied_clips_move_as_their_flow_says() -> None:
    first = F.avg_pool2d(torch.rand(1, 3, 198, 182), 7, 1) * 4 - 1.5
    both = torch.stack([first, first.roll((2, 1), (2, 3))], 1)
    flow = torch.tensor([-1.0, -2.0])[None, None, :, None, None].expand(1, 2, 2, 24, 22)
    film = Batch(both, both, flow, torch.zeros(1, 2, 48, 44), torch.zeros(1, dtype=torch.bool))
    dice, net = np.random.default_rng(1), Motion()
    inner = (..., slice(24, -24), slice(24, -24))
    for _ in range(8):
        other = augment_clip(film, dice)
        before, now = other.seen[:, 0], other.seen[:, 1]
        gap = (net.carry(before, other.flow[:, 1]) - now)[inner].abs().mean()
        assert float(gap) < 0.05 * float((before - now)[inner].abs().mean())


def test_trembling_clips_move_as_their_flow_says() -> None:
    wide = F.avg_pool2d(torch.rand(2, 3, 210, 200), 11, 1)
    # A face that moves by (3, -2) pixels a frame: what is here now was so far away before.
    frames = torch.stack([wide[:, :, 4 - 2 * t : 196 - 2 * t, 3 * t : 176 + 3 * t] for t in range(3)], 1)
    flow = torch.tensor([3.0, -2.0])[:, None, None].expand(2, 3, 2, 24, 22).clone()
    flow[:, 0] = 0
    still = Batch(frames, frames * 0.5, flow, torch.zeros(2, 3, 48, 44), torch.zeros(2, dtype=torch.bool), 1)
    other = add_jitter(still, np.random.default_rng(4))
    assert other.warm == 1 and float((other.truth - frames).abs().mean()) > 1e-3
    torch.testing.assert_close(other.seen, other.truth * 0.5, atol=1e-5, rtol=0)
    middle = (..., slice(20, -20), slice(20, -20))
    for t in (1, 2):
        carried = Carry()(other.truth[:, t - 1], other.flow[:, t])
        assert float((carried - other.truth[:, t])[middle].abs().mean()) < 1e-3
        astray = Carry()(other.truth[:, t - 1], flow[:, t])
        assert float((astray - other.truth[:, t])[middle].abs().mean()) > 2e-3


def test_a_drift_is_small_smooth_and_seeded() -> None:
    some = drift(200, torch.Generator().manual_seed(1))
    assert torch.equal(some, drift(200, torch.Generator().manual_seed(1))) and some.shape == (200, 2, 24, 22)
    assert 0.3 * DRIFT_PX < float(some.abs().mean()) < DRIFT_PX
    assert float((some[..., 1:] - some[..., :-1]).abs().mean()) < 0.35 * float(some.abs().mean())


def test_what_leads_up_to_a_clip_is_seen_and_not_learnt_from() -> None:
    net = build("rtface-s", memory=True)
    pictures = F.avg_pool2d(torch.rand(6, 3, 196, 180), 5, 1)[None]
    still, nothing = torch.zeros(1, 6, 2, 24, 22), torch.zeros(1, 6, 48, 44)

    def learnt(truth: object, seen: object, warm: int) -> float:
        torch.manual_seed(5)
        film = Batch(truth, seen, still, nothing, torch.tensor([False]), warm)
        total, ours, _ = clip_loss(Loss(256), net, film, 1)
        assert ours.shape == (1, 6 - warm) and total.requires_grad
        return float(total.detach())

    other = pictures.clone()
    other[:, :2] = 1 - other[:, :2]
    base = learnt(pictures, pictures * 0.9, 2)
    assert learnt(torch.cat([pictures[:, :1], other[:, 1:2], pictures[:, 2:]], 1), pictures * 0.9, 2) == base
    assert learnt(pictures, other * 0.9, 2) != base


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    def begun() -> tuple[object, object, object]:
        net = torch.nn.Linear(3, 2)
        return net, torch.optim.AdamW(net.parameters(), 0.1), Ema(net, 0.9)

    def step(net, opt, ema, seed: int) -> None:
        opt.zero_grad()
        net(torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
        opt.step()
        ema.update(net)

    path = tmp_path / "last.pt"
    one = begun()
    assert resume(path, *one) == {}
    step(*one, 1)
    save(path, *one, step=7)
    other = begun()
    assert resume(path, *other) == {"step": 7}
    for run in (one, other):
        step(*run, 2)
    (net, _, ema), (_, _, ema_2) = one, other
    assert all(torch.equal(v, ema_2.weights[k]) for k, v in ema.weights.items())
    live = net.weight.clone()
    with ema.used(net):
        assert torch.equal(net.weight, ema.weights["weight"]) and not torch.equal(net.weight, live)
    assert torch.equal(net.weight, live)


def test_dead_channels_start_anew_without_changing_the_answer() -> None:
    net, x = build("rtface-s"), torch.rand(2, 3, 192, 176)
    optimiser = Muon(net, 1e-3)
    net(x)[0].mean().backward()
    optimiser.step()
    with torch.no_grad():
        net.core.enc1[0].a.bias[:50] = -100.0
        want = net(x)[0]
    averaged = {k: v.clone() for k, v in net.state_dict().items()}
    dead = dead_channels(net, lambda: net(x))
    assert dead["core.enc1.0"][:50].all()
    assert revive(net, optimiser, averaged, dead) == sum(int(d.sum()) for d in dead.values()) >= 50
    assert not any(d.any() for d in dead_channels(net, lambda: net(x)).values())
    with torch.no_grad():
        assert torch.allclose(net(x)[0], want, atol=1e-6)
    assert all(torch.equal(averaged[k], v) for k, v in net.state_dict().items())
    assert not optimiser.state[net.core.enc1[0].a.weight]["m"][:50].any()


def test_the_critic_learns_what_is_true_and_pulls_there() -> None:
    adversary = Adversary(256, share=0.5, seed=1)
    r = torch.Generator().manual_seed(2)
    for step in range(260):
        seen = torch.full((2, 3, 192, 176), 0.5)
        truth = seen + 0.1 * torch.rand(2, 3, 192, 176, generator=r)
        residual = torch.zeros(2, 3, 192, 176, requires_grad=True)
        shown = seen + residual
        loss = (shown - truth).abs().mean()
        pull = adversary.pull(seen, shown, truth, loss)
        if step < 200:
            assert float(pull.detach()) == 0
        if step == 259:
            ours, theirs = (torch.autograd.grad(z, residual, retain_graph=True)[0].norm() for z in (pull, loss))
        missed = adversary.learn()
    assert missed < 0.35  # log 2 for a critic that knows nothing
    assert 0.05 < float(ours / theirs) < 0.5
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in adversary.critic.parameters())


def test_the_critic_sees_fine_octaves_only() -> None:
    image = torch.rand(1, 3, 64, 64)
    coarse = F.interpolate(torch.rand(1, 3, 16, 16), scale_factor=4.0, mode="nearest")
    torch.testing.assert_close(octaves(image + coarse), octaves(image), atol=1e-5, rtol=0)
    fine = F.interpolate(torch.rand(1, 3, 32, 32), scale_factor=2.0, mode="nearest")
    assert float((octaves(image + fine) - octaves(image)).abs().mean()) > 0.5
