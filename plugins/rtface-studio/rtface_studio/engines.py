"""Routes that list, measure, add and remove engines."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rtface.errors import UsageError
from rtface.util import plugins
from rtface.util.events import Event
from rtface.web.http import JsonObject, in_thread, json_body
from rtface_studio.commands import SharedResult, json_of, run_command
from rtface_studio.context import Studio

_FAULTY = (0, 1)  # accepted exit codes; 1: an engine is damaged, which its row reports


def routes(studio: Studio) -> list[BaseRoute]:
    """Returns the routes below ``/api/engines``."""
    busy = asyncio.Lock()

    def publish(event: Event) -> None:
        if "message" in event:
            studio.events.publish("engines", event)

    async def list_engines() -> JsonObject:
        rows = json_of("engines", "--no-measure", accept=_FAULTY)
        if not await in_thread(plugins.exists, "command", "engines.offers"):
            return {"engines": await rows, "offers": []}
        rows, offers = await asyncio.gather(rows, json_of("engines", "offers"))
        return {"engines": rows, "offers": [offer for offer in offers if not offer["added"]]}

    shared = SharedResult(list_engines)

    async def engines(request: Request) -> Response:
        return JSONResponse(await shared())

    async def measure(request: Request) -> Response:
        _check_idle(busy)
        async with busy:
            await json_of("engines", accept=_FAULTY)
        return JSONResponse(await list_engines())

    async def add(request: Request) -> Response:
        arguments = _add_arguments(studio, await json_body(request))
        _check_idle(busy)
        async with busy:
            await run_command("engines", "add", *arguments, receive=publish)
        return JSONResponse(await list_engines())

    async def remove(request: Request) -> Response:
        name = request.path_params["name"]
        if name.startswith("-"):
            raise UsageError("{name} is not an engine", code="no_engine", name=name[:40])
        await run_command("engines", "remove", "--", name)
        return JSONResponse(await list_engines())

    return [
        Route("/api/engines", engines),
        Route("/api/engines/measure", measure, methods=["POST"]),
        Route("/api/engines/add", add, methods=["POST"]),
        Route("/api/engines/{name}", remove, methods=["DELETE"]),
    ]


def _check_idle(lock: asyncio.Lock) -> None:
    if lock.locked():
        raise UsageError("an engine is being added or measured; wait until it has finished", code="engine_busy")


def _add_arguments(studio: Studio, body: JsonObject) -> list[str]:
    """Converts the page's request to arguments of ``rtface engines add``.

    Raises:
        UsageError: the licence was not accepted, a file is outside the folders, or there is neither name nor file.
    """
    name, file = body.get("name"), body.get("file")
    if body.get("accepted") is not True:
        raise UsageError("read the licence and accept it first", code="engine_licence")
    if not (name is None or isinstance(name, str)) or not (name or file) or (name or "").startswith("-"):
        raise UsageError("choose an engine from the list, or a file with weights", code="engine_choose")
    arguments = ["--accept-license"]
    if file:
        arguments += ["--from", str(studio.folders.path(file))]
    return [*arguments, *(["--", name] if name else [])]
