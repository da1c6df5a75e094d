"""Routes for the queue: items, progress, actions and results. Starts the queue's runner."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rtface.analysis.doubt import Doubt, most_doubtful
from rtface.concurrency.threads import call_in_thread
from rtface.config.options import Options
from rtface.errors import InputMissing, Message, RtfaceError, UsageError
from rtface.jobs.queue.api import Queue
from rtface.jobs.queue.item import Item
from rtface.media.files.image_names import is_image
from rtface.media.write.encoders import FAMILIES
from rtface.pipeline.dry_run import cost_of
from rtface.pipeline.film import plan_file
from rtface.pipeline.film_plan import FilmPlan
from rtface.trust.inspection import inspect_file
from rtface.trust.sidecar import read_sidecar, sidecar_path
from rtface.util.foreign import converted
from rtface.web.http import FileAnswer, JsonObject, in_thread, json_body, number_of, path_number
from rtface_studio.commands import json_of
from rtface_studio.context import Studio
from rtface_studio.frame_renderer import jpeg, untouched_frame

_POLL_S = 1.0
_START_S, _STILL_S = 3.0, 4.0
"""Seconds until a run's first frame; seconds for a whole still, mostly for the start of its process."""
_SAFETY = 1.25
"""Factor for the maximum remaining time, once the speed of a run has been measured."""
_DETACHED = 0x00000208  # DETACHED_PROCESS and CREATE_NEW_PROCESS_GROUP, on Windows
_SIDE = 2160
"""Maximum length of a frame's longer side on the page, in pixels."""
_ACTIONS: dict[str, Callable[[Queue, int], None]] = {
    "pause": Queue.pause,
    "resume": Queue.resume,
    "cancel": Queue.cancel,
    "retry": Queue.retry,
    "remove": Queue.remove,
}


def routes(studio: Studio) -> list[BaseRoute]:
    """Returns the routes below ``/api/queue``."""
    times, verify_slot = _Times(), asyncio.Semaphore(1)

    async def poll_items() -> JsonObject:
        studio.runners[:] = [process for process in studio.runners if process.poll() is None]
        return await in_thread(_items, studio, times)

    async def items(request: Request) -> Response:
        studio.events.follow("queue", poll_items, _POLL_S)
        return JSONResponse(await in_thread(_items, studio, times))

    async def run(request: Request) -> Response:
        return JSONResponse({"started": await in_thread(ensure_runner, studio)})

    async def change(request: Request) -> Response:
        number, verb = path_number(request.path_params["id"]), request.path_params["verb"]
        if verb == "move":
            place: Any = (await json_body(request)).get("place")
            if place not in ("first", "last") and (
                isinstance(place, bool) or not isinstance(place, int) or not 1 <= place < 10**9
            ):
                raise UsageError("place must be first, last or a number of at least 1", code="place")
            await in_thread(Queue().move, number, place)
        elif verb in _ACTIONS:
            await in_thread(_ACTIONS[verb], Queue(), number)
            if verb in ("resume", "retry"):
                await in_thread(ensure_runner, studio)
        else:
            raise UsageError(
                "there is no action {name}; choose one of {names}",
                code="no_verb",
                name=verb[:40],
                names=", ".join([*_ACTIONS, "move"]),
            )
        return JSONResponse(await in_thread(_items, studio, times))

    async def media(request: Request) -> Response:
        path = await in_thread(_file, studio, request)
        kind = mimetypes.guess_type(path.name)[0] or ""
        # Only films and pictures are displayed in the browser, because other files (HTML, SVG) may contain scripts.
        displayable = kind.startswith(("video/", "image/")) and "svg" not in kind
        return FileAnswer(
            path,
            filename=None if displayable and "download" not in request.query_params else path.name,
            media_type=kind if displayable else "application/octet-stream",
        )

    async def inspect(request: Request) -> Response:
        path = await in_thread(_file, studio, request)
        return JSONResponse((await in_thread(inspect_file, path)).to_dict())

    async def frame(request: Request) -> Response:
        path = await in_thread(_file, studio, request)
        time = number_of(request.query_params.get("time", "0"), "time", 0, 1e7)
        picture, seconds, side = await in_thread(untouched_frame, path, time, _SIDE)
        return Response(
            await in_thread(jpeg, picture),
            media_type="image/jpeg",
            headers={"cache-control": "no-store", "x-frame-seconds": f"{seconds:.6f}", "x-frame-side": str(side)},
        )

    async def report(request: Request) -> Response:
        if "download" in request.query_params:
            path = await in_thread(lambda: _existing_file(_sidecar(studio, request)))
            return FileAnswer(path, filename=path.name)
        return JSONResponse(await in_thread(_report, studio, request))

    async def verify(request: Request) -> Response:
        output, source = await in_thread(lambda: (_file(studio, request, "result"), _file(studio, request, "source")))
        # These exit codes are results, not failures: for example, 1 means that a check is impossible, 3 a difference.
        async with verify_slot:
            return JSONResponse(await json_of("verify", "--input", str(source), "--", str(output), accept=(0, 1, 3, 4)))

    base = "/api/queue/{id}"
    return [
        Route("/api/queue", items),
        Route("/api/queue/run", run, methods=["POST"]),
        Route(f"{base}/media/{{which}}", media),
        Route(f"{base}/inspect/{{which}}", inspect),
        Route(f"{base}/frame/{{which}}", frame),
        Route(f"{base}/report", report),
        Route(f"{base}/verify", verify, methods=["POST"]),
        Route(f"{base}/{{verb}}", change, methods=["POST"]),
    ]


