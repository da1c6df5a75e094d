# pyright: basic, reportMissingImports=false
# (pyright does not find torch and onnx, which are installed in another Python.)
"""Trains weights for one person. Needs numpy, torch and onnx, but does not import rtface.

``python trainer.py JOB.json``: JOB names a network file, an npz file of pairs, the tensors to train and a duration. The
script prints JSON lines: ``{"step": …, "steps": …}`` during training, ``{"done": true, …}`` at the end. It writes the
change of weights that had the least loss on held-out pairs. Each evaluation also writes a checkpoint, from which the
same job can continue. If `begin` of a job is the checkpoint of another job, training continues from that job's result
and includes the held-out pairs. In this case, the loss on the held-out pairs does not measure a gain.

Pairs are uint8 M×2×h×w×3 RGB (truth, engine input) of the engine's region. `others`, M×h×w×3, are faces of other
people. For them, the network's answers must not change. The loss is the same as for the shipped engines
(engines/training/losses/restoration.py). It is a Charbonnier loss on the corrected picture after the colour lock and on
the bands of its Laplacian pyramid, weighted by the oval.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper

LUMA_LIMIT, CHROMA_LIMIT, COLOURLESS = 6 / 255, 1 / 255, 0.2
EPSILON, RAW, BANDS, LUMA = 0.02, 0.15, (0.5, 0.5, 0.5, 0.5), (0.299, 0.587, 0.114)
CLEAN_SHARE, EVALUATION_STEPS, WARMUP_STEPS, EVALUATION_PAIRS = 0.08, 30, 20, 48
"""Share of pairs with the truth as input; steps between evaluations; warm-up steps; held-out pairs in an evaluation."""
SPARSE = {"core.mid": 2.0, "": 0.6}
"""By part of a tensor's name: threshold for keeping values of a change, relative to its root mean square, for a small
file. Deep layers hold two thirds of all values, and omissions matter least there."""


class Network:
    """An ONNX network with some trainable tensors."""

    def __init__(self, model):
        self.tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
        self.nodes = []
        for node in model.graph.node:
            attributes = {}
            for one in node.attribute:
                value = helper.get_attribute_value(one)
                attributes[one.name] = value.decode() if isinstance(value, bytes) else value
            self.nodes.append((node.op_type, list(node.input), list(node.output), attributes))

    def only(self, output, zero):
        """Removes nodes that `output` does not need if tensor `zero` is 0. Half of the operations process the previous
        frame, which a face's first frame does not have."""
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
        unknown = {kind for kind, *_ in kept} - OPERATIONS.keys()
        if unknown:
            raise SystemExit(f"the trainer does not know how to compute {', '.join(sorted(unknown))}")
        self.nodes, self.output = kept[::-1], same.get(output, output)
        return self

    def __call__(self, values, trained):
        """Runs the network. `values`: inputs by name; `trained`: tensors, by name, that replace those of the file."""
        held = {**self.tensors, **values, **trained}
        for kind, names, results, attributes in self.nodes:
            held[results[0]] = OPERATIONS[kind](attributes, *(held.get(name) for name in names))
        return held[self.output]


def conv(a, x, weight, bias=None):
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    assert (top, left) == (bottom, right), "a convolution with uneven padding"
    weight, bias = weight.to(x.dtype), bias if bias is None else bias.to(x.dtype)
    return F.conv2d(x, weight, bias, tuple(a.get("strides", (1, 1))), (top, left), tuple(a.get("dilations", (1, 1))),
                    a.get("group", 1))  # fmt: skip


def gemm(a, x, weight, bias):
    return x.float() @ (weight.t() if a.get("transB") else weight).float() + bias.float()


def resize(a, x, roi, scales):
    assert (a["mode"], a["coordinate_transformation_mode"]) == ("linear", "half_pixel"), a
    size = [round(n * s) for n, s in zip(x.shape, scales.tolist(), strict=True)]
    return F.interpolate(x, size[2:], mode="bilinear", align_corners=False)


def depth_to_space(a, x):
    assert a["mode"] == "CRD", a
    return F.pixel_shuffle(x, a["blocksize"])


def cast(a, x):
    assert a["to"] == onnx.TensorProto.FLOAT, a  # the input is a weight stored in 16 bits, or bf16 by autocast
    return x.float()


def both(operation):
    return lambda a, x, y: operation(x.float(), y.float()) if x.dtype != y.dtype else operation(x, y)


