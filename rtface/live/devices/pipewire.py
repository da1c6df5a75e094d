"""Connects video streams to PipeWire through its C library, libpipewire."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from ctypes import CFUNCTYPE, POINTER, c_bool, c_char_p, c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from rtface.errors import Message, MissingComponent, OutputError

OUTPUT, INPUT = 1, 0
"""Directions of a stream."""
FORMATS = {"yuv420p": 2, "nv12": 23, "yuyv422": 4, "uyvy422": 5, "rgb24": 15, "bgr24": 16, "rgb0": 7, "bgr0": 8}
"""PipeWire's numbers of pixel formats, by FFmpeg's names."""
MISSING = Message("PipeWire does not run here", code="pipewire_absent")

_ERROR, _UNCONNECTED, _STREAMING = -1, 0, 3  # enum pw_stream_state
_AUTOCONNECT, _MAP_BUFFERS, _DRIVER = 1, 4, 8  # enum pw_stream_flags
_ENUM_FORMAT, _FORMAT, _BUFFERS = 3, 4, 5  # enum spa_param_type
_FORMAT_OBJECT, _BUFFERS_OBJECT = 0x40003, 0x40004
_VIDEO, RAW, MJPEG = 2, 1, 0x20002
_KEY_TYPE, _KEY_SUBTYPE, _KEY_FORMAT, _KEY_SIZE, _KEY_RATE = 1, 2, 0x20001, 0x20003, 0x20004
_MEMORY = 1 << 1 | 1 << 2  # buffers are pointers or shared files, not DMA buffers
_BUFFER_COUNT = 8
_LIST_S = 2.0


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


class _SpaBuffer(ctypes.Structure):
    _fields_ = (("n_metas", c_uint32), ("n_datas", c_uint32), ("metas", c_void_p), ("datas", POINTER(_Data)))


class _Buffer(ctypes.Structure):
    _fields_ = (("buffer", POINTER(_SpaBuffer)), ("user", c_void_p), ("size", c_uint64), ("requested", c_uint64))


_StateChanged = CFUNCTYPE(None, c_void_p, c_int, c_int, c_char_p)
_ParamChanged = CFUNCTYPE(None, c_void_p, c_uint32, c_void_p)
_Process = CFUNCTYPE(None, c_void_p)


class _Events(ctypes.Structure):  # struct pw_stream_events
    _fields_ = (
        ("version", c_uint32),
        ("destroy", c_void_p),
        ("state_changed", _StateChanged),
        ("control_info", c_void_p),
        ("io_changed", c_void_p),
        ("param_changed", _ParamChanged),
        ("add_buffer", c_void_p),
        ("remove_buffer", c_void_p),
        ("process", _Process),
        ("drained", c_void_p),
        ("command", c_void_p),
        ("trigger_done", c_void_p),
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
    if sys.platform != "linux" or not Path(folder, os.environ.get("PIPEWIRE_REMOTE", "pipewire-0")).is_socket():
        return False
    try:
        _library()
    except MissingComponent:
        return False
    return True


def cameras() -> list[dict[str, Any]]:
    """Lists the properties of PipeWire's cameras, by its program ``pw-dump``. Omits this program's own cameras."""
    if not is_running():
        return []
    try:
        text = subprocess.run(["pw-dump"], capture_output=True, timeout=_LIST_S, check=True).stdout
        objects: list[dict[str, Any]] = json.loads(text)
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    properties = [item["info"].get("props", {}) for item in objects if str(item.get("type")).endswith("Interface:Node")]
    return [
        one
        for one in properties
        if one.get("media.class") == "Video/Source" and one.get("application.name") != "rtface"
    ]


def _pod(kind: int, body: bytes) -> bytes:
    """Encodes a value of PipeWire's binary format (SPA POD)."""
    return struct.pack("=II", len(body), kind) + body + bytes(-len(body) % 8)


def pod_id(value: int) -> bytes:
    """Encodes a number of an enumeration."""
    return _pod(3, struct.pack("=I", value))


