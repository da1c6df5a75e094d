"""Run by test_nvidia.py in a process of its own: a film through the real card's code, on a driver that is not there."""

import ctypes
import json

import numpy as np
from card_rig import FakePlan
from test_cuda_device import Only, codes, film, run

from rtface.device.cpu import CpuDevice
from rtface.device.cuda import CudaDevice
from rtface.device.owner import Owner
from rtface.device.programs import open_card
from rtface.engine import LoadedEngine
from rtface.engine.card_engine import CardEngine
from rtface.engine.plan import Verdict
from rtface.engine.recipe import find_recipes, load_recipe
from rtface.stats import Stats


class Plan(FakePlan):
    """Computes at once: this driver does everything in order. Its memory is the host's."""

    def __init__(self, recipe, card):
        super().__init__(recipe, card, capturable=False)

    def _array(self, name, batch):
        _, shape = self.ports[name]
        memory = (ctypes.c_float * (batch * int(np.prod(shape)))).from_address(self._buffers[name].address)
        return np.ctypeslib.as_array(memory).reshape(batch, *shape)

    def enqueue(self, handle, batch):
        self.card.defer = lambda handle, step: step()
        super().enqueue(handle, batch)


owner = Owner(open_card)
free = owner.card.free_bytes()
recipe = load_recipe(find_recipes()["rtface-s"])
engine = CardEngine(owner, recipe, Plan(recipe, owner.card), Verdict(100.0, 50.0, 0.0), "for a test")
device, stats = CudaDevice(owner), Stats()
before = codes(film(frames=4)[0])
mine = run(device, Only(engine), film(frames=4), stats)
on_cpu = LoadedEngine(recipe, device="onnx")
theirs = run(CpuDevice(), Only(on_cpu), film(frames=4))
on_cpu.close()
worst = max(int(np.abs(a - b).max()) for x, y in zip(mine, theirs, strict=True)
            for a, b in zip(codes(x), codes(y), strict=True))
changed = float(np.mean(codes(mine[0])[0] != before[0]))
engine.close()
device.close()
left = free - owner.run(owner.card.free_bytes).result()
owner.close()
print(json.dumps({"device": device.name, "touched": [f.touched for f in mine], "faults": stats.counters["faults"],
                  "worst": worst, "changed": changed, "left": left}))
