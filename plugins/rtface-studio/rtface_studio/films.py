"""Routes for films: list of films, original and enhanced frames, settings, analysis, start of runs."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rtface.config.option_sources import load
from rtface.config.options import OPTIONS, Options, Trait, check, having
from rtface.engine.recipe import find_recipes
from rtface.errors import Closed, InputMissing, OutputError, RtfaceError, UsageError, log, reason
from rtface.geometry.transforms import display_size
from rtface.jobs.queue.api import Queue
from rtface.media.files.image_names import IMAGE_KINDS, is_image
from rtface.media.read.source import FileSource
from rtface.media.stills.image_read import read_image
from rtface.repair.mask import mask_path
from rtface.util.files import numbered, write_atomically
from rtface.util.paths import data_dir
from rtface.util.text import shell_line
from rtface.web.http import JsonObject, in_thread, json_body, json_object, number_of, path_number
from rtface_studio import analysis, damage
from rtface_studio.analysis import FilmTasks
from rtface_studio.context import Studio, Turn
from rtface_studio.film_settings import OPTIONS as FILM_OPTIONS
from rtface_studio.film_settings import FilmSettings, SettingsFolder
from rtface_studio.folders import check_no_playlist, stamp_of
from rtface_studio.frame_renderer import FrameRenderer, PersonOnFrame, RenderedFrame, jpeg, untouched_frame
from rtface_studio.queue import ensure_runner, estimate

SIDE = 2160
"""Maximum length of a picture's longer side on the page, in pixels."""
_LIST_SIDE = 320
"""Maximum length of a picture's longer side in the list of films, in pixels."""
_TRIES = 3
"""Attempts to render a frame. An attempt fails if a page with another film closes this film's renderer."""
_MAX_STORED = 50
"""Maximum number of open films that are stored for the next start."""
CLIP_S = 4.0
"""Length of the clip that the page plays, in seconds."""
_DIALOG_OPTIONS = ("start", "end", "codec", "crf")
"""Options in the dialog that starts a run."""
_AT_ONCE = 2
"""Maximum number of frames that are rendered or encoded at once. Other requests wait without a worker thread."""


class FilmFacts(TypedDict):
    """Metadata of a film or still for the page. "size" is the size of the file in bytes."""

    kind: Literal["film", "still"]
    duration_s: float | None
    fps: float
    width: int
    height: int
    codec: str
    sound: bool
    size: int | None


@dataclass(slots=True)
class Film:
    """A film that the page has opened.

    Attributes:
        id: number in the film's address. Each start uses new numbers, because old pages may still be open.
        path: absolute path in an allowed folder.
        stamp: identity of the file: device, inode, size and time of change.
        facts: metadata for the page.
        settings: folder of the film's settings.
    """

    id: int
    path: Path
    stamp: tuple[int, ...]
    facts: FilmFacts
    settings: SettingsFolder


