"""Routes for live runs: devices, start and stop, settings, preview, presets."""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from rtface.concurrency.threads import start_thread
from rtface.config.addresses import parse_address
from rtface.errors import InputMissing, Message, RtfaceError, UsageError, log
from rtface.jobs.queue.api import Queue
from rtface.live.devices.listing import devices
from rtface.redaction import shown
from rtface.stages.options import option_facts, summary
from rtface.util import plugins
from rtface.util.files import numbered
from rtface.util.foreign import read_regular
from rtface.util.paths import data_dir
from rtface.util.toml_dataclass import parse_json
from rtface.web.http import JsonObject, in_thread, json_body, refused
from rtface_studio.commands import halt_films, json_of
from rtface_studio.context import Studio
from rtface_studio.folders import write_kept
from rtface_studio.live_run import LivePlan, LiveRun, live_options, plan_live_run

_POLL_S = 0.5  # interval for polling the state of the run
_HEAD_S = 10.0
"""Time limit for the run's response to a request for the preview."""
_BUFFER_BYTES = 32 * 1024
"""Maximum buffered bytes of the preview. A small buffer gives slow pages fewer pictures, but not older ones."""
_VIEWER_POLL_S = 1.0
"""Interval for polling whether a run has a viewer."""


def routes(studio: Studio) -> list[BaseRoute]:
    """Returns the routes below ``/api/live``."""
    live = _Live(studio)

    async def list_devices(request: Request) -> Response:
        return JSONResponse(await in_thread(_devices))

    async def state(request: Request) -> Response:
        live.watch()
        return JSONResponse(await in_thread(live.state))

    starts = {"start": live.start, "restart": live.restart, "stop": live.stop, "films_wait": live.let_films_wait}
    changes: dict[str, Callable[[LiveRun, JsonObject], object]] = {
        "set": lambda run, body: run.set(body.get("name"), body.get("value")),
        "overlays": lambda run, body: {"stages": run.set_overlays(studio.folders, body.get("stages"))},
        "persons": lambda run, _: {"persons": run.recognise()},
        "person": lambda run, body: {"persons": run.set_person(body.get("name"), body.get("strength"))},
    }

    async def start(request: Request) -> Response:
        await in_thread(starts[request.url.path.rpartition("/")[2]], await json_body(request))
        return await state(request)

    async def change(request: Request) -> Response:
        name, body = request.url.path.rpartition("/")[2], await json_body(request)
        return JSONResponse(await in_thread(changes[name], live.running(), body))

    async def test_camera(request: Request) -> Response:
        if (await in_thread(live.state))["state"] in ("starting", "running"):
            raise UsageError("a live run is on; turn it off before the test of the camera", code="camera_held")
        source = plan_live_run(studio.folders, (await json_body(request)).get("source"), "null:", {}).source
        with tempfile.TemporaryDirectory(prefix="rtface-") as folder:
            image = Path(folder, "test.jpg")
            result = await json_of("camera-test", "--", str(source), str(image))
            picture = base64.b64encode(await in_thread(image.read_bytes)).decode()
        return JSONResponse({**result, "picture": f"data:image/jpeg;base64,{picture}"})

    async def face(request: Request) -> Response:
        name = request.query_params.get("name", "")
        return Response(
            await in_thread(live.running().face, name), media_type="image/jpeg", headers={"cache-control": "no-store"}
        )

    async def preview(request: Request) -> Response:
        try:
            while (port := (run := live.running()).port) is None:  # the run is starting
                if await request.is_disconnected():
                    return Response(status_code=HTTPStatus.NO_CONTENT)
                await asyncio.sleep(0.1)
        except InputMissing:  # the run has ended, which the page learns from the state
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return await _preview(port, run.authorization)

    async def presets(request: Request) -> Response:
        if request.method == "PUT":
            await in_thread(_store_preset, request.path_params["name"], await json_body(request))
        elif request.method == "DELETE":
            await in_thread(_store_preset, request.path_params["name"], None)
        return JSONResponse({"presets": await in_thread(_presets)})

    return [
        Route("/api/live", state),
        Route("/api/live/devices", list_devices),
        *(Route(f"/api/live/{name}", start, methods=["POST"]) for name in starts),
        *(Route(f"/api/live/{name}", change, methods=["POST"]) for name in changes),
        Route("/api/live/test", test_camera, methods=["POST"]),
        Route("/api/live/face", face),
        Route("/api/live/preview", preview),
        Route("/api/live/presets", presets),
        Route("/api/live/presets/{name}", presets, methods=["PUT", "DELETE"]),
    ]


