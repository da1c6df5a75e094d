"""The thread that owns a GPU: order, batches of what waits, failures that reach who asked, and an end."""

import threading
from concurrent.futures import Future
from contextlib import nullcontext
from unittest.mock import MagicMock

import pytest

from rtface.device.cuda.stream_thread import StreamThread
from rtface.errors import DeviceLost, EngineError, MissingComponent
from tests.device.cuda.fake_gpu import FakeGpu
from tests.device.cuda.gpu_rig import hold


class Network:
    """Makes batches of at most three, and notes them; each lasts until someone waits for its event."""

    def __init__(self, streams, max_batch=3):
        self.streams, self.max_batch, self.batches = streams, max_batch, []

    def enqueue(self, batch):
        self.batches.append([r.number for r in batch])
        event = self.streams.gpu.event()
        self.streams.compute.record(event)
        for request in batch:
            request.future.set_result(request.number)
        return event


class Request:
    def __init__(self, network, number, after=None):
        self.network, self.number, self.after, self.future = network, number, after, Future()

    @property
    def ready(self):
        return self.after is None or self.after.done()


@pytest.fixture
def streams():
    streams = StreamThread(lambda: FakeGpu(lambda *_: None))
    yield streams
    streams.close()


def submitted(streams, requests):
    """What they gave, submitted together."""
    gate = hold(streams)
    for request in requests:
        streams.submit(request)
    gate.set()
    return [request.future.result(10) for request in requests]


def test_waiting_crops_form_one_batch_and_one_never_waits(streams):
    network = Network(streams)
    first = Request(network, 0)
    streams.submit(first)
    assert first.future.result(10) == 0
    assert submitted(streams, [Request(network, k) for k in range(1, 6)]) == [1, 2, 3, 4, 5]
    assert network.batches == [[0], [1, 2, 3], [4, 5]]


def test_a_face_s_next_frame_waits_for_the_one_before(streams):
    network = Network(streams)
    first, other = Request(network, 1), Request(network, 2)
    second = Request(network, 3, after=first.future)
    third = Request(network, 4, after=second.future)
    assert submitted(streams, [first, second, third, other]) == [1, 3, 4, 2]
    assert network.batches == [[1, 2], [3], [4]]


class Slow:
    """An event that ends when it is told to; `asked` when somebody waits."""

    def __init__(self, error=None):
        self.asked, self.gate, self.error = threading.Event(), threading.Event(), error

    def synchronize(self):
        self.asked.set()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error


def crowded(streams, requests, error=None):
    """Three crops one by one: two batches on the GPU, and one that waits for the first to end."""
    network, first = Network(streams, max_batch=1), Slow(error)
    enqueue = network.enqueue
    network.enqueue = lambda batch: first if enqueue(batch) and network.batches == [[0]] else Slow()
    requests += [Request(network, k) for k in range(3)]
    for request in requests:
        streams.submit(request)
    assert first.asked.wait(10)
    return first


def test_a_crop_waiting_for_memory_does_not_block_the_owner(streams):
    requests = []
    first = crowded(streams, requests)
    assert streams.run(lambda: "a look").result(10) == "a look"
    assert [request.future.done() for request in requests] == [True, True, False]
    late = Request(requests[0].network, 3)
    late.network.max_batch = 2
    streams.submit(late)
    first.gate.set()
    assert requests[2].future.result(10) == 2
    assert late.future.result(10) == 3
    assert late.network.batches == [[0], [1], [2, 3]]  # what came while it waited joined it


@pytest.mark.parametrize("error", [DeviceLost("gone"), EngineError("an odd one")])
def test_a_failed_batch_reports_and_blocks_no_one(streams, error):
    requests = []
    crowded(streams, requests, error).gate.set()
    with pytest.raises(DeviceLost) if isinstance(error, DeviceLost) else nullcontext():
        assert requests[2].future.result(10) == 2


def test_after_the_loss_of_the_gpu_everything_says_so(streams):
    streams.gpu.lost = True
    with pytest.raises(DeviceLost, match="stopped responding"):
        streams.run(lambda: streams.compute.record(streams.gpu.event())).result(10)
    streams.gpu.lost = False  # whatever it says now: its contents are gone
    request = Request(Network(streams), 1)
    streams.submit(request)
    with pytest.raises(DeviceLost):
        request.future.result(10)


def test_a_gpu_that_fails_to_open_reports_why_and_has_no_thread():
    with pytest.raises(MissingComponent, match="no driver"):
        StreamThread(MagicMock(side_effect=MissingComponent("no driver")))
    assert not [t for t in threading.enumerate() if t.name == "rtface-GPU"]


def test_what_waits_is_done_before_the_end():
    streams = StreamThread(lambda: FakeGpu(lambda *_: None))
    network = Network(streams)
    gate = hold(streams)
    requests = [Request(network, k) for k in range(4)]
    for request in requests:
        streams.submit(request)
    threading.Timer(0.05, gate.set).start()
    streams.close()
    streams.close()
    assert [r.future.result(0) for r in requests] == [0, 1, 2, 3]
    with pytest.raises(EngineError, match="closed"):
        streams.run(lambda: None)