class Films:
    """Manages the opened films and one film's renderer. Stores the list of films for the next start."""

    def __init__(self, studio: Studio) -> None:
        self._studio, self._lock = studio, threading.Lock()
        self._films: dict[int, Film] = {}
        self._elsewhere: list[JsonObject] = []  # films of earlier sessions, outside of this session's folders
        self._load()
        self._numbers = itertools.count(secrets.randbelow(90_000_000) + 1)
        self._renderer: tuple[int, FrameRenderer] | None = None
        studio.closing.callback(self.close)

    def open(self, name: object) -> Film:
        """Opens the film at a path, or returns it if already open.

        Raises:
            UsageError: the path is outside the allowed folders.
            InputError: the file is neither film nor still.
        """
        path = self._studio.folders.path(name)
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UsageError(
                "{name} is a device or a pipe; choose a film or a still", code="film_device", name=path.name
            )
        if (film := self._find_open(path)) is not None:
            return film
        stamp, facts, settings = stamp_of(path), film_facts(path), SettingsFolder(path)
        with self._lock:  # another page may have opened the film in the meantime
            if (film := self._find_open(path)) is None:
                number = next(number for number in self._numbers if number not in self._films)
                film = Film(number, path, stamp, facts, settings)
                self._films = {number: old for number, old in self._films.items() if old.path != path} | {film.id: film}
                self._store()
            return film

    def leave(self, number: str, *, copy: bool) -> None:
        """Removes a film from the list, but keeps its settings. With `copy`, also deletes the uploaded file.

        Raises:
            UsageError: the file was not uploaded, or an item of the queue needs it.
            OutputError: the file cannot be deleted.
        """
        film = self.get(number)
        if copy:
            self._delete(film)
        with self._lock:
            self._films = {number: old for number, old in self._films.items() if old is not film}
            self._store()

    def _delete(self, film: Film) -> None:
        if not self._is_upload(film):
            raise UsageError(
                "{name} was not uploaded; delete it in its own folder", code="no_copy", name=film.path.name
            )
        if any(
            item.input == str(film.path) and item.state not in ("done", "failed", "cancelled")
            for item in Queue().items()
        ):
            raise UsageError("{name} is in the queue; cancel it there first", code="copy_needed", name=film.path.name)
        try:
            film.path.unlink(missing_ok=True)
            mask_path(film.path).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                "{path}: cannot be deleted ({why})", code="delete_failed", path=film.path, why=error.strerror
            ) from error

    def _store(self) -> None:
        """Writes the list for the next start."""
        films = [
            {"id": film.id, "path": str(film.path), "stamp": film.stamp, "facts": film.facts}
            for film in self._films.values()
        ]
        try:
            write_atomically(_list_file(), json.dumps([*self._elsewhere, *films][-_MAX_STORED:]).encode(), private=True)
        except OSError as error:
            log.warning("the list of open films cannot be saved for the next start: %s", error.strerror)

    def _load(self) -> None:
        """Reads the list of the last start. Opens the films that are in allowed folders and unchanged."""
        try:
            rows = json.loads(_list_file().read_bytes())
            for row in rows:
                path = Path(row["path"])
                if not self._studio.folders.holds(path):
                    self._elsewhere.append(row)
                elif path.resolve() == path and (stamp := stamp_of(path)) == tuple(row["stamp"]):
                    self._films[int(row["id"])] = Film(int(row["id"]), path, stamp, row["facts"], SettingsFolder(path))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, RtfaceError) as error:
            log.warning("the list of open films of the last start cannot be read (%s)", reason(error))

    def _find_open(self, path: Path) -> Film | None:
        stamp = stamp_of(path)
        return next((film for film in self._films.values() if (film.path, film.stamp) == (path, stamp)), None)

    def get(self, number: str) -> Film:
        """Returns an open film. Raises InputMissing for an unknown number."""
        film = self._films.get(path_number(number))
        if film is None:
            raise InputMissing("this film is no longer open; choose it again", code="film_closed")
        return film

    def all(self) -> Response:
        """Returns all open films for the page, newest first."""
        return JSONResponse({"films": [self.shown(film) for film in reversed(self._films.values())]})

    def album(self, photo: tuple[int, Path]) -> list[tuple[int, Path]]:
        """Returns numbers and paths of the open photographs in a photograph's folder."""
        films = sorted(self._films.values(), key=lambda film: film.path.name.casefold())
        beside = (film for film in films if film.path.parent == photo[1].parent and film.facts["kind"] == "still")
        return [(film.id, film.path) for film in beside if stamp_of(film.path) == film.stamp]

    def shown(self, film: Film) -> dict[str, object]:
        """Returns a film for the page. "copied" is true if it was uploaded."""
        return {
            "id": film.id,
            "path": str(film.path),
            "name": film.path.name,
            "copied": self._is_upload(film),
            **film.facts,
        }

    def _is_upload(self, film: Film) -> bool:
        return film.path.parent == self._studio.uploads.resolve()

    def current(self, number: str) -> Film:
        """Returns an open film, after a check that the file is unchanged.

        Raises:
            InputMissing: the number is unknown, or the file was changed or removed.
            UsageError: its path is now outside of the allowed folders.
        """
        film = self.get(number)
        if self._studio.folders.path(str(film.path)) != film.path or stamp_of(film.path) != film.stamp:
            raise InputMissing(
                "{name} was changed or removed after it was opened; choose it again",
                code="film_changed",
                name=film.path.name,
            )
        return film

    def render(self, film: Film, *request: Any, corrected: bool) -> RenderedFrame:
        """Renders a frame of a film; see `FrameRenderer.render`."""
        for _ in range(_TRIES):
            with suppress(Closed):
                return self._renderer_of(film).render(*request, corrected=corrected)
        return self._renderer_of(film).render(*request, corrected=corrected)

    def _renderer_of(self, film: Film) -> FrameRenderer:
        """Returns the renderer of a film. Closes the renderer of another film."""
        with self._lock:
            previous = self._renderer
            if previous is not None and previous[0] == film.id:
                return previous[1]
            self._renderer = (film.id, FrameRenderer(film.path))
            renderer = self._renderer[1]
        if previous is not None:
            previous[1].close()
        return renderer

    def close(self) -> None:
        """Releases the renderer."""
        if self._renderer is not None:
            self._renderer[1].close()


