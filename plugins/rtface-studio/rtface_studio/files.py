"""Routes of the file chooser: entries of allowed folders, and uploads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rtface.errors import InputError, InputMissing, Message, OutputError, RtfaceError, UsageError
from rtface.media.files.image_names import is_image
from rtface.media.files.leftovers import remove_unfinished_files
from rtface.media.files.workfile import Target, WorkFile
from rtface.web.http import JsonObject, in_thread, json_body
from rtface_studio.context import Studio
from rtface_studio.films import film_facts
from rtface_studio.folders import check_no_playlist
from rtface_studio.frame_renderer import jpeg, untouched_frame

UPLOAD_BYTES = 64 << 30
SPARE_BYTES = 1 << 30
"""Disk space that uploads leave free."""
_PIECE = 1 << 20
_SIDE = 96
"""Longest side of the picture of a file in the chooser, pixels."""
_LARGE_STILL = 32 << 20
"""Bytes; a larger still has no picture there, because all of it would have to be decoded."""
_COMING = "rtface-upload"
"""Name of unfinished uploads."""
_NAME_BYTES = 200
"""Maximum length of a file's name in UTF-8; file systems allow 255, and a number may be added."""


def routes(studio: Studio) -> list[BaseRoute]:
    """Returns the routes below ``/api/files``. Uploads that are neither film nor still are deleted."""
    turn = asyncio.Semaphore(1)
    # Deletes only uploads that a killed studio left unfinished: other programs write films to this folder, too.
    remove_unfinished_files(sorted(studio.uploads.glob(f".{_COMING}.*.partial*")))

    async def files(request: Request) -> Response:
        name = request.query_params.get("folder")
        if name is None:
            return JSONResponse(await in_thread(_folders, studio))
        entries = await in_thread(studio.folders.entries, name)
        folder = studio.folders.path(name)
        parent = folder.parent if folder not in studio.folders.roots else None
        return JSONResponse(
            {
                "folder": str(folder),
                "parent": None if parent is None else str(parent),
                "entries": [asdict(entry) for entry in entries],
            }
        )

    async def allowed(request: Request) -> Response:
        if request.method == "DELETE":
            path = None
            await in_thread(studio.folders.remove, request.query_params.get("folder"))
        else:
            path = await in_thread(studio.folders.add, (await json_body(request)).get("folder"))
        return JSONResponse({"folder": path and str(path), **await in_thread(_folders, studio)})

    async def picture(request: Request) -> Response:
        path = await in_thread(studio.folders.path, request.query_params.get("path"))
        async with turn:
            if await request.is_disconnected():  # the chooser now shows another folder
                return Response(status_code=HTTPStatus.NO_CONTENT)
            picture = await in_thread(_picture, path)
        return Response(picture, media_type="image/jpeg", headers={"cache-control": "no-store"})

    async def upload(request: Request) -> Response:
        length = request.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 15):
            raise UsageError("an upload needs its size (Content-Length)", code="upload_size")
        path = await _receive(request, studio.uploads, request.query_params.get("name", ""), int(length))
        try:
            await in_thread(film_facts, path)
        except RtfaceError as error:
            await in_thread(path.unlink, True)  # the sender still has the file, and must not see paths of this machine
            old, sent = (json.dumps(name)[1:-1] for name in (str(path), request.query_params.get("name", "")[:200]))
            raise type(error)(Message.of(json.loads(json.dumps(error.message.to_dict()).replace(old, sent)))) from None
        return JSONResponse({"path": str(path)})

    return [
        Route("/api/files", files),
        Route("/api/files/folders", allowed, methods=["POST", "DELETE"]),
        Route("/api/files/picture", picture),
        Route("/api/files/upload", upload, methods=["PUT"]),
    ]


def _folders(studio: Studio) -> JsonObject:
    """Returns the chooser's folders: all allowed ones, those added by the page, and "places" to look for others.
    "places" is None if the page cannot add folders."""
    folders = studio.folders
    return {
        "folders": [str(root) for root in folders.roots],
        "added": [str(path) for path in folders.added],
        "places": _places() if folders.may_grow else None,
    }


