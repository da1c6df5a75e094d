"""What films hold: ``rtface analyze`` and ``rtface try`` in separate processes, with progress while they run."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rtface.errors import InputMissing, RtfaceError
from rtface.studio.commands import json_of
from rtface.studio.context import Studio
from rtface.studio.film_settings import FilmSettings
from rtface.studio.http import answers_errors, json_body
from rtface.util.parse import is_person_number

AT_ONCE = 2
"""Processes of all films together; further ones wait."""
_NONE = {"state": "none"}


class FilmTask:
    """A command about one film: waits for its turn, tells its progress, and can be stopped.

    Args:
        say: gets each new state.
        turn: limits how many run at once.

    Attributes:
        state: the last one, as the page gets it: "state" is none, waiting, running, done, failed or stopped.
    """

    def __init__(self, say: Callable[[dict[str, Any]], None], turn: asyncio.Semaphore) -> None:
        self._say, self._turn = say, turn
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = _NONE

    def start(self, work: Callable[[Callable[[str], None]], Coroutine[Any, Any, Any]]) -> None:
        """Starts the work, which gets a function that takes lines of progress in JSON, where none is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(work))

    def stop(self) -> None:
        """Ends the work, if any."""
        if self._task is not None and not self._task.done():
            self._task.cancel()

    async def _run(self, work: Callable[[Callable[[str], None]], Coroutine[Any, Any, Any]]) -> None:
        self._tell({"state": "waiting"})
        try:
            async with self._turn:
                self._tell({"state": "running"})
                self._tell({"state": "done", "result": await work(self._progress)})
        except asyncio.CancelledError:
            self._tell({"state": "stopped"})
        except RtfaceError as error:
            self._tell({"state": "failed", "error": str(error)})

    def _progress(self, line: str) -> None:
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and self.state["state"] == "running":  # it may have been stopped meanwhile
                self._tell({"state": "running", **found})

    def _tell(self, state: dict[str, Any]) -> None:
        self.state = state
        self._say(state)


class FilmTasks:
    """The analysis and the contact sheet of each opened film; their pictures are deleted when the server ends."""

    def __init__(self, studio: Studio) -> None:
        self._studio, self._turn = studio, asyncio.Semaphore(AT_ONCE)
        self._folder = Path(studio.closing.enter_context(tempfile.TemporaryDirectory(prefix="rtface-studio-")))
        self._tasks: dict[tuple[int, str], FilmTask] = {}

    def of(self, number: int, kind: str) -> FilmTask:
        """The task of a film; kind is "analysis" or "sheet"."""
        def say(state: dict[str, Any]) -> None:
            self._studio.events.publish(f"film/{number}/{kind}", state, keep=True)

        if (number, kind) not in self._tasks:
            self._tasks[number, kind] = FilmTask(say, self._turn)
        return self._tasks[number, kind]

    def analysis(self, number: int) -> dict[str, Any]:
        """What the analysis of a film found; {} before it ended."""
        return self.of(number, "analysis").state.get("result", {})

    def folder(self, number: int) -> Path:
        """Where pictures of a film lie."""
        (folder := self._folder / str(number)).mkdir(exist_ok=True)
        return folder

    def analyse(self, number: int, path: Path) -> None:
        """Starts the analysis of a film."""
        async def work(said: Callable[[str], None]) -> Any:
            photos = self.folder(number) / "faces"
            found = await json_of("analyze", "--progress", "--quiet", "--photos", str(photos), "--overwrite", "--",
                                  str(path), said=said)
            for label, person in found.get("persons", {}).items():
                person["face"] = f"/api/films/{number}/faces/{label}" if (photos / label / "1.png").is_file() else None
            return found

        self.of(number, "analysis").start(work)

    def draw_sheet(self, number: int, path: Path, settings: FilmSettings) -> None:
        """Starts the contact sheet of a film, with the options of the whole film that ``rtface try`` knows."""
        known = {key: value for key, value in settings.run.items() if key in ("fidelity", "colour", "grain", "region",
                                                                              "damage")}
        image = self.folder(number) / "sheet.png"

        async def work(said: Callable[[str], None]) -> Any:
            for old in (image, image.with_suffix(".html")):
                old.unlink(missing_ok=True)
            found = await json_of("try", *(f"--{key}={value}" for key, value in known.items()), "--", str(path),
                                  str(image), said=lambda line: said(json.dumps({"line": line})))
            at = f"/api/films/{number}/sheet"
            return {"command": found["command"], "seconds": found["seconds"], "image": f"{at}.png",
                    "page": f"{at}.html"}

        self.of(number, "sheet").start(work)


def routes(tasks: FilmTasks, film: Callable[[Request], tuple[int, Path]]) -> list[BaseRoute]:
    """The routes of analyses and sheets below ``/api/films/ID``.

    Args:
        tasks: of the opened films.
        film: number and path of the film that a request names.
    """
    async def analysis(request: Request) -> Response:
        number, path = film(request)
        task = tasks.of(number, "analysis")
        if request.method == "POST":
            if (await json_body(request)).get("action") == "stop":
                task.stop()
            elif task.state["state"] != "done":
                tasks.analyse(number, path)
        return JSONResponse(task.state)

    async def sheet(request: Request) -> Response:
        number, path = film(request)
        task = tasks.of(number, "sheet")
        if request.method == "POST":
            body = await json_body(request)
            if body.get("action") == "stop":
                task.stop()
            else:
                tasks.draw_sheet(number, path, FilmSettings.of(body.get("settings", {})))
        return JSONResponse(task.state)

    async def face(request: Request) -> Response:
        label = request.path_params["label"]
        return _file(tasks.folder(film(request)[0]) / "faces" / label / "1.png" if is_person_number(label) else None)

    async def drawn(request: Request) -> Response:
        kind = request.path_params["kind"]
        folder = tasks.folder(film(request)[0])
        return _file(folder / f"sheet.{kind}" if kind in ("png", "html") else None, download=kind == "html")

    at = "/api/films/{id}"
    return [Route(f"{at}/analysis", answers_errors(analysis), methods=["GET", "POST"]),
            Route(f"{at}/sheet", answers_errors(sheet), methods=["GET", "POST"]),
            Route(f"{at}/sheet.{{kind}}", answers_errors(drawn)),
            Route(f"{at}/faces/{{label}}", answers_errors(face))]


def _file(path: Path | None, *, download: bool = False) -> Response:
    if path is None or not path.is_file():
        raise InputMissing("there is no such picture; analyse the film again")
    return FileResponse(path, filename=path.name if download else None, headers={"cache-control": "no-store"})