def routes(studio: Studio) -> list[BaseRoute]:
    """Returns the routes below ``/api/films``."""
    films, tasks, turn = Films(studio), FilmTasks(studio), asyncio.Semaphore(_AT_ONCE)
    enhancing = Turn(studio, _AT_ONCE)

    async def current(request: Request) -> Film:
        return await in_thread(films.current, request.path_params["id"])

    def film_path(request: Request) -> tuple[int, Path]:
        film = (films.get if request.method == "GET" else films.current)(request.path_params["id"])
        return film.id, film.path

    def photo(request: Request) -> tuple[int, Path]:
        film = films.current(request.path_params["id"])
        return film.id, film.path

    async def open_films(request: Request) -> Response:
        if request.method == "POST":
            return JSONResponse(films.shown(await in_thread(films.open, (await json_body(request)).get("path"))))
        return films.all()

    async def film(request: Request) -> Response:
        if request.method == "DELETE":
            await in_thread(films.leave, request.path_params["id"], copy=bool(request.query_params.get("copy")))
            return films.all()
        return JSONResponse(films.shown(films.get(request.path_params["id"])))

    async def picture(request: Request) -> Response:
        film = await current(request)
        time = min(1.0, (film.facts["duration_s"] or 0.0) / 2)
        async with turn:
            picture, *_ = await in_thread(untouched_frame, film.path, time, _LIST_SIDE)
        return Response(await in_thread(jpeg, picture), media_type="image/jpeg", headers={"cache-control": "no-store"})

    async def frame(request: Request) -> Response:
        film, query = await current(request), request.query_params
        time = number_of(query.get("time", "0"), "time", 0, 1e7)
        chosen = FilmSettings.of(json_object(query.get("settings", "{}"), "settings"))
        labels = persons_at(tasks.analysis(film.id), time)
        options = await in_thread(chosen.at, time, labels)  # reads the settings file
        persons = tuple(
            PersonOnFrame(label, tasks.photos(film.id, label), chosen.treatment_of(label), chosen.name_of(label))
            for label in labels
            if len(labels) > 1 or chosen.name_of(label)
        )
        side = round(number_of(query.get("side", "1280"), "side", 64, SIDE))
        layer = query.get("layer", "after")
        if layer not in ("before", "after", "invented"):
            raise UsageError("layer is before, after or invented, not {name}", code="no_layer", name=layer[:40])
        if layer == "invented":
            options = replace(options, invented="show")
        async with turn if layer == "before" else enhancing:
            if await request.is_disconnected():  # the page closed the connection while the request waited
                return Response(status_code=HTTPStatus.NO_CONTENT)
            rendered = await in_thread(films.render, film, time, side, options, persons, corrected=layer != "before")
            picture = await in_thread(jpeg, rendered.before if layer == "before" else rendered.after)
        return Response(
            picture,
            media_type="image/jpeg",
            headers={
                "cache-control": "no-store",
                "x-frame-time": f"{rendered.time:.6f}",
                "x-faces": str(rendered.faces),
                "x-left-alone": json.dumps(rendered.left_alone),
                "x-nose": json.dumps(rendered.nose),
                "x-render-ms": f"{1e3 * rendered.seconds:.0f}",
            },
        )

    async def settings(request: Request) -> Response:
        film = films.get(request.path_params["id"])
        if request.method == "PUT":
            settings = FilmSettings.of(await json_body(request))
            await in_thread(film.settings.keep, settings)
            studio.events.publish(
                f"film/{film.id}/settings",
                {"by": request.query_params.get("by", "")[:40], "settings": settings.to_json()},
            )
        return JSONResponse((await in_thread(film.settings.load)).to_json())

    async def start(request: Request) -> Response:
        film, output, options, names = await _run_request(request)
        item = await in_thread(lambda: Queue().add_checked(str(film.path), str(output), options, names))
        await in_thread(ensure_runner, studio)
        return JSONResponse({"item": item.id})

    async def play(request: Request) -> Response:
        film, body = await current(request), await json_body(request)
        if body.get("action") == "stop":
            tasks.of(film.id, "clip").stop()
        else:
            chosen = replace(FilmSettings.of(body.get("settings", {})), persons={})  # labels are not valid in a clip
            options = await in_thread(chosen.for_run, film.settings.path, film.path)
            start_s = number_of(str(body.get("time", 0)), "time", 0, 1e7)
            clip = replace(options, start=start_s, end=start_s + CLIP_S)
            await tasks.play(
                film.id,
                film.path,
                option_words(clip, [*chosen.run, *(["shots"] if options.shots else []), "start", "end"]),
            )
        return JSONResponse(tasks.of(film.id, "clip").state)

    async def command(request: Request) -> Response:
        film, output, options, names = await _run_request(request)
        return JSONResponse(
            {
                "command": command_line(film.path, output, options, ["sidecar", *names]),
                "exists": output.exists(),
                **await in_thread(estimate, film.path, output, options),
            }
        )

    async def _run_request(request: Request) -> tuple[Film, Path, Options, list[str]]:
        """Reads a request to start a run: film, output, options, and names of the options that were set."""
        film, body = await current(request), await json_body(request)
        output = await in_thread(studio.folders.path, body.get("output"))
        chosen = FilmSettings.of(body.get("settings", {}))
        if not isinstance(overwrite := body.get("overwrite", False), bool):
            raise UsageError("overwrite must be true or false", code="overwrite")
        options = replace(
            await in_thread(chosen.for_run, film.settings.path, film.path),
            overwrite=overwrite,
            sidecar=True,  # the page shows the content of the sidecar
            # The quality in the settings belongs to the codec in the settings, not to the requested codec.
            **({"crf": None} if body.get("codec") else {})
            | {key: check(key, body[key], key) for key in _DIALOG_OPTIONS if body.get(key)},
        )
        if body.get("compare") is True:
            options = replace(options, compare=output.with_stem(f"{output.stem}.before-after"))
        names = [
            *chosen.run,
            *(
                key
                for key in ("shots", "treatment", "repair", "overwrite", "compare")
                if getattr(options, key) not in (None, False)
            ),
            *(key for key in _DIALOG_OPTIONS if body.get(key)),
        ]
        return film, output, options, names

    async def output(request: Request) -> Response:
        film = films.get(request.path_params["id"])
        label = "unchanged" if "unchanged" in request.query_params else "enhanced"
        return JSONResponse({"output": str(await in_thread(output_of, film.path, label))})

    async def choices(request: Request) -> Response:
        defaults, names = (await in_thread(load, {})).options, (*FILM_OPTIONS, *having(Trait.CONTROL), "turn", "mirror")
        return JSONResponse(
            {
                "engines": sorted(await in_thread(find_recipes)),
                "defaults": {name: getattr(defaults, name) for name in names} | {"look": defaults.look_name},
                "film": {name: OPTIONS[name].check.words for name in FILM_OPTIONS},
            }
        )

    base = "/api/films/{id}"
    return [
        Route("/api/choices", choices),
        Route("/api/films", open_films, methods=["GET", "POST"]),
        Route(base, film, methods=["GET", "DELETE"]),
        Route(f"{base}/frame", frame),
        Route(f"{base}/picture", picture),
        *analysis.routes(tasks, film_path),
        *damage.routes(studio, photo, films.album),
        Route(f"{base}/settings", settings, methods=["GET", "PUT"]),
        Route(f"{base}/start", start, methods=["POST"]),
        Route(f"{base}/clip", play, methods=["POST"]),
        Route(f"{base}/command", command, methods=["POST"]),
        Route(f"{base}/output", output),
    ]


