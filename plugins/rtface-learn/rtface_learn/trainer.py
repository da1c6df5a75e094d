# pyright: basic, reportMissingImports=false
# (torch and onnx are in another Python)
"""The trainer: run by a Python that has numpy, torch and onnx, and not by rtface's own. It needs nothing of rtface.

``python trainer.py JOB.json``: JOB names a network file, an npz of pairs, what to train and for how long. It prints one
JSON object a line: ``{"step": …, "steps": …, "gain": …}`` while it works, ``{"done": true, …}`` at the end, and writes
the difference that was best on held-out pairs. At every look at these it writes a checkpoint, from which the same job
goes on.

Pairs are uint8 M×2×h×w×3 RGB, the truth and what the engine sees, on the engine's region; `others` M×h×w×3, faces of
other people, for whom the answer is to stay what it is. The loss is that of the shipped engines
(training/losses/restoration.py): Charbonnier on the picture and on the bands of a Laplacian pyramid, weighted by the
oval, on what the correction shows after the colour lock.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper

GRID, LUMA_LIMIT, CHROMA_LIMIT, COLOURLESS = 32, 6 / 255, 1 / 255, 0.2
EPSILON, RAW, BANDS = 0.02, 0.15, (0.5, 0.5, 0.5, 0.5)
LUMA = (0.299, 0.587, 0.114)
CLEAN, EVERY, WARM = 0.08, 30, 20
"""Share of pairs whose input is the truth; steps between looks at the held-out pairs, and until the full rate."""
STRONGEST = 1.5
"""Largest strength of a correction."""


class Network:
    """An ONNX network of one crop a row, of which some tensors are trained."""

    def __init__(self, model, inputs):
        """`inputs`: those that are the same for every crop, by name."""
        self.tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
        self.tensors |= {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in inputs.items()}
        self.nodes = []
        for node in model.graph.node:
            attributes = {}
            for one in node.attribute:
                value = helper.get_attribute_value(one)
                attributes[one.name] = (
                    value.decode()
                    if isinstance(value, bytes)
                    else torch.from_numpy(numpy_helper.to_array(value).copy())
                    if hasattr(value, "data_type")
                    else value
                )
            if node.op_type == "Constant":
                self.tensors[node.output[0]] = next(iter(attributes.values()))
            else:
                self.nodes.append((node.op_type, list(node.input), list(node.output), attributes))
        unknown = {kind for kind, *_ in self.nodes} - OPERATIONS.keys()
        if unknown:
            raise SystemExit(f"the trainer does not know how to compute {', '.join(sorted(unknown))}")

    def only(self, output, zero):
        """Leaves out what `output` does not need where the tensor `zero` is 0: on a face's first frame nothing is known
        of the frame before, about which half of the operations are."""
        nothing, same = {zero}, {}
        for kind, names, results, _ in self.nodes:
            names[:] = [same.get(name, name) for name in names]
            still = kind == "Cast" or (kind == "Conv" and len(names) == 2)
            if (kind == "Mul" and nothing.intersection(names)) or (still and names[0] in nothing):
                nothing.add(results[0])
            elif kind in ("Add", "Sub") and names[1] in nothing:
                same[results[0]] = names[0]
            elif kind == "Add" and names[0] in nothing:
                same[results[0]] = names[1]
        wanted, kept = {same.get(output, output)}, []
        for node in reversed(self.nodes):
            if wanted.intersection(node[2]):
                wanted.update(node[1])
                kept.append(node)
        self.nodes, self.output = kept[::-1], same.get(output, output)
        return self

    def __call__(self, values, trained):
        """`values` by name of the inputs that differ; `trained` in the place of tensors of the file."""
        held = {**self.tensors, **values, **trained}
        for kind, names, results, attributes in self.nodes:
            held[results[0]] = OPERATIONS[kind](attributes, *(held.get(name) for name in names))
        return held[self.output]


def ints(values):
    return [int(v) for v in values.reshape(-1).tolist()] if hasattr(values, "reshape") else [int(v) for v in values]


def conv(a, x, weight, bias=None):
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    assert (top, left) == (bottom, right), "a convolution with uneven padding"
    weight, bias = weight.to(x.dtype), bias if bias is None else bias.to(x.dtype)
    return F.conv2d(x, weight, bias, tuple(a.get("strides", (1, 1))), (top, left), tuple(a.get("dilations", (1, 1))),
                    a.get("group", 1))  # fmt: skip


def gemm(a, x, weight, bias=None):
    out = (x.t() if a.get("transA") else x).float() @ (weight.t() if a.get("transB") else weight).float()
    return a.get("alpha", 1.0) * out + (0 if bias is None else a.get("beta", 1.0) * bias.float())


def resize(a, x, roi=None, scales=None, sizes=None):
    if sizes is not None and sizes.numel():
        size = ints(sizes)
    else:
        assert scales is not None
        size = [round(n * s) for n, s in zip(x.shape, scales.tolist(), strict=True)]
    kind = a["mode"], a.get("coordinate_transformation_mode", "half_pixel")
    assert kind in (("linear", "half_pixel"), ("nearest", "asymmetric")), kind
    if kind[0] == "nearest":
        return F.interpolate(x, size[2:], mode="nearest")
    return F.interpolate(x, size[2:], mode="bilinear", align_corners=False)


def cut(a, x, starts, ends, axes=None, steps=None):
    starts, ends = ints(starts), ints(ends)
    axes = range(len(starts)) if axes is None else ints(axes)
    for axis, first, last, step in zip(
        axes, starts, ends, [1] * len(starts) if steps is None else ints(steps), strict=False
    ):
        if step < 0:  # of the numbers that shapes are made of
            at = list(range(x.shape[axis]))[slice(first, last if last >= -x.shape[axis] else None, step)]
            x = x[(slice(None),) * (axis % x.dim()) + (at,)]
        else:
            x = x[(slice(None),) * (axis % x.dim()) + (slice(first, min(last, 1 << 60), step),)]
    return x


def pad(a, x, pads, value=None, axes=None):
    half = len(pads) // 2
    pads = ints(pads)
    wanted = [v for pair in zip(pads[:half][::-1], pads[half:][::-1], strict=False) for v in pair]
    if a.get("mode", "constant") == "constant":
        return F.pad(x, wanted, value=0.0 if value is None else float(value))
    assert a["mode"] == "edge" and not any(wanted[4:])
    return F.pad(x, wanted[:4], mode="replicate")


def unsqueeze(a, x, axes=None):
    axes = ints(a["axes"] if axes is None else axes)
    for axis in sorted(n % (x.dim() + len(axes)) for n in axes):
        x = x.unsqueeze(axis)
    return x


def squeeze(a, x, axes=None):
    axes = a.get("axes") if axes is None else axes
    return x.squeeze() if axes is None else x.squeeze(tuple(ints(axes)))


def reduced(how):
    def reduce(a, x, axes=None):
        axes = a.get("axes") if axes is None else axes
        over = list(range(x.dim())) if axes is None or not len(axes) else ints(axes)
        return getattr(x, how)(over, keepdim=bool(a.get("keepdims", 1)))

    return reduce


def depth_to_space(a, x):
    n, k = x.shape[0], a["blocksize"]
    if a.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, k)
    c, h, w = x.shape[1] // k**2, *x.shape[2:]
    return x.reshape(n, k, k, c, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c, h * k, w * k)


def cast(a, x):
    # What is stored in 16 bits is computed in float32, or in bf16 where autocast chooses that.
    whole = a["to"] in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    return x.long() if whole else x.bool() if a["to"] == onnx.TensorProto.BOOL else x.float()


def both(operation):
    def compute(a, x, y):
        if x.is_floating_point() and y.is_floating_point() and x.dtype != y.dtype:
            x, y = x.float(), y.float()
        return operation(x, y)

    return compute


def divide(x, y):
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


OPERATIONS = {
    "Abs": lambda a, x: x.abs(),
    "Add": both(torch.add),
    "Cast": cast,
    "Clip": lambda a, x, low=None, high=None: x.clamp(
        None if low is None else float(low), None if high is None else float(high)
    ),
    "Concat": lambda a, *given: torch.cat(
        [g.float() for g in given] if given[0].is_floating_point() else given, a["axis"]
    ),
    "ConstantOfShape": lambda a, shape: torch.full(
        ints(shape),
        (a["value"] if "value" in a else torch.zeros(1)).item(),
        dtype=(a["value"] if "value" in a else torch.zeros(1)).dtype,
    ),
    "Conv": conv,
    "DepthToSpace": depth_to_space,
    "Div": both(divide),
    "Gather": lambda a, x, at: x.index_select(a.get("axis", 0), at.reshape(-1)).reshape(
        x.shape[: a.get("axis", 0)] + tuple(at.shape) + x.shape[a.get("axis", 0) + 1 :]
    ),
    "Gemm": gemm,
    "GridSample": lambda a, x, grid: F.grid_sample(
        x.float(),
        grid.float(),
        {"linear": "bilinear", "cubic": "bicubic"}.get(a["mode"], a["mode"]),
        a["padding_mode"],
        bool(a.get("align_corners")),
    ),
    "MaxPool": lambda a, x: F.max_pool2d(
        x, a["kernel_shape"], a.get("strides", (1, 1)), tuple(a.get("pads", (0, 0)))[:2]
    ),
    "Mul": both(torch.mul),
    "Neg": lambda a, x: -x,
    "Pad": pad,
    "ReduceMean": reduced("mean"),
    "ReduceSum": reduced("sum"),
    "Relu": lambda a, x: x.relu(),
    "Reshape": lambda a, x, shape: x.reshape([x.shape[n] if s == 0 else s for n, s in enumerate(ints(shape))]),
    "Resize": resize,
    "Shape": lambda a, x: torch.tensor(x.shape),
    "Sigmoid": lambda a, x: x.sigmoid(),
    "Slice": cut,
    "Squeeze": squeeze,
    "Sub": both(torch.sub),
    "Tanh": lambda a, x: x.tanh(),
    "Transpose": lambda a, x: x.permute(a["perm"]),
    "Unsqueeze": unsqueeze,
}


# --- the loss ---


def luma(z):
    return (z * z.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def lowpass(z, cell):
    k = torch.exp(-0.5 * torch.arange(-2, 3, dtype=z.dtype) ** 2)
    k = k / k.sum()
    n, c, h, w = z.shape
    g = F.avg_pool2d(z, cell).reshape(n * c, 1, h // cell, w // cell)
    g = F.conv2d(F.pad(g, (2, 2, 0, 0)), k[None, None, None, :])
    return F.conv2d(F.pad(g, (0, 0, 2, 2)), k[None, None, :, None]).reshape(n, c, h // cell, w // cell)


def locked(crop, residual, cell):
    """The correction after the colour lock, as rtface shows it."""
    sample = crop[..., ::cell, ::cell]
    chroma = (COLOURLESS * (sample - luma(sample)).abs().mean((1, 2, 3), keepdim=True)).clamp(1e-6, CHROMA_LIMIT)
    low = lowpass(residual, cell)
    light = luma(low)
    colour = low - light
    most = colour.abs().amax(1, keepdim=True).clamp_min(1e-9)
    kept = LUMA_LIMIT * torch.tanh(light / LUMA_LIMIT) + colour * (chroma * torch.tanh(most / chroma) / most)
    return residual - F.interpolate(low - kept, size=residual.shape[-2:], mode="bilinear", align_corners=False)


def highpass(x):
    return x - F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="nearest")


class Loss:
    def __init__(self, mask, weight, cell):
        self.mask, self.weight, self.cell = (mask / mask.mean())[None, None], (weight / weight.mean())[None, None], cell

    def charbonnier(self, e):
        m = self.weight
        while m.shape[-1] > e.shape[-1]:
            m = F.avg_pool2d(m, 2)
        return (torch.sqrt(e * e + EPSILON**2) * m).mean((1, 2, 3)) - EPSILON

    def __call__(self, crop, residual, truth):
        """Loss of each row."""
        raw = F.avg_pool2d(crop + residual - truth, self.cell)
        e = crop + locked(crop, residual, self.cell) - truth
        total = self.charbonnier(e) + RAW * self.charbonnier(raw)
        for weight in BANDS:
            total = total + weight * self.charbonnier(highpass(e))
            e = F.avg_pool2d(e, 2)
        return total

    def gain(self, crop, residual, truth):
        """dB that each row gains at the strength that helps most, which a run comes near to."""
        d, wanted = locked(crop, residual, self.cell), truth - crop
        both, change, before = (
            ((a * b) * self.mask).mean((1, 2, 3)) for a, b in ((d, wanted), (d, d), (wanted, wanted))
        )
        s = (both / change.clamp_min(1e-10)).clamp(0, STRONGEST)
        after = before - 2 * s * both + s * s * change
        return 10 * torch.log10(before.clamp_min(1e-10) / after.clamp_min(1e-10))


# --- what is trained ---


def trainable(model, data, prefixes, rank):
    """By name: the shipped values, where they lie in the file, rows and columns, and the parameters."""
    found = {}
    for t in model.graph.initializer:
        if not any(p in t.name for p in prefixes) or not t.raw_data or "onnx::" in t.name:
            continue
        values = numpy_helper.to_array(t)
        if data.count(t.raw_data) != 1 or values.dtype not in (np.float16, np.float32):
            continue
        base = torch.from_numpy(values.astype(np.float32))
        rows = values.shape[0] if values.ndim > 1 and values.shape[0] > 1 else 1
        columns = values.size // rows
        low = rank if rank and rows > 1 and rank * (rows + columns) < rows * columns else 0
        if rank and not low and values.ndim > 1 and rows > 1:
            continue
        if low:
            parts = [torch.zeros(rows, low), torch.randn(low, columns) / columns**0.5]
        else:
            parts = [torch.zeros(rows, columns)]
        found[t.name] = (
            base,
            data.find(t.raw_data),
            values.dtype.itemsize,
            rows,
            columns,
            low,
            [p.requires_grad_() for p in parts],
        )
    return found


def weights_of(found):
    return {
        name: base + (parts[0] @ parts[1] if low else parts[0]).reshape(base.shape)
        for name, (base, _, _, _, _, low, parts) in found.items()
    }


def say(**row):
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def main(path):
    parent = os.getppid()
    job = json.loads(Path(path).read_text())
    torch.manual_seed(job["seed"])
    torch.set_num_threads(1)
    data = Path(job["network"]).read_bytes()
    model = onnx.load_from_string(data)
    with np.load(job["pairs"]) as held:
        train, valid, others = held["train"], held["valid"], held["others"]
        mask, weight = torch.from_numpy(held["mask"]), torch.from_numpy(held["weight"])
        kinds = held["kinds"]  # of the held-out pairs
    network = Network(model, {}).only(job["output"], job["known"])
    loss = Loss(mask, weight, job["cell"])
    found = trainable(model, data, job["prefixes"], job["rank"])
    parameters = [p for *_, parts in found.values() for p in parts]
    steps, batch, kept = job["steps"], job["batch"], job["kept"] if len(others) else 0
    optimiser = torch.optim.AdamW(parameters, lr=job["rate"], weight_decay=0.0, betas=(0.9, 0.99))
    r = np.random.default_rng(job["seed"])
    pool = ThreadPoolExecutor(job["threads"], initializer=torch.set_num_threads, initargs=(1,))

    def tensor(crops):
        t = torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float() / 255
        return t.contiguous(memory_format=torch.channels_last)

    def residual(x, weights):
        _h, _w = x.shape[2:]
        given = {job["input"]: x, job["past"]: torch.zeros_like(x), job["known"]: torch.zeros(1, 1, 1, 1)}
        given[job["state"]] = torch.zeros(len(x), *job["state_shape"])
        with torch.autocast("cpu", torch.bfloat16, enabled=job["bf16"]):
            return network(given, weights).float()

    def held_out(weights):
        """Gain in dB of each held-out pair, and its loss."""

        def one(k):
            with torch.no_grad():
                t, x = tensor(valid[k : k + 4, 0]), tensor(valid[k : k + 4, 1])
                answer = residual(x, weights)
                return loss.gain(x, answer, t), loss(x, answer, t)

        gains, totals = zip(*pool.map(one, range(0, len(valid), 4)), strict=False)
        return torch.cat(gains).numpy(), float(torch.cat(totals).mean())

    shipped, at_first = held_out({})
    best, best_parts, best_gain, before, since = at_first, None, shipped, 0.0, time.monotonic()
    done, checkpoint = 0, Path(job["checkpoint"])
    if checkpoint.is_file():
        kept_of = torch.load(checkpoint, weights_only=True)
        with torch.no_grad():
            for p, value in zip(parameters, kept_of["parameters"], strict=True):
                p.copy_(value)
        optimiser.load_state_dict(kept_of["optimiser"])
        done, before, best, best_parts = (kept_of[name] for name in ("step", "seconds", "best", "best_parts"))
        best_gain = kept_of["best_gain"].numpy()
        r.bit_generator.state = json.loads(kept_of["random"])

    def piece(x, t, weights):
        """Gradients of a part of the batch, by the weights."""
        if t is None:
            with torch.no_grad():
                t = x + locked(x, residual(x, {}), loss.cell)
        leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
        total = loss(x, residual(x, leaves), t).sum() * (100 / batch)
        return torch.autograd.grad(total, list(leaves.values()))

    step = done
    for step in range(done + 1, steps + 1):
        if os.getppid() != parent:  # who started it was killed
            sys.exit("rtface has ended")
        spent = before + time.monotonic() - since
        if spent > job["seconds"]:
            break
        # The rate falls by steps or by time, whichever ends first.
        gone = max(step / steps, spent / job["seconds"])
        for group in optimiser.param_groups:
            group["lr"] = job["rate"] * min(1, step / WARM) * (0.5 + 0.5 * math.cos(math.pi * gone)) + 1e-7
        chosen = r.integers(0, len(train), batch)
        t, x = tensor(train[chosen, 0]), tensor(train[chosen, 1])
        for k in range(batch):
            if r.random() < CLEAN:
                x[k] = t[k]
            if r.random() < 0.5:
                t[k], x[k] = t[k].flip(2), x[k].flip(2)
        work = list(zip(x.split(2), t.split(2), strict=False))
        if kept:
            work.append((tensor(others[r.integers(0, len(others), kept)]), None))
        weights = weights_of(found)
        sums = []
        for gradients in pool.map(piece, *zip(*work, strict=True), [weights] * len(work)):
            sums = [a + b for a, b in zip(sums, gradients, strict=True)] if sums else list(gradients)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(list(weights.values()), sums)
        torch.nn.utils.clip_grad_norm_(parameters, 20.0)
        optimiser.step()
        if step % EVERY == 0 or step == steps:
            with torch.no_grad():
                gains, now = held_out(weights_of(found))
            if now < best:
                best, best_gain = now, gains
                best_parts = [[p.detach().clone() for p in parts] for *_, parts in found.values()]
            state = {
                "parameters": [p.detach() for p in parameters],
                "optimiser": optimiser.state_dict(),
                "step": step,
                "seconds": before + time.monotonic() - since,
                "best": best,
                "best_parts": best_parts,
                "best_gain": torch.from_numpy(best_gain),
                "random": json.dumps(r.bit_generator.state),
            }
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
            say(step=step, steps=steps, gain=round(float((gains - shipped).mean()), 3), seconds=round(spent, 1))
    over = {str(k): round(float((best_gain - shipped)[kinds == k].mean()), 3) for k in sorted(set(kinds.tolist()))}
    if best_parts is not None:
        places = [(offset, item, rows, columns, low) for _, offset, item, rows, columns, low, _ in found.values()]
        delta = np.concatenate([p.numpy().astype(np.float16).ravel() for parts in best_parts for p in parts])
        np.savez(job["out"], places=np.array(places, np.int64), delta=delta)
    spent = round(before + time.monotonic() - since, 1)
    say(done=True, better=best_parts is not None, over=over, step=step, seconds=spent,
        loss=[round(at_first, 6), round(best, 6)], count=sum(p.numel() for p in parameters))  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1])