class _Live:
    """Manages the studio's live run. There is at most one at a time.

    Attributes:
        films_wait: whether the queue waits while the run has a viewer.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._run: LiveRun | None = None
        self.films_wait = True
        self._starting, self._lock = threading.Lock(), threading.Lock()
        self._stop_count = 0
        studio.closing.callback(self.stop)

    def running(self) -> LiveRun:
        """Returns the run. Raises InputMissing if none is running."""
        if self._run is None or not self._run.alive:
            raise InputMissing("there is no live run; start one", code="no_run")
        return self._run

    def state(self) -> JsonObject:
        """Returns the state of the run for the page. The state is "none" if there is no run."""
        state = self._run.state() if self._run is not None else {"state": "none"}
        return state | {"films_wait": self.films_wait}

    def start(self, body: JsonObject) -> None:
        """Starts a run. Raises UsageError if one is already running."""
        plan = plan_live_run(self._studio.folders, body.get("source"), body.get("output"), body.get("settings", {}))
        with self._starting, self._lock:
            if self._run is not None and self._run.alive:
                raise UsageError("a live run is already running; stop it before you start another one", code="run_on")
            self._start_run(plan)

    def _start_run(self, plan: LivePlan) -> None:
        self._run = LiveRun(plan)
        start_thread("live viewers", self._hold_queue, self._run)

    def _hold_queue(self, run: LiveRun) -> None:
        """Pauses all other work while the run has viewers. Returns when the run has ended."""
        queue_lock = None
        try:
            store = Queue().store
        except RtfaceError as error:
            log.warning("the queue does not wait for the live run: %s", error)
            store = None
        try:
            while not run.ends(_VIEWER_POLL_S):
                watched = self.films_wait and bool((run.state()["status"] or {}).get("watched"))
                if watched or self._studio.watched.is_set():
                    self._let_work(not watched)  # also halts what has begun since
                if watched and queue_lock is None and store is not None:
                    with suppress(RtfaceError):
                        queue_lock = store.hold("waits")
                elif not watched and queue_lock is not None:
                    queue_lock.close()
                    queue_lock = None
        finally:
            self._let_work(True)
            if queue_lock is not None:
                queue_lock.close()

    def _let_work(self, works: bool) -> None:
        (self._studio.watched.clear if works else self._studio.watched.set)()
        halt_films(not works)

    def let_films_wait(self, body: JsonObject) -> None:
        """Sets whether the queue waits while the run has a viewer."""
        if not isinstance(value := body.get("value"), bool):
            raise UsageError("value must be true or false", code="true_false")
        self.films_wait = value

    def restart(self, body: JsonObject) -> None:
        """Restarts the run with new settings, but the same source and output. If `stop` is called during the restart,
        no run starts."""
        options = live_options(self._studio.folders, body.get("settings"))
        with self._starting:
            run, stop_count = self.running(), self._stop_count
            run.stop()
            if "also" in options:
                options["also"] = str(next(name for name in numbered(Path(options["also"])) if not name.exists()))
            with self._lock:
                if self._stop_count == stop_count:
                    self._start_run(replace(run.plan, options=options))

    def stop(self, body: JsonObject | None = None) -> None:
        """Ends the run, if any."""
        with self._lock:
            self._stop_count += 1
            run = self._run
        if run is not None:
            run.stop()

    def watch(self) -> None:
        """Publishes changes of the run's state while a page is open."""
        self._studio.events.follow("live", self._poll_state, _POLL_S)

    async def _poll_state(self) -> JsonObject | None:
        return None if self._run is None else await in_thread(self.state)


def _devices() -> JsonObject:
    """Lists the devices for live runs, and the installed overlays."""
    return {
        "devices": [asdict(device) for device in devices()[0]],
        "overlays": [
            {"name": name, "help": summary(name), "options": option_facts(name)}
            for name in sorted(plugins.installed("stage"))
        ],
    }


async def _preview(port: int, authorization: str) -> Response:
    """Streams the preview of a run's control server. Raises UsageError if the server rejects the request."""
    with ExitStack() as on_error:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_BUFFER_BYTES)
            on_error.callback(writer.close)
            async with asyncio.timeout(_HEAD_S):
                writer.write(
                    f"GET /preview.mjpeg HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n"
                    f"Authorization: {authorization}\r\n\r\n".encode()
                )
                header = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                media_type = next(
                    (
                        line.partition(":")[2].strip()
                        for line in header.split("\r\n")
                        if line.lower().startswith("content-type:")
                    ),
                    "",
                )
                error = Message() if media_type.startswith("multipart/") else refused(json.loads(await reader.read()))
        except (OSError, EOFError, asyncio.LimitOverrunError, json.JSONDecodeError):
            raise InputMissing("the live run has ended; start it again", code="run_ended") from None
        if error:
            raise UsageError(error)
        on_error.pop_all()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            while chunk := await reader.read(_BUFFER_BYTES):
                yield chunk
        except OSError:
            pass  # the run has ended
        finally:
            writer.close()

    return StreamingResponse(chunks(), media_type=media_type, headers={"cache-control": "no-store"})


# -- presets ----------------------------------------------------------------------------------------------------


_presets_lock = threading.Lock()


def _path() -> Path:
    return data_dir() / "live-presets.json"


def _presets() -> JsonObject:
    try:
        value = parse_json(read_regular(_path()))
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # raises if the value cannot be written
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise InputMissing(
            "{path} cannot be read; move it away to start without presets", code="presets_unreadable", path=_path()
        ) from None
    return value if isinstance(value, dict) else {}


def _store_preset(name: str, preset: JsonObject | None) -> None:
    """Stores a preset under a name, or replaces the stored one. None removes it.

    Raises:
        UsageError: the name is invalid, or an address contains a password or key. Presets never store these.
    """
    if preset is not None and (not 1 <= len(name) <= 60 or not name.isprintable()):
        raise UsageError("a preset needs a name of 1 to 60 characters", code="preset_name")
    data = {key: preset[key] for key in ("source", "output", "settings") if key in preset} if preset is not None else {}
    for end in ("source", "output"):
        address = data.get(end)
        if isinstance(address, str):
            address = data[end] = address.strip()  # as at the start of a run
        if (
            isinstance(address, str)
            and address
            and parse_address(address).kind == "stream"
            and (shown(address) != address or "?" in address.replace("?listen", ""))
        ):
            raise UsageError(
                "the address of the {what} contains a key or password, which a preset cannot store; omit it, and "
                "enter it when you start the run",
                code="preset_secret",
                what=end,
            )
    with _presets_lock:
        presets = {key: value for key, value in _presets().items() if key != name}
        presets |= {} if preset is None else {name: data}
        write_kept(_path(), json.dumps(presets, indent=1, ensure_ascii=False).encode() + b"\n")