def command_line(source: Path, output: Path, options: Options, names: Iterable[str]) -> str:
    """Returns the command line of a run with the options `names`."""
    return shell_line(["rtface", "run", str(source), str(output), *option_words(options, names)])


def option_words(options: Options, names: Iterable[str]) -> list[str]:
    """Formats the options `names` as command-line arguments. None becomes the option's first special word."""
    arguments = list[str]()
    for name in names:
        value = getattr(options, name)
        value = OPTIONS[name].check.words[0] if value is None else value
        arguments += [OPTIONS[name].flag] if value is True else [OPTIONS[name].flag, str(value)]
    return arguments


def output_of(path: Path, label: str = "enhanced") -> Path:
    """Returns an unused output path next to the film. Its name contains `label`."""
    writable = path.suffix.lower() in (*IMAGE_KINDS, ".mp4", ".mov", ".mkv", ".webm")
    suffix = path.suffix if writable else ".png" if is_image(path) else ".mkv"
    for output in itertools.islice(numbered(path.with_name(f"{path.stem}.{label}{suffix}")), 999):
        if not output.exists():
            return output
    raise UsageError(
        "{folder} contains a thousand enhanced versions of {name}; choose a name yourself",
        code="many_versions",
        folder=path.parent,
        name=path.name,
    )


