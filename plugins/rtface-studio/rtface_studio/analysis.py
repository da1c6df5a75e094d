"""Makes analyses, contact sheets and clips of films in separate processes: ``rtface analyze``, ``rtface try``, and
``rtface run`` for a few seconds of film."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rtface.errors import InputMissing, RtfaceError, log, message_of
from rtface.util.events import Event
from rtface.util.file_lock import try_lock
from rtface.util.parse import is_person_number
from rtface.web.http import FAILED, FileAnswer, JsonObject, in_thread, json_body
from rtface_studio.commands import json_of, run_command
from rtface_studio.context import Studio, Turn
from rtface_studio.film_settings import FilmSettings

AT_ONCE = 2
"""Maximum number of processes at the same time; the others wait."""
_NONE = {"state": "none"}
_FOLDER, _LOCK = "rtface-studio-", "lock"
_CLIP = ("--overwrite", "--codec", "libx264", "--preset", "superfast")
"""Options of the run for a clip, for fast encoding and playback in browsers."""
_ANALYSIS_OPTIONS = ("scale", "look")
"""Options of a run that also change the analysis."""
_FACE = 128
"""Side of a face on the page, in pixels."""
_Work = Callable[[Callable[[JsonObject], None]], Coroutine[Any, Any, Any]]
"""The work of a task. Its argument is a function to call with progress."""


class FilmTask:
    """Runs a command about one film when its turn comes.

    Args:
        publish: called with each new state; while the command runs, only with the changes.
        turn: semaphore that limits the number of running tasks.

    Attributes:
        state: the last state, as sent to the page. Its "state" is none, waiting, running, done, failed or stopped.
    """

    def __init__(self, publish: Callable[[JsonObject], None], turn: asyncio.Semaphore) -> None:
        self._publish, self._turn = publish, turn
        self._task: asyncio.Task[None] | None = None
        self._next: _Work | None = None
        self.state: JsonObject = _NONE

    def start(self, work: _Work) -> None:
        """Starts the work, unless other work is running."""
        if self._task is None or self._task.done():
            self._set({"state": "waiting"})
            self._task = asyncio.create_task(self._run(work))

    async def restart(self, work: _Work) -> None:
        """Stops running work, and starts `work`. Newer work that is requested in the meantime replaces `work`."""
        self._next = work
        self.stop()
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task})
        self.start(self._next)

    def stop(self) -> None:
        """Stops the work, if any."""
        if self._task is not None and not self._task.done():
            self._task.cancel()

    async def _run(self, work: _Work) -> None:
        loop, task = asyncio.get_running_loop(), self._task

        def progress(changes: JsonObject) -> None:  # called on another thread
            with suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(self._progress, task, changes)

        try:
            async with self._turn:
                self._set({"state": "running"})
                self._set({"state": "done", "result": await work(progress)})
        except asyncio.CancelledError:
            self._set({"state": "stopped"})
        except RtfaceError as error:
            self._set({"state": "failed", "error": message_of(error).to_dict()})
        except Exception:
            log.exception("studio: a task about a film failed")
            self._set({"state": "failed", "error": FAILED.to_dict()})

    def _progress(self, task: asyncio.Task[None] | None, changes: JsonObject) -> None:
        if self._task is task and self.state["state"] == "running":  # the task may have been stopped or replaced
            self.state = {**self.state, **changes}
            self._publish({"state": "running", **changes})

    def _set(self, state: JsonObject) -> None:
        self.state = state
        self._publish(state)


@contextmanager
def _temporary_folder() -> Generator[Path]:
    """Yields a temporary folder, and deletes it afterwards. Also deletes the folders of studios that were killed."""
    for leftover in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with suppress(OSError):  # the folder is another user's, or has no lock yet
            with (leftover / _LOCK).open("r+b") as lock:
                unused = try_lock(lock)
            if unused:
                shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=_FOLDER) as name, (Path(name) / _LOCK).open("a+b") as lock:
        with suppress(OSError):  # the file system has no locks
            try_lock(lock)
        yield Path(name)


class FilmTasks:
    """Manages analyses, contact sheets and clips of opened films. Their files are deleted when the server ends."""

    def __init__(self, studio: Studio) -> None:
        self._studio, self._turn = studio, Turn(studio, AT_ONCE)
        self._folder = studio.closing.enter_context(_temporary_folder())
        self._tasks: dict[tuple[int, str], FilmTask] = {}
        self._options: dict[int, list[str]] = {}  # options of each film's last analysis

    def of(self, number: int, kind: str) -> FilmTask:
        """Returns the task of a film; kind is "analysis", "sheet" or "clip"."""

        def publish(state: JsonObject) -> None:
            self._studio.events.publish(f"film/{number}/{kind}", state, keep=True)

        if (number, kind) not in self._tasks:
            self._tasks[number, kind] = FilmTask(publish, self._turn)
        return self._tasks[number, kind]

    def analysis(self, number: int) -> JsonObject:
        """Returns the analysis of a film as far as it is finished: "tracks" and "persons"."""
        state = self.of(number, "analysis").state
        return state.get("result", state)

    def folder(self, number: int) -> Path:
        """Returns the folder of a film's pictures."""
        (folder := self._folder / str(number)).mkdir(parents=True, exist_ok=True)  # the system may have deleted it
        return folder

    def photos(self, number: int, label: str) -> tuple[Path, ...]:
        """Returns up to two photos of a person, written by the analysis."""
        return tuple(sorted((self.folder(number) / "faces" / label).glob("*.png"))[:2])

    async def analyse(self, number: int, path: Path, settings: Mapping[str, Any]) -> None:
        """Starts the analysis of a film, with the run's options. Does not repeat an analysis with the same options.

        Args:
            number, path: number and path of the film.
            settings: settings of the film; "scale" and "look" default to the settings file.
        """
        photos, task = self.folder(number) / "faces", self.of(number, "analysis")
        options = [f"--{key}={settings[key]}" for key in _ANALYSIS_OPTIONS if settings.get(key) not in (None, "")]

        def with_faces(result: JsonObject) -> JsonObject:
            for label, person in result.get("persons", {}).items():
                person["face"] = f"/api/films/{number}/faces/{label}" if (photos / label / "1.png").is_file() else None
            return result

        async def work(progress: Callable[[JsonObject], None]) -> Any:
            def receive(event: Event) -> None:
                if event["event"] == "progress":
                    progress(with_faces(event))

            shutil.rmtree(photos, ignore_errors=True)  # photos of an earlier analysis
            arguments = "--photos", str(photos), "--overwrite", *options, "--", str(path)
            return with_faces(await json_of("analyze", *arguments, receive=receive))

        if self._options.get(number, []) != options:
            self._options[number] = options
            await task.restart(work)
        elif task.state["state"] != "done":
            task.start(work)

    def draw_sheet(self, number: int, path: Path, settings: FilmSettings) -> None:
        """Starts a film's contact sheet, with the settings that ``rtface try`` supports."""
        names = ("look", "grain", "region", "scale")
        options = {key: value for key, value in settings.run.items() if key in names}
        image = self.folder(number) / "sheet.png"

        async def work(progress: Callable[[JsonObject], None]) -> Any:
            image.unlink(missing_ok=True)
            result = await json_of(
                "try",
                *(f"--{key}={value}" for key, value in options.items()),
                "--",
                str(path),
                str(image),
                receive=lambda event: event["event"] == "progress" and progress(event),
            )
            return {key: result[key] for key in ("command", "engines", "hint")} | {
                "image": f"/api/films/{number}/sheet.png"
            }

        self.of(number, "sheet").start(work)

    async def play(self, number: int, path: Path, arguments: Sequence[str]) -> None:
        """Renders a short clip, original and enhanced side by side. Replaces the previous clip.

        Args:
            number, path: number and path of the film.
            arguments: options of ``rtface run``, including the range.
        """
        clip = self.folder(number) / "clip.mp4"

        async def work(progress: Callable[[JsonObject], None]) -> Any:
            await run_command(
                "run",
                *arguments,
                *_CLIP,
                "--compare",
                str(clip),
                "--",
                str(path),
                str(clip.with_name("after.mp4")),
                receive=lambda event: progress({"share": event.get("share")}),
            )
            return {"clip": f"/api/films/{number}/clip.mp4"}

        await self.of(number, "clip").restart(work)


