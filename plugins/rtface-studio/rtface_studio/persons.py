"""Routes that list, learn and remove persons. Learning from a camera reports guidance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rtface.config.addresses import parse_address
from rtface.engine import learned
from rtface.errors import Message, RtfaceError, UsageError
from rtface.util import plugins
from rtface.util.events import Event
from rtface.util.parse import is_person_name
from rtface.web.http import JsonObject, in_thread, json_body
from rtface_studio.analysis import FilmTask
from rtface_studio.commands import json_of, run_command
from rtface_studio.context import Studio
from rtface_studio.folders import AllowedFolders, check_no_playlist


def routes(studio: Studio) -> list[BaseRoute]:
    """Returns the routes below ``/api/persons``."""
    task = FilmTask(lambda state: studio.events.publish("persons", state, keep=True), asyncio.Semaphore(1))

    def list_persons() -> JsonObject:
        return {
            "persons": learned.names(),
            "unfinished": learned.unfinished_names(),
            "here": plugins.exists("command", "learn"),
            "learning": task.state,
        }

    async def persons(request: Request) -> Response:
        return JSONResponse(await in_thread(list_persons))

    async def learn(request: Request) -> Response:
        arguments = await in_thread(learn_words, studio.folders, await json_body(request))
        if task.state["state"] in ("waiting", "running"):
            raise UsageError("a person is being learnt; wait until this is finished, or cancel it", code="learning_on")

        async def work(progress: Callable[[JsonObject], None]) -> Any:
            not_improved: list[Message] = []

            def receive(event: Event) -> None:
                if event.get("code") in ("learn_nothing", "learn_too_short"):
                    not_improved.append(Message.of(event))
                elif event["event"] == "progress":
                    progress({"picture": None, "missing": [], **event})

            try:
                return await json_of("learn", *arguments, receive=receive, tidy=True)
            except RtfaceError:
                if not_improved:  # the person was learnt, but without improvement
                    raise RtfaceError(not_improved[0]) from None
                raise

        task.start(work)
        return JSONResponse(await in_thread(list_persons))

    async def stop(request: Request) -> Response:
        task.stop()
        return JSONResponse(await in_thread(list_persons))

    async def remove(request: Request) -> Response:
        name = request.path_params["name"]
        if not is_person_name(name):
            raise UsageError("{name} is not a person", code="no_learnt", name=name[:40])
        await run_command("persons", "remove", "--", name)
        return JSONResponse(await in_thread(list_persons))

    return [
        Route("/api/persons", persons),
        Route("/api/persons/learn", learn, methods=["POST"]),
        Route("/api/persons/stop", stop, methods=["POST"]),
        Route("/api/persons/{name}", remove, methods=["DELETE"]),
    ]


def learn_words(folders: AllowedFolders, body: JsonObject) -> list[str]:
    """Converts the page's request to arguments of ``rtface learn``.

    Raises:
        UsageError: consent is missing, the name or source cannot be used, or a file is outside the folders.
        InputError: the source is a playlist.
    """
    name, source = body.get("name"), body.get("source")
    if body.get("agreed") is not True:
        raise UsageError("confirm first that this face may be learnt", code="learn_agree")
    if not isinstance(name, str) or not is_person_name(name.strip()):
        raise UsageError("enter a name for the person: letters and digits, starting with a letter", code="learn_named")
    if not isinstance(source, str) or not source.strip():
        raise UsageError("choose a camera, a film or a folder of photos", code="learn_from")
    address = parse_address(source.strip())
    if address.kind == "file":
        check_no_playlist(path := folders.path(address.name))
        return ["--yes", "--overwrite", "--", name.strip(), str(path)]
    if address.kind != "camera" or address.name.startswith("-"):
        raise UsageError("{address}: there is no such device", code="no_device", address=address)
    return ["--yes", "--overwrite", "--", name.strip(), str(address)]