OPERATIONS = {
    "Add": both(torch.add),
    "Cast": cast,
    "Clip": lambda a, x, low, high: x.clamp(float(low), float(high)),
    "Conv": conv,
    "DepthToSpace": depth_to_space,
    "Gemm": gemm,
    "Mul": both(torch.mul),
    "ReduceMean": lambda a, x: x.mean(a["axes"], keepdim=bool(a["keepdims"])),
    "ReduceSum": lambda a, x, axes: x.sum(axes.tolist(), keepdim=bool(a["keepdims"])),
    "Relu": lambda a, x: x.relu(),
    "Reshape": lambda a, x, shape: x.reshape([x.shape[n] if s == 0 else s for n, s in enumerate(shape.tolist())]),
    "Resize": resize,
    "Sigmoid": lambda a, x: x.sigmoid(),
    "Sub": both(torch.sub),
    "Transpose": lambda a, x: x.permute(a["perm"]),
    "Unsqueeze": lambda a, x, axes: x.unsqueeze(int(axes)),
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
    """Applies the colour lock to a correction, as rtface does."""
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
    def __init__(self, weight, cell):
        self.weight, self.cell = (weight / weight.mean())[None, None], cell

    def charbonnier(self, e):
        m = self.weight
        while m.shape[-1] > e.shape[-1]:
            m = F.avg_pool2d(m, 2)
        return (torch.sqrt(e * e + EPSILON**2) * m).mean((1, 2, 3)) - EPSILON

    def __call__(self, crop, residual, truth):
        """Computes the loss of each row."""
        raw = F.avg_pool2d(crop + residual - truth, self.cell)
        e = crop + locked(crop, residual, self.cell) - truth
        total = self.charbonnier(e) + RAW * self.charbonnier(raw)
        for weight in BANDS:
            total = total + weight * self.charbonnier(highpass(e))
            e = F.avg_pool2d(e, 2)
        return total


# --- trained tensors ---


def trainable(model, data, prefixes):
    """Returns tensors to train, by name: shipped values; offset, item size, rows and columns in the file; change."""
    tensors = {}
    for t in model.graph.initializer:
        if not any(p in t.name for p in prefixes) or not t.raw_data or "onnx::" in t.name:
            continue
        values = numpy_helper.to_array(t)
        if data.count(t.raw_data) != 1 or values.dtype not in (np.float16, np.float32):
            continue
        rows = values.shape[0] if values.ndim > 1 and values.shape[0] > 1 else 1
        place = data.find(t.raw_data), values.dtype.itemsize, rows, values.size // rows
        base = torch.from_numpy(values.astype(np.float32))
        tensors[t.name] = base, place, torch.zeros_like(base).requires_grad_()
    return tensors


def weights_of(tensors):
    return {name: base + change for name, (base, _, change) in tensors.items()}


def sparsify(name, change):
    """Keeps only the largest changes of a matrix. All get the same magnitude. Preserves their total effect."""
    if change.dim() < 2:
        return change
    least = next(size for part, size in SPARSE.items() if part in name)
    kept = change.abs() > least * change.square().mean().sqrt()
    step = change.square().sum() / change[kept].abs().sum().clamp_min(1e-12)
    return torch.where(kept, step * change.sign(), 0.0)


def print_json(**row):
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def main(path):
    job = json.loads(Path(path).read_text())
    torch.set_num_threads(1)
    data = Path(job["network"]).read_bytes()
    model = onnx.load_from_string(data)
    with np.load(job["pairs"]) as held:
        train, valid, others = held["train"], held["valid"], held["others"]
        weight = torch.from_numpy(held["weight"])
    train, valid = np.concatenate([train, valid]) if job["begin"] else train, valid[:EVALUATION_PAIRS]
    network = Network(model).only(job["output"], job["known"])
    loss = Loss(weight, job["cell"])
    tensors = trainable(model, data, job["prefixes"])
    parameters = [change for *_, change in tensors.values()]
    steps, batch, kept = job["steps"], job["batch"], job["kept"] if len(others) else 0
    optimiser = torch.optim.AdamW(parameters, lr=job["rate"], weight_decay=0.0, betas=(0.9, 0.99))
    r = np.random.default_rng(job["seed"])
    pool = ThreadPoolExecutor(job["threads"], initializer=torch.set_num_threads, initargs=(1,))

    def tensor(crops):
        t = torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float() / 255
        return t.contiguous(memory_format=torch.channels_last)

    def residual(x, weights, low=None):
        given = {job["input"]: x, job["past"]: torch.zeros_like(x), job["known"]: torch.zeros(1, 1, 1, 1)}
        given[job["state"]] = torch.zeros(len(x), *job["state_shape"])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16 if low is None else low):
            return network(given, weights).float()

    def seconds(low):
        for _ in range(2):  # the first run includes warm-up
            began = time.perf_counter()
            residual(tensor(valid[:1, 1]), {}, low)
        return time.perf_counter() - began

    # bfloat16 takes ten times as long as fp32 on a processor that does not support it.
    bf16 = job["bf16"] and seconds(True) < seconds(False)

    def held_out(weights):
        """Returns the loss on the held-out pairs."""

        def one(k):
            with torch.no_grad():
                t, x = tensor(valid[k : k + 4, 0]), tensor(valid[k : k + 4, 1])
                return loss(x, residual(x, weights), t)

        return float(torch.cat([*pool.map(one, range(0, len(valid), 4))]).mean())

    def restore(values):
        with torch.no_grad():
            for p, value in zip(parameters, values, strict=True):
                p.copy_(value)

    if job["begin"]:
        restore(torch.load(job["begin"], weights_only=True)["best_parts"])
    best = at_first = held_out(weights_of(tensors))
    best_parts, before, since = None, 0.0, time.monotonic()
    done, checkpoint, begin = 0, Path(job["checkpoint"]), Path(job["begin"])
    # A checkpoint older than the other job's belongs to different weights, so it is not used.
    if checkpoint.is_file() and (not job["begin"] or checkpoint.stat().st_mtime > begin.stat().st_mtime):
        kept_of = torch.load(checkpoint, weights_only=True)
        restore(kept_of["parameters"])
        optimiser.load_state_dict(kept_of["optimiser"])
        done, before, best, best_parts = (kept_of[name] for name in ("step", "seconds", "best", "best_parts"))
        r.bit_generator.state = json.loads(kept_of["random"])

    def piece(x, t, weights):
        """Computes the gradients of the loss on a part of the batch."""
        if t is None:
            with torch.no_grad():
                t = x + locked(x, residual(x, {}), loss.cell)
        leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
        total = loss(x, residual(x, leaves), t).sum() * (100 / batch)
        return torch.autograd.grad(total, list(leaves.values()))

    step, spent = done, before
    while step < steps and spent < job["seconds"]:
        step += 1
        # The learning rate follows the steps or the time, whichever is nearer to its end.
        gone = max(step / steps, spent / job["seconds"])
        for group in optimiser.param_groups:
            group["lr"] = job["rate"] * min(1, step / WARMUP_STEPS) * (0.5 + 0.5 * math.cos(math.pi * gone)) + 1e-7
        chosen = r.integers(0, len(train), batch)
        t, x = tensor(train[chosen, 0]), tensor(train[chosen, 1])
        for k in range(batch):
            if r.random() < CLEAN_SHARE:
                x[k] = t[k]
            if r.random() < 0.5:
                t[k], x[k] = t[k].flip(2), x[k].flip(2)
        pairs_per_part, held = (-(-rows // job["threads"]) for rows in (batch, kept))
        work = list(zip(x.split(pairs_per_part), t.split(pairs_per_part), strict=True))
        if kept:
            work += [(part, None) for part in tensor(others[r.integers(0, len(others), kept)]).split(held)]
        weights = weights_of(tensors)
        sums = []
        for gradients in pool.map(piece, *zip(*work, strict=True), [weights] * len(work)):
            sums = [a + b for a, b in zip(sums, gradients, strict=True)] if sums else list(gradients)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(list(weights.values()), sums)
        torch.nn.utils.clip_grad_norm_(parameters, 20.0)
        optimiser.step()
        spent = before + time.monotonic() - since
        if step % EVALUATION_STEPS == 0 or step == steps or spent >= job["seconds"]:
            now = held_out(weights_of(tensors))
            spent = before + time.monotonic() - since  # an evaluation takes as long as one or two steps
            if now < best:
                best, best_parts = now, [p.detach().clone() for p in parameters]
            state = {
                "parameters": [p.detach() for p in parameters],
                "optimiser": optimiser.state_dict(),
                "step": step,
                "seconds": spent,
                "best": best,
                "best_parts": best_parts,
                "random": json.dumps(r.bit_generator.state),
            }
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
            print_json(step=step, steps=steps, loss=round(now, 6), seconds=round(spent, 1))
    if best_parts is not None:
        delta = np.concatenate(
            [sparsify(*part).numpy().astype(np.float16).ravel() for part in zip(tensors, best_parts, strict=True)]
        )
        np.savez(job["out"], places=np.array([place for _, place, _ in tensors.values()], np.int64), delta=delta)
    print_json(done=True, better=best_parts is not None, step=step, seconds=round(before + time.monotonic() - since, 1),
        loss=[round(at_first, 6), round(best, 6)], count=sum(p.numel() for p in parameters))  # fmt: skip


def end_with_parent():
    """Exits when standard input ends. This happens when the parent rtface process ends."""
    while os.read(0, 1):  # a file object's lock would block interpreter shutdown
        pass
    os._exit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=end_with_parent, daemon=True).start()
    main(sys.argv[1])