def ensure_runner(studio: Studio) -> bool:
    """Starts ``rtface queue run``, unless it is already running. Returns whether it was started.

    The runner ends by itself when no items wait.
    """
    if Queue().store.held("runner"):
        return False
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "rtface", "queue", "run", "--quiet"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        creationflags=_DETACHED if os.name == "nt" else 0,
    )
    studio.runners.append(process)  # so that the studio collects its exit code
    return True


_FADING = Message(
    "{--colour:restore}: previews show the film as it is; the run removes fading if there is any",
    code="fading_preview",
)


def estimate(source: Path, output: Path, options: Options) -> JsonObject:
    """Estimates the cost of a run on this machine.

    Returns "seconds" (time on an idle machine), "most" (time under the current load), "bytes" (size of the output) and
    "crf" (quality of the encoder). They are None if unknown or if the run would be rejected. "messages": its warnings.
    """
    result = JsonObject(seconds=None, most=None, bytes=None, crf=None, messages=[])
    with suppress(RtfaceError):
        run, film = plan_file(source, output, replace(options, dry_run=True))
        result["messages"] = [Message(line).to_dict() for line in run.warnings.values()]
        if options.colour == "restore":
            result["messages"].append(_FADING.to_dict())
        if isinstance(film, FilmPlan):
            idle_seconds, size = cost_of(film.info, film.streams, options)
            seconds = None if idle_seconds is None else _START_S + max(1, round(idle_seconds))
            most = None if seconds is None else seconds * slowed()
            family = FAMILIES.get(film.streams.video.encoder) if film.streams else None
            crf = (options.crf if options.crf is not None else float(family.quality)) if family and family.crf else None
            return result | {"seconds": seconds, "most": most, "bytes": size, "crf": crf}
    return result


def slowed() -> float:
    """Returns the maximum factor by which the current load slows a run."""
    load = os.getloadavg()[0] if sys.platform != "win32" else 0.0
    return max(1.5, 1 + load / (os.cpu_count() or 1))


