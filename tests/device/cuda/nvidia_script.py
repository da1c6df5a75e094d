"""Run by test_nvidia.py in a process of its own, with a driver that is not there: one JSON line with what it saw."""

import json
import os
import threading

import numpy as np

from rtface.device.cuda.nvidia import NvidiaGpu
from rtface.errors import RtfaceError


def error_of(step):
    try:
        step()
    except RtfaceError as error:
        return [type(error).__name__, str(error)]
    return None


gpu = NvidiaGpu(0, lambda capability: [b"\x7fELF"], ["twice"])
seen = {"name": gpu.name, "capability": gpu.capability, "driver": gpu.driver, "free": gpu.free_bytes()}
up, work = gpu.stream(), gpu.stream(9)
host, device, back = gpu.pin(16), gpu.allocate(16), gpu.pin(16)
begun, ready, done = gpu.event(timed=True), gpu.event(), gpu.event(timed=True)
host.bytes().view(np.float32)[:] = 1.5
up.record(begun)
up.copy(device, host, 8)
up.copy(device, host, 8, to_at=8, source_at=8)
up.record(ready)
work.wait(ready)
where, count = np.uint64(device.address), np.int32(4)
work.launch("twice", (1, 1, 1), (4, 1, 1), where, count)
graph = work.capture(lambda: work.launch("twice", (1, 1, 1), (4, 1, 1), where, count))
work.replay(graph)
work.replay(graph, reads=[device], writes=[device])
handles = []
work.call(handles.append)
work.copy(back, device, 16)
work.record(done)
waiter = threading.Thread(target=done.synchronize)  # another thread than the one that opened the GPU
waiter.start()
waiter.join()
seen |= {"values": back.bytes().view(np.float32).tolist(), "done": done.done(), "ms": done.milliseconds_since(begun),
         "handle": handles == [work.handle]}
seen["full"] = error_of(lambda: gpu.allocate(1 << 30))
os.environ["FAKE_CUDA_FAILS"] = "719"
seen["lost"] = [error_of(step) for step in (
    lambda: work.copy(back, device, 16), done.synchronize, done.done, lambda: work.replay(graph),
    lambda: work.launch("twice", (1, 1, 1), (4, 1, 1), where, count))]
del os.environ["FAKE_CUDA_FAILS"]
graph.close()
for memory in (host, device, back):
    memory.close()
    memory.close()
gpu.close()
seen["freed"] = gpu.free_bytes()
seen["absent"] = error_of(lambda: NvidiaGpu(3))
seen["no kernel"] = error_of(lambda: NvidiaGpu(0, lambda capability: [b"\x7fELF"], ["thrice"]))
print(json.dumps(seen))
