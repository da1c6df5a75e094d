"""Trains the networks for pictures at their encoded resolution.

``python -m training.loop.train_coded --pairs runs/coded --valid runs/coded-valid --run runs/coded-net --minutes 60``

Pairs come from ``training.data.coded_pairs``. The loss is the mean logarithm of each patch's squared error, in colours
and in luma. So good pictures count as much as poor ones, and networks learn without a threshold not to change them.
Several networks can learn from the same batches. If there is a GPU, patches are stored and augmented in its memory, and
each step is one CUDA graph. New shards are read during training. ``NAME-best.pt`` is the checkpoint with the highest
gain on held-out people minus the error of the predicted gain. The last checkpoint may be worse, because networks
memorise films if there are few.
"""

from __future__ import annotations

import argparse
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.coded_pairs import CODECS, PATCH
from training.loop.muon import orthogonal
from training.model.coded import CELL, NETWORKS, CodedNet, step_planes

FIRST_RATE, LAST_RATE = 2e-3, 2e-5
SIDE = 128
"""Side in pixels of the parts of patches that a batch contains."""
EVERY_S = 60.0
AVERAGE_DECAY = 0.999
"""Decay of the averaged weights."""
UNKNOWN_SHARE = 0.3
"""Share of patches with hidden quantiser steps."""
FLOOR = (0.4 / 255) ** 2
"""Squared rounding error, added to the squared error of each patch before the logarithm."""
LUMA = (0.299, 0.587, 0.114)
LUMA_SHARE = 0.5
"""Share of luma in the loss. Luma errors are more visible than colour errors."""
ERROR_WEIGHT = 1.0
GOOD_ERROR, GOOD_REPEATS = 5.0, 3
"""Squared error in code values below which a patch is good; number of repetitions of good patches."""
COARSE_STEP, COARSE_REPEATS = 4.5, 2
"""Mean log2 of quantiser steps above which a patch is coarse; number of repetitions of coarse patches and of patches
from codecs that filter well (`FINE`). Without repetitions, these patches would hardly affect the loss."""
FINE = [CODECS.index(name) for name in ("libx265", "libvpx-vp9", "libsvtav1")]
AREA_CELLS, MIN_ERROR = 4, (0.2 / 255) ** 2
"""Side, in cells, of the areas over which errors are averaged for the prediction; constant added to these errors."""


