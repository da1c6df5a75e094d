"""The thread that owns a card: everything that is put on its streams is put there by this thread, in order.

Three streams: `up` copies to the card, `compute` runs kernels and networks, `down` copies from it; events order them,
so that the copies of neighbouring frames overlap with the computing. A fourth, `look`, is for whoever waits for a small
picture (trackers, the average over time): what is put there does not queue behind the networks. Crops for networks wait
here until the card has room for another batch, and go in batches of whatever is waiting then: nobody waits for a batch
to fill.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from rtface.device.card import Card, Event, Stream
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory

log = logging.getLogger("rtface")

T = TypeVar("T")

# Batches on the card at a time: one that runs, one that is ready to. More would only make small batches.
_IN_FLIGHT = 2


class Request(Protocol):
    """A crop that waits for a network."""

    @property
    def network(self) -> Network: ...

    @property
    def ready(self) -> bool:
        """Whether what it needs of the frame before is on its way."""
        ...

    def fail(self, error: BaseException) -> None: ...


class Network(Protocol):
    """What makes batches of requests."""

    @property
    def max_batch(self) -> int: ...

    def enqueue(self, batch: list[Any]) -> Event:
        """Puts a batch on the compute stream, and keeps every promise of it; the event marks its end."""
        ...


class Owner:
    """See the module.

    Attributes:
        card: whose it is.
        up, compute, down, look: its streams, for steps that run here only.
        idle: each frees what is reserved and not in use (`reserve`); called on the owner's thread.
    """

    def __init__(self, open_card: Callable[[], Card]) -> None:
        """Opens the card in a new thread; raises what `open_card` raises."""
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: deque[Request] = deque()
        self._in_flight: deque[Event] = deque()
        self._lost: DeviceLost | None = None
        self._closed = False
        self.idle: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._loop, name="rtface-card", daemon=True)
        self._thread.start()
        self.card: Card
        self.up: Stream
        self.compute: Stream
        self.down: Stream
        self.look: Stream

        def start() -> None:
            self.card = open_card()
            self.up, self.compute, self.down = (self.card.stream() for _ in range(3))
            self.look = self.card.stream(urgent=True)

        try:
            self.run(start).result()
        except BaseException:
            self._end()
            raise

    def run(self, step: Callable[[], T]) -> Future[T]:
        """Has the owner do something on the card."""
        promise: Future[T] = Future()

        def do() -> None:
            try:
                promise.set_result(self._guarded(step))
            except BaseException as error:  # noqa: BLE001 - handed to who asked
                promise.set_exception(error)

        self._put(do)
        return promise

    def reserve(self, step: Callable[[], T]) -> T:
        """Has the owner do something that reserves memory, and waits for it; where there is none left it is tried once
        more, after all that is idle on the card has been freed. Raises OutOfDeviceMemory."""
        try:
            return self.run(step).result()
        except OutOfDeviceMemory as error:
            log.debug("what is idle on the card is freed: %s", error)
            self.run(self._trim).result()
            return self.run(step).result()

    def _trim(self) -> None:
        self.settle(self.compute)  # what nobody remembers any more may still be read there
        for free in tuple(self.idle):
            free()

    def settle(self, stream: Stream) -> None:
        """Waits for all that is on a stream. The owner's thread only, and never while frames go through."""
        done = self.card.event()
        stream.record(done)
        done.synchronize()

    def submit(self, request: Request) -> None:
        """Gives a crop to its network; the answer, or why there is none, comes through the request."""
        self._put(lambda: self._waiting.append(request))

    def _put(self, item: Callable[[], None]) -> None:
        if self._closed:
            raise EngineError("the card was closed")
        self._inbox.put(item)

    def _guarded(self, step: Callable[[], T]) -> T:
        if self._lost is not None:
            raise DeviceLost(str(self._lost))
        try:
            return step()
        except DeviceLost as error:
            self._lost = error
            raise

    def _loop(self) -> None:
        while (item := self._inbox.get()) is not None:
            item()
            del item
            while self._waiting:
                self._take_in()
                self._make_room()
                self._take_in()  # what came while waiting joins the batch
                self._flush()

    def _take_in(self) -> None:
        while True:
            try:
                item = self._inbox.get_nowait()
            except queue.Empty:
                return
            if item is None:  # closing: what waits is still done
                self._inbox.put(None)
                return
            item()

    def _make_room(self) -> None:
        while len(self._in_flight) >= _IN_FLIGHT:
            event = self._in_flight.popleft()
            try:
                self._guarded(event.synchronize)
            except EngineError:  # the next batch meets it too, and says so
                self._in_flight.clear()

    def _flush(self) -> None:
        """Puts one batch on the card: the oldest request, and whatever waits for the same network."""
        network = self._waiting[0].network
        batch = [r for r in self._waiting if r.network is network and r.ready][:network.max_batch] or [self._waiting[0]]
        taken = set(map(id, batch))
        self._waiting = deque(r for r in self._waiting if id(r) not in taken)
        try:
            self._in_flight.append(self._guarded(lambda: network.enqueue(batch)))
        except BaseException as error:  # noqa: BLE001 - handed to who asked
            for request in batch:
                request.fail(error)

    def close(self) -> None:
        """Does what waits, then ends the thread and the streams; safe to call twice."""
        if self._closed:
            return
        self.run(self.card.close)
        self._end()

    def _end(self) -> None:
        self._closed = True
        self._inbox.put(None)
        self._thread.join(10.0)
