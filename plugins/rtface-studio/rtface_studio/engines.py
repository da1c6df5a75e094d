"""Routes for engines: listing with licences and speeds, measuring, adding, removing."""

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

_FAULTY = (0, 1)  # accepted exit codes; 1: an engine is damaged, as its row says


def routes(studio: Studio) -> list[BaseRoute]:
    """Returns the routes below ``/api/engines``."""
    working = asyncio.Lock()

    def publish(event: Event) -> None:
        if "message" in event:
            studio.events.publish("engines", event)

    async def listed() -> JsonObject:
        rows = json_of("engines", "--no-measure", accept=_FAULTY)
        if not await in_thread(plugins.exists, "command", "engines.offers"):
            return {"engines": await rows, "offers": []}
        rows, offers = await asyncio.gather(rows, json_of("engines", "offers"))
        return {"engines": rows, "offers": [offer for offer in offers if not offer["added"]]}

    shared = SharedResult(listed)

    async def engines(request: Request) -> Response:
        return JSONResponse(await shared())

    async def measure(request: Request) -> Response:
        _refuse_second(working)
        async with working:
            await json_of("engines", accept=_FAULTY)
        return JSONResponse(await listed())

    async def add(request: Request) -> Response:
        words = _add_words(studio, await json_body(request))
        _refuse_second(working)
        async with working:
            await run_command("engines", "add", *words, receive=publish)
        return JSONResponse(await listed())

    async def remove(request: Request) -> Response:
        name = request.path_params["name"]
        if name.startswith("-"):
            raise UsageError("{name} is not an engine", code="no_engine", name=name[:40])
        await run_command("engines", "remove", "--", name)
        return JSONResponse(await listed())

    return [
        Route("/api/engines", engines),
        Route("/api/engines/measure", measure, methods=["POST"]),
        Route("/api/engines/add", add, methods=["POST"]),
        Route("/api/engines/{name}", remove, methods=["DELETE"]),
    ]


def _refuse_second(lock: asyncio.Lock) -> None:
    if lock.locked():
        raise UsageError("an engine is being added or measured; wait until that ends", code="engine_busy")


def _add_words(studio: Studio, body: JsonObject) -> list[str]:
    """Converts the page's request to options of ``rtface engines add``.

    Raises:
        UsageError: the licence was not accepted, a file is outside the folders, or there is neither name nor file.
    """
    name, file = body.get("name"), body.get("file")
    if body.get("accepted") is not True:
        raise UsageError("read the licence and accept it first", code="engine_licence")
    if not (name is None or isinstance(name, str)) or not (name or file) or (name or "").startswith("-"):
        raise UsageError("choose an engine from the list, or a file with weights", code="engine_choose")
    words = ["--accept-license"]
    if file:
        words += ["--from", str(studio.folders.path(file))]
    return [*words, *(["--", name] if name else [])]
