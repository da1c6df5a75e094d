"""Connects video streams to PipeWire through its C library, libpipewire."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from queue import Queue
from typing import Any

from rtface.errors import Message, MissingComponent, OutputError
from rtface.live.devices.pipewire_formats import buffers, read_object

OUTPUT, INPUT = 1, 0
"""Directions of a stream."""
Planes = list[tuple[bytes, int]]
"""A frame: data and bytes per row of each plane; data of all planes if it has one entry."""
MISSING = Message("PipeWire does not run here", code="pipewire_absent")

_ERROR, _UNCONNECTED, _PAUSED, _STREAMING = -1, 0, 2, 3  # enum pw_stream_state
_AUTOCONNECT, _MAP_BUFFERS, _DRIVER = 1, 4, 8  # enum pw_stream_flags
_FORMAT, _META_BUSY = 4, 7  # enum spa_param_type, enum spa_meta_type
# Number of buffers; frames without a free one, after which killed readers are assumed to hold all of them.
_BUFFER_COUNT, _MAX_BUSY_FRAMES = 8, 15


class _Chunk(ctypes.Structure):
    _fields_ = (("offset", c_uint32), ("size", c_uint32), ("stride", c_int32), ("flags", c_int32))


class _Data(ctypes.Structure):
    _fields_ = (
        ("type", c_uint32),
        ("flags", c_uint32),
        ("fd", c_int64),
        ("mapoffset", c_uint32),
        ("maxsize", c_uint32),
        ("data", c_void_p),
        ("chunk", POINTER(_Chunk)),
    )


class _Meta(ctypes.Structure):
    _fields_ = (("type", c_uint32), ("size", c_uint32), ("data", c_void_p))


class _SpaBuffer(ctypes.Structure):
    _fields_ = (("n_metas", c_uint32), ("n_datas", c_uint32), ("metas", POINTER(_Meta)), ("datas", POINTER(_Data)))


class _Buffer(ctypes.Structure):
    _fields_ = (("buffer", POINTER(_SpaBuffer)), ("user", c_void_p), ("size", c_uint64), ("requested", c_uint64))


_StateChanged = CFUNCTYPE(None, c_void_p, c_int, c_int, c_char_p)
_ParamChanged = CFUNCTYPE(None, c_void_p, c_uint32, c_void_p)
_Process = CFUNCTYPE(None, c_void_p)
_BufferChanged = CFUNCTYPE(None, c_void_p, c_void_p)


class _Events(ctypes.Structure):  # struct pw_stream_events
    _fields_ = (
        ("version", c_uint32),
        ("destroy", c_void_p),
        ("state_changed", _StateChanged),
        ("control_info", c_void_p),
        ("io_changed", c_void_p),
        ("param_changed", _ParamChanged),
        ("add_buffer", _BufferChanged),
        ("remove_buffer", _BufferChanged),
        ("process", _Process),
        ("drained", c_void_p),
    )


@cache
def _library() -> Any:
    """Loads libpipewire. Raises MissingComponent without it."""
    try:
        library = ctypes.CDLL("libpipewire-0.3.so.0")
    except OSError as error:
        raise MissingComponent(
            "libpipewire-0.3.so.0 cannot be loaded ({why}); install PipeWire: sudo apt install pipewire wireplumber",
            code="pipewire_library",
            why=error,
        ) from None
    for name, result, *arguments in (
        ("pw_init", None, c_void_p, c_void_p),
        ("pw_thread_loop_new", c_void_p, c_char_p, c_void_p),
        ("pw_thread_loop_get_loop", c_void_p, c_void_p),
        ("pw_thread_loop_start", c_int, c_void_p),
        ("pw_thread_loop_stop", None, c_void_p),
        ("pw_thread_loop_lock", None, c_void_p),
        ("pw_thread_loop_unlock", None, c_void_p),
        ("pw_thread_loop_destroy", None, c_void_p),
        ("pw_properties_new_string", c_void_p, c_char_p),
        ("pw_stream_new_simple", c_void_p, c_void_p, c_char_p, c_void_p, c_void_p, c_void_p),
        ("pw_stream_connect", c_int, c_void_p, c_int, c_uint32, c_int, c_void_p, c_uint32),
        ("pw_stream_update_params", c_int, c_void_p, c_void_p, c_uint32),
        ("pw_stream_dequeue_buffer", POINTER(_Buffer), c_void_p),
        ("pw_stream_queue_buffer", c_int, c_void_p, POINTER(_Buffer)),
        ("pw_stream_trigger_process", c_int, c_void_p),
        ("pw_stream_destroy", None, c_void_p),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.pw_init(None, None)
    return library


def is_running() -> bool:
    """Tests whether this user's PipeWire accepts connections and its library is installed."""
    folder = os.environ.get("PIPEWIRE_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR") or ""
    if sys.platform != "linux" or not Path(folder, os.environ.get("PIPEWIRE_REMOTE") or "pipewire-0").is_socket():
        return False
    with suppress(MissingComponent):
        return bool(_library())
    return False


