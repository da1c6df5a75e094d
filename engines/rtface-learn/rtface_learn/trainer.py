# pyright: basic, reportMissingImports=false
# (pyright does not find torch and onnx because they are installed in another Python.)
"""Trains weights for one person. Needs numpy, torch and onnx, but does not import rtface.

``python trainer.py JOB.json``: JOB.json contains a network file, an npz file of pairs, the tensors to train and a
duration. The script prints JSON lines: ``{"step": …, "steps": …}`` during training, ``{"done": true, …}`` at the end.
Its output is the change of weights that had the least loss on held-out pairs. Each evaluation also writes a checkpoint,
from which the same job can continue. If a job's `begin` is the checkpoint of another job, training starts from the
result of that job and includes the held-out pairs, so the loss on the held-out pairs no longer measures a gain.

Pairs are uint8 M×2×h×w×3 RGB (truth, engine input) of the engine's region. `others`, M×h×w×3, contains faces of other
people, for which the network's output must not change. The loss is the same as for the shipped engines
(engines/training/losses/restoration.py): a Charbonnier loss on the corrected picture after the colour lock and on the
bands of its Laplacian pyramid, weighted by the oval.
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
"""Share of pairs whose input is the truth; steps between evaluations; warm-up steps; held-out pairs per evaluation."""
SPARSE = {"core.mid": 2.0, "": 0.6}
"""Part of a tensor's name → threshold, relative to the root mean square, below which changes are omitted to save space.
Deep layers contain two thirds of all values, and omissions matter least there."""


class Network:
    """An ONNX network with some trainable tensors."""

    def __init__(self, model):
        self.tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
        self.nodes = []
        for node in model.graph.node:
            attributes = {}
            for item in node.attribute:
                value = helper.get_attribute_value(item)
                attributes[item.name] = value.decode() if isinstance(value, bytes) else value
            self.nodes.append((node.op_type, list(node.input), list(node.output), attributes))

    def only(self, output, zero):
        """Removes nodes that do not affect `output` if tensor `zero` is 0. Half of the operations process the previous
        frame, which does not exist for a face's first frame."""
        zeros, aliases = {zero}, {}
        for kind, names, results, _ in self.nodes:
            names[:] = [aliases.get(name, name) for name in names]
            keeps_zero = kind == "Cast" or (kind == "Conv" and len(names) == 2)
            if (kind == "Mul" and zeros.intersection(names)) or (keeps_zero and names[0] in zeros):
                zeros.add(results[0])
            elif kind in ("Add", "Sub") and names[1] in zeros:
                aliases[results[0]] = names[0]
            elif kind == "Add" and names[0] in zeros:
                aliases[results[0]] = names[1]
        needed, needed_nodes = {aliases.get(output, output)}, []
        for node in reversed(self.nodes):
            if needed.intersection(node[2]):
                needed.update(node[1])
                needed_nodes.append(node)
        unknown = {kind for kind, *_ in needed_nodes} - OPERATIONS.keys()
        if unknown:
            raise SystemExit(f"the trainer cannot compute these operations: {', '.join(sorted(unknown))}")
        self.nodes, self.output = needed_nodes[::-1], aliases.get(output, output)
        return self

    def __call__(self, values, trained):
        """Runs the network. `values`: inputs by name; `trained`: by name, tensors that replace tensors of the file."""
        tensors = {**self.tensors, **values, **trained}
        for kind, names, results, attributes in self.nodes:
            tensors[results[0]] = OPERATIONS[kind](attributes, *(tensors.get(name) for name in names))
        return tensors[self.output]


def conv(a, x, weight, bias=None):
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    assert (top, left) == (bottom, right), "asymmetric padding is not supported"
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


def with_common_type(operation):
    return lambda a, x, y: operation(x.float(), y.float()) if x.dtype != y.dtype else operation(x, y)