class _Times:
    """Estimates the times of items. Uses a separate thread, because the films have to be opened."""

    def __init__(self) -> None:
        self._total_seconds = dict[int, float | None]()  # by id; None if unknown
        self._estimation: Future[None] | None = None

    def left(self, items: Iterable[Item]) -> JsonObject:
        """Sums the remaining times of running and waiting items. Returns "seconds", "most" (under the current load) and
        "all" (whether every item is included). Applies the measured speed of the running item to all items."""
        unfinished = [item for item in items if item.state in ("running", "waiting", "interrupted")]
        new = [item for item in unfinished if item.id not in self._total_seconds]
        if new and (self._estimation is None or self._estimation.done()):
            self._estimation = call_in_thread("queue times", self._estimate_items, new)
        times, pace, most = list[float](), 1.0, slowed()
        for item in sorted(unfinished, key=lambda item: item.left_s is None):
            remaining = (self._total_seconds.get(item.id) or 0.0) * (1 - (item.share or 0.0))
            if item.left_s is not None:
                times.append(item.left_s)
                pace, most = (item.left_s / remaining if remaining else pace), _SAFETY
            elif remaining:
                times.append(remaining * pace)
        seconds = sum(times) if times else None
        return {"seconds": seconds, "most": seconds and seconds * most, "all": len(times) == len(unfinished)}

    def _estimate_items(self, items: Iterable[Item]) -> None:
        for item in items:
            self._total_seconds[item.id] = seconds_of(item)


def seconds_of(item: Item) -> float | None:
    """Estimates the time for a whole item in seconds. Returns None if unknown."""
    source = Path(item.input)
    with suppress(RtfaceError, OSError):  # for example an unreadable folder
        if is_image(source):
            return _STILL_S
        return estimate(source, Path(item.output), Options.of(item.options))["seconds"] if source.is_file() else None
    return None


def _items(studio: Studio, times: _Times) -> JsonObject:
    queue = Queue()
    items = queue.items()
    starting = any(process.poll() is None for process in studio.runners)
    return {
        "running": starting or any(item.state == "running" for item in items) or queue.store.held("runner"),
        "waits": queue.store.held("waits"),
        "left": times.left(items),
        "items": [item.to_dict() | _result(studio, item.output) for item in items],
    }


def _result(studio: Studio, output: str) -> dict[str, bool]:
    """Returns whether the page may show a result. The command line may have written it outside the folders."""
    visible = False
    with suppress(UsageError, OSError):
        visible = studio.folders.path(output).is_file()
    return {"shown": visible, "still": visible and is_image(Path(output))}


def _report(studio: Studio, request: Request) -> JsonObject:
    """Reads the sidecar of a result. Returns {} if there is none."""
    sidecar = _sidecar(studio, request)
    if not sidecar.is_file():
        return {}
    table = read_sidecar(sidecar)
    keys = ("finished", "rtface", "engines", "changes", "treatments", "options")
    tracks: list[JsonObject] = table.get("treatments") or []
    doubts = [(track["id"], track["person"], converted(track.get("doubts", []), list[Doubt])) for track in tracks]
    moments = {"moment": moment_of(tracks), "doubtful": [asdict(place) for place in most_doubtful(doubts)]}
    return {key: table[key] for key in keys if key in table} | moments


def moment_of(tracks: list[JsonObject]) -> JsonObject | None:
    """Chooses the best moment for a comparison. Selects the face with the largest product of gain and width, when it is
    turned away least. Returns "at_s" (seconds of the input) and "box" (display pixels), or None."""
    usable = [track for track in tracks if track.get("frames_corrected") and track.get("doubts")]
    best = max(usable, key=lambda face: (face["treatment"].get("gain_db") or 0.0) * face["mean_width_px"], default=None)
    doubts: list[JsonObject] = best["doubts"] if best else []
    return min(doubts, key=lambda doubt: doubt.get("turned", 0.0), default=None)


def _sidecar(studio: Studio, request: Request) -> Path:
    """Returns the path of an item's sidecar, whether or not it exists."""
    return studio.folders.path(str(sidecar_path(_file(studio, request, "result"))))  # the sidecar may be a link


def _file(studio: Studio, request: Request, which: str | None = None) -> Path:
    item = Queue().item(path_number(request.path_params["id"]))
    name = str(which or request.path_params["which"])
    if name not in ("source", "result"):
        raise UsageError("choose source or result, not {name}", code="no_which", name=name[:40])
    return _existing_file(studio.folders.path(item.input if name == "source" else item.output))


def _existing_file(path: Path) -> Path:
    """Returns the path. Raises InputMissing if it is not a file."""
    if not path.is_file():
        raise InputMissing(
            "{name} no longer exists; restore it, or remove the item from the queue", code="file_gone", name=path.name
        )
    return path