class PipewireStream:
    """A video stream of PipeWire, with its own thread.

    Args:
        direction: `OUTPUT` for a camera that programs read, `INPUT` for a reader.
        properties: properties of the stream's node.
        form: encoded formats of the stream, see `rtface.live.devices.pipewire_formats`.
        layout: bytes of a frame and of its first row, for an output.
        received: queue of an input's frames. Frames are dropped while it is full.

    Attributes:
        format: negotiated format, by key.
        reason: error message of PipeWire; "" without one.

    Raises:
        MissingComponent: libpipewire is missing.
        OutputError: PipeWire does not accept the stream.
    """

    _loop: int | None = None

    def __init__(
        self,
        direction: int,
        properties: Mapping[str, str],
        form: bytes,
        layout: tuple[int, int] = (0, 0),
        received: Queue[Planes] | None = None,
    ) -> None:
        self._library, self._layout, self._received = _library(), layout, received
        self._state, self._changed, self._connected = _UNCONNECTED, threading.Condition(), False
        self.format, self.reason = dict[int, tuple[int, ...]](), ""
        self._pool, self._failures = set[int](), 0
        # PipeWire keeps pointers to these.
        self._events = _Events(
            version=0,
            state_changed=_StateChanged(self._state_changed),
            param_changed=_ParamChanged(self._param_changed),
            add_buffer=_BufferChanged(self._buffer_added),
            remove_buffer=_BufferChanged(self._buffer_removed),
            process=_Process(self._process),
        )
        self._buffers = ctypes.create_string_buffer(0)
        library, text = self._library, json.dumps({"application.name": "rtface", **properties}).encode()
        self._loop = library.pw_thread_loop_new(b"rtface", None)
        self._stream = library.pw_stream_new_simple(
            library.pw_thread_loop_get_loop(self._loop),
            b"rtface",
            library.pw_properties_new_string(text),
            ctypes.addressof(self._events),
            None,
        )
        if not self._stream:
            self.close()
            raise OutputError("{why}: start it, then try again", code="pipewire_refused", why=MISSING)
        pointers = (c_char_p * 1)(form)
        flags = _MAP_BUFFERS | (_DRIVER if direction == OUTPUT else _AUTOCONNECT)
        result = library.pw_stream_connect(self._stream, direction, 0xFFFFFFFF, flags, pointers, 1)
        library.pw_thread_loop_start(self._loop)
        with self._changed:
            self._changed.wait_for(lambda: self._connected or self._state == _ERROR, 2.0)
        if result < 0 or not self._connected:
            self.close()
            raise OutputError(
                "PipeWire does not accept the stream ({why}); restart it with: systemctl --user restart pipewire",
                code="pipewire_stream",
                why=self.reason or os.strerror(-result if result < 0 else errno.ETIMEDOUT),
            )

    @property
    def lost(self) -> bool:
        """Whether the connection to PipeWire is lost."""
        return self._state in (_ERROR, _UNCONNECTED)

    def wait(self, seconds: float) -> bool:
        """Waits for a change of the stream's state. Returns whether frames flow."""
        with self._changed:
            self._changed.wait(seconds)
            return self._state == _STREAMING

    def write(self, frame: Any, stride: int) -> bool:
        """Submits a frame to all readers, if there are any. Returns False if all buffers are in use.

        Args:
            frame: contiguous array of bytes.
            stride: bytes of a row.

        Raises:
            OSError: the connection is lost.
        """
        library = self._library
        if not self._loop:
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        library.pw_thread_loop_lock(self._loop)
        try:
            if self.lost:
                raise OSError(errno.EPIPE, self.reason or "PipeWire has ended")
            if self._state != _STREAMING:
                return True
            tries = (library.pw_stream_dequeue_buffer(self._stream) for _ in range(2 * _BUFFER_COUNT))
            if not (buffer := next(filter(None, tries), None)):  # readers hold all
                self._failures += 1
                if self._failures > _MAX_BUSY_FRAMES:
                    self._free_buffers()
                return False
            self._failures = 0
            data = buffer.contents.buffer.contents.datas[0]
            size = min(frame.nbytes, data.maxsize)
            ctypes.memmove(data.data, frame.ctypes.data, size)
            chunk = data.chunk.contents
            chunk.offset, chunk.size, chunk.stride, chunk.flags = 0, size, stride, 0
            library.pw_stream_queue_buffer(self._stream, buffer)
            library.pw_stream_trigger_process(self._stream)
            return True
        finally:
            library.pw_thread_loop_unlock(self._loop)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Ends the stream. Safe to call twice."""
        if self._loop:
            self._library.pw_thread_loop_stop(self._loop)
            if self._stream:
                self._library.pw_stream_destroy(self._stream)
            self._library.pw_thread_loop_destroy(self._loop)
            self._loop = None

    def _state_changed(self, _: int, __: int, state: int, why: bytes | None) -> None:
        with self._changed:
            self._connected |= state >= _PAUSED
            self._state, self.reason = state, (why or b"").decode(errors="replace")
            self._changed.notify_all()
        if state == _PAUSED and self._received is None:
            self._free_buffers()

    def _buffer_added(self, _: int, buffer: int) -> None:
        self._pool.add(buffer)

    def _buffer_removed(self, _: int, buffer: int) -> None:
        self._pool.discard(buffer)

    def _free_buffers(self) -> None:
        """Marks all buffers as free. A killed reader leaves its buffers marked as busy."""
        for address in self._pool:
            content = _Buffer.from_address(address).buffer.contents
            for meta in content.metas[: content.n_metas]:
                if meta.type == _META_BUSY and meta.data:
                    c_uint32.from_address(meta.data + 4).value = 0

    def _param_changed(self, _: int, param: int, pointer: int | None) -> None:
        if param != _FORMAT or not pointer:
            return
        self.format = read_object(ctypes.string_at(pointer, 8 + c_uint32.from_address(pointer).value))
        self._buffers = ctypes.create_string_buffer(buffers(_BUFFER_COUNT, *self._layout))
        pointers = (c_void_p * 1)(ctypes.addressof(self._buffers))
        self._library.pw_stream_update_params(self._stream, pointers, 1)

    def _process(self, _: int) -> None:
        if self._received is None:
            return
        while buffer := self._library.pw_stream_dequeue_buffer(self._stream):
            content, parts = buffer.contents.buffer.contents, Planes()
            for data in content.datas[: content.n_datas]:
                if data.data and data.chunk:
                    chunk = data.chunk.contents
                    start, end = (min(n, data.maxsize) for n in (chunk.offset, chunk.offset + chunk.size))
                    parts.append((ctypes.string_at(data.data + start, end - start), chunk.stride))
            self._library.pw_stream_queue_buffer(self._stream, buffer)
            if parts and parts[0][0] and not self._received.full():
                self._received.put_nowait(parts)