OPERATIONS = {
    "Add": with_common_type(torch.add),
    "Cast": cast,
    "Clip": lambda a, x, low, high: x.clamp(float(low), float(high)),
    "Conv": conv,
    "DepthToSpace": depth_to_space,
    "Gemm": gemm,
    "Mul": with_common_type(torch.mul),
    "ReduceMean": lambda a, x: x.mean(a["axes"], keepdim=bool(a["keepdims"])),
    "ReduceSum": lambda a, x, axes: x.sum(axes.tolist(), keepdim=bool(a["keepdims"])),
    "Relu": lambda a, x: x.relu(),
    "Reshape": lambda a, x, shape: x.reshape([x.shape[n] if s == 0 else s for n, s in enumerate(shape.tolist())]),
    "Resize": resize,
    "Sigmoid": lambda a, x: x.sigmoid(),
    "Sub": with_common_type(torch.sub),
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


def lock_colour(crop, residual, cell):
    """Applies rtface's colour lock to a correction."""
    sample = crop[..., ::cell, ::cell]
    chroma = (COLOURLESS * (sample - luma(sample)).abs().mean((1, 2, 3), keepdim=True)).clamp(1e-6, CHROMA_LIMIT)
    low = lowpass(residual, cell)
    light = luma(low)
    colour = low - light
    peak = colour.abs().amax(1, keepdim=True).clamp_min(1e-9)
    limited = LUMA_LIMIT * torch.tanh(light / LUMA_LIMIT) + colour * (chroma * torch.tanh(peak / chroma) / peak)
    return residual - F.interpolate(low - limited, size=residual.shape[-2:], mode="bilinear", align_corners=False)


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
        """Computes the loss of each sample."""
        raw = F.avg_pool2d(crop + residual - truth, self.cell)
        e = crop + lock_colour(crop, residual, self.cell) - truth
        total = self.charbonnier(e) + RAW * self.charbonnier(raw)
        for weight in BANDS:
            total = total + weight * self.charbonnier(highpass(e))
            e = F.avg_pool2d(e, 2)
        return total


# --- trained tensors ---


def trainable(model, data, prefixes):
    """Returns, by tensor name: shipped values; (offset, item size, rows, columns) in the file; change to train."""
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
    """Keeps only the largest changes of a matrix. All get the same magnitude, which preserves the total effect."""
    if change.dim() < 2:
        return change
    threshold = next(size for part, size in SPARSE.items() if part in name)
    mask = change.abs() > threshold * change.square().mean().sqrt()
    step = change.square().sum() / change[mask].abs().sum().clamp_min(1e-12)
    return torch.where(mask, step * change.sign(), 0.0)


def print_json(**row):
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def main(path):
    job = json.loads(Path(path).read_text())
    torch.set_num_threads(1)
    data = Path(job["network"]).read_bytes()
    model = onnx.load_from_string(data)
    with np.load(job["pairs"]) as arrays:
        train, valid, others = arrays["train"], arrays["valid"], arrays["others"]
        weight = torch.from_numpy(arrays["weight"])
    train, valid = np.concatenate([train, valid]) if job["begin"] else train, valid[:EVALUATION_PAIRS]
    network = Network(model).only(job["output"], job["known"])
    loss = Loss(weight, job["cell"])
    tensors = trainable(model, data, job["prefixes"])
    parameters = [change for *_, change in tensors.values()]
    steps, batch, count = job["steps"], job["batch"], job["kept"] if len(others) else 0
    optimiser = torch.optim.AdamW(parameters, lr=job["rate"], weight_decay=0.0, betas=(0.9, 0.99))
    r = np.random.default_rng(job["seed"])
    pool = ThreadPoolExecutor(job["threads"], initializer=torch.set_num_threads, initargs=(1,))

    def tensor(crops):
        t = torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float() / 255
        return t.contiguous(memory_format=torch.channels_last)

    def residual(x, weights, use_bf16=None):
        inputs = {job["input"]: x, job["past"]: torch.zeros_like(x), job["known"]: torch.zeros(1, 1, 1, 1)}
        inputs[job["state"]] = torch.zeros(len(x), *job["state_shape"])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16 if use_bf16 is None else use_bf16):
            return network(inputs, weights).float()

    def measure_run(use_bf16):
        for _ in range(2):  # the first run includes warm-up
            began = time.perf_counter()
            residual(tensor(valid[:1, 1]), {}, use_bf16)
        return time.perf_counter() - began

    # On a processor without bfloat16 support, bfloat16 takes ten times as long as fp32.
    bf16 = job["bf16"] and measure_run(True) < measure_run(False)

    def validate(weights):
        """Returns the loss on the held-out pairs."""

        def batch_loss(k):
            with torch.no_grad():
                t, x = tensor(valid[k : k + 4, 0]), tensor(valid[k : k + 4, 1])
                return loss(x, residual(x, weights), t)

        return float(torch.cat([*pool.map(batch_loss, range(0, len(valid), 4))]).mean())

    def restore(values):
        with torch.no_grad():
            for p, value in zip(parameters, values, strict=True):
                p.copy_(value)

    if job["begin"]:
        restore(torch.load(job["begin"], weights_only=True)["best_parts"])
    best = first_loss = validate(weights_of(tensors))
    best_delta, past_s, start = None, 0.0, time.monotonic()
    done_steps, checkpoint, previous_job = 0, Path(job["checkpoint"]), Path(job["begin"])
    # A checkpoint older than the previous job's belongs to other weights, so it is not used.
    if checkpoint.is_file() and (not job["begin"] or checkpoint.stat().st_mtime > previous_job.stat().st_mtime):
        saved = torch.load(checkpoint, weights_only=True)
        restore(saved["parameters"])
        optimiser.load_state_dict(saved["optimiser"])
        done_steps, past_s, best, best_delta = (saved[key] for key in ("step", "seconds", "best", "best_parts"))
        r.bit_generator.state = json.loads(saved["random"])

    def part_gradients(x, t, weights):
        """Computes the gradients of the loss for a part of the batch. `t` is None for other people's faces."""
        if t is None:
            with torch.no_grad():
                t = x + lock_colour(x, residual(x, {}), loss.cell)
        leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
        total = loss(x, residual(x, leaves), t).sum() * (100 / batch)
        return torch.autograd.grad(total, list(leaves.values()))

    step, spent = done_steps, past_s
    while step < steps and spent < job["seconds"]:
        step += 1
        # The learning rate depends on steps or time, whichever is closer to its limit.
        progress = max(step / steps, spent / job["seconds"])
        for group in optimiser.param_groups:
            group["lr"] = job["rate"] * min(1, step / WARMUP_STEPS) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-7
        indices = r.integers(0, len(train), batch)
        t, x = tensor(train[indices, 0]), tensor(train[indices, 1])
        for k in range(batch):
            if r.random() < CLEAN_SHARE:
                x[k] = t[k]
            if r.random() < 0.5:
                t[k], x[k] = t[k].flip(2), x[k].flip(2)
        pairs_per_part, others_per_part = (-(-rows // job["threads"]) for rows in (batch, count))
        work = list(zip(x.split(pairs_per_part), t.split(pairs_per_part), strict=True))
        if count:
            work += [(x, None) for x in tensor(others[r.integers(0, len(others), count)]).split(others_per_part)]
        weights = weights_of(tensors)
        sums = []
        for gradients in pool.map(part_gradients, *zip(*work, strict=True), [weights] * len(work)):
            sums = [a + b for a, b in zip(sums, gradients, strict=True)] if sums else list(gradients)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(list(weights.values()), sums)
        torch.nn.utils.clip_grad_norm_(parameters, 20.0)
        optimiser.step()
        spent = past_s + time.monotonic() - start
        if step % EVALUATION_STEPS == 0 or step == steps or spent >= job["seconds"]:
            current_loss = validate(weights_of(tensors))
            spent = past_s + time.monotonic() - start  # an evaluation takes as long as one or two steps
            if current_loss < best:
                best, best_delta = current_loss, [p.detach().clone() for p in parameters]
            state = {
                "parameters": [p.detach() for p in parameters],
                "optimiser": optimiser.state_dict(),
                "step": step,
                "seconds": spent,
                "best": best,
                "best_parts": best_delta,
                "random": json.dumps(r.bit_generator.state),
            }
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
            print_json(step=step, steps=steps, loss=round(current_loss, 6), seconds=round(spent, 1))
    if best_delta is not None:
        delta = np.concatenate(
            [sparsify(*part).numpy().astype(np.float16).ravel() for part in zip(tensors, best_delta, strict=True)]
        )
        np.savez(job["out"], places=np.array([place for _, place, _ in tensors.values()], np.int64), delta=delta)
    print_json(done=True, better=best_delta is not None, step=step, seconds=round(past_s + time.monotonic() - start, 1),
        loss=[round(first_loss, 6), round(best, 6)], count=sum(p.numel() for p in parameters))  # fmt: skip


def end_with_parent():
    """Exits when standard input closes. This happens when the parent process (rtface) ends."""
    while os.read(0, 1):  # os.read, because a file object's lock would block interpreter shutdown
        pass
    os._exit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=end_with_parent, daemon=True).start()
    main(sys.argv[1])