def film_facts(path: Path) -> FilmFacts:
    """Reads the metadata of a film or still for the page. Raises InputError for other files, and for playlists."""
    check_no_playlist(path)
    if is_image(path):
        image = read_image(path).frame
        width, height = display_size(image.image.width, image.image.height, image.display)
        return {
            "kind": "still",
            "duration_s": 0.0,
            "fps": 1.0,
            "width": round(width),
            "height": round(height),
            "codec": path.suffix[1:].lower(),
            "sound": False,
            "size": path.stat().st_size,
        }
    source = FileSource(path)
    try:
        info = source.info
        return {
            "kind": "film",
            "duration_s": info.duration_s,
            "fps": float(info.rate),
            "width": info.display_width,
            "height": info.display_height,
            "codec": info.codec,
            "sound": info.has_audio,
            "size": info.size,
        }
    finally:
        source.close()


def _list_file() -> Path:
    return data_dir() / "studio" / "open-films.json"


def persons_at(analysis_result: JsonObject, time: float) -> list[str]:
    """Returns the labels of the persons on the frame at `time` (seconds)."""
    tracks = {
        number
        for number, track in analysis_result.get("tracks", {}).items()
        if track["first_s"] - 0.1 <= time <= track["last_s"] + 0.1
    }
    return [
        label
        for label, person in analysis_result.get("persons", {}).items()
        if tracks & {str(number) for number in person["tracks"]}
    ]