def _choice(kind: int, value_kind: int, *values: bytes) -> bytes:
    """Encodes a range (1: default, least, most), an enumeration (3: default, all) or flags (4)."""
    return _pod(19, struct.pack("=IIII", kind, 0, len(values[0]), value_kind) + b"".join(values))


def _object(kind: int, param: int, properties: Mapping[int, bytes]) -> bytes:
    body = b"".join(struct.pack("=II", key, 0) + value for key, value in properties.items())
    return _pod(15, struct.pack("=II", kind, param) + body)


def fixed_format(width: int, height: int, rate: tuple[int, int]) -> bytes:
    """Encodes the format of a stream of I420 frames."""
    return _object(
        _FORMAT_OBJECT,
        _ENUM_FORMAT,
        {
            _KEY_TYPE: pod_id(_VIDEO),
            _KEY_SUBTYPE: pod_id(RAW),
            _KEY_FORMAT: pod_id(FORMATS["yuv420p"]),
            _KEY_SIZE: _pod(10, struct.pack("=II", width, height)),
            _KEY_RATE: _pod(11, struct.pack("=II", *rate)),
        },
    )


def accepted_format(subtype: int, size: tuple[int, int], rate: tuple[int, int]) -> bytes:
    """Encodes the formats that a reader accepts, raw or MJPEG, with a preferred size and rate."""
    numbers = [struct.pack("=I", number) for number in FORMATS.values()]
    raw = {_KEY_FORMAT: _choice(3, 3, numbers[0], *numbers)} if subtype == RAW else {}
    sizes = (struct.pack("=II", *pair) for pair in (size, (1, 1), (8192, 8192)))
    rates = (struct.pack("=II", *pair) for pair in (rate, (0, 1), (1000, 1)))
    return _object(
        _FORMAT_OBJECT,
        _ENUM_FORMAT,
        {_KEY_TYPE: pod_id(_VIDEO), _KEY_SUBTYPE: pod_id(subtype)}
        | raw
        | {_KEY_SIZE: _choice(1, 10, *sizes), _KEY_RATE: _choice(1, 11, *rates)},
    )


def read_object(data: bytes) -> dict[int, tuple[int, ...]]:
    """Decodes an object's numbers, by key. Choices are decoded to their default."""
    values, at = dict[int, tuple[int, ...]](), 16
    end = 8 + struct.unpack_from("=I", data)[0]
    while at + 16 <= end:
        key, _, size, kind = struct.unpack_from("=IIII", data, at)
        start, length, value_kind = at + 16, size, kind
        if kind == 19:
            length, value_kind = struct.unpack_from("=II", data, start + 8)
            start += 16
        if value_kind in (3, 4, 10, 11):
            values[key] = struct.unpack_from(f"={length // 4}I", data, start)
        at += 16 + size + -size % 8
    return values


