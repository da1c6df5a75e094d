"""Routes of the file chooser, for allowed folders and for uploads."""

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

UPLOAD_BYTES = 64 << 30  # maximum size of an upload
SPARE_BYTES = 1 << 30
"""Disk space that uploads leave free."""
_WRITE_BYTES = 1 << 20  # bytes of an upload that are written at once
_SIDE = 96
"""Longer side of a file's picture in the chooser, in pixels."""
_LARGE_STILL = 32 << 20
"""Stills with more bytes have no picture in the chooser, because they would have to be decoded completely."""
_UPLOAD_NAME = "rtface-upload"
"""File name of unfinished uploads, without suffix."""
_NAME_BYTES = 200
"""Maximum length of a file's name in UTF-8; file systems allow 255, but a number may be added."""


def routes(studio: Studio) -> list[BaseRoute]:
    """Returns the routes below ``/api/files``. Uploads that are neither film nor still are deleted."""
    turn = asyncio.Semaphore(1)
    # Deletes only uploads that a killed studio left unfinished, because other programs may write to this folder, too.
    remove_unfinished_files(sorted(studio.uploads.glob(f".{_UPLOAD_NAME}.*.partial*")))

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

    async def allowed_folders(request: Request) -> Response:
        if request.method == "DELETE":
            path = None
            await in_thread(studio.folders.remove, request.query_params.get("folder"))
        else:
            path = await in_thread(studio.folders.add, (await json_body(request)).get("folder"))
        return JSONResponse({"folder": path and str(path), **await in_thread(_folders, studio)})

    async def picture(request: Request) -> Response:
        path = await in_thread(studio.folders.path, request.query_params.get("path"))
        async with turn:
            if await request.is_disconnected():  # the chooser shows another folder by now
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
            await in_thread(path.unlink, True)  # the sender must not see paths of this machine
            old, sent = (json.dumps(name)[1:-1] for name in (str(path), request.query_params.get("name", "")[:200]))
            raise type(error)(Message.of(json.loads(json.dumps(error.message.to_dict()).replace(old, sent)))) from None
        return JSONResponse({"path": str(path)})

    return [
        Route("/api/files", files),
        Route("/api/files/folders", allowed_folders, methods=["POST", "DELETE"]),
        Route("/api/files/picture", picture),
        Route("/api/files/upload", upload, methods=["PUT"]),
    ]


def _folders(studio: Studio) -> JsonObject:
    """Returns the chooser's folders: all allowed folders, those added on the page, and "places" where the user may
    look for more. "places" is None if the page cannot add folders."""
    folders = studio.folders
    return {
        "folders": [str(root) for root in folders.roots],
        "added": [str(path) for path in folders.added],
        "places": _places() if folders.may_grow else None,
    }


def _places() -> list[str]:
    """Lists the home folder and the disks at the usual mount points."""
    home, disks = Path.home(), list[str]()
    for parent in (Path("/media", home.name), Path("/run/media", home.name), Path("/mnt"), Path("/Volumes")):
        with contextlib.suppress(OSError):
            disks += sorted(str(path) for path in parent.iterdir() if path.is_dir())
    return [str(home), *disks]


def _picture(path: Path) -> bytes:
    """Renders a small picture of a film or still. Raises InputError if there is no picture."""
    if not path.is_file() or (is_image(path) and path.stat().st_size > _LARGE_STILL):
        raise InputMissing("{name}: has no picture", code="no_picture", name=path.name)
    check_no_playlist(path)
    with contextlib.suppress(InputError):  # the first frames of many films are black
        return jpeg(untouched_frame(path, 1.0, _SIDE)[0])
    return jpeg(untouched_frame(path, 0.0, _SIDE)[0])


async def _receive(request: Request, folder: Path, name: str, size: int) -> Path:
    """Writes an upload to a new file. Renames the file when it is complete, and deletes an incomplete file."""
    await in_thread(_check_size, folder, size)
    target = _upload_path(folder, name)
    file: WorkFile | None = None
    written = 0

    def write(file: WorkFile, data: bytes) -> None:
        _check_size(folder, len(data))  # other programs may have filled the disk
        file.write(data)

    try:
        file = await in_thread(_new_file, target)
        buffer = bytearray()
        async for chunk in request.stream():
            written += len(chunk)
            if written > size:
                raise InputError(
                    "{name}: the upload was larger than announced; send it again",
                    code="upload_long",
                    name=target.name,
                )
            buffer += chunk
            if len(buffer) >= _WRITE_BYTES:
                await in_thread(write, file, bytes(buffer))
                buffer.clear()
        await in_thread(write, file, bytes(buffer))
        if written < size:
            raise InputError("{name}: the upload was cut short; send it again", code="upload_short", name=target.name)
        return await in_thread(_publish, file, target)
    except BaseException as error:
        if file is not None:
            file.discard()
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise OutputError(
                "{folder}: {name} could not be written ({why})",
                code="upload_unwritten",
                folder=folder,
                name=target.name,
                why=error.strerror,
            ) from error
        raise


def _check_size(folder: Path, size: int) -> None:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # the error is reported when the file is created
    if size > min(UPLOAD_BYTES, free - SPARE_BYTES):
        raise OutputError(
            "an upload of {size} MiB does not fit: {free} MiB may be used in {folder}; free some space, "
            "or open the film in its own folder",
            code="upload_room",
            size=size >> 20,
            free=max(0, free - SPARE_BYTES) >> 20,
            folder=folder,
        )


def _upload_path(folder: Path, name: str) -> Path:
    """Returns the path for an upload. The file name is the last part of `name`, without special characters."""
    cleaned = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in re.split(r"[/\\]", name)[-1])
    shortened = cleaned.encode()[-_NAME_BYTES:].decode("utf-8", "ignore")  # the end, with the suffix
    target = folder / (shortened.strip(" .") or "film")
    check_no_playlist(Path(target.name))  # before other requests can open the file
    return target


def _new_file(target: Path) -> WorkFile:
    target.parent.mkdir(parents=True, exist_ok=True)
    file = WorkFile(Target(target.with_name(_UPLOAD_NAME + target.suffix), target.name))
    with contextlib.suppress(OSError):  # the file system has no modes
        file.path.chmod(0o600)
    return file


def _publish(file: WorkFile, target: Path) -> Path:
    """Renames an upload to the first unused name."""
    for number in range(1, 1000):
        name = target.name if number == 1 else f"{target.stem} ({number}){target.suffix}"
        file.target = Target(target.with_name(name), target.name)
        with contextlib.suppress(FileExistsError):
            file.publish(sync=False)
            return file.path
    raise OutputError(
        "{folder}: there are a thousand files named {name}; remove some",
        code="many_files",
        folder=target.parent,
        name=target.name,
    )
