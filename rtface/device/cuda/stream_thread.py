"""The thread that owns a GPU: it enqueues all work on the GPU's streams, in order.

Stream `up` uploads, `compute` cuts crops and runs networks, `finish` corrects and pastes, and `down` downloads. Events
synchronise these streams, so copies of neighbouring frames overlap with computation, and a frame is finished while the
network processes the next ones. A fifth stream, `urgent`, is for small downloads that a thread waits for (trackers, the
average over time), which therefore do not queue behind the networks.

Crops for networks are queued until the GPU can accept another batch. A batch contains all queued crops of its network;
no crop waits for a batch to fill. A second thread waits for batches to end, so that the first can continue with copies
and corrections. All GPU work that a batch needs is enqueued before the batch, so this wait always ends. Engines that
send answers to the host have their own streams and threads (`engine.cuda.hosted`).
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from rtface.device.cuda.gpu import Event, Gpu, Stream
from rtface.errors import DeviceLost, EngineError, log
from rtface.protocols import Restored

T = TypeVar("T")

USUAL, FINISH, URGENT = 1, 2, 3
"""Stream priorities: usual work on frames, the frame that the loop waits for, and small downloads. Work that no frame
waits for has priority 0."""

# One batch runs and the next one is enqueued. A higher limit would only make batches smaller.
_MAX_BATCHES = 2


@dataclass(slots=True)
class CropRequest:
    """A crop that waits for a network.

    Attributes:
        network: a `rtface.engine.cuda.engine.GpuEngine`, which runs batches of requests.
        face: the `FaceSlot` of the crop.
        after: future of the answer for the previous frame, if the network is recurrent.
        future: future of the crop's answer.
    """

    network: Any
    face: Any
    after: Future[Restored[Any]] | None
    future: Future[Restored[Any]] = field(default_factory=Future[Restored[Any]])

    @property
    def ready(self) -> bool:
        """True if the previous answer is enqueued, or if none is needed."""
        return self.after is None or self.after.done()


class StreamThread:
    """Enqueues all work on one GPU's streams, and batches crop requests.

    Attributes:
        gpu: the GPU.
        up, compute, finish, down, urgent: the GPU's streams; use them only in functions that run on this thread.
    """

    def __init__(self, open_gpu: Callable[[], Gpu]) -> None:
        """Opens the GPU in a new thread; raises what `open_gpu` raises."""
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: deque[CropRequest] = deque()
        self._in_flight: deque[Event] = deque()
        self._batch_ends: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._making_room = self._ending = False
        self._close_gpu: Callable[[], None] = lambda: None
        self._lost: DeviceLost | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="rtface-GPU", daemon=True)
        self._thread.start()
        threading.Thread(target=self._wait, name="rtface-GPU-room", daemon=True).start()
        self.gpu: Gpu
        self.up: Stream
        self.compute: Stream
        self.finish: Stream
        self.down: Stream
        self.urgent: Stream

        def start() -> None:
            self.gpu = open_gpu()
            self.up, self.compute, self.down = (self.gpu.stream(USUAL) for _ in range(3))
            self.urgent, self.finish = self.gpu.stream(URGENT), self.gpu.stream(FINISH)

        try:
            self.run(start).result()
        except BaseException:
            self._end()
            raise

    def run(self, step: Callable[[], T]) -> Future[T]:
        """Calls `step` on this thread. The future returns its result or error."""
        promise: Future[T] = Future()

        def run_step() -> None:
            try:
                promise.set_result(self._checked(step))
            except BaseException as error:  # noqa: BLE001 - passed to the caller
                promise.set_exception(error)

        self._put(run_step)
        return promise

    def settle(self, stream: Stream) -> None:
        """Waits for all work on a stream. Call it only on the stream thread, and not while frames are processed."""
        event = self.gpu.event()
        stream.record(event)
        event.synchronize()

    def submit(self, request: CropRequest) -> None:
        """Queues a crop for its network. The request's future returns the answer or error."""
        self._put(lambda: self._waiting.append(request))

    def _put(self, item: Callable[[], None]) -> None:
        if self._closed:
            raise EngineError("the GPU was closed", code="gpu_closed")
        self._inbox.put(item)

    def _checked(self, step: Callable[[], T]) -> T:
        if self._lost is not None:
            raise DeviceLost(self._lost.message)
        try:
            return step()
        except DeviceLost as error:
            self._lost = error
            raise

    def _loop(self) -> None:
        while not (self._ending and not self._waiting):
            self._handle(self._inbox.get())
            while self._waiting and not self._making_room:
                self._drain_inbox()  # adds requests that have just arrived to the batch
                if len(self._in_flight) < _MAX_BATCHES:
                    self._flush()
                else:
                    self._making_room = True
                    self._batch_ends.put(self._in_flight.popleft())
        self._batch_ends.put(None)
        try:
            self._close_gpu()
        except EngineError as error:  # no caller is left to report it to
            log.debug("the GPU was not closed: %s", error)

    def _handle(self, item: Callable[[], None] | None) -> None:
        if item is None:
            self._ending = True
        else:
            item()

    def _drain_inbox(self) -> None:
        while True:
            try:
                self._handle(self._inbox.get_nowait())
            except queue.Empty:
                return

    def _wait(self) -> None:
        """Notifies the stream thread when a batch has ended. Runs on the second thread."""
        while (event := self._batch_ends.get()) is not None:
            failure: BaseException | None = None
            try:
                event.synchronize()
            except BaseException as error:  # noqa: BLE001 - passed to the stream thread
                failure = error
            self._inbox.put(partial(self._has_room, failure))

    def _has_room(self, failure: BaseException | None) -> None:
        self._making_room = False
        if failure is not None:
            self._in_flight.clear()
        if isinstance(failure, DeviceLost):  # other errors recur in the next batch, which reports them
            self._lost = failure

    def _flush(self) -> None:
        """Submits one batch: the oldest request and all other ready requests for its network."""
        network = self._waiting[0].network
        batch = [r for r in self._waiting if r.network is network and r.ready][: network.max_batch] or [
            self._waiting[0]
        ]
        batch_ids = set(map(id, batch))
        self._waiting = deque(r for r in self._waiting if id(r) not in batch_ids)
        try:
            self._in_flight.append(self._checked(lambda: network.enqueue(batch)))
        except BaseException as error:  # noqa: BLE001 - passed to the callers
            for request in batch:
                request.future.set_exception(error)

    def close(self) -> None:
        """Finishes queued work, then stops the threads and closes the GPU. Safe to call twice."""
        if self._closed:
            return
        self._close_gpu = self.gpu.close
        self._end()

    def _end(self) -> None:
        self._closed = True
        self._inbox.put(None)
        self._thread.join(10.0)
