"""Routes that propose, fill and keep masks of the damage of photographs."""

from __future__ import annotations

import asyncio
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import cached_property, lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rtface.config.option_sources import load
from rtface.device.cpu.device import CpuDevice
from rtface.errors import InputError, UsageError, message_of
from rtface.frame import Box, Bytes, Frame
from rtface.geometry.transforms import clip_box
from rtface.media.stills.image_read import read_image
from rtface.pipeline.repair import open_repairer
from rtface.repair.mask import mask_path, read_mask, upright_size
from rtface.repair.repairer import Repairer
from rtface.web.http import JsonObject, body, in_thread, json_body, number_of
from rtface_studio.analysis import FilmTask
from rtface_studio.context import Studio, Turn
from rtface_studio.film_settings import SettingsFolder
from rtface_studio.folders import stamp_of, write_kept
from rtface_studio.frame_renderer import jpeg

MOST_PIXELS = 100_000_000  # maximum size of a photograph on this page, because browsers limit the size of a canvas
_MASK_BYTES = 64 << 20  # maximum size of a mask from the page
_RED, _PNG_SIZE = 2, slice(16, 24)  # channel in OpenCV's order; bytes of a PNG with width and height
_SIDES = "left", "top", "right", "bottom"
_NOT_STORED = {"cache-control": "no-store"}
Photo = tuple[int, Path]  # number and path of an opened photograph


class Masks:
    """Stores the masks of opened photographs, and fills damage. Thread-safe; computes one thing at a time.

    The page draws masks as red layers. A mask is therefore sent as a red PNG whose opacity is the damage.

    Args:
        studio: allowed folders, and the stack that closes the networks.

    Attributes:
        looked: numbers of the photographs that the user has seen with their masks.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio, self._lock, self._stack = studio, threading.Lock(), ExitStack()
        self._drafts: dict[int, bytes] = {}  # masks that are not kept yet, as the page draws them
        self.looked: set[int] = set()
        studio.closing.callback(self._close)

    @cached_property
    def _repairer(self) -> Repairer:
        return open_repairer(load({}).options, self._stack)

    def propose(self, photo: Photo, *, again: bool = False) -> None:
        """Proposes a mask, unless there is one that is not kept yet. With `again`, replaces that one.

        Raises:
            InputError: the photograph cannot be read.
            MissingComponent: a network is absent or damaged.
        """
        frame = read_image(photo[1]).frame
        with self._lock:
            if again or photo[0] not in self._drafts:
                self._drafts[photo[0]] = _layer_of(self._repairer.propose(frame).mask)

    def read(self, photo: Photo, *, again: bool = False) -> bytes:
        """Returns a photograph's mask as the page draws it: changed, kept or proposed. See `propose`."""
        if again or self.state_of(photo) == "none":
            self.propose(photo, again=again)
        draft = self._drafts.get(photo[0])
        return _layer_of(read_mask(self._file(photo), upright_size(_frame_of(photo)))) if draft is None else draft

    def change(self, photo: Photo, layer: bytes) -> None:
        """Replaces a photograph's mask, without keeping it. Raises UsageError for an unusable layer."""
        _mask_of(layer, upright_size(_frame_of(photo)))
        self._drafts[photo[0]] = layer

    def keep(self, photo: Photo) -> None:
        """Writes a photograph's mask beside it. Its runs then fill the damage, until the user turns that off.

        Raises:
            OutputError: a file cannot be written.
        """
        layer, settings = self.read(photo), SettingsFolder(photo[1])
        mask = _mask_of(layer, upright_size(_frame_of(photo)))
        write_kept(self._file(photo), cv2.imencode(".png", mask)[1].tobytes(), private=False)
        if self._drafts.get(photo[0]) is layer:  # not a newer one
            del self._drafts[photo[0]]
        settings.keep(replace(settings.load(), repair=True))

    def state_of(self, photo: Photo) -> str:
        """Returns "none", "proposed", "looked" (at) or "kept"."""
        kept = mask_path(photo[1]).is_file()
        if photo[0] not in self._drafts and (not kept or SettingsFolder(photo[1]).load().repair):
            return "kept" if kept else "none"
        return "looked" if photo[0] in self.looked else "proposed"  # or a mask from elsewhere

    def picture(self, photo: Photo, fill: Box | None = None) -> bytes:
        """Renders a photograph at its full size, as JPEG.

        Args:
            photo: the photograph.
            fill: the part to render, with its damage filled; None renders the whole photograph as it is.
        """
        frame = _frame_of(photo)
        if (size := upright_size(frame))[0] * size[1] > MOST_PIXELS:
            raise UsageError(
                "{name}: has more than {most} megapixels; mark its damage in an image editor, and use "
                "'rtface run --repair'",
                code="repair_large",
                name=photo[1].name,
                most=MOST_PIXELS // 1_000_000,
            )
        left, top, right, bottom = part = clip_box(fill or (0, 0, *size), *size)
        if right <= left or bottom <= top:
            raise UsageError("this part is outside the photograph", code="repair_part")
        if fill is not None:
            mask = _mask_of(self.read(photo), size)
            with self._lock:
                frame = self._repairer.fill(frame, mask, part) or frame  # None: nothing is marked there
        pixels: Any = CpuDevice().view(frame).thumbnail(sys.maxsize)[0]
        if pixels.shape[:2] != size[::-1]:  # samples are not square
            pixels = cv2.resize(pixels, size)
        return jpeg(pixels[top:bottom, left:right])

    def _file(self, photo: Photo) -> Path:
        return self._studio.folders.path(str(mask_path(photo[1])))

    def _close(self) -> None:
        with self._lock:
            self._stack.close()