def routes(tasks: FilmTasks, film: Callable[[Request], tuple[int, Path]]) -> list[BaseRoute]:
    """Returns the routes of analyses and sheets below ``/api/films/ID``.

    Args:
        tasks: tasks of the opened films.
        film: function that returns the number and path of a request's film.
    """

    async def work(request: Request) -> Response:
        (number, path), kind = film(request), request.url.path.rpartition("/")[2]
        task = tasks.of(number, kind)
        if request.method == "POST":
            body = await json_body(request)
            if body.get("action") == "stop":
                task.stop()
            elif kind == "analysis":
                await tasks.analyse(number, path, body)
            else:
                tasks.draw_sheet(number, path, FilmSettings.of(body.get("settings", {})))
        return JSONResponse(task.state)

    async def face(request: Request) -> Response:
        label = request.path_params["label"]
        photo = tasks.folder(film(request)[0]) / "faces" / label / "1.png" if is_person_number(label) else None
        return Response(await in_thread(_jpeg, photo), media_type="image/jpeg", headers={"cache-control": "no-store"})

    async def picture(request: Request) -> Response:
        path = tasks.folder(film(request)[0]) / request.url.path.rpartition("/")[2]
        if not path.is_file():
            raise _missing()
        return FileAnswer(path, headers={"cache-control": "no-store"})

    base = "/api/films/{id}"
    return [
        Route(f"{base}/analysis", work, methods=["GET", "POST"]),
        Route(f"{base}/sheet", work, methods=["GET", "POST"]),
        Route(f"{base}/sheet.png", picture),
        Route(f"{base}/clip.mp4", picture),
        Route(f"{base}/faces/{{label}}", face),
    ]


def _jpeg(photo: Path | None) -> bytes:
    """Returns a photo as a JPEG file of 128×128 pixels."""
    import cv2  # slow to load, and not every page shows faces

    image = cv2.imread(str(photo)) if photo is not None and photo.is_file() else None
    if image is None:
        raise _missing()
    reduced = cv2.resize(image, (_FACE, _FACE), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", reduced, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def _missing() -> InputMissing:
    return InputMissing("there is no such picture; analyse the film again", code="picture_gone")