class Pairs:
    """Pairs from all shards, in device memory, at most ``room`` patches. ``refresh`` adds new shards."""

    def __init__(self, root: Path, room: int, device: torch.device, seed: int = 1) -> None:
        self.dice = np.random.default_rng(seed)
        self.root, self.room, self.device, self.names, self.count = root, room, device, set[str](), 0
        self.pictures = torch.empty((room, 2, PATCH, PATCH, 3), dtype=torch.uint8, device=device)
        self.steps = torch.empty((room, PATCH // CELL, PATCH // CELL), dtype=torch.float32, device=device)
        self.codecs = np.zeros(room, np.int64)
        self.order = np.zeros(0, np.int64)
        self.refresh()

    def refresh(self) -> int:
        for path in sorted(self.root.glob("*.npz")):
            if path.name in self.names or path.name.endswith(".tmp.npz"):
                continue
            if self.count == self.room:
                break
            self.names.add(path.name)
            with np.load(path) as data:  # each access reads the array from disk
                seen, truth, steps, meta = (data[name] for name in ("seen", "truth", "steps", "meta"))
            first, count = self.count, min(len(seen), self.room - self.count)
            pair = torch.from_numpy(np.stack([seen[:count], truth[:count]], 1)).to(self.device)
            step = torch.from_numpy(steps[:count].astype(np.float32)).to(self.device)
            self.pictures[first : first + count], self.steps[first : first + count] = pair, step
            self.codecs[first : first + count] = meta[:count, 0].astype(np.int64)
            error = ((pair[:, 0].float() - pair[:, 1]) ** 2).mean((1, 2, 3))
            coarse = (torch.isfinite(step).all((1, 2)) & (step.mean((1, 2)) > COARSE_STEP)).cpu().numpy()
            coarse |= np.isin(self.codecs[first : first + count], FINE)
            repeats = np.where(error.cpu().numpy() < GOOD_ERROR, GOOD_REPEATS, np.where(coarse, COARSE_REPEATS, 1))
            self.count = first + count
            self.order = np.concatenate([self.order, np.repeat(np.arange(first, first + count), repeats)])
        return self.count

    def batch(self, r: torch.Generator, size: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draws a batch: input and true patches N×3×side×side, 0..1, and steps N×side/8×side/8."""
        options: dict[str, Any] = {"generator": r, "device": self.device}

        def chance(share: float) -> Tensor:
            return torch.rand(size, **options) < share

        order = self.order
        numbers = torch.from_numpy(order[self.dice.integers(len(order), size=size)]).to(self.device)
        places = PATCH // CELL - side // CELL + 1
        y, x = torch.randint(places, (2, size, 1), **options)
        rows, columns = (
            (CELL * v + torch.arange(side, device=self.device)).view(shape)
            for v, shape in ((y, (size, 1, side, 1)), (x, (size, 1, 1, side)))
        )
        pair = self.pictures[
            numbers.view(-1, 1, 1, 1), torch.arange(2, device=self.device).view(1, 2, 1, 1), rows, columns
        ]
        cells = torch.arange(side // CELL, device=self.device)
        steps = self.steps[numbers.view(-1, 1, 1), (y + cells).unsqueeze(2), (x + cells).unsqueeze(1)]
        steps = torch.where(chance(UNKNOWN_SHARE).view(-1, 1, 1), math.nan, steps)
        pair, steps = change_tones(pair.float(), steps, chance(0.5), r)
        colours = torch.argsort(torch.rand((size, 3), **options), 1)
        colours = torch.where(chance(0.25).unsqueeze(1), colours, torch.arange(3, device=self.device))
        pair = pair.gather(-1, colours.view(-1, 1, 1, 1, 3).expand_as(pair))
        for share, transform in (
            (0.5, lambda v, d: v.flip(d[1])),
            (0.15, lambda v, d: v.flip(d[0])),
            (0.1, lambda v, d: v.transpose(*d)),
        ):
            selected = chance(share)
            pair = torch.where(selected.view(-1, 1, 1, 1, 1), transform(pair, (2, 3)), pair)
            steps = torch.where(selected.view(-1, 1, 1), transform(steps, (1, 2)), steps)
        seen, truth = (
            pair[:, k].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last) / 255 for k in (0, 1)
        )
        return seen, truth, steps


def change_tones(pair: Tensor, steps: Tensor, selected: Tensor, r: torch.Generator) -> tuple[Tensor, Tensor]:
    """Changes contrast, saturation and brightness of ``selected`` pairs N×2×h×w×3, 0…255. Also scales the steps."""
    size, device = len(pair), pair.device
    random = torch.rand((3, size), generator=r, device=device)
    saturation = torch.where(random[0] < 0.5, 0.6 + 0.65 * random[1], 1.0).view(-1, 1, 1, 1, 1)
    gray = pair.mean(-1, keepdim=True)
    changed = gray + saturation * (pair - gray)
    low, high = changed[:, 1].amin((1, 2, 3)), changed[:, 1].amax((1, 2, 3))
    scale = torch.exp(0.2 * torch.randn(size, generator=r, device=device))
    scale = torch.minimum(scale, 255 / (high - low).clamp_min(1.0))
    shift = random[2] * (255 - scale * (high - low)).clamp_min(0.0)
    changed = scale.view(-1, 1, 1, 1, 1) * (changed - low.view(-1, 1, 1, 1, 1)) + shift.view(-1, 1, 1, 1, 1)
    pair = torch.where(selected.view(-1, 1, 1, 1, 1), changed, pair)
    return pair, steps + torch.where(selected, torch.log2(scale), 0.0).view(-1, 1, 1)


def cell_error(a: Tensor, b: Tensor) -> Tensor:
    """Computes squared errors, averaged over colours and 8×8 cells: N×h/8×w/8."""
    return F.avg_pool2d(((a - b) ** 2).mean(1, keepdim=True), CELL)[:, 0]


def luma_error(a: Tensor, b: Tensor) -> Tensor:
    """Computes the squared error of luma per patch: N."""
    d = a - b
    return ((LUMA[0] * d[:, 0] + LUMA[1] * d[:, 1] + LUMA[2] * d[:, 2]) ** 2).mean((1, 2))


def infer(net: nn.Module, seen: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Runs a network. Returns the corrected picture and the log of the expected errors, float32."""
    with torch.autocast(seen.device.type, torch.bfloat16, cache_enabled=False):
        correction, log_error = net(seen, step_planes(steps))
    return seen + correction.float(), log_error.float()


def losses(net: nn.Module, seen: Tensor, truth: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Computes mean log error, loss of predicted errors, patch errors (before, after)."""
    out, log_error = infer(net, seen, steps)
    before, after = cell_error(seen, truth), cell_error(out, truth)
    patch_error = after.mean((1, 2))
    picture = (1 - LUMA_SHARE) * torch.log(patch_error + FLOOR) + LUMA_SHARE * torch.log(luma_error(out, truth) + FLOOR)
    target = F.avg_pool2d(torch.stack([before, after.detach()], 1), AREA_CELLS) + MIN_ERROR
    predicted = F.avg_pool2d(torch.exp(log_error), AREA_CELLS) + MIN_ERROR
    prediction_loss = F.smooth_l1_loss(torch.log(predicted), torch.log(target), beta=0.5)
    return picture.mean(), prediction_loss, before.mean((1, 2)), patch_error.detach()


class Learner:
    """A network with its optimiser and averaged weights. Muon trains hidden convolutions, grouped by shape; Adam trains
    other parameters. ``step`` learns from the batch in ``inputs``. On a GPU, a step is one CUDA graph."""

    def __init__(self, net: nn.Module, rate: float, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
        self.net, self.top, self.inputs = net, rate, inputs
        device = inputs[0].device
        self.params = list(net.parameters())
        hidden: dict[tuple[int, int], list[int]] = defaultdict(list)
        self.others: list[int] = []
        for number, (name, p) in enumerate(net.named_parameters()):
            if p.ndim == 4 and "head" not in name:
                hidden[tuple(p.flatten(1).shape)].append(number)  # type: ignore[index]
            else:
                self.others.append(number)
        self.hidden = [
            (shape, numbers, torch.zeros((len(numbers), *shape), device=device)) for shape, numbers in hidden.items()
        ]
        self.moments = [[torch.zeros_like(self.params[n]) for n in self.others] for _ in range(2)]
        self.ema = [p.detach().clone() for p in self.params]
        self.rate, self.decay, self.age = (torch.zeros((), device=device) for _ in range(3))
        self.figures = torch.zeros(3, device=device)
        self.graph: Any = None
        self.steps = 0

    def _step(self) -> None:
        seen, truth, steps = self.inputs
        loss, miss, before, after = losses(self.net, seen, truth, steps)
        grads = torch.autograd.grad(loss + ERROR_WEIGHT * miss, self.params)
        with torch.no_grad():
            norm = torch.stack([g.float().square().sum() for g in grads]).sum().sqrt()
            scale = torch.nan_to_num((1 / norm).clamp(max=1.0), 0.0)
            grads = [torch.nan_to_num(g, 0.0, 0.0, 0.0) * scale for g in grads]
            for shape, numbers, momentum in self.hidden:
                g = torch.stack([grads[n].flatten(1) for n in numbers])
                momentum.lerp_(g, 0.05)
                g = orthogonal(g.lerp(momentum, 0.95)) * (-0.2 * max(shape) ** 0.5 * self.rate)
                for n, change in zip(numbers, g, strict=True):
                    self.params[n].mul_(1 - 1e-4 * self.rate).add_(change.view_as(self.params[n]))
            self.age.add_(1)
            g = [grads[n] for n in self.others]
            first, second = self.moments
            torch._foreach_lerp_(first, g, 0.1)  # pyright: ignore
            torch._foreach_lerp_(second, [v * v for v in g], 0.01)  # pyright: ignore
            first_scale, second_scale = 1 - 0.9**self.age, 1 - 0.99**self.age
            for n, m, v in zip(self.others, first, second, strict=True):
                self.params[n].sub_(0.4 * self.rate * (m / first_scale) / ((v / second_scale).sqrt() + 1e-8))
            for average, p in zip(self.ema, self.params, strict=True):
                average.add_((p - average) * (1 - self.decay))
            gain = 10 * torch.log10((before + FLOOR) / (after + FLOOR))
            self.figures.add_(torch.stack([loss, miss, gain.mean()]))

    def step(self, progress: float) -> None:
        """Learns from ``inputs``. ``progress``: elapsed share of the training time, 0..1."""
        self.steps += 1
        rate = LAST_RATE + (self.top - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        self.rate.fill_(rate * min(1.0, self.steps / 100))
        self.decay.fill_(min(AVERAGE_DECAY, (1 + self.steps) / (10 + self.steps)))
        if self.inputs[0].device.type != "cuda":
            self._step()
            return
        if self.graph is None:
            if self.steps <= 3:  # libraries choose their algorithms in these steps, before the graph is captured
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    self._step()
                torch.cuda.current_stream().wait_stream(side)
                return
            self.graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(self.graph):
                    self._step()
            except RuntimeError as error:
                print(f"no CUDA graph: {error}", flush=True)
                self.graph = False
        if self.graph:
            self.graph.replay()
        else:
            self._step()

    def state(self) -> dict[str, Any]:
        """Returns the averaged weights by name."""
        return {
            name: value.detach().cpu() for (name, _), value in zip(self.net.named_parameters(), self.ema, strict=True)
        }

    def averaged(self, measure: Callable[[nn.Module], Any]) -> Any:
        """Calls ``measure`` with the network, which has averaged weights during the call. Returns the result."""
        live = [p.detach().clone() for p in self.params]
        with torch.no_grad():
            for p, average in zip(self.params, self.ema, strict=True):
                p.copy_(average)
            result = measure(self.net)
            for p, average in zip(self.params, live, strict=True):
                p.copy_(average)
        return result


def validate(net: nn.Module, pairs: Pairs, with_steps: bool) -> dict[str, float]:
    """Measures gains in dB: mean, worst, luma, by codec, coarse patches. Also measures the error of predicted gains."""
    rows: list[Tensor] = []
    with torch.no_grad():
        for number in range(0, pairs.count, 64):
            part = slice(number, min(number + 64, pairs.count))
            seen, truth = (pairs.pictures[part, k].permute(0, 3, 1, 2).float() / 255 for k in (0, 1))
            steps = pairs.steps[part]
            out, log_error = infer(net, seen, steps if with_steps else torch.full_like(steps, math.nan))
            before, after = (cell_error(z, truth).mean((1, 2)) + FLOOR for z in (seen, out))
            gain = 10 * torch.log10(before / after)
            luma = 10 * torch.log10((luma_error(seen, truth) + FLOOR) / (luma_error(out, truth) + FLOOR))
            predicted = torch.exp(log_error).mean((2, 3)) + FLOOR
            miss = (10 * torch.log10(predicted[:, 0] / predicted[:, 1]) - gain).abs()
            rows.append(torch.stack([gain, luma, miss, steps.mean((1, 2))], 1))
    gain, luma, miss, steps = torch.cat(rows).cpu().numpy().T
    codecs = pairs.codecs[: pairs.count]
    figures = {
        "gain": gain.mean(),
        "worst": gain.min(),
        "luma": luma.mean(),
        "miss": miss.mean(),
        "coarse": gain[steps > COARSE_STEP].mean(),
    }
    figures |= {name: gain[codecs == number].mean() for number, name in enumerate(CODECS) if (codecs == number).any()}
    return {name: round(float(value), 3) for name, value in figures.items()}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pairs", type=Path, required=True)
    p.add_argument("--valid", type=Path, required=True)
    p.add_argument("--run", type=Path, required=True)
    p.add_argument("--networks", default="coded", help="networks to train, as coded,light")
    p.add_argument("--core", type=Path, nargs="+", default=[], help="initial checkpoints NAME-….pt")
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--room", type=int, default=60_000, help="maximum number of patches in memory")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    a.run.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    pairs, valid = Pairs(a.pairs, a.room, device), Pairs(a.valid, 4000, device)
    while not pairs.refresh():
        time.sleep(0.5)
    r = torch.Generator(device).manual_seed(a.seed)
    inputs = pairs.batch(r, a.batch, SIDE)
    learners: dict[str, Learner] = {}
    for name in a.networks.split(","):
        net = CodedNet(*NETWORKS[name]).to(device, memory_format=torch.channels_last)
        cores = [path for path in a.core if path.name.startswith(f"{name}-")]
        for path in cores:
            net.load_state_dict(torch.load(path, map_location="cpu")["ema"])
        learners[name] = Learner(net, FIRST_RATE * (0.5 if cores else 1.0), inputs)
        print(f"{name}: {sum(p.numel() for p in net.parameters())} weights{', continued' if cores else ''}", flush=True)
    best: dict[str, float] = defaultdict(lambda: -math.inf)
    last_check, step = time.monotonic(), 0
    while True:
        progress = (time.monotonic() - start) / (60 * a.minutes)
        for tensor, new in zip(inputs, pairs.batch(r, a.batch, SIDE), strict=True):
            tensor.copy_(new)
        for learner in learners.values():
            learner.step(progress)
        step += 1
        if step == 5:  # start reading only after the graphs are captured
            threading.Thread(target=read_shards, args=(pairs, device), daemon=True).start()
        if device.type == "cuda" and step % 20 == 0:
            torch.cuda.synchronize()
        if progress >= 1 or time.monotonic() - last_check > EVERY_S:
            last_check = time.monotonic()
            valid.refresh()
            for name, learner in learners.items():
                figures = [round(v, 3) for v in (learner.figures / learner.steps).tolist()]
                print(f"{name} step {step}, {last_check - start:.0f} s, {pairs.count} patches: {figures}", flush=True)
                torch.save({"ema": learner.state(), "step": step}, a.run / f"{name}-last.pt")
                if not valid.count:
                    continue
                rows = [learner.averaged(partial(validate, pairs=valid, with_steps=on)) for on in (True, False)]
                print(f"  steps known: {rows[0]}\n  unknown: {rows[1]}", flush=True)
                score = sum(row["gain"] + row["luma"] - row["miss"] for row in rows)
                if score > best[name]:
                    best[name] = score
                    torch.save({"ema": learner.state(), "step": step}, a.run / f"{name}-best.pt")
        if progress >= 1:
            break


def read_shards(pairs: Pairs, device: torch.device) -> None:
    """Reads new shards endlessly, on a separate stream."""
    with torch.cuda.stream(torch.cuda.Stream()) if device.type == "cuda" else torch.no_grad():
        while True:
            time.sleep(1.0)
            pairs.refresh()


if __name__ == "__main__":
    main()