class PipewireStream:
    """A video stream of PipeWire, with its own thread.

    Args:
        direction: `OUTPUT` for a camera that programs read, `INPUT` for a reader.
        properties: properties of the stream's node.
        formats: encoded formats, best first.
        size_of: function that returns the bytes of a frame and of its first row from a negotiated format.
        received: function that receives an input's frames: bytes, bytes per row. It runs on the stream's thread.

    Attributes:
        format: negotiated format, by key.
        reason: error message of PipeWire; "" without one.

    Raises:
        MissingComponent: libpipewire is missing.
        OutputError: PipeWire does not accept the stream.
    """

    def __init__(
        self,
        direction: int,
        properties: Mapping[str, str],
        formats: list[bytes],
        size_of: Callable[[dict[int, tuple[int, ...]]], tuple[int, int]],
        received: Callable[[list[tuple[bytes, int]]], None] | None = None,
    ) -> None:
        self._library, self._size_of, self._received = _library(), size_of, received
        self._state, self._changed = _UNCONNECTED, threading.Condition()
        self._connected = False
        self.format, self.reason = dict[int, tuple[int, ...]](), ""
        # PipeWire keeps pointers to these.
        self._events = _Events(
            version=2,
            state_changed=_StateChanged(self._state_changed),
            param_changed=_ParamChanged(self._param_changed),
            process=_Process(self._process),
        )
        self._buffers = ctypes.create_string_buffer(0)
        library, all_properties = self._library, {"application.name": "rtface", **properties}
        self._loop = library.pw_thread_loop_new(b"rtface", None)
        text = json.dumps(all_properties).encode()
        self._stream = library.pw_stream_new_simple(
            library.pw_thread_loop_get_loop(self._loop),
            b"rtface",
            library.pw_properties_new_string(text),
            ctypes.addressof(self._events),
            None,
        )
        if not self._stream:
            library.pw_thread_loop_destroy(self._loop)
            raise OutputError("{why}: start it, then try again", code="pipewire_refused", why=MISSING)
        encoded = [ctypes.create_string_buffer(one, len(one)) for one in formats]
        pointers = (c_void_p * len(encoded))(*map(ctypes.addressof, encoded))
        flags = _MAP_BUFFERS | (_DRIVER if direction == OUTPUT else _AUTOCONNECT)
        result = library.pw_stream_connect(self._stream, direction, 0xFFFFFFFF, flags, pointers, len(encoded))
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
        library.pw_thread_loop_lock(self._loop)
        try:
            if self.lost:
                raise OSError(errno.EPIPE, self.reason or "PipeWire has ended")
            if self._state != _STREAMING:
                return True
            # A buffer that a killed reader held stays busy, and every lap of the queue returns to it.
            tries = (library.pw_stream_dequeue_buffer(self._stream) for _ in range(2 * _BUFFER_COUNT))
            if not (buffer := next(filter(None, tries), None)):
                return False
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

    def close(self) -> None:
        """Ends the stream."""
        if self._loop:
            self._library.pw_thread_loop_stop(self._loop)
            self._library.pw_stream_destroy(self._stream)
            self._library.pw_thread_loop_destroy(self._loop)
            self._loop = None

    def _state_changed(self, _: int, __: int, state: int, why: bytes | None) -> None:
        with self._changed:
            self._connected |= state > 1
            self._state, self.reason = state, (why or b"").decode(errors="replace")
            self._changed.notify_all()

    def _param_changed(self, _: int, param: int, pointer: int | None) -> None:
        if param != _FORMAT or not pointer:
            return
        self.format = read_object(ctypes.string_at(pointer, 8 + c_uint32.from_address(pointer).value))
        size, stride = self._size_of(self.format)
        counts = (struct.pack("=i", count) for count in (_BUFFER_COUNT, 2, 2 * _BUFFER_COUNT))
        sizes = {3: _pod(4, struct.pack("=i", size)), 4: _pod(4, struct.pack("=i", stride))} if size else {}
        memory = _choice(4, 4, struct.pack("=i", _MEMORY))
        data = _object(_BUFFERS_OBJECT, _BUFFERS, {1: _choice(1, 4, *counts)} | sizes | {6: memory})
        self._buffers = ctypes.create_string_buffer(data, len(data))
        pointers = (c_void_p * 1)(ctypes.addressof(self._buffers))
        self._library.pw_stream_update_params(self._stream, pointers, 1)

    def _process(self, _: int) -> None:
        if self._received is None:
            return
        while buffer := self._library.pw_stream_dequeue_buffer(self._stream):
            content, parts = buffer.contents.buffer.contents, list[tuple[bytes, int]]()
            for data in content.datas[: content.n_datas]:
                if data.data and data.chunk:
                    chunk = data.chunk.contents
                    parts.append((ctypes.string_at(data.data + chunk.offset, chunk.size), chunk.stride))
            self._library.pw_stream_queue_buffer(self._stream, buffer)
            if parts and parts[0][0]:
                self._received(parts)