def routes(
    studio: Studio, photo_of: Callable[[Request], Photo], album_of: Callable[[Photo], list[Photo]]
) -> list[BaseRoute]:
    """Returns the routes of masks below ``/api/films/ID``.

    Args:
        studio: state that the routes share.
        photo_of: function that returns a request's photograph.
        album_of: function that returns all opened photographs of a photograph's folder.
    """
    masks, turn = Masks(studio), Turn(studio, 1)
    task = FilmTask(lambda state: studio.events.publish("damage", state, keep=True), asyncio.Semaphore(1))

    async def whole(request: Request) -> Response:
        data = await in_thread(masks.picture, photo_of(request))
        return Response(data, media_type="image/jpeg", headers=_NOT_STORED)

    async def filled(request: Request) -> Response:
        photo, query = photo_of(request), request.query_params
        left, top, right, bottom = (round(number_of(query.get(side, ""), side, 0, 1e6)) for side in _SIDES)
        async with turn:
            if await request.is_disconnected():  # the page has asked for a newer picture
                return Response(status_code=HTTPStatus.NO_CONTENT)
            data = await in_thread(masks.picture, photo, (left, top, right, bottom))
        return Response(data, media_type="image/jpeg", headers=_NOT_STORED)

    async def mask(request: Request) -> Response:
        photo, query = photo_of(request), request.query_params
        if request.method == "GET":
            proposes = "again" in query or masks.state_of(photo) == "none"
            async with turn if proposes else nullcontext():
                data = await in_thread(masks.read, photo, again="again" in query)
            return Response(data, 200, _NOT_STORED | {"x-state": masks.state_of(photo)}, "image/png")
        if request.method == "PUT":
            await in_thread(masks.change, photo, await body(request, _MASK_BYTES))
        else:
            masks.looked.add(photo[0])
        if "keep" in query:
            await in_thread(masks.keep, photo)
        return JSONResponse({"state": masks.state_of(photo)})

    async def propose_all(photos: list[Photo], progress: Callable[[JsonObject], None]) -> Any:
        failed = list[Any]()
        for number, photo in enumerate(photos):
            progress({"share": number / len(photos)})
            try:
                async with turn:
                    await in_thread(masks.propose, photo)
            except InputError as error:
                failed.append(message_of(error).to_dict())
        return {"failed": failed}

    async def album(request: Request) -> Response:
        photos = album_of(photo_of(request))
        action = (await json_body(request)).get("action") if request.method == "POST" else None
        if action == "propose":
            waiting = [photo for photo in photos if masks.state_of(photo) == "none"]
            task.start(lambda progress: propose_all(waiting, progress))
        elif action == "stop":
            task.stop()
        elif action == "accept":
            for photo in [photo for photo in photos if masks.state_of(photo) == "looked"]:
                await in_thread(masks.keep, photo)
        rows = [{"id": photo[0], "name": photo[1].name, "state": masks.state_of(photo)} for photo in photos]
        return JSONResponse({"photos": rows, "task": task.state})

    base = "/api/films/{id}"
    return [
        Route(f"{base}/whole", whole),
        Route(f"{base}/filled", filled),
        Route(f"{base}/mask", mask, methods=["GET", "PUT", "POST"]),
        Route(f"{base}/album", album, methods=["GET", "POST"]),
    ]


def _frame_of(photo: Photo) -> Frame:
    return _read(photo[1], stamp_of(photo[1]))


@lru_cache(maxsize=1)
def _read(path: Path, stamp: object) -> Frame:
    """Reads a photograph as stored. The `stamp` of its file tells a changed one."""
    return read_image(path).frame


def _layer_of(mask: Bytes) -> bytes:
    """Converts a mask h×w to the page's layer."""
    layer = np.zeros((*mask.shape, 4), np.uint8)
    layer[..., _RED], layer[..., 3] = 255, mask
    return cv2.imencode(".png", layer)[1].tobytes()


@lru_cache(maxsize=1)
def _mask_of(layer: bytes, size: tuple[int, int]) -> Bytes:
    """Converts the page's layer to a mask h×w. Raises UsageError unless it is a PNG of this width and height."""
    # another format, or a larger image, is not even decoded
    stated = layer[:8] == b"\x89PNG\r\n\x1a\n" and layer[_PNG_SIZE] == struct.pack(">II", *size)
    pixels: Any = cv2.imdecode(np.frombuffer(layer, np.uint8), cv2.IMREAD_UNCHANGED) if stated else None
    if pixels is None or pixels.shape != (*size[::-1], 4) or pixels.dtype != np.uint8:
        raise UsageError("the mask must be a PNG with opacity, in the size of the photograph", code="mask_layer")
    return np.ascontiguousarray(pixels[..., 3])
