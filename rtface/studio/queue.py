"""The queue in the studio: items with their progress, verbs, and the media of finished ones."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rtface.errors import InputMissing, UsageError
from rtface.jobs.queue.api import Queue
from rtface.pipeline.inspection import inspect_file
from rtface.studio.context import Studio
from rtface.studio.http import answers_errors, in_thread, json_body
from rtface.studio.queue_runner import ensure_runner

_POLL_S = 1.0
_VERBS: dict[str, Callable[[Queue, int], None]] = {
    "pause": Queue.pause, "resume": Queue.resume, "cancel": Queue.cancel, "retry": Queue.retry, "remove": Queue.remove}


def routes(studio: Studio) -> list[BaseRoute]:
    """The routes below ``/api/queue``."""
    watching: list[asyncio.Task[None]] = []

    async def items(request: Request) -> Response:
        if not watching:  # once, with the first page
            watching.append(asyncio.create_task(_watch(studio)))
        return JSONResponse(await in_thread(_items, studio))

    async def run(request: Request) -> Response:
        return JSONResponse({"started": await in_thread(ensure_runner, studio)})

    async def change(request: Request) -> Response:
        number, verb = int(request.path_params["id"]), request.path_params["verb"]
        if verb == "move":
            place: Any = (await json_body(request)).get("place")
            if not (place in ("first", "last") or (isinstance(place, int) and not isinstance(place, bool))):
                raise UsageError("place must be first, last or a number from 1")
            await in_thread(Queue().move, number, place)
        elif verb in _VERBS:
            await in_thread(_VERBS[verb], Queue(), number)
            if verb in ("resume", "retry"):
                await in_thread(ensure_runner, studio)
        else:
            raise UsageError(f"there is no {verb[:40]}: there is {', '.join([*_VERBS, 'move'])}")
        return JSONResponse(await in_thread(_items, studio))

    async def media(request: Request) -> Response:
        path = await in_thread(_file, studio, request)
        name = path.name if "download" in request.query_params else None
        return FileResponse(path, filename=name)

    async def inspect(request: Request) -> Response:
        path = await in_thread(_file, studio, request)
        return JSONResponse((await in_thread(inspect_file, path)).to_dict())

    at = "/api/queue/{id:int}"
    return [Route("/api/queue", answers_errors(items)), Route("/api/queue/run", answers_errors(run), methods=["POST"]),
            Route(f"{at}/media/{{which}}", answers_errors(media)),
            Route(f"{at}/inspect/{{which}}", answers_errors(inspect)),
            Route(f"{at}/{{verb}}", answers_errors(change), methods=["POST"])]


def _items(studio: Studio) -> dict[str, Any]:
    queue = Queue()
    return {"running": queue.store.has_runner(),
            "items": [item.to_dict() | {"shown": _allowed(studio, item.output)} for item in queue.items()]}


def _allowed(studio: Studio, name: str) -> bool:
    """Whether the page may see a file; items of the command line may be anywhere."""
    try:
        return studio.folders.path(name).is_file()
    except (UsageError, OSError):
        return False


def _file(studio: Studio, request: Request) -> Path:
    item = Queue().item(int(request.path_params["id"]))
    which = request.path_params["which"]
    if which not in ("source", "result"):
        raise UsageError(f"there is source and result, not {which[:40]}")
    path = studio.folders.path(item.input if which == "source" else item.output)
    if not path.is_file():
        raise InputMissing(f"{path.name} is not there; it was moved or removed")
    return path


async def _watch(studio: Studio) -> None:
    """Publishes the queue whenever it changes, while a page is open."""
    last: dict[str, Any] | None = None
    while True:
        await asyncio.sleep(_POLL_S)
        studio.runners[:] = [process for process in studio.runners if _runs(process)]
        if studio.events.watched and (now := await in_thread(_items, studio)) != last:
            last = now
            studio.events.publish("queue", now, keep=True)


def _runs(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None