def _places() -> list[str]:
    """Lists the home folder, and disks at the usual mount points."""
    home, disks = Path.home(), list[str]()
    for parent in (Path("/media", home.name), Path("/run/media", home.name), Path("/mnt"), Path("/Volumes")):
        with contextlib.suppress(OSError):
            disks += sorted(str(path) for path in parent.iterdir() if path.is_dir())
    return [str(home), *disks]


def _picture(path: Path) -> bytes:
    """Renders a small picture of a film or still. Raises InputError if there is none."""
    if not path.is_file() or (is_image(path) and path.stat().st_size > _LARGE_STILL):
        raise InputMissing("{name}: has no picture", code="no_picture", name=path.name)
    check_no_playlist(path)
    with contextlib.suppress(InputError):  # the first frames of many films are black
        return jpeg(untouched_frame(path, 1.0, _SIDE)[0])
    return jpeg(untouched_frame(path, 0.0, _SIDE)[0])


async def _receive(request: Request, folder: Path, name: str, size: int) -> Path:
    """Writes an upload to a new file, and renames it when complete. Deletes an incomplete file."""
    await in_thread(_check_size, folder, size)
    wanted = _wanted(folder, name)
    file: WorkFile | None = None
    written = 0

    def write(file: WorkFile, data: bytes) -> None:
        _check_size(folder, len(data))  # other programs may have filled the disk meanwhile
        file.write(data)

    try:
        file = await in_thread(_new_file, wanted)
        waiting = bytearray()
        async for piece in request.stream():
            written += len(piece)
            if written > size:
                raise InputError(
                    "{name}: more was sent than the upload announced; send it again",
                    code="upload_long",
                    name=wanted.name,
                )
            waiting += piece
            if len(waiting) >= _PIECE:
                await in_thread(write, file, bytes(waiting))
                waiting.clear()
        await in_thread(write, file, bytes(waiting))
        if written < size:
            raise InputError("{name}: the upload was cut short; send it again", code="upload_short", name=wanted.name)
        return await in_thread(_named, file, wanted)
    except BaseException as error:
        if file is not None:
            file.discard()
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise OutputError(
                "{folder}: {name} could not be written ({why})",
                code="upload_unwritten",
                folder=folder,
                name=wanted.name,
                why=error.strerror,
            ) from error
        raise


def _check_size(folder: Path, size: int) -> None:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # reported when the file is created
    if size > min(UPLOAD_BYTES, free - SPARE_BYTES):
        raise OutputError(
            "an upload of {size} MiB does not fit: {free} MiB may be used in {folder}; free some space, "
            "or open the film where it lies",
            code="upload_room",
            size=size >> 20,
            free=max(0, free - SPARE_BYTES) >> 20,
            folder=folder,
        )


def _wanted(folder: Path, name: str) -> Path:
    """Returns the wanted path of an upload. The file name is the last part of `name`, without special characters."""
    last = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in re.split(r"[/\\]", name)[-1])
    kept = last.encode()[-_NAME_BYTES:].decode("utf-8", "ignore")  # keeps the suffix
    wanted = folder / (kept.strip(" .") or "film")
    check_no_playlist(Path(wanted.name))  # before other requests can open the file
    return wanted


def _new_file(wanted: Path) -> WorkFile:
    wanted.parent.mkdir(parents=True, exist_ok=True)
    file = WorkFile(Target(wanted.with_name(_COMING + wanted.suffix), wanted.name))
    with contextlib.suppress(OSError):  # a file system without modes
        file.path.chmod(0o600)
    return file


def _named(file: WorkFile, wanted: Path) -> Path:
    """Renames an upload to the first unused name."""
    for number in range(1, 1000):
        name = wanted.name if number == 1 else f"{wanted.stem} ({number}){wanted.suffix}"
        file.target = Target(wanted.with_name(name), wanted.name)
        with contextlib.suppress(FileExistsError):
            file.publish(sync=False)
            return file.path
    raise OutputError(
        "{folder}: there are a thousand files named {name}; remove some",
        code="many_files",
        folder=wanted.parent,
        name=wanted.name,
    )
